"""What `--preset medical` sets, what it refuses, and what it says."""

from pathlib import Path

import pytest

from sfumato.cli.train import make_plan
from sfumato.core.errors import UsageError
from sfumato.training.config import TrainConfig
from sfumato.training.presets import BITS, NO_DEVICE, warnings

GIVEN = {"data": "synthetic,count=800,size=32,planes=1", "keep": ("smiling",), "out": Path("run")}


def test_it_is_bounded_and_leaves_the_choice_of_the_mode() -> None:
    plan = make_plan(GIVEN, None, preset="medical")
    config = plan.config
    assert plan.mode == "auto"
    assert (config.preset, config.objective, config.bits, config.prior) == (
        "medical",
        "rate",
        BITS,
        "autoregressive",
    )
    assert (config.levels, config.gray, config.subsample) == (4, True, 2)


def test_options_and_the_file_go_first(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("levels = 2\nmax_drop = 1.0\n")
    config = make_plan({**GIVEN, "subsample": 1}, file, preset="medical").config
    assert (config.levels, config.subsample, config.max_drop, config.bits) == (2, 1, 1.0, None)
    gates = make_plan({**GIVEN, "gates": True}, None, preset="medical").config
    assert (gates.gates, gates.subsample) == (True, 1)


def test_what_is_declared_is_hidden() -> None:
    config = make_plan({**GIVEN, "hide": ("glasses",)}, None, preset="medical").config
    assert config.objective == "suppress"
    said = " ".join(warnings(config))
    assert "only glasses will be attacked" in said


@pytest.mark.parametrize("given", [{"objective": "literal"}, {"channel": "gaussian"}])
def test_a_run_without_a_bound_is_refused(given: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="keeps to uploads with a rate"):
        make_plan({**GIVEN, **given}, None, preset="medical")


def test_an_unknown_preset_is_refused() -> None:
    with pytest.raises(UsageError, match="medical"):
        make_plan(GIVEN, None, preset="legal")


def test_what_a_user_has_to_know_is_said() -> None:
    told = warnings(make_plan(GIVEN, None, preset="medical").config)
    assert told[0] == NO_DEVICE
    said = " ".join(told)
    for part in ("no diagnosis", "n times as much", "mirrors", "cannot pass"):
        assert part in said
    still = {**GIVEN, "data": f"{GIVEN['data']},mirror=no"}
    assert "mirrors" not in " ".join(warnings(make_plan(still, None, preset="medical").config))
    assert warnings(TrainConfig(data="synthetic", keep=("smiling",))) == ()


def test_the_file_of_print_config_asks_for_the_same(tmp_path: Path) -> None:
    plan = make_plan(GIVEN, None, preset="medical")
    file = tmp_path / "all.toml"
    file.write_text(plan.to_toml())
    assert make_plan({}, file).config == plan.config
