"""A kept mask from training to the service: pictures with a bright rectangle, whose place is the mask."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from starlette.testclient import TestClient
from tests.fixtures.masks import write_masks
from tests.fixtures.plans import HASTY
from tests.runtime import test_contract

from sfumato.audit.runner import audit
from sfumato.core.errors import SfumatoError
from sfumato.data import Split
from sfumato.export.pipeline import export
from sfumato.models.cloud import check_answers, create_cloud
from sfumato.runtime.contract import LabelPart, parse_contract, read_contract
from sfumato.runtime.masks import from_runs, to_runs
from sfumato.runtime.phone_model import PhoneModel
from sfumato.server.app import create_app
from sfumato.server.client import Client
from sfumato.server.model import CloudModel
from sfumato.training.config import TrainConfig
from sfumato.training.evaluate import figure_name
from sfumato.training.run import load_run
from sfumato.training.runner import train

TINY: dict[str, Any] = {
    "hide": ("side",),
    "cloud": "resnet,width=8",
    "epochs": 2,
    "clean_epochs": 3,
    "batch_size": 32,
    "bits": 120,
    "augmentation": {"contrast": 0.0, "brightness": 0.0},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("masks")
    write_masks(out)
    return out


@pytest.fixture(scope="module")
def run(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mask and a label at once, without a decision on the phone."""
    out = tmp_path_factory.mktemp("runs") / "mask"
    train(TrainConfig(**TINY, data=f"folder:{folder},size=16", keep=("lesion:mask", "high")), out)
    return out


@pytest.fixture(scope="module")
def bundle(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("exports") / "mask"
    export(load_run(run), out, variants=("int8",), tune="never", allow_missed_goal=True)
    return out


def test_a_run_says_how_far_masks_overlap(run: Path) -> None:
    found = load_run(run)
    card, rows = found.card, found.dataset.splits[Split.TEST]
    assert figure_name(found.dataset, ("lesion", "high")) == "credit"
    assert figure_name(found.dataset, ("high",)) == "accuracy"
    cells, known = found.dataset.masks["lesion"], found.dataset.splits[Split.DEFENDER]
    usual = cells[known].mean(0) > 0.5
    assert card["guess_iou"].keys() == {"lesion"}
    assert (cells[rows] == usual).mean() < card["cells_right"]["lesion"]["uploads"] <= 1
    assert card["guess_iou"]["lesion"] + 0.1 < card["desired_accuracy"]["lesion"] <= 1
    assert card["desired_accuracy"]["high"] > 0.5
    assert found.local.decision is None
    assert card["best_epoch"]["val_accuracy"] == pytest.approx(
        np.mean(list(card["best_epoch"]["val_accuracy_by_head"].values()))
    )


def test_the_service_answers_with_the_mask(run: Path, bundle: Path) -> None:
    found, phone, cloud = load_run(run), PhoneModel.load(bundle), CloudModel.load(bundle)
    lesion, high = cloud.contract.keep
    assert (lesion.classes, lesion.grid, high.grid) == (("no", "yes"), (4, 4), None)
    rows = found.dataset.splits[Split.TEST]
    uploads = [phone.perturb(image) for image in found.dataset.images[rows[:40]]]
    answers = cloud.predict([one.levels for one in uploads])
    with torch.no_grad():
        pixels = torch.from_numpy(cloud.pixels([one.levels for one in uploads]))
        logits = found.cloud.eval()(pixels)["lesion"]
    for one, own in zip(answers, logits, strict=True):
        assert one["lesion"].mask is not None
        assert one["high"].mask is None
        np.testing.assert_array_equal(from_runs(one["lesion"].mask, (4, 4), classes=2), own.argmax(0))
        shares = own.softmax(0).mean((1, 2))
        assert list(one["lesion"].probabilities.values()) == pytest.approx(shares.tolist(), abs=1e-4)
        assert one["lesion"].label == lesion.classes[int(shares.argmax())]


def test_a_client_checks_the_mask_that_it_gets(run: Path, bundle: Path) -> None:
    phone, cloud = PhoneModel.load(bundle), CloudModel.load(bundle)
    image = load_run(run).dataset.images[0]
    with (
        Client(phone, "http://127.0.0.1:1") as client,
        TestClient(create_app(cloud), base_url="http://127.0.0.1:1") as served,
    ):
        client._http.close()
        client._http = served  # the service itself, without a socket
        reply = client.send(image, key=bytes(32))
        (expected,) = cloud.predict([phone.perturb(image, key=bytes(32)).levels])
    assert reply.answers["lesion"]["mask"] == expected["lesion"].mask
    assert "mask" not in reply.answers["high"]
    for wrong in ([0, 15], [2, 16], None, "0"):
        answers = {**reply.answers, "lesion": {**reply.answers["lesion"], "mask": wrong}}
        with pytest.raises((ValueError, TypeError)):
            client._reply({"answers": answers, "model": "m", "request_id": "r"}, 1, 1, 0.0, 1.0)


def test_the_contract_says_what_was_measured(run: Path, bundle: Path) -> None:
    figures, card = read_contract(bundle).figures, load_run(run).card
    assert figures["guess_iou"]["lesion"] == pytest.approx(card["guess_iou"]["lesion"])
    assert figures["accuracy"]["lesion"]["float"] == pytest.approx(
        card["desired_accuracy"]["lesion"], abs=0.05
    )
    right = figures["cells_right"]["lesion"]
    assert right["float"] == pytest.approx(card["cells_right"]["lesion"]["uploads"], abs=0.05)
    assert right["int8"] == pytest.approx(right["float"], abs=0.05)
    assert figures["temperature"].keys() == {"high"}


def test_an_audit_judges_masks_by_their_overlap(run: Path) -> None:
    audit(run, HASTY, attributes=("side",))
    card = load_run(run).card
    lesion, high = json.loads((run / "audit.json").read_text(encoding="utf-8"))["desired"]
    assert lesion["guess_iou"] == pytest.approx(card["guess_iou"]["lesion"])
    assert high["guess_iou"] is None
    assert lesion["accuracy"] == pytest.approx(card["desired_accuracy"]["lesion"], abs=0.05)  # another draw
    assert lesion["ci95"][0] < lesion["accuracy"] < lesion["ci95"][1]
    assert lesion["cells_right"] == pytest.approx(card["cells_right"]["lesion"]["uploads"], abs=0.05)
    page = (run / "report.html").read_text(encoding="utf-8")
    assert f"IoU {100 * lesion['accuracy']:.1f} %" in page
    assert "Everything else includes what the mask lesion says" in page


def test_the_network_has_a_class_for_every_cell_at_any_size() -> None:
    for size, grid in [((64, 48), (16, 12)), ((16, 32), (8, 16)), ((64, 64), (32, 32)), ((32, 32), (2, 2))]:
        cloud = create_cloud("resnet", {"a": 3, "b": 2}, size=size, grids={"a": grid}).eval()
        answers = cloud(torch.rand(2, 3, *size))
        assert {name: tuple(one.shape) for name, one in answers.items()} == {"a": (2, 3, *grid), "b": (2, 2)}


def test_a_network_of_ones_own_answers_for_every_cell() -> None:
    class Own(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"a": torch.stack([x.mean(1), -x.mean(1)], dim=1)}

    check_answers(Own(), {"a": 2}, (16, 16), "own:net", grids={"a": (16, 16)})
    with pytest.raises(SfumatoError, match=r"the kept attributes need {'a': \(3, 2, 4, 4\)}"):
        check_answers(Own(), {"a": 2}, (16, 16), "own:net", grids={"a": (4, 4)})


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"grid": (2, 2), "values": (1.0, 2.0)}, "it is a number or a mask"),
        ({"grid": (300, 300)}, "at most 65,536 cells"),
        ({"grid": (0, 4)}, "greater than or equal to 1"),
    ],
)
def test_a_grid_that_cannot_be_is_refused(more: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        LabelPart(name="lesion", classes=("no", "yes"), **more)


def test_an_answer_bundle_has_no_masks() -> None:
    values = test_contract.answer()
    values["keep"][0]["grid"] = [4, 4]
    with pytest.raises(SfumatoError, match="no word holds a mask"):
        parse_contract(json.dumps(values).encode())


def test_runs_are_read_back() -> None:
    cells = np.random.default_rng(3).integers(0, 3, (5, 7))
    assert (from_runs(to_runs(cells), (5, 7), classes=3) == cells).all()
    for wrong in ([0, 34, 3, 1], [0, 36], [0, 35, 1], [0, 0, 1, 35], [0, "35"], [-1, 35], [0, True, 0, 34]):
        with pytest.raises(ValueError, match="a mask"):
            from_runs(wrong, (5, 7), classes=3)  # type: ignore[arg-type]
