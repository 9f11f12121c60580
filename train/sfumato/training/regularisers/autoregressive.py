"""The rate against an autoregressive prior that learns along with the networks (`sfumato.models.autoregressive`).

    R = rate against independent fair bits - what the prior saves

The prior predicts each bit of an upload from those before it. It is fitted to the uploads of every step, after the networks
have taken theirs.
"""

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor

from sfumato.channels.dither import Dither, over_pixels
from sfumato.models.autoregressive import AutoregressivePrior, nats_saved
from sfumato.models.schedule import set_learning_rate
from sfumato.training import checkpoint
from sfumato.training.loader import Batch
from sfumato.training.local_cloud import ForwardOutput
from sfumato.training.log import RunningMeans
from sfumato.training.regularisers.base import Setting
from sfumato.training.regularisers.rate import RatePenalty


class AutoregressiveRatePenalty(RatePenalty):
    """`beta * R` with R against the learned prior, and the prior's own optimiser."""

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        how = setting.config.autoregressive
        self.peak = how.learning_rate
        self.prior = AutoregressivePrior(cast(Dither, setting.model.local.channel))
        optimizer = torch.optim.AdamW(
            self.prior.parameters(), lr=how.learning_rate, weight_decay=how.weight_decay, fused=True
        )
        self.shared, self.optimizer = setting.fabric.setup(self.prior, optimizer)
        self.prior_loss: Tensor | None = None  # from `rate` to `update`

    def rate(self, output: ForwardOutput) -> Tensor:
        """R of every image, (B,) in nats: an upper bound for any prior, however well it has been fitted."""
        parameters, logits = output.parameters, self.shared(output.upload.detach())
        p, open_places = parameters["p"], 1.0 if "open" not in parameters else over_pixels(parameters["open"])
        self.prior_loss = -nats_saved(p.detach(), logits).mean()
        return output.rate - nats_saved(parameters.get("inside", p), logits.detach(), open_places)

    def update(self, output: ForwardOutput, batch: Batch, step: int, log: RunningMeans) -> None:
        """One step of the prior on the uploads that `rate` has seen."""
        assert self.prior_loss is not None
        set_learning_rate(self.optimizer, self.setting.learning_rate(step, self.peak))
        self.optimizer.zero_grad()
        self.setting.fabric.backward(self.prior_loss)
        self.optimizer.step()

    def state_dict(self) -> dict[str, Any]:
        """Of controller, prior and optimiser."""
        return {
            **super().state_dict(),
            "prior": self.prior.state_dict(),
            "optimizer": checkpoint.optimizer_state(self.optimizer),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Of controller, prior and optimiser."""
        super().load_state_dict(state)
        self.prior.load_state_dict(state["prior"])
        checkpoint.load_optimizer_state(self.optimizer, state["optimizer"])
