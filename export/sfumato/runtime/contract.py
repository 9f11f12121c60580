"""contract.json: what a bundle holds and promises, in a form that a phone, a server and a browser page read alike.

docs/contract.md describes the schema. Unknown keys and future schema versions are refused: a reader must not ignore a promise
that it does not understand.

    contract = read_contract(folder)
    contract.model("int8").file
"""

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from sfumato.core.errors import SfumatoError, complaint

SCHEMA = "sfumato-contract/1"
FILE = "contract.json"
LARGEST = 2**20
"""Bytes; no more of the file is ever read."""
VARIANTS = ("float32", "float16", "dynamic", "int8")

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
FileName = Annotated[str, Field(pattern=r"^[a-z0-9_]+(\.[a-z0-9]+)?(/[a-z0-9_]+\.[a-z0-9]+)?$")]
"""No way out of the folder: no dots but before the ending, one folder deep at most."""


Extent = Annotated[int, Field(ge=16, le=4096)]
"""Height or width in pixels."""
Planes = Annotated[int, Field(ge=1, le=12)]


class Part(BaseModel):
    """A frozen part of the contract."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class File(Part):
    """A file of the export."""

    name: FileName
    sha256: Digest
    bytes: int = Field(ge=0, le=2**28)
    role: Literal["phone", "cloud", "audit"]
    """Who needs it. `audit` files never leave the maker's machine; a bundle without them still verifies."""


class Tensor(Part):
    """An input or output of the local network."""

    name: str
    shape: tuple[Literal[1], Extent, Extent, Planes]
    layout: Literal["NHWC"] = "NHWC"
    range: tuple[float, float]
    """Smallest and largest value as a real number."""
    unit: float = 1.0
    """A parameter is the tensor's value times this: `largest_scale` for the tensor `scale`, else 1."""
    int8_scale: float
    """Of the int8 variant: real value = (byte - int8_zero_point) * int8_scale."""
    int8_zero_point: int


class Model(Part):
    """One variant of the local network."""

    variant: Literal["float32", "float16", "dynamic", "int8"]
    file: FileName
    input: Literal["float32", "int8"]
    output: Literal["float32", "int8"]


class ChannelPart(Part):
    """The noisy channel."""

    name: Literal["dither", "gaussian"]
    levels: Literal[2, 4, 16] | None = None
    additive: bool | None = None
    largest_scale: float | None = Field(default=None, gt=0, le=16, multiple_of=1 / 16)
    reference_scale: float | None = Field(default=None, gt=0, le=100)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        gaussian = (self.additive, self.largest_scale, self.reference_scale)
        if self.name == "dither" and (self.levels is None or any(value is not None for value in gaussian)):
            raise ValueError("dither has levels and nothing else")
        if self.name == "gaussian" and (self.levels is not None or any(value is None for value in gaussian)):
            raise ValueError("gaussian has additive, largest_scale and reference_scale and nothing else")
        return self

    @property
    def bits(self) -> int:
        """Bits a colour sample of the upload."""
        return self.levels.bit_length() - 1 if self.levels else 8

    @property
    def outputs(self) -> dict[str, int]:
        """Outputs of the network for this channel: name -> planes."""
        if self.name == "dither":
            return {"p": 3 * self.bits}
        return {"scale": 3} if self.additive else {"mean": 3, "scale": 3}

    @property
    def settings(self) -> dict[str, float | int | bool]:
        """Arguments that `sfumato.channels.create` takes."""
        named = self.model_dump(exclude={"name"}, exclude_none=True)
        return {str(key): value for key, value in named.items()}


class UploadPart(Part):
    """What travels."""

    encoding: Literal["png", "packed"] = "png"
    bit_depth: Literal[1, 2, 4, 8]
    colour: Literal["grey, planes red, green, blue one below the other", "rgb"]
    width: Annotated[int, Field(ge=16, le=3 * 4096)]
    height: Annotated[int, Field(ge=16, le=3 * 4096)]


class LabelPart(Part):
    """A kept attribute: head of the cloud network and its classes, in order."""

    name: str
    classes: tuple[str, ...] = Field(min_length=2)


class Gate(Part):
    """One check of the export: a figure and what it may be."""

    name: str
    value: bool | int | float | str
    limit: bool | int | float | str
    passed: bool
    note: str = ""


def within_limit(value: bool | int | float | str, limit: bool | int | float | str) -> bool:
    """Numbers must not exceed their limit; everything else must equal it."""
    if isinstance(limit, (int, float)) and not isinstance(limit, bool):
        return isinstance(value, (int, float)) and not isinstance(value, bool) and value <= limit
    return value == limit


class Contract(Part):
    """The whole contract."""

    schema_: Literal["sfumato-contract/1"] = Field(default="sfumato-contract/1", alias="schema")
    files: tuple[File, ...] = Field(min_length=1)
    crop: Literal["centre, then antialiased bilinear (docs/contract.md)"] = (
        "centre, then antialiased bilinear (docs/contract.md)"
    )
    input: Tensor
    outputs: tuple[Tensor, ...] = Field(min_length=1, max_length=2)
    models: tuple[Model, ...] = Field(min_length=1)
    channel: ChannelPart
    sampler: Literal[1] = 1
    noise: Literal[1] = 1
    upload: UploadPart
    keep: tuple[LabelPart, ...] = Field(min_length=1)
    hide: tuple[str, ...]
    cost: dict[str, int]
    gates: tuple[Gate, ...]
    figures: dict[str, Any]
    """Measured on this artifact: rate, desired accuracy, upload bytes (docs/contract.md)."""
    conversion: dict[str, Any]
    provenance: dict[str, Any]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        """Refuse parts that contradict each other, as those of a contract edited by hand often do."""
        height, width = self.size
        outputs = {tensor.name: tensor.shape for tensor in self.outputs}
        if outputs != {name: (1, height, width, planes) for name, planes in self.channel.outputs.items()}:
            raise ValueError(f"outputs {outputs} do not belong to the channel {self.channel.name}")
        bits = self.channel.bits
        if (self.upload.bit_depth, self.upload.width) != (bits, width):
            raise ValueError("the upload's size or bit depth does not belong to the channel")
        if self.upload.height != (height if bits == 8 else 3 * height):
            raise ValueError("the upload's height does not belong to the channel")
        names = [entry.name for entry in self.files]
        if len(set(names)) != len(names) or FILE in names:
            raise ValueError("a file is listed twice, or the contract lists itself")
        for model in self.models:
            self.file(model.file)
        if len({model.variant for model in self.models}) != len(self.models):
            raise ValueError("a variant is listed twice")
        return self

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the image that the model takes."""
        return self.input.shape[1], self.input.shape[2]

    def file(self, name: str) -> File:
        """The entry of a file.

        Raises:
            SfumatoError: the contract does not list it.
        """
        for entry in self.files:
            if entry.name == name:
                return entry
        raise SfumatoError(f"{FILE} does not list {name}")

    @property
    def failed_gates(self) -> tuple[Gate, ...]:
        """Gates that failed, by their own word or by figure and limit."""
        return tuple(
            gate for gate in self.gates if not (gate.passed and within_limit(gate.value, gate.limit))
        )

    def model(self, variant: str) -> Model:
        """The model of this variant.

        Raises:
            SfumatoError: it was not exported.
        """
        for entry in self.models:
            if entry.variant == variant:
                return entry
        known = ", ".join(entry.variant for entry in self.models)
        raise SfumatoError(f"this export holds no {variant} model: it has {known}")

    def to_json(self) -> str:
        """The text of contract.json."""
        values = self.model_dump(mode="json", by_alias=True, exclude_none=True)
        return json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def read_contract(folder: Path) -> Contract:
    """Read and check contract.json; the files it lists are not touched.

    Raises:
        SfumatoError: missing, damaged, of a future schema, or not what the schema says.
    """
    path = folder / FILE
    try:
        with path.open("rb") as stream:
            return parse_contract(stream.read(LARGEST + 1), str(path))
    except OSError as error:
        raise SfumatoError(f"{path} cannot be read ({error.strerror}): give an EXPORT folder") from None


def parse_contract(content: bytes, name: str = FILE) -> Contract:
    """Check the bytes of a contract.

    Raises:
        SfumatoError: as `read_contract`.
    """
    if len(content) > LARGEST:
        raise SfumatoError(f"{name} is larger than a contract can be ({LARGEST} bytes)")
    try:
        values = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise SfumatoError(f"{name} is not valid JSON ({error})") from None
    schema = values.get("schema") if isinstance(values, dict) else None
    if schema != SCHEMA:
        raise SfumatoError(
            f"{name} has schema {schema!r}; this version reads {SCHEMA}: install a version that fits"
        )
    try:
        return Contract.model_validate(values)
    except ValidationError as error:
        raise SfumatoError(f"{name}: {complaint(error)}") from None


def read_file(folder: Path, entry: File) -> bytes:
    """The bytes of a listed file, checked against size and sha256.

    Raises:
        SfumatoError: missing or changed.
    """
    path = folder / entry.name
    try:
        if path.stat().st_size != entry.bytes:
            raise SfumatoError(
                f"{path} has {path.stat().st_size} bytes, the contract says {entry.bytes}: export again"
            )
        content = path.read_bytes()
    except OSError as error:
        raise SfumatoError(f"{path} cannot be read ({error.strerror})") from None
    if hashlib.sha256(content).hexdigest() != entry.sha256:
        raise SfumatoError(f"{path} is not the file the contract names (its sha256 differs): export again")
    return content
