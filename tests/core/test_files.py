"""Reads end, writes last, and one process works in a folder."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sfumato.core import files
from sfumato.core.errors import SfumatoError
from sfumato.core.files import (
    atomic_folder,
    atomic_write,
    claim_folder,
    only_process,
    read_bytes,
    read_inside,
    read_json,
    read_object,
    sha256,
)
from sfumato.core.private import require_private


def refusal(work: object) -> str:
    with pytest.raises(SfumatoError) as caught:
        work()  # type: ignore[operator]
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("kind", ["pipe", "device", "endless device", "folder", "socket", "nothing"])
def test_what_is_no_file_is_refused_and_nobody_waits(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "card.json"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "socket":
        import socket

        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(path))
    elif kind != "nothing":
        path.symlink_to("/dev/null" if kind == "device" else "/dev/zero")
    started = time.monotonic()
    for read in (read_bytes, read_json, sha256, require_private):
        said = refusal(lambda read=read: read(path))
        assert str(path) in said
    assert time.monotonic() - started < 1
    if os.name == "posix" and kind != "nothing":
        assert any(word in said for word in ("a pipe", "a device", "a folder", "a socket"))


def test_a_file_that_is_too_large_is_not_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "big"
    with path.open("wb") as stream:
        stream.truncate(10 * 2**30)  # a hole: it takes no room
    assert "larger than" in refusal(lambda: read_bytes(path, largest=1000))


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "a/../../secret", "", "a\\..\\b", "x\0y"])
def test_a_name_never_leads_out_of_the_folder(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "export"
    folder.mkdir()
    (tmp_path / "secret").write_text("secret")
    assert "is no name of a file" in refusal(lambda: read_inside(folder, name))


@pytest.mark.parametrize("link", ["file", "folder", "to nowhere"])
def test_links_are_not_followed(link: str, tmp_path: Path) -> None:
    folder, other = tmp_path / "export", tmp_path / "other"
    folder.mkdir()
    other.mkdir()
    (other / "card.json").write_text("{}")
    name = "card.json"
    if link == "file":
        (folder / name).symlink_to(other / name)
    elif link == "folder":
        (folder / "audit").symlink_to(other)
        name = "audit/card.json"
    else:
        (folder / name).symlink_to(tmp_path / "absent")
    assert "is a link" in refusal(lambda: read_inside(folder, name))
    (tmp_path / "latest").symlink_to(other)  # the folder itself is what the user typed
    assert read_inside(tmp_path / "latest", "card.json") == b"{}"


@pytest.mark.parametrize(
    "content", [b"[" * 100_000, b'{"a":' * 100_000, b"", b"{", b"\xff", b"9" * 100_000, b"[1,]"]
)
def test_json_that_is_none_is_one_line(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "card.json").write_bytes(content)
    assert "is not valid JSON" in refusal(lambda: read_json(tmp_path / "card.json"))


@pytest.mark.parametrize("content", ["[]", "null", "3", '"x"'])
def test_json_of_another_kind_is_one_line(content: str, tmp_path: Path) -> None:
    (tmp_path / "card.json").write_text(content)
    assert "an object was expected" in refusal(lambda: read_object(tmp_path / "card.json"))


def test_what_has_its_name_was_flushed_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    fsync, replace, rename = os.fsync, Path.replace, Path.rename

    def flushed(handle: int) -> None:
        done.append(f"flush {Path(os.readlink(f'/proc/self/fd/{handle}')).name}")
        fsync(handle)

    def named(self: Path, target: Path) -> Path:
        done.append(f"name {target.name}")
        return (replace if self.is_file() else rename)(self, target)

    monkeypatch.setattr(os, "fsync", flushed)
    monkeypatch.setattr(Path, "replace", named)
    monkeypatch.setattr(Path, "rename", named)
    with atomic_write(tmp_path / "one") as scratch:
        scratch.write_text("1")
    assert done == [f"flush {scratch.name}", "name one", f"flush {tmp_path.name}"]
    done.clear()
    with atomic_folder(tmp_path / "two") as folder:
        (folder / "a").mkdir()
        (folder / "a" / "b").write_text("2")
    assert set(done[:3]) == {"flush b", "flush a", f"flush {folder.name}"}
    assert done[3:] == ["name two", f"flush {tmp_path.name}"]


def hold(folder: Path) -> int:
    """A process that works in a folder until it is killed."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        with only_process(folder):
            os.write(writing, b"x")
            signal.pause()
        os._exit(0)
    assert os.read(reading, 1) == b"x"
    os.close(reading)
    os.close(writing)
    return child


def test_one_process_a_folder_and_the_lock_dies_with_it(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.json").write_text("{}")
    child = hold(run)
    try:
        with pytest.raises(SfumatoError, match="another process is at work in"), only_process(run):
            pass
        # Nor is anything of it removed.
        with pytest.raises(SfumatoError, match="another process is at work in"):
            claim_folder(run, holds="config.json", overwrite=True)
        assert (run / "config.json").exists()
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    with only_process(run):
        assert os.listdir(run) == ["config.json"]
    claim_folder(run, holds="config.json", overwrite=True)
    assert os.listdir(run) == []


def test_a_folder_that_another_process_wrote_meanwhile_stays(tmp_path: Path) -> None:
    out = tmp_path / "export"

    def write() -> None:
        with atomic_folder(out) as folder:
            (folder / "mine").write_text("")
            out.mkdir()
            (out / "theirs").write_text("")

    assert "another process has written" in refusal(write)
    assert os.listdir(tmp_path) == ["export"]
    assert os.listdir(out) == ["theirs"]
    with atomic_folder(out) as folder:
        (folder / "mine").write_text("")
    assert os.listdir(out) == ["mine"]


@pytest.mark.skipif(os.name != "posix", reason="there are no such bits")
@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o620, 0o602, 0o666])
def test_a_secret_that_others_can_read_is_refused_with_what_to_type(mode: int, tmp_path: Path) -> None:
    path = tmp_path / "device.key"
    path.write_text("secret")
    path.chmod(mode)
    assert refusal(lambda: require_private(path)).endswith(f"chmod 600 {path}")
    for private in (0o600, 0o400):
        path.chmod(private)
        require_private(path)


def test_what_is_written_can_be_read(tmp_path: Path) -> None:
    files.write_json(tmp_path / "a" / "b.json", {"é": [1.5]})
    assert (
        read_object(tmp_path / "a" / "b.json")
        == {"é": [1.5]}
        == json.loads((tmp_path / "a" / "b.json").read_text(encoding="utf-8"))
    )


KILLED = """
import os, signal, sys
from pathlib import Path
from sfumato.core.files import atomic_folder, atomic_write
path = Path(sys.argv[2])
if sys.argv[1] == "renames":
    rename = Path.rename
    def killed(self, target):
        rename(self, target)
        os.kill(os.getpid(), signal.SIGKILL)
    Path.rename = killed
with (atomic_write if sys.argv[1] == "file" else atomic_folder)(path) as scratch:
    (scratch if sys.argv[1] == "file" else scratch / "new").write_text("new")
    if sys.argv[1] != "renames":
        print("working", flush=True)
        signal.pause()
"""


def working(kind: str, path: Path) -> subprocess.Popen[str]:
    """A process in the middle of writing a file or a folder, or killed between the two renames of the folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, kind, str(path)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == ("" if kind == "renames" else "working\n")
    return process


@pytest.mark.skipif(os.name != "posix", reason="there are no such locks")
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_a_killed_process_left_goes_and_what_a_living_one_writes_stays(
    kind: str, tmp_path: Path
) -> None:
    (tmp_path / ".config.settings").write_text("the user's")
    process = working(kind, tmp_path / "out")
    try:
        assert len(os.listdir(tmp_path)) == 2
        files.sweep(tmp_path)
        (left,) = [name for name in os.listdir(tmp_path) if name.startswith(".out.")]
        assert files.is_scratch(tmp_path / left)
    finally:
        process.kill()
        process.wait()
    with only_process(tmp_path):
        assert os.listdir(tmp_path) == [".config.settings"]


@pytest.mark.skipif(os.name != "posix", reason="there are no such locks")
def test_killed_between_two_renames_the_old_folder_is_put_back(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "old").write_text("old")
    assert working("renames", out).wait() == -signal.SIGKILL
    assert not out.exists()
    files.sweep(tmp_path)
    assert os.listdir(tmp_path) == ["out"]
    assert os.listdir(out) == ["old"]


def test_what_marks_a_folder_is_removed_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed while it is emptied, the folder can still be replaced."""
    for name in ("a", "config.json", "z"):
        (tmp_path / name).write_text("{}")
    gone: list[str] = []
    unlink = Path.unlink

    def noted(self: Path) -> None:
        gone.append(self.name)
        unlink(self)

    monkeypatch.setattr(Path, "unlink", noted)
    claim_folder(tmp_path, holds="config.json", overwrite=True)
    assert (sorted(gone), gone[-1]) == (["a", "config.json", "z"], "config.json")


def test_the_scratch_of_a_killed_start_leaves_a_folder_free(tmp_path: Path) -> None:
    (tmp_path / f".config.json.abcd1234{files.SCRATCH}").write_text("{")
    claim_folder(tmp_path, holds="config.json", overwrite=False)
    (tmp_path / ".hidden").write_text("")
    assert "is not empty" in refusal(lambda: claim_folder(tmp_path, holds="config.json", overwrite=False))
