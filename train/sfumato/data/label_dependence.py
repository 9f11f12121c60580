"""How much one label says about another, before any image is looked at.

If the label the cloud should learn already tells half of a sensitive one, no perturbation can hide that half.
All figures are plug-in estimates: exact for the labels given, and a little low in entropy where a combination
of labels is rare (by about (combinations - 1) / (2 N ln 2) bits; Miller, 1955).

>>> import numpy as np
>>> s, y = np.array([0, 0, 1, 1]), np.array([0, 0, 0, 1])
>>> entropy(s)
1.0
>>> round(conditional_entropy(s, y), 4)  # 3/4 of the time y = 0, and then s is 1 with probability 1/3
0.6887
>>> label_only_floor(s, y)
0.75
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sfumato.core.errors import DataError
from sfumato.data.dataset import Dataset, Ints, Split
from sfumato.data.label_cells import label_cells


@dataclass(frozen=True, kw_only=True)
class LabelDependence:
    """What the kept labels say about one hidden attribute."""

    hidden: str
    given: tuple[str, ...]
    entropy_bits: float
    """H(S) over all images."""
    conditional_bits: float
    """H(S|Y) over all images."""
    majority: float
    """Accuracy on the test split of always guessing the most frequent class, a fraction of 1."""
    label_only: float
    """Accuracy on the test split of the best guess from Y, learned on the attacker's split."""


def entropy(labels: Ints) -> float:
    """H(S) in bits of (N,) labels."""
    return count_entropy(np.unique(labels, return_counts=True)[1])


def count_entropy(counts: NDArray[np.float64] | Ints) -> float:
    """Entropy in bits of the shares in counts (K,), which may be expected ones; zeros count for nothing."""
    p = counts[counts > 0] / counts.sum()
    return max(0.0, float(-(p * np.log2(p)).sum()))


def conditional_entropy(sensitive: Ints, given: Ints | Sequence[Ints]) -> float:
    """H(S|Y) in bits of (N,) labels; several Y count jointly, none leaves H(S)."""
    cells = joint_cells(given, len(sensitive))
    return max(0.0, entropy(joint_cells([sensitive, cells], len(sensitive))) - entropy(cells))


def label_only_floor(sensitive: Ints, given: Ints | Sequence[Ints]) -> float:
    """Accuracy, a fraction of 1, of guessing for every Y the S most frequent with it in these labels."""
    cells = joint_cells(given, len(sensitive))
    return label_only_accuracy(sensitive, cells, sensitive, cells)


def label_only_accuracy(
    train_s: Ints, train_y: Ints | Sequence[Ints], test_s: Ints, test_y: Ints | Sequence[Ints]
) -> float:
    """Accuracy of the best guess of S from Y, learned on one set of labels and judged on another.

    A Y that was never seen in training is answered with the class most frequent there.

    Args:
        train_s: (N,) sensitive labels to learn from.
        train_y: (N,) labels, or several of them.
        test_s: (M,) sensitive labels to guess.
        test_y: (M,) labels, as many as in `train_y`.
    """
    if len(train_s) == 0 or len(test_s) == 0:
        raise DataError("the label-only guess needs at least one label to learn from and one to judge on")
    both_y = [np.concatenate(pair) for pair in zip(_several(train_y), _several(test_y), strict=True)]
    cells = joint_cells(both_y, len(train_s) + len(test_s))
    values, index = np.unique(np.concatenate([train_s, test_s]), return_inverse=True)
    counts = np.zeros((int(cells.max()) + 1, len(values)), dtype=np.int64)
    np.add.at(counts, (cells[: len(train_s)], index[: len(train_s)]), 1)
    guess = counts.argmax(axis=1)
    guess[counts.sum(axis=1) == 0] = counts.sum(axis=0).argmax()
    return float(np.mean(guess[cells[len(train_s) :]] == index[len(train_s) :]))


def joint_cells(labels: Ints | Sequence[Ints], count: int) -> Ints:
    """(N,) number of the combination of several (N,) labels; all 0 for no labels at all."""
    cells: Ints = np.zeros(count, dtype=np.int64)
    for column in _several(labels):
        values, index = np.unique(column, return_inverse=True)
        # Numbered anew after every label, so that many labels cannot overflow.
        joint = label_cells([cells, index], [len(cells), len(values)])
        cells = np.asarray(np.unique(joint, return_inverse=True)[1], dtype=np.int64)
    return cells


def measure_dependence(
    data: Dataset, keep: Sequence[str], hide: Sequence[str]
) -> tuple[LabelDependence, ...]:
    """The dependence of every hidden attribute on all the kept ones together."""
    data.require([*keep, *hide])
    attacker, test = data.splits[Split.ATTACKER], data.splits[Split.TEST]
    y = [data.labels[name] for name in keep]
    rows = []
    for name in hide:
        s = data.labels[name]

        def accuracy(given: Sequence[Ints], s: Ints = s) -> float:
            learned, judged = [v[attacker] for v in given], [v[test] for v in given]
            return label_only_accuracy(s[attacker], learned, s[test], judged)

        rows.append(
            LabelDependence(
                hidden=name,
                given=tuple(keep),
                entropy_bits=entropy(s),
                conditional_bits=conditional_entropy(s, y),
                majority=accuracy([]),
                label_only=accuracy(y),
            )
        )
    return tuple(rows)


def _several(labels: Ints | Sequence[Ints]) -> list[Ints]:
    return [labels] if isinstance(labels, np.ndarray) else list(labels)
