"""From the bytes of a request to the levels of an upload, with every refusal on the way.

The order is from cheap to dear: nothing is read before headers are right, nothing is decompressed before the PNG's own header
is right, and nothing ever reaches a disk. The largest body is a little more than the samples themselves, so even a stream that
decompresses a thousandfold stays small (and `decode_png` stops where the picture ends).

    levels = decode(await read_body(request, limit=..., seconds=...), kind, contract)
"""

import asyncio
import struct
from collections.abc import Sequence

import numpy as np
from fastapi import Request
from numpy.typing import NDArray
from starlette.requests import ClientDisconnect

from sfumato.core.errors import DataError
from sfumato.runtime.contract import Contract
from sfumato.runtime.upload_codec import SIGNATURE, decode_png, unpack
from sfumato.server.problems import CLOSE, ProblemError

PNG = "image/png"
PACKED = "application/vnd.sfumato.packed"
RAW = "nothing was kept, but it nearly went to the cloud: perturb it on the device first"

COMPLETE = "complete"
"""Name in a request's state for when its last byte came (time.perf_counter()), where the server notes that."""

Bytes = NDArray[np.uint8]


def picture_bytes(contract: Contract) -> int:
    """Bytes of the decompressed PNG: rows with their filter byte."""
    upload = contract.upload
    samples = upload.width * (3 if upload.bit_depth == 8 else 1)
    return upload.height * (1 + -(-samples * upload.bit_depth // 8))


def largest_body(contract: Contract) -> int:
    """Most bytes of an upload: what any PNG encoder makes of noise, many small chunks included."""
    return picture_bytes(contract) * 9 // 8 + 1024


def content_type(request: Request, taken: Sequence[str] = (PNG, PACKED)) -> str:
    """The content type, if it is one of `taken`.

    Raises:
        ProblemError: another one, or the body is compressed once more.
    """
    given = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if given in taken and request.headers.get("content-encoding", "identity") == "identity":
        return given
    if given.startswith("image/") and given not in taken:
        raise ProblemError("raw-photo", f"{given} is a photo's format, not an upload's; {RAW}", headers=CLOSE)
    coded = ", without Content-Encoding" if given in taken else ""
    accepted = {"Accept": ", ".join(taken), **CLOSE}
    raise ProblemError("wrong-type", f"send {' or '.join(taken)}{coded}", headers=accepted)


async def read_body(request: Request, *, limit: int, seconds: float, hint: str = "") -> bytes:
    """The body, read no further than `limit` bytes and no longer than `seconds`; `hint` follows the limit in a refusal.

    Raises:
        ProblemError: larger, slower, or ended early.
    """
    too_large = ProblemError("too-large", f"at most {limit:,} bytes{hint}", headers=CLOSE)
    declared = request.headers.get("content-length", "0")
    if not declared.isdecimal() or int(declared[:20]) > limit:
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(seconds):
            async for part in request.stream():
                body += part
                request.state.bytes_in = len(body)
                if len(body) > limit:
                    raise too_large
    except TimeoutError:
        raise ProblemError("too-slow", f"the body must arrive within {seconds:g} s", headers=CLOSE) from None
    except ClientDisconnect:
        raise ProblemError("cut-off", "the connection closed before the body was complete") from None
    return bytes(body)


def decode(body: bytes, kind: str, contract: Contract) -> Bytes:
    """Levels (H, W, 3) of an upload.

    Raises:
        ProblemError: it is no upload of this model, or plainly a photo.
    """
    height, width = contract.size
    bits = contract.channel.bits
    try:
        if kind == PACKED:
            levels = unpack(body, height=height, width=width, bits=bits)
        else:
            _check_is_no_plain_photo(body, contract)
            levels = decode_png(body, height=height, width=width, bits=bits)
    except DataError as error:
        raise ProblemError("not-an-upload", str(error)) from None
    return levels


def _check_is_no_plain_photo(body: bytes, contract: Contract) -> None:
    """A PNG of 8 bits where 1, 2 or 4 are expected is what a careless client sends: say so plainly."""
    if not body.startswith(SIGNATURE) or len(body) < 33 or contract.upload.bit_depth == 8:
        return
    width, height, depth = struct.unpack_from(">IIB", body, 16)
    if depth >= 8:
        raise ProblemError("raw-photo", f"a PNG of {width} x {height} with {depth} bits a sample; {RAW}")
