"""Dynamic batching: uploads in, alone or several at once, one call of the network for as many as are waiting.

One task collects. While the network runs, new uploads wait in a bounded queue and make the next batch; an idle network
waits for more, `delay_ms` at most. A full queue refuses at once, and a job that waited too long is given up: an answer that
comes too late costs as much as one in time, and without a bound overload would become a standstill.

The queue is fair: clients share its room (`admission`) and take turns, whatever each of them sends.

    batcher = Batcher(model.predict, BatchConfig())
    await batcher.start()
    done = await batcher.submit([levels], client="app")     # done.values, done.waited_s, done.ran_s, done.size
"""

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sfumato.server.admission import Shares
from sfumato.server.problems import OverloadedError

In = TypeVar("In")
Out = TypeVar("Out")


@dataclass(frozen=True, kw_only=True)
class BatchConfig:
    """How uploads are put into batches."""

    largest: int = 16
    """Most uploads in one call of the network."""
    delay_ms: float = 2.0
    """Longest time an upload waits for others while the network is idle."""
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


@dataclass(frozen=True, eq=False)
class _Job(Generic[In, Out]):
    items: Sequence[In]
    arrived: float
    client: str
    future: asyncio.Future[Done[Out]]


class FairQueue(asyncio.Queue[Any]):
    """Clients take turns: each time the oldest job of the client whose last turn is longest ago.

    The three methods are those that asyncio's own PriorityQueue replaces.
    """

    def _init(self, maxsize: int) -> None:
        self._queue: OrderedDict[str, deque[Any]] = OrderedDict()

    def _put(self, item: Any) -> None:
        self._queue.setdefault(item.client, deque()).append(item)

    def _get(self) -> Any:
        client, jobs = self._queue.popitem(last=False)
        job = jobs.popleft()
        if jobs:
            self._queue[client] = jobs
        return job

    def qsize(self) -> int:
        """Jobs of all clients."""
        return sum(map(len, self._queue.values()))


class Batcher(Generic[In, Out]):
    """Collects items and runs them together in a thread, one batch at a time."""

    def __init__(self, run: Callable[[Sequence[In]], Sequence[Out]], config: BatchConfig) -> None:
        self.config = config
        self._run = run
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="network")
        self._queue = FairQueue()
        self._room = Shares(config.queue, "places in the queue")
        self._task: asyncio.Task[None] | None = None

    @property
    def alive(self) -> bool:
        """Whether submitted items will be answered."""
        return self._task is not None and not self._task.done()

    @property
    def waiting(self) -> int:
        """Items in the queue."""
        return int(self._room.held)

    async def start(self) -> None:
        """Begin to collect."""
        self._task = asyncio.create_task(self._work())

    async def stop(self) -> None:
        """Answer what is waiting, then stop."""
        if self.alive:
            await self._queue.join()
        if self._task is not None:
            self._task.cancel()
        self._pool.shutdown()

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
            raise OverloadedError(f"no answer within {self.config.deadline_ms:.0f} ms")

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
        arrived = time.perf_counter() if arrived is None else arrived
        self.admit(arrived, len(items), client)
        job = _Job[In, Out](items, arrived, client, asyncio.get_running_loop().create_future())
        self._room.take(client, len(items))
        self._queue.put_nowait(job)
        try:
            async with asyncio.timeout(self._left(arrived)):
                return await job.future
        except TimeoutError:
            raise OverloadedError(f"no answer within {self.config.deadline_ms:.0f} ms") from None

    def _left(self, arrived: float) -> float:
        """Seconds until the deadline of what came then."""
        return arrived + self.config.deadline_ms / 1000 - time.perf_counter()

    async def _work(self) -> None:
        while True:
            jobs = await self._collect()
            try:
                await self._answer([job for job in jobs if not job.future.done()])
            finally:
                for _ in jobs:
                    self._queue.task_done()

    async def _collect(self) -> list[_Job[In, Out]]:
        """At least one job; those already waiting come along at no cost."""
        loop = asyncio.get_running_loop()
        jobs = [self._left_queue(await self._queue.get())]
        size = len(jobs[0].items)
        # uvloop's own clock counts whole milliseconds: good for time-outs, not for measuring.
        until = loop.time() + self.config.delay_ms / 1000 - (time.perf_counter() - jobs[0].arrived)
        while size < self.config.largest:
            try:
                job = self._queue.get_nowait()
            except asyncio.QueueEmpty:
                if loop.time() >= until:
                    break
                try:
                    async with asyncio.timeout_at(until):
                        job = await self._queue.get()
                except TimeoutError:
                    break
            jobs.append(self._left_queue(job))
            size += len(job.items)
        return jobs

    def _left_queue(self, job: _Job[In, Out]) -> _Job[In, Out]:
        self._room.give(job.client, len(job.items))
        return job

    async def _answer(self, jobs: Sequence[_Job[In, Out]]) -> None:
        if not jobs:
            return
        loop = asyncio.get_running_loop()
        items = [item for job in jobs for item in job.items]
        start = time.perf_counter()
        try:
            values = await loop.run_in_executor(self._pool, self._run_all, items)
        except Exception as error:  # it belongs to these requests, not to the next ones
            for job in jobs:
                if not job.future.done():
                    job.future.set_exception(error)
            return
        ran, size, at = time.perf_counter() - start, min(len(items), self.config.largest), 0
        for job in jobs:
            own, at = values[at : at + len(job.items)], at + len(job.items)
            if not job.future.done():
                job.future.set_result(Done(own, start - job.arrived, ran, size))

    def _run_all(self, items: Sequence[In]) -> list[Out]:
        """In calls of `largest` at most."""
        parts = (items[at : at + self.config.largest] for at in range(0, len(items), self.config.largest))
        values = [value for part in parts for value in self._run(part)]
        if len(values) != len(items):
            raise AssertionError(f"{len(items)} items made {len(values)} results")
        return values
