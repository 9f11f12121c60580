"""What no client should send: damaged uploads, endless bodies, slow clients, crowds.

    report = malformed(export, count=2000)
    report = hostile(export, connections=2000)
    report.failures             # empty: the service held

Each case names the statuses that are right for it. After each kind an ordinary upload must be answered as ever.
"""

import asyncio
import io
import json
import random
import socket
import struct
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvloop
from PIL import Image
from tests.fuzz.mutation import mutate, png
from tests.load.cases import FORMS, Case, make_cases, request, waves
from tests.load.clients import CUT_OFF, Connection
from tests.load.service import UNLIMITED, Service

from sfumato.runtime.contract import read_contract

TYPES = (
    "image/jpeg",
    "image/gif",
    "text/plain",
    "image/png, image/png",
    "multipart/form-data; boundary=x",
    "a" * 300,
)
HEADERS = (
    *("Content-Length: 99999999999999999999\r\n", "Content-Length: -1\r\n", "Content-Encoding: gzip\r\n"),
    *("Transfer-Encoding: chunked\r\n", "Bad header\r\n", "\0: x\r\n"),
)
REFUSED = range(400, 500)
GIGABYTE = 10**9


@dataclass(frozen=True)
class Figure:
    """One attack: what it took, and how it was for an ordinary client meanwhile."""

    attack: str
    before_mb: float
    """Memory of the process when it began."""
    peak_mb: float
    asked: int
    """Uploads (photos, at a gateway) of the ordinary client while it ran."""
    refused: int
    """Those without a right answer."""
    slowest: float
    """Longest wait of the ordinary client, in seconds."""


@dataclass
class Report:
    """Result of a run."""

    answers: Counter[tuple[str, int]] = field(default_factory=Counter)
    """(kind of case, status) -> how often; status 0: the connection was closed without one."""
    failures: list[str] = field(default_factory=list)
    """One line each; empty: the service held."""
    resident_mb: float = 0.0
    """Memory of the service at the end."""
    figures: list[Figure] = field(default_factory=list)
    """Of `hostile`, one an attack."""

    def note(self, kind: str, status: int, right: Sequence[int]) -> None:
        """Count an answer, and whether it may be."""
        self.answers[kind, status] += 1
        if status not in right:
            self.failures.append(f"{kind}: answered {status}")


def malformed(export: Path, *, count: int, seed: int = 0) -> Report:
    """`count` uploads that are none, one connection each."""
    contract, (case, *_) = read_contract(export), make_cases(export, count=1, form="png")
    rng, part = random.Random(seed), contract.upload
    digest = case.request.partition(b"Sfumato-Contract: ")[2][:64].decode()

    def make() -> tuple[str, bytes, Sequence[int]]:
        """Kind, request, right statuses."""
        kind = rng.choice(
            ("damaged", "other picture", "bomb", "packed", "type", "contract", "headers", "noise")
        )
        plain = {"content_type": FORMS["png"], "digest": digest}
        if kind == "damaged":  # a change that the checksums do not cover may leave it valid
            body = mutate(case.body, rng)
            return kind, request(body, **plain), (200, *REFUSED)
        if kind == "other picture":
            size = rng.choice(
                ((1, 1), (part.width + 1, part.height), (part.width, 2 * part.height), (2**16, 0))
            )
            return (
                kind,
                request(png(*size, rng.choice((1, 2, 4, 8, 16)), rng.choice((0, 2, 4, 6)), 0), **plain),
                REFUSED,
            )
        if kind == "bomb":
            return kind, request(bomb(part.width, part.height, part.bit_depth), **plain), REFUSED
        if kind == "packed":
            body = rng.randbytes(rng.choice((0, 1, 100, len(case.body) // 2, 1999)))
            return kind, request(body, FORMS["packed"], digest), REFUSED
        if kind == "type":
            return kind, request(case.body, rng.choice(TYPES), digest), REFUSED
        if kind == "contract":
            return (
                kind,
                request(case.body, FORMS["png"], rng.choice(("", "0" * 64, "x", digest[:-1] + "~"))),
                REFUSED,
            )
        if kind == "headers":
            return kind, request(case.body, **plain, more=rng.choice(HEADERS)), (CUT_OFF, *REFUSED)
        return kind, rng.randbytes(rng.randrange(1, 400)) + b"\r\n\r\n", (CUT_OFF, *REFUSED)

    report = Report()

    async def run(port: int) -> None:
        for _ in range(count):
            kind, content, right = make()
            report.note(kind, await once(port, content), right)
        await still_answers(port, case, report, "malformed uploads")

    with Service(export, *UNLIMITED, "--header-seconds", "1", "--body-seconds", "1") as service:
        uvloop.run(run(service.port))
        report.resident_mb = service.resident_mb
    return report


PATIENCE = ("--header-seconds", "1", "--body-seconds", "1", "--drain-seconds", "1")
"""Of the service in `hostile`, so that it takes seconds."""
LIMIT = 500
"""Connections that the service takes in `hostile`."""
TOO_SLOW = 4.0
"""Seconds after which a slow client must be rid of."""
ALLOWED_MB = 300.0
"""Most memory of the process under any attack."""
STRANGER = "127.0.0.2" if sys.platform == "linux" else "127.0.0.1"
"""Where attacks come from: another address than that of the ordinary client."""
TOKENS = {"app": "0123456789abcdef-app", "stranger": "0123456789abcdef-stranger"}
WASM = "/page/vendor/wasm/litert_wasm_internal.wasm"


Attack = Callable[[int], Awaitable[None]]
"""Is given the port."""


async def under_attack(
    service: Service, name: str, attack: Attack, ordinary: "Ordinary", report: Report
) -> None:
    """Run an attack while an ordinary client asks; what may not be is a failure."""
    service.forget_peak()
    before, refused = service.resident_mb, 0
    waits: list[float] = []
    running = asyncio.ensure_future(attack(service.port))
    while not running.done() or len(waits) < 5:
        start = time.perf_counter()
        refused += not await ordinary(service.port)
        waits.append(time.perf_counter() - start)
        await asyncio.sleep(0.05)
    await running
    figure = Figure(name, before, service.peak_mb, len(waits), refused, max(waits))
    report.figures.append(figure)
    if refused:
        report.failures.append(f"{name}: {refused} of {len(waits)} ordinary requests had no right answer")
    if figure.peak_mb > ALLOWED_MB:
        report.failures.append(f"{name}: {figure.peak_mb:.0f} MB")
    if not service.alive:
        report.failures.append(f"{name}: the process ended")


Ordinary = Callable[[int], Awaitable[bool]]
"""Asks once, on a connection of its own; whether the answer is right."""


def asks(content: bytes, right: Callable[[bytes], bool]) -> Ordinary:
    """An ordinary client that sends these bytes."""

    async def ask(port: int) -> bool:
        try:
            async with asyncio.timeout(10):
                connection = await Connection.open(port)
                status, body = await connection.ask(content)
                connection.close()
        except (OSError, TimeoutError):
            return False
        return status == 200 and right(body)

    return ask


def with_token(content: bytes, name: str) -> bytes:
    """A request with a token."""
    line, _, rest = content.partition(b"\r\n")
    return line + f"\r\nAuthorization: Bearer {TOKENS[name]}\r\n".encode() + rest


def tokens() -> dict[str, str]:
    """As the environment of a service."""
    return {"SFUMATO_TOKENS": "\n".join(f"{name} {token}" for name, token in TOKENS.items())}


def hostile(
    export: Path, *, connections: int, slow: int = 100, seconds: float = 5.0, gateway: bool = True
) -> Report:
    """Clients that do not read, do not send, send without end or come in crowds; an ordinary client asks all the while.

    Args:
        export: what is served.
        connections: of the crowd.
        slow: clients of each kind that hold something.
        seconds: how long they hold it.
        gateway: whether the gateway is attacked too.
    """
    report, (case, *_) = Report(), make_cases(export, count=1)
    stranger = with_token(case.request, "stranger")
    head = stranger.partition(b"\r\n\r\n")[0] + b"\r\n"
    bare = head.replace(b"Content-Length: %d\r\n" % len(case.body), b"")
    chunked = bare + b"Transfer-Encoding: chunked\r\n\r\n"
    unread = get("/openapi.json") * 1600
    tiny = head + b"a:\r\n" * 50_000 + b"\r\n"

    def flood(name: str, content: bytes, more: bytes, right: int) -> Attack:
        async def attack(port: int) -> None:
            report.note(name, await pour(port, content, more), (right,))

        return attack

    def slowly(name: str, content: bytes) -> Attack:
        async def attack(port: int) -> None:
            async with asyncio.TaskGroup() as group:
                for _ in range(slow):
                    group.create_task(trickle(port, content, report, name))

        return attack

    def many(name: str, content: bytes, right: Sequence[int]) -> Attack:
        async def attack(port: int) -> None:
            for status in await asyncio.gather(*(once(port, content, STRANGER) for _ in range(slow))):
                report.note(name, status, right)

        return attack

    attacks: dict[str, Attack] = {
        "answers of one connection unread": lambda port: deaf(port, unread, 1, seconds),
        "files unread": lambda port: deaf(port, get(WASM), slow, seconds),
        "slow headers": slowly("slow headers", head),
        "slow body": slowly("slow body", stranger),
        "1 GB declared": flood(
            "1 GB declared", bare + b"Content-Length: %d\r\n\r\n" % GIGABYTE, bytes(2**16), 413
        ),
        "1 GB in chunks": flood("1 GB in chunks", chunked, CHUNK, 413),
        "1 GB of headers": flood("1 GB of headers", head, b"X: " + b"y" * 2**12 + b"\r\n", 431),
        "1 GB of trailers": flood(
            "1 GB of trailers", chunked + b"0\r\n", b"X: " + b"y" * 2**12 + b"\r\n", 400
        ),
        "one trailer of 1 GB": flood("one trailer of 1 GB", chunked + b"0\r\nX: ", b"y" * 2**16, 400),
        "50,000 tiny headers": many("50,000 tiny headers", tiny, (431,)),
        "a crowd": lambda port: crowd(port, report, connections),
    }
    ordinary = asks(with_token(case.request, "app"), case.right)
    flags = ("--rate", "1000000", "--burst", "1000000", *PATIENCE, "--connections", f"{LIMIT}")
    with Service(export, *flags, variables=tokens()) as service:
        for name, attack in attacks.items():
            uvloop.run(under_attack(service, name, attack, ordinary, report))
        report.resident_mb = service.resident_mb
    if gateway:
        attack_gateway(export, report, slow=slow, seconds=seconds)
    return report


def attack_gateway(export: Path, report: Report, *, slow: int, seconds: float) -> None:
    """Photos that never end, and small files that unpack to large pictures; an ordinary camera asks all the while."""
    photo = jpeg(Image.fromarray(waves(0, 300, 400)))
    unfinished = photo_request(b"", "stranger", length=20_000_000) + bytes(20_000_000 - 1)
    bombs = {
        "WebP of 40 megapixels": (webp_bomb(), "image/webp"),
        "progressive JPEG of 120 megapixels": (jpeg_bomb(), "image/jpeg"),
    }

    def bombard(name: str, content: bytes, kind: str) -> Attack:
        async def attack(port: int) -> None:
            until = time.perf_counter() + seconds
            while time.perf_counter() < until:
                found = await asyncio.gather(
                    *(once(port, photo_request(content, "stranger", kind), STRANGER) for _ in range(8))
                )
                for status in found:
                    report.note(name, status, (422, 503))

        return attack

    attacks: dict[str, Attack] = {
        f"{slow} photos of 20 MB, unfinished": lambda port: deaf(port, unfinished, slow, seconds),
        **{name: bombard(name, *bomb) for name, bomb in bombs.items()},
    }
    ordinary = asks(photo_request(photo, "app"), lambda body: "answers" in json.loads(body))
    with tempfile.TemporaryDirectory() as folder, Service(export, *UNLIMITED) as service:
        key = Path(folder, "key")
        key.write_text(bytes(range(32)).hex())
        key.chmod(0o600)
        flags = ("--gateway", "--server", f"http://127.0.0.1:{service.port}", "--key", str(key), *UNLIMITED)
        with Service(export, *flags, variables=tokens()) as gateway:
            for name, attack in attacks.items():
                uvloop.run(under_attack(gateway, name, attack, ordinary, report))


def get(path: str) -> bytes:
    """A request for a path."""
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()


def photo_request(content: bytes, token: str, kind: str = "image/jpeg", length: int | None = None) -> bytes:
    """A photo for a gateway."""
    length = len(content) if length is None else length
    return (
        f"POST /v1/photo HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {TOKENS[token]}\r\n"
        f"Content-Type: {kind}\r\nContent-Length: {length}\r\n\r\n"
    ).encode() + content


def jpeg(picture: Image.Image, **options: Any) -> bytes:
    """Encoded as JPEG."""
    stream = io.BytesIO()
    picture.save(stream, "JPEG", **options)
    return stream.getvalue()


def jpeg_bomb(height: int = 12_000, width: int = 10_000) -> bytes:
    """A progressive JPEG of 16 x 16 whose header promises far more: a decoder makes room for all of it."""
    content = bytearray(jpeg(Image.new("RGB", (16, 16)), progressive=True))
    struct.pack_into(">HH", content, content.index(b"\xff\xc2") + 5, height, width)
    return bytes(content)


def webp_bomb(side: int = 6_300) -> bytes:
    """A white picture of 40 megapixels in a few kilobytes."""
    stream = io.BytesIO()
    Image.new("RGB", (side, side), "white").save(stream, "WEBP", lossless=True, method=0)
    return stream.getvalue()


async def deaf(port: int, content: bytes, count: int, seconds: float) -> None:
    """Connections that send all this and never read a byte."""

    async def one() -> None:
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.setblocking(False)
            client.bind((STRANGER, 0))
            try:
                async with asyncio.timeout(seconds):
                    await loop.sock_connect(client, ("127.0.0.1", port))
                    await loop.sock_sendall(client, content)
                    await asyncio.sleep(seconds)
            except (OSError, TimeoutError):
                pass  # it hung up on us: so it should

    loop = asyncio.get_running_loop()
    await asyncio.gather(*(one() for _ in range(count)))


CHUNK = b"10000\r\n" + bytes(2**16) + b"\r\n"


async def once(port: int, content: bytes, source: str = "127.0.0.1") -> int:
    """Send bytes, the status of what comes back; 0 if nothing does."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0))
    try:
        writer.write(content)
        return status_of(await asyncio.wait_for(reader.readline(), 20))
    except (OSError, TimeoutError):
        return CUT_OFF
    finally:
        writer.close()


async def trickle(port: int, content: bytes, report: Report, kind: str) -> None:
    """All but the last bytes at once, then one every half second, until the service has had enough."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(STRANGER, 0))
    start = time.perf_counter()
    writer.write(content[:-40])
    line = asyncio.create_task(reader.readline())
    for at in range(len(content) - 40, len(content) - 1):
        done, _ = await asyncio.wait([line], timeout=0.5)
        if done:
            break
        writer.write(content[at : at + 1])
    report.note(kind, status_of(await line), (408,))
    if time.perf_counter() - start > TOO_SLOW:
        report.failures.append(f"{kind}: borne for {time.perf_counter() - start:.1f} s")
    writer.close()


async def pour(port: int, head: bytes, more: bytes) -> int:
    """A head and then a gigabyte, as much of it as the service takes; the status it answers with.

    On a bare socket: once the service has hung up, a stream's next write would drop an answer that has already come.
    """
    loop = asyncio.get_running_loop()
    with socket.socket() as client:
        client.setblocking(False)
        client.bind((STRANGER, 0))
        await loop.sock_connect(client, ("127.0.0.1", port))
        line = asyncio.create_task(loop.sock_recv(client, 2**16))
        try:
            await loop.sock_sendall(client, head)
            for _ in range(GIGABYTE // len(more)):
                if line.done():
                    break
                await loop.sock_sendall(client, more)
                await asyncio.sleep(0)
        except OSError:
            pass  # it hung up on us, after it answered
        try:
            return status_of(await asyncio.wait_for(line, 20))
        except (OSError, TimeoutError):
            return CUT_OFF


async def crowd(port: int, report: Report, connections: int) -> None:
    """Open many connections that send nothing: those beyond the limit are refused at once, the others when they are late."""
    waiting = [asyncio.create_task(idle(port)) for _ in range(connections)]
    for status in await asyncio.gather(*waiting):
        report.note("crowd", status, (408, 503))
    if not report.answers["crowd", 503]:
        report.failures.append(f"crowd: none of {connections} were refused, the limit is {LIMIT}")


async def idle(port: int) -> int:
    """Connect and wait for an answer."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(STRANGER, 0))
    except OSError:
        return CUT_OFF
    try:
        return status_of(await asyncio.wait_for(reader.readline(), 60))
    except (OSError, TimeoutError):
        return CUT_OFF
    finally:
        writer.close()


async def still_answers(port: int, case: Case, report: Report, when: str) -> None:
    """An ordinary upload, asked ten times: the network's own answer each time, and soon."""
    for _ in range(10):
        start = time.perf_counter()
        connection = await Connection.open(port)
        status, body = await connection.ask(case.request)
        connection.close()
        waited = time.perf_counter() - start
        if status != 200 or not case.right(body) or waited > 2:
            report.failures.append(f"{when}: an ordinary upload was answered {status} after {waited:.2f} s")
        await asyncio.sleep(0.05)


def status_of(line: bytes) -> int:
    """Of a status line; 0 without one."""
    parts = line.split()
    return int(parts[1]) if len(parts) > 1 and parts[1].isdigit() else CUT_OFF


def bomb(width: int, height: int, depth: int) -> bytes:
    """A PNG with the right header whose data decompresses to a megabyte of zeros."""
    header = struct.pack(">IIBBBBB", width, height, depth, 2 if depth == 8 else 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(10**6), 9)), (b"IEND", b""))
    framed = (
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(framed)
