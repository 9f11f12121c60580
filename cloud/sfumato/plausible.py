"""Does this look like a draw from the contract's channel, or like a photo that nobody perturbed?

The rate bounds how far an upload can stray from the reference, and so gives a test without any training. Let z be the samples
standardised under the reference (dither: +1 and -1; gaussian: (v - 127.5) / (255 s_0)) and m their means given the photo. Then
`sum m_i^2 <= 2 R` with R in nats: for a bit, KL(1/2 + d || 1/2) >= 2 d^2 and m = 2 d; for a normal sample KL >= m^2 / 2. Hence

    neighbours   E sum z_i z_j over pairs, each sample in at most two:  |.| <= sum m_i^2 <= 2 R
    blocks       E sum over blocks of B samples of ((sum z)^2 - sum z^2): |.| <= (B - 1) 2 R

while chance moves the first by about sqrt(pairs) and the second by sqrt(2 n (B - 1)). Photos are smooth: thresholded, dithered
by any of the usual methods or plain, they exceed both many times over. What the contract says about the rate was measured on
test images, so `SLACK` times its maximum is allowed. A channel whose rate is large (the additive form above all) allows nearly
everything: there is nothing to check where uploads are allowed to show the photo.

    verdict = check(levels, contract)           # verdict.plausible, verdict.reason
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sfumato.contract import Contract

DEVIATIONS = 8.0
"""Standard deviations of chance that are allowed: a false alarm in about 10^15 uploads."""
SLACK = 4.0
"""A user's photo may carry this many times the largest rate of the test images."""
BLOCK = 4
"""Side of a block, in pixels."""

Bytes = NDArray[np.uint8]
Samples = NDArray[np.floating[Any]] | NDArray[np.int8]


@dataclass(frozen=True)
class Verdict:
    """What the test says about one upload."""

    plausible: bool
    score: float
    """Largest statistic as a share of what is allowed; above 1 the upload is refused."""
    reason: str


def largest_rate(contract: Contract) -> float:
    """Largest rate of an image in nats, as the contract measured it on the int8 model; infinite if it does not say."""
    rates = contract.figures.get("rate_bits")
    largest = rates.get("max") if isinstance(rates, dict) else None
    bits = largest.get("int8") if isinstance(largest, dict) else None
    return float(bits) * math.log(2) if isinstance(bits, (int, float)) else math.inf


def check(levels: Bytes, contract: Contract) -> Verdict:
    """Compare levels (H, W, 3) with what the contract's channel can draw."""
    allowed = 2 * SLACK * largest_rate(contract)
    worst, name = 0.0, "nothing"
    for plane in standardised(levels, contract):
        for kind, (value, share, spread) in statistics(plane).items():
            score = abs(value) / (share * allowed + DEVIATIONS * spread)
            if score > worst:
                worst, name = score, kind
    return Verdict(worst <= 1.0, worst, f"{name}: {worst:.1f} times what this channel can draw")


def standardised(levels: Bytes, contract: Contract) -> list[Samples]:
    """Levels as samples of mean 0 and variance 1 under the reference, (H, W, 3).

    One array per bit for dither, of int8: an eighth of the memory, which is what takes the time.
    """
    channel = contract.channel
    if channel.name == "dither":
        shifts = range(channel.bits - 1, -1, -1)
        planes = [((levels >> np.uint8(shift)) & np.uint8(1)).view(np.int8) for shift in shifts]
        return [plane * np.int8(2) - np.int8(1) for plane in planes]
    scale = np.float32(255.0 * float(channel.reference_scale or 1.0))
    return [(levels.astype(np.float32) - np.float32(127.5)) / scale]


def statistics(z: Samples) -> dict[str, tuple[float, float, float]]:
    """Name -> (value, share, spread): `share` times `sum m^2` bounds the mean, `spread` is the deviation by chance."""
    height, width, _ = z.shape
    first, middle, last = z[..., 0], z[..., 1], z[..., 2]
    pairs = {
        "columns side by side": ((z[:, 1:], z[:, :-1]),),
        "rows side by side": ((z[1:], z[:-1]),),
        "colours of a pixel": ((first, middle), (middle, last)),
    }
    found = {
        name: (
            sum(product(left, right) for left, right in these),
            1.0,
            math.sqrt(sum(left.size for left, _ in these)),
        )
        for name, these in pairs.items()
    }
    down, across = height // BLOCK, width // BLOCK
    whole = z[: down * BLOCK, : across * BLOCK]
    # In two steps: a sum over two axes at once takes numpy several times as long.
    rows = whole.reshape(down, BLOCK, -1).sum(axis=1, dtype=z.dtype)
    blocks = np.einsum("yxbc->yxc", rows.reshape(down, across, BLOCK, 3))
    energy = float(np.vdot(blocks.astype(np.float64), blocks)) - product(whole, whole)
    size = BLOCK * BLOCK
    found["blocks of pixels"] = (energy, size - 1.0, math.sqrt(2.0 * whole.size * (size - 1)))
    return found


def product(left: Samples, right: Samples) -> float:
    """Sum of the products of two arrays; those of int8 hold +1 and -1 alone."""
    if left.dtype == np.int8:
        return 2.0 * np.count_nonzero(left == right) - left.size
    return float(np.vdot(left, right))
