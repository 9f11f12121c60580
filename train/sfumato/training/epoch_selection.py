"""Which epoch of a run is kept, and how the rate target follows a goal given as accuracy.

A run is steered towards `--bits`, and perhaps `--beyond` (then the best epoch is the most accurate one within both targets),
or towards `--max-drop` (then it is the one with the lowest rate that keeps the accuracy). Without any, as in the objective
`seed`, the last epoch is kept: the first ones, still without noise, would always be the most accurate.
"""

from dataclasses import dataclass

TOLERANCE = 1.05
"""An epoch counts as within its rate target up to 5 % above it: the target is a mean over batches."""
RESIDUAL_TOLERANCE = 1.5
"""The residual rate within its target: it is seen on varied images only, while it still falls."""
EASE, PRESS = 1.25, 0.8
"""Factors by which the goal moves per epoch when accuracy is short of, or within, the allowed drop; a rate target moves it no
further than that."""


@dataclass(frozen=True, order=True)
class Score:
    """Ordered: the larger score is the better epoch. `met` says whether the goal was reached at all."""

    met: bool
    first: float
    second: float


def score(
    accuracy: float,
    bits: float,
    *,
    target_bits: float | None,
    least_accuracy: float | None,
    residual: float = 0.0,
) -> Score:
    """Rank an epoch.

    Args:
        accuracy: on validation, a fraction.
        bits: mean rate on validation.
        target_bits: of `--bits`.
        least_accuracy: of `--max-drop`, a fraction.
        residual: what goes beyond the decision, in parts of its target.

    >>> score(0.9, 8.1, target_bits=8, least_accuracy=None) > score(0.95, 20, target_bits=8, least_accuracy=None)
    True
    >>> score(0.9, 8, target_bits=None, least_accuracy=0.89) > score(0.95, 20, target_bits=None, least_accuracy=0.89)
    True
    """
    if target_bits is not None:
        # The residual, a mean over a whole epoch of training, has its own tolerance; both are compared as multiples of it.
        excess = max(bits / target_bits / TOLERANCE, residual / RESIDUAL_TOLERANCE)
        met = excess <= 1
        return Score(met, accuracy if met else -excess, -bits)
    if least_accuracy is not None:
        met = accuracy >= least_accuracy
        return Score(met, -bits if met else accuracy, accuracy)
    return Score(True, 0.0, 0.0)


def next_goal(goal: float, accuracy: float, least_accuracy: float) -> float:
    """The goal of the next epoch in `--max-drop` mode: lower while the accuracy allows it, higher when it does not.

    >>> next_goal(10.0, accuracy=0.95, least_accuracy=0.9), next_goal(10.0, accuracy=0.85, least_accuracy=0.9)
    (8.0, 12.5)
    """
    return goal * (PRESS if accuracy >= least_accuracy else EASE)


def corrected_goal(goal: float, target: float, validated: float, trained: float) -> float:
    """The goal of the next epoch, in bits or nats, so that images as they are meet the target.

    They say more than the varied ones of training do, and late in a run, where the learning rate has nearly gone, the rate
    follows its goal too slowly. So the goal goes below the target while validation is above it, and comes back when that
    was too much. While the rate still lags far behind, it stays near the goal that would do once it has arrived: lowered
    epoch after epoch it would end far below, and the rate with it.

    Args:
        goal: of the epoch that ended.
        target: what was asked for; never exceeded.
        validated: rate of the epoch on the validation images.
        trained: rate of the epoch on those of training, as they were varied.

    >>> corrected_goal(10.0, 10.0, validated=10.4, trained=10.0), corrected_goal(10.0, 10.0, validated=12.5, trained=10.0)
    (10.0, 8.0)
    >>> corrected_goal(8.0, 10.0, validated=9.0, trained=8.0), corrected_goal(10.0, 10.0, validated=5.0, trained=5.0)
    (8.88888888888889, 10.0)
    >>> corrected_goal(8.0, 10.0, validated=90.0, trained=90.0)
    8.0
    """
    if target / TOLERANCE <= validated <= TOLERANCE * target:
        return goal
    lowest = PRESS * target * trained / validated
    return min(target, max(lowest, goal * min(max(target / validated, PRESS), EASE)))
