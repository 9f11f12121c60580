"""A data set of Hugging Face on disk: `save_to_disk` of the library `datasets`, or parquet files as the hub holds them.

Nothing is fetched, and the library is not needed: the files are Arrow tables, which the package pyarrow reads. The column
of pictures (`image`, or the only one with bytes) holds each picture's file; every other column of whole numbers, words or
truth values is an attribute, its class names taken from the features that the files carry. `train`, `validation` and
`test` in folder or file names are the official partition.

Usage: `sfumato data inspect huggingface:data --keep label`
"""

import importlib
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from sfumato.core.errors import DataError, first_line
from sfumato.core.image_io import load
from sfumato.data.classes import is_quantity, to_classes
from sfumato.data.dataset import Attribute, Ints
from sfumato.data.source import TEST, TRAIN, UNLABELLED, VALIDATION, Pixels, Source, folder_of
from sfumato.data.spec import Spec
from sfumato.data.text_table import clean

_EXPECTED = "a folder that datasets' save_to_disk wrote, or one of .parquet files"
_PARTS = (("train", TRAIN), ("val", VALIDATION), ("test", TEST))


@dataclass(frozen=True, kw_only=True)
class ArrowPictures:
    """Picture files inside Arrow tables, unpacked when they are read."""

    column: Any
    """A pyarrow ChunkedArray of bytes, memory-mapped where the file allows it."""
    rows: Ints
    """(N,) which of its rows these pictures are."""

    @property
    def names(self) -> Sequence[str]:
        """(N,) numbers of the rows."""
        return [f"row {row}" for row in self.rows.tolist()]

    def fingerprint(self) -> Iterator[str]:
        """Row number and content of every file."""
        for row in self.rows.tolist():
            yield f"{sha256(self.column[row].as_py() or b'').hexdigest()} row {row}"

    def take(self, rows: Ints) -> "ArrowPictures":
        """Only these pictures."""
        return ArrowPictures(column=self.column, rows=self.rows[rows])

    def read(self, rows: range, height: int, width: int) -> Sequence[Pixels | DataError]:
        """Decode in threads."""

        def one(row: int) -> Pixels | DataError:
            try:
                return load(self.column[row].as_py() or b"", height, width)
            except DataError as error:
                return DataError(f"row {row}: {error}")

        with ThreadPoolExecutor() as pool:
            return list(pool.map(one, self.rows[rows.start : rows.stop].tolist()))


def load_huggingface(spec: Spec) -> Source:
    """Read every table below the folder."""
    folder = folder_of(spec.path, "huggingface", _EXPECTED)
    files = sorted(
        p for p in folder.rglob("*") if p.suffix in (".arrow", ".parquet") and not p.name.startswith("cache-")
    )
    if not files:
        raise DataError(f"{folder} holds no .arrow or .parquet file: huggingface:PATH expects {_EXPECTED}")
    try:
        arrow = importlib.import_module("pyarrow")
    except ModuleNotFoundError:
        raise DataError("huggingface:PATH needs the package pyarrow: pip install pyarrow") from None
    except ImportError as error:  # one that does not fit this numpy
        raise DataError(
            f"the installed pyarrow cannot be used ({first_line(error)}): install another release"
        ) from None
    try:
        tables = [_table(path) for path in files]
        whole = arrow.concat_tables(tables)
    except Exception as error:  # of pyarrow's own types
        raise DataError(f"{folder} cannot be read ({first_line(error)})") from None
    parts = [_part(path.relative_to(folder)) for path in files]
    official = np.repeat(parts, [len(table) for table in tables]).astype(np.int64)
    image = _image_column(arrow, whole, folder)
    features = (
        json.loads((whole.schema.metadata or {}).get(b"huggingface", b"{}"))
        .get("info", {})
        .get("features", {})
    )
    attributes: list[Attribute] = []
    labels: dict[str, Ints] = {}
    quantities = set()
    for field in whole.schema:
        if field.name == image or not _is_label(arrow, field.type):
            continue
        values = whole.column(field.name).to_pylist()
        names = (
            features.get(field.name, {}).get("names") if isinstance(features.get(field.name), dict) else None
        )
        if names:
            codes = np.array(
                [UNLABELLED if value is None else int(value) for value in values], dtype=np.int64
            )
            if codes.max(initial=0) >= len(names) or codes.min(initial=0) < UNLABELLED:
                raise DataError(f"{folder}: a value of {field.name!r} is beyond its {len(names)} class names")
            classes: tuple[str, ...] = tuple(map(str, names))
        else:
            text = ["" if value is None else clean(str(value)) for value in values]
            classes, codes = to_classes(text, f"{folder}: {field.name}")
            quantities |= {field.name} if is_quantity(classes) else set()
        if classes:
            attributes.append(Attribute(name=field.name, classes=classes))
            labels[field.name] = codes
    if not attributes:
        raise DataError(f"{folder} has no column of labels beside {image!r}")
    bytes_ = whole.column(image)
    if arrow.types.is_struct(bytes_.type):
        bytes_ = arrow.compute.struct_field(bytes_, "bytes")
    if bytes_.null_count == len(whole):
        raise DataError(
            f"{folder} names files instead of holding pictures: save it again with the pictures embedded"
        )
    return Source(
        pictures=ArrowPictures(column=bytes_, rows=np.arange(len(whole), dtype=np.int64)),
        attributes=tuple(attributes),
        labels=labels,
        official=official if len(set(parts)) > 1 and TRAIN in parts else None,
        identity="identity" if "identity" in labels else None,
        quantities=frozenset(quantities - {"identity"}),
    )


def _table(path: Path) -> Any:
    if path.suffix == ".parquet":
        return importlib.import_module("pyarrow.parquet").read_table(path, partitioning=None)
    stream = importlib.import_module("pyarrow").memory_map(str(path))
    return importlib.import_module("pyarrow.ipc").open_stream(stream).read_all()


def _part(place: Path) -> int:
    """The split that a file's folder or name says, training where they say nothing."""
    words = [*place.parts[:-1], place.name]
    return next((code for word in words for stem, code in _PARTS if word.lower().startswith(stem)), TRAIN)


def _image_column(arrow: Any, table: Any, folder: Path) -> str:
    importlib.import_module("pyarrow.compute")

    def holds_bytes(kind: Any) -> bool:
        if arrow.types.is_struct(kind):
            return any(kind.field(place).name == "bytes" for place in range(kind.num_fields))
        return bool(arrow.types.is_binary(kind) or arrow.types.is_large_binary(kind))

    found = [field.name for field in table.schema if holds_bytes(field.type)]
    if "image" in found or len(found) == 1:
        return "image" if "image" in found else str(found[0])
    raise DataError(
        f"{folder} needs one column of pictures, called 'image': found {', '.join(found) or 'none'}"
    )


def _is_label(arrow: Any, kind: Any) -> bool:
    types = arrow.types
    return bool(
        types.is_integer(kind) or types.is_string(kind) or types.is_boolean(kind) or types.is_floating(kind)
    )
