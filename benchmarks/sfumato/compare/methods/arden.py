"""ARDEN (Wang et al., "Not Just Privacy: Improving Performance of Private Deep Learning in Mobile Cloud", KDD 2018).

The phone zeroes a random share mu of its input, runs the first frozen layers, bounds the features and adds noise:

    f = M(x * I_mu),    f <- f / max(1, |f|_inf / B),    upload = f + Laplace(scale * B)

The cloud network is trained on noise and on the worst direction around it (eq. 7 of the paper, r after Miyato et al.):

    lam L(clean) + (1 - lam) (L(noisy) + L(noisy + r)),    r = eta g / |g|,   g = grad L(noisy),   lam .35, eta 5

B is the median of |f|_inf over training images, as in the paper. mu = .1 is ours; the scale is the curve. Uploads are mapped
from -B..B to 0..1, which changes no information. The random zeros come before the layers, so an upload's probability is a
sum over all patterns of zeros: the exact posterior attack is left out.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sfumato.channels import Parameters
from sfumato.compare.methods.base import Curve, Method, Phase, Task
from sfumato.compare.methods.draws import laplace_noise, unbounded
from sfumato.compare.methods.parts import Tail, feature_bound, split
from sfumato.models.cost import Cost, cost
from sfumato.training.loader import Batch


class Transform(nn.Module):
    """The phone's frozen layers; the draw runs them, because the zeros come first."""

    def __init__(self, head: nn.Module, bound: float) -> None:
        super().__init__()
        self.head, self.bound = head, bound

    def forward(self, x: Tensor) -> Parameters:
        """The image: everything else is random."""
        return {"image": x}

    def features(self, x: Tensor) -> Tensor:
        """Features (B, C, h, w), each image's within -B..B."""
        f: Tensor = self.head(2 * x - 1)
        largest = f.flatten(1).abs().amax(1)[:, None, None, None]
        return f / (largest / self.bound).clamp_min(1)


@dataclass(frozen=True)
class Nullified:
    """Zeros, layers, noise: `nullification` is a share of samples, `scale` is in units of B."""

    phone: Transform
    nullification: float
    scale: float
    name: str = "nullification and laplace"

    def noise(
        self, parameters: Parameters, generator: torch.Generator | None = None
    ) -> tuple[Tensor, torch.Generator | None]:
        """Uniform numbers that decide the zeros, and where the noise on the features comes from."""
        image = parameters["image"]
        return torch.rand(image.shape, generator=generator, device=image.device), generator

    def sample(self, parameters: Parameters, noise: Any) -> Tensor:
        """The upload, features in units of 2 B around 1/2."""
        uniform, generator = noise
        f = self.phone.features(parameters["image"] * (uniform >= self.nullification))
        noisy = f + self.scale * self.phone.bound * laplace_noise(f.detach(), generator)
        return self.to_upload(noisy)

    def to_upload(self, features: Tensor) -> Tensor:
        """-B..B -> 0..1."""
        return features / (2 * self.phone.bound) + 0.5

    def rate(self, parameters: Parameters) -> Tensor:
        """No bound that is worth printing."""
        return unbounded(parameters)


class Arden(Method):
    """Split after three convolutions; only the cloud's part learns."""

    curve = Curve(
        "scale",
        (0.25, 0.1, 0.5, 1.0),
        published="accuracy under noise: MNIST 98.16 % (clean 98.21), SVHN 90.02 % (93.24), CIFAR-10 79.52 % (87.42); on other "
        "data only the drop under the clean network can be set beside it",
    )
    trained = ("cloud",)
    draw: Nullified
    phone: Transform

    def __init__(
        self,
        task: Task,
        *,
        nullification: float = 0.1,
        scale: float = 0.25,
        clean_weight: float = 0.35,
        reach: float = 5.0,
    ) -> None:
        head, whole = split(task.clean)
        bound = feature_bound(head, task)
        phone = Transform(head, bound)
        cloud = Tail(whole, centre=0.5, scale=2 * bound)
        super().__init__(task, phone=phone, draw=Nullified(phone, nullification, scale), cloud=cloud)
        self.clean_weight, self.reach = clean_weight, reach

    def losses(self, batch: Batch, phase: Phase) -> dict[str, Tensor]:
        """The noisy training of the paper."""
        with torch.no_grad():
            plain = self.draw.to_upload(self.phone.features(batch.images))
            upload = self.upload(batch.images)
        upload.requires_grad_(True)
        clean, noisy = self.task_loss(plain, batch), self.task_loss(upload, batch)
        (g,) = torch.autograd.grad(noisy, upload, retain_graph=True)
        length = g.flatten(1).norm(dim=1).clamp_min(1e-12)[:, None, None, None]
        worst = self.task_loss(upload.detach() + self.reach / (2 * self.phone.bound) * g / length, batch)
        loss = self.clean_weight * clean + (1 - self.clean_weight) * (noisy + worst)
        return {"loss": loss, "task": noisy.detach(), "clean": clean.detach(), "worst": worst.detach()}

    def cost(self, shape: tuple[int, int, int]) -> Cost:
        """The frozen layers."""
        return cost(self.phone.head, shape)
