"""The losses of co-training, as pure functions of what one step produced.

    literal   CE - lambda * mean log s(x)                                     (Xia et al., ICME 2020)
    rate      CE + beta * R + delta * R_D                                      R = KL(p(x'|x) || r), nats per image
    suppress  CE + beta * R + delta * R_D + sum_s gamma_s * max_k (H(S|Y) - CE(a_k(x'), s))_+^2

`suppress` also keeps the errors of the phone's decision from depending on s (`sfumato.training.regularisers.equal_odds`).
R_D is the residual rate (`sfumato.training.regularisers.residual`): what the upload tells beyond the phone's own decision.
CE is the cross entropy of the cloud network, averaged over its heads and, where a clean teacher is given, mixed with
distillation of its outputs (Hinton et al., 2015) and, at high rates, of its features. All entropies are in nats.

The target of suppression is H(S|Y) and not H(S): the label that the cloud is meant to learn says something about s by
itself, and pushing an adversary below that asks the channel for an invertible signal.
"""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

Logits = Mapping[str, Tensor]
Labels = Mapping[str, Tensor]


def task_loss(logits: Logits, labels: Labels, teacher: Logits | None = None, distill: float = 0.0) -> Tensor:
    """Cross entropy averaged over heads, with the share `distill` of it against the teacher's soft outputs.

    Args:
        logits: head -> (B, classes).
        labels: head -> (B,) int64.
        teacher: head -> (B, classes) logits of the clean network on the clean images, or None.
        distill: weight of the teacher, 0..1.

    >>> logits = {"a": torch.zeros(2, 4)}
    >>> round(task_loss(logits, {"a": torch.tensor([0, 3])}).item(), 4)  # log 4
    1.3863
    """
    parts = []
    for name, of_head in logits.items():
        loss = F.cross_entropy(of_head, labels[name])
        if teacher is not None and distill > 0:
            soft = F.cross_entropy(of_head, teacher[name].softmax(dim=1))
            loss = (1 - distill) * loss + distill * soft
        parts.append(loss)
    return torch.stack(parts).mean()


def feature_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Squared distance of the features of uploads from those of the clean images, in units of the teacher's variance.

    Args:
        student: of the uploads, (B, F).
        teacher: of the clean network on the clean images, (B, F).

    A network trained on photos adapts to noisy uploads sooner by matching features than by matching logits (Romero et al.,
    FitNets, ICLR 2015).

    >>> teacher = torch.tensor([[0.0, 2.0], [2.0, 4.0]])
    >>> feature_loss(teacher, teacher).item(), feature_loss(teacher.mean(0).expand(2, 2), teacher).item()
    (0.0, 1.0)
    """
    spread = teacher.var(0, correction=0).mean()
    return F.mse_loss(student, teacher) / spread.clamp_min(1e-6)


def noise_loss(scale: Tensor, weight: float) -> Tensor:
    """The literal scheme's reward for noise: `-weight * mean log s(x)`; `scale` is s(x), any shape, positive.

    >>> round(noise_loss(torch.full((2, 3), torch.e), 0.5).item(), 6)
    -0.5
    """
    return -weight * scale.log().mean()


def suppression(
    adversaries: Sequence[Logits], labels: Labels, entropy: Mapping[str, float]
) -> dict[str, Tensor]:
    """`max_k (H(S|Y) - CE(a_k(x'), s))_+^2` of each s: zero once no adversary beats what the desired labels already tell.

    Args:
        adversaries: one mapping attribute -> (B, classes) per adversary.
        labels: attribute -> (B,) int64.
        entropy: attribute -> H(S|Y) in nats.

    >>> blind = {"s": torch.zeros(4, 2)}
    >>> suppression([blind], {"s": torch.tensor([0, 1, 0, 1])}, {"s": 0.6931471805599453})["s"].item()
    0.0
    """
    terms = {}
    for name, bound in entropy.items():
        losses = [F.cross_entropy(logits[name], labels[name]) for logits in adversaries]
        strongest = torch.stack([loss.detach() for loss in losses]).argmin()
        # The other adversaries have no slope, so none is sent through them. Nor through one that is below the floor.
        gap = bound - losses[int(strongest)]
        terms[name] = torch.zeros_like(gap) if gap.item() <= 0 else gap**2
    return terms
