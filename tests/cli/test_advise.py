"""`sfumato advise`: its figures by hand, its folder, and its words."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from typer.testing import CliRunner

from sfumato.cli import advise_run
from sfumato.cli.advise import headline
from sfumato.cli.advise_run import accuracy, advise, configuration, credits
from sfumato.cli.main import app
from sfumato.core.errors import SfumatoError, UsageError
from sfumato.core.files import only_process
from sfumato.data import Split, open_dataset
from sfumato.data.intervals import wilson
from sfumato.training.advice import Limits

DATA = "synthetic,count=600,size=48"


class Rule(nn.Module):
    """Answers from the mean brightness."""

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        bright = x.mean((1, 2, 3))
        return {"smiling": torch.stack([0.5 - bright, bright - 0.5], 1)}


def test_hits_are_those_of_a_plain_loop() -> None:
    dataset = open_dataset(DATA, keep=["smiling"])
    hits = credits(Rule(), dataset, Split.TEST, ["smiling"])["smiling"]
    rows = dataset.splits[Split.TEST]
    expected = [
        (float(dataset.images[row].astype(float).mean()) > 127.5) == bool(dataset.labels["smiling"][row])
        for row in rows
    ]
    assert hits.tolist() == expected


def test_the_interval_of_a_difference_is_paired() -> None:
    rng = np.random.default_rng(0)
    clean = (rng.random(400) < 0.9).astype(np.float64)
    phone = clean * (rng.random(400) < 0.99)
    hits = {"cloud": {"a": clean}, "phone": {"a": phone}}
    row = accuracy("phone", "a", hits, hits)
    assert row.behind == pytest.approx(100 * (clean.mean() - phone.mean()))
    drawn = rng.integers(0, 400, (4000, 400))
    boot = 100 * (clean[drawn].mean(1) - phone[drawn].mean(1))
    assert row.behind_ci95 == pytest.approx(tuple(np.percentile(boot, [2.5, 97.5])), abs=0.25)
    assert row.behind_ci95[1] - row.behind_ci95[0] < 100 * (row.ci95[1] - row.ci95[0])


def test_wilson_solves_its_equation() -> None:
    """Its bounds are the shares p for which the observed one lies 1.96 standard deviations of p away."""
    for hits, count in ((0, 50), (7, 50), (50, 50)):
        for bound in wilson(hits, count):
            distance = abs(hits / count - bound)
            assert distance == pytest.approx(1.959964 * (bound * (1 - bound) / count) ** 0.5, abs=1e-7)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("advise") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(advise_run, "EPOCHS", (1, 1))
        advise(configuration(DATA, ["smiling"], ["skin"]), out=out)
    return out


def test_a_report_holds_every_row(folder: Path) -> None:
    report = json.loads((folder / "advice.json").read_text(encoding="utf-8"))
    assert report["schema"] == "sfumato-advice/1"
    assert [row["network"] for row in report["networks"]] == ["phone", "larger", "cloud"]
    assert set(report["seconds"]) == {"cloud", "phone", "larger", "attacker"}
    costs = report["costs"]
    assert costs["larger"]["macs"] == pytest.approx(10 * costs["phone"]["macs"], rel=0.1)
    assert costs["cloud"]["instructions"]["cortex-a53"] > costs["cloud"]["instructions"]["cortex-a76"]
    assert report["advice"]["mode"] in {"answer", "phone", "picture"}
    (skin,) = report["hidden"]
    labels = open_dataset(DATA).labels
    assert skin["majority"] == pytest.approx(np.bincount(labels["skin"]).max() / 600)
    joint = np.histogram2d(labels["smiling"], labels["skin"], bins=(2, 4))[0]
    assert skin["label_only"] == pytest.approx(joint.max(1).sum() / 600)


def test_a_folder_goes_on_and_refuses_other_settings(folder: Path, tmp_path: Path) -> None:
    config = configuration(DATA, ["smiling"], ["skin"])
    before = json.loads((folder / "advice.json").read_text(encoding="utf-8"))
    (folder / "advice.json").unlink()
    again = advise(config, out=folder)  # every network is read back
    assert again.seconds == {}
    assert json.loads((folder / "advice.json").read_text(encoding="utf-8"))["networks"] == before["networks"]
    private = advise(config, out=folder, private_cloud=True, limits=Limits(drop=1e-9))
    assert (private.advice.mode, private.advice.network) != ("phone", "clean")
    with pytest.raises(SfumatoError, match="other settings"):
        advise(configuration(DATA, ["smiling"], ["hair"]), out=folder)
    with only_process(folder), pytest.raises(SfumatoError, match="another process is at work"):
        advise(config, out=folder)
    settings = json.loads((folder / "settings.json").read_text(encoding="utf-8"))
    assert settings.pop("classifiers") == 2
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "settings.json").write_text(json.dumps(settings), encoding="utf-8")
    with pytest.raises(SfumatoError, match="by another version: choose another --out"):
        advise(config, out=tmp_path / "old")
    (tmp_path / "note").write_text("mine")
    with pytest.raises(SfumatoError, match="not empty"):
        advise(config, out=tmp_path)


def test_the_command_says_it_in_words(folder: Path) -> None:
    done = CliRunner().invoke(
        app, ["advise", "--data", DATA, "--keep", "smiling", "--hide", "skin", "--out", str(folder)]
    )
    assert done.exit_code == 0, done.output
    said = " ".join(done.output.replace("│", " ").split())  # the table wraps long cells
    for words in ("phone alone x10", "clean cloud network", "label-only floor", "Recommendation: "):
        assert words in said
    done = CliRunner().invoke(
        app, ["advise", "--data", DATA, "--keep", "smiling", "--hide", "skin", "--out", str(folder), "--json"]
    )
    assert json.loads(done.stdout)["advice"]["reasons"]


def test_wrong_use_is_refused() -> None:
    done = CliRunner().invoke(app, ["advise", "--data", DATA, "--keep", "smiling", "--max-drop", "0"])
    assert isinstance(done.exception, UsageError)
    with pytest.raises(SfumatoError, match="unknown attribute"):
        advise(configuration(DATA, ["wings"]))
    with pytest.raises(SfumatoError, match="multiples of 16"):
        advise(configuration("synthetic,count=600,size=40", ["smiling"]))


def test_headlines() -> None:
    assert "code word" in headline("answer", None)
    assert "the larger network on the phone" in headline("phone", "larger")
