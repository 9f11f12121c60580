"""From the predictions of all attacks to the figures of an audit: one rule for every attack.

    scored = score(prediction, data)
    result = attribute_result("race", all_scored, labels, cells, population, declared=True)

The best attack is the one of least cross entropy, on validation and test images together. Choosing and measuring on the same
images would make the luckiest of a hundred useless attackers look dangerous, and accuracy on validation alone often misses the
only one that sees a small leak. So the test images are dealt into two halves, and each is judged by whichever attack is best
on everything else (nested cross-validation). The highest test accuracy is reported beside it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from sfumato.audit import metrics
from sfumato.audit.attack_data import AttackData
from sfumato.audit.floors import Population
from sfumato.audit.metrics import Answers, class_areas, class_gains, gains, measure, normalised_gain
from sfumato.audit.predictions import (
    TEMPERATURES,
    Ints,
    Prediction,
    cross_entropy,
    fit_temperature,
    log_posterior,
)
from sfumato.audit.schema import AttackResult, AttributeResult, BestAttack, DecisionOnly, StrongestOnTest
from sfumato.audit.verification import verification

DECISION = ("output", "decision")
"""Attack and architecture that know the cloud's decision and nothing else."""
PARTS = 2
"""Parts of the test images, each judged by the attack that is best on all others. Of many parts each is chosen by nearly the
same images, and useless attackers spread further than the standard error says (docs/decisions/0022-pass-rule.md)."""
TWO_SIDED = float(norm.ppf(0.975))


@dataclass(frozen=True)
class ScoredAttack:
    """The figures of one attack, and what it says about every test image."""

    result: AttackResult
    answers: Answers
    """About the n_test images."""
    validation_loss: float
    """Mean cross entropy on validation, in bits."""
    validation_uploads: int
    """Uploads, or clean images, it is the mean of."""


def score(prediction: Prediction, data: AttackData) -> ScoredAttack:
    """Calibrate a prediction on validation and score it on test."""
    name = prediction.attribute
    prior = data.prior(name)
    truth, labels = data.validation_labels(name, clean=prediction.clean), data.test.labels[name]
    t = fit_temperature(prediction.validation, truth, prior) if prediction.calibrate else 1.0
    validation = log_posterior(prediction.validation, prior, t)
    answers = Answers(
        log_probabilities=log_posterior(prediction.test, prior, t),
        # At temperature 0 the scores still rank the images; a floor's equal scores stay equal.
        ranking=log_posterior(prediction.test, prior, t or float(TEMPERATURES[1])),
        balanced=prediction.test.argmax(1),
    )
    result = AttackResult(
        attack=prediction.attack,
        architecture=prediction.architecture,
        lr=prediction.lr,
        attribute=name,
        epochs=prediction.epochs,
        best_epoch=prediction.best_epoch,
        val_accuracy=metrics.accuracy(truth, validation.argmax(1)),
        accuracy=metrics.accuracy(labels, answers.guesses),
        balanced_accuracy=metrics.balanced_accuracy(labels, answers.balanced),
        auc=metrics.auc(labels, np.exp(answers.ranking)),
        cross_entropy_bits=float(answers.losses(labels).mean()),
        temperature=t,
        input=prediction.input,
        note=prediction.note,
        train_auc=prediction.train_auc,
    )
    return ScoredAttack(result, answers, cross_entropy(validation, truth), len(truth))


def best_attack(scored: Sequence[ScoredAttack]) -> ScoredAttack:
    """Least cross entropy on validation; between equals, the first."""
    return min(scored, key=lambda one: one.validation_loss)


def cross_selected(
    scored: Sequence[ScoredAttack], labels: Ints, *, seed: int
) -> tuple[ScoredAttack, Answers]:
    """The best attack, and answers about every test image by the attack that is best on all but its part.

    Args:
        scored: attacks on one attribute.
        labels: (n_test,).
        seed: decides the parts.

    Returns:
        The attack of least cross entropy over validation and test; answers that no choice on their own image has touched.
    """
    losses = np.stack([one.answers.losses(labels) for one in scored])
    whole = losses.sum(1) + [one.validation_loss * one.validation_uploads for one in scored]
    rows = np.random.default_rng(seed).permutation(len(labels))
    parts = [part for part in np.array_split(rows, PARTS) if len(part)]
    pieces = [scored[int((whole - losses[:, part].sum(1)).argmin())].answers.take(part) for part in parts]
    back = np.argsort(np.concatenate(parts))
    together = Answers(
        np.concatenate([one.log_probabilities for one in pieces]),
        np.concatenate([one.ranking for one in pieces]),
        np.concatenate([one.balanced for one in pieces]),
    )
    return scored[int(whole.argmin())], together.take(back)


def strongest_on_test(scored: Sequence[ScoredAttack]) -> ScoredAttack:
    """Highest test accuracy; between equals, the first."""
    return max(scored, key=lambda one: one.result.accuracy)


def caveats(scale: float, best: float, clean: float, uploads: Sequence[ScoredAttack]) -> tuple[str, ...]:
    """What limits the meaning of an attribute's figures.

    Args:
        scale: accuracy of attackers on clean images over the floor.
        best: accuracy of the best attack on uploads.
        clean: that of attackers on clean images.
        uploads: all attacks on uploads.
    """
    notes = []
    if scale < metrics.LEAST_GAIN:
        notes.append(
            "attackers on clean images do not beat the label-only floor by a point of accuracy: look at AUC and information"
        )
    if best > clean:
        notes.append("an attack on uploads beats the attackers on clean images: NAG is too high")
    failed = sorted({one.result.architecture for one in uploads if one.result.note is not None})
    if failed:
        notes.append(f"attackers that learned nothing, which is no evidence of safety: {', '.join(failed)}")
    return tuple(notes)


def attribute_result(
    name: str,
    scored: Sequence[ScoredAttack],
    labels: Ints,
    cells: Ints,
    population: Population,
    *,
    values: Sequence[str] = (),
    declared: bool,
    asked: bool = False,
    person: bool = False,
    seed: int = 0,
) -> AttributeResult:
    """The figures of one attribute from all its attacks.

    Args:
        name: the attribute.
        scored: attacks on it, and maybe on others.
        labels: (n_test,) its class on every test image.
        cells: (n_test,) the combination of desired labels of every test image, as the population counts them.
        population: its floors and label counts.
        values: names of its classes; without them they are numbered.
        declared: whether training was told to hide it.
        asked: whether whoever audits asked for it.
        person: whether it tells persons apart.
        seed: of the choice among attacks.
    """
    mine = [one for one in scored if one.result.attribute == name]
    uploads = [one for one in mine if one.result.input == "uploads"]
    clean = best_attack([one for one in mine if one.result.input == "clean images"])
    best, answers = cross_selected(uploads, labels, seed=seed)
    top = strongest_on_test(uploads)
    sample, bits = population.sample(labels, cells), population.entropy_bits
    found, reference, strongest = (
        measure(one, sample, bits) for one in (answers, clean.answers, top.answers)
    )
    label_only, accuracy = population.floors["accuracy"], found["accuracy"]
    error = metrics.standard_error(accuracy.parts, sample.strata)
    scale = reference["accuracy"].value - label_only

    def nag(value: float, floor: float) -> float:
        return metrics.nag(value, reference["accuracy"].value, floor)

    def interval(floor: float) -> tuple[float, float]:
        one = normalised_gain(
            "accuracy", accuracy, reference["accuracy"], floor, sample.strata, least_scale=True
        )
        return one.nag - TWO_SIDED * one.error, one.nag + TWO_SIDED * one.error  # type: ignore[operator]

    readers = [one for one in uploads if (one.result.attack, one.result.architecture) == DECISION]
    decision = measure(readers[0].answers, sample, bits)["accuracy"].value if readers else None
    return AttributeResult(
        name=name,
        declared=declared,
        asked=asked,
        classes=len(population.counts),
        majority=population.majority,
        label_only=label_only,
        clean=reference["accuracy"].value,
        best=BestAttack(
            attack=best.result.attack,
            architecture=best.result.architecture,
            lr=best.result.lr,
            val_accuracy=best.result.val_accuracy,
            accuracy=accuracy.value,
            balanced_accuracy=found["balanced_accuracy"].value,
            auc=found["auc"].value,
            ci95=(accuracy.value - TWO_SIDED * error, accuracy.value + TWO_SIDED * error),
        ),
        gains=gains(found, reference, population.floors, sample.strata, bits),
        class_gains=class_gains(
            class_areas(answers, sample),
            class_areas(clean.answers, sample),
            population.class_floors,
            sample.strata,
            values,
        ),
        nag_majority=nag(accuracy.value, population.majority),
        nag_label_only=nag(accuracy.value, label_only),
        nag_majority_ci95=interval(population.majority),
        nag_label_only_ci95=interval(label_only),
        leak_bits_lower=max(0.0, found["information"].value),
        entropy_bits=bits,
        strongest_on_test=StrongestOnTest(
            attack=top.result.attack,
            architecture=top.result.architecture,
            accuracy=strongest["accuracy"].value,
            nag_label_only=nag(strongest["accuracy"].value, label_only),
        ),
        decision_only=None
        if decision is None
        else DecisionOnly(accuracy=decision, nag=nag(accuracy.value, max(decision, label_only))),
        verification=verification(
            answers.log_probabilities, clean.answers.log_probabilities, labels, seed=seed
        )
        if person
        else None,
        notes=caveats(scale, accuracy.value, reference["accuracy"].value, uploads),
    )
