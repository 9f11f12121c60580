"""What a .tflite file asks of a machine: parameters, multiply-accumulates, bytes moved; and the time that takes at least.

Counted from the file alone, so the same count holds for every method and every target. Zeros that lengthen a strided kernel
(`sfumato.export.lowering`) count: they are executed.

    layers = read_layers(content)
    sum(layer.macs for layer in layers)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from sfumato.bench.results import Machine
from sfumato.runtime.tflite_graph import Graph, Operator, TensorInfo, read_graph

WEIGHTS = {
    "CONV_2D": (1, 2),
    "DEPTHWISE_CONV_2D": (1, 2),
    "FULLY_CONNECTED": (1, 2),
    "TRANSPOSE_CONV": (1, 3),
}
"""Operator -> positions of weight and bias."""
BYTES = {"INT8": 1, "UINT8": 1, "FLOAT16": 2, "INT16": 2, "FLOAT32": 4, "INT32": 4, "INT64": 8}


@dataclass(frozen=True)
class Layer:
    """One operator."""

    name: str
    params: int
    macs: int
    moved: int
    """Bytes of its inputs, weights and outputs, each once."""


def read_layers(content: bytes) -> tuple[Layer, ...]:
    """The layers of a model's file, in order of execution."""
    return layers_of(read_graph(content))


def layers_of(graph: Graph) -> tuple[Layer, ...]:
    """The layers of a graph."""
    # Those of float16 constants are folded before the first run.
    return tuple(layer_of(op) for op in graph.operators if op.name != "DEQUANTIZE")


def layer_of(operator: Operator) -> Layer:
    """What one operator asks for."""
    moved = sum(map(_bytes, (*operator.inputs, *operator.outputs)))
    return Layer(operator.name, _params(operator), _macs(operator), moved)


def shortest_ms(layers: Sequence[Layer], machine: Machine, *, int8: bool) -> float:
    """Milliseconds below which one thread of this machine cannot run these layers: the sum over them."""
    return sum(shortest_by_layer(layers, machine, int8=int8))


def shortest_by_layer(layers: Sequence[Layer], machine: Machine, *, int8: bool) -> list[float]:
    """The same for every layer.

    The longer of two times counts (Williams, Waterman and Patterson, "Roofline", 2009): its
    multiply-accumulates at the highest rate that was measured, or its bytes at the speed of a copy whose buffers take as much
    room as the largest layer.
    """
    rate = 1e9 * (machine.int8_gmac_per_s if int8 else machine.float32_gmac_per_s)
    speed = 1e9 * copy_speed(machine, max(layer.moved for layer in layers))
    return [1000 * max(layer.macs / rate, layer.moved / speed) for layer in layers]


def copy_speed(machine: Machine, room: int) -> float:
    """GB/s of the smallest measured buffer that is at least `room` bytes, or of the largest there is."""
    sizes = sorted((int(size), speed) for size, speed in machine.copy_gb_per_s.items())
    return next((speed for size, speed in sizes if 1024 * size >= room), sizes[-1][1])


def _params(operator: Operator) -> int:
    tensors = [operator.inputs[i] for i in WEIGHTS.get(operator.name, ()) if i < len(operator.inputs)]
    return sum(prod(tensor.shape) for tensor in tensors if tensor is not None)


def _macs(operator: Operator) -> int:
    if operator.name not in WEIGHTS:
        return 0
    weight, made = operator.inputs[1], operator.outputs[0]
    assert weight is not None
    if operator.name == "DEPTHWISE_CONV_2D":  # weight (1, kh, kw, planes)
        return prod(made.shape) * prod(weight.shape[1:3])
    if operator.name == "TRANSPOSE_CONV":  # every input value meets every weight of its plane
        source = operator.inputs[2]
        assert source is not None
        return prod(source.shape[:3]) * prod(weight.shape)
    return prod(made.shape) * prod(weight.shape[1:])  # weight (outputs, ..., inputs)


def _bytes(tensor: TensorInfo | None) -> int:
    return 0 if tensor is None else prod(tensor.shape) * BYTES.get(tensor.type, 4)
