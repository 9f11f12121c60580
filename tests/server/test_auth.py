"""Rate limit, concurrency limit and batching, under a clock and a network of the test's own."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from sfumato.core.errors import SfumatoError
from sfumato.server import batching
from sfumato.server.auth import Buckets, ConcurrencyLimit, RateLimitConfig, Tokens
from sfumato.server.batching import BatchConfig, Batcher, Done
from sfumato.server.problems import OverloadedError

TOKEN = "0123456789abcdef"


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
    held = [f"client {number}" for number in range(54)]
    assert all(map(limit.take, held))
    assert limit.fits("one more")
    clock.now = 5.0
    limit.answered(3.9)
    assert limit.total == pytest.approx(54)
    assert not limit.fits("one more")
    limit.answered(3.9)  # it arrived with the last one: no new information
    assert limit.total == pytest.approx(54)
    for _ in range(54):
        limit.answered(4.5)
    assert 54.9 < limit.total <= 55
    for _ in range(1000):
        limit.answered(4.5)
    assert limit.total == 60
    for _ in range(100):
        clock.now += 2
        limit.answered(0.0)
    assert limit.total == 1
    for client in held:
        limit.give(client)
    assert limit.fits("anyone")


def run_batches(
    sizes: Sequence[int], config: BatchConfig, clients: str = ""
) -> tuple[list[Done[int] | BaseException], list[int]]:
    """Submit groups of these sizes, of one client or of a letter each, at once to a network that doubles.

    Returns:
        What became of each, and the sizes of the network's calls.
    """
    calls = []

    def double(items: Sequence[int]) -> list[int]:
        calls.append(len(items))
        return [2 * item for item in items]

    async def go() -> list[Done[int] | BaseException]:
        batcher: Batcher[int, int] = Batcher(double, config)
        await batcher.start()
        groups = [range(100 * number, 100 * number + size) for number, size in enumerate(sizes)]
        names = clients or len(sizes) * "a"
        asked = (batcher.submit(group, client=name) for group, name in zip(groups, names, strict=True))
        found = await asyncio.gather(*asked, return_exceptions=True)
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


def test_the_queue_counts_items_and_nobody_may_hold_more_than_is_left() -> None:
    config = BatchConfig(largest=4, queue=8)
    found, calls = run_batches([6, 3, 2, 5], config, "aabb")
    assert [isinstance(done, OverloadedError) for done in found] == [False, True, False, True]
    assert sum(calls) == 8
    found, _ = run_batches([2, 2, 1, 3, 4], config, "aaabb")
    assert [isinstance(done, OverloadedError) for done in found] == [False, False, True, False, True]


def test_clients_take_turns() -> None:
    """Whoever sends one upload waits for one of each of the others, however many they have sent."""
    order: list[str] = []

    async def go() -> None:
        def note(items: Sequence[str]) -> Sequence[str]:
            order.extend(items)
            return items

        batcher: Batcher[str, str] = Batcher(note, BatchConfig(largest=1, queue=100))
        names = [*(f"a{number}" for number in range(9)), *(f"b{number}" for number in range(3)), "c0"]
        waiting = [asyncio.create_task(batcher.submit([name], client=name[0])) for name in names]
        await asyncio.sleep(0)
        await batcher.start()
        await asyncio.gather(*waiting)
        await batcher.stop()

    asyncio.run(go())
    assert order == ["a0", "b0", "c0", "a1", "b1", "a2", "b2", *(f"a{number}" for number in range(3, 9))]


class Slow:
    """A network that runs until it is let go, and notes what it and its preparation are given."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.ran: list[list[int]] = []
        self.prepared: list[list[int]] = []

    def prepare(self, items: Sequence[int]) -> list[int]:
        self.prepared.append([*items])
        return [*items]

    def run(self, items: list[int]) -> list[int]:
        self.ran.append(items)
        assert self.go.wait(60)
        return items


async def until(holds: Callable[[], bool]) -> None:
    for _ in range(6000):
        if holds():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it never held")


LONG = BatchConfig(largest=4, delay_ms=30_000, deadline_ms=60_000)
"""A test that waits for company where none comes would take half a minute."""


def test_a_lone_upload_waits_for_nobody() -> None:
    async def go() -> Done[int]:
        batcher: Batcher[int, int] = Batcher(lambda items: items, LONG)
        await batcher.start()
        done = await batcher.submit([7])
        again = await batcher.submit([8])
        await batcher.stop()
        assert [*done.values, *again.values] == [7, 8]
        return again

    assert asyncio.run(go()).waited_s < 10


def test_an_upload_waits_while_another_is_being_read_and_no_longer() -> None:
    calls: list[int] = []

    def note(items: Sequence[int]) -> Sequence[int]:
        calls.append(len(items))
        return items

    async def go() -> None:
        batcher: Batcher[int, int] = Batcher(note, LONG)
        await batcher.start()
        with batcher.coming():  # this one becomes an upload
            first = asyncio.create_task(batcher.submit([1]))
            await asyncio.sleep(0.2)
            assert calls == []
        await batcher.submit([2])
        await first
        assert calls == [2]
        with batcher.coming():  # this one is refused
            third = asyncio.create_task(batcher.submit([3]))
            await asyncio.sleep(0.2)
            assert calls == [2]
        await third
        with batcher.coming():  # a full batch waits for nobody
            await asyncio.gather(*(batcher.submit([number]) for number in range(4)))
        assert calls == [2, 1, 4]
        await batcher.stop()

    asyncio.run(go())


def test_the_wait_for_company_ends() -> None:
    async def go() -> Done[int]:
        batcher: Batcher[int, int] = Batcher(
            lambda items: items, BatchConfig(delay_ms=50, deadline_ms=60_000)
        )
        await batcher.start()
        with batcher.coming():
            done = await batcher.submit([1])
        await batcher.stop()
        return done

    assert asyncio.run(go()).waited_s > 0.04


def test_a_full_batch_is_prepared_beside_the_network_and_others_wait() -> None:
    slow = Slow()

    async def go() -> list[Done[int]]:
        batcher = Batcher(slow.run, LONG, prepare=slow.prepare)
        await batcher.start()
        asked = [asyncio.create_task(batcher.submit([0]))]
        await until(lambda: slow.ran == [[0]])
        asked += [asyncio.create_task(batcher.submit([number])) for number in (1, 2, 3)]
        await asyncio.sleep(0.2)
        assert slow.prepared == [[0]]  # not full: more may come for free
        asked += [asyncio.create_task(batcher.submit([number])) for number in range(4, 12)]
        await until(lambda: slow.prepared == [[0], [1, 2, 3, 4]])
        await asyncio.sleep(0.2)
        assert len(slow.prepared) == 2  # no more than one ahead
        assert batcher.waiting == 7
        assert slow.ran == [[0]]  # and the network has one batch at a time
        slow.go.set()
        await batcher.stop()  # answers them all
        return [await one for one in asked]

    found = asyncio.run(go())
    assert [value for done in found for value in done.values] == [*range(12)]
    assert slow.ran == [[0], [1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 11]]


def test_a_deadline_passes_while_the_network_runs() -> None:
    slow = Slow()

    async def go() -> None:
        batcher: Batcher[int, int] = Batcher(slow.run, BatchConfig(deadline_ms=100))
        await batcher.start()
        with pytest.raises(OverloadedError, match="100 ms"):
            await batcher.submit([1])
        slow.go.set()
        assert (await batcher.submit([2])).values == [2]
        await batcher.stop()

    asyncio.run(go())


def test_a_network_that_ends_no_batch_is_said_to_be_stuck(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batching, "STUCK_SECONDS", 2.0)
    slow = Slow()

    async def go() -> None:
        batcher: Batcher[int, int] = Batcher(slow.run, BatchConfig(deadline_ms=60))
        assert not batcher.alive
        await batcher.start()
        await asyncio.sleep(0.5)
        assert batcher.alive, "it has nothing to do"
        with pytest.raises(OverloadedError):
            await batcher.submit([1])
        assert batcher.alive, "a late answer is not yet none"
        await until(lambda: not batcher.alive)
        slow.go.set()
        await until(lambda: batcher.alive)
        assert (await batcher.submit([2])).values == [2]
        await batcher.stop()

    asyncio.run(go())


@pytest.mark.parametrize(
    "text",
    [
        "\ufeffmetrics {0}m\r\napp {0}a\r\n",
        "# of ours\n\n  metrics\t{0}m\napp {0}a",
        "metrics {0}m\rapp {0}a",
    ],
)
def test_token_files_of_every_editor(text: str) -> None:
    tokens = Tokens.parse(text.format(TOKEN), "the file")
    assert tokens.holder(f"Bearer {TOKEN}m") == "metrics"
    assert tokens.holder(f"Bearer {TOKEN}a") == "app"


@pytest.mark.parametrize(
    "content", ["app {0}é", "a\x1b[31mpp {0}", "app {0}\x7f", "app", "app short", "a {0} c", "\ufeff"]
)
def test_lines_that_are_no_tokens_are_refused_without_being_shown(content: str, tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_text(content.format(TOKEN), encoding="utf-8")
    file.chmod(0o600)
    with pytest.raises(SfumatoError) as error:
        Tokens.read(file)
    assert TOKEN not in str(error.value)
    assert str(error.value).isprintable()


def test_a_token_file_of_utf_16_is_named(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_text(f"app {TOKEN}", encoding="utf-16")
    file.chmod(0o600)
    with pytest.raises(SfumatoError, match="UTF-8"):
        Tokens.read(file)
