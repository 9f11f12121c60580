"""The study of planted leaks: sizes by integration, verdicts on clear cases, a file that is taken up again."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm
from studies.planted_leaks import simulation, study
from studies.planted_leaks.__main__ import command
from studies.planted_leaks.simulation import Case, distances, entropy, make_world, measured, simulate

from sfumato.core.errors import UsageError

EVEN = Case(classes=2, prevalence=0.5, leak=0.1, unit="bits", seen_by="one")


@pytest.mark.parametrize("prevalence", [0.5, 0.1])
def test_information_is_that_of_the_integral(prevalence: float) -> None:
    """Two classes: only the difference of both numbers counts, N(+-d / sqrt 2, 1) after scaling."""
    distance = 0.9
    apart = distance / np.sqrt(2)
    prior = np.array([1 - prevalence, prevalence])

    def lost(x: float) -> float:
        joint = prior * norm.pdf(x, [-apart, apart], 1)
        total = joint.sum()
        shares = joint / total
        return float(-total * (shares * np.log2(np.maximum(shares, 1e-300))).sum())

    information = entropy(prior) - quad(lost, -9, 9)[0]
    assert measured(prior, distance)[0] == pytest.approx(information, abs=0.003)
    right = quad(lambda x: float((prior * norm.pdf(x, [-apart, apart], 1)).max()), -9, 9)[0]
    assert measured(prior, distance)[1] == pytest.approx(right, abs=0.004)


def test_the_distance_gives_what_is_asked() -> None:
    leak, clean = distances(EVEN)
    assert measured(EVEN.prior, leak)[0] == pytest.approx(0.1, abs=1e-3)
    wanted = replace(EVEN, leak=0.08, unit="nag")
    accuracy = measured(EVEN.prior, distances(wanted)[0])[1]
    assert (accuracy - 0.5) / (measured(EVEN.prior, clean)[1] - 0.5) == pytest.approx(0.08, abs=2e-3)
    assert distances(replace(EVEN, leak=0.0))[0] == 0


def test_worlds_have_the_prevalence_in_every_split() -> None:
    case = replace(EVEN, prevalence=0.03)
    world = make_world(case, 1000, 4)
    for split in (world.data.train, world.data.validation, world.data.test):
        assert split.labels[simulation.NAME].mean() == pytest.approx(0.03, abs=1.5 / split.images)
    assert not np.array_equal(make_world(case, 1000, 5).defender, world.defender)


def test_only_those_who_see_the_leak_have_information() -> None:
    case = replace(EVEN, leak=0.9, seen_by="many")
    world = make_world(case, 800, 0)
    labels = world.data.test.labels[simulation.NAME]
    right = [(one.test.argmax(1) == labels).mean() for one in simulate(world, case, 0) if not one.clean]
    assert len(right) == simulation.ATTACKS
    assert min(right[: simulation.MANY]) > 0.8
    assert max(abs(share - 0.5) for share in right[simulation.MANY :]) < 0.08
    alone = simulate(world, replace(case, seen_by="one"), 0)[2]
    assert abs((alone.test.argmax(1) == labels).mean() - 0.5) < 0.08


def test_clear_cases_are_decided(monkeypatch: pytest.MonkeyPatch) -> None:
    assert study.decide(replace(EVEN, leak=0.9), 600, 0)[0] == "not_passed"
    row = study.run_case(replace(EVEN, leak=0.0), 600, 3)
    assert row["called"] + row["passed"] + row["no_verdict"] == pytest.approx(1)
    assert row["called"] == 0
    assert abs(row["mean_nag"]) < 0.1


def test_folds_hold_every_test_image_once_and_screening_finds_a_clear_leak() -> None:
    world = make_world(EVEN, 300, 0)
    folds = simulation.in_folds(world.data, 3)
    assert [fold.test.images for fold in folds] == [135, 83, 82]
    labels = np.concatenate([fold.test.labels[simulation.NAME] for fold in folds])
    assert np.array_equal(labels, world.data.test.labels[simulation.NAME])
    whole = simulate(world, EVEN, 0)
    told = simulation.predicted_in_folds(world.data, whole, 3)
    for index, one in enumerate(whole):
        assert np.array_equal(np.concatenate([fold[index].test for fold in told]), one.test)
        assert np.array_equal(told[0][index].validation, one.validation)
        assert not np.array_equal(told[1][index].validation, one.validation)
    assert study.decide(replace(EVEN, leak=0.9), 600, 0, folds=3, survivors=1)[0] == "not_passed"


def test_impossible_leaks_are_left_out() -> None:
    every = study.cases()
    assert len({study.key(case.__dict__) for case in every}) == len(every)
    assert all(case.unit == "nag" or case.leak < entropy(case.prior) for case in every)
    assert {case.classes for case in every} == {2, 5, 20}


def test_a_file_is_taken_up_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study, "cases", lambda: [EVEN, replace(EVEN, leak=0.0)])
    ran: list[float] = []
    real = study.run_case

    def counted(case: Case, images: int, audits: int, *folds: int) -> dict[str, object]:
        ran.append(case.leak)
        return real(case, images, audits, *folds)

    monkeypatch.setattr(study, "run_case", counted)
    out = tmp_path / "planted.json"
    command(out=out, audits=1, images=200, kinds=1)
    command(out=out, audits=1, images=200, kinds=2)
    assert ran == [0.1, 0.0]
    assert len(json.loads(out.read_text(encoding="utf-8"))["simulated"]) == 2
    with pytest.raises(UsageError, match="other settings"):
        command(out=out, audits=2, images=200)
    with pytest.raises(UsageError, match="other settings"):
        command(out=out, audits=1, images=200, folds=3)
