"""What no client should send: damaged uploads, endless bodies, slow clients, crowds.

    report = malformed(export, count=2000)
    report = hostile(export, connections=2000)
    report.failures             # empty: the service held

Each case names the statuses that are right for it. After each kind an ordinary upload must be answered as ever.
"""

import asyncio
import random
import socket
import struct
import time
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import uvloop
from tests.fuzz.mutation import mutate, png
from tests.load.cases import FORMS, Case, make_cases, request
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


@dataclass
class Report:
    """Result of a run."""

    answers: Counter[tuple[str, int]] = field(default_factory=Counter)
    """(kind of case, status) -> how often; status 0: the connection was closed without one."""
    failures: list[str] = field(default_factory=list)
    """One line each; empty: the service held."""
    resident_mb: float = 0.0
    """Memory of the service at the end."""

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


HEADER_SECONDS = BODY_SECONDS = 2.0
"""Patience of the service in `hostile`, so that it takes seconds."""
LIMIT = 500
"""Connections that the service takes in `hostile`."""


def hostile(export: Path, *, connections: int, slow: int = 100) -> Report:
    """Slow clients, bodies of a gigabyte, more connections than are taken; an ordinary client asks all the while."""
    report, (case, *_) = Report(), make_cases(export, count=1)
    head = case.request.partition(b"\r\n\r\n")[0] + b"\r\n"
    bare = head.replace(b"Content-Length: %d\r\n" % len(case.body), b"")
    huge = bare + b"Content-Length: %d\r\n\r\n" % GIGABYTE
    chunked = bare + b"Transfer-Encoding: chunked\r\n\r\n"

    async def run(port: int) -> None:
        trickles = {"slow headers": head, "slow body": case.request}
        for kind, content in trickles.items():
            async with asyncio.TaskGroup() as group:
                group.create_task(still_answers(port, case, report, f"during {kind}"))
                for _ in range(slow):
                    group.create_task(trickle(port, content, report, kind))
        floods = (
            ("1 GB declared", huge, bytes(2**16), 413),
            ("1 GB in chunks", chunked, CHUNK, 413),
            ("1 GB of headers", head, b"X: " + b"y" * 2**12 + b"\r\n", 431),
        )
        for kind, content, more, right in floods:
            report.note(kind, await pour(port, content, more), (right,))
            await still_answers(port, case, report, f"after {kind}")
        await crowd(port, report, connections)
        await asyncio.sleep(0.5)
        await still_answers(port, case, report, "after a crowd")

    flags = (
        "--header-seconds",
        f"{HEADER_SECONDS}",
        "--body-seconds",
        f"{BODY_SECONDS}",
        "--connections",
        f"{LIMIT}",
    )
    with Service(export, *UNLIMITED, *flags) as service:
        uvloop.run(run(service.port))
        report.resident_mb = service.resident_mb
        if not service.alive:
            report.failures.append("the service ended")
    return report


CHUNK = b"10000\r\n" + bytes(2**16) + b"\r\n"


async def once(port: int, content: bytes) -> int:
    """Send bytes, the status of what comes back; 0 if nothing does."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(content)
        return status_of(await asyncio.wait_for(reader.readline(), 20))
    except (OSError, TimeoutError):
        return CUT_OFF
    finally:
        writer.close()


async def trickle(port: int, content: bytes, report: Report, kind: str) -> None:
    """All but the last bytes at once, then one every half second, until the service has had enough."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    start = time.perf_counter()
    writer.write(content[:-40])
    line = asyncio.create_task(reader.readline())
    for at in range(len(content) - 40, len(content) - 1):
        done, _ = await asyncio.wait([line], timeout=0.5)
        if done:
            break
        writer.write(content[at : at + 1])
    report.note(kind, status_of(await line), (408,))
    if time.perf_counter() - start > HEADER_SECONDS + 3:
        report.failures.append(f"{kind}: borne for {time.perf_counter() - start:.1f} s")
    writer.close()


async def pour(port: int, head: bytes, more: bytes) -> int:
    """A head and then a gigabyte, as much of it as the service takes; the status it answers with.

    On a bare socket: once the service has hung up, a stream's next write would drop an answer that has already come.
    """
    loop = asyncio.get_running_loop()
    with socket.socket() as client:
        client.setblocking(False)
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
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
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
