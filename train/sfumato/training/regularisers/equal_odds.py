r"""Equal odds: the errors of the phone's decision must not depend on a hidden attribute.

An upload of a few bits tells the decision. If it errs more often for one group than for another, it also tells the group.
Given the true label y, its errors tell nothing about s exactly if
    P(decision = k | y, s) = P(decision = k | y)        for all k, y, s          (Hardt et al., NeurIPS 2016).
Gaps of each s from the mean over all s that occur with y are held within a tolerance by multipliers m. They rise where class
k is predicted too often, and fall back towards 0 where the gap is inside:
    m_yks <- shrink(m_yks + pace * gap_yks, pace * tolerance),        loss += mean_i <m[y_i, s_i], q(x_i)>,
with shrink(a, b) = a moved by b towards 0 and not past it, and the softmax q of the decision's logits in place of the decision,
which has no gradient.

    odds = EqualOdds({"gender": 2}, {"race": 5})
    loss = loss + odds(aux_logits, labels)           # aux_logits: head -> (B, classes)
    odds.update(aux_logits, labels, pace=1.0)
"""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from sfumato.training.config import EqualOddsControl
from sfumato.training.loader import Batch
from sfumato.training.local_cloud import ForwardOutput
from sfumato.training.log import RunningMeans
from sfumato.training.losses import Labels, Logits
from sfumato.training.regularisers.base import Regulariser, Setting

DEFAULTS = EqualOddsControl()


class EqualOdds(nn.Module):
    """Multipliers for every kept head and every hidden attribute, and the running means that move them.

    Args:
        kept: head -> number of classes.
        hidden: attribute -> number of classes.
        settings: momentum of the means and pace of the multipliers.
        tolerance: gaps up to this, as a difference of probabilities, are left alone.
    """

    def __init__(
        self,
        kept: Mapping[str, int],
        hidden: Mapping[str, int],
        settings: EqualOddsControl = DEFAULTS,
        tolerance: float = 0.0,
    ) -> None:
        super().__init__()
        self.settings, self.tolerance = settings, tolerance
        self.pairs = [(head, attribute) for head in kept for attribute in hidden]
        for number, (head, attribute) in enumerate(self.pairs):
            shape = (kept[head], hidden[attribute], kept[head])
            self.register_buffer(f"mean_{number}", torch.full(shape, 1 / kept[head]))
            self.register_buffer(f"multiplier_{number}", torch.zeros(shape))
            # Some combinations never occur: of ten hidden classes only four are vehicles.
            self.register_buffer(f"seen_{number}", torch.zeros(shape[:2]))

    def _each(
        self, aux_logits: Logits, labels: Labels
    ) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]]:
        """Of every pair: softmax (B, K), labels y and s (B,), means and multipliers (K, S, K), how often y and s were seen."""
        for number, (head, attribute) in enumerate(self.pairs):
            names = ("mean", "multiplier", "seen")
            mean, multiplier, seen = (self.get_buffer(f"{name}_{number}") for name in names)
            yield aux_logits[head].softmax(1), labels[head], labels[attribute], mean, multiplier, seen

    def forward(self, aux_logits: Logits, labels: Labels) -> Tensor:
        """The term of the loss; labels hold the kept and the hidden ones, each (B,) int64."""
        terms = [(m[y, s] * q).sum(1).mean() for q, y, s, _, m, _ in self._each(aux_logits, labels)]
        return torch.stack(terms).sum()

    @torch.no_grad()
    def update(self, aux_logits: Logits, labels: Labels, pace: float = 1.0) -> float:
        """Take in a batch and move the multipliers.

        Args:
            aux_logits, labels: as in `forward`.
            pace: 1 or less; follows the learning rate. Otherwise multipliers would go on rising while the networks stand still.

        Returns:
            The largest gap, a difference of two probabilities.
        """
        largest = 0.0
        for q, y, s, mean, multiplier, seen in self._each(aux_logits, labels):
            count = torch.zeros_like(mean[:, :, 0]).index_put_(
                (y, s), torch.ones_like(q[:, 0]), accumulate=True
            )
            total = torch.zeros_like(mean).index_put_((y, s), q, accumulate=True)
            fresh = total / count.clamp_min(1).unsqueeze(2)
            mean.lerp_(torch.where((count > 0).unsqueeze(2), fresh, mean), 1 - self.settings.momentum)
            seen += count
            occurs = (seen > 0).unsqueeze(2)
            middle = (mean * occurs).sum(1, keepdim=True) / occurs.sum(1, keepdim=True).clamp_min(1)
            gap = (mean - middle) * occurs
            step = self.settings.pace * pace
            moved = nn.functional.softshrink(multiplier + step * gap, step * self.tolerance)
            multiplier.copy_(moved)
            largest = max(largest, gap.abs().max().item())
        return largest


class EqualOddsPenalty(Regulariser):
    """The term of equal odds for every hidden attribute, at the weight of the objective `suppress`."""

    name = "equal_odds"

    def __init__(self, setting: Setting) -> None:
        self.setting, config = setting, setting.config
        hidden = {name: len(setting.dataset.attributes[name].classes) for name in config.hide}
        self.odds = EqualOdds(setting.model.heads, hidden, config.odds_control).to(setting.fabric.device)
        self.weight = config.suppress_weight

    def losses(self, output: ForwardOutput, batch: Batch, step: int, log: RunningMeans) -> list[Tensor]:
        """The multipliers against the softmax of the decision's logits."""
        return [self.weight * self.odds(output.aux_logits, batch.labels)]

    def update(self, output: ForwardOutput, batch: Batch, step: int, log: RunningMeans) -> None:
        """Move the multipliers, at the pace of the learning rate."""
        peak = self.setting.config.learning_rate
        pace = self.setting.learning_rate(step, peak) / peak
        log.add(odds_gap=self.odds.update(output.aux_logits, batch.labels, pace))

    def end_epoch(self, record: Mapping[str, Any], step: int) -> None:
        """Average the running means over processes."""
        self.setting.share(dict(self.odds.named_buffers()))

    def state_dict(self) -> dict[str, Any]:
        """Of means and multipliers."""
        return {"odds": self.odds.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Of means and multipliers."""
        self.odds.load_state_dict(state["odds"])
