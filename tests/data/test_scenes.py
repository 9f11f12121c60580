"""Drawn scenes: deterministic, labelled as told, the person on one side and the object on the other."""

import hashlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from sfumato.core.errors import DataError
from sfumato.data import open_dataset
from sfumato.data.loaders.drawn_objects import OBJECTS, paint_objects
from sfumato.data.loaders.scenes import ATTRIBUTES, draw_scenes, load_scenes
from sfumato.data.loaders.strokes import posed_canvas
from sfumato.data.registry import parse_spec
from sfumato.data.source import Source


def source(spec: str) -> Source:
    return load_scenes(parse_spec(spec))


def drawn(spec: str, rows: range, height: int = 64, width: int = 64) -> NDArray[np.uint8]:
    pictures = source(spec).pictures.read(rows, height, width)
    return np.stack([picture for picture in pictures if isinstance(picture, np.ndarray)])


def test_the_pixels_of_a_seed_never_change() -> None:
    """A change of the drawing changes published figures: it must be meant, and raise `cache.VERSION`."""
    digest = hashlib.sha256(drawn("scenes,count=64", range(64)).tobytes()).hexdigest()
    assert digest[:16] == "313d4a5dd8eb3956"


def test_a_scene_depends_on_the_seed_and_its_number_alone() -> None:
    together = drawn("scenes,count=90,seed=5", range(60))
    np.testing.assert_array_equal(drawn("scenes,count=60,seed=5", range(60)), together)
    for row in (0, 31, 33, 59):
        np.testing.assert_array_equal(drawn("scenes,count=90,seed=5", range(row, row + 1))[0], together[row])
    assert (drawn("scenes,count=60,seed=6", range(1)) != together[0]).any()
    assert drawn("scenes,count=60,seed=5", range(3), 32, 48).shape == (3, 32, 48, 3)


def test_labels_are_even_and_presence_as_asked() -> None:
    labels = source("scenes,count=20000,presence=0.7").labels
    assert np.bincount(labels["object"]) / 20_000 == pytest.approx([0.1] * 10, abs=0.01)
    assert labels["presence"].mean() == pytest.approx(0.7, abs=0.015)
    assert [one.name for one in ATTRIBUTES] == list(labels)
    joint = np.histogram2d(labels["object"], labels["skin"], bins=(10, 4))[0] / 20_000
    assert joint == pytest.approx(np.full((10, 4), 1 / 40), abs=0.006)


def test_a_person_changes_one_half_and_nothing_of_the_object() -> None:
    """The same scene with and without its person: pixels differ on one side alone, and the object's side is the other."""
    pictures = source("scenes,count=40").pictures
    noise = np.zeros((40, 64, 64, 3), dtype=np.float32)
    with_one = {**pictures.factors, "presence": np.ones(40, dtype=np.int64)}  # type: ignore[attr-defined]
    without = {**with_one, "presence": np.zeros(40, dtype=np.int64)}
    chances = pictures.chances  # type: ignore[attr-defined]
    full, empty = (draw_scenes(which, chances, noise, 64, 64).astype(int) for which in (with_one, without))
    other = {**without, "object": (without["object"] + 1) % len(OBJECTS)}
    swapped = draw_scenes(other, chances, noise, 64, 64).astype(int)
    person, thing = ((picture != empty).any(3) for picture in (full, swapped))
    assert person.any((1, 2)).all()
    assert thing.any((1, 2)).all()
    assert not (person & thing).any()


def test_every_object_differs_from_every_other() -> None:
    still = np.zeros((10, 1, 1), dtype=np.float32)
    canvas = posed_canvas(still, still, still, still + np.float32(0.9), 48, 48)
    canvas.pixels[:] = 0
    white = np.full((10, 3), 255, dtype=np.float32)
    paint_objects(canvas, np.arange(10), white, white)
    shapes = canvas.pixels[:, 0] > 128
    assert (shapes.mean((1, 2)) > 0.08).all()
    for one in range(10):
        for two in range(one):
            both = (shapes[one] & shapes[two]).sum() / (shapes[one] | shapes[two]).sum()
            assert both < 0.97, (
                one,
                two,
            )  # ball and clock share an outline: their second colour tells them apart


def test_bad_options_are_refused() -> None:
    for spec, said in [
        ("scenes:here", "takes no path"),
        ("scenes,presence=1", "between 0 and 1"),
        ("scenes,presence=often", "between 0 and 1"),
        ("scenes,count=0", "at least 1"),
        ("scenes,couple=object:skin:1", "unknown option"),
    ]:
        with pytest.raises(DataError, match=said):
            source(spec)


def folder(path: Path, kind: str, colour: tuple[int, int, int], count: int = 320) -> str:
    """Plain pictures of one colour, with a label that alternates."""
    path.mkdir()
    for row in range(count):
        Image.new("RGB", (40, 40), colour).save(path / f"{row}.png")
    rows = "".join(f"{row}.png,{'ab'[row % 2]}\n" for row in range(count))
    (path / "labels.csv").write_text(f"file,{kind}\n{rows}")
    return f"folder:{path}"


def test_two_data_sets_stand_beside_each_other(tmp_path: Path) -> None:
    """Red objects, green faces: both whole, never overlapping, the faces only where they are present."""
    objects, faces = (
        folder(tmp_path / "o", "kind", (255, 0, 0)),
        folder(tmp_path / "f", "mood", (0, 255, 0), 300),
    )
    told = source(f"scenes,presence=0.5,objects={objects},faces={faces}")
    assert list(told.labels) == ["kind", "presence", "mood"]
    assert len(told.pictures.names) == 300
    for row, picture in enumerate(told.pictures.read(range(40), 64, 80)):
        assert isinstance(picture, np.ndarray)
        red, green = ((picture == np.array(colour)).all(2) for colour in ((255, 0, 0), (0, 255, 0)))
        assert red.sum() == 29**2  # .46 of 64 pixels
        assert green.sum() == 29**2 * told.labels["presence"][row]
        name = told.pictures.names[row].split(" + ")
        assert told.labels["kind"][row] == int(name[0].split(".")[0]) % 2
        assert told.labels["mood"][row] == int(name[1].split(".")[0]) % 2
    assert len(set(told.pictures.names)) == 300
    both, some = (
        told.pictures.read(range(8), 64, 64),
        told.take(np.array([7, 3])).pictures.read(range(2), 64, 64),
    )
    for found, row in zip(some, (7, 3), strict=True):
        assert isinstance(found, np.ndarray)
        np.testing.assert_array_equal(found, both[row])  # type: ignore[arg-type]


@pytest.mark.parametrize("smaller", ["objects", "faces"])
def test_pictures_that_stand_in_several_scenes_stay_in_one_split(
    smaller: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SFUMATO_CACHE", str(tmp_path / "cache"))
    counts = {"objects": 620, "faces": 620, smaller: 280}
    objects, faces = (
        folder(tmp_path / "o", "kind", (255, 0, 0), counts["objects"]),
        folder(tmp_path / "f", "mood", (0, 255, 0), counts["faces"]),
    )
    spec = f"scenes,count=600,objects={objects},faces={faces},size=32"
    told = source(spec)
    names = [name.split(" + ")[smaller == "faces"] for name in told.pictures.names]
    assert sorted(Counter(names).values()) == [2] * 240 + [3] * 40
    assert len(set(told.pictures.names)) == 600
    data = open_dataset(spec, keep=["kind"])
    homes: dict[str, set[str]] = {}
    for split, rows in data.splits.items():
        for row in rows.tolist():
            homes.setdefault(names[row], set()).add(split)
    assert all(len(splits) == 1 for splits in homes.values())
    assert sum(map(len, data.splits.values())) == 600


def test_data_sets_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    objects, faces = (
        folder(tmp_path / "o", "mood", (255, 0, 0), 20),
        folder(tmp_path / "f", "mood", (0, 255, 0), 20),
    )
    others = folder(tmp_path / "m", "tone", (0, 0, 255))
    for spec, said in [
        (f"scenes,objects={objects}", "need both"),
        (f"scenes,objects={objects},faces={faces}", "both have an attribute 'mood'"),
        (f"scenes,count=321,objects={objects},faces={others}", "the larger of both sources has 320 pictures"),
        (f"scenes,objects={objects},faces=nothing", "unknown data set"),
    ]:
        with pytest.raises(DataError, match=said):
            source(spec)


def test_it_opens_like_any_other(tmp_path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setenv("SFUMATO_CACHE", str(tmp_path))
    data = open_dataset("scenes,count=600,size=32", keep=["object"], hide=["skin", "presence"])
    assert data.images.shape == (600, 32, 32, 3)
    assert data.spec.endswith("split=identity,count=600")
