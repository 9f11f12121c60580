"""What the export's passes need and give: true of a sound export, and noticed when it is not."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from sfumato.core.errors import SfumatoError
from sfumato.export import conditions, pipeline
from sfumato.export.conditions import Condition, require
from sfumato.export.freeze import PhoneNetwork, fold, freeze
from sfumato.export.measure import Figures
from sfumato.export.passes import Work
from sfumato.export.pipeline import PASSES, Pass, export
from sfumato.runtime.contract import read_contract
from sfumato.training.run import Run

ROOT = Path(__file__).resolve().parents[2]
ALL = {value.says: value for value in vars(conditions).values() if isinstance(value, Condition)}


@pytest.fixture
def finished(dither_run: Run, bundle: Path) -> Work:
    """The work as it stands after the last pass."""
    local, contract = fold(freeze(dither_run.local)), read_contract(bundle)
    images = np.zeros((2, 32, 32, 3), np.uint8)
    images[1] = 255
    network = PhoneNetwork(local)
    figures = Figures(images=1, draws=1, accuracy={}, rate_bits={}, upload_bytes={})
    return Work(
        dither_run,
        ("float32", "float16", "dynamic", "int8"),
        "direct",
        scratch=bundle,
        out=bundle,
        local=local,
        network=network,
        calibration=images,
        figures=figures,
        gates={gate.name: gate for gate in contract.gates},
        contract=contract,
    )


def test_all_conditions_hold_of_a_finished_export(finished: Work) -> None:
    assert len(ALL) == 14
    require(list(ALL.values()), finished, "here")


def change(path: Path, edit: Callable[[bytes], bytes]) -> None:
    path.write_bytes(edit(path.read_bytes()))


def swap_gates(work: Work, word: str) -> None:
    work.gates = {name: gate for name, gate in work.gates.items() if not (word in name and "int8" in name)}


def spoil_weights(work: Work) -> None:
    assert work.local is not None
    next(work.local.parameters()).fill_(float("nan"))


def bring_norm_back(work: Work) -> None:
    assert work.local is not None
    work.local.encoder.stem[1] = nn.BatchNorm2d(16)


def turn_outputs(work: Work) -> None:
    work.phone.forward = lambda image: (image.permute(0, 3, 1, 2),)  # type: ignore[method-assign]


def open_batch(work: Work) -> None:
    model = onnx.load(work.out / "local.onnx")
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "batch"
    onnx.save(model, str(work.out / "local.onnx"))


def fail_a_gate(work: Work) -> None:
    name, gate = next(iter(work.gates.items()))
    work.gates[name] = gate.model_copy(update={"passed": False})


def forge_answers(work: Work) -> None:
    values = json.loads((work.out / "vectors.json").read_text())
    values["upload"][3]["packed"] = "00" * 6
    (work.out / "vectors.json").write_text(json.dumps(values))


SPOILT: dict[str, Callable[[Work], object]] = {
    "FROZEN": spoil_weights,
    "FOLDED": bring_norm_back,
    "WRAPPED": turn_outputs,
    "CALIBRATED": lambda work: work.calibration.clip(1, 255, out=work.calibration),
    "ONNX": open_batch,
    "CONVERTED": lambda work: (work.scratch / "local_dynamic.tflite").unlink(),
    "NAMED": lambda work: change(work.out / "local_int8.tflite", lambda c: c.replace(b"image\0", b"photo\0")),
    "LINTED": lambda work: swap_gates(work, "channels last"),
    "COMPARED": lambda work: swap_gates(work, "difference"),
    "MEASURED": lambda work: setattr(work, "figures", None),
    "CLOUD": lambda work: (work.out / "audit" / "cloud.safetensors").unlink(),
    "PASSED": fail_a_gate,
    "ANSWERED": forge_answers,
    "SEALED": lambda work: (work.out / "stowaway.txt").write_text("not listed"),
}


@pytest.mark.parametrize("name", SPOILT)
def test_each_condition_can_fail(finished: Work, name: str) -> None:
    condition = getattr(conditions, name)
    with torch.no_grad():
        SPOILT[name](finished)
    with pytest.raises(SfumatoError, match=r"the export stopped there: it does not hold that ") as caught:
        require([condition], finished, "there")
    assert condition.says in str(caught.value)


def test_a_pass_that_does_nothing_stops_the_export(
    dither_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lazy = [
        dataclasses.replace(step, run=lambda work: None) if "calibration" in step.title else step
        for step in PASSES
    ]
    monkeypatch.setattr(pipeline, "PASSES", tuple(lazy))
    with pytest.raises(SfumatoError, match="after the pass 'choose calibration images': it does not hold"):
        export(dither_run, tmp_path / "out")
    monkeypatch.setattr(pipeline, "PASSES", tuple(p for p in PASSES if "channels last" not in p.title))
    with pytest.raises(SfumatoError, match=r"before the pass 'write local\.onnx': it does not hold"):
        export(dither_run, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_list_in_the_decision_is_the_list_that_runs() -> None:
    text = (ROOT / "docs" / "decisions" / "0006-export.md").read_text(encoding="utf-8")

    def row(step: Pass) -> str:
        sides = ("; ".join(condition.says for condition in side) for side in (step.needs, step.gives))
        return f"| {step.title} | {' | '.join(sides)} |"

    assert [line for line in text.splitlines() if line in {row(step) for step in PASSES}] == [
        row(step) for step in PASSES
    ]
