"""The goal of training, measured on the int8 model that ships."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sfumato.core.errors import SfumatoError
from sfumato.export.pipeline import export
from sfumato.runtime.contract import read_contract
from sfumato.training.run import Run


@pytest.fixture(scope="module")
def rounded_run(make_run: Callable[[str], Run]) -> Run:
    """Untrained weights that int8 rounds well enough without fine-tuning."""
    return make_run("symmetric")


def aimed(run: Run, **targets: Any) -> Run:
    """The run, as if its training had been asked for this."""
    return replace(run, config=run.config.model_copy(update=targets))


def test_a_missed_goal_refuses_the_export_unless_it_is_allowed(rounded_run: Run, tmp_path: Path) -> None:
    run = aimed(rounded_run, bits=0.01, beyond=0.001)
    with pytest.raises(
        SfumatoError, match=r"misses the goal .*at most 0.01 bits an upload, .*--allow-missed-goal"
    ):
        export(run, tmp_path / "out", variants=["int8"], tune="never")
    assert not (tmp_path / "out").exists()
    export(run, tmp_path / "out", variants=["int8"], tune="never", allow_missed_goal=True)
    contract = read_contract(tmp_path / "out")
    assert contract.goal is not None
    assert not contract.goal.met
    assert contract.goal.beyond_target_bits == 0.001
    # What is reached is what the contract measured on the same images, the int8 model's own rate.
    assert contract.goal.reached_bits == pytest.approx(
        contract.figures["rate_bits"]["mean"]["int8"], rel=0.01
    )


def test_a_goal_that_is_met_stands_in_the_contract(rounded_run: Run, tmp_path: Path) -> None:
    contract = export(aimed(rounded_run, bits=1e6), tmp_path / "out", variants=["int8"], tune="never")
    assert contract.goal is not None
    assert contract.goal.met
    assert contract.goal.beyond_target_bits is None
