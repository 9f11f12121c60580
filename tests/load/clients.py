"""Clients that each send one request after the other over a connection of their own, on one event loop.

A load generator in Python must do little: requests are ready-made bytes, an answer is cut at its Content-Length.

    outcome = await closed_loop(port, cases, clients=64, seconds=5)
    outcome.per_second, outcome.quantile(0.99)
"""

import asyncio
import contextlib
import re
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

import numpy as np
from tests.load.cases import Batch, Case

LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)
LAST = re.compile(rb"\r\nconnection: close\r\n", re.IGNORECASE)
CUT_OFF = 0
"""Stands for a status where the connection broke."""


class Connection(asyncio.Protocol):
    """One connection: a request, its answer, the next request."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[tuple[int, bytes]] | None = None
        self._held = b""
        self.last = False
        """Whether the service said that it takes no more requests here."""

    @classmethod
    async def open(cls, port: int, host: str = "127.0.0.1") -> "Connection":
        """Connect.

        Raises:
            OSError: nobody listens.
        """
        _, protocol = await asyncio.get_running_loop().create_connection(cls, host, port)
        return protocol

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        """Status and body of the answer.

        Raises:
            ConnectionError: the connection broke.
        """
        if self.transport is None or self.transport.is_closing():
            raise ConnectionResetError
        self._answer = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return await self._answer

    def close(self) -> None:
        """Hang up."""
        if self.transport is not None:
            self.transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """As asyncio calls it."""
        self.transport = cast(asyncio.Transport, transport)  # uvloop's own classes do not inherit

    def data_received(self, data: bytes) -> None:
        """As asyncio calls it."""
        self._held += data
        end = self._held.find(b"\r\n\r\n")
        found = LENGTH.search(self._held, 0, end) if end >= 0 else None
        if found is None:
            # In chunks, as Ray Serve refuses: nobody looks at those bodies, so they stay as they are.
            if end < 0 or not self._held.endswith(b"\r\n0\r\n\r\n"):
                return
            whole = len(self._held)
        else:
            whole = end + 4 + int(found[1])
        if len(self._held) >= whole and self._answer is not None and not self._answer.done():
            self.last = LAST.search(self._held, 0, end + 2) is not None
            self._answer.set_result((int(self._held[9:12]), self._held[end + 4 : whole]))
            self._held = b""

    def connection_lost(self, exc: Exception | None) -> None:
        """As asyncio calls it."""
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionResetError())


@dataclass
class Outcome:
    """What became of the requests of one run."""

    statuses: Counter[int] = field(default_factory=Counter)
    wrong: int = 0
    """Answers with 200 that are not the network's own."""
    uploads: int = 0
    """Uploads with a right answer."""
    seconds: float = 0.0
    waits: list[float] = field(default_factory=list)
    """Seconds from request to answer, of those answered with 200."""

    def add(self, other: "Outcome") -> None:
        """Let another run of the same kind count too."""
        self.statuses += other.statuses
        self.wrong += other.wrong
        self.uploads += other.uploads
        self.seconds += other.seconds
        self.waits += other.waits

    @property
    def per_second(self) -> float:
        """Uploads with a right answer, a second."""
        return self.uploads / self.seconds

    def quantile(self, share: float) -> float:
        """Milliseconds within which this share of the answers came."""
        return 1000 * float(np.quantile(self.waits, share)) if self.waits else float("nan")


async def closed_loop(
    ports: Sequence[int],
    cases: Sequence[Case | Batch],
    *,
    clients: int,
    seconds: float,
    host: str = "127.0.0.1",
    heed: bool = False,
) -> Outcome:
    """`clients` connections, spread over `ports`, each asking again as soon as it is answered; broken ones are opened anew.

    With `heed` a client that is refused waits a second, as Retry-After asks.
    """
    outcome, start = Outcome(), time.perf_counter()

    async def client(number: int) -> None:
        connection: Connection | None = None
        turn = number
        while time.perf_counter() - start < seconds:
            case, turn = cases[turn % len(cases)], turn + clients
            begun = time.perf_counter()
            try:
                connection = connection or await Connection.open(ports[number % len(ports)], host)
                status, body = await connection.ask(case.request)
            except OSError:
                outcome.statuses[CUT_OFF] += 1
                connection = None
                await asyncio.sleep(0.05)
                continue
            outcome.statuses[status] += 1
            if status == 200:
                outcome.waits.append(time.perf_counter() - begun)
                right = case.right(body)
                outcome.wrong += not right
                outcome.uploads += case.uploads if right else 0
            if connection.last:
                connection.close()
                connection = None
            if status == 503 and heed:
                await asyncio.sleep(1.0)
        if connection is not None:
            connection.close()

    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.gather(*(client(number) for number in range(clients)))
    outcome.seconds = time.perf_counter() - start
    return outcome
