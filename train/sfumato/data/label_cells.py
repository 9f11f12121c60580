"""One number for every combination of several labels: the cells of their joint table.

>>> import numpy as np
>>> label_cells([np.array([0, 1, 1]), np.array([2, 0, 2])], [2, 3])
array([2, 3, 5])
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from torch import Tensor

    from sfumato.data.dataset import Ints

Labels = TypeVar("Labels", "Ints", "Tensor")


def label_cells(labels: Sequence[Labels], classes: Sequence[int]) -> Labels:
    """Mixed-radix number of every combination, 0 .. product of `classes` - 1; the last label counts fastest.

    Args:
        labels: one or more of (N,) int64, as arrays or as tensors; label k is 0 .. classes[k] - 1.
        classes: how many classes each label has.

    Returns:
        (N,) int64, of the same kind.

    Raises:
        ValueError: there is no label, or there are not as many counts as labels.
    """
    if not labels:
        raise ValueError("cells need at least one label")
    cells: Any = labels[0] * 0
    for values, count in zip(labels, classes, strict=True):
        cells = cells * count + values
    return cells  # type: ignore[no-any-return]
