"""Splits: disjoint, deterministic, stratified, by person, duplicates together, the makers' partition kept."""

import numpy as np
import pytest
from numpy.typing import NDArray

from sfumato.core.errors import DataError
from sfumato.data.dataset import Split
from sfumato.data.duplicates import duplicate_groups, fingerprints
from sfumato.data.source import TEST, TRAIN, VALIDATION
from sfumato.data.splits import FRACTIONS, LEFT_OUT, choose, make_splits, stratified_order, without_copies

Labels = NDArray[np.int64]


def two_labels(count: int = 3000) -> tuple[Labels, Labels]:
    generator = np.random.default_rng(3)
    common = generator.integers(0, 2, count)
    rare = generator.choice(5, count, p=[0.6, 0.3, 0.09, 0.009, 0.001])
    return common, rare


def test_splits_are_disjoint_complete_deterministic_and_depend_on_the_seed() -> None:
    common, rare = two_labels()
    singles = np.arange(3000)
    splits = make_splits(singles, stratified_order([common, rare], 3000, 0), None)
    assert sorted(np.concatenate(list(splits.values())).tolist()) == list(range(3000))
    assert all((np.diff(rows) > 0).all() for rows in splits.values())
    again = make_splits(singles, stratified_order([common, rare], 3000, 0), None)
    other = make_splits(singles, stratified_order([common, rare], 3000, 1), None)
    assert all((splits[split] == again[split]).all() for split in Split)
    assert not np.array_equal(splits[Split.TEST], other[Split.TEST])


def test_every_combination_of_labels_gets_its_share() -> None:
    common, rare = two_labels()
    splits = make_splits(np.arange(3000), stratified_order([common, rare], 3000, 0), None)
    for a in range(2):
        for b in range(5):
            cell = (common == a) & (rare == b)
            for split, rows in splits.items():
                assert abs(cell[rows].sum() - FRACTIONS[split] * cell.sum()) <= 2, (a, b, split)


def test_groups_stay_together_and_shares_still_hold() -> None:
    persons = np.random.default_rng(0).integers(0, 120, 4000)
    splits = make_splits(persons, stratified_order([], 4000, 0), None)
    seen = [set(persons[rows].tolist()) for rows in splits.values()]
    assert sum(map(len, seen)) == len(set.union(*seen)) == 120
    for split, rows in splits.items():
        assert len(rows) / 4000 == pytest.approx(FRACTIONS[split], abs=0.015)


def test_the_makers_partition_is_kept_and_the_rest_is_cut_from_training() -> None:
    official = np.repeat([TRAIN, VALIDATION, TEST], [700, 100, 200])
    splits = make_splits(np.arange(1000), stratified_order([], 1000, 0), official)
    assert splits[Split.VALIDATION].tolist() == list(range(700, 800))
    assert splits[Split.TEST].tolist() == list(range(800, 1000))
    assert (len(splits[Split.DEFENDER]), len(splits[Split.ATTACKER])) == (450, 250)
    no_validation = make_splits(
        np.arange(1000), stratified_order([], 1000, 0), np.repeat([TRAIN, TEST], [800, 200])
    )
    assert [len(no_validation[split]) for split in Split] == [450, 250, 100, 200]
    few = make_splits(np.arange(1000), stratified_order([], 1000, 0), official, 0.1)
    assert [len(few[split]) for split in Split] == [630, 70, 100, 200]
    assert [len(rows) for rows in make_splits(np.arange(1000), np.arange(1000), None, 0.1).values()] == [
        630,
        70,
        100,
        200,
    ]
    with pytest.raises(DataError, match="no training images"):
        make_splits(np.arange(10), stratified_order([], 10, 0), np.full(10, TEST))


def test_copies_of_the_makers_test_pictures_are_left_out_of_training() -> None:
    duplicates = np.array([0, 1, 2, 0, 1, 3, 3])
    official = np.array([TRAIN, VALIDATION, TRAIN, TEST, TEST, TRAIN, TRAIN])
    kept = without_copies(official, duplicates)
    assert kept.tolist() == [LEFT_OUT, LEFT_OUT, TRAIN, TEST, TEST, TRAIN, TRAIN]
    splits = make_splits(duplicates, np.arange(7), kept)
    assert sorted(np.concatenate(list(splits.values())).tolist()) == [2, 3, 4, 5, 6]


def test_a_limit_keeps_the_proportions() -> None:
    common, rare = two_labels()
    chosen = choose(stratified_order([common, rare], 3000, 0), 300)
    assert len(set(chosen.tolist())) == 300
    np.testing.assert_allclose(np.bincount(rare[chosen], minlength=5), np.bincount(rare) / 10, atol=1.1)
    assert choose(np.array([2, 0, 1]), 9).tolist() == [0, 1, 2]


def slow_hash(image: NDArray[np.uint8]) -> list[bool]:
    """Difference hash of a picture enlarged so that every box is a whole number of pixels."""
    large = np.repeat(np.repeat(image.astype(np.int64), 16, axis=0), 17, axis=1) @ np.array([299, 587, 114])
    h, w = image.shape[:2]
    boxes = [[large[r * h : (r + 1) * h, c * w : (c + 1) * w].sum() for c in range(17)] for r in range(16)]
    return [boxes[r][c + 1] > boxes[r][c] for r in range(16) for c in range(16)]


@pytest.mark.parametrize("shape", [(64, 64), (32, 48), (19, 23), (8, 8), (48, 31), (96, 224)])
def test_the_hash_against_whole_boxes(shape: tuple[int, int]) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, *shape, 3), dtype=np.uint8)
    for image, marks in zip(images, fingerprints(images), strict=True):
        assert np.unpackbits(marks[16:]).astype(bool).tolist() == slow_hash(image)


def test_the_hash_of_a_tall_bright_picture() -> None:
    """Boxes of 258 rows of white sum to more than 16 bits hold."""
    image = np.full((258 * 16, 34, 3), 255, dtype=np.uint8)
    image[:, ::2] = 254
    image[:258, ::4] = 100
    (marks,) = fingerprints(image[None])
    assert np.unpackbits(marks[16:]).astype(bool).tolist() == slow_hash(image)


def test_prints_of_pictures_that_do_not_lie_in_one_piece() -> None:
    images = np.random.default_rng(0).integers(0, 256, (4, 32, 48, 3), dtype=np.uint8)
    assert (fingerprints(images[::2, :, ::-1]) == fingerprints(images[::2, :, ::-1].copy())).all()


def test_duplicates_are_found_and_flat_pictures_are_not() -> None:
    images = np.random.default_rng(0).integers(0, 200, (8, 32, 32, 3), dtype=np.uint8)
    images[3] = images[1]  # the same pixels
    images[5] = images[1] + 20  # brighter: the same hash
    images[6], images[7] = 10, 200  # flat: the same empty hash, which says nothing
    groups = duplicate_groups(fingerprints(images))
    assert groups[1] == groups[3] == groups[5]
    assert len(set(groups.tolist())) == 6
    joined = duplicate_groups(fingerprints(images), np.array([0, 1, 2, 3, 4, 4, 5, 6]))
    assert joined[4] == joined[5] == joined[1]  # a chain: one person, then one picture
    assert len(set(joined.tolist())) == 5
