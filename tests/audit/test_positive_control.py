"""The planted leak: its size by enumeration and by the best test, and whether attackers find it."""

import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import norm

from sfumato.audit import positive_control as control
from sfumato.audit.attack_data import AttackData
from sfumato.audit.plan import QUICK
from sfumato.channels import create

GIVEN = Callable[[str], AttackData]


@pytest.mark.parametrize(("count", "step"), [(1, 0.04), (3, 0.1), (7, 0.02)])
def test_the_accuracy_is_that_of_all_uploads_one_by_one(count: int, step: float) -> None:
    right = 0.0
    for bits in itertools.product([0, 1], repeat=count):
        likely = [math.prod([0.5 + step if bit == coin else 0.5 - step for bit in bits]) for coin in (0, 1)]
        right += 0.5 * max(likely)
    assert control.coin_accuracy(count, step) == pytest.approx(right)


@pytest.mark.parametrize("room", [3, 48, 192, 768])
def test_the_leak_is_the_least_that_is_large_enough(room: int) -> None:
    leak = control.design(create("dither"), room)
    assert leak.count <= room
    assert leak.nag >= control.WANTED_NAG
    if leak.count > 1:
        assert 2 * control.coin_accuracy(leak.count - 2, leak.step) - 1 < control.WANTED_NAG
    fainter = leak.step - control.STEP
    assert fainter == 0 or 2 * control.coin_accuracy(room - 1 + room % 2, fainter) - 1 < control.WANTED_NAG


@pytest.mark.parametrize(("nag", "room"), [(0.0, 48), (1.0, 48), (0.08, 0), (0.999999, 1)])
def test_impossible_leaks_are_refused(nag: float, room: int) -> None:
    with pytest.raises(ValueError, match="leak"):
        control.design(create("dither"), room, nag)


def best_guess(planted: AttackData, leak: control.Leak, split: Any) -> np.ndarray[Any, Any]:
    """The coin as the best test guesses it, who knows the patch."""
    name = "mean" if leak.scale else "p"
    apart = planted.train.parameters[name][: planted.train.images].float()
    coins = torch.from_numpy(planted.train.labels[control.COIN][: planted.train.images])
    patch = (apart[coins == 1].std(0) < 1e-6) & (apart[coins == 1].mean(0) != apart[coins == 0].mean(0))
    assert int(patch.sum()) == leak.count
    drawn = planted.channel.sample(
        split.parameters, planted.channel.noise(split.parameters, torch.Generator().manual_seed(5))
    )
    return (drawn[:, patch].sum(1) > leak.count / 2).numpy().astype(np.int64)


@pytest.mark.parametrize("kind", ["noise", "clean", "identity"])
def test_the_best_test_reaches_the_computed_accuracy(attack_data: GIVEN, kind: str) -> None:
    one = attack_data(kind)
    planted, leak = control.plant(one, nag=0.3)
    split = replace(
        planted.test, parameters={name: value.float() for name, value in planted.test.parameters.items()}
    )
    hits = best_guess(planted, leak, split) == planted.test.labels[control.COIN]
    error = np.sqrt(0.25 / len(hits))
    assert hits.mean() == pytest.approx(leak.accuracy, abs=3.5 * error)
    assert len(hits) >= 8 * one.test.images


def test_planting_changes_the_patch_and_nothing_else(attack_data: GIVEN) -> None:
    one = attack_data("clean")
    before = one.test.parameters["p"].float()
    planted, leak = control.plant(one)
    after = planted.test.parameters["p"][: one.test.images].float()
    changed = (before != after).any(0)
    assert 0 < int(changed.sum()) <= leak.count
    assert torch.equal(one.test.parameters["p"].float(), before), "the artifact itself stays as it is"
    assert planted.classes[control.COIN] == 2
    copies = planted.train.labels[control.COIN].reshape(-1, planted.train.images)
    assert (copies == copies[0]).all(), "a copy has its photo's coin"


def test_the_control_is_found_in_a_faint_channel_and_missed_by_attackers_who_learn_nothing(
    attack_data: GIVEN, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = attack_data("noise")
    found = control.positive_control(one, QUICK)
    assert found is not None
    assert found.passed
    assert found.images == control.TEST_UPLOADS
    assert found.planted_nag == pytest.approx(0.08, abs=0.01)
    assert found.found_nag == pytest.approx(found.planted_nag, abs=0.05)
    assert found.found_upper > found.planted_nag

    real = control.plant

    def shuffled(data: AttackData, nag: float) -> tuple[AttackData, control.Leak]:
        planted, leak = real(data, nag)
        coins = np.random.default_rng(0).permutation(planted.train.labels[control.COIN])
        return replace(
            planted, train=replace(planted.train, labels={**planted.train.labels, control.COIN: coins})
        ), leak

    monkeypatch.setattr(control, "plant", shuffled)
    missed = control.positive_control(one, QUICK)
    assert missed is not None
    assert not missed.passed
    assert missed.found_upper < missed.planted_nag


def test_the_stages_are_read_only_if_cheaper_attackers_miss_the_leak(
    attack_data: GIVEN, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def stages(planted: AttackData, plan: Any) -> Any:
        asked.append(plan.name)
        return control.read_the_stages(planted, plan)

    one = attack_data("noise")
    monkeypatch.setattr(control, "ATTACKERS", (control.know_the_channel, stages))
    found = control.positive_control(one, QUICK)
    assert found is not None
    assert found.passed
    assert asked == []

    def blind(planted: AttackData, plan: Any) -> Any:
        return [
            replace(each, validation=0 * each.validation, test=0 * each.test)
            for each in control.know_the_channel(planted, plan)
        ]

    monkeypatch.setattr(control, "ATTACKERS", (blind, stages))
    found = control.positive_control(one, QUICK)
    assert found is not None
    assert asked == ["quick"]
    assert found.attack.startswith(("provider", "ensemble"))


def test_gaussian_size_is_the_normal_distribution() -> None:
    leak = control.design(create("gaussian"), 192)
    assert leak.scale is not None
    assert leak.accuracy == pytest.approx(norm.cdf(leak.step * np.sqrt(leak.count) / leak.scale))
    assert leak.nag == pytest.approx(0.08, abs=1e-3)
    assert norm.cdf(-0.5 / leak.scale) < 1e-3, "clipping hardly ever happens"


def test_other_channels_have_no_control(attack_data: GIVEN) -> None:
    class Other:
        name = "features"

    one = replace(attack_data("noise"), channel=Other())  # type: ignore[arg-type]
    assert control.positive_control(one, QUICK) is None
