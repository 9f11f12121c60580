"""uvicorn around an application: limits that uvicorn does not have, and an orderly end.

    run(app, ServerConfig(port=8080))

What the proxy in front does (docs/serve.md): TLS, spreading requests over processes. It may limit headers and connections
too, but a service on a trusted network has none, so these limits hold here:

- headers end: after `header_seconds`, `HEADER_BYTES` and `HEADERS`; uvicorn waits and reads for ever;
- a connection has one request at a time. One that comes before the last answer is not read, and the answer ends the
  connection: else a few bytes would order any number of answers, each of them work and memory;
- what frames a body (chunk sizes, extensions) may be as long as the body and `HEADER_BYTES`; trailers are refused;
- an answer that is not read ends the connection: after `drain_seconds` in which not even 48 kB went out;
- connections over a number are refused at once, of all clients and of each (`admission`);
- requests in work are limited by how long answers take (`ConcurrencyLimit`), which no proxy knows. A POST is in work from its
  last byte until its answer begins. One beyond that is refused before the application sees it, for a small part of what an
  answer costs. The refusal is held back for a second: else the service would be busy with clients that ask again at once.

On SIGTERM or SIGINT the port closes first, what is in flight is answered, then the process ends.

The limits sit in a subclass of uvicorn's HTTP protocol, which is no public interface: they are written for version `UVICORN`,
the package is pinned to it, and a test compares.
"""

import asyncio
import logging
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from sfumato.core.errors import SfumatoError
from sfumato.server.addresses import authority, network_of
from sfumato.server.admission import Shares
from sfumato.server.auth import ConcurrencyLimit
from sfumato.server.problems import OverloadedError, problem_response
from sfumato.server.telemetry import Telemetry, log_to_stderr
from sfumato.server.uploads import COMPLETE

UVICORN = "0.54.0"
"""The version whose `HttpToolsProtocol` is extended here."""
HEADER_BYTES = 16_384
"""Most bytes of a request's headers, its path included."""
HEADERS = 100
"""Most headers of a request: each takes some 200 bytes of memory, however short it is."""
KERNEL_BYTES = 131_072
"""Asked of the system for each direction of a connection. By itself it gives up to 4 MB to who reads slowly."""
BEAT_SECONDS = 1.0
"""Between two signs of life to a supervisor."""
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
    drain_seconds: float = 10.0
    """Longest time in which no 48 kB of an answer leave, before the connection is cut."""
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
    hung_seconds: float = 30.0
    """A process that neither answers nor ends for this long is killed by its supervisor (`serve_processes`)."""
    log_level: str = "info"


def run(app: Starlette, config: ServerConfig) -> None:
    """Serve an application of `create_app` or `create_gateway` until a signal.

    Raises:
        SfumatoError: the address is not free.
    """
    log_to_stderr(config.log_level)
    (listener,) = listen(config)

    def ready() -> None:
        url = f"http://{authority(*listener.getsockname()[:2])}"
        logger.info("listening", extra={"fields": {"url": url}})

    try:
        serve(app, config, listener, ready=ready)
    finally:
        listener.close()
    logger.info("stopped")


class _Server(uvicorn.Server):
    """uvicorn's, which says when it takes connections and that it still does, and ends when its supervisor does."""

    def __init__(
        self,
        config: uvicorn.Config,
        ready: Callable[[], None],
        alive: int | None,
        beat: Callable[[], None] | None,
    ) -> None:
        super().__init__(config)
        self._ready, self._alive, self._beat = ready, alive, beat

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            if self._alive is not None:
                asyncio.get_running_loop().add_reader(self._alive, self._orphaned, self._alive)
            self._ready()
            if self._beat is not None:
                self._go_on(self._beat)

    def _go_on(self, beat: Callable[[], None]) -> None:
        beat()
        asyncio.get_running_loop().call_later(BEAT_SECONDS, self._go_on, beat)

    def _orphaned(self, alive: int) -> None:
        asyncio.get_running_loop().remove_reader(alive)
        self.should_exit = True


def serve(
    app: Starlette,
    config: ServerConfig,
    listener: socket.socket,
    *,
    ready: Callable[[], None],
    alive: int | None = None,
    beat: Callable[[], None] | None = None,
) -> None:
    """Serve the connections of one listener until a signal.

    Args:
        app: of `create_app` or `create_gateway`.
        config: its limits hold for this process.
        listener: of `listen`; it is left open.
        ready: called when connections are taken.
        alive: a pipe whose end, too, ends the service; None: signals alone.
        beat: called every `BEAT_SECONDS` from then on, by the loop that answers requests.
    """
    _raise_file_limit(config.connections)
    server = _Server(
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
        ),
        ready,
        alive,
        beat,
    )

    def stop(*_: object) -> None:
        server.should_exit = True

    for number in (signal.SIGTERM, signal.SIGINT):
        # For the time until uvicorn has handlers of its own. It ends in good order and then raises the signal again, for
        # the handler it found here.
        signal.signal(number, stop)
    server.run(sockets=[listener])


def limited_protocol(config: ServerConfig, telemetry: Telemetry) -> type[HttpToolsProtocol]:
    """uvicorn's HTTP protocol with limits: on headers, in bytes and seconds, on connections, on requests in work."""
    concurrency = ConcurrencyLimit(config.concurrency, config.answer_seconds)

    places = Shares(config.connections, "connections")

    async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
        """Takes the application's place."""
        telemetry.refusals.labels("overloaded").inc()
        await asyncio.sleep(config.pause_seconds)
        await overloaded(f"{concurrency.held:.0f} requests are in work already")(scope, receive, send)

    class LimitedProtocol(HttpToolsProtocol):
        _timer: asyncio.TimerHandle | None = None
        _watch: asyncio.TimerHandle | None = None
        _name = ""
        """Of the client, for its shares."""
        _placed = _working = False
        """Whether this connection holds one of `places`, and whether its request holds one of `concurrency`."""
        _deaf = False
        """Nothing that comes from now on is looked at."""
        _reading = False
        """Between the headers of a request and its last byte."""
        _pending = _head = _count = _body = 0
        """Bytes since the last complete headers or body; bytes and number of the headers; bytes of the body."""
        _arrived = _moved = 0.0

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._name = network_of(self.client[0] if self.client else "")
            self._moved = self.loop.time()
            self._watch = self.loop.call_later(config.drain_seconds / 4, self._check_drain)
            self._placed = places.take(self._name)
            if self._placed:
                self._arm()
            else:
                self._refuse(overloaded("too many connections"))

        def data_received(self, data: bytes) -> None:
            if self._deaf or self.transport.is_closing():
                return
            self._pending += len(data)
            super().data_received(data)
            if self._deaf:
                return
            if self._reading:
                if self._pending > HEADER_BYTES + 2 * self._body:
                    self._refuse(problem_response("", "more chunk headers than body", status=400))
            elif self.cycle is None or self.cycle.response_complete:
                self._arm()  # bytes without a request yet
                if self._pending > HEADER_BYTES:
                    self._refuse_head()

        def send_400_response(self, msg: str) -> None:
            self._refuse(problem_response("", msg, status=400))

        def on_message_begin(self) -> None:
            if self._deaf:
                return
            if self.cycle is not None and not self.cycle.response_complete:
                self.cycle.keep_alive, self._deaf = (
                    False,
                    True,
                )  # one request at a time: that answer is the last
                self.flow.pause_reading()
                return
            self._head = self._count = 0
            super().on_message_begin()

        def on_url(self, url: bytes) -> None:
            if not self._deaf:
                self._head += len(url)
                super().on_url(url)

        def on_header(self, name: bytes, value: bytes) -> None:
            if self._deaf:
                return
            if self._reading:
                self._refuse(problem_response("", "trailers are not taken", status=400))
                return
            self._head += len(name) + len(value)
            self._count += 1
            if self._head > HEADER_BYTES or self._count > HEADERS:
                self._refuse_head()
            else:
                super().on_header(name, value)

        def on_headers_complete(self) -> None:
            if self._deaf:
                return
            self._disarm()
            self._reading, self._body = True, 0
            self.app = self.config.loaded_app
            if self.parser.get_method() == b"POST":
                self.app = self._work if concurrency.fits(self._name) else refuse
            super().on_headers_complete()

        def on_body(self, body: bytes) -> None:
            if self._deaf:
                return
            self._body += len(body)
            if self.app is not refuse:
                super().on_body(body)
            elif self._body > HIGH_WATER_LIMIT:
                self.flow.pause_reading()  # nobody keeps it

        def on_message_complete(self) -> None:
            if self._deaf:
                return
            self._reading, self._pending = False, 0
            # The application gets to it much later where there is much to do: the deadline counts from here.
            self.scope["state"][COMPLETE] = self._arrived = time.perf_counter()
            if self.app == self._work and not self.cycle.response_started:
                # Only now: bodies that come slowly must not keep others out. Where too many end at once, the queue refuses.
                self._working = concurrency.take(self._name)
            super().on_message_complete()

        async def _work(self, scope: Scope, receive: Receive, send: Send) -> None:
            """The application; its request is in work until the answer begins, however slowly that is read."""

            async def begin(message: Message) -> None:
                if self._done():
                    concurrency.answered(self._arrived)
                await send(message)

            await self.config.loaded_app(scope, receive, begin)

        def _done(self) -> bool:
            """Give the place among the requests in work back; whether there was one."""
            held, self._working = self._working, False
            if held:
                concurrency.give(self._name)
            return held

        def on_response_complete(self) -> None:
            if self._reading:
                self._close()  # it would go on sending a body that nobody wants
            super().on_response_complete()

        def resume_writing(self) -> None:
            self._moved = self.loop.time()
            super().resume_writing()

        def connection_lost(self, exc: Exception | None) -> None:
            self._disarm()
            self._done()
            if self._watch is not None:
                self._watch.cancel()
            if self._placed:
                places.give(self._name)
                self._placed = False
            super().connection_lost(exc)

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

        def _check_drain(self) -> None:
            """Cut the connection if what was written does not leave; it may be one that is already closed on our side."""
            now = self.loop.time()
            if not self.transport.get_write_buffer_size():
                self._moved = now
            if now - self._moved >= config.drain_seconds:
                self.transport.abort()
            else:
                self._watch = self.loop.call_later(config.drain_seconds / 4, self._check_drain)

        def _refuse_head(self) -> None:
            detail = f"headers may take {HEADER_BYTES:,} bytes, and {HEADERS} of them"
            self._refuse(problem_response("", detail, status=431))

        def _refuse(self, response: Response) -> None:
            """Answer without the application, which never sees this request, and close the connection."""
            started = (
                self.cycle is not None and self.cycle.response_started and not self.cycle.response_complete
            )
            if not self.transport.is_closing():
                if not started:
                    self.transport.write(last_response(response))
                self._close()

        def _close(self) -> None:
            self._deaf = True
            self.headers = []
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


def listen(config: ServerConfig, *, count: int = 1) -> list[socket.socket]:
    """Listening sockets of one address; before that nobody knows whether it is free.

    Args:
        config: says where.
        count: with more than one, the system spreads new connections over them.

    Raises:
        SfumatoError: the address is not free.
    """
    host, port = config.host.removeprefix("[").removesuffix("]"), config.port
    found: list[socket.socket] = []
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        if count > 1:  # else another service of the same user that shares its port would pass unnoticed
            with _bound(family, address) as probe:
                address = (address[0], probe.getsockname()[1], *address[2:])
        for _ in range(count):
            found.append(_bound(family, address, shared=count > 1))
            found[-1].listen(BACKLOG)  # connections wait from now on, until uvicorn takes them
            found[-1].setblocking(False)
    except (OSError, OverflowError, UnicodeError) as error:
        for listener in found:
            listener.close()
        raise SfumatoError(f"cannot listen on {authority(host, port)}: {error}") from None
    return found


def _bound(family: int, address: Any, *, shared: bool = False) -> socket.socket:
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        for buffer in (socket.SO_SNDBUF, socket.SO_RCVBUF):  # its connections inherit them
            bound.setsockopt(socket.SOL_SOCKET, buffer, KERNEL_BYTES)
        bound.bind(address)
    except BaseException:
        bound.close()
        raise
    return bound


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
