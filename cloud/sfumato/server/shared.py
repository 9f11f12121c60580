"""Numbers that the processes of one service share: counters that outlive a killed process, and rates that hold for all of them.

    memory = SharedMemory(processes=2)          # before the processes start; they inherit it
    cells = memory.cells(0)                     # of the first process: it alone writes there
    at = cells.find("sfumato_uploads", "png")
    cells.values[at] += 1
    memory.sums()                               # over all processes, whoever asks
    SharedBuckets(RateLimitConfig(), memory)    # one bucket a client for all processes

The memory is anonymous: no file has it, and it is gone with the last process. A process that is killed leaves whole numbers
behind. The next one in its place goes on from them, so counters never fall.
"""

import hashlib
import json
import mmap
import os
import secrets
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sfumato.server.auth import RateLimitConfig

CELLS = 2**18
"""Bytes for the numbers of one process: a few thousand. Only pages that are written to take memory."""
SETS = 2**12
WAYS = 4
"""Buckets are kept in sets: a client's name says which set, and the one unused for longest makes place. 16,384 in all."""
BUCKET = struct.Struct("=8sdd")
"""Digest of a client's name, uploads that are left, when that was (time.monotonic, one clock for all processes)."""
SET = WAYS * BUCKET.size


class Cells:
    """The numbers of one process. They have names, and are found again by them.

    The first eight bytes say how many are used; then each has its name's length, the name, and the number. The length in use is
    written last: whenever the process ends, what is in use is whole.
    """

    def __init__(self, memory: memoryview) -> None:
        self._memory = memory
        self.values = memory.cast("d")
        """All of the memory as numbers: `find` says which one is meant."""
        self._lengths = memory.cast("Q")
        self._found = {name: at for name, at in self._entries()}

    def find(self, *name: str) -> int:
        """The place of a number in `values`; one that is new is 0. Where there is no room, it is one that nobody reads."""
        key = json.dumps(name)
        found = self._found.get(key)
        if found is None:
            found = self._found[key] = self._add(key.encode())
        return found

    def read(self) -> dict[str, float]:
        """Name, as JSON, -> number; also while their process writes."""
        return {name: self.values[at] for name, at in self._entries()}

    def _add(self, key: bytes) -> int:
        used = self._lengths[0] or 8
        start, length = used + 8, -(-len(key) // 8) * 8
        end = start + length + 8
        if end > len(self._memory) - 8:
            return len(self.values) - 1
        self._lengths[used // 8] = len(key)
        self._memory[start : start + len(key)] = key
        self._lengths[0] = end
        return (end - 8) // 8

    def _entries(self) -> Iterator[tuple[str, int]]:
        at, used = 8, self._lengths[0]
        while at < used:
            length = self._lengths[at // 8]
            start = at + 8
            at = start + -(-length // 8) * 8 + 8
            yield bytes(self._memory[start : start + length]).decode(), (at - 8) // 8


class SharedMemory:
    """Memory for the numbers of `processes` and one more, their supervisor's, and for the buckets of all.

    Args:
        processes: how many.
    """

    def __init__(self, processes: int) -> None:
        self.processes = processes
        self._buckets_at = (processes + 1) * CELLS
        size = self._buckets_at + SETS * SET
        # Locks of a file end with the process that holds them, however it ends; a semaphore would stay taken.
        self._file = os.memfd_create("sfumato", os.MFD_CLOEXEC)
        os.ftruncate(self._file, size)
        self._map = mmap.mmap(self._file, size)
        self._view = memoryview(self._map)
        self.secret = secrets.token_bytes(16)
        """Makes which clients share a set of buckets unforeseeable."""

    def cells(self, process: int) -> Cells:
        """Of one process; that of number `processes` is their supervisor."""
        return Cells(self._view[process * CELLS : (process + 1) * CELLS])

    def sums(self) -> dict[str, float]:
        """Name, as JSON, -> the sum over all processes."""
        total: dict[str, float] = {}
        for process in range(self.processes + 1):
            for name, value in self.cells(process).read().items():
                total[name] = total.get(name, 0.0) + value
        return total

    @contextmanager
    def held(self, number: int) -> Iterator[memoryview]:
        """The buckets of one set, for this process alone as long as the block lasts."""
        import fcntl  # POSIX alone, as is memfd_create

        at = self._buckets_at + number * SET
        fcntl.lockf(self._file, fcntl.LOCK_EX, SET, at)
        try:
            yield self._view[at : at + SET]
        finally:
            fcntl.lockf(self._file, fcntl.LOCK_UN, SET, at)


@dataclass(frozen=True)
class Place:
    """Which of a service's processes this is."""

    memory: SharedMemory
    number: int

    def share(self, budget: float) -> float:
        """This process's part of a budget of the whole service."""
        return max(1.0, budget // self.memory.processes)


class SharedBuckets:
    """A token bucket per client for all processes: `auth.Buckets` in shared memory, with the same arithmetic."""

    def __init__(
        self, config: RateLimitConfig, memory: SharedMemory, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.config, self._memory, self._clock = config, memory, clock

    def take(self, client: str, count: int = 1) -> float:
        """Count `count` uploads, `burst` at most: 0 if they are let in, else the seconds until they would be."""
        name = hashlib.blake2b(
            client.encode("utf-8", "surrogatepass"), digest_size=10, key=self._memory.secret
        ).digest()
        number, key = int.from_bytes(name[:2], "big") % SETS, name[2:]
        config = self.config
        with self._memory.held(number) as memory:
            now, burst = self._clock(), float(config.burst)
            buckets = list(BUCKET.iter_unpack(memory))
            place = next((at for at, bucket in enumerate(buckets) if bucket[0] == key), None)
            level, seen = buckets[place][1:] if place is not None else (burst, now)
            if place is None:  # an unused one was seen at 0
                place = min(range(WAYS), key=lambda at: float(buckets[at][2]))
            level = min(burst, level + (now - seen) * config.per_second)
            let_in = level >= count
            BUCKET.pack_into(memory, place * BUCKET.size, key, level - count if let_in else level, now)
        return 0.0 if let_in else (count - level) / config.per_second
