"""Cells of a joint table: one number a combination, for arrays and tensors alike."""

from itertools import product

import numpy as np
import pytest
import torch

from sfumato.data.label_cells import label_cells


@pytest.mark.parametrize("classes", [(2,), (2, 3), (3, 2, 4)])
def test_every_combination_has_a_number_of_its_own(classes: tuple[int, ...]) -> None:
    """In order, as `numpy.ravel_multi_index` counts."""
    labels = list(np.array(list(product(*map(range, classes))), dtype=np.int64).T)
    cells = label_cells(labels, classes)
    assert cells.tolist() == list(range(int(np.prod(classes))))
    assert np.array_equal(cells, np.ravel_multi_index(labels, classes))
    tensors = label_cells([torch.from_numpy(values.copy()) for values in labels], classes)
    assert tensors.dtype == torch.int64
    assert tensors.tolist() == cells.tolist()


def test_labels_are_left_alone() -> None:
    labels = np.array([1, 0])
    label_cells([labels], [2])[0] = 7
    assert labels.tolist() == [1, 0]


def test_labels_and_counts_belong_together() -> None:
    with pytest.raises(ValueError, match="at least one label"):
        label_cells([], [])
    with pytest.raises(ValueError, match="zip"):
        label_cells([np.array([0])], [2, 3])
