"""The linear programme against trying everything out, and the table against drawing from it."""

from itertools import product

import numpy as np
import pytest

from sfumato.core.errors import UsageError
from sfumato.data.label_cells import label_cells
from sfumato.data.truth import Truth
from sfumato.runtime import answer
from sfumato.runtime.answer import TOTAL
from sfumato.training.answer_table import (
    AnswerTable,
    check_alphabet,
    choose_margins,
    decisions,
    fit_table,
    quantise,
    round_rows,
    score_scale,
    solve,
    value_groups,
)


def brute_force(reward: np.ndarray, groups: list[list[np.ndarray]], epsilon: float, steps: int) -> float:  # type: ignore[type-arg]
    """The best reward of two states and two words over a grid of probabilities."""
    best = -np.inf
    for a, b in product(np.linspace(0, 1, steps + 1), repeat=2):
        table = np.array([[a, 1 - a], [b, 1 - b]])
        sent = [[share @ table for share in members] for members in groups]
        if all(np.ptp(np.stack(members), axis=0).max() <= epsilon + 1e-9 for members in sent):
            best = max(best, float((reward * table).sum()))
    return best


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("epsilon", [0.0, 0.05, 0.3, 1.0])
def test_no_table_of_a_fine_grid_is_better(seed: int, epsilon: float) -> None:
    rng = np.random.default_rng(seed)
    reward = rng.random((2, 2))
    groups = [[rng.dirichlet([1, 1]) for _ in range(members)] for members in (2, 3)]
    table = solve(reward, groups, epsilon)
    assert table.sum(1) == pytest.approx([1, 1])
    assert table.min() >= 0
    for members in groups:
        assert np.ptp(np.stack([share @ table for share in members]), axis=0).max() <= epsilon + 1e-7
    found, tried = float((reward * table).sum()), brute_force(reward, groups, epsilon, 100)
    assert tried - 1e-7 <= found <= tried + 0.05  # the grid is coarse, the programme is not


def test_without_constraints_every_state_gets_its_best_word() -> None:
    reward = np.random.default_rng(0).random((7, 4))
    assert solve(reward, [], 0.0).argmax(1).tolist() == reward.argmax(1).tolist()


def biased(images: int = 4000, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:  # type: ignore[type-arg]
    """Scores of three classes whose errors depend on a hidden bit: (scores, label, hidden)."""
    rng = np.random.default_rng(seed)
    label, hidden = rng.integers(3, size=images), rng.integers(2, size=images)
    scores = rng.normal(0, 20, (images, 3))
    scores[np.arange(images), label] += 30
    scores[:, 0] += 25 * hidden
    return np.clip(np.round(scores), -128, 127).astype(np.int8), label, hidden


def gap(table: AnswerTable, scores: np.ndarray, label: np.ndarray, hidden: np.ndarray) -> float:  # type: ignore[type-arg]
    """Largest difference of a word's probability between the hidden values, by going through all images."""
    rows, found = table.states(scores), []
    assert table.probabilities is not None
    for y in range(3):
        sent = [table.probabilities[rows[(label == y) & (hidden == s)]].mean(0) for s in range(2)]
        found.append(np.abs(sent[0] - sent[1]).max())
    return float(max(found))


def right(table: AnswerTable, scores: np.ndarray, label: np.ndarray) -> float:  # type: ignore[type-arg]
    return float(table.hits(table.states(scores), label, np.arange(3)).mean())


def test_equal_odds_hold_and_cost_what_they_must() -> None:
    scores, label, hidden = biased()
    margins = choose_margins(scores, (3,), 4)
    plain = AnswerTable((3,))
    found = [
        fit_table(scores, [label], {"s": hidden}, (3,), margins, epsilon=epsilon)
        for epsilon in (0.0, 0.02, 0.1, 1.0)
    ]
    for table, epsilon in zip(found, (0.0, 0.02, 0.1, 1.0), strict=True):
        assert gap(table, scores, label, hidden) <= epsilon + 1e-4  # the counts are rounded
    accuracy = [right(table, scores, label) for table in found]
    assert accuracy == sorted(accuracy)
    assert accuracy[-1] >= right(plain, scores, label) - 1e-4
    # and on images that the table was not fitted to
    fresh = biased(seed=1)
    bare = fit_table(fresh[0], [fresh[1]], {}, (3,), margins, epsilon=0.0)
    assert gap(found[1], *fresh) < gap(bare, *fresh) / 2


def test_several_attributes_share_an_alphabet() -> None:
    scores, label, hidden = biased()
    rng = np.random.default_rng(3)
    other = rng.integers(2, size=len(label))
    second = np.stack([40 * (other == k) + rng.normal(0, 30, len(other)) for k in range(2)], axis=1)
    both = np.concatenate([scores, np.clip(second, -128, 127).astype(np.int8)], axis=1)
    margins = choose_margins(both, (3, 2), 2)
    table = fit_table(both, [label, other], {"s": hidden}, (3, 2), margins, epsilon=0.05)
    assert table.words == 6
    assert table.shares is not None
    assert table.shares.shape == (3 * 2 * 2 * 2 * 1 * 2, 6)
    rows, cells = table.states(both), label_cells([label, other], [3, 2])
    assert table.probabilities is not None
    for cell in range(6):
        sent = [table.probabilities[rows[(cells == cell) & (hidden == s)]].mean(0) for s in range(2)]
        assert np.abs(sent[0] - sent[1]).max() <= 0.05 + 1e-4


def test_the_counts_are_what_draws_come_to() -> None:
    scores, label, hidden = biased(300)
    table = fit_table(scores, [label], {"s": hidden}, (3,), (5, 20), epsilon=0.0, least=5)
    rows = table.states(scores)
    every = np.arange(TOTAL)
    noise = np.stack([every & 255, every >> 8], axis=1).astype(np.uint8)
    wanted = np.zeros((3, 2))
    assert table.cumulative is not None
    for row, value in zip(rows, hidden, strict=True):
        words = answer.draw(table.cumulative, np.full(TOTAL, row), noise)
        wanted[:, value] += np.bincount(words, minlength=3) / TOTAL
    assert table.counts(rows, hidden, 2) == pytest.approx(wanted)
    guess = np.array([1, 0, 1])
    assert table.probabilities is not None
    shares = table.probabilities[rows]
    expected = [of[guess == value].sum() for of, value in zip(shares, hidden, strict=True)]
    assert table.hits(rows, hidden, guess) == pytest.approx(expected)
    read = answer.read_table(answer.table_bytes(table.cumulative), (3,), (5, 20))
    assert (read == table.cumulative).all()


@pytest.mark.parametrize("randomised", [False, True])
def test_credits_of_a_number_are_expected_over_the_words(randomised: bool) -> None:
    scores, label, hidden = biased(200)
    table = AnswerTable((3,))
    if randomised:
        table = fit_table(scores, [label], {"s": hidden}, (3,), (5, 20), epsilon=0.0, least=5)
    rows, rng = table.states(scores), np.random.default_rng(6)
    values, numbers = np.array([5.0, 20.0, 70.0]), rng.normal(30, 20, len(label))
    facts = Truth(label, numbers, values, guess=25.0)
    said = rng.normal(size=(3, 3))  # what each word stands for
    answers = [np.exp(logits) @ values / np.exp(logits).sum() for logits in said]
    worst = np.abs(numbers - 25).mean()
    expected = []
    for row, number in zip(rows, numbers, strict=True):
        shares = np.eye(3)[row] if table.probabilities is None else table.probabilities[row]
        expected.append(sum(p * (1 - abs(a - number) / worst) for p, a in zip(shares, answers, strict=True)))
    assert table.credits(rows, facts, said) == pytest.approx(expected)
    classes = Truth(label)
    assert table.credits(rows, classes, said) == pytest.approx(table.hits(rows, label, said.argmax(1)))


def test_a_state_that_was_never_seen_answers_like_its_decision() -> None:
    scores = np.array([[50, 0, -50]] * 60 + [[0, 50, -50]] * 60, dtype=np.int8)
    label, hidden = np.repeat([0, 1], 60), np.tile([0, 1], 60)
    table = fit_table(scores, [label], {"s": hidden}, (3,), (10,), epsilon=0.0)
    assert table.shares is not None
    words = decisions((3,), 2)
    assert (table.shares.argmax(1) == words).all()
    assert (table.shares.sum(1) == TOTAL).all()


def test_rows_are_rounded_to_the_last_count() -> None:
    table = np.random.default_rng(0).dirichlet(np.full(7, 0.3), size=200)
    counts = round_rows(table)
    assert (counts.sum(1) == TOTAL).all()
    assert np.abs(counts - table * TOTAL).max() < 1


def test_margins_divide_the_leads_evenly() -> None:
    scores, *_ = biased()
    margins = choose_margins(scores, (3,), 4)
    lead = answer.decide(scores, (3,)).margin.reshape(-1)
    shares = np.bincount(np.searchsorted(margins, lead, side="right"), minlength=4) / len(lead)
    assert shares == pytest.approx(np.full(4, 0.25), abs=0.03)
    assert choose_margins(np.zeros((9, 3), np.int8), (3,), 4) == ()
    assert choose_margins(scores, (3,), 1) == ()


def test_rare_values_are_compared_together() -> None:
    cells = np.repeat([0, 1], [100, 30])
    values = np.concatenate([np.repeat([0, 1, 2, 3], [50, 40, 6, 4]), np.zeros(30, int)])
    (found,) = value_groups(values, cells, 10)
    assert found[0] == 0
    assert [sorted(set(values[mask].tolist())) for mask in found[1]] == [[0], [1], [2, 3]]
    assert value_groups(values, cells, 60) == []


def test_scores_are_rounded_as_tensorflow_lite_does() -> None:
    scores = np.array([[-1.0, 0.0, 4.1]])
    scale, zero = score_scale(scores)
    assert scale == pytest.approx(5.1 / 255)
    assert quantise(scores, scale, zero).tolist() == [[-128, zero, 127]]
    assert score_scale(np.zeros((2, 2))) == (1.0, -128)


def test_what_does_not_fit_is_refused_in_words() -> None:
    check_alphabet([256, 256])
    with pytest.raises(UsageError, match="131,072 combinations"):
        check_alphabet([256, 512])
    check_alphabet([6, 2], bins=4)
    with pytest.raises(UsageError, match="table of 2,099,520 entries"):
        check_alphabet([81], bins=4)
