"""What guessing reaches in the population, and test images weighted like it.

A floor that is measured on the test split moves with its luck, and the better of two floors is too high on average. So floors
come from the labels of the defender's and the attacker's images:

- majority: always the most frequent class;
- label-only: the best guess from the true desired labels, learned on one half of these labels and judged on the other, and
  the other way round. No model can hide what the label it is meant to reveal already tells.

A measure's floor is the better of both; with thousands of labels chance moves it by hundredths of a point.

    population = measure_population(dataset, kept_cells(dataset, ("smiling",)), "gender")
    population.floors["accuracy"], population.sample(labels, cells).weights
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from sfumato.audit.metrics import Answers, Floats, Ints, Sample, class_areas, measure
from sfumato.audit.schema import MeasureName
from sfumato.data import Dataset, Split
from sfumato.data.label_dependence import count_entropy, joint_cells

LEAST_IMAGES = 5
"""Test images of a combination of labels; smaller ones are put together."""


@dataclass(frozen=True)
class Population:
    """How often each class of an attribute goes with each combination of desired labels."""

    counts: Floats
    """(classes, combinations)."""
    floors: Mapping[MeasureName, float]
    """The best that guessing reaches, by every measure."""
    majority: float
    """Accuracy of always guessing the most frequent class."""
    class_floors: Mapping[int, float] = field(default_factory=dict)
    """AUC of each class against the rest that guessing reaches, where there are more than two."""

    @cached_property
    def entropy_bits(self) -> float:
        """H(S)."""
        return count_entropy(self.counts.sum(1))

    def sample(self, labels: Ints, cells: Ints) -> Sample:
        """Test images with weights that give every combination of labels its share.

        Args:
            labels: (n,) class of each image.
            cells: (n,) combination of desired labels.
        """
        strata = np.zeros(len(labels), dtype=np.int64)
        weights = np.zeros(len(labels))
        number = 0
        for label in np.unique(labels):
            mine = labels == label
            found = np.bincount(cells[mine], minlength=self.counts.shape[1])
            rest = found < LEAST_IMAGES
            # Small combinations go together, and with the largest if even that is too small.
            if found[rest].sum() < LEAST_IMAGES:
                rest[found.argmax()] = True
            group = np.where(rest, 0, np.cumsum(~rest))
            share = np.bincount(group, self.counts[label])
            images = np.bincount(group[cells[mine]], minlength=len(share))
            strata[mine] = number + group[cells[mine]]
            weights[mine] = (share / np.maximum(images, 1))[group[cells[mine]]]
            number += len(share)
        # Where none of these labels is known from elsewhere, all images count alike.
        total = weights.sum()
        return Sample(labels, strata, weights / total if total > 0 else np.full(len(labels), 1 / len(labels)))


def population(labels: Ints, cells: Ints, classes: int, combinations: int) -> Population:
    """Counts and floors from labels that are not the test images'.

    Args:
        labels: (N,) class of each image.
        cells: (N,) its combination of desired labels; zeros where none counts.
        classes: how many there are.
        combinations: how many there can be.
    """
    counts = np.zeros((classes, combinations))
    np.add.at(counts, (labels, cells), 1)
    shares = counts.sum(1) / counts.sum()
    present = max(1, int((shares > 0).sum()))
    floors: dict[MeasureName, float] = {
        "accuracy": float(shares.max()),
        "balanced_accuracy": 1 / present,
        "auc": 0.5,
        "information": 0.0,
    }
    guessed, guessed_classes = label_only(labels, cells, classes, combinations)
    for name, value in guessed.items():
        floors[name] = max(floors[name], value)
    return Population(counts, floors, float(shares.max()), guessed_classes)


def label_only(
    labels: Ints, cells: Ints, classes: int, combinations: int
) -> tuple[dict[MeasureName, float], dict[int, float]]:
    """The best guess from the desired labels, learned on the even images for the odd ones and vice versa.

    Returns:
        Every measure of it, and the AUC of each class, at least .5.
    """
    if len(labels) < 2:
        return {}, {}
    order = np.random.default_rng(0).permutation(len(labels))
    halves = order[::2], order[1::2]
    logs, scores = np.empty((len(labels), classes)), np.empty((len(labels), classes))
    for known, judged in (halves, halves[::-1]):
        table = np.full((combinations, classes), 0.5)
        np.add.at(table, (cells[known], labels[known]), 1)
        prior = np.bincount(labels[known], minlength=classes) + 0.5
        logs[judged] = np.log(table / table.sum(1, keepdims=True))[cells[judged]]
        scores[judged] = logs[judged] - np.log(prior / prior.sum())
    everyone = Sample(labels, np.zeros(len(labels), dtype=np.int64), np.full(len(labels), 1 / len(labels)))
    answers = Answers(logs, logs, scores.argmax(1))
    found = measure(answers, everyone, count_entropy(np.bincount(labels, minlength=classes)))
    by_class = {one: max(0.5, area.value) for one, area in class_areas(answers, everyone).items()}
    return {name: one.value for name, one in found.items()}, by_class


def kept_cells(dataset: Dataset, keep: Sequence[str]) -> Ints:
    """(N,) number of the combination of desired labels of every image in the data set."""
    return joint_cells([dataset.labels[name] for name in keep], len(dataset))


def measure_population(dataset: Dataset, cells: Ints, name: str) -> Population:
    """The population of one attribute: the labels of the defender's and the attacker's images.

    Args:
        dataset: labels and splits.
        cells: from `kept_cells`.
        name: the attribute.
    """
    rows = np.concatenate([dataset.splits[Split.DEFENDER], dataset.splits[Split.ATTACKER]])
    classes = len(dataset.attributes[name].classes)
    return population(dataset.labels[name][rows], cells[rows], classes, int(cells.max()) + 1)
