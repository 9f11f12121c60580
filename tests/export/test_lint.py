"""The lint on models that are wrong on purpose, made by TensorFlow's own converter."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sfumato.errors import SfumatoError
from sfumato.lint import graph_findings, nnapi_findings, xnnpack_partitions
from sfumato.passes import Work, check_gates, lint_variants
from sfumato.run import Run
from sfumato.runtime import find_runtime, open_model
from sfumato.tflite_file import read_graph, rename

SIZE = 16


def converted(
    function: Callable[[Any], Any], *, shape: tuple[int | None, ...] = (1, SIZE, SIZE, 3), int8: bool = False
) -> bytes:
    import tensorflow as tf

    traced = tf.function(function).get_concrete_function(tf.TensorSpec(shape, tf.float32, name="image"))
    converter = tf.lite.TFLiteConverter.from_concrete_functions([traced])
    if int8:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        images = np.random.default_rng(0).random((4, 1, SIZE, SIZE, 3)).astype(np.float32)
        converter.representative_dataset = lambda: ([image] for image in images)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.int8
    return bytes(converter.convert())


def kernel(size: int, inputs: int, outputs: int) -> Any:
    return np.random.default_rng(1).standard_normal((size, size, inputs, outputs)).astype(np.float32)


def plain(x: Any) -> Any:
    import tensorflow as tf

    return tf.sigmoid(tf.nn.bias_add(tf.nn.conv2d(x, kernel(3, 3, 3), 1, "SAME"), np.ones(3, np.float32)))


def grouped(x: Any) -> Any:
    import tensorflow as tf

    wide = tf.nn.bias_add(tf.nn.conv2d(x, kernel(1, 3, 8), 1, "SAME"), np.ones(8, np.float32))
    return tf.nn.bias_add(tf.nn.conv2d(wide, kernel(3, 2, 8), 1, "SAME"), np.ones(8, np.float32))


def transposed(x: Any) -> Any:
    import tensorflow as tf

    return tf.transpose(plain(x), [0, 3, 1, 2])


def dilated(x: Any) -> Any:
    import tensorflow as tf

    weight = np.random.default_rng(1).standard_normal((3, 3, 3, 1)).astype(np.float32)
    y = tf.nn.depthwise_conv2d(x, weight, [1, 1, 1, 1], "SAME", dilations=[2, 2])
    return tf.nn.bias_add(y, np.ones(3, np.float32))


def frozen_noise(x: Any) -> Any:
    return plain(x) + np.random.default_rng(2).standard_normal((1, SIZE, SIZE, 3)).astype(np.float32)


def random(x: Any) -> Any:
    import tensorflow as tf

    return plain(x) + tf.random.normal((1, SIZE, SIZE, 3), seed=1)


def clipped(x: Any) -> Any:
    import tensorflow as tf

    return tf.clip_by_value(plain(x) + plain(x), 0.0, 1.0)


def gelu(x: Any) -> Any:
    import tensorflow as tf

    return tf.nn.gelu(plain(x))


def nearest(x: Any) -> Any:
    import tensorflow as tf

    small = tf.nn.relu(tf.nn.conv2d(x, kernel(3, 3, 4), 2, "SAME"))
    large = tf.compat.v1.image.resize_nearest_neighbor(small, [SIZE, SIZE])
    return tf.sigmoid(tf.nn.conv2d(large, kernel(1, 4, 3), 1, "SAME"))


def test_a_plain_model_passes() -> None:
    for int8 in (False, True):
        content = converted(plain, int8=int8)
        graph = read_graph(content)
        assert graph_findings(graph) == []
        assert nnapi_findings(graph) == []
        assert xnnpack_partitions(open_model(content)) == 1
    assert [operator.name for operator in graph.operators] == ["CONV_2D", "LOGISTIC"]


CASES = [
    (grouped, False, nnapi_findings, "grouped convolution|version 6"),
    (dilated, True, nnapi_findings, "int8 with dilation"),
    (gelu, False, nnapi_findings, "GELU: NNAPI has no such operator"),
    (transposed, False, graph_findings, "TRANSPOSE"),
    (transposed, False, graph_findings, "not channels last"),
    (frozen_noise, False, graph_findings, "frozen random draw"),
    (frozen_noise, True, graph_findings, "frozen random draw"),
    (random, False, graph_findings, "RANDOM_STANDARD_NORMAL is random"),
]


@pytest.mark.parametrize(("function", "int8", "lint", "expected"), CASES)
def test_what_is_wrong_is_named(function: Any, int8: bool, lint: Any, expected: str) -> None:
    import re

    findings = lint(read_graph(converted(function, int8=int8)))
    assert any(re.search(expected, finding) for finding in findings), findings


def test_an_open_batch_is_refused() -> None:
    findings = nnapi_findings(read_graph(converted(plain, shape=(None, SIZE, SIZE, 3))))
    assert any("open dimension" in finding for finding in findings)


def test_a_clip_is_fine_for_nnapi() -> None:
    assert nnapi_findings(read_graph(converted(clipped, int8=True))) == []


def test_nearest_enlargement_splits_the_partition() -> None:
    assert (xnnpack_partitions(open_model(converted(nearest))) or 0) > 1


def test_renaming_moves_no_byte_and_changes_no_result() -> None:
    content = converted(plain)
    (old,) = read_graph(content).outputs
    changed = rename(content, {old.name: "p"})
    assert len(changed) == len(content)
    assert sum(a != b for a, b in zip(content, changed, strict=True)) <= len(old.name) + 4
    image = np.random.default_rng(0).random((1, SIZE, SIZE, 3)).astype(np.float32)
    before, after = open_model(content).run(image), open_model(changed).run(image)
    assert list(after) == ["p"]
    assert np.array_equal(after["p"], before[old.name])
    with pytest.raises(SfumatoError, match="longer than"):
        rename(content, {old.name: "x" * 99})
    with pytest.raises(SfumatoError, match="no tensor named nothing"):
        rename(content, {"nothing": "p"})


@pytest.mark.parametrize("content", [b"", b"TFL3", b"\x10\0\0\0TFL3", b"PK\x03\x04" * 9, bytes(100)])
def test_what_is_no_model_is_refused(content: bytes) -> None:
    with pytest.raises(SfumatoError):
        read_graph(content)
    with pytest.raises(SfumatoError):
        open_model(content)


def test_an_unknown_runtime_is_refused() -> None:
    with pytest.raises(SfumatoError, match="unknown runtime 'caffe': known are ai-edge-litert"):
        find_runtime("caffe")
    assert find_runtime().name == "ai-edge-litert"


def unbounded(x: Any) -> Any:
    """No logistic function at the end: the output's scale is whatever calibration found."""
    import tensorflow as tf

    return tf.nn.bias_add(tf.nn.conv2d(x, kernel(3, 3, 3), 1, "SAME"), np.ones(3, np.float32))


GATES = [
    ("float32", transposed, "float32: channels last, nothing frozen or random is 2"),
    ("float32", frozen_noise, "a frozen random draw?"),
    ("float32", random, "RANDOM_STANDARD_NORMAL is random"),
    ("float32", nearest, "float32: XNNPACK partitions is 2"),
    ("int8", dilated, "int8: nodes NNAPI refuses is 1, allowed is 0"),
    # Calibrated on pictures without the exact values 0 and 255.
    ("int8", plain, "int8: image scale is 1/255, zero point -128 is False"),
    ("int8", unbounded, "int8: output scale is 1/256, zero point -128 is False"),
]


@pytest.mark.parametrize(("variant", "function", "expected"), GATES)
def test_each_finding_refuses_the_export(
    dither_run: Run, bundle: Path, variant: str, function: Any, expected: str
) -> None:
    work = Work(dither_run, (variant,), "direct", bundle, bundle)
    lint_variants(work)
    check_gates(work)
    (bundle / f"local_{variant}.tflite").write_bytes(converted(function, int8=variant == "int8"))
    lint_variants(work)
    with pytest.raises(SfumatoError, match="the export was refused, nothing was written") as caught:
        check_gates(work)
    assert expected in str(caught.value)
