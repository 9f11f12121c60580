"""Cloak (Mireshghallah et al., "Not All Features Are Equal", WWW 2021).

One mean and one scale per pixel, learned once and the same for all images, in front of a frozen network:

    upload = x + m + s * eps,    s = least + (most - least) (1 + tanh rho) / 2,    loss = CE - lam * log(mean s)

Training alternates between enlarging the noise (lam 10, rate 1e-2) and repairing the task (lam 0). At the end every sample
whose scale is above 90 % of the largest possible one is replaced by a learned constant. lam is searched for in the paper,
so it is the curve. One epoch per phase and the last third for the constants are ours, as is most = 1 (the full pixel range).
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sfumato.channels import Parameters
from sfumato.channels.gaussian import gaussian_rate
from sfumato.compare.methods.base import CHOSEN_FROM, Curve, Method, Phase, Task
from sfumato.compare.methods.draws import REFERENCE, Additive
from sfumato.models.cost import Cost
from sfumato.training.loader import Batch

LEAST, MOST = 1e-3, 1.0
SUPPRESSED = 0.9
"""Share of `MOST` above which a sample is replaced by a constant."""
CONSTANTS_FROM = CHOSEN_FROM
"""Share of the run after which the constants are learned: all epochs that may be kept send constants."""


class StaticNoise(nn.Module):
    """The same noise for every image of `shape` (3, H, W)."""

    def __init__(self, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.rho = nn.Parameter(torch.full(shape, -1.0))
        self.shift = nn.Parameter(torch.zeros(shape))
        self.constant = nn.Parameter(torch.full(shape, 0.5))
        self.register_buffer("kept", torch.ones(shape))

    @property
    def scale(self) -> Tensor:
        """s, (3, H, W)."""
        return LEAST + (MOST - LEAST) * (1 + self.rho.tanh()) / 2

    @torch.no_grad()
    def suppress(self) -> None:
        """Decide which samples become constants."""
        self.get_buffer("kept").copy_((self.scale <= SUPPRESSED * MOST).float())

    def forward(self, x: Tensor) -> Parameters:
        """Images -> mean, and scale; the scale is zero where a constant is sent."""
        kept = self.get_buffer("kept")
        mean = kept * (x + self.shift) + (1 - kept) * self.constant
        return {"mean": mean, "scale": (kept * self.scale).expand_as(x)}


@dataclass(frozen=True)
class Suppressed(Additive):
    """Gaussian noise; samples of scale zero are the same for every image."""

    def rate(self, parameters: Parameters) -> Tensor:
        """As for gaussian noise, but a constant carries nothing."""
        scale = parameters["scale"]
        rate = gaussian_rate(parameters["mean"], scale.clamp_min(LEAST / 2), REFERENCE)
        return (rate * (scale > 0)).flatten(1).sum(1)


class Cloak(Method):
    """Static noise in front of the clean cloud network."""

    curve = Curve(
        "weight",
        (10.0, 1.0, 100.0, 0.1),
        published="1.42 points of accuracy lost and 85 % of the mutual information with the image; the drop can be set beside "
        "it, the information is not measured here",
    )
    trained = ("phone",)
    phone: StaticNoise

    def __init__(self, task: Task, *, weight: float = 10.0) -> None:
        phone = StaticNoise(task.shape)
        super().__init__(task, phone=phone, draw=Suppressed("gaussian", clip=False), cloud=task.clean_cloud())
        self.weight = weight

    def losses(self, batch: Batch, phase: Phase) -> dict[str, Tensor]:
        """Enlarge in even epochs, repair in odd ones, learn the constants in the last third."""
        last = phase.active and phase.progress >= CONSTANTS_FROM
        if last and bool(self.phone.get_buffer("kept").all()):
            self.phone.suppress()
        enlarge = phase.active and not last and phase.epoch % 2 == 0
        task = self.task_loss(self.upload(batch.images), batch)
        size = self.phone.scale.mean().log()
        return {"loss": task - (self.weight if enlarge else 0.0) * size, "task": task, "log_scale": size}

    def finish(self) -> None:
        """A run too short for a last third still suppresses."""
        if bool(self.phone.get_buffer("kept").all()):
            self.phone.suppress()

    def groups(self) -> list[dict[str, Any]]:
        """The paper's rate, five times the common one; weight decay would pull the scale to its middle."""
        return [{"params": list(self.phone.parameters()), "factor": 5.0, "weight_decay": 0.0}]

    def cost(self, shape: tuple[int, int, int]) -> Cost:
        """Shift and scale, or constant, per sample; adding noise counts no MACs."""
        planes, height, width = shape
        return Cost(parameters=2 * planes * height * width, macs=0)
