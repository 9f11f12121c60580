"""The browser page: the files of `web/`, and the phone's half of the export that it runs.

    page = Page.load(Path("export"), contract)
    endpoints = page_endpoints(page)

GET /                  the page;  GET /page/NAME  its modules and LiteRT.js
GET /v1/phone/NAME     the int8 model, vectors.json, and the table of a gaussian channel or a randomised answer

Everything is read once and served from memory under the names it was found by, so no path can lead elsewhere. The page fetches
from its own address alone: the Content-Security-Policy allows nothing else. `scripts/build_page.py` (part of `make setup`) puts
LiteRT.js into `web/vendor/`. A service without it, or without the phone's files, works and says on `/` why it shows no page.
"""

import base64
import gzip
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from sfumato.core.errors import SfumatoError
from sfumato.runtime.contract import Contract, read_file
from sfumato.server.endpoints import JSON, Endpoint
from sfumato.server.problems import ProblemError

FOLDER = Path(__file__).parent / "web"
BUILT = "vendor/build.json"
INDEX = "index.html"
TYPES = {
    "bin": "application/octet-stream",
    "css": "text/css",
    "html": "text/html; charset=utf-8",
    "js": "text/javascript",
    "json": "application/json",
    "svg": "image/svg+xml",
    "tflite": "application/octet-stream",
    "wasm": "application/wasm",
}
"""Content type by a name's ending: the machine's own list may not know WebAssembly, without which no browser compiles it."""
DENIED = "geolocation=(), display-capture=(), usb=(), payment=()"
"""What no page of ours asks for."""
PIECE = 65_536
"""Bytes of a file that are written at a time: the next ones wait until these have left for a slow reader."""
FILE = {"Cross-Origin-Resource-Policy": "same-origin", "Cache-Control": "no-cache"}
"""On every file: for this origin alone, and asked about again each time (the answer is 304)."""


@dataclass(frozen=True)
class Asset:
    """One file, as it is served."""

    content: bytes
    media_type: str
    tag: str
    zipped: bool = False
    """`content` is compressed with gzip."""

    @cached_property
    def plain(self) -> bytes:
        """The content for who does not take gzip: unpacked once, by the first who asks, for all."""
        return gzip.decompress(self.content) if self.zipped else self.content


@dataclass(frozen=True)
class Page:
    """All files of the page, or the reason why there is none."""

    files: Mapping[str, Asset] = field(default_factory=dict)
    """Name below `/page/` -> file."""
    phone: Mapping[str, Asset] = field(default_factory=dict)
    """Name below `/v1/phone/` -> file."""
    missing: str = ""
    """Why there is no page; empty where there is one."""
    sound: bool = False
    """The model takes recordings: the page may ask for the microphone, and not for the camera."""

    @classmethod
    def load(cls, export: Path, contract: Contract) -> "Page":
        """Read the page and the phone's half of an export. What is missing stands in `missing`, no error is raised."""
        if not (FOLDER / BUILT).exists():
            return cls(missing="it was not built: install node and npm, then run make setup")
        try:
            phone = {name: read_phone_file(export, contract, name) for name in phone_files(contract)}
        except SfumatoError as error:
            return cls(missing=f"{error}; the page needs the phone's files of the export")
        files = {name: read_asset(path) for name, path in page_files().items()}
        return cls(files, phone, sound=contract.sound is not None)

    @property
    def document(self) -> dict[str, str]:
        """Headers of the page itself."""
        camera, microphone = ("()", "(self)") if self.sound else ("(self)", "()")
        return {
            "Content-Security-Policy": self.policy,
            "Cross-Origin-Opener-Policy": "same-origin",
            "Permissions-Policy": f"camera={camera}, microphone={microphone}, {DENIED}",
        }

    @property
    def policy(self) -> str:
        """Content-Security-Policy of the page: its own scripts, WebAssembly, its own service, and nothing else."""
        scripts = re.findall(
            rb"<script type=\"importmap\">(.*?)</script>", self.files[INDEX].content, re.DOTALL
        )
        hashes = " ".join(
            f"'sha256-{base64.b64encode(hashlib.sha256(text).digest()).decode()}'" for text in scripts
        )
        return (
            f"default-src 'none'; script-src 'self' 'wasm-unsafe-eval' {hashes}; style-src 'self'; img-src 'self'; "
            "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )


def page_files() -> dict[str, Path]:
    """Name below `/page/` -> file; a compressed one is named as if it were not."""
    found = (path for path in sorted(FOLDER.rglob("*")) if path.is_file())
    return {path.relative_to(FOLDER).as_posix().removesuffix(".gz"): path for path in found}


def phone_files(contract: Contract) -> list[str]:
    """The files of an export that a browser needs to perturb, and to check that it does so rightly."""
    tables = ["normal_table.bin"] if contract.channel.name == "gaussian" else []
    if contract.answer is not None and contract.answer.table is not None:
        tables.append(contract.answer.table)
    return [contract.model("int8").file, "vectors.json", *tables]


def read_phone_file(export: Path, contract: Contract, name: str) -> Asset:
    """A file of the export, if it is the one that the contract names.

    Raises:
        SfumatoError: missing, changed, or not for phones.
    """
    entry = contract.file(name)
    if entry.role != "phone":
        raise SfumatoError(f"{name} is not for phones")
    return Asset(read_file(export, entry), media_type(name), f'"{entry.sha256}"')


def read_asset(path: Path) -> Asset:
    """A file of the page."""
    content, zipped = path.read_bytes(), path.suffix == ".gz"
    name = path.name.removesuffix(".gz")
    return Asset(content, media_type(name), f'"{hashlib.sha256(content).hexdigest()}"', zipped)


def media_type(name: str) -> str:
    """Content type by the name's ending."""
    return TYPES[name.rpartition(".")[2]]


def page_endpoints(page: Page) -> list[Endpoint]:
    """GET /, /page/NAME and /v1/phone/NAME. No token: all of it ships in every app."""

    async def index(request: Request) -> Response:
        if page.missing:
            raise ProblemError("no-page", page.missing)
        return await file_response(request, page.files.get(INDEX), page.document)

    async def page_file(request: Request) -> Response:
        return await file_response(request, page.files.get(request.path_params["name"]))

    async def phone(request: Request) -> Response:
        return await file_response(request, page.phone.get(request.path_params["name"]))

    name = {"type": "string", "examples": [next(iter(page.phone), "local_int8.tflite")]}
    return [
        Endpoint(path="/", respond=index),
        Endpoint(path="/page/{name:path}", respond=page_file),
        Endpoint(
            path="/v1/phone/{name}",
            respond=phone,
            summary="A file of the phone's half",
            description="The int8 model, vectors.json or a table, as the contract names them. "
            "The ETag is the file's sha256.",
            refusals=("no-file",),
            content={"application/octet-stream": {}, JSON: {}},
            operation={
                "parameters": [{"name": "name", "in": "path", "required": True, "schema": name}],
                "responses": {"304": {"description": "Not changed"}},
            },
        ),
    ]


async def file_response(
    request: Request, asset: Asset | None, headers: Mapping[str, str] | None = None
) -> Response:
    """The response that is a file.

    Raises:
        ProblemError: there is none.
    """
    if asset is None:
        raise ProblemError("no-file", "no file of this name is served")
    headers = {**FILE, **(headers or {}), "ETag": asset.tag, "Vary": "Accept-Encoding"}
    if request.headers.get("if-none-match") == asset.tag:
        return Response(status_code=304, headers=headers)
    packed = asset.zipped and "gzip" in request.headers.get("accept-encoding", "")
    if packed:
        headers["Content-Encoding"] = "gzip"
    return Pieces(asset.content if packed else asset.plain, media_type=asset.media_type, headers=headers)


class Pieces(Response):
    """A response whose body is written piece by piece, out of memory that all requests share."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it, as fast as the client reads."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        body = memoryview(self.body)
        for at in range(0, max(1, len(body)), PIECE):
            more = at + PIECE < len(body)
            await send({"type": "http.response.body", "body": body[at : at + PIECE], "more_body": more})
