"""What becomes of common small architectures as a phone network of one's own (`--local`), through both converters.

    python -m sfumato.bench.own_networks                                          # all; minutes
    python -m sfumato.bench.own_networks --networks u_net --converters direct --json
    python -m sfumato.bench.own_networks --out benchmarks/results/own-networks.json --page docs/own-networks.md

Every network gets weights that make it compute something, drawn with one seed, and goes the way of `sfumato export`: frozen,
folded, ONNX, our lowering or onnx2tf, TensorFlow Lite at float32 and int8. Outputs are compared with PyTorch's on drawn faces,
and the gates of the export are asked. What a learned network would lose in accuracy is not measured.
"""

import logging
import tempfile
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, cast

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from torch import nn

from sfumato.bench.kept_rows import code_hash, fill, made_by, not_yet, page, present, versions
from sfumato.bench.small_networks import NETWORKS
from sfumato.channels import create
from sfumato.core.errors import SfumatoError, UsageError, first_line, unknown
from sfumato.core.reports import Grid
from sfumato.data.loaders.synthetic import load_synthetic
from sfumato.data.registry import parse_spec
from sfumato.export.check import lint_model
from sfumato.export.freeze import PhoneNetwork, freeze_network
from sfumato.export.gates import lint_gates, parity_gate
from sfumato.export.onnx_files import write_local
from sfumato.export.parity import compare, reference, run_int8
from sfumato.export.tflite import BACKENDS, convert, name_tensors, write_variants
from sfumato.models.local import LocalNetwork
from sfumato.models.own_local import OwnLocal
from sfumato.models.tensors import to_tensor
from sfumato.runtime.interpreter import open_model

SCHEMA = "sfumato-own-networks/1"
COMMAND = "python -m sfumato.bench.own_networks --out benchmarks/results/own-networks.json --page docs/own-networks.md"
SIZE = (64, 64)
VARIANTS = ("float32", "int8")
IMAGES, CALIBRATION = 8, 20
SPREAD = 1.5
"""Standard deviation of the maps, so that no output is constant and few are cut off."""
CONVERTERS = tuple(BACKENDS)


@dataclass(frozen=True, kw_only=True)
class Row:
    """What one converter made of one network."""

    network: str
    converter: str
    parameters: int
    words: str
    """Why the export would refuse it, in one line; empty where all gates that were asked hold."""
    float32_difference: float | None = None
    """Largest difference of an output from PyTorch's, which lie in 0..1; None where there is no such model."""
    int8_psnr: float | None = None
    """Of all outputs against PyTorch's, dB; the peak is 1."""
    int8_mean_lsb: float | None = None
    """Mean difference in 1/256."""
    float32_partitions: int | None = None
    int8_partitions: int | None = None
    """Of XNNPACK: 1 is the whole graph."""
    float32_left: Mapping[str, int] | None = None
    int8_left: Mapping[str, int] | None = None
    """Operators that XNNPACK leaves to the reference kernels, and how many."""
    nnapi_refuses: Mapping[str, int] | None = None
    """Operators of the int8 model that NNAPI refuses, and how many."""
    int8_bytes: int | None = None


def drawn_faces(count: int, size: tuple[int, int] = SIZE) -> NDArray[np.uint8]:
    """Drawn faces (count, H, W, 3) that hold the values 0 and 255."""
    height, width = size
    pictures = load_synthetic(parse_spec(f"synthetic,count={count}")).pictures
    images = np.stack(
        [cast(NDArray[np.uint8], picture) for picture in pictures.read(range(count), height, width)]
    )
    images[0, 0, 0], images[0, 0, 1] = 0, 255
    return images


def build(name: str, images: NDArray[np.uint8]) -> PhoneNetwork:
    """A network of the table as the export gets it: statistics of batch norm from images, maps that differ.

    Args:
        name: a key of `NETWORKS`.
        images: (N, 64, 64, 3).

    Raises:
        SfumatoError: it does not survive freezing.
    """
    channel = create("dither", levels=2)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = NETWORKS[name][0](dict(channel.maps), SIZE)
    pixels = to_tensor(images)
    with torch.no_grad():
        for part in network.modules():
            if isinstance(part, nn.modules.batchnorm._BatchNorm):
                part.momentum = None  # the mean of all batches
        network.train()
        network(pixels)
        for key, values in network.eval()(pixels).items():
            head = cast(Any, network).heads[key]
            head.weight *= SPREAD / values.std()
            head.bias.zero_()
    return freeze_network(cast(LocalNetwork, OwnLocal(channel, network).eval()), SIZE)


def measure(name: str, converter: str, images: NDArray[np.uint8]) -> Row:
    """Convert a network and say what became of it.

    Args:
        name: a key of `NETWORKS`.
        converter: a key of `BACKENDS`.
        images: (N, 64, 64, 3) that calibrate; the first ones are compared on.
    """
    network = build(name, images)
    parameters = sum(value.numel() for value in network.parameters())
    words: list[str] = []
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="sfumato-own-") as folder:
        source = Path(folder) / "local.onnx"
        write_local(network, SIZE, source)
        try:
            models = convert_with(converter, source, images)
        except SfumatoError as error:
            words.append(first_line(error))
            models = {}
    for variant, content in models.items():
        try:
            found |= judge(variant, name_tensors(content, network.names), network, images[:IMAGES], words)
        except SfumatoError as error:
            words.append(f"{variant}: {first_line(error)}")
    return Row(network=name, converter=converter, parameters=parameters, words="; ".join(words), **found)


def convert_with(converter: str, source: Path, images: NDArray[np.uint8]) -> dict[str, bytes]:
    """Both variants by a converter: ours in this process, which is quicker; onnx2tf in one of its own, as at the export.

    Raises:
        SfumatoError: it does not convert the network.
    """
    if converter == "direct":
        return dict(write_variants(BACKENDS[converter](source, images), images, VARIANTS))
    return convert(source, images, VARIANTS, backend=converter)


def judge(
    variant: str, content: bytes, network: PhoneNetwork, images: NDArray[np.uint8], words: list[str]
) -> dict[str, Any]:
    """Fields of a row about one model; gates that fail are added to `words`."""
    session, int8 = open_model(content), variant == "int8"
    lint = lint_model(content, session)
    parity = compare(session, network, images, int8=int8)
    gates = [*lint_gates(variant, lint), parity_gate(variant, parity)]
    words += [f"{gate.name} is {gate.value}, allowed is {gate.limit}" for gate in gates if not gate.passed]
    left = {f"{variant}_partitions": lint.partitions, f"{variant}_left": kinds(lint.xnnpack)}
    if not int8:
        worst = max(one.max_error for one in parity.values())
        return {**left, "float32_difference": worst if np.isfinite(worst) else None}
    mean = max(one.mean_lsb for one in parity.values())
    return {
        **left,
        "int8_psnr": psnr(reference(network, images), run_int8(session, images)),
        "int8_mean_lsb": mean if np.isfinite(mean) else None,
        "nnapi_refuses": kinds(lint.nnapi),
        "int8_bytes": lint.bytes,
    }


def psnr(wanted: Mapping[str, NDArray[np.float32]], found: Mapping[str, NDArray[np.uint8]]) -> float | None:
    """Of parameter bytes against outputs in 0..1, dB; None where shapes differ."""
    if any(found[name].shape != values.shape for name, values in wanted.items()):
        return None
    gaps = [(values - found[name].astype(np.float64) / 256).ravel() for name, values in wanted.items()]
    return float(-10 * np.log10(np.square(np.concatenate(gaps)).mean() + 1e-12))


def kinds(findings: Sequence[str]) -> dict[str, int]:
    """Operators of findings `node 3 GELU: ...`, and how many of each."""
    return dict(sorted(Counter(finding.split(":")[0].split()[2] for finding in findings).items()))


def grid(rows: Sequence[Mapping[str, Any]]) -> Grid:
    """The result for people."""
    return Grid(
        f"{sum(not row['words'] for row in rows)} of {len(rows)} pass the gates of the export",
        (
            "network",
            "converter",
            "parameters",
            "float32: largest difference",
            "int8: PSNR, dB",
            "XNNPACK partitions: float32, int8",
            "XNNPACK leaves",
            "NNAPI refuses",
            "exported, or why not",
        ),
        tuple(map(_cells, rows)),
    )


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    both = {**(row["float32_left"] or {}), **(row["int8_left"] or {})}
    sides = (row["float32_partitions"], row["int8_partitions"])
    return (
        row["network"],
        row["converter"],
        f"{row['parameters']:,}",
        _number(row["float32_difference"], ".1e"),
        _number(row["int8_psnr"], ".1f"),
        ", ".join("-" if side is None else str(side) for side in sides),
        _listed(both),
        _listed(row["nnapi_refuses"] or {}),
        row["words"].replace("|", "/") or "yes",
    )


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items()) or "-"


def describe() -> Grid:
    """What the networks are."""
    lines = tuple((name, particular) for name, (_, particular) in NETWORKS.items())
    return Grid("the networks", ("network", "what is particular about it"), lines)


def render(table: Mapping[str, Any]) -> str:
    """The page of the documentation."""
    words = (
        "Twenty small architectures as `--local`, images of 64x64, each through our own lowering (`direct`) and onnx2tf. "
        "`sfumato export` tries the first, then the second.",
        "Largest difference: float32 against PyTorch, of outputs in 0..1. PSNR: int8 against PyTorch, peak 1. "
        "The last column is what the gates of the export say; accuracy is not measured, weights are drawn.",
        made_by(table["made_with"]),
        *not_yet(
            [
                f"{name} {way}"
                for way in CONVERTERS
                for name in NETWORKS
                if f"{name} {way}" not in table["rows"]
            ]
        ),
    )
    order = list(NETWORKS)
    rows = sorted(table["rows"].values(), key=lambda row: order.index(row["network"]))
    return page("Own phone networks, converted", COMMAND, words, (grid(rows), describe()))


def main(
    networks: Annotated[str, typer.Option(help="Names, with commas; all of them if empty.")] = "",
    converters: Annotated[str, typer.Option(help="Of direct, onnx2tf; both if empty.")] = "",
    out: Annotated[Path | None, typer.Option(help="JSON file; rows that it holds already stay.")] = None,
    page_file: Annotated[Path | None, typer.Option("--page", help="Markdown page to write.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The result alone, as JSON.")] = False,
) -> None:
    """Convert common small architectures by both converters, and print what became of them."""
    from sfumato.core.options import names

    logging.disable(logging.CRITICAL)  # the exporter's remarks
    warnings.simplefilter("ignore")  # and TensorFlow's
    chosen, ways = names(networks) or tuple(NETWORKS), names(converters) or CONVERTERS
    for what, given, known in (("network", chosen, NETWORKS), ("converter", ways, BACKENDS)):
        for name in given:
            if name not in known:
                raise UsageError(unknown(what, name, list(known)))
    images = drawn_faces(CALIBRATION)
    result = fill(
        out,
        [f"{name} {way}" for way in ways for name in chosen],
        lambda key: asdict(measure(key.split()[0], key.split()[1], images)),
        schema=SCHEMA,
        made_with={
            **versions("torch", "tensorflow", "onnx2tf", "ai-edge-litert"),
            "code": code_hash([Path(__file__).with_name("small_networks.py"), *exporter()]),
        },
    )
    present(result, grid, render, page_file=page_file, as_json=as_json)


def exporter() -> list[Path]:
    """The code that the rows judge."""
    from sfumato import export

    steps = (
        *("freeze", "lowering", "onnx_files", "onnx_graph", "onnx2tf_converter", "packed_planes", "ranges"),
        "tflite",
    )
    return [Path(str(export.__file__)).with_name(f"{step}.py") for step in steps]


if __name__ == "__main__":
    try:
        typer.run(main)
    except SfumatoError as error:
        typer.echo(f"sfumato: {error}", err=True)
        raise SystemExit(error.exit_code) from None
