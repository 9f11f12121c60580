"""Dynamic batching: uploads in, alone or several at once, one call of the network for as many as are waiting.

A lone upload is answered at once. An upload waits for company, `delay_ms` at most, only while others are on their way: being
read or decoded (`coming`). While the network runs, uploads wait in a bounded queue and make the next batch. A full batch that
waits is prepared beside the network, so that the network itself does not wait for it.

A full queue refuses at once, and a job that waited too long is given up: an answer that comes too late costs as much as one in
time, and without a bound overload would become a standstill. The queue is fair: clients share its room (`admission`) and take
turns, whatever each of them sends.

    batcher = Batcher(model.predict, BatchConfig())
    await batcher.start()
    with batcher.coming():
        levels = ...                                        # read and decode
    done = await batcher.submit([levels], client="app")     # done.values, done.waited_s, done.ran_s, done.size
"""

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sfumato.server.admission import Shares
from sfumato.server.problems import OverloadedError

In = TypeVar("In")
Out = TypeVar("Out")

STUCK_SECONDS = 30.0
"""A network that ends no batch for this long, or for three deadlines, will not end one."""
AHEAD = 2
"""Batches in work: one runs, one more is prepared beside it."""


@dataclass(frozen=True, kw_only=True)
class BatchConfig:
    """How uploads are put into batches."""

    largest: int = 16
    """Most uploads in one call of the network."""
    delay_ms: float = 2.0
    """Longest time an upload waits for others that are being read or decoded while the network is idle."""
    queue: int = 128
    """Uploads that may wait; more are refused."""
    deadline_ms: float = 2000.0
    """Longest time from arrival to answer."""

    def __post_init__(self) -> None:
        if self.largest < 1 or self.queue < 1 or self.delay_ms < 0 or self.deadline_ms <= self.delay_ms:
            raise ValueError(f"a batcher cannot work with {self}")


@dataclass(frozen=True)
class Done(Generic[Out]):
    """Results, one for each item, and where their time went."""

    values: Sequence[Out]
    waited_s: float
    """From arrival to the start of the network."""
    ran_s: float
    """The network, for all that ran together."""
    size: int
    """Uploads in a call of the network."""


@dataclass(eq=False, slots=True)
class _Job(Generic[In, Out]):
    items: Sequence[In]
    arrived: float
    client: str
    future: asyncio.Future[Done[Out]]


class FairQueue:
    """Clients take turns: each time the oldest job of the client whose last turn is longest ago."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[str, deque[Any]] = OrderedDict()

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def put(self, job: Any) -> None:
        """Behind the other jobs of its client."""
        self._waiting.setdefault(job.client, deque()).append(job)

    def get(self) -> Any:
        """The next job; there must be one."""
        client, jobs = self._waiting.popitem(last=False)
        job = jobs.popleft()
        if jobs:
            self._waiting[client] = jobs
        return job


class Batcher(Generic[In, Out]):
    """Collects items and runs them together in a thread, one batch at a time.

    Args:
        run: the network, for `largest` items at most.
        config: how items are put together.
        prepare: what comes before the network and needs a processor too; a full batch is prepared beside the one that runs.
        changed: called with the number of items that wait, when it changes.
    """

    def __init__(
        self,
        run: Callable[[Any], Sequence[Out]],
        config: BatchConfig,
        *,
        prepare: Callable[[Sequence[In]], Any] | None = None,
        changed: Callable[[float], None] | None = None,
    ) -> None:
        self.config = config
        self._run, self._prepare = run, prepare or _as_they_are
        self._changed = changed or _nothing
        self._network = ThreadPoolExecutor(max_workers=1, thread_name_prefix="network")
        self._preparing = ThreadPoolExecutor(max_workers=1, thread_name_prefix="prepare")
        self._queue = FairQueue()
        self._room = Shares(config.queue, "places in the queue")
        self._loop: asyncio.AbstractEventLoop | None = None
        self._coming = self._running = 0
        self._oldest = 0.0
        """When the upload that an idle network has waited for longest came."""
        self._moved = 0.0
        """When a batch last ended, or began while none ran."""
        self._called = False
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._ended: asyncio.Event | None = None

    @property
    def alive(self) -> bool:
        """Whether submitted items will be answered: it was started, and the network is not stuck in a batch."""
        longest = max(STUCK_SECONDS, 3 * self.config.deadline_ms / 1000)
        stuck = self._running > 0 and time.perf_counter() - self._moved > longest
        return self._loop is not None and not stuck

    @property
    def waiting(self) -> int:
        """Items in the queue."""
        return int(self._room.held)

    async def start(self) -> None:
        """Begin to collect."""
        self._loop, self._ended = asyncio.get_running_loop(), asyncio.Event()
        self._look()

    async def stop(self) -> None:
        """Answer what is waiting, then stop."""
        if self._ended is not None:
            self._look()
            while self._queue or self._running:
                self._ended.clear()
                await self._ended.wait()
        self._loop = None
        self._network.shutdown()
        self._preparing.shutdown()

    @contextmanager
    def coming(self) -> Iterator[None]:
        """An upload is being read or decoded: others that are ready may wait for it."""
        self._coming += 1
        try:
            yield
        finally:
            self._coming -= 1
            if not self._coming and self._queue:
                self._look_soon()

    def admit(self, arrived: float, count: int = 1, client: str = "") -> None:
        """Refuse early what `submit` would refuse anyway: cheaper than to decode it first.

        Raises:
            OverloadedError: no room for `count` items of this client, or the deadline has passed.
        """
        if not self._room.fits(client, count):
            raise OverloadedError(
                f"{self.waiting} uploads are waiting already, {self._room.by(client):.0f} of yours"
            )
        if self._left(arrived) <= 0:
            raise self._late()

    async def submit(
        self, items: Sequence[In], arrived: float | None = None, *, client: str = ""
    ) -> Done[Out]:
        """Wait for the results of items that came at `arrived` (time.perf_counter(); now, if not given).

        Args:
            items: at least one.
            arrived: the deadline counts from here.
            client: whose they are, for its turn and its share of the queue.

        Raises:
            OverloadedError: no room in the queue, or the deadline has passed.
        """
        now = time.perf_counter()
        arrived = now if arrived is None else arrived
        self.admit(arrived, len(items), client)
        loop = asyncio.get_running_loop()
        job = _Job[In, Out](items, arrived, client, loop.create_future())
        if not self._queue:
            self._oldest = now
        self._room.take(client, len(items))
        self._changed(self._room.held)
        self._queue.put(job)
        self._look_soon()
        # A timer of its own costs a third of asyncio.timeout.
        timer = loop.call_later(self._left(arrived), self._give_up, job)
        try:
            return await job.future
        finally:
            timer.cancel()

    def _give_up(self, job: _Job[In, Out]) -> None:
        if not job.future.done():
            job.future.set_exception(self._late())

    def _late(self) -> OverloadedError:
        return OverloadedError(f"no answer within {self.config.deadline_ms:.0f} ms")

    def _left(self, arrived: float) -> float:
        """Seconds until the deadline of what came then."""
        return arrived + self.config.deadline_ms / 1000 - time.perf_counter()

    def _look_soon(self) -> None:
        """Look once everything that this turn of the loop brings has come: uploads of one moment share a batch."""
        if self._loop is not None and not self._called:
            self._called = True
            self._loop.call_soon(self._look)

    def _look(self) -> None:
        """Start what can start now."""
        self._called = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._loop is not None and self._queue and self._may_start(self._loop):
            jobs = self._take()
            beside = self._running > 0
            if not beside:
                self._moved = time.perf_counter()
            self._running += 1
            task = self._loop.create_task(self._answer(jobs, beside=beside))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _may_start(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Whether a batch starts now; if not, something will look again: a submission, the end of a batch, or a timer."""
        full = self.waiting >= self.config.largest
        if self._running:
            return full and self._running < AHEAD
        if full or not self._coming:
            return True
        left = self._oldest + self.config.delay_ms / 1000 - time.perf_counter()
        # uvloop counts whole milliseconds and rounds: what is left below half of one is over.
        if left < 0.0005:
            return True
        self._timer = loop.call_later(left, self._look)
        return False

    def _take(self) -> list[_Job[In, Out]]:
        """At least one job; those that are waiting come along, up to a full batch."""
        jobs, size = list[_Job[In, Out]](), 0
        while self._queue and size < self.config.largest:
            job: _Job[In, Out] = self._queue.get()
            self._room.give(job.client, len(job.items))
            jobs.append(job)
            size += len(job.items)
        self._changed(self._room.held)
        self._oldest = time.perf_counter()
        return jobs

    async def _answer(self, jobs: Sequence[_Job[In, Out]], *, beside: bool) -> None:
        try:
            await self._run_jobs([job for job in jobs if not job.future.done()], beside=beside)
        finally:
            self._running -= 1
            self._moved = time.perf_counter()
            self._look()
            if self._ended is not None:
                self._ended.set()

    async def _run_jobs(self, jobs: Sequence[_Job[In, Out]], *, beside: bool) -> None:
        if not jobs:
            return
        loop = asyncio.get_running_loop()
        items = [item for job in jobs for item in job.items]
        parts = [items[at : at + self.config.largest] for at in range(0, len(items), self.config.largest)]
        try:
            if beside:
                parts = await loop.run_in_executor(self._preparing, self._prepare_all, parts)
                start, ran, values = await loop.run_in_executor(self._network, self._run_all, parts)
            else:
                start, ran, values = await loop.run_in_executor(self._network, self._prepare_and_run, parts)
            if len(values) != len(items):
                raise AssertionError(f"{len(items)} items made {len(values)} results")
        except Exception as error:  # it belongs to these requests, not to the next ones
            for job in jobs:
                if not job.future.done():
                    job.future.set_exception(error)
            return
        size, at = min(len(items), self.config.largest), 0
        for job in jobs:
            own, at = values[at : at + len(job.items)], at + len(job.items)
            if not job.future.done():
                job.future.set_result(Done(own, start - job.arrived, ran, size))

    def _prepare_all(self, parts: Sequence[Sequence[In]]) -> list[Any]:
        return [self._prepare(part) for part in parts]

    def _prepare_and_run(self, parts: Sequence[Sequence[In]]) -> tuple[float, float, list[Out]]:
        start = time.perf_counter()
        _, _, values = self._run_all(self._prepare_all(parts))
        return start, time.perf_counter() - start, values

    def _run_all(self, prepared: Sequence[Any]) -> tuple[float, float, list[Out]]:
        """When it began, how long it took, and the results."""
        start = time.perf_counter()
        values = [value for part in prepared for value in self._run(part)]
        return start, time.perf_counter() - start, values


def _as_they_are(items: Sequence[Any]) -> Sequence[Any]:
    return items


def _nothing(_waiting: float) -> None:
    pass
