"""Masks in files: one small whole number for every pixel, and which class covers most of each cell of a coarse grid.

classes = read_mask(Path("masks/0001.png"))                # (H, W), as the file has them
cells = to_cells(classes, (16, 16), 2)     # (16, 16), of two classes
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sfumato.core.errors import DataError
from sfumato.core.picture_file import MAX_PIXELS, PictureError, check_size, inspect

Bytes = NDArray[np.uint8]

FORMATS = ("PNG", "BMP", "GIF", "TIFF", "PPM")
"""Kinds of files that keep every value as it was written."""
CERTAIN = 255
"""What programs that draw masks write for the second of two classes."""
_UNEQUAL = 0.02
"""By how much the shapes of a mask and its picture may differ: sides of smaller masks are rounded."""


def read_mask(path: Path, *, max_pixels: int = MAX_PIXELS) -> Bytes:
    """The values of a mask's pixels, (H, W): grey values, or the numbers of a palette's colours.

    Raises:
        DataError: no such file, a kind that changes values, colours that are not grey, values beyond 255, or damage.
    """
    try:
        with Image.open(path, formats=FORMATS) as image:
            check_size(image.height, image.width, max_pixels)
            values = np.array(image)
    except FileNotFoundError:
        raise DataError(f"{path}: no such mask") from None
    except PictureError as error:
        raise DataError(f"{path}: {error}") from None
    except Exception:  # Pillow's decoders raise nearly every type there is on damaged files
        raise DataError(
            f"{path}: no mask that can be read; masks are {', '.join(FORMATS)}, which keep every value"
        ) from None
    if values.ndim == 3:
        if values.shape[2] < 3 or (values[:, :, :3] != values[:, :, :1]).any():
            raise DataError(f"{path}: a mask has one number a pixel, grey or of a palette, and no colours")
        values = values[:, :, 0]
    if values.min() < 0 or values.max() > 255:
        raise DataError(f"{path}: a mask has values of 0 to 255, not {values.min()} to {values.max()}")
    return values.astype(np.uint8)


def to_classes(values: Bytes, classes: int, path: Path) -> Bytes:
    """Values of a file -> class numbers: value i is class i; of two classes 255 is the second, too.

    Raises:
        DataError: another value.
    """
    if classes == 2:
        values = np.where(values == CERTAIN, 1, values).astype(np.uint8)
    if values.max() >= classes:
        raise DataError(
            f"{path}: value {values.max()} is none of the {classes} classes of the mask; classes.json names them, "
            "value 0 first"
        )
    return values


def check_shape(mask: Bytes, picture: Path) -> None:
    """Refuse a mask that is not of its picture's shape, as the picture is shown; it may have fewer pixels.

    Raises:
        DataError: the shapes differ. A picture that cannot be read is somebody else's complaint.
    """
    try:
        file = inspect(picture.read_bytes())
    except (OSError, PictureError):
        return
    height, width = (file.width, file.height) if file.orientation >= 5 else (file.height, file.width)
    if height and abs(mask.shape[0] * width / (mask.shape[1] * height) - 1) > _UNEQUAL:
        raise DataError(
            f"{picture}: its mask has {mask.shape[1]} x {mask.shape[0]} pixels, which is no smaller form of {width} x {height}"
        )


def to_cells(mask: Bytes, grid: tuple[int, int], classes: int) -> Bytes:
    """The class that covers most of every cell, (rows, columns); of equal ones the first.

    Args:
        mask: class numbers (H, W).
        grid: rows and columns of cells over the whole mask.
        classes: how many there are.

    >>> to_cells(np.array([[0, 0, 1, 1], [0, 1, 1, 1]], np.uint8), (1, 2), 2).tolist()
    [[0, 1]]
    """
    down, across = cell_shares(mask.shape[0], grid[0]), cell_shares(mask.shape[1], grid[1])
    shares = np.stack([down @ (mask == one) @ across.T for one in range(classes)])
    # Rounded: of classes that cover a half each, the first counts on every machine.
    found: Bytes = shares.round(9).argmax(0).astype(np.uint8)
    return found


def cell_shares(length: int, cells: int) -> NDArray[np.float64]:
    """What each of `length` pixels adds to each of `cells` equal cells, (cells, length); rows sum to 1."""
    edges = np.arange(cells + 1) * length / cells
    pixel = np.arange(length)
    inside = np.minimum(edges[1:, None], pixel + 1) - np.maximum(edges[:-1, None], pixel)
    shares: NDArray[np.float64] = np.maximum(inside, 0) * cells / length
    return shares
