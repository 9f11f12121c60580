"""The decode-once cache: reused, rebuilt when files change, whole or absent after a kill, safe for two processes."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sfumato.core.errors import DataError
from sfumato.data.cache import cache_folder, decode
from sfumato.data.source import FilePictures

ROOTS = Path(__file__).resolve().parents[2] / "train"


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SFUMATO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def pictures(folder: Path, count: int = 300) -> FilePictures:
    folder.mkdir(exist_ok=True)
    generator = np.random.default_rng(0)
    names = [f"{i:03d}.png" for i in range(count)]
    for name in names:
        Image.fromarray(generator.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(folder / name)
    return FilePictures(root=folder, names=names)


def opening(spec: str, cache: Path) -> subprocess.Popen[str]:
    code = f"from sfumato.data import open_dataset; print(open_dataset({spec!r}).id)"
    environment = {**os.environ, "PYTHONPATH": str(ROOTS), "SFUMATO_CACHE": str(cache)}
    return subprocess.Popen(
        [sys.executable, "-c", code],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_the_folder_is_chosen_by_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert cache_folder() == tmp_path / "cache"
    monkeypatch.delenv("SFUMATO_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "sfumato"


def test_a_second_opening_does_not_decode_and_a_change_does(tmp_path: Path) -> None:
    source = pictures(tmp_path / "faces")
    first = decode(source, 16, 16, what="t")
    assert first.images.shape == (300, 16, 16, 3)
    assert isinstance(first.images, np.memmap)
    assert not first.images.flags.writeable
    np.testing.assert_array_equal(first.images[7], np.asarray(Image.open(tmp_path / "faces" / "007.png")))
    # Ruin a picture behind the cache's back: size and time as before, so nobody looks at it again.
    victim = tmp_path / "faces" / "007.png"
    before = victim.stat()
    victim.write_bytes(b"x" * before.st_size)
    os.utime(victim, ns=(before.st_atime_ns, before.st_mtime_ns))
    np.testing.assert_array_equal(decode(source, 16, 16, what="t").images, first.images)
    assert len(decode(source, 16, 24, what="t").images) == 299  # another size is decoded, and finds the ruin
    os.utime(victim)
    changed = decode(source, 16, 16, what="t")
    assert len(changed.images) == 299
    assert 7 not in changed.rows
    assert "007.png" in changed.skipped[0]
    np.testing.assert_array_equal(changed.images[7], first.images[8])


def test_a_damaged_entry_is_made_anew(tmp_path: Path, own_cache: Path) -> None:
    source = pictures(tmp_path / "faces", 60)
    whole = np.array(decode(source, 16, 16, what="t").images)
    (entry,) = own_cache.iterdir()
    with (entry / "images.npy").open("r+b") as stream:
        stream.truncate(5000)
    np.testing.assert_array_equal(decode(source, 16, 16, what="t").images, whole)
    (entry / "rows.npy").unlink()
    np.testing.assert_array_equal(decode(source, 16, 16, what="t").images, whole)


def test_too_many_broken_files_stop_and_leave_nothing(tmp_path: Path, own_cache: Path) -> None:
    source = pictures(tmp_path / "faces")
    for name in ("010.png", "020.png", "030.png", "040.png"):
        (tmp_path / "faces" / name).write_bytes(b"broken")
    with pytest.raises(
        DataError, match=r"4 of the first 256 of 300.*more than 1%.*010\.png.*020\.png.*030\.png"
    ) as caught:
        decode(source, 16, 16, what="t")
    assert "040.png" not in str(caught.value)
    assert list(own_cache.iterdir()) == []


def test_a_killed_decode_leaves_nothing_that_is_taken_for_whole(own_cache: Path) -> None:
    spec = "synthetic,count=3000"
    process = opening(spec, own_cache)
    deadline = time.monotonic() + 300
    while not any(path.stat().st_size > 1_000_000 for path in own_cache.glob(".decode-*/images.npy")):
        assert process.poll() is None, "finished before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    (left,) = own_cache.iterdir()
    assert left.name.startswith(".decode-")
    # What it left is swept away once it is old; the next opening starts from nothing and succeeds.
    old = time.time() - 2 * 86_400
    os.utime(left / "images.npy", (old, old))
    done = opening(spec, own_cache)
    out, err = done.communicate(timeout=300)
    assert done.returncode == 0, err
    assert len(out.strip()) == 16
    assert [path.name for path in own_cache.iterdir() if path.name.startswith(".")] == []


def test_two_processes_may_decode_at_once(own_cache: Path) -> None:
    both = [opening("synthetic,count=800,size=32", own_cache) for _ in range(2)]
    results = [process.communicate(timeout=300) for process in both]
    assert [process.returncode for process in both] == [0, 0], results
    assert results[0][0] == results[1][0] != ""
    assert len(list(own_cache.iterdir())) == 1


def test_a_cache_that_cannot_be_written_is_a_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("SFUMATO_CACHE", str(tmp_path / "file"))
    with pytest.raises(DataError, match="set SFUMATO_CACHE"):
        decode(pictures(tmp_path / "faces", 3), 16, 16, what="t")
