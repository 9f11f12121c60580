"""The reader of a word: an attacker that knows from its own images how often each value goes with each word.

    P(s | w)  ~  n(w, s) + a P(s)        n: counts on the attacker's split, expected ones where the word is drawn

The strength a of the prior decides how far a rare word is believed. It has the least cross entropy on the attacker's own
images, each read by the counts of all others (leave-one-out). A word has no structure beyond these counts, so another attacker
reads more from it only with more labelled images.

It is measured like any attacker, by all four measures. A drawn word counts with its probability: each pair of image and word
is a row, and what the rows of an image contribute is added up before the standard error, since images vary and words do not.

    answers, rows = read_words(table, states, values, sample, classes=5)
    estimates = measure(answers, rows, entropy_bits)
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from sfumato.audit.metrics import Answers, Floats, Ints, Sample
from sfumato.audit.predictions import log_prior
from sfumato.data import Split
from sfumato.training.answer_table import AnswerTable

STRENGTHS = np.geomspace(0.25, 4096, 15)
"""Images that the prior counts for; with the most, words hardly tell anything but still rank."""


@dataclass(frozen=True)
class Sent:
    """Pairs of an image and a word that may go out for it."""

    image: Ints
    """(rows,)"""
    word: Ints
    """(rows,)"""
    probability: Floats
    """(rows,), 1 in total for every image."""


def sent_words(table: AnswerTable, states: Ints) -> Sent:
    """Every word that may go out for images of these states, (n,)."""
    if table.probabilities is None:
        return Sent(np.arange(len(states)), states, np.ones(len(states)))
    possible = table.probabilities > 0
    image = np.repeat(np.arange(len(states)), possible.sum(1)[states])
    word = np.nonzero(possible[states])[1]
    return Sent(image, word, table.probabilities[states[image], word])


def learn(table: AnswerTable, states: Ints, values: Ints, classes: int) -> tuple[Floats, Floats]:
    """Log posterior of every value given each word, (words, classes), and the log prior (classes,), from n images.

    Args:
        table: of the answer.
        states, values: (n,) of the attacker's images.
        classes: values of the attribute.
    """
    sent, prior = sent_words(table, states), log_prior(values, classes)
    counts, shares = table.counts(states, values, classes), np.exp(prior)
    truth, totals = values[sent.image], counts.sum(1)
    # What all other images say about a word and the value of this one.
    same = np.maximum(counts[sent.word, truth] - sent.probability, 0.0)
    others = np.maximum(totals[sent.word] - sent.probability, 0.0)

    def gain(strength: float) -> float:
        logs = np.log((same + strength * shares[truth]) / (others + strength))
        return round(float(sent.probability @ logs), 6)

    # Of equal ones the largest: words that occur once confirm nothing.
    strength = max(STRENGTHS[::-1], key=gain)
    posterior = (counts + strength * shares) / (totals[:, None] + strength)
    return np.log(posterior), prior


def read_words(
    table: AnswerTable,
    states: Mapping[Split, Ints],
    values: Mapping[Split, Ints],
    sample: Sample,
    *,
    classes: int,
) -> tuple[Answers, Sample]:
    """What the reader says about every pair of test image and word, and these pairs as a sample of the population.

    Args:
        table: of the answer.
        states, values: (n,) for the attacker's split and for test.
        sample: the test images, as a sample of the population.
        classes: values of the attribute.
    """
    logs, prior = learn(table, states[Split.ATTACKER], values[Split.ATTACKER], classes)
    sent = sent_words(table, states[Split.TEST])
    rows = Sample(
        sample.labels[sent.image],
        sample.strata[sent.image],
        sample.weights[sent.image] * sent.probability,
        sent.image,
    )
    said = logs[sent.word]
    return Answers(said, said, np.asarray((logs - prior).argmax(1))[sent.word]), rows
