"""Finds the weight of the rate, so that a user states a goal and not a Lagrange multiplier.

Training starts on the clean end, where the rate is thousands of bits, and the allowed rate then falls on a straight line in
the logarithm until it reaches the goal. The step adds `beta * R` to the loss with `beta = weight / R`, the gradient of
`weight * log R`: so the same weight means the same relative pull at 10,000 bits and at 10. A proportional-integral law in
the logarithm holds the rate on the line, whatever the data, the channel or the learning rate:
    e = clip(log R - log R_allowed),   integral <- integral * exp(INTEGRAL * e),
    weight = min(integral * exp(PROPORTIONAL * e), limit).
The proportional part damps: with the integral alone the rate swings by orders of magnitude around the goal.

Where the rate lags, pressing harder does not make it fall faster, because Adam's steps have one length; it only drowns the
task, and what breaks first is the part of an upload that carries the answer. So the weight has a limit, which rises once the
ramp is behind: a goal that the task resists is reached late, not by force. At the limit the integral rests, or it would
carry the rate past its goal.

A goal may have a second one behind it, reached by another line of the same kind in the last part of the run, where the
learning rate is small: what would break under the full pace then closes little by little.

    controller = RateController(steps=1000, goal=5.5)       # nats per image
    beta = controller.update(rate=4321.0, step=0)
"""

from dataclasses import asdict, dataclass
from math import exp, log

INTEGRAL = 0.05
"""An error of one e-fold moves the integral by 5 % a step."""
PROPORTIONAL = 2.0
LIMIT, LIMIT_RISE = 0.05, 1000.0
"""Largest weight during the ramp, in nats of the loss for an e-fold of the rate, and by what it has grown at the end of the
run. Uploads of a few bits are held with a weight of 0.01."""
LARGEST_ERROR = 1.5
SMOOTHING = 0.5
RAMP = (0.05, 0.4)
"""Shares of the run between which the allowed rate falls from its start to the goal."""
LATE_RAMP = (0.5, 0.8)
"""Shares of the run between which it falls on to the second goal, where there is one."""
LIGHTEST = 1e-4


@dataclass
class RateController:
    """The state fits into the JSON of a checkpoint (`asdict`), and a resumed run continues exactly.

    Attributes:
        steps: optimiser steps of the whole run.
        goal: nats per image.
        late_goal: nats per image, for the last part of the run; None: `goal` is the last.
        start: nats per image seen at the first step.
        integral: the slow part of the weight of log R.
        smooth: exponential mean of log R.
    """

    steps: int
    goal: float
    late_goal: float | None = None
    start: float = 0.0
    integral: float = 0.01
    smooth: float = 0.0

    def allowed(self, step: int) -> float:
        """Nats per image allowed at `step`.

        >>> controller = RateController(steps=100, goal=1.0, start=1000.0)
        >>> [round(controller.allowed(step)) for step in (0, 5, 40, 99)]
        [1000, 1000, 1, 1]
        """
        # A goal above the start asks for no reduction at all.
        rate = self._on_the_way(RAMP, max(self.start, self.goal), self.goal, step)
        if self.late_goal is None:
            return rate
        return self._on_the_way(LATE_RAMP, rate, self.late_goal, step)

    def _on_the_way(self, ramp: tuple[float, float], start: float, end: float, step: int) -> float:
        """Between `start` and `end`, on a straight line in the logarithm along the ramp."""
        first, last = ramp
        progress = min(max((step / self.steps - first) / (last - first), 0.0), 1.0)
        return exp((1 - progress) * log(start) + progress * log(end))

    def arrived(self, step: int) -> bool:
        """Whether the allowed rate has reached the goal."""
        return step >= RAMP[1] * self.steps

    def update(self, rate: float, step: int) -> float:
        """Take in the mean rate of a batch (nats per image) and return beta, the weight per nat."""
        if self.start == 0.0 and rate <= 0:
            return 0.0  # nothing has been measured yet
        now = log(max(rate, 1e-6))
        if self.start == 0.0:
            self.start, self.smooth = max(rate, 1e-6), now
        self.smooth = SMOOTHING * self.smooth + (1 - SMOOTHING) * now
        error = self.smooth - log(self.allowed(step))
        error = min(max(error, -LARGEST_ERROR), LARGEST_ERROR)
        weight, limit = self.integral * exp(PROPORTIONAL * error), self.limit(step)
        if weight <= limit or error < 0:
            self.integral = max(self.integral * exp(INTEGRAL * error), LIGHTEST)
        return min(weight, limit) / exp(self.smooth)

    def limit(self, step: int) -> float:
        """Largest weight at `step`, in nats for an e-fold of the rate.

        >>> controller = RateController(steps=100, goal=1.0)
        >>> [round(controller.limit(step), 2) for step in (0, 40, 70, 100)]
        [0.05, 0.05, 1.58, 50.0]
        """
        late = max(0.0, step / self.steps - RAMP[1]) / (1 - RAMP[1])
        return float(LIMIT * LIMIT_RISE**late)

    def state(self) -> dict[str, float]:
        """Everything `RateController(**state)` needs."""
        return asdict(self)
