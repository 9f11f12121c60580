"""What goes into a zoo: nothing private, nothing of another export; and a zoo that was changed is found out."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from typer.testing import CliRunner

from sfumato.cli import zoo as command
from sfumato.core.errors import SfumatoError, UsageError
from sfumato.core.files import sha256
from sfumato.runtime.test_vectors import wav_bytes
from sfumato.zoo.checking import check
from sfumato.zoo.index import FILE, SHIPPED, read_index, shipped_index
from sfumato.zoo.packing import PLACES, pack
from sfumato.zoo.recipes import RECIPES

NAME = "drawn-faces"
RECIPE = RECIPES[NAME]


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """An export with its audit, as `sfumato export` and `audit` leave them."""
    folder = tmp_path / "export"
    shutil.copytree(SHIPPED / NAME, folder)
    (folder / "licence.md").unlink()
    (folder / "report.html").write_text("<img src='data:image/png;base64,iVBORw0KGgo'>")  # stays behind
    return folder


@pytest.fixture
def zoo(bundle: Path, tmp_path: Path) -> Path:
    """A zoo of that one export."""
    pack(RECIPE, bundle, bundle / "audit.json", tmp_path / "zoo")
    return tmp_path / "zoo"


def states(zoo: Path) -> list[tuple[str, str]]:
    return [(one.name, one.state) for one in check(zoo)]


def test_packing_the_shipped_export_gives_the_shipped_entry(zoo: Path) -> None:
    assert read_index(zoo).entries == (shipped_index().entry(NAME),)
    assert sorted(path.name for path in (zoo / NAME).iterdir()) == sorted(
        path.name for path in (SHIPPED / NAME).iterdir()
    )
    assert states(zoo) == [(NAME, "ok")]


def test_other_entries_stay(bundle: Path, zoo: Path) -> None:
    from dataclasses import replace

    pack(replace(RECIPE, name="a-second"), bundle, bundle / "audit.json", zoo)
    pack(RECIPE, bundle, bundle / "audit.json", zoo)
    assert states(zoo) == [("a-second", "ok"), (NAME, "ok")]


def put_path(folder: Path) -> None:
    audit: Any = json.loads((folder / "audit.json").read_text())
    (folder / "audit.json").write_text(json.dumps({**audit, "data_spec": "folder:/home/anna/photos"}))


def put_picture(folder: Path) -> None:
    audit: Any = json.loads((folder / "audit.json").read_text())
    audit["reasons"] = ["/9j/4AAQSkZJRgABAQ"]
    (folder / "audit.json").write_text(json.dumps(audit))


def put_recording(folder: Path) -> None:
    """In place of one of the formula-made recordings of the digits' vectors."""
    vectors: Any = json.loads((SHIPPED / "spoken-digits" / "vectors.json").read_text())
    vectors["sound"][0]["wav"] = "UklGRgAAAABXQVZF"
    path = folder / "vectors.json"
    path.write_text(json.dumps(vectors))
    contract: Any = json.loads((folder / "contract.json").read_text())
    for file in contract["files"]:
        if file["name"] == "vectors.json":
            file["sha256"], file["bytes"] = sha256(path), path.stat().st_size
    (folder / "contract.json").write_text(json.dumps(contract))
    digest = sha256(folder / "contract.json")
    (folder / "contract.sha256").write_text(f"{digest}  contract.json\n")
    audit: Any = json.loads((folder / "audit.json").read_text())
    audit["basis"]["files"]["contract.json"] = digest
    (folder / "audit.json").write_text(json.dumps(audit))


def put_other_audit(folder: Path) -> None:
    audit: Any = json.loads((folder / "audit.json").read_text())
    audit["basis"]["files"]["contract.json"] = "0" * 64
    (folder / "audit.json").write_text(json.dumps(audit))


def put_other_model(folder: Path) -> None:
    with (folder / "local_int8.tflite").open("ab") as file:
        file.write(b"!")


def put_no_audit(folder: Path) -> None:
    (folder / "audit.json").unlink()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (put_path, r"audit\.json names a place of this machine: /home/anna/photos"),
        (put_picture, r"audit\.json holds a picture or a recording"),
        (put_recording, r"vectors\.json holds a picture or a recording"),
        (put_other_audit, "is not an audit of"),
        (put_other_model, "local_int8"),
        (put_no_audit, "missing"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_must_not_ship_is_refused(
    change: Callable[[Path], None], said: str, bundle: Path, tmp_path: Path
) -> None:
    change(bundle)
    with pytest.raises(SfumatoError, match=said):
        pack(RECIPE, bundle, bundle / "audit.json", tmp_path / "zoo")
    assert list((tmp_path / "zoo").iterdir()) == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (b'"folder:/home/anna/photos"', True),
        (b"out=/tmp/run", True),
        (b"file:///etc/hosts", True),
        (b'"C:\\\\Users\\\\anna"', True),
        (b"at /home/ann/.venv/lib/python3.11/site-packages/torch/nn/x.py:3", True),
        (b'"spoken:spoken_digits,split=stratified"', False),
        (b"https://example.org/home/page", False),
        (b"24 kB / image", False),
        (b"accuracy/data/x", False),
    ],
)
def test_places_are_told_from_addresses(text: bytes, found: bool) -> None:
    assert (PLACES.search(text) is not None) == found


def test_the_own_folder_is_a_place_wherever_it_is(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "Benutzer" / "anna"
    home.mkdir(parents=True)
    monkeypatch.chdir(home)
    audit: Any = json.loads((bundle / "audit.json").read_text())
    (bundle / "audit.json").write_text(json.dumps({**audit, "command": f"sfumato audit {home}"}))
    with pytest.raises(SfumatoError, match="names a place of this machine"):
        pack(RECIPE, bundle, bundle / "audit.json", tmp_path / "zoo")


def test_a_signed_zoo_is_signed_again_or_left_alone(bundle: Path, tmp_path: Path) -> None:
    zoo, key = tmp_path / "zoo", Ed25519PrivateKey.generate()
    pack(RECIPE, bundle, bundle / "audit.json", zoo, signer=key)
    before = (zoo / FILE).read_bytes()
    with pytest.raises(UsageError, match="give --sign-with"):
        pack(RECIPE, bundle, bundle / "audit.json", zoo)
    assert (zoo / FILE).read_bytes() == before


def damage(zoo: Path) -> None:
    path = zoo / NAME / "local.onnx"
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(content)


def lose(zoo: Path) -> None:
    (zoo / NAME / "vectors.json").unlink()


def add(zoo: Path) -> None:
    (zoo / NAME / "recording.bin").write_bytes(wav_bytes(np.arange(50), rate=8000))


def beautify(zoo: Path) -> None:
    index: Any = json.loads((zoo / FILE).read_text())
    index["entries"][0]["figures"]["kept"][0]["accuracy"] = 0.999
    (zoo / FILE).write_text(json.dumps(index))


def pass_it(zoo: Path) -> None:
    index: Any = json.loads((zoo / FILE).read_text())
    index["entries"][0]["figures"]["verdict"] = "passed"
    index["entries"][0]["figures"]["reasons"] = ["none"]
    (zoo / FILE).write_text(json.dumps(index))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (damage, "local.onnx is not the file of the index"),
        (lose, "vectors.json"),
        (add, "the index does not name recording.bin"),
        (beautify, "the figures of the index are not those of audit.json"),
        (pass_it, "the figures of the index are not those of audit.json"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_changed_zoo_is_found_out(change: Callable[[Path], None], said: str, zoo: Path) -> None:
    change(zoo)
    (result,) = check(zoo)
    assert result.state == "failed"
    assert said in result.detail
    done = CliRunner().invoke(command.app, ["check", str(zoo), "--json"])
    assert isinstance(done.exception, SfumatoError)
    assert json.loads(done.stdout)["passed"] is False


def test_a_folder_that_no_index_names_is_found(zoo: Path) -> None:
    (zoo / "stranger").mkdir()
    assert states(zoo) == [(NAME, "ok"), ("stranger", "failed")]


def test_an_export_of_nowhere_is_no_export_of_the_zoo(bundle: Path, tmp_path: Path) -> None:
    path = bundle / "contract.json"
    path.write_text(path.read_text() + "\n")
    with pytest.raises(SfumatoError, match="is no export of the wheel's zoo"):
        check(bundle)
    with pytest.raises(SfumatoError, match="holds neither"):
        check(tmp_path)


def test_make_prints_what_it_stands_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The printed commands are commands, and with the printed file they give the recipe's own configuration."""
    import re
    import shlex

    from sfumato.cli.main import load
    from sfumato.training.config import make_config

    for name, recipe in RECIPES.items():
        lines = CliRunner().invoke(command.app, ["make", name, "--print"]).stdout.splitlines()
        train, *others, settings = lines
        words = shlex.split(train)
        given = dict(zip(words[2::2], words[3::2], strict=True))
        toml = tmp_path / given["--config"]
        toml.write_text(re.sub(", (?=[a-z])", "\n", settings.partition(": ")[2]))
        values = {key: given[f"--{key}"] for key in ("data", "mode")}
        lists = {key: given[f"--{key}"].split(",") for key in ("keep", "hide") if f"--{key}" in given}
        assert make_config({**values, **lists}, toml) == make_config(recipe.options)
        for line in (train, *others):
            first, *rest = shlex.split(line)[1:]
            options = {one for param in load(first).params for one in param.opts}
            assert {word for word in rest if word.startswith("--")} <= options, line


def test_make_says_what_is_missing(tmp_path: Path) -> None:
    def fails(*words: str) -> str:
        done = CliRunner().invoke(command.app, ["make", *words])
        assert isinstance(done.exception, UsageError)
        return str(done.exception)

    assert "known are drawn-faces, " in fails("nothing", "--out", "x")
    assert "give --out DIR" in fails(NAME)
    said = fails("spoken-digits", "--data", str(tmp_path), "--out", str(tmp_path / "out"))
    assert "give --data with the folder in which its folder 'spoken_digits' lies" in said
    assert list(tmp_path.iterdir()) == []
