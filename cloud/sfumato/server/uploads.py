"""From the bytes of a request to the levels of an upload, with every refusal on the way.

The order is from cheap to dear. Nothing is read before the headers are right, nothing is decompressed before the PNG's own
header is right, and nothing ever reaches a disk. The largest body is a little more than the samples themselves, so even a
stream that decompresses a thousandfold stays small (`decode_png` stops where the image ends).

    levels = decode(await read_body(request, limit=..., seconds=...), PNG, contract)
"""

import asyncio
import io
import struct
from collections.abc import Sequence
from contextlib import nullcontext

import numpy as np
from numpy.typing import NDArray
from starlette.requests import ClientDisconnect, Request

from sfumato.core.errors import DataError
from sfumato.runtime.answer import read_image, read_word, word_image
from sfumato.runtime.contract import Contract
from sfumato.runtime.index_code import IndexCode
from sfumato.runtime.upload_codec import SIGNATURE, decode_png, unpack
from sfumato.server.endpoints import Check
from sfumato.server.formats import INDEX, PACKED, WORD
from sfumato.server.problems import CLOSE, ProblemError

PERTURB_FIRST = "nothing was kept, but it nearly went to the cloud: perturb it on the device first"
COMPLETE = "complete"
"""Name in a request's state for when its last byte came (time.perf_counter()), where the HTTP server notes that."""
BODY_REFUSALS = ("cut-off", "too-slow", "too-large")
"""Kinds of problem that `read_body` raises."""

Bytes = NDArray[np.uint8]


def media_type(request: Request) -> str:
    """The content type without its parameters."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def type_check(accepted: Sequence[str], *, photos: bool = False) -> Check:
    """The content type must be one of `accepted`, and the body not compressed once more.

    Unless `photos` are what is accepted, another image type is refused as a photo that nobody perturbed.
    """

    def check(request: Request) -> None:
        given, known = media_type(request), media_type(request) in accepted
        if known and request.headers.get("content-encoding", "identity") == "identity":
            return
        if given.startswith("image/") and not known and not photos:
            detail = f"{given} is a photo's format, not an upload's; {PERTURB_FIRST}"
            raise ProblemError("raw-photo", detail, headers=CLOSE)
        coding = ", without Content-Encoding" if known else ""
        headers = {"Accept": ", ".join(accepted), **CLOSE}
        raise ProblemError("wrong-type", f"send {' or '.join(accepted)}{coding}", headers=headers)

    return Check("type", check, ("wrong-type",) if photos else ("wrong-type", "raw-photo"))


def body_bytes(request: Request, limit: int) -> int:
    """What the body of a request will take at most: as long as it says, else `limit`."""
    declared = request.headers.get("content-length", "")
    return min(int(declared[:20]), limit) if declared.isdecimal() else limit


async def read_body(request: Request, *, limit: int, seconds: float, hint: str = "") -> bytes:
    """The body, read no further than `limit` bytes and no longer than `seconds`; `hint` follows the limit in a refusal.

    Raises:
        ProblemError: larger, slower, or ended early.
    """
    too_large = ProblemError("too-large", f"at most {limit:,} bytes{hint}", headers=CLOSE)
    declared = request.headers.get("content-length", "0")
    if not declared.isdecimal() or int(declared[:20]) > limit:
        raise too_large
    body = io.BytesIO()  # its getvalue copies nothing
    whole = hasattr(request.state, COMPLETE)  # it lies in memory: a time-out would cost more than to read it
    try:
        async with nullcontext() if whole else asyncio.timeout(seconds):
            async for part in request.stream():
                body.write(part)
                request.state.bytes_in = body.tell()
                if body.tell() > limit:
                    raise too_large
    except TimeoutError:
        raise ProblemError("too-slow", f"the body must arrive within {seconds:g} s", headers=CLOSE) from None
    except ClientDisconnect:
        raise ProblemError("cut-off", "the connection closed before the body was complete") from None
    return body.getvalue()


def decode(body: bytes, kind: str, contract: Contract) -> Bytes:
    """Levels (H, W, planes) of an upload, in its own size; a word becomes its image, an index its entry of the book.

    Raises:
        ProblemError: it is no upload of this model, or plainly a photo.
    """
    height, width = contract.upload_size
    bits, colours = contract.channel.bits, contract.channel.planes
    try:
        if kind == WORD:
            assert contract.answer is not None, "the types of a request are checked first"
            words = contract.answer.words
            return word_image(read_word(body, words), words, height, width)
        if kind == INDEX:
            return IndexCode.of(contract).levels(body)
        if kind == PACKED:
            levels = unpack(body, height=height, width=width, bits=bits, colours=colours)
        else:
            _refuse_photo(body, contract)
            levels = decode_png(body, height=height, width=width, bits=bits, colours=colours)
    except DataError as error:
        raise ProblemError("not-an-upload", str(error)) from None
    if contract.answer is not None:
        _refuse_all_but_words(levels, contract.answer.words)
    return levels


def _refuse_all_but_words(levels: Bytes, words: int) -> None:
    """Whatever the image of an answer shows beyond its code word came from the photo."""
    try:
        read_image(levels, words)
    except DataError as error:
        raise ProblemError("raw-photo", f"{error}; {PERTURB_FIRST}") from None


def _refuse_photo(body: bytes, contract: Contract) -> None:
    """A PNG of 8 bits where 1, 2 or 4 are expected is what a careless client sends: say so plainly."""
    if not body.startswith(SIGNATURE) or len(body) < 33 or contract.upload.bit_depth == 8:
        return
    width, height, depth = struct.unpack_from(">IIB", body, 16)
    if depth >= 8:
        detail = f"a PNG of {width} x {height} with {depth} bits a sample; {PERTURB_FIRST}"
        raise ProblemError("raw-photo", detail)
