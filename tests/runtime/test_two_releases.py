"""The reference attack: two uploads of one photo by two releases, and a provider who knows both and every candidate photo.

Under noise of version 1, which is written out here for comparison, the pair names the photo. Under version 2 it tells what
two draws with independent noise tell, and the attack that broke version 1 finds nothing.
"""

import hashlib
import hmac
from collections.abc import Callable
from math import log

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

from sfumato.runtime.keyed_noise import keyed_noise, stream_key

Bytes = NDArray[np.uint8]
Noise = Callable[[bytes, bytes, Bytes, Bytes], Bytes]
"""Key, contract digest, q, pixels -> noise bytes in the shape of q."""

SIDE, PHOTOS = 16, 200
KEY = bytes(range(32))
RELEASES = [hashlib.sha256(name).digest() for name in (b"release 1", b"release 2")]


def candidates() -> Bytes:
    return np.random.default_rng(1).integers(0, 256, (PHOTOS, SIDE, SIDE, 3), dtype=np.uint8)


def maps(photos: Bytes, step: float) -> Bytes:
    """A small network that tells a few bits: a code word for its decision, a trace of the photo; weights move by `step`."""
    random = np.random.default_rng(2)
    inputs = photos.reshape(PHOTOS, -1) / 255 - 0.5
    count = inputs.shape[1]
    first, second = random.normal(0, 3 / count**0.5, (count, 32)), random.normal(0, 0.014, (32, count))
    code = random.choice([-0.1, 0.1], count)
    second = second + step * np.random.default_rng(3).normal(0, 0.014, second.shape)
    hidden = np.tanh(inputs @ first)
    logit = np.where(hidden[:, :1] > 0, code, -code) + hidden @ second
    q: Bytes = np.round(256 / (1 + np.exp(-logit))).astype(np.uint8).reshape(photos.shape)
    return q


def version_1(key: bytes, contract: bytes, q: Bytes, pixels: Bytes) -> Bytes:
    """As schema 1 had it: neither contract nor parameters matter."""
    counter = hmac.new(
        key, b"sfumato-noise-v1" + hashlib.sha256(pixels.tobytes()).digest(), hashlib.sha256
    ).digest()
    stream = Cipher(algorithms.AES(stream_key(key)), modes.CTR(counter[:16])).encryptor()
    return np.frombuffer(stream.update(bytes(q.size)), np.uint8).reshape(q.shape)


def version_2(key: bytes, contract: bytes, q: Bytes, pixels: Bytes) -> Bytes:
    return keyed_noise(key, contract, q.tobytes(), pixels, q.size).reshape(q.shape)


def fresh(key: bytes, contract: bytes, q: Bytes, pixels: Bytes) -> Bytes:
    seed = int.from_bytes(hashlib.sha256(contract + pixels.tobytes()).digest()[:8], "big")
    return np.random.default_rng(seed).integers(0, 256, q.shape, dtype=np.uint8)


def log_or_never(p: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.log(p, out=np.full(p.shape, -1e9), where=p > 0)


def common_likelihood(b1: Bytes, b2: Bytes, q1: Bytes, q2: Bytes) -> NDArray[np.float64]:
    """Log likelihood of two uploads (H, W, 3) from the same noise bytes, for every candidate."""
    one, two = q1.astype(int), q2.astype(int)
    p = np.where(b1 & b2, np.minimum(one, two), np.where(b1 | b2, 0, 256 - np.maximum(one, two)))
    p = np.where(b1 & ~b2 & 1, np.maximum(one - two, 0), p)
    p = np.where(b2 & ~b1 & 1, np.maximum(two - one, 0), p)
    total: NDArray[np.float64] = log_or_never(p / 256).sum(axis=(1, 2, 3))
    return total


def independent_likelihood(b1: Bytes, b2: Bytes, q1: Bytes, q2: Bytes) -> NDArray[np.float64]:
    """The same where each upload has noise of its own."""
    total = np.zeros(PHOTOS)
    for drawn, q in ((b1, q1), (b2, q2)):
        total += log_or_never(np.where(drawn, q, 256 - q.astype(int)) / 256).sum(axis=(1, 2, 3))
    return total


def test_the_likelihood_of_common_noise_is_that_of_counting_noise_bytes() -> None:
    q1, q2 = (
        np.array([[[[3]]], [[[200]]], [[[77]]]], np.uint8),
        np.array([[[[9]]], [[[120]]], [[[77]]]], np.uint8),
    )
    for b1 in (0, 1):
        for b2 in (0, 1):
            drawn = [np.array([[[b]]], np.uint8) for b in (b1, b2)]
            found = common_likelihood(drawn[0], drawn[1], q1, q2)
            counted = [
                sum((u < one) == b1 and (u < two) == b2 for u in range(256))
                for one, two in zip(q1.reshape(-1), q2.reshape(-1), strict=True)
            ]
            assert found.tolist() == pytest.approx([log(n / 256) if n else -1e9 for n in counted])


def named(
    noise: Noise, likelihood: Callable[..., NDArray[np.float64]], step: float = 1.0
) -> tuple[float, float]:
    """Fraction of photos that the attack ranks first, and bits: the mean of log2 (posterior / prior)."""
    photos = candidates()
    both = [maps(photos, 0), maps(photos, step)]
    first, bits = 0, 0.0
    for i, photo in enumerate(photos):
        drawn = [
            (noise(KEY, contract, q[i], photo) < q[i]).astype(np.uint8)
            for contract, q in zip(RELEASES, both, strict=True)
        ]
        logs = likelihood(*drawn, *both)
        first += int(np.argmax(logs) == i)
        bits += (logs[i] - np.logaddexp.reduce(logs)) / np.log(2) + np.log2(PHOTOS)
    return first / PHOTOS, bits / PHOTOS


def test_version_1_names_the_photo_and_version_2_does_not() -> None:
    before, told_before = named(version_1, common_likelihood)
    after, told_after = named(version_2, independent_likelihood)
    _, told_apart = named(fresh, independent_likelihood)
    broken, _ = named(version_2, common_likelihood)

    assert before > 0.7, "the attack works: by chance it is 0.005"
    assert told_before > told_after + 4
    assert after < 0.15
    assert abs(told_after - told_apart) < 0.5
    assert broken < 0.05, "and what named the photo before does not any more"


def test_a_single_changed_byte_already_gives_an_independent_upload() -> None:
    """The smallest difference that two delegates can make: under version 1 it moved at most one bit, and told which."""
    photo = candidates()[0]
    q = maps(candidates(), 0)[0]
    other = q.copy()
    other[7, 11, 2] ^= 1
    old = [version_1(KEY, RELEASES[0], one, photo) < one for one in (q, other)]
    new = [version_2(KEY, RELEASES[0], one, photo) < one for one in (q, other)]
    assert (old[0] != old[1]).sum() <= 1
    assert 0.4 < (new[0] != new[1]).mean() < 0.6


def test_the_same_upload_again_is_the_same_upload() -> None:
    photo, q = candidates()[0], maps(candidates(), 0)[0]
    again = [version_2(KEY, RELEASES[0], q.copy(), photo.copy()) < q for _ in range(2)]
    assert np.array_equal(*again)
    another = version_2(KEY, RELEASES[1], q, photo) < q
    assert 0.4 < (again[0] != another).mean() < 0.6, "another service, another draw"
