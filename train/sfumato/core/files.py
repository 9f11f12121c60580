"""Files that are either whole or absent.

Everything a command leaves behind goes through `atomic_write` or `new_folder`, so that an interrupted or failed run
never leaves half a file, and an existing run is never overwritten by accident.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sfumato.core.errors import SfumatoError
from sfumato.core.failures import writing


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; it takes the final name only if the block succeeds.

    Raises:
        WriteError: the system refused.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        os.close(handle)
        scratch = Path(name)
        try:
            yield scratch
            scratch.chmod(0o644)
            scratch.replace(path)
        finally:
            scratch.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; it replaces `path` only if the block succeeds.

    Raises:
        WriteError: the system refused.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
        try:
            yield scratch
            scratch.chmod(0o755)
            retired = scratch.with_name(scratch.name + ".old")
            if path.exists():
                path.rename(retired)
            scratch.rename(path)
            shutil.rmtree(retired, ignore_errors=True)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically."""
    with atomic_write(path) as scratch:
        scratch.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """Read a JSON file; a missing or broken one is a one-line `SfumatoError`."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SfumatoError(f"{path} is missing: is {path.parent} the right folder?") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise SfumatoError(f"{path} is not valid JSON ({error})") from None


def sha256(path: Path) -> str:
    """Hex SHA-256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def claim_folder(path: Path, *, holds: str, overwrite: bool) -> None:
    """Make `path` ready for a new artifact.

    Args:
        path: the output folder.
        holds: the file whose presence shows that `path` already holds such an artifact.
        overwrite: remove what is there. Only a folder that holds such an artifact is ever removed.

    Raises:
        SfumatoError: `path` is a file or lies below one, already holds an artifact, or holds something else.
    """
    check_claim(path, holds=holds, overwrite=overwrite)
    if (path / holds).exists():
        with writing(path):
            shutil.rmtree(path)
    make_folder(path)


def check_claim(path: Path, *, holds: str, overwrite: bool) -> None:
    """Whether `claim_folder` will take `path`, before anything is computed for it; nothing is made or removed.

    Raises:
        SfumatoError: as `claim_folder`.
    """
    if path.is_file():
        raise SfumatoError(f"{path} is a file: give a folder for the output")
    with writing(path):
        found = any(path.iterdir()) if path.exists() else False
    if found and not (path / holds).exists():
        raise SfumatoError(f"{path} is not empty and holds no {holds}: choose another --out")
    if found and not overwrite:
        raise SfumatoError(
            f"{path} already holds a result ({holds}): choose another --out, or pass --overwrite"
        )
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
    if path.is_file():
        raise SfumatoError(f"{path} is a file: give a folder for the output")
    with writing(path):
        path.mkdir(parents=True, exist_ok=True)
    if not os.access(path, os.W_OK | os.X_OK):
        raise SfumatoError(f"cannot write {path} (Permission denied)")
