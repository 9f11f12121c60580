"""uvicorn around an application: limits that uvicorn does not have, and an orderly end.

    run(app, ServerConfig(port=8080))

What the proxy in front does (docs/serve.md): TLS, spreading requests over processes. It may limit headers and connections
too, but a service on a trusted network has none, so these limits hold here:

- headers end: after `header_seconds`, and after `HEADER_BYTES`; uvicorn waits and reads for ever;
- connections over a number are refused at once;
- requests in work are limited by how long answers take (`ConcurrencyLimit`), which no proxy knows. A POST beyond that is
  refused before the application sees it, for a small part of what an answer costs. The refusal is held back for a second: else
  the service would be busy with clients that ask again at once.

On SIGTERM or SIGINT the port closes first, what is in flight is answered, then the process ends.

The limits sit in a subclass of uvicorn's HTTP protocol, which is no public interface: they are written for version `UVICORN`,
the package is pinned to it, and a test compares.
"""

import asyncio
import logging
import signal
import socket
import time
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from sfumato.core.errors import SfumatoError
from sfumato.server.auth import ConcurrencyLimit
from sfumato.server.problems import OverloadedError, problem_response
from sfumato.server.telemetry import Telemetry, log_to_stderr
from sfumato.server.uploads import COMPLETE

UVICORN = "0.54.0"
"""The version whose `HttpToolsProtocol` is extended here."""
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
    """0 takes a free one; the log names it."""
    connections: int = 1000
    """Open at the same time; more are refused."""
    header_seconds: float = 5.0
    """Longest time from a connection, or an answer's next request, to complete headers."""
    idle_seconds: int = 15
    """A connection is kept this long between requests."""
    concurrency: int = 144
    """Requests that are complete and not answered yet; more uploads are refused."""
    answer_seconds: float = 1.0
    """The limit on concurrency falls while answers need longer than this."""
    pause_seconds: float = 1.0
    """Such a refusal comes after this time, which is also what its Retry-After says."""
    grace_seconds: int = 30
    """Longest time for what is in flight when the service is asked to stop."""
    log_level: str = "info"


def run(app: Starlette, config: ServerConfig) -> None:
    """Serve an application of `create_app` or `create_gateway` until a signal.

    Raises:
        SfumatoError: the address is not free.
    """
    log_to_stderr(config.log_level)
    _raise_file_limit(config.connections)
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            http=limited_protocol(config, app.state.telemetry),
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
    shown = f"[{host}]" if ":" in host else host  # of IPv6
    logger.info("listening", extra={"fields": {"url": f"http://{shown}:{port}"}})
    try:
        server.run(sockets=[listener])
    finally:
        listener.close()
    logger.info("stopped")


def limited_protocol(config: ServerConfig, telemetry: Telemetry) -> type[HttpToolsProtocol]:
    """uvicorn's HTTP protocol with limits: on headers, in bytes and seconds, on connections, on requests in work."""
    concurrency = ConcurrencyLimit(config.concurrency, config.answer_seconds)

    async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
        """Takes the application's place."""
        telemetry.refusals.labels("overloaded").inc()
        await asyncio.sleep(config.pause_seconds)
        await overloaded(f"{concurrency.count} requests are in work already")(scope, receive, send)

    class LimitedProtocol(HttpToolsProtocol):
        _timer: asyncio.TimerHandle | None = None
        _pending = 0
        _arrived = 0.0
        _in_work = 0
        """Requests of this connection: more than one if the client does not wait for answers."""

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            if len(self.connections) > config.connections:
                self._refuse(overloaded("too many connections"))
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
                    self._refuse(problem_response("", f"headers may take {HEADER_BYTES:,} bytes", status=431))

        def on_headers_complete(self) -> None:
            self._disarm()
            refused = concurrency.full and self.parser.get_method() == b"POST"
            self.app = refuse if refused else self.config.loaded_app
            super().on_headers_complete()

        def on_message_complete(self) -> None:
            # The application gets to it much later where there is much to do: the deadline counts from here.
            self.scope["state"][COMPLETE] = self._arrived = time.perf_counter()
            if self.app is not refuse and not self.cycle.response_complete:
                self._count(1)  # only now: bodies that come slowly must not keep others out
            super().on_message_complete()

        def on_response_complete(self) -> None:
            if self._in_work:
                self._count(-1)
                concurrency.answered(self._arrived)
            super().on_response_complete()

        def connection_lost(self, exc: Exception | None) -> None:
            self._disarm()
            self._count(-self._in_work)
            super().connection_lost(exc)

        def _count(self, more: int) -> None:
            concurrency.count += more
            self._in_work += more

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
            detail = f"headers must arrive within {config.header_seconds:g} s"
            self._refuse(problem_response("too-slow", detail))

        def _refuse(self, response: Response) -> None:
            """Answer without the application, which never sees this connection, and close it."""
            if not self.transport.is_closing():
                self.transport.write(last_response(response))
                self.transport.close()

    return LimitedProtocol


def overloaded(detail: str) -> Response:
    """The refusal of a request that never reaches the application; it has no request id."""
    error = OverloadedError(detail)
    return problem_response(error.kind, detail, headers=error.headers)


def last_response(response: Response) -> bytes:
    """A response as bytes for the wire; the connection ends with it."""
    status = HTTPStatus(response.status_code)
    lines = [f"HTTP/1.1 {status.value} {status.phrase}".encode()]
    lines += [name + b": " + value for name, value in (*response.raw_headers, (b"connection", b"close"))]
    return b"\r\n".join(lines) + b"\r\n\r\n" + bytes(response.body)


def _listen(config: ServerConfig) -> socket.socket:
    """A listening socket; before that nobody knows whether the address is free."""
    try:
        family = socket.getaddrinfo(config.host, config.port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((config.host, config.port))
        listener.listen(BACKLOG)  # connections wait from now on, until uvicorn takes them
    except (OSError, OverflowError) as error:
        raise SfumatoError(f"cannot listen on {config.host}:{config.port}: {error}") from None
    listener.setblocking(False)
    return listener


def _raise_file_limit(connections: int) -> None:
    """Every connection is an open file; on Windows sockets are none."""
    try:
        import resource
    except ImportError:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + 256
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, hard), hard))
