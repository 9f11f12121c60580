"""An int8 TensorFlow Lite model as an ONNX model with QuantizeLinear and DequantizeLinear around every operator (QDQ).

Scales, zero points, integer weights and biases are those of the file, so both say the same arithmetic; what a runtime rounds
in between is its own. Bytes are unsigned, `int8 + 128`, since Qualcomm's HTP computes on those: the input is the pixel itself
and an output is the byte q of the contract. Every tensor is channels first inside, as ONNX wants it, and channels last at
both ends, as the phone holds it.

    model = to_qdq(Path("local_int8.tflite").read_bytes())      # image (1, H, W, 3) uint8 -> {"p": (1, H, W, planes) uint8}

How a quantised operator is written: ONNX's QuantizeLinear and DequantizeLinear (operator set 17), and TensorFlow Lite's
quantisation specification. An operator, option or shape that is not known is refused.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from sfumato.core.errors import SfumatoError
from sfumato.export.onnx_files import OPSET, run_checker
from sfumato.runtime.tflite_graph import Operator, TensorInfo, read_constants, read_graph

TO_FIRST, TO_LAST = [0, 3, 1, 2], [0, 2, 3, 1]
SHIFT = 128
"""Unsigned byte = int8 + this, and so is its zero point."""
SAME = 0
"""`Padding` SAME of TensorFlow Lite's schema."""
NONE, RELU, RELU6 = 0, 1, 3
"""`ActivationFunctionType` of the same."""
FEW = 16
"""Depthwise convolutions of fewer planes are written as ordinary ones, with zeros between the planes. Qualcomm's libraries
2.51.0 give zeros alone for 3 and 4 planes with kernel and stride 2, and cannot compile some with kernel and stride 4."""


class RefusedError(SfumatoError):
    """The model holds something that this translation does not know."""


def to_qdq(content: bytes) -> bytes:
    """Translate a model.

    Args:
        content: a .tflite file whose input and outputs are int8 images.

    Returns:
        The ONNX file, the same bytes for the same model.

    Raises:
        RefusedError: an operator, a type, an option or a shape that is not known, with its name.
        SfumatoError: the file is damaged.
    """
    graph = read_graph(content)
    builder = _Builder(read_constants(content))
    for end in (*graph.inputs, *graph.outputs):
        if end.type != "INT8" or len(end.shape) != 4:
            raise RefusedError(f"{end.name} is {end.type} {end.shape}: only int8 pictures are known")
    for image in graph.inputs:
        builder.turn(image, image.name, builder.name(image), TO_FIRST)
    for operator in graph.operators:
        if operator.name not in OPERATORS:
            raise RefusedError(f"the int8 model has {operator.name}, which is not known here")
        OPERATORS[operator.name](builder, operator)
    for output in graph.outputs:
        builder.turn(output, builder.name(output), output.name, TO_LAST)
    made = helper.make_graph(
        builder.nodes,
        "local_int8",
        [helper.make_tensor_value_info(one.name, TensorProto.UINT8, one.shape) for one in graph.inputs],
        [helper.make_tensor_value_info(one.name, TensorProto.UINT8, one.shape) for one in graph.outputs],
        builder.constants,
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="sfumato")
    model.ir_version = 8  # of this operator set; the default follows the installed package
    run_checker(model, "the QDQ model")
    written: bytes = model.SerializeToString(deterministic=True)
    return written


@dataclass
class _Builder:
    """Nodes and constants as they are written."""

    values: dict[int, NDArray[Any]]
    """The file's constants, by the index of their tensor."""
    nodes: list[Any] = field(default_factory=list)
    constants: list[Any] = field(default_factory=list)
    kept: dict[str, str] = field(default_factory=dict)

    def name(self, tensor: TensorInfo) -> str:
        """Of the bytes of a computed tensor, channels first."""
        return f"bytes_{tensor.index}"

    def constant(self, name: str, value: NDArray[Any]) -> str:
        """Store a constant under a name, once."""
        if name not in self.kept:
            self.kept[name] = name
            self.constants.append(numpy_helper.from_array(np.asarray(value, order="C"), name))
        return name

    def node(self, kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        """Append a node; its name is that of its output."""
        self.nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))
        return output

    def scale_of(self, tensor: TensorInfo) -> list[str]:
        """Scale and zero point of a tensor of bytes."""
        if len(tensor.scales) != 1:
            raise RefusedError(f"{tensor.name} has {len(tensor.scales)} scales: one is known")
        return [
            self.constant(f"scale_{tensor.index}", np.array(tensor.scales[0], np.float32)),
            self.constant(f"zero_{tensor.index}", np.array(tensor.zero_points[0] + SHIFT, np.uint8)),
        ]

    def real(self, tensor: TensorInfo | None, reader: Operator) -> str:
        """The real values of a tensor: dequantized for this reader alone."""
        if tensor is None or tensor.type != "INT8":
            raise RefusedError(f"{reader.name} reads {'nothing' if tensor is None else tensor.type}")
        held = self.name(tensor)
        if tensor.index in self.values:
            value = self.values[tensor.index]
            if value.ndim > 1 and set(value.shape[:-1]) != {1}:
                raise RefusedError(f"{reader.name} reads a constant of {value.shape}")
            shown = (value.reshape(1, -1, 1, 1).astype(np.int16) + SHIFT).astype(np.uint8)
            held = self.constant(held, shown)
        output = f"real_{tensor.index}_for_{reader.outputs[0].index}"
        if output in self.kept:  # an operator that reads one tensor twice
            return output
        self.kept[output] = output
        return self.node("DequantizeLinear", [held, *self.scale_of(tensor)], output)

    def quantize(self, value: str, operator: Operator) -> None:
        """Real values become the bytes of an operator's output, which end a fused activation as well."""
        (output,) = operator.outputs
        self._check_activation(operator, output)
        self.node("QuantizeLinear", [value, *self.scale_of(output)], self.name(output))

    def _check_activation(self, operator: Operator, output: TensorInfo) -> None:
        """TensorFlow Lite's quantiser gives a fused activation's output a range that is cut off where it is."""
        kind = operator.options.get("FusedActivationFunction", NONE)
        largest = 255 * output.scales[0] if output.scales else math.inf
        cut = output.zero_points[:1] == (-SHIFT,) and (kind == RELU or largest <= 6 * (1 + 1e-6))
        if kind != NONE and (kind not in (RELU, RELU6) or not cut):
            raise RefusedError(f"{operator.name} ends in an activation that its output's range does not hold")

    def turn(self, tensor: TensorInfo, given: str, made: str, order: list[int]) -> None:
        """Change the order of the axes of a tensor's bytes."""
        scale = self.scale_of(tensor)
        real = self.node("DequantizeLinear", [given, *scale], f"real_{made}")
        turned = self.node("Transpose", [real], f"turned_{made}", perm=order)
        self.node("QuantizeLinear", [turned, *scale], made)

    def weights(self, operator: Operator) -> list[str]:
        """Real weights (O, I, kh, kw), or (O, 1, kh, kw) of a depthwise convolution, and real biases (O,)."""
        named, depthwise = [], operator.name == "DEPTHWISE_CONV_2D"
        for tensor, kind in zip(operator.inputs[1:], ("INT8", "INT32"), strict=True):
            if tensor is None or tensor.type != kind or tensor.index not in self.values:
                raise RefusedError(f"{operator.name} without constant weights and biases of integers")
            if any(tensor.zero_points):
                raise RefusedError(f"{operator.name} has weights with a zero point")
            value = self.values[tensor.index]
            if kind == "INT8":
                value = value.transpose([3, 0, 1, 2] if depthwise else [0, 3, 1, 2])
                if depthwise and len(value) < FEW:
                    value = value * np.eye(len(value), dtype=np.int8)[:, :, None, None]
            held = [
                self.constant(f"integers_{tensor.index}", value),
                self.constant(
                    f"scale_{tensor.index}", np.broadcast_to(np.array(tensor.scales, np.float32), len(value))
                ),
                self.constant(f"zero_{tensor.index}", np.zeros(len(value), value.dtype)),
            ]
            output = f"real_{tensor.index}_for_{operator.outputs[0].index}"
            named.append(self.node("DequantizeLinear", held, output, axis=0))
        return named

    def compute(self, operator: Operator, kind: str, inputs: Sequence[str], **attributes: Any) -> None:
        """One ONNX operator on real values, and the bytes of its result."""
        output = f"{operator.name.lower()}_{operator.outputs[0].index}"
        self.quantize(self.node(kind, inputs, output, **attributes), operator)


def convolution(builder: _Builder, operator: Operator) -> None:
    """CONV_2D, with weights (O, kh, kw, I), and DEPTHWISE_CONV_2D, with weights (1, kh, kw, O)."""
    image, weight = operator.inputs[0], operator.inputs[1]
    if image is None or weight is None:
        raise RefusedError(f"{operator.name} without a picture or weights")
    planes = image.shape[3]
    grouped = operator.name == "DEPTHWISE_CONV_2D" and weight.shape[3] >= FEW
    if operator.name == "DEPTHWISE_CONV_2D" and weight.shape[3] != planes:
        raise RefusedError(f"DEPTHWISE_CONV_2D of {planes} planes with weights of {weight.shape}")
    strides = [operator.options["StrideH"], operator.options["StrideW"]]
    apart = [operator.options["DilationHFactor"], operator.options["DilationWFactor"]]
    before, after = [0, 0], [0, 0]
    if operator.options["Padding"] == SAME:
        for axis in (0, 1):
            length, step = image.shape[1 + axis], strides[axis]
            reached = apart[axis] * (weight.shape[1 + axis] - 1) + 1
            missing = max((-(-length // step) - 1) * step + reached - length, 0)
            before[axis], after[axis] = missing // 2, missing - missing // 2
    builder.compute(
        operator,
        "Conv",
        [builder.real(image, operator), *builder.weights(operator)],
        group=planes if grouped else 1,
        kernel_shape=list(weight.shape[1:3]),
        strides=strides,
        dilations=apart,
        pads=before + after,
    )


def resize(builder: _Builder, operator: Operator) -> None:
    """RESIZE_BILINEAR to a whole multiple."""
    image, (output,) = operator.inputs[0], operator.outputs
    if image is None or not operator.options["HalfPixelCenters"] or operator.options["AlignCorners"]:
        raise RefusedError("RESIZE_BILINEAR without half_pixel_centers")
    factors = np.array([1, 1, *(output.shape[axis] / image.shape[axis] for axis in (1, 2))], np.float32)
    builder.compute(
        operator,
        "Resize",
        [builder.real(image, operator), "", builder.constant(f"factors_{output.index}", factors)],
        mode="linear",
        coordinate_transformation_mode="half_pixel",
    )


def concatenation(builder: _Builder, operator: Operator) -> None:
    """CONCATENATION of planes."""
    if operator.options["Axis"] not in (-1, 3):
        raise RefusedError("CONCATENATION of anything but planes")
    builder.compute(operator, "Concat", [builder.real(one, operator) for one in operator.inputs], axis=1)


def blocks(kind: str, **attributes: Any) -> Callable[[_Builder, Operator], None]:
    """SPACE_TO_DEPTH or DEPTH_TO_SPACE: all planes of a block's first pixel, then of its next, in both libraries."""

    def write(builder: _Builder, operator: Operator) -> None:
        (image,) = operator.inputs
        size = operator.options["BlockSize"]
        builder.compute(operator, kind, [builder.real(image, operator)], blocksize=size, **attributes)

    return write


def pointwise(kind: str) -> Callable[[_Builder, Operator], None]:
    """An operator on one or two tensors that ONNX has as well."""

    def write(builder: _Builder, operator: Operator) -> None:
        builder.compute(operator, kind, [builder.real(one, operator) for one in operator.inputs])

    return write


OPERATORS: dict[str, Callable[[_Builder, Operator], None]] = {
    "CONV_2D": convolution,
    "DEPTHWISE_CONV_2D": convolution,
    "RESIZE_BILINEAR": resize,
    "CONCATENATION": concatenation,
    "SPACE_TO_DEPTH": blocks("SpaceToDepth"),
    "DEPTH_TO_SPACE": blocks("DepthToSpace", mode="DCR"),
    "ADD": pointwise("Add"),
    "SUB": pointwise("Sub"),
    "MUL": pointwise("Mul"),
    "MINIMUM": pointwise("Min"),
    "MAXIMUM": pointwise("Max"),
    "LOGISTIC": pointwise("Sigmoid"),
    "RELU": pointwise("Relu"),
}
"""Operator of TensorFlow Lite -> what writes it."""
