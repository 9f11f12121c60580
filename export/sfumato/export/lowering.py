"""ONNX -> TensorFlow for the operators of the local network, and of those it is measured against, channels last throughout.

Why not leave this to onnx2tf: it guesses every tensor's layout from its shape. Of this network it made grouped CONV_2D
instead of DEPTHWISE_CONV_2D (NNAPI refuses those) and, with several bit planes, two TRANSPOSE (docs/decisions/0006). Here
nothing is guessed: every image tensor is (1, H, W, C) in TensorFlow, whatever ONNX calls it, and an operator or attribute
that this file does not know is refused.

    function = lower(onnx_model)            # image (1, H, W, 3) -> {"p": (1, H, W, 3)}
"""

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import tensorflow as tf
from onnx import numpy_helper

from sfumato.core.errors import SfumatoError
from sfumato.core.local_constants import BLOCKS, GAIN, MIDDLE_BYTE
from sfumato.export.onnx_graph import Node, attributes, sort_out, zeros_around
from sfumato.export.packed_planes import Affine, Packed, Value, all_packed, whole

TO_FIRST, TO_LAST = [0, 3, 1, 2], [0, 2, 3, 1]
"""The permutations at the edges of the graph; inside, nothing is permuted."""


class RefusedError(SfumatoError):
    """The graph holds something this lowering does not know."""


def planewise(node: Node, constant: Value, planes: int) -> Value:
    """A constant of one number, or of one a plane, as what TensorFlow spreads over (1, H, W, planes).

    ONNX broadcasts from the right, over columns; here the right-most axis is the plane. So only those that have no other
    axis are known: (C, 1, 1) and (1, C, 1, 1).
    """
    if constant.size == 1:
        return float(constant.reshape(()))
    if constant.ndim not in (3, 4) or constant.shape[-3:] != (planes, 1, 1) or constant.size != planes:
        raise RefusedError(
            f"{node.name}: a constant of {constant.shape} that is neither one number nor one a plane"
        )
    return constant.reshape(1, 1, 1, planes)


def padded(x: Value, pads: list[int]) -> Value:
    """With rows and columns of zeros: top, left, bottom, right."""
    return tf.pad(x, [[0, 0], [pads[0], pads[2]], [pads[1], pads[3]], [0, 0]]) if any(pads) else x


def pad(node: Node, x: Value, pads: Value, value: Value = None, axes: Value = None) -> Value:
    """Rows and columns of zeros that no convolution takes up, or planes of zeros behind the others."""
    if axes is None and list(pads[:5]) == [0] * 5 and list(pads[6:]) == [0, 0] and not np.any(value):
        return tf.pad(x, [[0, 0], [0, 0], [0, 0], [0, int(pads[5])]])
    around = zeros_around(node, pads, value, axes)
    if around is None:
        raise RefusedError(f"{node.name}: only zeros around the picture are known as padding")
    return padded(x, around)


def zeros_for_same(size: int, stride: int, before: int, after: int, length: int) -> int | None:
    """How many zeros at a kernel's end make SAME padding lie where the given padding does; None if no number does.

    SAME divides what is missing for `ceil(length / stride)` outputs evenly, and puts an odd one at the end (TensorFlow's
    documentation of `tf.nn`). A kernel that is longer by zeros computes the same and is missing more.

    >>> zeros_for_same(3, 2, 1, 1, 64)  # a usual strided convolution: of a kernel of 4, one row is missing on either side
    1
    >>> zeros_for_same(3, 2, 0, 1, 64), zeros_for_same(3, 1, 1, 1, 64), zeros_for_same(3, 2, 2, 2, 64)
    (0, 0, None)
    """
    outputs = -(-length // stride)
    if (length + before + after - size) // stride + 1 != outputs:
        return None
    for zeros in range(stride + 1):
        missing = max((outputs - 1) * stride + size + zeros - length, 0)
        if missing // 2 == before:
            return zeros
    return None


def conv(node: Node, x: Value, weight: Value, bias: Value | None = None) -> Value:
    """Convolution, in groups or depthwise too.

    Its padding becomes SAME, where needed with a kernel that zeros lengthen: XNNPACK of LiteRT 1.4 runs a PAD of bytes by
    itself, which takes as long as a small convolution. What SAME cannot do becomes an explicit PAD.
    """
    given = attributes(node)
    groups, strides = given.get("group", 1), list(given.get("strides", [1, 1]))
    apart = list(given.get("dilations", [1, 1]))
    kernel = np.transpose(weight, (2, 3, 1, 0))  # (kh, kw, C_in / groups, C_out)
    pads = list(given.get("pads", [0, 0, 0, 0]))
    if given.get("auto_pad", b"NOTSET") != b"NOTSET":
        raise RefusedError(f"{node.name}: automatic padding")
    reached = [gap * (side - 1) + 1 for gap, side in zip(apart, kernel.shape[:2], strict=True)]
    each = zip(reached, strides, pads[:2], pads[2:], x.shape[1:3], strict=True)
    more = [zeros_for_same(*one) for one in each]
    same = any(pads) and all(zeros == 0 or (zeros is not None and apart == [1, 1]) for zeros in more)
    if same:
        kernel = np.pad(kernel, [*((0, zeros or 0) for zeros in more), (0, 0), (0, 0)])
    else:
        x = padded(x, pads)
    padding = "SAME" if same else "VALID"
    if groups == 1:
        y = tf.nn.conv2d(x, kernel, strides, padding, dilations=apart)
    elif groups == x.shape[-1] == kernel.shape[3]:
        kernel = np.transpose(kernel, (0, 1, 3, 2))
        y = tf.nn.depthwise_conv2d(x, kernel, [1, *strides, 1], padding, dilations=apart)
    else:  # no delegate takes CONV_2D with groups
        ends = zip(np.split(np.arange(x.shape[-1]), groups), np.split(kernel, groups, axis=3), strict=True)
        parts = [
            tf.nn.conv2d(x[..., one[0] : one[-1] + 1], own, strides, padding, dilations=apart)
            for one, own in ends
        ]
        y = joined(parts if bias is None else map(tf.nn.bias_add, parts, np.split(bias, groups)))
        return y
    return y if bias is None else tf.nn.bias_add(y, bias)


def joined(parts: Iterable[Value]) -> Value:
    """Planes after one another; XNNPACK takes up to four at a time."""
    left = list(parts)
    while len(left) > 1:
        left = [
            left[i] if i + 1 == len(left) else tf.concat(left[i : i + 4], axis=-1)
            for i in range(0, len(left), 4)
        ]
    return left[0]


def conv_transpose(node: Node, x: Value, weight: Value, bias: Value | None = None) -> Value:
    """Transposed convolution; what ONNX cuts off at the edges is cut off by SAME where that is the same, else by a slice."""
    given = attributes(node)
    strides, pads = list(given.get("strides", [1, 1])), list(given.get("pads", [0, 0, 0, 0]))
    more = list(given.get("output_padding", [0, 0]))
    if given.get("group", 1) != 1 or set(given.get("dilations", [1])) != {1}:
        raise RefusedError(f"{node.name}: transposed convolution in groups or dilated")
    if given.get("auto_pad", b"NOTSET") != b"NOTSET" or "output_shape" in given:
        raise RefusedError(f"{node.name}: transposed convolution of a given shape")
    kernel = np.transpose(weight, (2, 3, 1, 0))  # (kh, kw, C_out, C_in)
    size, planes = kernel.shape[:2], kernel.shape[2]
    full = [
        step * (length - 1) + side for step, length, side in zip(strides, x.shape[1:3], size, strict=True)
    ]
    start, end = pads[:2], [total - last + add for total, last, add in zip(full, pads[2:], more, strict=True)]
    if any(add > last for add, last in zip(more, pads[2:], strict=True)):
        raise RefusedError(f"{node.name}: output_padding beyond what the convolution reaches")
    enlarged = [step * length for step, length in zip(strides, x.shape[1:3], strict=True)]
    # SAME cuts half of what is too much off at the start, rounded down.
    before = [max(0, side - step) // 2 for side, step in zip(size, strides, strict=True)]
    lengths = [b - a for a, b in zip(start, end, strict=True)]
    if start == before and lengths == enlarged and all(a >= b for a, b in zip(size, strides, strict=True)):
        y = tf.nn.conv2d_transpose(
            x, kernel, [1, *enlarged, planes], strides, "SAME" if full != enlarged else "VALID"
        )
    else:
        y = tf.nn.conv2d_transpose(x, kernel, [1, *full, planes], strides, "VALID")
        y = y[:, start[0] : end[0], start[1] : end[1]]
    return y if bias is None else tf.nn.bias_add(y, bias)


def max_pool(node: Node, x: Value) -> Value:
    """Largest of each block; padding only as SAME has it."""
    given = attributes(node)
    same = pools_same(given)
    if (
        (any(given.get("pads", [])) and not same)
        or given.get("ceil_mode", 0)
        or set(given.get("dilations", [1])) != {1}
    ):
        raise RefusedError(f"{node.name}: padded or dilated pooling")
    return tf.nn.max_pool2d(
        x, given["kernel_shape"], given.get("strides", [1, 1]), "SAME" if same else "VALID"
    )


def global_max(node: Node, x: Value) -> Value:
    """Largest of each plane."""
    return tf.nn.max_pool2d(x, list(x.shape[1:3]), [1, 1], "VALID")


def average_pool(node: Node, x: Value) -> Value:
    """Mean of each block; zeros around the picture are counted, or left out where SAME leaves them out.

    As a convolution of fixed weights where it can be: XNNPACK takes no AVERAGE_POOL_2D of bytes.
    """
    given = attributes(node)
    size, strides = list(given["kernel_shape"]), list(given.get("strides", [1, 1]))
    pads, counted = list(given.get("pads", [0, 0, 0, 0])), given.get("count_include_pad", 0)
    same = pools_same(given) and not counted
    if (
        given.get("ceil_mode", 0)
        or set(given.get("dilations", [1])) != {1}
        or (any(pads) and not counted and not same)
    ):
        raise RefusedError(f"{node.name}: this padding of an average is not known")
    if same and any(pads):
        return tf.nn.avg_pool2d(x, size, strides, "SAME")
    planes = x.shape[-1]
    kernel = np.full((*size, planes, 1), 1 / (size[0] * size[1]), np.float32)
    y = tf.nn.depthwise_conv2d(padded(x, pads), kernel, [1, *strides, 1], "VALID")
    return tf.nn.bias_add(y, np.zeros(planes, np.float32))


def pools_same(given: dict[str, Any]) -> bool:
    """Whether windows of these attributes lie as those of SAME: odd, one step apart, half of them beyond every edge."""
    size, pads = list(given["kernel_shape"]), list(given.get("pads", [0, 0, 0, 0]))
    odd = all(side % 2 for side in size) and list(given.get("strides", [1, 1])) == [1, 1]
    return odd and pads == [side // 2 for side in size] * 2


def affine(x: Value, factor: Value, offset: Value) -> Value:
    """A factor and an offset of every plane, each (C,), as a depthwise convolution: the offset stays in 32 bits."""
    kernel = np.broadcast_to(np.asarray(factor, np.float32), x.shape[-1:]).reshape(1, 1, -1, 1)
    y = tf.nn.depthwise_conv2d(x, kernel, [1, 1, 1, 1], "VALID")
    return tf.nn.bias_add(y, np.broadcast_to(np.asarray(offset, np.float32), x.shape[-1:]))


def batch_norm(node: Node, x: Value, scale: Value, shift: Value, mean: Value, variance: Value) -> Value:
    """Batch norm that stands before or without a convolution."""
    given = attributes(node)
    if given.get("training_mode", 0):
        raise RefusedError(f"{node.name}: batch norm in training mode")
    factor = scale / np.sqrt(variance + np.float32(given.get("epsilon", 1e-5)))
    return affine(x, factor, shift - mean * factor)


def leaky_relu(node: Node, x: Value) -> Value:
    """Slope below zero."""
    return tf.nn.leaky_relu(x, attributes(node).get("alpha", 0.01))


def prelu(node: Node, x: Value, slope: Value) -> Value:
    """Slopes below zero that were learnt: `a x + (1 - a) max(x, 0)`, since XNNPACK takes no PRELU of bytes."""
    slope = planewise(node, slope, x.shape[-1])
    if isinstance(slope, float):
        return tf.nn.leaky_relu(x, slope)
    slope = slope.ravel()
    return affine(x, slope, 0) + affine(tf.nn.relu(affine(x, 1, 0)), 1 - slope, 0)


def hard_sigmoid(node: Node, x: Value) -> Value:
    """A line cut off at 0 and 1, of which TensorFlow Lite knows the part between 0 and 6."""
    given = attributes(node)
    alpha, beta = 6 * given.get("alpha", 0.2), 6 * given.get("beta", 0.5)
    scaled = x if abs(alpha - 1) < 1e-6 else x * alpha
    return tf.nn.relu6(scaled + beta) * (1 / 6)


def reduce_max(node: Node, x: Value, axes: Value = None) -> Value:
    """Largest of all planes of a place. As pooling: XNNPACK takes that, and no maximum over the last axis."""
    given = attributes(node)
    over = given.get("axes", axes)
    if over is None or list(over) not in ([1], [-3]) or given.get("keepdims", 1) != 1:
        raise RefusedError(f"{node.name}: only the largest of all planes is known")
    _, height, width, planes = x.shape
    y = tf.nn.max_pool2d(tf.reshape(x, [1, height * width, planes, 1]), [1, planes], [1, planes], "VALID")
    return tf.reshape(y, [1, height, width, 1])


def reduce_mean(node: Node, x: Value, axes: Value = None) -> Value:
    """Mean over the picture, one value a plane."""
    given = attributes(node)
    over = given.get("axes", axes)
    if over is None or sorted(int(axis) % 4 for axis in over) != [2, 3] or given.get("keepdims", 1) != 1:
        raise RefusedError(f"{node.name}: only the mean over the picture is known")
    return tf.reduce_mean(x, axis=[1, 2], keepdims=True)


def part_of(node: Node, x: Value, starts: Value, ends: Value, axes: Value, steps: Value = (1,)) -> Value:
    """Some of the planes or rows, those that follow one another."""
    rows = list(axes) in ([2], [-2])
    if (not rows and list(axes) not in ([1], [-3])) or list(steps) != [1]:
        raise RefusedError(f"{node.name}: only planes or rows that follow one another can be taken out")
    first, last, _ = slice(int(starts[0]), int(ends[0])).indices(x.shape[1 if rows else -1])
    return x[:, first:last] if rows else x[..., first:last]


def split(node: Node, x: Value, sizes: Value = None) -> list[Value]:
    """Planes in parts that follow one another."""
    if attributes(node).get("axis", 0) not in (1, -3):
        raise RefusedError(f"{node.name}: only planes can be split")
    planes, count = x.shape[-1], len(node.output)
    lengths = [-(-planes // count)] * (count - 1) if sizes is None else [int(size) for size in sizes[:-1]]
    edges = [0, *np.cumsum(lengths).tolist(), planes]
    return [x[..., start:end] for start, end in pairwise(edges)]


@dataclass(frozen=True)
class Shuffled:
    """Planes seen as rows of `length`, on their way through ONNX's reshape, transpose, reshape."""

    x: Value
    length: int
    turned: bool = False


def reshape(node: Node, x: Value, shape: Value) -> Value:
    """Planes into rows and back, with the rows perhaps turned to columns: the shuffle of ShuffleNet. Or the planes of one place
    as a picture whose planes come last."""
    lengths = [int(length) for length in shape]
    if isinstance(x, Shuffled):
        planes, (_, height, width, _) = x.x.shape[-1], x.x.shape
        if lengths[1:] not in ([planes, height, width], [-1, height, width]) or not x.turned:
            raise RefusedError(f"{node.name}: this reshape is not known")
        order = np.arange(planes).reshape(-1, x.length).T.ravel()
        kernel = np.eye(planes, dtype=np.float32)[:, order].reshape(1, 1, planes, planes)
        return tf.nn.bias_add(tf.nn.conv2d(x.x, kernel, 1, "VALID"), np.zeros(planes, np.float32))
    _, height, width, planes = x.shape
    if (height, width) == (1, 1) and len(lengths) == 4 and np.prod(lengths[1:]) == planes:
        return Last(tf.reshape(x, [1, *lengths[1:]]))
    if len(lengths) != 5 or lengths[3:] != [height, width] or lengths[1] * lengths[2] != planes:
        raise RefusedError(f"{node.name}: this reshape is not known")
    return Shuffled(x, lengths[2])


def clip(node: Node, x: Value, low: Value = None, high: Value = None) -> Value:
    """ReLU6; other bounds are refused."""
    if low is None or high is None or (float(low), float(high)) != (0.0, 6.0):
        raise RefusedError(f"{node.name}: only 0 .. 6 is known as a range to clip to")
    return tf.nn.relu6(x)


def resize(node: Node, x: Value, _roi: Value = None, scales: Value = None, sizes: Value = None) -> Value:
    """Bilinear enlargement with half-pixel centres, or every pixel repeated 2 or 4 times a side."""
    given = attributes(node)
    if sizes is not None and len(sizes):
        height, width = int(sizes[2]), int(sizes[3])
    else:
        height, width = round(x.shape[1] * float(scales[2])), round(x.shape[2] * float(scales[3]))
    mode, places = given.get("mode", b"nearest"), given.get("coordinate_transformation_mode", b"half_pixel")
    half = places in (b"half_pixel", b"pytorch_half_pixel")
    if mode == b"linear" and half:
        return tf.compat.v1.image.resize_bilinear(x, [height, width], half_pixel_centers=True)
    factor = height // x.shape[1]
    rounding = (places, given.get("nearest_mode", b"round_prefer_floor"))
    repeats = rounding == (b"asymmetric", b"floor") or (half and rounding[1].startswith(b"round"))
    whole = [height, width] == [factor * length for length in x.shape[1:3]] and factor in BLOCKS
    if mode != b"nearest" or not repeats or not whole:
        raise RefusedError(
            f"{node.name}: only bilinear resizing with half-pixel centres, or 2 or 4 times the same pixel, is known"
        )
    # Copies of the planes are the pixels of a block. XNNPACK takes that, and no RESIZE_NEAREST_NEIGHBOR.
    for _ in range(factor):  # 2 or 4 doublings: as many copies as a block of 2 or 4 pixels a side has
        x = tf.concat([x, x], axis=-1)
    return tf.nn.depth_to_space(x, factor)


def concat(node: Node, *values: Value) -> Value:
    """Concatenation of channels, or of rows."""
    if attributes(node)["axis"] in (2, -2):
        return tf.concat([whole(value) for value in values], axis=1)
    if attributes(node)["axis"] not in (1, -3):
        raise RefusedError(f"{node.name}: only channels and rows can be concatenated")
    first = values[0]
    if isinstance(first, Affine) and all(value is first for value in values):
        return replace(first, times=first.times * len(values))
    return tf.concat([whole(value) for value in values], axis=-1)


@dataclass(frozen=True)
class Last:
    """A picture whose planes are the last axis in ONNX too, as they always are in TensorFlow."""

    x: Value


def transpose(node: Node, x: Value) -> Value:
    """A change of layout in ONNX; TensorFlow's tensor stays as it is."""
    permutation = list(attributes(node)["perm"])
    if isinstance(x, Last) and permutation == TO_FIRST:
        return x.x
    if isinstance(x, Shuffled) and permutation == [0, 2, 1, 3, 4] and not x.turned:
        return replace(x, turned=True)
    if isinstance(x, Last | Shuffled) or permutation != TO_LAST:
        raise RefusedError(f"{node.name}: permutation {permutation}")
    return Last(x)


def elementwise(function: Callable[[Value, Value], Value]) -> Callable[[Node, Value, Value], Value]:
    """An operator of two tensors: of computed ones either may be one value high and wide, a constant is one number or one a
    plane."""

    def apply(node: Node, a: Value, b: Value) -> Value:
        stored = [isinstance(value, np.ndarray) for value in (a, b)]
        if any(stored):
            planes = (b if stored[0] else a).shape[-1]
            a, b = (planewise(node, v, planes) if s else v for v, s in zip((a, b), stored, strict=True))
        # Computed tensors have four axes on both sides, so that the same ones are stretched.
        elif any(m != n and 1 not in (m, n) for m, n in zip(a.shape, b.shape, strict=True)):
            raise RefusedError(f"{node.name}: shapes {a.shape} and {b.shape} differ")
        return function(a, b)

    return apply


ALONE = "Relu alone"
"""A Relu that TensorFlow Lite cannot make part of the operator before it (`mark_alone`)."""
OPERATORS: dict[str, Callable[..., Value]] = {
    "Conv": conv,
    "ConvTranspose": conv_transpose,
    "Pad": pad,
    "MaxPool": max_pool,
    "GlobalMaxPool": global_max,
    "AveragePool": average_pool,
    "BatchNormalization": batch_norm,
    "ReduceMax": reduce_max,
    "ReduceMean": reduce_mean,
    "Slice": part_of,
    "Split": split,
    "Reshape": reshape,
    "GlobalAveragePool": lambda node, x: tf.reduce_mean(x, axis=[1, 2], keepdims=True),
    "Clip": clip,
    "Resize": resize,
    "Concat": concat,
    "Transpose": transpose,
    "DepthToSpace": lambda node, x: Packed(x, attributes(node)["blocksize"]),
    "Relu": lambda node, x: tf.nn.relu(x),
    ALONE: lambda node, x: tf.nn.relu(affine(x, 1, 0)),
    "Sigmoid": lambda node, x: tf.sigmoid(x),
    "Tanh": lambda node, x: tf.tanh(x),
    "HardSigmoid": hard_sigmoid,
    # In another order it would become HARD_SWISH, of which XNNPACK takes no bytes.
    "HardSwish": lambda node, x: (x * (1 / 6)) * tf.nn.relu6(x + 3.0),
    "LeakyRelu": leaky_relu,
    "PRelu": prelu,
    "Identity": lambda node, x: x,
    "Add": elementwise(lambda a, b: a + b),
    "Sub": elementwise(lambda a, b: a - b),
    "Mul": elementwise(lambda a, b: a * b),
}


POINTWISE = (
    *("Relu", ALONE, "Sigmoid", "Tanh", "HardSigmoid", "HardSwish", "LeakyRelu", "Clip", "Identity"),
    *("Add", "Sub", "Mul"),
)
"""Operators that give the same on packed pictures."""


def apply(node: Node, given: list[Value]) -> Value:
    """Compute a node, on packed pictures where it can be."""
    operator = OPERATORS[node.op_type]
    if node.op_type == "Transpose":
        return operator(node, *given)
    if isinstance(given[0], Last) and len(given) == 1 and node.op_type in POINTWISE:
        return Last(apply(node, [given[0].x]))
    if any(isinstance(value, Last) for value in given):
        raise RefusedError(f"{node.name}: {node.op_type} is known of channels first alone")
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


FUSED = ("Conv", "Add", "Sub", "Mul", "BatchNormalization", "MaxPool", "AveragePool")
"""Operators that TensorFlow Lite lets end in a ReLU."""


def mark_alone(nodes: list[Node], constants: dict[str, Any]) -> None:
    """Name every Relu `ALONE`, in place, that stays an operator of its own: XNNPACK takes none of bytes.

    It does behind anything that is not a convolution or sum, and behind what somebody else needs as well.
    """
    uses = [name for node in nodes for name in node.input]
    made = {name: node for node in nodes for name in node.output}
    for node in nodes:
        if node.op_type == "Relu":
            source = made.get(node.input[0])
            fused = source is not None and source.op_type in FUSED and not in_parts(source, constants)
            if not fused or uses.count(node.input[0]) > 1:
                node.op_type = ALONE


def in_parts(node: Node, constants: dict[str, Any]) -> bool:
    """Whether a node is a convolution that is computed group by group."""
    groups = attributes(node).get("group", 1)
    return bool(node.op_type == "Conv" and groups > 1 and constants[node.input[1]].shape[:2] != (groups, 1))


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


FORWARDING = ("Transpose", "Identity", "AveragePool")
"""Operators that give the same of `(x - a) * b` as `(x - a) * b` of what they give; an average only without padding."""


def takes_centred(nodes: list[Node], products: dict[str, tuple[str, float, float]], entry: str) -> set[str]:
    """Whether all that looks at the image looks at `GAIN * (image - MIDDLE_BYTE)`.

    Args:
        nodes: without the differences of `products`.
        products: of `find_affine`.
        entry: name of the image.

    Returns:
        Names of the image and of its averages that are looked at; empty if something looks at them otherwise.
    """
    names = {entry}
    for node in nodes:
        if (
            node.op_type in FORWARDING
            and node.input[0] in names
            and not any(attributes(node).get("pads", ()))
        ):
            names.add(node.output[0])
        elif names.intersection(node.input):
            return set()
    found = [(a, b) for source, a, b in products.values() if source in names]
    same = all(abs(a - MIDDLE_BYTE) < 1e-6 and abs(b - GAIN) < 1e-6 for a, b in found)
    return names if found and same else set()


def lower(model: Any) -> Callable[[Value], dict[str, Value]]:
    """A function from the image (1, H, W, 3) to the outputs by name, each (1, H, W, planes).

    Raises:
        RefusedError: an operator, attribute or layout that is not known; nothing is approximated.
    """
    function = _lower(model, centred=False)
    assert function is not None
    return function


def lower_centred(model: Any) -> Callable[[Value], dict[str, Value]] | None:
    """The same of `GAIN * (image - MIDDLE_BYTE)`, which an int8 model can declare its bytes to be.

    Returns:
        None if the network looks at the image otherwise as well.

    Raises:
        RefusedError: as `lower`.
    """
    return _lower(model, centred=True)


def _lower(model: Any, *, centred: bool) -> Callable[[Value], dict[str, Value]] | None:
    model = copy.deepcopy(model)
    order_planes(model)
    nodes, constants = sort_out(model.graph)
    mark_alone(nodes, constants)
    products = find_affine(nodes, constants)
    differences = {node.input[0] for node in nodes if node.output[0] in products}
    nodes = [node for node in nodes if node.output[0] not in differences]
    (entry,) = model.graph.input
    given = takes_centred(nodes, products, entry.name) if centred else set()
    if centred and not given:
        return None
    unknown = sorted({node.op_type for node in nodes} - set(OPERATORS))
    if unknown:
        raise RefusedError(f"the network uses operators that the export does not know: {', '.join(unknown)}")

    def function(image: Value) -> dict[str, Value]:
        values: dict[str, Value] = {**constants, entry.name: Last(image)}
        for node in nodes:
            if node.output[0] in products:
                source, offset, factor = products[node.output[0]]
                if source in given:
                    offset, factor = 0.0, 1.0
                last, before = isinstance(values[source], Last), values[source]
                made = Affine(whole(before.x if last else before), offset, factor)
                values[node.output[0]] = Last(made) if last else made
            else:
                made = apply(node, [values[name] if name else None for name in node.input])
                values.update(zip(node.output, made if isinstance(made, list) else [made], strict=True))
        return {out.name: tf.identity(end(values[out.name]), name=out.name) for out in model.graph.output}

    return function


def end(value: Value) -> Value:
    """What leaves the graph: channels last, at its full size."""
    if not isinstance(value, Last):
        raise RefusedError("the outputs are not channels last")
    return whole(value.x)
