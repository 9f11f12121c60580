"""MedMNIST (Yang et al., Scientific Data 10, 2023): one `.npz` file of small medical pictures, its own three parts.

The file holds `train_images`, `val_images`, `test_images`, (N, H, W) of grey or (N, H, W, 3) of colour, and as many labels of
one task. Grey pictures have one plane unless `planes=3` is asked for. At the default size pictures of 28x28 get two rows and
columns of black on every side, which keeps every published pixel. The makers' parts are kept; no file says who a patient is, so
pictures of one person can be in two parts.

Usage: `sfumato data inspect medmnist:pneumoniamnist.npz --keep label`
"""

import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sfumato.core.errors import DataError
from sfumato.data.dataset import Attribute, Ints
from sfumato.data.source import TEST, TRAIN, VALIDATION, ArrayPictures, Pixels, Source
from sfumato.data.spec import Spec

PARTS = (("train", TRAIN), ("val", VALIDATION), ("test", TEST))
KEYS = tuple(f"{part}_{what}" for part, _ in PARTS for what in ("images", "labels"))
CLASSES = {
    "pneumoniamnist": ("normal", "pneumonia"),
    "breastmnist": ("malignant", "normal or benign"),
}
"""Beginning of a file's name -> what its makers call the classes; those of other sets are numbers."""
SIDE, PADDED = 28, 32
"""The published side that no network can halve four times, and the next that it can."""


def load_medmnist(spec: Spec) -> Source:
    """`label`: the task that the file was made for."""
    path = spec.path
    if path is None or not path.is_file():
        raise DataError(
            f"medmnist needs a file: write medmnist:FILE.npz{'' if path is None else f', {path} is none'}"
        )
    arrays = _read(path)
    images = [arrays[f"{part}_images"] for part, _ in PARTS]
    labels = [
        _labels(path, arrays[f"{part}_labels"], len(one))
        for (part, _), one in zip(PARTS, images, strict=True)
    ]
    shapes = {one.shape[1:] for one in images}
    shape = images[0].shape[1:]
    if len(shapes) != 1 or any(one.dtype != np.uint8 for one in images) or not _is_picture(shape):
        raise DataError(
            f"{path}: expected uint8 pictures (N, H, W) or (N, H, W, 3) of one size, not {sorted(shapes)}"
        )
    joined = np.concatenate(labels)
    names = [
        f"{part}_{row:05d}" for (part, _), one in zip(PARTS, images, strict=True) for row in range(len(one))
    ]
    pixels: Pixels = np.concatenate(images)
    padded = shape[:2] == (SIDE, SIDE)
    return Source(
        pictures=ArrayPictures(pixels=pixels, names=names, border=(PADDED - SIDE) // 2 if padded else 0),
        attributes=(Attribute(name="label", classes=_classes(path, joined)),),
        labels={"label": joined},
        size=(PADDED, PADDED) if padded else (shape[0], shape[1]),
        planes=1 if len(shape) == 2 else 3,
        official=np.repeat([code for _, code in PARTS], [len(one) for one in images]).astype(np.int64),
    )


def _is_picture(shape: tuple[int, ...]) -> bool:
    """Whether it is (H, W) or (H, W, 3); three-dimensional sets are (D, H, W)."""
    return len(shape) == 2 or (len(shape) == 3 and shape[2] == 3)


def _read(path: Path) -> dict[str, NDArray[np.generic]]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            if missing := [key for key in KEYS if key not in archive.files]:
                raise DataError(f"{path} lacks {', '.join(missing)}: expected {', '.join(KEYS)}")
            return {key: archive[key] for key in KEYS}
    except (OSError, ValueError, AttributeError, zipfile.BadZipFile) as error:  # a .npy has no list of files
        raise DataError(f"{path} is no .npz of MedMNIST ({error})") from None


def _labels(path: Path, values: NDArray[np.generic], count: int) -> Ints:
    if values.shape not in ((count, 1), (count,)) or not np.issubdtype(values.dtype, np.integer):
        raise DataError(
            f"{path}: one whole number a picture is expected as its label, not {values.dtype} {values.shape}"
        )
    found: Ints = values.reshape(-1).astype(np.int64)
    if len(found) and found.min() < 0:
        raise DataError(f"{path}: a label of {found.min()}: labels are counted from 0")
    return found


def _classes(path: Path, labels: Ints) -> tuple[str, ...]:
    count = int(labels.max()) + 1 if len(labels) else 0
    known = next((classes for name, classes in CLASSES.items() if path.name.startswith(name)), ())
    return known if len(known) >= count > 0 else tuple(map(str, range(count)))
