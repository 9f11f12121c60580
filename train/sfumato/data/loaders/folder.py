"""Any folder of pictures: with a `labels.csv`, or with one folder for every class.

`labels.csv` has a column `file`, optionally `split`, and one column per attribute (`sfumato.data.text_table` says how
freely it may be written). Classes are the distinct values of a column, numbers by size (`sfumato.data.classes`).
`classes.json`, if there is one, fixes them: `{"attribute": ["value", ...]}`; a value outside the list is an error. A column
that is asked for as a mask names mask files, and `classes.json` what their values 0, 1 ... mean (`sfumato.data.masks`). A
column named `identity` tells persons apart. `split` holds train, val (or validation) and test; train is divided between
defender and attacker.

Without a table, the folders are the classes of the one attribute `label`: `cat/1.jpg`, or `train/cat/1.jpg` with a folder
for every split, as torchvision's ImageFolder and ImageNet have it.

Usage: `sfumato data inspect folder:photos --keep gender`
"""

import os
import posixpath
import unicodedata
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from sfumato.core.console import note
from sfumato.core.errors import DataError
from sfumato.core.files import read_json
from sfumato.core.image_io import SUFFIXES
from sfumato.data.classes import is_quantity, to_classes
from sfumato.data.dataset import Attribute, Ints
from sfumato.data.masks import CLASSES, MOST, FileMasks, asked_masks
from sfumato.data.source import TEST, TRAIN, UNLABELLED, VALIDATION, FilePictures, Source, folder_of
from sfumato.data.spec import Spec
from sfumato.data.text_table import TextTable, clean, read_table

IDENTITY, LABEL = "identity", "label"
TABLES = ("labels.csv", "labels.tsv", "metadata.csv")
FILE_COLUMNS = ("file_name", "filename", "image", "image_id", "path")
"""Other names of the column `file`."""
_EXPECTED = "pictures and labels.csv with a column 'file' and one per attribute, or one folder of pictures for every class"
_PARTS = {
    **{"train": TRAIN, "training": TRAIN, "val": VALIDATION, "valid": VALIDATION, "validation": VALIDATION},
    **{"test": TEST, "testing": TEST},
}


def load_folder(spec: Spec, *, suffixes: Sequence[str] = SUFFIXES) -> Source:
    """Read the table or the folders; the pictures are decoded later. Without a table, files with these endings are pictures."""
    folder = folder_of(spec.path, spec.kind, _EXPECTED)
    path = next((folder / name for name in TABLES if (folder / name).is_file()), None)
    if path is None:
        return _class_folders(folder, suffixes)
    table = read_table(path, key="file", aliases=FILE_COLUMNS)
    return from_table(table, folder, masks=tuple(asked_masks(spec)))


def from_table(table: TextTable, folder: Path, *, masks: Collection[str] = ()) -> Source:
    """A table whose column `file` names pictures below `folder`; columns named in `masks` name mask files there."""
    path, columns = table.path, {name: list(values) for name, values in table.columns.items()}
    if not columns["file"]:
        raise DataError(f"{path} names no pictures")
    for name, line in zip(columns["file"], table.lines, strict=True):
        if not name:
            raise DataError(f"{path} line {line}: no value for 'file'")
    files = _on_disk(folder, [posixpath.normpath(name) for name in columns.pop("file")])
    repeated = [name for name, times in Counter(files).items() if times > 1]
    if repeated:
        raise DataError(f"{path} names {len(repeated)} files more than once, e.g. {min(repeated)}")
    for known in ("split", IDENTITY):
        for name in [one for one in columns if one.casefold() == known and one != known]:
            columns[known] = columns.pop(name)
    parts = columns.pop("split", None)
    columns = {name: values for name, values in columns.items() if any(values)}
    if not columns:
        raise DataError(f"{path} has no attribute column beside 'file' and 'split'")
    fixed = _fixed_classes(folder / "classes.json", list(columns))
    attributes: list[Attribute] = []
    labels: dict[str, Ints] = {}
    drawn = {
        name: _masks(name, columns.pop(name), folder, files, fixed.get(name))
        for name in masks
        if name in columns
    }
    for name, (found, there) in drawn.items():
        attributes.append(Attribute(name=name, classes=found.classes))
        labels[name] = there
    for name, values in columns.items():
        classes, labels[name] = to_classes(values, f"{path}: {name}", fixed.get(name), table.lines)
        attributes.append(Attribute(name=name, classes=classes))
    numbers = {one.name for one in attributes if is_quantity(one.classes)} - set(fixed) - {IDENTITY}
    return Source(
        pictures=FilePictures(root=folder, names=files),
        attributes=tuple(attributes),
        labels=labels,
        official=None if parts is None else _partition(path, parts, table.lines),
        identity=IDENTITY if IDENTITY in columns else None,
        quantities=frozenset(numbers),
        masks={name: found for name, (found, _) in drawn.items()},
    )


def _masks(
    name: str, values: Sequence[str], folder: Path, files: Sequence[str], classes: tuple[str, ...] | None
) -> tuple[FileMasks, Ints]:
    """Masks of all pictures, and (N,) 0 where there is one, else `UNLABELLED`."""
    if classes is not None and not 2 <= len(classes) <= MOST:
        raise DataError(
            f"{folder / 'classes.json'}: a mask has 2 to {MOST} classes, {name} has {len(classes)}"
        )
    there = np.array([0 if value else UNLABELLED for value in values], dtype=np.int64)
    paths = iter(_on_disk(folder, [posixpath.normpath(value) for value in values if value]))
    names = [next(paths) if value else "" for value in values]
    return FileMasks(root=folder, names=names, pictures=files, classes=classes or CLASSES), there


def _on_disk(folder: Path, names: Sequence[str]) -> list[str]:
    """The names as the disk has them: Windows writes other separators, a Mac other forms of one letter, and case may differ.

    A name that fits no file, or several, stays as it is, and is reported when it cannot be read.
    """
    # Not Path.exists: a table may name what the system refuses to look for, such as 10,000 letters.
    missing = {name for name in names if not os.path.exists(folder / name)}
    if not missing:
        return list(names)
    there: dict[str, list[str]] = {}
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        there.setdefault(_folded(name), []).append(name)
    found = {name: there.get(_folded(name.replace("\\", "/")), []) for name in missing}
    renamed = {name: same[0] for name, same in found.items() if len(same) == 1}
    if renamed:
        first = next(name for name in names if name in renamed)
        note(
            f"{len(renamed)} names differ from the files in spelling alone, e.g. {first!r} from {renamed[first]!r}"
        )
    return [renamed.get(name, name) for name in names]


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", posixpath.normpath(name)).casefold()


def _class_folders(folder: Path, suffixes: Sequence[str]) -> Source:
    """`label`, and the official partition where the outer folders are splits."""
    found = _pictures(folder, suffixes)
    tops = {place.parts[0].casefold() for place in found}
    deep = [place for place in found if len(place.parts) > 1]
    if not deep:
        raise DataError(f"{folder} has no labels.csv: folder:PATH expects {_EXPECTED}")
    by_split = tops <= set(_PARTS) and any(len(place.parts) > 2 for place in found)
    level = 1 if by_split else 0
    flat = [place for place in found if len(place.parts) < level + 2]
    if flat:
        raise DataError(
            f"{folder}: {len(flat)} pictures lie in no class folder, e.g. {flat[0]}: expected {_EXPECTED}"
        )
    values = [clean(place.parts[level]) for place in found]
    classes = tuple(sorted(set(values)))
    if len(classes) < 2:
        raise DataError(f"{folder} has one folder of pictures alone ({classes[0]}): expected {_EXPECTED}")
    index = {name: number for number, name in enumerate(classes)}
    official = np.array([_PARTS[place.parts[0].casefold()] for place in found]) if by_split else None
    return Source(
        pictures=FilePictures(root=folder, names=[place.as_posix() for place in found]),
        attributes=(Attribute(name=LABEL, classes=classes),),
        labels={LABEL: np.array([index[value] for value in values], dtype=np.int64)},
        official=official,
    )


def _pictures(folder: Path, suffixes: Sequence[str]) -> list[Path]:
    """Pictures below a folder, as paths from it, in order; hidden files and folders are none of them."""
    places = (path.relative_to(folder) for path in folder.rglob("*") if path.suffix.lower() in suffixes)
    return sorted(place for place in places if not any(part.startswith(".") for part in place.parts))


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
        fixed[name] = tuple(clean(str(value)) for value in values)
    return fixed


def _partition(path: Path, parts: Sequence[str], lines: Sequence[int]) -> Ints:
    for line, part in zip(lines, parts, strict=True):
        if part.casefold() not in _PARTS:
            raise DataError(f"{path} line {line}: split is {part!r}, known are train, val and test")
    return np.array([_PARTS[part.casefold()] for part in parts], dtype=np.int64)
