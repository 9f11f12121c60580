"""Tournament: many networks start, few are trained to the end (successive halving, Jamieson and Talwalkar, AISTATS 2016).

All contestants see the same batches, so an upload is drawn once for all. Each round trains a third of its contestants for
three times the epochs: with three rounds, all have a ninth of them, a third of all goes on to a third, and a third of those
to the end. The learning rate rises and falls in every round (warm restarts, Loshchilov and Hutter, ICLR 2017), so whoever is
compared has settled. The rest keeps what it has reached, and is reported with it. Attributes take turns in choosing who goes
on, each the network with its least cross entropy on validation, or choose by the sum. The test images have no say.

    for step in Tournament(data, ("race",), contestants, rounds=3).steps(): step.run()
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from torch import nn

from sfumato.audit.attack_data import AttackData
from sfumato.audit.attacks.fit import EFFORT, ROUND_LOOKS, Fit, Recipe, evaluation_images, train_epoch
from sfumato.audit.predictions import Prediction, Step

Start = Callable[[AttackData, tuple[str, ...], Recipe], nn.Module]
"""Makes a network for a group of attributes, before any training on uploads."""
RATE = 3
"""One in so many goes on, for so many times the epochs."""


@dataclass(frozen=True)
class Contestant:
    """A network and how it is trained."""

    start: Start
    recipe: Recipe

    @property
    def effort(self) -> float:
        """Time of an epoch, in epochs of the small cnn."""
        return EFFORT.get(self.recipe.architecture, 1.0)


def survivors(losses: list[dict[str, float]], count: int) -> list[int]:
    """Who goes on: attributes take turns, each choosing the least loss that is left.

    With fewer places than attributes, the least sums go on.

    >>> losses = [{"a": 0.5, "b": 0.9}, {"a": 0.7, "b": 0.1}, {"a": 0.4, "b": 0.3}]
    >>> survivors(losses, 2), survivors(losses, 1)
    ([1, 2], [2])
    """
    if count < len(losses[0]):  # the first attribute alone would choose what reads no other
        order = sorted(range(len(losses)), key=lambda index: (sum(losses[index].values()), index))
        return sorted(order[:count])
    left = set(range(len(losses)))
    chosen: list[int] = []
    while left and len(chosen) < count:
        for name in losses[0]:
            if left and len(chosen) < count:
                best = min(left, key=lambda index: (losses[index][name], index))
                left.remove(best)
                chosen.append(best)
    return sorted(chosen)


@dataclass
class Tournament:
    """Contestants on one group of attributes."""

    data: AttackData
    attributes: tuple[str, ...]
    contestants: list[Contestant]
    rounds: int
    """At least 1; with 1 all are trained to the end."""
    played: int = 0
    fits: list[Fit] = field(default_factory=list)
    """Those still in training."""
    finished: list[Fit] = field(default_factory=list)
    """Those trained to the end."""

    @property
    def clean(self) -> bool:
        """Whether the networks read clean images."""
        return self.contestants[0].recipe.clean

    def share(self, number: int) -> float:
        """Part of all epochs that is done after a round; 1 after the last."""
        return float(RATE ** (number - self.rounds))

    def goes_on(self, count: int) -> int:
        """How many of `count` go on."""
        return -(-count // RATE)

    def play(self, number: int) -> list[Prediction]:
        """Play round `number`, from 1 on, and those before it that were not played; returns who leaves with it."""
        left: list[Fit] = []
        while self.played < number:
            left = self._next_round()
        if not left:
            return []
        _, test = evaluation_images(self.data, clean=self.clean)
        return [prediction for one in left for prediction in self._leave(one, number, test)]

    def _leave(self, one: Fit, number: int, test: Iterable[torch.Tensor]) -> list[Prediction]:
        predictions = one.predictions(test)
        if number == self.rounds:
            return predictions
        # It was not given the time to learn: that it did not is no failure of the optimisation.
        return [replace(prediction, note=None, early=True) for prediction in predictions]

    def _next_round(self) -> list[Fit]:
        """Train everybody to the end of the next round; returns those who leave."""
        data, names = self.data, self.attributes
        with torch.random.fork_rng():
            if not self.fits:
                self.fits = [
                    Fit(one.start(data, names, one.recipe), data, names, one.recipe)
                    for one in self.contestants
                ]
            self.played += 1
            torch.manual_seed(data.seed_for(f"tournament/{names}/{self.played}/dropout"))
            generator = data.generator(f"tournament/{names}/{self.played}")
            validation, _ = evaluation_images(data, clean=self.clean)
            until = max(
                self.played, round(self.share(self.played) * max(one.recipe.epochs for one in self.fits))
            )
            for one in self.fits:
                one.begin(until, -(-(until - one.epoch) // ROUND_LOOKS))
            while running := [one for one in self.fits if not one.finished]:
                for one, reached in zip(running, train_epoch(running, data, generator), strict=True):
                    one.evaluate(validation, reached)
        if self.played == self.rounds:
            self.finished, self.fits = self.fits, []
            return self.finished
        losses = [{name: best.loss for name, best in one.best.items()} for one in self.fits]
        chosen = survivors(losses, self.goes_on(len(self.fits)))
        left = [one for index, one in enumerate(self.fits) if index not in chosen]
        self.fits = [self.fits[index] for index in chosen]
        return left

    def steps(self) -> list[Step]:
        """One piece of work a round."""
        count, done, steps = len(self.contestants), 0.0, []
        effort = sum(one.effort for one in self.contestants) / max(1, count)
        epochs = max(one.recipe.epochs for one in self.contestants)
        for number in range(1, self.rounds + 1):
            part = self.share(number) - done
            steps.append(
                Step(
                    title=f"{count} networks, round {number}",
                    run=partial(self.play, number),
                    work=count * effort * epochs * part,
                )
            )
            done, count = self.share(number), self.goes_on(count)
        return steps
