"""The residual rate: what an upload tells beyond the phone's own decision.

The rate R bounds everything an upload tells, the desired answer included. Measured against a reference of its own for every
desired label y instead of one for all,
    R_y(x) = KL(p(x'|x) || r_y(x')),      E[R_y] >= I(X'; X | Y) >= I(X'; S | Y),
it bounds what is left once the decision is known, for every attribute S at once and without any sensitive label (conditional
entropy bottleneck, Fischer 2020). The best r_y within the channel's family is the moment-matched mean of the uploads of that
label; it is kept as a running mean.

    references = References(channel, cells=2, size=(64, 64))
    nats = references(parameters, cell, channel.rate(parameters))           # (B,)
    references.update(parameters, cell)
"""

from collections.abc import Mapping
from math import log as ln
from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sfumato.channels import Channel, Parameters, upload_size
from sfumato.data.label_cells import label_cells
from sfumato.training.config import Residual
from sfumato.training.loader import Batch
from sfumato.training.local_cloud import ForwardOutput
from sfumato.training.log import RunningMeans
from sfumato.training.rate_controller import RateController
from sfumato.training.regularisers.base import Regulariser, Setting

MOMENTUM = Residual().momentum


class References(nn.Module):
    """Running reference distributions of the uploads, one per combination of desired labels.

    Args:
        channel: whose uploads.
        cells: how many combinations there are.
        size: height and width of an upload.
        momentum: weight of the past in the running means.
    """

    def __init__(
        self, channel: Channel, cells: int, size: tuple[int, int], momentum: float = MOMENTUM
    ) -> None:
        super().__init__()
        self.channel, self.momentum = channel, momentum
        self.names = tuple(channel.moments)
        for name, planes in channel.moments.items():
            self.register_buffer(name, torch.zeros(cells, planes, *size))
        self.register_buffer("seen", torch.zeros(cells))

    @torch.no_grad()
    def update(self, parameters: Parameters, cell: Tensor) -> None:
        """Take in a batch: parameters (B, planes, H, W) and their cells (B,)."""
        moments = self.channel.to_moments({name: value.detach() for name, value in parameters.items()})
        seen = self.get_buffer("seen")
        member = F.one_hot(cell, len(seen)).to(seen.dtype)  # (B, cells)
        count = member.sum(0)
        # How far the mean of this batch moves the reference: not at all, all the way, or a tenth of it.
        pace = torch.where(seen > 0, 1 - self.momentum, 1.0) * (count > 0)
        share = (member / count.clamp_min(1)).T
        for name in self.names:
            mean = torch.tensordot(share, moments[name], 1)  # (cells, planes, H, W)
            self.get_buffer(name).lerp_(mean, pace.view(-1, 1, 1, 1))
        seen += count

    def forward(self, parameters: Parameters, cell: Tensor, rate: Tensor) -> Tensor:
        """KL of each draw from the reference of its cell, in nats, (B,); zero for cells not seen yet.

        Args:
            parameters: each (B, planes, H, W).
            cell: (B,) int64.
            rate: of the same parameters, (B,): from there it is one step.
        """
        references = self.channel.from_moments({name: self.get_buffer(name) for name in self.names})
        gain = self.channel.gain(parameters, references).gather(1, cell[:, None])[:, 0]
        return torch.where(self.get_buffer("seen")[cell] > 0, rate - gain, torch.zeros_like(rate))


class ResidualPenalty(Regulariser):
    """`delta * R_D`, with R_D measured against a reference for each decision and delta from a controller of its own.

    Without a target (`beyond`) nothing is added to the loss, and R_D is only measured now and then.
    """

    name = "residual"

    def __init__(self, setting: Setting) -> None:
        self.setting, config = setting, setting.config
        self.heads, channel = setting.model.heads, setting.model.local.channel
        self.references = References(
            channel,
            prod(self.heads.values()),
            upload_size(channel, setting.dataset.size),
            config.residual.momentum,
        ).to(setting.fabric.device)
        goal, early = (config.beyond or 1.0) * ln(2), config.residual.early_bits * ln(2)
        self.controller = RateController(
            setting.steps, max(goal, early), late_goal=goal if goal < early else None, settings=config.rate
        )
        self.every = config.residual.measure_every if config.beyond is None else 1

    def cell(self, output: ForwardOutput) -> Tensor:
        """Number of the combination of decisions, (B,)."""
        decisions = {name: one_hot.argmax(1) for name, one_hot in output.decision.items()}
        return label_cells([decisions[name] for name in self.heads], list(self.heads.values()))

    def losses(self, output: ForwardOutput, batch: Batch, step: int, log: RunningMeans) -> list[Tensor]:
        """The mean residual rate at the controller's weight, if there is a target."""
        if step % self.every:
            return []
        residual: Tensor = self.references(output.parameters, self.cell(output), output.rate)
        log.add(residual_bits=residual.mean().item() / ln(2))
        if self.setting.targets.beyond is None:
            return []
        delta = self.controller.update(self.setting.shared_mean(residual), step)
        return [delta * residual.mean()]

    def update(self, output: ForwardOutput, batch: Batch, step: int, log: RunningMeans) -> None:
        """Move the references towards the uploads of the batch."""
        if step % self.every == 0:
            self.references.update(output.parameters, self.cell(output))

    def end_epoch(self, record: Mapping[str, Any], step: int) -> None:
        """Average the references over processes."""
        self.setting.share(dict(self.references.named_buffers()))

    def state_dict(self) -> dict[str, Any]:
        """Of references and controller."""
        return {"references": self.references.state_dict(), "controller": self.controller.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Of references and controller."""
        self.references.load_state_dict(state["references"])
        self.controller.load_state_dict(state["controller"])
