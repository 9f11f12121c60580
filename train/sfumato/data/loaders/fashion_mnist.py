"""Fashion-MNIST (Xiao, Rasul, Vollgraf, 2017): 28x28 grey pictures in the idx format, gzipped or not.

At the default size of 32 two rows and columns of black, the pictures' own background, are added on every side
instead of resizing, which keeps every published pixel; other sizes resize that 32x32 picture. Grey is
repeated to three channels. The makers' test files are the test split.

Usage: `sfumato data inspect fashion-mnist:fashion_mnist --keep label --hide coarse`
"""

import gzip
import zlib
from pathlib import Path

import numpy as np

from sfumato.core.errors import DataError
from sfumato.data.dataset import Attribute, Ints
from sfumato.data.source import TEST, TRAIN, ArrayPictures, Pixels, Source, folder_of
from sfumato.data.spec import Spec

LABEL = Attribute(
    name="label",
    classes=(
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    ),
)
COARSE = Attribute(name="coarse", classes=("upper body", "legs", "footwear", "bag"))
_COARSE_OF = np.array([0, 1, 0, 0, 0, 2, 0, 2, 3, 2], dtype=np.int64)
_PARTS = (("train", TRAIN), ("t10k", TEST))


def load_fashion(spec: Spec) -> Source:
    """`label` (10 classes) and `coarse` (4 classes)."""
    expected = "train-images-idx3-ubyte.gz, train-labels-idx1-ubyte.gz and the two of t10k"
    folder = folder_of(spec.path, "fashion-mnist", expected)
    pixels: list[Pixels] = []
    labels: list[Ints] = []
    official: list[Ints] = []
    for part, code in _PARTS:
        images_at, labels_at = (
            _find(folder, f"{part}-images-idx3-ubyte"),
            _find(folder, f"{part}-labels-idx1-ubyte"),
        )
        images, values = read_idx(images_at), read_idx(labels_at).astype(np.int64)
        if images.ndim != 3 or images.shape[1:] != (28, 28) or values.shape != (len(images),):
            raise DataError(
                f"{images_at.name} and {labels_at.name} do not fit: {images.shape} and {values.shape}"
            )
        if len(values) and values.max() >= len(LABEL.classes):
            raise DataError(f"{labels_at} has label {values.max()}, beyond its {len(LABEL.classes)} classes")
        pixels.append(images)
        labels.append(values)
        official.append(np.full(len(values), code, dtype=np.int64))
    joined = np.concatenate(labels)
    names = [
        f"{part}_{row:05d}"
        for (part, _), values in zip(_PARTS, labels, strict=True)
        for row in range(len(values))
    ]
    return Source(
        pictures=ArrayPictures(pixels=np.concatenate(pixels), names=names, border=2),
        attributes=(LABEL, COARSE),
        labels={"label": joined, "coarse": _COARSE_OF[joined]},
        size=(32, 32),
        official=np.concatenate(official),
    )


def read_idx(path: Path) -> Pixels:
    """Read an idx file of bytes: two zeros, type 8, the number of axes, their lengths as big-endian u32."""
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read ({error})") from None
    if len(raw) < 4 or raw[:3] != b"\0\0\x08":
        raise DataError(f"{path} is not an idx file of bytes")
    axes = raw[3]
    shape = tuple(int(n) for n in np.frombuffer(raw[4 : 4 + 4 * axes], dtype=">u4"))
    if len(shape) != axes or len(raw) != 4 + 4 * axes + int(np.prod(shape)):
        raise DataError(f"{path} is damaged: {len(raw)} bytes do not hold the shape {shape}")
    return np.frombuffer(raw, dtype=np.uint8, offset=4 + 4 * axes).reshape(shape)


def _find(folder: Path, name: str) -> Path:
    for candidate in (folder / f"{name}.gz", folder / name):
        if candidate.is_file():
            return candidate
    raise DataError(f"{folder} lacks {name}.gz: fashion-mnist:PATH expects the four files as published")
