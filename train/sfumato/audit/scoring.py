"""How the answers of all attacks become the figures of an audit: one rule for every attack.

    judged = judge(answer, evidence)
    attribute = conclude("race", judged_answers, evidence.test.labels["race"], classes=5, declared=True, seed=0)

The winner has the best accuracy on *validation*, and is reported on test. Choosing on test would let a
hundred useless attackers look dangerous; the highest test accuracy is reported beside it all the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sfumato.audit import metrics
from sfumato.audit.attack_data import Evidence
from sfumato.audit.predictions import Answer, Ints, cross_entropy, fit_temperature, log_posterior
from sfumato.audit.schema import AnswerOnly, AttackRow, Attribute, Best, StrongestOnTest

DECISION = ("output", "answer")
"""Attack and reader that know the cloud's decision and nothing else."""


@dataclass(frozen=True)
class Judged:
    """A row of the table, and on which test images the attack was right."""

    row: AttackRow
    hits: NDArray[np.bool_]
    """(n_test,)."""
    validation_loss: float
    """Cross entropy on validation, in bits: decides between equal accuracies."""


def judge(answer: Answer, evidence: Evidence) -> Judged:
    """Calibrate an answer on validation and measure it on test."""
    name = answer.attribute
    prior = evidence.prior(name)
    truth, labels = evidence.validation_labels(name, clean=answer.clean), evidence.test.labels[name]
    t = fit_temperature(answer.validation, truth, prior) if answer.calibrate else 1.0
    validation, test = (log_posterior(scores, prior, t) for scores in (answer.validation, answer.test))
    guesses = test.argmax(1)
    # Without a temperature above 0 the order of the scores is still theirs; a floor's equal scores stay
    # equal.
    ranking = log_posterior(answer.test, prior, t or 1.0)
    row = AttackRow(
        attack=answer.attack,
        architecture=answer.architecture,
        lr=answer.lr,
        attribute=name,
        epochs=answer.epochs,
        best_epoch=answer.best_epoch,
        val_accuracy=metrics.accuracy(truth, validation.argmax(1)),
        accuracy=metrics.accuracy(labels, guesses),
        balanced_accuracy=metrics.balanced_accuracy(labels, answer.test.argmax(1)),
        auc=metrics.auc(labels, np.exp(ranking)),
        cross_entropy_bits=cross_entropy(test, labels),
        temperature=t,
        on=answer.on,
        note=answer.note,
        train_auc=answer.train_auc,
    )
    return Judged(row, guesses == labels, cross_entropy(validation, truth))


def winner(judged: Sequence[Judged]) -> Judged:
    """Best validation accuracy; between equals, the lower validation cross entropy."""
    return max(judged, key=lambda j: (j.row.val_accuracy, -j.validation_loss))


def beyond_the_answer(
    best: Judged, clean: Judged, floor: Judged, uploads: Sequence[Judged], seed: int
) -> AnswerOnly | None:
    """The best attack against whoever knows the cloud's decision and nothing else."""
    known = [j for j in uploads if (j.row.attack, j.row.architecture) == DECISION]
    if not known:
        return None
    answer = max(floor, *known, key=lambda j: j.row.accuracy)
    return AnswerOnly(
        accuracy=answer.row.accuracy,
        nag=metrics.nag(best.row.accuracy, clean.row.accuracy, answer.row.accuracy),
        nag_ci95=metrics.nag_interval(best.hits, clean.hits, answer.hits, seed=seed).pair(),
    )


def conclude(
    name: str, judged: Sequence[Judged], labels: Ints, *, classes: int, declared: bool, seed: int
) -> Attribute:
    """The figures of one attribute from all its judged answers.

    Args:
        name: the attribute.
        judged: answers about it, and maybe about others.
        labels: (n_test,) its class on every test image.
        classes: how many it has.
        declared: whether the defence was told to hide it.
        seed: of the resamples.
    """
    mine = [j for j in judged if j.row.attribute == name]
    uploads = [j for j in mine if j.row.on == "uploads"]
    clean = winner([j for j in mine if j.row.on == "clean images"])
    floors = {j.row.architecture: j for j in mine if j.row.on == "labels"}
    majority, informed = floors["majority"], floors["label-only"]
    # Whoever knows the desired label may still guess the majority.
    label_only = max(majority, informed, key=lambda j: j.row.accuracy)
    best, top = winner(uploads), max(uploads, key=lambda j: j.row.accuracy)
    notes = []
    if clean.row.accuracy - label_only.row.accuracy < metrics.SCALE:
        notes.append(
            "attackers on clean images do not beat the label-only floor by a point: NAG has no scale here"
        )
    if best.row.accuracy > clean.row.accuracy:
        notes.append(
            "attackers on clean images were beaten on uploads: the yardstick is too low, NAG too high"
        )
    failed = [j.row.architecture for j in uploads if j.row.note is not None]
    if failed:
        notes.append(
            f"did not learn anything, which is no evidence of safety: {', '.join(sorted(set(failed)))}"
        )
    return Attribute(
        name=name,
        declared=declared,
        classes=classes,
        majority=majority.row.accuracy,
        label_only=label_only.row.accuracy,
        clean=clean.row.accuracy,
        best=Best(
            attack=best.row.attack,
            architecture=best.row.architecture,
            lr=best.row.lr,
            val_accuracy=best.row.val_accuracy,
            accuracy=best.row.accuracy,
            balanced_accuracy=best.row.balanced_accuracy,
            auc=best.row.auc,
            ci95=metrics.accuracy_interval(best.hits, seed=seed).pair(),
        ),
        nag_majority=metrics.nag(best.row.accuracy, clean.row.accuracy, majority.row.accuracy),
        nag_label_only=metrics.nag(best.row.accuracy, clean.row.accuracy, label_only.row.accuracy),
        nag_majority_ci95=metrics.nag_interval(best.hits, clean.hits, majority.hits, seed=seed).pair(),
        nag_label_only_ci95=metrics.nag_interval(best.hits, clean.hits, label_only.hits, seed=seed).pair(),
        leak_bits_lower=metrics.leak_bits(labels, best.row.cross_entropy_bits),
        entropy_bits=metrics.entropy_bits(labels),
        strongest_on_test=StrongestOnTest(
            attack=top.row.attack,
            architecture=top.row.architecture,
            accuracy=top.row.accuracy,
            nag_label_only=metrics.nag(top.row.accuracy, clean.row.accuracy, label_only.row.accuracy),
        ),
        answer_only=beyond_the_answer(best, clean, label_only, uploads, seed),
        notes=tuple(notes),
    )
