"""The rate of an upload, weighed so that it follows the line to its goal; and the literal scheme's reward for noise.

    R = KL(p(x'|x) || r(x'))        in nats an image, with r the prior: independent fair bits, or N(1/2, s_0)

R bounds from above what an upload tells about the photo. `RateController` finds the weight.
"""

from collections.abc import Mapping
from math import log as ln
from typing import Any

from torch import Tensor

from sfumato.training.epoch_selection import corrected_goal, next_goal
from sfumato.training.loader import Batch
from sfumato.training.local_cloud import ForwardOutput
from sfumato.training.log import RunningMeans
from sfumato.training.losses import noise_loss
from sfumato.training.rate_controller import RateController
from sfumato.training.regularisers.base import Regulariser, Setting


class NoiseLoss(Regulariser):
    """The literal scheme (Xia et al., ICME 2020): the larger the noise, the smaller the loss."""

    name = "noise"

    def __init__(self, setting: Setting) -> None:
        self.weight = setting.config.noise_weight

    def losses(self, output: ForwardOutput, batch: Batch, step: int, log: RunningMeans) -> list[Tensor]:
        """`-noise_weight * mean log s(x)`."""
        return [noise_loss(output.parameters["scale"], self.weight)]


class RatePenalty(Regulariser):
    """`beta * R`, with beta from the controller."""

    name = "rate"

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        control, targets = setting.config.rate, setting.targets
        start = control.default_bits if targets.least_accuracy is None else control.max_drop_start_bits
        goal = (targets.bits or start) * ln(2)
        self.controller = RateController(setting.steps, goal, settings=control)

    def rate(self, output: ForwardOutput) -> Tensor:
        """R of every image, (B,) in nats."""
        return output.rate

    def losses(self, output: ForwardOutput, batch: Batch, step: int, log: RunningMeans) -> list[Tensor]:
        """The mean rate at the controller's weight."""
        rate = self.rate(output)
        beta = self.controller.update(self.setting.shared_mean(rate), step)
        log.add(rate_bits=rate.mean().item() / ln(2), beta=beta)
        log.set(target_bits=self.setting.targets.bits or self.controller.goal / ln(2))
        return [beta * rate.mean()]

    def end_epoch(self, record: Mapping[str, Any], step: int) -> None:
        """Once the ramp has ended: move the goal towards what validation asks for."""
        if not self.controller.arrived(step):
            return
        targets, how = self.setting.targets, self.setting.config.selection
        bits, validated = self.controller.goal / ln(2), record["val_rate_bits"]
        if targets.least_accuracy is not None:
            bits = next_goal(bits, record["val_accuracy"], targets.least_accuracy, how)
        elif targets.bits and validated:
            bits = corrected_goal(targets.bits, validated, record["rate_bits"], how)
        self.controller.goal = bits * ln(2)

    def state_dict(self) -> dict[str, Any]:
        """Of the controller."""
        return {"controller": self.controller.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Of the controller."""
        self.controller.load_state_dict(state["controller"])
