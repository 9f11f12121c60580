"""The sampler, version 1: from the model's bytes and noise bytes to the upload, in integers alone.

The same few lines exist in Kotlin and JavaScript and give the same bytes (docs/contract.md, "Sampler v1"). A parameter
byte is `q = int8 + 128`, 0..255, and stands for q / 256.

Dither, k bits a colour: bit = 1 if u < q else 0, one noise byte `u` per bit, in the order of the tensor (y, x, plane).
Plane `3 j + c` is bit j (0 = most significant) of colour c; the level of a colour is `sum_j bit_j 2^(k-1-j)`. With a Gray code
each of these bits is the exclusive or of the drawn ones up to it, and q = 255 stands for 1: a bit that is wrong in one draw of
256 would give a level far from the right one.

Gaussian: `t` = NORMAL[u] for the little-endian 16-bit noise `u` of each sample, `K = 16 * largest_scale`,

    x' = clip((base + s * t * K + 2^15) >> 16, 0, 255)

with `base = 65280 m` for the mean byte m, or `65536 * pixel` where the noise is additive, `s` the scale byte, and `>>`
rounding down. All of it fits in 32 signed bits up to largest_scale = 16. The table is in 1/4080 standard deviation: with
entries of 8 bits the draws would lie on a lattice of two grey levels, and which lattice would tell the mean
(docs/decisions/0005).

Before a dither draw the probabilities may be drawn towards a fair coin, by one strength for all of them (`weaken`).

    levels = dither(parameters["p"], noise, bits=1)
"""

from collections.abc import Sequence
from functools import cache
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from sfumato.core.errors import SfumatoError
from sfumato.core.strengths import FULL

VERSION = 1
NORMAL_TABLE = "normal_table.bin"
"""The file in which gaussian exports carry `normal_table`, little-endian."""
NORMAL_SCALE = 4080
"""Entries of the normal table are in units of 1/4080 standard deviation; 4080 = 16 * 255, so that no rounding is left."""
LARGEST = 16
"""Largest `largest_scale` whose arithmetic fits in 32 bits."""
CERTAIN = 255
"""With a Gray code this byte stands for 1, not for 255/256."""
BLOCK = 8
"""Height and width of a block that can be closed, in pixels."""

Bytes = NDArray[np.uint8]


def to_q(values: NDArray[np.int8]) -> Bytes:
    """int8 model output -> q = value + 128, 0..255."""
    return (values.view(np.uint8) ^ np.uint8(0x80)).view(np.uint8)


def to_int8(values: Bytes) -> NDArray[np.int8]:
    """q -> int8 = q - 128, the reverse of `to_q`; a pixel becomes the model's input, whose scale is 1/255 from -128 on."""
    return (np.ascontiguousarray(values) ^ np.uint8(0x80)).view(np.int8)


@cache
def normal_table() -> NDArray[np.int16]:
    """65,536 standard normal quantiles: entry u is `round(4080 * Phi^-1((u + 1/2) / 65536))`.

    >>> table = normal_table()
    >>> int(table[0]), int(table[32767]), int(table[32768]), int(table[65535])
    (-17646, 0, 0, 17646)
    """
    inverse = NormalDist().inv_cdf
    # The upper half mirrors the lower one exactly, whatever the last bit of inv_cdf says.
    lower = [-int(-NORMAL_SCALE * inverse((u + 0.5) / 65536) + 0.5) for u in range(32768)]
    table = np.array(lower + [-value for value in reversed(lower)], dtype=np.int16)
    table.setflags(write=False)
    return table


def dither_noise_bytes(height: int, width: int, bits: int, colours: int = 3) -> int:
    """Noise bytes one image needs: one per bit."""
    return height * width * colours * bits


def gaussian_noise_bytes(height: int, width: int) -> int:
    """Noise bytes one image needs: two per sample."""
    return 2 * height * width * 3


def dither(q: Bytes, noise: Bytes, *, bits: int, gray: bool = False) -> Bytes:
    """Draw the levels of one image.

    Args:
        q: probabilities in 1/256, (H, W, 3 * bits), of grey pictures (H, W, bits).
        noise: as many bytes.
        bits: bits a colour sample, 1, 2 or 4.
        gray: whether they are the level's Gray code.

    Returns:
        (H, W, 3) or (H, W, 1) uint8, levels 0 .. 2^bits - 1.
    """
    height, width, planes = q.shape
    if planes not in (bits, 3 * bits):
        raise SfumatoError(
            f"dither with {bits} bits needs {3 * bits} planes, of grey pictures {bits}, not {planes}"
        )
    ones = _exactly(noise, q.size).reshape(q.shape) < q
    if gray:
        ones |= q == CERTAIN
    # One copy, after which each plane lies in one piece: three neighbours at a time take numpy several times as long.
    first, *others = np.moveaxis(
        ones.view(np.uint8).reshape(height, width, bits, planes // bits), 2, 0
    ).copy()
    levels: Bytes = first
    for drawn in others:
        bit = drawn ^ (levels & np.uint8(1)) if gray else drawn
        levels = (levels << np.uint8(1)) | bit
    return levels


def pictures(drawn: Sequence[Bytes], *, bits: int, side: int = 1) -> NDArray[np.float32]:
    """Uploads as the cloud network sees them, (N, colours, side * H, side * W) in 0..1.

    Args:
        drawn: levels of each, (H, W, colours), 0 .. 2^bits - 1.
        bits: a colour sample.
        side: height and width, in pixels, of the square that a sample stands for.
    """
    planes = np.stack([levels.transpose(2, 0, 1) for levels in drawn])  # as a PNG holds them already
    return interpolated(np.divide(planes, np.float32(2**bits - 1), dtype=np.float32), side)


def interpolated(samples: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    """Samples (..., H, W) as a picture (..., side * H, side * W), linear between them.

    Sample i stands at pixel `side * i + side // 2`; beyond the first and the last nothing changes.

    >>> interpolated(np.array([[0, 1]], dtype=np.float32), 2).tolist()
    [[0.0, 0.0, 0.5, 1.0], [0.0, 0.0, 0.5, 1.0]]
    """
    if side == 1:
        return samples
    for axis in (-2, -1):
        count = samples.shape[axis]
        place = (np.arange(side * count) - side // 2) / side
        below = np.floor(place).astype(np.int64)
        share = (place - below).astype(np.float32).reshape(-1, *(1,) * (-axis - 1))
        low, high = (samples.take((below + more).clip(0, count - 1), axis) for more in (0, 1))
        samples = low + (high - low) * share
    return samples


def open_blocks(q: Bytes) -> NDArray[np.bool_]:
    """Which blocks are open, (..., H / BLOCK, W / BLOCK), for q (..., H, W, planes): all bytes of a closed one are 0."""
    *images, height, width, planes = q.shape
    blocks = q.reshape(*images, height // BLOCK, BLOCK, width // BLOCK, BLOCK, planes)
    opened: NDArray[np.bool_] = blocks.any((-4, -2, -1))
    return opened


def weaken(q: Bytes, strength: int, *, gates: bool) -> Bytes:
    """Probabilities drawn towards a fair coin: `128 + (((q - 128) strength + 64) >> 7)`.

    The strength acts in open blocks alone, in which every byte is then at least 1: closed ones stay closed.

    >>> weaken(np.array([[[0, 128, 255]]], dtype=np.uint8), 64, gates=False).tolist()
    [[[64, 128, 192]]]

    Args:
        q: probabilities in 1/256, (..., H, W, planes).
        strength: 1..128; 128 changes nothing.
        gates: whether blocks can be closed.
    """
    if strength == FULL:
        return q
    drawn = (128 + (((q.astype(np.int16) - 128) * np.int16(strength) + 64) >> 7)).astype(np.uint8)
    if not gates:
        return drawn
    over_pixels = open_blocks(q).repeat(BLOCK, -2).repeat(BLOCK, -1)
    return np.where(over_pixels[..., None], drawn, q)


def gaussian_factor(largest_scale: float) -> int:
    """K: one step of the scale byte times one step of the table, in 1/65536 of a grey level.

    >>> gaussian_factor(0.5)
    8
    """
    factor = 16 * largest_scale
    if not (0 < largest_scale <= LARGEST and factor == int(factor)):
        raise SfumatoError(f"largest_scale must be a multiple of 1/16 up to {LARGEST}, not {largest_scale}")
    return int(factor)


def gaussian(mean: Bytes, scale: Bytes, noise: Bytes, *, largest_scale: float, additive: bool) -> Bytes:
    """Draw one image.

    Args:
        mean: (H, W, 3); mean bytes of the model, or the pixels themselves if `additive`.
        scale: scale bytes, (H, W, 3).
        noise: 2 * H * W * 3 bytes.
        largest_scale: s_max of the channel.
        additive: the mean is the image.

    Returns:
        (H, W, 3) uint8.
    """
    u = _exactly(noise, 2 * mean.size).view("<u2").reshape(mean.shape)
    swing = (
        scale.astype(np.int32) * normal_table()[u].astype(np.int32) * np.int32(gaussian_factor(largest_scale))
    )
    base = mean.astype(np.int32) * np.int32(65536 if additive else 65280)
    drawn: Bytes = np.clip((base + swing + 32768) >> 16, 0, 255).astype(np.uint8)
    return drawn


def _exactly(noise: Bytes, count: int) -> Bytes:
    if noise.size != count:
        raise SfumatoError(f"this draw needs {count} noise bytes, not {noise.size}")
    return np.ascontiguousarray(noise)
