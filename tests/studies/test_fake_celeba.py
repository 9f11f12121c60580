"""The drawn CelebA: read by the loader of the real one, and trained on within a bound."""

from pathlib import Path

import numpy as np
import pytest
from studies.fake_celeba import ATTRIBUTES, COUNT, make, part_of, train

from sfumato.core.errors import SfumatoError
from sfumato.data import open_dataset
from sfumato.data.registry import load_source


def test_the_layout_is_that_of_the_real_one(tmp_path: Path) -> None:
    make(tmp_path, 1000)
    (tmp_path / "img_align_celeba" / "001000.jpg").unlink()
    make(tmp_path, 1000)
    assert (tmp_path / "img_align_celeba" / "001000.jpg").exists(), "an interrupted command goes on"
    dataset = open_dataset(f"celeba:{tmp_path},size=32", keep=("Smiling",), hide=("Eyeglasses",))
    assert len(ATTRIBUTES) == 40
    assert set(dataset.attributes) == set(ATTRIBUTES)
    assert dataset.spec.endswith("split=official")
    drawn = load_source("synthetic,count=1000").labels
    assert (load_source(f"celeba:{tmp_path}").labels["Smiling"] == drawn["smiling"]).all()


def test_the_makers_shares_hold_at_every_count() -> None:
    whole = [part_of(row, COUNT) for row in (0, 162_769, 162_770, 182_636, 182_637, COUNT - 1)]
    assert whole == [0, 0, 1, 1, 2, 2]
    few = np.bincount([part_of(row, 2000) for row in range(2000)])
    assert few.tolist() == [1606, 196, 198]


@pytest.mark.slow
def test_more_than_the_bound_is_said(tmp_path: Path) -> None:
    make(tmp_path, 1000)
    with pytest.raises(SfumatoError, match=r"training at 32x32 took .* GB, more than 0.01"):
        train(tmp_path, 32, 0.01)
    assert (tmp_path / "run-32" / "card.json").exists()
