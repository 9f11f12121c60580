"""Steps of the real trainer, timed."""

import json

import pytest
from typer.testing import CliRunner

from sfumato.bench.results import Results
from sfumato.bench.throughput import COTRAINING, PARTS, PLAIN, SUPPRESSING, cotraining_over_plain
from sfumato.cli.main import app


@pytest.mark.slow
def test_a_co_training_step_is_set_beside_a_plain_one() -> None:
    options = ["--data", "synthetic,size=16,count=600", "--rounds", "2", "--steps", "4", "--json"]
    done = CliRunner().invoke(app, ["bench", "training", *options])
    assert done.exit_code == 0, done.output
    results = Results.model_validate(json.loads(done.stdout))
    speeds = {speed.name: speed for speed in results.speeds}
    assert set(speeds) == {PLAIN, COTRAINING, SUPPRESSING, *PARTS}
    assert cotraining_over_plain(results, SUPPRESSING) > 0
    both = speeds[COTRAINING]
    turns = zip(both.round_seconds, speeds[PLAIN].round_seconds, strict=True)
    assert cotraining_over_plain(results) == pytest.approx(sum(a / b for a, b in turns) / 2)  # of two
    assert both.images_per_s == pytest.approx(64 / both.seconds)
    assert sum(both.parts.values()) == pytest.approx(1)
    assert set(both.parts) == {*PARTS, "the rest"}
