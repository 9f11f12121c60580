"""Numbers: how they are asked for, what their classes stand for, and what an answer is worth."""

from pathlib import Path

import numpy as np
import pytest

from sfumato.core.errors import DataError
from sfumato.core.options import take_bins
from sfumato.data import Dataset, Split, open_dataset, save_folder
from sfumato.data.truth import Truth, expected_values, guess_errors, truth, truths

COUNT = 600
AGES = np.random.default_rng(4).integers(1, 80, COUNT)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (COUNT, 8, 8, 3), dtype=np.uint8)
    rows = [(pictures[i], (int(AGES[i]), i % 2)) for i in range(COUNT)]
    return save_folder(rows, tmp_path_factory.mktemp("data") / "own", names=["age", "side"])


def opened(folder: Path, keep: str = "age:number", hide: tuple[str, ...] = ()) -> Dataset:
    spec, kept, hidden = take_bins(f"folder:{folder},size=8", (keep,), hide)
    return open_dataset(spec, keep=kept, hide=hidden)


def test_a_number_keeps_its_numbers_and_its_bins_stand_for_their_means(folder: Path) -> None:
    data = opened(folder)
    attribute, labels, numbers = data.attributes["age"], data.labels["age"], data.numbers["age"]
    np.testing.assert_array_equal(np.sort(numbers), np.sort(AGES))
    assert len(attribute.classes) == 16
    defender = data.splits[Split.DEFENDER]
    assert attribute.values is not None
    for place, name in enumerate(attribute.classes):
        low, high = map(float, name.split("-"))
        inside = [row for row in range(COUNT) if labels[row] == place]
        assert all(low <= numbers[row] <= high for row in inside)
        mine = [numbers[row] for row in inside if row in defender]
        assert attribute.values[place] == pytest.approx(sum(mine) / len(mine))
    assert list(attribute.values) == sorted(attribute.values)


def test_the_id_depends_on_the_numbers_and_not_on_bins_alone(folder: Path) -> None:
    assert opened(folder).id != opened(folder, "age:q16").id
    assert opened(folder, "age:q16").numbers == {}
    assert opened(folder, "age:q16").attributes["age"].values is None


def test_two_numbers_are_two_bins(folder: Path) -> None:
    assert opened(folder, "side:number").attributes["side"].values == (0.0, 1.0)


def test_equal_numbers_make_fewer_bins(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    pictures = rng.integers(0, 256, (COUNT, 8, 8, 3), dtype=np.uint8)
    weights = [int(one) for one in np.where(rng.random(COUNT) < 0.6, 1, rng.integers(1, 60, COUNT))]
    save_folder(list(zip(pictures, weights, strict=True)), tmp_path / "own", names=["weight"])
    data = opened(tmp_path / "own", "weight:number8")
    classes = data.attributes["weight"].classes
    assert 2 <= len(classes) < 8
    assert classes[0] == "1-1"
    with pytest.raises(DataError, match="too few different values"):
        opened(tmp_path / "own", "weight:q8")


@pytest.mark.parametrize(
    ("keep", "hide", "message"),
    [
        ("side", ("age:number",), "'age' cannot be hidden as a number: hide it in bins, age:q4"),
        ("nobody:number", (), "unknown attribute 'nobody'"),
    ],
)
def test_what_cannot_be_a_number_is_refused(
    folder: Path, keep: str, hide: tuple[str, ...], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        opened(folder, keep, hide)


def test_credits_are_those_of_a_plain_loop(folder: Path) -> None:
    data = opened(folder)
    rows = data.splits[Split.TEST]
    facts, rng = truth(data, "age", rows), np.random.default_rng(2)
    scores = rng.normal(size=(len(rows), 16)) * 3
    values = data.attributes["age"].values
    assert values is not None
    guess = float(np.median([data.numbers["age"][row] for row in data.splits[Split.DEFENDER]]))
    worst = sum(abs(data.numbers["age"][row] - guess) for row in rows) / len(rows)
    errors = []
    for row, logits in zip(rows, scores, strict=True):
        shares = np.exp(logits) / np.exp(logits).sum()
        errors.append(abs(sum(p * v for p, v in zip(shares, values, strict=True)) - data.numbers["age"][row]))
    credit = facts.credit(scores)
    np.testing.assert_allclose(credit, [1 - error / worst for error in errors])
    assert facts.guess_error is not None
    assert (1 - credit.mean()) * facts.guess_error == pytest.approx(sum(errors) / len(errors))
    assert guess_errors(truths(data, ["age", "side"], rows)) == {"age": pytest.approx(worst)}
    decided = scores.argmax(1)
    np.testing.assert_allclose(
        facts.credit_of(decided),
        [1 - abs(values[d] - n) / worst for d, n in zip(decided, data.numbers["age"][rows], strict=True)],
    )


def test_classes_are_right_or_wrong() -> None:
    facts = Truth(np.array([0, 1, 1]))
    assert facts.credit(np.array([[2.0, 1.0], [0.0, 3.0], [5.0, 4.0]])).tolist() == [1, 1, 0]
    assert facts.guess_error is None
    assert guess_errors({"smiling": facts}) == {}


def test_large_logits_do_not_overflow() -> None:
    scores = np.array([[1e4, 0.0], [-1e4, 0.0]], dtype=np.float32)
    assert expected_values(scores, np.array([10.0, 30.0])).tolist() == [10, 30]
