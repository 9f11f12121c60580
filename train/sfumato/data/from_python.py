"""A torch `Dataset`, or any sequence of pictures and labels, written as a folder that `folder:PATH` reads.

A run opens its data again for the audit, so the data have to lie on disk. PNG keeps every pixel.

    save_folder(torchvision.datasets.CIFAR10("data"), "own")                     # (picture, label), classes of the data set
    save_folder(mine, "own", names=["smiling", "age"])                           # (picture, (1, 34)) or (picture, {...})
    train(data="folder:own", keep=["label"], out="runs/own", bits=8)
"""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sfumato.core.errors import DataError
from sfumato.core.files import atomic_folder


class Items(Protocol):
    """What is asked of a data set: a length, and items (picture, labels) by number; of torch nothing is needed."""

    def __len__(self) -> int:
        """How many items."""

    def __getitem__(self, index: int, /) -> Any:
        """A picture and its label, or its labels as a sequence or by name."""


def save_folder(items: Items, folder: str | Path, *, names: Sequence[str] = ("label",)) -> Path:
    """Write pictures as PNG, `labels.csv`, and `classes.json` where `items.classes` names the classes.

    Args:
        items: (picture, label), (picture, labels in the order of `names`) or (picture, {name: label}). A picture is one of
            Pillow's, or an array or tensor (H, W, 3), (H, W), (3, H, W) or (1, H, W), of uint8 or of floats in 0..1. A
            label of None is left empty.
        folder: a new folder; nothing is left of it after an error.
        names: of the labels, where they have none.

    Raises:
        DataError: the folder is there already, or an item is not as described; its number is named.
    """
    folder = Path(folder)
    if folder.exists():
        raise DataError(f"{folder} is there already: choose a new folder")
    rows: list[dict[str, Any]] = []
    with atomic_folder(folder) as scratch:
        (scratch / "images").mkdir()
        for number in range(len(items)):
            try:
                picture, labels = items[number]
                image = _image(picture)
            except (TypeError, ValueError) as error:
                raise DataError(f"item {number} is not a picture with labels ({error})") from None
            file = f"images/{number:07d}.png"
            image.save(scratch / file)
            rows.append({"file": file, **_labels(labels, names, number)})
        if not rows:
            raise DataError("the data set is empty")
        columns = list(dict.fromkeys(name for row in rows for name in row))
        classes = getattr(items, "classes", None)
        if classes is not None and columns == ["file", names[0]]:
            known = [str(name) for name in classes]
            for number, row in enumerate(rows):
                row[names[0]] = _class_name(row[names[0]], known, number)
            (scratch / "classes.json").write_text(
                json.dumps({names[0]: known}, ensure_ascii=False), encoding="utf-8"
            )
        with (scratch / "labels.csv").open("w", encoding="utf-8", newline="") as stream:
            writer = csv.DictWriter(stream, columns)
            writer.writeheader()
            writer.writerows(rows)
    return folder


def _class_name(value: Any, known: Sequence[str], number: int) -> Any:
    if not isinstance(value, int) or isinstance(value, bool):
        return value
    if not 0 <= value < len(known):
        raise DataError(f"item {number} has label {value}, beyond its {len(known)} classes")
    return known[value]


def _labels(labels: Any, names: Sequence[str], number: int) -> dict[str, Any]:
    if isinstance(labels, Mapping):
        return {str(name): _plain(value) for name, value in labels.items()}
    values = (
        [labels]
        if isinstance(labels, str) or not hasattr(labels, "__len__") or _is_scalar(labels)
        else list(labels)
    )
    if len(values) != len(names):
        raise DataError(f"item {number} has {len(values)} labels for {len(names)} names: give names=[...]")
    return dict(zip(names, map(_plain, values), strict=True))


def _is_scalar(value: Any) -> bool:
    return getattr(value, "ndim", None) == 0


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value


def _image(picture: Any) -> Image.Image:
    if isinstance(picture, Image.Image):
        return picture if picture.mode in ("L", "RGB", "RGBA", "P") else picture.convert("RGB")
    values: NDArray[Any] = np.asarray(picture)
    if values.ndim == 3 and values.shape[0] in (1, 3) and values.shape[2] not in (1, 3):
        values = np.moveaxis(values, 0, 2)
    if values.ndim not in (2, 3) or (values.ndim == 3 and values.shape[2] not in (1, 3)):
        raise ValueError(f"a picture of shape {values.shape}")
    if np.issubdtype(values.dtype, np.floating):
        if not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1):
            raise ValueError("floats outside 0..1: leave normalisation out")
        values = np.floor(values * 255 + 0.5).astype(np.uint8)
    if values.dtype != np.uint8:
        raise ValueError(f"values of {values.dtype}, not uint8 or floats in 0..1")
    return Image.fromarray(values.squeeze(2) if values.ndim == 3 and values.shape[2] == 1 else values)
