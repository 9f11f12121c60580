"""Whether a given cloud network understands the data: its classes in our order, its images in our range.

    check_fit(cloud, config, dataset)

A network whose classes are swapped is perfect at being wrong, and one that takes 0..255 says the same about every image in
0..1. Both train to the end and mean nothing. So a few clean photos are asked first. If the answers are no better than a guess,
the same photos are tried in other ranges and the classes in other orders: the error names the option that would help.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import nn

from sfumato.core.errors import SfumatoError, UsageError
from sfumato.core.options import names
from sfumato.data import Dataset, Split
from sfumato.models.onnx.given import RANGES, range_of
from sfumato.models.tensors import evaluating
from sfumato.training.loader import Batches

if TYPE_CHECKING:
    from sfumato.training.config import TrainConfig

PHOTOS = 500
"""Clean validation images that are asked at most."""
MUCH = 0.05
"""Share of right answers that another input range must add, beyond chance, before it is taken for the right one."""


def read_orders(text: str, classes: Mapping[str, Sequence[str]]) -> dict[str, tuple[int, ...]]:
    """The places of the data's classes among a network's outputs.

    >>> read_orders("yes,no", {"hat": ("no", "yes")})
    {'hat': (1, 0)}

    Args:
        text: `--class-order`: the classes of one attribute in the network's order, or `name=classes` several times with `;`.
        classes: kept attribute -> its classes in the order of the data.

    Raises:
        UsageError: an attribute that is not kept, or other classes than the data have.
    """
    orders = {}
    for part in filter(None, map(str.strip, text.split(";"))):
        attribute, separator, order = part.partition("=")
        if not separator and len(classes) == 1:
            attribute, order = next(iter(classes)), part
        attribute, given = attribute.strip(), names(order)
        if attribute not in classes:
            raise UsageError(
                f"--class-order names {attribute!r}: give ATTRIBUTE=CLASS,CLASS;... for the kept {', '.join(classes)}"
            )
        if sorted(given) != sorted(classes[attribute]):
            raise UsageError(
                f"--class-order of {attribute} is {', '.join(given)}; the data have {', '.join(classes[attribute])}"
            )
        orders[attribute] = tuple(given.index(name) for name in classes[attribute])
    return orders


@dataclass(frozen=True)
class Fit:
    """What a network says about one attribute of some photos: how often class k of the data was answered by output j."""

    counts: NDArray[np.int64]
    """(classes, outputs)."""

    @property
    def photos(self) -> int:
        """How many."""
        return int(self.counts.sum())

    @property
    def accuracy(self) -> float:
        """Share of right answers."""
        return float(np.trace(self.counts) / self.photos)

    @property
    def guess(self) -> float:
        """Share of the commonest class."""
        return float(self.counts.sum(1).max() / self.photos)

    @property
    def best_order(self) -> tuple[int, ...]:
        """For every class the output that would be right most often."""
        _, places = linear_sum_assignment(-self.counts)
        return tuple(int(place) for place in places)

    def ordered(self, order: Sequence[int]) -> "Fit":
        """As if the outputs were in this order."""
        return Fit(self.counts[:, list(order)])

    def knows_something(self) -> bool:
        """Whether it beats a guess, or finds more of each class than chance would, rare classes counting as much as others."""
        share = self.accuracy
        if share - 2 * sqrt(share * (1 - share) / self.photos) > self.guess:
            return True
        totals = self.counts.sum(1)
        present = totals > 0
        found = np.diagonal(self.counts)[present] / totals[present]
        error = sqrt(float((found * (1 - found) / totals[present]).sum())) / len(found)
        return bool(found.mean() > 1 / len(found) + 2 * error)


def check_fit(cloud: nn.Module, config: "TrainConfig", dataset: Dataset) -> None:
    """Refuse a given network that knows no better than a guess, or that knows much more with another input range.

    What the user says explicitly (`class_order`, `input_range`) is believed: only what is not said is tried.

    Raises:
        SfumatoError: one line with the figures and what to check.
    """
    if config.class_order and config.input_range:
        return
    said: str = config.input_range or "0..1"
    known = {name: dataset.attributes[name].classes for name in config.keep}
    tried = {said: ask(cloud, config, dataset, said, said)}
    if not config.input_range:
        tried |= {other: ask(cloud, config, dataset, said, other) for other in RANGES if other != said}
    for attribute in config.keep:
        fits = {name: found[attribute] for name, found in tried.items()}
        now = fits[said]
        options = candidates(fits, said, orders=not config.class_order)
        (name, order), best = max(options.items(), key=lambda pair: pair[1].accuracy)
        gain = best.accuracy - now.accuracy
        better = gain > MUCH and gain > 3 * sqrt(max(gain, 1 / now.photos) / now.photos)
        if now.knows_something() and not (better and name != said):
            continue
        told = (
            f"{config.given_cloud} is right about {attribute} on {100 * now.accuracy:.1f} % of clean photos"
        )
        told += "" if now.knows_something() else f", no better than a guess ({100 * now.guess:.1f} %)"
        given = config.given_onnx is not None
        if better:
            advice = []
            if list(order) != list(range(len(order))):
                classes = [known[attribute][order.index(place)] for place in range(len(order))]
                text = ("" if len(known) == 1 else f"{attribute}=") + ",".join(classes)
                advice.append(f"--class-order {text}" if given else f"its classes in the order {text}")
            if name != said:
                advice.append(f"--input-range {name}" if given else f"images in the range {name}")
            raise SfumatoError(f"{told}; with {' and '.join(advice)} it would be {100 * best.accuracy:.1f} %")
        where = "(--class-order)", "(--input-range)"
        raise SfumatoError(
            f"{told}: check that it was trained for this question, the order of its classes {where[0] if given else ''}"
            f"{' ' if given else ''}(the data have {', '.join(known[attribute][:10])}) and its input range "
            f"{where[1] if given else '(uploads are in 0..1)'}"
        )


def candidates(fits: Mapping[str, Fit], said: str, *, orders: bool) -> dict[tuple[str, tuple[int, ...]], Fit]:
    """Every input range as it is and, where that knows nothing, with the order of classes that suits it best."""
    found = {}
    for name, fit in fits.items():
        same = tuple(range(len(fit.counts)))
        found[name, same] = fit
        if orders and not fit.knows_something():
            found[name, fit.best_order] = fit.ordered(fit.best_order)
    return found


def ask(cloud: nn.Module, config: "TrainConfig", dataset: Dataset, said: str, tried: str) -> dict[str, Fit]:
    """What the network, whose graph goes from 0..1 to the range `said`, answers about photos in the range `tried`."""
    (factor, offset), (new, shift) = (
        (torch.tensor(part, dtype=torch.float32).view(1, -1, 1, 1) for part in range_of(name, dataset.planes))
        for name in (said, tried)
    )
    batches = Batches(dataset, Split.VALIDATION, config.keep, min(config.batch_size, PHOTOS))
    counts = {
        name: np.zeros((count, count), np.int64)
        for name, count in ((name, len(dataset.attributes[name].classes)) for name in config.keep)
    }
    asked = 0
    with evaluating(cloud):
        for batch in batches.ordered():
            images = batch.images[: PHOTOS - asked]
            logits = cloud((images * new + shift - offset) / factor)
            for name, table in counts.items():
                np.add.at(
                    table, (batch.labels[name][: len(images)].numpy(), logits[name].argmax(1).numpy()), 1
                )
            asked += len(images)
            if asked >= PHOTOS:
                break
    return {name: Fit(table) for name, table in counts.items()}
