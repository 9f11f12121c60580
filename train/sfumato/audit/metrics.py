"""Figures of an audit: accuracies, the normalised accuracy gain, bootstrap intervals, and the leak in bits.

    NAG = max(0, (acc - floor) / (acc_clean - floor))

0 means that the attacker does no better than guessing, 1 that it does as well as on clean images. Accuracies are fractions
of 1. Intervals (low, high) are 95 % percentile bootstraps over the test images (Efron, 1979). All accuracies in a NAG come
from the same images, so they are resampled together.

    nag(0.60, 0.95, 0.58)
"""

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import recall_score, roc_auc_score

from sfumato.data.label_dependence import entropy

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

RESAMPLES = 1000
LEAST_GAIN = 0.01
"""NAG divides by at least this gain on clean images: one point."""


def accuracy(labels: Ints, guesses: Ints) -> float:
    """Share of right guesses."""
    return float((labels == guesses).mean())


def balanced_accuracy(labels: Ints, guesses: Ints) -> float:
    """Mean recall over the classes that occur in `labels`."""
    return float(recall_score(labels, guesses, labels=np.unique(labels), average="macro"))


def auc(labels: Ints, probabilities: Floats) -> float:
    """Area under the ROC curve, averaged over the classes that occur, each against the rest; .5 is chance.

    Args:
        labels: (n,) class indices.
        probabilities: (n, classes).
    """
    classes = np.unique(labels)
    if len(classes) < 2:
        return 0.5
    if probabilities.shape[1] == 2:
        return float(roc_auc_score(labels, probabilities[:, 1]))
    return float(np.mean([roc_auc_score(labels == c, probabilities[:, c]) for c in classes]))


def leak_bits(labels: Ints, cross_entropy: float) -> float:
    """Lower bound on I(S; X') in bits: H(S) - CE of any attacker, never below 0."""
    return max(0.0, entropy(labels) - cross_entropy)


def nag(attacked: float, clean: float, floor: float) -> float:
    """Normalised accuracy gain over a floor.

    Where clean images themselves give less than a point over the floor there is no scale to measure on, and
    the gain is measured against one point: the figure stays finite, and a leak stays visible.

    >>> nag(0.6, 0.9, 0.5)
    0.24999999999999994
    >>> nag(0.4, 0.9, 0.5)
    0.0
    """
    return max(0.0, (attacked - floor) / max(clean - floor, LEAST_GAIN))


def resampled(hits: NDArray[np.bool_], *, seed: int, resamples: int = RESAMPLES) -> Floats:
    """Means of bootstrap resamples.

    Args:
        hits: (k, n): k quantities measured on the same n images.
        seed: decides the resamples.
        resamples: how many.

    Returns:
        (resamples, k) means, the k quantities resampled together.
    """
    n = hits.shape[1]
    rng = np.random.default_rng(seed)
    out = np.empty((resamples, len(hits)))
    for start in range(0, resamples, 100):
        count = min(100, resamples - start)
        weights = rng.multinomial(n, np.full(n, 1 / n), size=count)
        out[start : start + count] = weights @ hits.T.astype(np.float64) / n
    return out


def _interval(values: Floats) -> tuple[float, float]:
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


def accuracy_interval(hits: NDArray[np.bool_], *, seed: int = 0) -> tuple[float, float]:
    """Interval of an accuracy from right (True) and wrong (False) guesses (n,)."""
    return _interval(resampled(hits[None], seed=seed)[:, 0])


def nag_interval(
    attacked: NDArray[np.bool_], clean: NDArray[np.bool_], floor: NDArray[np.bool_], *, seed: int = 0
) -> tuple[float, float]:
    """Interval of NAG; attack, clean attack and floor are right or wrong on the same n images."""
    means = resampled(np.stack([attacked, clean, floor]), seed=seed)
    return _interval(np.array([nag(a, c, f) for a, c, f in means]))
