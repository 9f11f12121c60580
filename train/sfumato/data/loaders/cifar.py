"""CIFAR-10 and CIFAR-100 (Krizhevsky, 2009): the makers' binary version, and one .npz form.

The version "for Python" is a pickle: reading one runs whatever code it holds, so it is never opened. The
binary version holds the same pictures: per record one label byte (CIFAR-100: a coarse and a fine one) and 3 x
32 x 32 bytes. The .npz holds `x_train`, `y_train`, `x_test`, `y_test`, `classes` and `animal_of_class`. The
makers' test files are the test split; the training files are divided among the others.

Usage: `sfumato data inspect cifar10:cifar-10-batches-bin --keep label`
"""

import zipfile
from pathlib import Path

import numpy as np

from sfumato.core.errors import DataError
from sfumato.data.dataset import Attribute, Ints
from sfumato.data.source import TEST, TRAIN, ArrayPictures, Pixels, Source, folder_of
from sfumato.data.spec import Spec

_SIDE = 32
_ANIMALS = ("bird", "cat", "deer", "dog", "frog", "horse")
_PICKLES = ("data_batch_1", "train", "test_batch", "cifar-10-batches-py", "cifar-100-python")
_NPZ_KEYS = ("x_train", "y_train", "x_test", "y_test", "classes", "animal_of_class")


def load_cifar10(spec: Spec) -> Source:
    """`label` (10 classes) and `animal` (vehicle, animal)."""
    expected = "data_batch_1.bin ... test_batch.bin and batches.meta.txt, or one .npz file"
    folder = folder_of(spec.path, "cifar10", expected)
    folder = _inner(folder, "cifar-10-batches-bin")
    archives = sorted(folder.glob("*.npz"))
    if archives and not (folder / "test_batch.bin").exists():
        return _from_npz(archives)
    trains = sorted(folder.glob("data_batch_*.bin"))
    files = [*trains, folder / "test_batch.bin"]
    meta = folder / "batches.meta.txt"
    _demand(folder, [folder / "data_batch_1.bin", *files, meta], "cifar-10-binary.tar.gz")
    classes = _names(meta, 10)
    pixels, labels, official = _records(files, label_bytes=1)
    label = labels[:, 0]
    animal = np.array([int(name in _ANIMALS) for name in classes], dtype=np.int64)
    return _source(pixels, official, files, {"label": (classes, label), "animal": _animal(animal, label)})


def load_cifar100(spec: Spec) -> Source:
    """`fine` (100 classes) and `coarse` (20 classes)."""
    expected = "train.bin, test.bin, fine_label_names.txt and coarse_label_names.txt"
    folder = folder_of(spec.path, "cifar100", expected)
    folder = _inner(folder, "cifar-100-binary")
    files = [folder / "train.bin", folder / "test.bin"]
    texts = [folder / "fine_label_names.txt", folder / "coarse_label_names.txt"]
    _demand(folder, [*files, *texts], "cifar-100-binary.tar.gz")
    fine, coarse = _names(texts[0], 100), _names(texts[1], 20)
    pixels, labels, official = _records(files, label_bytes=2)
    return _source(pixels, official, files, {"coarse": (coarse, labels[:, 0]), "fine": (fine, labels[:, 1])})


def _source(
    pixels: Pixels, official: Ints, files: list[Path], labels: dict[str, tuple[tuple[str, ...], Ints]]
) -> Source:
    for name, (classes, values) in labels.items():
        if len(values) and not 0 <= values.min() <= values.max() < len(classes):
            raise DataError(f"{files[0]}: a {name} of {values.max()} is beyond its {len(classes)} classes")
    names = [f"{'test' if part == TEST else 'train'}_{row:05d}" for row, part in enumerate(official.tolist())]
    return Source(
        pictures=ArrayPictures(pixels=pixels, names=names),
        attributes=tuple(Attribute(name=name, classes=classes) for name, (classes, _) in labels.items()),
        labels={name: values for name, (_, values) in labels.items()},
        size=(_SIDE, _SIDE),
        official=official,
    )


def _animal(animal_of_class: Ints, labels: Ints) -> tuple[tuple[str, ...], Ints]:
    return ("vehicle", "animal"), animal_of_class[np.clip(labels, 0, len(animal_of_class) - 1)]


def _from_npz(archives: list[Path]) -> Source:
    if len(archives) > 1:
        raise DataError(f"{archives[0].parent} holds {len(archives)} .npz files: leave one")
    try:
        with np.load(archives[0], allow_pickle=False) as archive:
            missing = [key for key in _NPZ_KEYS if key not in archive.files]
            if missing:
                raise DataError(f"{archives[0]} lacks {', '.join(missing)}: expected {', '.join(_NPZ_KEYS)}")
            x_train, y_train, x_test, y_test, classes, animal = (archive[key] for key in _NPZ_KEYS)
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise DataError(f"{archives[0]} cannot be read ({error})") from None
    shapes_fit = all(x.shape == (len(y), _SIDE, _SIDE, 3) for x, y in ((x_train, y_train), (x_test, y_test)))
    if not shapes_fit or x_train.dtype != np.uint8 or x_test.dtype != np.uint8 or len(animal) != len(classes):
        raise DataError(f"{archives[0]}: expected uint8 images (N, 32, 32, 3) with as many labels")
    labels = np.concatenate([y_train, y_test]).astype(np.int64)
    official = np.repeat([TRAIN, TEST], [len(y_train), len(y_test)]).astype(np.int64)
    named = tuple(str(name) for name in classes)
    animals = _animal(np.asarray(animal, dtype=np.int64), labels)
    pixels = np.concatenate([x_train, x_test])
    return _source(pixels, official, archives, {"label": (named, labels), "animal": animals})


def _records(files: list[Path], *, label_bytes: int) -> tuple[Pixels, Ints, Ints]:
    """Pixels (N, 32, 32, 3), labels (N, label_bytes), the makers' partition (N,); the last file is test."""
    length = label_bytes + 3 * _SIDE * _SIDE
    parts: list[Pixels] = []
    for path in files:
        raw = np.fromfile(path, dtype=np.uint8)
        if len(raw) == 0 or len(raw) % length:
            raise DataError(f"{path} is damaged: {len(raw)} bytes are not whole records of {length}")
        parts.append(raw.reshape(-1, length))
    table = np.concatenate(parts)
    planes = table[:, label_bytes:].reshape(-1, 3, _SIDE, _SIDE)
    codes = [*[TRAIN] * (len(files) - 1), TEST]
    official = np.repeat(codes, [len(part) for part in parts]).astype(np.int64)
    pixels = np.ascontiguousarray(planes.transpose(0, 2, 3, 1))
    return pixels, table[:, :label_bytes].astype(np.int64), official


def _names(path: Path, count: int) -> tuple[str, ...]:
    names = tuple(line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip())
    if len(names) != count:
        raise DataError(f"{path} has {len(names)} names, expected {count}")
    return names


def _inner(folder: Path, name: str) -> Path:
    """The folder the archive unpacks to, if the user named the one above."""
    return folder / name if (folder / name).is_dir() else folder


def _demand(folder: Path, files: list[Path], archive: str) -> None:
    missing = [path.name for path in files if not path.is_file()]
    if not missing:
        return
    pickled = [name for name in _PICKLES if (folder / name).exists()]
    if pickled:
        raise DataError(
            f"{folder} holds the version for Python ({pickled[0]}), a pickle, which can run code when it is "
            f"read: fetch {archive}, the binary version, instead"
        )
    raise DataError(f"{folder} lacks {', '.join(missing[:3])}: unpack {archive} there")
