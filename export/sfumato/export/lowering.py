"""ONNX -> TensorFlow for the operators of the local network, and of those it is measured against, channels last throughout.

Why not leave this to onnx2tf: it guesses every tensor's layout from its shape. Of this network it made grouped CONV_2D
instead of DEPTHWISE_CONV_2D (NNAPI refuses those) and, with several bit planes, two TRANSPOSE (docs/decisions/0006). Here
nothing is guessed: every image tensor is (1, H, W, C) in TensorFlow, whatever ONNX calls it, and an operator or attribute
that this file does not know is refused.

    function = lower(onnx_model)            # image (1, H, W, 3) -> {"p": (1, H, W, 3)}
"""

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import tensorflow as tf
from onnx import numpy_helper

from sfumato.core.errors import SfumatoError
from sfumato.export.packed_planes import Affine, Packed, Value, all_packed, whole
from sfumato.models.local import BLOCKS

Node = Any

TO_FIRST, TO_LAST = [0, 3, 1, 2], [0, 2, 3, 1]
"""The permutations at the edges of the graph; inside, nothing is permuted."""


class RefusedError(SfumatoError):
    """The graph holds something this lowering does not know."""


def attributes(node: Node) -> dict[str, Any]:
    """Attributes of a node as plain values."""
    return {entry.name: onnx.helper.get_attribute_value(entry) for entry in node.attribute}


def conv(node: Node, x: Value, weight: Value, bias: Value | None = None) -> Value:
    """Convolution or depthwise convolution; padding other than SAME at stride 1 becomes an explicit PAD."""
    given = attributes(node)
    groups, strides = given.get("group", 1), list(given.get("strides", [1, 1]))
    kernel = np.transpose(weight, (2, 3, 1, 0))  # (kh, kw, C_in / groups, C_out)
    pads = list(given.get("pads", [0, 0, 0, 0]))
    if list(given.get("dilations", [1, 1])) != [1, 1] or given.get("auto_pad", b"NOTSET") != b"NOTSET":
        raise RefusedError(f"{node.name}: dilation or automatic padding")
    # SAME pads an even kernel by one more at the end, which ONNX's symmetric pads never do.
    odd = all(side % 2 for side in kernel.shape[:2])
    same = odd and strides == [1, 1] and pads == [kernel.shape[0] // 2, kernel.shape[1] // 2] * 2
    if not same and any(pads):
        x = tf.pad(x, [[0, 0], [pads[0], pads[2]], [pads[1], pads[3]], [0, 0]])
    padding = "SAME" if same else "VALID"
    if groups == 1:
        y = tf.nn.conv2d(x, kernel, strides, padding)
    elif groups == x.shape[-1] == kernel.shape[3]:
        y = tf.nn.depthwise_conv2d(x, np.transpose(kernel, (0, 1, 3, 2)), [1, *strides, 1], padding)
    else:
        raise RefusedError(f"{node.name}: grouped convolution that is not depthwise")
    return y if bias is None else tf.nn.bias_add(y, bias)


def conv_transpose(node: Node, x: Value, weight: Value, bias: Value | None = None) -> Value:
    """Transposed convolution whose steps do not overlap: kernel and stride are equal, nothing is padded."""
    given = attributes(node)
    size, strides = list(weight.shape[2:]), list(given.get("strides", [1, 1]))
    plain = given.get("group", 1) == 1 and not any(given.get("pads", [])) and "output_padding" not in given
    if size != strides or not plain:
        raise RefusedError(f"{node.name}: transposed convolution whose stride is not its size")
    kernel = np.transpose(weight, (2, 3, 1, 0))  # (kh, kw, C_out, C_in)
    shape = [1, x.shape[1] * size[0], x.shape[2] * size[1], kernel.shape[2]]
    y = tf.nn.conv2d_transpose(x, kernel, shape, strides, "VALID")
    return y if bias is None else tf.nn.bias_add(y, bias)


def max_pool(node: Node, x: Value) -> Value:
    """Largest of each block, without padding."""
    given = attributes(node)
    if any(given.get("pads", [])) or given.get("ceil_mode", 0) or set(given.get("dilations", [1])) != {1}:
        raise RefusedError(f"{node.name}: padded or dilated pooling")
    return tf.nn.max_pool2d(x, given["kernel_shape"], given["strides"], "VALID")


def reduce_max(node: Node, x: Value, axes: Value = None) -> Value:
    """Largest of all planes of a place. As pooling: XNNPACK takes that, and no maximum over the last axis."""
    given = attributes(node)
    over = given.get("axes", axes)
    if over is None or list(over) not in ([1], [-3]) or given.get("keepdims", 1) != 1:
        raise RefusedError(f"{node.name}: only the largest of all planes is known")
    _, height, width, planes = x.shape
    y = tf.nn.max_pool2d(tf.reshape(x, [1, height * width, planes, 1]), [1, planes], [1, planes], "VALID")
    return tf.reshape(y, [1, height, width, 1])


def planes_of(node: Node, x: Value, starts: Value, ends: Value, axes: Value, steps: Value = (1,)) -> Value:
    """Some of the planes, those that follow one another."""
    if list(axes) not in ([1], [-3]) or list(steps) != [1]:
        raise RefusedError(f"{node.name}: only planes that follow one another can be taken out")
    return x[..., int(starts[0]) : int(ends[0])]


def clip(node: Node, x: Value, low: Value = None, high: Value = None) -> Value:
    """ReLU6; other bounds are refused."""
    if low is None or high is None or (float(low), float(high)) != (0.0, 6.0):
        raise RefusedError(f"{node.name}: only 0 .. 6 is known as a range to clip to")
    return tf.nn.relu6(x)


def resize(node: Node, x: Value, _roi: Value = None, scales: Value = None, sizes: Value = None) -> Value:
    """Bilinear enlargement with half-pixel centres."""
    given = attributes(node)
    if given.get("mode") != b"linear" or given.get("coordinate_transformation_mode") not in (
        b"half_pixel",
        b"pytorch_half_pixel",
    ):
        raise RefusedError(f"{node.name}: only bilinear resizing with half-pixel centres is known")
    if sizes is not None and len(sizes):
        height, width = int(sizes[2]), int(sizes[3])
    else:
        height, width = round(x.shape[1] * float(scales[2])), round(x.shape[2] * float(scales[3]))
    return tf.compat.v1.image.resize_bilinear(x, [height, width], half_pixel_centers=True)


def concat(node: Node, *values: Value) -> Value:
    """Concatenation of channels."""
    if attributes(node)["axis"] not in (1, -3):
        raise RefusedError(f"{node.name}: only channels can be concatenated")
    first = values[0]
    if isinstance(first, Affine) and all(value is first for value in values):
        return replace(first, times=first.times * len(values))
    return tf.concat([whole(value) for value in values], axis=-1)


def transpose(node: Node, x: Value) -> Value:
    """A change of layout in ONNX; TensorFlow's tensor stays as it is."""
    if list(attributes(node)["perm"]) not in (TO_FIRST, TO_LAST):
        raise RefusedError(f"{node.name}: permutation {attributes(node)['perm']}")
    return x


def elementwise(function: Callable[[Value, Value], Value]) -> Callable[[Node, Value, Value], Value]:
    """An operator of two computed tensors, either of which may be one value high and wide, or of one and a number."""

    def apply(node: Node, a: Value, b: Value) -> Value:
        stored = [isinstance(value, np.ndarray) for value in (a, b)]
        # ONNX broadcasts a constant from the right, over columns; here the right-most axis is the colour. Computed
        # tensors have four axes on both sides, so that the same ones are stretched.
        if any(value.size != 1 for value, fixed in zip((a, b), stored, strict=True) if fixed):
            raise RefusedError(f"{node.name}: a constant that is not one number")
        if not any(stored) and any(m != n and 1 not in (m, n) for m, n in zip(a.shape, b.shape, strict=True)):
            raise RefusedError(f"{node.name}: shapes {a.shape} and {b.shape} differ")
        return function(*(float(v.reshape(())) if s else v for v, s in zip((a, b), stored, strict=True)))

    return apply


OPERATORS: dict[str, Callable[..., Value]] = {
    "Conv": conv,
    "ConvTranspose": conv_transpose,
    "MaxPool": max_pool,
    "ReduceMax": reduce_max,
    "Slice": planes_of,
    "GlobalAveragePool": lambda node, x: tf.reduce_mean(x, axis=[1, 2], keepdims=True),
    "Clip": clip,
    "Resize": resize,
    "Concat": concat,
    "Transpose": transpose,
    "DepthToSpace": lambda node, x: Packed(x, attributes(node)["blocksize"]),
    "Relu": lambda node, x: tf.nn.relu(x),
    "Sigmoid": lambda node, x: tf.sigmoid(x),
    "Identity": lambda node, x: x,
    "Add": elementwise(lambda a, b: a + b),
    "Sub": elementwise(lambda a, b: a - b),
    "Mul": elementwise(lambda a, b: a * b),
}


POINTWISE = ("Relu", "Sigmoid", "Clip", "Identity", "Transpose", "Add", "Sub", "Mul")
"""Operators that give the same on packed pictures."""


def apply(node: Node, given: list[Value]) -> Value:
    """Compute a node, on packed pictures where it can be."""
    operator = OPERATORS[node.op_type]
    packed = all_packed(given) if node.op_type in POINTWISE else None
    if packed is not None:
        values, block = packed
        return Packed(operator(node, *values), block)
    return operator(node, *(given if node.op_type == "Concat" else map(whole, given)))


def order_planes(model: Any) -> None:
    """Bring the planes in front of every DepthToSpace into TensorFlow's order, in place: mode CRD becomes DCR.

    In CRD (torch's pixel_shuffle) the pixels of a plane follow one another. TensorFlow knows only DCR: all planes of a
    block's first pixel, then of its next. The planes come from a convolution, whose weights can be stored in that order as
    well.

    Raises:
        RefusedError: another size than ours, or the planes do not come from a convolution that nothing else looks at.
    """
    graph = model.graph
    stored = {entry.name: entry for entry in graph.initializer}
    made = {name: node for node in graph.node for name in node.output}
    uses = [*(name for node in graph.node for name in node.input), *(out.name for out in graph.output)]
    for node in graph.node:  # equal weights are stored once, and handed on by Identity
        if node.op_type == "Identity" and node.input[0] in stored:
            stored[node.output[0]] = stored[node.input[0]]
    for node in graph.node:
        if node.op_type != "DepthToSpace":
            continue
        given, source = attributes(node), made.get(node.input[0])
        block = given["blocksize"]
        if block not in BLOCKS:
            raise RefusedError(
                f"{node.name}: only blocks of {' or '.join(map(str, BLOCKS))} pixels a side are known"
            )
        if given.get("mode", b"DCR") == b"DCR":
            continue
        if (
            source is None
            or source.op_type != "Conv"
            or attributes(source).get("group", 1) != 1
            or uses.count(node.input[0]) != 1
            or not set(source.input[1:]) <= set(stored)
        ):
            raise RefusedError(f"{node.name}: its planes do not come from a convolution of its own")
        for position, name in enumerate(source.input[1:], 1):
            values = numpy_helper.to_array(stored[name])
            blocks = values.reshape(-1, block**2, *values.shape[1:])
            # Under a name of its own: equal weights of two convolutions are stored once.
            source.input[position] = f"{source.output[0]}/{name}"
            graph.initializer.append(
                numpy_helper.from_array(
                    np.ascontiguousarray(blocks.swapaxes(0, 1)).reshape(values.shape), source.input[position]
                )
            )
        next(entry for entry in node.attribute if entry.name == "mode").s = b"DCR"


def sort_out(graph: Any) -> tuple[list[Node], dict[str, Any]]:
    """The nodes that compute something, and every stored number by its name, initializers and Constant nodes alike."""
    constants = {entry.name: numpy_helper.to_array(entry) for entry in graph.initializer}
    nodes = []
    for node in graph.node:
        if node.op_type == "Constant":
            constants[node.output[0]] = numpy_helper.to_array(attributes(node)["value"])
        else:
            nodes.append(node)
    return nodes, constants


def find_affine(nodes: list[Node], constants: dict[str, Any]) -> dict[str, tuple[str, float, float]]:
    """Products `(x - a) * b` whose difference is used nowhere else: name of the product -> (x, a, b)."""
    uses = [name for node in nodes for name in node.input]
    made = {name: node for node in nodes for name in node.output}
    found = {}
    for node in nodes:
        if node.op_type != "Mul" or node.input[1] not in constants:
            continue
        inner = made.get(node.input[0])
        if (
            inner is None
            or inner.op_type != "Sub"
            or inner.input[1] not in constants
            or uses.count(node.input[0]) != 1
        ):
            continue
        numbers = [constants[name] for name in (inner.input[1], node.input[1])]
        if all(number.size == 1 for number in numbers):
            a, b = (float(number.reshape(())) for number in numbers)
            found[node.output[0]] = (inner.input[0], a, b)
    return found


def lower(model: Any) -> Callable[[Value], dict[str, Value]]:
    """A function from the image (1, H, W, 3) to the outputs by name, each (1, H, W, planes).

    Raises:
        RefusedError: an operator, attribute or layout that is not known; nothing is approximated.
    """
    model = copy.deepcopy(model)
    order_planes(model)
    nodes, constants = sort_out(model.graph)
    products = find_affine(nodes, constants)
    differences = {node.input[0] for node in nodes if node.output[0] in products}
    nodes = [node for node in nodes if node.output[0] not in differences]
    (entry,) = model.graph.input
    unknown = sorted({node.op_type for node in nodes} - set(OPERATORS))
    if unknown:
        raise RefusedError(f"the network uses operators that the export does not know: {', '.join(unknown)}")

    def function(image: Value) -> dict[str, Value]:
        values: dict[str, Value] = {**constants, entry.name: image}
        for node in nodes:
            if node.output[0] in products:
                source, offset, factor = products[node.output[0]]
                values[node.output[0]] = Affine(whole(values[source]), offset, factor)
            else:
                values[node.output[0]] = apply(node, [values[name] if name else None for name in node.input])
        return {out.name: tf.identity(whole(values[out.name]), name=out.name) for out in model.graph.output}

    return function
