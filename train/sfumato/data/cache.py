"""Decode once: pictures become one memory-mapped `.npy` file in the user's cache folder.

An entry is a folder named by what it was made from (names, contents, target size, decoder) and takes that name by
one rename when it is whole, so a killed decode is never mistaken for a finished one and two processes may decode
at once. It is read only if this user alone can have written it and every file has the hash it was written with
(docs/decisions/0026-data.md). The folder is `$SFUMATO_CACHE`, else `$XDG_CACHE_HOME/sfumato`, else `~/.cache/sfumato`.
"""

import hashlib
import json
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from sfumato.core import console
from sfumato.core.errors import DataError, SfumatoError
from sfumato.core.files import read_json, save_array, sha256
from sfumato.core.image_io import decoder
from sfumato.data.dataset import Ints
from sfumato.data.duplicates import PRINT_BYTES, fingerprints
from sfumato.data.source import Pictures, content

VERSION = 3
"""Raised whenever decoding, resizing or drawing changes its result."""
SEAL = "entry.json"
"""Written last: the entry's key and the SHA-256 of its files."""
FILES = ("images.npy", "prints.npy", "rows.npy", "skipped.json")
CORRUPT_SHARE = 0.01
"""More unreadable pictures than this stop the run."""
_CHUNK = 256
_ABANDONED_S = 86_400.0


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """Pictures as pixels on disk."""

    images: NDArray[np.uint8]
    """(M, H, W, 3), memory-mapped, read-only."""
    prints: NDArray[np.uint8]
    """(M, 48) of `sfumato.data.duplicates.fingerprints`."""
    rows: Ints
    """(M,) which of the N pictures these are."""
    skipped: tuple[str, ...]


def cache_folder() -> Path:
    """Where decoded pictures are kept."""
    if chosen := os.environ.get("SFUMATO_CACHE"):
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "sfumato"


def decode(pictures: Pictures, height: int, width: int, *, what: str) -> Decoded:
    """The pictures at this size, from the cache if they are there.

    Raises:
        DataError: more than `CORRUPT_SHARE` of the pictures are missing or unreadable, or the cache cannot be
        written.
    """
    key = _key(pictures, height, width)
    entry = cache_folder() / f"{what}-{key[:24]}"
    found = _open(entry, key)
    if found is not None:
        return found
    if entry.exists() and not trusted(entry):
        raise DataError(
            f"{entry} belongs to another user or others may write it: set SFUMATO_CACHE to a folder of your own"
        )
    try:
        entry.parent.mkdir(parents=True, exist_ok=True)
        _sweep(entry.parent)
        scratch = Path(tempfile.mkdtemp(prefix=".decode-", dir=entry.parent))
    except OSError as error:
        raise DataError(
            f"cannot write the image cache {entry.parent} ({error.strerror}): set SFUMATO_CACHE"
        ) from None
    try:
        _write(scratch, pictures, height, width, what)
        (scratch / SEAL).write_text(
            json.dumps({"key": key, "files": {name: sha256(scratch / name) for name in FILES}})
        )
        if entry.exists() and _open(entry, key) is None:  # damaged; never the work of another process
            shutil.rmtree(entry, ignore_errors=True)
        try:
            scratch.rename(entry)
        except OSError:
            if _open(entry, key) is None:  # otherwise another process was faster, with the same content
                raise
    except OSError as error:
        raise DataError(
            f"cannot write the image cache {entry.parent} ({error.strerror}): set SFUMATO_CACHE"
        ) from None
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    made = _open(entry, key)
    if made is None:
        raise DataError(f"the image cache {entry} cannot be read back: remove it and try again")
    return made


def trusted(path: Path) -> bool:
    """Whether `path` is this user's own, no link, and nobody else may write it; always where there are no owners."""
    if not hasattr(os, "getuid"):
        return True
    try:
        found = path.lstat()
    except OSError:
        return False
    return (
        found.st_uid == os.getuid()
        and not stat.S_ISLNK(found.st_mode)
        and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    )


def _key(pictures: Pictures, height: int, width: int) -> str:
    """Hex digest over everything that decides a pixel; every line is hashed on its own, so none runs into the next."""
    key = hashlib.sha256(f"{VERSION} {height} {width} {decoder()}\n".encode())
    for line in pictures.fingerprint():
        key.update(hashlib.sha256(line.encode("utf-8", "surrogateescape")).digest())
    return key.hexdigest()


def _write(folder: Path, pictures: Pictures, height: int, width: int, what: str) -> None:
    count = len(pictures.names)
    rows: list[int] = []
    failures: list[str] = []
    prints: list[NDArray[np.uint8]] = []
    with (folder / "images.npy").open("wb") as stream, console.progress() as bar:
        start = _header(stream, (count, height, width, 3))
        task = bar.add_task(f"reading {what}", total=count, figures="")
        for first in range(0, count, _CHUNK):
            span = range(first, min(first + _CHUNK, count))
            good: list[NDArray[np.uint8]] = []
            for row, picture in zip(span, pictures.read(span, height, width), strict=True):
                if isinstance(picture, DataError):
                    failures.append(str(picture))
                else:
                    rows.append(row)
                    good.append(picture)
            if len(failures) > CORRUPT_SHARE * count:
                raise _too_many(failures, first + len(span), count)
            if good:
                batch = np.stack(good)
                stream.write(batch.tobytes())
                prints.append(fingerprints(batch))
            bar.update(task, completed=span.stop, figures=f"{len(failures)} skipped" if failures else "")
        stream.seek(0)
        if _header(stream, (len(rows), height, width, 3)) != start:
            raise DataError("the installed numpy cannot rewrite an array's header: use numpy 1.26")
        stream.flush()
        os.fsync(stream.fileno())
    save_array(folder / "prints.npy", np.concatenate([np.zeros((0, PRINT_BYTES), np.uint8), *prints]))
    save_array(folder / "rows.npy", np.array(rows, dtype=np.int64))
    (folder / "skipped.json").write_text(json.dumps(failures), encoding="utf-8")


def _header(stream: IO[bytes], shape: Sequence[int]) -> int:
    """Write a .npy header and return its length, which does not depend on the first axis."""
    np.lib.format.write_array_header_1_0(  # type: ignore[no-untyped-call]
        stream, {"descr": "|u1", "fortran_order": False, "shape": tuple(shape)}
    )
    return stream.tell()


def _too_many(failures: Sequence[str], seen: int, count: int) -> DataError:
    named = "; ".join(failures[:3])
    return DataError(
        f"{len(failures)} of the first {seen} of {count} images are missing or unreadable, more than "
        f"{CORRUPT_SHARE:.0%}: {named}"
    )


def _open(entry: Path, key: str) -> Decoded | None:
    """A whole entry of this key that only this user can have written, or None."""
    if not trusted(entry):
        return None
    try:
        seal = read_json(entry / SEAL)
        if seal != {"key": key, "files": {name: content(entry / name) for name in FILES}}:
            return None
        images = np.load(entry / "images.npy", mmap_mode="r", allow_pickle=False)
        prints = np.load(entry / "prints.npy", allow_pickle=False)
        rows = np.load(entry / "rows.npy", allow_pickle=False)
        skipped = tuple(json.loads((entry / "skipped.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, EOFError, SfumatoError):
        return None
    return Decoded(images=images, prints=prints, rows=rows, skipped=skipped)


def _sweep(folder: Path) -> None:
    """Remove what killed decodes left behind, once it is a day old and so nobody's work in progress."""
    for scratch in folder.glob(".decode-*"):
        try:
            if time.time() - (scratch / "images.npy").stat().st_mtime > _ABANDONED_S:
                shutil.rmtree(scratch, ignore_errors=True)
        except OSError:
            continue
