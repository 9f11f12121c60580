"""The layers that our networks are made of.

block = nn.Sequential(convolution(3, 16, stride=2), nn.ReLU(), Separable(16, 32, stride=2))
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


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


CORNERS = ((0, 0), (0, 1), (1, 0), (1, 1))
"""The four pixels of a place, in the order of their planes."""


def quick_pixel_shuffle(x: Tensor) -> Tensor:
    """`F.pixel_shuffle(x, 2)` with its gradient, in a third of the time: (B, 4 C, H, W) -> (B, C, 2 H, 2 W).

    For training, where tensors are channels-last in memory; exports hold torch's own operator.
    """
    shuffled: Tensor = _PixelShuffle.apply(x)  # type: ignore[no-untyped-call]
    return shuffled


class _PixelShuffle(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        batch, planes, height, width = x.shape
        out = _nhwc(x, batch, planes // 4, 2 * height, 2 * width)
        for i, j in CORNERS:
            out[:, :, i::2, j::2] = x[:, 2 * i + j :: 4]
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> Tensor:
        batch, planes, height, width = slope.shape
        out = _nhwc(slope, batch, 4 * planes, height // 2, width // 2)
        for i, j in CORNERS:
            out[:, 2 * i + j :: 4] = slope[:, :, i::2, j::2]
        return out


def _nhwc(like: Tensor, *shape: int) -> Tensor:
    """An empty tensor, channels-last in memory."""
    return torch.empty(shape, dtype=like.dtype, device=like.device, memory_format=torch.channels_last)
