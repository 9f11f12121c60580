"""A mask as a service answers with it: runs of equal cells, row by row (docs/contract.md, "Masks").

>>> to_runs(np.array([[0, 0, 1], [1, 1, 0]]))
[0, 2, 1, 3, 0, 1]
>>> from_runs([0, 2, 1, 3, 0, 1], (2, 3), classes=2).tolist()
[[0, 0, 1], [1, 1, 0]]
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def to_runs(cells: NDArray[np.integer[Any]]) -> list[int]:
    """Class numbers (rows, columns) -> class, number of cells, class, number of cells, and so on."""
    flat = cells.ravel()
    starts = np.concatenate([[0], np.flatnonzero(np.diff(flat)) + 1])
    counts = np.diff(np.append(starts, len(flat)))
    runs: list[int] = np.stack([flat[starts], counts], axis=1).ravel().tolist()
    return runs


def from_runs(runs: Sequence[int], grid: tuple[int, int], *, classes: int) -> NDArray[np.int64]:
    """The inverse of `to_runs`: class numbers (rows, columns).

    Raises:
        ValueError: a class that is none of so many, a run of no cells, or another number of cells than the grid has.
    """
    if len(runs) % 2 or not all(isinstance(one, int) and not isinstance(one, bool) for one in runs):
        raise ValueError("a mask is a list of classes and numbers of cells")
    named, counts = runs[::2], runs[1::2]
    if any(not 0 <= one < classes for one in named) or any(one < 1 for one in counts):
        raise ValueError(f"a mask of {classes} classes has runs of at least one cell")
    if sum(counts) != grid[0] * grid[1]:
        raise ValueError(f"a mask of {grid[0]} x {grid[1]} cells has not {sum(counts)}")
    return np.repeat(np.array(named, dtype=np.int64), counts).reshape(grid)
