"""What holds before and after each pass of an export: looked at each time, not believed.

A gate judges the model and may fail because of it; a condition judges the export itself. If one does not hold, a pass has left
out what its successor relies on, and nothing is written.

    require((FOLDED,), work, "before the pass 'write local.onnx'")
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import onnx
import torch
from torch import nn

from sfumato.core.errors import SfumatoError
from sfumato.core.files import read_json
from sfumato.export.bundle import AUDIT, list_files
from sfumato.export.passes import Work
from sfumato.export.tflite import model_file
from sfumato.runtime import test_vectors
from sfumato.runtime.contract import read_contract, read_file
from sfumato.runtime.phone_model import PhoneModel
from sfumato.runtime.sampler import NORMAL_TABLE
from sfumato.runtime.signing import SIGNATURE, check_digests
from sfumato.runtime.tflite_graph import read_graph


@dataclass(frozen=True)
class Condition:
    """Something that is true of an export at some point."""

    says: str
    holds: Callable[[Work], bool]


def require(conditions: Sequence[Condition], work: Work, when: str) -> None:
    """Refuse to go on unless every condition holds.

    Raises:
        SfumatoError: one does not.
    """
    for condition in conditions:
        if not condition.holds(work):
            raise SfumatoError(f"the export stopped {when}: it does not hold that {condition.says}")


def _frozen(work: Work) -> bool:
    local = work.local
    if local is None or local.training:
        return False
    values = list(local.parameters())
    return not any(v.requires_grad for v in values) and all(bool(torch.isfinite(v).all()) for v in values)


def _folded(work: Work) -> bool:
    norm = nn.modules.batchnorm._BatchNorm
    return work.local is not None and not any(isinstance(part, norm) for part in work.local.modules())


def _wrapped(work: Work) -> bool:
    if work.network is None:
        return False
    height, width = work.run.dataset.size
    outputs = work.run.channel.outputs
    with torch.no_grad():
        found = dict(zip(work.phone.names, work.phone(torch.zeros(1, height, width, 3)), strict=True))
    shapes = {name: (1, height, width, planes) for name, planes in outputs.items()}
    bounded = all(bool(((value >= 0) & (value <= 1)).all()) for value in found.values())
    return bounded and {name: tuple(value.shape) for name, value in found.items()} == shapes


def _calibrated(work: Work) -> bool:
    images = work.calibration
    return images.shape[1:] == (*work.run.dataset.size, 3) and (images.min(), images.max()) == (0, 255)


def _onnx(work: Work) -> bool:
    model = onnx.load(work.out / "local.onnx")
    onnx.checker.check_model(model, full_check=True)
    (entry,) = model.graph.input
    shape = [axis.dim_value for axis in entry.type.tensor_type.shape.dim]
    outputs = {out.name for out in model.graph.output}
    return shape == [1, *work.run.dataset.size, 3] and outputs == set(work.phone.names)


def _converted(work: Work) -> bool:
    return all((work.scratch / model_file(variant)).exists() for variant in work.variants)


def _named(work: Work) -> bool:
    graphs = [read_graph((work.out / model_file(variant)).read_bytes()) for variant in work.variants]
    return all(
        [tensor.name for tensor in graph.inputs] == ["image"]
        and {tensor.name for tensor in graph.outputs} == set(work.phone.names)
        for graph in graphs
    )


def _gated(word: str) -> Callable[[Work], bool]:
    """Every variant has a gate with this word in its name."""
    return lambda work: all(
        any(name.startswith(f"{variant}: ") and word in name for name in work.gates)
        for variant in work.variants
    )


def _measured(work: Work) -> bool:
    return "int8" not in work.variants or work.figures is not None


def _cloud(work: Work) -> bool:
    onnx.checker.check_model(onnx.load(work.out / "cloud.onnx"), full_check=True)
    audit = {path.name for path in (work.out / AUDIT).iterdir()}
    return any(name.startswith("cloud.onnx") for name in work.gates) and "cloud.safetensors" in audit


def _passed(work: Work) -> bool:
    return bool(work.gates) and all(gate.passed for gate in work.gates.values())


def _answered(work: Work) -> bool:
    if "int8" not in work.variants:
        return True
    table = work.run.channel.name != "gaussian" or (work.out / NORMAL_TABLE).exists()
    model = PhoneModel.open(work.out, work.contract or work.describe())
    return table and not test_vectors.check_vectors(read_json(work.out / test_vectors.FILE), model)


def _sealed(work: Work) -> bool:
    contract = read_contract(work.out)
    check_digests(work.out)
    for entry in contract.files:
        read_file(work.out, entry)
    sealing = {"contract.json", "contract.sha256", SIGNATURE}
    listed = {entry.name for entry in contract.files}
    signed = (work.out / SIGNATURE).exists() == (work.signer is not None)
    return signed and contract == work.contract and {f.name for f in list_files(work.out)} - sealing == listed


FROZEN = Condition("a finite copy of the network is in evaluation mode, without gradients", _frozen)
FOLDED = Condition("no batch norm is left", _folded)
WRAPPED = Condition("image and outputs are channels last, and every output is in 0..1", _wrapped)
CALIBRATED = Condition("the calibration images hold the exact values 0 and 255", _calibrated)
ONNX = Condition("local.onnx passes ONNX's checker and takes one image, channels last", _onnx)
CONVERTED = Condition("every variant was converted", _converted)
NAMED = Condition("every model's tensors are named as in the contract", _named)
LINTED = Condition("every model has been linted", _gated("channels last"))
COMPARED = Condition("every model has been compared with the trained network", _gated("difference"))
MEASURED = Condition("accuracy and exact rate of the int8 model are known", _measured)
CLOUD = Condition("cloud.onnx passes ONNX's checker and has been compared", _cloud)
PASSED = Condition("there are gates, and none has failed", _passed)
ANSWERED = Condition("the phone-side code gives the answers of test_vectors.json", _answered)
SEALED = Condition("the contract names every file of the bundle with its sha256", _sealed)
