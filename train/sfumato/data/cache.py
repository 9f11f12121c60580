"""Decode once: pictures become one memory-mapped `.npy` file in the user's cache folder.

An entry is a folder named by what it was made from (names, contents, target size, decoder) and takes that name by
one rename when it is whole, so a killed decode is never mistaken for a finished one and two processes may decode
at once. It is read only if this user alone can have written it and every file has the hash it was written with
(docs/decisions/0026-data.md). The folder is `$SFUMATO_CACHE`, else `$XDG_CACHE_HOME/sfumato`, else `~/.cache/sfumato`.

All entries together take `$SFUMATO_CACHE_GB` at most, by default 20. Those that were opened longest ago leave when a new one
needs room, or `sfumato data clean` asks for it, but none that a process holds (docs/decisions/0030-audit-in-parts.md).
"""

import hashlib
import json
import os
import shutil
import stat
import tempfile
import time
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from sfumato.core import console
from sfumato.core.errors import DataError, SfumatoError, UsageError
from sfumato.core.files import read_json, save_array, sha256
from sfumato.core.image_io import decoder, to_grey
from sfumato.data.dataset import Ints
from sfumato.data.duplicates import PRINT_BYTES, fingerprints
from sfumato.data.source import Pictures, content

VERSION = 4
"""Raised whenever decoding, resizing or drawing changes its result."""
SEAL = "entry.json"
"""Written last: the entry's key and the SHA-256 of its files."""
FILES = ("images.npy", "prints.npy", "rows.npy", "skipped.json")
CORRUPT_SHARE = 0.01
"""More unreadable pictures than this stop the run."""
LIMIT_GB = 20.0
"""Gigabytes (10^9 bytes) that all entries may take, where `$SFUMATO_CACHE_GB` says nothing else."""
_CHUNK, _CHUNK_BYTES = 256, 2**24
"""Pictures that are decoded at a time, and the bytes that they may take."""
_ABANDONED_S = 86_400.0


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """Pictures as pixels on disk."""

    images: NDArray[np.uint8]
    """(M, H, W, planes), memory-mapped, read-only. The entry stays in the cache for as long as this array lives."""
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


def cache_limit() -> int:
    """Bytes that decoded pictures may take.

    Raises:
        UsageError: `$SFUMATO_CACHE_GB` is no number above 0.
    """
    given = os.environ.get("SFUMATO_CACHE_GB", "").strip()
    try:
        limit = float(given) if given else LIMIT_GB
    except ValueError:
        limit = 0.0
    if not 0 < limit < float("inf"):
        raise UsageError(
            f"SFUMATO_CACHE_GB is {given!r}: give the gigabytes of decoded pictures to keep, above 0"
        )
    return int(limit * 1e9)


def decode(pictures: Pictures, height: int, width: int, *, what: str, planes: int = 3) -> Decoded:
    """The pictures at this size, in colour (3 planes) or grey (1), from the cache if they are there.

    Raises:
        DataError: more than `CORRUPT_SHARE` of the pictures are missing or unreadable, or the cache cannot be
        written.
        UsageError: `$SFUMATO_CACHE_GB` is no number above 0.
    """
    limit = cache_limit()
    key = _key(pictures, height, width, planes)
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
        sweep_decodes(entry.parent)
        make_room(entry.parent, limit - len(pictures.names) * (height * width * planes + PRINT_BYTES + 8))
        scratch = Path(tempfile.mkdtemp(prefix=".decode-", dir=entry.parent))
    except OSError as error:
        raise DataError(
            f"cannot write the image cache {entry.parent} ({error.strerror}): set SFUMATO_CACHE"
        ) from None
    try:
        _write(scratch, pictures, (height, width, planes), what)
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


def entries(folder: Path) -> list[tuple[float, int, Path]]:
    """(time of last opening, bytes, folder) of every entry of decoded pictures."""
    found: list[tuple[float, int, Path]] = []
    for seal in folder.glob(f"*/{SEAL}"):
        try:
            size = sum(one.stat().st_size for one in seal.parent.iterdir())
            found.append((seal.stat().st_mtime, size, seal.parent))
        except OSError:  # another process has just removed it
            continue
    return found


def make_room(folder: Path, left: int) -> None:
    """Remove whole entries, those first that were opened longest ago, until the others take at most `left` bytes.

    What a process has open stays, whoever else needs the room. So does a damaged entry, which is made anew where it lies.
    """
    found = entries(folder)
    total, gone = sum(size for _, size, _ in found), 0
    for opened, size, entry in sorted(found):
        if total <= left:
            break
        if trusted(entry) and _remove_unused(entry, opened):
            total, gone = total - size, gone + size
    if gone:
        console.note(
            f"{gone / 1e9:.2g} GB of decoded pictures left the cache, the longest unused first; SFUMATO_CACHE_GB sets its size"
        )


def _remove_unused(entry: Path, opened: float) -> bool:
    """Remove an entry unless a process holds it; whether it is gone."""
    with _hold(entry, alone=True) as lock:
        if lock is None or (lock < 0 and time.time() - opened < _ABANDONED_S):
            return False
        scratch = entry.with_name(f".decode-{entry.name}-{os.getpid()}")
        try:
            entry.rename(scratch)  # at once, so nobody finds a part of it
        except OSError:
            return False
        shutil.rmtree(scratch, ignore_errors=True)
        return True


@contextmanager
def _hold(entry: Path, *, alone: bool = False) -> Iterator[int | None]:
    """A handle that holds an entry, alone or beside other readers; closed after the block, unless the block keeps a copy of it.

    None: another process holds it, or it is not there. -1: here are no such locks.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        yield -1
        return
    try:
        handle = os.open(entry, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        yield None
        return
    try:
        try:
            # Whoever removes an entry is done soon.
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB if alone else fcntl.LOCK_SH)
            found: int | None = handle
        except BlockingIOError:
            found = None
        except OSError:
            found = -1
        yield found
    finally:
        os.close(handle)


def _key(pictures: Pictures, height: int, width: int, planes: int) -> str:
    """Hex digest over everything that decides a pixel; every line is hashed on its own, so none runs into the next."""
    grey = "grey " if planes == 1 else ""
    key = hashlib.sha256(f"{VERSION} {height} {width} {grey}{decoder()}\n".encode())
    for line in pictures.fingerprint():
        key.update(hashlib.sha256(line.encode("utf-8", "surrogateescape")).digest())
    return key.hexdigest()


def _write(folder: Path, pictures: Pictures, shape: tuple[int, int, int], what: str) -> None:
    height, width, planes = shape
    count = len(pictures.names)
    rows: list[int] = []
    failures: list[str] = []
    prints: list[NDArray[np.uint8]] = []
    with (folder / "images.npy").open("wb") as stream, console.progress() as bar:
        start = _header(stream, (count, *shape))
        task = bar.add_task(f"reading {what}", total=count, figures="")
        chunk = max(1, min(_CHUNK, _CHUNK_BYTES // (height * width * planes)))
        for first in range(0, count, chunk):
            span = range(first, min(first + chunk, count))
            good: list[NDArray[np.uint8]] = []
            for row, picture in zip(span, pictures.read(span, height, width), strict=True):
                if isinstance(picture, DataError):
                    failures.append(str(picture))
                else:
                    rows.append(row)
                    good.append(to_grey(picture) if planes == 1 else picture)
            if len(failures) > CORRUPT_SHARE * count:
                raise _too_many(failures, first + len(span), count)
            if good:
                batch = np.stack(good)
                stream.write(batch.data)
                prints.append(fingerprints(batch))
            bar.update(task, completed=span.stop, figures=f"{len(failures)} skipped" if failures else "")
        stream.seek(0)
        if _header(stream, (len(rows), *shape)) != start:
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
    with _hold(entry) as lock:
        found = _read(entry, key)
        if found is not None and lock is not None and lock >= 0:
            # The lock belongs to the open folder, which lives as long as the pictures do.
            weakref.finalize(found.images, os.close, os.dup(lock))
        return found


def _read(entry: Path, key: str) -> Decoded | None:
    """A whole entry of this key, which counts as used now."""
    try:
        seal = read_json(entry / SEAL)
        if seal != {"key": key, "files": {name: content(entry / name) for name in FILES}}:
            return None
        images = np.load(entry / "images.npy", mmap_mode="r", allow_pickle=False)
        prints = np.load(entry / "prints.npy", allow_pickle=False)
        rows = np.load(entry / "rows.npy", allow_pickle=False)
        skipped = tuple(json.loads((entry / "skipped.json").read_text(encoding="utf-8")))
        with suppress(OSError):  # a cache that may only be read
            os.utime(entry / SEAL)
    except (OSError, ValueError, EOFError, SfumatoError):
        return None
    return Decoded(images=images, prints=prints, rows=rows, skipped=skipped)


def sweep_decodes(folder: Path) -> None:
    """Remove what killed decodes left behind, once it is a day old and so nobody's work in progress."""
    for scratch in folder.glob(".decode-*"):
        try:
            if time.time() - (scratch / "images.npy").stat().st_mtime > _ABANDONED_S:
                shutil.rmtree(scratch, ignore_errors=True)
        except OSError:
            continue
