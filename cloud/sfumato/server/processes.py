"""Several processes behind one port, and a supervisor that starts them again.

    serve_processes(2, lambda place: create_app(model(), config, tokens, place=place), ServerConfig(port=8080))

The supervisor takes the port, once for each process (SO_REUSEPORT: the system spreads new connections over them), and forks. It
keeps every listener open, so connections that wait for a process which was killed are taken by the next one in its place. What
limits, rates and metrics mean for several processes: docs/decisions/0043-processes.md.
"""

import contextlib
import dataclasses
import logging
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NoReturn

from starlette.applications import Starlette

from sfumato.core.errors import SfumatoError, UsageError, first_line
from sfumato.server.addresses import authority
from sfumato.server.http import ServerConfig, listen, serve
from sfumato.server.shared import Place, SharedMemory
from sfumato.server.telemetry import Telemetry, log_to_stderr

READY = b"ready"
BEAT = b"."
PAUSE = 1.0
"""Seconds from a process's end until the next one in its place, at least: one that cannot start must not take a core."""
PATIENCE = 5.0
"""Seconds beyond the time for what is in flight, until a process that does not stop is killed."""

logger = logging.getLogger("sfumato.server.app")


@dataclass(eq=False)
class _Process:
    """One process, as its supervisor sees it."""

    pid: int
    words: int
    """The end of a pipe on which it says that it is ready, or why it is not; then, again and again, that it goes on."""
    ready: bool = False
    silent: float = 0.0
    """Seconds, as the supervisor saw them pass, since it was ready or last said that it goes on."""


def serve_processes(number: int, build: Callable[[Place], Starlette], config: ServerConfig) -> None:
    """Serve until a signal.

    Args:
        number: of processes.
        build: makes the application, in each process.
        config: of the whole service: its connections are divided among the processes.

    Raises:
        UsageError: this system cannot.
        SfumatoError: the address is not free, or a process cannot start; none is left then.
    """
    if not (sys.platform == "linux" and hasattr(os, "memfd_create")):
        raise UsageError("--processes needs Linux: start services on ports of their own, behind a proxy")
    log_to_stderr(config.log_level)
    Supervisor(number, build, config).run()


class Supervisor:
    """Starts processes, starts them again when they end, and stops them. It holds no model and takes no connection."""

    def __init__(self, number: int, build: Callable[[Place], Starlette], config: ServerConfig) -> None:
        self._build = build
        self._config = dataclasses.replace(config, connections=-(-config.connections // number))
        self._memory = SharedMemory(number)
        self._telemetry = Telemetry(Place(self._memory, number))
        self._listeners = listen(config, count=number)
        self._places: list[_Process | None] = [None] * number
        self._starts = [0.0] * number
        """When the process of a place may start, by time.monotonic()."""
        self._looked = 0.0
        """When the supervisor last looked at its processes, by time.monotonic()."""
        self._stopping = False
        # Its end in the processes is at the end of file as soon as the supervisor is gone, however it went.
        self._alive, self._held = os.pipe()
        self._woken, self._wake = os.pipe()

    def run(self) -> None:
        """As `serve_processes`."""
        os.set_blocking(self._wake, False)
        signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        for caught in (signal.SIGTERM, signal.SIGINT):
            signal.signal(caught, self._stop)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # wakes the select below
        try:
            for places in (
                [0],
                range(1, len(self._places)),
            ):  # what keeps the first from starting would keep them all
                for place in () if self._stopping else places:
                    self._start(place)
                for place in () if self._stopping else places:
                    self._wait_ready(place)
            if not self._stopping:
                url = f"http://{authority(*self._listeners[0].getsockname()[:2])}"
                fields = {"url": url, "processes": len(self._places)}
                logger.info("listening", extra={"fields": fields})
            self._looked = time.monotonic()
            while not self._stopping:
                self._look()
        finally:
            self._end()
        logger.info("stopped")

    def _stop(self, *_: object) -> None:
        self._stopping = True

    def _start(self, place: int) -> None:
        """Fork. Here one thread runs and nothing was loaded, so the copy is whole."""
        words, told = os.pipe()
        pid = os.fork()
        if not pid:
            os.close(words)
            self._work(place, told)
        os.close(told)
        self._places[place] = _Process(pid, words)

    def _work(self, place: int, told: int) -> NoReturn:
        """What a process does. It never returns into the supervisor's frames."""
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            for caught in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
                signal.signal(caught, signal.SIG_DFL)
            for pipe in (
                self._held,
                self._woken,
                self._wake,
                *(other.words for other in self._places if other),
            ):
                os.close(pipe)
            for number, listener in enumerate(self._listeners):
                if number != place:
                    listener.close()
            os.set_blocking(told, False)  # a supervisor that is stopped must not stop its processes
            app = self._build(Place(self._memory, place))

            def beat() -> None:
                if app.state.ready():  # the loop goes on; so does the network
                    _tell(told, BEAT)

            serve(
                app,
                self._config,
                self._listeners[place],
                ready=lambda: _tell(told, READY),
                alive=self._alive,
                beat=beat,
            )
            code = 0
        except BaseException as error:  # it would go on as a second supervisor
            if isinstance(error, SfumatoError):
                _tell(told, str(error).encode())
            else:
                logger.exception("a process failed")
                _tell(told, f"a process failed: {first_line(error)}".encode())
        finally:
            with contextlib.suppress(OSError):
                sys.stderr.flush()
            os._exit(code)

    def _wait_ready(self, place: int) -> None:
        """
        Raises:
            SfumatoError: it ended instead.
        """
        process = self._places[place]
        assert process is not None
        while not self._stopping:
            readable, *_ = select.select([process.words, self._woken], [], [])
            self._drain_wakes(readable)
            if process.words in readable:
                said = os.read(process.words, 2**16)
                if not said.startswith(READY):  # signs of life may come behind it
                    raise SfumatoError(said.decode(errors="replace") or "a process ended before it was ready")
                process.ready = True
                return

    def _look(self) -> None:
        """Wait for something to happen; start what has ended again."""
        now = time.monotonic()
        waits = [at - now for place, at in enumerate(self._starts) if self._places[place] is None]
        running = [process for process in self._places if process]
        readable, *_ = select.select(
            [self._woken, *(process.words for process in running)],
            [],
            [],
            max(0.0, min([*waits, self._config.hung_seconds / 4])),
        )
        self._drain_wakes(readable)
        for process in running:
            if process.words in readable:
                self._hear(process)
        self._kill_hung(running)
        for place, pid, status in self._reap():
            self._telemetry.restarts.labels().inc()
            fields = {"pid": pid, "status": os.waitstatus_to_exitcode(status)}
            logger.error("a process ended, another takes its place", extra={"fields": fields})
            self._starts[place] = time.monotonic() + PAUSE
        if self._stopping:
            return
        for place, at in enumerate(self._starts):
            if self._places[place] is None and at <= time.monotonic():
                self._start(place)

    def _hear(self, process: _Process) -> None:
        said = os.read(process.words, 2**16)
        if not process.ready and said and not said.startswith(READY):
            fields = {"reason": said.decode(errors="replace")}
            logger.error("a process cannot start", extra={"fields": fields})
        process.ready = True  # or it is about to end
        process.silent = 0.0

    def _kill_hung(self, running: list[_Process]) -> None:
        """End processes that have answered nothing for too long; `_reap` finds them.

        A process loads its model as long as that takes. Where this computer slept, or the supervisor was stopped, a long time
        has passed at once: it counts as one look, and the processes can speak before the next.
        """
        now, longest = time.monotonic(), self._config.hung_seconds
        passed, self._looked = min(now - self._looked, longest / 4), now
        for process in running:
            if not process.ready:
                continue
            process.silent += passed
            if process.silent > longest:
                fields = {"pid": process.pid, "seconds": round(process.silent)}
                logger.error("a process does not answer any more, it is killed", extra={"fields": fields})
                process.silent = 0.0
                os.kill(process.pid, signal.SIGKILL)

    def _reap(self) -> Iterator[tuple[int, int, int]]:
        """Place, number and status of every process that has ended."""
        for place, process in enumerate(self._places):
            if process is None:
                continue
            pid, status = os.waitpid(process.pid, os.WNOHANG)
            if pid:
                os.close(process.words)
                self._places[place] = None
                yield place, pid, status

    def _end(self) -> None:
        """Close the port, stop all processes, and wait for them."""
        for listener in self._listeners:
            listener.close()
        for process in filter(None, self._places):
            os.kill(process.pid, signal.SIGTERM)
        until = time.monotonic() + self._config.grace_seconds + PATIENCE
        while any(self._places):
            for _ in self._reap():
                pass
            if not any(self._places):
                break
            left = until - time.monotonic()
            if left <= 0:
                for process in filter(None, self._places):
                    os.kill(process.pid, signal.SIGKILL)
            readable, *_ = select.select([self._woken], [], [], min(1.0, max(0.01, left)))
            self._drain_wakes(readable)
        os.close(self._held)

    def _drain_wakes(self, readable: list[int]) -> None:
        if self._woken in readable:
            os.read(self._woken, 2**16)


def _tell(pipe: int, said: bytes) -> None:
    with contextlib.suppress(OSError):  # the supervisor may be gone
        os.write(pipe, said[: 2**12])
