"""The load and abuse commands in short versions, and that they notice what they are there to notice.

Beside the tests of the service, whose export they share.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import uvloop
from tests.load.__main__ import app, end
from tests.load.abuse import ALLOWED_MB, Report, hostile, malformed
from tests.load.cases import make_batches, make_cases
from tests.load.clients import closed_loop
from tests.load.endurance import crash, overload, soak
from tests.load.load import load
from tests.load.service import UNLIMITED, Service
from typer.testing import CliRunner

from sfumato.core.errors import UsageError
from sfumato.server.formats import WORD


def test_load_beside_the_network_alone(bundle: Path) -> None:
    rows = list(load(bundle, clients=(1, 4), seconds=0.3, form="packed", processes=2))
    names = ["1 clients, 2 services", "4 clients, 2 services"]
    assert [row.name for row in rows[2:]] == [*names, *(f"{name} x 16" for name in names)]
    assert all(row.per_second > 0 and row.refused == row.wrong == 0 for row in rows)
    assert all(row.cpu_ms > 0 and row.share > 0 for row in rows)
    assert 0.3 < rows[0].share < 3  # the same work twice, on a machine that does other things
    assert all(0 < (row.p50_ms or 0) <= (row.p99_ms or 0) for row in rows[2:])


def test_an_answer_bundle_is_asked_in_words(answer_export: Callable[[bool], Path]) -> None:
    export = answer_export(False)  # two bytes a word
    rows = list(load(export, clients=(2,), seconds=0.3, form=None, processes=1))
    assert all(row.per_second > 0 and row.refused == row.wrong == 0 for row in rows)
    (case,), (image,) = (make_cases(export, count=1, form=form) for form in (None, "png"))
    assert (case.kind, len(case.body)) == (WORD, 2)
    assert (image.kind, image.expected) == ("image/png", case.expected)
    (batch,) = make_batches(export, [case] * 3, 3)
    assert batch.request.endswith(3 * case.body)
    done = CliRunner().invoke(app, ["load", str(export), "--form", "letter"])
    assert "as png or packed or word, not as 'letter'" in str(done.exception)


def test_a_picture_bundle_has_no_words(bundle: Path) -> None:
    with pytest.raises(UsageError, match="as png or packed, not as 'word'"):
        make_cases(bundle, count=1, form="word")


def test_a_wrong_answer_is_noticed(bundle: Path) -> None:
    first, second, *_ = make_cases(bundle, count=2)
    crossed = replace(first, expected=second.expected)
    with Service(bundle, *UNLIMITED) as service:
        found = uvloop.run(closed_loop([service.port], [first, crossed], clients=2, seconds=1.0))
        assert service.resident_mb > 20
        batches = make_batches(bundle, [first, crossed, second], 3)
        together = uvloop.run(closed_loop([service.port], batches, clients=1, seconds=1.0))
        assert service.stop() == 0
    assert together.wrong == together.statuses[200] > 0 == together.uploads
    assert 0 < found.wrong < found.statuses[200]
    assert found.uploads == found.statuses[200] - found.wrong
    assert found.statuses.total() == found.statuses[200]


def test_malformed_uploads_are_refused(bundle: Path) -> None:
    report = malformed(bundle, count=80)
    assert report.failures == []
    assert len({kind for kind, _ in report.answers}) == 8
    assert sum(report.answers.values()) == 80


def test_an_answer_that_may_not_be_is_a_failure() -> None:
    report = Report()
    report.note("bomb", 500, range(400, 500))
    report.note("bomb", 422, range(400, 500))
    assert report.failures == ["bomb: answered 500"]
    with pytest.raises(Exception, match="1 failures"):
        end(len(report.failures), "failures")


def test_overload_and_a_soak(bundle: Path) -> None:
    best, found = overload(bundle, seconds=1, clients=200)
    assert found.wrong == best.wrong == 0
    assert best.per_second > 0
    assert set(found.statuses) == {200, 503}
    samples = list(soak(bundle, seconds=1, parts=2))
    assert [round(60 * sample.minutes, 1) for sample in samples] == [0.5, 1.0]
    assert all(sample.per_second > 0 and sample.wrong == sample.refused == 0 for sample in samples)


def test_killed_and_started_again(bundle: Path) -> None:
    found = crash(bundle, kills=1, seconds=0.3)
    assert found.wrong == 0
    assert found.statuses[200] > 0
    assert found.statuses[0] > 0


@pytest.mark.slow
def test_nobody_is_refused_and_memory_stays_small_under_any_attack(bundle: Path) -> None:
    report = hostile(bundle, connections=600, slow=8, seconds=0.6)
    assert report.failures == []
    assert {one.attack for one in report.figures} > {
        "answers of one connection unread", "files unread", "slow headers", "slow body", "1 GB declared", "1 GB in chunks",
        "1 GB of headers", "1 GB of trailers", "one trailer of 1 GB", "50,000 tiny headers", "a crowd", "WebP of 40 megapixels",
        "progressive JPEG of 120 megapixels",
    }  # fmt: skip
    assert all(one.refused == 0 < one.asked for one in report.figures)
    assert all(20 < one.before_mb <= one.peak_mb + 1 < ALLOWED_MB for one in report.figures)


def test_every_command_explains_itself() -> None:
    result = CliRunner().invoke(app, ["--help"])
    for name in ("load", "soak", "overload", "crash", "malformed", "hostile"):
        assert name in result.stdout
