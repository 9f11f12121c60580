"""`sfumato data clean`: caches that are brought down to a bound, and nothing else that lies there."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from sfumato.audit import clean_cache
from sfumato.audit.stored import write_plain
from sfumato.cli.data import app
from sfumato.core.errors import UsageError
from sfumato.data.cache import decode, entries
from sfumato.data.source import ArrayPictures


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three data sets and three clean references, `2` of each used last, and files that are no entries."""
    cache = tmp_path / "cache"
    monkeypatch.setenv("SFUMATO_CACHE", str(cache))
    for number in range(3):
        pixels = np.full((3, 16, 16, 3), number, np.uint8)
        decode(ArrayPictures(pixels=pixels, names=["a", "b", "c"]), 16, 16, what=f"set{number}")
        (entry,) = cache.glob(f"set{number}-*/entry.json")
        os.utime(entry, (1000 + number, 1000 + number))
        path = clean_cache.folder() / f"{number}.pt"
        write_plain(path, {"key": str(number)})
        os.utime(path, (1000 + number, 1000 + number))
    (cache / "tool").mkdir()
    (cache / "tool" / "program").write_bytes(bytes(100_000))
    (clean_cache.folder() / "notes.txt").write_text("mine")
    (clean_cache.folder() / ".0.pt.x.sfumato-new").write_text("of a killed process")
    return cache


def names(cache: Path) -> list[str]:
    found = [path.name.split("-")[0] for _, _, path in entries(cache)]
    return sorted([*found, *(path.stem for path in clean_cache.folder().glob("*.pt"))])


def run(*options: str) -> dict[str, dict[str, int]]:
    done = CliRunner().invoke(app, ["clean", "--json", *options], catch_exceptions=False)
    assert done.exit_code == 0
    caches: dict[str, dict[str, int]] = json.loads(done.stdout)["caches"]
    return caches


def test_the_bounds_of_the_environment_are_kept(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = run()
    assert names(own_cache) == ["0", "1", "2", "set0", "set1", "set2"], "there is room for all"
    assert not list(clean_cache.folder().glob(".*")), "leftovers go"
    assert found["decoded pictures"]["bound_bytes"] == 20 * 10**9
    assert found["clean references"]["bound_bytes"] == 2 * 10**9
    pictures, references = (found[name]["bytes"] for name in ("decoded pictures", "clean references"))
    assert pictures == sum(size for _, size, _ in entries(own_cache))
    monkeypatch.setenv("SFUMATO_CACHE_GB", str((pictures - 1) / 1e9))
    monkeypatch.setenv("SFUMATO_REFERENCES_GB", str((references - 1) / 1e9))
    run()
    assert names(own_cache) == ["1", "2", "set1", "set2"], "what was used longest ago leaves"


def test_less_can_be_asked_for_of_one_or_of_all(own_cache: Path) -> None:
    size = run()["clean references"]["bytes"] // 3
    found = run("--references", str((size + 1) / 1e9))
    assert names(own_cache) == ["2", "set0", "set1", "set2"]
    assert found["clean references"] == {
        "bound_bytes": size + 1,
        "bytes_before": 3 * size,
        "bytes": size,
        "entries_before": 3,
        "entries": 1,
    }
    run("--pictures", "0")
    assert names(own_cache) == ["2"]
    run("--all")
    assert names(own_cache) == []
    assert (own_cache / "tool" / "program").exists()
    assert (clean_cache.folder() / "notes.txt").read_text() == "mine"


def test_what_is_in_use_stays(own_cache: Path) -> None:
    pixels = np.full((3, 16, 16, 3), 1, np.uint8)
    kept = decode(ArrayPictures(pixels=pixels, names=["a", "b", "c"]), 16, 16, what="set1")
    found = run("--all")
    assert names(own_cache) == ["set1"]
    assert found["decoded pictures"]["entries"] == 1
    assert (kept.images == 1).all()


def test_people_see_a_table_and_an_empty_cache_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    done = CliRunner().invoke(app, ["clean"], catch_exceptions=False)
    assert "clean references" in done.output + capsys.readouterr().err
    monkeypatch.setenv("SFUMATO_CACHE", str(tmp_path / "nowhere"))
    assert run("--all")["decoded pictures"]["entries_before"] == 0
    assert not (tmp_path / "nowhere").exists()


def test_all_and_a_bound_contradict_each_other() -> None:
    with pytest.raises(UsageError, match="--all leaves nothing"):
        CliRunner().invoke(app, ["clean", "--all", "--pictures", "1"], catch_exceptions=False)
