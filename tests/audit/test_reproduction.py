"""`sfumato audit --reproduce`: an audit is repeated, and whoever lied about it is found out."""

import hashlib
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from sfumato.audit import audit, reproduction
from sfumato.audit.artifact import load
from sfumato.audit.basis import machine_differences
from sfumato.audit.plan import QUICK
from sfumato.audit.reproduction import NotRepeatableError, Stated, compare, judged, reproduce
from sfumato.audit.schema import read_audit
from sfumato.cli.audit import show_reproduction
from sfumato.cli.main import app
from sfumato.core import provenance
from sfumato.core.errors import SfumatoError, UsageError
from sfumato.data import Split, open_dataset
from sfumato.training.run import AnswerRun

PLAN = QUICK.model_copy(
    update={"name": "tiny", "clean_probes": ("cnn",), "clean_epochs": 1, "steps": 1, "clean_steps": 1}
)
Edit = Callable[[dict[str, Any]], None]


@pytest.fixture(autouse=True)
def committed(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if all code were committed: else two versions of it could not be called equal."""
    monkeypatch.setattr(provenance, "git_state", lambda file: ("a" * 40, False))


@pytest.fixture(scope="session")
def stated_bundle(answer_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export and the audit of it that its maker published."""
    folder = tmp_path_factory.mktemp("stated") / "export"
    shutil.copytree(answer_bundle, folder)
    with pytest.MonkeyPatch.context() as one:
        one.setattr(provenance, "git_state", lambda file: ("a" * 40, False))
        audit(folder, PLAN, attributes=["smiling"])
    return folder


def edited(folder: Path, into: Path, edit: Edit) -> Path:
    values = json.loads((folder / "audit.json").read_text(encoding="utf-8"))
    edit(values)
    path = into / "stated.json"
    path.write_text(json.dumps(values), encoding="utf-8")
    return path


def test_an_audit_names_what_it_was_made_from(stated_bundle: Path) -> None:
    basis = read_audit(stated_bundle / "audit.json").basis
    assert basis is not None
    contract = hashlib.sha256((stated_bundle / "contract.json").read_bytes()).hexdigest()
    assert basis.files == {"contract.json": contract}
    data = open_dataset("synthetic,count=800,size=32", keep=["glasses", "hair"], hide=["smiling"])
    assert basis.data == data.digest
    assert basis.data.startswith(data.id)
    assert {name: one.images for name, one in basis.splits.items()} == {
        str(split): len(rows) for split, rows in data.splits.items()
    }
    assert basis.plan["clean_epochs"] == 1
    assert basis.asked == ("smiling",)


def test_on_the_same_machine_every_figure_is_equal_and_the_command_ends_with_0(
    stated_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (stated_bundle / "audit.json").read_bytes()
    words = ["audit", str(stated_bundle), "--reproduce", str(stated_bundle / "audit.json")]
    done = CliRunner().invoke(app, [*words, "--out", str(tmp_path / "again"), "--json"])
    assert done.exit_code == 0, done.output
    values = json.loads(done.stdout)
    assert values == json.loads((tmp_path / "again" / "reproduction.json").read_text(encoding="utf-8"))
    assert (values["holds"], values["exact"], values["differences"]) == (True, True, [])
    names = [one["name"] for one in values["figures"]]
    assert {"verdict", "glasses: accuracy", "smiling: gain by auc", "all entries of the file"} <= set(names)
    assert all(one["tolerance"] is None and one["holds"] for one in values["figures"])
    assert any("none of this release" in note for note in values["notes"])
    assert any(note.startswith("only smiling was attacked") for note in values["notes"])
    assert (stated_bundle / "audit.json").read_bytes() == before
    stated = read_audit(stated_bundle / "audit.json")
    show_reproduction(compare(stated, read_audit(tmp_path / "again" / "audit.json")))
    shown = capsys.readouterr().out
    assert f"holds: {len(names)} figures, to the last digit" in shown
    assert len([line for line in shown.splitlines() if line.rstrip(" │").endswith("holds")]) == len(names)


@pytest.mark.parametrize(
    ("edit", "wrong"),
    [
        (lambda v: v["exact"][0]["gains"][0].update(nag=0.001), "smiling: gain by accuracy"),
        (lambda v: v["desired"][0].update(accuracy=0.99), "glasses: accuracy"),
        (lambda v: v.update(verdict="passed", passed=True, reasons=[]), "verdict"),
        (lambda v: v["attacks"][0].update(epochs=50), "all entries of the file"),
        (lambda v: v["statements"].append("Nobody learns anything."), "all entries of the file"),
    ],
)
def test_edited_figures_do_not_hold(stated_bundle: Path, tmp_path: Path, edit: Edit, wrong: str) -> None:
    found = read_audit(stated_bundle / "audit.json")
    result = compare(read_audit(edited(stated_bundle, tmp_path, edit)), found)
    assert result.exact
    assert not result.holds
    assert wrong in [one.name for one in result.figures if not one.holds]


def test_where_a_figure_does_not_hold_the_command_ends_with_3(stated_bundle: Path, tmp_path: Path) -> None:
    path = edited(stated_bundle, tmp_path, lambda v: v["exact"][0].update(bits=0.001))
    words = ["audit", str(stated_bundle), "--reproduce", str(path), "--out", str(tmp_path / "again")]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 3, done.output
    assert "does not hold: smiling: told by a word, bits" in done.stdout


def elsewhere(values: dict[str, Any]) -> None:
    """As if it came from another machine with another seed."""
    values["basis"]["machine"]["arithmetic"] = "AVX9"
    values["provenance"]["packages"]["torch"] = "1.0"
    values["seed"] = 5


def test_elsewhere_figures_lie_within_the_intervals_found_here(stated_bundle: Path, tmp_path: Path) -> None:
    found = read_audit(stated_bundle / "audit.json")
    low, high = found.desired[0].ci95

    def within(values: dict[str, Any]) -> None:
        elsewhere(values)
        values["desired"][0]["accuracy"] += 0.4 * (high - low)

    result = compare(read_audit(edited(stated_bundle, tmp_path, within)), found)
    assert (result.exact, result.holds) == (False, True)
    assert any(line.startswith("torch 1.0, here ") for line in result.differences)
    assert any(line.startswith("arithmetic AVX9, here ") for line in result.differences)
    assert "seed 5, here 0" in result.differences
    assert all(one.name != "all entries of the file" for one in result.figures)

    def beyond(values: dict[str, Any]) -> None:
        elsewhere(values)
        values["desired"][0]["accuracy"] += 0.6 * (high - low)
        values["desired"][0]["ci95"] = [0.0, 1.0]  # wide intervals of the maker's own help nothing

    result = compare(read_audit(edited(stated_bundle, tmp_path, beyond)), found)
    assert [one.name for one in result.figures if not one.holds] == ["glasses: accuracy"]

    def other_verdict(values: dict[str, Any]) -> None:
        elsewhere(values)
        values.update(verdict="passed")

    result = compare(read_audit(edited(stated_bundle, tmp_path, other_verdict)), found)
    assert [one.name for one in result.figures if not one.holds] == ["verdict"]


def test_code_that_no_commit_names_is_never_called_equal(
    stated_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stated = read_audit(stated_bundle / "audit.json")
    assert machine_differences(stated, stated) == ()
    dirty = stated.model_copy(update={"provenance": {**stated.provenance, "git_dirty": True}})
    assert machine_differences(dirty, dirty) == ("the code had changes that no commit names",)


def refused(path: Path, export: Path, out: Path, *more: str) -> str:
    words = ["audit", str(export), "--reproduce", str(path), "--out", str(out), *more]
    done = CliRunner().invoke(app, words)
    assert isinstance(done.exception, SfumatoError), done.output
    assert done.exception.exit_code == 4
    assert not (out / "reproduction.json").exists()
    return str(done.exception)


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (lambda v: v.pop("basis"), "it does not name the files and data it was made from"),
        (lambda v: v["basis"].update(files={}), "it was made of a model in memory, and names no file"),
        (
            lambda v: v["basis"]["files"].update({"contract.json": "0" * 64}),
            "contract.json of .* is not the file",
        ),
        (
            lambda v: v["basis"].update(data=v["basis"]["data"][:16] + "0" * 48),
            "files, labels or splits differ",
        ),
        (
            lambda v: v["basis"]["plan"].update(name="default"),
            "its plan calls itself default and is not that",
        ),
        (lambda v: v["basis"]["plan"].update(tries=9), "its plan has values that this release does not know"),
        (lambda v: v["basis"].update(others={"this and b": {"contract.json": "1"}}), "give --other"),
    ],
)
def test_what_differs_from_what_is_named_is_refused_with_4(
    stated_bundle: Path, tmp_path: Path, edit: Edit, reason: str
) -> None:
    said = refused(edited(stated_bundle, tmp_path, edit), stated_bundle, tmp_path / "again")
    assert re.search(f"cannot be repeated: .*{reason}", said)


def test_another_export_of_the_same_run_is_refused(
    stated_bundle: Path, drawn_bundle: Path, tmp_path: Path
) -> None:
    said = refused(stated_bundle / "audit.json", drawn_bundle, tmp_path / "again")
    assert "contract.json" in said
    said = refused(
        stated_bundle / "audit.json", stated_bundle, tmp_path / "again", "--other", str(drawn_bundle)
    )
    assert "names no other artifact" in said


def test_settings_come_from_the_file_alone(stated_bundle: Path, tmp_path: Path) -> None:
    words = ["audit", str(stated_bundle), "--reproduce", str(stated_bundle / "audit.json")]
    for more in (["--max-nag", "50", "--out", str(tmp_path)], ["--folds", "1", "--out", str(tmp_path)], []):
        done = CliRunner().invoke(app, [*words, *more])
        assert isinstance(done.exception, UsageError), more
    with pytest.raises(UsageError, match="would replace"):
        reproduce(stated_bundle / "audit.json", stated_bundle, out=stated_bundle)


def make_photos(folder: Path, seed: int, test: int = 0) -> str:
    """Drawn photos with splits of the maker's own; `test` moves which ones are tested."""
    rng = np.random.default_rng(seed)
    (folder / "photos").mkdir(parents=True)
    lines = ["file,glasses,hair,smiling,split"]
    for at in range(480):
        Image.fromarray(rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)).save(folder / "photos" / f"{at}.png")
        split = ("train", "val", "test", "train")[(at // 120 + test) % 4]
        lines.append(f"photos/{at}.png,{at % 2},{at // 2 % 2},{at // 4 % 2},{split}")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return f"folder:{folder},size=32"


def test_data_of_the_same_name_with_other_photos_or_splits_have_another_digest(tmp_path: Path) -> None:
    """An audit on what were the training photos is one on other splits."""
    first = open_dataset(make_photos(tmp_path / "a" / "faces", 0), keep=["glasses"])
    moved = open_dataset(make_photos(tmp_path / "b" / "faces", 0), keep=["glasses"])
    photos = open_dataset(make_photos(tmp_path / "c" / "faces", 1), keep=["glasses"])
    splits = open_dataset(make_photos(tmp_path / "d" / "faces", 0, test=1), keep=["glasses"])
    assert first.digest == moved.digest
    assert len({first.digest, photos.digest, splits.digest}) == 3
    assert not np.array_equal(first.splits[Split.TEST], splits.splits[Split.TEST])


def test_data_that_lie_elsewhere_are_taken_and_others_are_refused(
    stated_bundle: Path, tmp_path: Path
) -> None:
    loaded = load(stated_bundle, data="synthetic,size=32,count=800")
    assert loaded.dataset.digest == load(stated_bundle).dataset.digest
    said = refused(
        stated_bundle / "audit.json",
        stated_bundle,
        tmp_path / "again",
        "--data",
        "synthetic,size=32,count=801",
    )
    assert "is not what" in said


def test_a_run_names_the_files_that_an_audit_reads(answer_run: AnswerRun) -> None:
    assert answer_run.digests == {}  # nothing of it was written


@pytest.mark.parametrize(
    ("stated", "found", "tolerance", "holds"),
    [
        (Stated(0.5), Stated(0.5), None, True),
        (Stated(0.5), Stated(0.5 + 1e-12), None, False),
        (Stated(0.5), Stated(0.53), 0.03 + 1e-9, True),
        (Stated(0.5), Stated(0.54), 0.03, False),
        (Stated("passed"), Stated("no_verdict"), 0.5, False),
        (Stated(None), Stated(None), 0.5, True),
        (Stated(None), Stated(0.1), 0.5, False),
        (Stated(0.1), None, 0.5, False),
        (None, Stated(0.1), 0.5, False),
    ],
)
def test_a_figure_holds_within_its_tolerance_alone(
    stated: Stated | None, found: Stated | None, tolerance: float | None, holds: bool
) -> None:
    assert judged("figure", stated, found, tolerance).holds is holds


def test_the_command_stops_before_anything_is_trained(
    stated_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reproduction, "audit", lambda *a, **k: pytest.fail("an audit began"))
    path = edited(stated_bundle, tmp_path, lambda v: v["basis"].update(data="0" * 64))
    with pytest.raises(NotRepeatableError):
        reproduce(path, stated_bundle, out=tmp_path / "again")
