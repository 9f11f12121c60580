"""The local network: a small, fully convolutional, U-shaped net that runs on the phone.

It sees the image once at each of four resolutions and returns, per pixel, the parameters of the noisy channel. Only
operators that NNAPI takes (API 30: half-pixel bilinear resizing) and that XNNPACK keeps in one partition: convolution,
depthwise convolution, ADD, MUL, SUB, RELU, LOGISTIC, RESIZE_BILINEAR, CONCATENATION. No split and no normalisation
survive the export: batch norm folds into the convolution before it.

    local = LocalNetwork(create("dither", levels=2))
    parameters = local(x)          # x: (B, 3, H, W), 0..1; H and W multiples of 16
"""

import torch.nn.functional as F
from torch import Tensor, nn

from sfumato.channels import Channel, Parameters
from sfumato.errors import UsageError

STRIDE = 16
"""Height and width must be multiples of this."""


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


class Encoder(nn.Module):
    """Looks at the image at four resolutions.

    Args:
        widths: feature planes at 1/2, 1/4, 1/8 and 1/16 of the resolution.
        depths: residual blocks at 1/4, 1/8 and 1/16, after the block that halves the resolution.
    """

    def __init__(self, widths: tuple[int, int, int, int], depths: tuple[int, int, int]) -> None:
        super().__init__()
        self.width = widths[-1]
        self.stem = convolution(3, widths[0], stride=2)
        self.down = nn.ModuleList(
            nn.Sequential(
                Separable(inputs, outputs, stride=2), *[Separable(outputs, outputs) for _ in range(depth)]
            )
            for inputs, outputs, depth in zip(widths[:-1], widths[1:], depths, strict=True)
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, 3, H, W) -> features at the four resolutions, finest first."""
        levels = [F.relu(self.stem(x))]
        for block in self.down:
            levels.append(block(levels[-1]))
        return levels


class LocalNetwork(nn.Module):
    """Image in, channel parameters out.

    Args:
        channel: says which maps are needed and how they become parameters.
        widths, depths: as in `Encoder`.
    """

    def __init__(
        self,
        channel: Channel,
        widths: tuple[int, int, int, int] = (16, 32, 48, 48),
        depths: tuple[int, int, int] = (1, 2, 1),
    ) -> None:
        super().__init__()
        a, b, c, d = widths
        self.channel = channel
        self.encoder = Encoder(widths, depths)
        same = nn.Identity() if c == d else convolution(d, c, size=1)
        self.up = nn.ModuleList([same, Separable(c, b), Separable(b, a)])
        self.smooth = Separable(a, a)
        self.heads = nn.ModuleDict({name: nn.Conv2d(a, planes, 1) for name, planes in channel.maps.items()})
        for head in self.heads.values():
            # Zero maps: at first the gate is nearly open and the noise small, so the cloud sees the picture. A network
            # that starts out noisy does not learn.
            nn.init.zeros_(head.bias)  # type: ignore[arg-type]
            nn.init.normal_(head.weight, std=0.01)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Parameters:
        """(B, 3, H, W) in 0..1 -> channel parameters, each (B, planes, H, W)."""
        return self.decode(x, self.encoder(x))

    def decode(self, x: Tensor, levels: list[Tensor]) -> Parameters:
        """Image and the encoder's features -> channel parameters."""
        *skips, y = levels
        for block, skip in zip(self.up, reversed(skips), strict=True):
            y = enlarge(block(y)) + skip
        y = self.smooth(y)
        return self.channel.parameters(x, {name: enlarge(head(y)) for name, head in self.heads.items()})


def check_size(height: int, width: int) -> None:
    """Refuse an image size the local network cannot halve four times.

    Raises:
        UsageError: height or width is not a multiple of 16.
    """
    if height % STRIDE or width % STRIDE or height < STRIDE or width < STRIDE:
        given = f"{height}x{width}"
        raise UsageError(
            f"height and width must be multiples of {STRIDE}, not {given}: choose size=HxW in the data spec"
        )
