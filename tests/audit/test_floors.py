"""Floors come from the population, and test images are weighted like it."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from sfumato.audit.floors import LEAST_IMAGES, kept_cells, measure_population, population
from sfumato.data import Split
from sfumato.data.label_dependence import conditional_entropy, entropy

RNG = np.random.default_rng(3)


def people(count: int, copied: float) -> tuple[NDArray[Any], NDArray[Any]]:
    """A sensitive label of three classes, and a desired one that copies it with some probability."""
    sensitive = RNG.choice(3, size=count, p=[0.5, 0.3, 0.2])
    return sensitive, np.where(RNG.random(count) < copied, sensitive, RNG.integers(0, 3, count))


def test_floors_of_an_independent_label_are_those_of_the_majority() -> None:
    sensitive, desired = people(40_000, copied=0.0)
    found = population(sensitive, desired, 3, 3)
    assert found.majority == pytest.approx(np.mean(sensitive == 0))
    assert found.floors["accuracy"] == pytest.approx(found.majority)
    assert found.floors["balanced_accuracy"] == pytest.approx(1 / 3, abs=0.01)
    assert found.floors["auc"] == pytest.approx(0.5, abs=0.01)
    assert found.floors["information"] == pytest.approx(0, abs=1e-3)
    assert found.entropy_bits == pytest.approx(entropy(sensitive))


def test_floors_count_what_the_desired_label_tells() -> None:
    sensitive, desired = people(40_000, copied=0.7)
    found = population(sensitive, desired, 3, 3)
    slow = sum(np.bincount(sensitive[desired == y]).max() for y in range(3)) / 40_000
    assert found.floors["accuracy"] == pytest.approx(slow, abs=0.005)
    assert found.floors["information"] == pytest.approx(
        entropy(sensitive) - conditional_entropy(sensitive, desired), abs=0.01
    )
    assert found.floors["auc"] > 0.8
    assert found.floors["balanced_accuracy"] > 0.75


def test_many_empty_combinations_do_not_raise_the_floor() -> None:
    """Learned and judged on the same labels, a table with a row for every image would be right always."""
    sensitive = RNG.integers(0, 2, 4000)
    cells = np.arange(4000) // 2
    assert population(sensitive, cells, 2, 2000).floors["accuracy"] < 0.53


def test_weights_give_every_combination_its_share() -> None:
    sensitive, desired = people(20_000, copied=0.5)
    found = population(sensitive, desired, 3, 3)
    # A test split with other shares: far too many of class 2.
    odd = np.concatenate([np.arange(600), np.flatnonzero(sensitive == 2)[:900]])
    sample = found.sample(sensitive[odd], desired[odd])
    assert sample.weights.sum() == pytest.approx(1)
    for s in range(3):
        for y in range(3):
            inside = (sensitive[odd] == s) & (desired[odd] == y)
            share = np.mean((sensitive == s) & (desired == y))
            assert sample.weights[inside].sum() == pytest.approx(share)
            assert len(np.unique(sample.strata[inside])) == 1


def test_small_combinations_go_together() -> None:
    labels = np.repeat([0, 1], [60, 40])
    cells = np.concatenate([np.repeat([0, 1, 2], [50, 7, 3]), np.repeat([0, 3], [38, 2])])
    found = population(np.tile(labels, 9), np.tile(cells, 9), 2, 4)
    sample = found.sample(labels, cells)
    sizes = np.bincount(sample.strata)
    assert sizes[sizes > 0].min() >= LEAST_IMAGES
    assert sample.weights == pytest.approx(np.full(100, 0.01))
    # Of a class that is nowhere else nothing is known: it does not count.
    assert (
        population(labels, cells, 3, 4).sample(np.array([0, 1, 2]), np.zeros(3, dtype=np.int64)).weights[2]
        == 0
    )


def test_always_guessing_the_majority_gains_exactly_nothing() -> None:
    from sfumato.audit.metrics import Answers, measure, standard_error

    sensitive, desired = people(9000, copied=0.0)
    found = population(sensitive[:6000], desired[:6000], 3, 3)
    sample = found.sample(sensitive[6000:], desired[6000:])
    logs = np.tile(np.log([0.5, 0.3, 0.2]), (3000, 1))
    accuracy = measure(Answers(logs, logs, logs.argmax(1)), sample, found.entropy_bits)["accuracy"]
    assert accuracy.value == pytest.approx(found.majority)
    assert standard_error(accuracy.parts, sample.strata) == pytest.approx(0, abs=1e-12)


def test_the_population_is_whom_attackers_are_not_tested_on(make) -> None:  # type: ignore[no-untyped-def]
    dataset = make("noise", coupled=0.8).dataset
    cells = kept_cells(dataset, ("shape",))
    assert np.array_equal(cells, dataset.labels["shape"])
    found = measure_population(dataset, cells, "tone")
    rows = np.concatenate([dataset.splits[Split.DEFENDER], dataset.splits[Split.ATTACKER]])
    assert found.counts.sum() == len(rows)
    assert found.majority == pytest.approx(np.bincount(dataset.labels["tone"][rows]).max() / len(rows))
    assert found.floors["accuracy"] > 0.8
