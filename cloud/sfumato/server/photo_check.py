"""Whether an upload can be a draw from the contract's channel, or is a photo that nobody perturbed.

The rate bounds how far an upload can be from the reference, which gives a test without training. Let z be the samples
standardised under the reference (dither: +1 and -1; gaussian: (v - 127.5) / (255 s_0)) and m their means given the photo. Then
`sum m_i^2 <= 2 R` with R in nats: for a bit, KL(1/2 + d || 1/2) >= 2 d^2 and m = 2 d; for a normal sample KL >= m^2 / 2. Hence

    neighbours   E sum z_i z_j over pairs, each sample in at most two:  |.| <= sum m_i^2 <= 2 R
    blocks       E sum over blocks of B samples of ((sum z)^2 - sum z^2): |.| <= (B - 1) 2 R

while chance moves the first by about sqrt(pairs) and the second by sqrt(2 n (B - 1)). Photos are smooth: thresholded, dithered
by any of the usual methods or plain, they exceed both many times over. The contract's rate was measured on test images, so
`SLACK` times its maximum is allowed. A channel of a large rate (the additive form above all) allows nearly everything: there
is nothing to check where uploads may show the photo.

    (result,) = check_uploads([levels], contract)       # result.passed, result.reason
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sfumato.runtime.contract import Contract
from sfumato.runtime.sampler import BLOCK as GATED
from sfumato.runtime.sampler import open_blocks

DEVIATIONS = 8.0
"""Standard deviations of chance that are allowed: a false alarm in about 10^15 uploads."""
SLACK = 4.0
"""A user's photo may carry this many times the largest rate of the test images."""
BLOCK = 4
"""Side of a block, in pixels."""

Bytes = NDArray[np.uint8]
Values = NDArray[np.float64]
Samples = NDArray[np.floating[Any]] | NDArray[np.int8]


@dataclass(frozen=True)
class PhotoCheck:
    """The result for one upload."""

    passed: bool
    """Whether the channel can have drawn it."""
    score: float
    """Largest statistic as a share of what is allowed; above 1 the upload is refused."""
    reason: str


def largest_rate(contract: Contract) -> float:
    """Largest rate of an image in nats, as the contract measured it on the int8 model; infinite if it does not say."""
    rates = contract.figures.get("rate_bits")
    largest = rates.get("max") if isinstance(rates, dict) else None
    bits = largest.get("int8") if isinstance(largest, dict) else None
    return float(bits) * math.log(2) if isinstance(bits, (int, float)) else math.inf


def check_uploads(uploads: Sequence[Bytes], contract: Contract) -> list[PhotoCheck]:
    """Compare uploads, levels (H, W, planes) each, with what the contract's channel can draw.

    Several at once take less time than one after the other.
    """
    allowed = 2 * SLACK * largest_rate(contract)
    scores: dict[str, Values] = {}
    for plane in standardised(np.stack(uploads), contract):
        for name, (values, share, spread) in statistics(plane).items():
            score = np.abs(values) / (share * allowed + DEVIATIONS * spread)
            scores[name] = np.maximum(scores.get(name, 0.0), score)
    each = ({name: float(score[at]) for name, score in scores.items()} for at in range(len(uploads)))
    return [_worst(one) for one in each]


def _worst(scores: Mapping[str, float]) -> PhotoCheck:
    """The result of the statistic that is farthest out."""
    name = max(scores, key=scores.__getitem__)
    score = scores[name]
    return PhotoCheck(score <= 1.0, score, f"{name}: {score:.1f} times what this channel can draw")


def standardised(levels: Bytes, contract: Contract) -> list[Samples]:
    """Levels (B, H, W, planes) as samples of mean 0 and variance 1 under the reference.

    One array per bit for dither, of int8: an eighth of the memory, which is what takes the time. With gates it is of float32,
    and 0 in closed blocks: they are black for certain, however little the channel tells.
    """
    channel = contract.channel
    if channel.name == "dither":
        shifts = range(channel.bits - 1, -1, -1)
        drawn = levels ^ (levels >> np.uint8(1)) if channel.gray else levels
        planes = [((drawn >> np.uint8(shift)) & np.uint8(1)).view(np.int8) for shift in shifts]
        signed: list[Samples] = [plane * np.int8(2) - np.int8(1) for plane in planes]
        if not channel.gates:
            return signed
        over_pixels = open_blocks(levels).repeat(GATED, -2).repeat(GATED, -1)[..., None]
        return [np.where(over_pixels, plane, np.float32(0)) for plane in signed]
    scale = np.float32(255.0 * float(channel.reference_scale or 1.0))
    return [(levels.astype(np.float32) - np.float32(127.5)) / scale]


def statistics(z: Samples) -> dict[str, tuple[Values, float, float]]:
    """Name -> (values, share, spread) for samples (B, H, W, planes).

    Of the B values, `share` times `sum m^2` bounds the mean and `spread` is the deviation by chance.
    """
    height, width, planes = z.shape[1:]
    found = {
        "columns side by side": (products(z[:, :, 1:], z[:, :, :-1]), height * (width - 1) * planes),
        "rows side by side": (products(z[:, 1:], z[:, :-1]), (height - 1) * width * planes),
    }
    if planes == 3:
        first, middle, last = z[..., 0], z[..., 1], z[..., 2]
        beside = products(first, middle) + products(middle, last)
        found["colours of a pixel"] = (beside, height * width * 2)
    result = {name: (values, 1.0, math.sqrt(pairs)) for name, (values, pairs) in found.items()}
    down, across, size = height // BLOCK, width // BLOCK, BLOCK * BLOCK
    whole = z[:, : down * BLOCK, : across * BLOCK]
    # Slices are added up: whatever order the memory has, numpy is quicker at that than at a sum over axes.
    rows = sum((whole[:, i::BLOCK] for i in range(1, BLOCK)), start=whole[:, ::BLOCK])
    sums = sum((rows[:, :, i::BLOCK] for i in range(1, BLOCK)), start=rows[:, :, ::BLOCK])
    blocks = sums.astype(np.float64)
    energy = np.einsum("nyxc,nyxc->n", blocks, blocks) - products(whole, whole)
    samples = down * across * size * planes
    result["blocks of pixels"] = (energy, size - 1.0, math.sqrt(2.0 * samples * (size - 1)))
    return result


def products(left: Samples, right: Samples) -> Values:
    """Sum of the products of two arrays (B, ...), for each of the B; those of int8 hold +1 and -1 alone."""
    if left.dtype == np.int8:
        return np.array([2.0 * np.count_nonzero(same) - same.size for same in left == right])
    return np.array([float(np.vdot(*pair)) for pair in zip(left, right, strict=True)])
