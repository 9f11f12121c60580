"""The exact leak of answer mode: a word is a finite message, so what it tells about any attribute is counted, not attacked.

    leaks = exact_leaks(artifact, ("gender", "race"))
    leaks[0].accuracy, leaks[0].accuracy_limits, leaks[0].bits
    record = leaks[0].record(clean.answers)         # for audit.json, where a clean attacker's answers are known

For every word the best guess of an attribute is the value most frequent with it; a trained attacker can at best find the same
guess. The counts are expected ones where the word is drawn from a table: no chance of a draw is in the figures.

Accuracy is blind to a rare class: a word that all of its images share with as many others tells nearly everything, and no
guess changes. So the pass rule reads the gains of the reader of a word (`sfumato.audit.word_reader`), by the same four
measures, floors and weights as those of a trained attacker. Of accuracy it takes the larger of two limits, that of the
standard error and that of the bootstrap below.

- `accuracy`: guess learned on the attacker's split, scored on test: what an attacker gets who has that many labelled photos.
- `optimum`: guess chosen on test itself; no fixed guess is right more often there. It flatters the attacker.
- Limits are one-sided, at 95 %. Of the accuracy: Clopper and Pearson (1934), with the expected number of right guesses. Of
  gain and information: bootstrap over the test images in which the attacker chooses the guess anew in every resample, so that
  a limit is not zero because two guesses happen to be equal.
- `bits` is a plug-in estimate, too high on average by `bits_bias` (Miller, 1955).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from sfumato.audit.floors import Population, kept_cells, measure_population
from sfumato.audit.metrics import (
    LEAST_GAIN,
    Answers,
    Estimate,
    Sample,
    class_areas,
    class_gains,
    gains,
    measure,
    normalised_gain,
)
from sfumato.audit.schema import ExactLeak, Gain, MeasureName
from sfumato.audit.verification import verification
from sfumato.audit.word_reader import read_words
from sfumato.core.errors import UsageError
from sfumato.data import Dataset, Split
from sfumato.data.contingency import (
    best_guess,
    cross_counts,
    guess_accuracy,
    information_bias,
    mutual_information,
)
from sfumato.data.dataset import Floats, Ints
from sfumato.data.intervals import clopper_pearson
from sfumato.data.label_cells import label_cells
from sfumato.data.label_dependence import entropy
from sfumato.training.answer_table import AnswerTable, value_groups

RESAMPLES = 1000
CHUNK = 50
LEVEL = 0.95
LEAST_OF_CELL = 20
"""Images that a value needs within a true label for the odds to be compared on test."""


class AnswerArtifact(Protocol):
    """A run or export of answer mode."""

    @property
    def dataset(self) -> Dataset:
        """The data it was trained on."""
        ...

    @property
    def keep(self) -> tuple[str, ...]:
        """Desired attributes."""
        ...

    @property
    def hide(self) -> tuple[str, ...]:
        """Declared undesired attributes."""
        ...

    @property
    def table(self) -> AnswerTable:
        """Which word goes out for which state of the scores."""
        ...

    def scores(self, images: NDArray[np.uint8]) -> NDArray[np.int8]:
        """int8 scores (N, S) of images (N, H, W, 3)."""
        ...


@dataclass(frozen=True, eq=False)
class AnswerLeak:
    """What a word tells about one attribute; accuracies are fractions of 1."""

    attribute: str
    declared: bool
    counts: Floats
    """(words, values): expected number of test images; only words that occur."""
    words: int
    """Of the whole alphabet."""
    accuracy: float
    accuracy_limits: tuple[float, float]
    """Each one-sided, at 95 %."""
    optimum: float
    balanced_accuracy: float
    """Mean recall over the values of the guess that is best for it."""
    auc: float
    floor: float
    """Accuracy of the best guess from the true kept labels, learned and scored as `accuracy` is."""
    gain_upper: float
    """Upper limit of accuracy - floor, in fractions; may be below 0."""
    floor_bits: float
    """What the true kept labels tell of it on test, a plug-in estimate as `bits`: no word that answers rightly tells less."""
    bits: float
    bits_bias: float
    bits_upper: float
    entropy_bits: float
    odds_gap: float | None
    """Largest difference of a word's probability between two values of the attribute, given the true label, on test; None where
    no label has enough images of two values. Chance alone makes it larger than 0."""
    reader: Mapping[MeasureName, Estimate]
    """What the reader of a word reaches, by every measure."""
    areas: Mapping[int, Estimate]
    """Its AUC for each value against the rest, where there are more than two."""
    values: tuple[str, ...]
    """Names of the values; empty where they are numbered."""
    said: Floats | None
    """(n_test, values) log posterior of the reader of a word, where it tells persons apart and every image has one word."""
    sample: Sample
    """The test images, weighted like the population."""
    population: Population

    def record(self, clean: Answers, *, asked: bool = False, seed: int = 0) -> ExactLeak:
        """For audit.json.

        Args:
            clean: what the best attacker on clean images says about the test images.
            asked: whether whoever audits asked for the attribute by name.
            seed: of the pairs of a verification.
        """
        floors, strata, entropy_bits = (
            self.population.floors,
            self.sample.strata,
            self.population.entropy_bits,
        )
        reference = measure(clean, self.sample, entropy_bits)
        by_measure = gains(self.reader, reference, floors, strata, entropy_bits)
        accuracy = normalised_gain(
            "accuracy",
            self.reader["accuracy"],
            reference["accuracy"],
            floors["accuracy"],
            strata,
            least_scale=True,
        )
        return ExactLeak(
            attribute=self.attribute,
            declared=self.declared,
            asked=asked,
            gains=tuple(self.no_less(one) if one.measure == "accuracy" else one for one in by_measure),
            class_gains=class_gains(
                self.areas,
                class_areas(clean, self.sample),
                self.population.class_floors,
                strata,
                self.values,
            ),
            words=self.words,
            images=round(float(self.counts.sum())),
            accuracy=self.accuracy,
            balanced_accuracy=self.balanced_accuracy,
            auc=self.auc,
            floor=self.floor,
            nag=accuracy.nag or 0.0,
            nag_upper=self.no_less(accuracy).upper or 0.0,
            bits=self.bits,
            bits_upper=self.bits_upper,
            entropy_bits=self.entropy_bits,
            verification=None
            if self.said is None
            else verification(self.said, clean.log_probabilities, self.sample.labels, seed=seed),
        )

    def no_less(self, gain: Gain) -> Gain:
        """A gain in accuracy whose upper limit is that of the bootstrap, where that one is larger."""
        if gain.upper is None:
            return gain
        limit = self.gain_upper / max(gain.clean - gain.floor, LEAST_GAIN)
        return gain.model_copy(update={"upper": max(gain.upper, limit)})


def exact_leaks(artifact: AnswerArtifact, names: Sequence[str], *, seed: int = 0) -> tuple[AnswerLeak, ...]:
    """The leak of attributes, whether they were declared or not.

    Args:
        artifact: of answer mode.
        names: attributes of its data set that are not kept.
        seed: of the resamples.

    Raises:
        DataError: an unknown attribute.
        UsageError: an attribute is kept.
    """
    data, table = artifact.dataset, artifact.table
    data.require(list(names))
    if kept := [name for name in names if name in artifact.keep]:
        raise UsageError(
            f"{', '.join(kept)}: the upload is meant to tell this; choose attributes that are not kept"
        )
    states, labels = {}, {}
    cells = kept_cells(data, artifact.keep)
    for split in (Split.ATTACKER, Split.TEST):
        rows = data.splits[split]
        states[split] = table.states(artifact.scores(np.array(data.images[rows])))
        labels[split] = {name: values[rows] for name, values in data.labels.items()}
    return tuple(
        leak_of(
            table,
            name,
            states,
            {split: of[name] for split, of in labels.items()},
            {split: [of[kept] for kept in artifact.keep] for split, of in labels.items()},
            measure_population(data, cells, name),
            cells[data.splits[Split.TEST]],
            classes=len(data.attributes[name].classes),
            names=data.attributes[name].classes,
            declared=name in artifact.hide,
            person=name == data.identity,
            seed=seed,
        )
        for name in names
    )


def leak_of(
    table: AnswerTable,
    name: str,
    states: Mapping[Split, Ints],
    values: Mapping[Split, Ints],
    kept: Mapping[Split, Sequence[Ints]],
    population: Population,
    combinations: Ints,
    *,
    classes: int,
    names: Sequence[str] = (),
    declared: bool,
    person: bool = False,
    seed: int = 0,
) -> AnswerLeak:
    """The leak of one attribute.

    Args:
        table: of the answer.
        name: of the attribute.
        states: (n,) of `table.states`, for the attacker's split and for test.
        values: (n,) of the attribute, for both.
        kept: (n,) true class of every kept attribute, for both.
        population: floors and label counts.
        combinations: (n_test,) the combination of kept labels of every test image, as the population counts them.
        classes: values of the attribute.
        names: of these values.
        declared: whether it was declared hidden.
        person: whether it tells persons apart.
        seed: of the resamples.
    """
    test, truth = states[Split.TEST], values[Split.TEST]
    known, seen = (table.counts(states[s], values[s], classes) for s in (Split.ATTACKER, Split.TEST))
    cells = {split: label_cells(list(of), table.classes) for split, of in kept.items()}
    by_label = cross_counts(cells[Split.ATTACKER], values[Split.ATTACKER], (table.words, classes))
    floor_hits = best_guess(by_label)[cells[Split.TEST]] == truth
    guess = best_guess(known)
    accuracy = guess_accuracy(seen, guess)
    present = seen.sum(1) > 0
    gained, bits = resampled(table, test, truth, floor_hits, classes=classes, seed=seed)
    sample = population.sample(truth, combinations)
    answers, rows = read_words(table, states, values, sample, classes=classes)
    return AnswerLeak(
        attribute=name,
        declared=declared,
        counts=seen[present],
        words=table.words,
        accuracy=accuracy,
        accuracy_limits=clopper_pearson(accuracy * len(truth), len(truth), LEVEL),
        optimum=guess_accuracy(seen, best_guess(seen)),
        balanced_accuracy=balanced(seen, best_guess(likelihood(known))),
        auc=table_auc(seen, likelihood(known)),
        floor=float(floor_hits.mean()),
        gain_upper=float(np.quantile(gained, LEVEL)),
        floor_bits=mutual_information(cross_counts(cells[Split.TEST], truth, (table.words, classes))),
        bits=mutual_information(seen),
        bits_bias=information_bias(seen),
        bits_upper=float(np.quantile(bits, LEVEL)),
        entropy_bits=entropy(truth),
        odds_gap=odds_gap(table, test, truth, cells[Split.TEST]),
        reader=measure(answers, rows, population.entropy_bits),
        areas=class_areas(answers, rows),
        values=tuple(names),
        said=answers.log_probabilities if person and table.probabilities is None else None,
        sample=sample,
        population=population,
    )


def likelihood(counts: Floats) -> Floats:
    """Counts (words, values) divided by those of every value, with half an image spread over the words of each."""
    smooth = counts + 0.5 / len(counts)
    shares: Floats = smooth / smooth.sum(0, keepdims=True)
    return shares


def balanced(counts: Floats, guess: Ints) -> float:
    """Mean recall over the values that occur; `counts` (words, values), `guess` (words,)."""
    totals = counts.sum(0)
    right = np.zeros_like(totals)
    np.add.at(right, guess, counts[np.arange(len(counts)), guess])
    return float((right[totals > 0] / totals[totals > 0]).mean())


def table_auc(counts: Floats, shares: Floats) -> float:
    """Area under the ROC curve of the posterior, each value that occurs against the rest, averaged; .5 is chance.

    Args:
        counts: (words, values) expected test images.
        shares: (words, values) likelihoods that the attacker knows.
    """
    areas = []
    for value in range(counts.shape[1]):
        positive, negative = counts[:, value], counts.sum(1) - counts[:, value]
        if positive.sum() == 0 or negative.sum() == 0:
            continue
        rest = shares.sum(1) - shares[:, value]
        rank = np.unique(shares[:, value] / rest, return_inverse=True)[1]
        p, n = (np.bincount(rank, weights=one) for one in (positive, negative))
        below = np.concatenate([[0.0], n.cumsum()[:-1]])
        areas.append(float((p * (below + n / 2)).sum() / (p.sum() * n.sum())))
    return float(np.mean(areas)) if areas else 0.5


def odds_gap(table: AnswerTable, states: Ints, values: Ints, cells: Ints) -> float | None:
    """Largest difference of a word's probability between two values of an attribute within a true label; rare values pooled."""
    gaps = []
    for _, masks in value_groups(values, cells, LEAST_OF_CELL):
        sent = [
            table.counts(states[mask], np.zeros(int(mask.sum()), dtype=np.int64), 1)[:, 0] for mask in masks
        ]
        shares = np.stack([one / one.sum() for one in sent])
        gaps.append(float((shares.max(0) - shares.min(0)).max()))
    return max(gaps) if gaps else None


def resampled(
    table: AnswerTable,
    states: Ints,
    values: Ints,
    floor_hits: NDArray[np.bool_],
    *,
    classes: int,
    seed: int,
    resamples: int = RESAMPLES,
) -> tuple[Floats, Floats]:
    """Bootstrap over the test images: the gain of the best guess over the floor, and the information, each (resamples,).

    The attacker chooses the guess anew in every resample. That favours it, a little more with every word.
    """
    images = len(states)
    if table.probabilities is None:
        occurring, index = np.unique(states, return_inverse=True)
        sent = csr_matrix((np.ones(images), (np.arange(images), index)), shape=(images, len(occurring)))
    else:
        sent = csr_matrix(table.probabilities[states])
    words = sent.shape[1]
    coordinates = sent.tocoo()
    cells = coordinates.col.astype(np.int64) * classes + values[coordinates.row]
    counted = csr_matrix((coordinates.data, (cells, coordinates.row)), shape=(words * classes, images))
    rng, gained, bits = np.random.default_rng(seed), [], []
    for start in range(0, resamples, CHUNK):
        count = min(CHUNK, resamples - start)
        weights = rng.multinomial(images, np.full(images, 1 / images), size=count).astype(np.float64)
        floors = weights @ floor_hits / images
        for number, counts in enumerate((counted @ weights.T).T.reshape(count, words, classes)):
            gained.append(counts.max(1).sum() / images - floors[number])
            bits.append(mutual_information(counts))
    return np.array(gained), np.array(bits)
