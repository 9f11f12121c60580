"""The answer table: which word the phone sends for which state of its scores.

Plain answer mode sends the phone's decision: one word for every combination of classes, no table. Where a decision is wrong
depends a little on who is in the picture, and so does the word. A randomised answer takes that away: the word is drawn from
a table p(word | state), chosen by a linear programme that has as many right answers as possible while, for every declared
attribute s and every true label y, the probability of each word differs by at most epsilon between the values of s (equal
odds, Hardt et al., NeurIPS 2016, whose post-processing this is, with several classes and finer states).

A state is what `sfumato.runtime.answer` reads from the int8 scores of one attribute: the largest class, the second, and how far
the first leads, in bins. States of several attributes are all combinations.

    margins = choose_margins(scores, [5], bins=4)
    table = fit_table(scores, {"age": y}, {"race": s}, classes, margins, epsilon=0.02)
    table.counts(table.states(scores), labels, values)        # (words, values), expected
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod

import numpy as np
from numpy.typing import NDArray

from sfumato.core.errors import SfumatoError, UsageError
from sfumato.data.contingency import cross_counts
from sfumato.data.dataset import Floats, Ints
from sfumato.data.label_cells import label_cells
from sfumato.data.truth import Truth, expected_values
from sfumato.runtime import answer
from sfumato.runtime.answer import MOST_WORDS, TOTAL

MOST_ENTRIES = 2**17
"""States times words of a table: 512 KiB on the phone, and what the linear programme solves in minutes."""
Scores = NDArray[np.int8]


@dataclass(frozen=True, eq=False)
class AnswerTable:
    """Which word goes out.

    Attributes:
        classes: number of classes of every kept attribute, in order.
        margins: increasing positive int8 steps that divide leads into bins; empty without `shares`.
        shares: (states, words), probabilities out of 65536, every row sums to that; None sends the decision itself.
    """

    classes: tuple[int, ...]
    margins: tuple[int, ...] = ()
    shares: Ints | None = None

    @property
    def words(self) -> int:
        """N, one word for every combination of answers."""
        return prod(self.classes)

    @property
    def named(self) -> list[Ints]:
        """The class that every word names, (words,), one array for each kept attribute."""
        words = np.arange(self.words)
        return [words // prod(self.classes[k + 1 :]) % count for k, count in enumerate(self.classes)]

    @property
    def cumulative(self) -> NDArray[np.uint32] | None:
        """The counts as the phone reads them, every row rising to 65536, (states, words); None without a table."""
        return None if self.shares is None else self.shares.cumsum(1).astype(np.uint32)

    @cached_property
    def probabilities(self) -> Floats | None:
        """(states, words), or None."""
        return None if self.shares is None else self.shares / TOTAL

    def states(self, scores: Scores) -> Ints:
        """The state of every row of scores (N, S), (N,); without a table the state is the word."""
        decision = answer.decide(scores, self.classes)
        if self.shares is None:
            return answer.plain_word(decision, self.classes)
        return answer.state(decision, self.classes, self.margins)

    def counts(self, states: Ints, values: Ints, classes: int) -> Floats:
        """Expected number of images with every word and every value of an attribute, (words, classes).

        Args:
            states: (N,) of `states`.
            values: (N,) of the attribute.
            classes: how many it has.
        """
        if self.probabilities is None:
            return cross_counts(states, values, (self.words, classes))
        expected: Floats = self.probabilities.T @ cross_counts(
            states, values, (len(self.probabilities), classes)
        )
        return expected

    def hits(self, states: Ints, values: Ints, guess: Ints) -> Floats:
        """Probability that guessing `guess[word]` is right, for every image, (N,).

        Args:
            states, values: (N,).
            guess: (words,) class guessed for each word.
        """
        if self.probabilities is None:
            right: Floats = (guess[states] == values).astype(np.float64)
            return right
        # (states, classes): probability of sending a word whose guess is this class
        chosen = np.zeros((len(self.probabilities), int(max(guess.max(), values.max())) + 1))
        np.add.at(chosen.T, guess, self.probabilities.T)
        return np.asarray(chosen[states, values])

    def credits(self, states: Ints, truth: Truth, scores: Floats) -> Floats:
        """Expected credit of what the cloud reads out of the words, for every image, (N,).

        Args:
            states: (N,).
            truth: of the N images.
            scores: (words, classes) log probabilities that each word stands for.
        """
        if truth.values is None:
            return self.hits(states, truth.labels, scores.argmax(1))
        by_word = truth.nearness(expected_values(scores, truth.values)[None])
        if self.probabilities is None:
            said: Floats = by_word[np.arange(len(states)), states]
            return said
        expected: Floats = (self.probabilities[states] * by_word).sum(1)
        return expected


def check_alphabet(classes: Sequence[int], bins: int | None = None) -> None:
    """Refuse an alphabet that does not fit into two bytes, or a table that is too large.

    Args:
        classes: number of classes of every kept attribute.
        bins: of the leads; None without a table.

    Raises:
        UsageError: it does not fit.
    """
    words = prod(classes)
    if words > MOST_WORDS:
        raise UsageError(
            f"the kept attributes have {words:,} combinations of answers and a word holds at most {MOST_WORDS:,}: "
            "keep fewer attributes, or train with --mode picture"
        )
    if bins is not None and (entries := words * prod(k * (k - 1) * bins for k in classes)) > MOST_ENTRIES:
        raise UsageError(
            f"a randomised answer for these attributes needs a table of {entries:,} entries, at most {MOST_ENTRIES:,} "
            "are allowed: keep fewer attributes, set answer.bins lower, or leave --equal-odds out"
        )


def decisions(classes: Sequence[int], bins: int) -> Ints:
    """The word that every state decides for, (states,)."""
    counts = [count * (count - 1) * bins for count in classes]
    states = np.arange(prod(counts))
    parts = []
    for position, count in enumerate(counts):
        own = states // prod(counts[position + 1 :]) % count
        parts.append(own // ((classes[position] - 1) * bins))
    return label_cells(parts, classes)


def choose_margins(scores: Scores, classes: Sequence[int], bins: int) -> tuple[int, ...]:
    """Margins that divide the leads of all attributes into at most `bins` equally full bins.

    Quantiles of the leads, in whole steps, each at least 1; equal ones count once.
    """
    leads = answer.decide(scores, classes).margin.reshape(-1)
    wanted = np.quantile(leads, np.arange(1, bins) / bins, method="higher")
    return tuple(sorted({int(value) for value in wanted if value >= 1}))


def quantise(scores: Floats, scale: float, zero_point: int) -> Scores:
    """Real scores (N, S) -> int8, as TensorFlow Lite rounds them."""
    steps: Scores = np.clip(np.round(scores / scale) + zero_point, -128, 127).astype(np.int8)
    return steps


def score_scale(scores: Floats) -> tuple[float, int]:
    """Scale and zero point of int8 scores that cover these real ones and zero, as TensorFlow Lite's converter chooses them."""
    low, high = min(float(scores.min()), 0.0), max(float(scores.max()), 0.0)
    scale = (high - low) / 255 or 1.0
    return scale, round(-128 - low / scale)


def value_groups(values: Ints, cells: Ints, least: int) -> list[tuple[int, list[NDArray[np.bool_]]]]:
    """For every cell the images of each value, where enough are there to compare.

    Values with fewer than `least` images in a cell are pooled into one group, which is left out if it is still too small.
    A cell with a single group compares nothing and is left out.

    Args:
        values: (N,) of a hidden attribute.
        cells: (N,) combination of true labels.
        least: images.

    Returns:
        Cell -> masks (N,) of its groups.
    """
    found = []
    for cell in np.unique(cells):
        inside = cells == cell
        masks, rest = [], np.zeros(len(values), dtype=bool)
        for value in np.unique(values[inside]):
            mask = inside & (values == value)
            if mask.sum() >= least:
                masks.append(mask)
            else:
                rest |= mask
        if rest.sum() >= least:
            masks.append(rest)
        if len(masks) > 1:
            found.append((int(cell), masks))
    return found


def solve(
    reward: Floats, groups: Sequence[Sequence[Floats]], epsilon: float, *, what: str = "the answer table"
) -> Floats:
    """The table p (states, words) with the highest `(reward * p).sum()` whose words are alike over the groups.

    Every row of p is a distribution. For every set of groups, each a distribution q over the states, and every word w, the
    numbers `q @ p[:, w]` of the set lie within epsilon: a variable of its own is the smallest of them.

    Args:
        reward: (states, words).
        groups: sets of distributions, each (states,).
        epsilon: 0 .. 1.
        what: to be named in an error.

    Raises:
        SfumatoError: the solver gave up.
    """
    from scipy.optimize import linprog
    from scipy.sparse import bmat, csr_matrix, eye, hstack, kron

    states, words = reward.shape
    extra = len(groups) * words
    one = eye(words, format="csr")
    above, below = [], []
    for number, members in enumerate(groups):
        pick = csr_matrix(([1.0], ([0], [number])), shape=(1, len(groups)))
        for share in members:
            sent, lowest = kron(csr_matrix(share[None]), one), kron(pick, one)
            above.append(hstack([-sent, lowest]))  # lowest - sent <= 0
            below.append(hstack([sent, -lowest]))  # sent - lowest <= epsilon
    rows = [*above, *below]
    limits = np.concatenate([np.zeros(len(above) * words), np.full(len(below) * words, epsilon)])
    whole = hstack([kron(eye(states), csr_matrix(np.ones((1, words)))), csr_matrix((states, extra))])
    found = linprog(
        np.concatenate([-reward.reshape(-1), np.zeros(extra)]),
        A_ub=bmat([[row] for row in rows], format="csr") if rows else None,
        b_ub=limits if rows else None,
        A_eq=whole.tocsr(),
        b_eq=np.ones(states),
        bounds=(0, 1),
        method="highs",
    )
    if found.x is None:
        raise SfumatoError(f"{what} could not be computed: {found.message}")
    table = np.clip(found.x[: states * words].reshape(states, words), 0, None)
    solved: Floats = table / table.sum(1, keepdims=True)
    return solved


def round_rows(table: Floats) -> Ints:
    """Distributions (states, words) -> whole numbers out of 65536, every row exactly that: largest remainders go up.

    >>> round_rows(np.array([[1 / 3, 1 / 3, 1 / 3], [1.0, 0.0, 0.0]])).tolist()
    [[21846, 21845, 21845], [65536, 0, 0]]
    """
    exact = table * TOTAL
    counts: Ints = np.floor(exact).astype(np.int64)
    short = TOTAL - counts.sum(1)
    order = np.argsort(counts - exact, axis=1, kind="stable")
    for row, missing in enumerate(short):
        counts[row, order[row, :missing]] += 1
    return counts


def fit_table(
    scores: Scores,
    labels: Sequence[Ints],
    hidden: Mapping[str, Ints],
    classes: Sequence[int],
    margins: Sequence[int],
    *,
    epsilon: float,
    least: int = 20,
    shrink: float = 0.0,
) -> AnswerTable:
    """The randomised answer with the most right answers whose words hold equal odds within `epsilon`.

    Args:
        scores: (N, S) int8, of images that the network was not fitted to.
        labels: (N,) true class of every kept attribute.
        hidden: name -> (N,) value of a declared attribute.
        classes: number of classes of every kept attribute.
        margins: of the bins.
        epsilon: largest difference of a word's probability between two values of a hidden attribute, given the label.
        least: images that a value needs in a cell to be compared on its own; rarer ones are pooled.
        shrink: images of the whole cell that are added to each value's own: its states are estimated from few.

    Raises:
        UsageError: the table would be too large.
        SfumatoError: the solver gave up.
    """
    check_alphabet(classes, len(margins) + 1)
    bins, words = len(margins) + 1, prod(classes)
    states = answer.state(answer.decide(scores, classes), classes, margins)
    seen, index = np.unique(states, return_inverse=True)
    own = decisions(classes, bins)
    reward = _reward(index, labels, classes, len(seen)) / len(states)
    # Among equally good tables the one that keeps the decision.
    reward[np.arange(len(seen)), own[seen]] += 1e-6 / len(seen)

    cells = label_cells(list(labels), classes)
    groups = []
    for values in hidden.values():
        for cell, masks in value_groups(values, cells, least):
            whole = np.bincount(index[cells == cell], minlength=len(seen)) / (cells == cell).sum()
            groups.append([_shares(index[mask], whole, shrink) for mask in masks])
    solved = solve(reward, groups, epsilon)
    return AnswerTable(tuple(classes), tuple(margins), round_rows(_fill(solved, seen, index, own, words)))


def _reward(index: Ints, labels: Sequence[Ints], classes: Sequence[int], states: int) -> Floats:
    """Right answers, the mean over the kept attributes, that every state gains by every word, (states, words)."""
    right = np.zeros((states, prod(classes)))
    for label, count, said in zip(labels, classes, AnswerTable(tuple(classes)).named, strict=True):
        right += cross_counts(index, label, (states, count))[:, said] / len(classes)
    return right


def _shares(index: Ints, whole: Floats, shrink: float) -> Floats:
    counts = np.bincount(index, minlength=len(whole)) + shrink * whole
    shares: Floats = counts / counts.sum()
    return shares


def _fill(solved: Floats, seen: Ints, index: Ints, own: Ints, words: int) -> Floats:
    """The whole table from the rows of the states that were seen.

    A state that never was seen answers as the seen ones of the same decision do on average, or with its decision.
    """
    table = np.zeros((len(own), words))
    weight = np.bincount(index, minlength=len(seen)).astype(np.float64)
    table[np.arange(len(own)), own] = 1.0
    for word in np.unique(own[seen]):
        mine = own[seen] == word
        table[own == word] = weight[mine] @ solved[mine] / weight[mine].sum()
    table[seen] = solved
    return table
