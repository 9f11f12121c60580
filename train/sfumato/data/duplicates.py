"""Groups of pictures that must not straddle splits: equal pixels, or equal 256-bit difference hashes.

The difference hash (Krawetz, 2013) shrinks a picture to 16 rows of 17 grey boxes and keeps, for every box,
whether its right neighbour is brighter: it survives recompression and a change of brightness.
"""

import hashlib

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from sfumato.data.dataset import Ints

PRINT_BYTES = 48
"""16 bytes of SHA-256 over the pixels, then 32 bytes of difference hash."""
_ROWS, _COLUMNS = 16, 17
_GREY = np.array([299.0, 587.0, 114.0])
"""Weights of red, green and blue, in thousandths."""
_LEAST_BITS = 16
"""A hash with fewer ones or fewer zeros says only that the picture is nearly flat; it joins nothing."""


def fingerprints(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Prints of a batch of pictures.

    Args:
        images: (B, H, W, 3) or (B, H, W, 1) uint8.

    Returns:
        (B, 48) uint8, equal on every platform: all sums are whole numbers that are held exactly.
    """
    height, width, planes = images.shape[1:]
    # Colours and columns in one product: what each of the width * planes values of a row adds to each of 17 boxes.
    shares = np.kron(_overlap(width, _COLUMNS), _GREY if planes == 3 else _GREY.sum(keepdims=True)).T
    prints = np.empty((len(images), PRINT_BYTES), dtype=np.uint8)
    for image, found in zip(images, prints, strict=True):
        whole = np.ascontiguousarray(image)
        boxes = _sum_rows(whole.reshape(height, -1)) @ shares  # (16, 17)
        found[:16] = np.frombuffer(hashlib.sha256(whole.data).digest()[:16], dtype=np.uint8)
        found[16:] = np.packbits(boxes[:, 1:] > boxes[:, :-1])
    return prints


def _sum_rows(values: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Rows of bytes (H, n) -> sums over 16 equal boxes of them, (16, n), up to one factor for all."""
    height = len(values)
    if height % _ROWS:
        return _overlap(height, _ROWS) @ values
    # Whole rows in every box, as at every size that a network takes: added as bytes, without a copy in floating point.
    rows = height // _ROWS
    kind = np.uint16 if rows * 255 < 2**16 else np.uint32
    sums = np.add.reduce(values.reshape(_ROWS, rows, -1), axis=1, dtype=kind)
    return np.asarray(sums, dtype=np.float64)


def duplicate_groups(prints: NDArray[np.uint8], *more: Ints, alike: bool = True) -> Ints:
    """Number the groups of pictures that belong together.

    Args:
        prints: (N, 48) from `fingerprints`.
        more: (N,) arrays whose equal values also belong together, e.g. identities.
        alike: whether equal difference hashes count. Words rise and fall alike in pictures of recordings.

    Returns:
        (N,) group numbers: two pictures have the same number if a chain of equalities joins them.
    """
    count = len(prints)
    links = [_first_equal(prints[:, :16]), *(_first_equal(values[:, None]) for values in more)]
    ones = np.unpackbits(prints[:, 16:], axis=1).sum(axis=1)
    telling = np.flatnonzero((ones >= _LEAST_BITS) & (ones <= 256 - _LEAST_BITS) & alike)
    by_hash = np.arange(count)
    by_hash[telling] = telling[_first_equal(prints[telling, 16:])]
    here = np.tile(np.arange(count), len(links) + 1)
    there = np.concatenate([*links, by_hash])
    graph = coo_matrix((np.ones(len(here), dtype=np.int8), (here, there)), shape=(count, count))
    return np.asarray(connected_components(graph, directed=False)[1], dtype=np.int64)


def _overlap(pixels: int, boxes: int) -> NDArray[np.float64]:
    """(boxes, pixels) overlap of equal boxes with pixels, in units of 1/boxes of a pixel: whole numbers."""
    box, pixel = np.arange(boxes)[:, None], np.arange(pixels)[None, :]
    overlap = np.minimum((box + 1) * pixels, (pixel + 1) * boxes) - np.maximum(box * pixels, pixel * boxes)
    return np.asarray(np.maximum(overlap, 0), dtype=np.float64)


def _first_equal(rows: NDArray[np.generic]) -> Ints:
    """For every row the index of the first row equal to it."""
    if len(rows) == 0:
        return np.zeros(0, dtype=np.int64)
    _, first, inverse = np.unique(rows, axis=0, return_index=True, return_inverse=True)
    return np.asarray(first[inverse.reshape(-1)], dtype=np.int64)
