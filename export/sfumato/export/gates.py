"""The gates of an export: every figure that may refuse it, with its limit.

Steps of the export return figures; here they become `Gate`s of the contract. All are listed before one of them refuses the
export, so that a single run names every shortcoming.

    gates = export_gates(models, undecided=0.1, cloud_gap=1e-6)
    require_passed(gates)
"""

from collections.abc import Mapping, Sequence

import numpy as np

from sfumato.core.errors import SfumatoError
from sfumato.export.check import CheckedModel, Lint
from sfumato.export.measure import Figures
from sfumato.export.parity import Parity
from sfumato.runtime.contract import Gate, within_limit

PARITY_LIMITS = {"float32": 256e-5, "float16": 2.0, "dynamic": 8.0}
"""Largest difference of any byte, in 1/256; float32: 1e-5 of the range."""
INT8_MEAN_LIMIT, INT8_MEAN_SHARE = 2.0, 0.05
"""Largest mean difference in 1/256, and as a share of the outputs' standard deviation; the larger of both holds."""
UNDECIDED_LIMIT = 0.98
"""Largest fraction of images on which parity says nothing, because the phone's decision is too close to call."""
ACCURACY_LIMIT = 0.005
SIZE_LIMIT = 100_000
"""Bytes of the int8 model."""
SCALE_LIMIT = 1e-3
"""Bytes; scales are stored in single precision."""
CLOUD_LIMIT = 1e-3
"""Largest difference of a logit between cloud.onnx and the cloud network."""


def export_gates(models: Mapping[str, CheckedModel], *, undecided: float, cloud_gap: float) -> list[Gate]:
    """All gates of an export.

    Args:
        models: by variant.
        undecided: fraction of images that are too close to call.
        cloud_gap: largest difference of a logit of cloud.onnx.
    """
    return [
        *(gate for variant, model in models.items() for gate in lint_gates(variant, model.lint)),
        make_gate("parity: share of images too close to call", undecided, UNDECIDED_LIMIT),
        *(parity_gate(variant, model.parity) for variant, model in models.items()),
        *(gate for model in models.values() for gate in accuracy_gates(model.figures)),
        make_gate("cloud.onnx: largest difference of a logit", cloud_gap, CLOUD_LIMIT),
    ]


def int8_gates(model: CheckedModel) -> list[Gate]:
    """The gates of the int8 model alone: what fine-tuning can mend or spoil."""
    return [
        *lint_gates("int8", model.lint),
        parity_gate("int8", model.parity),
        *accuracy_gates(model.figures),
    ]


def require_passed(gates: Sequence[Gate]) -> None:
    """Refuse the export unless there are gates and all have passed.

    Raises:
        SfumatoError: names every gate that failed.
    """
    failed = [gate for gate in gates if not gate.passed]
    reasons = [
        f"{g.name} is {g.value}, allowed is {g.limit}" + (f" ({g.note})" if g.note else "") for g in failed
    ]
    if failed or not gates:
        raise SfumatoError(
            f"the export was refused, nothing was written: {'; '.join(reasons) or 'nothing was checked'}"
        )


def lint_gates(variant: str, lint: Lint, *, logistic: bool = True) -> list[Gate]:
    """Layout and partitions; for int8 also NNAPI, scales and size.

    Args:
        variant: of the model.
        lint: what was found.
        logistic: the outputs are logistic functions, whose int8 scale is fixed.
    """
    # Text is never within a numeric limit: a runtime that does not report its partitions fails the gate.
    partitions = f"unknown to {lint.runtime}" if lint.partitions is None else lint.partitions
    gates = [
        make_gate(
            f"{variant}: channels last, nothing frozen or random", len(lint.layout), 0, "; ".join(lint.layout)
        ),
        make_gate(f"{variant}: XNNPACK partitions", partitions, 1, "; ".join(lint.xnnpack)),
    ]
    if variant == "int8":
        scale = "int8: output bytes off scale 1/256, zero point -128"
        gates += [
            make_gate("int8: nodes NNAPI refuses", len(lint.nnapi), 0, "; ".join(lint.nnapi)),
            make_gate(
                "int8: image bytes off scale 1/255, zero point -128, or 8/255 and 0",
                lint.image_error,
                SCALE_LIMIT,
            ),
            *([make_gate(scale, lint.output_error, SCALE_LIMIT)] if logistic else []),
            make_gate("int8: bytes", lint.bytes, SIZE_LIMIT),
        ]
    return gates


def parity_gate(variant: str, parity: Mapping[str, Parity]) -> Gate:
    """How far a model is from the trained network: of int8 on average, of the others at most."""
    worst = max(parity.values(), key=lambda one: one.max_lsb)
    if variant != "int8":
        name = f"{variant}: largest difference, 1/256"
        return make_gate(name, worst.max_lsb, PARITY_LIMITS[variant], f"{worst.max_error:.1e} of the range")
    far = max(parity.values(), key=lambda one: one.mean_lsb / int8_limit(one))
    note = f"largest {worst.max_lsb:.2f}, spread {far.spread_lsb:.1f}"
    return make_gate("int8: mean difference, 1/256", far.mean_lsb, int8_limit(far), note)


def int8_limit(parity: Parity) -> float:
    """Largest mean difference of int8 from the trained network, in 1/256."""
    return round(max(INT8_MEAN_LIMIT, INT8_MEAN_SHARE * parity.spread_lsb), 3)


def accuracy_gates(figures: Figures | None) -> list[Gate]:
    """Only a loss of accuracy is a fault; of few images one is more than the limit."""
    if figures is None:
        return []
    limit = round(max(ACCURACY_LIMIT, 1 / figures.images), 6)
    return [
        make_gate(f"int8: loss of {name} accuracy", pair.trained - pair.int8, limit)
        for name, pair in figures.accuracy.items()
    ]


def make_gate(name: str, value: float | str | bool, limit: float | str | bool, note: str = "") -> Gate:
    """A gate; numbers must not exceed their limit, all else must equal it."""
    shown = value
    if isinstance(value, float):  # JSON knows no infinity
        shown = round(value, 6) if np.isfinite(value) else str(value)
    return Gate(name=name, value=shown, limit=limit, passed=within_limit(shown, limit), note=note)
