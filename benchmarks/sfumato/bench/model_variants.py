"""`sfumato bench models`: the models of an export side by side.

Size, parity, desired accuracy, best attack, exact rate, delegates. Everything is measured again from the files of the
export: test images through each .tflite, the sampler and the cloud network; parity against local.onnx. Attacks are those of
`audit.json`: in the export that of the int8 model, in the run that it was made from that of the float model. With both, each
attribute is compared (`sfumato.bench.int8_vs_float`).

    models = compare_variants(load_export(Path("export")))
    models[0].rate_bits
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from sfumato.audit.schema import Audit
from sfumato.bench.int8_vs_float import AccuracyChange, hidden_changes, kept_change, read_audit
from sfumato.core.errors import SfumatoError
from sfumato.core.files import sha256
from sfumato.core.onnx_session import open_session
from sfumato.core.reports import Grid
from sfumato.data import Split
from sfumato.data.truth import Truth, truths
from sfumato.export.artifact import ExportArtifact
from sfumato.export.bundle import AUDIT
from sfumato.export.measure import DRAWS, Bytes, all_bits, draw, hits, trained_bits
from sfumato.export.parity import Floats, difference, run_float, run_int8
from sfumato.runtime.contract import Model, read_file
from sfumato.runtime.delegate_lint import LEVEL, check_level, nnapi_findings, xnnpack_partitions
from sfumato.runtime.interpreter import open_model
from sfumato.runtime.tflite_graph import read_graph

SCHEMA = "sfumato-models/1"
IMAGES = 2000
PARITY_IMAGES = 64


@dataclass(frozen=True, kw_only=True)
class VariantMeasurement:
    """One model of an export."""

    variant: str
    bytes: int
    mean_lsb: float
    """Mean difference from local.onnx in 1/256, over real images; the worst of the outputs."""
    max_lsb: float
    accuracy: Mapping[str, float]
    """Fraction of uploads whose kept attribute the cloud network finds, by attribute."""
    rate_bits: float
    """Mean over the images; exact for int8."""
    partitions: int | None
    """Of XNNPACK; None where the runtime has none."""
    nnapi: tuple[str, ...]
    """Why NNAPI's delegate leaves a node to the CPU, one sentence each; empty: it offers the whole graph to the driver."""
    nnapi_level: int = LEVEL
    """The driver's feature level that this holds for."""
    attack: Mapping[str, float] | None = None
    """Accuracy of the best attack on each attribute, fractions; None where this variant was not attacked."""


def compare_variants(
    artifact: ExportArtifact, run: Path | None = None, *, limit: int = IMAGES, level: int = LEVEL
) -> list[VariantMeasurement]:
    """Measure every model of an export.

    Args:
        artifact: the export.
        run: the run it was made from, which may hold the audit of the float model.
        limit: most test images.
        level: NNAPI's feature level, 27 to 31.

    Raises:
        SfumatoError: a file is damaged, or the export was not made from this run.
        UsageError: no such level.
    """
    check_level(level)
    audits = read_audits(artifact, run)
    dataset = artifact.dataset
    test = dataset.splits[Split.TEST][:limit]
    images = np.array(dataset.images[test])
    facts = truths(dataset, artifact.keep, test)
    found = [
        measure_variant(artifact, model, images, facts, level=level) for model in artifact.contract.models
    ]
    return [replace(one, attack=best_attacks(audits.get(one.variant))) for one in found]


def read_audits(artifact: ExportArtifact, run: Path | None) -> dict[str, Audit]:
    """The audits there are, by the variant they attacked: a run's network is float32 to within 1e-5.

    Raises:
        SfumatoError: the export was not made from this run.
    """
    if run is not None:
        cloud = artifact.contract.file(f"{AUDIT}/cloud.safetensors")
        if not (run / "cloud.safetensors").exists() or sha256(run / "cloud.safetensors") != cloud.sha256:
            raise SfumatoError(
                f"{artifact.folder} was not made from {run}: give the run it was exported from"
            )
    found = {
        "int8": read_audit(artifact.folder, "int8"),
        "float32": read_audit(run, "float") if run is not None else None,
    }
    return {variant: audit for variant, audit in found.items() if audit is not None}


def measure_variant(
    artifact: ExportArtifact,
    model: Model,
    images: Bytes,
    facts: Mapping[str, Truth],
    *,
    level: int = LEVEL,
) -> VariantMeasurement:
    """Measure one model on images (N, H, W, 3)."""
    content = read_file(artifact.folder, artifact.contract.file(model.file))
    session, int8 = open_model(content), model.variant == "int8"
    channel = artifact.channel
    found: Mapping[str, Any] = run_int8(session, images) if int8 else run_float(session, images)
    wanted = onnx_outputs(artifact, images[:PARITY_IMAGES])
    parity = [difference(wanted[name], found[name][:PARITY_IMAGES], int8=int8) for name in wanted]
    bits = all_bits(channel, images, found) if int8 else trained_bits(channel, images, found)
    return VariantMeasurement(
        variant=model.variant,
        bytes=len(content),
        mean_lsb=max(one.mean_lsb for one in parity),
        max_lsb=max(one.max_lsb for one in parity),
        accuracy=hits(artifact.cloud, draw(channel, images, found), facts, channel),
        rate_bits=float(bits.mean()),
        partitions=xnnpack_partitions(session),
        nnapi=tuple(nnapi_findings(read_graph(content), level=level)),
        nnapi_level=level,
    )


def onnx_outputs(artifact: ExportArtifact, images: Bytes) -> dict[str, Floats]:
    """Outputs of local.onnx through onnxruntime, each (N, H, W, planes)."""
    session = open_session(read_file(artifact.folder, artifact.contract.file("local.onnx")))
    names = [tensor.name for tensor in artifact.contract.outputs]
    pixels = images.astype(np.float32) / np.float32(255)
    results = [session.run(names, {"image": one[None]}) for one in pixels]
    return {name: np.concatenate([result[i] for result in results]) for i, name in enumerate(names)}


def best_attacks(audit: Audit | None) -> dict[str, float] | None:
    """Accuracy of the best attack on every attribute of an audit."""
    return None if audit is None else {one.name: one.best.accuracy for one in audit.attributes}


def accuracy_changes(
    artifact: ExportArtifact, models: Sequence[VariantMeasurement], run: Path | None
) -> list[AccuracyChange]:
    """int8 against float32: every kept attribute, and every attacked one where both models were audited.

    Raises:
        SfumatoError: the two audits do not compare.
    """
    by = {model.variant: model for model in models}
    if not {"int8", "float32"} <= set(by):
        return []
    count = DRAWS * min(IMAGES, len(artifact.dataset.splits[Split.TEST]))
    changes = [
        kept_change(name, by["float32"].accuracy[name], by["int8"].accuracy[name], count)
        for name in artifact.keep
    ]
    audits = read_audits(artifact, run)
    return changes + (hidden_changes(audits["int8"], audits["float32"]) if len(audits) == 2 else [])


def variant_json(models: Sequence[VariantMeasurement], changes: Sequence[AccuracyChange]) -> dict[str, Any]:
    """The result for programs."""
    return {
        "schema": SCHEMA,
        "models": [asdict(model) for model in models],
        "int8_vs_float": [asdict(change) for change in changes],
    }


def variant_table(title: str, models: Sequence[VariantMeasurement]) -> Grid:
    """The result for people."""
    columns = (
        "variant",
        "bytes",
        "parity, 1/256: mean / largest",
        "desired",
        "best attack",
        "exact rate, bits",
        "XNNPACK partitions",
        "NNAPI",
    )
    return Grid(title, columns, tuple(map(_cells, models)))


def remarks(models: Sequence[VariantMeasurement], changes: Sequence[AccuracyChange]) -> list[str]:
    """Lines below the table: why NNAPI refuses a model, int8 against float, and what to run for more."""
    lines = []
    for model in models:
        more = " and more" if len(model.nnapi) > 1 else ""
        lines += [
            f"{model.variant}: NNAPI, feature level {model.nnapi_level}: {reason}{more}"
            for reason in model.nnapi[:1]
        ]
    lines += [change.sentence for change in changes]
    if not any(model.attack for model in models):
        lines.append("best attack: not audited yet: run sfumato audit on this export")
    elif all(change.kept for change in changes):
        lines.append("best attack: to compare with float, run sfumato audit on the run as well and name it")
    return lines


def _cells(model: VariantMeasurement) -> tuple[str, ...]:
    return (
        model.variant,
        f"{model.bytes:,}",
        f"{model.mean_lsb:.4f} / {model.max_lsb:.3f}",
        _shares(model.accuracy),
        _shares(model.attack),
        f"{model.rate_bits:.2f}",
        "-" if model.partitions is None else str(model.partitions),
        "whole" if not model.nnapi else f"{len(model.nnapi)} refused",
    )


def _shares(values: Mapping[str, float] | None) -> str:
    return "-" if values is None else "\n".join(f"{name} {value:.1%}" for name, value in values.items())
