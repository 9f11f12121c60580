"""Several uploads together, on channels whose answer is known."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from sfumato.audit import compositions
from sfumato.audit.attack_data import AttackData
from sfumato.audit.attacks import clean, discriminant, posterior
from sfumato.audit.attacks.fit import Recipe
from sfumato.audit.plan import DEFAULT
from sfumato.audit.predictions import Prediction
from sfumato.audit.schema import Composition

GIVEN = Callable[[str], AttackData]
PLAN = DEFAULT.model_copy(update={"frames": (1, 4, 16)})


@pytest.fixture(scope="module")
def rows(make: Any, attack_data: GIVEN) -> list[Composition]:
    """All compositions on the tone that is spread over all bits and nearly lost in each."""
    data = attack_data("faint")
    recipe = Recipe(
        attack="clean", architecture="linear", lr=1e-2, epochs=3, patience=3, batch_size=64, clean=True
    )
    predictions: list[Prediction] = [
        *posterior.predict(data, ("tone",)),
        *discriminant.predict(data, ("tone",)),
        *clean.train(data, ("tone",), recipe),
    ]
    return compositions.compose(make("faint"), data, predictions, PLAN, ("tone",))


def of(rows: list[Composition], what: str) -> dict[int, Composition]:
    return {row.uploads: row for row in rows if row.what == what}


def best_possible(uploads: int) -> float:
    """Accuracy of the best guess from independent uploads of `faint`: most of 768 bits a photo, each with 1/2 + .008."""
    from scipy.stats import binom

    bits = 768 * uploads
    return float(binom.sf(bits // 2, bits, 0.508) + 0.5 * binom.pmf(bits // 2, bits, 0.508))


def test_two_draws_of_one_photo_tell_what_independent_draws_tell(rows: list[Composition]) -> None:
    for what in ("same photo, two releases or services", "same photo, two arithmetics"):
        assert of(rows, what)[2].accuracy == pytest.approx(best_possible(2), abs=0.07)


def test_photos_of_one_value_add_up(rows: list[Composition]) -> None:
    found = of(rows, "photos of one value")
    assert set(found) == {1, 4, 16, 64}
    for count, row in found.items():
        assert row.accuracy == pytest.approx(best_possible(count), abs=0.09)
        assert row.nag <= row.nag_upper
        assert 0 <= row.bits <= 1
    assert found[64].accuracy > 0.95 > found[1].accuracy


def test_frames_of_a_scene_add_up(rows: list[Composition]) -> None:
    found = of(rows, "frames of a static scene")
    assert set(found) == {1, 4, 16}
    for count, row in found.items():
        assert row.accuracy == pytest.approx(best_possible(count), abs=0.09)


def test_frames_differ_a_little_from_the_photo() -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(50, 200, (6, 16, 16, 3), dtype=np.uint8)
    moved = compositions.frame(images, rng)
    assert moved.shape == images.shape
    for before, after in zip(images, moved, strict=True):
        assert any(
            np.abs(after[1:-1, 1:-1] / before[1 + y : 15 + y, 1 + x : 15 + x] - 1).max() < 0.05
            for y in (-1, 0, 1)
            for x in (-1, 0, 1)
        )


def test_groups_are_different_photos_of_one_value() -> None:
    labels = np.array([0] * 30 + [1] * 13)
    groups, values = compositions.deal(labels, 4, np.random.default_rng(0))
    assert len(groups) >= compositions.GROUPS
    for group, value in zip(groups, values, strict=True):
        assert len(set(group)) == 4
        assert (labels[group] == value).all()
    assert (values == 1).mean() == pytest.approx(3 / 10)


def test_a_value_with_too_few_photos_ends_the_rows(attack_data: GIVEN) -> None:
    data = attack_data("noise")
    blank = Prediction(
        attack="a",
        architecture="b",
        attribute="tone",
        validation=np.zeros((2 * data.validation.images, 2)),
        test=np.zeros((data.test.images, 2)),
    )
    labels = data.test.labels["tone"].copy()
    rare = {**data.test.labels, "tone": np.where(np.cumsum(labels) > 5, 0, labels)}
    from dataclasses import replace

    few = replace(data, test=replace(data.test, labels=rare))
    assert [row.uploads for row in compositions.photos_of_one_value(few, "tone", blank, blank)] == [1, 4]


def test_another_arithmetic_moves_bytes_by_one_step() -> None:
    p = torch.randint(20, 230, (4, 3, 8, 8), generator=torch.Generator().manual_seed(0)).half() / 256
    steps = (compositions.rounded({"p": p})["p"].float() - p.float()) * 256
    assert set(steps.unique().tolist()) == {-1.0, 0.0, 1.0}
    assert 0.1 < float((steps != 0).float().mean()) < 0.25
    # In Gray code the phone has no 255/256: its largest byte is certain, and the neighbour of a certain one is 254/256.
    found = compositions.rounded({"p": torch.ones(4, 3, 8, 8).half()}, gray=True)["p"].float() * 256
    assert set(found.unique().tolist()) == {254.0, 256.0}
