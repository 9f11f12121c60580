"""Counts against loops and against formulas written out."""

from math import log2

import numpy as np
import pytest

from sfumato.data.contingency import (
    best_guess,
    cross_counts,
    guess_accuracy,
    information_bias,
    mutual_information,
)


def test_counts_are_those_of_a_loop() -> None:
    rng = np.random.default_rng(0)
    rows, columns = rng.integers(4, size=200), rng.integers(3, size=200)
    wanted = np.zeros((4, 3))
    for row, column in zip(rows, columns, strict=True):
        wanted[row, column] += 1
    assert (cross_counts(rows, columns, (4, 3)) == wanted).all()


def test_no_other_guess_is_right_more_often() -> None:
    rng = np.random.default_rng(1)
    counts = rng.integers(9, size=(3, 3)).astype(float)
    best = guess_accuracy(counts, best_guess(counts))
    every = [np.array([a, b, c]) for a in range(3) for b in range(3) for c in range(3)]
    assert best == max(guess_accuracy(counts, guess) for guess in every)


def test_a_message_never_seen_is_answered_with_the_most_frequent_class() -> None:
    assert best_guess(np.array([[0.0, 0.0], [3.0, 1.0], [0.0, 9.0]])).tolist() == [1, 0, 1]


def test_information_is_the_formula() -> None:
    counts = np.array([[3.0, 1.0, 0.0], [2.0, 2.0, 8.0]])
    p = counts / 16
    wanted = sum(
        p[i, j] * log2(p[i, j] / p[i].sum() / p[:, j].sum()) for i in range(2) for j in range(3) if p[i, j]
    )
    assert mutual_information(counts) == pytest.approx(wanted)
    assert mutual_information(np.outer([1.0, 2.0], [3.0, 4.0])) == pytest.approx(0, abs=1e-12)


def test_the_bias_is_what_independent_draws_show() -> None:
    rng = np.random.default_rng(2)
    found = [
        mutual_information(cross_counts(rng.integers(4, size=500), rng.integers(3, size=500), (4, 3)))
        for _ in range(300)
    ]
    assert np.mean(found) == pytest.approx(information_bias(np.full((4, 3), 500 / 12)), rel=0.15)
