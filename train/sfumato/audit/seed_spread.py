"""Several audits of one artifact under different attack seeds: how much of a figure depends on chance.

A seed decides the noise of the uploads, the attackers' initial weights and the order of their images; the artifact stays
the same. So the spread is that of the audit, not of the training.

    spreads = seed_spread([attributes_of_seed_0, attributes_of_seed_1])
"""

import math
from collections.abc import Sequence

import numpy as np
from scipy.stats import t

from sfumato.audit.schema import AttributeResult, SeedSpread, Spread


def spread(values: Sequence[float]) -> Spread:
    """Mean, extremes, and the 95 % interval of the mean by Student's t.

    >>> s = spread([0.1, 0.2, 0.3])
    >>> round(s.mean, 3), s.min, s.max, [round(end, 3) for end in s.ci95]
    (0.2, 0.1, 0.3, [-0.048, 0.448])

    Raises:
        ValueError: fewer than two values.
    """
    count = len(values)
    if count < 2:
        raise ValueError("a spread needs at least two seeds")
    middle = float(np.mean(values))
    half = float(t.ppf(0.975, count - 1)) * float(np.std(values, ddof=1)) / math.sqrt(count)
    return Spread(
        values=tuple(values),
        mean=middle,
        min=min(values),
        max=max(values),
        ci95=(middle - half, middle + half),
    )


def seed_spread(audits: Sequence[Sequence[AttributeResult]]) -> tuple[SeedSpread, ...]:
    """Per attribute, the best attacks of all audits; every audit lists the same attributes in the same order."""
    return tuple(
        SeedSpread(
            name=found[0].name,
            attacks=tuple(f"{one.best.attack} ({one.best.architecture})" for one in found),
            accuracy=spread([one.best.accuracy for one in found]),
            nag_label_only=spread([one.nag_label_only for one in found]),
            auc=spread([one.best.auc for one in found]),
        )
        for found in zip(*audits, strict=True)
    )
