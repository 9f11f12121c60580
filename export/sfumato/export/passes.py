"""The passes of an export, and what they hand on.

Each pass says in its first line what it needs and what holds afterwards; `exporting.PASSES` pairs it with the conditions that
look at both. A pass that finds a figure writes it down as a gate; `check_gates` stops the export if one has failed, so that
one run names all shortcomings.

    work = Work(run=run, variants=("int8",), backend="direct", scratch=scratch, out=folder)
    freeze_network(work)
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from numpy.typing import NDArray

from sfumato.core.errors import SfumatoError
from sfumato.core.files import write_json
from sfumato.core.onnx_heads import match_heads
from sfumato.data import Split
from sfumato.export.bundle import AUDIT, describe, seal, write_audit_files
from sfumato.export.freeze import PhoneNetwork, fold, freeze
from sfumato.export.measure import Figures, measure
from sfumato.export.onnx_files import CloudHeads, write_onnx
from sfumato.export.parity import Parity, compare, decided
from sfumato.export.tflite import convert, model_file
from sfumato.models.local import LocalNetwork
from sfumato.runtime import test_vectors
from sfumato.runtime.contract import Contract, Gate, keeps
from sfumato.runtime.delegate_lint import graph_findings, nnapi_findings, xnnpack_findings, xnnpack_partitions
from sfumato.runtime.interpreter import open_model
from sfumato.runtime.phone_model import PhoneModel
from sfumato.runtime.sampler import NORMAL_TABLE, normal_table
from sfumato.runtime.signing import sign
from sfumato.runtime.tflite_graph import TensorFact, read_graph, rename
from sfumato.training.clean import ONNX_COPY
from sfumato.training.run import Run

CALIBRATION_IMAGES = 200
PARITY_IMAGES = 64
PARITY_CANDIDATES = 512
"""Images that those of the parity are chosen from."""
MEASURED_IMAGES = 2000

PARITY_LIMITS = {"float32": 256e-5, "float16": 2.0, "dynamic": 8.0}
"""Largest difference of any byte, in 1/256; float32: 1e-5 of the range."""
INT8_MEAN_LIMIT, INT8_MEAN_SHARE = 2.0, 0.05
"""Largest mean difference in 1/256, and as a share of the spread of the values: parts of a picture reach from 0 to 1."""
UNDECIDED_LIMIT = 0.98
"""Share of images near the edge of the phone's decision, on which parity says nothing: some have to be left."""
ACCURACY_LIMIT = 0.005
SIZE_LIMIT = 100_000
GRID_LIMIT = 1e-3
"""Bytes; scales are stored in single precision."""


@dataclass
class Work:
    """What the passes hand on."""

    run: Run
    variants: tuple[str, ...]
    backend: str
    scratch: Path
    """Everything on the way; thrown away."""
    out: Path
    """The bundle in the making."""
    signer: Ed25519PrivateKey | None = None
    tune: str = "auto"
    local: LocalNetwork | None = None
    """The trained network, frozen, then folded."""
    calibration: NDArray[np.uint8] = field(default_factory=lambda: np.empty(0, np.uint8))
    network: PhoneNetwork | None = None
    """The network as it was trained: what every model is measured against."""
    figures: Figures | None = None
    gates: dict[str, Gate] = field(default_factory=dict)
    """By name; a pass that runs again replaces its own."""
    tuned: bool = False
    """The int8 model comes from weights that were fine-tuned for it; the others never do."""
    contract: Contract | None = None

    @property
    def phone(self) -> PhoneNetwork:
        """The network; there once it has been wrapped."""
        assert self.network is not None
        return self.network

    def describe(self) -> Contract:
        """The contract of the bundle as it stands."""
        return describe(
            self.run,
            self.out,
            phone=self.phone,
            variants=self.variants,
            gates=tuple(self.gates.values()),
            figures=self.figures,
            conversion={
                "backend": self.backend,
                "calibration_images": len(self.calibration),
                "quantization": "fine-tuned" if self.tuned else "post-training",
            },
        )

    def gate(self, name: str, value: float | str | bool, limit: float | str | bool, note: str = "") -> None:
        """Write a check down; numbers must not exceed their limit, all else must equal it."""
        shown = value
        if isinstance(value, float):  # JSON knows no infinity
            shown = round(value, 6) if np.isfinite(value) else str(value)
        self.gates[name] = Gate(name=name, value=shown, limit=limit, passed=keeps(shown, limit), note=note)


def freeze_network(work: Work) -> None:
    """Needs a network in evaluation mode; afterwards a frozen copy of it is there, and all its values are finite."""
    work.local = freeze(work.run.local)


def fold_batch_norm(work: Work) -> None:
    """Needs the frozen network; afterwards no batch norm is left and its outputs are what they were."""
    assert work.local is not None
    example = torch.rand(2, 3, *work.run.dataset.size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        before = work.local(example)
        after = fold(work.local)(example)
    gap = max(float((before[name] - after[name]).abs().max()) for name in before)
    if gap > 1e-4:
        raise SfumatoError(
            f"folding batch norm changed the outputs by {gap:.1e}: the weights are too extreme to ship"
        )


def wrap_channels_last(work: Work) -> None:
    """Needs the folded network; afterwards image and outputs are (1, H, W, planes), and every output is in 0..1."""
    assert work.local is not None
    work.network = PhoneNetwork(work.local)


def choose_calibration(work: Work) -> None:
    """Needs training images; afterwards the calibration set holds the exact values 0 and 255."""
    rows = work.run.dataset.splits[Split.DEFENDER]
    picks = rows[np.linspace(0, len(rows) - 1, min(CALIBRATION_IMAGES, len(rows))).astype(int)]
    images = np.array(work.run.dataset.images[picks])
    # Two pixels fix the image's scale at 1/255; a whole black or white image would widen every other range.
    images[0, 0, 0], images[0, 0, 1] = 0, 255
    work.calibration = images


def write_local_onnx(work: Work) -> None:
    """Needs the wrapped network; afterwards local.onnx has passed ONNX's checker and shape inference."""
    write_network(work, work.phone, work.out / "local.onnx")


def write_network(work: Work, network: PhoneNetwork, path: Path) -> None:
    """A network of the run's size as ONNX."""
    example = torch.zeros(1, *work.run.dataset.size, 3)
    write_onnx(network, example, path, inputs=["image"], outputs=network.names)


def convert_variants(work: Work) -> None:
    """Needs local.onnx and calibration images; afterwards the scratch folder holds every variant."""
    source = work.out / "local.onnx"
    convert(work.phone, source, work.calibration, work.variants, work.scratch, backend=work.backend)


def convert_tuned(work: Work, network: PhoneNetwork) -> None:
    """Convert int8 again, from other weights: the float models and local.onnx stay those of the trained network."""
    source = work.scratch / "tuned.onnx"
    write_network(work, network, source)
    convert(network, source, work.calibration, ["int8"], work.scratch, backend=work.backend)
    work.tuned = True


def name_tensors(work: Work) -> None:
    """Needs the variants; afterwards the bundle holds them, their tensors named as in the contract."""
    for variant in work.variants:
        content = (work.scratch / model_file(variant)).read_bytes()
        (work.out / model_file(variant)).write_bytes(normalise_names(content, work.phone.names))


def normalise_names(content: bytes, outputs: Sequence[str]) -> bytes:
    """Call the tensors at the ends of a model `image` and by the channel's names.

    TensorFlow returns a dictionary in alphabetical order; parity would show a mistake here.
    """
    graph = read_graph(content)
    old = [tensor.name for tensor in (*graph.inputs, *graph.outputs)]
    names = dict(zip(old, ["image", *sorted(outputs)], strict=True))
    return rename(content, {before: after for before, after in names.items() if before != after})


def lint_variants(work: Work) -> None:
    """Needs the models; afterwards layout, operators, scales, partitions and size are gates."""
    for variant in work.variants:
        content = (work.out / model_file(variant)).read_bytes()
        graph = read_graph(content)
        findings = graph_findings(graph)
        work.gate(
            f"{variant}: channels last, nothing frozen or random", len(findings), 0, "; ".join(findings)
        )
        session = open_model(content)
        partitions = xnnpack_partitions(session)
        # A runtime that does not tell proves nothing, and text never keeps to a number.
        told = f"unknown to {session.runtime.name}" if partitions is None else partitions
        work.gate(f"{variant}: XNNPACK partitions", told, 1, "; ".join(xnnpack_findings(session)))
        if variant == "int8":
            refused = nnapi_findings(graph)
            work.gate("int8: nodes NNAPI refuses", len(refused), 0, "; ".join(refused))
            image = grid_error(graph.inputs[0], 1 / 255)
            work.gate("int8: image bytes off scale 1/255, zero point -128", image, GRID_LIMIT)
            outputs = max(grid_error(tensor, 1 / 256) for tensor in graph.outputs)
            work.gate("int8: output bytes off scale 1/256, zero point -128", outputs, GRID_LIMIT)
            work.gate("int8: bytes", len(content), SIZE_LIMIT)


def grid_error(tensor: TensorFact, scale: float) -> float:
    """Largest distance, in bytes, of what the bytes of a tensor mean from `(byte + 128) * scale`; linear in the byte."""
    if len(tensor.scales) != 1 or len(tensor.zero_points) != 1:
        return float("inf")
    step = tensor.scales[0] / scale
    return max(abs((byte - tensor.zero_points[0]) * step - (byte + 128)) for byte in (-128, 127))


def check_parity(work: Work) -> None:
    """Needs the models; afterwards each has been compared with the trained network on real images."""
    rows = work.run.dataset.splits[Split.VALIDATION]
    images = np.array(work.run.dataset.images[rows[:PARITY_CANDIDATES]])
    clear = decided(work.phone, images)
    work.gate("parity: share of images too close to call", float(1 - clear.mean()), UNDECIDED_LIMIT)
    if not clear.any():
        raise SfumatoError(
            "the network's decision is too close to call on every validation image, so no model can be compared with it: "
            "train longer (--epochs)"
        )
    images = images[clear][:PARITY_IMAGES]
    for variant in work.variants:
        session = open_model((work.out / model_file(variant)).read_bytes())
        found = compare(session, work.phone, images, int8=variant == "int8")
        worst = max(found.values(), key=lambda parity: parity.max_lsb)
        if variant == "int8":
            far = max(found.values(), key=lambda parity: parity.mean_lsb / int8_limit(parity))
            note = f"largest {worst.max_lsb:.2f}, spread {far.spread_lsb:.1f}"
            work.gate("int8: mean difference, 1/256", far.mean_lsb, int8_limit(far), note)
        else:
            name = f"{variant}: largest difference, 1/256"
            work.gate(name, worst.max_lsb, PARITY_LIMITS[variant], f"{worst.max_error:.1e} of the range")


def int8_limit(parity: Parity) -> float:
    """How far int8 may be from the trained network on average, in 1/256."""
    return round(max(INT8_MEAN_LIMIT, INT8_MEAN_SHARE * parity.spread_lsb), 3)


def measure_int8(work: Work) -> None:
    """Needs a sound int8 model; afterwards accuracy and exact rate stand beside the float ones."""
    if "int8" not in work.variants:
        return
    dataset = work.run.dataset
    rows = dataset.splits[Split.TEST][:MEASURED_IMAGES]
    session = open_model((work.out / model_file("int8")).read_bytes())
    labels = {name: dataset.labels[name][rows] for name in work.run.keep}
    images = np.array(dataset.images[rows])
    work.figures = measure(work.run.channel, work.run.cloud, work.phone, session, images, labels)
    for name, pair in work.figures.accuracy.items():
        # Only a loss is a fault, and of few images one is more than the limit.
        limit = round(max(ACCURACY_LIMIT, 1 / work.figures.images), 6)
        work.gate(f"int8: loss of {name} accuracy", pair.trained - pair.int8, limit)


def write_cloud(work: Work) -> None:
    """Needs the cloud network; afterwards cloud.onnx gives the same answers through onnxruntime.

    One that was given as ONNX is copied as it is. What the audit of the export needs is written beside it.
    """
    import onnxruntime

    heads = CloudHeads(work.run.cloud, work.run.keep)
    height, width = work.run.dataset.size
    path = work.out / ONNX_COPY
    if work.run.config.given_onnx is not None:
        shutil.copyfile(work.run.folder / ONNX_COPY, path)
    else:
        example = torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(0))
        write_onnx(heads, example, path, inputs=["upload"], outputs=work.run.keep, batch=True)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    probe = torch.randint(0, 2, (16, 3, height, width), generator=torch.Generator().manual_seed(1)).float()
    with torch.no_grad():
        wanted = heads(probe)
    names = match_heads([output.name for output in session.get_outputs()], work.run.keep)
    found = session.run(list(names), {session.get_inputs()[0].name: probe.numpy()})
    gap = max(float(np.abs(a.numpy() - b).max()) for a, b in zip(wanted, found, strict=True))
    work.gate("cloud.onnx: largest difference of a logit", gap, 1e-3)
    write_audit_files(work.run, work.out / AUDIT)


def check_gates(work: Work) -> None:
    """Needs all gates; afterwards none has failed."""
    failed = [gate for gate in work.gates.values() if not gate.passed]
    if failed:
        told = "; ".join(
            f"{g.name} is {g.value}, allowed is {g.limit}" + (f" ({g.note})" if g.note else "")
            for g in failed
        )
        raise SfumatoError(f"the export was refused, nothing was written: {told}")


def write_vectors(work: Work) -> None:
    """Needs all models; afterwards test_vectors.json holds known answers of noise, sampler and the int8 model.

    A gaussian channel's phone also gets the normal table, little-endian: no platform has to compute it.
    """
    if "int8" not in work.variants:
        return
    if work.run.channel.name == "gaussian":
        (work.out / NORMAL_TABLE).write_bytes(normal_table().astype("<i2").tobytes())
    model = PhoneModel.open(work.out, work.describe())
    write_json(work.out / test_vectors.FILE, test_vectors.make_vectors(model))


def seal_bundle(work: Work) -> None:
    """Needs everything else; afterwards contract.json names every file with its sha256, signed if there is a key."""
    work.contract = work.describe()
    seal(work.contract, work.out)
    if work.signer is not None:
        sign(work.out, work.signer)
