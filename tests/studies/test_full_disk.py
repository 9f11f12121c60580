"""A real disk that is full at each file: `perturb` and the ledger here, everything by `python -m studies.full_disk`."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from studies.forked import start
from studies.full_disk import Place, half_written, openings, plain, small_disk, try_opening

from sfumato.core.errors import SfumatoError


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    (tmp_path / "disk").mkdir()
    try:
        with small_disk(tmp_path / "disk") as disk:
            yield Place(disk, tmp_path / "before", tmp_path / "log")
    except SfumatoError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize(
    "words",
    [
        ["ledger", "limit", "files", "--per-day", "50"],
        ["perturb", "../export", "photo.png", "--out", "uploads"],
    ],
)
def test_every_file_meets_the_end_of_the_disk(place: Place, sealed: Path, words: list[str]) -> None:
    (place.disk.place.parent / "export").symlink_to(sealed)
    (place.disk.place / "home" / "tmp").mkdir(parents=True)
    Image.fromarray(np.zeros((40, 50, 3), np.uint8)).save(place.disk.place / "photo.png")
    place.keep(place.before)
    ended, told = place.run_watched(words)
    assert ended.code == 0, ended.text
    finished = {name: path.stat().st_size for name, path in place.contents().items()}
    found = openings(told)
    assert {"home/.config/sfumato/device.key"} < {one.name for one in found}
    rows = [try_opening(place, words, one, 0, finished) for one in found]
    assert [row for row in rows if row["faults"]] == []
    full = {row["file"] for row in rows if row["code"] == 1}
    assert full == {one.name for one in found}, "the disk was not full"


def test_what_is_not_right_is_seen(place: Place) -> None:
    """A process that goes on, dies or leaves half a file on a full disk."""
    disk = place.disk
    disk.shrink()
    with pytest.raises(OSError, match="No space left"):
        (disk.place / "a.json").write_bytes(b"{}" * 5000)
    assert half_written(disk.place / "a.json")
    disk.grow()
    (disk.place / "a.json").write_bytes(b"{}")
    assert not half_written(disk.place / "a.json")
    ended = start([["no-such-command"]], disk.place, {}, place.log).wait()
    assert ended.code == 2
    assert plain("run/.card.json.abcd_123.sfumato-new") == "run/card.json"
    assert [(one.name, one.grows) for one in openings([("a", 0), ("b", 4096), ("a", 8192)])] == [
        ("a", 4096),
        ("a", 4096),
        ("b", 4096),
    ]
