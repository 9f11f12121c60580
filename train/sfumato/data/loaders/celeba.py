"""CelebA (Liu, Luo, Wang, Tang, ICCV 2015), aligned and cropped: 202,599 faces, 40 attributes, 10,177
persons.

Read as published: `img_align_celeba/*.jpg`, `list_attr_celeba.txt` (or the `.csv` that circulates), and where
they are there, `identity_CelebA.txt` and `list_eval_partition.txt` (or `.csv`), beside the pictures or in an
`Anno`/`Eval` folder.

Usage: `sfumato data inspect celeba:CelebA,limit=20000 --keep Smiling --hide Male`
"""

import csv
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from sfumato.core.errors import DataError
from sfumato.data.dataset import Attribute, Ints
from sfumato.data.source import FilePictures, Source, folder_of
from sfumato.data.spec import Spec
from sfumato.data.text_table import read_text

_EXPECTED = "img_align_celeba/*.jpg and list_attr_celeba.txt"
_FOLDERS = (".", "Anno", "Eval")


def load_celeba(spec: Spec) -> Source:
    """Read the annotation files; the pictures they name are decoded later."""
    folder = folder_of(spec.path, "celeba", _EXPECTED)
    pictures = folder / "img_align_celeba"
    if (pictures / "img_align_celeba").is_dir():  # one of the archives in circulation nests the folder
        pictures = pictures / "img_align_celeba"
    if not pictures.is_dir():
        raise DataError(f"{pictures} is not a folder: celeba:PATH expects {_EXPECTED}")
    listed = _find(folder, "list_attr_celeba")
    if listed is None:
        raise DataError(f"{folder} has no list_attr_celeba.txt: celeba:PATH expects {_EXPECTED}")
    titles, names, table = _attributes(listed)
    if len(set(names)) < len(names):
        raise DataError(f"{listed} names {len(names) - len(set(names))} pictures more than once")
    attributes = [Attribute(name=title, classes=("no", "yes")) for title in titles]
    labels = {title: table[:, column] for column, title in enumerate(titles)}
    persons = _column(_find(folder, "identity_CelebA"), names)
    if persons is not None:
        known, index = np.unique(persons, return_inverse=True)
        attributes.append(Attribute(name="identity", classes=tuple(str(person) for person in known)))
        labels["identity"] = index.astype(np.int64)
    official = _column(_find(folder, "list_eval_partition"), names)
    if official is not None and not np.isin(official, (0, 1, 2)).all():
        raise DataError(f"{folder}: list_eval_partition has values other than 0, 1, 2")
    return Source(
        pictures=FilePictures(root=pictures, names=names),
        attributes=tuple(attributes),
        labels=labels,
        official=official,  # its codes 0, 1, 2 are ours: train, validation, test
        identity="identity" if persons is not None else None,
    )


def _find(folder: Path, stem: str) -> Path | None:
    candidates = (folder / sub / f"{stem}{end}" for sub in _FOLDERS for end in (".txt", ".csv"))
    return next((path for path in candidates if path.is_file()), None)


def _attributes(path: Path) -> tuple[list[str], list[str], Ints]:
    """Attribute names, file names and the (N, attributes) table of 0 and 1."""
    rows = _rows(path)
    first = next(rows, [])
    titles = first[1:] if path.suffix == ".csv" else next(rows, [])  # the .txt begins with the number of rows
    names: list[str] = []
    values: list[list[int]] = []
    for row in rows:
        if len(row) != len(titles) + 1 or not set(row[1:]) <= {"1", "-1", "0"}:
            raise DataError(
                f"{path}: the row of {row[0]!r} has not one value of 1 or -1 for each of {len(titles)} names"
            )
        names.append(row[0])
        values.append([int(value == "1") for value in row[1:]])
    if not titles or not names:
        raise DataError(f"{path}: no attribute names or no rows")
    if path.suffix != ".csv" and first != [str(len(names))]:
        raise DataError(
            f"{path} announces {' '.join(first)} pictures and lists {len(names)}: copy it again, or correct its first line"
        )
    return titles, names, np.array(values, dtype=np.int64)


def _column(path: Path | None, names: list[str]) -> Ints | None:
    """The number every picture has in a `file number` list, or None if there is no such list."""
    if path is None:
        return None
    found = {row[0]: row[1] for row in _rows(path) if len(row) == 2 and row[1].isdecimal()}
    missing = [name for name in names if name not in found]
    if missing:
        raise DataError(f"{path}: no number for {len(missing)} of {len(names)} pictures, e.g. {missing[0]}")
    return np.array([int(found[name]) for name in names], dtype=np.int64)


def _rows(path: Path) -> Iterator[list[str]]:
    text = read_text(path)
    if path.suffix == ".csv":
        rows: Iterator[list[str]] = csv.reader(io.StringIO(text, newline=""))
    else:
        rows = (line.split() for line in text.splitlines())
    for row in rows:
        if any(row):
            yield [part.strip() for part in row]
