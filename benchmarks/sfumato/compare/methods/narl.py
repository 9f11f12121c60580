"""NARL (noisy adversarial representation learning, UAI 2023).

The first blocks of the network on the phone, noise of a fixed scale on their features, and an adversary behind it:

    upload = tanh(f(x)) + s eps,        encoder, cloud:   CE_task - w CE_adversary

The features are bounded, or the encoder would outgrow the noise. The published code has w = .01, which hides nothing here, so
w is the curve. s = .25 is ours.
"""

import torch
from torch import Tensor, nn

from sfumato.channels import Parameters
from sfumato.compare.methods.base import Curve, Method, Phase, Task, cross_entropies
from sfumato.compare.methods.draws import Additive
from sfumato.compare.methods.parts import Tail, split
from sfumato.models.cost import Cost, cost
from sfumato.training.loader import Batch


class Bounded(nn.Module):
    """Trainable first layers under a tanh; one fixed scale of the noise."""

    def __init__(self, head: nn.Module, scale: float) -> None:
        super().__init__()
        self.head, self.scale = head, scale

    def forward(self, x: Tensor) -> Parameters:
        """Images -> mean (B, C, h, w) in 0..1, and scale."""
        mean = self.head(2 * x - 1).tanh()
        return {"mean": mean, "scale": torch.full_like(mean, self.scale)}


class Narl(Method):
    """Noisy features against an adversary."""

    curve = Curve(
        "weight",
        (0.01, 0.1, 1.0, 10.0),
        published="judged, as here, by adversaries trained afterwards; its figures are of other data, none is reproduced",
    )
    reads_hidden = True
    phone: Bounded

    def __init__(self, task: Task, *, weight: float = 0.01, scale: float = 0.25) -> None:
        head, whole = split(task.clean)
        phone = Bounded(head, scale)
        with torch.no_grad():
            planes, height, width = phone.eval()(torch.zeros(1, *task.shape))["mean"].shape[1:]
        adversary = task.adversary((planes, height, width))
        draw = Additive("gaussian", clip=False)
        super().__init__(task, phone=phone, draw=draw, cloud=Tail(whole), adversary=adversary)
        self.weight = weight

    def losses(self, batch: Batch, phase: Phase) -> dict[str, Tensor]:
        """Task minus the weighted loss of the adversary."""
        upload = self.upload(batch.images)
        task = self.task_loss(upload, batch)
        if not phase.active:
            return {"loss": task, "task": task}
        hidden = cross_entropies(self.adversary_logits(upload), batch.labels)
        return {"loss": task - self.weight * hidden, "task": task, "adversary": hidden}

    def cost(self, shape: tuple[int, int, int]) -> Cost:
        """The first layers."""
        return cost(self.phone.head, shape)
