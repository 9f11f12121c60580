"""The one input that every model gets on every target, and the digest of what it makes of it.

session.run(standard_input(details))
output_digest(session)              # equal on every machine for an int8 model
"""

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sfumato.runtime.interpreter import Session, open_model
from sfumato.runtime.sampler import to_int8


def pattern(count: int) -> NDArray[np.uint8]:
    """`count` bytes that every language can make: byte i is `(i * 2654435761 mod 2^32) >> 24`.

    >>> pattern(5).tolist()
    [0, 158, 60, 218, 120]
    """
    spread = np.arange(count, dtype=np.uint64) * np.uint64(2654435761) % np.uint64(2**32)
    return (spread >> np.uint64(24)).astype(np.uint8)


def standard_input(details: Mapping[str, Any]) -> NDArray[Any]:
    """The pattern as an input tensor: int8 takes `byte XOR 0x80`, float32 `byte / 255`."""
    shape = tuple(int(n) for n in details["shape"])
    picture = pattern(int(np.prod(shape))).reshape(shape)
    if np.dtype(details["dtype"]) == np.int8:
        return to_int8(picture)
    return picture.astype(np.float32) / np.float32(255)


def runner(content: bytes) -> Callable[[], object]:
    """A call that runs a model once, on the standard input, with one thread."""
    session = open_model(content)
    (entry,) = session.inputs.values()
    session.interpreter.set_tensor(entry["index"], standard_input(entry))
    invoke: Callable[[], object] = session.interpreter.invoke
    return invoke


def output_digest(session: Session) -> str:
    """SHA-256 over all outputs for the standard input, in the order of their names."""
    (entry,) = session.inputs.values()
    outputs = session.run(standard_input(entry))
    return digest({name: values.tobytes() for name, values in outputs.items()})


def digest(outputs: Mapping[str, bytes]) -> str:
    """SHA-256 over the bytes of all outputs, in the order of their names."""
    return hashlib.sha256(b"".join(outputs[name] for name in sorted(outputs))).hexdigest()
