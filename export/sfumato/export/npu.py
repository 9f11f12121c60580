"""An export for Qualcomm's NPU: context binaries beside the contract, and what the NPU's arithmetic costs.

The int8 model becomes a QDQ model of the same integers (`qdq`). Qualcomm's emulation runs the whole of it, with nothing on the
processor (`qnn_emulator`), and its bytes are compared with those of local_int8.tflite. `npu.json` names files and figures; the
contract stays as it is, for keyed noise depends on it (docs/decisions/0039).

    add_npu(Path("exports/groceries"), find_emulator("npu/bin/python"))
"""

import hashlib
import json
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sfumato.core.errors import SfumatoError, unknown
from sfumato.core.files import atomic_folder, read_object, sha256, write_json
from sfumato.data import Split
from sfumato.data.truth import Truth, truths
from sfumato.export import qnn_emulator
from sfumato.export.artifact import ExportArtifact, load_export
from sfumato.export.gates import int8_limit
from sfumato.export.measure import all_bits, draw, hits
from sfumato.export.parity import difference, run_int8
from sfumato.export.qdq import to_qdq
from sfumato.runtime.contract import Contract, read_contract, read_file
from sfumato.runtime.npu_files import FILE, ModelPart, NpuFile, NpuFiles
from sfumato.runtime.phone_model import PhoneModel

FOLDER = "npu"
QDQ = "local_int8_qdq.onnx"
VENDORS = ("qualcomm",)
CHIPS = {
    73: "Snapdragon 8 Gen 2 (SM8550)",
    75: "Snapdragon 8 Gen 3 (SM8650)",
    79: "Snapdragon 8 Elite (SM8750)",
    81: "Snapdragon 8 Elite Gen 5 (SM8850)",
}
"""Generation of the Hexagon -> a chip that has it."""
PHOTOS = 1_000
"""Test photos that are compared, at most."""
KEY = hashlib.sha256(b"sfumato npu").digest()
"""The device key of the keyed uploads that are compared."""
INSTALL = (
    'python3 -m venv npu && npu/bin/pip install "onnxruntime-qnn==2.7.0", then --npu-python npu/bin/python'
)

Bytes = NDArray[np.uint8]
Parameters = Mapping[str, Bytes]
"""Bytes q by output name, each (N, H, W, planes)."""


@dataclass(frozen=True)
class Emulator:
    """A Python that has onnxruntime-qnn."""

    python: str
    versions: Mapping[str, str]

    def run(
        self,
        folder: Path,
        watch: Callable[[int], None] = lambda done: None,
        generations: tuple[int, ...] = tuple(CHIPS),
    ) -> dict[str, Any]:
        """Do the work of a folder (see `qnn_emulator`).

        Args:
            folder: with model.onnx and photos.npy.
            watch: told how many photos are done.
            generations: of the Hexagon, to compile for; the first one runs the photos.

        Raises:
            SfumatoError: the process failed.
        """
        command = [self.python, "-I", qnn_emulator.__file__, str(folder), *map(str, generations)]
        with (
            tempfile.TemporaryFile("w+", errors="replace") as errors,
            subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                errors="replace",
            ) as process,
        ):
            assert process.stdout is not None
            for line in process.stdout:  # Qualcomm's libraries write here as well
                word, _, number = line.strip().partition(" ")
                if word == "photo" and number.isdigit():
                    watch(int(number))
            code = process.wait()
            errors.seek(0)
            said = errors.read()
        if code != 0:
            raise SfumatoError(f"Qualcomm's emulation failed: {last_line(said) or f'exit code {code}'}")
        return read_object(folder / "result.json")


def last_line(text: str) -> str:
    """The last line that says something: of a traceback the error itself."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")


def find_emulator(vendor: str, python: str | None = None) -> Emulator:
    """The emulation of a vendor's NPU.

    Args:
        vendor: one of `VENDORS`.
        python: of an environment that has onnxruntime-qnn; None: this one.

    Raises:
        SfumatoError: an unknown vendor, another platform than Linux on x86-64, or the package is missing or does not run.
    """
    if vendor not in VENDORS:
        raise SfumatoError(unknown("--npu", vendor, VENDORS))
    where = f"{platform.system()} {platform.machine()}"
    if where != "Linux x86_64":
        raise SfumatoError(
            f"--npu {vendor} needs Qualcomm's emulation, which is for Linux x86_64: this is {where}"
        )
    chosen = python or sys.executable
    try:
        done = subprocess.run(
            [chosen, "-I", qnn_emulator.__file__],
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
    except OSError as error:
        raise SfumatoError(f"--npu-python {chosen} does not run: {error.strerror}") from None
    if done.returncode == 0:
        return Emulator(chosen, json.loads(last_line(done.stdout)))
    said = last_line(done.stderr)
    if "No module named" in said:
        raise SfumatoError(
            f"--npu {vendor} needs onnxruntime-qnn in an environment of its own, and {chosen} has none: {INSTALL}"
        )
    raise SfumatoError(f"onnxruntime-qnn of {chosen} does not run: {said or f'exit code {done.returncode}'}")


def check_export(folder: Path, *, overwrite: bool = False) -> Contract:
    """Refuse an export that an NPU's files cannot be made for, before anything is computed.

    Raises:
        SfumatoError: answer mode, no int8 model, files of an NPU that are there, or no audit files.
    """
    contract = read_contract(folder)
    if contract.mode == "answer":
        raise SfumatoError(
            f"{folder} is in answer mode, which --npu does not do: its words tell log2 N bits at most on every back-end"
        )
    contract.model("int8")
    if (folder / FILE).exists() and not overwrite:
        raise SfumatoError(f"{folder} has {FILE} already: give --overwrite to replace it")
    if not (folder / "audit" / "config.json").exists():
        raise SfumatoError(
            f"{folder} came without its audit files, which name the test photos: use the maker's copy"
        )
    return contract


def add_npu(
    folder: Path,
    emulator: Emulator,
    *,
    cloud: str | None = None,
    photos: int = PHOTOS,
    overwrite: bool = False,
    watch: Callable[[int, int], None] = lambda done, total: None,
) -> NpuFiles:
    """Write `npu/` and `npu.json` into an export; its contract is not touched.

    Args:
        folder: of the export.
        emulator: of `find_emulator`.
        cloud: the `module:factory` of its cloud network, where it is the user's own.
        photos: how many test photos are compared, at most.
        overwrite: replace what an earlier call wrote.
        watch: told how many photos are done, of how many.

    Returns:
        What `npu.json` holds.

    Raises:
        SfumatoError: the export cannot be used (`check_export`, `load_export`), the model holds an operator that is not known,
            the HTP does not take the whole graph, or a context binary computes something else.
    """
    contract = check_export(folder, overwrite=overwrite)
    artifact = load_export(folder, cloud=cloud, indices=False)
    test = artifact.dataset.splits[Split.TEST]
    # Evenly over the split, which may be in the order of its classes.
    rows = test[np.linspace(0, len(test) - 1, min(photos, len(test))).round().astype(int)]
    images: Bytes = np.ascontiguousarray(artifact.dataset.images[rows])
    int8 = contract.file(contract.model("int8").file)
    with tempfile.TemporaryDirectory(prefix="sfumato-npu-") as name:
        scratch = Path(name)
        (scratch / "model.onnx").write_bytes(to_qdq(read_file(folder, int8)))
        np.save(scratch / "photos.npy", images)
        found = emulator.run(scratch, lambda done: watch(done, len(images)))
        require_whole(found)
        if found["contexts_that_differ"]:
            raise SfumatoError(
                f"context binaries compute something else: htp_v{found['contexts_that_differ']}"
            )
        q = {tensor.name: np.load(scratch / f"{tensor.name}.npy") for tensor in contract.outputs}
        measured = measure(artifact, images, truths(artifact.dataset, artifact.keep, rows), q)
        made = {QDQ: scratch / "model.onnx"} | {
            f"htp_v{one}.onnx": scratch / f"htp_v{one}.onnx" for one in CHIPS
        }
        with atomic_folder(folder / FOLDER) as npu:
            for file, source in made.items():
                shutil.copyfile(source, npu / file)
    assert artifact.phone.digest is not None
    chips = {f"htp_v{one}.onnx": {"generation": one, "chip": chip} for one, chip in CHIPS.items()}
    result = NpuFiles(
        vendor="qualcomm",
        contract=artifact.phone.digest.hex(),
        model=ModelPart(name=int8.name, sha256=int8.sha256),
        files=tuple(describe(folder / FOLDER / file, **chips.get(file, {})) for file in made),
        library=dict(emulator.versions),
        partition={"partitions": found["partitions"], "nodes": found["nodes"]},
        emulated=measured,
    )
    write_json(folder / FILE, result.model_dump(mode="json", by_alias=True, exclude_none=True))
    return result


def describe(path: Path, **chip: Any) -> NpuFile:
    """A file of the export as `npu.json` names it."""
    return NpuFile(name=f"{FOLDER}/{path.name}", sha256=sha256(path), bytes=path.stat().st_size, **chip)


def require_whole(found: Mapping[str, Any]) -> None:
    """Every node in one partition of the HTP.

    Raises:
        SfumatoError: it is not so, with the names of the nodes outside.
    """
    if outside := found["outside"]:
        named = ", ".join(outside[:5]) + (f" and {len(outside) - 5} more" if len(outside) > 5 else "")
        raise SfumatoError(f"the HTP does not take the whole graph: {named} would run on the processor")
    if found["partitions"] != 1:
        raise SfumatoError(f"the HTP takes the graph in {found['partitions']} partitions, not in one")


def measure(
    artifact: ExportArtifact, images: Bytes, facts: Mapping[str, Truth], npu: Parameters
) -> dict[str, Any]:
    """Compare the NPU's bytes with those of the int8 file.

    Args:
        artifact: the export.
        images: (N, H, W, 3).
        facts: what is true of the N images, per kept attribute.
        npu: bytes q.

    Returns:
        `photos`; shares of `equal_bytes`, of photos all of whose bytes are equal (`equal_photos`), and of those whose keyed
        upload is equal bit for bit (`equal_uploads`); `mean_difference` and `largest_difference` of what a byte stands for,
        as a fraction of its range (of probabilities, therefore); `accuracy` per kept attribute; `bits`, means over photos: of
        the `first` draw, by the int8 file, and what the `second`, by the NPU, adds at most (0 where it is the same upload).

    Raises:
        SfumatoError: the bytes are further apart than a conversion to int8 may be.
    """
    shipped = run_int8(artifact.phone.session, images)
    require_close(shipped, npu)
    gaps = {name: np.abs(shipped[name].astype(np.int16) - npu[name]) for name in shipped}
    same = np.all([gap.reshape(len(images), -1).max(axis=1) == 0 for gap in gaps.values()], axis=0)
    gap = np.concatenate([gap.ravel() for gap in gaps.values()])
    first, second = (all_bits(artifact.channel, images, q) for q in (shipped, npu))
    right = {}
    for kind, q in (("int8", shipped), ("npu", npu)):
        drawn = draw(artifact.channel, images, q)[: len(images)]  # one draw a photo, the same noise for both
        right[kind] = hits(artifact.cloud, drawn, facts, artifact.channel)
    return {
        "photos": len(images),
        "equal_bytes": float((gap == 0).mean()),
        "equal_photos": float(same.mean()),
        "mean_difference": float(gap.mean() / 256),
        "largest_difference": float(gap.max() / 256),
        "equal_uploads": equal_uploads(artifact.phone, images, shipped, npu),
        "accuracy": {name: {kind: round(right[kind][name], 6) for kind in right} for name in facts},
        "bits": {"first": float(first.mean()), "second": float(np.where(same, 0, second).mean())},
    }


def require_close(shipped: Parameters, npu: Parameters) -> None:
    """The NPU's bytes are no further from those of the int8 file than those may be from the trained network.

    Raises:
        SfumatoError: they are, so a layer is computed wrongly.
    """
    for name, wanted in shipped.items():
        found = difference((wanted / np.float32(256)).astype(np.float32), npu[name], int8=True)
        if found.mean_lsb > (limit := int8_limit(found)):
            raise SfumatoError(
                f"the HTP computes {name} wrongly: it is off by {found.mean_lsb:.1f} of 256 in the mean, allowed is {limit:.1f}"
            )


def equal_uploads(phone: PhoneModel, images: Bytes, one: Parameters, two: Parameters) -> float:
    """Share of photos whose keyed uploads from two sets of bytes q are equal bit for bit, drawn as the phone draws."""
    equal = 0
    for number, image in enumerate(images):
        drawn = []
        for q in (one, two):
            own = {name: values[number] for name, values in q.items()}
            drawn.append(phone.sample(image, own, phone.noise(image, own, KEY)))
        equal += int(np.array_equal(drawn[0], drawn[1]))
    return equal / len(images)
