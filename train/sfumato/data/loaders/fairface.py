"""FairFace (Karkkainen, Joo, WACV 2021): faces with age group, gender and race, even in race.

Read as published: `fairface_label_train.csv` and `fairface_label_val.csv` beside the folders `train` and `val`; the
published validation part is the test split. Or any part of it in the layout of `folder:`. Ages that a spreadsheet has
turned into dates are mended.

Usage: `sfumato data inspect fairface:FairFace,size=64 --keep gender --hide race`
"""

from dataclasses import replace
from pathlib import Path

from sfumato.core.errors import DataError
from sfumato.data.classes import to_classes
from sfumato.data.dataset import Attribute
from sfumato.data.loaders.folder import TABLES, from_table
from sfumato.data.source import Source, folder_of
from sfumato.data.spec import Spec
from sfumato.data.text_table import TextTable, read_table

AGES = ("0-2", "3-9", "10-19", "20-29", "30-39", "40-49", "50-59", "60-69", "70+")
_DATES = {
    **dict.fromkeys(("03-Sep", "3-Sep", "09-Mar", "9-Mar", "Mar-09"), "3-9"),
    **dict.fromkeys(("Oct-19", "19-Oct", "10-Nov"), "10-19"),
    "more than 70": "70+",
}
_PARTS = {"fairface_label_train.csv": "train", "fairface_label_val.csv": "test"}
_EXPECTED = (
    "fairface_label_train.csv and fairface_label_val.csv beside train/ and val/, or pictures and labels.csv"
)


def load_fairface(spec: Spec) -> Source:
    """`age` (9 groups), `gender` and `race` (7)."""
    folder = folder_of(spec.path, "fairface", _EXPECTED)
    parts = {folder / name: part for name, part in _PARTS.items() if (folder / name).is_file()}
    parts = parts or {folder / name: "" for name in TABLES if (folder / name).is_file()}
    if not parts:
        raise DataError(f"{folder} has no label file: fairface:PATH expects {_EXPECTED}")
    tables = [read_table(path, key="file") for path in parts]
    columns: dict[str, list[str]] = {name: [] for name in tables[0].columns if name != "service_test"}
    if len(parts) == 2:
        columns["split"] = []
    lines: list[int] = []
    for table, part in zip(tables, parts.values(), strict=True):
        for name in columns:
            made = name == "split" and part
            if not made and name not in table.columns:
                raise DataError(f"{table.path} has no column {name!r}")
            columns[name] += [part] * len(table.lines) if made else table.columns[name]
        lines += table.lines
    if "age" not in columns:
        raise DataError(f"{tables[0].path} has no column 'age': fairface:PATH expects {_EXPECTED}")
    ages = [_DATES.get(age, age) for age in columns["age"]]
    source = from_table(TextTable(path=Path(tables[0].path), columns=columns, lines=lines), folder)
    classes, labels = to_classes(ages, f"{tables[0].path}: age", AGES, lines)
    attributes = [
        Attribute(name="age", classes=classes) if one.name == "age" else one for one in source.attributes
    ]
    return replace(source, attributes=tuple(attributes), labels={**source.labels, "age": labels})
