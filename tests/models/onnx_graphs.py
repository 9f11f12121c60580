"""Small ONNX graphs in text, with random weights, for tests."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from sfumato.core.onnx_session import open_session


def make(
    body: str,
    weights: Mapping[str, Any] | None = None,
    *,
    opset: int = 17,
    image: str = "float[B,3,9,12] x",
    outputs: str = "float y",
    domain: str = "",
) -> onnx.ModelProto:
    """A model whose nodes are written in ONNX's own text format; weights are arrays, or shapes to draw them in."""
    more = f', "{domain}": 1' if domain else ""
    text = f'<ir_version: 8, opset_import: ["": {opset}{more}]> g ({image}) => ({outputs}) {{ {body} }}'
    model = onnx.parser.parse_model(text)
    draw = np.random.default_rng(0)
    for name, given in (weights or {}).items():
        array = given if isinstance(given, np.ndarray) else draw.uniform(0.1, 1, given).astype(np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    return with_shapes(model)


def with_shapes(model: onnx.ModelProto) -> onnx.ModelProto:
    """ONNX's checker wants outputs to have shapes: where the text leaves one out it is inferred, or of four open axes."""
    bare = {output.name for output in model.graph.output if not output.type.tensor_type.shape.dim}
    for output in model.graph.output:
        if output.name in bare:
            output.type.tensor_type.ClearField("shape")
    model = onnx.shape_inference.infer_shapes(model, data_prop=True)
    for output in model.graph.output:
        shape = output.type.tensor_type.shape
        if output.name in bare and not shape.dim:
            for axis in range(4):
                shape.dim.add().dim_param = f"{output.name}{axis}"
    return model


def write(path: Path, *arguments: Any, **options: Any) -> Path:
    """Make a model and write it."""
    onnx.save(make(*arguments, **options), path)
    return path


CLASSIFIER = """
    z = Mul(image, two)
    a = Conv <pads=[1,1,1,1]> (z, w)
    n = BatchNormalization (a, scale, shift, mean, variance)
    r = Relu(n)
    m = MaxPool <kernel_shape=[2,2], strides=[2,2]> (r)
    c = Conv <pads=[1,1,1,1], strides=[2,2]> (m, v, b)
    d = Relu(c)
    p = AveragePool <kernel_shape=[2,2], strides=[2,2]> (d)
    f = Flatten(p)
"""
WEIGHTS: dict[str, Any] = {
    "two": np.array(2, np.float32),
    "w": (4, 3, 3, 3),
    "scale": (4,),
    "shift": (4,),
    "mean": (4,),
    "variance": (4,),
    "v": (6, 4, 3, 3),
    "b": (6,),
}


def classifier(
    path: Path, heads: Mapping[str, int], *, size: int = 16, image: str = "", **options: Any
) -> Path:
    """A convolutional network with a dense layer for every head, drawn at random."""
    rows = 6 * (size // 8) ** 2
    draw = np.random.default_rng(1)
    weights = dict(WEIGHTS)
    body = CLASSIFIER
    for index, (name, count) in enumerate(heads.items()):
        weights[f"h{index}"] = draw.normal(0, 0.3, (count, rows)).astype(np.float32)
        body += f"{name} = Gemm <transB=1> (f, h{index})\n"
    outputs = ", ".join(f"float[B,{count}] {name}" for name, count in heads.items())
    shape = image or f"float[B,3,{size},{size}] image"
    return write(path, body, weights, image=shape, outputs=outputs, **options)


def fit(path: Path, images: NDArray[np.uint8], labels: Mapping[str, NDArray[np.int64]]) -> Path:
    """Give the heads of a `classifier` least-squares weights, so that it knows something of the labels.

    Args:
        path: of the classifier.
        images: (N, H, W, 3) bytes.
        labels: for every output, in their order, the classes (N,).
    """
    model = onnx.load(path)
    body = onnx.ModelProto()
    body.CopyFrom(model)
    del body.graph.output[:], body.graph.node[:]
    body.graph.node.extend(node for node in model.graph.node if not node.input[-1].startswith("h"))
    body.graph.output.append(onnx.helper.make_tensor_value_info("f", onnx.TensorProto.FLOAT, ["B", "F"]))
    pixels = images.transpose(0, 3, 1, 2).astype(np.float32) / 255
    (features,) = open_session(body.SerializeToString()).run(None, {model.graph.input[0].name: pixels})
    for index, wanted in enumerate(labels.values()):
        (old,) = (entry for entry in model.graph.initializer if entry.name == f"h{index}")
        target = np.eye(old.dims[0])[wanted] - 1 / old.dims[0]
        centred = features - features.mean(0)
        weights = np.linalg.lstsq(
            centred.T @ centred + 1e-3 * np.eye(features.shape[1]), centred.T @ target, rcond=None
        )[0]
        bias = -features.mean(0) @ weights + np.bincount(wanted) / len(wanted)
        old.CopyFrom(onnx.numpy_helper.from_array(weights.T.astype(np.float32) * 8, old.name))
        name = f"bias{index}"
        (node,) = (node for node in model.graph.node if f"h{index}" in node.input)
        node.input.append(name)
        model.graph.initializer.append(onnx.numpy_helper.from_array((8 * bias).astype(np.float32), name))
    onnx.save(model, path)
    return path
