"""The drawn faces: deterministic, distributed as told, and every factor visible but not in a single pixel."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from sfumato.core.errors import DataError
from sfumato.data import Split, open_dataset
from sfumato.data.label_dependence import conditional_entropy, label_only_floor
from sfumato.data.loaders.drawn_faces import draw, identity_table
from sfumato.data.loaders.synthetic import (
    FACTORS,
    Drawn,
    joint_distribution,
    load_synthetic,
    spec_distribution,
)
from sfumato.data.registry import parse_spec
from sfumato.data.source import Source


def source(spec: str) -> Source:
    return load_synthetic(parse_spec(spec))


def drawn(spec: str, rows: range, height: int = 64, width: int = 64) -> NDArray[np.uint8]:
    return np.stack(
        [
            picture
            for picture in source(spec).pictures.read(rows, height, width)
            if isinstance(picture, np.ndarray)
        ]
    )


@pytest.fixture(scope="module")
def faces() -> tuple[NDArray[np.uint8], dict[str, NDArray[np.int64]]]:
    told = source("synthetic,count=1200")
    return drawn("synthetic,count=1200", range(1200), 32, 32), dict(told.labels)


def test_the_pixels_of_a_seed_never_change() -> None:
    """A change of the drawing changes published figures: it must be meant, and raise `cache.VERSION`."""
    digest = hashlib.sha256(drawn("synthetic,count=64", range(64)).tobytes()).hexdigest()
    assert digest[:16] == "d0bf528ece11881f"


def test_an_image_depends_on_the_seed_and_its_number_alone() -> None:
    together = drawn("synthetic,count=300,seed=5", range(100))
    np.testing.assert_array_equal(drawn("synthetic,count=100,seed=5", range(100)), together)
    for row in (0, 33, 63, 99):
        np.testing.assert_array_equal(
            drawn("synthetic,count=300,seed=5", range(row, row + 1))[0], together[row]
        )
    assert (drawn("synthetic,count=100,seed=6", range(1)) != together[0]).any()
    small = drawn("synthetic,count=300,seed=5", range(60), 16, 24)
    assert small.shape == (60, 16, 24, 3)
    np.testing.assert_array_equal(drawn("synthetic,count=300,seed=5", range(41, 42), 16, 24)[0], small[41])


def test_labels_follow_the_distribution_that_was_asked_for() -> None:
    spec = "synthetic,count=60000,couple=smiling:glasses:0.4,couple=hair:skin:-0.5,marginal=background:0.1/0.2/0.3/0.4"
    labels, joint = source(spec).labels, spec_distribution(parse_spec(spec))
    assert np.bincount(labels["background"]) / 60_000 == pytest.approx([0.1, 0.2, 0.3, 0.4], abs=0.01)
    for s, y in (("smiling", "glasses"), ("hair", "skin"), ("glasses", "skin")):
        exact = joint.conditional_entropy(s, [y])
        assert conditional_entropy(labels[s], labels[y]) == pytest.approx(exact, abs=0.01)
        assert label_only_floor(labels[s], labels[y]) == pytest.approx(
            joint.label_only_floor(s, [y]), abs=0.015
        )
    assert joint.label_only_floor("smiling", ["glasses"]) == pytest.approx(0.7)
    assert joint_distribution().label_only_floor("identity", ["hair"]) == pytest.approx(1 / 50)


def test_options_are_checked() -> None:
    for spec, said in [
        ("synthetic,couple=smiling:hats:0.3", "unknown factor 'hats': known are smiling, glasses"),
        ("synthetic,couple=smiling:glasses", "FACTOR:FACTOR:STRENGTH"),
        ("synthetic,couple=smiling:glasses:much", "'much' is not a number"),
        ("synthetic,marginal=smiling:0.5/0.6", "sum to 1"),
        ("synthetic,marginal=smiling:1", "has 2 classes, not 1"),
        ("synthetic,count=0", "at least 1"),
        ("synthetic:somewhere", "takes no path"),
    ]:
        with pytest.raises(DataError, match=said.replace(".", r"\.")):
            source(spec)


def test_persons_differ_in_every_feature() -> None:
    table = identity_table()
    assert len(table) == len(FACTORS[-1].classes) == 50
    assert all(len(np.unique(column)) == 50 for column in table.T)


def test_every_factor_shows_and_no_pixel_gives_a_smile_away(
    faces: tuple[NDArray[np.uint8], dict[str, NDArray[np.int64]]],
) -> None:
    """Ridge regression on all pixels finds the broad factors; no threshold on one pixel finds smiles or glasses."""
    images, labels = faces
    flat = images.reshape(len(images), -1).astype(np.float64) / 255
    x = np.concatenate([flat, np.ones((len(flat), 1))], axis=1)
    train, test = slice(0, 900), slice(900, 1200)
    gram = x[train] @ x[train].T + 30 * np.eye(900)  # the kernel form: fewer images than pixels
    for factor, least in (("glasses", 0.8), ("skin", 0.7), ("hair", 0.9), ("background", 0.9)):
        y = labels[factor]
        weights = x[train].T @ np.linalg.solve(gram, np.eye(y.max() + 1)[y[train]])
        accuracy = float(((x[test] @ weights).argmax(axis=1) == y[test]).mean())
        assert accuracy > least, f"{factor}: {accuracy}"
    for factor, most in (("smiling", 0.62), ("glasses", 0.72)):
        rights = [
            ((flat > level) == labels[factor][:, None]).mean(axis=0) for level in np.linspace(0.1, 0.9, 17)
        ]
        assert np.maximum(rights, 1 - np.array(rights)).max() < most


def test_a_factor_changes_its_own_part_of_the_face() -> None:
    """The same picture with one factor turned over: the change is plain, and where it belongs."""
    pictures = source("synthetic,count=40").pictures
    assert isinstance(pictures, Drawn)
    thirds = {"smiling": slice(32, 60), "glasses": slice(14, 46)}  # rows, for every pose
    for factor, rows in thirds.items():
        both = []
        for value in (0, 1):
            factors = {**pictures.factors, factor: np.full(40, value)}
            noise = np.zeros((40, 64, 64, 3), dtype=np.float32)
            both.append(draw(factors, pictures.chances, noise, 64, 64).astype(int))
        change = np.abs(both[1] - both[0]).max(axis=3)  # (40, 64, 64)
        assert (change.max(axis=(1, 2)) > 20).all()  # least on dark skin in dim light
        assert ((change > 8).sum(axis=(1, 2)) >= 12).all()
        mouth_or_eyes = change[:, rows].sum() / change.sum()
        assert mouth_or_eyes > 0.8, f"{factor}: {mouth_or_eyes}"  # a smile also narrows the eyes a little


def test_opening_splits_by_person_unless_the_person_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SFUMATO_CACHE", str(tmp_path))
    data = open_dataset("synthetic,count=1000,size=16", keep=["smiling"])
    persons = [set(data.labels["identity"][rows].tolist()) for rows in data.splits.values()]
    assert sum(len(group) for group in persons) == len(set.union(*persons))
    assert data.spec == "synthetic,size=16x16,split=identity,count=1000"
    known = open_dataset("synthetic,count=1000,size=16", hide=["identity"])
    assert known.spec.endswith("split=stratified,count=1000")
    assert len(set(known.labels["identity"][known.splits[Split.ATTACKER]].tolist())) == 50
    assert known.id != data.id
    with pytest.raises(DataError, match="split=stratified"):
        open_dataset("synthetic,count=1000,split=identity", hide=["identity"])
