"""onnx2tf as a second converter: `sfumato export --backend onnx2tf`.

It is a cross-check of our own lowering, run by the tests on every channel. Left alone it misreads the layout of our networks
(docs/decisions/0006-export.md), so it gets an equal graph that it reads rightly:

1. no permutations at the ends: onnx2tf expects channels first and makes channels last itself;
2. planes in the order of DEPTH_TO_SPACE, and `(image - a) * b` as a convolution, both as in our own lowering;
3. `Sum` for every `Add` of two computed tensors.

The error function of GELU becomes a polynomial.

    function = onnx2tf(Path("local.onnx"))
"""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

SAMPLES = "calibration_image_sample_data_20x128x128x3_float32.npy"
"""onnx2tf looks for this file in the working folder, and would fetch it from the network otherwise."""


def onnx2tf(model: Path, images: NDArray[np.uint8]) -> Callable[[Any], dict[str, Any]]:
    """A TensorFlow function made by onnx2tf from local.onnx, offline; it writes into the working folder."""
    import onnx
    import onnx2tf as converter
    import tensorflow as tf

    from sfumato.export.lowering import order_planes

    picks = np.resize(images, (20, *images.shape[1:])).astype(np.float32) / 255
    rows, columns = (np.arange(128) * n // 128 for n in images.shape[1:3])
    sample = picks[:, rows][:, :, columns]
    np.save(SAMPLES, sample)
    graph = onnx.load(model)
    order_planes(graph)  # CRD becomes six-dimensional transpositions
    turn_channels_first(graph)
    convolve_products(graph)
    rename_additions(graph)
    onnx.save(graph, "onnx2tf.onnx")
    tf.add_n = lambda inputs, name=None: functools.reduce(
        tf.add, inputs
    )  # else ADD_N, which no delegate knows
    names = [out.name for out in graph.graph.output]
    made = converter.convert(
        input_onnx_file_path="onnx2tf.onnx",
        output_folder_path="onnx2tf",
        non_verbose=True,
        disable_model_save=True,
        replace_to_pseudo_operators=["erf"],  # within 2e-7; TensorFlow Lite has none
    )

    def function(image: Any) -> dict[str, Any]:
        outputs = made(image)
        return dict(zip(names, outputs if isinstance(outputs, list) else [outputs], strict=True))

    return function


def turn_channels_first(model: Any) -> None:
    """Take the permutations at the edges of a graph away: onnx2tf expects channels first and makes channels last of them.

    Left in, they are kept wherever no convolution follows at once: with several bit planes two TRANSPOSE remained.
    """
    graph, names = model.graph, {}
    ends = {entry.name for entry in (*graph.input, *graph.output)}
    edges = [
        node for node in graph.node if node.op_type == "Transpose" and ends & {*node.input, *node.output}
    ]
    for node in edges:
        inner, outer = node.output[0], node.input[0]
        names.update({inner: outer} if outer in ends else {outer: inner})
        graph.node.remove(node)
    for node in graph.node:
        for side in (node.input, node.output):
            side[:] = [names.get(name, name) for name in side]
    for entry in (*graph.input, *graph.output):
        axes = entry.type.tensor_type.shape.dim
        height, width, planes = (axis.dim_value for axis in axes[1:])
        for axis, size in zip(axes[1:], (planes, height, width), strict=True):
            axis.dim_value = size
    del graph.value_info[:]


def convolve_products(model: Any) -> None:
    """Let `(image - a) * b` be one depthwise convolution of size 1, as our own lowering does (`packed_planes.Affine`).

    Left as SUB and MUL, the quantiser gives the difference the scale of the product: of an 8-bit image, 5 bits remain.
    """
    import onnx
    from onnx import numpy_helper

    from sfumato.export.lowering import find_affine
    from sfumato.export.onnx_graph import sort_out

    graph = model.graph
    (image,) = graph.input
    planes = image.type.tensor_type.shape.dim[1].dim_value
    products = find_affine(*sort_out(graph))
    for index, node in enumerate(graph.node):
        source, offset, factor = products.get(node.output[0], ("", 0.0, 0.0))
        if source != image.name:
            continue
        stored = {
            f"{node.output[0]}.weight": np.full((planes, 1, 1, 1), factor, np.float32),
            f"{node.output[0]}.bias": np.full(planes, -offset * factor, np.float32),
        }
        graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in stored.items())
        convolution = onnx.helper.make_node(
            "Conv", [source, *stored], list(node.output), name=node.name, group=planes, kernel_shape=[1, 1]
        )
        graph.node.remove(node)
        graph.node.insert(index, convolution)
    used = {name for node in graph.node for name in node.input} | {out.name for out in graph.output}
    for node in [node for node in graph.node if not used & set(node.output)]:
        graph.node.remove(node)


def rename_additions(model: Any) -> None:
    """Let every `Add` of two computed tensors be a `Sum` of two, which is the same.

    onnx2tf compares an addition's NHWC shape with the NCHW one of ONNX, takes the difference for a mistake and transposes;
    the layout of the next operator is then misread, and depthwise convolutions become grouped ones. A `Sum` it leaves alone.
    """
    stored = {entry.name for entry in model.graph.initializer}
    stored |= {name for node in model.graph.node if node.op_type == "Constant" for name in node.output}
    for node in model.graph.node:
        if node.op_type == "Add" and not stored & set(node.input):
            node.op_type = "Sum"
