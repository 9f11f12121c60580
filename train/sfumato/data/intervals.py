"""Intervals of a share: how far a count of images can lie from the truth by chance.

>>> [round(limit, 3) for limit in wilson(99, 100)], [round(limit, 4) for limit in clopper_pearson(0, 100, 0.95)]
([0.946, 0.998], [0.0, 0.0295])
"""

from scipy.stats import beta

Z95 = 1.959964
"""A normal variable is within so many standard deviations with 95 %."""


def wilson(hits: float, count: int) -> tuple[float, float]:
    """95 % interval of a share (Wilson, 1927); within 0..1.

    Args:
        hits: how many of `count`; a tie may count as a part.
        count: at least 1.
    """
    share, z = hits / count, Z95**2 / count
    middle, half = share + z / 2, (z * (share * (1 - share) + z / 4)) ** 0.5
    return max(0.0, (middle - half) / (1 + z)), min(1.0, (middle + half) / (1 + z))


def clopper_pearson(hits: float, count: int, level: float) -> tuple[float, float]:
    """Lower and upper limit of a share, each one-sided at `level` (Clopper and Pearson, 1934).

    They hold for every true share. An expected number of hits counts as it is: it varies less than a drawn one, so the
    limits are then on the safe side.

    Args:
        hits: 0 .. `count`.
        count: at least 1.
        level: for example .95; two limits at .975 are a 95 % interval.
    """
    lower = 0.0 if hits <= 0 else float(beta.ppf(1 - level, hits, count - hits + 1))
    upper = 1.0 if hits >= count else float(beta.ppf(level, hits + 1, count - hits))
    return lower, upper
