"""Scenes against slow obvious sums; noise and light within one, drift and other pictures beyond it."""

from itertools import product

import numpy as np
import pytest
from numpy.typing import NDArray

from sfumato.data import open_dataset
from sfumato.runtime.scenes import SceneConfig, Scenes, block_means, differences

Pictures = NDArray[np.uint8]


@pytest.fixture(scope="module")
def faces() -> Pictures:
    return np.array(open_dataset("synthetic,count=800,size=32").images[:200])


def camera(
    picture: Pictures, rng: np.random.Generator, *, light: float = 1.0, noise: float = 6.0
) -> Pictures:
    seen = picture * light + rng.normal(0, noise, picture.shape)
    return np.clip(np.rint(seen), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("shape", [(32, 32, 3), (30, 21, 1), (5, 9, 3), (8, 8, 3)])
def test_block_means_are_means_of_blocks(shape: tuple[int, int, int]) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
    found = block_means(pixels, 8)
    rows, columns = (min(8, length) for length in shape[:2])
    assert found.shape == (rows, columns, shape[2])
    for row, column, plane in product(range(rows), range(columns), range(shape[2])):
        top, bottom = row * shape[0] // rows, (row + 1) * shape[0] // rows
        left, right = column * shape[1] // columns, (column + 1) * shape[1] // columns
        block = [int(pixels[y, x, plane]) for y in range(top, bottom) for x in range(left, right)]
        assert found[row, column, plane] == pytest.approx(sum(block) / len(block))


def test_differences_are_those_of_the_best_light() -> None:
    rng = np.random.default_rng(2)
    firsts, now = rng.uniform(10, 200, (4, 8, 8, 3)), rng.uniform(10, 200, (8, 8, 3))
    firsts[0] = now / 1.1
    firsts[1] = now / 2  # more light than is allowed for
    found = differences(firsts, now, 1.25)
    tried = np.linspace(1 / 1.25, 1.25, 20_001)
    for first, distance in zip(firsts, found, strict=True):
        worst = 0.0
        for plane in range(3):
            a, b = first[..., plane].ravel(), now[..., plane].ravel()
            factor = tried[((b - tried[:, None] * a) ** 2).sum(1).argmin()]
            worst = max(worst, np.abs(b - np.minimum(factor * a, 255)).max())
        assert distance == pytest.approx(worst, abs=0.05)
    assert found[0] == pytest.approx(0, abs=1e-9)
    assert found[1] == pytest.approx(float((now - 1.25 * now / 2).max()), abs=1e-9)


def test_noise_and_light_stay_in_a_scene_and_other_faces_leave_it(faces: Pictures) -> None:
    rng = np.random.default_rng(3)
    scenes = Scenes[int](SceneConfig(remembered=len(faces)))
    for index, face in enumerate(faces[:60]):
        first = camera(face, rng)
        assert scenes.find(first) is None, index
        scenes.begin(first, index)
        for _ in range(5):
            scene = scenes.find(camera(face, rng, light=rng.uniform(0.9, 1.1)))
            assert scene is not None
            assert (scene.held, scene.number) == (index, index + 1)


def test_a_slow_drift_ends_a_scene(faces: Pictures) -> None:
    """Each step is far below the tolerance: compared with the frame before, nothing would ever end."""
    scenes = Scenes[None](SceneConfig())
    scenes.begin(faces[0], None)
    steps = np.linspace(0, 1, 200)
    walk = [np.rint((1 - t) * faces[0] + t * faces[1]).astype(np.uint8) for t in steps]
    means = np.stack([block_means(one, 8) for one in walk])
    assert np.abs(np.diff(means, axis=0)).max() < SceneConfig().tolerance / 10
    begun = 1
    for frame in walk:
        if scenes.find(frame) is None:
            scenes.begin(frame, None)
            begun += 1
    assert 2 <= begun <= 12


def test_a_scene_that_comes_back_is_known_until_too_many_came_between(faces: Pictures) -> None:
    scenes = Scenes[int](SceneConfig(remembered=3))
    for index in range(3):
        scenes.begin(faces[index], index)
    found = scenes.find(faces[0])  # seen again, so the second is the one not seen for longest
    assert found is not None
    assert found.held == 0
    scenes.begin(faces[3], 3)
    assert len(scenes) == 3
    assert scenes.find(faces[1]) is None
    assert [scene.held for index in (0, 2, 3) if (scene := scenes.find(faces[index]))] == [0, 2, 3]


def test_between_two_scenes_a_frame_stays_where_the_camera_is() -> None:
    """Two scenes nearer than the tolerance to a frame: no flicker between their answers."""
    scenes = Scenes[str](SceneConfig(tolerance=20, light=1))
    grey, between, light = (np.full((32, 32, 3), level, np.uint8) for level in (100, 115, 125))
    scenes.begin(grey, "grey")
    assert scenes.find(light) is None
    scenes.begin(light, "light")
    found = scenes.find(np.full((32, 32, 3), 106, np.uint8))  # within 20 of both, nearer to the first
    assert found is not None
    assert found.held == "light"
    assert scenes.find(grey) is not None
    found = scenes.find(between)
    assert found is not None
    assert found.held == "grey"


@pytest.mark.parametrize("wrong", [{"grid": 0}, {"tolerance": -1.0}, {"light": 0.5}, {"remembered": 0}])
def test_wrong_settings_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="are 1 or more"):
        SceneConfig(**wrong)  # type: ignore[arg-type]
