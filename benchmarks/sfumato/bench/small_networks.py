"""Twenty common small architectures as local networks of a user's own: plain PyTorch, image in, channel maps out.

    sfumato train --data folder:photos --keep smiling --bits 200 --local sfumato.bench.small_networks:u_net

Each is what somebody would write who brings a network, at a size for a phone: one or two blocks of the architecture behind a
stem, a convolution for every map, and pixels shuffled back where the body ends at a lower resolution. They follow the papers'
blocks and not their depths. `sfumato.bench.own_networks` says what becomes of them.
"""

from collections.abc import Callable
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sfumato.bench.phone_networks import Excite, Inverted

Factory = Callable[[dict[str, int], tuple[int, int]], nn.Module]
NETWORKS: dict[str, tuple[Factory, str]] = {}
"""Name -> (factory of `--local`, what is particular about it)."""
WIDTH = 24


class Maps(nn.Module):
    """A body with a convolution for every map behind it.

    Args:
        body: (B, 3, H, W) -> (B, width, H / stride, W / stride).
        planes: map -> how many planes it has.
        stride: 1, 2 or 4.
    """

    def __init__(self, body: nn.Module, planes: dict[str, int], width: int, stride: int) -> None:
        super().__init__()
        self.body, self.stride = body, stride
        self.heads = nn.ModuleDict(
            {name: nn.Conv2d(width, count * stride**2, 1) for name, count in planes.items()}
        )

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """(B, 3, H, W) -> maps (B, planes, H, W)."""
        y = self.body(x)
        maps = {name: head(y) for name, head in self.heads.items()}
        if self.stride == 1:
            return maps
        return {name: F.pixel_shuffle(values, self.stride) for name, values in maps.items()}


def network(
    particular: str, *, width: int = WIDTH, stride: int = 4
) -> Callable[[Callable[[], nn.Module]], Factory]:
    """Enter a body into `NETWORKS`, as a factory of the protocol of `--local`."""

    def enter(body: Callable[[], nn.Module]) -> Factory:
        def make(planes: dict[str, int], size: tuple[int, int]) -> nn.Module:
            return Maps(body(), planes, width, stride)

        NETWORKS[body.__name__] = (make, particular)
        return make

    return enter


def convolution(
    inputs: int,
    outputs: int,
    size: int = 3,
    stride: int = 1,
    *,
    groups: int = 1,
    apart: int = 1,
    act: nn.Module | None = None,
) -> nn.Sequential:
    """Convolution, batch norm, activation (ReLU)."""
    layer = nn.Conv2d(inputs, outputs, size, stride, size // 2 * apart, apart, groups, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(outputs), nn.ReLU() if act is None else act)


def linear(inputs: int, outputs: int, size: int = 3, stride: int = 1, *, groups: int = 1) -> nn.Sequential:
    """Convolution and batch norm."""
    return convolution(inputs, outputs, size, stride, groups=groups, act=nn.Identity())


def stem(act: nn.Module | None = None, width: int = WIDTH) -> nn.Sequential:
    """To a quarter of the resolution."""
    return nn.Sequential(convolution(3, 16, 3, 2, act=act), convolution(16, width, 3, 2, act=act))


class Residual(nn.Module):
    """x + layers(x), and perhaps an activation."""

    def __init__(self, *layers: nn.Module, act: nn.Module | None = None) -> None:
        super().__init__()
        self.layers, self.act = nn.Sequential(*layers), nn.Identity() if act is None else act

    def forward(self, x: Tensor) -> Tensor:
        """Any shape that the layers keep."""
        y: Tensor = self.act(x + self.layers(x))
        return y


class Joined(nn.Module):
    """What several branches make of one input, plane after plane."""

    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, sum of the branches' planes, H, W)."""
        return torch.cat([branch(x) for branch in self.branches], 1)


@network("convolution, batch norm, ReLU")
def plain() -> nn.Module:
    """The example of docs/local-network.md, a little deeper."""
    return nn.Sequential(stem(), convolution(WIDTH, WIDTH), convolution(WIDTH, WIDTH))


@network("addition")
def resnet() -> nn.Module:
    """He et al., 2016."""
    parts = [Residual(convolution(WIDTH, WIDTH), linear(WIDTH, WIDTH), act=nn.ReLU()) for _ in range(2)]
    return nn.Sequential(stem(), *parts)


@network("batch norm before a convolution")
def preactivation() -> nn.Module:
    """He et al., 2016, the second paper."""

    def half() -> list[nn.Module]:
        return [nn.BatchNorm2d(WIDTH), nn.ReLU(), nn.Conv2d(WIDTH, WIDTH, 3, 1, 1)]

    return nn.Sequential(stem(), Residual(*half(), *half()), nn.BatchNorm2d(WIDTH), nn.ReLU())


@network("squeeze-excite: global pooling, a factor for every plane")
def se_resnet() -> nn.Module:
    """Hu et al., 2018."""
    return nn.Sequential(
        stem(), Residual(convolution(WIDTH, WIDTH), linear(WIDTH, WIDTH), Excite(WIDTH), act=nn.ReLU())
    )


@network("concatenation, average pooling")
def densenet() -> nn.Module:
    """Huang et al., 2017."""
    grow = [
        Joined(nn.Identity(), nn.Sequential(convolution(n, 24, 1), convolution(24, 8))) for n in (16, 24, 32)
    ]
    return nn.Sequential(
        convolution(3, 16, 3, 2), *grow, convolution(40, WIDTH, 1), nn.AvgPool2d(2), convolution(WIDTH, WIDTH)
    )


@network("branches, padded average pooling, 1x7 and 7x1")
def inception() -> nn.Module:
    """Szegedy et al., 2016."""

    def long() -> nn.Module:
        across, down = nn.Conv2d(8, 8, (1, 7), padding=(0, 3)), nn.Conv2d(8, 8, (7, 1), padding=(3, 0))
        return nn.Sequential(convolution(WIDTH, 8, 1), across, nn.ReLU(), down, nn.ReLU())

    pooled = nn.Sequential(nn.AvgPool2d(3, 1, 1), convolution(WIDTH, 8, 1))
    return nn.Sequential(stem(), Joined(convolution(WIDTH, 8, 1), long(), pooled))


@network("grouped convolution")
def resnext() -> nn.Module:
    """Xie et al., 2017."""
    layers = convolution(WIDTH, 32, 1), convolution(32, 32, groups=4), linear(32, WIDTH, 1)
    return nn.Sequential(stem(), Residual(*layers, act=nn.ReLU()))


class Shuffle(nn.Module):
    """A unit of ShuffleNet V2: half of the planes pass, then the halves are shuffled."""

    def __init__(self, width: int) -> None:
        super().__init__()
        half = width // 2
        self.layers = nn.Sequential(
            convolution(half, half, 1), linear(half, half, groups=half), convolution(half, half, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W), kept."""
        kept, changed = x.chunk(2, 1)
        y = torch.cat([kept, self.layers(changed)], 1)
        batch, planes, height, width = y.shape
        return (
            y.view(batch, 2, planes // 2, height, width).transpose(1, 2).reshape(batch, planes, height, width)
        )


@network("halves of the planes, shuffled")
def shufflenet() -> nn.Module:
    """Ma et al., 2018."""
    return nn.Sequential(stem(), Shuffle(WIDTH), Shuffle(WIDTH))


@network("inverted residual, ReLU6")
def mobilenet_v2() -> nn.Module:
    """Sandler et al., 2018."""
    return nn.Sequential(
        stem(nn.ReLU6()), Inverted(WIDTH, WIDTH, 1, 4 * WIDTH), Inverted(WIDTH, WIDTH, 1, 4 * WIDTH)
    )


@network("hard swish, squeeze-excite with a hard sigmoid")
def mobilenet_v3() -> nn.Module:
    """Howard et al., 2019."""
    wide, act = 3 * WIDTH, nn.Hardswish()
    block = Residual(
        convolution(WIDTH, wide, 1, act=act),
        convolution(wide, wide, 5, groups=wide, act=act),
        Excite(wide, gate=nn.Hardsigmoid()),
        linear(wide, WIDTH, 1),
    )
    return nn.Sequential(stem(act), block)


@network("SiLU, squeeze-excite")
def efficientnet() -> nn.Module:
    """Tan and Le, 2019."""
    wide, act = 4 * WIDTH, nn.SiLU()
    block = Residual(
        convolution(WIDTH, wide, 1, act=act),
        convolution(wide, wide, groups=wide, act=act),
        Excite(wide, act),
        linear(wide, WIDTH, 1),
    )
    return nn.Sequential(stem(act), block)


class Hourglass(nn.Module):
    """U-Net with two halvings; transposed convolutions of 2x2 lead back."""

    def __init__(self, width: int) -> None:
        super().__init__()
        widths = [width, 2 * width, 4 * width]
        self.down = nn.ModuleList(convolution(a, b) for a, b in pairwise([3, *widths]))
        self.enlarge = nn.ModuleList(nn.ConvTranspose2d(b, a, 2, 2) for a, b in pairwise(widths))
        self.up = nn.ModuleList(convolution(2 * a, a) for a in widths[:-1])

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, width, H, W)."""
        levels = [self.down[0](x)]
        for part in self.down[1:]:
            levels.append(part(F.max_pool2d(levels[-1], 2)))
        y = levels.pop()
        for level in reversed(range(len(levels))):
            y = self.up[level](torch.cat([levels[level], self.enlarge[level](y)], 1))
        found: Tensor = y
        return found


@network("max pooling, transposed convolution 2x2, skips", width=8, stride=1)
def u_net() -> nn.Module:
    """Ronneberger et al., 2015."""
    return Hourglass(8)


class Pyramid(nn.Module):
    """Features of three resolutions, enlarged by nearest neighbour and added."""

    def __init__(self) -> None:
        super().__init__()
        widths = [16, 24, 32]
        self.down = nn.ModuleList(convolution(a, b, 3, 2) for a, b in pairwise([3, *widths]))
        self.across = nn.ModuleList(nn.Conv2d(width, WIDTH, 1) for width in widths)
        self.last = nn.Conv2d(WIDTH, WIDTH, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, WIDTH, H / 2, W / 2)."""
        levels = []
        for part, across in zip(self.down, self.across, strict=True):
            x = part(x)
            levels.append(across(x))
        y = levels.pop()
        while levels:
            y = levels.pop() + F.interpolate(y, scale_factor=2, mode="nearest")
        y = self.last(y)
        found: Tensor = y
        return found


@network("enlargement by nearest neighbour", stride=2)
def feature_pyramid() -> nn.Module:
    """Lin et al., 2017."""
    return Pyramid()


@network("leaky ReLU, transposed convolution 4x4 of stride 2, tanh", width=12, stride=1)
def pix2pix() -> nn.Module:
    """Isola et al., 2017, the plain encoder and decoder."""
    act = nn.LeakyReLU(0.2)

    def enlarge(inputs: int, outputs: int) -> list[nn.Module]:
        return [nn.ConvTranspose2d(inputs, outputs, 4, 2, 1), nn.ReLU()]

    down = convolution(3, 16, 4, 2, act=act), convolution(16, 32, 4, 2, act=act)
    for part in down:
        part[0].padding = (1, 1)  # type: ignore[assignment]
    return nn.Sequential(*down, *enlarge(32, 16), *enlarge(16, 12)[:1], nn.Tanh())


class Surroundings(nn.Module):
    """Atrous pyramid: the same map through dilated convolutions, and its mean spread over all places."""

    def __init__(self) -> None:
        super().__init__()
        self.near = Joined(*(convolution(WIDTH, 8, apart=apart) for apart in (1, 2, 4)))
        self.mean = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(WIDTH, 8, 1), nn.ReLU())
        self.last = convolution(32, WIDTH, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, WIDTH, H, W), kept."""
        near = self.near(x)
        far = F.interpolate(self.mean(x), size=near.shape[2:], mode="bilinear")
        y: Tensor = self.last(torch.cat([near, far], 1))
        return y


@network("dilated convolution, a mean spread over the picture")
def deeplab() -> nn.Module:
    """Chen et al., 2017."""
    return nn.Sequential(stem(), Surroundings())


class PlaneNorm(nn.LayerNorm):
    """Layer norm over the planes of each place."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W), kept."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ConvNextBlock(nn.Module):
    """Depthwise 7x7, layer norm, two dense layers with GELU, a factor for every plane."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(width, width, 7, 1, 3, groups=width)
        self.norm = nn.LayerNorm(width)
        self.layers = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.factor = nn.Parameter(torch.full((width,), 0.5))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W), kept."""
        y = self.depthwise(x).permute(0, 2, 3, 1)
        found: Tensor = x + (self.factor * self.layers(self.norm(y))).permute(0, 3, 1, 2)
        return found


@network("layer norm, GELU, dense layers over the planes")
def convnext() -> nn.Module:
    """Liu et al., 2022."""
    return nn.Sequential(
        nn.Conv2d(3, WIDTH, 4, 4), PlaneNorm(WIDTH), ConvNextBlock(WIDTH), ConvNextBlock(WIDTH)
    )


@network("group norm, SiLU")
def diffusion_block() -> nn.Module:
    """The residual block of DDPM (Ho et al., 2020)."""

    def half() -> list[nn.Module]:
        return [nn.GroupNorm(4, WIDTH), nn.SiLU(), nn.Conv2d(WIDTH, WIDTH, 3, 1, 1)]

    return nn.Sequential(stem(nn.SiLU()), Residual(*half(), *half()))


@network("mirrored edges, instance norm")
def style_transfer() -> nn.Module:
    """Johnson et al., 2016, with instance norm (Ulyanov et al., 2016)."""

    def half() -> list[nn.Module]:
        layers = nn.ReflectionPad2d(1), nn.Conv2d(WIDTH, WIDTH, 3), nn.InstanceNorm2d(WIDTH, affine=True)
        return [*layers, nn.ReLU()]

    return nn.Sequential(stem(), Residual(*half(), *half()[:-1]))


@network("PReLU, sub-pixel convolution")
def super_resolution() -> nn.Module:
    """Dong et al., 2016, with the sub-pixel convolution of Shi et al., 2016."""
    acts = [nn.PReLU(width) for width in (16, WIDTH, 12, 12, WIDTH)]
    return nn.Sequential(
        *(nn.Conv2d(3, 16, 5, 2, 2), acts[0], nn.Conv2d(16, WIDTH, 3, 2, 1), acts[1]),
        *(nn.Conv2d(WIDTH, 12, 1), acts[2], nn.Conv2d(12, 12, 3, 1, 1), acts[3]),
        *(nn.Conv2d(12, WIDTH, 1), acts[4]),
    )


class Attention(nn.Module):
    """Multi-head attention among all places."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.into, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, C), kept."""
        batch, places, width = x.shape
        parts = self.into(x).view(batch, places, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        query, key, value = parts[0], parts[1], parts[2]
        shares = (query @ key.transpose(-2, -1) * (width // self.heads) ** -0.5).softmax(-1)
        y: Tensor = self.out((shares @ value).transpose(1, 2).reshape(batch, places, width))
        return y


class Transformer(nn.Module):
    """Patches of 4x4, places that were learnt, blocks of attention and dense layers, and back to a map."""

    def __init__(self, width: int, heads: int, size: int = 64) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, 4, 4)
        self.places = nn.Parameter(0.1 * torch.randn(1, (size // 4) ** 2, width))
        dense = nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        self.blocks = nn.Sequential(
            Residual(nn.LayerNorm(width), Attention(width, heads)), Residual(nn.LayerNorm(width), *dense)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, C, H / 4, W / 4)."""
        y = self.patches(x)
        tokens = self.blocks(y.flatten(2).transpose(1, 2) + self.places)
        found: Tensor = tokens.transpose(1, 2).reshape(y.shape)
        return found


@network("attention, layer norm, GELU; images of 64x64 alone")
def vision_transformer() -> nn.Module:
    """Dosovitskiy et al., 2021."""
    return Transformer(WIDTH, 3)
