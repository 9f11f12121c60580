"""Protective Perturbation (MMSys 2022).

A residual U-Net on the phone, and a cloud network that is not touched:

    loss = CE_A(x') - CE_B(x') + .5 SSIM(x', x)

A is the untouched cloud network, B another network that must fail, and a low SSIM makes the picture unreadable to people.
In the paper B does the task of A; here it reads the hidden attributes (or, if none is named, the desired ones): it learns
on clean images during the warm-up and is frozen from then on. The U-Net is the one of our own phone side (the paper's has
7.77 million parameters), so that capacities are equal.
"""

from torch import Tensor

from sfumato.compare.methods.base import ADVERSARY, Method, Phase, Task, cross_entropies
from sfumato.compare.methods.draws import Fixed
from sfumato.compare.methods.parts import image_network, ssim
from sfumato.models import channels_last
from sfumato.models.attackers import create_attacker
from sfumato.training.loader import Batch


class Protective(Method):
    """Residual perturbation in front of the clean cloud network."""

    reads_hidden = True
    trained = ("phone",)

    def __init__(self, task: Task, *, weight: float = 1.0, picture_weight: float = 0.5) -> None:
        classes = task.hidden if task.config.hide else task.kept
        other = channels_last(create_attacker(ADVERSARY, classes, task.dataset.size))
        super().__init__(phone=image_network(), draw=Fixed(), cloud=task.clean_cloud(), adversary=other)
        self.weight, self.picture_weight = weight, picture_weight

    def losses(self, batch: Batch, phase: Phase) -> dict[str, Tensor]:
        """A succeeds, B fails, people see nothing."""
        upload = self.upload(batch.images)
        task = self.task_loss(upload, batch)
        if not phase.active:
            return {"loss": task, "task": task}
        other = cross_entropies(self.adversary_logits(upload), batch.labels)
        likeness = ssim(upload, batch.images)
        loss = task - self.weight * other + self.picture_weight * likeness
        return {"loss": loss, "task": task, "other": other, "likeness": likeness}

    def adversary_loss(self, batch: Batch, phase: Phase) -> Tensor | None:
        """B learns on clean images, in the warm-up only."""
        assert self.adversary is not None
        return None if phase.active else cross_entropies(self.adversary(batch.images), batch.labels)
