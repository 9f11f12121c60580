"""What every part of the product sees of a data set: pixels on disk, labels, four disjoint splits.

`images` is one memory-mapped array, `labels` one integer array per attribute. The defender trains on one
split and the attacker on another, as in an audit by somebody else; both are judged on the test split.

Usage: `data = open_dataset("synthetic", keep=["smiling"]); data.images[data.splits[Split.TEST]]`
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from sfumato.core.errors import DataError, unknown

Ints: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]


class Split(StrEnum):
    """Who may look at an image."""

    DEFENDER = "defender"
    ATTACKER = "attacker"
    VALIDATION = "validation"
    TEST = "test"


@dataclass(frozen=True, kw_only=True)
class Attribute:
    """One thing an image can be labelled with."""

    name: str
    classes: tuple[str, ...]
    """Names of the classes; label i means `classes[i]`."""
    values: tuple[float, ...] | None = None
    """Of a number: what each class stands for, the mean number of the defender's images in its bin; rising."""
    grid: tuple[int, int] | None = None
    """Of a mask: rows and columns of the cells, each of which has a class."""


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Images, labels and splits of one opened data set."""

    id: str
    """16 hex digits over pixels, names, labels and splits: equal data has an equal id, wherever it lies."""
    spec: str
    """The spec in canonical form, the split rule written out: opening it again gives the same splits."""
    images: NDArray[np.uint8]
    """(N, H, W, 3), or (N, H, W, 1) for grey; memory-mapped and read-only."""
    labels: Mapping[str, Ints]
    """(N,) class indices per attribute; zeros for a mask, which says nothing where labels are counted."""
    masks: Mapping[str, NDArray[np.uint8]] = field(default_factory=dict)
    """(N, rows, columns) class indices of the cells, of attributes that are kept as masks."""
    numbers: Mapping[str, Floats] = field(default_factory=dict)
    """(N,) the numbers themselves, of attributes that are kept as such."""
    attributes: Mapping[str, Attribute]
    splits: Mapping[Split, Ints]
    """Disjoint sorted indices into the N images."""
    skipped: tuple[str, ...] = ()
    """Files left out, each with the reason."""
    identity: str | None = None
    """Name of the attribute that tells persons apart, where there is one."""
    window: tuple[float, float] | None = None
    """The grey values of files that became 0 and 255, where a window was asked for."""
    sound: bool = False
    """The images are pictures of recordings, time from left to right: what is mirrored or turned is no recording."""
    mirrored: bool = True
    """A mirror image of a picture shows the same. Not where left and right decide, nor of recordings."""
    digest: str = ""
    """SHA-256 of which `id` is the beginning, 64 hex digits: 16 of them can be forged by who makes both data sets."""

    def __len__(self) -> int:
        return len(self.images)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of every image, in pixels."""
        return self.images.shape[1], self.images.shape[2]

    @property
    def planes(self) -> int:
        """3 for colour, 1 for grey."""
        return self.images.shape[3]

    def require(self, names: Sequence[str]) -> tuple[Attribute, ...]:
        """The attributes of these names, in this order; `DataError` listing the known ones otherwise."""
        for name in names:
            if name not in self.attributes:
                raise DataError(unknown("attribute", name, self.attributes))
        return tuple(self.attributes[name] for name in names)

    def targets(self, name: str, rows: Ints) -> Ints:
        """What a network is to say of some images: (n,) class indices, or of a mask (n, rows, columns)."""
        wanted = self.masks[name] if name in self.masks else self.labels[name]
        return wanted[rows].astype(np.int64)

    def subset(self, split: Split, names: Sequence[str] = ()) -> tuple[NDArray[np.uint8], dict[str, Ints]]:
        """Images (n, H, W, 3) and labels (n,) of one split, copied; all attributes if none is named."""
        rows = self.splits[split]
        wanted = [attribute.name for attribute in self.require(names)] or list(self.attributes)
        return self.images[rows], {name: self.labels[name][rows] for name in wanted}

    def counts(self, name: str, split: Split | None = None) -> Ints:
        """Images per class of an attribute, (classes,), in one split or everywhere; of a mask cells per class."""
        (attribute,) = self.require([name])
        labels = self.targets(name, np.arange(len(self)) if split is None else self.splits[split])
        return np.bincount(labels.ravel(), minlength=len(attribute.classes)).astype(np.int64)
