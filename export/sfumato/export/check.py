"""All checks of one converted model: lint, parity and, for int8, accuracy and rate.

model = check_model("int8", content, run, network, parity_images(network, run.dataset))
model.lint.nnapi, model.parity["p"].mean_lsb, model.figures
"""

from collections.abc import Mapping
from dataclasses import dataclass

from sfumato.export.freeze import PhoneNetwork
from sfumato.export.measure import Figures, measure_run
from sfumato.export.parity import Parity, ParityImages, compare
from sfumato.runtime.contract import INPUTS
from sfumato.runtime.delegate_lint import graph_findings, nnapi_findings, xnnpack_findings, xnnpack_partitions
from sfumato.runtime.interpreter import Session, open_model
from sfumato.runtime.tflite_graph import TensorInfo, read_graph
from sfumato.training.run import Run


@dataclass(frozen=True)
class Lint:
    """Properties of a model, read from the file and from a loaded interpreter."""

    bytes: int
    layout: tuple[str, ...]
    """Findings against layout and constants, one sentence each."""
    nnapi: tuple[str, ...]
    """Nodes that NNAPI refuses, one sentence each."""
    xnnpack: tuple[str, ...]
    """Nodes that XNNPACK leaves alone, one sentence each."""
    partitions: int | None
    """Partitions of XNNPACK; None where the runtime does not report them."""
    runtime: str
    image_error: float
    """Largest distance, in bytes, of the int8 image from the nearest of `INPUTS`; infinite for a float model."""
    output_error: float
    """The same of the outputs from scale 1/256 and zero point -128."""


@dataclass(frozen=True)
class CheckedModel:
    """A converted model with all that was found about it."""

    content: bytes
    lint: Lint
    parity: Mapping[str, Parity]
    """By output."""
    figures: Figures | None
    """Accuracy and rate; None for float models, which are not sampled from."""
    tuned: bool = False
    """Its weights were fine-tuned for int8."""


def check_model(
    variant: str,
    content: bytes,
    run: Run,
    network: PhoneNetwork,
    chosen: ParityImages,
    *,
    tuned: bool = False,
) -> CheckedModel:
    """Lint a model, compare it with the trained network, and measure it if it is the int8 one.

    Args:
        variant: float32, float16, dynamic or int8.
        content: the file.
        run: names channel, cloud network and data set.
        network: the network as it was trained.
        chosen: the images of the comparison.
        tuned: the model comes from fine-tuned weights.
    """
    session, int8 = open_model(content), variant == "int8"
    lint = lint_model(content, session)
    parity = compare(session, network, chosen.images, int8=int8)
    figures = measure_run(run, network, session) if int8 else None
    return CheckedModel(content, lint, parity, figures, tuned)


def lint_model(content: bytes, session: Session) -> Lint:
    """Operators, layout, scales, partitions and size of a model."""
    graph = read_graph(content)
    return Lint(
        bytes=len(content),
        layout=tuple(graph_findings(graph)),
        nnapi=tuple(nnapi_findings(graph)),
        xnnpack=tuple(xnnpack_findings(session)),
        partitions=xnnpack_partitions(session),
        runtime=session.runtime.name,
        image_error=min(scale_error(graph.inputs[0], scale, zero) for scale, zero in INPUTS),
        output_error=max(scale_error(tensor, 1 / 256) for tensor in graph.outputs),
    )


def scale_error(tensor: TensorInfo, scale: float, zero: int = -128) -> float:
    """Largest distance, in bytes, of what a tensor's bytes mean from `(byte - zero) * scale`; linear in the byte."""
    if len(tensor.scales) != 1 or len(tensor.zero_points) != 1:
        return float("inf")
    step = tensor.scales[0] / scale
    return max(abs((byte - tensor.zero_points[0]) * step - (byte - zero)) for byte in (-128, 127))
