"""The exact leak against going through everything an attacker could do."""

from itertools import product

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import roc_auc_score

from sfumato.audit.exact_answer import (
    balanced,
    leak_of,
    likelihood,
    odds_gap,
    resampled,
    table_auc,
)
from sfumato.data import Split
from sfumato.data.contingency import mutual_information
from sfumato.data.intervals import clopper_pearson
from sfumato.runtime.answer import TOTAL
from sfumato.training.answer_table import AnswerTable

ATTACKER, TEST = Split.ATTACKER, Split.TEST


def plain(images: int = 600, seed: int = 0, follow: float = 0.4) -> tuple[AnswerTable, dict, dict, dict]:  # type: ignore[type-arg]
    """Words of three classes that follow a hidden value of two in a share of the images."""
    rng = np.random.default_rng(seed)
    states, values, kept = {}, {}, {}
    for split in (ATTACKER, TEST):
        values[split], kept[split] = rng.integers(2, size=images), [rng.integers(3, size=images)]
        states[split] = np.where(rng.random(images) < follow, values[split], rng.integers(3, size=images))
    return AnswerTable((3,)), states, values, kept


def drawn() -> AnswerTable:
    """A randomised answer of three words: 3 * 2 states."""
    shares = np.array([[4, 1, 1], [1, 4, 1], [1, 1, 4], [2, 2, 2], [6, 0, 0], [0, 3, 3]]) * (TOTAL // 6)
    shares[:, 2] += TOTAL - shares.sum(1)
    return AnswerTable((3,), (), shares)


def test_no_rule_of_the_word_beats_the_best_guess() -> None:
    table, states, values, kept = plain()
    leak = leak_of(table, "s", states, values, kept, classes=2, declared=True)
    rules = [np.array(rule) for rule in product(range(2), repeat=3)]
    on_test = [float((rule[states[TEST]] == values[TEST]).mean()) for rule in rules]
    on_own = [float((rule[states[ATTACKER]] == values[ATTACKER]).mean()) for rule in rules]
    assert leak.optimum == pytest.approx(max(on_test))
    assert leak.accuracy == pytest.approx(on_test[int(np.argmax(on_own))])
    assert leak.floor == pytest.approx(0.5, abs=0.06)
    assert leak.gain_upper > leak.accuracy - leak.floor
    assert leak.bits == pytest.approx(mutual_information(leak.counts))
    assert leak.bits_upper > leak.bits > leak.bits_bias
    told = np.zeros((3, 2))
    for label, value in zip(kept[TEST][0], values[TEST], strict=True):
        told[label, value] += 1
    assert leak.floor_bits == pytest.approx(mutual_information(told))


def test_a_word_that_knows_nothing_leaks_nothing_and_its_limit_is_not_zero() -> None:
    table, states, values, kept = plain(follow=0.0)
    leak = leak_of(table, "s", states, values, kept, classes=2, declared=True)
    assert leak.accuracy == pytest.approx(0.5, abs=0.06)
    assert leak.bits < 0.01
    assert 0 < leak.gain_upper < 0.15
    constant = {split: np.zeros_like(of) for split, of in states.items()}
    silent = leak_of(table, "s", constant, values, kept, classes=2, declared=True)
    assert silent.bits == 0
    assert silent.gain_upper > 0


def test_a_drawn_word_is_counted_in_expectation() -> None:
    table, rng = drawn(), np.random.default_rng(0)
    states = {split: rng.integers(6, size=4000) for split in (ATTACKER, TEST)}
    values = {split: (of + (rng.random(4000) < 0.3)) % 2 for split, of in states.items()}
    kept = {split: [rng.integers(3, size=4000)] for split in states}
    leak = leak_of(table, "s", states, values, kept, classes=2, declared=True)
    assert table.probabilities is not None
    words = np.array([rng.choice(3, p=table.probabilities[state]) for state in states[TEST]])
    best = max(float((np.array(rule)[words] == values[TEST]).mean()) for rule in product(range(2), repeat=3))
    assert leak.accuracy == pytest.approx(best, abs=0.02)
    assert leak.counts.sum() == pytest.approx(4000)


def test_the_area_is_that_of_all_pairs() -> None:
    rng = np.random.default_rng(1)
    counts = rng.integers(1, 30, size=(4, 3)).astype(float)
    shares = likelihood(rng.integers(1, 30, size=(4, 3)).astype(float))
    words, values = (
        np.repeat(index.reshape(-1), counts.reshape(-1).astype(int)) for index in np.indices((4, 3))
    )
    posterior = shares / shares.sum(1, keepdims=True)
    wanted = np.mean([roc_auc_score(values == v, posterior[words, v]) for v in range(3)])
    assert table_auc(counts, shares) == pytest.approx(wanted)


def test_balanced_accuracy_is_the_mean_recall() -> None:
    counts = np.array([[8.0, 1.0], [2.0, 9.0], [0.0, 10.0]])
    assert balanced(counts, np.array([0, 1, 1])) == pytest.approx((8 / 10 + 19 / 20) / 2)


@pytest.mark.parametrize(("right", "images"), [(0, 20), (7, 20), (20, 20), (601, 1581)])
def test_the_limits_are_those_of_the_binomial_test(right: int, images: int) -> None:
    wanted = binomtest(right, images).proportion_ci(confidence_level=0.9, method="exact")
    assert clopper_pearson(right, images, 0.95) == pytest.approx((wanted.low, wanted.high))


def test_the_bootstrap_is_a_loop_over_resamples() -> None:
    table, states, values, _ = plain(80)
    floor = values[TEST] == 0
    gains, bits = resampled(table, states[TEST], values[TEST], floor, classes=2, seed=5, resamples=7)
    rng = np.random.default_rng(5)
    for number, weight in enumerate(rng.multinomial(80, np.full(80, 1 / 80), size=7)):
        rows = np.repeat(np.arange(80), weight)
        counts = np.zeros((3, 2))
        for row in rows:
            counts[states[TEST][row], values[TEST][row]] += 1
        assert gains[number] == pytest.approx(counts.max(1).sum() / 80 - floor[rows].mean())
        assert bits[number] == pytest.approx(mutual_information(counts))


def test_the_odds_gap_is_the_largest_difference() -> None:
    table, states, values, kept = plain()
    word, label = states[TEST], kept[TEST][0]
    wanted = max(
        abs(float((word[(label == y) & (values[TEST] == 0)] == w).mean())
            - float((word[(label == y) & (values[TEST] == 1)] == w).mean()))
        for y in range(3) for w in range(3)
    )  # fmt: skip
    assert odds_gap(table, word, values[TEST], label) == pytest.approx(wanted)
    assert odds_gap(table, word[:30], values[TEST][:30], label[:30]) is None


def test_the_record_has_a_scale_even_where_clean_photos_give_none() -> None:
    table, states, values, kept = plain()
    leak = leak_of(table, "s", states, values, kept, classes=2, declared=True)
    assert leak.record(0.95).nag == pytest.approx((leak.accuracy - leak.floor) / (0.95 - leak.floor))
    assert leak.record(leak.floor).nag == pytest.approx((leak.accuracy - leak.floor) / 0.01)
