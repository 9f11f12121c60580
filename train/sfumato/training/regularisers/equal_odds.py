r"""Equal odds: where the phone's decision errs must not depend on what is to be hidden.

An upload of a few bits says what the phone decided, and a decision that errs more often on some people than on others tells
who they are. Given the true label y, its errors tell nothing about s exactly if
    P(decision = k | y, s) = P(decision = k | y)        for all k, y, s          (Hardt et al., NeurIPS 2016).
Gaps, of each s from the mean over all s that occur with y, are held at zero by multipliers m, raised where class k is said
too often:
    m_yks <- m_yks + pace * gap_yks,        loss += mean_i <m[y_i, s_i], q(x_i)>,
with the softmax q of the decision's logits in place of the decision, which has no gradient.

    odds = EqualOdds({"gender": 2}, {"race": 5})
    loss = loss + odds(hints, labels)           # hints: head -> (B, classes) logits
    odds.update(hints, labels, pace=1.0)
"""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

MOMENTUM = 0.95
PACE = 0.02
"""A gap of five points, 1,000 steps long, makes a multiplier of 1: the order of a cross entropy."""

Answers = Mapping[str, Tensor]


class EqualOdds(nn.Module):
    """Multipliers for every kept head and every hidden attribute, and the running means that move them.

    Args:
        kept: head -> number of classes.
        hidden: attribute -> number of classes.
    """

    def __init__(self, kept: Mapping[str, int], hidden: Mapping[str, int]) -> None:
        super().__init__()
        self.pairs = [(head, attribute) for head in kept for attribute in hidden]
        for number, (head, attribute) in enumerate(self.pairs):
            shape = (kept[head], hidden[attribute], kept[head])
            self.register_buffer(f"mean_{number}", torch.full(shape, 1 / kept[head]))
            self.register_buffer(f"multiplier_{number}", torch.zeros(shape))
            # Some never occur: of ten classes that are hidden only four are vehicles.
            self.register_buffer(f"seen_{number}", torch.zeros(shape[:2]))

    def _each(
        self, hints: Answers, labels: Mapping[str, Tensor]
    ) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]]:
        """Of every pair: softmax (B, K), labels y and s (B,), means and multipliers (K, S, K), how often y and s were seen."""
        for number, (head, attribute) in enumerate(self.pairs):
            names = ("mean", "multiplier", "seen")
            mean, multiplier, seen = (self.get_buffer(f"{name}_{number}") for name in names)
            yield hints[head].softmax(1), labels[head], labels[attribute], mean, multiplier, seen

    def forward(self, hints: Answers, labels: Mapping[str, Tensor]) -> Tensor:
        """The term of the loss; labels hold the kept and the hidden ones, each (B,) int64."""
        terms = [(m[y, s] * q).sum(1).mean() for q, y, s, _, m, _ in self._each(hints, labels)]
        return torch.stack(terms).sum()

    @torch.no_grad()
    def update(self, hints: Answers, labels: Mapping[str, Tensor], pace: float = 1.0) -> float:
        """Take in a batch and move the multipliers.

        Args:
            hints, labels: as in `forward`.
            pace: 1 or less; follows the learning rate, or multipliers would go on rising when nothing can follow them.

        Returns:
            The largest gap, a difference of two probabilities.
        """
        largest = 0.0
        for q, y, s, mean, multiplier, seen in self._each(hints, labels):
            count = torch.zeros_like(mean[:, :, 0]).index_put_(
                (y, s), torch.ones_like(q[:, 0]), accumulate=True
            )
            total = torch.zeros_like(mean).index_put_((y, s), q, accumulate=True)
            fresh = total / count.clamp_min(1).unsqueeze(2)
            mean.lerp_(torch.where((count > 0).unsqueeze(2), fresh, mean), 1 - MOMENTUM)
            seen += count
            occurs = (seen > 0).unsqueeze(2)
            middle = (mean * occurs).sum(1, keepdim=True) / occurs.sum(1, keepdim=True).clamp_min(1)
            gap = (mean - middle) * occurs
            multiplier += PACE * pace * gap
            largest = max(largest, gap.abs().max().item())
        return largest
