"""External data is found wherever ONNX can hold a tensor, and nothing sound is refused."""

import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import onnx
import pytest
from google.protobuf.message import DecodeError, Message  # type: ignore[import-untyped]
from onnx import TensorProto, helper, numpy_helper

from sfumato.core.errors import SfumatoError
from sfumato.core.onnx_content import refuse_external_data


def tensor() -> TensorProto:
    return numpy_helper.from_array(np.arange(4, dtype=np.float32), "w")


def sparse() -> onnx.SparseTensorProto:
    return helper.make_sparse_tensor(tensor(), numpy_helper.from_array(np.arange(4), "places"), [9])


def graph(*nodes: onnx.NodeProto, **parts: Any) -> onnx.GraphProto:
    image = helper.make_tensor_value_info("x", TensorProto.FLOAT, [4])
    return helper.make_graph(list(nodes), "g", [image], [], **parts)


def node(**attributes: Any) -> onnx.NodeProto:
    return helper.make_node("Constant", ["x"], ["y"], **attributes)


def function(*nodes: onnx.NodeProto) -> onnx.FunctionProto:
    return helper.make_function("own", "f", ["x"], ["y"], list(nodes), [helper.make_opsetid("", 17)])


def with_function(*nodes: onnx.NodeProto) -> onnx.ModelProto:
    return helper.make_model(graph(), functions=[function(*nodes)])


def with_default() -> onnx.ModelProto:
    model = with_function(node(value=tensor()))
    model.functions[0].attribute_proto.append(helper.make_attribute("value", tensor()))
    return model


def with_training(part: str) -> onnx.ModelProto:
    model = helper.make_model(graph())
    getattr(model.training_info.add(), part).CopyFrom(graph(initializer=[tensor()]))
    return model


def nested(depth: int) -> onnx.ModelProto:
    inner = graph(node(value=tensor()))
    for _ in range(depth):
        inner = graph(helper.make_node("If", ["x"], ["y"], then_branch=inner, else_branch=graph()))
    return helper.make_model(inner)


PLACES: dict[str, Callable[[], onnx.ModelProto]] = {
    "initializer": lambda: helper.make_model(graph(initializer=[tensor()])),
    "sparse initializer": lambda: helper.make_model(graph(sparse_initializer=[sparse()])),
    "attribute": lambda: helper.make_model(graph(node(value=tensor()))),
    "attribute of several": lambda: helper.make_model(graph(node(values=[tensor(), tensor()]))),
    "sparse attribute": lambda: helper.make_model(graph(node(sparse_value=sparse()))),
    "sparse attribute of several": lambda: helper.make_model(graph(node(values=[sparse(), sparse()]))),
    "subgraph": lambda: nested(1),
    "subgraphs": lambda: helper.make_model(graph(node(bodies=[graph(), graph(initializer=[tensor()])]))),
    "subgraph in a subgraph": lambda: nested(5),
    "function": lambda: with_function(node(value=tensor())),
    "default of a function": with_default,
    "initialisation of training": lambda: with_training("initialization"),
    "algorithm of training": lambda: with_training("algorithm"),
}


def tensors(message: Message) -> Iterator[TensorProto]:
    """Every tensor of a model, by protobuf's own description of it: the slow and obvious way."""
    if isinstance(message, TensorProto):
        yield message
    for field, value in message.ListFields():
        if field.type == field.TYPE_MESSAGE:
            for part in value if not isinstance(value, Message) else [value]:
                yield from tensors(part)


def outside(one: TensorProto) -> bool:
    return one.data_location != TensorProto.DEFAULT or len(one.external_data) > 0


def move_out(one: TensorProto, how: str) -> None:
    if how != "location alone":
        entry = one.external_data.add()
        entry.key, entry.value = "location", "/etc/passwd"
    if how != "entry alone":
        one.data_location = TensorProto.EXTERNAL


@pytest.mark.parametrize("place", PLACES)
def test_external_data_is_found_everywhere(place: str) -> None:
    count = len(list(tensors(PLACES[place]())))
    assert count
    refuse_external_data(PLACES[place]().SerializeToString(), "cloud.onnx")
    for number in range(count):
        for how in ("both", "location alone", "entry alone"):
            model = PLACES[place]()
            one = list(tensors(model))[number]
            move_out(one, how)
            with pytest.raises(SfumatoError, match=r"of cloud\.onnx lie in a file of their own") as caught:
                refuse_external_data(model.SerializeToString(), "cloud.onnx")
            assert "\n" not in str(caught.value)
            assert repr(one.name) in str(caught.value)


def test_every_tensor_that_protobuf_finds_in_damaged_bytes_is_judged_alike() -> None:
    """What this walk takes, protobuf reads without external data. It may refuse more, never less."""
    rng, taken = random.Random(7), 0
    for _ in range(1500):
        model = PLACES[rng.choice(list(PLACES))]()
        move_out(rng.choice(list(tensors(model))), rng.choice(["both", "location alone", "entry alone"]))
        content = bytearray(model.SerializeToString())
        for _ in range(rng.choice((1, 1, 2, 4))):
            content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        try:
            refuse_external_data(bytes(content), "it")
        except SfumatoError:
            continue
        taken += 1
        try:
            found = onnx.load_model_from_string(bytes(content))
        except DecodeError:
            continue
        assert not any(map(outside, tensors(found))), bytes(content)
    assert taken > 20


def message(field: int, content: bytes) -> bytes:
    """A field that holds a message."""
    length = b""
    size = len(content)
    while size > 0x7F:
        length, size = length + bytes([size & 0x7F | 0x80]), size >> 7
    return bytes([field << 3 | 2]) + length + bytes([size]) + content


def deep(levels: int) -> bytes:
    """Graphs in graphs, deeper than the library writes them."""
    content = b""
    for _ in range(levels):
        content = message(1, message(5, message(6, content)))
    return content


def test_what_hides_a_field_from_one_reader_alone_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key of more than 32 bits is cut by protobuf, a group has fields that are none, and ORT has a format of its own."""
    sound = PLACES["initializer"]().SerializeToString()
    for content in (
        sound[:-1],
        sound + b"\x00",
        sound + b"\x0b",  # the begin of a group
        b"\xba\x80\x80\x80\x80\x01\x00" + sound,  # the key of field 7, and a bit above
        b"\xff" * 11,
        b"this is text",
        b"\x0a\xff\xff\xff\xff\x0f",
    ):
        with pytest.raises(SfumatoError, match="not an ONNX file, or not a whole one"):
            refuse_external_data(content, "it")
    with pytest.raises(SfumatoError, match="own format"):
        refuse_external_data(b"\0\0\0\0ORTM" + sound, "it")
    with pytest.raises(SfumatoError, match="not a whole one"):
        refuse_external_data(message(7, deep(40)), "it")
    monkeypatch.setattr("sfumato.core.onnx_content.MOST_FIELDS", 1000)
    refuse_external_data(b"\x08\x01" * 1000, "it")
    with pytest.raises(SfumatoError, match="more parts"):
        refuse_external_data(b"\x08\x01" * 1001, "it")
