"""The integer sampler against loops over plain Python integers, and against the distributions it stands for."""

import hashlib
from fractions import Fraction
from math import log
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sfumato.core.errors import SfumatoError
from sfumato.runtime.exact_rate import block_rate, dither_table
from sfumato.runtime.sampler import (
    dither,
    gaussian,
    gaussian_factor,
    normal_table,
    open_blocks,
    to_q,
    weaken,
)

# Pinned: Kotlin and JavaScript ship the same table.
TABLE_SHA256 = "43d03e095117a1d0df720e7f5af5df75e619f6584463c3904b9a1139c8a0cfd3"


def test_int8_becomes_q() -> None:
    values = np.arange(-128, 128).astype(np.int8)
    assert to_q(values).tolist() == list(range(256))


def test_the_table_is_pinned_and_symmetric() -> None:
    table = normal_table()
    assert hashlib.sha256(table.tobytes()).hexdigest() == TABLE_SHA256
    assert np.array_equal(table, -table[::-1])
    assert (np.diff(table.astype(int)) >= 0).all()


def test_the_table_is_a_standard_normal() -> None:
    eps = normal_table() / 4080
    assert abs(eps.mean()) < 1e-12
    assert abs(eps.std() - 1) < 2e-4
    for u in (0, 100, 20_000, 32_767, 60_000):
        assert abs(eps[u] - NormalDist().inv_cdf((u + 0.5) / 65536)) <= 0.5 / 4080 + 1e-12


@given(st.sampled_from([1, 2, 4]), st.booleans(), st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_dither_equals_a_loop(bits: int, gray: bool, seed: int) -> None:
    """In Gray code a level is found by looking for the one whose code was drawn; the largest bytes are frequent here."""
    rng = np.random.default_rng(seed)
    q = rng.choice(np.array([0, 1, 100, 254, 255], np.uint8), (2, 3, 3 * bits))
    noise = rng.choice(np.array([0, 99, 100, 253, 254, 255], np.uint8), q.size)
    found = dither(q, noise, bits=bits, gray=gray)
    stream = iter(noise.tolist())
    codes = {level ^ (level >> 1) if gray else level: level for level in range(2**bits)}
    for y in range(2):
        for x in range(3):
            levels = [0, 0, 0]
            for plane in range(3 * bits):
                byte = int(q[y, x, plane])
                bit = 1 if next(stream) < byte + (gray and byte == 255) else 0
                levels[plane % 3] = 2 * levels[plane % 3] + bit
            assert found[y, x].tolist() == [codes[level] for level in levels]


@given(st.booleans(), st.sampled_from([0.0625, 0.5, 2.0, 16.0]), st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_gaussian_equals_a_loop(additive: bool, largest: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    mean, scale = rng.integers(0, 256, (2, 2, 3, 3), dtype=np.uint8)
    noise = rng.integers(0, 256, 2 * mean.size, dtype=np.uint8)
    found = gaussian(mean, scale, noise, largest_scale=largest, additive=additive).reshape(-1)
    for i, (m, s) in enumerate(zip(mean.reshape(-1).tolist(), scale.reshape(-1).tolist(), strict=True)):
        t = int(normal_table()[int(noise[2 * i]) + 256 * int(noise[2 * i + 1])])
        value = (m * (65536 if additive else 65280) + s * t * gaussian_factor(largest) + 32768) // 65536
        assert found[i] == min(255, max(0, value))
        assert (
            abs(s * t * gaussian_factor(largest)) + 2**24 < 2**31
        )  # fits Kotlin's and JavaScript's integers


@pytest.mark.parametrize("q", [0, 1, 77, 128, 255])
def test_a_bit_is_one_in_exactly_q_of_256_cases(q: int) -> None:
    noise = np.arange(256 * 3, dtype=np.uint8)
    drawn = dither(np.full((16, 16, 3), q, np.uint8), noise, bits=1)
    assert int(drawn.sum()) == 3 * q


def test_gaussian_follows_the_normal_distribution() -> None:
    """Chi-square of 200,000 draws against the rounded normal distribution, away from the ends."""
    rng = np.random.default_rng(5)
    mean, scale, count = 130, 40, 200_001
    noise = rng.integers(0, 256, 2 * count, dtype=np.uint8)
    shape = (count // 3, 1, 3)
    drawn = gaussian(
        np.full(shape, mean, np.uint8),
        np.full(shape, scale, np.uint8),
        noise,
        largest_scale=0.5,
        additive=False,
    )
    normal = NormalDist(mean * 255 / 256, 255 * 0.5 * scale / 256)
    edges = np.arange(80, 181, 4)
    expected = count * np.diff([0, *(normal.cdf(e - 0.5) for e in edges), 1])
    found = np.bincount(np.digitize(drawn.reshape(-1), edges), minlength=len(expected))
    chi_square = float(((found - expected) ** 2 / expected).sum())
    assert chi_square < len(expected) + 5 * np.sqrt(2 * len(expected))


def test_loud_noise_reaches_every_grey_level() -> None:
    """With a coarse table the draws lie on a lattice, and the lattice tells the mean."""
    noise = np.arange(65536, dtype="<u2").repeat(3).view(np.uint8)
    shape = (256, 256, 3)
    one, other = (
        np.bincount(
            gaussian(
                np.full(shape, mean, np.uint8),
                np.full(shape, 154, np.uint8),
                noise,
                largest_scale=0.5,
                additive=False,
            )[..., 0].reshape(-1),
            minlength=256,
        )
        for mean in (128, 129)
    )
    assert (one[10:245] > 0).all()
    # One grey level of difference in the mean, 77 of deviation: total variation is about 0.5 %.
    assert np.abs(one - other).sum() / 2 / 65536 < 0.01


def test_without_scale_the_mean_comes_through() -> None:
    mean = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)
    silent, noise = (
        np.zeros_like(mean),
        np.random.default_rng(0).integers(0, 256, 2 * mean.size, dtype=np.uint8),
    )
    assert np.array_equal(gaussian(mean, silent, noise, largest_scale=0.5, additive=True), mean)
    learned = gaussian(mean, silent, noise, largest_scale=0.5, additive=False)
    assert np.array_equal(learned, np.floor(mean * (255 / 256) + 0.5).astype(np.uint8))


def test_wrong_amounts_of_noise_and_planes_are_refused() -> None:
    q = np.zeros((4, 4, 3), np.uint8)
    with pytest.raises(SfumatoError, match="needs 48 noise bytes, not 47"):
        dither(q, np.zeros(47, np.uint8), bits=1)
    with pytest.raises(SfumatoError, match="needs 6 planes"):
        dither(q, np.zeros(48, np.uint8), bits=2)
    with pytest.raises(SfumatoError, match="largest_scale"):
        gaussian(q, q, np.zeros(96, np.uint8), largest_scale=0.3, additive=False)


def weakened(byte: int, strength: int) -> int:
    """The byte closest to the probability behind a binary symmetric channel; of two the upper one."""
    return int((128 + Fraction((byte - 128) * strength, 128) + Fraction(1, 2)) // 1)


@pytest.mark.parametrize("strength", range(1, 129))
def test_every_byte_at_every_strength(strength: int) -> None:
    every = np.arange(256, dtype=np.uint8).reshape(1, 1, 256)
    found = weaken(every, strength, gates=False).reshape(-1)
    assert found.tolist() == [weakened(byte, strength) for byte in range(256)]
    # What docs/decisions/0033 says of rounding: at most half a byte, and no two bytes move apart.
    flip = (1 - strength / 128) / 2
    p = np.arange(256) / 256
    assert np.abs(found / 256 - (p * (1 - flip) + (1 - p) * flip)).max() <= 1 / 512
    assert set(np.diff(found.astype(int))) <= {0, 1}
    # No bit's rate rises, and no open block looks closed.
    assert (dither_table()[found] <= dither_table() + 1e-15).all()
    assert strength == 128 or found.min() == 128 - strength


@pytest.mark.parametrize("bits", [1, 4])
def test_the_strength_acts_in_open_blocks_alone(bits: int) -> None:
    """Two images at once, against a loop over blocks."""
    q = np.random.default_rng(bits).integers(0, 256, (2, 16, 24, 3 * bits), dtype=np.uint8)
    q[0, :8, 8:16] = 0
    q[1, 8:, :8] = 0
    q[1, 9, 3, 1] = 1  # one byte opens its block
    found = weaken(q, 48, gates=True)
    for image in range(2):
        for top in range(0, 16, 8):
            for left in range(0, 24, 8):
                at = (image, slice(top, top + 8), slice(left, left + 8))
                closed = not q[at].any()
                assert closed == (image == 0 and (top, left) == (0, 8))
                assert open_blocks(q)[image, top // 8, left // 8] != closed
                expected = [0 if closed else weakened(int(byte), 48) for byte in q[at].flat]
                assert found[at].flatten().tolist() == expected
        assert np.array_equal(open_blocks(found[image]), open_blocks(q[image]))
        assert block_rate(found[image]) < block_rate(q[image])
    assert (weaken(q, 48, gates=False)[0, :8, 8:16] == 80).all()
    assert np.array_equal(weaken(q, 128, gates=True), q)


@pytest.mark.parametrize(
    ("strength", "largest", "mean"), [(96, 1.7e-5, 3.7e-6), (64, 1.0e-5, 4.2e-6), (32, 8.1e-6, 2.9e-6)]
)
def test_what_rounding_changes_is_what_the_decision_says(strength: int, largest: float, mean: float) -> None:
    """The divergence of a bit, in nats, from the bit of full strength behind the exact channel."""
    found = []
    for byte in range(256):
        shipped, exact = weakened(byte, strength) / 256, 0.5 + (byte / 256 - 0.5) * strength / 128
        found.append(shipped * log(shipped / exact) + (1 - shipped) * log((1 - shipped) / (1 - exact)))
    assert max(found) == pytest.approx(largest, rel=0.02)
    assert sum(found) / 256 == pytest.approx(mean, rel=0.02)
