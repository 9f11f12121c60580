"""The exact leak against going through everything an attacker could do."""

from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import roc_auc_score

from sfumato.audit.exact_answer import (
    AnswerLeak,
    balanced,
    leak_of,
    likelihood,
    odds_gap,
    resampled,
    table_auc,
)
from sfumato.audit.floors import population
from sfumato.audit.metrics import Answers, measure, standard_error
from sfumato.audit.pass_rule import Judgement, judge
from sfumato.audit.word_reader import learn, read_words
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


def leak_from(
    table: AnswerTable, states: dict[Split, Any], values: dict[Split, Any], kept: dict[Split, list[Any]]
) -> AnswerLeak:
    """The leak of an attribute of two values, in the population of the attacker's images."""
    people = population(values[ATTACKER], kept[ATTACKER][0], 2, 3)
    return leak_of(table, "s", states, values, kept, people, kept[TEST][0], classes=2, declared=True)


def clean_answers(values: Any, right: float = 0.95, seed: int = 9) -> Answers:
    """What an attacker on clean images says who sees the value in a share of the images, and knows how often it is right."""
    wrong = np.random.default_rng(seed).random(len(values)) > right
    seen = np.where(wrong, 1 - values, values)
    logs = np.log(np.where(np.arange(2) == seen[:, None], right, 1 - right))
    return Answers(logs, logs, seen)


def test_no_rule_of_the_word_beats_the_best_guess() -> None:
    table, states, values, kept = plain()
    leak = leak_from(table, states, values, kept)
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
    leak = leak_from(table, states, values, kept)
    assert leak.accuracy == pytest.approx(0.5, abs=0.06)
    assert leak.bits < 0.01
    assert 0 < leak.gain_upper < 0.15
    constant = {split: np.zeros_like(of) for split, of in states.items()}
    silent = leak_from(table, constant, values, kept)
    assert silent.bits == 0
    assert silent.gain_upper > 0


def test_a_drawn_word_is_counted_in_expectation() -> None:
    table, rng = drawn(), np.random.default_rng(0)
    states = {split: rng.integers(6, size=4000) for split in (ATTACKER, TEST)}
    values = {split: (of + (rng.random(4000) < 0.3)) % 2 for split, of in states.items()}
    kept = {split: [rng.integers(3, size=4000)] for split in states}
    leak = leak_from(table, states, values, kept)
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
    leak = leak_from(table, states, values, kept)
    truth = values[TEST]
    good, useless = (leak.record(clean_answers(truth, right)) for right in (0.95, 0.5))
    weights, floor = leak.sample.weights, leak.population.floors["accuracy"]
    reached = float(weights @ (clean_answers(truth).guesses == truth))
    word = leak.reader["accuracy"].value
    assert good.nag == pytest.approx((word - floor) / (reached - floor))
    assert good.nag_upper >= leak.gain_upper / (reached - floor)
    assert useless.nag == pytest.approx((word - floor) / 0.01)
    assert [one.measure for one in good.gains] == ["accuracy", "balanced_accuracy", "auc", "information"]


# --- the reader of a word, judged like an attacker


def rare(told: float, others: float, images: int = 4000, seed: int = 2) -> tuple[Any, Any, Any, Any]:
    """A value that 3 % have. Word 1 goes out for a share `told` of them and a share `others` of the rest."""
    rng = np.random.default_rng(seed)
    states, values, kept = {}, {}, {}
    for split in (ATTACKER, TEST):
        values[split] = (rng.random(images) < 0.03).astype(np.int64)
        kept[split] = [rng.integers(3, size=images)]
        shares = np.where(values[split] == 1, told, others)
        states[split] = (rng.random(images) < shares).astype(np.int64)
    return AnswerTable((3,)), states, values, kept


def judged(leak: AnswerLeak, values: Any, *, asked: bool = False, declared: bool = True) -> Judgement:
    record = replace(leak, declared=declared).record(clean_answers(values, 0.999), asked=asked)
    return judge((), (), images=len(values), exact=[record])


def test_one_class_of_sixty_that_a_word_tells_does_not_pass() -> None:
    """Word 1 goes out for one value alone; means over all of them hardly move."""
    rng = np.random.default_rng(4)
    values = {split: rng.integers(60, size=6000) for split in (ATTACKER, TEST)}
    kept = {split: [rng.integers(3, size=6000)] for split in values}
    states = {split: (of == 7).astype(np.int64) for split, of in values.items()}
    people = population(values[ATTACKER], kept[ATTACKER][0], 60, 3)
    leak = leak_of(
        AnswerTable((3,)), "s", states, values, kept, people, kept[TEST][0], classes=60, declared=True
    )
    truth = values[TEST]
    logs = np.log(np.where(np.eye(60)[truth] > 0, 0.9, 0.1 / 59))
    record = leak.record(Answers(logs, logs, truth))
    found = judge((), (), images=6000, exact=[record])
    assert found.verdict == "not_passed"
    assert "for '7' against the rest" in found.reasons[0]


def test_a_rare_class_that_a_word_tells_does_not_pass() -> None:
    """All of the rare class share a word with as many others: no guess changes, and everything is told."""
    table, states, values, kept = rare(told=1.0, others=0.05)
    leak = leak_from(table, states, values, kept)
    record = leak.record(clean_answers(values[TEST], 0.999))
    in_accuracy, _, area, _ = record.gains
    assert in_accuracy.nag == pytest.approx(0, abs=0.05)
    assert area.value > 0.95
    assert (record.worst or in_accuracy).nag == pytest.approx(1, abs=0.1)
    found = judged(leak, values[TEST])
    assert found.verdict == "not_passed"
    assert "s: whoever reads the word reaches" in found.reasons[0]
    # A leak that is found counts in what nobody named, too.
    assert judged(leak, values[TEST], declared=False).verdict == "not_passed"
    told = rare(told=1.0, others=0.0)
    assert judged(leak_from(*told), told[2][TEST]).verdict == "not_passed"


def test_a_word_that_is_independent_of_the_attribute_passes_with_enough_images() -> None:
    table, states, values, kept = plain(12_000, follow=0.0)
    assert judged(leak_from(table, states, values, kept), values[TEST]).verdict == "passed"
    few = plain(300, follow=0.0)
    doubt = judged(leak_from(*few), few[2][TEST])
    assert doubt.verdict == "no_verdict"
    assert "more test images are needed (more data)" in doubt.reasons[0]
    assert doubt.more_images


def test_few_images_of_what_nobody_named_are_no_doubt_beside_what_somebody_did() -> None:
    wide, shown = rare(told=0.5, others=0.5, images=600), plain(12_000, follow=0.0)
    exact = [
        leak_from(*shown).record(clean_answers(shown[2][TEST])),
        replace(leak_from(*wide), declared=False).record(clean_answers(wide[2][TEST], 0.999)),
    ]
    assert judge((), (), exact=exact).verdict == "passed"
    asked = [exact[0], exact[1].model_copy(update={"asked": True})]
    assert judge((), (), exact=asked).verdict == "no_verdict"
    assert judge((), (), exact=exact[1:]).verdict == "no_verdict"


def test_expected_figures_are_the_mean_over_drawn_words() -> None:
    table, rng = drawn(), np.random.default_rng(4)
    states = {split: rng.integers(6, size=500) for split in (ATTACKER, TEST)}
    values = {split: (of + (rng.random(500) < 0.3)) % 2 for split, of in states.items()}
    people = population(values[ATTACKER], np.zeros(500, np.int64), 2, 1)
    sample = people.sample(values[TEST], np.zeros(500, np.int64))
    expected = measure(*read_words(table, states, values, sample, classes=2), people.entropy_bits)
    logs, prior = learn(table, states[ATTACKER], values[ATTACKER], 2)
    balanced = np.asarray((logs - prior).argmax(1))
    assert table.probabilities is not None
    chances, tries = table.probabilities.cumsum(1)[states[TEST]], []
    for _ in range(400):
        words = (rng.random((500, 1)) > chances).sum(1)
        found = measure(Answers(logs[words], logs[words], balanced[words]), sample, people.entropy_bits)
        tries.append([found[name].value for name in expected])
    mean, spread = np.mean(tries, axis=0), np.std(tries, axis=0) / 20
    for number, (name, one) in enumerate(expected.items()):
        assert one.value == pytest.approx(mean[number], abs=4 * spread[number] + 1e-9), name
        assert one.parts.shape == (500,)


def test_the_standard_error_counts_images_and_not_words() -> None:
    """By the bootstrap over images, whose drawn words count in expectation."""
    table, rng = drawn(), np.random.default_rng(4)
    states = {split: rng.integers(6, size=500) for split in (ATTACKER, TEST)}
    values = {split: (of + (rng.random(500) < 0.3)) % 2 for split, of in states.items()}
    cells = np.zeros(500, np.int64)
    people = population(values[ATTACKER], cells, 2, 1)

    def figures(rows: Any) -> dict[Any, Any]:
        picked = {split: of[rows] if split is TEST else of for split, of in states.items()}
        labels = {split: of[rows] if split is TEST else of for split, of in values.items()}
        sample = people.sample(labels[TEST], cells)
        return measure(*read_words(table, picked, labels, sample, classes=2), people.entropy_bits)

    whole, strata = figures(np.arange(500)), people.sample(values[TEST], cells).strata
    tries = [
        {name: one.value for name, one in figures(rng.integers(500, size=500)).items()} for _ in range(200)
    ]
    for name, one in whole.items():
        error = standard_error(one.parts, strata)
        assert error == pytest.approx(np.std([each[name] for each in tries]), rel=0.25), name


def test_the_reader_believes_a_rare_word_as_far_as_others_confirm_it() -> None:
    """Leave-one-out by hand: of a word that is drawn anew each time nothing is learned, however often it occurs once."""
    rng = np.random.default_rng(0)
    values = rng.integers(2, size=200)
    logs, prior = learn(AnswerTable((300,)), rng.permutation(300)[:200], values, 2)
    assert np.abs(logs - prior).max() < 0.01
    told = learn(AnswerTable((2,)), values, values, 2)[0]
    assert np.exp(told).diagonal().min() > 0.95
