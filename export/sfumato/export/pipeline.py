"""From a finished run to a sealed bundle: a visible list of passes.

Nothing appears at the output's path before the last pass has succeeded.

    contract = export(load_run(Path("run")), Path("export"))
"""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from sfumato.core.errors import SfumatoError, UsageError, unknown
from sfumato.core.files import atomic_folder
from sfumato.data import Split
from sfumato.export.conditions import (
    ANSWERED,
    CALIBRATED,
    CLOUD,
    COMPARED,
    CONVERTED,
    FOLDED,
    FROZEN,
    LINTED,
    MEASURED,
    NAMED,
    ONNX,
    PASSED,
    SEALED,
    WRAPPED,
    Condition,
    require,
)
from sfumato.export.measure import Figures
from sfumato.export.passes import (
    Work,
    check_gates,
    check_parity,
    choose_calibration,
    convert_tuned,
    convert_variants,
    fold_batch_norm,
    freeze_network,
    lint_variants,
    measure_int8,
    name_tensors,
    seal_bundle,
    wrap_channels_last,
    write_cloud,
    write_local_onnx,
    write_vectors,
)
from sfumato.export.quant_finetune import fine_tune
from sfumato.export.tflite import model_file
from sfumato.runtime.contract import FILE, VARIANTS, Contract
from sfumato.training.run import Run

RATE_MOVEMENT, ACCURACY_MOVEMENT = 0.05, 0.003
"""Movement of rate (relative) and accuracy (fraction) by int8 beyond which the network is fine-tuned."""
TUNE = ("auto", "never", "always")


def movement(figures: Figures) -> float:
    """How far int8 moved accuracy or rate, in units of what is tolerated; above 1 the network is fine-tuned."""
    rate = figures.rate_bits["mean"]
    moved = abs(rate.int8 - rate.trained) / max(rate.trained, 1e-9) / RATE_MOVEMENT
    lost = max(pair.trained - pair.int8 for pair in figures.accuracy.values()) / ACCURACY_MOVEMENT
    return max(moved, lost)


def tune_int8(work: Work) -> None:
    """Needs measured figures; where int8 moved them too far or failed a gate, the network is fine-tuned and converted again.

    Afterwards the better of both is in the bundle: the smaller movement, and never one that fails a gate the other kept.
    """
    if work.figures is None or work.tune == "never" or (work.tune == "auto" and rank(work) <= (0, 1.0)):
        return
    before = replace(work, gates=dict(work.gates))
    path = work.out / model_file("int8")
    kept = path.read_bytes()
    rows = work.run.dataset.splits[Split.DEFENDER]
    convert_tuned(work, fine_tune(work.phone, np.array(work.run.dataset.images[rows]), work.calibration))
    for step in (name_tensors, lint_variants, check_parity, measure_int8):
        step(work)
    if rank(work) > rank(before):
        work.figures, work.gates, work.tuned = before.figures, before.gates, False
        path.write_bytes(kept)


def rank(work: Work) -> tuple[int, float]:
    """Failed gates, then movement: the smaller the better."""
    assert work.figures is not None
    return sum(not gate.passed for gate in work.gates.values()), movement(work.figures)


@dataclass(frozen=True)
class Pass:
    """One step of the export, with what must hold before it and what holds after it."""

    title: str
    run: Callable[[Work], None]
    needs: tuple[Condition, ...] = ()
    gives: tuple[Condition, ...] = ()

    def __call__(self, work: Work) -> None:
        """Check, run, check.

        Raises:
            SfumatoError: the pass failed, or one of its conditions does not hold.
        """
        require(self.needs, work, f"before the pass {self.title!r}")
        self.run(work)
        require(self.gives, work, f"after the pass {self.title!r}")


PASSES = (
    Pass("freeze, check evaluation mode", freeze_network, (), (FROZEN,)),
    Pass("fold batch norm", fold_batch_norm, (FROZEN,), (FROZEN, FOLDED)),
    Pass("wrap it channels last", wrap_channels_last, (FOLDED,), (WRAPPED,)),
    Pass("choose calibration images", choose_calibration, (), (CALIBRATED,)),
    Pass("write local.onnx", write_local_onnx, (WRAPPED,), (ONNX,)),
    Pass("convert to TensorFlow Lite", convert_variants, (ONNX, CALIBRATED), (CONVERTED,)),
    Pass("name the tensors", name_tensors, (CONVERTED,), (NAMED,)),
    Pass("lint operators and layout", lint_variants, (NAMED,), (LINTED,)),
    Pass("check parity", check_parity, (NAMED,), (COMPARED,)),
    Pass("measure accuracy and rate", measure_int8, (NAMED,), (MEASURED,)),
    Pass("fine-tune for int8 where needed", tune_int8, (MEASURED, CALIBRATED), (NAMED, MEASURED)),
    Pass("write and check cloud.onnx", write_cloud, (), (CLOUD,)),
    Pass("check the gates", check_gates, (LINTED, COMPARED, MEASURED, CLOUD), (PASSED,)),
    Pass("write test vectors", write_vectors, (PASSED, NAMED), (ANSWERED,)),
    Pass("seal", seal_bundle, (PASSED, ANSWERED), (SEALED,)),
)
"""The whole export, in order (docs/decisions/0006-export.md shows the list)."""


def export(
    run: Run,
    out: Path,
    *,
    variants: Sequence[str] = VARIANTS,
    backend: str = "direct",
    overwrite: bool = False,
    signer: Ed25519PrivateKey | None = None,
    tune: Literal["auto", "never", "always"] = "auto",
    watch: Callable[[int, str], None] = lambda done, title: None,
) -> Contract:
    """Export a run; `out` appears only if every gate holds.

    Args:
        run: a finished run.
        out: folder of the export.
        variants: which models; `perturb` and the audit need int8.
        backend: which converter, a key of `tflite_conversion.BACKENDS`.
        overwrite: replace an export that is there.
        signer: sign the contract with this key.
        tune: whether the network is fine-tuned for int8; `auto`: where int8 moves rate or accuracy too far or fails a gate.
        watch: told which pass begins.

    Raises:
        UsageError: an unknown variant.
        SfumatoError: a pass failed; one line says which figure, and what is allowed.
    """
    for variant in variants:
        if variant not in VARIANTS:
            raise UsageError(unknown("variant", variant, VARIANTS))
    chosen = tuple(variant for variant in VARIANTS if variant in variants)
    refuse_occupied(out, overwrite=overwrite)
    with atomic_folder(out) as folder, tempfile.TemporaryDirectory(prefix="sfumato-export-") as scratch:
        work = Work(run, chosen, backend, Path(scratch), folder, signer, tune)
        for done, step in enumerate(PASSES):
            watch(done, step.title)
            step(work)
    assert work.contract is not None
    return work.contract


def refuse_occupied(out: Path, *, overwrite: bool) -> None:
    """Refuse a path that holds something else than an export, or an export without `overwrite`."""
    if out.is_file():
        raise SfumatoError(f"{out} is a file: give a folder for the export")
    if not out.exists() or not any(out.iterdir()):
        return
    if not (out / FILE).exists():
        raise SfumatoError(f"{out} is not empty and holds no {FILE}: choose another --out")
    if not overwrite:
        raise SfumatoError(f"{out} already holds an export: choose another --out, or pass --overwrite")
