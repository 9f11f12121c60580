"""Training with a restorer: the cloud network stays, what stands before it learns, and uploads are read better for it."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.fixtures.plans import HASTY

from sfumato.audit import audit
from sfumato.core.errors import UsageError
from sfumato.data import Split
from sfumato.models.restorer import RestoringReader
from sfumato.training.config import TrainConfig, make_config
from sfumato.training.evaluate import evaluate
from sfumato.training.loader import Batches
from sfumato.training.run import load_run
from sfumato.training.runner import train

SETTINGS: dict[str, Any] = {
    "data": "synthetic,size=32,count=1200",
    "keep": ("background",),
    "cloud": "resnet,width=8",
    "bits": 2000,
    "subsample": 2,
    "decision": "none",
    "frozen_cloud": "clean",
    "clean_epochs": 2,
    "pretrain_epochs": 0,
    "epochs": 8,
    "batch_size": 16,
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """It must not be changed."""
    folder = tmp_path_factory.mktemp("restored") / "run"
    train(TrainConfig(**SETTINGS, restore=True), folder)
    return folder


def test_the_cloud_network_stays_and_the_restorer_learns(finished: Path) -> None:
    run = load_run(finished)
    assert isinstance(run.cloud, RestoringReader)
    kept, clean = run.cloud.network.state_dict(), run.clean.state_dict()
    assert list(kept) == list(clean)
    assert all(torch.equal(value, clean[name]) for name, value in kept.items())
    assert run.cloud.restorer.last.weight.abs().sum() > 0
    counts = [value for name, value in run.cloud.restorer.state_dict().items() if "batches_tracked" in name]
    assert min(counts) > 0, "its batch norms follow the uploads"


def test_uploads_are_read_better_than_without(finished: Path) -> None:
    run = load_run(finished)
    assert isinstance(run.cloud, RestoringReader)
    batches = Batches(run.dataset, Split.TEST, run.keep, 64)
    through = evaluate(run.cloud, batches, run.local, seed=1).accuracy
    without = evaluate(run.cloud.network, batches, run.local, seed=1).accuracy
    assert through > without + 0.02
    assert run.card["desired_accuracy"]["background"] == pytest.approx(through, abs=0.05)


def test_the_provider_attacks_what_is_behind_it(finished: Path, tmp_path: Path) -> None:
    result = audit(str(finished), HASTY, attributes=("smiling",), out=tmp_path)
    provider = {row.architecture for row in result.attacks if row.attack == "provider"}
    assert {"finetune", "stage 0, 1x1"} <= provider


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (
            {"objective": "literal", "bits": None, "subsample": 1},
            "restore reads uploads of the channel dither",
        ),
        ({"channel": "gaussian", "subsample": 1}, "restore reads uploads of the channel dither"),
        ({"mode": "answer"}, "restore"),
    ],
)
def test_what_has_no_such_uploads_is_refused(values: dict[str, Any], words: str) -> None:
    settings = {**SETTINGS, "restore": True, **values}
    settings = {name: value for name, value in settings.items() if value is not None}
    if values.get("mode") == "answer":
        settings = {name: settings[name] for name in ("data", "keep", "mode", "restore")}
    with pytest.raises(UsageError, match=words):
        make_config(settings)
