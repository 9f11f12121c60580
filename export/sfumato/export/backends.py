"""The converters side by side: what each makes of the same trained network.

python -m sfumato.export.backends RUN
rows = compare_backends(load_run(folder), ["direct", "onnx2tf"])
"""

import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sfumato.core.console import show, table
from sfumato.core.errors import SfumatoError
from sfumato.data import Split
from sfumato.export.parity import compare
from sfumato.export.passes import (
    PARITY_IMAGES,
    Work,
    choose_calibration,
    fold_batch_norm,
    freeze_network,
    normalise_names,
    wrap_channels_last,
    write_local_onnx,
)
from sfumato.export.tflite import BACKENDS, LITERT, convert, model_file
from sfumato.runtime.delegate_lint import graph_findings, nnapi_findings, xnnpack_partitions
from sfumato.runtime.interpreter import Session, open_model
from sfumato.runtime.tflite_graph import read_graph
from sfumato.training.run import Run, load_run

RUNS = 200
PREPARATION = (freeze_network, fold_batch_norm, wrap_channels_last, choose_calibration, write_local_onnx)


@dataclass(frozen=True)
class Row:
    """One model of one back-end."""

    backend: str
    variant: str
    bytes: int
    mean_lsb: float
    """Mean difference from the trained network, in 1/256."""
    partitions: int | None
    refused: int
    """Nodes that NNAPI refuses."""
    transposes: int
    image_scale: float | None
    p50_ms: float
    """Median of one thread on this computer."""
    seconds: float
    """Conversion of all variants, without imports."""


def compare_backends(
    run: Run, backends: Sequence[str], variants: Sequence[str] = ("float32", "dynamic", "int8")
) -> list[Row]:
    """Convert the run's network with every back-end and look at what came out; nothing is kept.

    Raises:
        SfumatoError: a back-end failed or is not installed.
    """
    rows = []
    for backend in backends:
        with tempfile.TemporaryDirectory(prefix="sfumato-backend-") as name:
            folder = Path(name)
            work = Work(run, tuple(variants), backend, folder, folder)
            for step in PREPARATION:
                step(work)
            report = convert(
                work.phone, folder / "local.onnx", work.calibration, variants, folder, backend=backend
            )
            rows += [describe_model(work, variant, float(report["seconds"])) for variant in variants]
    return rows


def describe_model(work: Work, variant: str, seconds: float) -> Row:
    """Measure one converted model."""
    content = normalise_names((work.scratch / model_file(variant)).read_bytes(), work.phone.names)
    graph, session = read_graph(content), open_model(content)
    rows = work.run.dataset.splits[Split.VALIDATION][:PARITY_IMAGES]
    images = np.array(work.run.dataset.images[rows])
    int8 = variant == "int8"
    parity = compare(session, work.phone, images, int8=int8)
    return Row(
        backend=work.backend,
        variant=variant,
        bytes=len(content),
        mean_lsb=max(found.mean_lsb for found in parity.values()),
        partitions=xnnpack_partitions(session),
        refused=len(nnapi_findings(graph)),
        transposes=sum(" TRANSPOSE:" in finding for finding in graph_findings(graph)),
        image_scale=graph.inputs[0].scales[0] if int8 else None,
        p50_ms=median_ms(session, images[0], int8=int8),
        seconds=seconds,
    )


def median_ms(session: Session, image: NDArray[np.uint8], *, int8: bool) -> float:
    """Median time of a run in milliseconds."""
    pixels = (image ^ np.uint8(0x80)).view(np.int8)[None] if int8 else image[None].astype(np.float32) / 255
    times = []
    for _ in range(RUNS):
        started = time.perf_counter()
        session.run(pixels)
        times.append(time.perf_counter() - started)
    return 1000 * float(np.median(times))


def cell(row: Row) -> tuple[object, ...]:
    """A row of the table, formatted."""
    counts = (
        row.partitions,
        row.refused,
        row.transposes,
        f"{row.image_scale:.6f}" if row.image_scale else "",
    )
    times = (f"{row.p50_ms:.2f}", f"{row.seconds:.1f}")
    return (row.backend, row.variant, f"{row.bytes:,}", f"{row.mean_lsb:.4f}", *counts, *times)


def main() -> None:
    """Print the table for a run."""
    if len(sys.argv) != 2:
        raise SystemExit("usage: python -m sfumato.export.backends RUN")
    try:
        run, rows = load_run(Path(sys.argv[1])), []
        for backend in (*BACKENDS, LITERT):
            try:
                rows += compare_backends(run, [backend])
            except SfumatoError as error:
                print(f"{backend}: {error}", file=sys.stderr)
    except SfumatoError as error:
        raise SystemExit(f"sfumato: {error}") from None
    columns = ("back-end", "variant", "bytes", "mean 1/256", "partitions", "NNAPI refuses", "TRANSPOSE")
    cells = [cell(row) for row in rows]
    show(table(sys.argv[1], (*columns, "image scale", "p50 ms", "seconds"), cells))


if __name__ == "__main__":
    main()
