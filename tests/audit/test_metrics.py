"""Figures of the audit against slow, obvious versions."""

import numpy as np
import pytest

from sfumato.audit import metrics
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


def test_entropy_and_leak() -> None:
    labels = np.array([0] * 3 + [1])
    slow = -(0.75 * np.log2(0.75) + 0.25 * np.log2(0.25))
    assert entropy(labels) == pytest.approx(slow)
    assert metrics.leak_bits(labels, 0.5) == pytest.approx(slow - 0.5)
    assert metrics.leak_bits(labels, 2.0) == 0


def test_nag_without_a_scale_stays_finite() -> None:
    assert metrics.nag(0.6, 0.5, 0.5) == pytest.approx(10)
    assert metrics.nag(0.5, 0.4, 0.5) == 0
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

    interval = metrics.nag_interval(hits[0], hits[1], hits[2], seed=2)
    by_hand = np.percentile([max(0, (a - f) / (c - f)) for a, c, f in slow], [2.5, 97.5])
    assert interval == pytest.approx(by_hand, abs=0.05)


def test_interval_covers_the_truth_as_often_as_it_says() -> None:
    inside = 0
    for seed in range(100):
        hits = np.random.default_rng(seed).random(300) < 0.7
        low, high = metrics.accuracy_interval(hits, seed=seed)
        inside += low <= 0.7 <= high
    assert 88 <= inside <= 100
