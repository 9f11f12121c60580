"""The decode-once cache: reused, rebuilt when files change, whole or absent after a kill, safe for two processes."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sfumato.core.errors import DataError, UsageError
from sfumato.data.cache import FILES, SEAL, cache_folder, decode
from sfumato.data.source import ArrayPictures, FilePictures

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


def test_a_second_opening_does_not_decode_and_a_change_does(
    tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = pictures(tmp_path / "faces")
    first = decode(source, 16, 16, what="t")
    assert first.images.shape == (300, 16, 16, 3)
    assert isinstance(first.images, np.memmap)
    assert not first.images.flags.writeable
    np.testing.assert_array_equal(first.images[7], np.asarray(Image.open(tmp_path / "faces" / "007.png")))
    monkeypatch.setattr("sfumato.data.cache._write", lambda *_: pytest.fail("decoded again"))
    np.testing.assert_array_equal(decode(source, 16, 16, what="t").images, first.images)
    moved = Path(shutil.copytree(tmp_path / "faces", tmp_path / "moved"))
    decode(FilePictures(root=moved, names=source.names), 16, 16, what="t")  # the same content, elsewhere
    monkeypatch.undo()
    # Ruin a picture behind the cache's back: size and time as before.
    monkeypatch.setenv("SFUMATO_CACHE", str(own_cache))
    victim = tmp_path / "faces" / "007.png"
    before = victim.stat()
    victim.write_bytes(b"x" * before.st_size)
    os.utime(victim, ns=(before.st_atime_ns, before.st_mtime_ns))
    changed = decode(source, 16, 16, what="t")
    assert len(changed.images) == 299
    assert 7 not in changed.rows
    assert "007.png" in changed.skipped[0]
    np.testing.assert_array_equal(changed.images[7], first.images[8])


def test_names_sizes_and_times_that_agree_do_not_make_two_data_sets_one(tmp_path: Path) -> None:
    """Uncompressed files and arrays of another folder, as alike from outside as two can be."""
    seen = []
    for number in range(2):
        folder = tmp_path / str(number)
        folder.mkdir()
        picture = np.random.default_rng(number).integers(0, 256, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(picture).save(folder / "a.bmp")
        os.utime(folder / "a.bmp", (1e9, 1e9))
        found = decode(FilePictures(root=folder, names=["a.bmp"]), 16, 16, what="t")
        np.testing.assert_array_equal(found.images[0], picture)
        again = decode(ArrayPictures(pixels=picture[None], names=["a"]), 16, 16, what="t")
        np.testing.assert_array_equal(again.images[0], picture)
        seen.append(found.prints.tobytes())
    assert seen[0] != seen[1]


def test_a_damaged_entry_is_made_anew(tmp_path: Path, own_cache: Path) -> None:
    source = pictures(tmp_path / "faces", 60)
    whole = np.array(decode(source, 16, 16, what="t").images)
    (entry,) = own_cache.iterdir()
    for name in (*FILES, SEAL):
        content = bytearray((entry / name).read_bytes())
        content[-1] ^= 1  # a flipped bit: every length is as before
        (entry / name).write_bytes(content)
        np.testing.assert_array_equal(decode(source, 16, 16, what="t").images, whole)
        (entry / name).unlink()
        np.testing.assert_array_equal(decode(source, 16, 16, what="t").images, whole)
    other = decode(FilePictures(root=source.root, names=source.names[:7]), 16, 16, what="t")
    (second,) = set(own_cache.iterdir()) - {entry}
    shutil.rmtree(entry)
    second.rename(entry)  # whole, but another one's
    assert len(other.images) == 7
    np.testing.assert_array_equal(decode(source, 16, 16, what="t").images, whole)


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="no owners here")
def test_an_entry_that_others_may_have_written_is_never_read(
    tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = pictures(tmp_path / "faces", 60)
    decode(source, 16, 16, what="t")
    (entry,) = own_cache.iterdir()
    entry.chmod(0o777)
    with pytest.raises(DataError, match=r"others may write it: set SFUMATO_CACHE"):
        decode(source, 16, 16, what="t")
    entry.chmod(0o700)
    decode(source, 16, 16, what="t")
    monkeypatch.setattr(os, "getuid", lambda: entry.stat().st_uid + 1)
    with pytest.raises(DataError, match="belongs to another user"):
        decode(source, 16, 16, what="t")
    monkeypatch.undo()
    monkeypatch.setenv("SFUMATO_CACHE", str(own_cache))
    entry.rename(tmp_path / "real")
    entry.symlink_to(tmp_path / "real")
    with pytest.raises(DataError, match="SFUMATO_CACHE"):
        decode(source, 16, 16, what="t")


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


def held(cache: Path) -> list[str]:
    """Names of the data sets that are in the cache."""
    return sorted(path.parent.name.split("-")[0] for path in cache.glob(f"*/{SEAL}"))


def numbered(value: int) -> ArrayPictures:
    """Three pictures of 16x16, 2,304 bytes; one entry takes some 3 kB more."""
    return ArrayPictures(
        pixels=np.full((3, 16, 16, 3), value, np.uint8), names=[f"{value}/{i}" for i in range(3)]
    )


def test_what_was_unused_for_longest_leaves_for_a_new_data_set(
    own_cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SFUMATO_CACHE_GB", "8.5e-6")  # two entries
    for number, name in enumerate("ab"):
        decode(numbered(number), 16, 16, what=name)
        (seal,) = own_cache.glob(f"{name}-*/{SEAL}")
        os.utime(seal, (1000 + number, 1000 + number))
    assert held(own_cache) == ["a", "b"]
    decode(numbered(0), 16, 16, what="a")  # used again
    assert "left the cache" not in capsys.readouterr().err
    decode(numbered(2), 16, 16, what="c")
    assert held(own_cache) == ["a", "c"]
    assert "SFUMATO_CACHE_GB" in capsys.readouterr().err
    kept = decode(numbered(0), 16, 16, what="a")  # in use: it stays although others are younger
    for number in (3, 4):
        decode(numbered(number), 16, 16, what=f"d{number}")
    assert "a" in held(own_cache)
    assert len(held(own_cache)) == 2
    assert (kept.images == 0).all()
    monkeypatch.setenv("SFUMATO_CACHE_GB", "1e-6")  # smaller than any: what is asked for is made all the same
    del kept
    assert decode(numbered(5), 16, 16, what="e").images.shape == (3, 16, 16, 3)
    assert held(own_cache) == ["e"]


def test_what_another_process_has_open_stays(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SFUMATO_CACHE_GB", "1e-6")
    decode(numbered(0), 16, 16, what="a")
    code = (
        "import sys, numpy as np; from sfumato.data.cache import decode; from sfumato.data.source import ArrayPictures;"
        "x = decode(ArrayPictures(pixels=np.zeros((3, 16, 16, 3), np.uint8), names=['0/0', '0/1', '0/2']), 16, 16, what='a');"
        "print('open', flush=True); sys.stdin.read()"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOTS)}
    with subprocess.Popen(
        [sys.executable, "-c", code],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout is not None
        assert other.stdin is not None
        assert other.stdout.readline() == "open\n"
        decode(numbered(1), 16, 16, what="b")
        assert held(own_cache) == ["a", "b"]
        other.stdin.close()
        other.wait(timeout=60)
    decode(numbered(2), 16, 16, what="c")
    assert held(own_cache) == ["c"]


@pytest.mark.parametrize("given", ["much", "0", "-3", "nan", "inf"])
def test_a_limit_that_is_none_is_refused(
    given: str, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SFUMATO_CACHE_GB", given)
    with pytest.raises(UsageError, match="SFUMATO_CACHE_GB"):
        decode(numbered(0), 16, 16, what="a")
    assert not own_cache.exists()
