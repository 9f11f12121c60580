"""Train the matched networks, answer the same test images by every method, put the result together.

results = run_study(make_cryptographic_config({"data": "synthetic,size=32", "keep": "smiling"}))
"""

import os
import time
from collections.abc import Callable
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from studies.cryptographic import ckks, ours, two_party
from studies.cryptographic.answers import Answers
from studies.cryptographic.network import SIDE, Activation, SmallNetwork, prepare, train
from studies.cryptographic.promises import PROMISES
from torch import Tensor

from sfumato.audit.metrics import accuracy_interval
from sfumato.audit.upload_size import encoded
from sfumato.bench.host import computer
from sfumato.bench.results import Inference, Results, Stage
from sfumato.core.errors import SfumatoError, UsageError, complaint, unknown
from sfumato.core.provenance import installed, provenance
from sfumato.data import Dataset, Split, open_dataset
from sfumato.export.artifact import ExportArtifact, load_export
from sfumato.models.cost import Cost, cost

PACKAGES = {"ckks": "tenseal", "two-party": "crypten"}
WARM = 3
"""Images answered in the clear before the clock starts."""
Watch = Callable[[str], None]
Bytes: TypeAlias = NDArray[np.uint8]
Ints: TypeAlias = NDArray[np.int64]


class CryptographicConfig(BaseModel):
    """What is measured. Unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: str
    """Data SPEC of 32 x 32 images."""
    keep: str
    images: int = Field(default=20, ge=1)
    """Test images answered by every method."""
    epochs: int = Field(default=40, ge=1)
    seed: int = 0
    methods: tuple[str, ...] = Field(default=tuple(PACKAGES), min_length=1)


def make_cryptographic_config(values: dict[str, Any]) -> CryptographicConfig:
    """Build a configuration, and make sure that what it needs is installed.

    Raises:
        UsageError: a value is missing, out of range or not known.
        SfumatoError: a package is missing.
    """
    try:
        config = CryptographicConfig(**values)
    except ValidationError as error:
        raise UsageError(complaint(error)) from None
    for method in config.methods:
        if method not in PACKAGES:
            raise UsageError(unknown("method", method, PACKAGES))
        if find_spec(PACKAGES[method]) is None:
            raise SfumatoError(
                f"{method} needs {PACKAGES[method]}, in an environment of its own: see studies/cryptographic/requirements.txt"
            )
    return config


def run_study(
    config: CryptographicConfig, *, export: Path | None = None, watch: Watch = lambda title: None
) -> Results:
    """Train, answer, measure.

    Args:
        config: what is measured.
        export: an export of ours for one more row, on its own test images; None leaves that out.
        watch: called with the name of each part as it begins.

    Raises:
        DataError: the data cannot be used.
        SfumatoError: a protocol's process failed, or the export cannot be used.
        UsageError: images of another size.
    """
    torch.set_num_threads(1)
    artifact = None if export is None else load_export(export, indices=False)
    dataset = open_dataset(config.data, keep=(config.keep,))
    if dataset.size != (SIDE, SIDE):
        raise UsageError(
            f"the network is made for images of {SIDE} x {SIDE} pixels: add size={SIDE} to the data SPEC"
        )
    rows = choose(dataset, config.images)
    images, labels = dataset.images[rows], dataset.labels[config.keep][rows]
    found: list[Inference] = []
    for activation in activations(config.methods):
        watch(f"training the network with {activation}")
        network = SmallNetwork(activation, len(dataset.attributes[config.keep].classes))
        train(network, dataset, config.keep, epochs=config.epochs, seed=config.seed)
        what = facts(activation, cost(network, (3, SIDE, SIDE)), dataset.size)
        everything, truth = dataset.subset(Split.TEST, [config.keep])
        found.append(describe("plain", what, answer_plainly(network, everything), truth[config.keep]))
        plain = answer_plainly(network, images)
        for method, answer in protocols(config.methods, activation).items():
            watch(f"{method}, {activation}: {len(images)} images")
            found.append(describe(method, what, answer(network, prepare(images)), labels, plain))
    if artifact is not None:
        watch("our export")
        found.append(our_row(artifact, config.images))
    return Results(
        target="cryptographic",
        environment=environment(),
        inferences=tuple(found),
        settings={**config.model_dump(mode="json"), "dataset": dataset.id, "threads": 1},
    )


def activations(methods: tuple[str, ...]) -> tuple[Activation, ...]:
    """The networks that some methods run."""
    return ("square", "relu") if "two-party" in methods else ("square",)


def protocols(
    methods: tuple[str, ...], activation: Activation
) -> dict[str, Callable[[SmallNetwork, Tensor], Answers]]:
    """The protocols that run a network with this activation."""
    known = {"ckks": ckks.answer, "two-party": two_party.answer}
    return {name: known[name] for name in methods if name == "two-party" or activation == "square"}


def choose(dataset: Dataset, count: int) -> Ints:
    """Rows of at most `count` test images, evenly spaced: the order of a data set may follow its labels."""
    test = dataset.splits[Split.TEST]
    return test[np.linspace(0, len(test) - 1, min(count, len(test))).round().astype(np.int64)]


def answer_plainly(network: SmallNetwork, images: Bytes) -> Answers:
    """The network on plain pixels (N, SIDE, SIDE, 3); what is sent is a JPEG."""
    logits, times, cpu_ms = [], [], []
    with torch.inference_mode():
        for image in [*images[:WARM], *images]:
            started, before = time.perf_counter(), time.process_time()
            logits.append(network(prepare(image[None]))[0])
            times.append(1000 * (time.perf_counter() - started))
            cpu_ms.append(1000 * (time.process_time() - before))
    return Answers(
        logits=torch.stack(logits[-len(images) :]).double().numpy(),
        total_ms=times[-len(images) :],
        cpu_ms=cpu_ms[-len(images) :],
        sent=[encoded(image, "JPEG", quality=90) for image in images],
        received=[4 * len(logits[0])] * len(images),
    )


def describe(
    method: str, what: dict[str, Any], answers: Answers, labels: Ints, plain: Answers | None = None
) -> Inference:
    """A row.

    Args:
        method: one of `PROMISES`.
        what: name of the network, size, params, macs.
        answers: of this method.
        labels: (N,) true classes.
        plain: the same network's answers in the clear, for the same images.
    """
    right = answers.predictions == labels
    beside: dict[str, Any] = {}
    if plain is not None:
        beside = {
            "same_answers": float((answers.predictions == plain.predictions).mean()),
            "largest_difference": float(np.abs(answers.logits - plain.logits).max()),
            "times_plain": float(np.median(answers.total_ms) / np.median(plain.total_ms)),
        }
    parts = answers.parts_ms.items()
    return Inference(
        method=method,
        images=len(right),
        accuracy=float(right.mean()),
        ci95=accuracy_interval(right),
        p50_ms=float(np.median(answers.total_ms)),
        p90_ms=float(np.percentile(answers.total_ms, 90)),
        cpu_ms=float(np.median(answers.cpu_ms)),
        stages=tuple(
            Stage(name=name, p50_ms=float(np.median(ms)), p90_ms=float(np.percentile(ms, 90)), runs=len(ms))
            for name, ms in parts
        ),
        sent_bytes=float(np.mean(answers.sent)),
        received_bytes=float(np.mean(answers.received)),
        once_bytes=answers.once_bytes,
        once_ms=answers.once_ms,
        **what,
        **beside,
        **asdict(PROMISES[method]),
    )


def facts(network: str, figures: Cost, size: tuple[int, int]) -> dict[str, Any]:
    """What a row says about a network."""
    return {"network": network, "size": size, "params": figures.parameters, "macs": figures.macs}


def our_row(artifact: ExportArtifact, count: int) -> Inference:
    """The row of an export, on its own test images; `times_plain` is over its cloud network alone."""
    keep, size = artifact.keep[0], artifact.dataset.size
    rows = choose(artifact.dataset, count)
    answers, alone_ms = ours.answer(artifact, artifact.dataset.images[rows])
    figures = cost(artifact.cloud, (3, *size))
    what = facts("the cloud network of the export", figures, size)
    row = describe("sfumato", what, answers, artifact.dataset.labels[keep][rows])
    return row.model_copy(update={"times_plain": row.p50_ms / float(np.median(alone_ms))})


def environment() -> dict[str, Any]:
    """Versions, machine and its load."""
    found = provenance()
    extra = {name: version for name in PACKAGES.values() if (version := installed(name))}
    return {**found, "packages": {**found["packages"], **extra}, **computer(), "load": os.getloadavg()[0]}
