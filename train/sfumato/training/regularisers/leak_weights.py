r"""The weights that hold hidden attributes at the limits of `leak`, so that a user states a leak and not a multiplier.

A leak is judged by the strongest adversary: as a NAG from its accuracy, (accuracy - guess) / (accuracy on photos - guess), or
in bits from its cross entropy, H(S|Y) - CE. While it is above its limit the weight of that attribute's suppression grows by a
factor a step, and below it shrinks again:
    w <- clip(w * exp(pace * clip((leak - most) / most, -1, 1)), least, limit).

These adversaries are those of training. What an attacker who comes later finds is for the audit to say.

    weights = LeakWeights({"race": LeakLimit(0.05)}, {"race": scale}, first=1.0)
    weights.update({"race": successes(adversaries, labels, "race")})
    weights["race"]
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import exp
from math import log as ln
from typing import Any

import torch.nn.functional as F

from sfumato.core.leak_limits import LeakLimit
from sfumato.training.config import LeakControl
from sfumato.training.losses import Labels, Logits

DEFAULTS = LeakControl()
LEAST_RANGE = 0.01
"""Accuracy on photos beyond the guess that a NAG is at least a share of: where photos tell nothing, nothing can leak."""


@dataclass(frozen=True)
class LeakScale:
    """Between which figures the leak of one attribute lies.

    Attributes:
        guess: accuracy from the desired labels alone, a fraction.
        photos: accuracy of the best adversary on photos.
        entropy: H(S|Y) in nats.
    """

    guess: float
    photos: float
    entropy: float

    def leak(self, limit: LeakLimit, accuracy: float, cross_entropy: float) -> float:
        """What an adversary finds, in the unit of the limit; below 0 where it does worse than a guess.

        >>> LeakScale(0.5, 0.9, 0.69).leak(LeakLimit(0.05), accuracy=0.6, cross_entropy=0.6)
        0.25
        """
        if limit.in_bits:
            return (self.entropy - cross_entropy) / ln(2)
        return round((accuracy - self.guess) / max(self.photos - self.guess, LEAST_RANGE), 9)


@dataclass
class Success:
    """How well one adversary does on one attribute: accuracy, a fraction, and cross entropy in nats."""

    accuracy: float
    cross_entropy: float


def successes(outputs: Sequence[Logits], labels: Labels, name: str) -> list[Success]:
    """Of every adversary on a batch."""
    found = []
    for logits in outputs:
        right = (logits[name].argmax(1) == labels[name]).float().mean()
        found.append(Success(right.item(), F.cross_entropy(logits[name], labels[name]).item()))
    return found


def largest_leak(limit: LeakLimit, scale: LeakScale, found: Sequence[Success]) -> float:
    """Of the strongest adversary."""
    return max(scale.leak(limit, one.accuracy, one.cross_entropy) for one in found)


class LeakWeights:
    """The weights, and the running means of each adversary's success.

    Args:
        limits: attribute -> the most that may be found.
        scales: of the same attributes.
        first: weight at the beginning.
        settings: pace, momentum and bounds.
    """

    def __init__(
        self,
        limits: Mapping[str, LeakLimit],
        scales: Mapping[str, LeakScale],
        first: float,
        settings: LeakControl = DEFAULTS,
    ) -> None:
        self.limits, self.scales, self.settings = limits, scales, settings
        self.weights = dict.fromkeys(limits, min(max(first, settings.least_weight), settings.limit))
        self.means: dict[str, list[Success]] = {}

    def __getitem__(self, name: str) -> float:
        """The weight of an attribute's suppression."""
        return self.weights[name]

    def leak(self, name: str) -> float:
        """Running mean of what the strongest adversary finds, in the unit of its limit."""
        return largest_leak(self.limits[name], self.scales[name], self.means[name])

    def update(self, found: Mapping[str, Sequence[Success]]) -> None:
        """Take in a batch: attribute -> how well each adversary did."""
        keep, how = self.settings.momentum, self.settings
        for name, now in found.items():
            self.means[name] = [
                Success(
                    keep * old.accuracy + (1 - keep) * new.accuracy,
                    keep * old.cross_entropy + (1 - keep) * new.cross_entropy,
                )
                for old, new in zip(self.means.get(name, now), now, strict=True)
            ]
            most = self.limits[name].most
            error = min(max((self.leak(name) - most) / most, -1.0), 1.0)
            moved = self.weights[name] * exp(how.pace * error)
            self.weights[name] = min(max(moved, how.least_weight), how.limit)

    def state_dict(self) -> dict[str, Any]:
        """Numbers alone."""
        return {
            "weights": dict(self.weights),
            "scales": {name: asdict(scale) for name, scale in self.scales.items()},
            "means": {name: [asdict(one) for one in of_each] for name, of_each in self.means.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where the weights stood that gave `state`."""
        self.weights = {name: float(state["weights"][name]) for name in self.limits}
        self.scales = {name: LeakScale(**state["scales"][name]) for name in self.limits}
        self.means = {name: [Success(**one) for one in of_each] for name, of_each in state["means"].items()}
