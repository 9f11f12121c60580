"""UTKFace (Zhang, Song, Qi, CVPR 2017): the labels are the file names,
`<age>_<gender>_<race>_<date>.jpg[.chip.jpg]`.

Usage: `sfumato data inspect utkface:UTKFace`
"""

import os
import re
from bisect import bisect_left

import numpy as np

from sfumato.core.errors import DataError
from sfumato.data.dataset import Attribute, Ints
from sfumato.data.source import FilePictures, Source, folder_of
from sfumato.data.spec import Spec

ATTRIBUTES = (
    Attribute(name="gender", classes=("male", "female")),
    Attribute(name="race", classes=("White", "Black", "Asian", "Indian", "Others")),
    Attribute(name="age_band", classes=("<=12", "13-19", "20-29", "30-39", "40-59", ">=60")),
    Attribute(name="adult30", classes=("under 30", "30 and over")),
)
_LAST_AGES = (12, 19, 29, 39, 59)  # the oldest of every band but the last
_NAME = re.compile(r"([0-9]{1,3})_([01])_([0-4])_[0-9]+\.jpg(\.chip\.jpg)?", re.IGNORECASE)
_EXPECTED = "files named <age>_<gender>_<race>_<date>.jpg"


def load_utkface(spec: Spec) -> Source:
    """Read the folder's file names; those that do not follow the scheme are skipped and counted.

    Ages in years are there where they are asked for (`age:number`, `age:q4`): a set's id and splits depend on its
    attributes, and those of earlier runs stay as they are.
    """
    folder = folder_of(spec.path, "utkface", _EXPECTED)
    names: list[str] = []
    rows: list[tuple[int, ...]] = []
    skipped: list[str] = []
    listed = sorted(os.listdir(folder))
    if not any(map(_NAME.fullmatch, listed)):  # the original archive unpacks to part1, part2, part3
        listed = sorted(path.relative_to(folder).as_posix() for path in folder.glob("*/*.*"))
    for name in listed:
        match = _NAME.fullmatch(name.rpartition("/")[2])
        if match:
            age, gender, race = int(match[1]), int(match[2]), int(match[3])
            names.append(name)
            rows.append((gender, race, bisect_left(_LAST_AGES, age), int(age >= 30), age))
        elif name.lower().endswith((".jpg", ".jpeg", ".png")):
            skipped.append(f"{name}: the name does not tell age, gender and race")
    if not names:
        raise DataError(f"no UTKFace pictures in {folder}: expected {_EXPECTED}")
    table: Ints = np.array(rows, dtype=np.int64)
    asked = any(value.partition(":")[0] == "age" for _, value in spec.extra)
    years = Attribute(name="age", classes=tuple(map(str, range(int(table[:, -1].max()) + 1))))
    attributes = (*ATTRIBUTES, years) if asked else ATTRIBUTES
    return Source(
        pictures=FilePictures(root=folder, names=names),
        attributes=attributes,
        labels={attribute.name: table[:, column] for column, attribute in enumerate(attributes)},
        quantities=frozenset({"age"} if asked else ()),
        skipped=tuple(skipped),
    )
