"""Pairs of one person against pairs of two: the slow count, chance, certainty, and both kinds of audit."""

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.audit.test_exact_answer import TEST, clean_answers, drawn, plain

from sfumato.audit.exact_answer import leak_of
from sfumato.audit.floors import population
from sfumato.audit.schema import ExactLeak
from sfumato.audit.statements import exact_statements, verification_statement
from sfumato.audit.verification import MOST, pair_scores, verification
from sfumato.data import Split
from sfumato.training.answer_table import AnswerTable


def posteriors(truth: NDArray[Any], persons: int, sure: float, seed: int = 0) -> NDArray[Any]:
    """Log posteriors of an attacker that is this sure, and wrong accordingly."""
    random = np.random.default_rng(seed)
    said = np.where(random.random(len(truth)) < sure, truth, random.integers(0, persons, len(truth)))
    shares = np.full((len(truth), persons), (1 - sure) / persons)
    shares[np.arange(len(truth)), said] += sure
    logs: NDArray[Any] = np.log(np.maximum(shares, 1e-12))
    return logs


def slow_auc(logs: NDArray[Any], truth: NDArray[Any]) -> float:
    """Share of (pair of one, pair of two) in which the first scores higher, halves for ties."""
    prior = np.bincount(truth, minlength=logs.shape[1]) / len(truth)
    same: list[float] = []
    other: list[float] = []
    for i in range(len(truth)):
        for j in range(i + 1, len(truth)):
            score = sum(math.exp(logs[i, s] + logs[j, s]) / prior[s] for s in range(logs.shape[1]))
            (same if truth[i] == truth[j] else other).append(round(math.log(score), 9))
    wins = sum((a > b) + (a == b) / 2 for a in same for b in other)
    return wins / (len(same) * len(other))


def test_the_auc_is_that_of_the_slow_count() -> None:
    truth = np.random.default_rng(1).integers(0, 3, 40)
    logs = posteriors(truth, 3, 0.6)
    found = verification(logs, logs, truth, seed=0)
    assert found is not None
    assert (found.images, found.pairs) == (40, 780)
    assert found.uploads.auc == pytest.approx(slow_auc(logs, truth), abs=1e-9)
    low, high = found.uploads.ci95
    assert low < found.uploads.auc < high


def test_chance_and_certainty() -> None:
    truth = np.arange(240) % 6
    certain, nothing = posteriors(truth, 6, 1.0), posteriors(truth, 6, 0.0)
    found = verification(nothing, certain, truth, seed=0)
    assert found is not None
    assert found.uploads.auc == pytest.approx(0.5)
    assert found.uploads.equal_error_rate == pytest.approx(0.5)
    assert found.clean.auc == pytest.approx(1.0)
    assert found.clean.equal_error_rate == pytest.approx(0.0, abs=1e-9)
    said = verification_statement("speaker", found)
    assert "AUC of 0.500" in said
    assert "1.000 and 0.0%" in said


def test_the_interval_holds_chance_and_narrows_with_images() -> None:
    def width(count: int) -> float:
        truth = np.random.default_rng(2).integers(0, 6, count)
        other = np.random.default_rng(3).permutation(truth)  # says something sure of somebody else
        found = verification(posteriors(other, 6, 0.7), posteriors(truth, 6, 0.9), truth, seed=0)
        assert found is not None
        low, high = found.uploads.ci95
        assert low < 0.5 < high
        return high - low

    assert width(500) < width(80)


def test_a_score_is_the_likelihood_ratio_of_one_person() -> None:
    logs = np.log(np.array([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9]]))
    scores = pair_scores(logs, np.array([0.75, 0.25]))
    assert scores[0, 1] == pytest.approx(math.log(0.9 * 0.8 / 0.75 + 0.1 * 0.2 / 0.25))
    assert scores[0, 1] > 0 > scores[0, 2]
    assert np.allclose(scores, scores.T)


def test_without_two_persons_or_two_images_of_one_there_is_nothing_to_say() -> None:
    logs = posteriors(np.zeros(5, int), 6, 0.5)
    assert verification(logs, logs, np.zeros(5, int), seed=0) is None
    assert verification(logs, logs, np.arange(5), seed=0) is None


def test_of_many_images_some_are_taken() -> None:
    truth = np.arange(MOST + 100) % 4
    logs = posteriors(truth, 4, 0.5)
    found = verification(logs, logs, truth, seed=0)
    assert found is not None
    assert found.images == MOST


def word_leak(table: AnswerTable, follow: float, *, person: bool = True) -> ExactLeak:
    """The record of a word that follows who speaks in a share of the images."""
    _, states, values, kept = plain(follow=follow)
    if table.probabilities is not None:
        states = {split: words % 6 for split, words in states.items()}
    people = population(values[Split.ATTACKER], kept[Split.ATTACKER][0], 2, 3)
    leak = leak_of(
        table, "who", states, values, kept, people, kept[TEST][0], classes=2, declared=True, person=person
    )
    return leak.record(clean_answers(values[TEST]))


def test_words_that_follow_a_person_are_linked_and_others_are_not() -> None:
    linked, apart = (word_leak(AnswerTable((3,)), follow) for follow in (0.9, 0.0))
    assert linked.verification is not None
    assert apart.verification is not None
    assert linked.verification.uploads.auc > 0.8
    low, high = apart.verification.uploads.ci95
    assert low < 0.51
    assert high < 0.55
    assert apart.verification.clean.auc > 0.8
    assert "Two uploads of one who" in exact_statements([linked])[1]


def test_nothing_is_said_where_nobody_is_told_apart_or_the_word_is_drawn() -> None:
    assert word_leak(AnswerTable((3,)), 0.9, person=False).verification is None
    assert word_leak(drawn(), 0.9).verification is None
