"""Whether a delegate takes the whole graph, read from the file, with the reason for every node that it refuses.

`nnapi_findings` follows TensorFlow Lite's own nnapi_delegate.cc for Android API 30: operator, version, type, rank and which
operands must be constant. `graph_findings` holds what we ask of every model: channels last, no TRANSPOSE, nothing random, no
constant as large as an image. `xnnpack_partitions` and `xnnpack_findings` ask a real interpreter.

    findings = nnapi_findings(read_graph(content))
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sfumato.runtime.contract import SCORES
from sfumato.runtime.interpreter import Session
from sfumato.runtime.tflite_graph import Graph, Operator, TensorInfo

FLOATS = ("FLOAT32",)
BOTH = ("FLOAT32", "INT8")


@dataclass(frozen=True)
class Rule:
    """When NNAPI takes an operator."""

    version: int
    """Highest version."""
    types: tuple[str, ...] = BOTH
    """Types of the first input and the output."""
    constant: tuple[int, ...] = ()
    """Inputs that must be constants."""
    bias: bool = False
    """A third input is needed."""
    some_constant: bool = False
    """One of two operands must be a constant."""


RULES = {
    "CONV_2D": Rule(5, constant=(1, 2), bias=True),
    "DEPTHWISE_CONV_2D": Rule(3, constant=(1, 2), bias=True),
    "TRANSPOSE_CONV": Rule(4, constant=(0, 1)),
    "ADD": Rule(2),
    "SUB": Rule(3),
    "MUL": Rule(3),
    "RELU": Rule(2),
    "RELU6": Rule(2),
    "LOGISTIC": Rule(2),
    "TANH": Rule(2),
    "MINIMUM": Rule(3, some_constant=True),
    "MAXIMUM": Rule(3, some_constant=True),
    "CONCATENATION": Rule(2),
    "RESIZE_BILINEAR": Rule(3, constant=(1,)),
    "RESIZE_NEAREST_NEIGHBOR": Rule(3, constant=(1,)),
    "SPACE_TO_DEPTH": Rule(2),
    "DEPTH_TO_SPACE": Rule(2),  # the delegate asks for no version, and there are two
    "PAD": Rule(2, constant=(1,)),
    "MAX_POOL_2D": Rule(2),
    "AVERAGE_POOL_2D": Rule(2),
    "MEAN": Rule(2, constant=(1,)),
    "HARD_SWISH": Rule(1),
    "LEAKY_RELU": Rule(1),
    "PRELU": Rule(1, constant=(1,)),
    "SOFTMAX": Rule(2),
    "FULLY_CONNECTED": Rule(5, constant=(1,)),
    "PADV2": Rule(2, constant=(1,)),
    "SPLIT": Rule(3, constant=(0,)),
    "SLICE": Rule(2),
    **{name: Rule(1, types=FLOATS) for name in ("DIV", "RSQRT", "SQRT", "EXP", "LOG", "ABS", "POW")},
    "RESHAPE": Rule(1, constant=(1,)),
    "STRIDED_SLICE": Rule(2),
    "QUANTIZE": Rule(2),
    "DEQUANTIZE": Rule(3, types=("INT8", "FLOAT16", "FLOAT32")),
}
"""NNAPI at API 30. DEQUANTIZE of constants is folded before the delegate sees it, which keeps float16 models whole."""

LARGEST_WINDOW = 256
"""Values that an int8 average may be taken of, by the delegate's own limit."""
RANDOM = ("RANDOM", "MULTINOMIAL")


def nnapi_findings(graph: Graph) -> list[str]:
    """One sentence per node that NNAPI would leave to the CPU; empty if it takes the whole graph."""
    return [
        f"node {index} {operator.name}: {reason}"
        for index, operator in enumerate(graph.operators)
        if (reason := refusal(operator)) is not None
    ]


def refusal(operator: Operator) -> str | None:
    """Why NNAPI does not take an operator; None if it does."""
    rule = RULES.get(operator.name)
    if rule is None:
        return "NNAPI has no such operator"
    if operator.version > rule.version:
        return f"version {operator.version}, NNAPI takes up to {rule.version}"
    needed = 1 + max((0, *rule.constant))
    if len(operator.inputs) < needed or not operator.outputs:
        return f"{len(operator.inputs)} inputs and {len(operator.outputs)} outputs"
    tensors = [tensor for tensor in (*operator.inputs, *operator.outputs) if tensor is not None]
    return (
        next((reason for tensor in tensors if (reason := _tensor_refusal(tensor)) is not None), None)
        or _type_refusal(operator, rule)
        or _constant_refusal(operator, rule)
        or _option_refusal(operator)
    )


def _tensor_refusal(tensor: TensorInfo) -> str | None:
    if tensor.dynamic:
        return f"{tensor.name} has an open dimension"
    if len(tensor.shape) > 4:
        return f"{tensor.name} has rank {len(tensor.shape)}, NNAPI takes up to 4"
    return None


def _type_refusal(operator: Operator, rule: Rule) -> str | None:
    main = operator.inputs[{"TRANSPOSE_CONV": 2, "SPLIT": 1}.get(operator.name, 0)]
    for tensor in (main, *operator.outputs):
        if tensor is not None and tensor.type not in rule.types:
            return f"{tensor.name} is {tensor.type}, NNAPI takes {' or '.join(rule.types)}"
    # A float operator with int8 weights (the dynamic variant) has no counterpart in NNAPI.
    if main is not None and main.type == "FLOAT32" and operator.name in ("CONV_2D", "DEPTHWISE_CONV_2D"):
        weight = operator.inputs[1]
        if weight is not None and weight.type == "INT8":
            return "float input with int8 weights"
    return None


def _constant_refusal(operator: Operator, rule: Rule) -> str | None:
    if rule.bias and (len(operator.inputs) < 3 or operator.inputs[2] is None):
        return "no bias"
    for position in rule.constant:
        tensor = operator.inputs[position]
        # The float16 variant's weights come from a DEQUANTIZE, which is folded into a constant at load time.
        if tensor is not None and not tensor.constant_bytes and operator.name not in _FED_BY_DEQUANTIZE:
            return f"input {position} is not a constant"
    if rule.some_constant and not any(t is not None and t.constant_bytes for t in operator.inputs):
        return "neither operand is a constant"
    return None


_FED_BY_DEQUANTIZE = ("CONV_2D", "DEPTHWISE_CONV_2D")


def _option_refusal(operator: Operator) -> str | None:
    options = operator.options
    dilated = max(options.get("DilationWFactor", 1), options.get("DilationHFactor", 1)) > 1
    first = operator.inputs[0]
    if dilated and operator.name == "DEPTHWISE_CONV_2D" and first is not None and first.type == "INT8":
        return "int8 with dilation"
    if options.get("FusedActivationFunction", 0) and operator.name == "CONCATENATION":
        return "a fused activation"
    window = options.get("FilterWidth", 0) * options.get("FilterHeight", 0)
    if (
        operator.name == "AVERAGE_POOL_2D"
        and first is not None
        and first.type == "INT8"
        and window > LARGEST_WINDOW
    ):
        return f"an int8 window of {window} values, NNAPI takes up to {LARGEST_WINDOW}"
    weight = operator.inputs[1] if len(operator.inputs) > 1 else None
    if operator.name == "CONV_2D" and first and weight and first.shape[-1:] != weight.shape[-1:]:
        return "grouped convolution"
    return None


def graph_findings(graph: Graph) -> list[str]:
    """What every model of ours must not hold; empty if all is well."""
    found = []
    (image,) = graph.inputs if len(graph.inputs) == 1 else (None,)
    if image is None:
        return [f"the model has {len(graph.inputs)} inputs, one is expected"]
    if len(image.shape) != 4 or image.shape[-1] != 3:
        found.append(f"the input {image.name} is {image.shape}, not (1, H, W, 3)")
    for tensor in graph.outputs:
        # An answer's scores are no image; the contract gives their shape.
        if tensor.name != SCORES and (len(tensor.shape) != 4 or tensor.shape[1:3] != image.shape[1:3]):
            found.append(f"the output {tensor.name} is {tensor.shape}, not channels last")
    constants = _constants(graph)
    for index, operator in enumerate(graph.operators):
        node = f"node {index} {operator.name}"
        if operator.name == "TRANSPOSE":
            found.append(f"{node}: the layout changes inside the model")
        if any(word in operator.name for word in RANDOM):
            found.append(f"{node} is random: noise belongs to the sampler")
        found += [
            f"{node}: the constant {tensor.name} {tensor.shape} is as large as an image: a frozen random draw?"
            for tensor in operator.inputs
            if tensor is not None and tensor.index in constants and _as_large(tensor, image, operator)
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


def _as_large(tensor: TensorInfo, image: TensorInfo, operator: Operator) -> bool:
    """Whether a constant has the image's height and width, in either layout, or as many values as it has pixels."""
    size = image.shape[1:3]
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
