"""Any folder of pictures with a `labels.csv`: column `file`, optional `split`, one column per attribute.

Classes are the distinct values of a column in sorted order (numbers by size). `classes.json`, if there is
one, fixes them: `{"attribute": ["value", ...]}`; a value outside the list is an error. A column named
`identity` tells persons apart. `split` holds train, val (or validation) and test; train is divided between
defender and attacker.

Usage: `sfumato data inspect folder:photos --keep gender`
"""

import csv
import re
from collections import Counter
from pathlib import Path

import numpy as np

from sfumato.core.errors import DataError
from sfumato.core.files import read_json
from sfumato.data.dataset import Attribute, Ints
from sfumato.data.source import TEST, TRAIN, VALIDATION, FilePictures, Source, folder_of
from sfumato.data.spec import Spec

IDENTITY = "identity"
_EXPECTED = "pictures and labels.csv with a column 'file', optionally 'split', and one column per attribute"
_PARTS = {"train": TRAIN, "val": VALIDATION, "valid": VALIDATION, "validation": VALIDATION, "test": TEST}


def load_folder(spec: Spec) -> Source:
    """Read labels.csv and classes.json; the pictures are decoded later."""
    folder = folder_of(spec.path, "folder", _EXPECTED)
    path = folder / "labels.csv"
    if not path.is_file():
        raise DataError(f"{folder} has no labels.csv: folder:PATH expects {_EXPECTED}")
    columns = _read(path)
    names = columns.pop("file")
    repeated = [name for name, times in Counter(names).items() if times > 1]
    if repeated:
        raise DataError(f"{path} names {len(repeated)} files more than once, e.g. {min(repeated)}")
    parts = columns.pop("split", None)
    if not columns:
        raise DataError(f"{path} has no attribute column beside 'file' and 'split'")
    fixed = _fixed_classes(folder / "classes.json", list(columns))
    attributes: list[Attribute] = []
    labels: dict[str, Ints] = {}
    for name, values in columns.items():
        classes = fixed.get(name) or tuple(sorted(set(values), key=_by_size))
        index = {value: number for number, value in enumerate(classes)}
        strange = sorted(set(values) - set(classes))
        if strange:
            row = values.index(strange[0]) + 2
            raise DataError(
                f"{path} line {row}: {name} is {strange[0]!r}, outside classes.json: {', '.join(classes)}"
            )
        attributes.append(Attribute(name=name, classes=classes))
        labels[name] = np.array([index[value] for value in values], dtype=np.int64)
    return Source(
        pictures=FilePictures(root=folder, names=names),
        attributes=tuple(attributes),
        labels=labels,
        official=None if parts is None else _partition(path, parts),
        identity=IDENTITY if IDENTITY in columns else None,
    )


def _read(path: Path) -> dict[str, list[str]]:
    """Columns of a CSV file, values stripped; every cell must hold something."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            rows = [[cell.strip() for cell in row] for row in csv.reader(stream, strict=True)]
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not a CSV file in UTF-8 ({error})") from None
    header = rows[0] if rows else []
    if "file" not in header or len(set(header)) < len(header) or not all(header):
        raise DataError(f"{path}: the first line must name a column 'file' and every other column once")
    columns: dict[str, list[str]] = {name: [] for name in header}
    for number, row in enumerate(rows[1:], start=2):
        if not row:
            continue
        if len(row) != len(header) or not all(row):
            blank = next((name for name, cell in zip(header, row, strict=False) if not cell), None)
            problem = f"no value for {blank!r}" if blank else f"{len(row)} values for {len(header)} columns"
            raise DataError(f"{path} line {number}: {problem}")
        for name, cell in zip(header, row, strict=True):
            columns[name].append(cell)
    if not columns["file"]:
        raise DataError(f"{path} names no pictures")
    return columns


def _fixed_classes(path: Path, columns: list[str]) -> dict[str, tuple[str, ...]]:
    if not path.is_file():
        return {}
    content = read_json(path)
    if not isinstance(content, dict):
        raise DataError(f'{path} must be {{"attribute": ["value", ...]}}')
    fixed: dict[str, tuple[str, ...]] = {}
    for name, values in content.items():
        if name not in columns:
            raise DataError(
                f"{path} names {name!r}, which is no attribute of labels.csv: {', '.join(columns)}"
            )
        if not isinstance(values, list) or not values or len(set(map(str, values))) < len(values):
            raise DataError(f"{path}: {name} needs a list of different values")
        fixed[name] = tuple(str(value) for value in values)
    return fixed


def _partition(path: Path, parts: list[str]) -> Ints:
    for number, part in enumerate(parts, start=2):
        if part.lower() not in _PARTS:
            raise DataError(f"{path} line {number}: split is {part!r}, known are {', '.join(_PARTS)}")
    return np.array([_PARTS[part.lower()] for part in parts], dtype=np.int64)


def _by_size(value: str) -> tuple[int, float, str]:
    """Numbers before words, numbers by size."""
    if re.fullmatch(r"-?[0-9]+(\.[0-9]+)?", value):
        return 0, float(value), value
    return 1, 0.0, value
