"""A kept number from training to the service: pictures whose brightness is the number."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from tests.fixtures.plans import HASTY

from sfumato.audit.runner import audit
from sfumato.data import Split, save_folder
from sfumato.export.pipeline import export
from sfumato.runtime.contract import LabelPart
from sfumato.runtime.phone_model import PhoneModel
from sfumato.server.model import CloudModel
from sfumato.training.config import TrainConfig
from sfumato.training.evaluate import figure_name
from sfumato.training.run import load_run
from sfumato.training.runner import train

COUNT = 600
TINY: dict[str, Any] = {
    "hide": ("side",),
    "epochs": 4,
    "clean_epochs": 4,
    "pretrain_epochs": 3,
    "batch_size": 32,
    "augmentation": {"contrast": 0.0, "brightness": 0.0},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(0)
    numbers = rng.integers(0, 100, COUNT)
    noise = rng.integers(0, 40, (COUNT, 16, 16, 3))
    pictures = (20 + 1.8 * numbers[:, None, None, None] + noise).astype(np.uint8)
    labels = [{"light": int(one), "dark": int(one < 50), "side": i % 2} for i, one in enumerate(numbers)]
    rows = list(zip(pictures, labels, strict=True))
    return save_folder(rows, tmp_path_factory.mktemp("data") / "light")


@pytest.fixture(scope="module")
def answer_run(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "answer"
    train(TrainConfig(**TINY, data=f"folder:{folder},size=16", keep=("light:number",), mode="answer"), out)
    return out


@pytest.fixture(scope="module")
def bundle(answer_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("exports") / "answer"
    export(load_run(answer_run), out, variants=("int8",), tune="never")
    return out


def test_a_run_says_how_far_answers_are_from_the_truth(answer_run: Path) -> None:
    run = load_run(answer_run)
    card = run.card
    worst = card["guess_error"]["light"]
    rows = run.dataset.splits[Split.TEST]
    numbers = run.dataset.numbers["light"]
    median = np.median(numbers[run.dataset.splits[Split.DEFENDER]])
    assert worst == pytest.approx(np.abs(numbers[rows] - median).mean())
    assert figure_name(run.dataset, run.config.keep) == "credit"
    assert card["desired_accuracy"]["light"] > 0.6  # less than .4 of a guess's error is left


def test_the_service_answers_with_the_number(answer_run: Path, bundle: Path) -> None:
    run, phone, cloud = load_run(answer_run), PhoneModel.load(bundle), CloudModel.load(bundle)
    (entry,) = cloud.contract.keep
    assert entry.values == run.dataset.attributes["light"].values
    rows = run.dataset.splits[Split.TEST]
    images = run.dataset.images[rows]
    found = cloud.predict([phone.perturb(image).levels for image in images])
    assert entry.values is not None
    for answer in found:
        shares = answer["light"].probabilities
        certain = [shares[name] ** cloud.temperatures[0] for name in entry.classes]  # the temperature undone
        expected = np.dot(certain, entry.values) / sum(certain)
        assert answer["light"].value == pytest.approx(expected, rel=0.01)
    said = np.array([answer["light"].value for answer in found], dtype=np.float64)
    errors = np.abs(said - run.dataset.numbers["light"][rows])
    figures = cloud.contract.figures
    shown = (1 - figures["accuracy"]["light"]["int8"]) * figures["guess_error"]["light"]
    assert errors.mean() == pytest.approx(shown, abs=1e-3)


def test_heads_of_both_kinds_in_picture_mode_and_its_audit(folder: Path, tmp_path: Path) -> None:
    config = TrainConfig(
        **TINY,
        data=f"folder:{folder},size=16",
        keep=("light:number", "dark"),
        mode="picture",
        bits=30,
        cloud="resnet,width=8",
    )
    train(config, tmp_path / "run")
    card = load_run(tmp_path / "run").card
    assert 0.3 < card["desired_accuracy"]["light"] < 1
    audit(tmp_path / "run", HASTY, attributes=("side",))
    desired, dark = json.loads((tmp_path / "run" / "audit.json").read_text(encoding="utf-8"))["desired"]
    assert desired["guess_error"] == pytest.approx(card["guess_error"]["light"])
    assert dark["guess_error"] is None
    assert card["guess_error"].keys() == {"light"}
    assert dark["accuracy"] > 0.8
    assert desired["accuracy"] == pytest.approx(card["desired_accuracy"]["light"], abs=0.05)  # another draw
    assert desired["ci95"][0] < desired["accuracy"] < desired["ci95"][1]
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert f"error {(1 - desired['accuracy']) * desired['guess_error']:.3g}" in page


def test_values_belong_to_classes() -> None:
    with pytest.raises(ValidationError, match="3 values do not belong to 2 classes of age"):
        LabelPart(name="age", classes=("0-9", "10-19"), values=(1.0, 2.0, 3.0))
