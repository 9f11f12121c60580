"""What is inside a .tflite file: operators, tensors, constants; and new names for its inputs and outputs.

Reads the flatbuffer itself, by the schema that ai-edge-litert (or else TensorFlow) carries, so that no interpreter is needed
to judge a file.

    graph = read_graph(Path("local_int8.tflite").read_bytes())
    [operator.name for operator in graph.operators]
"""

import importlib
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sfumato.core.errors import SfumatoError

SCHEMAS = ("ai_edge_litert.schema_py_generated", "tensorflow.lite.python.schema_py_generated")
"""The same generated module under two names; tflite-runtime carries none."""


NUMBERS = {"INT8": "<i1", "INT32": "<i4", "FLOAT32": "<f4"}
"""Types of constants that `read_constants` reads."""


@dataclass(frozen=True)
class TensorInfo:
    """A tensor of the graph."""

    index: int
    name: str
    type: str
    shape: tuple[int, ...]
    dynamic: bool
    """A dimension is open."""
    constant_bytes: int
    """Bytes of its constant; 0 for what is computed."""
    scales: tuple[float, ...]
    zero_points: tuple[int, ...]


@dataclass(frozen=True)
class Operator:
    """One node, in order of execution."""

    name: str
    version: int
    inputs: tuple[TensorInfo | None, ...]
    outputs: tuple[TensorInfo, ...]
    options: Mapping[str, int]
    """The options that somebody looks at (`OPTIONS`)."""


@dataclass(frozen=True)
class Graph:
    """The one subgraph of a model."""

    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    operators: tuple[Operator, ...]


def read_graph(content: bytes) -> Graph:
    """Read a model with exactly one subgraph.

    Raises:
        SfumatoError: the bytes are no model, are cut off, or hold several subgraphs.
    """
    schema = _schema()
    if content[4:8] != b"TFL3":
        raise SfumatoError("this is no TensorFlow Lite model (its identifier is missing)")
    try:
        return _read(content, schema)
    except SfumatoError:
        raise
    except (
        Exception
    ) as error:  # the generated reader follows offsets anywhere and raises whatever it meets there
        raise SfumatoError(f"the TensorFlow Lite model is damaged ({type(error).__name__})") from None


def read_constants(content: bytes) -> dict[int, NDArray[Any]]:
    """Values of the constants of types `NUMBERS`, by the index of their tensor, in its shape.

    Raises:
        SfumatoError: as `read_graph`, or a constant has not as many values as its shape says.
    """
    graph, model = read_graph(content), _schema().Model.GetRootAsModel(content, 0)
    tensors = {each.index: each for one in graph.operators for each in one.inputs if each is not None}
    found = {}
    for index, tensor in tensors.items():
        if tensor.constant_bytes and tensor.type in NUMBERS:
            held = bytes(model.Buffers(model.Subgraphs(0).Tensors(index).Buffer()).DataAsNumpy())
            try:
                found[index] = np.frombuffer(held, NUMBERS[tensor.type]).reshape(tensor.shape)
            except ValueError:
                raise SfumatoError(
                    f"the TensorFlow Lite model is damaged ({tensor.name} has {len(held)} bytes)"
                ) from None
    return found


def _schema() -> Any:
    for name in SCHEMAS:
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    raise SfumatoError("reading .tflite files needs ai-edge-litert: pip install ai-edge-litert")


def _read(content: bytes, schema: Any) -> Graph:
    model = schema.Model.GetRootAsModel(content, 0)
    if model.SubgraphsLength() != 1:
        raise SfumatoError(f"the model has {model.SubgraphsLength()} subgraphs; one is expected")
    graph = model.Subgraphs(0)
    _bounded(content, graph.TensorsLength(), graph.OperatorsLength())
    types = _names(schema.TensorType)
    tensors = [_tensor(model, graph.Tensors(i), i, types) for i in range(graph.TensorsLength())]
    codes = _names(schema.BuiltinOperator)
    operators = tuple(
        _operator(model, graph.Operators(i), tensors, codes, schema) for i in range(graph.OperatorsLength())
    )
    ends = (
        tuple(tensors[graph.Inputs(i)] for i in range(graph.InputsLength())),
        tuple(tensors[graph.Outputs(i)] for i in range(graph.OutputsLength())),
    )
    return Graph(*ends, operators)


def _names(enumeration: Any) -> dict[int, str]:
    return {value: name for name, value in vars(enumeration).items() if isinstance(value, int)}


def _bounded(content: bytes, *lengths: int) -> None:
    if max(lengths) > len(content) // 4:  # each entry takes an offset of four bytes
        raise SfumatoError("the TensorFlow Lite model is damaged (a list is longer than the file)")


def _tensor(model: Any, tensor: Any, index: int, types: Mapping[int, str]) -> TensorInfo:
    shape = tuple(int(tensor.Shape(i)) for i in range(tensor.ShapeLength()))
    signature = [int(tensor.ShapeSignature(i)) for i in range(tensor.ShapeSignatureLength())]
    quantization = tensor.Quantization()
    scales: tuple[float, ...] = ()
    zero_points: tuple[int, ...] = ()
    if quantization is not None:
        scales = tuple(float(quantization.Scale(i)) for i in range(quantization.ScaleLength()))
        zero_points = tuple(int(quantization.ZeroPoint(i)) for i in range(quantization.ZeroPointLength()))
    return TensorInfo(
        index=index,
        name=(tensor.Name() or b"").decode("utf-8"),
        type=types[tensor.Type()],
        shape=shape,
        dynamic=any(size < 0 for size in (*shape, *signature)),
        constant_bytes=int(model.Buffers(tensor.Buffer()).DataLength()),
        scales=scales,
        zero_points=zero_points,
    )


def _operator(
    model: Any, operator: Any, tensors: list[TensorInfo], codes: Mapping[int, str], schema: Any
) -> Operator:
    code = model.OperatorCodes(operator.OpcodeIndex())
    number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
    inputs = [int(operator.Inputs(i)) for i in range(operator.InputsLength())]
    return Operator(
        name=codes.get(number, f"operator {number}"),
        version=int(code.Version()),
        inputs=tuple(tensors[i] if i >= 0 else None for i in inputs),
        outputs=tuple(tensors[int(operator.Outputs(i))] for i in range(operator.OutputsLength())),
        options=_options(operator, schema),
    )


WINDOW = ("StrideW", "StrideH", "Padding", "FusedActivationFunction")
OPTIONS = {
    "Conv2DOptions": (*WINDOW, "DilationWFactor", "DilationHFactor"),
    "DepthwiseConv2DOptions": (*WINDOW, "DilationWFactor", "DilationHFactor", "DepthMultiplier"),
    "ResizeBilinearOptions": ("AlignCorners", "HalfPixelCenters"),
    "ResizeNearestNeighborOptions": ("AlignCorners", "HalfPixelCenters"),
    "FullyConnectedOptions": ("KeepNumDims",),
    "Pool2DOptions": (*WINDOW, "FilterWidth", "FilterHeight"),
    "ConcatenationOptions": ("Axis", "FusedActivationFunction"),
    "AddOptions": ("FusedActivationFunction",),
    "SubOptions": ("FusedActivationFunction",),
    "MulOptions": ("FusedActivationFunction",),
    "SpaceToDepthOptions": ("BlockSize",),
    "DepthToSpaceOptions": ("BlockSize",),
}
"""Kind -> the options that the lint, or the translation for an NPU, looks at."""


def _options(operator: Any, schema: Any) -> dict[str, int]:
    kind = _names(schema.BuiltinOptions).get(operator.BuiltinOptionsType(), "NONE")
    table = operator.BuiltinOptions()
    if kind not in OPTIONS or table is None:
        return {}
    options = getattr(schema, kind)()
    options.Init(table.Bytes, table.Pos)
    return {name: int(getattr(options, name)()) for name in OPTIONS[kind]}


def tensor_places(content: bytes) -> list[list[tuple[str, int]]]:
    """Where the file says what its tensors are: per tensor, ("type" or "dimension", position in the file)."""
    graph = _schema().Model.GetRootAsModel(content, 0).Subgraphs(0)
    found = []
    for i in range(graph.TensorsLength()):
        table = graph.Tensors(i)._tab
        places = []
        if offset := table.Offset(6):  # field 1 of Tensor: its type
            places.append(("type", int(offset + table.Pos)))
        if offset := table.Offset(4):  # field 0: its shape
            start = int(table.Vector(offset))
            places += [("dimension", start + 4 * n) for n in range(graph.Tensors(i).ShapeLength())]
        found.append(places)
    return [places for places in found if places]


def rename(content: bytes, names: Mapping[str, str]) -> bytes:
    """Give tensors shorter names in place.

    A flatbuffer string is a length and its bytes. Writing a shorter name over a longer one moves nothing, so every
    constant keeps its 16-byte alignment, which rewriting the file through Python's object API would lose.

    Raises:
        SfumatoError: a name is missing, or the new one is longer than the old.
    """
    schema = _schema()
    graph = schema.Model.GetRootAsModel(content, 0).Subgraphs(0)
    changed, left = bytearray(content), dict(names)
    for i in range(graph.TensorsLength()):
        table = graph.Tensors(i)._tab
        old = (graph.Tensors(i).Name() or b"").decode("utf-8")
        if old not in left:
            continue
        new = left.pop(old).encode("utf-8")
        start = table.Indirect(table.Offset(10) + table.Pos)  # field 3 of Tensor: its name
        (length,) = struct.unpack_from("<I", content, start)
        if len(new) > length:
            raise SfumatoError(f"the name {new.decode()!r} is longer than {old!r}, which it replaces")
        struct.pack_into("<I", changed, start, len(new))
        changed[start + 4 : start + 4 + length] = new.ljust(length, b"\0")
    if left:
        raise SfumatoError(f"the converted model has no tensor named {', '.join(left)}")
    return bytes(changed)
