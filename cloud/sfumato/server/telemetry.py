"""Metrics for Prometheus, and log lines in JSON that hold nothing of any image.

A line holds method, route, status, time, bytes, and the name behind the token. It holds neither the upload nor the answer, no
address, no query and no header.

    telemetry = Telemetry()
    app.add_middleware(Watch, telemetry=telemetry)
"""

import json
import logging
import secrets
import sys
import time
from collections.abc import Iterable
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info
from starlette.types import ASGIApp, Message, Receive, Scope, Send

SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
SIZES = (1, 2, 4, 8, 16, 32, 64)
HEADERS = {
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
    b"cache-control": b"no-store",
    b"content-security-policy": b"default-src 'none'; frame-ancestors 'none'",
}
"""On every answer that does not set them itself."""

logger = logging.getLogger("sfumato.server.app")


class Telemetry:
    """The metrics of one application, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.requests = Counter(
            "sfumato_requests", "Requests", ["route", "method", "status"], registry=registry
        )
        self.refusals = Counter(
            "sfumato_refusals", "Refused requests, by problem", ["kind"], registry=registry
        )
        self.uploads = Counter(
            "sfumato_uploads", "Uploads that were read, by encoding", ["encoding"], registry=registry
        )
        self.seconds = Histogram(
            "sfumato_request_seconds", "From the request's headers to the answer", ["route"],
            buckets=SECONDS, registry=registry,
        )  # fmt: skip
        self.waited = Histogram(
            "sfumato_queue_seconds", "An upload's time in the queue", buckets=SECONDS, registry=registry
        )
        self.ran = Histogram(
            "sfumato_network_seconds", "The network, a batch", buckets=SECONDS, registry=registry
        )
        self.sizes = Histogram("sfumato_batch_size", "Uploads a batch", buckets=SIZES, registry=registry)
        self.waiting = Gauge("sfumato_queue_length", "Uploads that wait", registry=registry)
        self.active = Gauge("sfumato_requests_active", "Requests that are being answered", registry=registry)
        self.model = Info("sfumato_model", "What answers", registry=registry)


class Watch:
    """ASGI middleware: a request id, one log line and the metrics of every request, headers on every answer."""

    def __init__(self, app: ASGIApp, telemetry: Telemetry) -> None:
        self.app, self.telemetry = app, telemetry

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, count and log its answer."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start, status, sent = time.perf_counter(), 500, 0
        state: dict[str, Any] = scope.setdefault("state", {})
        state["request_id"] = secrets.token_hex(8)

        async def watched(message: Message) -> None:
            nonlocal status, sent
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = with_headers(message.get("headers", ()), state["request_id"])
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
        method = scope["method"] if scope["method"] in ("GET", "HEAD", "POST", "OPTIONS") else "other"
        self.telemetry.requests.labels(route, method, str(status)).inc()
        self.telemetry.seconds.labels(route).observe(seconds)
        kind = state.get("problem")
        if kind:
            self.telemetry.refusals.labels(kind).inc()
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
        level = logging.INFO if route not in ("/healthz", "/readyz", "/metrics") else logging.DEBUG
        logger.log(level, "request", extra={"fields": {k: v for k, v in fields.items() if v is not None}})


def with_headers(headers: Iterable[tuple[bytes, bytes]], request_id: str) -> list[tuple[bytes, bytes]]:
    """Headers of an answer, with those of HEADERS that it lacks and the request id."""
    given = list(headers)
    names = {name.lower() for name, _ in given}
    given += [(name, value) for name, value in HEADERS.items() if name not in names]
    return [*given, (b"x-request-id", request_id.encode())]


class JsonLines(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Time, level, event and whatever `extra={"fields": ...}` holds."""
        values: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
            + f".{record.msecs:03.0f}Z",
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            values["error"] = self.formatException(record.exc_info)
        # ASCII: a log line holds in every locale. All that JSON leaves of what moves a cursor is DEL.
        return json.dumps(values).replace("\x7f", "\\u007f")


def log_to_stderr(level: str = "info") -> None:
    """Send the log of service, server and libraries there, as JSON lines; so, too, what is said of a damaged photo."""
    handler = logging.StreamHandler(sys.stderr)
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
