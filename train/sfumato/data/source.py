"""What a loader hands over: names, labels and a way to read pixels; it decodes nothing itself.

A loader for a further data set is one function `Spec -> Source` in a module of its own and one line in the
registry.
"""

import hashlib
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sfumato.core.dicom_file import Window
from sfumato.core.errors import DataError
from sfumato.core.files import sha256
from sfumato.core.image_io import fit, load
from sfumato.core.sound import VERSION, load_sound
from sfumato.data.dataset import Attribute, Floats, Ints

if TYPE_CHECKING:
    from sfumato.data.masks import Masks

Pixels: TypeAlias = NDArray[np.uint8]

TRAIN, VALIDATION, TEST = 0, 1, 2
"""Codes of the makers' own partition in `Source.official`."""
UNLABELLED = -1
"""Label of a picture that has none of this attribute."""


class Pictures(Protocol):
    """N pictures that can be read in any order, at any size."""

    @property
    def names(self) -> Sequence[str]:
        """(N,) names, unique and independent of where the data lies."""

    def fingerprint(self) -> Iterator[str]:
        """Lines that name every pixel: equal lines, equal pictures, wherever they lie."""

    def take(self, rows: Ints) -> Self:
        """Only these pictures, in this order."""

    def read(self, rows: range, height: int, width: int) -> Sequence[Pixels | DataError]:
        """Decode some pictures to (height, width, 3); an unreadable one comes back as its error."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """One data set as its makers lay it out."""

    pictures: Pictures
    attributes: tuple[Attribute, ...]
    labels: Mapping[str, Ints]
    """(N,) class indices per attribute, `UNLABELLED` where there is none."""
    size: tuple[int, int] = (64, 64)
    """(height, width) if the user asks for none."""
    planes: int = 3
    """3 for colour, 1 for grey, if the user asks for neither."""
    official: Ints | None = None
    """(N,) `TRAIN`, `VALIDATION` or `TEST`, where the makers decided."""
    identity: str | None = None
    together: Ints | None = None
    """(N,) pictures with the same number stay in one split, whatever the rule; None: each may go anywhere."""
    skipped: tuple[str, ...] = ()
    """What the loader itself had to leave out, with reasons."""
    quantities: frozenset[str] = frozenset()
    """Attributes whose classes are numbers of a quantity, such as ages in years: usable with bins, or as numbers."""
    numbers: Mapping[str, Floats] = field(default_factory=dict)
    """(N,) of attributes that are kept as numbers; NaN where there is none."""
    masks: Mapping[str, "Masks"] = field(default_factory=dict)
    """Of attributes that are asked for as masks; their labels are 0, or `UNLABELLED` where a picture has no mask."""
    sound: bool = False
    """The pictures are of recordings (`sfumato.core.sound`): time runs from left to right."""

    def take(self, rows: Ints) -> "Source":
        """Only these pictures and their labels."""
        return replace(
            self,
            pictures=self.pictures.take(rows),
            labels={name: labels[rows] for name, labels in self.labels.items()},
            numbers={name: numbers[rows] for name, numbers in self.numbers.items()},
            masks={name: masks.take(rows) for name, masks in self.masks.items()},
            official=None if self.official is None else self.official[rows],
            together=None if self.together is None else self.together[rows],
        )


@dataclass(frozen=True, kw_only=True)
class FilePictures:
    """Picture files under one folder."""

    root: Path
    names: Sequence[str]
    window: Window | None = None
    """Of grey values beyond 8 bits, as `read_rgb` takes it."""

    def fingerprint(self) -> Iterator[str]:
        """Name and content of every file; a missing one counts too. Sizes and times may agree where contents differ."""
        root = str(self.root)
        if self.window is not None:
            yield f"window {self.window}"
        for name in self.names:
            yield f"{content(os.path.join(root, name))} {name}"

    def take(self, rows: Ints) -> Self:
        """Only these files."""
        return replace(self, names=[self.names[row] for row in rows])

    def load(self, path: Path, height: int, width: int) -> Pixels:
        """One of them, decoded to (height, width, 3)."""
        return load(path, height, width, window=self.window)

    def read(self, rows: range, height: int, width: int) -> Sequence[Pixels | DataError]:
        """Decode in threads: Pillow releases the interpreter lock while it decodes."""

        def one(row: int) -> Pixels | DataError:
            try:
                return self.load(self.root / self.names[row], height, width)
            except DataError as error:
                return error

        with ThreadPoolExecutor() as pool:
            return list(pool.map(one, rows))


@dataclass(frozen=True, kw_only=True)
class SoundFiles(FilePictures):
    """Recordings under one folder, as pictures of their sound."""

    def fingerprint(self) -> Iterator[str]:
        """What `FilePictures` says of the files, after the version of the pictures that are computed from them."""
        yield f"sound {VERSION}"
        yield from super().fingerprint()

    def load(self, path: Path, height: int, width: int) -> Pixels:
        """One of them, (height, width, 3)."""
        return load_sound(path, height, width)


@dataclass(frozen=True, kw_only=True)
class ArrayPictures:
    """Pictures that come as one array inside a file."""

    pixels: Pixels
    """(N, h, w, 3), or (N, h, w) for grey."""
    names: Sequence[str]
    border: int = 0
    """Rows and columns of black to add on every side before resizing."""

    def fingerprint(self) -> Iterator[str]:
        """Every pixel and every name."""
        digest = hashlib.sha256(np.ascontiguousarray(self.pixels).data).hexdigest()
        yield f"{self.pixels.shape} {self.border} {digest}"
        yield from self.names

    def take(self, rows: Ints) -> "ArrayPictures":
        """Only these rows."""
        return replace(self, pixels=self.pixels[rows], names=[self.names[row] for row in rows])

    def read(self, rows: range, height: int, width: int) -> Sequence[Pixels | DataError]:
        """Resize some rows; arrays have no unreadable pictures."""
        out: list[Pixels | DataError] = []
        for row in rows:
            picture = self.pixels[row]
            if picture.ndim == 2:
                picture = np.repeat(picture[:, :, None], 3, axis=2)
            if self.border:
                picture = np.pad(picture, ((self.border,) * 2, (self.border,) * 2, (0, 0)))
            out.append(fit(picture, height, width))
        return out


def folder_of(path: Path | None, kind: str, expected: str) -> Path:
    """The data set's folder, or a `DataError` that says what is expected there."""
    if path is None:
        raise DataError(f"{kind} needs a folder: write {kind}:PATH ({expected})")
    if not path.is_dir():
        raise DataError(f"{path} is not a folder: {kind}:PATH expects {expected}")
    return path


def content(path: str | Path) -> str:
    """Hex SHA-256 of a file, or "missing" for what is no readable file; one that has not changed is read once a process."""
    try:
        found = os.stat(path)
        if not stat.S_ISREG(found.st_mode):
            return "missing"  # a pipe would block whoever opens it
        state = found.st_dev, found.st_ino, found.st_mtime_ns, found.st_ctime_ns
        return _hashed(str(path), found.st_size, *state)
    except (OSError, ValueError):
        return "missing"


@lru_cache(maxsize=2**18)
def _hashed(path: str, size: int, *_state: int) -> str:
    if size > _AT_ONCE:
        return sha256(Path(path))
    with open(
        path, "rb", buffering=0
    ) as stream:  # a data set has many small files, and this takes a third of the time
        return hashlib.sha256(stream.read()).hexdigest()


_AT_ONCE = 2**20
