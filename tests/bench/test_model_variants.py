"""`sfumato bench models`: the models of an export side by side, and the command line."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sfumato.bench.model_variants import accuracy_changes, compare_variants, read_audits
from sfumato.cli.main import app
from sfumato.core.errors import SfumatoError
from sfumato.export.artifact import load_export
from sfumato.runtime.contract import read_contract


@pytest.fixture(scope="module")
def every_model(small_export: Callable[..., Path]) -> Path:
    """An export of three models, each of which NNAPI takes whole at feature level 30."""
    return small_export("float32", "dynamic", "int8")


def test_the_models_side_by_side(every_model: Path) -> None:
    """Measured from the sealed files; where the contract has the same figure, it is the same."""
    contract = read_contract(every_model)
    models = {one.variant: one for one in compare_variants(load_export(every_model))}
    assert list(models) == [model.variant for model in contract.models]
    for variant, model in models.items():
        assert model.bytes == contract.file(f"local_{variant}.tflite").bytes
        assert model.partitions == 1
        assert (model.nnapi, model.nnapi_level) == ((), 30)
        assert model.attack is None
    int8, float32 = models["int8"], models["float32"]
    accuracy, rate = contract.figures["accuracy"]["glasses"], contract.figures["rate_bits"]["mean"]
    assert int8.accuracy["glasses"] == pytest.approx(accuracy["int8"], abs=1e-6)
    assert float32.accuracy["glasses"] == pytest.approx(accuracy["float"], abs=1e-3)
    assert int8.rate_bits == pytest.approx(rate["int8"], abs=1e-5)
    assert float32.rate_bits == pytest.approx(rate["float"], rel=1e-3)
    assert float32.max_lsb < 256e-5 < int8.mean_lsb < 2
    changes = accuracy_changes(load_export(every_model), list(models.values()), None)
    assert [(change.name, change.kept) for change in changes] == [("glasses", True)]
    assert changes[0].difference == pytest.approx(int8.accuracy["glasses"] - float32.accuracy["glasses"])


def test_a_run_that_the_export_was_not_made_from_is_refused(every_model: Path, tmp_path: Path) -> None:
    bundle = Path(shutil.copytree(every_model, tmp_path / "export"))
    run = bundle / "audit"  # holds the very cloud network that was exported
    assert read_audits(load_export(every_model), run) == {}
    (run / "cloud.safetensors").write_bytes(b"another")
    for other in (run, bundle):
        with pytest.raises(SfumatoError, match="give the run it was exported from"):
            read_audits(load_export(every_model), other)


def test_the_command_prints_json_alone(every_model: Path) -> None:
    done = CliRunner().invoke(app, ["bench", "models", str(every_model), "--json"])
    assert done.exit_code == 0, done.output
    values = json.loads(done.stdout)
    assert values["schema"] == "sfumato-models/1"
    assert [model["variant"] for model in values["models"]] == ["float32", "dynamic", "int8"]
    (change,) = values["int8_vs_float"]
    accuracy = {model["variant"]: model["accuracy"]["glasses"] for model in values["models"]}
    assert change["difference"] == pytest.approx(accuracy["int8"] - accuracy["float32"])


def test_the_command_shows_people_what_is_missing(every_model: Path) -> None:
    done = CliRunner().invoke(app, ["bench", "models", str(every_model), "--nnapi-level", "28"])
    assert done.exit_code == 0, done.output
    assert "dynamic: NNAPI, feature level 28: " in done.stdout
    assert "glasses: int8 " in done.stdout
    assert "best attack: not audited yet" in done.stdout


def test_the_feature_level_of_nnapi_can_be_said(every_model: Path) -> None:
    """Before Android 10 NNAPI's convolutions have no int8."""
    arguments = ["bench", "models", str(every_model), "--nnapi-level", "28", "--json"]
    models = {one["variant"]: one for one in json.loads(CliRunner().invoke(app, arguments).stdout)["models"]}
    assert models["int8"]["nnapi_level"] == 28
    assert any(
        "CONV_2D: " in one and "INT8, which needs feature level 29" in one for one in models["int8"]["nnapi"]
    )
    arguments[4] = "26"
    done = CliRunner().invoke(app, arguments)
    assert str(done.exception) == "unknown feature level 26 of NNAPI: known are 27 to 31"


@pytest.mark.parametrize("arguments", [["nowhere"], ["{export}", "nowhere"]])
def test_wrong_use_is_one_line(every_model: Path, arguments: list[str]) -> None:
    done = CliRunner().invoke(
        app, ["bench", "models", *(text.format(export=every_model) for text in arguments)]
    )
    assert isinstance(done.exception, SfumatoError)
    assert "nowhere" in str(done.exception)
    assert "\n" not in str(done.exception)
