"""Photos like those a model was made for, told from walls, test patterns and stretched faces; and honest probabilities."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from sfumato.core.errors import SfumatoError
from sfumato.data import Split, open_dataset
from sfumato.runtime.confidence import cross_entropy, fit_temperature, read_temperatures
from sfumato.runtime.contract import LabelPart
from sfumato.runtime.familiar import FEATURES, GRID, KEY, Limits, features, fit, read_limits

Bytes = NDArray[np.uint8]


@pytest.fixture(scope="module")
def faces() -> dict[Split, Bytes]:
    data = open_dataset("synthetic,count=800,size=32")
    return {split: np.array(data.images[rows]) for split, rows in data.splits.items()}


def strange(faces: Bytes) -> dict[str, Bytes]:
    """Pictures (N, 32, 32, 3) that a model of faces was not made for."""
    rng, count = np.random.default_rng(0), len(faces)
    plain = np.tile(rng.integers(0, 256, (count, 1, 1, 3), dtype=np.uint8), (1, 32, 32, 1))
    lit = plain + rng.normal(0, 6, plain.shape) + np.linspace(-25, 25, 32)[:, None]
    squares = ((np.arange(32)[:, None] // 4 + np.arange(32) // 4) % 2 * 255).astype(np.uint8)
    bars = np.array([[255, 255, 0], [0, 255, 255], [0, 255, 0], [255, 0, 255]], np.uint8)[np.arange(32) // 8]
    noise = rng.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    wide = [np.asarray(Image.fromarray(face).resize((96, 32)).crop((32, 0, 64, 32))) for face in faces]
    return {
        "walls": plain,
        "lit walls": np.clip(lit, 0, 255).astype(np.uint8),
        "squares": np.tile(squares[None, :, :, None], (1, 1, 1, 3)),
        "bars": np.tile(bars, (1, 32, 1, 1)),
        "noise": noise,
        "stretched": np.stack(wide),
    }


def test_what_is_unlike_faces_is_flagged_and_faces_are_not(faces: dict[Split, Bytes]) -> None:
    ordinary = np.concatenate([faces[Split.DEFENDER], faces[Split.VALIDATION]])
    limits = fit(ordinary)
    assert (limits.distances(ordinary) > limits.limit).mean() <= limits.alarms
    assert (limits.distances(faces[Split.TEST]) > limits.limit).mean() < 0.03
    for name, images in strange(faces[Split.TEST]).items():
        assert (limits.distances(images) > limits.limit).mean() > 0.95, name
    one = faces[Split.TEST][3]
    assert limits.distance(one) == pytest.approx(limits.distances(faces[Split.TEST])[3])


@pytest.mark.parametrize("size", [(16, 16), (32, 48), (18, 31)])
def test_features_are_what_the_text_says(size: tuple[int, int]) -> None:
    height, width = size
    image = np.random.default_rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8)
    x = image / 255
    grey = (x[..., 0] + x[..., 1] + x[..., 2]) / 3
    cells: list[list[float]] = [[] for _ in range(GRID**2)]
    for i in range(height):
        for j in range(width):
            row = max(k for k in range(GRID) if k * height // GRID <= i)
            column = max(k for k in range(GRID) if k * width // GRID <= j)
            cells[row * GRID + column].append(grey[i, j])

    def log(value: float) -> float:
        return float(np.log(value + 1 / 255))

    a = np.mean([abs(grey[i, j + 1] - grey[i, j]) for i in range(height) for j in range(width - 1)])
    d = np.mean([abs(grey[i + 1, j] - grey[i, j]) for i in range(height - 1) for j in range(width)])
    second = [grey[:, j + 2] - 2 * grey[:, j + 1] + grey[:, j] for j in range(width - 2)]
    a2 = np.mean(np.abs(second))
    d2 = np.mean([np.abs(grey[i + 2] - 2 * grey[i + 1] + grey[i]) for i in range(height - 2)])
    red, blue = x[..., 0] - x[..., 1], x[..., 2] - x[..., 1]
    expected = [*map(float, map(np.mean, cells)), *(log(float(np.std(cell))) for cell in cells)]
    expected += [log(a), log(a2), log(d), log(d2), log(a) - log(d), log(a2) - log(a), log(d2) - log(d)]
    expected += [red.mean(), blue.mean(), log(np.abs(red).mean()), log(np.abs(blue).mean())]
    found = features(image[None])[0]
    assert found.shape == (FEATURES,)
    assert found == pytest.approx(expected, abs=1e-9)


def test_photos_of_one_distance_stay_on_one_side() -> None:
    """Grey photos all lie equally far from coloured ones in one number: the limit may lie there, and they within it."""
    rng = np.random.default_rng(2)
    images = rng.integers(0, 256, (200, 16, 16, 3), dtype=np.uint8)
    images[:10] = images[:10, :, :, :1]
    limits = fit(images, alarms=0.01)
    assert (limits.distances(images) > limits.limit).mean() <= 0.01


def test_limits_survive_the_contract_and_damage_is_one_line() -> None:
    limits = fit(np.random.default_rng(3).integers(0, 256, (50, 16, 16, 3), dtype=np.uint8))
    stored = limits.model_dump(mode="json")
    assert read_limits({KEY: stored}) == limits
    assert read_limits({}) is None
    broken: list[Any] = [
        3,
        {},
        {**stored, "limit": -1},
        {**stored, "means": [1]},
        {**stored, "spreads": [0] * FEATURES},
    ]
    for value in broken:
        with pytest.raises(SfumatoError, match="damaged"):
            read_limits({KEY: value})
    with pytest.raises(SfumatoError, match="no photos"):
        fit(np.zeros((0, 16, 16, 3), np.uint8))
    assert isinstance(limits, Limits)


@pytest.mark.parametrize("sharper", [0.25, 1.0, 6.0])
def test_a_temperature_undoes_what_sharpened_the_logits(sharper: float) -> None:
    rng = np.random.default_rng(4)
    honest = rng.normal(0, 1.5, (4000, 3))
    shares = np.exp(honest) / np.exp(honest).sum(1, keepdims=True)
    labels = (rng.random(len(honest))[:, None] > shares.cumsum(1)).sum(1)
    found = fit_temperature(sharper * honest, labels)
    assert found == pytest.approx(sharper, rel=0.1)
    slow = -np.log(shares[np.arange(len(labels)), labels]).mean()
    assert cross_entropy(honest, labels) == pytest.approx(slow)
    assert cross_entropy(sharper * honest / found, labels) <= cross_entropy(sharper * honest, labels) + 1e-9


class Bundle:
    """As much of a contract as temperatures are read from."""

    def __init__(self, figures: dict[str, Any]) -> None:
        self.figures = figures
        self.keep = (LabelPart(name="a", classes=("x", "y")), LabelPart(name="b", classes=("x", "y")))


def test_temperatures_are_read_strictly() -> None:
    assert read_temperatures(Bundle({})) == (1.0, 1.0)  # type: ignore[arg-type]
    assert read_temperatures(Bundle({"temperature": {"b": 2}})) == (1.0, 2.0)  # type: ignore[arg-type]
    for wrong in (3, {"a": 0}, {"a": "1"}, {"a": float("nan")}, {"a": True}, {"a": 1e9}, {"a": None}):
        with pytest.raises(SfumatoError, match="damaged"):
            read_temperatures(Bundle({"temperature": wrong}))  # type: ignore[arg-type]
