"""index.json of a zoo: every export with its question, figures and data, and every file with its size and SHA-256.

    index = shipped_index()
    index.entry("spoken-digits").files

The index is what is trusted: that of the wheel, or one that its maker has signed (`index.sig`, Ed25519 over the file's bytes).
Names in it are names of files below one folder and nothing else, so no index leads out of the folder that is written.
"""

import hashlib
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from pydantic import Field, ValidationError, model_validator

from sfumato.core.errors import SfumatoError, complaint, unknown
from sfumato.core.files import atomic_write, parse_json, read_inside
from sfumato.runtime.contract import Digest, FileName, Part
from sfumato.runtime.signing import holds, signature_line

SCHEMA: Final = "sfumato-zoo/1"
FILE, SIGNATURE = "index.json", "index.sig"
SHIPPED = Path(__file__).with_name("shipped")
"""The zoo of the wheel."""
LARGEST = 2**22
"""Bytes of an index."""
LARGEST_FILE, LARGEST_EXPORT = 2**26, 2**28
"""Bytes of one file of an export and of all of them: what a stranger's index can make this machine take."""
CONTEXT = b"sfumato-zoo-index-signature-v1\0"
"""Put before the index's bytes, so that the signature can be taken for nothing else."""

Name = Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=40)]
Text = Annotated[str, Field(max_length=2000)]


class ShippedFile(Part):
    """A file of an export in a zoo."""

    name: FileName
    sha256: Digest
    bytes: int = Field(ge=0, le=LARGEST_FILE)


class Kept(Part):
    """A desired attribute in the audit; accuracies are shares of 1."""

    name: str
    classes: int
    accuracy: float
    """From uploads."""
    ci95: tuple[float, float]
    clean_accuracy: float
    """Of a cloud network that gets the photo or recording itself."""


class Hidden(Part):
    """Another attribute in the audit, for whoever reads an upload best."""

    name: str
    declared: bool
    """Whether training was told to hide it."""
    floor: float
    """Accuracy of the best guess without any upload."""
    accuracy: float
    auc: float
    gain_at_most: float | None
    """Upper 95 % limit of the gain by the measure that counts most, as a share of what clean photos give."""


class Figures(Part):
    """What the audit found; copied from audit.json and contract.json by `sfumato.zoo.packing`, never typed."""

    test: int
    """Test photos or recordings."""
    kept: tuple[Kept, ...]
    hidden: tuple[Hidden, ...]
    plan: str
    verdict: Literal["passed", "not_passed", "no_verdict"]
    reasons: tuple[str, ...]
    upload_bytes: float
    bits_at_most: float
    """Of an answer for every photo; of a picture in the mean."""
    model_bytes: int
    """The int8 model."""
    parameters: int
    macs: int


class DataNote(Part):
    """The data that an entry was trained and audited on. None of them are in the zoo."""

    title: Text
    spec: str
    """As `sfumato train --data` takes it; the path is a folder's name."""
    digest: str = ""
    """SHA-256 over pixels, names, labels and splits, as in the audit."""
    licence: Text
    source: Text
    """Who made them, and where they are."""


class Entry(Part):
    """One export of a zoo."""

    name: Name
    question: Text
    takes: Literal["photo", "recording"]
    mode: Literal["answer", "picture"]
    data: DataNote
    licence: Text
    """Of the export itself."""
    command: Text
    """Makes it again."""
    versions: dict[str, str | None]
    """Of what made it: sfumato, Python, packages, commit."""
    figures: Figures
    files: tuple[ShippedFile, ...] = Field(min_length=1, max_length=64)

    @property
    def bytes(self) -> int:
        """Of all files."""
        return sum(file.bytes for file in self.files)

    @model_validator(mode="after")
    def _whole(self) -> Self:
        names = [file.name for file in self.files]
        if len(names) != len(set(names)):
            raise ValueError("a file is listed twice")
        if "contract.json" not in names:
            raise ValueError("contract.json is not listed")
        if self.bytes > LARGEST_EXPORT:
            raise ValueError(f"larger than an export can be ({LARGEST_EXPORT:,} bytes)")
        return self


class Index(Part):
    """The whole of index.json."""

    schema_: Literal["sfumato-zoo/1"] = Field(default=SCHEMA, alias="schema")
    entries: tuple[Entry, ...] = Field(max_length=1000)

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        names = [entry.name for entry in self.entries]
        if len(names) != len(set(names)):
            raise ValueError("a name is listed twice")
        return self

    def entry(self, name: str) -> Entry:
        """The entry of this name.

        Raises:
            SfumatoError: there is none.
        """
        for entry in self.entries:
            if entry.name == name:
                return entry
        raise SfumatoError(unknown("export", name, [entry.name for entry in self.entries]))

    def to_json(self) -> dict[str, Any]:
        """Plain values under the names of the file."""
        return self.model_dump(mode="json", by_alias=True)


def check_file(file: ShippedFile, content: bytes, where: str) -> None:
    """Refuse other bytes than those of the index.

    Raises:
        SfumatoError: size or hash differ.
    """
    if len(content) != file.bytes:
        raise SfumatoError(f"{where} has {len(content):,} bytes where the index says {file.bytes:,}")
    if hashlib.sha256(content).hexdigest() != file.sha256:
        raise SfumatoError(f"{where} is not the file of the index: its sha256 differs")


def parse_index(content: bytes, where: str) -> Index:
    """An index from its bytes.

    Raises:
        SfumatoError: it is none, or of another schema.
    """
    values = parse_json(content, where, finite=True)
    try:
        return Index.model_validate(values)
    except ValidationError as error:
        raise SfumatoError(f"{where} is no index of a zoo: {complaint(error, 'it')}") from None


def read_index(folder: Path) -> Index:
    """The index of a zoo in a folder; errors as `parse_index`, or it is missing."""
    return parse_index(read_inside(folder, FILE, largest=LARGEST), str(folder / FILE))


def shipped_index() -> Index:
    """The index of the wheel."""
    return read_index(SHIPPED)


def sign_index(folder: Path, key: Ed25519PrivateKey) -> None:
    """Write `index.sig` beside the index of a zoo."""
    line = signature_line(key, CONTEXT, read_inside(folder, FILE, largest=LARGEST))
    with atomic_write(folder / SIGNATURE) as scratch:
        scratch.write_bytes(line)


def check_index(content: bytes, signature: bytes, key: Ed25519PublicKey, where: str) -> None:
    """Refuse an index that its maker has not signed; before it is read.

    Raises:
        SfumatoError: the signature is damaged, or is not that key's of these bytes.
    """
    if not holds(key, CONTEXT, content, signature):
        raise SfumatoError(f"{where} is not signed with this key: take nothing from there")
