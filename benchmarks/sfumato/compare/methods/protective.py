"""Protective Perturbation (MMSys 2022).

A residual U-Net on the phone, and a cloud network that is not touched:

    loss = CE_A(x') - CE_B(x') + .5 SSIM(x', x)        as published

A is the untouched cloud network, B another network that must fail, and a low SSIM makes the picture unreadable to people.
B does not learn along, so nothing ever answers the second term: -CE_B falls without end, and in our runs took the task with
it. In its place stands a bounded form of the same aim, the margin by which B is right (Carlini and Wagner, "Towards Evaluating
the Robustness of Neural Networks", IEEE S&P 2017, objective f6 at confidence 0), which ends where B fails:

    loss = CE_A(x') + w (z_s - max_{i != s} z_i)_+ + .5 SSIM(x', x)        z = logits of B, s the true class

In the paper B does the task of A; here it reads the hidden attributes (or, if none is named, the desired ones): it learns
on clean images during the warm-up and is frozen from then on. The U-Net is the one of our own phone side (the paper's has
7.77 million parameters), so that capacities are equal.
"""

from collections.abc import Mapping
from math import inf

import torch
from torch import Tensor

from sfumato.compare.methods.base import ADVERSARY, Curve, Method, Phase, Task, cross_entropies
from sfumato.compare.methods.draws import Fixed
from sfumato.compare.methods.parts import image_network, ssim
from sfumato.models import channels_last
from sfumato.models.attackers import create_attacker
from sfumato.training.loader import Batch


def margin(logits: Mapping[str, Tensor], labels: Mapping[str, Tensor]) -> Tensor:
    """By how much the true class is ahead, 0 where it is not; mean over the batch, summed over attributes.

    >>> margin({"s": torch.tensor([[3.0, 1.0], [0.0, 4.0]])}, {"s": torch.tensor([0, 0])}).item()  # 2 and 0
    1.0
    """
    ahead = []
    for name, answer in logits.items():
        true = labels[name][:, None]
        others = answer.scatter(1, true, -inf).amax(1)
        ahead.append((answer.gather(1, true).squeeze(1) - others).relu().mean())
    return torch.stack(ahead).sum()


class Protective(Method):
    """Residual perturbation in front of the clean cloud network."""

    curve = Curve(
        "weight",
        (1.0, 0.3, 3.0, 10.0),
        published="CIFAR-10 90.2 to 91.6 % (clean 94.24) while other networks fail; other data here, so the drop is what can "
        "be set beside it",
    )
    reads_hidden = True
    trained = ("phone",)

    def __init__(self, task: Task, *, weight: float = 1.0, picture_weight: float = 0.5) -> None:
        classes = task.hidden if task.config.hide else task.kept
        other = channels_last(create_attacker(ADVERSARY, classes, task.dataset.size))
        super().__init__(task, phone=image_network(), draw=Fixed(), cloud=task.clean_cloud(), adversary=other)
        self.weight, self.picture_weight = weight, picture_weight

    def losses(self, batch: Batch, phase: Phase) -> dict[str, Tensor]:
        """A succeeds, B fails, people see nothing."""
        upload = self.upload(batch.images)
        task = self.task_loss(upload, batch)
        if not phase.active:
            return {"loss": task, "task": task}
        ahead = margin(self.adversary_logits(upload), batch.labels)
        likeness = ssim(upload, batch.images)
        loss = task + self.weight * ahead + self.picture_weight * likeness
        return {"loss": loss, "task": task, "margin": ahead, "likeness": likeness}

    def adversary_loss(self, batch: Batch, phase: Phase) -> Tensor | None:
        """B learns on clean images, in the warm-up only."""
        assert self.adversary is not None
        return None if phase.active else cross_entropies(self.adversary(batch.images), batch.labels)
