"""Entropies and label-only guesses against sums written out over every value."""

import math
from collections import Counter

import numpy as np
import pytest

from sfumato.core.errors import DataError
from sfumato.data.label_dependence import conditional_entropy, entropy, label_only_accuracy, label_only_floor
from sfumato.data.loaders.joint import JointDistribution


def slow_conditional(s: list[int], y: list[tuple[int, ...]]) -> float:
    pairs, given = Counter(zip(s, y, strict=True)), Counter(y)
    return -sum(n / len(s) * math.log2(n / given[cell]) for (_, cell), n in pairs.items())


def slow_guess(
    s: list[int], y: list[tuple[int, ...]], test_s: list[int], test_y: list[tuple[int, ...]]
) -> float:
    right = 0
    for truth, cell in zip(test_s, test_y, strict=True):
        seen = Counter(a for a, b in zip(s, y, strict=True) if b == cell) or Counter(s)
        best = max(seen.values())
        right += truth == min(value for value, n in seen.items() if n == best)
    return right / len(test_s)


@pytest.mark.parametrize("seed", range(5))
def test_against_brute_force(seed: int) -> None:
    generator = np.random.default_rng(seed)
    a, b = generator.integers(0, 4, 200), generator.integers(0, 3, 200)
    s = (a + generator.integers(0, 2, 200)) * 7 - 3  # labels need not start at 0
    both: list[tuple[int, ...]] = list(zip(a.tolist(), b.tolist(), strict=True))
    assert entropy(s) == pytest.approx(slow_conditional(s.tolist(), [()] * 200))
    assert conditional_entropy(s, []) == pytest.approx(entropy(s))
    assert conditional_entropy(s, a) == pytest.approx(
        slow_conditional(s.tolist(), [(v,) for v in a.tolist()])
    )
    assert conditional_entropy(s, [a, b]) == pytest.approx(slow_conditional(s.tolist(), both))
    assert label_only_floor(s, [a, b]) == pytest.approx(slow_guess(s.tolist(), both, s.tolist(), both))
    got = label_only_accuracy(s[:90], [a[:90], b[:90]], s[90:], [a[90:], b[90:]])
    assert got == pytest.approx(slow_guess(s[:90].tolist(), both[:90], s[90:].tolist(), both[90:]))


def test_an_unseen_label_is_answered_with_the_majority() -> None:
    assert (
        label_only_accuracy(np.array([2, 2, 5]), np.array([0, 0, 1]), np.array([2, 5]), np.array([9, 9]))
        == 0.5
    )
    with pytest.raises(DataError):
        label_only_accuracy(np.array([], dtype=np.int64), [], np.array([1]), [])


def test_limits() -> None:
    s = np.array([0, 1, 2, 3] * 10)
    assert conditional_entropy(s, s) == 0
    assert entropy(s) == 2
    assert label_only_floor(s, s) == 1
    assert label_only_floor(s, np.zeros(40, dtype=np.int64)) == 0.25


def test_a_joint_distribution_against_enumeration() -> None:
    mixed = JointDistribution(
        marginals={"a": (0.3, 0.7), "b": (0.2, 0.5, 0.3), "c": (0.4, 0.6), "d": (0.25,) * 4},
        couplings=(("b", "a", 0.6), ("c", "b", -0.5)),
    )
    table = mixed.table()
    assert table.sum() == pytest.approx(1)
    assert table.min() >= 0
    for axis, values in enumerate(mixed.marginals.values()):
        others = tuple(i for i in range(4) if i != axis)
        np.testing.assert_allclose(table.sum(axis=others), values)
    # The coupled pair itself: 40 % independent, 60 % the comonotone table, by hand.
    comonotone = np.array([[0.2, 0.0], [0.1, 0.4], [0.0, 0.3]])
    np.testing.assert_allclose(
        mixed.marginal(["b", "a"]), 0.4 * np.outer([0.2, 0.5, 0.3], [0.3, 0.7]) + 0.6 * comonotone
    )
    slow = guess = 0.0
    for cell in np.ndindex(3, 2):  # H(a | b, c) and the best guess, one cell at a time
        column = [table[a, cell[0], cell[1], :].sum() for a in range(2)]
        slow -= sum(p * math.log2(p / sum(column)) for p in column)
        guess += max(column)
    assert mixed.conditional_entropy("a", ["b", "c"]) == pytest.approx(slow)
    assert mixed.label_only_floor("a", ["c", "b"]) == pytest.approx(guess)
    assert mixed.conditional_entropy("d", ["a", "b"]) == pytest.approx(2)


def test_impossible_distributions_are_refused() -> None:
    coin = (0.5, 0.5)
    with pytest.raises(DataError, match="sum to 1"):
        JointDistribution(marginals={"a": (0.5, 0.6)})
    with pytest.raises(DataError, match="cycle"):
        JointDistribution(
            marginals={"a": coin, "b": coin, "c": coin},
            couplings=(("a", "b", 0.1), ("b", "c", 0.1), ("c", "a", 0.1)),
        )
    with pytest.raises(DataError, match="unknown factor"):
        JointDistribution(marginals={"a": coin}, couplings=(("a", "z", 0.1),))
    with pytest.raises(DataError, match="lie in"):
        JointDistribution(marginals={"a": coin, "b": coin}, couplings=(("a", "b", 1.5),))
