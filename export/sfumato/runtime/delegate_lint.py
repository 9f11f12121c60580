"""Whether a delegate takes the whole graph, read from the file, with the reason for every node that it refuses.

`nnapi_findings` follows TensorFlow Lite's own nnapi_delegate.cc at a stated feature level of NNAPI: operator, version, type,
rank and which operands must be constant. It says what the delegate would offer to the phone's driver, which has the last word:
it may leave any of those nodes, and only the runtime's log on the phone says how many it took. `graph_findings` holds what we
ask of every model: channels last, no TRANSPOSE, nothing random, no constant as large as an image. `xnnpack_partitions` and
`xnnpack_findings` ask a real interpreter.

    findings = nnapi_findings(read_graph(content), level=29)
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sfumato.core.errors import UsageError
from sfumato.runtime.contract import SCORES, SUBSAMPLES
from sfumato.runtime.interpreter import Session
from sfumato.runtime.tflite_graph import Graph, Operator, TensorInfo

LEVELS = (27, 28, 29, 30, 31)
"""NNAPI's feature levels 1 to 5, as the delegate counts them: the API level of the Android that brought them (8.1 to 12)."""
LEVEL = 30
"""The level that exports are checked at: Android 11, the first that resizes by half pixels and quantises to int8."""
NNAPI_1_1, NNAPI_1_2, NNAPI_1_3 = 28, 29, 30

FLOATS = ("FLOAT32",)
BOTH = ("FLOAT32", "INT8")


@dataclass(frozen=True)
class Rule:
    """When the delegate offers an operator to NNAPI."""

    version: int
    """Highest version of the operator, as op_version.cc counts them."""
    types: tuple[str, ...] = BOTH
    """Types of the main input and the outputs. int32, which the delegate takes for a few, is left out: no image is int32."""
    since: int = LEVELS[0]
    """Lowest feature level."""
    int8: int = LEVELS[0]
    """Lowest feature level for int8."""
    constant: tuple[int, ...] = ()
    """Inputs that must be constants."""
    main: int = 0
    """Position of the input that decides the type."""


RULES = {
    # No bias is added for these two, as it is for FULLY_CONNECTED and TRANSPOSE_CONV (Map, add_zero_bias).
    "CONV_2D": Rule(5, int8=NNAPI_1_2),
    "DEPTHWISE_CONV_2D": Rule(3, int8=NNAPI_1_2),
    "FULLY_CONNECTED": Rule(5, int8=NNAPI_1_2),
    "TRANSPOSE_CONV": Rule(4, since=NNAPI_1_2, constant=(0, 1), main=2),
    "ADD": Rule(2),
    "SUB": Rule(3, since=NNAPI_1_1, int8=NNAPI_1_2),
    "MUL": Rule(3),
    "DIV": Rule(1, types=FLOATS, since=NNAPI_1_1),
    "MINIMUM": Rule(3, since=NNAPI_1_2),
    "MAXIMUM": Rule(3, since=NNAPI_1_2),
    "RELU": Rule(2),
    "RELU_N1_TO_1": Rule(2),
    "RELU6": Rule(2),
    "LOGISTIC": Rule(2),
    "TANH": Rule(2, int8=NNAPI_1_2),
    # The delegate asks for no version, and there is one. Before 29 it is put together from other operators.
    "HARD_SWISH": Rule(1),
    "LEAKY_RELU": Rule(1, since=NNAPI_1_2),
    "PRELU": Rule(1, since=NNAPI_1_2),
    "SOFTMAX": Rule(2),
    "MAX_POOL_2D": Rule(2),
    "AVERAGE_POOL_2D": Rule(2),
    # Constant operands of PAD, PADV2, MEAN and the reductions are our demand: a computed one leaves the output's shape open.
    "MEAN": Rule(2, since=NNAPI_1_1, int8=NNAPI_1_2, constant=(1,)),
    "PAD": Rule(2, since=NNAPI_1_1, int8=NNAPI_1_2, constant=(1,)),
    "PADV2": Rule(2, since=NNAPI_1_2, constant=(1,)),
    "CONCATENATION": Rule(2),
    "RESIZE_BILINEAR": Rule(3, int8=NNAPI_1_2, constant=(1,)),
    "RESIZE_NEAREST_NEIGHBOR": Rule(3, since=NNAPI_1_2, constant=(1,)),
    "SPACE_TO_DEPTH": Rule(2),
    "DEPTH_TO_SPACE": Rule(2),  # the delegate asks for no version, and there are two
    "RESHAPE": Rule(1),
    "SPLIT": Rule(3, since=NNAPI_1_2, int8=NNAPI_1_3, constant=(0,), main=1),
    "SLICE": Rule(2, since=NNAPI_1_2),
    "STRIDED_SLICE": Rule(2, since=NNAPI_1_1),
    "TRANSPOSE": Rule(2, since=NNAPI_1_1, constant=(1,)),
    "EXPAND_DIMS": Rule(1, since=NNAPI_1_2, constant=(1,)),
    "GATHER": Rule(2, since=NNAPI_1_2),
    "SQUARED_DIFFERENCE": Rule(2, since=NNAPI_1_1, int8=NNAPI_1_3),
    "REDUCE_MAX": Rule(2, since=NNAPI_1_2, constant=(1,)),
    "REDUCE_MIN": Rule(2, since=NNAPI_1_2, constant=(1,)),
    "SUM": Rule(1, types=FLOATS, since=NNAPI_1_2, constant=(1,)),
    "NEG": Rule(2, types=FLOATS, since=NNAPI_1_2),
    "ELU": Rule(1, types=FLOATS, since=NNAPI_1_3),
    **{name: Rule(1, types=FLOATS, since=NNAPI_1_2) for name in ("SQRT", "EXP", "LOG", "ABS", "POW")},
    # int8 needs feature level 7, which came after Android 12.
    "RSQRT": Rule(2, types=FLOATS, since=NNAPI_1_2),
    # The output is uint8 alone before level 30.
    "QUANTIZE": Rule(2, since=NNAPI_1_2, int8=NNAPI_1_3),
    "DEQUANTIZE": Rule(3, types=("INT8", "FLOAT16", "FLOAT32"), int8=NNAPI_1_2),
}
"""What the delegate checks at each level: nnapi_delegate.cc, NNAPIDelegateKernel::Validate, the `case` of the operator's name.

Read in google-ai-edge/LiteRT (tflite/delegates/nnapi), the release line of the Android app. An operator that is not here may
still be NNAPI's. The rest of what `Validate` asks of an operator is in `EXTRA`."""

LARGEST_WINDOW = 256
"""Values that NNAPI's own CPU code takes an int8 average of (Validate, AveragePool2d)."""
RANDOM = ("RANDOM", "MULTINOMIAL")


def nnapi_findings(graph: Graph, *, level: int = LEVEL) -> list[str]:
    """One sentence per node that the NNAPI delegate would leave to the CPU; empty if it offers the whole graph to the driver.

    The driver has the last word: it may leave nodes that this list lets pass.

    Args:
        graph: the model.
        level: the feature level of the phone's driver, 27 (Android 8.1) to 31 (Android 12); it may be lower than the phone's
            Android (GetTargetFeatureLevel).

    Raises:
        UsageError: no such level.
    """
    check_level(level)
    return [
        f"node {index} {operator.name}: {reason}"
        for index, operator in enumerate(graph.operators)
        if (reason := refusal(operator, level)) is not None
    ]


def check_level(level: int) -> None:
    """Refuse a feature level that is not known.

    Raises:
        UsageError: says which are.
    """
    if level not in LEVELS:
        raise UsageError(f"unknown feature level {level} of NNAPI: known are {LEVELS[0]} to {LEVELS[-1]}")


def refusal(operator: Operator, level: int = LEVEL) -> str | None:
    """Why the delegate does not offer an operator at a feature level; None if it does."""
    rule = RULES.get(operator.name)
    if rule is None:
        return "not on our list of NNAPI's operators"
    if level < rule.since:
        return _needs(rule.since)
    if operator.version > rule.version:
        return f"version {operator.version}, NNAPI takes up to {rule.version}"
    needed = 1 + max((rule.main, *rule.constant))
    if len(operator.inputs) < needed or not operator.outputs:
        return f"{len(operator.inputs)} inputs and {len(operator.outputs)} outputs"
    tensors = [tensor for tensor in (*operator.inputs, *operator.outputs) if tensor is not None]
    return (
        next((reason for tensor in tensors if (reason := _tensor_refusal(tensor)) is not None), None)
        or _type_refusal(operator, rule, level)
        or _constant_refusal(operator, rule)
        or (EXTRA[operator.name](operator, level) if operator.name in EXTRA else None)
    )


def _needs(level: int, what: str = "") -> str:
    return f"{what + ' ' if what else ''}needs feature level {level}"


def _tensor_refusal(tensor: TensorInfo) -> str | None:
    """Ours for every operator. `Validate` asks for the rank in places; the operations of NNAPI's own list end at rank 4."""
    if tensor.dynamic:
        return f"{tensor.name} has an open dimension"
    if len(tensor.shape) > 4:
        return f"{tensor.name} has rank {len(tensor.shape)}, NNAPI takes up to 4"
    return None


def _type_refusal(operator: Operator, rule: Rule, level: int) -> str | None:
    for tensor in (operator.inputs[rule.main], *operator.outputs):
        if tensor is not None and tensor.type not in rule.types:
            return f"{tensor.name} is {tensor.type}, NNAPI takes {' or '.join(rule.types)}"
        if tensor is not None and tensor.type == "INT8" and level < rule.int8:
            return f"{tensor.name} is INT8, which {_needs(rule.int8)}"
    return None


def _constant_refusal(operator: Operator, rule: Rule) -> str | None:
    for position in rule.constant:
        tensor = operator.inputs[position]
        if tensor is not None and not tensor.constant_bytes:
            return f"input {position} is not a constant"
    return None


def _is_hybrid(image: TensorInfo | None, weight: TensorInfo | None) -> bool:
    """Float input with int8 weights: what the dynamic variant is made of."""
    return image is not None and image.type == "FLOAT32" and weight is not None and weight.type == "INT8"


def _is_dilated(operator: Operator) -> bool:
    return max(operator.options.get("DilationWFactor", 1), operator.options.get("DilationHFactor", 1)) > 1


def _convolution(operator: Operator, level: int) -> str | None:
    """Validate, Conv2d. Weights in int8 below a float input are dequantised first (AddDequantizeOperatorsWhereNeeded).

    Grouped convolutions are operations of NNAPI's own (Map, is_grouped_conv), but today's converters write them in version 6.
    """
    if len(operator.inputs) != 3 or operator.inputs[2] is None:
        return "no bias"
    if level >= NNAPI_1_2:
        return None
    image, weight = operator.inputs[:2]
    if _is_hybrid(image, weight):
        return _needs(NNAPI_1_2, "float input with int8 weights")
    if _is_dilated(operator):
        return _needs(NNAPI_1_2, "dilation")
    if image and weight and image.shape[-1:] != weight.shape[-1:]:
        return _needs(NNAPI_1_2, "grouped convolution")
    return None


def _depthwise(operator: Operator, level: int) -> str | None:
    """Validate, DepthwiseConv2d; weights in int8 below a float input are dequantised for CONV_2D and FULLY_CONNECTED alone."""
    if len(operator.inputs) != 3 or operator.inputs[2] is None:
        return "no bias"
    if _is_hybrid(*operator.inputs[:2]):
        return "float input with int8 weights"
    if level < NNAPI_1_2 and _is_dilated(operator):
        return _needs(NNAPI_1_2, "dilation")
    return None


def _fully_connected(operator: Operator, level: int) -> str | None:
    """Validate, FullyConnected."""
    if level < NNAPI_1_2 and len(operator.inputs) > 1 and _is_hybrid(*operator.inputs[:2]):
        return _needs(NNAPI_1_2, "float input with int8 weights")
    if level < NNAPI_1_3 and operator.options.get("KeepNumDims", 0):
        return _needs(NNAPI_1_3, "an output of the input's rank")
    return None


def _transposed(operator: Operator, level: int) -> str | None:
    """Map, TransposeConv: it has no variation with int8 weights below a float input."""
    weight, image = operator.inputs[1:3]
    return "float input with int8 weights" if _is_hybrid(image, weight) else None


def _multiplication(operator: Operator, level: int) -> str | None:
    """Validate, Mul: version 3 only where the app demands a driver, as ours does from level 29 on (ShouldUseTargetDevices)."""
    return _needs(NNAPI_1_2, "version 3") if level < NNAPI_1_2 and operator.version > 2 else None


def _average(operator: Operator, level: int) -> str | None:
    """Validate, AveragePool2d: the limit of NNAPI's own CPU code, which our app leaves out from level 29 on."""
    window = operator.options.get("FilterWidth", 0) * operator.options.get("FilterHeight", 0)
    first = operator.inputs[0]
    if level < NNAPI_1_2 and first is not None and first.type == "INT8" and window > LARGEST_WINDOW:
        return _needs(NNAPI_1_2, f"an int8 window of more than {LARGEST_WINDOW} values ({window})")
    return None


def _limits(operator: Operator, level: int) -> str | None:
    """Validate, Maximum and Minimum: an operand without a shape must be a constant. Two computed tensors are fine."""
    for position, tensor in enumerate(operator.inputs):
        if tensor is not None and not tensor.shape and not tensor.constant_bytes:
            return f"input {position} is a single value and not a constant"
    return None


def _softmax(operator: Operator, level: int) -> str | None:
    """Validate, Softmax."""
    first = operator.inputs[0]
    if level < NNAPI_1_2 and first is not None and len(first.shape) not in (2, 4):
        return _needs(NNAPI_1_2, f"rank {len(first.shape)}")
    return None


def _reduction(operator: Operator, level: int) -> str | None:
    """Validate, Mean and Sum; of ReduceMax and ReduceMin the same is our demand."""
    return None if operator.outputs[0].shape else "the output is a single value"


def _gathering(operator: Operator, level: int) -> str | None:
    """Validate, Gather."""
    places = operator.inputs[1] if len(operator.inputs) > 1 else None
    if places is None:
        return "no positions"
    if places.type != "INT32":
        return f"{places.name} is {places.type}, NNAPI takes INT32"
    return None if places.shape else f"{places.name} is a single position"


def _padding(operator: Operator, level: int) -> str | None:
    """Validate, Pad and Padv2: a third input is the padding's value."""
    return _needs(NNAPI_1_2, "a padding value") if level < NNAPI_1_2 and len(operator.inputs) > 2 else None


def _concatenation(operator: Operator, level: int) -> str | None:
    """Validate, Concatenation."""
    return "a fused activation" if operator.options.get("FusedActivationFunction", 0) else None


def _resizing(operator: Operator, level: int) -> str | None:
    """Validate, ResizeBilinear and ResizeNearestNeighbor. 29 is not enough for corners and half pixels."""
    for option, words in (("AlignCorners", "aligned corners"), ("HalfPixelCenters", "half-pixel centres")):
        if level < NNAPI_1_3 and operator.options.get(option, 0):
            return _needs(NNAPI_1_3, words)
    first, output = operator.inputs[0], operator.outputs[0]
    if operator.name == "RESIZE_BILINEAR":
        if first is not None and len(first.shape) != 4:
            return f"{first.name} has rank {len(first.shape)}, NNAPI takes 4"
        if level < NNAPI_1_2 and output.shape[1:2] != output.shape[2:3]:
            return _needs(NNAPI_1_2, "an output that is not square")
    return None


def _reshaping(operator: Operator, level: int) -> str | None:
    """Validate, Reshape: the shape is an option or a second input."""
    shape = operator.inputs[1] if len(operator.inputs) > 1 else None
    return "input 1 is not a constant" if shape is not None and not shape.constant_bytes else None


def _dequantization(operator: Operator, level: int) -> str | None:
    """Validate, Dequantize.

    A constant of half precision is folded before the delegate sees it, which keeps float16 models whole
    (IsDequantizeConstFloat16).
    """
    first = operator.inputs[0]
    if first is None or first.type == "FLOAT16":
        computed = first is not None and not first.constant_bytes
        return _needs(NNAPI_1_3, "a computed FLOAT16") if computed and level < NNAPI_1_3 else None
    if operator.version > 2:
        return f"version {operator.version}, NNAPI takes up to 2"
    if level == NNAPI_1_2 and first.type == "INT8" and any(first.zero_points):
        return _needs(NNAPI_1_3, "a zero point other than 0")
    return None


EXTRA: dict[str, Callable[[Operator, int], str | None]] = {
    "CONV_2D": _convolution,
    "DEPTHWISE_CONV_2D": _depthwise,
    "FULLY_CONNECTED": _fully_connected,
    "TRANSPOSE_CONV": _transposed,
    "MUL": _multiplication,
    "AVERAGE_POOL_2D": _average,
    "MINIMUM": _limits,
    "MAXIMUM": _limits,
    "SOFTMAX": _softmax,
    "MEAN": _reduction,
    "SUM": _reduction,
    "REDUCE_MAX": _reduction,
    "REDUCE_MIN": _reduction,
    "GATHER": _gathering,
    "PAD": _padding,
    "CONCATENATION": _concatenation,
    "RESIZE_BILINEAR": _resizing,
    "RESIZE_NEAREST_NEIGHBOR": _resizing,
    "RESHAPE": _reshaping,
    "DEQUANTIZE": _dequantization,
}
"""Operator -> what the delegate asks of it beyond its rule, at a feature level."""


def graph_findings(graph: Graph) -> list[str]:
    """What every model of ours must not hold; empty if all is well."""
    found = []
    (image,) = graph.inputs if len(graph.inputs) == 1 else (None,)
    if image is None:
        return [f"the model has {len(graph.inputs)} inputs, one is expected"]
    if len(image.shape) != 4 or image.shape[-1] not in (1, 3):
        found.append(f"the input {image.name} is {image.shape}, not (1, H, W, 3) or (1, H, W, 1)")
    for tensor in graph.outputs:
        # An answer's scores are no image; the contract gives their shape.
        if tensor.name != SCORES and not _is_upload(tensor, image):
            found.append(f"the output {tensor.name} is {tensor.shape}, not channels last")
    constants = _constants(graph)
    sizes = {image.shape[1:3], *(tensor.shape[1:3] for tensor in graph.outputs if tensor.name != SCORES)}
    for index, operator in enumerate(graph.operators):
        node = f"node {index} {operator.name}"
        if operator.name == "TRANSPOSE":
            found.append(f"{node}: the layout changes inside the model")
        if any(word in operator.name for word in RANDOM):
            found.append(f"{node} is random: noise belongs to the sampler")
        found += [
            f"{node}: the constant {tensor.name} {tensor.shape} is as large as an image: a frozen random draw?"
            for tensor in operator.inputs
            if tensor is not None
            and tensor.index in constants
            and any(_as_large(tensor, size, operator) for size in sizes)
        ]
    return found


def _constants(graph: Graph) -> set[int]:
    """Tensors that are the same for every image: stored, or a stored one in another precision (the float16 variant)."""
    fixed = {
        tensor.index
        for operator in graph.operators
        for tensor in operator.inputs
        if tensor is not None and tensor.constant_bytes
    }
    for operator in graph.operators:
        first = operator.inputs[0] if operator.inputs else None
        if operator.name == "DEQUANTIZE" and first is not None and first.index in fixed:
            fixed |= {tensor.index for tensor in operator.outputs}
    return fixed


WEIGHTED = ("CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "FULLY_CONNECTED", "DEQUANTIZE")
"""Operators whose constants are weights: their shape can show a stored image, their size cannot."""


def _is_upload(tensor: TensorInfo, image: TensorInfo) -> bool:
    """Whether an output is channels last and has the image's height and width, or an upload's that is smaller by 2 or 4."""
    sizes = [tuple(side // by for side in image.shape[1:3]) for by in SUBSAMPLES]
    return len(tensor.shape) == 4 and tuple(tensor.shape[1:3]) in sizes


def _as_large(tensor: TensorInfo, size: tuple[int, ...], operator: Operator) -> bool:
    """Whether a constant has this height and width, in either layout, or as many values as there are pixels."""
    if len(tensor.shape) >= 3 and size in (tensor.shape[-3:-1], tensor.shape[-2:]):
        return True
    return operator.name not in WEIGHTED and math.prod(tensor.shape) >= math.prod(size)


def xnnpack_partitions(session: Session) -> int | None:
    """Partitions that XNNPACK made of the graph; 1 means the whole graph runs in it.

    A single partition counts only if it leads from the model's input to all its outputs. None: this runtime has no
    XNNPACK, or does not report it.
    """
    delegates = [node for node in _nodes(session) if node["op_name"] == "DELEGATE"]
    if not delegates:
        return None
    (entry,) = session.inputs.values()
    wanted = {detail["index"] for detail in session.outputs.values()}
    reads = {int(i) for node in delegates for i in node["inputs"]}
    writes = {int(i) for node in delegates for i in node["outputs"]}
    if len(delegates) == 1 and (entry["index"] not in reads or not wanted <= writes):
        return 2  # some nodes before or after it stayed with the reference kernels
    return len(delegates)


def xnnpack_findings(session: Session) -> list[str]:
    """One sentence per node that XNNPACK left to the reference kernels; empty as well if there is no XNNPACK."""
    nodes = _nodes(session)
    delegates = [node for node in nodes if node["op_name"] == "DELEGATE"]
    own = {index: node for index, node in enumerate(nodes) if node["op_name"] != "DELEGATE"}
    makers = {int(tensor): index for index, node in own.items() for tensor in node["outputs"]}
    taken: set[int] = set()
    for delegate in delegates:  # from its outputs back to its inputs: what lies between, it took
        seen, left = {int(tensor) for tensor in delegate["inputs"]}, [int(t) for t in delegate["outputs"]]
        while left:
            tensor = left.pop()
            if tensor in makers and tensor not in seen:
                seen.add(tensor)
                taken.add(makers[tensor])
                left += [int(source) for source in own[makers[tensor]]["inputs"]]
    return [
        f"node {index} {node['op_name']}: XNNPACK leaves it to the reference kernels"
        for index, node in own.items()
        if delegates and index not in taken
    ]


def _nodes(session: Session) -> Sequence[Any]:
    """The interpreter's nodes, those that a delegate took and the delegate's own; empty if it does not report them."""
    details = getattr(session.interpreter, "_get_ops_details", None)
    return [] if details is None else list(details())
