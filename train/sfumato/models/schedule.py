"""The learning rate as a pure function of the step, so that it needs no state in a checkpoint."""

from math import cos, pi

import torch

CLIMB = 0.2
"""Share of the run in which the rate climbs to its peak."""
START = 0.04
"""The rate of the first step, as a share of the peak."""


def one_cycle(step: int, steps: int, peak: float, *, climb: float = CLIMB, start: float = START) -> float:
    """Cosine climb from `start * peak` to `peak`, then cosine descent to zero (after Smith and Topin, 2018).

    Args:
        step: from 0.
        steps: of the whole run.
        peak: largest learning rate.
        climb: share of the run in which the rate climbs, 0..1.
        start: the rate of the first step, as a share of `peak`.

    >>> [round(one_cycle(step, 100, 1.0), 3) for step in (0, 20, 60, 100)]
    [0.04, 1.0, 0.5, 0.0]
    """
    progress = step / max(steps, 1)
    if progress < climb:
        risen = (1 - cos(pi * progress / climb)) / 2
        return peak * (start + (1 - start) * risen)
    if climb == 1:
        return peak
    return peak * (1 + cos(pi * (progress - climb) / (1 - climb))) / 2


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of every parameter group: `rate`, or the group's own share of it."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("share", 1.0)
