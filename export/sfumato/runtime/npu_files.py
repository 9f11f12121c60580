"""npu.json: files for an NPU that lie beside an export, and what was measured with them.

It stands beside the contract and not in it. Keyed noise depends on the contract, so a file more in it would make one more draw
of every photo that was sent already; and only its maker could sign it again (docs/decisions/0039).

    listed = read_npu(folder)           # None where the export has none
    check_npu(folder, contract_digest)
"""

import hashlib
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from sfumato.core.errors import SfumatoError, complaint
from sfumato.core.files import parse_json, read_inside
from sfumato.runtime.contract import LARGEST, Digest, FileName, Part

FILE = "npu.json"


class ModelPart(Part):
    """The model of the contract that the files compute."""

    name: FileName
    sha256: Digest


class NpuFile(Part):
    """A file for an NPU."""

    name: FileName
    sha256: Digest
    bytes: int = Field(ge=0, le=2**28)
    generation: int | None = None
    """Of the Hexagon that a context binary was compiled for; None: it is compiled on the phone."""
    chip: str | None = None
    """One that has it."""


class NpuFiles(Part):
    """All of npu.json."""

    schema_: Literal["sfumato-npu/1"] = Field(default="sfumato-npu/1", alias="schema")
    vendor: Literal["qualcomm"]
    contract: Digest
    """SHA-256 of the contract.json that these files belong to."""
    model: ModelPart
    files: tuple[NpuFile, ...] = Field(min_length=1)
    library: dict[str, str]
    """Versions that compiled and emulated."""
    partition: dict[str, int]
    emulated: dict[str, Any]
    """What was measured in emulation (docs/npu.md); never a time."""


def read_npu(folder: Path) -> NpuFiles | None:
    """Read npu.json; the files it lists are not touched.

    Raises:
        SfumatoError: it is damaged, or not what this version reads.
    """
    if not (folder / FILE).exists() and not (folder / FILE).is_symlink():
        return None
    try:
        return NpuFiles.model_validate(
            parse_json(read_inside(folder, FILE, largest=LARGEST), FILE, finite=True)
        )
    except ValidationError as error:
        raise SfumatoError(f"{FILE}: {complaint(error)}") from None


def check_npu(folder: Path, contract: str) -> NpuFiles | None:
    """Compare the listed files with their hashes.

    Args:
        folder: of the export.
        contract: SHA-256 of its contract.json, hexadecimal.

    Returns:
        What is listed; None where there is no npu.json.

    Raises:
        SfumatoError: as `read_npu`, or a file is missing or changed, or all of it belongs to another contract.
    """
    listed = read_npu(folder)
    if listed is None:
        return None
    if listed.contract != contract:
        raise SfumatoError(
            f"{FILE} belongs to another contract: sfumato export {folder} --npu {listed.vendor} --overwrite"
        )
    for entry in listed.files:
        if hashlib.sha256(read_inside(folder, entry.name)).hexdigest() != entry.sha256:
            raise SfumatoError(
                f"{folder / entry.name} is not the file that {FILE} names (its sha256 differs)"
            )
    return listed
