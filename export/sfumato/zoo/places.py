"""Where a zoo lies: a folder, or a web server that hands out its files. Standard library alone: the base has no HTTP client.

    place = open_place("https://models.example/zoo")
    place.read("index.json", largest=2**22)

What is read is bytes that nobody has looked at: who asks compares them with an index before anything opens them. No more than
`largest` bytes are taken, for no longer than `DEADLINE`, over no more than `REDIRECTS` redirects, and none leads from https to
http or to another kind of address.
"""

import urllib.error
import urllib.request
from abc import ABC, abstractmethod
from dataclasses import dataclass
from http.client import HTTPException, HTTPMessage
from pathlib import Path
from time import monotonic
from typing import IO, Any
from urllib.parse import urlsplit
from urllib.request import Request, url2pathname

from sfumato.core.errors import SfumatoError, UsageError, first_line
from sfumato.core.files import read_inside

WAIT = 30.0
"""Seconds without a byte."""
DEADLINE = 600.0
"""Seconds for one file."""
REDIRECTS = 5
CHUNK = 2**16


class Place(ABC):
    """Somewhere that has the files of a zoo."""

    @abstractmethod
    def read(self, name: str, *, largest: int) -> bytes:
        """A file, `index.json` or `NAME/contract.json`.

        Raises:
            SfumatoError: it is not there, is larger than `largest` bytes, or the transfer broke off.
        """

    @abstractmethod
    def where(self, name: str) -> str:
        """A file for an error's line."""


@dataclass(frozen=True)
class FolderPlace(Place):
    """A zoo in a folder."""

    folder: Path

    def read(self, name: str, *, largest: int) -> bytes:
        """As `Place.read`; links are refused."""
        return read_inside(self.folder, name, largest=largest)

    def where(self, name: str) -> str:
        """As `Place.where`."""
        return str(self.folder / name)


class _Redirects(urllib.request.HTTPRedirectHandler):
    max_redirections = REDIRECTS

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> Request | None:
        """Only to web servers, and not from an encrypted to an open line."""
        old, new = urlsplit(req.full_url).scheme, urlsplit(newurl).scheme
        if new not in ("http", "https") or (old, new) == ("https", "http"):
            raise SfumatoError(f"{req.full_url} leads to another kind of address ({new}): it is not followed")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener() -> urllib.request.OpenerDirector:
    """A client that knows no `file:` and no `ftp:`."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.UnknownHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        _Redirects(),
    ):
        opener.add_handler(handler)
    return opener


@dataclass(frozen=True)
class WebPlace(Place):
    """A zoo on a web server."""

    address: str
    """Without a slash at the end."""

    def read(self, name: str, *, largest: int) -> bytes:
        """As `Place.read`."""
        where, ends = self.where(name), monotonic() + DEADLINE
        request = Request(where, headers={"User-Agent": "sfumato", "Accept-Encoding": "identity"})
        content = bytearray()
        try:
            with _opener().open(request, timeout=WAIT) as answer:
                told = answer.headers.get("Content-Length")
                while len(content) <= largest and (part := answer.read(CHUNK)):
                    content += part
                    if monotonic() > ends:
                        raise SfumatoError(f"{where} took longer than {DEADLINE:.0f} seconds")
        except urllib.error.HTTPError as error:
            error.close()
            raise SfumatoError(f"{where} cannot be fetched (HTTP {error.code})") from None
        except (OSError, HTTPException, ValueError) as error:
            raise SfumatoError(f"{where} cannot be fetched ({_reason(error)})") from None
        if len(content) > largest:
            raise SfumatoError(f"{where} is larger than it may be ({largest:,} bytes)")
        if told is not None and told.isdigit() and int(told) != len(content):
            raise SfumatoError(f"{where} broke off after {len(content):,} of {int(told):,} bytes: try again")
        return bytes(content)

    def where(self, name: str) -> str:
        """As `Place.where`."""
        return f"{self.address}/{name}"


def _reason(error: Exception) -> Any:
    return getattr(error, "reason", None) or first_line(error)


def open_place(text: str) -> Place:
    """A folder's path, or an address of `file:`, `http:` or `https:`.

    Raises:
        UsageError: another kind of address, or one with a question or a password.
        SfumatoError: there is no such folder.
    """
    address = "://" in text or text.startswith("file:")
    try:
        parts = urlsplit(text if address else "")
    except ValueError as error:
        raise UsageError(f"--from is no address: {error}") from None
    scheme = parts.scheme
    if scheme in ("http", "https"):
        if not parts.hostname or parts.query or parts.fragment or "@" in parts.netloc:
            raise UsageError("--from takes the address of a folder, https://HOST/PATH, and nothing behind it")
        return WebPlace(text.rstrip("/"))
    if (address and scheme != "file") or parts.netloc not in ("", "localhost"):
        raise UsageError(f"--from {scheme}://...: known are a folder, file:///PATH, http: and https:")
    folder = Path(url2pathname(parts.path) if address else text)
    if not folder.is_dir():
        raise SfumatoError(f"{folder} is no folder: give --from the folder or address of a zoo")
    return FolderPlace(folder)
