r"""How likely one or two dithered uploads are, for every candidate photo; and what follows for the photo.

A bit is 1 where its noise byte u, uniform over 0..255, is below q. Two bits from noise of their own are independent. From *one*
noise byte they are not: they differ exactly where u lies between q1 and q2,

    P(1, 1) = min(q1, q2) / 256      P(1, 0) = max(q1 - q2, 0) / 256
    P(0, 0) = 1 - max(q1, q2) / 256  P(0, 1) = max(q2 - q1, 0) / 256

All likelihoods are relative to fair coins, one for every noise byte: a constant factor, which keeps sums over thousands of
bits small enough for float32.
"""

from dataclasses import dataclass
from math import log2, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sfumato.data.intervals import wilson

Bits = NDArray[np.bool_]
"""(N, D): D bits of the upload of each of N photos."""
Maps = NDArray[np.uint8]
"""(M, D): parameter bytes q of each of M candidate photos."""
Logs = NDArray[np.float32]
"""(N, M): natural log of the likelihood of each upload under each candidate."""

IMPOSSIBLE = -1e6
"""Stands for log 0; the true photo never meets it, and no candidate that does can win."""
BLOCK = 128
"""Candidates at a time."""


def one_upload(drawn: Bits, q: Maps) -> Logs:
    """Of one upload."""
    return _summed([(drawn, q.astype(np.float32) / 128), (~drawn, 2 - q.astype(np.float32) / 128)])


def independent(first: Bits, second: Bits, q1: Maps, q2: Maps) -> Logs:
    """Of two uploads whose noise is independent, relative to two coins a bit."""
    return one_upload(first, q1) + one_upload(second, q2)


def common(first: Bits, second: Bits, q1: Maps, q2: Maps) -> Logs:
    """Of two uploads drawn from the same noise bytes."""
    a, b = q1.astype(np.float32) / 128, q2.astype(np.float32) / 128
    return _summed(
        [
            (first & second, np.minimum(a, b)),
            (first & ~second, np.maximum(a - b, 0)),
            (~first & second, np.maximum(b - a, 0)),
            (~first & ~second, 2 - np.maximum(a, b)),
        ]
    )


def version_2(first: Bits, second: Bits, q1: Maps, q2: Maps, *, one_contract: bool) -> NDArray[np.float64]:
    """Of two uploads under noise of version 2: one upload twice where contract and q are equal, else independent ones."""
    # Here candidates of both kinds meet, so both are put relative to the same: two coins a bit for one, one for the other.
    found = independent(first, second, q1, q2) - np.float64(q1.shape[1] * np.log(2))
    if one_contract:
        same = (q1 == q2).all(axis=1)
        equal = (first == second).all(axis=1)
        found[:, same] = np.where(equal[:, None], one_upload(first, q1[same]), IMPOSSIBLE)
    return found


def _summed(outcomes: list[tuple[Bits, NDArray[Any]]]) -> Logs:
    """For each outcome: where it occurred (N, D), and how likely it is there (M, D), twice its probability."""
    count, candidates = len(outcomes[0][0]), len(outcomes[0][1])
    total = np.zeros((count, candidates), np.float32)
    for occurred, likely in outcomes:
        where = occurred.astype(np.float32)
        for start in range(0, candidates, BLOCK):
            block = likely[start : start + BLOCK]
            logs = np.full(block.shape, IMPOSSIBLE, np.float32)
            np.log(block, out=logs, where=block > 0)
            total[:, start : start + BLOCK] += where @ logs.T
    return total


@dataclass(frozen=True)
class Learnt:
    """What uploads tell about the photo, over all photos."""

    bits: float
    """Mean of log2 (posterior / prior) of the true photo; the mean over all draws is the mutual information."""
    bits_interval: tuple[float, float]
    first: float
    """Fraction of photos that the attack ranks first; a tie counts its share."""
    first_interval: tuple[float, float]
    largest_bits: float
    """Of a single photo."""


def learnt(logs: NDArray[Any]) -> Learnt:
    """Posterior over N candidates under a uniform prior, from (N, N) log likelihoods with the true photo on the diagonal.

    Intervals are for 95 %, over photos and draws: normal for the bits, Wilson's for the fraction.
    """
    wide = logs.astype(np.float64)
    count = len(wide)
    shifted = wide - wide.max(axis=1, keepdims=True)
    chance = np.exp(shifted)
    posterior = np.diag(shifted) - np.log(chance.sum(axis=1))
    gained = log2(count) + posterior / np.log(2)
    best = shifted == 0
    first = float(np.mean(np.diag(best) / best.sum(axis=1)))
    spread = 1.96 * float(gained.std(ddof=1)) / sqrt(count)
    mean = float(gained.mean())
    return Learnt(
        mean, (mean - spread, mean + spread), first, wilson(first * count, count), float(gained.max())
    )
