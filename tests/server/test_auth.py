"""Rate limit, concurrency limit and batching, under a clock and a network of the test's own."""

import asyncio
from collections.abc import Sequence

import pytest

from sfumato.server.auth import Buckets, ConcurrencyLimit, RateLimitConfig
from sfumato.server.batching import BatchConfig, Batcher, Done
from sfumato.server.problems import OverloadedError


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_bucket_counts_uploads_not_requests() -> None:
    clock = Clock()
    buckets = Buckets(RateLimitConfig(per_second=2, burst=10), clock=clock)
    assert buckets.take("a", 8) == 0
    assert buckets.take("a", 4) == 1.0  # two are left, two more take a second
    assert buckets.take("a", 2) == 0  # a refused request has taken nothing
    clock.now = 2.0
    assert buckets.take("a", 4) == 0
    assert buckets.take("b", 10) == 0


def test_fewer_are_let_in_while_answers_are_late_and_more_again_after() -> None:
    clock = Clock()
    limit = ConcurrencyLimit(60, target=1.0, clock=clock)
    limit.count = 54
    assert not limit.full
    clock.now = 5.0
    limit.answered(3.9)
    assert limit.limit == pytest.approx(54)
    assert limit.full
    limit.answered(3.9)  # it arrived with the last one: no new information
    assert limit.limit == pytest.approx(54)
    for _ in range(54):
        limit.answered(4.5)
    assert 54.9 < limit.limit <= 55
    for _ in range(1000):
        limit.answered(4.5)
    assert limit.limit == 60
    for _ in range(100):
        clock.now += 2
        limit.answered(0.0)
    assert limit.limit == 1
    limit.count = 0
    assert not limit.full


def run_batches(
    sizes: Sequence[int], config: BatchConfig
) -> tuple[list[Done[int] | BaseException], list[int]]:
    """Submit groups of these sizes at once to a network that doubles; what became of each, and the sizes of its calls."""
    calls = []

    def double(items: Sequence[int]) -> list[int]:
        calls.append(len(items))
        return [2 * item for item in items]

    async def go() -> list[Done[int] | BaseException]:
        batcher = Batcher(double, config)
        await batcher.start()
        groups = [range(100 * number, 100 * number + size) for number, size in enumerate(sizes)]
        found = await asyncio.gather(*(batcher.submit(group) for group in groups), return_exceptions=True)
        assert batcher.waiting == 0
        await batcher.stop()
        return found

    return asyncio.run(go()), calls


def test_groups_and_single_items_share_calls_and_keep_their_results() -> None:
    sizes = [1, 3, 9, 1, 2]
    found, calls = run_batches(sizes, BatchConfig(largest=4))
    for number, (size, done) in enumerate(zip(sizes, found, strict=True)):
        assert isinstance(done, Done)
        assert list(done.values) == [2 * (100 * number + item) for item in range(size)]
    assert sum(calls) == sum(sizes)
    assert max(calls) == 4
    assert len(calls) < len(sizes) + 2


def test_the_queue_counts_items() -> None:
    found, calls = run_batches([6, 3, 2, 5], BatchConfig(largest=4, queue=8))
    assert [isinstance(done, OverloadedError) for done in found] == [False, True, False, True]
    assert sum(calls) == 8
