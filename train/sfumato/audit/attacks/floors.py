"""Floors: how well an attribute is guessed without looking at the upload at all.

- majority: always the most frequent class;
- label-only: the best guess from the true desired labels, which any working service learns. A defence cannot
  be blamed for what the label it is meant to reveal already tells. Fitted on the attacker's split, scored on
  test.

    answers = [answer for step in steps(evidence, QUICK, (("race",),)) for answer in step.run()]
"""

from functools import partial

import numpy as np

from sfumato.audit.attack_data import VALIDATION_DRAWS, Evidence
from sfumato.audit.plan import Plan
from sfumato.audit.predictions import Answer, Floats, Ints, Step, log_prior


def cells(labels: list[Ints], classes: list[int]) -> Ints:
    """One number per combination of several labels, (n,)."""
    joint = np.zeros(len(labels[0]), dtype=np.int64)
    for values, count in zip(labels, classes, strict=True):
        joint = joint * count + values
    return joint


def table_scores(train_cells: Ints, train_labels: Ints, cells: Ints, classes: int) -> Floats:
    """Scores (n, classes) of the best guess of a label from a cell: log P(s | cell) - log P(s).

    Cells never seen in training say nothing, so the guess falls back to the majority.
    """
    prior = log_prior(train_labels, classes)
    scores = np.zeros((len(cells), classes))
    for cell in np.unique(cells):
        inside = train_labels[train_cells == cell]
        if len(inside):
            scores[cells == cell] = log_prior(inside, classes) - prior
    return scores


def guess(evidence: Evidence, attribute: str) -> list[Answer]:
    """Majority and label-only answers for one attribute."""
    classes = evidence.classes[attribute]
    counts = [evidence.classes[name] for name in evidence.keep]

    def joint(side_labels: list[Ints]) -> Ints:
        return cells(side_labels, counts)

    base = evidence.train.images
    train = joint([evidence.train.labels[name][:base] for name in evidence.keep])
    validation = joint([evidence.validation.labels[name] for name in evidence.keep])
    test = joint([evidence.test.labels[name] for name in evidence.keep])
    labels = evidence.train.labels[attribute][:base]
    nothing = np.zeros((len(validation) * VALIDATION_DRAWS, classes)), np.zeros((len(test), classes))
    known = (
        np.tile(table_scores(train, labels, validation, classes), (VALIDATION_DRAWS, 1)),
        table_scores(train, labels, test, classes),
    )
    return [
        Answer(
            attack="floor",
            architecture=name,
            attribute=attribute,
            validation=scores[0],
            test=scores[1],
            floor=True,
            calibrate=False,
        )
        for name, scores in (("majority", nothing), ("label-only", known))
    ]


def steps(evidence: Evidence, plan: Plan, groups: tuple[tuple[str, ...], ...]) -> list[Step]:
    """Both floors of every attribute."""
    return [
        Step(title=f"floors of {name}", run=partial(guess, evidence, name))
        for group in groups
        for name in group
    ]
