"""The residual rate: what an upload tells beyond the desired answer.

The rate R bounds everything an upload tells, the desired answer included. Measured against a reference of its own for every
desired label y instead of one for all,
    R_y(x) = KL(p(x'|x) || r_y(x')),      E[R_y] >= I(X'; X | Y) >= I(X'; S | Y),
it bounds what is left once the answer is known, for every attribute S at once and without any sensitive label (the conditional
entropy bottleneck, Fischer 2020). The best r_y within the channel's family is the moment-matched mean of the uploads of that
label; it is kept as a running mean.

    references = References(channel, cells=2, size=(64, 64))
    nats = references(parameters, cell, channel.rate(parameters))           # (B,)
    references.update(parameters, cell)
"""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sfumato.channels import Channel, Parameters

MOMENTUM = 0.9


def label_cells(labels: Mapping[str, Tensor], names: Sequence[str], classes: Sequence[int]) -> Tensor:
    """One number (B,) for the combination of the labels `names`, which have `classes` values each.

    >>> label_cells({"a": torch.tensor([0, 1]), "b": torch.tensor([2, 0])}, ("a", "b"), (2, 3)).tolist()
    [2, 3]
    """
    cell = torch.zeros_like(labels[names[0]])
    for name, count in zip(names, classes, strict=True):
        cell = cell * count + labels[name]
    return cell


class References(nn.Module):
    """Running references of the uploads, one per combination of desired labels."""

    def __init__(self, channel: Channel, cells: int, size: tuple[int, int]) -> None:
        super().__init__()
        self.channel = channel
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
        pace = torch.where(seen > 0, 1 - MOMENTUM, 1.0) * (count > 0)
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
