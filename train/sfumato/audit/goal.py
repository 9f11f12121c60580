"""Whether an artifact reaches what its training was asked for, measured on test.

Training chooses its epoch by figures of its own: a rate on validation, a residual on augmented images. What ships may differ.
So the targets of the configuration are compared with the artifact's own bounds on test images.

    goal = measure_goal(run.config, rate, bounds, desired)
    goal.met, goal.beyond_reached_bits
"""

import math
from collections.abc import Sequence

from sfumato.audit.metrics import Z
from sfumato.audit.schema import DesiredResult, Goal, InformationBounds, RateBits
from sfumato.training.config import TrainConfig


def measure_goal(
    config: TrainConfig,
    rate: RateBits,
    bounds: InformationBounds,
    desired: Sequence[DesiredResult],
    images: int,
) -> Goal | None:
    """Compare targets and figures; None if training had no target.

    Bits may exceed a target by the tolerance of the configuration, by which training chose its epoch too. A loss of accuracy
    may exceed its target by what chance explains (one-sided, 95 %).

    Args:
        config: of the training.
        rate: under a uniform prior, on test.
        bounds: on test.
        desired: accuracy on test.
        images: how many test images.
    """
    if config.bits is None and config.beyond is None and config.max_drop is None:
        return None
    tolerance = config.selection
    reached = rate.mean if config.prior == "uniform" else bounds.autoregressive
    drop = sum(one.clean_accuracy - one.accuracy for one in desired) / len(desired)
    accuracy = sum(one.accuracy for one in desired) / len(desired)
    chance = Z * math.sqrt(max(accuracy * (1 - accuracy), 1 / images) / images)
    met = (
        (config.bits is None or (reached is not None and reached <= tolerance.tolerance * config.bits))
        and (config.beyond is None or bounds.residual <= tolerance.residual_tolerance * config.beyond)
        and (config.max_drop is None or drop <= config.max_drop / 100 + chance)
    )
    return Goal(
        target_bits=config.bits,
        reached_bits=None if config.bits is None else reached,
        beyond_target_bits=config.beyond,
        beyond_reached_bits=None if config.beyond is None else bounds.residual,
        max_drop=None if config.max_drop is None else config.max_drop / 100,
        reached_drop=None if config.max_drop is None else drop,
        met=met,
    )
