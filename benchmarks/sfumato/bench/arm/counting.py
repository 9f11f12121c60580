"""`sfumato bench arm`: executed ARM64 instructions of models and of the draw, on several emulated cores.

subjects = export_subjects(export, ["int8"])
results = bench_arm(subjects, ["cortex-a76"], drawing=drawing_of(PhoneModel.load(export)))
"""

import hashlib
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sfumato.bench.arm.emulator import CORES, agreed, make_stage, run_guest
from sfumato.bench.arm.toolbox import APP_RUNTIME, RUNTIMES, Toolbox, open_toolbox
from sfumato.bench.arm.yardstick import ENCODERS, count_encoder
from sfumato.bench.results import Measurement, Results, Stage
from sfumato.bench.standard import digest, output_digest, pattern, standard_input
from sfumato.bench.subjects import Subject
from sfumato.core.errors import SfumatoError, UsageError, unknown
from sfumato.core.provenance import provenance
from sfumato.runtime.contract import ChannelPart
from sfumato.runtime.interpreter import open_model
from sfumato.runtime.keyed_noise import keyed_noise
from sfumato.runtime.phone_model import PhoneModel
from sfumato.runtime.sampler import (
    Bytes,
    dither,
    dither_noise_bytes,
    gaussian,
    gaussian_factor,
    gaussian_noise_bytes,
    normal_table,
)
from sfumato.runtime.upload_codec import pack

KEY = bytes(range(32))
CONTRACT = hashlib.sha256(b"sfumato-bench").digest()
"""Stands in for the digest of contract.json, on both sides: what noise costs does not depend on it."""
STEPS = ("noise", "draw and pack")
"""The marked steps of an upload, in order."""
WARM = 2
"""Uncounted repetitions: the first binds libraries, and the allocator settles after the second."""


@dataclass(frozen=True)
class Drawing:
    """What an upload is drawn from."""

    channel: ChannelPart
    """Dither or gaussian."""
    image: Bytes
    """(H, W, 3), the picture that the network saw."""
    parameters: Mapping[str, Bytes]
    """Bytes q of every output of the channel, in its order: (H / side, W / side, planes)."""

    @property
    def content(self) -> bytes:
        """The bytes of all parameters, one output after the other."""
        return b"".join(values.tobytes() for values in self.parameters.values())


def drawing_of(model: PhoneModel, watch: Callable[[str], None] = lambda title: None) -> Drawing | None:
    """What an export's network makes of the pattern of `sfumato.bench.standard`.

    None, with a word, where an upload is not drawn sample by sample (an answer's word, an entry of a book), or has one plane,
    which the counted program does not know.
    """
    contract = model.contract
    if contract.answer is not None:
        watch("an answer bundle: the network alone is counted, its word takes a few integer operations")
        return None
    if contract.index is not None:
        watch("uploads of this export are indices: the network alone is counted, not the draw from the book")
        return None
    if contract.channel.planes == 1:
        watch("uploads of this export are grey: the network alone is counted, not the draw of its one plane")
        return None
    height, width = contract.size
    image = pattern(height * width * 3).reshape(height, width, 3)
    parameters = model.parameters(image)
    return Drawing(contract.channel, image, {name: parameters[name] for name in contract.channel.outputs})


def drawing_at(channel: ChannelPart, size: tuple[int, int]) -> Drawing:
    """The pattern for a picture and for its parameters, at any size: what a draw costs does not depend on them."""
    height, width = size
    image = pattern(height * width * 3).reshape(height, width, 3)
    area = (height // channel.side, width // channel.side)
    parameters = {
        name: pattern(area[0] * area[1] * planes).reshape(*area, planes)
        for name, planes in channel.outputs.items()
    }
    return Drawing(channel, image, parameters)


def bench_arm(
    subjects: Sequence[Subject],
    cores: Sequence[str],
    *,
    runs: int = 3,
    runtime: str = APP_RUNTIME,
    drawing: Drawing | None = None,
    encoders: Sequence[str] = (),
    size: tuple[int, int] = (64, 64),
    watch: Callable[[str], None] = lambda title: None,
) -> Results:
    """Count the instructions of models on emulated cores, and compare their outputs with this computer's.

    Args:
        subjects: the models.
        cores: keys of `CORES`.
        runs: counted runs of each.
        runtime: one of `RUNTIMES`; by default that of the Android app.
        drawing: what an upload is drawn from, whose noise, draw and packing are counted too; None leaves them out.
        encoders: keys of `ENCODERS`, which are counted too, as yardsticks ...
        size: ... on a picture of this height and width.
        watch: called with the name of each part as it begins.

    Raises:
        UsageError: an unknown core or runtime.
        SfumatoError: the set-up or the emulated program failed, or its upload is not this computer's.
    """
    for core in cores:
        if core not in CORES:
            raise UsageError(unknown("core", core, CORES))
    if runtime not in RUNTIMES:
        raise UsageError(unknown("runtime", runtime, RUNTIMES))
    for encoder in encoders:
        if encoder not in ENCODERS:
            raise UsageError(unknown("encoder", encoder, ENCODERS))
    toolbox = open_toolbox(watch)
    rows, stages = [], []
    for core in cores:
        for subject in subjects:
            watch(f"{core}: {subject.name} {subject.variant}")
            rows.append(count_model(toolbox, core, subject, runs, runtime))
        if drawing is not None:
            watch(f"{core}: noise, draw, packing")
            stages += count_upload(toolbox, core, drawing, runs)
        for encoder in encoders:
            watch(f"{core}: {ENCODERS[encoder].title}")
            stages.append(count_encoder(toolbox, core, encoder, size, runs=runs))
    return Results(
        target="arm",
        environment={
            **provenance(),
            "emulator": qemu_version(toolbox),
            "toolbox": toolbox.packages,
            "runtime": named(runtime),
        },
        rows=tuple(rows),
        stages=tuple(stages),
        settings={"runs": runs},
    )


def named(runtime: str) -> str:
    """What tables call a runtime."""
    return f"ai-edge-litert {runtime} (aarch64)"


def count_model(
    toolbox: Toolbox, core: str, subject: Subject, runs: int, runtime: str = APP_RUNTIME
) -> Measurement:
    """One model on one core, on the standard input."""
    session = open_model(subject.content)
    (entry,) = session.inputs.values()
    with tempfile.TemporaryDirectory(prefix="sfumato-arm-") as name:
        folder = Path(name)
        (folder / "model.tflite").write_bytes(subject.content)
        (folder / "input").write_bytes(standard_input(entry).tobytes())
        files = [folder / "model.tflite", folder / "input", folder / "outputs"]
        found = run_guest(toolbox, core, ["model", toolbox.litert(runtime), *files, str(runs + WARM)])
        outputs = read_outputs((folder / "outputs").read_bytes())
    counts, notes = agreed(found[WARM:])
    made = digest(outputs)
    same = made == output_digest(session)
    if not same and subject.int8:
        notes += (f"the int8 output on {core} is not this computer's",)
    return Measurement(
        **subject.facts(),
        runtime=named(runtime),
        delegate="xnnpack",
        threads=1,
        cpu=core,
        runs=runs,
        instructions=counts["all"],
        classes=counts,
        output_sha256=made,
        same_as_host=same,
        valid=not notes,
        notes=notes,
    )


def read_outputs(content: bytes) -> dict[str, bytes]:
    """Output tensors by name: a line "NAME BYTES", then the bytes, one after the other."""
    outputs, at = {}, 0
    while at < len(content):
        end = content.index(b"\n", at)
        name, size = content[at:end].decode().rsplit(" ", 1)
        outputs[name] = content[end + 1 : end + 1 + int(size)]
        at = end + 1 + int(size)
    return outputs


def wanted_upload(drawing: Drawing) -> bytes:
    """The packed upload that this computer draws."""
    channel, parameters = drawing.channel, drawing.parameters
    height, width = next(iter(parameters.values())).shape[:2]
    if channel.name == "dither":
        count = dither_noise_bytes(height, width, channel.bits)
        noise = keyed_noise(KEY, CONTRACT, drawing.content, drawing.image, count)
        levels = dither(parameters["p"], noise, bits=channel.bits, gray=bool(channel.gray))
        return pack(levels, bits=channel.bits)
    noise = keyed_noise(KEY, CONTRACT, drawing.content, drawing.image, gaussian_noise_bytes(height, width))
    mean = drawing.image if channel.additive else parameters["mean"]
    largest, additive = float(channel.largest_scale or 0), bool(channel.additive)
    return pack(gaussian(mean, parameters["scale"], noise, largest_scale=largest, additive=additive), bits=8)


def count_upload(toolbox: Toolbox, core: str, drawing: Drawing, runs: int) -> list[Stage]:
    """Keyed noise, and draw and packing of one picture, in C.

    Raises:
        SfumatoError: the packed upload is not the one that this computer makes.
    """
    upload, stages = run_upload(toolbox, core, drawing, runs)
    if upload != wanted_upload(drawing):
        raise SfumatoError(f"the upload made on {core} is not the one this computer makes (docs/contract.md)")
    return stages


def run_upload(toolbox: Toolbox, core: str, drawing: Drawing, runs: int) -> tuple[bytes, list[Stage]]:
    """The packed upload that the guest makes, and what each of `STEPS` took."""
    channel = drawing.channel
    contents = {
        "image": drawing.image.tobytes(),
        "key": KEY,
        "contract": CONTRACT,
        "parameters": drawing.content,
        "table": normal_table().astype("<i2").tobytes(),
    }
    with tempfile.TemporaryDirectory(prefix="sfumato-arm-") as name:
        folder = Path(name)
        for file, content in contents.items():
            (folder / file).write_bytes(content)
        files = [folder / file for file in ("image", "key", "contract", "parameters", "upload")]
        arguments = [channel.name, toolbox.crypto, *files, str(runs + WARM)]
        if channel.name == "dither":
            arguments += [str(channel.bits), str(int(bool(channel.gray)))]
        else:
            factor = gaussian_factor(float(channel.largest_scale or 0))
            arguments += [str(factor), str(int(bool(channel.additive))), folder / "table"]
        found = run_guest(toolbox, core, arguments)[WARM * len(STEPS) :]
        upload = (folder / "upload").read_bytes()
    return upload, [make_stage(step, core, found[index :: len(STEPS)]) for index, step in enumerate(STEPS)]


def qemu_version(toolbox: Toolbox) -> str:
    """The emulator's own first line."""
    command = [*toolbox.qemu, "--version"]
    done = subprocess.run(command, capture_output=True, errors="replace", timeout=30, check=False)
    return done.stdout.partition("\n")[0]
