"""Every pair of options is either refused by the configuration, in one line, or takes its first step: nothing stops later."""

from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from sfumato.core.errors import SfumatoError, UsageError
from sfumato.data import Dataset, Split, open_dataset
from sfumato.models import cloud
from sfumato.training.answer import AnswerTrainer
from sfumato.training.clean import check_cloud, make_cloud
from sfumato.training.config import TrainConfig, make_config
from sfumato.training.loader import Batches
from sfumato.training.log import RunningMeans
from sfumato.training.runner import train
from sfumato.training.trainer import CoTrainer

COMMON = {"data": "synthetic,count=520,size=16", "keep": ("skin",), "hide": ("glasses",), "batch_size": 8}
OPTIONS: dict[str, tuple[Any, ...]] = {
    "objective": (None, "literal", "rate", "suppress"),
    "channel": (None, "dither", "gaussian"),
    "levels": (None, 4),
    "prior": (None, "autoregressive"),
    "cloud": (None, f"{__name__}:small"),
    "frozen_cloud": (None, "clean", f"{__name__}:small"),
    "bits": (None, 8.0),
    "max_drop": (None, 2.0),
    "beyond": (None, 0.1),
    "equal_odds": (None, 0.5),
    "decision": (None, "largest", "none"),
    "mode": (None, "picture", "answer"),
}


class Narrow(cloud.ResNet):
    """The built-in cloud network, quicker."""

    def __init__(self, classes: dict[str, int], **options: Any) -> None:
        super().__init__(classes, **{**options, "widths": (8, 12, 16), "stride": 2})


class Small(nn.Module):
    """What a user might bring: it knows the upload's size, and nothing of ours."""

    def __init__(self, classes: dict[str, int]) -> None:
        super().__init__()
        self.heads = nn.ModuleDict({name: nn.Linear(3 * 16 * 16, count) for name, count in classes.items()})

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {name: head(x.flatten(1)) for name, head in self.heads.items()}


def small(classes: dict[str, int]) -> nn.Module:
    return Small(classes)


def pairs() -> Iterator[dict[str, Any]]:
    """All pairs of options, each with every pair of values; the product of those that meet in the loss."""
    names = list(OPTIONS)
    for i, first in enumerate(names):
        for second in names[i + 1 :]:
            for one, two in product(OPTIONS[first][1:], OPTIONS[second][1:]):
                yield {first: one, second: two}
    loss = ("objective", "channel", "prior", "frozen_cloud")
    for values in product(*(OPTIONS[name] for name in loss)):
        yield {name: value for name, value in zip(loss, values, strict=True) if value is not None}


def accepted() -> list[TrainConfig]:
    found: dict[str, TrainConfig] = {}
    for pair in pairs():
        try:
            config = make_config({**COMMON, **pair})
        except UsageError:
            continue
        found.setdefault(config.model_dump_json(), config)
    return list(found.values())


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return open_dataset(str(COMMON["data"]), keep=("skin",), hide=("glasses",))


def test_every_accepted_pair_takes_its_first_step(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cloud, "ResNet", Narrow)
    fabric, configs = Fabric(accelerator="cpu", devices=1), accepted()
    assert len(configs) > 60
    assert {config.mode for config in configs} == {"picture", "answer"}
    images = Batches(dataset, Split.DEFENDER, ("skin", "glasses"), 8).load(torch.arange(8))
    for config in configs:
        told = str({name: getattr(config, name) for name in OPTIONS})
        if config.given_cloud is not None:  # untrained: whether it fits is the question of test_fit
            with pytest.raises(SfumatoError, match="no better than a guess"):
                check_cloud(config, dataset)
        clean = make_cloud(config, dataset).eval()
        if config.mode == "answer":
            answering = AnswerTrainer(config, dataset, clean, tmp_path, fabric)
            assert torch.isfinite(answering.shared(images.images)["skin"]).all(), told
            continue
        training = CoTrainer(config, dataset, clean, tmp_path, fabric)
        log = RunningMeans()
        training.step(images, 0, log)
        assert torch.isfinite(torch.tensor(log.result()["loss"])), told


SMALLER: tuple[dict[str, Any], ...] = (
    {"beyond": 0.1},
    {"objective": "suppress", "leak": "glasses:0.1"},
    {"prior": "autoregressive", "bits": 300, "decision": "none"},
    {"gray": True, "dial": (64,), "cloud": "lite0,size=32,weights=none"},
)


@pytest.mark.parametrize("more", SMALLER, ids=lambda more: next(iter(more)))
def test_every_term_of_the_loss_takes_smaller_uploads(more: dict[str, Any], tmp_path: Path) -> None:
    options = {**COMMON, "data": "synthetic,count=520,size=32", "levels": 4, "subsample": 2, **more}
    config = make_config(options)
    dataset = open_dataset(config.data, keep=("skin",), hide=("glasses",))
    clean = make_cloud(config, dataset).eval()
    training, log = (
        CoTrainer(config, dataset, clean, tmp_path, Fabric(accelerator="cpu", devices=1)),
        RunningMeans(),
    )
    images = Batches(dataset, Split.DEFENDER, ("skin", "glasses"), 8).load(torch.arange(8))
    training.step(images, 0, log)
    assert torch.isfinite(torch.tensor(log.result()["loss"]))
    output = training.model(images.images)
    assert output.upload.shape == (8, 3, 32, 32)
    assert output.parameters["p"].shape == (8, 6, 16, 16)


def test_an_upload_of_too_few_samples_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="of 16x16 and subsample = 2 it would have 8"):
        train(make_config({**COMMON, "subsample": 2}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"objective": "literal", "channel": "dither"}, "adds gaussian noise"),
        ({"channel": "gaussian", "levels": 4}, "levels belong"),
        ({"channel": "gaussian", "gray": True}, "gray too"),
        ({"channel": "gaussian", "subsample": 2}, "subsample belongs to the channel dither without gates"),
        ({"gates": True, "subsample": 2}, "subsample belongs to the channel dither without gates"),
        ({"block": 2, "subsample": 4}, "a sample of 4 pixels a side needs block = 4"),
        ({"mix_every": 2, "distill": 0}, "mix_every needs distill"),
        ({"mix_every": 2, "objective": "suppress", "hide": ["background"]}, "learn from labels"),
        ({"average": 0.9, "beyond": 0.5}, "average belongs to the objective rate without beyond"),
        (
            {"average": 0.9, "objective": "suppress", "hide": ["background"]},
            "average belongs to the objective",
        ),
        ({"mode": "answer", "mix_every": 2}, "mix_every has no meaning there"),
        ({"mode": "answer", "subsample": 2}, "subsample has no meaning there"),
        ({"mode": "answer", "phone_input": "photo"}, "phone_input has no meaning there"),
    ],
)
def test_pairs_that_stopped_late_are_refused(options: dict[str, Any], what: str) -> None:
    with pytest.raises(UsageError, match=what):
        make_config({**COMMON, **options})


@pytest.mark.parametrize("name", ["seed", "literal"])
def test_the_scheme_of_the_paper_takes_its_channel(name: str) -> None:
    config = make_config({**COMMON, "objective": name})
    assert (config.objective, config.channel) == ("literal", "gaussian")
    assert config.channel_settings["additive"] is True
