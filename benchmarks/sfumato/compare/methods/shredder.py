"""Shredder (Mireshghallah et al., "Shredder: Learning Noise Distributions to Protect Inference Privacy", ASPLOS 2020).

The network is cut and frozen, and noise tensors are learned that are added to the features at the cut:

    upload = f(x) + n_k,    k drawn for each upload;      loss = CE - lam * mean |n|

The magnitude of the noise stands for privacy (the paper's proxy for 1 / SNR). Several tensors are trained at once, each on
its share of every batch, and one is drawn per upload: the paper's sampling from learned noise. lam, per standard deviation of
the features, is the curve; its values and the count of 8 are ours. Only the tensors learn; the two halves of the network never
do. An upload is one of eight shifts of a deterministic feature map, which has no density: the exact posterior attack is left
out.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sfumato.channels import Parameters
from sfumato.compare.methods.base import Curve, Method, Phase, Task
from sfumato.compare.methods.draws import laplace_noise, unbounded
from sfumato.compare.methods.parts import IMAGES, Tail, split
from sfumato.data import Split
from sfumato.models.cost import Cost, cost
from sfumato.models.tensors import evaluating, to_tensor
from sfumato.training.loader import Batch

SPAN = 6.0
"""Standard deviations of the features that an upload's unit stands for."""


class Cut(nn.Module):
    """The frozen layers and the learned tensors (tensors, C, h, w), in units of the features' deviation."""

    def __init__(self, head: nn.Module, deviation: float, tensors: Tensor) -> None:
        super().__init__()
        self.head, self.unit = head, SPAN * deviation
        self.tensors = nn.Parameter(tensors)

    def forward(self, x: Tensor) -> Parameters:
        """Images -> features without noise, scaled."""
        return {"mean": self.head(2 * x - 1) / self.unit}


@dataclass(frozen=True)
class Stored:
    """One of the learned tensors is added to each upload."""

    phone: Cut
    name: str = "stored noise"

    def noise(self, parameters: Parameters, generator: torch.Generator | None = None) -> Tensor:
        """Which tensor, (B,)."""
        mean = parameters["mean"]
        return torch.randint(len(self.phone.tensors), (len(mean),), generator=generator, device=mean.device)

    def sample(self, parameters: Parameters, noise: Tensor) -> Tensor:
        """The upload."""
        return parameters["mean"] + self.phone.tensors[noise] / SPAN

    def rate(self, parameters: Parameters) -> Tensor:
        """None is known."""
        return unbounded(parameters)


class Shredder(Method):
    """Learned additive noise at the cut of a frozen network."""

    curve = Curve(
        "weight",
        (0.1, 0.01, 1.0, 10.0),
        published="1.58 points of accuracy lost and 74.7 % of the mutual information with the image; the drop can be set "
        "beside it, the information cannot: it is not measured here",
    )
    trained = ("phone",)
    phone: Cut

    def __init__(self, task: Task, *, weight: float = 0.1, tensors: int = 8) -> None:
        head, whole = split(task.clean)
        rows = task.dataset.splits[Split.DEFENDER][:IMAGES]
        with evaluating(head):
            features = head(2 * to_tensor(task.dataset.images[rows]) - 1)
        start = laplace_noise(torch.zeros(tensors, *features.shape[1:]))
        phone = Cut(head, float(features.std()), start)
        super().__init__(task, phone=phone, draw=Stored(phone), cloud=Tail(whole, scale=phone.unit))
        self.weight = weight

    def losses(self, batch: Batch, phase: Phase) -> dict[str, Tensor]:
        """Task minus the weighted magnitude of the noise."""
        task = self.task_loss(self.upload(batch.images), batch)
        size = self.phone.tensors.abs().mean()
        return {"loss": task - (self.weight if phase.active else 0.0) * size, "task": task, "noise": size}

    def prepare_mode(self) -> None:
        """Everything but the tensors is frozen."""
        self.eval().requires_grad_(False)
        self.phone.tensors.requires_grad_(True)

    def groups(self) -> list[dict[str, Any]]:
        """The tensors alone; weight decay would work against the loss."""
        return [{"params": [self.phone.tensors], "factor": 5.0, "weight_decay": 0.0}]

    def cost(self, shape: tuple[int, int, int]) -> Cost:
        """The frozen layers, and the tensors that have to be stored."""
        layers = cost(self.phone.head, shape)
        return Cost(layers.parameters + self.phone.tensors.numel(), layers.macs)
