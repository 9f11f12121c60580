"""Properties of whole draws, keyed noise and all: the exact channel's distribution, repetition, independence.

Every draw follows from a key, so a passing example passes for ever; the search for examples is fixed as well.
"""

import math
from collections.abc import Callable
from itertools import product
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import chi2

from sfumato.runtime.keyed_noise import keyed_noise
from sfumato.runtime.sampler import dither, gaussian

Bytes = NDArray[np.uint8]
SIDE = 64
CONTRACT = bytes(range(32, 64))
KEYS = st.binary(min_size=32, max_size=32)
SEEDS = st.integers(0, 2**32 - 1)
RARE = 1e-7
"""Of a few hundred examples none should be so unlikely."""

fixed = settings(max_examples=25, deadline=None, derandomize=True)


def picture(seed: int) -> Bytes:
    return np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)


def draw_noise(key: bytes, image: Bytes, q: Bytes) -> Bytes:
    return keyed_noise(key, CONTRACT, np.ascontiguousarray(q).tobytes(), image, q.size)


def chance(counts: NDArray[np.int64], shares: NDArray[np.float64]) -> float:
    """Probability of counts at least this far from the expected shares: Pearson's chi-square, rare values together."""
    assert counts[shares == 0].sum() == 0, "a value that cannot occur did"
    expected = counts.sum() * shares
    often = expected >= 5
    found = np.append(counts[often], counts[~often].sum())
    wanted = np.append(expected[often], expected[~often].sum())
    found, wanted = found[wanted > 0], wanted[wanted > 0]
    return float(chi2.sf(((found - wanted) ** 2 / wanted).sum(), max(1, len(wanted) - 1)))


def level_shares(q: list[int]) -> NDArray[np.float64]:
    """Probability of every level of one colour whose bits, most significant first, are one with q / 256."""
    shares = np.zeros(2 ** len(q))
    for bits in product((0, 1), repeat=len(q)):
        level = int("".join(map(str, bits)), 2)
        shares[level] = math.prod(p / 256 if bit else 1 - p / 256 for p, bit in zip(q, bits, strict=True))
    return shares


def grey_shares(mean: float, deviation: float) -> NDArray[np.float64]:
    """Probability of every grey level under a normal distribution, in grey levels, rounded and clipped."""
    if deviation == 0:
        shares: NDArray[np.float64] = np.eye(256)[min(255, math.floor(mean + 0.5))]
        return shares
    normal = NormalDist(mean, deviation)
    edges = [0.0, *(normal.cdf(level + 0.5) for level in range(255)), 1.0]
    return np.diff(np.array(edges))


@given(st.sampled_from([1, 2, 4]), KEYS, SEEDS)
@fixed
def test_dither_follows_the_exact_channel(bits: int, key: bytes, seed: int) -> None:
    values = np.random.default_rng(seed).integers(0, 256, 3 * bits, dtype=np.uint8)
    q = np.broadcast_to(values, (SIDE, SIDE, 3 * bits))
    levels = dither(q, draw_noise(key, picture(seed), q), bits=bits)
    for colour in range(3):
        counts = np.bincount(levels[..., colour].reshape(-1), minlength=2**bits)
        assert chance(counts, level_shares(values[colour::3].tolist())) > RARE


@given(
    st.booleans(), st.sampled_from([0.0625, 0.5, 2.0]), st.integers(0, 255), st.integers(0, 255), KEYS, SEEDS
)
@fixed
def test_gaussian_follows_the_exact_channel(
    additive: bool, largest: float, mean: int, scale: int, key: bytes, seed: int
) -> None:
    shape = (SIDE, SIDE, 3)
    means, scales = np.full(shape, mean, np.uint8), np.full(shape, scale, np.uint8)
    given = scales.tobytes() if additive else means.tobytes() + scales.tobytes()
    drawn = gaussian(
        means,
        scales,
        keyed_noise(key, CONTRACT, given, picture(seed), 2 * SIDE * SIDE * 3),
        largest_scale=largest,
        additive=additive,
    )
    shares = grey_shares(mean if additive else mean * 255 / 256, 255 * largest * scale / 256)
    assert chance(np.bincount(drawn.reshape(-1), minlength=256), shares) > RARE


def test_the_test_would_notice_a_sampler_that_is_off_by_one() -> None:
    """`u <= q` instead of `u < q`: 1/256 more, in a million bits."""
    key, image, shape = bytes(32), picture(0), (600, 600, 3)
    noise = keyed_noise(key, CONTRACT, b"", image, math.prod(shape))
    for q, expected in ((128, True), (129, False)):
        counts = np.bincount(dither(np.full(shape, q, np.uint8), noise, bits=1).reshape(-1), minlength=2)
        assert (chance(counts, level_shares([128])) > RARE) == expected


Given = tuple[bytes, bytes, Bytes, Bytes]
"""Key, contract digest, parameter bytes, picture."""


def flipped(content: bytes, place: int) -> bytes:
    changed = bytearray(content)
    changed[place % len(changed)] ^= 1 << place % 8
    return bytes(changed)


def other_key(given: Given, place: int) -> Given:
    key, contract, q, image = given
    return flipped(key, place), contract, q, image


def other_contract(given: Given, place: int) -> Given:
    key, contract, q, image = given
    return key, flipped(contract, place), q, image


def other_parameter(given: Given, place: int) -> Given:
    key, contract, q, image = given
    changed = q.copy()
    changed.reshape(-1)[place % q.size] ^= np.uint8(1)
    return key, contract, changed, image


def other_pixel(given: Given, place: int) -> Given:
    key, contract, q, image = given
    changed = image.copy()
    changed.reshape(-1)[place % image.size] ^= np.uint8(1 << place % 8)
    return key, contract, q, changed


@pytest.mark.parametrize("change", [other_pixel, other_key, other_contract, other_parameter])
@given(key=KEYS, seed=SEEDS, place=st.integers(0, 2**16))
@fixed
def test_one_changed_bit_draws_an_independent_upload(
    change: Callable[[Given, int], Given], key: bytes, seed: int, place: int
) -> None:
    """Given the probabilities, the two uploads' bits are uncorrelated: five standard deviations and a half."""
    image = picture(seed)
    q = np.random.default_rng(seed + 1).integers(0, 256, image.shape, dtype=np.uint8)
    first = dither(q, draw_noise(key, image, q), bits=1)
    assert np.array_equal(first, dither(q, draw_noise(key, image.copy(), q), bits=1))
    other_key, contract, other_q, other_image = change((key, CONTRACT, q, image), place)
    noise = keyed_noise(other_key, contract, other_q.tobytes(), other_image, q.size)
    p, second = q / 256, dither(other_q, noise, bits=1)
    together = ((first - p) * (second - p)).sum() / math.sqrt(((p * (1 - p)) ** 2).sum())
    assert abs(together) < 5.5
