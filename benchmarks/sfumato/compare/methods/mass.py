"""MaSS (Chen et al., "MaSS: Multi-attribute Selective Suppression for Utility-preserving Data Transformation from an
Information-theoretic Perspective", ICML 2024), in style.

An image-to-image generator under constraints on mutual information, each written as a hinge on a cross entropy:

    suppress s:        (H(S) - m_s - CE_s)_+         no more than m_s nats about s,   m_s = 0
    keep u:            (CE_u - (H(U) - n_u))_+       at least n_u nats about u,       n_u = .95 H(U)
    all the rest:      InfoNCE between the clean network's features of x and of x'

CE_s is that of a co-trained adversary. The generator is the U-shaped network of our own phone side. m, n, the temperature
.1 and the weights 1 and 1 are ours. The third weight decides how much of the photo is kept that nobody asked for: at .1 all of
it, hidden attributes included. It is the curve. The warm-up trains the task as every other method does.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sfumato.audit.attacks.taps import Taps, pooled
from sfumato.compare.methods.base import Curve, Method, Phase, Task, UnsuitableError, frozen_copy
from sfumato.compare.methods.draws import Fixed
from sfumato.compare.methods.parts import image_network
from sfumato.training.loader import Batch

TEMPERATURE = 0.1


def suppression_hinge(cross_entropy: Tensor, entropy: float, allowed: float = 0.0) -> Tensor:
    """Zero once the adversary knows at most `allowed` nats.

    >>> suppression_hinge(torch.tensor(0.7), 0.69).item()
    0.0
    """
    return F.relu(entropy - allowed - cross_entropy)


def utility_hinge(cross_entropy: Tensor, entropy: float, needed: float) -> Tensor:
    """Zero once the cloud knows at least `needed` nats.

    >>> utility_hinge(torch.tensor(0.03), 0.69, 0.65).item()
    0.0
    """
    return F.relu(cross_entropy - (entropy - needed))


def info_nce(first: Tensor, second: Tensor) -> Tensor:
    """InfoNCE (van den Oord et al., 2018) of matching rows of (B, F), in nats; lower means better matched."""
    likeness = F.normalize(first, dim=1) @ F.normalize(second, dim=1).T / TEMPERATURE
    return F.cross_entropy(likeness, torch.arange(len(first), device=first.device))


class Mass(Method):
    """Generator under hinges."""

    curve = Curve(
        "rest",
        (0.01, 0.1, 0.001, 0.0),
        published="CelebA, Male hidden: NAG 96.9 % under a fresh attacker (table of PASS); other data here, so the NAG is "
        "what can be set beside it",
    )
    reads_hidden = True

    def __init__(self, task: Task, *, share: float = 0.95, weight: float = 1.0, rest: float = 0.01) -> None:
        adversary = task.adversary(task.shape)
        super().__init__(
            task, phone=image_network(), draw=Fixed(), cloud=task.clean_cloud(), adversary=adversary
        )
        self.share, self.weight, self.rest = share, weight, rest
        self.kept_entropy = {name: task.entropy(name) for name in task.kept}
        self.hidden_entropy = {name: task.entropy(name) for name in task.hidden}
        self.taps = Taps(frozen_copy(task.clean))
        width = self.features(torch.zeros(2, *task.shape)).shape[1]
        self.projection = nn.Linear(width, 32)

    def features(self, x: Tensor) -> Tensor:
        """Features of images in the last stage of the clean network, (B, F).

        Raises:
            UnsuitableError: no part of the network puts out a tensor.
        """
        features = list(self.taps(x)[0].values())
        if not features:
            raise UnsuitableError(
                "this method compares features, and no part of this cloud network puts any out: choose another --cloud"
            )
        return pooled(features[-1], 1)

    def losses(self, batch: Batch, phase: Phase) -> dict[str, Tensor]:
        """The three kinds of constraints."""
        upload = self.upload(batch.images)
        if not phase.active:
            warm = self.task_loss(upload, batch)
            return {"loss": warm, "task": warm}
        answers = self.cloud(upload)
        kept = [
            utility_hinge(F.cross_entropy(answers[name], batch.labels[name]), h, self.share * h)
            for name, h in self.kept_entropy.items()
        ]
        task = torch.stack(kept).sum()
        logits = self.adversary_logits(upload)
        gaps = [
            suppression_hinge(F.cross_entropy(logits[name], batch.labels[name]), h)
            for name, h in self.hidden_entropy.items()
        ]
        hidden = torch.stack(gaps).sum()
        nce = info_nce(self.projection(self.features(batch.images)), self.projection(self.features(upload)))
        loss = task + self.weight * hidden + self.rest * nce
        return {"loss": loss, "task": task, "suppression": hidden, "rest": nce}

    def prepare_mode(self) -> None:
        """The clean network stays frozen."""
        super().prepare_mode()
        self.taps.eval().requires_grad_(False)

    def groups(self) -> list[dict[str, Any]]:
        """The projection learns with the generator and stays at home."""
        return [*super().groups(), {"params": list(self.projection.parameters()), "factor": 1.0}]
