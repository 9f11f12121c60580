"""What can be said of an ONNX graph without running it: attributes, numbers that are known before, zeros around a picture.

nodes, constants = sort_out(model.graph)
merge_pads(model)                       # in place: Pad and Conv become one
"""

from collections import Counter
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

Node = Any


def attributes(node: Node) -> dict[str, Any]:
    """Attributes of a node as plain values."""
    return {entry.name: onnx.helper.get_attribute_value(entry) for entry in node.attribute}


def read_by(node: Node) -> list[str]:
    """Names of all that a node reads, those within its branches and loops included."""
    names = list(node.input)
    for entry in node.attribute:
        for graph in (*entry.graphs, *([entry.g] if entry.HasField("g") else [])):
            names += [name for inner in graph.node for name in read_by(inner)]
            names += [out.name for out in graph.output]
    return names


def sort_out(graph: Any) -> tuple[list[Node], dict[str, Any]]:
    """The nodes that compute something from the image, and every number that is known before, by its name: initializers,
    Constant nodes, shapes, and what follows from them."""
    constants = {entry.name: numpy_helper.to_array(entry) for entry in graph.initializer}
    known = {entry.name: entry.type.tensor_type.shape.dim for entry in (*graph.value_info, *graph.input)}
    nodes = []
    for node in graph.node:
        shape = [axis.dim_value for axis in known.get(node.input[0], ())] if node.op_type == "Shape" else []
        if node.op_type == "Constant":
            constants[node.output[0]] = numpy_helper.to_array(attributes(node)["value"])
        elif shape and all(shape):
            given = attributes(node)
            constants[node.output[0]] = np.array(shape[given.get("start", 0) : given.get("end")], np.int64)
        elif node.input and all(name in constants or not name for name in node.input):
            found = ReferenceEvaluator(node).run(None, {name: constants[name] for name in node.input if name})
            constants.update(zip(node.output, found, strict=True))
        else:
            nodes.append(node)
    return nodes, constants


def zeros_around(node: Node, pads: Any, value: Any = None, axes: Any = None) -> list[int] | None:
    """Rows and columns of zeros that a Pad puts around pictures (B, C, H, W): top, left, bottom, right.

    Args:
        node: the Pad.
        pads, value, axes: its inputs behind the picture; None where it has none.

    Returns:
        None where it does anything else.
    """
    if attributes(node).get("mode", b"constant") != b"constant" or axes is not None:
        return None
    if not isinstance(pads, np.ndarray) or pads.shape != (8,) or pads.min() < 0:
        return None
    if value is not None and (not isinstance(value, np.ndarray) or np.any(value)):
        return None
    _, _, top, left, _, _, bottom, right = pads.tolist()
    return [top, left, bottom, right] if pads.sum() == top + left + bottom + right else None


def merge_pads(model: Any) -> None:
    """Make every Pad of zeros that one Conv alone reads part of that Conv, in place.

    PyTorch can pad evenly alone, and writes a Pad for anything else. ONNX's Conv can pad each side by itself.
    """
    graph = model.graph
    pads = [node for node in graph.node if node.op_type == "Pad"]
    if not pads:
        return
    _, constants = sort_out(graph)
    uses = Counter(
        [*(name for node in graph.node for name in read_by(node)), *(out.name for out in graph.output)]
    )
    convolutions = {node.input[0]: node for node in graph.node if node.op_type == "Conv"}
    for node in pads:
        reader = convolutions.get(node.output[0])
        if (
            reader is None
            or uses[node.output[0]] != 1
            or attributes(reader).get("auto_pad", b"NOTSET") != b"NOTSET"
        ):
            continue
        # A value that is no constant is no number that is known before, and so no zero.
        more = [constants.get(name, name) if name else None for name in node.input[1:]]
        around = zeros_around(node, *more)
        if around is None:
            continue
        own = attributes(reader).get("pads", [0, 0, 0, 0])
        others = [entry for entry in reader.attribute if entry.name != "pads"]
        total = onnx.helper.make_attribute("pads", [a + b for a, b in zip(own, around, strict=True)])
        del reader.attribute[:]
        reader.attribute.extend(sorted([*others, total], key=lambda entry: entry.name))
        reader.input[0] = node.input[0]
        graph.node.remove(node)
    drop_unused(graph)


def drop_unused(graph: Any) -> None:
    """Take away, in place, what no output depends on: nodes, initializers and notes of shapes."""
    needed = {out.name for out in graph.output}
    for node in reversed(list(graph.node)):
        if needed.isdisjoint(node.output):
            graph.node.remove(node)
        else:
            needed.update(read_by(node))
    needed.update(name for node in graph.node for name in node.output)
    for entries in (graph.initializer, graph.value_info):
        for entry in list(entries):
            if entry.name not in needed:
                entries.remove(entry)
