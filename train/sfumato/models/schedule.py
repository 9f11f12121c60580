"""The learning rate as a pure function of the step, so that it needs no state in a checkpoint."""

from math import cos, pi

import torch

WARM_UP = 0.2
"""Share of the run in which the rate climbs to its peak."""


def one_cycle(step: int, steps: int, peak: float) -> float:
    """Cosine climb from peak / 25 to `peak`, then cosine descent to zero (after Smith and Topin, 2018).

    >>> [round(one_cycle(step, 100, 1.0), 3) for step in (0, 20, 60, 100)]
    [0.04, 1.0, 0.5, 0.0]
    """
    progress = step / max(steps, 1)
    if progress < WARM_UP:
        climb = (1 - cos(pi * progress / WARM_UP)) / 2
        return peak * (0.04 + 0.96 * climb)
    return peak * (1 + cos(pi * (progress - WARM_UP) / (1 - WARM_UP))) / 2


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of every parameter group."""
    for group in optimizer.param_groups:
        group["lr"] = rate
