"""A file of entries that only grows, where a missing, changed or older piece is noticed: a chain of MACs with an anchor.

    log = SealedLog(Path("account"), key, Book, lambda: {"kind": "open"})
    with log.held() as book:             # locked, read to its end, checked
        log.append([{"kind": "upload"}])       # on the disk when this returns

A line is a JSON object, a space and 64 hexadecimal digits: HMAC(key, "line" || MAC of the line before || object).
A second file, the anchor, holds the number of lines and the last MAC, under the key as well. A line is on the disk before its
anchor is written, so after a crash at most the last lines have no anchor: whole ones stay, an unfinished one is cut off.
Anything else is an error that says what to do; nothing is ever reset silently. docs/ledger.md says what cannot be noticed.
"""

import fcntl
import hashlib
import hmac
import json
import os
import stat
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from sfumato.core.errors import SfumatoError
from sfumato.core.files import read_bytes

MAC_BYTES = 32
DIGITS = 2 * MAC_BYTES
FIRST_LINE = 256
"""A first line without an anchor is shorter than this, whole or not."""
REPAIR = "`sfumato ledger repair` keeps what is whole and notes that entries were lost"


class LogError(SfumatoError):
    """The file cannot be read or written, or is not what was written."""


class Taker(Protocol):
    """What is told every entry."""

    def apply(self, entry: Mapping[str, Any]) -> None:
        """Take in one entry; KeyError, TypeError or ValueError if it is none."""


Book = TypeVar("Book", bound=Taker)


class SealedLog(Generic[Book]):
    """One log in one file. Several processes and threads may hold one; each reads only what it has not read yet.

    Args:
        path: the file; it and its anchor, `PATH.anchor`, are made with mode 0600.
        key: for the MACs alone.
        new_book: makes what is told every entry, from the first on.
        opening: the first entry of a new file.
    """

    def __init__(
        self, path: Path, key: bytes, new_book: Callable[[], Book], opening: Callable[[], dict[str, Any]]
    ) -> None:
        self.path, self.anchor = path, path.with_name(path.name + ".anchor")
        self._key, self._new_book, self._opening = key, new_book, opening
        self._fingerprint = self._seal(b"name", b"")[:8].hex()
        self._lock = threading.Lock()
        self._stream: FileIO
        self._forget()

    def _forget(self) -> None:
        self.book, self.lines, self._end, self._mac = self._new_book(), 0, 0, bytes(MAC_BYTES)

    @contextmanager
    def held(self) -> Iterator[Book]:
        """The book with every entry, while nobody else can add one.

        Raises:
            LogError: the file is damaged, an older copy, of another key, or cannot be read or written.
        """
        with self._locked():
            try:
                self._catch_up()
                yield self.book
            except BaseException:
                self._forget()  # the book may hold what the file does not: read it anew
                raise

    def append(self, entries: Sequence[Mapping[str, Any]]) -> None:
        """Add entries that the book has taken in already; only while it is held. They are on the disk when this returns."""
        if not entries:
            return
        made = []
        for entry in entries:
            text = json.dumps(entry, separators=(",", ":")).encode("ascii")
            self._mac = self._seal(b"line", self._mac + text)
            made.append(text + b" " + self._mac.hex().encode("ascii") + b"\n")
        lines = b"".join(made)
        self._stream.seek(self._end)
        if self._stream.write(lines) != len(lines):
            raise OSError(0, "the disk is full")
        os.fsync(self._stream.fileno())
        self.lines, self._end = self.lines + len(entries), self._end + len(lines)
        self._write_anchor()

    def repair(self, note: Callable[[Book], dict[str, Any]]) -> tuple[int, Path | None]:
        """Keep the lines up to the first that does not verify, and add a note.

        Returns:
            The number of lines kept, and a copy of the file as it was; None where there was none.
        """
        with self._locked():
            self._forget()
            content, aside = self._stream.readall(), None
            if content:
                aside = _free_name(self.path)
                _write_whole(aside, content)
            self._take(content, None)
            kept = self.lines
            self._stream.truncate(self._end)
            for make in (note,) if kept else (lambda _: self._opening(), note):
                entry = make(self.book)
                self.book.apply(entry)
                self.append([entry])
        return kept, aside

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with self._lock:
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
                with FileIO(handle, "r+") as self._stream:
                    if not stat.S_ISREG(os.fstat(handle).st_mode):
                        raise OSError(0, "it is no regular file")  # reading a pipe would never end
                    fcntl.flock(handle, fcntl.LOCK_EX)
                    os.fchmod(handle, 0o600)
                    yield
            except OSError as error:
                raise LogError(
                    f"{self.path} cannot be kept ({error.strerror}): nothing may be sent without it"
                ) from None

    def _catch_up(self) -> None:
        """Take in what is new and compare it with the anchor."""
        anchored, size = self._read_anchor(), os.fstat(self._stream.fileno()).st_size
        content = self._read_new()
        if anchored is None and not self._is_new(content):
            raise LogError(f"{self.anchor} is missing: put it back, or {REPAIR}")
        self._take(content, anchored)
        if anchored is not None and self.lines < anchored[0]:
            if self._end == size:
                raise LogError(
                    f"{self.path} holds {self.lines} entries and had {anchored[0]}, an older copy: "
                    f"put the newest back, or {REPAIR}"
                )
            raise LogError(
                f"{self.path} is damaged at entry {self.lines + 1}: put a whole copy back, or {REPAIR}"
            )
        if self._end < size:
            self._stream.truncate(self._end)  # what a crash left unfinished: nothing was sent for it
        if self.lines == 0:
            opening = self._opening()
            self.book.apply(opening)
            self.append([opening])
            _sync_folder(self.path.parent)
        elif anchored is None:  # a crash came between the first line and its anchor
            self._write_anchor()

    def _read_new(self) -> bytes:
        """What follows the lines that are taken in; everything, if these are no longer there."""
        start = max(self._end - DIGITS - 1, 0)
        self._stream.seek(start)
        content = self._stream.readall()
        if self.lines == 0:
            return content
        if content.startswith(self._mac.hex().encode("ascii") + b"\n"):
            return content[DIGITS + 1 :]
        self._forget()
        self._stream.seek(0)
        return self._stream.readall()

    def _is_new(self, content: bytes) -> bool:
        """Whether this can be a file before its first anchor: at most one line, the opening."""
        return self.lines == 0 and len(content) < FIRST_LINE and content.count(b"\n") <= 1

    def _take(self, content: bytes, anchored: tuple[int, bytes] | None) -> None:
        """Take in lines as long as they verify."""
        for line in content.split(b"\n")[:-1]:
            text, mac = line[: -DIGITS - 1], self._seal(b"line", self._mac + line[: -DIGITS - 1])
            if not hmac.compare_digest(line[len(text) :], b" " + mac.hex().encode("ascii")):
                return
            if anchored is not None and self.lines + 1 == anchored[0] and mac != anchored[1]:
                return
            try:
                self.book.apply(json.loads(text))
            except (KeyError, TypeError, ValueError):  # under the right key: written by another version
                raise LogError(
                    f"{self.path} has an entry of a kind that this version does not know: install a newer one"
                ) from None
            self.lines, self._end, self._mac = self.lines + 1, self._end + len(line) + 1, mac

    def _read_anchor(self) -> tuple[int, bytes] | None:
        """Number of lines and the last MAC; None where there is no anchor."""
        if not self.anchor.exists():
            return None
        try:
            content = read_bytes(self.anchor, largest=2**16)
        except SfumatoError as error:
            raise LogError(str(error)) from None
        text, _, mac = content.strip().rpartition(b" ")
        try:
            values = json.loads(text)
            if values["key"] != self._fingerprint:
                raise LogError(
                    f"{self.path} belongs to another device key: put that key back or keep another ledger"
                )
            if not hmac.compare_digest(mac, self._seal(b"anchor", text).hex().encode("ascii")):
                raise ValueError
            return int(values["lines"]), bytes.fromhex(values["mac"])
        except (ValueError, KeyError, TypeError):
            raise LogError(f"{self.anchor} is damaged: put a whole copy back, or {REPAIR}") from None

    def _write_anchor(self) -> None:
        values = {"key": self._fingerprint, "lines": self.lines, "mac": self._mac.hex()}
        text = json.dumps(values, separators=(",", ":")).encode("ascii")
        _write_whole(self.anchor, text + b" " + self._seal(b"anchor", text).hex().encode("ascii") + b"\n")

    def _seal(self, label: bytes, message: bytes) -> bytes:
        return hmac.digest(self._key, label + message, hashlib.sha256)


def _write_whole(path: Path, content: bytes) -> None:
    """The file is the old one or the new one at any time, after a power loss too."""
    scratch = path.with_name(path.name + ".new")
    try:
        handle = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        scratch.replace(path)
    except OSError:
        scratch.unlink(missing_ok=True)
        raise


def _sync_folder(folder: Path) -> None:
    """A new file's name is on the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _free_name(path: Path) -> Path:
    """`PATH.damaged-1`, or the next that is free."""
    number = 1
    while (free := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    return free
