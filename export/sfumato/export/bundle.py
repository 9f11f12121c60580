"""The last pass: gather what the bundle promises and name every file with its sha256.

contract = seal(run, folder, phone=network, variants=("int8",), gates=gates, figures=figures, conversion={})
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sfumato.core.files import atomic_write, sha256, write_json
from sfumato.core.provenance import provenance
from sfumato.export.freeze import PhoneNetwork
from sfumato.export.measure import Figures, bits_of
from sfumato.export.tflite import model_file
from sfumato.models.cost import cost
from sfumato.runtime.contract import (
    FILE,
    ChannelPart,
    Contract,
    File,
    Gate,
    LabelPart,
    Model,
    Tensor,
    UploadPart,
)
from sfumato.runtime.signing import write_digests
from sfumato.training.checkpoint import save_module
from sfumato.training.run import Run

ROLES = {"cloud.onnx": "cloud"}
AUDIT = "audit"
"""Folder with what `sfumato audit EXPORT` needs: it stays with whoever made the export."""


def describe(
    run: Run,
    folder: Path,
    *,
    phone: PhoneNetwork,
    variants: Sequence[str],
    gates: Sequence[Gate],
    figures: Figures | None,
    conversion: Mapping[str, Any],
) -> Contract:
    """The contract of a bundle as it lies in `folder` now. Nothing in it depends on the time of day."""
    height, width = run.dataset.size
    bits = bits_of(run.channel)
    spent = cost(run.local, (3, height, width))
    return Contract(
        files=tuple(list_files(folder)),
        input=Tensor(
            name="image", shape=(1, height, width, 3), range=(0, 1), int8_scale=1 / 255, int8_zero_point=-128
        ),
        outputs=tuple(describe_output(run, name) for name in phone.names),
        models=tuple(describe_model(variant) for variant in variants),
        channel=ChannelPart(name=run.channel.name, **run.channel.settings),  # type: ignore[arg-type]
        upload=UploadPart(
            bit_depth=bits,  # type: ignore[arg-type]
            colour="rgb" if bits == 8 else "grey, planes red, green, blue one below the other",
            width=width,
            height=height if bits == 8 else 3 * height,
        ),
        keep=tuple(LabelPart(name=name, classes=run.dataset.attributes[name].classes) for name in run.keep),
        hide=run.hide,
        cost={"parameters": spent.parameters, "macs": spent.macs},
        gates=tuple(gates),
        figures={} if figures is None else figures.to_json(),
        conversion=dict(conversion),
        provenance={**provenance(), "dataset": run.dataset.id},
    )


def seal(contract: Contract, folder: Path) -> None:
    """Write contract.json and its digest; from here on every byte of the bundle is accounted for."""
    with atomic_write(folder / FILE) as scratch:
        scratch.write_text(contract.to_json(), encoding="utf-8")
    write_digests(folder)


def describe_model(variant: str) -> Model:
    """How a variant is fed."""
    kind = "int8" if variant == "int8" else "float32"
    return Model(variant=variant, file=model_file(variant), input=kind, output=kind)  # type: ignore[arg-type]


def describe_output(run: Run, name: str) -> Tensor:
    """An output tensor: all are logistic functions, so all have the same scale."""
    height, width = run.dataset.size
    unit = float(run.channel.settings["largest_scale"]) if name == "scale" else 1.0
    planes = run.channel.outputs[name]
    return Tensor(
        name=name,
        shape=(1, height, width, planes),
        range=(0, 1),
        unit=unit,
        int8_scale=1 / 256,
        int8_zero_point=-128,
    )


def write_audit_files(run: Run, folder: Path) -> None:
    """The run's configuration, card and cloud network: with them an export can be audited like a run."""
    folder.mkdir()
    write_json(folder / "config.json", run.config.model_dump(mode="json"))
    write_json(folder / "card.json", {key: run.card[key] for key in ("dataset", "clean_accuracy")})
    save_module(run.cloud, folder / "cloud.safetensors")


def list_files(folder: Path) -> list[File]:
    """Every file of the bundle but the contract itself."""
    found = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder).as_posix()
        role = AUDIT if name.startswith(f"{AUDIT}/") else ROLES.get(name, "phone")
        entry = {"name": name, "sha256": sha256(path), "bytes": path.stat().st_size, "role": role}
        found.append(File.model_validate(entry))
    return found
