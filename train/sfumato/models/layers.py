"""The layers that our networks are made of.

block = nn.Sequential(convolution(3, 16, stride=2), nn.ReLU(), Separable(16, 32, stride=2))
"""

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn


def convolution(
    inputs: int, outputs: int, *, size: int = 3, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    """Convolution and batch norm; the two fold into one operator at export."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
    )


class Separable(nn.Module):
    """Depthwise 3x3, pointwise 1x1, ReLU (Howard et al., MobileNets, 2017); residual where the shape allows it."""

    def __init__(self, inputs: int, outputs: int, *, stride: int = 1) -> None:
        super().__init__()
        self.depthwise = convolution(inputs, inputs, stride=stride, groups=inputs)
        self.pointwise = convolution(inputs, outputs, size=1)
        self.residual = inputs == outputs and stride == 1

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) -> (B, outputs, H / stride, W / stride)."""
        y = self.pointwise(self.depthwise(x))
        return F.relu(x + y if self.residual else y)


def enlarge(x: Tensor) -> Tensor:
    """Double height and width; bilinear, since nearest-neighbour splits the XNNPACK partition."""
    return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)


def enlarge_to(x: Tensor, like: Tensor) -> Tensor:
    """Bilinear enlargement to the height and width of `like`.

    As whole factors where they are whole: with sizes, ONNX would compute shapes inside the graph.
    """
    (h, w), (height, width) = ([int(length) for length in t.shape[2:]] for t in (x, like))
    whole = height % h == 0 and width % w == 0
    target: dict[str, Any] = (
        {"scale_factor": (height // h, width // w)} if whole else {"size": (height, width)}
    )
    return F.interpolate(x, **target, mode="bilinear", align_corners=False)
