"""Whether an ONNX file stands alone: no tensor of it lies in another file.

ONNX lets a tensor name a file and a place in it ("external data"). In a file that somebody else wrote, that is a way to read
any file of the machine: its bytes become weights, and answers give them away. Tensors are in many places: initializers, sparse
ones, attributes, graphs inside nodes, functions, training information. This walks all of them in the bytes themselves, by the
schema (onnx.proto, field numbers below), so that the service and `sfumato verify` need no package for it.

    refuse_external_data(content, "cloud.onnx")
"""

from collections.abc import Iterator

from sfumato.core.errors import SfumatoError

TENSOR, GRAPH, NODE, ATTRIBUTE, SPARSE, FUNCTION, TRAINING = (
    "tensor",
    "graph",
    "node",
    "attribute",
    "sparse tensor",
    "function",
    "training",
)
CHILDREN: dict[str, dict[int, str]] = {
    "model": {7: GRAPH, 20: TRAINING, 25: FUNCTION},
    GRAPH: {1: NODE, 5: TENSOR, 15: SPARSE},
    NODE: {5: ATTRIBUTE},
    ATTRIBUTE: {5: TENSOR, 6: GRAPH, 10: TENSOR, 11: GRAPH, 22: SPARSE, 23: SPARSE},
    SPARSE: {1: TENSOR, 2: TENSOR},
    FUNCTION: {7: NODE, 11: ATTRIBUTE},
    TRAINING: {1: GRAPH, 2: GRAPH},
    TENSOR: {},
}
"""Message -> number of a field that holds a message in which a tensor may be -> that message."""
EXTERNAL_DATA, DATA_LOCATION, NAME = 13, 14, 8
"""Fields of a tensor."""
DEEPEST = 100
"""Messages inside each other, as protobuf itself allows."""
MOST_FIELDS = 1_000_000
"""A file of more parts takes seconds to walk; a network of 20,000 nodes has 200,000."""
ORT_FORMAT = b"ORTM"
"""Bytes 4 to 8 of ONNX Runtime's own format, which it takes for such a file whatever the rest says."""
VARINT, EIGHT, BYTES, FOUR = 0, 1, 2, 5
"""How a field is written."""


class _NoOnnxError(Exception):
    """The bytes are no message."""


def refuse_external_data(content: bytes, name: str) -> None:
    """Refuse a file with a tensor that lies elsewhere, or that cannot be read as ONNX to its end.

    Args:
        content: of an ONNX file.
        name: what an error calls it.

    Raises:
        SfumatoError: one line that names the tensor.
    """
    if content[4:8] == ORT_FORMAT:
        raise SfumatoError(f"{name} is in ONNX Runtime's own format: give an ONNX file")
    left, walked = [("model", 0, len(content), 0)], 0
    try:
        while left:
            kind, start, end, depth = left.pop()
            if depth > DEEPEST:
                raise _NoOnnxError
            for field, how, first, last in _fields(content, start, end):
                walked += 1
                if walked > MOST_FIELDS:
                    raise SfumatoError(f"{name} has more parts than a network needs ({MOST_FIELDS:,})")
                if (
                    kind == TENSOR
                    and field in (EXTERNAL_DATA, DATA_LOCATION)
                    and _given(content, how, first, last)
                ):
                    raise SfumatoError(
                        f"the weights {_name(content, start, end)!r} of {name} lie in a file of their own (external data), "
                        "which may be any file of this machine: save it as one file"
                    )
                if how == BYTES and (inner := CHILDREN[kind].get(field)) is not None:
                    left.append((inner, first, last, depth + 1))
    except _NoOnnxError:
        raise SfumatoError(f"{name} is not an ONNX file, or not a whole one") from None


def _fields(content: bytes, start: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Of a message: number of the field, how it is written, and where its value begins and ends."""
    at = start
    while at < end:
        key, at = _varint(content, at, end)
        field, how = key >> 3, key & 7
        if how == VARINT:
            first, (_, at) = at, _varint(content, at, end)
        elif how == BYTES:
            length, first = _varint(content, at, end)
            at = first + length
        elif how in (EIGHT, FOUR):
            first, at = at, at + (8 if how == EIGHT else 4)
        else:  # groups, which ONNX has not
            raise _NoOnnxError
        # protobuf cuts a key to 32 bits: with more, it would see another field here than this does.
        if at > end or field == 0 or key >= 2**32:
            raise _NoOnnxError
        yield field, how, first, at


def _varint(content: bytes, at: int, end: int) -> tuple[int, int]:
    """A number and where the next one begins."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= end:
            break
        byte = content[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise _NoOnnxError


def _given(content: bytes, how: int, first: int, last: int) -> bool:
    """Whether the field says anything: a data location of 0 is the tensor itself."""
    return how != VARINT or _varint(content, first, last)[0] != 0


def _name(content: bytes, start: int, end: int) -> str:
    for field, how, first, last in _fields(content, start, end):
        if field == NAME and how == BYTES:
            return content[first:last][:100].decode("utf-8", "replace")
    return ""
