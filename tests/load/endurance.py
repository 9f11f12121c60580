"""Long and hard runs: memory over time, more requests than can be answered, and a service that is killed under load.

for sample in soak(export, seconds=600): ...
overload(export, seconds=10)
crash(export, kills=3)
"""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import uvloop
from tests.load.cases import Batch, Case, make_batches, make_cases
from tests.load.clients import Outcome, closed_loop
from tests.load.service import UNLIMITED, Service

CLIENTS = 16


@dataclass(frozen=True)
class Sample:
    """One part of a soak."""

    minutes: float
    """Since the beginning, at its end."""
    resident_mb: float
    per_second: float
    p99_ms: float
    refused: int
    wrong: int


def soak(export: Path, *, seconds: float, parts: int = 20) -> Iterator[Sample]:
    """Steady load of 16 clients, single uploads and batches; a sample at the end of each part."""
    single = make_cases(export)
    cases: list[Case | Batch] = [*single, *make_batches(export, single, 4)]
    with Service(export, *UNLIMITED) as service:
        for part in range(1, parts + 1):
            length = seconds / parts
            found = uvloop.run(closed_loop([service.port], cases, clients=CLIENTS, seconds=length))
            yield Sample(
                part * length / 60,
                service.resident_mb,
                found.per_second,
                found.quantile(0.99),
                found.statuses.total() - found.statuses[200],
                found.wrong,
            )


DEADLINE_MS = 250


def overload(export: Path, *, seconds: float, clients: int = 512) -> tuple[Outcome, Outcome]:
    """As many clients as the service has room for, then far more: some are answered in time, the others refused.

    None of them pauses; the deadline is short.
    """
    cases = make_cases(export)
    flags = (*UNLIMITED, "--queue", "64", "--deadline-ms", str(DEADLINE_MS), "--connections", "2000")
    with Service(export, *flags) as service:
        best, many = (
            uvloop.run(closed_loop([service.port], cases, clients=number, seconds=seconds))
            for number in (2 * CLIENTS, clients)
        )
    return best, many


def crash(export: Path, *, kills: int, seconds: float = 2.0) -> Outcome:
    """kill -9 under load and a new start on the same port, several times; clients go on asking all the while."""
    cases = make_cases(export)

    async def run() -> Outcome:
        service = await asyncio.to_thread(Service, export, *UNLIMITED)
        port, length = service.port, (kills + 1) * (seconds + 2.0)
        load = asyncio.create_task(closed_loop([port], cases, clients=CLIENTS, seconds=length))
        for _ in range(kills):
            await asyncio.sleep(seconds)
            await asyncio.to_thread(service.__exit__, None, None, None)
            service = await asyncio.to_thread(lambda: Service(export, *UNLIMITED, port=port))
        try:
            return await load
        finally:
            service.__exit__(None, None, None)

    return uvloop.run(run())
