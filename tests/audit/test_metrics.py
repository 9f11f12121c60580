"""Figures of the audit against slow, obvious versions."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from sfumato.audit import metrics
from sfumato.audit.floors import population
from sfumato.audit.metrics import Answers, Sample, measure, standard_error
from sfumato.audit.schema import MeasureName
from sfumato.data.label_dependence import entropy

RNG = np.random.default_rng(5)


def test_auc_is_the_share_of_ordered_pairs() -> None:
    labels = RNG.integers(0, 2, 60)
    score = RNG.random(60) + 0.3 * labels
    pairs = [float(p > q) for p in score[labels == 1] for q in score[labels == 0]]
    assert metrics.auc(labels, np.stack([1 - score, score], axis=1)) == pytest.approx(np.mean(pairs))


def test_auc_of_several_classes_passes_over_absent_ones() -> None:
    labels = np.array([0, 0, 2, 2])
    perfect = np.eye(3)[labels]
    assert metrics.auc(labels, perfect) == 1.0
    assert metrics.auc(np.zeros(4, dtype=np.int64), perfect) == 0.5


def test_balanced_accuracy_is_the_mean_recall() -> None:
    labels = np.array([0, 0, 0, 1, 1])
    guesses = np.array([0, 0, 2, 1, 0])
    assert metrics.balanced_accuracy(labels, guesses) == pytest.approx((2 / 3 + 1 / 2) / 2)


def test_nag_without_a_scale_stays_finite_and_nothing_is_clamped() -> None:
    assert metrics.nag(0.6, 0.5, 0.5) == pytest.approx(10)
    assert metrics.nag(0.5, 0.4, 0.5) == 0
    assert metrics.nag(0.45, 0.9, 0.5) == pytest.approx(-0.125)
    assert metrics.nag(0.9, 0.9, 0.5) == pytest.approx(1)


def test_bootstrap_equals_resampling_by_hand() -> None:
    hits = np.stack([RNG.random(200) < share for share in (0.6, 0.9, 0.5)])
    rng = np.random.default_rng(1)
    slow = np.array([hits[:, rng.integers(0, 200, 200)].mean(1) for _ in range(4000)])
    fast = metrics.resampled(hits, seed=2, resamples=4000)
    assert fast.mean(0) == pytest.approx(hits.mean(1), abs=0.003)
    assert np.percentile(fast, [2.5, 97.5], axis=0) == pytest.approx(
        np.percentile(slow, [2.5, 97.5], axis=0), abs=0.012
    )
    # Resampled together: the covariance between two quantities survives.
    assert np.cov(fast.T)[0, 1] == pytest.approx(np.cov(slow.T)[0, 1], abs=1e-4)


def test_interval_covers_the_truth_as_often_as_it_says() -> None:
    inside = 0
    for seed in range(100):
        hits = np.random.default_rng(seed).random(300) < 0.7
        low, high = metrics.accuracy_interval(hits, seed=seed)
        inside += low <= 0.7 <= high
    assert 88 <= inside <= 100


def answers(labels: NDArray[Any], gap: float, classes: int, rng: np.random.Generator) -> Answers:
    """What an attacker says who sees the label through noise, `gap` standard deviations high."""
    z = rng.normal(size=(len(labels), classes))
    z[np.arange(len(labels)), labels] += gap
    score = gap * z
    logs = score - np.log(np.exp(score).sum(1, keepdims=True))
    return Answers(logs, logs, score.argmax(1))


def uniform(labels: NDArray[Any]) -> Sample:
    return Sample(labels, np.zeros(len(labels), dtype=np.int64), np.full(len(labels), 1 / len(labels)))


@pytest.mark.parametrize("classes", [2, 3])
def test_measures_of_equal_weights_are_the_plain_ones(classes: int) -> None:
    labels = RNG.integers(0, classes, 200)
    labels[:3] = classes - 1
    said = answers(labels, 1.0, classes, RNG)
    found = metrics.measure(said, uniform(labels), entropy(labels))
    assert found["accuracy"].value == pytest.approx((said.guesses == labels).mean())
    assert found["balanced_accuracy"].value == pytest.approx(metrics.balanced_accuracy(labels, said.balanced))
    assert found["auc"].value == pytest.approx(metrics.auc(labels, np.exp(said.ranking)))
    slow = np.mean(
        [-np.log2(np.exp(row[label])) for row, label in zip(said.log_probabilities, labels, strict=True)]
    )
    assert found["information"].value == pytest.approx(entropy(labels) - slow)


def test_the_weighted_auc_is_the_weighted_share_of_ordered_pairs() -> None:
    labels, weights = RNG.integers(0, 2, 50), RNG.random(50)
    score = (RNG.random(50) + 0.2 * labels).round(1)  # with ties
    said = Answers(np.zeros((50, 2)), np.stack([-score, score], 1), labels)
    sample = Sample(labels, np.zeros(50, dtype=np.int64), weights / weights.sum())
    won = total = 0.0
    for i in np.flatnonzero(labels == 1):
        for j in np.flatnonzero(labels == 0):
            won += weights[i] * weights[j] * (0.5 if score[i] == score[j] else float(score[i] > score[j]))
            total += weights[i] * weights[j]
    assert metrics.measure(said, sample, 1.0)["auc"].value == pytest.approx(won / total)


def test_the_area_of_a_class_is_that_of_it_against_the_rest() -> None:
    labels, score = RNG.integers(0, 3, 60), RNG.random((60, 3)).round(1)
    said = Answers(score, score, labels)
    sample = Sample(labels, labels, np.full(60, 1 / 60))
    areas = metrics.class_areas(said, sample)
    for one in range(3):
        pairs = [(score[i, one], score[j, one]) for i in np.flatnonzero(labels == one)
                 for j in np.flatnonzero(labels != one)]  # fmt: skip
        assert areas[one].value == pytest.approx(np.mean([(a > b) + (a == b) / 2 for a, b in pairs]))
    assert metrics.measure(said, sample, 1.0)["auc"].value == pytest.approx(
        np.mean([one.value for one in areas.values()])
    )
    two = Sample(labels % 2, labels, sample.weights)
    assert metrics.class_areas(Answers(score[:, :2], score[:, :2], labels), two) == {}


@pytest.mark.parametrize("classes", [2, 4])
def test_standard_errors_are_those_of_the_bootstrap(classes: int) -> None:
    """Slow and obvious: draw the images again and again, within their classes, and look how far the figures move."""
    rng = np.random.default_rng(1)
    labels = np.repeat(np.arange(classes), 400 // classes)
    attack, clean = (answers(labels, gap, classes, rng) for gap in (0.7, 2.5))
    sample = Sample(labels, labels, np.full(len(labels), 1 / len(labels)))
    floors: dict[MeasureName, float] = {
        "accuracy": 1 / classes,
        "balanced_accuracy": 1 / classes,
        "auc": 0.5,
        "information": 0.0,
    }
    bits = np.log2(classes)

    def gain(rows: NDArray[Any]) -> list[float]:
        drawn = Sample(labels[rows], labels[rows], sample.weights)
        found, full = (metrics.measure(one.take(rows), drawn, bits) for one in (attack, clean))
        ratios = [
            (found[name].value - floors[name]) / (full[name].value - floors[name])
            for name in metrics.MEASURES[:3]
        ]
        return [*ratios, found["information"].value / bits]

    resampled = []
    for _ in range(800):
        resampled.append(
            gain(
                np.concatenate(
                    [rng.choice(np.flatnonzero(labels == c), 400 // classes) for c in range(classes)]
                )
            )
        )
    found, full = (metrics.measure(one, sample, bits) for one in (attack, clean))
    gains = metrics.gains(found, full, floors, sample.strata, bits)
    assert [one.nag for one in gains] == pytest.approx(gain(np.arange(400)))
    assert [one.error for one in gains] == pytest.approx(np.std(resampled, axis=0), rel=0.12)
    for one in gains:
        assert one.nag is not None
        assert one.error is not None
        assert one.upper == pytest.approx(one.nag + 1.645 * one.error, abs=1e-3)


def test_upper_limits_hold_as_often_as_they_say() -> None:
    """An attacker without any knowledge: its true gain is 0, and in 5 % of the samples the limit may lie below."""
    below = np.zeros(3)
    for seed in range(300):
        rng = np.random.default_rng(seed)
        labels = (rng.random(600) < 0.4).astype(np.int64)
        people = population(
            (rng.random(20_000) < 0.4).astype(np.int64), np.zeros(20_000, dtype=np.int64), 2, 1
        )
        guess = rng.normal(size=(600, 2)) * 0.5
        logs = guess - np.log(np.exp(guess).sum(1, keepdims=True))
        sample = people.sample(labels, np.zeros(600, dtype=np.int64))
        found = metrics.measure(Answers(logs, logs, guess.argmax(1)), sample, people.entropy_bits)
        full = metrics.measure(answers(labels, 3.0, 2, rng), sample, people.entropy_bits)
        gains = metrics.gains(
            found, full, {**people.floors, "accuracy": 0.5}, sample.strata, people.entropy_bits
        )
        below += [one.upper is not None and one.upper < 0 for one in gains[:3]]
    assert (below <= 28).all(), below  # 15 expected, 28 in one of a thousand cases
    assert (below >= 4).all(), below


def test_a_measure_without_a_scale_says_nothing() -> None:
    labels = np.tile([0, 1], 100)
    blind = Answers(np.log(np.full((200, 2), 0.5)), np.zeros((200, 2)), np.zeros(200, dtype=np.int64))
    found = metrics.measure(blind, uniform(labels), 1.0)
    floors: dict[MeasureName, float] = {
        "accuracy": 0.5,
        "balanced_accuracy": 0.5,
        "auc": 0.5,
        "information": 0.0,
    }
    assert all(
        one.nag is None and one.upper is None for one in metrics.gains(found, found, floors, labels, 1.0)
    )


def test_the_interval_of_a_mean_is_that_of_the_bootstrap() -> None:
    bits = np.random.default_rng(0).exponential(2, 500)
    slow = [np.mean(np.random.default_rng(seed).choice(bits, 500)) for seed in range(2000)]
    assert metrics.mean_interval(bits) == pytest.approx(tuple(np.percentile(slow, [2.5, 97.5])), abs=0.03)
    assert metrics.mean_interval(np.array([3.0])) == (3.0, 3.0)


def test_a_class_that_the_population_does_not_know_counts_nowhere() -> None:
    """Its test images have no weight; the figures are those of the others alone."""
    rng = np.random.default_rng(3)
    labels, logs = rng.integers(3, size=300), rng.normal(size=(300, 3))
    answers = Answers(logs, logs, logs.argmax(1))
    people = population(rng.integers(2, size=2000), np.zeros(2000, np.int64), 3, 1)
    known = np.flatnonzero(labels < 2)
    whole, part = (
        people.sample(labels[rows], np.zeros(len(rows), np.int64)) for rows in (np.arange(300), known)
    )
    measured, wanted = measure(answers, whole, 1.0), measure(answers.take(known), part, 1.0)
    for name, one in wanted.items():
        assert measured[name].value == pytest.approx(one.value), name
        assert standard_error(measured[name].parts, whole.strata) == pytest.approx(
            standard_error(one.parts, part.strata)
        ), name


def test_of_few_images_the_variance_is_that_of_two_more() -> None:
    values = np.array([0.2, 0.9, 0.4])
    slow = np.var([0.2, 0.9, 0.4, 0.0, 1.0], ddof=1) - np.var(values, ddof=1)
    assert metrics.hidden_variance(values) == pytest.approx(slow / 3)
    labels = np.array([0] * 60 + [1] * 3)
    logs = np.log(np.full((63, 2), 0.5))
    answers = Answers(logs, logs, np.array([0] * 60 + [1, 1, 1]))
    sample = Sample(labels, labels, np.full(63, 1 / 63))
    found = measure(answers, sample, 1.0)
    assert standard_error(found["balanced_accuracy"].parts, labels) < 1e-9, (
        "all are right, as far as one sees"
    )
    three = metrics.hidden_variance(np.ones(3))
    assert found["balanced_accuracy"].hidden == pytest.approx(three / 4)
    assert found["accuracy"].hidden == pytest.approx(metrics.hidden_variance(np.zeros(3)) * (3 / 63) ** 2)
    half = metrics.hidden_variance(np.full(3, 0.5))
    assert found["auc"].hidden == pytest.approx(half), "of sixty others nothing is hidden"
    gain = metrics.normalised_gain(
        "balanced_accuracy", found["balanced_accuracy"], found["balanced_accuracy"], 0.5, labels
    )
    assert gain.error == pytest.approx((2 * three / 4) ** 0.5 / 0.5)
