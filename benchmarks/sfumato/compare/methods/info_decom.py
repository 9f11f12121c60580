"""In the style of InfoDecom (Deng, Lu and Duan, "InfoDecom: Decomposing Information for Defending Against Privacy Leakage in
Split Inference", AAAI 2026, arXiv 2511.13365). Written from its abstract and public summaries; the full text was not at hand.

Known from these: the first layers run on the phone; redundant information is removed first, the visible part by a filter in
the frequency domain, the semantic part by a term from the information bottleneck; then gaussian noise is added whose scale
follows in closed form from a wanted amount of Fisher-approximated Shannon information (FSInfo, Deng et al., arXiv 2504.10016)
and the Jacobian of the features. All formulas here are ours:

    x~ = x without the mean of every 8 x 8 block       (the DC coefficient, which shows the picture; Ji et al., ECCV 2022)
    upload = tanh(f(x~)) + s eps,                      loss = CE_task + w * rate / samples,     w .01
    s^2 = |J|_F^2 / d * exp(-2 t) / (2 pi e),          J = d tanh(f(x~)) / dx,  d samples of the photo

t is the wanted information in nats a sample of the photo, and the curve: gaussian noise of scale s gives Fisher information
J'J / s^2, whose log determinant is at most d log(|J|_F^2 / (d s^2)), so by the gaussian approximation the entropy that is left
is at least -t a sample: t = 0 leaves as much as a uniform pixel has. It is an approximation about reconstruction, no bound on
what attackers of attributes learn. |J|_F^2 is a mean over training images, by random projections (Hutchinson, 1990): one scale
for all images, and no Jacobian on the phone. The rate is the usual one, a gaussian against a fixed gaussian.
"""

from math import e, pi

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sfumato.channels import Parameters
from sfumato.compare.methods.base import Curve, Method, Phase, Task
from sfumato.compare.methods.draws import Additive
from sfumato.compare.methods.parts import IMAGES, Tail, split
from sfumato.data import Split
from sfumato.models.cost import Cost, cost
from sfumato.models.tensors import frozen, to_tensor
from sfumato.training.loader import Batch

BLOCK, MOMENTUM, PROJECTIONS = 8, 0.9, 8


def without_block_means(x: Tensor) -> Tensor:
    """Images (B, 3, H, W), sides multiples of 8, minus the mean of every 8 x 8 block of every colour."""
    return x - F.interpolate(F.avg_pool2d(x, BLOCK), scale_factor=BLOCK, mode="nearest")


class Decomposed(nn.Module):
    """Filter and trainable first layers under a tanh; the scale of the noise is calibrated in training."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head
        self.register_buffer("scale", torch.zeros(()))

    def features(self, x: Tensor) -> Tensor:
        """Images (B, 3, H, W) -> (B, C, h, w) in -1..1."""
        mean: Tensor = self.head(2 * without_block_means(x)).tanh()
        return mean

    def forward(self, x: Tensor) -> Parameters:
        """Images -> mean and scale."""
        mean = self.features(x)
        return {"mean": mean, "scale": self.get_buffer("scale").expand_as(mean)}

    def squared_jacobian(self, x: Tensor, projections: int = 1) -> Tensor:
        """Mean over images of |J|_F^2: of E |J' v|^2 for v of random signs."""
        total = torch.zeros((), device=x.device)
        with torch.enable_grad(), frozen(self.head):
            photo = x.detach().requires_grad_(True)
            features = self.features(photo)
            for _ in range(projections):
                signs = torch.randint_like(features, 2) * 2 - 1
                (g,) = torch.autograd.grad(features, photo, signs, retain_graph=True)
                total += g.square().flatten(1).sum(1).mean()
        return total / projections


class InfoDecomStyle(Method):
    """Filter, bottleneck, calibrated noise."""

    curve = Curve(
        "information",
        (0.0, 1.0, 2.0, -1.0),
        published="CIFAR-10 and CelebA, judged by reconstruction attacks; its figures could not be read, so none is reproduced",
        least=-10.0,
        most=10.0,
    )
    phone: Decomposed

    def __init__(self, task: Task, *, information: float = 0.0, weight: float = 0.01) -> None:
        head, whole = split(task.clean)
        draw = Additive("gaussian", clip=False)
        super().__init__(task, phone=Decomposed(head), draw=draw, cloud=Tail(whole))
        self.information, self.weight = information, weight

    def wanted_scale(self, squared_jacobian: Tensor) -> Tensor:
        """s of the closed form."""
        share = squared_jacobian / torch.tensor(self.task.shape).prod()
        return (share / (2 * pi * e)).sqrt() * torch.exp(torch.tensor(-self.information))

    def losses(self, batch: Batch, phase: Phase) -> dict[str, Tensor]:
        """Task in the warm-up, without noise; then task and bottleneck, the noise calibrated in every step."""
        scale = self.phone.get_buffer("scale")
        if phase.active:
            wanted = self.wanted_scale(self.phone.squared_jacobian(batch.images))
            scale.copy_(torch.where(scale > 0, MOMENTUM * scale + (1 - MOMENTUM) * wanted, wanted))
        parameters = self.phone(batch.images)
        upload = self.draw.sample(parameters, self.draw.noise(parameters))
        task = self.task_loss(upload, batch)
        if not phase.active:
            return {"loss": task, "task": task}
        rate = self.draw.rate(parameters).mean() / upload[0].numel()
        return {"loss": task + self.weight * rate, "task": task, "bottleneck": rate, "scale": scale.clone()}

    def finish(self) -> None:
        """The scale of the finished layers, from many projections of training images."""
        rows = self.task.dataset.splits[Split.DEFENDER][:IMAGES]
        images = to_tensor(self.task.dataset.images[rows], self.phone.get_buffer("scale").device)
        torch.manual_seed(0)
        self.phone.get_buffer("scale").copy_(
            self.wanted_scale(self.phone.squared_jacobian(images, PROJECTIONS))
        )

    def cost(self, shape: tuple[int, int, int]) -> Cost:
        """The first layers; the filter adds and subtracts."""
        return cost(self.phone.head, shape)
