"""uvicorn around an application: limits that uvicorn does not have, and an orderly end.

uvicorn gives a client all the time in the world to send its headers, and all the memory. Here both end, and connections over a
number are told so at once. Under overload a request is refused before the application sees it, for a small part of what an
answer costs, and the refusal is held back a little: clients that ask again at once would else be all that the service is busy
with. On SIGTERM or SIGINT the port closes first, what is in flight is answered, then the process ends.

    run(app, ServerConfig(port=8080))
"""

import asyncio
import json
import logging
import resource
import signal
import socket
import time
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import uvicorn
from fastapi import FastAPI
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from sfumato.core.errors import SfumatoError
from sfumato.server.auth import InFlight
from sfumato.server.problems import KINDS, MEDIA_TYPE, URN
from sfumato.server.telemetry import Telemetry, log_to_stderr
from sfumato.server.uploads import COMPLETE

HEADER_BYTES = 16_384
"""Most bytes of a request's headers."""
BACKLOG = 2048
"""Connections that may wait to be accepted; the system's own limit is often lower."""

logger = logging.getLogger("sfumato.server.app")


@dataclass(frozen=True, kw_only=True)
class ServerConfig:
    """Where and how connections are taken."""

    host: str = "127.0.0.1"
    port: int = 8080
    """0 takes a free one; the log tells which."""
    connections: int = 1000
    """Open at the same time; more are refused."""
    header_seconds: float = 5.0
    """Longest time from a connection, or an answer's next request, to complete headers."""
    idle_seconds: int = 15
    """A connection is kept this long between requests."""
    in_flight: int = 144
    """Requests that are complete and not answered yet; more uploads are refused."""
    answer_seconds: float = 1.0
    """Fewer are taken while answers need longer than this."""
    pause_seconds: float = 1.0
    """Such a refusal comes after this time, which is also what its Retry-After says."""
    grace_seconds: int = 30
    """Longest time for what is in flight when the service is asked to stop."""
    log_level: str = "info"


def run(app: FastAPI, config: ServerConfig) -> None:
    """Serve until a signal.

    Raises:
        SfumatoError: the address cannot be had.
    """
    log_to_stderr(config.log_level)
    _raise_file_limit(config.connections)
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            http=guarded(config, app.state.telemetry),
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            backlog=BACKLOG,
            timeout_keep_alive=config.idle_seconds,
            timeout_graceful_shutdown=config.grace_seconds,
        )
    )

    def stop(*_: object) -> None:
        server.should_exit = True

    for number in (signal.SIGTERM, signal.SIGINT):
        # For the time until uvicorn has handlers of its own. It ends in good order and then raises the signal again, for
        # the handler it found here.
        signal.signal(number, stop)
    listener = _listen(config)
    host, port = listener.getsockname()[:2]
    logger.info("listening", extra={"fields": {"url": f"http://{host}:{port}"}})
    try:
        server.run(sockets=[listener])
    finally:
        listener.close()
    logger.info("stopped")


def guarded(config: ServerConfig, telemetry: Telemetry) -> type[HttpToolsProtocol]:
    """uvicorn's HTTP protocol with limits: on headers, in bytes and seconds, on connections, on requests in flight."""
    in_flight = InFlight(config.in_flight, config.answer_seconds)

    async def busy(_scope: Scope, _receive: Receive, send: Send) -> None:
        """Stands in for the application."""
        telemetry.refusals.labels("overloaded").inc()
        await asyncio.sleep(config.pause_seconds)
        headers, body = problem("overloaded", 503, f"{in_flight.count} requests are in work already")
        await send({"type": "http.response.start", "status": 503, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    class Guarded(HttpToolsProtocol):
        _timer: asyncio.TimerHandle | None = None
        _pending = 0
        _arrived = 0.0
        _in_flight = 0
        """Of this connection: more than one if the client does not wait for answers."""

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            if len(self.connections) > config.connections:
                self._refuse("overloaded", 503, "too many connections")
            else:
                self._arm()

        def data_received(self, data: bytes) -> None:
            if self.transport.is_closing():
                return
            self._pending += len(data)
            super().data_received(data)
            if self.cycle is None or self.cycle.response_complete:
                self._arm()  # bytes without a request yet
                if self._pending > HEADER_BYTES:
                    self._refuse("", 431, f"headers may take {HEADER_BYTES:,} bytes")

        def on_headers_complete(self) -> None:
            self._disarm()
            refused = in_flight.full and self.parser.get_method() == b"POST"
            self.app = busy if refused else self.config.loaded_app
            super().on_headers_complete()

        def on_message_complete(self) -> None:
            # The application gets to it much later where there is much to do: the deadline counts from here.
            self.scope["state"][COMPLETE] = self._arrived = time.perf_counter()
            if self.app is not busy and not self.cycle.response_complete:
                self._count(1)  # only now: bodies that come slowly must not keep others out
            super().on_message_complete()

        def on_response_complete(self) -> None:
            if self._in_flight:
                self._count(-1)
                in_flight.answered(self._arrived)
            super().on_response_complete()

        def connection_lost(self, exc: Exception | None) -> None:
            self._disarm()
            self._count(-self._in_flight)
            super().connection_lost(exc)

        def _count(self, more: int) -> None:
            in_flight.count += more
            self._in_flight += more

        def _arm(self) -> None:
            if self._timer is None and not self.transport.is_closing():
                self._timer = self.loop.call_later(config.header_seconds, self._late)

        def _disarm(self) -> None:
            self._pending = 0
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

        def _late(self) -> None:
            self._timer = None
            self._refuse("too-slow", 408, f"headers must arrive within {config.header_seconds:g} s")

        def _refuse(self, kind: str, status: int, detail: str) -> None:
            """Answer without the application: it never sees this connection."""
            if not self.transport.is_closing():
                self.transport.write(plain_answer(kind, status, detail))
                self.transport.close()

    return Guarded


def problem(kind: str, status: int, detail: str) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """Headers and body of problem details; an empty kind is one that HTTP itself names."""
    title = KINDS[kind][1] if kind else HTTPStatus(status).phrase
    details = {"type": URN + kind if kind else "about:blank", "title": title, "status": status}
    body = json.dumps({**details, "detail": detail, "request_id": ""}).encode()
    again = [(b"retry-after", b"1")] if status == 503 else []
    length = str(len(body)).encode()
    return [(b"content-type", MEDIA_TYPE.encode()), (b"content-length", length), *again], body


def plain_answer(kind: str, status: int, detail: str) -> bytes:
    """A whole HTTP response with problem details; the connection ends with it."""
    headers, body = problem(kind, status, detail)
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}".encode()]
    lines += [name + b": " + value for name, value in (*headers, (b"connection", b"close"))]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def _listen(config: ServerConfig) -> socket.socket:
    """A listening socket; only then is it known that the address can be had."""
    try:
        family = socket.getaddrinfo(config.host, config.port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((config.host, config.port))
        listener.listen(BACKLOG)  # from now on nobody is turned away, though the first answers take a moment
    except (OSError, OverflowError) as error:
        raise SfumatoError(f"cannot listen on {config.host}:{config.port}: {error}") from None
    listener.setblocking(False)
    return listener


def _raise_file_limit(connections: int) -> None:
    """Every connection is an open file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + 256
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, hard), hard))
