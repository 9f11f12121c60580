"""Where the time of a model goes on this computer: the model is cut after each layer, and neighbours are subtracted.

An interpreter's own profiler sees an XNNPACK partition as one node. A model cut short runs in the same way up to the cut, so
what a layer adds is the difference of two medians; both carry the noise of the machine, and a layer can come out a little
below zero.

    layers = measure_layers(content, machine, int8=True)
    max(layers, key=lambda layer: layer.ms).name
"""

import importlib
from itertools import pairwise
from typing import Any

from sfumato.bench.arithmetic import layer_of, shortest_by_layer
from sfumato.bench.results import LayerTime, Machine
from sfumato.bench.standard import runner
from sfumato.bench.timing import interleave
from sfumato.runtime.tflite_graph import read_graph

ROUNDS, RUNS, SECONDS = 20, 400, 4.0
ABSORBED = ("PAD", "DEQUANTIZE")
"""XNNPACK runs a padding inside the convolution behind it, and widens float16 constants before the first run."""


def measure_layers(content: bytes, machine: Machine, *, int8: bool) -> tuple[LayerTime, ...]:
    """What each layer of a model adds to its time with XNNPACK on one thread, and the shortest it could take.

    Args:
        content: of a .tflite file.
        machine: what it could do at most.
        int8: whether the model computes in int8.
    """
    graph = read_graph(content)
    ends = [index for index, operator in enumerate(graph.operators) if operator.name not in ABSORBED]
    calls = {str(end): runner(cut(content, end)) for end in ends}
    times = interleave(calls, rounds=ROUNDS, runs=RUNS, seconds=SECONDS)
    # The quicker half of the runs is the machine when it is left alone.
    reached = [0.0, *(times[str(end)].p(25) for end in ends)]
    works = [layer_of(operator) for operator in graph.operators]
    roofs = shortest_by_layer(works, machine, int8=int8)
    found = []
    for (start, end), (before, after) in zip(pairwise([-1, *ends]), pairwise(reached), strict=True):
        own = [index for index in range(start + 1, end + 1) if works[index].name != "DEQUANTIZE"]
        layer = LayerTime(
            name=" + ".join(works[index].name for index in own),
            shape=graph.operators[end].outputs[0].shape,
            macs=sum(works[index].macs for index in own),
            bytes=sum(works[index].moved for index in own),
            ms=after - before,
            shortest_ms=sum(roofs[index] for index in own),
        )
        found.append(layer)
    return tuple(found)


def cut(content: bytes, last: int) -> bytes:
    """The model up to operator `last`; what nobody consumes any more becomes an output, so that nothing is left out."""
    schema: Any = importlib.import_module("ai_edge_litert.schema_py_generated")
    flatbuffers: Any = importlib.import_module("flatbuffers")
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content))
    graph = model.subgraphs[0]
    graph.operators = graph.operators[: last + 1]
    consumed = {tensor for operator in graph.operators for tensor in operator.inputs}
    made = [tensor for operator in graph.operators for tensor in operator.outputs]
    graph.outputs = [tensor for tensor in made if tensor not in consumed]
    model.signatureDefs = []
    builder = flatbuffers.Builder(len(content))
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())
