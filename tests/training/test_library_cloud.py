"""A run whose cloud network is one of a library: where it starts from, what learns, what an artifact needs."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from sfumato.core.errors import UsageError
from sfumato.models import pretrained
from sfumato.models.lite0 import Lite0
from sfumato.models.pretrained import Pretrained
from sfumato.training import clean
from sfumato.training.config import make_config
from sfumato.training.run import load_run
from sfumato.training.runner import train

TINY: dict[str, Any] = {
    "data": "synthetic,size=16,count=600",
    "keep": ("skin",),
    "bits": 300,
    "epochs": 1,
    "clean_epochs": 1,
    "pretrain_epochs": 1,
    "batch_size": 64,
}


def test_training_starts_from_the_file_and_a_finished_run_does_not_need_it(tmp_path: Path) -> None:
    torch.manual_seed(3)
    weights, file = Lite0().state_dict(), tmp_path / "weights.safetensors"
    save_file(weights, file)
    cloud = f"lite0,weights={file},size=32,freeze=2"
    run = train(make_config({**TINY, "cloud": cloud}), tmp_path / "run")
    file.unlink()
    loaded = load_run(tmp_path / "run")
    assert isinstance(loaded.cloud, Pretrained)
    held = load_file(tmp_path / "run" / "cloud.safetensors")
    for name, value in weights.items():
        same = torch.equal(held[f"backbone.{name}"], value)
        assert same == name.startswith(("blocks.0.", "blocks.1.")), name
    probe = torch.rand(2, 3, 16, 16)
    assert torch.equal(loaded.cloud(probe)["skin"], run.cloud(probe)["skin"])


def test_a_frozen_one_keeps_what_clean_photos_taught_and_scratch_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a library in the place of timm that has one network: it is no part of the set-up."""
    backbone = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()
    )
    monkeypatch.setattr(
        pretrained, "_timm", lambda spec, size: (copy.deepcopy(backbone), (0.5,) * 3, (0.5,) * 3)
    )
    said: list[str] = []
    monkeypatch.setattr(clean, "note", said.append)
    run = train(make_config({**TINY, "cloud": "timm:small", "frozen_cloud": "clean"}), tmp_path / "run")
    assert len(said) == 1
    assert "timm:small starts from scratch" in said[0]
    assert not torch.equal(run.cloud.state_dict()["backbone.0.weight"], backbone.state_dict()["0.weight"]), (
        "it was trained"
    )
    for name, value in run.clean.state_dict().items():
        assert torch.equal(run.cloud.state_dict()[name], value), name


def test_a_file_that_is_missing_stops_before_anything_is_written(tmp_path: Path) -> None:
    config = make_config({**TINY, "cloud": f"lite0,weights={tmp_path / 'none.pth'}"})
    with pytest.raises(Exception, match=r"none\.pth"):
        train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with pytest.raises(UsageError, match="freeze=40 is too many"):
        train(make_config({**TINY, "cloud": "lite0,weights=none,freeze=40"}), tmp_path / "run")
    assert not (tmp_path / "run").exists()
