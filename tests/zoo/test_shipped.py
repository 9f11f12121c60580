"""What the wheel's zoo holds is what its index says, and every export of it answers."""

import json
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.test_layout import run_python
from typer.testing import CliRunner

from sfumato.cli import zoo as command
from sfumato.cli.zoo import row
from sfumato.core.files import read_json
from sfumato.data import Dataset, open_dataset
from sfumato.runtime.phone_model import PhoneModel
from sfumato.runtime.test_vectors import wav_bytes
from sfumato.runtime.verification import verify
from sfumato.training.config import make_config
from sfumato.zoo.checking import check
from sfumato.zoo.fetch import get
from sfumato.zoo.index import SHIPPED, Entry, shipped_index
from sfumato.zoo.recipes import RECIPES

ROOT = Path(__file__).resolve().parents[2]
ENTRIES = shipped_index().entries
LARGEST = 600_000
KEY = bytes(range(32))

of_each = pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)


def test_every_byte_and_figure_is_that_of_the_index() -> None:
    results = check()
    assert [(one.name, one.state) for one in results] == [(name, "ok") for name in sorted(RECIPES)], results


@of_each
def test_figures_are_those_of_the_audit(entry: Entry) -> None:
    """Read here from the file's own words, not by the function that copied them."""
    audit: Any = read_json(SHIPPED / entry.name / "audit.json")
    found = entry.figures
    assert (found.verdict, found.test, found.plan) == (audit["verdict"], audit["n_test"], audit["plan"])
    assert [(one.name, one.accuracy, one.clean_accuracy) for one in found.kept] == [
        (one["name"], one["accuracy"], one["clean_accuracy"]) for one in audit["desired"]
    ]
    assert [(one.name, one.accuracy, one.floor) for one in found.hidden] == [
        (one["attribute"], one["accuracy"], one["floor"]) for one in audit["exact"]
    ]
    for one, counted in zip(found.hidden, audit["exact"], strict=True):
        assert one.gain_at_most == max(gain["upper"] for gain in counted["gains"])
    assert found.upload_bytes == audit["upload_bytes"]["mean"]
    assert found.bits_at_most == pytest.approx(np.log2(np.prod([one.classes for one in found.kept])))
    assert found.model_bytes == (SHIPPED / entry.name / "local_int8.tflite").stat().st_size


@of_each
def test_it_is_small_and_says_whose_data_it_was_made_from(entry: Entry) -> None:
    assert entry.bytes < LARGEST
    text = (SHIPPED / entry.name / "licence.md").read_text(encoding="utf-8")
    assert entry.data.licence in text
    assert entry.data.source in text


@of_each
def test_no_file_names_a_place_or_is_a_picture(entry: Entry) -> None:
    """Plain searches, beside the one that packing makes."""
    for path in (SHIPPED / entry.name).rglob("*.*"):
        content = path.read_bytes()
        for place in (b"/home/", b"/root/", b"/tmp/", b"/Users/", b"site-packages"):
            assert place not in content, (path.name, place)
        assert not content.startswith((b"\xff\xd8", b"\x89PNG", b"RIFF")), path.name
    config: Any = read_json(SHIPPED / entry.name / "audit" / "config.json")
    for spec in (config["data"], entry.data.spec):
        assert re.fullmatch(r"[a-z]+(:[a-z0-9_]+)?(,[a-z]+=[a-z0-9]+)*", spec), spec


@of_each
def test_the_recipe_is_what_it_was_made_with(entry: Entry) -> None:
    recipe = RECIPES[entry.name]
    stored: Any = read_json(SHIPPED / entry.name / "audit" / "config.json")
    assert stored["decision"] in ("pairwise", "largest")  # what training made of "auto"
    assert make_config(recipe.options) == make_config({**stored, "decision": "auto"})
    assert (entry.command, entry.question, entry.takes) == (recipe.command, recipe.question, recipe.takes)
    assert (entry.data.licence, entry.data.source) == (recipe.licence, recipe.source)


@of_each
def test_it_verifies_and_nothing_warns(entry: Entry) -> None:
    result = verify(SHIPPED / entry.name)
    assert result.passed, result.failed
    left_out = {one.name for one in result.checks if one.state not in ("ok", "left out")}
    assert left_out == set()


@pytest.fixture(scope="module")
def drawings() -> Dataset:
    """Faces of the size that the models take, which no split of an entry holds."""
    return open_dataset("synthetic,count=600,seed=77", keep=["smiling"])


def sent(model: PhoneModel, thing: Any) -> int:
    """The word of an upload."""
    content = model.perturb(thing, key=KEY).content
    assert len(content) == 1
    assert model.contract.answer is not None
    assert content[0] < model.contract.answer.words
    return content[0]


@of_each
def test_it_opens_and_answers_without_a_network(
    entry: Entry, drawings: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", refuse)
    assert get(entry.name, tmp_path / "export") == entry
    model = PhoneModel.load(tmp_path / "export")
    if entry.takes == "recording":
        things: list[Any] = [
            wav_bytes((3000 * np.sin(np.arange(4000) * pitch)).astype(np.int64), rate=8000)
            for pitch in np.linspace(0.02, 1.5, 12)
        ]
    else:
        things = [np.ascontiguousarray(image) for image in drawings.images[:40]]
    words = [sent(model, thing) for thing in things]
    assert words == [sent(model, thing) for thing in things]
    assert len(set(words)) > 1, "the same answer to everything"


def test_drawn_faces_are_answered_as_the_audit_says(drawings: Dataset) -> None:
    model = PhoneModel.load(SHIPPED / "drawn-faces")
    entry = shipped_index().entry("drawn-faces")
    rows = np.arange(0, 600, 4)
    words = np.array([sent(model, np.ascontiguousarray(drawings.images[row])) for row in rows])
    assert (words == drawings.labels["smiling"][rows]).mean() > entry.figures.kept[0].accuracy - 0.06


def test_the_list_shows_every_entry_and_its_terms() -> None:
    shown = CliRunner().invoke(command.app, []).stdout
    for entry in ENTRIES:
        assert entry.name in shown
        assert entry.command in shown
        assert entry.data.licence in shown
        assert entry.figures.verdict.replace("_", " ") in shown


def test_the_list_as_json_is_the_index() -> None:
    listed = json.loads(CliRunner().invoke(command.app, ["--json"]).stdout)
    assert listed["schema"] == "sfumato-zoo/1"
    assert all(one.pop("in_wheel") for one in listed["entries"])
    assert listed == read_json(SHIPPED / "index.json")


def test_the_page_shows_the_figures_of_the_index() -> None:
    page = (ROOT / "docs" / "zoo.md").read_text(encoding="utf-8")
    for entry in ENTRIES:
        assert f"| {' | '.join(row(entry))} |" in page, entry.name
        assert entry.data.licence in page


def test_list_get_and_check_need_neither_torch_nor_tensorflow(tmp_path: Path) -> None:
    done = run_python(
        "import sys; from sfumato.zoo import check, get\n"
        f"get('drawn-faces', {str(tmp_path / 'faces')!r}); assert {{c.state for c in check()}} == {{'ok'}}\n"
        "print(sorted({'torch', 'tensorflow', 'sklearn'} & set(sys.modules)), file=sys.stderr)"
    )
    assert (done.returncode, done.stderr.strip()) == (0, "[]")


def test_a_user_gets_one_and_perturbs_with_it(tmp_path: Path) -> None:
    """Through the command line alone, as README shows it."""
    (tmp_path / "one.wav").write_bytes(
        wav_bytes((3000 * np.sin(np.arange(4000) * 0.3)).astype(np.int64), rate=8000)
    )

    def sfumato(*words: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "sfumato.cli.main", *words],
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    sfumato("zoo", "get", "spoken-digits", "--out", "digits")
    sfumato("perturb", "digits", "one.wav", "--out", "uploads", "--key", str(key_file(tmp_path)))
    (upload,) = (tmp_path / "uploads").glob("*.word")
    assert len(upload.read_bytes()) == 1


def key_file(folder: Path) -> Path:
    path = folder / "device.key"
    path.write_bytes(KEY)
    path.chmod(0o600)
    return path
