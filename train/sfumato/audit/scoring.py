"""From the predictions of all attacks to the figures of an audit: one rule for every attack.

    scored = score(prediction, data)
    result = attribute_result("race", all_scored, data.test.labels["race"], classes=5, declared=True, seed=0)

The best attack has the best accuracy on *validation*, and is reported on test. Choosing on test would make the luckiest of
a hundred useless attackers look dangerous; the highest test accuracy is reported beside it all the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sfumato.audit import metrics
from sfumato.audit.attack_data import AttackData
from sfumato.audit.predictions import Ints, Prediction, cross_entropy, fit_temperature, log_posterior
from sfumato.audit.schema import AttackResult, AttributeResult, BestAttack, DecisionOnly, StrongestOnTest
from sfumato.data.label_dependence import entropy

DECISION = ("output", "decision")
"""Attack and architecture that know the cloud's decision and nothing else."""


@dataclass(frozen=True)
class ScoredAttack:
    """The figures of one attack, and on which test images it was right."""

    result: AttackResult
    hits: NDArray[np.bool_]
    """(n_test,)."""
    validation_loss: float
    """Cross entropy on validation, in bits: decides between equal accuracies."""


def score(prediction: Prediction, data: AttackData) -> ScoredAttack:
    """Calibrate a prediction on validation and score it on test."""
    name = prediction.attribute
    prior = data.prior(name)
    truth, labels = data.validation_labels(name, clean=prediction.clean), data.test.labels[name]
    t = fit_temperature(prediction.validation, truth, prior) if prediction.calibrate else 1.0
    validation, test = (log_posterior(f, prior, t) for f in (prediction.validation, prediction.test))
    guesses = test.argmax(1)
    # At temperature 0 the scores still rank the images; a floor's equal scores stay equal.
    ranking = log_posterior(prediction.test, prior, t or 1.0)
    result = AttackResult(
        attack=prediction.attack,
        architecture=prediction.architecture,
        lr=prediction.lr,
        attribute=name,
        epochs=prediction.epochs,
        best_epoch=prediction.best_epoch,
        val_accuracy=metrics.accuracy(truth, validation.argmax(1)),
        accuracy=metrics.accuracy(labels, guesses),
        balanced_accuracy=metrics.balanced_accuracy(labels, prediction.test.argmax(1)),
        auc=metrics.auc(labels, np.exp(ranking)),
        cross_entropy_bits=cross_entropy(test, labels),
        temperature=t,
        input=prediction.input,
        note=prediction.note,
        train_auc=prediction.train_auc,
    )
    return ScoredAttack(result, guesses == labels, cross_entropy(validation, truth))


def best_attack(scored: Sequence[ScoredAttack]) -> ScoredAttack:
    """Best validation accuracy; between equals, the lower validation cross entropy."""
    return max(scored, key=lambda one: (one.result.val_accuracy, -one.validation_loss))


def strongest_on_test(scored: Sequence[ScoredAttack]) -> ScoredAttack:
    """Highest test accuracy; between equals, the first."""
    return max(scored, key=lambda one: one.result.accuracy)


def gain(attack: ScoredAttack, clean: ScoredAttack, floor: ScoredAttack) -> float:
    """NAG of an attack over a floor."""
    return metrics.nag(attack.result.accuracy, clean.result.accuracy, floor.result.accuracy)


def gain_interval(
    attack: ScoredAttack, clean: ScoredAttack, floor: ScoredAttack, seed: int
) -> tuple[float, float]:
    """95 % interval of that NAG."""
    return metrics.nag_interval(attack.hits, clean.hits, floor.hits, seed=seed)


def decision_only(
    best: ScoredAttack, clean: ScoredAttack, floor: ScoredAttack, uploads: Sequence[ScoredAttack], seed: int
) -> DecisionOnly | None:
    """The best attack over the best guess from the cloud's decision; None if no attack looked at the decision."""
    readers = [one for one in uploads if (one.result.attack, one.result.architecture) == DECISION]
    if not readers:
        return None
    decision = strongest_on_test([floor, *readers])
    return DecisionOnly(
        accuracy=decision.result.accuracy,
        nag=gain(best, clean, decision),
        nag_ci95=gain_interval(best, clean, decision, seed),
    )


def caveats(
    best: ScoredAttack, clean: ScoredAttack, floor: ScoredAttack, uploads: Sequence[ScoredAttack]
) -> tuple[str, ...]:
    """What limits the meaning of an attribute's figures."""
    notes = []
    if clean.result.accuracy - floor.result.accuracy < metrics.LEAST_GAIN:
        notes.append(
            "attackers on clean images do not beat the label-only floor by a point: NAG has no scale here"
        )
    if best.result.accuracy > clean.result.accuracy:
        notes.append("an attack on uploads beats the attackers on clean images: NAG is too high")
    failed = sorted({one.result.architecture for one in uploads if one.result.note is not None})
    if failed:
        notes.append(f"attackers that learned nothing, which is no evidence of safety: {', '.join(failed)}")
    return tuple(notes)


def attribute_result(
    name: str, scored: Sequence[ScoredAttack], labels: Ints, *, classes: int, declared: bool, seed: int
) -> AttributeResult:
    """The figures of one attribute from all its attacks.

    Args:
        name: the attribute.
        scored: attacks on it, and maybe on others.
        labels: (n_test,) its class on every test image.
        classes: how many it has.
        declared: whether training was told to hide it.
        seed: of the resamples.
    """
    mine = [one for one in scored if one.result.attribute == name]
    uploads = [one for one in mine if one.result.input == "uploads"]
    clean = best_attack([one for one in mine if one.result.input == "clean images"])
    floors = {one.result.architecture: one for one in mine if one.result.input == "labels"}
    majority = floors["majority"]
    # Whoever knows the desired label may still guess the majority.
    label_only = strongest_on_test([majority, floors["label-only"]])
    best, top = best_attack(uploads), strongest_on_test(uploads)
    return AttributeResult(
        name=name,
        declared=declared,
        classes=classes,
        majority=majority.result.accuracy,
        label_only=label_only.result.accuracy,
        clean=clean.result.accuracy,
        best=BestAttack(
            attack=best.result.attack,
            architecture=best.result.architecture,
            lr=best.result.lr,
            val_accuracy=best.result.val_accuracy,
            accuracy=best.result.accuracy,
            balanced_accuracy=best.result.balanced_accuracy,
            auc=best.result.auc,
            ci95=metrics.accuracy_interval(best.hits, seed=seed),
        ),
        nag_majority=gain(best, clean, majority),
        nag_label_only=gain(best, clean, label_only),
        nag_majority_ci95=gain_interval(best, clean, majority, seed),
        nag_label_only_ci95=gain_interval(best, clean, label_only, seed),
        leak_bits_lower=metrics.leak_bits(labels, best.result.cross_entropy_bits),
        entropy_bits=entropy(labels),
        strongest_on_test=StrongestOnTest(
            attack=top.result.attack,
            architecture=top.result.architecture,
            accuracy=top.result.accuracy,
            nag_label_only=gain(top, clean, label_only),
        ),
        decision_only=decision_only(best, clean, label_only, uploads, seed),
        notes=caveats(best, clean, label_only, uploads),
    )
