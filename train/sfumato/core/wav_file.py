"""What a WAV file holds, as 16-bit samples of one channel. Everything but 8 and 16-bit PCM is refused in one line.

The page (`web/wav_file.js`) and the Android library (`WavFile.kt`) read files by the same rules, which stand in
docs/contract.md, and refuse the same ones. Source: Multimedia Programming Interface and Data Specifications 1.0 (IBM and
Microsoft, 1991), and the extensible format of Microsoft's `mmreg.h`.

Usage: `recording = read_wav(Path("seven.wav").read_bytes()); recording.samples`
"""

import struct
from dataclasses import dataclass
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from sfumato.core.errors import DataError

MAX_BYTES = 16_000_000
"""Largest file: more than `LONGEST_S` seconds at any rate, with eight channels."""
MAX_CHANNELS = 8
LONGEST_S = 16
"""Longest recording, in seconds."""
RATES = (8000, 11025, 16000, 22050, 24000, 32000, 44100, 48000)
"""Samples a second that are read."""
SUFFIX = ".wav"

_PCM, _EXTENSIBLE = 1, 0xFFFE
_PCM_GUID = struct.pack("<I", _PCM) + bytes.fromhex("000010008000 00aa00389b71")
"""KSDATAFORMAT_SUBTYPE_PCM, as an extensible header has it."""


@dataclass(frozen=True)
class Recording:
    """One recording."""

    rate: int
    """Samples a second."""
    samples: NDArray[np.int64]
    """(n,) in -32,768..32,767, at least one."""


def read_wav(content: bytes) -> Recording:
    """Read a WAV file.

    8-bit samples v count as 256 (v - 128). Of c channels with the sum s a sample is `floor((2 s + c) / (2 c))`.

    Args:
        content: of the file.

    Raises:
        DataError: it is no WAV file of 8 or 16-bit PCM, is cut or contradicts itself, or has another rate, more channels or
            more seconds than are read.
    """
    if len(content) > MAX_BYTES:
        raise DataError(f"{len(content)} bytes, more than the {MAX_BYTES} allowed: cut the recording")
    if content[:4] != b"RIFF" or content[8:12] != b"WAVE":
        raise DataError("not a WAV file")
    form: bytes | None = None
    at = 12
    while at + 8 <= len(content):
        name, size = content[at : at + 4], int.from_bytes(content[at + 4 : at + 8], "little")
        body = content[at + 8 : at + 8 + size]
        if len(body) < size:
            _damaged("the file is cut")
        if name == b"fmt ":
            if form is not None:
                _damaged("two headers")
            form = body
        elif name == b"data":
            if form is None:
                _damaged("no header before the samples")
            return _samples(form, body)
        at += 8 + size + size % 2  # a chunk of odd length is followed by one byte
    _damaged("no samples")


def _samples(form: bytes, body: bytes) -> Recording:
    if len(form) < 16:
        _damaged("its header is too short")
    kind, channels, rate, bytes_a_second, frame, bits = struct.unpack("<HHIIHH", form[:16])
    if kind == _EXTENSIBLE and len(form) >= 40 and form[24:40] == _PCM_GUID:
        kind = _PCM
    if kind != _PCM or bits not in (8, 16):
        raise DataError(
            f"a WAV file of form {kind} with {bits} bits a sample: save it as PCM of 8 or 16 bits"
        )
    if not 1 <= channels <= MAX_CHANNELS:
        raise DataError(f"{channels} channels: 1 to {MAX_CHANNELS} are read")
    if rate not in RATES:
        raise DataError(f"{rate} samples a second: save it with one of {', '.join(map(str, RATES))}")
    if frame != channels * bits // 8 or bytes_a_second != rate * frame or len(body) % frame:
        _damaged("its header contradicts itself")
    if not body:
        _damaged("no samples")
    if len(body) // frame > LONGEST_S * rate:
        raise DataError(f"{len(body) / frame / rate:.1f} seconds: cut it to {LONGEST_S} at most")
    if bits == 8:
        values = (np.frombuffer(body, dtype=np.uint8).astype(np.int64) - 128) * 256
    else:
        values = np.frombuffer(body, dtype="<i2").astype(np.int64)
    total = values.reshape(-1, channels).sum(axis=1)
    return Recording(rate, (2 * total + channels) // (2 * channels))


def _damaged(why: str) -> NoReturn:
    raise DataError(f"a damaged WAV file: {why}")
