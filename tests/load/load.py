"""Throughput and waiting times under load, beside ONNX Runtime alone on the same machine in the same minute.

rows = load(export, clients=(1, 8, 64), seconds=5)
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import uvloop
from tests.load.cases import Case, make_batches, make_cases
from tests.load.clients import Outcome, closed_loop
from tests.load.service import UNLIMITED, Service

from sfumato.runtime.sampler import pictures
from sfumato.server.model import CloudModel
from sfumato.server.predict import predict_prepared, prepare
from sfumato.server.uploads import decode

BATCH = 16
TURNS = 4
"""Slices of each measurement, between slices of the network alone."""


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    name: str
    per_second: float
    share: float
    """Of what the network alone does, in turns with this row's runs: other work on the machine meets both alike."""
    cpu_ms: float
    """Processor time for an upload, the clients' not counted: it hardly depends on what else the machine does."""
    p50_ms: float | None = None
    p99_ms: float | None = None
    refused: int = 0
    wrong: int = 0


def load(
    export: Path, *, clients: Sequence[int], seconds: float, form: str | None, processes: int
) -> Iterator[Row]:
    """ONNX Runtime alone, then with the service's decoding and checks, then the service at each number of clients.

    `form` as for `make_cases`.
    The service is asked twice: with an upload a request, and with 16 ("x 16"). The network has one thread everywhere.
    """
    cases, cloud = make_cases(export, form=form), CloudModel.load(export)
    network = network_alone(cloud, cases)
    for name, work in (("network alone", network), ("with decoding", without_http(cloud, cases))):
        turns = [(rate(network, seconds / TURNS), rate(work, seconds / TURNS)) for _ in range(TURNS)]
        (reference, _), (per_second, cpu_ms) = (
            np.mean(figures, axis=0) for figures in zip(*turns, strict=True)
        )
        yield Row(name, per_second, per_second / reference, cpu_ms)
    with ExitStack() as stack:
        flags = (*UNLIMITED, "--batch", str(BATCH), "--queue", "2048")  # nothing is to be refused here
        services = [stack.enter_context(Service(export, *flags)) for _ in range(processes)]
        ports = [service.port for service in services]
        uvloop.run(closed_loop(ports, cases, clients=8, seconds=min(1.0, seconds)))  # warm
        several = f", {processes} services" if processes > 1 else ""
        forms = (("", cases), (f" x {BATCH}", make_batches(export, cases, BATCH)))
        for name, asked in forms:
            for number in clients:
                found, spent, reference = Outcome(), 0.0, 0.0
                for _ in range(TURNS):
                    reference += rate(network, seconds / TURNS / 2)[0] / TURNS
                    before = sum(service.cpu_seconds for service in services)
                    found.add(uvloop.run(closed_loop(ports, asked, clients=number, seconds=seconds / TURNS)))
                    spent += sum(service.cpu_seconds for service in services) - before
                refused = found.statuses.total() - found.statuses[200]
                yield Row(
                    f"{number} clients{several}{name}", found.per_second, found.per_second / reference,
                    1000 * spent / max(1, found.uploads), found.quantile(0.5), found.quantile(0.99), refused,
                    found.wrong,
                )  # fmt: skip


def network_alone(cloud: CloudModel, cases: Sequence[Case]) -> Callable[[], object]:
    """The network on a batch that lies ready: what nothing around it can beat."""
    channel = cloud.contract.channel
    shown = pictures([case.levels for case in cases[:BATCH]], bits=channel.bits, side=channel.side)
    return lambda: cloud.run(shown)


def without_http(cloud: CloudModel, cases: Sequence[Case]) -> Callable[[], object]:
    """All that the service does with a batch but for HTTP: decode, check, run, name the answers."""
    asked = cases[:BATCH]
    return lambda: predict_prepared(
        cloud, prepare(cloud, [decode(case.body, case.kind, cloud.contract) for case in asked])
    )


def rate(work: Callable[[], object], seconds: float) -> tuple[float, float]:
    """Uploads a second, and milliseconds of processor time for each, for work on a batch."""
    work()
    start, cpu, rounds = time.perf_counter(), time.thread_time(), 0
    while time.perf_counter() - start < seconds:
        work()
        rounds += 1
    uploads, spent = BATCH * rounds, time.thread_time() - cpu
    return uploads / (time.perf_counter() - start), 1000 * spent / uploads
