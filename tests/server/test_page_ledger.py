"""The page's account under node: the lines, sentences and refusals of Python's."""

import json
import random
import shutil
import subprocess
from pathlib import Path

import pytest
from tests.fixtures.ledger_events import KEY, events, play

from sfumato.runtime.ledger import draw_id

CLI = Path(__file__).resolve().parents[2] / "cloud" / "ledger_cli.js"
pytestmark = pytest.mark.skipif(shutil.which("node") is None, reason="there is no node")


def node(*arguments: str, given: list[dict[str, object]]) -> list[dict[str, object]]:
    lines = "".join(json.dumps(case) + "\n" for case in given)
    done = subprocess.run(
        ["node", CLI, *arguments], input=lines, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("seed", range(3))
def test_the_account_is_that_of_python(tmp_path: Path, seed: int) -> None:
    given = events(seed)
    said, files = play(tmp_path / "ledger", given)
    assert any("refusal" in answer for answer in said)
    assert any("put back" in answer.get("sentence", "") for answer in said)
    assert node("account", KEY.hex(), given=given) == [*said, files]


def test_draws_are_those_of_python() -> None:
    rng = random.Random(2)
    cases = [
        (rng.randbytes(32), rng.randbytes(32), rng.randbytes(rng.randrange(99)), rng.randbytes(48))
        for _ in range(9)
    ]
    names = ("key", "contract", "parameters", "pixels")
    given: list[dict[str, object]] = [
        {name: value.hex() for name, value in zip(names, case, strict=True)} for case in cases
    ]
    assert node("draw", given=given) == [{"draw": draw_id(*case).hex()} for case in cases]
