"""Numbers, masks and medical pictures, trained for an epoch on the public data sets where they are at hand."""

from pathlib import Path
from typing import Any

import pytest

from sfumato.training.config import make_config
from sfumato.training.presets import settings
from sfumato.training.run import AnswerRun, Run
from sfumato.training.runner import train

SHORT = {"epochs": 1, "clean_epochs": 1, "pretrain_epochs": 0, "batch_size": 64}


def trained(shared_data: Path, out: Path, needs: str, **options: Any) -> Run | AnswerRun:
    for name in needs.split():
        if not (shared_data / name).exists():
            pytest.skip(f"no {name}")
    return train(make_config({**SHORT, **options}), out / "run")


def test_age_in_years(shared_data: Path, tmp_path: Path) -> None:
    data = f"utkface:{shared_data / 'utkface8k' / 'UTKFace'},limit=900,size=32"
    run = trained(shared_data, tmp_path, "utkface8k", data=data, keep=["age:number"], mode="answer")
    assert set(run.card["guess_error"]) == {"age"}
    assert 5 < run.card["guess_error"]["age"] < 25
    assert -0.5 < run.card["desired_accuracy"]["age"] < 1  # the share of a guess's error that is saved


def test_a_mask_of_a_place(shared_data: Path, tmp_path: Path) -> None:
    objects, faces = shared_data / "cifar10_24k", shared_data / "fairface10k"
    data = f"scenes,objects=cifar10:{objects},faces=fairface:{faces},size=32,count=700"
    needs = "cifar10_24k fairface10k"
    run = trained(shared_data, tmp_path, needs, data=data, keep=["place:mask"], hide=["gender"], bits=500)
    assert run.card["guess_iou"]["place"] == pytest.approx(0.4, abs=0.1)
    assert run.card["clean_accuracy"]["place"] > 0.3
    assert run.card["rate_bits"] > 0


def test_pneumonia_by_the_medical_preset(shared_data: Path, tmp_path: Path) -> None:
    file = shared_data / "pneumoniamnist" / "pneumoniamnist.npz"
    options: dict[str, Any] = {"data": f"medmnist:{file},size=32,limit=900", "keep": ["label"]}
    run = trained(shared_data, tmp_path, "pneumoniamnist", **options, **settings("medical", options))
    assert (run.dataset.planes, run.config.preset) == (1, "medical")
    assert 0 < run.card["autoregressive_bits"] <= run.card["rate_bits"]
