"""`sfumato perturb` as a user meets it."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from typer import Typer
from typer.testing import CliRunner, Result

from sfumato.cli import perturb
from sfumato.core.errors import DataError, SfumatoError
from sfumato.runtime import perturb_files
from sfumato.runtime.keyring import KeyRing
from sfumato.runtime.ledger import Ledger, LimitError, ledger_path
from sfumato.runtime.phone_model import PhoneModel
from sfumato.runtime.upload_codec import decode_png

KEY = bytes(range(32))


def run(*arguments: str | Path) -> Result:
    app = Typer()
    app.command()(perturb.command)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def photos(tmp_path: Path, photo: Callable[[int, int], NDArray[np.uint8]]) -> list[Path]:
    paths = [tmp_path / "garden.jpg", tmp_path / "beach.png"]
    for path, size in zip(paths, ((70, 90), (64, 64)), strict=True):
        Image.fromarray(photo(*size)).save(path)
    return paths


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "device.key"
    path.write_bytes(KEY)
    path.chmod(0o600)
    return path


def test_uploads_and_what_a_server_needs_are_written(
    sealed: Path, photos: list[Path], key: Path, tmp_path: Path
) -> None:
    out = tmp_path / "uploads"
    result = run(sealed, *photos, "--out", out, "--key", key, "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert told["keyed"]
    assert sorted(path.name for path in out.iterdir()) == [
        "beach.upload.json",
        "beach.upload.png",
        "garden.upload.json",
        "garden.upload.png",
    ]
    for path in photos:
        content = (out / f"{path.stem}.upload.png").read_bytes()
        assert (
            content == PhoneModel.load(sealed).perturb(path, key=KeyRing.of(KEY).for_service("files")).content
        )
        beside = json.loads((out / f"{path.stem}.upload.json").read_text(encoding="utf-8"))
        assert (beside["noise"], beside["bits"], beside["bytes"]) == (2, 1, len(content))
        assert "rate" not in json.dumps(beside)
        decode_png(content, height=beside["height"], width=beside["width"], bits=beside["bits"])
    again = run(sealed, *photos, "--out", tmp_path / "again", "--key", key)
    assert again.exit_code == 0
    assert all((out / p.name).read_bytes() == p.read_bytes() for p in (tmp_path / "again").iterdir())


def test_uploads_are_counted_and_refused_over_the_limit(
    sealed: Path, photos: list[Path], key: Path, tmp_path: Path
) -> None:
    def go(name: str) -> Result:
        arguments = ("--key", key, "--service", "photos.example", "--json")
        return run(sealed, *photos, "--out", tmp_path / name, *arguments)

    told = json.loads(go("a").stdout)
    rates = [upload["rate_bits"] for upload in told["uploads"]]
    ledger = Ledger(ledger_path(key), KEY)
    account = ledger.account("photos.example")
    assert told["account"] == account.sentence()
    assert account.total.draws == 2
    assert account.total.microbits / 1e6 == pytest.approx(sum(rates), abs=2e-4)
    ledger.set_limit("photos.example", day=0, total=None)
    assert go("b").exit_code == 0  # the same draws again
    Image.open(photos[0]).rotate(90).save(photos[0])
    refused = go("c")
    assert isinstance(refused.exception, LimitError)
    assert not (tmp_path / "c").exists()


def test_without_a_key_the_device_gets_one(
    sealed: Path, photos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    first, second = (run(sealed, photos[0], "--out", tmp_path / name) for name in ("a", "b"))
    assert first.exit_code == second.exit_code == 0
    assert (tmp_path / "config" / "sfumato" / "device.key").exists()
    a, b = ((tmp_path / name / "garden.upload.png").read_bytes() for name in ("a", "b"))
    assert a == b


def test_fresh_noise_differs_and_is_marked(sealed: Path, photos: list[Path], tmp_path: Path) -> None:
    for name in ("a", "b"):
        assert run(sealed, photos[0], "--out", tmp_path / name, "--fresh-noise").exit_code == 0
    a, b = ((tmp_path / name / "garden.upload.png").read_bytes() for name in ("a", "b"))
    assert a != b
    assert json.loads((tmp_path / "a" / "garden.upload.json").read_text(encoding="utf-8"))["noise"] == "fresh"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (["--fresh-noise", "--key", "KEY"], "not both"),
        (["--key", "absent"], "cannot be read"),
        (["absent.jpg"], "no such file"),
        (["TWIN"], "several photos are named garden.jpg"),
        (["EMPTY"], "holds no pictures"),
    ],
)
def test_wrong_use_gets_one_line(
    sealed: Path, photos: list[Path], key: Path, tmp_path: Path, change: list[str], expected: str
) -> None:
    twin, empty = tmp_path / "other" / "Garden.jpg", tmp_path / "empty"
    empty.mkdir()
    twin.parent.mkdir()
    Image.open(photos[1]).save(twin)
    words = {"KEY": str(key), "TWIN": str(twin), "EMPTY": str(empty)}
    arguments = [words.get(word, word) for word in change]
    given = [] if "--key" in arguments or "--fresh-noise" in arguments else ["--fresh-noise"]
    result = run(sealed, photos[0], *arguments, *given, "--out", tmp_path / "out")
    assert result.exit_code == 1  # the front door turns a UsageError into 2
    assert isinstance(result.exception, SfumatoError)
    assert expected in str(result.exception)


def test_a_folder_that_is_no_export_is_named(tmp_path: Path, photos: list[Path]) -> None:
    result = run(tmp_path, photos[0], "--out", tmp_path / "out", "--fresh-noise")
    assert "give an EXPORT folder" in str(result.exception)


def test_a_folder_is_done_to_its_end_and_nothing_is_written_over(
    sealed: Path, photos: list[Path], key: Path, tmp_path: Path
) -> None:
    album, out = tmp_path / "album", tmp_path / "album" / "uploads"
    for place in ("garden.jpg", "sea/garden.jpg", "sea/Garden.JPG.png", ".hidden/a.png"):
        (album / place).parent.mkdir(parents=True, exist_ok=True)
        (album / place).write_bytes(photos[0].read_bytes())
    (album / "garden.png").write_bytes(photos[1].read_bytes())
    (album / "notes.txt").write_text("no picture")
    (album / "broken.jpg").write_bytes(photos[0].read_bytes()[:900])
    (album / "loop").symlink_to(album)
    arguments: tuple[str | Path, ...] = (sealed, album, "--out", out, "--key", key, "--json")
    refused = run(*arguments)
    assert isinstance(refused.exception, DataError)
    assert "broken.jpg" in str(refused.exception)
    arguments = (*arguments[:-1], "--overwrite", "--json")
    told = json.loads(run(*arguments, "--skip-errors").stdout)
    assert [Path(one["source"]).name for one in told["skipped"]] == ["broken.jpg"]
    names = sorted(str(path.relative_to(out)) for path in out.rglob("*.upload.png"))
    expected = ["garden.jpg", "garden.png", "sea/Garden.JPG.png", "sea/garden.jpg"]
    expected[2:] = ["sea/Garden.JPG", "sea/garden"]
    assert names == [f"{name}.upload.png" for name in expected]
    same = [(out / f"{name}.upload.png").read_bytes() for name in ("garden.jpg", "sea/garden")]
    assert (
        same[0]
        == same[1]
        == PhoneModel.load(sealed).perturb(photos[0], key=KeyRing.of(KEY).for_service("files")).content
    )
    again = json.loads(run(*arguments, "--skip-errors").stdout)
    assert again["uploads"] == told["uploads"]  # uploads are no photos
    said = " ".join(run(*arguments[:-1], "--skip-errors").output.split())
    assert "4 photos perturbed, 1 left out" in said
    only_broken = run(sealed, album / "broken.jpg", "--out", tmp_path / "none", "--key", key, "--skip-errors")
    assert "none of 1 photos can be read" in str(only_broken.exception)


def test_uploads_of_an_earlier_run_are_kept_unless_overwrite_is_said(
    sealed: Path, photos: list[Path], key: Path, tmp_path: Path
) -> None:
    def contents() -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in out.iterdir()}

    def drawn() -> int:
        return Ledger(ledger_path(key), KEY).account("files").total.draws

    out = tmp_path / "uploads"
    arguments: tuple[str | Path, ...] = (sealed, *photos, "--out", out, "--key", key)
    assert run(sealed, photos[1], "--out", out, "--key", key).exit_code == 0
    before = contents()
    Image.open(photos[1]).rotate(90).save(photos[1])
    refused = run(*arguments)
    assert isinstance(refused.exception, SfumatoError)
    assert str(refused.exception) == (
        f"{out / 'beach.upload.png'} is there already: choose another --out, or pass --overwrite"
    )
    assert contents() == before  # nor is garden.jpg, which comes first, written
    assert drawn() == 1
    assert run(*arguments, "--overwrite").exit_code == 0
    assert contents()["beach.upload.png"] != before["beach.upload.png"]
    assert len(contents()) == 4
    for path in out.iterdir():
        path.unlink()
    (out / "garden.upload.word").write_bytes(b"\0")  # of a run in another encoding
    assert "garden.upload.word is there already" in str(run(*arguments).exception)
    assert drawn() == 3
    assert run(*arguments, "--overwrite").exit_code == 0
    assert sorted(contents()) == [
        f"{name}.upload.{end}" for name in ("beach", "garden") for end in ("json", "png")
    ]


def test_an_upload_is_there_with_what_describes_it_or_not_at_all(
    sealed: Path, photos: list[Path], key: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full after the upload itself: the same command has to work again without --overwrite."""
    out = tmp_path / "uploads"
    arguments: tuple[str | Path, ...] = (sealed, photos[0], "--out", out, "--key", key)
    with monkeypatch.context() as full:
        full.setattr(perturb_files, "write_json", full_disk)
        assert "no room" in str(run(*arguments).exception)
    assert list(out.iterdir()) == []
    assert run(*arguments).exit_code == 0
    assert sorted(path.name for path in out.iterdir()) == ["garden.upload.json", "garden.upload.png"]


def full_disk(*given: object) -> None:
    raise SfumatoError("no room")
