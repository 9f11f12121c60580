r"""Attackers' scores about an attribute of which an upload tells an exactly known amount.

An upload of class s gives z ~ N(d e_s, 1) in as many dimensions as there are classes, so the log-likelihood of class k
is d z_k up to a constant. The distance d is set by what is wanted: bits of information, or accuracy of the best guess (by Monte
Carlo with fixed numbers and bisection). An attacker that sees the leak gives d (z_k + noise of its own); one that does not
gives numbers that have nothing to do with the photo, as large as an overfitted network's.

    world = make_world(case, images=3500, seed=0)
    predictions = simulate(world, case, seed=0)
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax

from sfumato.audit.attack_data import VALIDATION_DRAWS, AttackData, AttackSplit
from sfumato.audit.predictions import Prediction

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Unit = Literal["bits", "nag"]
SeenBy = Literal["one", "many"]
NAME = "planted"
ATTACKS = 20
"""Attacks on uploads in one audit."""
MANY = 8
"""Of these, so many see the leak where many do; each with noise of its own."""
DRAWS = 100_000
"""Of the Monte Carlo."""
CLEAN_SHARE = 0.8
"""Attackers on clean photos learn so much of the attribute's entropy."""
FIRST, VALIDATION_IN_FOLDS = 0.45, 0.22
"""Of the images of all folds, what the first one tests, and validation images beside them: as a data set is split."""
ANEW = 0.3
"""Noise that a further fold adds to an attacker's scores on validation, which it knows from the first, in their deviations."""
VALIDATION, ATTACKER, DEFENDER = 0.5, 1.25, 2.25
"""Images of the other splits for each test image, as data sets are split."""


@dataclass(frozen=True)
class Case:
    """One kind of leak."""

    classes: int
    prevalence: float
    """Of the rarest class; the others share the rest evenly."""
    leak: float
    """Bits of information, or NAG in accuracy if `unit` says so."""
    unit: Unit
    seen_by: SeenBy

    @property
    def prior(self) -> Floats:
        """(classes,)."""
        return np.array([(1 - self.prevalence) / (self.classes - 1)] * (self.classes - 1) + [self.prevalence])


def entropy(prior: Floats) -> float:
    """In bits."""
    return float(-(prior * np.log2(prior)).sum())


def measured(prior: Floats, distance: float) -> tuple[float, float]:
    """Information in bits and accuracy of the best guess at a distance, by Monte Carlo with fixed numbers."""
    rng = np.random.default_rng(0)
    counts = np.round(prior * DRAWS).astype(int)
    labels = np.repeat(np.arange(len(prior)), counts)
    z = rng.normal(size=(len(labels), len(prior)))
    z[np.arange(len(labels)), labels] += distance
    posterior = log_softmax(distance * z + np.log(prior), axis=1)
    lost = -posterior[np.arange(len(labels)), labels].mean() / np.log(2)
    return entropy(prior) - float(lost), float((posterior.argmax(1) == labels).mean())


def bisect(reached: Callable[[float], float], wanted: float) -> float:
    """The distance in 0..12 at which a growing figure reaches what is wanted."""
    low, high = 0.0, 12.0
    for _ in range(20):
        middle = (low + high) / 2
        low, high = (middle, high) if reached(middle) < wanted else (low, middle)
    return high


@cache
def distances(case: Case) -> tuple[float, float]:
    """Distance of the leak, and of clean photos."""
    prior = case.prior
    clean = bisect(lambda d: measured(prior, d)[0], CLEAN_SHARE * entropy(prior))
    if case.leak == 0:
        return 0.0, clean
    if case.unit == "bits":
        return bisect(lambda d: measured(prior, d)[0], case.leak), clean
    floor = float(prior.max())
    wanted = floor + case.leak * (measured(prior, clean)[1] - floor)
    return bisect(lambda d: measured(prior, d)[1], wanted), clean


@dataclass(frozen=True)
class World:
    """The data of one simulated audit."""

    data: AttackData
    defender: Ints
    """Labels of the defender's images: with the attacker's, the population."""


def make_world(case: Case, images: int, seed: int, validation: float = VALIDATION) -> World:
    """Labels of all splits, with so many validation images for each test image; photos and uploads there are none."""
    rng = np.random.default_rng((seed, 1))

    def labels(share: float) -> Ints:
        # Splits are stratified: every split has its share of each class, to within an image.
        count = round(share * images)
        order = (np.arange(count) + rng.random()) / count
        return rng.permutation(np.searchsorted(np.cumsum(case.prior)[:-1], order, side="right"))

    def split(share: float) -> AttackSplit:
        return blank_split(labels(share))

    data = AttackData(
        channel=None,  # type: ignore[arg-type]  # nothing is drawn: scores are simulated
        cloud=None,  # type: ignore[arg-type]
        keep=("kept",),
        classes={NAME: case.classes, "kept": 1},
        size=(1, 1),
        train=split(ATTACKER),
        validation=split(validation),
        test=split(1.0),
        rate=None,  # type: ignore[arg-type]
        seed=seed,
    )
    return World(data, labels(DEFENDER))


def blank_split(labels: Ints) -> AttackSplit:
    """Images of these labels without a pixel."""
    return AttackSplit(
        pixels=np.zeros((len(labels), 1, 1, 3), np.uint8),
        parameters={},
        labels={NAME: labels, "kept": np.zeros(len(labels), np.int64)},
        images=len(labels),
    )


def in_folds(data: AttackData, folds: int) -> list[AttackData]:
    """The test images dealt into folds as an audit does: `FIRST` of them in the first, the rest in equal parts."""
    labels = data.test.labels[NAME]  # in random order
    first = len(labels) if folds == 1 else round(FIRST * len(labels))
    parts = [labels[:first], *(np.array_split(labels[first:], folds - 1) if folds > 1 else ())]
    return [replace(data, test=blank_split(part)) for part in parts]


def predicted_in_folds(data: AttackData, predictions: list[Prediction], folds: int) -> list[list[Prediction]]:
    """What each attacker says in every fold: it is trained anew, and read the same validation uploads a little otherwise.

    Args:
        data: of the whole.
        predictions: on validation and all test images.
        folds: as many as `in_folds` deals.
    """
    rng = np.random.default_rng((data.seed, 3))
    start, out = 0, []
    for number, fold in enumerate(in_folds(data, folds)):
        rows = slice(start, start + fold.test.images)
        start += fold.test.images
        out.append(
            [
                replace(
                    one,
                    test=one.test[rows],
                    validation=one.validation
                    if number == 0
                    else one.validation + ANEW * one.validation.std() * rng.normal(size=one.validation.shape),
                )
                for one in predictions
            ]
        )
    return out


def simulate(world: World, case: Case, seed: int) -> list[Prediction]:
    """Scores of one attacker on clean photos and of `ATTACKS` on uploads."""
    rng = np.random.default_rng((seed, 2))
    data = world.data
    leak, clean = distances(case)

    def seen(labels: Ints, distance: float) -> Floats:
        z = rng.normal(size=(len(labels), case.classes))
        z[np.arange(len(labels)), labels] += distance
        return z

    def prediction(name: str, validation: Floats, test: Floats, *, is_clean: bool = False) -> Prediction:
        return Prediction(
            attack=name,
            architecture=name,
            attribute=NAME,
            validation=validation,
            test=test,
            clean=is_clean,
        )

    validation, test = data.validation.labels[NAME], data.test.labels[NAME]
    tables = (clean * seen(validation, clean), clean * seen(test, clean))
    out = [prediction("clean", *tables, is_clean=True)]
    uploads = [seen(np.tile(validation, VALIDATION_DRAWS), leak), seen(test, leak)]
    able = 0 if leak == 0 else 1 if case.seen_by == "one" else MANY
    for number in range(ATTACKS):
        scale = float(rng.uniform(0.05, 1.0))  # networks are overconfident by any factor
        if number < able:
            noise = 0.0 if number == 0 else float(rng.uniform(0.2, 1.0))
            tables = tuple(scale * (part + noise * rng.normal(size=part.shape)) for part in uploads)  # type: ignore[assignment]
        else:
            tables = tuple(scale * rng.normal(size=part.shape) for part in uploads)  # type: ignore[assignment]
        out.append(prediction(f"attack {number}", *tables))
    return out
