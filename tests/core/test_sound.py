"""Pictures of sound against the slow computation that docs/contract.md promises, one whole number at a time."""

import io
import math
import wave
from decimal import ROUND_FLOOR, Decimal, getcontext
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from scipy.signal import stft

from sfumato.core import sound
from sfumato.core.errors import DataError
from sfumato.core.sound import HOP, RATE, WINDOW, load_sound, log_mel
from sfumato.core.wav_file import RATES, Recording

getcontext().prec = 60
PI = Decimal("3.14159265358979323846264338327950288419716939937510582097494459")


def recording(seconds: float, rate: int = RATE, seed: int = 0) -> Recording:
    """A rising tone under an envelope, and some noise."""
    time = np.arange(int(seconds * rate)) / rate
    tone = np.sin(2 * np.pi * (300 * time + 900 * time**2 / seconds)) * np.sin(np.pi * time / seconds) ** 2
    noise = np.random.default_rng(seed).normal(0, 60, len(time))
    return Recording(rate, np.rint(9000 * tone + noise).astype(np.int64))


def cosine(angle: Decimal) -> Decimal:
    """By its series, to fifty digits."""
    angle %= 2 * PI
    total, term, n = Decimal(1), Decimal(1), 0
    while abs(term) > Decimal(10) ** -50:
        n += 2
        term *= -angle * angle / (n * (n - 1))
        total += term
    return total


def power(base: Decimal, exponent: Fraction) -> Decimal:
    return (base.ln() * exponent.numerator / exponent.denominator).exp()


def exact_round(value: Decimal) -> int:
    """To the nearest; refuses what lies so near to a half that a processor's cosine could decide."""
    below = int(value.to_integral_value(ROUND_FLOOR))
    assert abs(value - below - Decimal("0.5")) > Decimal("1e-7"), value
    return below + (value - below > Decimal("0.5"))


def slow_mel(bands: int) -> list[list[int]]:
    corner = [700 * power(Decimal(47) / 7, Fraction(j, bands + 1)) - 700 for j in range(bands + 2)]
    out = []
    for b in range(bands):
        low, centre, high = (c * WINDOW / RATE for c in corner[b : b + 3])
        row = []
        for k in range(WINDOW // 2 + 1):
            slope = min((k - low) / (centre - low), (high - k) / (high - centre))
            row.append(exact_round(256 * slope) if slope > 0 else 0)
        out.append(row)
    return out


def slow_log_mel(samples: list[int], bands: int, frames: int) -> list[list[int]]:
    """Steps 3 to 6 of docs/contract.md, "Sound to picture", for samples at the contract's rate."""
    peak = max(256, *(abs(s) for s in samples))
    samples = [(2 * 32767 * s + peak) // (2 * peak) for s in samples]
    energies = [sum(s * s for s in samples[at : at + HOP]) // 2**16 for at in range(0, len(samples), HOP)]
    length = (frames - 1) * HOP + WINDOW
    centre = len(samples) // 2
    if sum(energies):
        centre = sum((HOP * b + HOP // 2) * e for b, e in enumerate(energies)) // sum(energies)
    start = centre - length // 2
    around = [samples[t] if 0 <= t < len(samples) else 0 for t in range(start, start + length)]
    turn = [2 * PI * n / WINDOW for n in range(WINDOW)]
    hann = [exact_round(2**15 * (1 - cosine(a)) / 2) for a in turn]
    real_part, imaginary_part = (
        [exact_round(2**15 * cosine(a - by)) for a in turn] for by in (Decimal(0), PI / 2)
    )
    weights = slow_mel(bands)
    columns = []
    for frame in range(frames):
        x = [(s * w + 2**14) // 2**15 for s, w in zip(around[frame * HOP :], hann, strict=False)]
        power = []
        for k in range(WINDOW // 2 + 1):
            real = (sum(v * real_part[k * n % WINDOW] for n, v in enumerate(x)) + 2**14) // 2**15
            imaginary = (sum(v * imaginary_part[k * n % WINDOW] for n, v in enumerate(x)) + 2**14) // 2**15
            power.append(real**2 + imaginary**2)
        energy = [sum(w * p for w, p in zip(row, power, strict=True)) for row in weights]
        assert max(energy) < 2**53
        columns.append([slow_byte(e) for e in energy])
    return [[columns[t][b] for t in range(frames)] for b in reversed(range(bands))]


def slow_byte(energy: int) -> int:
    byte = 0
    for i in range(1, 256):
        mantissa = exact_round(2**16 * power(Decimal(2), Fraction(i % 10, 10)))
        byte += energy >= mantissa * 2 ** (6 + i // 10)
    return byte


@pytest.mark.parametrize(("seconds", "bands", "frames"), [(0.1, 16, 3), (0.03, 32, 2), (0.2, 64, 2)])
def test_every_byte_is_that_of_the_slow_computation(seconds: float, bands: int, frames: int) -> None:
    given = recording(seconds)
    assert log_mel(given, bands, frames).tolist() == slow_log_mel(given.samples.tolist(), bands, frames)


@pytest.mark.parametrize("rate", [rate for rate in RATES if rate != RATE])
def test_resampling_is_that_of_the_slow_computation(rate: int) -> None:
    given = recording(0.012, rate)
    x, found = given.samples.tolist(), sound.resample(given).tolist()
    assert len(found) == len(x) * RATE // rate
    for i in range(0, len(found), 7):
        total = 0
        for j, value in enumerate(x):
            t = Fraction(j * RATE - i * rate, rate)
            if abs(t) < 16:
                total += value * slow_tap(t, rate)
        assert found[i] == min(32767, max(-32768, (total + 2**19) // 2**20))


def slow_tap(t: Fraction, rate: int) -> int:
    angle = PI * t.numerator / t.denominator
    sinc = cosine(angle - PI / 2) / angle if t else Decimal(1)
    return exact_round(2**20 * Decimal(RATE) / rate * sinc * cosine(angle / 32) ** 2)


@pytest.mark.parametrize("rate", [rate for rate in RATES if rate != RATE])
def test_every_tap_is_far_from_a_half(rate: int) -> None:
    """So every processor's sine rounds to the same table; the page and the app compute their own."""
    taps, reach = sound._taps(rate), sound.CROSSINGS * rate // RATE + 1
    for phase in range(len(taps)):
        behind = phase * rate % RATE
        for at in range(0, taps.shape[1], 1 if len(taps) < 20 else 17):
            t = Fraction((at - reach) * RATE - behind, rate)
            assert taps[phase, at] == (slow_tap(t, rate) if abs(t) < 16 else 0)


@pytest.mark.parametrize("bands", [16, 32, 48, 64])
def test_every_weight_is_far_from_a_half(bands: int) -> None:
    assert sound._mel(bands).astype(int).tolist() == slow_mel(bands)
    assert (sound._mel(bands).sum(1) > 0).all()  # no band falls between two frequencies


@pytest.mark.parametrize("rate", [11025, 16000, 44100, 48000])
def test_resampling_keeps_a_tone_and_removes_what_would_alias(rate: int) -> None:
    n = np.arange(rate // 4)
    low, high = (9000 * np.sin(2 * np.pi * hertz * n / rate) for hertz in (1000, 5200))
    found = sound.resample(Recording(rate, np.rint(low + high).astype(np.int64)))
    wanted = 9000 * np.sin(2 * np.pi * 1000 * np.arange(len(found)) / RATE)
    assert np.abs(found - wanted)[100:-100].max() < 20  # 53 dB below


def test_the_picture_shows_the_tone_where_scipys_transform_does() -> None:
    n = np.arange(6304)
    for hertz in (500, 1500, 3000):
        picture = log_mel(
            Recording(RATE, np.rint(20000 * np.sin(2 * np.pi * hertz * n / RATE)).astype(int)), 32, 64
        )
        corners = 700 * ((47 / 7) ** (np.arange(34) / 33) - 1)
        assert abs(corners[1 + 31 - picture[:, 32].argmax()] - hertz) < corners[1:].max() / 20
    given = recording(0.8)
    _, _, found = stft(
        sound.level(given.samples), nperseg=WINDOW, noverlap=WINDOW - HOP, boundary=None, padded=False
    )
    energies = np.abs(found) ** 2 @ np.ones(found.shape[1])
    bytes_ = log_mel(given, 32, 64).astype(float)
    loudest = 31 - int(bytes_.sum(1).argmax())
    assert abs(int(energies.argmax()) * RATE / WINDOW - 700 * ((47 / 7) ** ((loudest + 1) / 33) - 1)) < 400


def test_loudness_and_silence_around_change_nothing_but_the_last_steps() -> None:
    given = recording(0.4)
    quiet = Recording(RATE, given.samples // 4)
    later = Recording(RATE, np.concatenate([np.zeros(960, np.int64), given.samples, np.zeros(96, np.int64)]))
    one, two, three = (log_mel(each, 32, 64).astype(int) for each in (given, quiet, later))
    loud = one > 100
    assert np.abs(one - two)[loud].max() <= 3
    assert np.array_equal(one, three)  # whole blocks: the centre moves with the word


def test_silence_is_black_and_one_sample_is_a_picture() -> None:
    assert not log_mel(Recording(RATE, np.zeros(500, np.int64)), 32, 64).any()
    assert log_mel(Recording(RATE, np.array([-32768])), 32, 64).max() > 100
    assert log_mel(Recording(48000, np.array([7])), 32, 64).shape == (32, 64)


def test_loading_says_which_file_and_repeats_the_plane(tmp_path: Path) -> None:
    given = recording(0.3)
    stream = io.BytesIO()
    with wave.open(stream, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(given.samples.astype("<i2").tobytes())
    (tmp_path / "word.wav").write_bytes(stream.getvalue())
    found = load_sound(tmp_path / "word.wav", 32, 64)
    assert np.array_equal(found, load_sound(stream.getvalue(), 32, 64))
    for plane in range(3):
        assert np.array_equal(found[:, :, plane], log_mel(given, 32, 64))
    with pytest.raises(DataError, match=r"^the recording: not a WAV file$"):
        load_sound(b"GIF89a", 32, 64)
    with pytest.raises(DataError, match=r"missing\.wav: no such file$"):
        load_sound(tmp_path / "missing.wav", 32, 64)
    with pytest.raises(DataError, match="cannot be read"):
        load_sound(tmp_path, 32, 64)
    with pytest.raises(DataError, match="65 mel bands"):
        log_mel(given, 65, 64)


def test_every_recording_of_the_set_reads_and_fits(shared_data: Path) -> None:
    folder = shared_data / "spoken_digits" / "recordings"
    if not folder.is_dir():
        pytest.skip("no spoken_digits")
    files = sorted(folder.glob("*.wav"))
    assert len(files) == 3000
    pictures = np.stack([load_sound(path, 32, 64)[:, :, 0] for path in files[::30]])
    assert pictures.max(axis=(1, 2)).min() > 200
    assert 0.0001 < (pictures == 255).mean() < 0.01  # nearly nothing is beyond the scale
    assert math.isclose(np.isin(pictures, [0]).mean(), 0.42, abs_tol=0.05)
