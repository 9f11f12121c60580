"""What an attack predicts, and how its confidence is calibrated.

An attack gives *scores* f(x', s): by how much the upload speaks for class s, as a log-likelihood ratio. Its guess follows
from the scores and the class frequencies that the attacker knows from its own split:

    log P(s | x') = log_softmax( t * f(x', s) + log prior(s) )

One temperature t is fitted on validation, for every attack alike. An overconfident network is not punished twice: a useless
one falls back to the majority guess (t = 0), and its cross entropy still gives a lower bound on the leak. Training networks
on f + log prior is the logit adjustment of Menon et al. (ICLR 2021). On unbalanced labels, `f` alone gives the best balanced
accuracy and the sum the best plain accuracy, from one network.

    prediction = Prediction(attack="probe", architecture="cnn", attribute="race", validation=f_val, test=f_test)
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax

from sfumato.audit.schema import Input, Reconstruction

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

Groups = tuple[tuple[str, ...], ...]
"""Attributes to attack, grouped by the network they share."""

TEMPERATURES = np.concatenate([[0.0], np.geomspace(1 / 64, 8, 28)])


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """Scores of one attack for one attribute."""

    attack: str
    architecture: str
    attribute: str
    validation: Floats
    """(n_validation * draws, classes) scores."""
    test: Floats
    """(n_test, classes) scores."""
    lr: float | None = None
    """Peak learning rate, where there is one."""
    epochs: int = 0
    """Passes over the attacker's images that were trained."""
    best_epoch: int = 0
    """The pass whose network is reported."""
    note: str | None = None
    """A remark for the report, for instance that the optimisation failed."""
    clean: bool = False
    """True if validation and test are clean images and not uploads: the reference of NAG, not an attack."""
    floor: bool = False
    """True if the prediction needs no upload."""
    calibrate: bool = True
    """False if the attacker would not have known uploads to calibrate on."""
    averaged: Literal["fresh", "keyed"] | None = None
    """Set if the attacker held several uploads of every image: under fresh noise, which does not ship, or keyed."""
    train_auc: float | None = None
    """Best AUC on the attacker's own images in any epoch; .5 means that nothing was learned even there."""
    early: bool = False
    """True if its network left a tournament before the last round."""

    @property
    def input(self) -> Input:
        """What the attack looked at."""
        if self.floor:
            return "labels"
        if self.averaged == "fresh":
            return "averaged fresh uploads"
        return "clean images" if self.clean else "uploads"


@dataclass(frozen=True, kw_only=True)
class ReconstructedImages:
    """Test images reconstructed from their uploads."""

    figures: Reconstruction
    images: NDArray[np.uint8]
    """The first few, (m, H, W, 3), for the report; or several of each, (rows, m, H, W, 3)."""


AttackOutput = Prediction | ReconstructedImages


@dataclass(frozen=True, kw_only=True)
class Step:
    """One piece of work; `run` may take minutes."""

    title: str
    run: Callable[[], Sequence[AttackOutput]]
    work: float = 2.0
    """How long it takes beside other pieces, for an estimate of the time left: epochs of a small network."""


def all_attributes(groups: Groups) -> tuple[str, ...]:
    """The attributes of all groups, in order."""
    return tuple(name for group in groups for name in group)


def log_prior(labels: Ints, classes: int) -> Floats:
    """Log frequencies (classes,); half a count is added, so an unseen class keeps a little probability."""
    counts = np.bincount(labels, minlength=classes) + 0.5
    return np.asarray(np.log(counts / counts.sum()))


def log_posterior(scores: Floats, prior: Floats, temperature: float) -> Floats:
    """`log_softmax(t f + log prior)`, (n, classes).

    >>> log_posterior(np.zeros((1, 2)), np.log([0.25, 0.75]), 1.0).round(3).tolist()
    [[-1.386, -0.288]]
    """
    return np.asarray(log_softmax(temperature * scores + prior, axis=1))


def cross_entropy(log_probabilities: Floats, labels: Ints) -> float:
    """Mean -log2 P(label), in bits."""
    return float(-log_probabilities[np.arange(len(labels)), labels].mean() / np.log(2))


def fit_temperature(scores: Floats, labels: Ints, prior: Floats) -> float:
    """The temperature of least cross entropy on a grid from 0 (ignore the scores) to 8."""
    if not np.isfinite(scores).all():
        return 0.0

    @cache
    def loss(index: int) -> float:
        return cross_entropy(log_posterior(scores, prior, float(TEMPERATURES[index])), labels)

    # Cross entropy is convex in the temperature, so halving the grid finds the same point as trying all of it.
    low, high = 0, len(TEMPERATURES) - 1
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if loss(middle) <= loss(middle + 1) else (middle + 1, high)
    return float(TEMPERATURES[low])
