"""A provider's ONNX file as its user has it, made into the one file that a run keeps and an export ships.

    content = read_given(Path("provider.onnx"), {"gender": 2}, (64, 64), input_range="0..255", orders={"gender": (1, 0)})

Put right here, once, so that audit, export and service know nothing of it: weights in a second file, as PyTorch's exporter
writes them; a batch of fixed length; a softmax at the end; another input range; another order of the classes. All of it becomes
part of the graph. A file that needs none of it stays as it is, to the byte.

A second file is read for the file that a user names, never for one that lies in a run or an export: those have to stand alone.
"""

from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sfumato.core.console import note
from sfumato.core.errors import SfumatoError
from sfumato.core.onnx_heads import match_heads
from sfumato.core.onnx_session import open_session
from sfumato.models.onnx.reader import LARGEST, MOVING, about, require_onnx

RANGES: Mapping[str, tuple[Sequence[float], Sequence[float]]] = {
    "0..1": ((1, 1, 1), (0, 0, 0)),
    "0..255": ((255, 255, 255), (0, 0, 0)),
    "-1..1": ((2, 2, 2), (-1, -1, -1)),
    "imagenet": ((1 / 0.229, 1 / 0.224, 1 / 0.225), (-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225)),
}
"""Input range -> factor and offset of red, green and blue that lead there from 0..1; `imagenet` is torchvision's."""
SAME = 1e-4
"""Largest difference of a logit between a batch of fixed length and an open one, per unit of the largest logit."""


def range_of(name: str, planes: int) -> tuple[Sequence[float], Sequence[float]]:
    """Factor and offset of every plane for a key of `RANGES`; of grey the green one's, the middle of the three."""
    factor, offset = RANGES[name]
    return (factor, offset) if planes == 3 else (factor[1:2], offset[1:2])


def read_given(
    path: Path,
    classes: Mapping[str, int],
    size: tuple[int, int],
    *,
    input_range: str = "0..1",
    orders: Mapping[str, Sequence[int]] | None = None,
    planes: int = 3,
) -> bytes:
    """The file, as far as necessary rewritten.

    Args:
        path: a user's ONNX file.
        classes: how many classes every kept attribute has.
        size: height and width of the images.
        input_range: a key of `RANGES`: what the network takes.
        orders: kept attribute -> for every class of the data, its place among the network's outputs; none: as they are.
        planes: of the uploads: 3 for colour, 1 for grey, which has no range of its own for each colour.

    Raises:
        SfumatoError: it cannot be read, its weights lie elsewhere, or its batch cannot be opened.
    """
    with about(path):
        onnx = require_onnx()
        if not path.is_file():
            raise SfumatoError("there is no such file")
        if path.stat().st_size > LARGEST:
            raise SfumatoError(f"it is larger than {LARGEST // 2**20} MiB, which no export may hold")
        content = path.read_bytes()
        try:
            model = onnx.load_model_from_string(content)
        except Exception:  # protobuf has types of its own
            raise SfumatoError("this is not an ONNX file") from None
        inner = [entry.name for entry in model.graph.initializer]
        images = [entry for entry in model.graph.input if entry.name not in inner]
        changed = _take_in(model.graph, path.parent)
        if len(images) != 1:
            return content  # what the reader refuses by name
        edit = _Edit(model, images[0].name)
        if images[0].type.tensor_type.shape.dim and images[0].type.tensor_type.shape.dim[0].dim_value > 0:
            edit.open_batch(model, images[0], (planes, *size))
            changed = True
        names = [output.name for output in model.graph.output]
        try:
            heads = dict(zip(classes, match_heads(names, list(classes)), strict=True))
        except SfumatoError:
            heads = {}  # the reader says so
        for head in heads.values():
            if edit.drop_softmax(head):
                note(f"{path}: the softmax of its output {head} is left out, training takes logits")
                changed = True
        if input_range != "0..1":
            edit.scale(*range_of(input_range, planes))
            changed = True
        for attribute, order in (orders or {}).items():
            if attribute in heads and list(order) != list(range(len(order))):
                edit.reorder(heads[attribute], order)
                changed = True
        if not changed:
            return content
        for part in (model.graph, *model.graph.node, *model.graph.initializer):
            part.doc_string = ""
            del part.metadata_props[:]  # PyTorch's exporter writes stack traces with the user's paths there
        rewritten: bytes = model.SerializeToString(deterministic=True)
        return rewritten


def _take_in(graph: Any, folder: Path) -> bool:
    """Read weights that lie in files beside the model; says whether there are any."""
    home, left = folder.resolve(), LARGEST
    outside = [entry for entry in graph.initializer if entry.data_location]
    for entry in outside:
        told = {pair.key: pair.value for pair in entry.external_data}
        name = told.get("location", "")
        file = (home / name).resolve()
        if not file.is_relative_to(home) or not file.is_file():
            raise SfumatoError(
                f"its weights {entry.name} lie in the file {name!r}, which is not in the folder of the network: "
                "put it there, or save the network as one file"
            )
        numbers = [told.get("offset", "0"), told.get("length", str(file.stat().st_size))]
        if not all(number.isdecimal() and len(number) < 19 for number in numbers):
            raise SfumatoError(f"its weights {entry.name} lie at no place of {name!r}")
        start, length = map(int, numbers)
        length = min(length, file.stat().st_size) if "length" not in told else length
        left -= length
        if left < 0:
            raise SfumatoError(
                f"its weights are larger than {LARGEST // 2**20} MiB, which no export may hold"
            )
        with file.open("rb") as stream:
            stream.seek(start)
            weights = stream.read(length)
        if "length" in told and len(weights) != length:
            raise SfumatoError(f"its weights {entry.name} are not whole: {name!r} is too short")
        entry.raw_data = weights
        entry.ClearField("external_data")
        entry.ClearField("data_location")
    return bool(outside)


class _Edit:
    """Changes of one graph that takes `image`."""

    def __init__(self, model: Any, image: str) -> None:
        self.model, self.graph, self.image = model, model.graph, image
        graph = model.graph
        self.onnx = require_onnx()
        taken = {name for node in graph.node for name in (*node.input, *node.output)}
        taken |= {entry.name for entry in (*graph.initializer, *graph.input, *graph.output)}
        self.fresh = (name for name in (f"sfumato_{number}" for number in count()) if name not in taken)

    def scale(self, factor: Sequence[float], offset: Sequence[float]) -> None:
        """Bring uploads in 0..1 into the network's own range."""
        inner, scaled = next(self.fresh), next(self.fresh)
        for node in self.graph.node:
            _swap(node.input, self.image, inner)
        a, b = (
            self._constant(np.array(values, np.float32).reshape(1, -1, 1, 1)) for values in (factor, offset)
        )
        self.graph.node.insert(0, self.onnx.helper.make_node("Mul", [self.image, a], [scaled]))
        self.graph.node.insert(1, self.onnx.helper.make_node("Add", [scaled, b], [inner]))

    def reorder(self, head: str, order: Sequence[int]) -> None:
        """Name the classes of an output in the order of the data."""
        inner = next(self.fresh)
        for node in self.graph.node:
            _swap(node.input, head, inner)
            _swap(node.output, head, inner)
        places = self._constant(np.array(order, np.int64))
        self.graph.node.append(self.onnx.helper.make_node("Gather", [inner, places], [head], axis=1))

    def drop_softmax(self, head: str) -> bool:
        """Let an output end before its softmax, whose input are the logits; says whether there was one."""
        makers = {name: node for node in self.graph.node for name in node.output}
        takers: dict[str, int] = {}
        for node in self.graph.node:
            for name in node.input:
                takers[name] = takers.get(name, 0) + 1
        name = head
        while name in makers and makers[name].op_type in MOVING and takers.get(name, 0) == (name != head):
            name = makers[name].input[0]
        if name not in makers or makers[name].op_type != "Softmax" or takers.get(name, 0) != (name != head):
            return False
        makers[name].op_type = "Identity"
        del makers[name].attribute[:]
        return True

    def open_batch(self, model: Any, image: Any, shape: tuple[int, int, int]) -> None:
        """Let a graph that was exported for batches of one length take any, and compare the answers.

        Raises:
            SfumatoError: it cannot, or answers something else.
        """
        before, length = model.SerializeToString(), image.type.tensor_type.shape.dim[0].dim_value
        image.type.tensor_type.shape.dim[0].dim_param = "batch"
        for output in self.graph.output:
            if output.type.tensor_type.shape.dim:
                output.type.tensor_type.shape.dim[0].dim_param = "batch"
        del self.graph.value_info[:]
        self._open_nodes(length)
        advice = (
            f"its input {image.name} is a fixed batch of {length}; export it with an open first axis: "
            "torch.onnx.export(..., dynamic_shapes=({0: torch.export.Dim('batch')},))"
        )
        probe = np.random.default_rng(0).random((3 * length, *shape), dtype=np.float32)
        try:
            fixed, opened = (
                open_session(content, name="it") for content in (before, model.SerializeToString())
            )
            parts = [fixed.run(None, {image.name: part}) for part in np.split(probe, 3)]
            found = opened.run(None, {image.name: probe})
        except Exception:  # onnxruntime has many types for what does not fit together
            raise SfumatoError(advice) from None
        for index, answers in enumerate(found):
            wanted = np.concatenate([part[index] for part in parts])
            if wanted.shape != answers.shape or not np.allclose(
                wanted, answers, rtol=0, atol=SAME * max(1.0, float(np.abs(wanted).max()))
            ):
                raise SfumatoError(advice)

    def _open_nodes(self, length: int) -> None:
        """Put an open length where shapes name it and where constants have it, as far as it is that of the first axis."""
        constants = {entry.name: entry for entry in self.graph.initializer}
        for node in self.graph.node:
            if node.op_type == "Constant" and node.attribute[0].name == "value":
                constants[node.output[0]] = node.attribute[0].t
        shapes = self._shapes(length)
        computed = {self.image}
        for node in list(self.graph.node):
            known = [name for name in node.input if name in computed]
            if not known:
                continue
            computed.update(node.output)
            if node.op_type == "Reshape" and node.input[1] in constants:
                self._open_reshape(
                    node, self.onnx.numpy_helper.to_array(constants[node.input[1]]).copy(), length
                )
            elif node.op_type == "Concat":
                for place, name in enumerate(node.input):
                    if name not in computed and len(shapes.get(name, ())) > 1:
                        node.input[place] = self._stretch(node, name, shapes[name], known[0])

    def _open_reshape(self, node: Any, shape: NDArray[np.int64], length: int) -> None:
        if not len(shape) or shape[0] <= 0:
            return
        if -1 not in shape:
            shape[0] = -1
        elif shape[0] == length and 0 not in shape:
            shape[0] = 0
            kept = [entry for entry in node.attribute if entry.name != "allowzero"]
            del node.attribute[:]
            node.attribute.extend(kept)
        node.input[1] = self._constant(shape)

    def _shapes(self, length: int) -> dict[str, tuple[int, ...]]:
        """Shapes of what is joined to something that depends on the image and does not itself depend on it."""
        model = self.onnx.ModelProto()
        model.CopyFrom(self.model)
        computed, asked = {self.image}, []
        for node in model.graph.node:
            if computed & {*node.input}:
                computed.update(node.output)
                if node.op_type == "Concat":
                    asked += [name for name in node.input if name not in computed]
        if not asked:
            return {}
        del model.graph.output[:]
        model.graph.output.extend(self.onnx.ValueInfoProto(name=name) for name in dict.fromkeys(asked))
        taken = model.graph.input[[entry.name for entry in model.graph.input].index(self.image)]
        lengths = [axis.dim_value or length for axis in taken.type.tensor_type.shape.dim]
        found = open_session(model.SerializeToString()).run(None, {self.image: np.zeros(lengths, np.float32)})
        return {name: array.shape for name, array in zip(dict.fromkeys(asked), found, strict=True)}

    def _stretch(self, before: Any, name: str, shape: Sequence[int], like: str) -> str:
        """Repeat what is joined to something computed, such as a class token, for every image of the batch."""
        make = self.onnx.helper.make_node
        place = next(
            index for index, node in enumerate(self.graph.node) if node.output[0] == before.output[0]
        )
        first, batch, wanted, wide = (next(self.fresh) for _ in range(4))
        zero, one, rest = (
            self._constant(np.array(values, np.int64)) for values in ([0], [1], list(shape[1:]))
        )
        nodes = [
            make("Slice", [name, zero, one, zero], [first]),
            make("Shape", [like], [batch], start=0, end=1),
            make("Concat", [batch, rest], [wanted], axis=0),
            make("Expand", [first, wanted], [wide]),
        ]
        for node in reversed(nodes):
            self.graph.node.insert(place, node)
        return wide

    def _constant(self, array: NDArray[Any]) -> str:
        name = next(self.fresh)
        self.graph.initializer.append(self.onnx.numpy_helper.from_array(array, name))
        return name


def _swap(names: Any, old: str, new: str) -> None:
    for index, name in enumerate(names):
        if name == old:
            names[index] = new
