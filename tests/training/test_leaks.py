"""Limits on what may be found of hidden attributes, held by the run itself."""

from math import log
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from sfumato.core.errors import UsageError
from sfumato.core.leak_limits import LeakLimit, read_leaks
from sfumato.training.config import LeakControl, TrainConfig, make_config
from sfumato.training.epoch_selection import Targets, nearest, score
from sfumato.training.log import read_records
from sfumato.training.regularisers.leak_weights import (
    LeakScale,
    LeakWeights,
    Success,
    largest_leak,
    successes,
)
from sfumato.training.runner import train


@pytest.mark.parametrize(
    "text",
    [
        "race",
        "race:",
        "race:2",
        "race:0",
        "race:-0.1",
        "race:0.1,race:0.2",
        "race:1e-2",
        "race:0bits",
        ":0.1",
    ],
)
def test_a_limit_that_is_none_is_one_line(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_leaks(text)
    assert "\n" not in str(caught.value)
    with pytest.raises(UsageError, match="leak"):
        make_config(
            {
                "data": "synthetic",
                "keep": ["smiling"],
                "hide": ["race"],
                "objective": "suppress",
                "leak": text,
            }
        )


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"objective": "rate", "hide": ["skin"]}, "suppress"),
        ({"objective": "suppress", "hide": ["hair"]}, "skin"),
        ({"mode": "answer", "hide": ["skin"]}, "leak"),
    ],
)
def test_limits_belong_to_hidden_attributes_of_suppress(options: dict[str, Any], word: str) -> None:
    with pytest.raises(UsageError, match=word):
        make_config({"data": "synthetic", "keep": ["smiling"], "leak": "skin:0.1", **options})


def test_leaks_are_those_of_the_strongest_adversary() -> None:
    chance = torch.Generator().manual_seed(0)
    labels = {"s": torch.randint(3, (500,), generator=chance)}
    outputs = [
        {"s": torch.randn(500, 3, generator=chance) + strength * F.one_hot(labels["s"], 3)}
        for strength in (0.0, 1.5, 0.5)
    ]
    found = successes(outputs, labels, "s")
    scale = LeakScale(guess=0.4, photos=0.9, entropy=log(3))
    accuracies, entropies = [], []
    for one in outputs:
        chances = np.exp(one["s"].double().numpy())
        chances /= chances.sum(1, keepdims=True)
        right = chances[np.arange(500), labels["s"].numpy()]
        accuracies.append((chances.argmax(1) == labels["s"].numpy()).mean())
        entropies.append(-np.log(right).mean())
    nag = largest_leak(LeakLimit(0.05), scale, found)
    bits = largest_leak(LeakLimit(0.05, in_bits=True), scale, found)
    assert nag == pytest.approx((max(accuracies) - 0.4) / 0.5, abs=1e-6)
    assert bits == pytest.approx((log(3) - min(entropies)) / log(2), abs=1e-6)
    blind = LeakScale(guess=0.6, photos=0.6, entropy=log(3))
    assert abs(blind.leak(LeakLimit(0.05), 0.6, 1.0)) == 0, "where photos tell nothing, nothing leaks"


@pytest.mark.parametrize("most", [0.02, 0.1, 0.3])
def test_weights_find_the_limit_in_a_world_that_obeys_them(most: float) -> None:
    """Adversaries whose success falls as the weight rises: it must settle where the limit is, from either side."""
    limits = {"s": LeakLimit(most)}
    for first in (0.2, 60.0):
        weights = LeakWeights(limits, {"s": LeakScale(0.5, 0.9, 0.69)}, first, LeakControl())
        for _ in range(3000):
            leak = 0.6 / (1 + weights["s"])
            weights.update({"s": [Success(0.5, 0.69), Success(0.5 + 0.4 * leak, 0.6)]})
        assert weights.leak("s") == pytest.approx(most, rel=0.1)
        resumed = LeakWeights(limits, {"s": LeakScale(0.0, 1.0, 0.0)}, 1.0, LeakControl())
        resumed.load_state_dict(weights.state_dict())
        for one in (weights, resumed):
            one.update({"s": [Success(0.6, 0.6), Success(0.7, 0.5)]})
        assert (resumed["s"], resumed.leak("s")) == (weights["s"], weights.leak("s"))


def test_an_epoch_must_keep_its_limits() -> None:
    limits = {"race": LeakLimit(0.1), "gender": LeakLimit(0.2, in_bits=True)}
    targets = Targets(bits=8, leaks=limits)
    within, over, far = (
        {"race": 0.09, "gender": 0.19},
        {"race": 0.09, "gender": 0.4},
        {"race": 0.5, "gender": 0.1},
    )
    ranked = [
        score(0.9, 8, targets, leaks=None),
        score(0.9, 8, targets, leaks=far),
        score(0.9, 8, targets, leaks=over),
        score(0.6, 8, targets, leaks=within),
        score(0.7, 8, targets, leaks=within),
    ]
    assert ranked == sorted(ranked)
    assert [one.met for one in ranked] == [False, False, False, True, True]
    accurate = Targets(least_accuracy=0.8, leaks=limits)
    assert score(0.7, 4, accurate, leaks=within) < score(0.8, 9, accurate, leaks=within)
    assert score(0.9, 4, accurate, leaks=far) < score(0.8, 9, accurate, leaks=within)
    assert not score(0.9, 4, accurate, leaks=None).met


def test_the_nearest_epochs_are_those_that_no_other_beats() -> None:
    chance = np.random.default_rng(0)
    targets = Targets(bits=100, leaks={"race": LeakLimit(0.1)})
    records = [
        {
            "epoch": number,
            "val_accuracy": float(chance.uniform(0.4, 0.6)),
            "val_rate_bits": float(chance.uniform(60, 200)),
            "val_leak": {"race": float(chance.uniform(0.05, 0.5))},
        }
        for number in range(40)
    ]

    def point(record: dict[str, Any]) -> tuple[float, float, float]:
        return (
            record["val_accuracy"],
            -max(1.0, record["val_rate_bits"] / 105),
            -max(1.0, record["val_leak"]["race"] / 0.1),
        )

    def beaten(one: dict[str, Any]) -> bool:
        others = (point(other) for other in records if other is not one)
        return any(all(a >= b for a, b in zip(other, point(one), strict=True)) for other in others)

    found = [one["epoch"] for one in nearest([{"epoch": -1, "val_accuracy": 1.0}, *records], targets)]
    assert set(found) == {one["epoch"] for one in records if not beaten(one)}
    shown = [one["val_accuracy"] for one in nearest(records, targets)]
    assert shown == sorted(shown, reverse=True)


def test_a_run_says_what_it_could_not_keep(tmp_path: Path) -> None:
    config = TrainConfig.model_validate(
        {
            "data": "synthetic,size=16,count=600",
            "keep": ("smiling",),
            "hide": ("skin",),
            "cloud": "resnet,width=8",
            "objective": "suppress",
            "bits": 400,
            "leak": "skin:0.001",
            "clean_epochs": 1,
            "pretrain_epochs": 1,
            "epochs": 4,
            "batch_size": 64,
        }
    )
    run = train(config, tmp_path / "run")
    epochs = [one for one in read_records(run.folder / "metrics.jsonl") if one["stage"] == "cotrain"]
    assert ["val_leak" in one for one in epochs] == [False, True, True, True]
    weights = [one["leak_weight"]["skin"] for one in epochs if "leak_weight" in one]
    assert weights == sorted(weights), "the limit is far, so the weight rises"
    assert weights[0] < weights[-1]
    assert not run.card["goal_met"]
    assert 1 <= len(run.card["nearest"]) <= 3
    best = run.card["best_epoch"]
    assert best["val_leak"]["skin"] == min(one["val_leak"]["skin"] for one in epochs if "val_leak" in one)
