"""contract.json: what a bundle holds and promises, in a form that a phone, a server and a browser page read alike.

docs/contract.md describes the schema. Unknown keys and other schema versions are refused: a reader must not ignore a promise
that it does not understand, and schema 1 promised noise that repeats between releases.

    contract = read_contract(folder)
    contract.model("int8").file
"""

import hashlib
import json
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from sfumato.core.errors import SfumatoError, UsageError, complaint
from sfumato.core.files import parse_json, read_inside
from sfumato.core.options import MOST_CELLS
from sfumato.core.sound import MOST_BANDS
from sfumato.core.strengths import FULL, check_strengths

SCHEMA = "sfumato-contract/2"
REPEATING = "sfumato-contract/1"
"""Its noise depends on key and pixels alone, so two uploads of one photo show where two models differ."""
FILE = "contract.json"
DIGESTS = "contract.sha256"
"""Names contract.json (and its signature) by sha256, as `sha256sum -c` reads it."""
LARGEST = 2**20
"""Bytes; no more of the file is ever read."""
VARIANTS = ("float32", "float16", "dynamic", "int8")

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
FileName = Annotated[str, Field(pattern=r"^[a-z0-9_]+(\.[a-z0-9]+)?(/[a-z0-9_]+\.[a-z0-9]+)?$")]
"""No way out of the folder: no dots but before the ending, one folder deep at most."""


Side = Annotated[int, Field(ge=1, le=4096)]
SMALLEST, MOST_PLANES = 16, 12
"""Of a tensor that holds an image: height or width in pixels, and planes."""
SUBSAMPLES = (1, 2, 4)
"""Height and width, in pixels, of the square that a sample of the upload can stand for."""
INPUTS = ((1 / 255, -128), (8 / 255, 0))
"""Scale and zero point that an int8 model's image can have: of a pixel's value x in 0..1, or of 8 (x - 128/255). In both its
bytes are the pixels with the top bit turned over."""
INDEX_MEMORY = (4, 10)
"""How many bits of an index before a pixel's own it can depend on, least and most."""
INDEX_BITS_A_PIXEL, MOST_INDEX_PIXELS = 4, 2**16
"""Of an index: the most bits that a pixel takes, and the most pixels of an upload."""
SCORES = "scores"
"""The output of an answer's network: one value a class of every kept attribute, in order. It is no image."""


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
    shape: tuple[Literal[1], Side, Side, Side]
    layout: Literal["NHWC"] = "NHWC"
    range: tuple[float, float]
    """Smallest and largest value as a real number."""
    unit: float = 1.0
    """A parameter is the tensor's value times this: `largest_scale` for the tensor `scale`, else 1."""
    int8_scale: float
    """Of the int8 variant: real value = (byte - int8_zero_point) * int8_scale."""
    int8_zero_point: int

    @model_validator(mode="after")
    def _sized(self) -> Self:
        _, height, width, planes = self.shape
        if self.name == SCORES:
            if (height, width) != (1, 1) or self.int8_scale <= 0:
                raise ValueError(f"{SCORES} has one value a class and a positive scale")
        elif min(height, width) < SMALLEST or planes > MOST_PLANES:
            raise ValueError(
                f"{self.name} must have at least {SMALLEST} pixels a side, {MOST_PLANES} planes at most"
            )
        return self


class Model(Part):
    """One variant of the local network."""

    variant: Literal["float32", "float16", "dynamic", "int8"]
    file: FileName
    input: Literal["float32", "int8"]
    output: Literal["float32", "int8"]


class ChannelPart(Part):
    """The noisy channel."""

    name: Literal["dither", "gaussian", "answer"]
    levels: Literal[2, 4, 16] | None = None
    gates: Literal[True] | None = None
    """Of dither: blocks of 8x8 pixels whose bytes are all 0 are closed."""
    gray: Literal[True] | None = None
    """Of dither: the bits of a sample are its level's Gray code."""
    subsample: Literal[2, 4] | None = None
    """Of dither: height and width of the square of pixels that a sample of the upload stands for; None: of a pixel."""
    colours: Literal[1] | None = None
    """Of dither: an upload has one plane, for grey pictures; None: it has three. Readers of before know three alone."""
    additive: bool | None = None
    largest_scale: float | None = Field(default=None, gt=0, le=16, multiple_of=1 / 16)
    reference_scale: float | None = Field(default=None, gt=0, le=100)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        gaussian = (self.additive, self.largest_scale, self.reference_scale)
        if self.name != "dither" and (self.gates or self.gray or self.subsample or self.colours):
            raise ValueError("gates, a Gray code, subsample and colours belong to dither")
        if self.gates and self.subsample:
            raise ValueError("gates close blocks of pixels: they have no subsample")
        if self.name == "dither" and (self.levels is None or any(value is not None for value in gaussian)):
            raise ValueError("dither has levels and nothing else")
        if self.name == "gaussian" and (self.levels is not None or any(value is None for value in gaussian)):
            raise ValueError("gaussian has additive, largest_scale and reference_scale and nothing else")
        if self.name == "answer" and (self.levels != 2 or any(value is not None for value in gaussian)):
            raise ValueError("answer has two levels and nothing else")
        return self

    @property
    def bits(self) -> int:
        """Bits a colour sample of the upload."""
        return self.levels.bit_length() - 1 if self.levels else 8

    @property
    def planes(self) -> int:
        """Samples a pixel of the upload: 3, or 1 of grey pictures."""
        return self.colours or 3

    @property
    def side(self) -> int:
        """Height and width, in pixels, of the square that a sample of the upload stands for."""
        return self.subsample or 1

    @property
    def outputs(self) -> dict[str, int]:
        """Image-shaped outputs of the network for this channel: name -> planes; an answer has none."""
        if self.name == "answer":
            return {}
        if self.name == "dither":
            return {"p": self.planes * self.bits}
        return {"scale": 3} if self.additive else {"mean": 3, "scale": 3}

    @property
    def settings(self) -> dict[str, float | int | bool]:
        """Arguments that `sfumato.channels.create` takes."""
        named = self.model_dump(exclude={"name"}, exclude_none=True)
        return {str(key): value for key, value in named.items()}


class UploadPart(Part):
    """What travels."""

    encoding: Literal["png", "packed", "word", "index"] = "png"
    bit_depth: Literal[1, 2, 4, 8]
    colour: Literal["grey, planes red, green, blue one below the other", "grey", "rgb"]
    """`grey` where the channel has one colour."""
    width: Annotated[int, Field(ge=16, le=3 * 4096)]
    height: Annotated[int, Field(ge=16, le=3 * 4096)]


def repeated(names: Sequence[str]) -> list[str]:
    """Names that are there more than once.

    >>> repeated(["yes", "no", "yes"])
    ['yes']
    """
    return [name for name, count in Counter(names).items() if count > 1]


class LabelPart(Part):
    """A kept attribute: head of the cloud network and its classes, in order."""

    name: str
    classes: tuple[str, ...] = Field(min_length=2)
    values: tuple[float, ...] | None = None
    """Of a number: what each class, a bin of numbers, stands for. The answer is the expected value over the classes."""
    grid: tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]] | None = None
    """Of a mask: rows and columns of the cells, over the whole image. The answer is a class for each of them."""

    @model_validator(mode="after")
    def _told_apart(self) -> Self:
        if twice := repeated(self.classes):
            raise ValueError(f"the class {twice[0]!r} of {self.name} is listed twice")
        if self.values is not None and len(self.values) != len(self.classes):
            raise ValueError(
                f"{len(self.values)} values do not belong to {len(self.classes)} classes of {self.name}"
            )
        if self.grid is not None and self.values is not None:
            raise ValueError(f"{self.name} has values and a grid: it is a number or a mask")
        if self.grid is not None and math.prod(self.grid) > MOST_CELLS:
            raise ValueError(
                f"a mask has at most {MOST_CELLS:,} cells, {self.name} has {math.prod(self.grid):,}"
            )
        return self

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the cloud network's answer about one upload: (classes,), or of a mask (classes, rows, columns)."""
        return (len(self.classes), *(self.grid or ()))


class AnswerPart(Part):
    """How an answer becomes a word (docs/contract.md, "Answer")."""

    words: int = Field(ge=2, le=65536)
    """N: how many words there are, the product of the kept attributes' class counts."""
    image_code: Literal[1] = 1
    """How a word is drawn as an image."""
    margins: tuple[Annotated[int, Field(ge=1, le=255)], ...] = ()
    """Edges of the bins of a decision's margin, in int8 steps; without a table there are none."""
    table: FileName | None = None
    """Of the randomised answer: cumulative counts out of 65,536, a row for every state."""
    entropy_bits: float = Field(ge=0, le=16)
    """Entropy of the words, measured on test images: what an upload tells in the mean."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if list(self.margins) != sorted(set(self.margins)):
            raise ValueError("the margins do not increase")
        if self.table is None and self.margins:
            raise ValueError("margins belong to a table")
        if self.entropy_bits > math.log2(self.words) + 1e-9:
            raise ValueError(f"{self.words} words cannot have {self.entropy_bits} bits of entropy")
        return self

    def states(self, classes: Sequence[int]) -> int:
        """Rows of the table for attributes with this many classes: first and second choice and the margin's bin of each."""
        return math.prod(count * (count - 1) * (len(self.margins) + 1) for count in classes)


class IndexPart(Part):
    """The public book that uploads are entries of (docs/contract.md, "Index")."""

    version: Literal[1] = 1
    bits: int = Field(ge=8, le=INDEX_BITS_A_PIXEL * MOST_INDEX_PIXELS)
    """B: of every upload. No photo tells more."""
    power: Literal[1, 2] = 1
    """To which the draw follows the channel's probabilities."""
    memory: int = Field(ge=INDEX_MEMORY[0], le=INDEX_MEMORY[1])
    """Bits of the index before a pixel's own that it depends on."""


class SoundPart(Part):
    """How a recording becomes the picture that the model takes (docs/contract.md, "Sound to picture").

    The constants are those of `sfumato.core.sound`. Readers see here what they compute, and refuse others.
    """

    version: Literal[1] = 1
    rate: Literal[8000] = 8000
    """Samples a second."""
    window: Literal[256] = 256
    """Samples of a frame."""
    hop: Literal[96] = 96
    """Samples from one frame to the next."""
    lowest: Literal[6] = 6
    """A byte is 0 below an energy of about 2^(16 + lowest)."""
    steps: Literal[10] = 10
    """Of a byte, while an energy doubles."""
    quietest: Literal[256] = 256
    """The loudest sample that is still brought to full scale."""


class GoalPart(Part):
    """What was asked for, and what the shipped model reached on test images; None where nothing was asked."""

    target_bits: float | None = Field(default=None, ge=0)
    reached_bits: float | None = Field(default=None, ge=0)
    beyond_target_bits: float | None = Field(default=None, ge=0)
    beyond_reached_bits: float | None = None
    """An estimate on few images can lie below 0."""
    max_drop: float | None = Field(default=None, ge=0, le=1)
    """Largest loss of accuracy that was allowed, a fraction."""
    met: bool


class RatePart(Part):
    """Rates over test images, in bits."""

    mean: float = Field(ge=0)
    p95: float = Field(ge=0)
    max: float = Field(ge=0)


class SizePart(Part):
    """Bytes of an upload: the mean of the PNG, and the packed form."""

    png: float = Field(gt=0)
    packed: float = Field(gt=0)


class PointPart(Part):
    """A strength at which the model may be used, and what was measured there with the int8 model, as in `figures`."""

    strength: int = Field(ge=1, le=FULL)
    """How far probabilities stay from a fair coin; 128 changes nothing (docs/contract.md, "Strength")."""
    accuracy: dict[str, Annotated[float, Field(ge=0, le=1)]]
    """Fraction right, per kept attribute."""
    rate_bits: RatePart
    upload_bytes: SizePart


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

    schema_: Literal["sfumato-contract/2"] = Field(default="sfumato-contract/2", alias="schema")
    mode: Literal["picture", "answer"]
    """What an upload is: a perturbed picture, or the code word of the phone's own answer."""
    files: tuple[File, ...] = Field(min_length=1)
    crop: Literal["centre, then antialiased bilinear (docs/contract.md)"] = (
        "centre, then antialiased bilinear (docs/contract.md)"
    )
    input: Tensor
    outputs: tuple[Tensor, ...] = Field(min_length=1, max_length=2)
    models: tuple[Model, ...] = Field(min_length=1)
    channel: ChannelPart
    sampler: Literal[1, 2] = 1
    """2: an upload is the index of a book's entry. Readers of before know 1 alone, and refuse it."""
    noise: Literal[2] = 2
    upload: UploadPart
    keep: tuple[LabelPart, ...] = Field(min_length=1)
    hide: tuple[str, ...]
    answer: AnswerPart | None = None
    """In answer mode alone."""
    index: IndexPart | None = None
    """In picture mode, where uploads are indices; None: they are the levels themselves."""
    window: tuple[float, float] | None = None
    """The grey values of a file that become 0 and 255, of 16 bits or DICOM. Page and app refuse a contract with one."""
    sound: SoundPart | None = None
    """The model takes pictures of recordings; None: photos."""
    goal: GoalPart | None = None
    points: tuple[PointPart, ...] | None = None
    """Strengths at which the phone may use the model, the strongest first; None: at full strength alone."""
    cost: dict[str, int]
    gates: tuple[Gate, ...]
    figures: dict[str, Any]
    """Measured on this artifact: rate, desired accuracy, upload bytes (docs/contract.md)."""
    conversion: dict[str, Any]
    provenance: dict[str, Any]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        """Refuse parts that contradict each other, as those of a contract edited by hand often do."""
        if any(length % self.channel.side for length in self.size):
            raise ValueError("the picture is no whole number of the channel's squares")
        if not any(
            math.isclose(self.input.int8_scale, scale, rel_tol=1e-6) and self.input.int8_zero_point == zero
            for scale, zero in INPUTS
        ):
            raise ValueError("the image's scale and zero point are none that pixels can have")
        height, width = self.upload_size
        answering = self.mode == "answer"
        if {answering} != {
            self.channel.name == "answer",
            self.upload.encoding == "word",
            self.answer is not None,
        }:
            raise ValueError(f"channel, upload and answer do not belong to the mode {self.mode}")
        outputs = {tensor.name: tensor.shape for tensor in self.outputs}
        expected = {name: (1, height, width, planes) for name, planes in self.channel.outputs.items()}
        if outputs != ({SCORES: (1, 1, 1, sum(self.classes))} if answering else expected):
            raise ValueError(f"outputs {outputs} do not belong to the channel {self.channel.name}")
        bits = self.channel.bits
        if (self.upload.bit_depth, self.upload.width) != (bits, width):
            raise ValueError("the upload's size or bit depth does not belong to the channel")
        if self.upload.height != (height if bits == 8 else self.channel.planes * height):
            raise ValueError("the upload's height does not belong to the channel")
        if (self.upload.colour == "grey") != (self.channel.planes == 1):
            raise ValueError("the upload's colour does not belong to the channel")
        if self.planes not in (1, 3) or (not answering and self.planes != self.channel.planes):
            raise ValueError(f"an image of {self.planes} planes does not belong to the channel")
        names = [entry.name for entry in self.files]
        if len(set(names)) != len(names) or FILE in names:
            raise ValueError("a file is listed twice, or the contract lists itself")
        for model in self.models:
            self.file(model.file)
        if len({model.variant for model in self.models}) != len(self.models):
            raise ValueError("a variant is listed twice")
        if twice := repeated([*(entry.name for entry in self.keep), *self.hide]):
            raise ValueError(f"the attribute {twice[0]!r} is listed twice")
        if self.window is not None and not -math.inf < self.window[0] < self.window[1] < math.inf:
            raise ValueError("the window's black lies above its white")
        if self.sound is not None and self.size[0] > MOST_BANDS:
            raise ValueError(f"a picture of sound has {MOST_BANDS} rows at most, not {self.size[0]}")
        self._check_answer()
        self._check_index()
        self._check_points()
        return self

    def _check_answer(self) -> None:
        """Compare words and table with the kept attributes."""
        if self.answer is None:
            return
        if masks := [entry.name for entry in self.keep if entry.grid is not None]:
            raise ValueError(f"{masks[0]} has a grid, and no word holds a mask")
        if self.answer.words != math.prod(self.classes):
            raise ValueError(f"{self.answer.words} words do not belong to {self.classes} classes")
        if self.answer.table is not None:
            size = 4 * self.answer.states(self.classes) * self.answer.words
            if self.file(self.answer.table).bytes != size:
                raise ValueError(f"{self.answer.table} must have {size} bytes")

    def _check_index(self) -> None:
        """Compare the book with the channel."""
        if {self.index is not None} != {self.upload.encoding == "index", self.sampler == 2}:
            raise ValueError("upload, index and sampler do not belong together")
        if self.index is None:
            return
        if (
            self.channel.name != "dither"
            or self.channel.bits > 2
            or self.channel.gates
            or self.channel.colours
            or self.points is not None
        ):
            raise ValueError(
                "an index belongs to the channel dither with 2 or 4 levels and three colours, without gates and points"
            )
        height, width = self.upload_size
        planes = 3 * self.channel.bits
        least, most = height * width * planes // 3, height * width * min(planes, INDEX_BITS_A_PIXEL)
        if height * width > MOST_INDEX_PIXELS or not least <= self.index.bits <= most:
            raise ValueError(
                f"an index of {self.index.bits} bits does not belong to {height} x {width} pixels"
            )

    def _check_points(self) -> None:
        """Compare points with the channel and the kept attributes."""
        if self.points is None:
            return
        if self.channel.name != "dither":
            raise ValueError(f"points belong to the channel dither, not {self.channel.name}")
        check_strengths(self.strengths)
        names = {entry.name for entry in self.keep}
        if any(set(point.accuracy) != names for point in self.points):
            raise ValueError("the accuracy of every point is that of the kept attributes")

    @property
    def strengths(self) -> tuple[int, ...]:
        """Of the points, the strongest first; none where the model is used at full strength alone."""
        return tuple(point.strength for point in self.points or ())

    def check_strength(self, strength: int) -> None:
        """Refuse a strength at which nothing was measured.

        Raises:
            UsageError: it is that of no point.
        """
        if self.points is None:
            raise UsageError(
                f"this export has one strength alone: leave {strength} out, or export with points"
            )
        if strength not in self.strengths:
            known = ", ".join(map(str, self.strengths))
            raise UsageError(f"this export has no point of strength {strength}: it has {known}")

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the image that the model takes."""
        return self.input.shape[1], self.input.shape[2]

    @property
    def planes(self) -> int:
        """Of the image that the model takes: 3 for colour, 1 for grey."""
        return self.input.shape[3]

    @property
    def upload_size(self) -> tuple[int, int]:
        """(height, width) of the upload in samples: that of the image, or smaller by the channel's `subsample`."""
        height, width = self.size
        return height // self.channel.side, width // self.channel.side

    @property
    def classes(self) -> tuple[int, ...]:
        """How many classes each kept attribute has, in order."""
        return tuple(len(entry.classes) for entry in self.keep)

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
        SfumatoError: missing, damaged, of another schema, or not what the schema says.
    """
    return read_with_digest(folder)[0]


def read_with_digest(folder: Path) -> tuple[Contract, bytes]:
    """The contract, and the SHA-256 of the very bytes it was read from (32 bytes): keyed noise depends on it.

    Raises:
        SfumatoError: as `read_contract`.
    """
    contract, content = read_sealed(folder)
    return contract, hashlib.sha256(content).digest()


def read_sealed(folder: Path) -> tuple[Contract, bytes]:
    """The contract and the bytes it was read from. They are those that `contract.sha256` names, where that file is there.

    Raises:
        SfumatoError: as `read_contract`.
    """
    content = read_inside(folder, FILE, largest=LARGEST, hint="give an EXPORT folder")
    if (folder / DIGESTS).exists() or (folder / DIGESTS).is_symlink():
        named = read_inside(folder, DIGESTS, largest=LARGEST)
        check_sealed(folder / FILE, content, named.partition(b"\n")[0] + b"\n")
    return parse_contract(content, str(folder / FILE)), content


def check_sealed(path: Path, content: bytes, line: bytes) -> None:
    """Compare the bytes of a file with its line of `contract.sha256`.

    Raises:
        SfumatoError: they differ.
    """
    if line == digest_line(path.name, content):
        return
    if line == digest_line(path.name, content.replace(b"\r\n", b"\n")):
        raise SfumatoError(
            f"{path} was changed after the export: its line ends are CRLF; copy the export byte by byte, not as text"
        )
    raise SfumatoError(
        f"{path.name} or {DIGESTS} was changed after the export: export again, or put a whole copy into {path.parent}"
    )


def digest_line(name: str, content: bytes) -> bytes:
    """A line of `contract.sha256`."""
    return f"{hashlib.sha256(content).hexdigest()}  {name}\n".encode()


def parse_contract(content: bytes, name: str = FILE) -> Contract:
    """Check the bytes of a contract.

    Raises:
        SfumatoError: as `read_contract`.
    """
    if len(content) > LARGEST:
        raise SfumatoError(f"{name} is larger than a contract can be ({LARGEST} bytes)")
    values = parse_json(content, name)
    schema = values.get("schema") if isinstance(values, dict) else None
    if schema == REPEATING:
        raise SfumatoError(
            f"{name} has schema {schema}: its noise (version 1) repeats between releases, so two uploads of one photo "
            "can be compared; export the run again with this version"
        )
    if schema != SCHEMA:
        raise SfumatoError(
            f"{name} has schema {schema!r}; this version reads {SCHEMA}: install a version that fits"
        )
    try:
        contract = Contract.model_validate(values)
    except ValidationError as error:
        raise SfumatoError(f"{name}: {complaint(error)}") from None
    if b"NaN" in content or b"Infinity" in content:  # in figures, whose types are not fixed
        parse_json(content, name, finite=True)
    return contract


def read_file(folder: Path, entry: File) -> bytes:
    """The bytes of a listed file, checked against size and sha256.

    Raises:
        SfumatoError: missing or changed.
    """
    path = folder / entry.name
    content = read_inside(folder, entry.name)
    if len(content) != entry.bytes:
        raise SfumatoError(f"{path} has {len(content)} bytes, the contract says {entry.bytes}: export again")
    if hashlib.sha256(content).hexdigest() != entry.sha256:
        raise SfumatoError(f"{path} is not the file the contract names (its sha256 differs): export again")
    return content
