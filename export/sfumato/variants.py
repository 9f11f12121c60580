"""The models of an export side by side: size, parity, what the cloud still recognises, rate, delegates, best attack.

    python -m sfumato.variants EXPORT

Everything is measured again from the sealed files: test images through each .tflite, the sampler and the cloud network,
parity against local.onnx. The best attack is the one of the export's audit.json, which judges the int8 model.
"""

import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sfumato.audit_schema import Audit
from sfumato.console import emit_json, show, table
from sfumato.contract import Model, read_file
from sfumato.data import Split
from sfumato.errors import SfumatoError
from sfumato.export_artifact import ExportArtifact, load_export
from sfumato.files import read_json
from sfumato.lint import nnapi_findings, xnnpack_partitions
from sfumato.measure import Bytes, all_bits, draw, hits, top_level, trained_bits
from sfumato.parity import Floats, difference, run_float, run_int8
from sfumato.runtime import open_model
from sfumato.tflite_file import read_graph

IMAGES = 2000
PARITY_IMAGES = 64
AUDIT = "audit.json"


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
    attack: str | None = None
    """The best attack of the audit on each attribute; None where this variant was not attacked."""


def compare_variants(artifact: ExportArtifact, *, limit: int = IMAGES) -> list[Row]:
    """Measure every model of an export on at most `limit` test images.

    Raises:
        SfumatoError: a file is damaged.
    """
    dataset = artifact.dataset
    rows = dataset.splits[Split.TEST][:limit]
    images = np.array(dataset.images[rows])
    labels = {name: dataset.labels[name][rows] for name in artifact.keep}
    return [measure_model(artifact, model, images, labels) for model in artifact.contract.models]


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
        attack=best_attack(artifact.folder) if int8 else None,
    )


def onnx_outputs(artifact: ExportArtifact, images: Bytes) -> dict[str, Floats]:
    """Outputs of local.onnx through onnxruntime, each (N, H, W, planes)."""
    import onnxruntime

    content = read_file(artifact.folder, artifact.contract.file("local.onnx"))
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    names = [tensor.name for tensor in artifact.contract.outputs]
    pixels = images.astype(np.float32) / np.float32(255)
    results = [session.run(names, {"image": one[None]}) for one in pixels]
    return {name: np.concatenate([result[i] for result in results]) for i, name in enumerate(names)}


def best_attack(folder: Path) -> str | None:
    """What the audit beside the contract found, attribute by attribute; None without an audit of the int8 model."""
    if not (folder / AUDIT).exists():
        return None
    audit = Audit.model_validate(read_json(folder / AUDIT))
    if audit.artifact != "int8":
        return None
    return "; ".join(
        f"{one.name} {one.best.accuracy:.1%} (guess {one.label_only:.1%}, NAG {one.nag_label_only:.1%}; "
        f"{one.best.attack} {one.best.architecture})"
        for one in audit.attributes
    )


def cell(row: Row) -> tuple[object, ...]:
    """A row of the table, formatted; the attack has a line of its own below the table."""
    kept = ", ".join(f"{name} {value:.1%}" for name, value in row.accuracy.items())
    verdict = "whole" if not row.nnapi else f"{len(row.nnapi)} refused"
    parity = f"{row.mean_lsb:.4f} / {row.max_lsb:.3f}"
    partitions = "-" if row.partitions is None else row.partitions
    return (row.variant, f"{row.bytes:,}", parity, kept, f"{row.rate_bits:.2f}", partitions, verdict)


def show_rows(title: str, rows: list[Row]) -> None:
    """Print the table, and below it the attack on what ships."""
    columns = ("variant", "bytes", "parity, 1/256", "desired", "rate, bits", "XNNPACK", "NNAPI")
    show(table(title, columns, [cell(row) for row in rows]))
    for row in rows:
        for reason in row.nnapi[:1]:
            print(f"{row.variant}: NNAPI: {reason}")
        if row.attack:
            print(f"{row.variant}: best attack: {row.attack}")
    if not any(row.attack for row in rows):
        print("best attack: not audited yet: run sfumato audit on this export")


def main() -> None:
    """Print the table for an export."""
    arguments = [word for word in sys.argv[1:] if word != "--json"]
    if len(arguments) != 1:
        raise SystemExit("usage: python -m sfumato.variants EXPORT [--json]")
    try:
        rows = compare_variants(load_export(Path(arguments[0])))
    except SfumatoError as error:
        raise SystemExit(f"sfumato: {error}") from None
    if "--json" in sys.argv:
        emit_json([asdict(row) for row in rows])
    else:
        show_rows(f"{arguments[0]}: parity mean / largest", rows)


if __name__ == "__main__":
    main()
