"""onnx2tf, the second converter: it passes every gate, and computes what our own lowering computes."""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from sfumato.core.errors import SfumatoError, UsageError
from sfumato.core.onnx_session import open_session
from sfumato.data import Split
from sfumato.export import tflite
from sfumato.export.check import lint_model
from sfumato.export.freeze import freeze_network
from sfumato.export.gates import lint_gates, parity_gate, require_passed
from sfumato.export.onnx2tf_converter import convolve_products, rename_additions, turn_channels_first
from sfumato.export.onnx_files import write_local
from sfumato.export.parity import compare, parity_images, run_float, run_int8
from sfumato.export.pipeline import calibration_images, export
from sfumato.export.tflite import BACKENDS, convert, name_tensors, run_child
from sfumato.runtime.delegate_lint import nnapi_findings
from sfumato.runtime.interpreter import open_model
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
    assert (contract.input.int8_scale, contract.input.int8_zero_point) == (1 / 255, -128)
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
@pytest.mark.parametrize("name", ["dither", "dither4", "gates", "dither16", "gaussian", "additive"])
def test_both_converters_compute_the_same(make_run: Callable[[str], Run], tmp_path: Path, name: str) -> None:
    """Every channel: float32 equal, int8 within what a rounding moves, the same findings of lint and delegates."""
    run = make_run(name)
    network = freeze_network(run.local, run.dataset.size)
    write_local(network, run.dataset.size, tmp_path / "local.onnx")
    calibration = calibration_images(run.dataset.images, run.dataset.splits[Split.DEFENDER])
    images = parity_images(network, run.dataset).images
    ours, theirs = (
        {
            variant: name_tensors(content, network.names)
            for variant, content in convert(
                tmp_path / "local.onnx", calibration, ["float32", "int8"], backend=backend
            ).items()
        }
        for backend in BACKENDS
    )
    one, other = (run_float(open_model(models["float32"]), images) for models in (ours, theirs))
    for output in network.names:
        assert np.abs(one[output] - other[output]).max() < 1e-5, output
    first, second = (run_int8(open_model(models["int8"]), images) for models in (ours, theirs))
    for output in network.names:
        gap = np.abs(first[output].astype(int) - second[output].astype(int))
        assert gap.mean() < 1, output
    for variant in ("float32", "int8"):
        gates = [
            [gate.value for gate in lint_gates(variant, lint_model(content, open_model(content)))[:3]]
            for content in (ours[variant], theirs[variant])
        ]
        assert gates[0] == gates[1]
        for models in (ours, theirs):
            found = compare(open_model(models[variant]), network, images, int8=variant == "int8")
            require_passed([parity_gate(variant, found)])
        assert nnapi_findings(read_graph(ours[variant])) == nnapi_findings(read_graph(theirs[variant])) == []


def test_an_unknown_back_end_is_named(dither_run: Run, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unknown back-end 'nnef': known are direct, onnx2tf"):
        export(dither_run, tmp_path / "out", backend="nnef")
    assert not (tmp_path / "out").exists()


def test_a_converter_that_fails_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "converter"
    script.write_text("#!/bin/sh\necho 'first line' >&2; echo 'ValueError: no such operator' >&2; exit 3\n")
    script.chmod(0o755)
    with pytest.raises(SfumatoError, match=r"failed \(direct\): ValueError: no such operator"):
        run_child([str(script)], tmp_path, "direct")
    script.write_text("#!/bin/sh\nprintf 'TF Select ops: Erf, Lgamma\\n\\n})\\n' >&2; exit 1\n")
    with pytest.raises(SfumatoError, match=r"failed \(onnx2tf\): TensorFlow Lite has no Erf, Lgamma$"):
        run_child([str(script)], tmp_path, "onnx2tf")
    script.write_text("#!/bin/sh\nexec sleep 60\n")
    monkeypatch.setattr(tflite, "TIME_LIMIT", 0.1)
    with pytest.raises(SfumatoError, match=r"took longer than 0\.1 s"):
        run_child([str(script)], tmp_path, "direct")


def test_a_converter_writes_nothing_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("KERAS_HOME", raising=False)
    run_child([sys.executable, "-c", "import keras"], tmp_path, "direct")
    assert not any(home.iterdir())


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
    before = open_session(model.SerializeToString()).run(None, {"image": image})[0]
    convolve_products(model)
    assert [node.op_type for node in model.graph.node] == ["Conv", "Sub", "Mul"]
    after = open_session(model.SerializeToString()).run(None, {"image": image})[0]
    np.testing.assert_allclose(after, before, atol=1e-5)
