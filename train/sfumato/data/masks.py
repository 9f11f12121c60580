"""Masks: the class of every cell of a coarse grid over a picture, kept as `--keep lesion:mask`.

A data set that has masks names them when they are asked for. They are read into the cache beside the pictures, at the grid's
size: cells of 4 x 4 pixels, or of the side that is asked for (`lesion:mask8`). A picture is cropped and resized before a
network sees it, and its mask is cropped alike.

>>> from sfumato.data.spec import Spec
>>> asked_masks(Spec.parse("folder:own,mask=lesion:8", extra=("mask",)))
{'lesion': 8}
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from sfumato.core.errors import DataError
from sfumato.core.image_io import centre_crop
from sfumato.core.mask_file import check_shape, read_mask, to_cells, to_classes
from sfumato.core.options import MOST_CELLS
from sfumato.data.cache import decode
from sfumato.data.dataset import Ints
from sfumato.data.source import Pictures, Pixels, content
from sfumato.data.spec import Spec

MASK = "mask"
"""Option of every kind: an attribute that is kept as a mask, and the side of its cells in pixels."""
CELLS = (2, 4, 8, 16)
"""Sides that a cell may have: they divide every size that a network takes."""
CLASSES = ("no", "yes")
"""Of a mask whose classes nobody names."""
MOST = 64
"""Classes of a mask, at most."""


class Masks(Pictures, Protocol):
    """Masks of N pictures, read as if they were pictures: every plane of a cell holds its class number."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes; value i means `classes[i]`."""


def asked_masks(spec: Spec) -> dict[str, int]:
    """Attribute -> side of its cells in pixels, of those that a spec asks for as masks.

    Raises:
        DataError: a side that no cell has.
    """
    found = {}
    for option, value in spec.extra:
        if option == MASK:
            name, _, side = value.partition(":")
            if side not in map(str, CELLS):
                raise DataError(
                    f"{name}:mask{side}: a cell is {', '.join(map(str, CELLS[:-1]))} or {CELLS[-1]} pixels wide"
                )
            found[name] = int(side)
    return found


def read_cells(
    masks: Masks, size: tuple[int, int], side: int, name: str
) -> tuple[NDArray[np.uint8], tuple[int, int]]:
    """Class numbers (N, rows, columns) of the masks of N pictures, and the grid (rows, columns).

    Args:
        masks: of the pictures, in order.
        size: (height, width) of the pictures as networks see them.
        side: of a cell, in pixels.
        name: of the attribute.

    Raises:
        DataError: a mask that cannot be read, or cells that do not fill the picture.
    """
    if size[0] % side or size[1] % side:
        raise DataError(
            f"{name}:mask{side}: cells of {side} pixels do not fill {size[0]} x {size[1]}; choose another size"
        )
    grid = size[0] // side, size[1] // side
    if grid[0] * grid[1] > MOST_CELLS:
        raise DataError(
            f"{name}:mask{side}: {grid[0]} x {grid[1]} cells are more than {MOST_CELLS:,}; ask for larger ones"
        )
    found = decode(masks, *grid, what="masks", planes=1)
    if found.skipped:
        raise DataError(found.skipped[0])
    return np.array(found.images[..., 0]), grid


@dataclass(frozen=True, kw_only=True)
class FileMasks:
    """Mask files beside picture files, under one folder."""

    root: Path
    names: Sequence[str]
    """(N,) of the masks."""
    pictures: Sequence[str]
    """(N,) of the pictures that they belong to."""
    classes: tuple[str, ...] = CLASSES

    def fingerprint(self) -> Iterator[str]:
        """Classes, and name and content of every mask; a picture's shape decides what of its mask is seen."""
        yield f"masks {len(self.classes)}"
        for name, picture in zip(self.names, self.pictures, strict=True):
            yield f"{content(self.root / name)} {name} {picture}"

    def take(self, rows: Ints) -> Self:
        """Only these masks."""
        return replace(
            self,
            names=[self.names[row] for row in rows],
            pictures=[self.pictures[row] for row in rows],
        )

    def read(self, rows: range, height: int, width: int) -> Sequence[Pixels | DataError]:
        """Class numbers (height, width, 3) of cells, or for each mask that cannot be read the reason."""

        def one(row: int) -> Pixels | DataError:
            path = self.root / self.names[row]
            try:
                mask = to_classes(read_mask(path), len(self.classes), path)
                check_shape(mask, self.root / self.pictures[row])
            except DataError as error:
                return error
            top, left, tall, wide = centre_crop(mask.shape[0], mask.shape[1], height, width)
            cells = to_cells(mask[top : top + tall, left : left + wide], (height, width), len(self.classes))
            return np.repeat(cells[..., None], 3, axis=2)

        with ThreadPoolExecutor() as pool:
            return list(pool.map(one, rows))
