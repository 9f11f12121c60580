"""The account of what was sent: sums, limits and days; restarts, crashes, several writers, older copies, damage."""

import json
import math
import os
import random
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sfumato.core.errors import UsageError
from sfumato.runtime.ledger import (
    ANY,
    Draw,
    Ledger,
    LimitError,
    checked_service,
    draw_id,
    ledger_key,
    ledger_path,
    service_of,
)
from sfumato.runtime.phone_model import PhoneModel
from sfumato.runtime.sealed_log import LogError

KEY = bytes(range(32))
DAY = 86_400
NOON = 20_785 * DAY + DAY // 2
"""2026-11-28, 12:00 UTC."""
HOST = "photos.example"


class Clock:
    """A clock that can be set."""

    def __init__(self) -> None:
        self.now = float(NOON)

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger"


@pytest.fixture
def ledger(path: Path, clock: Clock) -> Ledger:
    return Ledger(path, KEY, clock=clock)


def draw(number: int, bits: float | None = 1.0) -> Draw:
    return Draw(number.to_bytes(16, "big"), bits)


def anchor(path: Path) -> Path:
    return path.with_name(path.name + ".anchor")


def test_the_sentence(ledger: Ledger) -> None:
    assert (
        ledger.account(HOST).sentence()
        == "Today 0 photos, at most 0.0 bits to photos.example; no limit is set."
    )
    ledger.set_limit(HOST, day=100, total=None)
    for number in range(12):
        account = ledger.spend(HOST, draw(number, 1.0875))
    assert account.sentence() == "Today 12 photos, at most 13.1 bits to photos.example; the limit is 100."
    assert ledger.spend("b.example", draw(1, 0.25)).sentence() == (
        "Today 1 photo, at most 0.3 bits to b.example; no limit is set."
    )
    ledger.set_limit(HOST, day=0.5, total=1000)
    assert ledger.account(HOST).sentence() == (
        "Today 12 photos, at most 13.1 bits to photos.example; the limit is 0.5; "
        "the limit for all days is 1000, 13.1 are spent."
    )


def test_the_same_draw_again_costs_nothing_at_the_same_service(ledger: Ledger, clock: Clock) -> None:
    for _ in range(3):
        ledger.spend(HOST, draw(1, 2.5))
    ledger.spend("other.example", draw(1, 2.5))
    clock.now += DAY
    account = ledger.spend(HOST, draw(1, 2.5))
    assert (account.today.uploads, account.today.draws, account.today.microbits) == (1, 0, 0)
    assert (account.total.uploads, account.total.draws, account.total.microbits) == (4, 1, 2_500_000)
    assert ledger.account("other.example").total.microbits == 2_500_000
    fresh = [ledger.spend(HOST, Draw(None, 1.0)) for _ in range(2)]
    assert fresh[-1].total.draws == 3


def test_a_draw_is_photo_contract_and_parameters_under_one_key() -> None:
    given = (KEY, bytes(32), b"qq", b"pixels")
    first = draw_id(*given)
    assert first == draw_id(*given)
    changed = [
        draw_id(bytes(32), *given[1:]),
        draw_id(KEY, b"c" * 32, b"qq", b"pixels"),
        draw_id(KEY, bytes(32), b"q", b"pixels"),
        draw_id(KEY, bytes(32), b"qq", b"qpixels"),
    ]
    assert len({first, *changed}) == 5
    assert {len(one) for one in changed} == {16}
    assert ledger_key(KEY) != KEY


def test_sums_are_those_of_the_slow_count(path: Path, clock: Clock) -> None:
    """Random uploads of a week, read back by another ledger, against a plain list of what was sent."""
    rng, sent = random.Random(3), list[tuple[str, str, int, float]]()
    ledger = Ledger(path, KEY, clock=clock)
    for _ in range(300):
        clock.now += rng.uniform(0, DAY / 20)
        service, number = rng.choice(["a.example", "b.example"]), rng.randrange(150)
        bits = math.sin(number) ** 2 * 20
        ledger.spend(service, draw(number, bits))
        sent.append((time.strftime("%Y-%m-%d", time.gmtime(clock.now)), service, number, bits))
    again = Ledger(path, KEY, clock=clock)
    for service in ("a.example", "b.example"):
        seen, days = set[int](), defaultdict[str, list[float]](list)
        uploads = [entry for entry in sent if entry[1] == service]
        for day, _, number, bits in uploads:
            days[day] += [] if number in seen else [math.ceil(bits * 1e6) / 1e6]
            seen.add(number)
        account = again.account(service)
        assert account.total.uploads == len(uploads)
        assert account.total.draws == len(seen)
        assert account.total.microbits / 1e6 == pytest.approx(sum(map(sum, days.values())), abs=1e-9)
        assert {day: tally.draws for day, tally in account.days.items()} == {
            day: len(days[day]) for day in days
        }
        found = {day: tally.microbits / 1e6 for day, tally in account.days.items()}
        assert found == pytest.approx({day: sum(bits) for day, bits in days.items()})
        assert account.to_json() == ledger.account(service).to_json()


def test_over_the_limit_nothing_is_counted(ledger: Ledger, clock: Clock) -> None:
    ledger.set_limit(HOST, day=3, total=5)
    for number in range(3):
        ledger.spend(HOST, draw(number))
    with pytest.raises(LimitError) as refusal:
        ledger.spend(HOST, draw(3, 0.05))
    assert str(refusal.value) == (
        "photos.example: this photo's 0.1 bits would make 3.1 today and the limit is 3: nothing was sent; "
        "wait for the next day (UTC) or raise the limit"
    )
    assert ledger.account(HOST).total.uploads == 3
    ledger.spend(HOST, draw(2))  # again: costs nothing
    clock.now += DAY
    ledger.spend(HOST, draw(3))
    with pytest.raises(
        LimitError, match=r"2\.0 bits would make 6\.0 in all and the limit is 5: nothing was sent; raise"
    ):
        ledger.spend(HOST, draw(4, 2))
    ledger.set_limit(HOST, day=None, total=None)
    assert ledger.spend(HOST, draw(4, 2000)).total.microbits == 2_004_000_000


def test_of_many_those_that_fit_are_counted(ledger: Ledger) -> None:
    ledger.set_limit(ANY, day=3, total=None)
    refusals = ledger.spend_many(HOST, [draw(1, 2), draw(2, 2), draw(1, 2), draw(3, 1), draw(4, 0.5)])
    assert [refusal is None for refusal in refusals] == [True, False, True, True, False]
    account = ledger.account(HOST)
    assert (account.today.uploads, account.today.microbits) == (3, 3_000_000)
    ledger.set_limit(HOST, day=4, total=None)  # its own counts, not that of all
    ledger.spend(HOST, draw(5, 1))
    assert [account.service for account in ledger.accounts()] == [HOST]


def test_without_a_bound_there_is_no_staying_below_a_limit(ledger: Ledger) -> None:
    assert ledger.spend(HOST, draw(1, None)).sentence() == (
        "Today 1 photo, at most 0.0 bits (and 1 photo without a bound) to photos.example; no limit is set."
    )
    ledger.set_limit(HOST, day=1e6, total=None)
    with pytest.raises(LimitError, match="no bound here and the limit is 1000000 today: nothing was sent"):
        ledger.spend(HOST, draw(2, None))


def test_the_clock_back_and_forth(ledger: Ledger, path: Path, clock: Clock) -> None:
    ledger.set_limit(HOST, day=2, total=None)
    ledger.spend(HOST, draw(1, 2))
    clock.now -= 3 * DAY  # back: the day's account stays
    with pytest.raises(LimitError):
        ledger.spend(HOST, draw(2, 2))
    assert (
        ledger.account(HOST)
        .sentence()
        .endswith(
            "The clock was put back: the day of this account stays 2026-11-28 until the clock is there again."
        )
    )
    clock.now = NOON + 30 * DAY  # forth: one day's worth, however far
    ledger.spend(HOST, draw(2, 2))
    for days in (30, 29, 1, 0, -5, 30):
        clock.now = NOON + days * DAY
        with pytest.raises(LimitError):
            ledger.spend(HOST, draw(3, 1))
    clock.now = NOON + DAY
    ledger.accept_clock()
    account = ledger.account(HOST)
    assert (account.day, account.ahead, account.today.microbits) == ("2026-11-29", False, 2_000_000)
    with pytest.raises(LimitError):
        ledger.spend(HOST, draw(3, 1))  # what was counted in the wrong day is this day's
    clock.now += DAY
    assert Ledger(path, KEY, clock=clock).spend(HOST, draw(3, 1)).today.microbits == 1_000_000


def test_the_files_are_for_this_user_alone(ledger: Ledger, path: Path) -> None:
    ledger.spend(HOST, draw(1))
    for file in (path, anchor(path)):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    path.chmod(0o644)
    ledger.spend(HOST, draw(2))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert sorted(file.name for file in path.parent.iterdir()) == ["ledger", "ledger.anchor"]


@pytest.mark.parametrize("lines", [1, 3])
def test_an_older_copy_is_noticed(path: Path, clock: Clock, lines: int) -> None:
    ledger = Ledger(path, KEY, clock=clock)
    ledger.set_limit(HOST, day=5, total=None)
    for number in range(lines - 1):
        ledger.spend(HOST, draw(number))
    old = path.read_bytes()
    ledger.spend(HOST, draw(8))
    path.write_bytes(old)
    for keeper in (ledger, ledger, Ledger(path, KEY, clock=clock)):
        with pytest.raises(LogError, match="an older copy: put the newest back"):
            keeper.spend(HOST, draw(9))
    assert path.read_bytes() == old  # never reset
    assert ledger.repair()[0] == lines + 1
    assert "Entries were lost on 2026-11-28" in ledger.spend(HOST, draw(9)).sentence()


def test_an_older_copy_that_was_written_on_is_noticed(path: Path, clock: Clock, tmp_path: Path) -> None:
    """Both files are copied, the copy goes on elsewhere, and then takes the place of the ledger alone."""
    ledger = Ledger(path, KEY, clock=clock)
    ledger.spend(HOST, draw(1))
    for file in (path, anchor(path)):
        shutil.copy(file, tmp_path / f"copy{file.name.removeprefix('ledger')}")
    copy = Ledger(tmp_path / "copy", KEY, clock=clock)
    ledger.spend(HOST, draw(2))
    for number in range(3, 6):
        copy.spend(HOST, draw(number))
    shutil.copy(copy.path, path)
    for keeper in (ledger, Ledger(path, KEY, clock=clock)):
        with pytest.raises(LogError, match="damaged at entry"):
            keeper.account(HOST)


def test_a_file_that_is_gone_is_noticed(ledger: Ledger, path: Path, clock: Clock) -> None:
    ledger.spend(HOST, draw(1))
    kept = anchor(path).read_bytes()
    anchor(path).unlink()
    with pytest.raises(LogError, match=r"ledger\.anchor is missing: put it back, or `sfumato ledger repair`"):
        ledger.spend(HOST, draw(2))
    anchor(path).write_bytes(kept)
    ledger.spend(HOST, draw(2))
    path.unlink()
    for keeper in (ledger, Ledger(path, KEY, clock=clock)):
        with pytest.raises(LogError, match="older copy"):
            keeper.spend(HOST, draw(3))


def test_another_key_is_told_from_damage(ledger: Ledger, path: Path) -> None:
    ledger.spend(HOST, draw(1))
    before = path.read_bytes()
    with pytest.raises(LogError, match="belongs to another device key"):
        Ledger(path, bytes(32)).spend(HOST, draw(2))
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        ("upload", "microbits", "1"), ("upload", "microbits", -1), ("upload", "microbits", True),
        ("upload", "draw", [1]), ("upload", "service", None), ("upload", "day", 20_260_102),
        ("limit", "limit_day", [5]), ("limit", "limit_total", 0.5), ("limit", "service", {}),
    ],
)  # fmt: skip
def test_entries_of_another_kind_are_another_versions(
    path: Path, clock: Clock, kind: str, name: str, value: object
) -> None:
    """Under the right key, with a value of a type that this version does not write."""
    ledger = Ledger(path, KEY, clock=clock)
    ledger.spend(HOST, draw(1))
    ledger.set_limit(HOST, day=5, total=None)
    entries = [json.loads(line.rpartition(b" ")[0]) for line in path.read_bytes().splitlines()]
    entry = {**next(one for one in entries if one["kind"] == kind), name: value}
    with ledger._log.held():
        ledger._log.append([entry])
    with pytest.raises(LogError, match="of a kind that this version does not know"):
        Ledger(path, KEY, clock=clock).accounts()


def test_damage_anywhere_is_noticed_and_nothing_is_lost_silently(path: Path, clock: Clock) -> None:
    ledger = Ledger(path, KEY, clock=clock)
    for number in range(4):
        ledger.spend(HOST, draw(number))
    whole, sealed = path.read_bytes(), anchor(path).read_bytes()
    rng = random.Random(5)
    for _ in range(60):
        at = rng.randrange(len(whole))
        content = whole[:at] + bytes([whole[at] ^ rng.randrange(1, 256)]) + whole[at + 1 :]
        path.write_bytes(content)
        with pytest.raises(LogError, match=r"damaged at entry \d: put a whole copy back|older copy"):
            Ledger(path, KEY, clock=clock).account(HOST)
        assert path.read_bytes() == content
    path.write_bytes(whole)
    for at in range(len(sealed) - 1):
        anchor(path).write_bytes(sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :])
        with pytest.raises(LogError, match=r"is damaged|another device key"):
            Ledger(path, KEY, clock=clock).account(HOST)
    line = whole.index(b"\n", whole.index(b"\n") + 1) + 1
    path.write_bytes(whole[:line] + b"?" + whole[line + 1 :])
    repaired = Ledger(path, KEY, clock=clock)
    kept, aside = repaired.repair()
    assert kept == 2
    assert aside is not None
    assert aside.read_bytes() == whole[:line] + b"?" + whole[line + 1 :]
    assert stat.S_IMODE(aside.stat().st_mode) == 0o600
    account = Ledger(path, KEY, clock=clock).account(HOST)
    assert (account.total.draws, account.lost) == (1, "2026-11-28")


def test_lines_of_the_ledger_cannot_be_dropped_or_moved(ledger: Ledger, path: Path) -> None:
    for number in range(4):
        ledger.spend(HOST, draw(number))
    lines = path.read_bytes().splitlines(keepends=True)
    for wrong in (
        lines[:2] + lines[3:],
        [*lines[:2], lines[3], lines[2], lines[4]],
        [*lines[:2], *lines[1:]],
    ):
        path.write_bytes(b"".join(wrong))
        with pytest.raises(LogError):
            Ledger(path, KEY).account(HOST)


@pytest.mark.parametrize("left", [0, 1, 40, -1])
def test_what_a_crash_left_unfinished_is_cut_off(path: Path, clock: Clock, left: int) -> None:
    """The line was begun, its anchor was not written, so nothing was sent for it."""
    ledger = Ledger(path, KEY, clock=clock)
    ledger.spend(HOST, draw(1))
    before, sealed = path.read_bytes(), anchor(path).read_bytes()
    ledger.spend(HOST, draw(2))
    after = path.read_bytes()
    path.write_bytes(after[: len(before) + left] if left >= 0 else after)
    anchor(path).write_bytes(sealed)
    account = Ledger(path, KEY, clock=clock).spend(HOST, draw(3))
    assert account.total.draws == (3 if left < 0 else 2)  # a whole line stays counted
    path.write_bytes(path.read_bytes() + bytes(512))  # blocks that a power loss left empty
    assert Ledger(path, KEY, clock=clock).spend(HOST, draw(4)).total.draws == account.total.draws + 1


@pytest.mark.parametrize("first", [b"", b'{"kind":"op', b"OPENING"])
def test_a_crash_in_the_first_moment(path: Path, clock: Clock, first: bytes) -> None:
    Ledger(path, KEY, clock=clock).account(HOST)
    path.write_bytes(path.read_bytes() if first == b"OPENING" else first)
    anchor(path).unlink()
    ledger = Ledger(path, KEY, clock=clock)
    assert ledger.account(HOST).total.draws == 0
    assert ledger.spend(HOST, draw(1)).total.draws == 1
    assert Ledger(path, KEY, clock=clock).account(HOST).total.draws == 1


WRITER = """
import sys
from pathlib import Path
from sfumato.runtime.ledger import Draw, Ledger
path, start, count = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
ledger = Ledger(path, bytes(range(32)))
for number in range(start, start + count):
    ledger.spend("photos.example", Draw(number.to_bytes(16, "big"), 0.5))
    print(number, flush=True)       # stands for the upload
"""


def writer(path: Path, start: int, count: int) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", WRITER, str(path), str(start), str(count)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_killed_at_any_moment_no_upload_goes_uncounted(path: Path) -> None:
    rng, sent = random.Random(1), set[int]()
    for run in range(12):
        process = writer(path, 10_000 * run, 10_000)
        assert process.stdout is not None
        sent.add(int(process.stdout.readline()))
        time.sleep(rng.uniform(0, 0.05))
        process.send_signal(signal.SIGKILL)
        sent |= {int(line) for line in process.stdout.read().split("\n")[:-1]}
        process.wait()
        ledger = Ledger(path, KEY)
        lines = path.read_text(encoding="utf-8").splitlines()
        counted = {int(json.loads(line[:-65])["draw"], 16) for line in lines if '"upload"' in line}
        assert sent <= counted
        assert len(counted - sent) <= run + 1  # at most the one upload of each run that it was killed before
        assert ledger.account(HOST).total.microbits == 500_000 * len(counted)
    assert len(sent) >= 12


def test_two_processes_and_threads_at_once(path: Path) -> None:
    processes = [writer(path, 1_000 * number, 60) for number in range(2)]
    ledger = Ledger(path, KEY)

    def spend(start: int) -> None:
        for number in range(start, start + 30):
            ledger.spend(HOST, draw(number, 0.5))

    threads = [threading.Thread(target=spend, args=(start,)) for start in (5_000, 6_000)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for process in processes:
        process.communicate()
        assert process.returncode == 0
    for keeper in (ledger, Ledger(path, KEY)):
        total = keeper.account(HOST).total
        assert (total.uploads, total.draws, total.microbits) == (180, 180, 90_000_000)


def test_two_processes_share_one_limit(path: Path) -> None:
    Ledger(path, KEY).set_limit(HOST, day=20, total=None)
    processes = [writer(path, 1_000 * number, 60) for number in range(2)]
    printed = sum(len(process.communicate()[0].splitlines()) for process in processes)
    assert printed == 40
    assert Ledger(path, KEY).account(HOST).total.microbits == 20_000_000


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write everywhere")
def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "shut").mkdir(mode=0o500)
    with pytest.raises(LogError, match="Permission denied"):
        Ledger(tmp_path / "shut" / "ledger", KEY).account(HOST)


def test_a_place_that_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(LogError, match=r"cannot be kept .*: nothing may be sent without it"):
        Ledger(tmp_path, KEY).account(HOST)


@pytest.mark.parametrize("bits", [-1.0, float("nan"), float("inf"), 1e10])
def test_bits_that_are_none(ledger: Ledger, bits: float) -> None:
    with pytest.raises(UsageError, match="bits are a number"):
        ledger.spend(HOST, draw(1, bits))
    with pytest.raises(UsageError, match="bits are a number"):
        ledger.set_limit(HOST, day=bits, total=None)
    assert ledger.account(HOST).total.uploads == 0


@pytest.mark.parametrize("name", ["", "Photos.example", "a b", "ü.example", ANY, 'a"', "a\n", "a" * 254])
def test_names_that_no_service_has(ledger: Ledger, name: str) -> None:
    with pytest.raises(UsageError, match="is no service"):
        ledger.spend(name, draw(1))
    with pytest.raises(UsageError):
        checked_service(name)


def test_where_things_are() -> None:
    assert ledger_path(Path("/etc/x/device.key")) == Path("/etc/x/device.key.ledger")
    hosts = ("https://photos.example/v1", "http://[::1]:80", "https://BÜCHER.example:8443")
    assert [service_of(url) for url in hosts] == ["photos.example", "::1", "xn--bcher-kva.example"]


@pytest.mark.parametrize("randomised", [False, True])
def test_a_code_word_counts_as_log2_of_the_words(
    answer_export: Callable[[bool], Path], ledger: Ledger, randomised: bool
) -> None:
    model = PhoneModel.load(answer_export(randomised))
    assert model.contract.answer is not None
    height, width = model.contract.size
    rng = np.random.default_rng(3)
    photos = rng.integers(0, 256, (3, height, width, 3), dtype=np.uint8)
    for photo in (*photos, photos[0]):
        for encoding in ("word", "image"):  # the same draw in two forms
            upload = model.perturb(photo, key=KEY, encoding=encoding)
            account = ledger.spend(HOST, Draw(upload.draw, upload.rate_bits))
    assert (account.today.uploads, account.today.draws) == (8, 3)
    assert account.today.microbits == 3 * math.ceil(1e6 * math.log2(model.contract.answer.words))
    assert model.perturb(photos[0]).draw is None


def test_a_camera_and_its_service_are_counted_together_or_not_at_all(path: Path, clock: Clock) -> None:
    ledger = Ledger(path, KEY, clock=clock)
    ledger.set_limit(HOST, day=None, total=10)
    ledger.set_limit(f"door@{HOST}", day=None, total=6)
    ledger.set_limit(ANY, day=None, total=1)  # of services without a limit of their own: no camera is one
    draws = [Draw(bytes([number]) * 16, 4.0) for number in range(4)]
    assert [bool(one) for one in ledger.spend_many(HOST, draws[:2], camera="door")] == [False, True]
    assert [bool(one) for one in ledger.spend_many(HOST, draws[1:3], camera="yard")] == [False, True]
    assert [bool(one) for one in ledger.spend_many(HOST, draws[:1], camera="door")] == [False]  # known: free
    again = Ledger(path, KEY, clock=clock)
    door, yard = again.cameras()
    (service,) = again.accounts()
    assert [(one.total.uploads, one.total.draws, one.total.microbits) for one in (door, yard, service)] == [
        (2, 1, 4_000_000),
        (1, 1, 4_000_000),
        (3, 2, 8_000_000),
    ]
    # A draw that the service has from one camera is still a new one of another: each account stands for itself.
    again.set_limit(HOST, day=None, total=None)
    assert again.spend_many(HOST, [draws[0]], camera="yard") == [None]
    assert again.account(HOST).total.draws == 2
    assert again.account(f"yard@{HOST}").total.draws == 2
    for wrong in ("", "Door", "a b", "a@b", "x" * 65):
        with pytest.raises(UsageError, match="name of a camera"):
            again.spend_many(HOST, draws, camera=wrong)


def test_hours_of_a_camera(path: Path, clock: Clock) -> None:
    ledger = Ledger(path, KEY, clock=clock)
    for number, hours in enumerate((0, 0.5, 1, 24)):
        clock.now = NOON + 3600 * hours
        ledger.spend_many(HOST, [Draw(bytes([number]) * 16, 1.5)], camera="door")
    clock.now = NOON  # put back: the account's day stays, and its first hour is taken
    ledger.spend_many(HOST, [Draw(b"z" * 16, 1.5)], camera="door")
    found = Ledger(path, KEY, clock=clock).account(f"door@{HOST}")
    assert {hour: tally.draws for hour, tally in found.hours.items()} == {
        "2026-11-28T12": 2,
        "2026-11-28T13": 1,
        "2026-11-29T12": 1,
        "2026-11-29T00": 1,
    }
    assert (found.day, found.today.draws, found.total.draws) == ("2026-11-29", 2, 5)
