"""Metrics for Prometheus, and log lines in JSON that hold nothing of any image.

A line holds method, route, status, time, bytes, and the name behind the token. It holds neither the upload nor the answer, no
address, no query and no header.

    telemetry = Telemetry()                     # or Telemetry(place): summed over the processes of a service
    app.add_middleware(Watch, telemetry=telemetry)

Counting is a part of every answer: numbers lie in plain memory (`shared`) and become Prometheus' own objects when they are
read.
"""

import json
import logging
import random
import sys
import time
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TextIO

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
)
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sfumato.server.shared import CELLS, Cells, Place

SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
SIZES = (1, 2, 4, 8, 16, 32, 64)
HEADERS = {
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
    b"cache-control": b"no-store",
    b"content-security-policy": b"default-src 'none'; frame-ancestors 'none'",
}
"""On every answer that does not set them itself."""
METHODS = ("GET", "HEAD", "POST", "OPTIONS")
"""Others are counted as one: a client may invent them."""

logger = logging.getLogger("sfumato.server.app")


class Number:
    """A counter or a gauge with one set of labels."""

    def __init__(self, cells: Cells, *name: str) -> None:
        self._values, self._at = cells.values, cells.find(*name)

    def inc(self, amount: float = 1.0) -> None:
        """Add to it."""
        self._values[self._at] += amount

    def dec(self, amount: float = 1.0) -> None:
        """Take from it: for gauges."""
        self._values[self._at] -= amount

    def set(self, value: float) -> None:
        """For gauges."""
        self._values[self._at] = value


class Distribution:
    """How many observations fell below each bound, and their sum, for one set of labels."""

    def __init__(self, bounds: Sequence[float], cells: Cells, *name: str) -> None:
        self._bounds, self._values = bounds, cells.values
        self._places = [cells.find(*name, str(at)) for at in range(len(bounds) + 1)]
        self._sum = cells.find(*name, "sum")

    def observe(self, value: float) -> None:
        """Count one."""
        self._values[self._places[bisect_left(self._bounds, value)]] += 1.0
        self._values[self._sum] += value


class Counters:
    """Counters of one name, one for each set of labels."""

    def __init__(self, cells: Cells, name: str, says: str, labels: tuple[str, ...] = ()) -> None:
        self._cells, self.name, self.says, self.names = cells, name, says, labels
        self._found: dict[tuple[str, ...], Number] = {}

    def labels(self, *labels: str) -> Number:
        """The one with these labels."""
        found = self._found.get(labels)
        if found is None:
            found = self._found[labels] = Number(self._cells, self.name, *labels)
        return found

    def family(self, values: Iterable[tuple[list[str], float]]) -> Metric:
        """For Prometheus."""
        found = CounterMetricFamily(self.name, self.says, labels=self.names)
        for labels, value in values:
            found.add_metric(labels, value)
        return found


class Histograms:
    """Distributions of one name, one for each set of labels."""

    def __init__(
        self, cells: Cells, name: str, says: str, bounds: Sequence[float], labels: tuple[str, ...] = ()
    ) -> None:
        self._cells, self.name, self.says, self.bounds, self.names = cells, name, says, bounds, labels
        self._found: dict[tuple[str, ...], Distribution] = {}

    def labels(self, *labels: str) -> Distribution:
        """The one with these labels."""
        found = self._found.get(labels)
        if found is None:
            found = self._found[labels] = Distribution(self.bounds, self._cells, self.name, *labels)
        return found

    def family(self, values: Iterable[tuple[list[str], float]]) -> Metric:
        """For Prometheus, whose buckets hold what is below their bound, smaller ones included."""
        found = HistogramMetricFamily(self.name, self.says, labels=self.names)
        rows: dict[tuple[str, ...], dict[str, float]] = {}
        for labels, value in values:
            rows.setdefault(tuple(labels[:-1]), {})[labels[-1]] = value
        for each, row in rows.items():
            buckets, total = list[tuple[str, float]](), 0.0
            for at, bound in enumerate([*map(float, self.bounds), "+Inf"]):
                total += row.get(str(at), 0.0)
                buckets.append((str(bound), total))
            found.add_metric(list(each), buckets, row.get("sum", 0.0))
        return found


class Gauges:
    """A gauge: what each process holds now, summed."""

    def __init__(self, cells: Cells, name: str, says: str) -> None:
        self.name, self.says = name, says
        self.number = Number(cells, name)
        self.number.set(0)  # a process that was killed left its own

    def family(self, values: Iterable[tuple[list[str], float]]) -> Metric:
        """For Prometheus."""
        return GaugeMetricFamily(self.name, self.says, sum(value for _, value in values))


class Telemetry(Collector):
    """The metrics of one application.

    Args:
        place: which of a service's processes this is; None: there is one.
    """

    def __init__(self, place: Place | None = None) -> None:
        self._memory = place.memory if place else None
        self._cells = cells = (
            place.memory.cells(place.number) if place else Cells(memoryview(bytearray(CELLS)))
        )
        labels = ("route", "method", "status")
        self.requests = Counters(cells, "sfumato_requests", "Requests", labels)
        self.refusals = Counters(cells, "sfumato_refusals", "Refused requests, by problem", ("kind",))
        self.uploads = Counters(
            cells, "sfumato_uploads", "Uploads that were read, by encoding", ("encoding",)
        )
        self.restarts = Counters(cells, "sfumato_restarts", "Processes that ended and were started again")
        seconds = Histograms(
            cells, "sfumato_request_seconds", "From the request's headers to the answer", SECONDS, ("route",)
        )
        waited = Histograms(cells, "sfumato_queue_seconds", "An upload's time in the queue", SECONDS)
        ran = Histograms(cells, "sfumato_network_seconds", "The network, a batch", SECONDS)
        sizes = Histograms(cells, "sfumato_batch_size", "Uploads a batch", SIZES)
        waiting = Gauges(cells, "sfumato_queue_length", "Uploads that wait")
        active = Gauges(cells, "sfumato_requests_active", "Requests that are being answered")
        self.seconds, self.waited, self.ran, self.sizes = (
            seconds,
            waited.labels(),
            ran.labels(),
            sizes.labels(),
        )
        self.waiting, self.active = waiting.number, active.number
        self._families: tuple[Counters | Histograms | Gauges, ...] = (
            self.requests, self.refusals, self.uploads, self.restarts, seconds, waited, ran, sizes, waiting, active,
        )  # fmt: skip
        self.model: Mapping[str, str] = {}
        """What answers, by name."""
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def collect(self) -> Iterator[Metric]:
        """The metrics as Prometheus has them, over all processes."""
        found: dict[str, list[tuple[list[str], float]]] = {}
        for key, value in (self._memory.sums() if self._memory else self._cells.read()).items():
            name, *labels = json.loads(key)
            found.setdefault(name, []).append((labels, value))
        for family in self._families:
            yield family.family(found.get(family.name, ()))
        yield InfoMetricFamily("sfumato_model", "What answers", value=dict(self.model))

    def text(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self._registry)


class Watch:
    """ASGI middleware: a request id, one log line and the metrics of every request, headers on every answer."""

    def __init__(self, app: ASGIApp, telemetry: Telemetry) -> None:
        self.app, self.telemetry = app, telemetry
        self._ids = random.Random()  # a request id is no secret, and the system's own cost a call each
        """Seeded by the system, in each process."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, count and log its answer."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start, status, sent = time.perf_counter(), 500, 0
        state: dict[str, Any] = scope.setdefault("state", {})
        own = "request_id" not in state  # else a server around this one gave the request its id, and says it
        if own:
            state["request_id"] = f"{self._ids.getrandbits(64):016x}"

        async def watched(message: Message) -> None:
            nonlocal status, sent
            if message["type"] == "http.response.start":
                status = message["status"]
                request_id = state["request_id"] if own else None
                message["headers"] = with_headers(message.get("headers", ()), request_id)
            else:
                sent += len(message.get("body", b""))
            await send(message)

        self.telemetry.active.inc()
        try:
            await self.app(scope, receive, watched)
        finally:
            self.telemetry.active.dec()
            self._record(scope, state, status, sent, time.perf_counter() - start)

    def _record(self, scope: Scope, state: dict[str, Any], status: int, sent: int, seconds: float) -> None:
        # The route's pattern, never the path as given: a client could fill both metrics and log with names of its own.
        route = getattr(scope.get("route"), "path", "unknown")
        method = scope["method"] if scope["method"] in METHODS else "other"
        self.telemetry.requests.labels(route, method, str(status)).inc()
        self.telemetry.seconds.labels(route).observe(seconds)
        kind = state.get("problem")
        if kind:
            self.telemetry.refusals.labels(kind).inc()
        level = logging.INFO if route not in ("/healthz", "/readyz", "/metrics") else logging.DEBUG
        if not logger.isEnabledFor(level):
            return
        fields = {
            "request_id": state["request_id"],
            "method": method,
            "route": route,
            "status": status,
            "ms": round(1000 * seconds, 2),
            "bytes_in": state.get("bytes_in"),
            "bytes_out": sent,
            "client": state.get("client"),
            "problem": kind,
            "batch": state.get("batch"),
            "encoding": state.get("encoding"),
        }
        logger.log(level, "request", extra={"fields": {k: v for k, v in fields.items() if v is not None}})


def with_headers(headers: Iterable[tuple[bytes, bytes]], request_id: str | None) -> list[tuple[bytes, bytes]]:
    """Headers of an answer, with those of HEADERS that it lacks and the request id, if there is one to say."""
    given = list(headers)
    names = {name.lower() for name, _ in given}
    given += [(name, value) for name, value in HEADERS.items() if name not in names]
    return given if request_id is None else [*given, (b"x-request-id", request_id.encode())]


class JsonLines(logging.Formatter):
    """One JSON object a line."""

    _second, _shown = -1, ""

    def format(self, record: logging.LogRecord) -> str:
        """Time, level, event and whatever `extra={"fields": ...}` holds."""
        second = int(record.created)
        if second != self._second:
            self._second, self._shown = second, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        values: dict[str, Any] = {
            "time": f"{self._shown}.{record.msecs:03.0f}Z",
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            values["error"] = self.formatException(record.exc_info)
        # ASCII: a log line holds in every locale. All that JSON leaves of what moves a cursor is DEL.
        return json.dumps(values).replace("\x7f", "\\u007f")


def log_to_stderr(level: str = "info", stream: TextIO | None = None) -> None:
    """Send the log of service, server and libraries there, as JSON lines; so, too, what is said of a damaged photo.

    `stream` is another place than `sys.stderr`.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonLines())
    logging.getLogger().handlers = [handler]
    logging.captureWarnings(True)
    for name in ("sfumato", "uvicorn"):
        target = logging.getLogger(name)
        target.handlers, target.propagate = [handler], False
        target.setLevel(level.upper())
    # The server would log one warning for every connection that speaks no HTTP: a scanner could fill the disk.
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
    logging.getLogger("uvicorn.access").disabled = True
    # No line names a thread, a process or a place in the code: finding them takes longer than to write the line.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging._srcfile = None  # as Python's "Optimization" of logging says
