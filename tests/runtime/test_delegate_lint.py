"""The lint on models that are wrong on purpose, made by TensorFlow's own converter."""

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sfumato.core.errors import SfumatoError, UsageError
from sfumato.export import check
from sfumato.export.check import lint_model
from sfumato.export.gates import lint_gates, require_passed
from sfumato.runtime.contract import Gate
from sfumato.runtime.delegate_lint import (
    LEVELS,
    graph_findings,
    nnapi_findings,
    xnnpack_findings,
    xnnpack_partitions,
)
from sfumato.runtime.interpreter import find_runtime, open_model
from sfumato.runtime.tflite_graph import Graph, Operator, TensorInfo, read_graph, rename

SIZE = 16


def converted(
    function: Callable[[Any], Any],
    *,
    shape: tuple[int | None, ...] = (1, SIZE, SIZE, 3),
    int8: bool = False,
    dynamic: bool = False,
) -> bytes:
    import tensorflow as tf

    traced = tf.function(function).get_concrete_function(tf.TensorSpec(shape, tf.float32, name="image"))
    converter = tf.lite.TFLiteConverter.from_concrete_functions([traced])
    if dynamic:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
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


def wide(x: Any) -> Any:
    import tensorflow as tf

    inner = tf.nn.bias_add(tf.nn.conv2d(x, kernel(3, 3, 64), 1, "SAME"), np.ones(64, np.float32))
    return tf.nn.bias_add(tf.nn.conv2d(inner, kernel(3, 64, 3), 1, "SAME"), np.ones(3, np.float32))


def larger(x: Any) -> Any:
    import tensorflow as tf

    return tf.maximum(plain(x), tf.sigmoid(x))


def exponential(x: Any) -> Any:
    import tensorflow as tf

    return tf.sigmoid(tf.exp(plain(x)))


def enlarged(x: Any) -> Any:
    import tensorflow as tf

    small = tf.nn.max_pool2d(plain(x), 2, 2, "SAME")
    return tf.compat.v1.image.resize_bilinear(small, [SIZE, SIZE], half_pixel_centers=True)


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


def at_29(graph: Graph) -> list[str]:
    return nnapi_findings(graph, level=29)


def test_what_nnapi_has_taken_since_android_10_passes() -> None:
    """Int8 weights below floats, dilated int8, and the larger of two computed tensors."""
    cases: list[tuple[Any, dict[str, Any]]] = [
        (wide, {"dynamic": True}),
        (dilated, {"int8": True}),
        (larger, {}),
    ]
    for function, how in cases:
        graph = read_graph(converted(function, **how))
        assert (nnapi_findings(graph), at_29(graph)) == ([], [])
        assert nnapi_findings(graph, level=28) != []
        if how == {"dynamic": True}:
            types = [tuple(tensor.type for tensor in node.inputs[:2] if tensor) for node in graph.operators]
            assert ("FLOAT32", "INT8") in types


CASES = [
    (grouped, False, nnapi_findings, "version 6, NNAPI takes up to 5"),
    (exponential, True, nnapi_findings, "EXP: "),
    (gelu, False, nnapi_findings, "GELU: not on our list of NNAPI's operators"),
    (enlarged, True, at_29, "RESIZE_BILINEAR: half-pixel centres needs feature level 30"),
    (transposed, False, graph_findings, "TRANSPOSE"),
    (transposed, False, graph_findings, "not channels last"),
    (frozen_noise, False, graph_findings, "frozen random draw"),
    (frozen_noise, True, graph_findings, "frozen random draw"),
    (random, False, graph_findings, "RANDOM_STANDARD_NORMAL is random"),
]


@pytest.mark.parametrize(("function", "int8", "lint", "expected"), CASES)
def test_what_is_wrong_is_named(function: Any, int8: bool, lint: Any, expected: str) -> None:
    findings = lint(read_graph(converted(function, int8=int8)))
    assert any(re.search(expected, finding) for finding in findings), findings


def fact(name: str = "x", **given: Any) -> TensorInfo:
    """A computed float tensor of an ordinary shape."""
    plainly = {"type": "FLOAT32", "shape": (1, 4, 4, 3), "dynamic": False, "constant_bytes": 0}
    return TensorInfo(**{"index": 0, "name": name, "scales": (), "zero_points": (), **plainly, **given})


def stored(name: str = "w", **given: Any) -> TensorInfo:
    return fact(name, **{"constant_bytes": 36, "shape": (3, 1, 1, 3), **given})


def node(
    name: str, *inputs: TensorInfo | None, version: int = 1, output: TensorInfo | None = None, **options: int
) -> Operator:
    return Operator(name, version, inputs, (output or fact("y"),), options)


SIZES = stored("size", type="INT32", shape=(2,))
TAKEN = {
    "convolution": node("CONV_2D", fact(), stored(), stored("b"), version=5),
    "convolution of everything to one value": node(
        "CONV_2D", fact(), stored(shape=(3, 4, 4, 3)), stored("b"), output=fact("y", shape=(1, 1, 1, 3))
    ),
    "one value enlarged": node(
        "RESIZE_BILINEAR", fact(shape=(1, 1, 1, 3)), SIZES, version=3, HalfPixelCenters=1
    ),
    "one value added everywhere": node("ADD", fact(), fact("d", shape=(1, 1, 1, 3)), version=2),
    "one value times everything": node("MUL", fact("d", shape=(1, 1, 1, 3)), fact(), version=2),
    "float16 weights": node("DEQUANTIZE", stored(type="FLOAT16"), version=3),
    "clip": node("MINIMUM", fact(), stored(shape=())),
    "the smaller of two": node("MINIMUM", fact(), fact("z")),
    "int8 weights below floats": node("CONV_2D", fact(), stored(type="INT8"), stored("b"), version=5),
    "grouped": node("CONV_2D", fact(shape=(1, 4, 4, 6)), stored(), stored("b")),
    "int8 with dilation": node(
        "DEPTHWISE_CONV_2D",
        fact(type="INT8"),
        stored(type="INT8"),
        stored("b"),
        version=3,
        output=fact("y", type="INT8"),
        DilationWFactor=2,
    ),
    "an average of everything": node("AVERAGE_POOL_2D", fact(), version=2, FilterWidth=32, FilterHeight=32),
    "a shape without a second input": node("RESHAPE", fact()),
    "computed weights": node("FULLY_CONNECTED", fact(), fact("w")),
    "enlargement by weights": node("TRANSPOSE_CONV", SIZES, stored(), fact(), version=3),
    "four planes for one": node("DEPTH_TO_SPACE", fact(shape=(1, 4, 4, 12))),
    "four planes for one, int8": node(
        "DEPTH_TO_SPACE", fact(type="INT8", shape=(1, 4, 4, 12)), version=2, output=fact("y", type="INT8")
    ),
}


@pytest.mark.parametrize("name", TAKEN)
def test_nnapi_takes(name: str) -> None:
    assert nnapi_findings(Graph((), (), (TAKEN[name],))) == []


REFUSED = {
    "version": (node("CONV_2D", fact(), stored(), stored("b"), version=6), "version 6, NNAPI takes up to 5"),
    "type": (
        node("CONV_2D", fact(type="INT16"), stored(), stored("b")),
        "x is INT16, NNAPI takes FLOAT32 or INT8",
    ),
    "type of the output": (node("ADD", fact(), fact(), output=fact("y", type="INT32")), "y is INT32"),
    "type of what is enlarged": (node("TRANSPOSE_CONV", SIZES, stored(), fact(type="INT16")), "x is INT16"),
    "type of planes": (node("DEPTH_TO_SPACE", fact(type="INT16", shape=(1, 4, 4, 12))), "x is INT16"),
    "dynamic range": (
        node("DEPTHWISE_CONV_2D", fact(), stored(type="INT8"), stored("b")),
        "float input with int8 weights",
    ),
    "dynamic range, enlarged": (
        node("TRANSPOSE_CONV", SIZES, stored(type="INT8"), fact()),
        "float input with int8 weights",
    ),
    "rank": (node("MUL", fact(shape=(1, 1, 4, 4, 3)), fact()), "x has rank 5, NNAPI takes up to 4"),
    "open shape": (node("RELU", fact(dynamic=True)), "x has an open dimension"),
    "no bias": (node("DEPTHWISE_CONV_2D", fact(), stored()), "2 inputs|no bias"),
    "empty bias": (node("CONV_2D", fact(), stored(), None), "no bias"),
    "computed size": (
        node("RESIZE_BILINEAR", fact(), fact("size", type="INT32", shape=(2,))),
        "input 1 is not a constant",
    ),
    "computed shape": (node("TRANSPOSE_CONV", fact("size"), stored(), fact()), "input 0 is not a constant"),
    "computed limit": (
        node("MAXIMUM", fact(), fact("z", shape=())),
        "input 1 is a single value and not a constant",
    ),
    "computed new shape": (node("RESHAPE", fact(), fact("size")), "input 1 is not a constant"),
    "mean of all": (node("MEAN", fact(), SIZES, output=fact("y", shape=())), "the output is a single value"),
    "sum of all": (node("SUM", fact(), SIZES, output=fact("y", shape=())), "the output is a single value"),
    "sum in int8": (
        node("SUM", fact(type="INT8"), SIZES, output=fact("y", type="INT8")),
        "x is INT8, NNAPI takes FLOAT32",
    ),
    "computed order": (node("TRANSPOSE", fact(), fact("order")), "input 1 is not a constant"),
    "one position": (
        node("GATHER", fact(), stored("at", type="INT32", shape=())),
        "at is a single position",
    ),
    "positions of 64 bits": (node("GATHER", fact(), stored("at", type="INT64")), "at is INT64"),
    "version of a constant in int8": (node("DEQUANTIZE", fact(type="INT8"), version=3), "version 3, .*to 2"),
    "computed padding": (node("PAD", fact(), fact("pads")), "input 1 is not a constant"),
    "too few inputs": (node("RESIZE_BILINEAR", fact()), "1 inputs"),
    "fused activation": (
        node("CONCATENATION", fact(), fact(), FusedActivationFunction=1),
        "fused activation",
    ),
    "too few for its kind": (node("TRANSPOSE_CONV", SIZES, stored()), "2 inputs"),
    "unknown": (node("BROADCAST_TO", fact(), SIZES), "not on our list"),
    "random": (node("RANDOM_UNIFORM", SIZES), "not on our list"),
    "clip to one": (node("RELU_0_TO_1", fact()), "not on our list"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_nnapi_refuses_and_says_which_node_and_why(name: str) -> None:
    operator, expected = REFUSED[name]
    (finding,) = nnapi_findings(Graph((), (), (node("RELU", fact()), operator)))
    assert finding.startswith(f"node 1 {operator.name}: ")
    assert re.search(expected, finding), finding


I8 = {"type": "INT8"}
WEIGHTS = (stored(**I8), stored("b"))


def int8(name: str, *others: TensorInfo, version: int = 1, **options: int) -> Operator:
    return node(name, fact(**I8), *others, version=version, output=fact("y", **I8), **options)


SINCE = [
    (27, node("CONV_2D", fact(), stored(), stored("b"))),
    (29, int8("CONV_2D", *WEIGHTS, version=3)),
    (29, node("CONV_2D", fact(), *WEIGHTS, version=2)),
    (29, node("CONV_2D", fact(), stored(), stored("b"), DilationHFactor=2)),
    (29, node("CONV_2D", fact(shape=(1, 4, 4, 6)), stored(), stored("b"))),
    (27, node("DEPTHWISE_CONV_2D", fact(), stored(), stored("b"))),
    (29, node("DEPTHWISE_CONV_2D", fact(), stored(), stored("b"), version=2, DilationWFactor=2)),
    (29, int8("DEPTHWISE_CONV_2D", *WEIGHTS, version=3)),
    (27, node("FULLY_CONNECTED", fact(), stored())),
    (29, int8("FULLY_CONNECTED", *WEIGHTS, version=4)),
    (29, node("FULLY_CONNECTED", fact(), *WEIGHTS, version=3)),
    (30, node("FULLY_CONNECTED", fact(), stored(), version=5, KeepNumDims=1)),
    (29, node("TRANSPOSE_CONV", SIZES, stored(), fact())),
    (27, int8("ADD", fact("d", **I8), version=2)),
    (27, int8("MUL", fact("d", **I8), version=2)),
    (29, int8("MUL", fact("d", **I8), version=3)),
    (28, node("SUB", fact(), fact("d"))),
    (29, int8("SUB", fact("d", **I8), version=2)),
    (28, node("DIV", fact(), fact("d"))),
    (29, node("MAXIMUM", fact(), fact("d"))),
    (27, int8("LOGISTIC", version=2)),
    (27, node("TANH", fact())),
    (29, int8("TANH", version=2)),
    (27, int8("HARD_SWISH")),
    (29, node("LEAKY_RELU", fact())),
    (29, node("PRELU", fact(), stored())),
    (27, int8("SOFTMAX", version=2)),
    (29, node("SOFTMAX", fact(shape=(1, 4, 3)))),
    (27, int8("AVERAGE_POOL_2D", version=2, FilterWidth=16, FilterHeight=16)),
    (29, int8("AVERAGE_POOL_2D", version=2, FilterWidth=17, FilterHeight=16)),
    (28, node("MEAN", fact(), SIZES)),
    (29, int8("MEAN", SIZES, version=2)),
    (28, node("PAD", fact(), SIZES)),
    (29, int8("PAD", SIZES, version=2)),
    (29, node("PAD", fact(), SIZES, stored("v"))),
    (29, node("PADV2", fact(), SIZES, stored("v"))),
    (27, node("RESIZE_BILINEAR", fact(), SIZES)),
    (29, node("RESIZE_BILINEAR", fact(), SIZES, output=fact("y", shape=(1, 8, 9, 3)))),
    (29, int8("RESIZE_BILINEAR", SIZES, version=2)),
    (30, node("RESIZE_BILINEAR", fact(), SIZES, version=3, HalfPixelCenters=1)),
    (30, int8("RESIZE_BILINEAR", SIZES, version=2, AlignCorners=1)),
    (29, node("RESIZE_NEAREST_NEIGHBOR", fact(), SIZES)),
    (30, node("RESIZE_NEAREST_NEIGHBOR", fact(), SIZES, version=3, HalfPixelCenters=1)),
    (29, node("SPLIT", SIZES, fact())),
    (30, node("SPLIT", SIZES, fact(**I8), version=2, output=fact("y", **I8))),
    (29, node("SLICE", fact(), SIZES, SIZES)),
    (28, int8("STRIDED_SLICE", version=2)),
    (28, int8("TRANSPOSE", SIZES, version=2)),
    (29, node("EXPAND_DIMS", fact(), SIZES)),
    (29, int8("GATHER", SIZES, version=2)),
    (28, node("SQUARED_DIFFERENCE", fact(), fact("d"))),
    (30, int8("SQUARED_DIFFERENCE", fact("d", **I8), version=2)),
    (29, int8("REDUCE_MAX", SIZES, version=2)),
    (29, node("REDUCE_MIN", fact(), SIZES)),
    (29, node("SUM", fact(), SIZES)),
    (29, node("NEG", fact())),
    (30, node("ELU", fact())),
    (29, node("EXP", fact())),
    (30, node("QUANTIZE", fact(), output=fact("y", **I8))),
    (29, node("DEQUANTIZE", fact(**I8, zero_points=(0,)), version=2)),
    (30, node("DEQUANTIZE", fact(**I8, zero_points=(-128,)), version=2)),
    (27, node("DEQUANTIZE", stored(type="FLOAT16"), version=3)),
    (30, node("DEQUANTIZE", fact(type="FLOAT16"), version=3)),
]
"""Lowest feature level -> what it takes, as the `case` of each operator in nnapi_delegate.cc reads."""


@pytest.mark.parametrize(("since", "operator"), SINCE)
def test_each_rule_begins_at_its_feature_level(since: int, operator: Operator) -> None:
    graph = Graph((), (), (operator,))
    taken = {level: nnapi_findings(graph, level=level) for level in LEVELS}
    assert {level: found == [] for level, found in taken.items()} == {
        level: level >= since for level in LEVELS
    }
    if since > LEVELS[0]:
        assert f"needs feature level {since}" in taken[since - 1][0]
    assert nnapi_findings(graph) == taken[30]


@pytest.mark.parametrize("level", [26, 32, 1_000_006])
def test_a_feature_level_that_is_not_known_is_refused(level: int) -> None:
    with pytest.raises(UsageError, match=f"unknown feature level {level} of NNAPI: known are 27 to 31"):
        nnapi_findings(Graph((), (), ()), level=level)


LARGE = {
    "as a picture": node("ADD", fact(index=1), stored(shape=(1, 8, 12, 3), index=2)),
    "planes first": node("CONCATENATION", fact(index=1), stored(shape=(1, 3, 8, 12), index=2)),
    "flat": node("MUL", fact(index=1), stored(shape=(96,), index=2)),
}


@pytest.mark.parametrize("name", LARGE)
def test_a_constant_as_large_as_an_image_is_found_in_any_shape(name: str) -> None:
    image = fact("image", shape=(1, 8, 12, 3))
    (finding,) = graph_findings(Graph((image,), (), (LARGE[name],)))
    assert "a frozen random draw?" in finding


@pytest.mark.parametrize("name", LARGE)
@pytest.mark.parametrize("by", [2, 4])
def test_a_constant_as_large_as_a_smaller_upload_is_found_too(name: str, by: int) -> None:
    image, upload = fact("image", shape=(1, 8 * by, 12 * by, 3)), fact("p", shape=(1, 8, 12, 6))
    (finding,) = graph_findings(Graph((image,), (upload,), (LARGE[name],)))
    assert "a frozen random draw?" in finding


@pytest.mark.parametrize("shape", [(1, 12, 32, 6), (1, 6, 8, 4, 4), (1, 6, 10, 6), (1, 6, 12, 3)])
def test_an_output_that_is_no_upload_of_the_image_is_named(shape: tuple[int, ...]) -> None:
    image = fact("image", shape=(1, 24, 32, 3))
    (finding,) = graph_findings(Graph((image,), (fact("p", shape=shape),), ()))
    assert "not channels last" in finding
    for by in (1, 2, 4):
        assert graph_findings(Graph((image,), (fact("p", shape=(1, 24 // by, 32 // by, 6)),), ())) == []


def test_a_frozen_draw_in_half_precision_is_found_and_weights_are_not() -> None:
    image = fact("image", shape=(1, 8, 12, 3))
    half, whole = stored(type="FLOAT16", shape=(288,), index=2), fact("draw", shape=(288,), index=3)
    weights = stored("w", shape=(48, 1, 1, 48), index=4)
    nodes = (
        node("DEQUANTIZE", half, output=whole),
        node("CONV_2D", image, weights, stored("b", shape=(48,), index=5)),
        node("ADD", image, whole),
    )
    (finding,) = graph_findings(Graph((image,), (), nodes))
    assert finding.startswith("node 2 ADD: the constant draw")


def deciding(x: Any, *, resize: bool) -> Any:
    """What a network does that decides once an image: a convolution over all of it, a steep logistic, back to every pixel."""
    import tensorflow as tf

    small = tf.nn.relu(tf.nn.bias_add(tf.nn.conv2d(x, kernel(3, 3, 4), 8, "SAME"), np.ones(4, np.float32)))
    whole = tf.nn.bias_add(tf.nn.conv2d(small, kernel(SIZE // 8, 4, 4), 1, "VALID"), np.ones(4, np.float32))
    decision = tf.sigmoid(8.0 * whole)
    wide = tf.nn.bias_add(tf.nn.conv2d(x, kernel(1, 3, 4), 1, "SAME"), np.ones(4, np.float32))
    if resize:
        decision = tf.compat.v1.image.resize_bilinear(decision, [SIZE, SIZE], half_pixel_centers=True)
        wide = wide + decision
    else:
        wide = (wide + decision) * decision
    return tf.sigmoid(tf.nn.bias_add(tf.nn.conv2d(wide, kernel(1, 4, 3), 1, "SAME"), np.ones(3, np.float32)))


@pytest.mark.parametrize("int8", [False, True])
@pytest.mark.parametrize("resize", [False, True])
def test_a_decision_for_the_whole_image_passes(resize: bool, int8: bool) -> None:
    content = converted(partial(deciding, resize=resize), int8=int8)
    graph = read_graph(content)
    assert graph_findings(graph) == []
    assert nnapi_findings(graph) == []
    assert xnnpack_partitions(open_model(content)) == 1
    assert xnnpack_findings(open_model(content)) == []


def test_an_open_batch_is_refused() -> None:
    findings = nnapi_findings(read_graph(converted(plain, shape=(None, SIZE, SIZE, 3))))
    assert any("open dimension" in finding for finding in findings)


def test_a_clip_is_fine_for_nnapi() -> None:
    assert nnapi_findings(read_graph(converted(clipped, int8=True))) == []


def test_nearest_enlargement_splits_the_partition() -> None:
    session = open_model(converted(nearest))
    assert (xnnpack_partitions(session) or 0) > 1
    (finding,) = xnnpack_findings(session)
    assert re.fullmatch(
        r"node \d+ RESIZE_NEAREST_NEIGHBOR: XNNPACK leaves it to the reference kernels", finding
    )


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
    ("float32", nearest, "RESIZE_NEAREST_NEIGHBOR: XNNPACK leaves it to the reference kernels"),
    ("int8", exponential, "int8: nodes NNAPI refuses is 1, allowed is 0"),
    # Calibrated on pictures without the exact values 0 and 255.
    ("int8", plain, "int8: image bytes off scale 1/255, zero point -128, or 8/255 and 0 is"),
    ("int8", unbounded, "int8: output bytes off scale 1/256, zero point -128 is"),
]


@pytest.mark.parametrize(("variant", "function", "expected"), GATES)
def test_each_finding_refuses_the_export(sealed: Path, variant: str, function: Any, expected: str) -> None:
    require_passed(gates_of(variant, (sealed / f"local_{variant}.tflite").read_bytes()))
    with pytest.raises(SfumatoError, match="the export was refused, nothing was written") as caught:
        require_passed(gates_of(variant, converted(function, int8=variant == "int8")))
    assert expected in str(caught.value)


def gates_of(variant: str, content: bytes) -> list[Gate]:
    return lint_gates(variant, lint_model(content, open_model(content)))


def test_a_runtime_that_does_not_tell_its_partitions_refuses_the_export(
    sealed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check, "xnnpack_partitions", lambda session: None)
    with pytest.raises(
        SfumatoError, match="int8: XNNPACK partitions is unknown to ai-edge-litert, allowed is 1"
    ):
        require_passed(gates_of("int8", (sealed / "local_int8.tflite").read_bytes()))
