"""A cloud network that is given as an ONNX file, as a PyTorch module: gradients pass through it to the local network.

    cloud = load_onnx(Path("provider.onnx"), {"gender": 2}, (64, 64))
    logits = cloud(upload)["gender"]       # upload: (B, 3, H, W), 0..1

A small, strict interpreter: what `sfumato.models.onnx.operators` does not name is refused by name and never guessed. Weights
are parameters and batch-norm statistics buffers, since an attacker at the provider may train a copy further.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sfumato.core.errors import SfumatoError
from sfumato.core.files import read_bytes
from sfumato.core.onnx_content import refuse_external_data
from sfumato.core.onnx_heads import match_heads
from sfumato.core.onnx_session import open_session
from sfumato.models.onnx.operators import OPERATORS, Dense, Operator
from sfumato.models.tensors import evaluating

OPSETS = range(13, 23)
LARGEST = 2**28
"""Bytes that a file of an export may have."""
PARITY = 1e-3
"""Largest difference of a logit from onnxruntime, as at the export; of logits beyond 1, as a share of the largest."""


@dataclass(frozen=True)
class Node:
    """A node of the graph."""

    name: str
    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]

    def __str__(self) -> str:
        return f"the node {self.name or self.outputs[0]} ({self.kind})"


@dataclass(frozen=True)
class Graph:
    """What a file says."""

    image: str
    outputs: tuple[str, ...]
    constants: Mapping[str, Tensor]
    nodes: tuple[Node, ...]


class Call(nn.Module):
    """An operator without weights."""

    def __init__(self, operator: Operator, attributes: Mapping[str, Any]) -> None:
        super().__init__()
        self.operator, self.attributes = operator, dict(attributes)

    def forward(self, *inputs: Tensor | None) -> Any:
        """One tensor, or a tuple of them."""
        return self.operator.make(*inputs, **self.attributes)


class OnnxCloud(nn.Module):
    """Runs the nodes of a graph one after the other.

    Args:
        graph: its nodes in an order in which they can run.
        heads: kept attribute -> the output that answers it.
        size: height and width of the uploads.
        planes: of the uploads: 3 for colour, 1 for grey.

    Raises:
        SfumatoError: a node that is not understood.
    """

    def __init__(
        self, graph: Graph, heads: Mapping[str, str], size: tuple[int, int], planes: int = 3
    ) -> None:
        super().__init__()
        self.image, self.heads, self.planes = graph.image, dict(heads), planes
        self.constants: dict[str, Tensor] = {}
        """Whole numbers and settings; they stay on the CPU."""
        self.named: list[str] = []
        """Names of `weights`."""
        self.weights = nn.ParameterList()
        """Those that belong to no layer, such as a factor."""
        self.steps: list[Node] = []
        """The node of every part."""
        self.parts = nn.ModuleList()
        self.stages = nn.ModuleDict()
        """Where the attacks read features (`sfumato.audit.attacks.taps`); they pass on what they are given."""
        self.tapped: dict[str, str] = {}
        known = dict(graph.constants)
        for node in graph.nodes:
            with about(node):
                self._add(node, known)
        if fixed := [name for name in self.heads.values() if name in known]:
            raise SfumatoError(f"its output {fixed[0]} does not depend on the image")
        self.spent = self._spent()
        self._tap(size)

    def _add(self, node: Node, known: dict[str, Tensor]) -> None:
        """Append a node; what follows from constants alone becomes one."""
        if node.kind == "Constant":
            known[node.outputs[0]] = _constant(node.attributes)
            return
        operator = OPERATORS[node.kind]
        operator.bind(len(node.inputs), node.attributes)
        given = [known.get(name) for name in node.inputs]
        fixed = [name in known or not name for name in node.inputs]
        if all(fixed) and not operator.layer:
            results = operator.make(*given, **node.attributes)
            known.update(zip(node.outputs, _several(results), strict=False))
            return
        if operator.layer or (node.kind == "MatMul" and fixed[1] and known[node.inputs[1]].dim() == 2):
            if fixed[0] or not all(fixed[1:]):
                raise SfumatoError("a layer takes something computed and weights that are given")
            make: Any = operator.make if operator.layer else Dense
            self.parts.append(make(*given[1:], **node.attributes))
            self.steps.append(replace(node, inputs=node.inputs[:1]))
            return
        for place, name in enumerate(node.inputs):
            if name in known:
                self._keep(name, known[name], setting=place in operator.settings)
        self.parts.append(Call(operator, node.attributes))
        self.steps.append(node)

    def _keep(self, name: str, value: Tensor, *, setting: bool) -> None:
        if name in self.constants or name in self.named:
            return
        if setting or value.dim() == 0 or not value.is_floating_point():
            self.constants[name] = value
        else:
            self.named.append(name)
            self.weights.append(nn.Parameter(value.clone()))

    def _spent(self) -> list[tuple[str, ...]]:
        """For every step, the tensors that nobody needs after it."""
        needed = {*self.heads.values(), *self.constants, *self.named}
        found: list[tuple[str, ...]] = []
        for node in reversed(self.steps):
            touched = {*node.inputs, *node.outputs} - {""}
            found.append(tuple(touched - needed))
            needed |= touched
        return found[::-1]

    def _tap(self, size: tuple[int, int]) -> None:
        """The stages: of every resolution the last map before it is lost, and what dense layers read after the first one."""
        shapes: dict[str, torch.Size] = {}
        maps: dict[torch.Size, str] = {}
        vectors: list[str] = []
        for index, (node, made) in enumerate(zip(self.steps, self._try(size), strict=True)):
            if not shapes and isinstance(self.parts[index], Call):
                continue  # what is done to the image before the first layer
            shapes.update(made)
            after = shapes.get(node.outputs[0], torch.Size())
            for name in node.inputs:
                before = shapes.get(name, torch.Size())
                places = prod(before[2:]) if len(before) == 4 else 1
                if node.kind != "Shape" and places > 1 and (len(after) != 4 or prod(after[2:]) < places):
                    maps[before[2:]] = name
                elif isinstance(self.parts[index], Dense) and name not in vectors:
                    vectors.append(name)
        for index, name in enumerate((*maps.values(), *vectors[1:])):
            self.tapped[name] = str(index)
            self.stages[str(index)] = nn.Identity()

    def _try(self, size: tuple[int, int]) -> list[dict[str, torch.Size]]:
        """The shapes that every step makes of two blank uploads."""
        values = self._start(torch.zeros(2, self.planes, *size))
        made = []
        with evaluating(self):
            for index, node in enumerate(self.steps):
                with about(node):
                    self._step(index, values)
                made.append({name: values[name].shape for name in node.outputs if name in values})
        return made

    def _start(self, x: Tensor) -> dict[str, Tensor]:
        return {**self.constants, **dict(zip(self.named, self.weights, strict=True)), self.image: x}

    def _step(self, index: int, values: dict[str, Tensor]) -> None:
        node = self.steps[index]
        results = _several(self.parts[index](*[values[name] if name else None for name in node.inputs]))
        for name, result in zip(node.outputs, results, strict=False):
            tap = self.tapped.get(name)
            values[name] = result if tap is None else self.stages[tap](result)
        for name in self.spent[index]:
            values.pop(name, None)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """(B, 3, H, W) in 0..1 -> logits per kept attribute, each (B, classes)."""
        values = self._start(x)
        for index in range(len(self.steps)):
            self._step(index, values)
        return {attribute: values[name] for attribute, name in self.heads.items()}


def _several(results: Any) -> tuple[Tensor, ...]:
    return tuple(results) if isinstance(results, (tuple, list)) else (results,)


@contextmanager
def about(what: object) -> Iterator[None]:
    """Say of what a complaint is."""
    try:
        yield
    except Exception as error:  # PyTorch and onnx raise many types for what does not fit together
        kind = type(error) if isinstance(error, SfumatoError) else SfumatoError
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise kind(f"{what}: {lines[0]}") from None


def load_onnx(
    path: Path,
    classes: Mapping[str, int],
    size: tuple[int, int],
    content: bytes | None = None,
    *,
    planes: int = 3,
) -> OnnxCloud:
    """Read a cloud network.

    Args:
        path: an ONNX file of opset 13 to 22: one input (B, 3, H, W), float in 0..1, B open; one output (B, classes) of logits
            a kept attribute, named after it (for a single attribute the name is free).
        classes: how many classes every kept attribute has.
        size: height and width of the images.
        content: of the file, where it is not what lies there (`sfumato.models.onnx.given`).
        planes: of the uploads: 3 for colour, 1 for grey, where the input is (B, 1, H, W).

    Raises:
        SfumatoError: it cannot be read, is not understood, or has other inputs or outputs; one line says what and where.
    """
    with about(path):
        graph = read_graph(path, size, content, planes)
        heads = match_heads(graph.outputs, list(classes))
        for name in heads:
            _check_logits(graph, name)
        return OnnxCloud(graph, dict(zip(classes, heads, strict=True)), size, planes)


def read_graph(path: Path, size: tuple[int, int], content: bytes | None = None, planes: int = 3) -> Graph:
    """What an ONNX file says, checked as far as it can be without running it; arguments and errors as `load_onnx`."""
    if content is None and not path.is_file():
        raise SfumatoError("there is no such file")
    if (path.stat().st_size if content is None else len(content)) > LARGEST:
        raise SfumatoError(f"it is larger than {LARGEST // 2**20} MiB, which no export may hold")
    onnx = require_onnx()
    content = read_bytes(path, largest=LARGEST) if content is None else content
    refuse_external_data(content, "it")
    try:
        model = onnx.load_model_from_string(content)
    except Exception:  # protobuf has types of its own
        raise SfumatoError("this is not an ONNX file") from None
    _check_kinds(model)
    onnx.checker.check_model(model, full_check=True)
    graph = model.graph
    constants = {
        entry.name: _tensor(onnx.numpy_helper.to_array(entry), entry.name) for entry in graph.initializer
    }
    (image,) = _only_image([entry for entry in graph.input if entry.name not in constants], (planes, *size))
    return Graph(
        image=image,
        outputs=tuple(entry.name for entry in graph.output),
        constants=constants,
        nodes=tuple(_node(node) for node in graph.node),
    )


def require_onnx() -> Any:
    """The package onnx."""
    try:
        import onnx
    except ImportError:
        raise SfumatoError("reading it needs the package onnx: pip install 'sfumato[train]'") from None
    return onnx


def _check_kinds(model: Any) -> None:
    """Refuse by name what the interpreter does not know, before ONNX's own checker puts it its way."""
    versions = [entry.version for entry in model.opset_import if entry.domain in DOMAIN]
    if not versions or versions[0] not in OPSETS:
        told = versions[0] if versions else "none"
        raise SfumatoError(f"its opset is {told}; {OPSETS[0]} to {OPSETS[-1]} are supported")
    for node in model.graph.node:
        if node.domain not in DOMAIN or node.op_type not in {*OPERATORS, "Constant"}:
            kind = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
            raise SfumatoError(
                f"the operator {kind} is not supported; supported are Constant, {', '.join(sorted(OPERATORS))}"
            )
    if model.graph.sparse_initializer:
        raise SfumatoError("sparse weights are not supported")


DOMAIN = ("", "ai.onnx")
FLOAT = 1
"""ONNX's number of the type float32."""


def _only_image(inputs: list[Any], wanted: tuple[int, int, int]) -> tuple[str]:
    """The name of the only input, if it takes any number of images of these planes, height and width."""
    if len(inputs) != 1:
        raise SfumatoError(
            f"it has {len(inputs)} inputs ({', '.join(i.name for i in inputs)}): one is needed"
        )
    kind = inputs[0].type.tensor_type
    axes = [axis.dim_value or axis.dim_param or "?" for axis in kind.shape.dim]
    told = f"its input {inputs[0].name} is {' x '.join(map(str, axes))}"
    if kind.elem_type != FLOAT:
        raise SfumatoError(f"{told} of another type than float32")
    if len(axes) != 4 or any(
        isinstance(axis, int) and axis != length for axis, length in zip(axes[1:], wanted, strict=True)
    ):
        raise SfumatoError(f"{told}, not a batch of uploads, B x {' x '.join(map(str, wanted))}")
    if isinstance(axes[0], int):
        raise SfumatoError(f"{told}: a fixed batch; export it with an open first axis")
    return (inputs[0].name,)


PROBABILITIES = {"Softmax", "Sigmoid", "HardSigmoid"}
MOVING = {"Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Cast"}
"""Operators that leave values as they are."""


def _check_logits(graph: Graph, name: str) -> None:
    """Refuse an output that holds probabilities instead of logits."""
    makers = {output: node for node in graph.nodes for output in node.outputs}
    start = name
    while start in makers and makers[start].kind in MOVING:
        start = makers[start].inputs[0]
    if start in makers and makers[start].kind in PROBABILITIES:
        raise SfumatoError(
            f"its output {name} holds probabilities ({makers[start].kind}): logits are needed, what goes into it"
        )


def _node(node: Any) -> Node:
    helper = require_onnx().helper
    values = {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}
    if node.op_type == "ConstantOfShape" and "value" in values:
        values["value"] = _tensor(require_onnx().numpy_helper.to_array(values["value"]), "its value")
    return Node(
        name=node.name,
        kind=node.op_type,
        inputs=tuple(node.input),
        outputs=tuple(node.output),
        attributes={
            name: value.decode() if isinstance(value, bytes) else value for name, value in values.items()
        },
    )


def _constant(attributes: Mapping[str, Any]) -> Tensor:
    """The value of a Constant, which has one attribute."""
    ((name, value),) = attributes.items()
    if name == "value":
        return _tensor(require_onnx().numpy_helper.to_array(value), "it")
    kinds = {
        "value_float": torch.float32,
        "value_floats": torch.float32,
        "value_int": torch.int64,
        "value_ints": torch.int64,
    }
    if name not in kinds:
        raise SfumatoError(f"the attribute {name} is not supported")
    return torch.tensor(value, dtype=kinds[name])


def _tensor(array: NDArray[Any], name: str) -> Tensor:
    if array.dtype not in (np.float32, np.int64, np.int32, np.bool_):
        raise SfumatoError(f"{name} is {array.dtype}: float32, int64, int32 and bool are supported")
    return torch.from_numpy(np.array(array))


def check_parity(
    cloud: nn.Module, path: Path, size: tuple[int, int], content: bytes | None = None, *, planes: int = 3
) -> None:
    """Ask onnxruntime too, on made-up uploads; `content` and `planes` as for `load_onnx`.

    Raises:
        SfumatoError: it cannot load the file, or says something else.
    """
    with about(path):
        session = open_session(path if content is None else content, name=path.name)
        probe = torch.rand(3, planes, *size, generator=torch.Generator().manual_seed(0)).round(decimals=1)
        with evaluating(cloud):
            wanted = cloud(probe)
        heads = match_heads([output.name for output in session.get_outputs()], list(wanted))
        found = session.run(list(heads), {session.get_inputs()[0].name: probe.numpy()})
        gaps = [
            float(np.abs(a.numpy() - b).max() / max(1.0, np.abs(b).max()))
            for a, b in zip(wanted.values(), found, strict=True)
        ]
        if not max(gaps) <= PARITY:
            raise SfumatoError(f"onnxruntime's answers differ by {max(gaps):.1e}: this is an error of ours")
