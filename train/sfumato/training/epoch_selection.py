"""Which epoch of a run is kept, and how the rate target follows a goal given as accuracy.

A run is steered towards `--bits`, and perhaps `--beyond` (then the best epoch is the most accurate one within both targets),
or towards `--max-drop` (then it is the one with the lowest rate that keeps the accuracy). Where validation is too small to tell
epochs apart, `selection.keep = "last"` keeps the last one within targets of bits. Without any, as in the objective
`literal`, the last epoch is kept: the first ones, still without noise, would always be the most accurate. Limits of `--leak`
come beside either target.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Any

from sfumato.core.leak_limits import LeakLimit
from sfumato.training.config import Selection

DEFAULTS = Selection()


@dataclass(frozen=True)
class Targets:
    """What a run is steered towards.

    Attributes:
        bits: mean rate of an upload, of `--bits`; None where there is no rate target.
        least_accuracy: validation accuracy that `--max-drop` allows, a fraction; None without.
        beyond: bits beyond the decision, of `--beyond`; None without.
        leaks: hidden attribute -> the most that may be found of it, of `--leak`.
    """

    bits: float | None = None
    least_accuracy: float | None = None
    beyond: float | None = None
    leaks: Mapping[str, LeakLimit] = field(default_factory=dict)

    def leak_excess(self, found: Mapping[str, float] | None) -> float:
        """The largest leak as a multiple of its limit; 0 without limits, infinite where none was measured.

        >>> Targets(leaks={"race": LeakLimit(0.05)}).leak_excess({"race": 0.1})
        2.0
        """
        if not self.leaks:
            return 0.0
        return inf if found is None else max(found[name] / limit.most for name, limit in self.leaks.items())


@dataclass(frozen=True, order=True)
class Score:
    """Ordered: the larger score is the better epoch. `met` says whether the goal was reached at all."""

    met: bool
    first: float
    second: float


def score(
    accuracy: float,
    bits: float,
    targets: Targets,
    *,
    residual_bits: float = 0.0,
    leaks: Mapping[str, float] | None = None,
    settings: Selection = DEFAULTS,
) -> Score:
    """Rank an epoch.

    Args:
        accuracy: on validation, a fraction.
        bits: mean rate on validation.
        targets: of the run.
        residual_bits: mean rate beyond the decision; counts if there is a target for it.
        leaks: what the adversaries find of hidden attributes on validation; None before they have learned.
        settings: the tolerances.

    >>> score(0.9, 8.1, Targets(bits=8)) > score(0.95, 20, Targets(bits=8))
    True
    >>> last = Selection(keep="last")
    >>> score(0.9, 8.1, Targets(bits=8), settings=last) == score(0.95, 7.2, Targets(bits=8), settings=last)
    True
    >>> score(0.9, 8, Targets(least_accuracy=0.89)) > score(0.95, 20, Targets(least_accuracy=0.89))
    True
    """
    leak = targets.leak_excess(leaks)
    if targets.bits is not None:
        residual = residual_bits / targets.beyond if targets.beyond is not None else 0.0
        # The residual, a mean over a whole epoch of training, has its own tolerance; both are compared as multiples of it.
        excess = max(bits / targets.bits / settings.tolerance, residual / settings.residual_tolerance, leak)
        met = excess <= 1
        if met and settings.keep == "last":
            return Score(met, 0.0, 0.0)  # equal scores: the later epoch is kept
        return Score(met, accuracy if met else -excess, -bits)
    if targets.least_accuracy is not None:
        missing = targets.least_accuracy - accuracy
        met = missing <= 0 and leak <= 1
        return Score(met, -bits if met else -max(100 * missing, leak - 1, 0), accuracy)
    return Score(True, 0.0, 0.0)


def nearest(
    records: Sequence[Mapping[str, Any]], targets: Targets, settings: Selection = DEFAULTS
) -> list[Mapping[str, Any]]:
    """The epochs that come nearest to goals which were not met together, the most accurate first.

    Of two epochs only one is named if it is as accurate, keeps the rate as well and leaks no more.

    Args:
        records: of co-training.
        targets: with limits of leaks.
        settings: the tolerance of the rate.
    """
    points = []
    for record in records:
        if (leaks := record.get("val_leak")) is None:
            continue
        rate = record["val_rate_bits"] / targets.bits / settings.tolerance if targets.bits else 0.0
        points.append(
            ((record["val_accuracy"], -max(rate, 1.0), -max(targets.leak_excess(leaks), 1.0)), record)
        )
    points.sort(key=lambda pair: pair[0], reverse=True)
    found: list[tuple[tuple[float, float, float], Mapping[str, Any]]] = []
    for point, record in points:
        if not any(all(a >= b for a, b in zip(other, point, strict=True)) for other, _ in found):
            found.append((point, record))
    return [record for _, record in found]


def next_goal(goal: float, accuracy: float, least_accuracy: float, settings: Selection = DEFAULTS) -> float:
    """The goal of the next epoch in `--max-drop` mode: lower while the accuracy allows it, higher when it does not.

    >>> next_goal(10.0, accuracy=0.95, least_accuracy=0.9), next_goal(10.0, accuracy=0.85, least_accuracy=0.9)
    (8.0, 12.5)
    """
    return goal * (settings.lower_goal if accuracy >= least_accuracy else settings.raise_goal)


def corrected_goal(target: float, validated: float, trained: float, settings: Selection = DEFAULTS) -> float:
    """The goal of the next epoch, in bits or nats, so that unaugmented images meet the target.

    Their rate is higher than that of augmented ones, so the goal is the target times the ratio of the two. Late in a run, where
    the learning rate is small, the rate follows its goal slowly. So while validation is above the target, the goal is lower
    once more by what is missing. Nothing is carried from epoch to epoch: a goal that adds up its errors goes on falling while
    the rate lags, and the run ends far below what was asked for.

    Args:
        target: what was asked for; never exceeded.
        validated: rate of the epoch on the validation images.
        trained: rate of the epoch on the augmented images of training.
        settings: how far each of the two may lower it.

    >>> corrected_goal(10.0, validated=10.0, trained=9.0), corrected_goal(10.0, validated=12.5, trained=12.5)
    (9.0, 8.0)
    >>> corrected_goal(10.0, validated=5.0, trained=6.0), corrected_goal(10.0, validated=90.0, trained=90.0)
    (10.0, 8.0)
    """
    gap, missing = (
        min(max(share, settings.lower_goal), 1.0) for share in (trained / validated, target / validated)
    )
    return target * gap * missing
