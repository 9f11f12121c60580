"""Rows of a comparison on a Ray cluster of this machine, where Ray is beside the trainer (`make test-ray`)."""

import json
import os
import secrets
import signal
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from tests.compare.test_runner import CONFIG, TINY

from sfumato.compare import runner
from sfumato.compare.cluster import Outcome, RowJob
from sfumato.compare.config import CompareConfig
from sfumato.compare.rows import Point, RowPlan, choose_rows, parse_settings
from sfumato.compare.runner import compare
from sfumato.core.cluster import LOCAL
from sfumato.core.errors import UsageError

RAY = find_spec("ray") is not None
ROWS = choose_rows(["jpeg", "rate", "protective"], [Point(8)], parse_settings(["1"]))


class TinyJob(RowJob):
    """With the audit of the runner's own tests; the process of the first row dies once, before it has begun."""

    def run(self, plan: RowPlan) -> Outcome:
        vars(runner)["create_plan"] = lambda name: TINY
        fallen = self.out / "fallen"
        if plan == ROWS[0] and not fallen.exists():
            fallen.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().run(plan)


@pytest.fixture(autouse=True)
def tiny_audit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "create_plan", lambda name: TINY)
    monkeypatch.setattr(runner, "RowJob", TinyJob)


def figures(out: Path) -> dict[str, Any]:
    """What stands in a folder's rows, but for how long they took."""
    rows = {path.name: json.loads(path.read_text()) for path in sorted((out / "rows").glob("*.json"))}
    return {
        name: {key: value for key, value in row.items() if not key.endswith("_seconds")}
        for name, row in rows.items()
    }


@pytest.mark.skipif(RAY, reason="Ray is installed")
def test_without_ray_one_line_says_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"pip install ray=="):
        compare(CompareConfig(**CONFIG), tmp_path / "out", ROWS, ray=LOCAL)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.skipif(not RAY, reason="Ray is not installed beside the trainer: make test-ray")
def test_rows_made_on_ray_are_the_same_and_none_is_made_twice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "token")  # else Ray writes one of its own into the home folder
    monkeypatch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
    config = CompareConfig(**CONFIG)
    here, there = tmp_path / "here", tmp_path / "there"
    compare(config, here, ROWS)
    found = compare(config, there, ROWS, ray=LOCAL)
    assert (there / "fallen").exists()  # and another process made that row
    assert figures(there) == figures(here)
    assert [row.id for row in found.rows] == [plan.id for plan in ROWS]
    said = capsys.readouterr().err
    assert all(f"/{len(ROWS)}] {plan.id}" in said for plan in ROWS)

    gone = there / "rows" / f"{ROWS[1].id}.json"
    before = figures(there)
    gone.unlink()
    compare(config, there, ROWS, ray=LOCAL)
    assert figures(there) == before
    said = capsys.readouterr().err
    assert said.count("kept from before") == len(ROWS) - 1
    monkeypatch.setattr(runner, "rows_on_ray", None)
    compare(config, there, ROWS, ray=LOCAL)  # nothing is missing: no cluster is asked for
