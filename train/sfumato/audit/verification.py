"""Verification: are two uploads of one person, or of two?

Who attacks a person does not always know whom to look for. It is enough to link uploads. An attacker that gives every upload a
posterior over known persons gives each pair a score, the log likelihood ratio of "one person" over "two independent ones":
`log sum over s of p_1(s) p_2(s) / P(s)`. Its AUC and its equal error rate over all pairs of test images are reported beside
those of the best attacker on clean images. .5 is chance. Persons are those that the attacker has learned from: of strangers it
says nothing.

    verification(best.log_probabilities, clean.log_probabilities, persons, seed=0)
"""

import numpy as np

from sfumato.audit.metrics import Floats, Ints
from sfumato.audit.schema import PairFigures, Verification

MOST = 600
"""Test images at most: their pairs grow with the square."""
RESAMPLES = 200
"""Of the images, for the interval: pairs that share an image vary together."""


def verification(uploads: Floats, clean: Floats, persons: Ints, *, seed: int) -> Verification | None:
    """How well pairs of one person are told from pairs of two.

    Args:
        uploads: (n, persons) log posterior of the best attack, one row a test image.
        clean: the same of the best attacker on clean images.
        persons: (n,) who is on each.
        seed: of the choice among more than `MOST` images, and of the resamples.

    Returns:
        None where no two images are of one person, or all are.
    """
    random = np.random.default_rng(seed)
    rows = np.sort(random.permutation(len(persons))[:MOST])
    persons = persons[rows]
    same = _pairs(persons[:, None] == persons)
    if same.all() or not same.any():
        return None
    prior = np.maximum(np.bincount(persons, minlength=uploads.shape[1]), 1) / len(persons)
    scores = pair_scores(uploads[rows], prior)
    return Verification(
        images=len(rows),
        pairs=len(same),
        uploads=_figures(scores, persons, random),
        clean=_figures(pair_scores(clean[rows], prior), persons, random),
    )


def pair_scores(log_posteriors: Floats, prior: Floats) -> Floats:
    """(n, n) log likelihood ratios of "one person" over "two", from log posteriors (n, persons).

    Rounded to nine digits: equal words have equal scores, whatever the order of a sum.
    """
    likelihoods = np.exp(log_posteriors)
    ratios: Floats = np.log(np.maximum(likelihoods @ (likelihoods / prior).T, 1e-300)).round(9)
    return ratios


def _pairs(square: Floats) -> Floats:
    """The values of (n, n) for every two different images, (n (n - 1) / 2,)."""
    return square[np.triu_indices(len(square), 1)]


def _figures(scores: Floats, persons: Ints, random: np.random.Generator) -> PairFigures:
    first, second = np.triu_indices(len(persons), 1)
    found = scores[first, second]
    order = np.argsort(found, kind="stable")
    first, second, found = first[order], second[order], found[order]
    same = persons[first] == persons[second]
    starts = np.flatnonzero(np.concatenate([[True], found[1:] != found[:-1]]))  # of each score that occurs

    def counts(weights: Ints) -> tuple[Floats, Floats]:
        """Pairs of one person and of two at each score, the lowest first, where an image counts so often."""
        pairs = (weights[first] * weights[second]).astype(np.float64)
        return np.add.reduceat(pairs * same, starts), np.add.reduceat(pairs * ~same, starts)

    one, two = counts(np.ones(len(persons), np.int64))
    areas = []
    for _ in range(RESAMPLES):  # an image that is drawn twice is no pair with itself
        drawn = np.bincount(random.integers(0, len(persons), len(persons)), minlength=len(persons))
        area = _area(*counts(drawn))
        areas += [] if area is None else [area]
    low, high = np.quantile(areas, (0.025, 0.975)) if areas else (0.0, 1.0)
    # At a threshold just above each score: the share of pairs of one person below it, and of pairs of two at or above it.
    missed, taken = one.cumsum() / one.sum(), 1 - two.cumsum() / two.sum()
    crossing = int(np.abs(missed - taken).argmin())
    return PairFigures(
        auc=float(_area(one, two) or 0.0),
        ci95=(float(low), float(high)),
        equal_error_rate=float((missed[crossing] + taken[crossing]) / 2),
    )


def _area(one: Floats, two: Floats) -> float | None:
    """Area under the ROC curve, ties counted half; None where there are no pairs of one kind."""
    total = one.sum() * two.sum()
    return float((one * (two.cumsum() - two / 2)).sum() / total) if total else None
