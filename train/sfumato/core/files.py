"""Files that are either complete or absent, and reads that end.

Everything a command leaves behind goes through `atomic_write` or `new_folder`, so that an interrupted or failed run
never leaves half a file, and an existing run is never overwritten by accident. What has its name is on the disk: files and
folders are flushed before they are renamed. A process that is killed leaves scratch files behind; `sweep` removes those that
no living process holds. What is read is a regular file: a pipe or a device would hold the reader for ever.
"""

import glob
import hashlib
import io
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from sfumato.core.errors import SfumatoError
from sfumato.core.failures import reason, writing

SCRATCH = ".sfumato-new"
"""How the names of scratch files and folders end; they begin with a dot and the name that they shall take."""
RETIRED = ".sfumato-old"
"""How the name of a folder ends that is being replaced."""
LARGEST = 2**30
"""Bytes of a file that is read whole."""
LARGEST_JSON = 2**26
KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; it takes the final name only if the block succeeds, and then lasts.

    Raises:
        WriteError: the system refused.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with _scratch(path, _new_file) as scratch:
            try:
                yield scratch
                scratch.chmod(0o644)
                flush(scratch)
                scratch.replace(path)
                flush(path.parent)
            finally:
                scratch.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; it replaces `path` only if the block succeeds, and then lasts.

    Raises:
        SfumatoError: another process has put something else at `path` meanwhile.
        WriteError: the system refused.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        sweep(path.parent, path.name)
        with _scratch(path, _new_folder) as scratch:
            before = _identity(path)
            try:
                yield scratch
                scratch.chmod(0o755)
                for found in (*scratch.rglob("*"), scratch):
                    if not found.is_symlink():
                        flush(found)
                retired = scratch.with_suffix(RETIRED)
                if (now := _identity(path)) is not None:
                    if now != before:
                        raise SfumatoError(
                            f"another process has written {path} meanwhile: look at it, then start again "
                            "or choose another --out"
                        )
                    path.rename(retired)
                scratch.rename(path)
                flush(path.parent)
                shutil.rmtree(retired, ignore_errors=True)
            finally:
                shutil.rmtree(scratch, ignore_errors=True)


@contextmanager
def _scratch(path: Path, make: Callable[[Path], tuple[int | None, Path]]) -> Iterator[Path]:
    """Something new beside `path`, locked against `sweep` for as long as the block and this process last."""
    while True:
        handle, scratch = make(path)
        if handle is None or (_lock(handle) is not False and scratch.exists()):
            break
        os.close(handle)  # a sweep took it in the moment before it was locked
    try:
        yield scratch
    finally:
        if handle is not None:
            os.close(handle)


def _new_file(path: Path) -> tuple[int | None, Path]:
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=SCRATCH, dir=path.parent)
    if os.name == "nt":  # there an open file cannot be renamed
        os.close(handle)
        return None, Path(name)
    return handle, Path(name)


def _new_folder(path: Path) -> tuple[int | None, Path]:
    name = tempfile.mkdtemp(prefix=f".{path.name}.", suffix=SCRATCH, dir=path.parent)
    try:
        return None if os.name == "nt" else os.open(name, os.O_RDONLY), Path(name)
    except FileNotFoundError:  # as above
        return _new_folder(path)


def _lock(handle: int) -> bool | None:
    """Whether this process alone holds the file or folder now; None where the system knows no such locks."""
    try:
        import fcntl
    except ImportError:  # Windows
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def is_scratch(path: Path) -> bool:
    """Whether a file or folder has the name of one that is not finished."""
    return path.name.startswith(".") and path.suffix in (SCRATCH, RETIRED)


def sweep(folder: Path, name: str | None = None) -> None:
    """Remove what killed processes left unfinished in a folder; what a living process writes stays.

    Args:
        folder: where; not below it.
        name: only what was to take this name; None: all.
    """
    if os.name == "nt":
        return
    for path in sorted(folder.glob("." + ("" if name is None else glob.escape(name) + ".") + "*" + SCRATCH)):
        try:
            handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:
            continue
        try:
            if _lock(handle):  # not where nobody knows
                _remove(path)
        finally:
            os.close(handle)
    for path in folder.glob("." + ("" if name is None else glob.escape(name) + ".") + "*" + RETIRED):
        target = path.with_name(path.name[1:].rsplit(".", 2)[0])
        if path.with_suffix(SCRATCH).exists():  # its process lives
            continue
        if target.exists():
            _remove(path)
        else:  # killed between two renames: the old one is the whole one
            path.rename(target)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _identity(path: Path) -> tuple[int, int] | None:
    """Which file or folder this is; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def flush(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk; where a folder cannot be opened, nothing happens.

    Raises:
        OSError: the disk does not take a file.
    """
    if os.name == "nt" and path.is_dir():
        return
    handle = os.open(path, os.O_RDONLY if os.name != "nt" else os.O_RDWR)
    try:
        os.fsync(handle)
    except OSError:
        if not path.is_dir():  # some network file systems flush no folders
            raise
    finally:
        os.close(handle)


def save_array(path: Path, array: Any) -> None:
    """A .npy file. Not by `numpy.save`, which tells of a full disk without the system's reason.

    Raises:
        OSError: the system refused.
    """
    import numpy as np

    content = io.BytesIO()
    np.save(content, array)
    path.write_bytes(content.getbuffer())


def replaced_result(path: Path, schema: str) -> dict[str, Any] | None:
    """What a new result of this kind will replace: an older one, or nothing.

    Args:
        path: where the new one goes.
        schema: its kind, without the version.

    Raises:
        SfumatoError: something else is there.
    """
    if not os.path.lexists(path):
        return None
    try:
        old = read_object(path)
    except SfumatoError:
        old = {}
    if not str(old.get("schema", "")).startswith(f"{schema}/"):
        raise SfumatoError(
            f"{path} is there and is no result of this command: move it, or choose another --out"
        )
    return old


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically."""
    with atomic_write(path) as scratch:
        scratch.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def require_file(path: Path, hint: str = "") -> None:
    """Refuse what is no regular file, before anything opens it; `hint` says what to do where it is missing.

    Raises:
        SfumatoError: it is missing, a folder, a pipe or a device, or cannot be looked at.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        raise SfumatoError(
            f"{path} cannot be read (it is missing): {hint or f'is {path.parent} the right folder?'}"
        ) from None
    except (OSError, ValueError) as error:
        raise SfumatoError(f"{path} cannot be read ({reason(error)})") from None
    if not stat.S_ISREG(mode):
        raise SfumatoError(f"{path} is {KINDS.get(stat.S_IFMT(mode), 'no file')}: put a file there")


def read_bytes(path: Path, *, largest: int = LARGEST, hint: str = "") -> bytes:
    """The whole of a regular file of at most `largest` bytes; `hint` says what to do where it is missing.

    Raises:
        SfumatoError: as `require_file`, or it is larger.
    """
    require_file(path, hint)
    # Not blocking: what was a file a moment ago may have become a pipe.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        with os.fdopen(os.open(path, flags), "rb") as stream:
            content: bytes = stream.read(largest + 1)
    except OSError as error:
        raise SfumatoError(f"{path} cannot be read ({reason(error)})") from None
    if len(content) > largest:
        raise SfumatoError(f"{path} is larger than such a file can be ({largest} bytes)")
    return content


def read_inside(folder: Path, name: str, *, largest: int = LARGEST, hint: str = "") -> bytes:
    """A file of an artifact, by the name that the artifact gives it: it lies in the folder, and no link leads elsewhere.

    `hint` says what to do where it is missing.

    Raises:
        SfumatoError: as `read_bytes`, or the name leads out of the folder or over a link.
    """
    parts = PurePosixPath(name).parts
    if not parts or PurePosixPath(name).is_absolute() or ".." in parts or "\\" in name or "\0" in name:
        raise SfumatoError(f"{name!r} is no name of a file in {folder}")
    path = folder
    for part in parts:
        path = path / part
        if path.is_symlink():
            raise SfumatoError(f"{path} is a link: put the file itself there")
    return read_bytes(path, largest=largest, hint=hint)


def parse_json(content: bytes, name: str, *, finite: bool = False) -> Any:
    """The value of a JSON text; `finite` refuses NaN and Infinity, which are no JSON.

    Raises:
        SfumatoError: it is none, or nests too deeply.
    """
    try:
        return json.loads(content, parse_constant=_refuse_constant if finite else None)
    except RecursionError:
        raise SfumatoError(f"{name} is not valid JSON (it nests too deeply)") from None
    except ValueError as error:
        raise SfumatoError(f"{name} is not valid JSON ({error})") from None


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number")


def read_json(path: Path) -> Any:
    """Read a JSON file; a missing or broken one is a one-line `SfumatoError`."""
    return parse_json(read_bytes(path, largest=LARGEST_JSON), str(path))


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds an object.

    Raises:
        SfumatoError: as `read_json`, or it holds something else.
    """
    values = read_json(path)
    if not isinstance(values, dict):
        raise SfumatoError(f"{path} holds {type(values).__name__}, where an object was expected")
    return values


def sha256(path: Path) -> str:
    """Hex SHA-256 of a file.

    Raises:
        SfumatoError: as `require_file`.
    """
    require_file(path)
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextmanager
def only_process(folder: Path) -> Iterator[None]:
    """Hold a folder against other processes that ask for it this way; made if it is missing.

    The lock belongs to the process: it ends with it, however that is, and leaves no file behind. Where the file system or the
    operating system knows no such locks, there is none.

    Raises:
        SfumatoError: another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if os.name == "nt":
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        if _lock(handle) is False:
            raise SfumatoError(
                f"another process is at work in {folder}: wait until it ends, or choose another --out"
            )
        for one in (folder, *(path for path in folder.iterdir() if path.is_dir() and not path.is_symlink())):
            sweep(one)
        yield
    finally:
        os.close(handle)


def claim_folder(path: Path, *, holds: str, overwrite: bool) -> None:
    """Make `path` ready for a new artifact.

    Args:
        path: the output folder.
        holds: the file whose presence shows that `path` already holds such an artifact.
        overwrite: remove what is there. Only a folder that holds such an artifact is ever removed.

    Raises:
        SfumatoError: `path` is a file or lies below one, already holds an artifact or something else, or another process is
            at work in it.
    """
    check_claim(path, holds=holds, overwrite=overwrite)
    if (path / holds).exists():
        with only_process(path), writing(path):  # the folder itself stays: it carries the lock
            # What marks it goes last: a process that is killed here leaves something that --overwrite still removes.
            for found in sorted(path.iterdir(), key=lambda found: found.name == holds):
                if found.is_dir() and not found.is_symlink():
                    shutil.rmtree(found)
                else:
                    found.unlink()
    make_folder(path)


def check_claim(path: Path, *, holds: str, overwrite: bool) -> None:
    """Whether `claim_folder` will take `path`, before anything is computed for it; nothing is made or removed.

    Raises:
        SfumatoError: as `claim_folder`.
    """
    if path.is_file():
        raise SfumatoError(f"{path} is a file: give a folder for the output")
    with writing(path):
        found = any(not is_scratch(inside) for inside in path.iterdir()) if path.exists() else False
    if found and not (path / holds).exists():
        raise SfumatoError(f"{path} is not empty and holds no {holds}: choose another --out")
    if found and not overwrite:
        raise SfumatoError(
            f"{path} already holds a result ({holds}): choose another --out, or pass --overwrite"
        )
    check_place(path)


def check_place(path: Path) -> None:
    """Refuse a place where no folder can be made or written, and make none.

    Raises:
        SfumatoError: it is a file, lies below one, or cannot be written.
    """
    if path.is_file():
        raise SfumatoError(f"{path} is a file: give a folder for the output")
    above = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        raise SfumatoError(
            f"cannot write {path} ({'Permission denied' if above.is_dir() else 'Not a directory'})"
        )


def make_folder(path: Path) -> None:
    """A folder that can be written, there or made now: found out before anything is computed for it.

    Raises:
        SfumatoError: it is a file, lies below one, or cannot be written.
    """
    check_place(path)
    with writing(path):
        path.mkdir(parents=True, exist_ok=True)
