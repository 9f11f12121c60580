"""From a recording to the picture a model sees: resample, level, centre, log-mel energies as bytes.

The picture is one plane, time from left to right and frequency from bottom to top, three times over: networks, channels and
uploads are those of photos. Training and the phone-side code share these lines, and the page (`web/sound.js`) and the Android
library (`Sound.kt`) compute the same bytes. Every sum is a sum of whole numbers below 2^53, and every table is rounded to whole
numbers, so no order of summation and no rounding of a processor can be seen in a picture (docs/contract.md, "Sound to picture";
decision 51). Source of the mel scale: HTK, as `mel = 2595 log10(1 + f / 700)`.

Usage: `pixels = load_sound(Path("seven.wav"), height=32, width=64)`
"""

import math
from functools import lru_cache
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from sfumato.core.errors import DataError
from sfumato.core.wav_file import MAX_BYTES, Recording, read_wav

Pixels: TypeAlias = NDArray[np.uint8]
Ints: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]
"""Whole numbers below 2^53, as floats: products of matrices are then exact and fast."""

VERSION = 1
"""Of everything below. Raised whenever a byte of a picture changes."""
RATE = 8000
"""Samples a second that a picture is computed from."""
WINDOW, HOP = 256, 96
"""Samples of a frame, and from one frame to the next."""
LOWEST, STEPS = 6, 10
"""A band's byte is 0 below an energy of about `2^(16 + LOWEST)`, and grows by one `STEPS` times while the energy doubles."""
QUIETEST = 256
"""A recording's largest sample is brought to 32,767, as if it were at least this: silence is not made loud."""
CROSSINGS = 16
"""Of the resampling filter, zero crossings on each side."""
SIZE = 48, 64
"""Mel bands and frames of a picture where nothing else is asked for; 64 frames are 0.79 seconds."""
MOST_BANDS = 64
"""Narrower bands lie between two frequencies of a frame."""


def load_sound(source: str | Path | bytes, height: int, width: int) -> Pixels:
    """`read_wav` and `log_mel` in one: what every recording goes through before a model.

    Args:
        source: a WAV file, or the bytes of one.
        height: of the picture: mel bands.
        width: of the picture: frames.

    Returns:
        (height, width, 3) uint8, three equal planes.

    Raises:
        DataError: no such file, or none that is read; the message begins with its name.
    """
    name = "the recording" if isinstance(source, bytes) else str(source)
    try:
        if not isinstance(source, bytes):
            with open(source, "rb") as stream:
                source = stream.read(MAX_BYTES + 1)
        recording = read_wav(source)
    except FileNotFoundError:
        raise DataError(f"{name}: no such file") from None
    except OSError as error:
        raise DataError(f"{name}: cannot be read ({error.strerror})") from None
    except DataError as error:
        raise DataError(f"{name}: {error}") from None
    return np.repeat(log_mel(recording, height, width)[:, :, None], 3, axis=2)


def log_mel(recording: Recording, bands: int, frames: int) -> Pixels:
    """The log-mel energies of a recording, (bands, frames) uint8: the highest band is row 0.

    Raises:
        DataError: more than `MOST_BANDS` bands.
    """
    if not 1 <= bands <= MOST_BANDS:
        raise DataError(f"{bands} mel bands: a picture of sound has 1 to {MOST_BANDS} rows")
    samples = centred(level(resample(recording)), (frames - 1) * HOP + WINDOW)
    parts = np.lib.stride_tricks.sliding_window_view(samples, WINDOW)[::HOP]
    windowed = ((parts * _hann() + 2**14) >> 15).astype(np.float64)
    real, imaginary = (np.floor((windowed @ table + 2**14) / 2**15) for table in _fourier())
    energies = _mel(bands) @ (real**2 + imaginary**2).T
    picture: Pixels = np.searchsorted(thresholds(), energies, side="right").astype(np.uint8)[::-1]
    return picture


def resample(recording: Recording) -> Ints:
    """The samples at `RATE` a second, (floor(n * RATE / rate),): a windowed sinc of whole numbers.

    Output i is `floor((sum over j of tap(j, i) x_j + 2^19) / 2^20)`, kept within 16 bits, with
    `tap(j, i) = round(2^20 (RATE / rate) sinc(t) cos^2(pi t / 32))` for `|t| < 16`, `t = (j RATE - i rate) / rate`,
    `sinc(t) = sin(pi t) / (pi t)`. Rounding is that to the nearest. Samples before the first and after the last are 0.
    """
    rate, samples = recording.rate, recording.samples
    if rate == RATE:
        return samples
    taps = _taps(rate)
    phases, reach = len(taps), (taps.shape[1] - 1) // 2
    count = max(1, len(samples) * RATE // rate)
    padded = np.pad(samples.astype(np.float64), reach + 1)
    out = np.empty(count, dtype=np.int64)
    for phase in range(min(phases, count)):
        places = np.arange(phase, count, phases) * rate // RATE  # of the last input at or before the output
        around = padded[places[:, None] + np.arange(2 * reach + 1) + 1]
        out[phase::phases] = np.floor((around @ taps[phase] + 2**19) / 2**20)
    return out.clip(-(2**15), 2**15 - 1)


def level(samples: Ints) -> Ints:
    """The samples s as `floor((2 * 32767 s + p) / (2 p))`, p their largest size or `QUIETEST`, whichever is larger."""
    peak = max(QUIETEST, int(np.abs(samples).max()))
    return (2 * 32767 * samples + peak) // (2 * peak)


def centred(samples: Ints, length: int) -> Ints:
    """`length` samples around the centre of energy, zeros where there are none.

    Block b holds the samples 96 b to 96 b + 95 and has the energy `e_b = floor(sum of s^2 / 2^16)`. The centre is
    `floor(sum of (96 b + 48) e_b / sum of e_b)`, or half the length, rounded down, where all are 0.
    """
    blocks = np.pad(samples, (0, -len(samples) % HOP)).reshape(-1, HOP)
    energies = (blocks**2).sum(axis=1) >> 16
    total = int(energies.sum())
    weighted = int((energies * (HOP * np.arange(len(energies)) + HOP // 2)).sum())
    start = (weighted // total if total else len(samples) // 2) - length // 2
    out = np.zeros(length, dtype=np.int64)
    first, last = max(0, start), min(len(samples), start + length)
    if last > first:
        out[first - start : last - start] = samples[first:last]
    return out


@lru_cache(maxsize=1)
def thresholds() -> Floats:
    """(255,) energies from which on a byte is at least i = 1, 2 and so on.

    They are `round(2^16 2^((i mod 10) / 10)) 2^(LOWEST + floor(i / 10))`.
    """
    mantissas = [round(2**16 * 2 ** (step / STEPS)) for step in range(STEPS)]
    return np.array([mantissas[i % STEPS] * 2.0 ** (LOWEST + i // STEPS) for i in range(1, 256)])


@lru_cache(maxsize=1)
def _hann() -> Ints:
    """(WINDOW,) of `round(2^15 (1 - cos(2 pi n / WINDOW)) / 2)`."""
    turns = np.arange(WINDOW) / WINDOW
    window: Ints = np.rint(2**15 * (0.5 - 0.5 * np.cos(2 * math.pi * turns))).astype(np.int64)
    return window


@lru_cache(maxsize=1)
def _fourier() -> tuple[Floats, Floats]:
    """(WINDOW, WINDOW / 2 + 1) of `round(2^15 cos(2 pi k n / WINDOW))`, and of the sine."""
    turns = np.outer(np.arange(WINDOW), np.arange(WINDOW // 2 + 1)) % WINDOW
    cosines = np.rint(2**15 * np.cos(2 * math.pi * np.arange(WINDOW) / WINDOW))
    return cosines[turns], cosines[(turns - WINDOW // 4) % WINDOW]


@lru_cache(maxsize=8)
def _mel(bands: int) -> Floats:
    """(bands, WINDOW / 2 + 1) of `round(256 w)`, w the triangle of a band, 1 at its centre, the lowest band first.

    Corners lie at `700 ((47 / 7)^(j / (bands + 1)) - 1)` Hz, j from 0 to bands + 1: evenly in mel from 0 to 4,000 Hz.
    """
    corners = 700 * ((47 / 7) ** (np.arange(bands + 2) / (bands + 1)) - 1) * WINDOW / RATE
    bins = np.arange(WINDOW // 2 + 1)
    low, centre, high = (corners[i : bands + i, None] for i in range(3))
    slopes = np.minimum((bins - low) / (centre - low), (high - bins) / (high - centre))
    weights: Floats = np.rint(256 * np.maximum(slopes, 0))
    return weights


@lru_cache(maxsize=8)
def _taps(rate: int) -> Floats:
    """(phases, taps) of `resample`, from `reach` inputs before the last one at or before the output to as many behind it."""
    phases = RATE // math.gcd(RATE, rate)
    reach = CROSSINGS * rate // RATE + 1
    behind = np.arange(phases)[:, None] * rate % RATE  # of the output, in RATE-ths of an input
    t = (np.arange(-reach, reach + 1)[None, :] * RATE - behind) / rate
    taps = 2**20 * (RATE / rate) * np.sinc(t) * np.cos(math.pi * t / (2 * CROSSINGS)) ** 2
    rounded: Floats = np.rint(np.where(np.abs(t) < CROSSINGS, taps, 0))
    return rounded
