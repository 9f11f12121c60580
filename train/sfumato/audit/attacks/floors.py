"""Floors: how well an attribute is guessed without looking at the upload at all.

- majority: always the most frequent class;
- label-only: the best guess from the true desired labels, which any working service learns. No model can hide what the
  label it is meant to reveal already tells. Fitted on the attacker's split, scored on test.

    predictions = [prediction for step in steps(data, QUICK, (("race",),)) for prediction in step.run()]
"""

from functools import partial

import numpy as np

from sfumato.audit.attack_data import VALIDATION_DRAWS, AttackData
from sfumato.audit.plan import Plan
from sfumato.audit.predictions import Floats, Groups, Ints, Prediction, Step, log_prior
from sfumato.data.label_cells import label_cells


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


def predict(data: AttackData, attribute: str) -> list[Prediction]:
    """Majority and label-only predictions for one attribute."""
    classes = data.classes[attribute]
    counts = [data.classes[name] for name in data.keep]
    splits = (data.train, data.validation, data.test)
    train, validation, test = (
        label_cells([split.labels[name][: split.images] for name in data.keep], counts) for split in splits
    )
    base = data.train.images
    labels = data.train.labels[attribute][:base]
    nothing = np.zeros((len(validation) * VALIDATION_DRAWS, classes)), np.zeros((len(test), classes))
    known = (
        np.tile(table_scores(train, labels, validation, classes), (VALIDATION_DRAWS, 1)),
        table_scores(train, labels, test, classes),
    )
    return [
        Prediction(
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


def steps(data: AttackData, plan: Plan, groups: Groups) -> list[Step]:
    """Both floors of every attribute."""
    return [
        Step(title=f"floors of {name}", run=partial(predict, data, name))
        for group in groups
        for name in group
    ]
