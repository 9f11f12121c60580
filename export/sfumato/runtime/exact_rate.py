"""The exact rate of what ships: divergences of the integer sampler's own distributions, no approximation.

Every draw of a sample depends on a byte or two of the model, so the rate of an image is a sum over a table:

- dither: 256 entries, `KL(Bernoulli(q / 256) || Bernoulli(1/2))` in nats;
- dither with a Gray code: the same, but q = 255 stands for 1;
- dither with gates: the same for the blocks that are open, and one fair coin a block;
- gaussian: 256 x 256 entries, the divergence of the 8-bit distribution that `sampler.gaussian` produces for a mean byte
  and a scale byte (65,536 equally likely noise values) from a fixed reference: N(127.5, 255 s_0) rounded to 0..255, the
  tails counted to the ends.

`E[rate] >= I(X; X')` for any image distribution (docs/contract.md).

    nats = dither_rate(q)
"""

import math
from functools import cache
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from sfumato.runtime.sampler import BLOCK, CERTAIN, Bytes, gaussian_factor, normal_table, open_blocks

Floats = NDArray[np.float64]


@cache
def dither_table(gray: bool = False) -> Floats:
    """Nats per bit for q = 0..255.

    >>> [round(float(dither_table()[q]), 6) for q in (0, 128, 255)], round(float(dither_table(gray=True)[255]), 6)
    ([0.693147, 0.0, 0.667588], 0.693147)
    """
    p = np.arange(256) / 256
    if gray:
        p[CERTAIN] = 1.0
    with np.errstate(divide="ignore", invalid="ignore"):
        entropy = -np.nan_to_num(p * np.log(p)) - np.nan_to_num((1 - p) * np.log(1 - p))
    table: Floats = np.maximum(math.log(2) - entropy, 0.0)
    return table


def dither_rate(q: Bytes, *, gray: bool = False) -> float:
    """Rate of one image in nats; q (H, W, 3 * bits)."""
    return float(np.bincount(q.reshape(-1), minlength=256) @ dither_table(gray))


def block_rate(q: Bytes, *, gray: bool = False) -> float:
    """Rate of one image in nats where blocks can be closed; q (H, W, 3 * bits), H and W multiples of `BLOCK`.

    A fair coin says whether a block is open, and of open ones each bit counts. All bytes of a closed block are 0.
    """
    height, width, _ = q.shape
    blocks = q.reshape(height // BLOCK, BLOCK, width // BLOCK, BLOCK, -1).swapaxes(1, 2)
    opened = open_blocks(q)
    return dither_rate(blocks[opened], gray=gray) + int(opened.size) * math.log(2)


@cache
def reference(reference_scale: float) -> Floats:
    """Probability of each grey level under the reference, (256,); all are above 0."""
    normal = NormalDist(127.5, 255 * reference_scale)
    edges = np.array([0.0] + [normal.cdf(v + 0.5) for v in range(255)] + [1.0])
    return np.maximum(np.diff(edges), np.finfo(np.float64).tiny)


@cache
def gaussian_table(largest_scale: float, reference_scale: float, additive: bool) -> Floats:
    """Nats per sample for every mean byte (or pixel) and scale byte, (256, 256)."""
    table = np.empty((256, 256))
    base = np.arange(256, dtype=np.int64)[:, None] * (65536 if additive else 65280)
    log_reference = np.log(reference(reference_scale))
    for scale in range(256):
        mass = _masses(base, scale * gaussian_factor(largest_scale))
        with np.errstate(divide="ignore", invalid="ignore"):
            table[:, scale] = np.where(mass > 0, mass * (np.log(mass) - log_reference), 0.0).sum(1)
    return np.maximum(table, 0.0)


def _masses(base: NDArray[np.int64], swing: int) -> Floats:
    """Probability of every grey level for each base (N, 1): (N, 256).

    The level is at least v exactly if `t * swing >= 65536 v - 32768 - base`; the table is sorted, so counting the noise
    values that do is a search.
    """
    thresholds = 65536 * np.arange(1, 256, dtype=np.int64) - 32768 - base  # (N, 255)
    if swing == 0:
        below = np.where(thresholds > 0, 65536, 0)
    else:
        below = np.searchsorted(normal_table(), -(-thresholds // swing), side="left")
    edges = np.concatenate([np.zeros_like(base), below, np.full_like(base, 65536)], axis=1)
    shares: Floats = np.diff(edges, axis=1) / 65536
    return shares


def gaussian_rate(
    mean: Bytes, scale: Bytes, *, largest_scale: float, reference_scale: float, additive: bool
) -> float:
    """Rate of one image in nats; mean (pixels if `additive`) and scale bytes (H, W, 3)."""
    table = gaussian_table(largest_scale, reference_scale, additive)
    return float(table[mean, scale].sum())
