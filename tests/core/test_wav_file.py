"""WAV files as other programs write them, and every way in which one may be wrong."""

import io
import struct
import wave
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.io import wavfile

from sfumato.core.errors import DataError
from sfumato.core.wav_file import LONGEST_S, RATES, read_wav


def written(samples: NDArray[Any], rate: int = 8000, channels: int = 1, bits: int = 16) -> bytes:
    """By Python's own module; samples are those of all channels in turn."""
    stream = io.BytesIO()
    with wave.open(stream, "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(bits // 8)
        file.setframerate(rate)
        file.writeframes(samples.astype("<i2" if bits == 16 else np.uint8).tobytes())
    return stream.getvalue()


def chunks(*named: tuple[bytes, bytes]) -> bytes:
    body = b"WAVE" + b"".join(
        name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)
        for name, content in named
    )
    return b"RIFF" + struct.pack("<I", len(body)) + body


def header(
    kind: int = 1, channels: int = 1, rate: int = 8000, bits: int = 16, frame: int | None = None
) -> bytes:
    frame = channels * bits // 8 if frame is None else frame
    return struct.pack("<HHIIHH", kind, channels, rate, rate * frame, frame, bits)


NOISE = np.random.default_rng(3).integers(-32768, 32768, 600)


@pytest.mark.parametrize("rate", RATES)
def test_what_pythons_own_module_wrote(rate: int) -> None:
    found = read_wav(written(NOISE, rate))
    assert (found.rate, found.samples.tolist()) == (rate, NOISE.tolist())


def test_eight_bits_are_the_upper_ones() -> None:
    assert read_wav(written(np.array([0, 128, 255]), bits=8)).samples.tolist() == [-32768, 0, 32512]


@pytest.mark.parametrize("channels", [2, 3, 8])
def test_channels_are_averaged(channels: int) -> None:
    found = read_wav(written(NOISE, channels=channels)).samples
    rows = NOISE.reshape(-1, channels).astype(int).tolist()
    # Rounded to the nearest, halves upwards.
    assert found.tolist() == [(2 * sum(row) + channels) // (2 * channels) for row in rows]


def test_scipys_files_and_further_chunks() -> None:
    stream = io.BytesIO()
    wavfile.write(stream, 16000, NOISE.astype(np.int16))
    assert read_wav(stream.getvalue()).samples.tolist() == NOISE.tolist()
    # A text of odd length is followed by one byte; what stands behind the samples is not looked at.
    data = NOISE.astype("<i2").tobytes()
    content = chunks((b"LIST", b"odd"), (b"fmt ", header()), (b"data", data)) + b"trailing"
    assert read_wav(content).samples.tolist() == NOISE.tolist()


def test_the_extensible_form_of_pcm() -> None:
    guid = bytes.fromhex("0100000000001000800000aa00389b71")
    data = NOISE.astype("<i2").tobytes()
    form = header(0xFFFE) + struct.pack("<HHI", 22, 16, 4) + guid
    assert read_wav(chunks((b"fmt ", form), (b"data", data))).samples.tolist() == NOISE.tolist()
    floats = form[:24] + b"\3" + form[25:]
    with pytest.raises(DataError, match="of form 65534 with 16 bits"):
        read_wav(chunks((b"fmt ", floats), (b"data", data)))


def floats() -> bytes:
    stream = io.BytesIO()
    wavfile.write(stream, 8000, NOISE.astype(np.float32) / 32768)
    return stream.getvalue()


GOOD = written(NOISE)
DATA = NOISE.astype("<i2").tobytes()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (lambda: b"", "not a WAV file"),
        (lambda: b"\xff\xd8\xff" + GOOD, "not a WAV file"),
        (lambda: GOOD[:-2], "a damaged WAV file: the file is cut"),
        (lambda: GOOD[:40], "a damaged WAV file: no samples"),
        (lambda: chunks((b"data", DATA)), "no header before the samples"),
        (lambda: chunks((b"fmt ", header()), (b"fmt ", header()), (b"data", DATA)), "two headers"),
        (lambda: chunks((b"fmt ", header()[:14]), (b"data", DATA)), "its header is too short"),
        (lambda: chunks((b"fmt ", header(frame=4)), (b"data", DATA)), "its header contradicts itself"),
        (lambda: chunks((b"fmt ", header()), (b"data", DATA[:-1])), "its header contradicts itself"),
        (lambda: chunks((b"fmt ", header()), (b"data", b"")), "no samples"),
        (floats, "a WAV file of form 3 with 32 bits a sample: save it as PCM of 8 or 16 bits"),
        (lambda: chunks((b"fmt ", header(bits=24)), (b"data", DATA)), "of form 1 with 24 bits"),
        (lambda: chunks((b"fmt ", header(kind=7, bits=8)), (b"data", DATA)), "of form 7 with 8 bits"),
        (lambda: chunks((b"fmt ", header(channels=9)), (b"data", DATA)), "9 channels: 1 to 8 are read"),
        (lambda: chunks((b"fmt ", header(channels=0)), (b"data", DATA)), "0 channels"),
        (lambda: written(NOISE, 7000), "7000 samples a second: save it with one of 8000, 11025"),
        (lambda: written(np.zeros(LONGEST_S * 8000 + 1)), "16.0 seconds: cut it to 16 at most"),
        (lambda: bytes(16_000_001), "more than the 16000000 allowed"),
    ],
)
def test_one_line_for_everything_else(content: Callable[[], bytes], reason: str) -> None:
    with pytest.raises(DataError) as refusal:
        read_wav(content())
    assert reason in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_no_length_of_a_file_reads_as_another_error() -> None:
    """Every beginning of a file, and every byte of its header altered, is read or refused in one line."""
    for end in range(len(GOOD[:60])):
        with pytest.raises(DataError):
            read_wav(GOOD[:end])
    for at in range(44):
        for value in (0, 1, 127, 255):
            with suppress(DataError):
                read_wav(GOOD[:at] + bytes([value]) + GOOD[at + 1 :])
