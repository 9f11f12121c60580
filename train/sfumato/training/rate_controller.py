"""Finds the weight of the rate, so that a user states a goal and not a Lagrange multiplier.

Training starts on the clean end, where the rate is thousands of bits, and the allowed rate then falls on a straight line in
the logarithm until it reaches the goal. The step adds `beta * R` to the loss with `beta = weight / R`, the gradient of
`weight * log R`: so the same weight means the same relative pull at 10,000 bits and at 10. A proportional-integral law in
the logarithm holds the rate on the line, whatever the data, the channel or the learning rate:
    e = clip(log R - log R_allowed),   slow <- slow * exp(integral * e),
    weight = min(slow * exp(proportional * e), limit).
The proportional part damps: with the integral alone the rate swings by orders of magnitude around the goal.

Where the rate lags, a larger weight does not make it fall faster, because Adam's steps have one length. It only drowns the
task's gradient, and the part of an upload that carries the answer breaks first. So the weight has a limit, which rises after
the ramp: a goal that the task resists is reached late. At the limit the slow part rests, or it would carry the rate past its
goal.

A second goal may follow the first, on another line of the same kind in the last part of the run. The learning rate is small
there, so the rate can close in without breaking the task.

    controller = RateController(steps=1000, goal=5.5)       # nats per image
    beta = controller.update(rate=4321.0, step=0)
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import exp, isfinite, log

from sfumato.training.config import RateControl

CHANGING = ("goal", "late_goal", "start", "slow", "smooth")
"""What a checkpoint keeps of a controller."""
DEFAULTS = RateControl()


@dataclass
class RateController:
    """Its state fits into the JSON of a checkpoint, and a resumed run continues exactly.

    Attributes:
        steps: optimiser steps of the whole run.
        goal: nats per image.
        late_goal: nats per image, for the last part of the run; None: `goal` is the last.
        start: nats per image seen at the first step.
        slow: the slow part of the weight of log R; 0 stands for its value at the first step.
        smooth: exponential mean of log R.
        settings: gains, limits and ramps.
    """

    steps: int
    goal: float
    late_goal: float | None = None
    start: float = 0.0
    slow: float = 0.0
    smooth: float = 0.0
    settings: RateControl = DEFAULTS

    def __post_init__(self) -> None:
        self.slow = self.slow or self.settings.first_weight

    def allowed(self, step: int) -> float:
        """Nats per image allowed at `step`.

        >>> controller = RateController(steps=100, goal=1.0, start=1000.0)
        >>> [round(controller.allowed(step)) for step in (0, 5, 40, 99)]
        [1000, 1000, 1, 1]
        """
        # A goal above the start asks for no reduction at all.
        rate = self._on_the_way(self.settings.ramp, max(self.start, self.goal), self.goal, step)
        if self.late_goal is None:
            return rate
        return self._on_the_way(self.settings.late_ramp, rate, self.late_goal, step)

    def _on_the_way(self, ramp: tuple[float, float], start: float, end: float, step: int) -> float:
        """Between `start` and `end`, on a straight line in the logarithm along the ramp."""
        first, last = ramp
        progress = min(max((step / self.steps - first) / (last - first), 0.0), 1.0)
        return exp((1 - progress) * log(start) + progress * log(end))

    def arrived(self, step: int) -> bool:
        """Whether the allowed rate has reached the goal."""
        return step >= self.settings.ramp[1] * self.steps

    def update(self, rate: float, step: int) -> float:
        """Take in the mean rate of a batch (nats per image) and return beta, the weight per nat."""
        if self.start == 0.0 and rate <= 0:
            return 0.0  # nothing has been measured yet
        now = log(max(rate, 1e-6))
        if self.start == 0.0:
            self.start, self.smooth = max(rate, 1e-6), now
        how = self.settings
        self.smooth = how.smoothing * self.smooth + (1 - how.smoothing) * now
        error = self.smooth - log(self.allowed(step))
        error = min(max(error, -how.largest_error), how.largest_error)
        weight, limit = self.slow * exp(how.proportional * error), self.limit(step)
        if weight <= limit or error < 0:
            self.slow = max(self.slow * exp(how.integral * error), how.least_weight)
        return min(weight, limit) / exp(self.smooth)

    def limit(self, step: int) -> float:
        """Largest weight at `step`, in nats for an e-fold of the rate.

        >>> controller = RateController(steps=100, goal=1.0)
        >>> [round(controller.limit(step), 2) for step in (0, 40, 70, 100)]
        [0.05, 0.05, 1.58, 50.0]
        """
        end = self.settings.ramp[1]
        late = max(0.0, step / self.steps - end) / (1 - end)
        return float(self.settings.limit * self.settings.limit_rise**late)

    def state_dict(self) -> dict[str, float | None]:
        """What a step changes, and the goals."""
        return {name: getattr(self, name) for name in CHANGING}

    def load_state_dict(self, state: Mapping[str, float | None]) -> None:
        """Continue where the controller stood that gave `state`."""
        for name in CHANGING:
            value = state[name]
            if value is not None or name != "late_goal":
                value = float(value)  # type: ignore[arg-type]  # TypeError for what is none
                if not isfinite(value):
                    raise ValueError(f"{name} is {value}")
            setattr(self, name, value)
