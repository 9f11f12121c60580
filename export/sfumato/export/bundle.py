"""The bundle: a folder in which contract.json names every other file by its sha256.

contract = describe(run, folder, network=network, models=models, gates=gates, conversion={})
write_vectors(folder, contract)
contract = write_contract(contract, folder, signer=None)
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from sfumato.channels import Channel, upload_size
from sfumato.core.errors import SfumatoError
from sfumato.core.files import atomic_write, read_json, sha256, write_json
from sfumato.core.provenance import provenance
from sfumato.export.answer_bundle import answer_parts
from sfumato.export.check import CheckedModel, scale_error
from sfumato.export.freeze import PhoneNetwork
from sfumato.export.measure import bits_of
from sfumato.export.tflite import model_file
from sfumato.models.cost import cost
from sfumato.runtime import test_vectors
from sfumato.runtime.contract import (
    DIGESTS,
    FILE,
    INPUTS,
    ChannelPart,
    Contract,
    File,
    Gate,
    GoalPart,
    LabelPart,
    Model,
    SoundPart,
    Tensor,
    UploadPart,
    read_contract,
    read_file,
)
from sfumato.runtime.phone_model import PhoneModel
from sfumato.runtime.sampler import NORMAL_TABLE, normal_table
from sfumato.runtime.signing import PUBLIC, SIGNATURE, check_digests, sign, write_digests
from sfumato.runtime.tflite_graph import read_graph
from sfumato.training.checkpoint import save_module
from sfumato.training.clean import ONNX_COPY
from sfumato.training.config import TrainConfig
from sfumato.training.run import AnswerRun, Run

LOCAL, CLOUD = "local.onnx", "cloud.onnx"
ROLES = {CLOUD: "cloud"}
AUDIT = "audit"
"""Folder with what `sfumato audit EXPORT` needs: it stays with whoever made the export."""
AUDIT_FILES = ("audit/card.json", "audit/cloud.safetensors", "audit/config.json")


def describe(
    run: Run,
    folder: Path,
    *,
    network: PhoneNetwork,
    models: Mapping[str, CheckedModel],
    gates: Sequence[Gate],
    conversion: Mapping[str, Any],
    goal: GoalPart | None = None,
) -> Contract:
    """The contract of a bundle, with the files that lie in `folder` now. Nothing in it depends on the time of day."""
    height, width = upload_size(run.channel, run.dataset.size)
    bits = bits_of(run.channel)
    figures = models["int8"].figures if "int8" in models else None
    return Contract(
        mode="picture",
        input=describe_input(run, models["int8"].content if "int8" in models else None),
        outputs=tuple(describe_output(run, name) for name in network.names),
        models=tuple(describe_model(variant) for variant in models),
        channel=ChannelPart(name=run.channel.name, **run.channel.settings),  # type: ignore[arg-type]
        upload=UploadPart(
            bit_depth=bits,  # type: ignore[arg-type]
            colour=upload_colour(run.channel),  # type: ignore[arg-type]
            width=width,
            height=height if bits == 8 else run.channel.colours * height,
        ),
        goal=goal,
        gates=tuple(gates),
        figures={} if figures is None else figures.to_json(),
        conversion=dict(conversion),
        **describe_run(run, folder),
    )


def describe_answer(
    run: AnswerRun,
    folder: Path,
    *,
    models: Mapping[str, bytes],
    gates: Sequence[Gate],
    figures: Mapping[str, Any],
    conversion: Mapping[str, Any],
) -> Contract:
    """The contract of a bundle in answer mode, with the files that lie in `folder` now.

    Args:
        run: as it ships.
        folder: of the bundle.
        models: by variant.
        gates, figures, conversion: what they are in the contract.
    """
    entropy = figures["rate_bits"]["mean"]["int8"]
    scores, channel, upload, answer = answer_parts(
        run, models.get("int8", next(iter(models.values()))), entropy
    )
    return Contract(
        mode="answer",
        input=describe_input(run, models.get("int8")),
        outputs=(scores,),
        models=tuple(describe_model(variant) for variant in models),
        channel=channel,
        upload=upload,
        answer=answer,
        gates=tuple(gates),
        figures=dict(figures),
        conversion=dict(conversion),
        **describe_run(run, folder),
    )


def describe_run(run: Run, folder: Path) -> dict[str, Any]:
    """What both modes say alike: files, image, attributes, cost and who made it."""
    height, width = run.dataset.size
    spent = cost(run.local, (run.dataset.planes, height, width))
    return {
        "files": tuple(list_files(folder)),
        "keep": tuple(LabelPart(**asdict(run.dataset.attributes[name])) for name in run.keep),
        "hide": run.hide,
        "window": run.dataset.window,
        "sound": SoundPart() if run.dataset.sound else None,
        "cost": {"parameters": spent.parameters, "macs": spent.macs},
        "provenance": {**provenance(), "dataset": run.dataset.id, **preset_of(run.config)},
    }


def preset_of(config: TrainConfig) -> dict[str, str]:
    """The preset that a run was trained with, where there is one: who reads the contract learns of it."""
    return {} if config.preset is None else {"preset": config.preset}


def write_vectors(folder: Path, contract: Contract) -> None:
    """Write known answers of noise, sampler and the int8 model, and let the phone's code give them once more.

    The phone of a gaussian channel also gets the normal table, little-endian: no platform has to compute it.

    Raises:
        SfumatoError: the answers are not repeated.
    """
    if contract.channel.name == "gaussian":
        (folder / NORMAL_TABLE).write_bytes(normal_table().astype("<i2").tobytes())
    write_json(folder / test_vectors.FILE, test_vectors.make_vectors(PhoneModel.open(folder, contract)))
    check_answers(folder, contract)


def check_answers(folder: Path, contract: Contract) -> None:
    """Compare the phone's code with the stored test vectors.

    Raises:
        SfumatoError: an answer differs.
    """
    stored = read_json(folder / test_vectors.FILE)
    if problems := test_vectors.check_vectors(stored, PhoneModel.open(folder, contract)):
        raise SfumatoError(f"the phone's code does not repeat {test_vectors.FILE}: {'; '.join(problems)}")


def write_contract(contract: Contract, folder: Path, signer: Ed25519PrivateKey | None) -> Contract:
    """Write contract.json with every file that lies in `folder`, its digest and signature; then check all of it.

    Returns:
        The contract as it was written.

    Raises:
        SfumatoError: as `check_bundle`.
    """
    complete = contract.model_copy(update={"files": tuple(list_files(folder))})
    with atomic_write(folder / FILE) as scratch:
        scratch.write_bytes(complete.to_json().encode())
    if signer is None:
        write_digests(folder)
    else:
        sign(folder, signer)
    check_bundle(folder, complete, signed=signer is not None)
    return complete


def check_bundle(folder: Path, contract: Contract, *, signed: bool) -> None:
    """Read a bundle back and compare it with its contract.

    Raises:
        SfumatoError: a file is missing, changed or not listed, or the bundle is (not) signed.
    """
    if read_contract(folder) != contract:
        raise SfumatoError(f"{FILE} does not read as it was written")
    check_digests(folder)
    for entry in contract.files:
        read_file(folder, entry)
    listed = {entry.name for entry in contract.files}
    if missing := sorted({LOCAL, CLOUD, *AUDIT_FILES, *phone_files(contract)} - listed):
        raise SfumatoError(f"the bundle lacks {', '.join(missing)}")
    if stray := sorted(
        {entry.name for entry in list_files(folder)} - {FILE, DIGESTS, SIGNATURE, PUBLIC} - listed
    ):
        raise SfumatoError(f"{FILE} does not list {', '.join(stray)}")
    if (folder / SIGNATURE).exists() != signed:
        raise SfumatoError(f"{SIGNATURE} is {'missing' if signed else 'there without a key'}")


def phone_files(contract: Contract) -> list[str]:
    """What a phone needs beside the contract: the models, and with int8 also test vectors and the normal table."""
    models = [model.file for model in contract.models]
    if model_file("int8") not in models:
        return models
    tables = [NORMAL_TABLE] if contract.channel.name == "gaussian" else []
    if contract.answer is not None and contract.answer.table is not None:
        tables.append(contract.answer.table)
    return [*models, test_vectors.FILE, *tables]


def describe_input(run: Run, int8: bytes | None) -> Tensor:
    """The image, and what the bytes of the int8 model mean, the nearest of `INPUTS`: how near is a gate of its own."""
    height, width = run.dataset.size
    scale, zero = INPUTS[0]
    if int8 is not None:
        (image,) = read_graph(int8).inputs
        scale, zero = min(INPUTS, key=lambda one: scale_error(image, *one))
    shape = (1, height, width, run.dataset.planes)
    return Tensor(name="image", shape=shape, range=(0, 1), int8_scale=scale, int8_zero_point=zero)  # type: ignore[arg-type]


def upload_colour(channel: Channel) -> str:
    """What the contract says of an upload's PNG."""
    if bits_of(channel) == 8:
        return "rgb"
    return "grey" if channel.colours == 1 else "grey, planes red, green, blue one below the other"


def describe_model(variant: str) -> Model:
    """How a variant is fed."""
    kind = "int8" if variant == "int8" else "float32"
    return Model(variant=variant, file=model_file(variant), input=kind, output=kind)  # type: ignore[arg-type]


def describe_output(run: Run, name: str) -> Tensor:
    """An output tensor: all are logistic functions, so all have the same scale."""
    height, width = upload_size(run.channel, run.dataset.size)
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
    """The run's configuration, card and cloud network: with them an export can be audited like a run.

    A given network that stands behind a restorer is no file of the bundle otherwise.
    """
    folder.mkdir()
    write_json(folder / "config.json", run.config.model_dump(mode="json"))
    write_json(folder / "card.json", {key: run.card[key] for key in ("dataset", "clean_accuracy")})
    save_module(run.cloud, folder / "cloud.safetensors")
    if run.config.given_onnx is not None and run.config.restore:
        shutil.copyfile(run.folder / ONNX_COPY, folder / ONNX_COPY)


def list_files(folder: Path) -> list[File]:
    """Every file of the bundle but the contract itself."""
    found = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder).as_posix()
        role = AUDIT if name.startswith(f"{AUDIT}/") else ROLES.get(name, "phone")
        entry = {"name": name, "sha256": sha256(path), "bytes": path.stat().st_size, "role": role}
        found.append(File.model_validate(entry))
    return found
