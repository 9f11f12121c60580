"""Contingency tables of a finite message and a label: what anybody can learn from the message, counted instead of attacked.

A message of few values has no hidden structure: the best attack on a label guesses, for every value, the class most frequent
with it. Counts may be expected ones, where the message is drawn at random from known probabilities.

>>> import numpy as np
>>> table = np.array([[30.0, 10.0], [5.0, 55.0]])        # rows: message, columns: class
>>> best_guess(table).tolist(), round(guess_accuracy(table, best_guess(table)), 2)
([0, 1], 0.85)
>>> round(mutual_information(table), 3)
0.361
"""

import numpy as np

from sfumato.data.dataset import Floats, Ints


def cross_counts(rows: Ints, columns: Ints, shape: tuple[int, int]) -> Floats:
    """How often every pair occurs, of `shape`; `rows` and `columns` are (N,)."""
    counts = np.bincount(rows * shape[1] + columns, minlength=shape[0] * shape[1])
    return counts.reshape(shape).astype(np.float64)


def best_guess(counts: Floats) -> Ints:
    """The class most frequent with each message, (messages,); for one that never occurs, the class most frequent of all.

    Args:
        counts: (messages, classes).
    """
    guess: Ints = counts.argmax(1)
    guess[counts.sum(1) == 0] = counts.sum(0).argmax()
    return guess


def guess_accuracy(counts: Floats, guess: Ints) -> float:
    """Share of right guesses, a fraction; `counts` (messages, classes), `guess` (messages,)."""
    return float(counts[np.arange(len(counts)), guess].sum() / counts.sum())


def mutual_information(counts: Floats) -> float:
    """I(message; class) of the shares in `counts` (messages, classes), in bits; a plug-in estimate.

    From N images it is too high by about (rows - 1)(columns - 1) / (2 N ln 2) bits (Miller, 1955): `information_bias`.
    """
    joint = counts / counts.sum()
    independent = joint.sum(1, keepdims=True) * joint.sum(0, keepdims=True)
    seen = joint > 0
    return max(0.0, float((joint[seen] * np.log2(joint[seen] / independent[seen])).sum()))


def information_bias(counts: Floats) -> float:
    """By how many bits `mutual_information` is too high on average, to first order; an upper figure for expected counts."""
    rows, columns = (int((counts.sum(axis) > 0).sum()) for axis in (1, 0))
    return (rows - 1) * (columns - 1) / (2 * float(counts.sum()) * float(np.log(2)))
