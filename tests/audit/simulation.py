"""Audits without networks: attackers that see the hidden label through noise of a known strength.

An attacker with a `gap` sees one normal value per class, the label's raised by `gap` standard deviations, and gives its exact
log-likelihood ratio. With a gap of 0 it sees noise, and takes it for a little more than that. A gap for each class tells some
of them and not the others.
"""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sfumato.audit.floors import population
from sfumato.audit.pass_rule import Judgement, judge
from sfumato.audit.predictions import Prediction, log_prior
from sfumato.audit.schema import AttributeResult
from sfumato.audit.scoring import ScoredAttack, attribute_result, score

CLEAN = 3.5
"""Gap of the attacker on clean images."""


class Simulation:
    """One data set and the attackers on it."""

    def __init__(
        self, shares: Sequence[float], *, validation: int, test: int, people: int, seed: int
    ) -> None:
        self.rng, self.classes = np.random.default_rng(seed), len(shares)
        self.validation, self.test, people_ = (
            self.rng.choice(self.classes, size=count, p=shares) for count in (validation, test, people)
        )
        self.prior = log_prior(people_, self.classes)
        self.population = population(people_, np.zeros_like(people_), self.classes, 1)
        # What `score` asks of the attack data: two uploads of every validation image, one of every test image.
        self.data: Any = SimpleNamespace(
            prior=lambda name: self.prior,
            validation_labels=lambda name, clean=False: (
                self.validation if clean else np.tile(self.validation, 2)
            ),
            test=SimpleNamespace(labels={"hidden": self.test}),
        )

    def scores(self, labels: NDArray[Any], gap: float | Sequence[float]) -> NDArray[Any]:
        """(n, classes) of an attacker."""
        gaps = np.broadcast_to(gap, (self.classes,)).astype(float)
        seen = self.rng.normal(size=(len(labels), self.classes))
        seen[np.arange(len(labels)), labels] += gaps[labels]
        return np.asarray(np.where(gaps == 0, 0.3, gaps) * seen)

    def attacker(self, gap: float | Sequence[float], name: str, *, clean: bool = False) -> ScoredAttack:
        """One attack, scored as the audit does."""
        known = self.validation if clean else np.tile(self.validation, 2)
        return score(
            Prediction(
                attack="clean" if clean else "probe",
                architecture=name,
                attribute="hidden",
                validation=self.scores(known, gap),
                test=self.scores(self.test, gap),
                clean=clean,
            ),
            self.data,
        )


def audit(
    shares: Sequence[float],
    gaps: Sequence[float | Sequence[float]],
    *,
    declared: bool = True,
    asked: bool = False,
    validation: int = 1600,
    test: int = 3500,
    people: int = 8000,
    seed: int = 0,
) -> tuple[AttributeResult, Judgement]:
    """What an audit says of one attribute.

    Args:
        shares: of the classes.
        gaps: of the attackers on uploads.
        declared: whether the attribute is declared hidden.
        asked: whether it was asked for by name.
        validation: images.
        test: images.
        people: labels that the floors come from.
        seed: of everything.
    """
    one = Simulation(shares, validation=validation, test=test, people=people, seed=seed)
    scored = [one.attacker(gap, str(number)) for number, gap in enumerate(gaps)]
    scored.append(one.attacker(CLEAN, "reference", clean=True))
    nothing = np.zeros_like(one.test)
    result = attribute_result(
        "hidden", scored, one.test, nothing, one.population, declared=declared, asked=asked, seed=seed
    )
    return result, judge([], [result], images=test)


def nag_of(gap: float, shares: Sequence[float], images: int = 400_000) -> float:
    """The true gain in accuracy of an attacker with this gap, by brute force."""
    rng, p = np.random.default_rng(1), np.asarray(shares)
    labels = rng.choice(len(p), size=images, p=p)

    def accuracy(gap: float) -> float:
        seen = rng.normal(size=(images, len(p)))
        seen[np.arange(images), labels] += gap
        return float(((gap * seen + np.log(p)).argmax(1) == labels).mean())

    return float((accuracy(gap) - p.max()) / (accuracy(CLEAN) - p.max()))
