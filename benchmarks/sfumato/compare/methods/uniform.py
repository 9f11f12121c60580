"""Uniform noise: the same gaussian or Laplace noise on every sample of every image, clipped to 0..1.

    x' = clip(x + s * eps, 0, 1),    eps ~ N(0, 1)  or  Laplace(1)

What "noise by significance" has to beat. The strengths are ours, around a standard deviation of half the pixel range.
"""

from math import sqrt

import torch
from torch import Tensor, nn

from sfumato.channels import Parameters
from sfumato.compare.methods.base import Curve, Method, Task
from sfumato.compare.methods.draws import Additive


class Noisy(nn.Module):
    """The image as mean, one fixed scale for all samples."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, x: Tensor) -> Parameters:
        """Images (B, 3, H, W) -> mean and scale."""
        return {"mean": x, "scale": torch.full_like(x, self.scale)}


DEVIATIONS = Curve("deviation", (0.5, 0.25, 1.0, 2.0), published="no paper: a naive baseline", least=1e-3)


class UniformGaussian(Method):
    """Gaussian noise of standard deviation `deviation`."""

    curve = DEVIATIONS
    trained = ("cloud",)

    def __init__(self, task: Task, *, deviation: float = 0.5) -> None:
        draw = Additive("gaussian", clip=True)
        super().__init__(task, phone=Noisy(deviation), draw=draw, cloud=task.clean_cloud())


class UniformLaplace(Method):
    """Laplace noise of standard deviation `deviation`, that is of scale `deviation / sqrt(2)`."""

    curve = DEVIATIONS
    trained = ("cloud",)

    def __init__(self, task: Task, *, deviation: float = 0.5) -> None:
        draw = Additive("laplace", clip=True)
        super().__init__(task, phone=Noisy(deviation / sqrt(2)), draw=draw, cloud=task.clean_cloud())
