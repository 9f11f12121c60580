"""The other converters behind the same interface."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from sfumato.core.errors import SfumatoError, UsageError
from sfumato.export.backends import compare_backends
from sfumato.export.pipeline import export
from sfumato.export.tflite import convolve_products, rename_additions, turn_channels_first
from sfumato.runtime.tflite_graph import read_graph
from sfumato.runtime.verification import verify
from sfumato.training.run import Run


@pytest.mark.slow
def test_onnx2tf_exports_offline_and_passes_every_gate(
    make_run: Callable[[str], Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two bit planes, where its own reading of the layout left two TRANSPOSE and grouped convolutions."""
    # A proxy that is not there: any attempt to fetch sample images would fail the conversion.
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    contract = export(make_run("dither4"), tmp_path / "out", backend="onnx2tf", variants=["float32", "int8"])
    assert contract.failed_gates == ()
    names = [op.name for op in read_graph((tmp_path / "out" / "local_int8.tflite").read_bytes()).operators]
    assert names.count("DEPTHWISE_CONV_2D") >= 7
    assert {"TRANSPOSE", "ADD_N"} & set(names) == set()
    assert verify(tmp_path / "out").passed


def test_permutations_at_the_edges_are_taken_away() -> None:
    """Another one in the middle stays, and so do the names of the graph's ends."""
    nodes = [
        helper.make_node("Transpose", ["image"], ["x"], perm=[0, 3, 1, 2]),
        helper.make_node("Relu", ["x"], ["y"]),
        helper.make_node("Transpose", ["y"], ["z"], perm=[0, 1, 3, 2]),
        helper.make_node("Add", ["z", "x"], ["u"]),
        helper.make_node("Transpose", ["u"], ["p"], perm=[0, 2, 3, 1]),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4, 6, 3]) for name in ("image", "p")]
    model = helper.make_model(helper.make_graph(nodes, "g", ends[:1], ends[1:]))
    turn_channels_first(model)
    assert [(node.op_type, *node.input, *node.output) for node in model.graph.node] == [
        ("Relu", "image", "y"),
        ("Transpose", "y", "z"),
        ("Add", "z", "image", "p"),
    ]
    for entry in (model.graph.input[0], model.graph.output[0]):
        assert [axis.dim_value for axis in entry.type.tensor_type.shape.dim] == [1, 3, 4, 6]


def test_only_additions_of_two_computed_tensors_are_renamed() -> None:
    nodes = [
        helper.make_node("Add", ["x", "x"], ["y"]),
        helper.make_node("Add", ["y", "stored"], ["z"]),
        helper.make_node("Constant", [], ["two"], value_float=2.0),
        helper.make_node("Add", ["two", "z"], ["u"]),
        helper.make_node("Mul", ["u", "x"], ["v"]),
    ]
    stored = numpy_helper.from_array(np.ones(1, np.float32), "stored")
    model = helper.make_model(helper.make_graph(nodes, "g", [], [], [stored]))
    rename_additions(model)
    assert [node.op_type for node in model.graph.node] == ["Sum", "Add", "Constant", "Add", "Mul"]


@pytest.mark.slow
def test_litert_torch_converts_in_its_own_environment(dither_run: Run) -> None:
    if "SFUMATO_LITERT_PYTHON" not in os.environ:
        pytest.skip("SFUMATO_LITERT_PYTHON is not set: litert-torch lives in an environment of its own")
    float32, int8 = compare_backends(dither_run, ["litert-torch"], ["float32", "int8"])
    assert float32.mean_lsb < 1e-3
    assert int8.mean_lsb < 2
    assert int8.image_scale == pytest.approx(1 / 255, rel=1e-6)
    assert (float32.partitions, float32.transposes) == (1, 0)


def test_missing_and_unknown_back_ends_are_named(
    dither_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match="unknown back-end 'nnef': known are direct, onnx2tf, litert-torch"):
        export(dither_run, tmp_path / "out", backend="nnef")
    monkeypatch.delenv("SFUMATO_LITERT_PYTHON", raising=False)
    with pytest.raises(SfumatoError, match="environment of its own"):
        export(dither_run, tmp_path / "out", backend="litert-torch")
    assert not (tmp_path / "out").exists()


def test_a_converter_that_fails_is_quoted(
    make_run: Callable[[str], Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "python"
    script.write_text("#!/bin/sh\necho 'first line' >&2; echo 'ValueError: no such operator' >&2; exit 3\n")
    script.chmod(0o755)
    monkeypatch.setenv("SFUMATO_LITERT_PYTHON", str(script))
    with pytest.raises(SfumatoError, match=r"failed \(litert-torch\): ValueError: no such operator"):
        export(make_run("dither"), tmp_path / "out", backend="litert-torch", variants=["float32"])
    assert not (tmp_path / "out").exists()


def test_the_image_s_product_becomes_a_convolution() -> None:
    """Equal to SUB and MUL in ONNX Runtime; a product of anything else stays."""
    numbers = {"a": 0.5, "b": 8.0, "c": 2.0}
    nodes = [
        helper.make_node("Sub", ["image", "a"], ["d"]),
        helper.make_node("Mul", ["d", "b"], ["e"]),
        helper.make_node("Sub", ["e", "a"], ["f"]),
        helper.make_node("Mul", ["f", "c"], ["p"]),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, 4, 6]) for name in ("image", "p")]
    stored = [numpy_helper.from_array(np.float32(value), name) for name, value in numbers.items()]
    model = helper.make_model(
        helper.make_graph(nodes, "g", ends[:1], ends[1:], stored),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    image = np.random.default_rng(0).random((1, 3, 4, 6), np.float32)
    before = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"image": image})[0]
    convolve_products(model)
    assert [node.op_type for node in model.graph.node] == ["Conv", "Sub", "Mul"]
    after = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"image": image})[0]
    np.testing.assert_allclose(after, before, atol=1e-5)
