"""Blur: a gaussian filter whose standard deviation is a share of the image's height, by default a sixteenth.

    x'[i] = sum_j w[j] x[i + j],   w[j] ~ exp(-j^2 / (2 sigma^2)),   rows, then columns

The strength is ours: at 64 pixels (4 pixels of blur) a face is a smear to the eye.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sfumato.channels import Parameters
from sfumato.compare.methods.base import Curve, Method, Task
from sfumato.compare.methods.draws import Fixed
from sfumato.models.cost import Cost


class Blur(nn.Module):
    """A separable gaussian filter; `deviation` in pixels."""

    def __init__(self, deviation: float) -> None:
        super().__init__()
        self.reach = max(1, round(3 * deviation))
        steps = torch.arange(-self.reach, self.reach + 1)
        weights = torch.exp(-(steps**2) / (2 * deviation**2))
        self.register_buffer("weights", weights / weights.sum())

    def forward(self, x: Tensor) -> Parameters:
        """Images (B, 3, H, W) -> blurred ones; the border is repeated."""
        row = self.get_buffer("weights").expand(3, 1, 1, -1)
        y = F.conv2d(F.pad(x, (self.reach, self.reach, 0, 0), mode="replicate"), row, groups=3)
        y = F.pad(y, (0, 0, self.reach, self.reach), mode="replicate")
        return {"mean": F.conv2d(y, row.transpose(2, 3), groups=3)}


class Blurred(Method):
    """Upload a blurred image."""

    curve = Curve(
        "share", (1 / 16, 1 / 32, 1 / 8, 1 / 4), published="no paper: a naive baseline", least=1e-3, most=1
    )
    trained = ("cloud",)

    def __init__(self, task: Task, *, share: float = 1 / 16) -> None:
        self.blur = share * task.dataset.size[0]
        super().__init__(task, phone=Blur(self.blur), draw=Fixed(), cloud=task.clean_cloud())

    def cost(self, shape: tuple[int, int, int]) -> Cost:
        """Two passes of one multiplication per sample and weight; the filter is no learned parameter."""
        planes, height, width = shape
        taps = 2 * max(1, round(3 * self.blur)) + 1
        return Cost(parameters=0, macs=2 * taps * planes * height * width)
