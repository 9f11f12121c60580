"""What is true of images, and how good an answer about it is: classes are right or wrong, numbers near or far, masks overlap.

A number, such as an age in years, is asked for as `--keep age:number`. Its classes are bins, and each bin has a value. A
classifier's answer is the expected value over the bins (DEX: Rothe, Timofte and Van Gool, ICCV workshops 2015), so whatever
handles classes handles numbers.

The *credit* of an answer makes both comparable. For a class it is 1 where it is right and else 0: its mean is the accuracy.
For a number it is 1 less the error as a share of a guess's mean error, so its mean is the share of a guess's error that is
gone: 1 for exact answers, 0 for a guess, below 0 for worse ones. For a mask it is the intersection over union of the true and
the answered cells of a class, averaged over the classes that either has in this image.

>>> import numpy as np
>>> ages = Truth(np.array([0, 1]), np.array([10.0, 30.0]), np.array([10.0, 30.0]), guess=20.0)
>>> ages.credit(np.log([[0.75, 0.25], [0.01, 0.99]])).round(2).tolist()     # 15 and 29.8 years
[0.5, 0.98]
>>> ages.guess_error
10.0
>>> there = MaskTruth(np.zeros(1, dtype=int), cells=np.array([[[0, 0, 1, 1]]]), usual=np.zeros((1, 4), dtype=int))
>>> there.credit_of(np.array([[[0, 1, 1, 1]]])).round(3).tolist(), there.guess_iou     # 1 of 2 and 2 of 3; 2 of 4 and none
([0.583], 0.25)
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sfumato.data.dataset import Dataset, Floats, Ints, Split

Cells: TypeAlias = NDArray[np.integer[Any]]
"""Class numbers of the cells of masks, of any integer type."""


def expected_values(scores: NDArray[np.floating[Any]], values: Floats) -> Floats:
    """(n,) expected numbers, from logits or log probabilities (n, K) over bins and their values (K,)."""
    shifted = np.exp(scores.astype(np.float64) - scores.max(1, keepdims=True))
    answers: Floats = shifted @ values / shifted.sum(1)
    return answers


@dataclass(frozen=True)
class Truth:
    """One attribute of n images.

    Attributes:
        labels: (n,) their classes.
        numbers: (n,) their numbers; None where classes are asked for.
        values: (K,) the number that each class stands for; None where `numbers` is.
        guess: the number that a guess names, the median of the defender's images; None where `numbers` is.
    """

    labels: Ints
    numbers: Floats | None = None
    values: Floats | None = None
    guess: float | None = None

    @cached_property
    def guess_error(self) -> float | None:
        """Mean absolute error of the guess, in the number's unit; None for classes."""
        if self.numbers is None or self.guess is None:
            return None
        return float(np.abs(self.numbers - self.guess).mean())

    def credit(self, scores: NDArray[np.floating[Any]]) -> Floats:
        """(n,) credits of logits or log probabilities (n, K)."""
        if self.values is None:
            return self.credit_of(np.asarray(scores.argmax(1)))
        return self.nearness(expected_values(scores, self.values))

    def credit_of(self, guesses: Ints) -> Floats:
        """(n,) credits of decisions for one class each, (n,)."""
        if self.values is None:
            right: Floats = (guesses == self.labels).astype(np.float64)
            return right
        return self.nearness(self.values[guesses])

    def nearness(self, answers: Floats) -> Floats:
        """Credits of numbers, (n,) of one for each image, or (n, m) of the same m (m,) for all of them given as (1, m)."""
        assert self.numbers is not None, "classes have no numbers"
        worst = max(self.guess_error or 0.0, np.finfo(np.float64).tiny)
        numbers = self.numbers if answers.ndim == 1 else self.numbers[:, None]
        near: Floats = 1 - np.abs(answers - numbers) / worst
        return near


@dataclass(frozen=True)
class MaskTruth(Truth):
    """The mask of n images.

    Attributes:
        labels: (n,) zeros.
        cells: (n, rows, columns) class of every cell.
        usual: (rows, columns) what a guess says: the most frequent class of each cell in the defender's images.
    """

    cells: Cells = field(kw_only=True)
    usual: Cells = field(kw_only=True)

    @cached_property
    def guess_iou(self) -> float:
        """Mean credit of the guess."""
        return float(self.credit_of(np.broadcast_to(self.usual, self.cells.shape)).mean())

    def credit(self, scores: NDArray[np.floating[Any]]) -> Floats:
        """(n,) credits of logits or log probabilities (n, K, rows, columns)."""
        return self.credit_of(np.asarray(scores.argmax(1)))

    def credit_of(self, guesses: Cells) -> Floats:
        """(n,) credits of masks (n, rows, columns)."""
        total, present = np.zeros(len(guesses)), np.zeros(len(guesses))
        for one in np.union1d(self.cells, guesses):
            true, said = self.cells == one, guesses == one
            both, either = (true & said).sum((1, 2)), (true | said).sum((1, 2))
            total += both / np.maximum(either, 1)
            present += either > 0
        found: Floats = total / present
        return found

    def cells_right(self, guesses: Cells) -> float:
        """Share of all cells that masks (n, rows, columns) name rightly."""
        return float((guesses == self.cells).mean())


def truth(dataset: Dataset, name: str, rows: Ints) -> Truth:
    """What is true of some rows of a data set; a row may be named several times."""
    labels, values = dataset.labels[name][rows], dataset.attributes[name].values
    if name in dataset.masks:
        masks = dataset.masks[name]
        known = masks[dataset.splits[Split.DEFENDER]]
        counts = [(known == one).sum(0) for one in range(len(dataset.attributes[name].classes))]
        return MaskTruth(labels, cells=masks[rows], usual=np.argmax(counts, axis=0))
    if values is None:
        return Truth(labels)
    numbers = dataset.numbers[name]
    guess = float(np.median(numbers[dataset.splits[Split.DEFENDER]]))
    return Truth(labels, numbers[rows], np.array(values), guess)


def truths(dataset: Dataset, names: Sequence[str], rows: Ints) -> dict[str, Truth]:
    """What is true of some rows of a data set, attribute by attribute."""
    return {name: truth(dataset, name, rows) for name in names}


def guess_errors(facts: Mapping[str, Truth]) -> dict[str, float]:
    """Mean absolute error of a guess, for each of these attributes that is a number."""
    return {name: one.guess_error for name, one in facts.items() if one.guess_error is not None}


def guess_ious(facts: Mapping[str, Truth]) -> dict[str, float]:
    """Mean intersection over union of a guess, for each of these attributes that is a mask."""
    return {name: one.guess_iou for name, one in facts.items() if isinstance(one, MaskTruth)}
