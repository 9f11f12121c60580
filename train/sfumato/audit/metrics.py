r"""Four measures of what an attacker gains, each with a standard error.

| measure | 0 % | 100 % |
|---|---|---|
| accuracy | the floor | the best attacker on clean images |
| balanced accuracy: mean recall over classes | the floor | the best attacker on clean images |
| AUC: mean over classes, each against the rest | the floor | the best attacker on clean images |
| information: H(S) - cross entropy, in bits | the floor | all of H(S) |
| AUC of one class against the rest, where there are several | the floor | the best attacker on clean images |

Accuracy is what people know, but it is blind to a rare class: who never guesses it is right on all others. The other three
count every class. The share between 0 and 100 % is the normalised gain (NAG); it is never clamped, so a useless attack is
below 0 as often as above.

Every image has a weight that gives each combination of labels its share in the population (`sfumato.audit.floors`), so that
a test split with a few more of one class moves nothing (post-stratification, Holt and Smith, 1979). Standard errors are
linearised: each image's part in the fluctuation of a figure is computed, and the parts vary independently within a
combination of labels (delta method; for the AUC: DeLong et al., 1988). They equal the bootstrap's and need no resamples.

    estimates = measure(answers, sample)
    gain = normalised_gain("auc", estimates, clean_estimates, floors)
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from sfumato.audit.schema import ClassGain, Gain, MeasureName

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

MEASURES: tuple[MeasureName, ...] = ("accuracy", "balanced_accuracy", "auc", "information")
RESAMPLES = 1000
SMALL_CLASS = 20
"""A class with fewer test images may by luck look as if it did not vary; `hidden_variance` makes up for that."""
LEAST_GAIN = 0.01
"""Clean images must be worth this much over the floor, or a measure has no scale: one point, or 1 % of the entropy."""
CONFIDENCE = 0.95
"""Of every limit."""
Z = float(norm.ppf(CONFIDENCE))


@dataclass(frozen=True)
class Answers:
    """What one attacker says about n images."""

    log_probabilities: Floats
    """(n, classes), calibrated: for guesses and cross entropy."""
    ranking: Floats
    """(n, classes) log probabilities that rank images even where calibration found the scores worth nothing."""
    balanced: Ints
    """(n,) guesses that treat all classes as equally frequent."""

    @property
    def guesses(self) -> Ints:
        """(n,) most probable classes."""
        return np.asarray(self.log_probabilities.argmax(1))

    def losses(self, labels: Ints) -> Floats:
        """(n,) -log2 P(label), in bits."""
        return np.asarray(-self.log_probabilities[np.arange(len(labels)), labels] / np.log(2))

    def take(self, rows: Ints) -> "Answers":
        """Those about some of the images."""
        return Answers(self.log_probabilities[rows], self.ranking[rows], self.balanced[rows])


@dataclass(frozen=True)
class Sample:
    """Test images as a sample of the population."""

    labels: Ints
    """(n,)."""
    strata: Ints
    """(n,) number of the combination of labels whose share is known; images vary within one."""
    weights: Floats
    """(n,), 1 in total."""
    image: Ints | None = None
    """(n,) which image a row is about, where an image has several rows, counted from 0 without gaps; None: each row is one."""

    def per_image(self, rows: Floats) -> Floats:
        """Sums over the rows of each image."""
        return rows if self.image is None else np.asarray(np.bincount(self.image, rows), dtype=np.float64)


@dataclass(frozen=True)
class Estimate:
    """A figure and each image's part in it."""

    value: float
    parts: Floats
    """(images,): the figure fluctuates as the sum of these does, within strata."""
    hidden: float = 0.0
    """Variance beyond that, of classes with few images."""


def accuracy(labels: Ints, guesses: Ints) -> float:
    """Share of right guesses."""
    return float((labels == guesses).mean())


def balanced_accuracy(labels: Ints, guesses: Ints) -> float:
    """Mean recall over the classes that occur in `labels`."""
    counts = np.bincount(labels)
    right = np.bincount(labels[guesses == labels], minlength=len(counts))
    occurs = counts > 0
    return float((right[occurs] / counts[occurs]).mean())


def auc(labels: Ints, probabilities: Floats) -> float:
    """Area under the ROC curve, averaged over the classes that occur, each against the rest; .5 is chance.

    Args:
        labels: (n,) class indices.
        probabilities: (n, classes).
    """
    classes = np.unique(labels)
    if len(classes) < 2:
        return 0.5

    def area(one: int) -> float:
        inside, score = labels == one, probabilities[:, one]
        others = score[~inside]
        return float(_below(score[inside], others, np.full(len(others), 1 / len(others))).mean())

    return area(1) if probabilities.shape[1] == 2 else float(np.mean([area(one) for one in classes]))


def nag(attacked: float, clean: float, floor: float) -> float:
    """Normalised accuracy gain over a floor; negative where an attack does worse than guessing.

    Where clean images themselves give less than a point over the floor there is no scale to measure on, and
    the gain is measured against one point: the figure stays finite, and a leak stays visible.

    >>> nag(0.6, 0.9, 0.5)
    0.24999999999999994
    >>> nag(0.49, 0.9, 0.5)
    -0.025000000000000022
    """
    return (attacked - floor) / max(clean - floor, LEAST_GAIN)


def measure(answers: Answers, sample: Sample, entropy_bits: float) -> dict[MeasureName, Estimate]:
    """All four measures of an attacker.

    Args:
        answers: about the n images of the sample.
        sample: labels and weights; a class without images, or of no weight, is left out of the means over classes.
        entropy_bits: H(S) of the population.
    """
    labels, weights = sample.labels, sample.weights
    hits, recalls = answers.guesses == labels, answers.balanced == labels
    shares = np.bincount(labels, weights, minlength=int(labels.max()) + 1)
    # A class that the population does not know has test images of no weight.
    classes = np.flatnonzero(shares > 0)
    within = np.divide(weights, shares[labels], out=np.zeros(len(labels)), where=weights > 0)
    right = sample.per_image(weights * hits)
    recalled = sample.per_image(within * recalls) / len(classes)
    saved = sample.per_image(weights * (entropy_bits - answers.losses(labels)))
    unsure = [[_hidden(sample, labels == one, values) for values in (hits, recalls)] for one in classes]
    doubt, blur = np.array(unsure).T
    return {
        "accuracy": Estimate(float(right.sum()), right, float((shares[classes] ** 2 * doubt).sum())),
        "balanced_accuracy": Estimate(float(recalled.sum()), recalled, float(blur.sum()) / len(classes) ** 2),
        "auc": _weighted_auc(sample, answers.ranking, classes),
        "information": Estimate(float(saved.sum()), saved),
    }


def hidden_variance(values: Floats) -> float:
    """Variance of the mean of (m,) values in 0..1 that so few of them do not show; 0 from `SMALL_CLASS` on.

    As if two more had been seen, one at either end (Agresti and Coull, 1998, do so for shares): one value alone shows no
    variance at all, and five equal ones do not show that all are.

    >>> [round(hidden_variance(np.ones(count)), 3) for count in (1, 5, 20)]
    [0.333, 0.029, 0.0]
    """
    count = len(values)
    if not 0 < count < SMALL_CLASS:
        return 0.0
    shown = float(np.var(values, ddof=1)) if count > 1 else 0.0
    return max(0.0, float(np.var([*values, 0.0, 1.0], ddof=1)) - shown) / count


def _hidden(sample: Sample, rows: NDArray[np.bool_], values: NDArray[Any]) -> float:
    """`hidden_variance` of values (n,) in 0..1 over the images whose rows these are; rows count by their weights."""
    weights = np.where(rows, sample.weights, 0.0)
    total = sample.per_image(weights)
    inside = total > 0
    return hidden_variance(sample.per_image(weights * values)[inside] / total[inside])


def _weighted_auc(sample: Sample, ranking: Floats, classes: Ints) -> Estimate:
    """Mean AUC over classes."""
    if len(classes) < 2:
        return Estimate(0.5, np.zeros(len(sample.per_image(sample.weights))))
    # Of two classes, one against the rest is the other against the rest.
    areas = [_area(sample, ranking, one) for one in (classes[-1:] if ranking.shape[1] == 2 else classes)]
    return Estimate(
        float(np.mean([one.value for one in areas])),
        np.mean([one.parts for one in areas], 0),
        sum(one.hidden for one in areas) / len(areas) ** 2,
    )


def _area(sample: Sample, ranking: Floats, one: int) -> Estimate:
    """AUC of one class against the rest, and the parts of its images after DeLong."""
    weights, inside, score = sample.weights, sample.labels == one, ranking[:, one]
    shares = np.where(inside, weights / weights[inside].sum(), weights / weights[~inside].sum())
    # The share of the other side that an image is ranked above (positives) or below (negatives).
    wins = np.empty(len(score))
    wins[inside] = _below(score[inside], score[~inside], shares[~inside])
    wins[~inside] = 1 - _below(score[~inside], score[inside], shares[inside])
    area = float((shares * wins)[inside].sum())
    hidden = sum(_hidden(sample, side, wins) for side in (inside, ~inside))
    return Estimate(area, sample.per_image(shares * (wins - area)), hidden)


def class_areas(answers: Answers, sample: Sample) -> dict[int, Estimate]:
    """AUC of each class against the rest; empty for two classes, of which the mean says all.

    A mean over classes hides the one that is told: of fifty, one that is told fully moves it by a fiftieth.
    """
    shares = np.bincount(sample.labels, sample.weights)
    classes = np.flatnonzero(shares > 0)
    if len(classes) < 3:
        return {}
    return {int(one): _area(sample, answers.ranking, int(one)) for one in classes}


def _below(values: Floats, others: Floats, shares: Floats) -> Floats:
    """Share of the others that are below each value; equal ones count half."""
    order = np.argsort(others, kind="stable")
    total = np.concatenate([[0.0], np.cumsum(shares[order])])
    ranked = others[order]
    left, right = (np.searchsorted(ranked, values, side=side) for side in ("left", "right"))
    return np.asarray((total[left] + total[right]) / 2)


def standard_error(parts: Floats, strata: Ints) -> float:
    """Of a figure whose images have these parts, (n,), and vary independently within strata, (n,)."""
    counts = np.bincount(strata)
    means = np.bincount(strata, parts) / np.maximum(counts, 1)
    squares = np.bincount(strata, (parts - means[strata]) ** 2)
    return math.sqrt(float((squares * counts / np.maximum(counts - 1, 1)).sum()))


def normalised_gain(
    name: MeasureName,
    attack: Estimate,
    clean: Estimate,
    floor: float,
    strata: Ints,
    *,
    full: float | None = None,
    least_scale: bool = False,
) -> Gain:
    """NAG of an attack by one measure, with its standard error and one-sided 95 % limits; no scale, no NAG.

    Args:
        name: the measure.
        attack: on uploads.
        clean: the best attacker on clean images, measured on the same images.
        floor: what guessing reaches.
        strata: (n,) of the images.
        full: what counts as 100 %; None: the clean attacker.
        least_scale: where clean images give too little, measure against one point all the same.
    """
    reached = clean.value - floor
    still = Estimate(0.0, np.zeros_like(clean.parts))
    scale, moving = (reached, clean) if full is None else (full - floor, still)
    gain = Gain(measure=name, value=attack.value, floor=floor, clean=clean.value)
    # Information is measured against the entropy, so clean images are asked for a share of it.
    if reached < LEAST_GAIN * (1.0 if full is None else scale) or scale <= 0:
        if not least_scale:
            return gain
        scale, moving = LEAST_GAIN, still
    nag = (attack.value - floor) / scale
    shown = standard_error(attack.parts - nag * moving.parts, strata)
    error = math.sqrt(shown**2 + attack.hidden + nag**2 * moving.hidden) / scale
    limits = {"nag": nag, "error": error, "lower": nag - Z * error, "upper": nag + Z * error}
    return gain.model_copy(update=limits)


def gains(
    attack: Mapping[MeasureName, Estimate],
    clean: Mapping[MeasureName, Estimate],
    floors: Mapping[MeasureName, float],
    strata: Ints,
    entropy_bits: float,
) -> tuple[Gain, ...]:
    """NAG by every measure."""
    return tuple(
        normalised_gain(
            name,
            attack[name],
            clean[name],
            floors[name],
            strata,
            full=entropy_bits if name == "information" else None,
        )
        for name in MEASURES
    )


def class_gains(
    attack: Mapping[int, Estimate],
    clean: Mapping[int, Estimate],
    floors: Mapping[int, float],
    strata: Ints,
    names: Sequence[str] = (),
) -> tuple[ClassGain, ...]:
    """NAG of each class against the rest, by AUC, where clean images tell it; names are those of the classes."""
    found = []
    for one, area in attack.items():
        gain = normalised_gain("auc", area, clean[one], floors.get(one, 0.5), strata)
        if gain.nag is not None:
            found.append(ClassGain(value=names[one] if names else str(one), gain=gain))
    return tuple(found)


def resampled(hits: NDArray[np.bool_] | Floats, *, seed: int, resamples: int = RESAMPLES) -> Floats:
    """Means of bootstrap resamples.

    Args:
        hits: (k, n) of right (1) and wrong (0), or credits: k quantities measured on the same n images.
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


def accuracy_interval(hits: NDArray[np.bool_] | Floats, *, seed: int = 0) -> tuple[float, float]:
    """Interval of an accuracy from right (1) and wrong (0) guesses (n,), or of a mean credit from credits."""
    return _interval(resampled(hits[None], seed=seed)[:, 0])


def mean_interval(values: Floats) -> tuple[float, float]:
    """95 % interval of the mean of (n,) values, by the central limit theorem; n at least 2 for a width.

    >>> mean_interval(np.array([1.0, 1.0]))
    (1.0, 1.0)
    """
    half = (
        float(norm.ppf(0.975)) * float(np.std(values, ddof=min(1, len(values) - 1))) / math.sqrt(len(values))
    )
    middle = float(np.mean(values))
    return middle - half, middle + half
