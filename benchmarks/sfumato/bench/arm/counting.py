"""`sfumato bench arm`: executed ARM64 instructions of models and of the draw, on several emulated cores.

results = bench_arm(export_subjects(export, ["int8"]), ["cortex-a76"], model=PhoneModel.load(export))
"""

import hashlib
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from sfumato.bench.arm.emulator import CORES, agreed, make_stage, run_guest
from sfumato.bench.arm.toolbox import APP_RUNTIME, RUNTIMES, Toolbox, open_toolbox
from sfumato.bench.arm.yardstick import count_jpeg
from sfumato.bench.results import Measurement, Results, Stage
from sfumato.bench.standard import digest, output_digest, pattern, standard_input
from sfumato.bench.subjects import Subject
from sfumato.core.errors import SfumatoError, UsageError, unknown
from sfumato.core.provenance import provenance
from sfumato.runtime.contract import ChannelPart
from sfumato.runtime.interpreter import open_model
from sfumato.runtime.phone_model import PhoneModel
from sfumato.runtime.sampler import Bytes, gaussian_factor, normal_table
from sfumato.runtime.upload_codec import pack

KEY = bytes(range(32))
CONTRACT = hashlib.sha256(b"sfumato-bench").digest()
"""Stands in for the digest of contract.json, on both sides: what noise costs does not depend on it."""
STEPS = ("noise", "sampler", "pack")
"""The marked steps of an upload, in order."""
WARM = 2
"""Uncounted repetitions: the first binds libraries, and the allocator settles after the second."""


def bench_arm(
    subjects: Sequence[Subject],
    cores: Sequence[str],
    *,
    runs: int = 3,
    runtime: str = APP_RUNTIME,
    model: PhoneModel | None = None,
    jpeg: tuple[int, int] | None = None,
    watch: Callable[[str], None] = lambda title: None,
) -> Results:
    """Count the instructions of models on emulated cores, and compare their outputs with this computer's.

    Args:
        subjects: the models.
        cores: keys of `CORES`.
        runs: counted runs of each.
        runtime: one of `RUNTIMES`; by default that of the Android app.
        model: the export whose noise, draw and packing are counted too; None leaves them out. An answer bundle's are left out
            with a word: choosing one of a few scores costs next to nothing, and the emulated program knows pictures alone.
        jpeg: height and width of a picture whose encoding is counted too, as a yardstick; None counts none.
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
    if model is not None and model.contract.answer is not None:
        watch("an answer bundle: the network alone is counted, its word takes a few integer operations")
        model = None
    toolbox = open_toolbox(watch)
    rows, stages = [], []
    for core in cores:
        for subject in subjects:
            watch(f"{core}: {subject.name} {subject.variant}")
            rows.append(count_model(toolbox, core, subject, runs, runtime))
        if model is not None:
            watch(f"{core}: noise, sampler, packing")
            stages += count_upload(toolbox, core, model, runs)
        if jpeg is not None:
            watch(f"{core}: JPEG")
            stages.append(count_jpeg(toolbox, core, jpeg, runs=runs))
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


def count_upload(toolbox: Toolbox, core: str, model: PhoneModel, runs: int) -> list[Stage]:
    """Keyed noise, draw and packing of one picture, in C.

    Raises:
        SfumatoError: the packed upload is not the one that this computer makes.
    """
    height, width = model.contract.size
    image = pattern(height * width * 3).reshape(height, width, 3)
    parameters = model.parameters(image)
    noise = replace(model, digest=CONTRACT).noise(image, parameters, KEY)
    wanted = pack(model.sample(image, parameters, noise), bits=model.contract.channel.bits)
    upload, stages = run_upload(toolbox, core, model.contract.channel, image, parameters, runs)
    if upload != wanted:
        raise SfumatoError(f"the upload made on {core} is not the one this computer makes (docs/contract.md)")
    return stages


def run_upload(
    toolbox: Toolbox,
    core: str,
    channel: ChannelPart,
    image: Bytes,
    parameters: Mapping[str, Bytes],
    runs: int,
) -> tuple[bytes, list[Stage]]:
    """The packed upload of an image (H, W, 3) that the guest makes from parameter bytes q, and what each step took."""
    order = [name for name in ("p", "mean", "scale") if name in parameters]
    contents = {
        "image": image.tobytes(),
        "key": KEY,
        "contract": CONTRACT,
        "parameters": b"".join(parameters[name].tobytes() for name in order),
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
