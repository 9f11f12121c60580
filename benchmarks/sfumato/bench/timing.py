"""Times on a machine that others use too: candidates take turns in many short rounds.

A slow second then hits all candidates, and a ratio of two of them is taken round by round. Percentiles are over all runs;
the medians of the rounds say how far they can be trusted.

    times = interleave({"int8": run_int8, "float32": run_float}, rounds=10, runs=500, seconds=10)
    times["int8"].p(50), ratio(times["float32"], times["int8"])
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

WARM = 5
"""Untimed runs at the start of each turn: others have used the caches."""
FEWEST = 3
"""Timed runs of a turn, however slow they are."""


@dataclass(frozen=True)
class Times:
    """Nanoseconds of single runs, by round."""

    rounds: tuple[NDArray[np.int64], ...]

    @property
    def runs(self) -> int:
        """Timed runs in all."""
        return sum(map(len, self.rounds))

    def p(self, percent: float) -> float:
        """A percentile of all runs, in milliseconds."""
        return float(np.percentile(np.concatenate(self.rounds), percent)) / 1e6

    @property
    def medians(self) -> tuple[float, ...]:
        """Median of each round, in milliseconds."""
        return tuple(float(np.median(part)) / 1e6 for part in self.rounds)


def interleave(
    candidates: Mapping[str, Callable[[], object]],
    *,
    rounds: int,
    runs: int,
    seconds: float,
    clock: Callable[[], int] | None = None,
) -> dict[str, Times]:
    """Time single calls, turn by turn; every round starts with another candidate.

    Args:
        candidates: what to call, by name.
        rounds: turns each candidate gets.
        runs: timed runs of each candidate in all.
        seconds: or as many as fit into so many seconds of each.
        clock: tells nanoseconds; `time.process_time_ns` counts what this process alone takes of the processor. None: the clock
            on the wall.
    """
    found: dict[str, list[NDArray[np.int64]]] = {name: [] for name in candidates}
    names, clock = list(candidates), clock or time.perf_counter_ns
    for turn in range(rounds):
        start = turn % len(names)
        for name in names[start:] + names[:start]:
            found[name].append(_turn(candidates[name], -(-runs // rounds), 1e9 * seconds / rounds, clock))
    return {name: Times(tuple(parts)) for name, parts in found.items()}


def _turn(call: Callable[[], object], runs: int, limit: float, clock: Callable[[], int]) -> NDArray[np.int64]:
    times: list[int] = []
    begun = clock()
    for _ in range(WARM):
        call()
        if clock() - begun > limit / 4:
            break
    begun = clock()
    while len(times) < runs and (len(times) < FEWEST or clock() - begun < limit):
        before = clock()
        call()
        times.append(clock() - before)
    return np.array(times, dtype=np.int64)


def ratio(above: Times, below: Times) -> float:
    """How many times longer `above` takes: the median over rounds of the ratio of medians."""
    return float(np.median(np.array(above.medians) / np.array(below.medians)))
