"""The models of an export side by side: size, parity, what the cloud still recognises, best attack, rate, delegates.

    python -m sfumato.bench.model_variants EXPORT [RUN] [--json]

Everything is measured again from the sealed files: test images through each .tflite, the sampler and the cloud network,
parity against local.onnx. Attacks are those of `audit.json`: beside the contract that of the int8 model, in RUN, which the
export was made from, that of the float one. With both, each attribute is compared (`sides`).
"""

import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sfumato.audit.schema import Audit
from sfumato.bench.int8_vs_float import Side, compare_audits, kept_side, read_audit
from sfumato.core.console import emit_json, show, table
from sfumato.core.errors import SfumatoError
from sfumato.core.files import sha256
from sfumato.core.onnx_session import open_session
from sfumato.data import Split
from sfumato.export.artifact import ExportArtifact, load_export
from sfumato.export.bundle import AUDIT
from sfumato.export.measure import DRAWS, Bytes, all_bits, draw, hits, top_level, trained_bits
from sfumato.export.parity import Floats, difference, run_float, run_int8
from sfumato.runtime.contract import Model, read_file
from sfumato.runtime.delegate_lint import nnapi_findings, xnnpack_partitions
from sfumato.runtime.interpreter import open_model
from sfumato.runtime.tflite_graph import read_graph

IMAGES = 2000
PARITY_IMAGES = 64


@dataclass(frozen=True, kw_only=True)
class Row:
    """One model of the bundle."""

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
    """Why NNAPI refuses a node, one sentence each; empty: it takes the whole graph."""
    attack: Mapping[str, float] | None = None
    """Accuracy of the best attack on each attribute, fractions; None where this variant was not attacked."""


def compare_variants(artifact: ExportArtifact, run: Path | None = None, *, limit: int = IMAGES) -> list[Row]:
    """Measure every model of an export on at most `limit` test images; `run` may hold the audit of the float model.

    Raises:
        SfumatoError: a file is damaged, or the export was not made from this run.
    """
    audits = read_audits(artifact, run)
    dataset = artifact.dataset
    rows = dataset.splits[Split.TEST][:limit]
    images = np.array(dataset.images[rows])
    labels = {name: dataset.labels[name][rows] for name in artifact.keep}
    found = [measure_model(artifact, model, images, labels) for model in artifact.contract.models]
    return [replace(row, attack=best_attacks(audits.get(row.variant))) for row in found]


def read_audits(artifact: ExportArtifact, run: Path | None) -> dict[str, Audit]:
    """The audits there are, by the variant they judge: a run's network is float32 to within 1e-5.

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


def measure_model(
    artifact: ExportArtifact, model: Model, images: Bytes, labels: Mapping[str, NDArray[np.int64]]
) -> Row:
    """Measure one model on images (N, H, W, 3)."""
    content = read_file(artifact.folder, artifact.contract.file(model.file))
    session, int8 = open_model(content), model.variant == "int8"
    channel = artifact.channel
    found: Mapping[str, Any] = run_int8(session, images) if int8 else run_float(session, images)
    wanted = onnx_outputs(artifact, images[:PARITY_IMAGES])
    parity = [difference(wanted[name], found[name][:PARITY_IMAGES], int8=int8) for name in wanted]
    bits = all_bits(channel, images, found) if int8 else trained_bits(channel, images, found)
    return Row(
        variant=model.variant,
        bytes=len(content),
        mean_lsb=max(one.mean_lsb for one in parity),
        max_lsb=max(one.max_lsb for one in parity),
        accuracy=hits(artifact.cloud, draw(channel, images, found), labels, top_level(channel)),
        rate_bits=float(bits.mean()),
        partitions=xnnpack_partitions(session),
        nnapi=tuple(nnapi_findings(read_graph(content))),
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


def both_sides(artifact: ExportArtifact, rows: list[Row], run: Path | None) -> list[Side]:
    """int8 against float32: every kept attribute, and every attacked one where both were audited.

    Raises:
        SfumatoError: the two audits do not compare.
    """
    by = {row.variant: row for row in rows}
    if not {"int8", "float32"} <= set(by):
        return []
    count = DRAWS * min(IMAGES, len(artifact.dataset.splits[Split.TEST]))
    sides = [
        kept_side(name, by["float32"].accuracy[name], by["int8"].accuracy[name], count)
        for name in artifact.keep
    ]
    audits = read_audits(artifact, run)
    return sides + (compare_audits(audits["int8"], audits["float32"]) if len(audits) == 2 else [])


def cell(row: Row) -> tuple[object, ...]:
    """A row of the table, formatted."""
    verdict = "whole" if not row.nnapi else f"{len(row.nnapi)} refused"
    parity = f"{row.mean_lsb:.4f} / {row.max_lsb:.3f}"
    partitions = "-" if row.partitions is None else row.partitions
    shares = (_shares(row.accuracy), _shares(row.attack))
    return (row.variant, f"{row.bytes:,}", parity, *shares, f"{row.rate_bits:.2f}", partitions, verdict)


def _shares(values: Mapping[str, float] | None) -> str:
    return "-" if values is None else "\n".join(f"{name} {value:.1%}" for name, value in values.items())


def show_rows(title: str, rows: list[Row], sides: list[Side]) -> None:
    """Print the table, below it why NNAPI refuses a model, and int8 against float."""
    columns = (
        "variant",
        "bytes",
        "parity, 1/256",
        "desired",
        "best attack",
        "exact rate, bits",
        "XNNPACK",
        "NNAPI",
    )
    show(table(title, columns, [cell(row) for row in rows]))
    for row in rows:
        for reason in row.nnapi[:1]:
            print(f"{row.variant}: NNAPI: {reason}" + (" and more" if len(row.nnapi) > 1 else ""))
    for side in sides:
        print(side.sentence)
    if not any(row.attack for row in rows):
        print("best attack: not audited yet: run sfumato audit on this export")
    elif all(side.kept for side in sides):
        print("best attack: to compare with float, run sfumato audit on the run as well and name it")


def main() -> None:
    """Print the table for an export."""
    arguments = [word for word in sys.argv[1:] if word != "--json"]
    if len(arguments) not in (1, 2):
        raise SystemExit("usage: python -m sfumato.bench.model_variants EXPORT [RUN] [--json]")
    run = Path(arguments[1]) if len(arguments) == 2 else None
    try:
        artifact = load_export(Path(arguments[0]))
        rows = compare_variants(artifact, run)
        sides = both_sides(artifact, rows, run)
    except SfumatoError as error:
        raise SystemExit(f"sfumato: {error}") from None
    if "--json" in sys.argv:
        emit_json({"models": [asdict(row) for row in rows], "sides": [asdict(side) for side in sides]})
    else:
        show_rows(f"{arguments[0]}: parity mean / largest", rows, sides)


if __name__ == "__main__":
    main()
