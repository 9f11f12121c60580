"""The architectures of the attackers: what a curious provider would train on (upload, sensitive label) pairs.

    network = create_attacker("mobilenet", {"race": 5}, size=(64, 64), planes=3)
    logits = network(upload)["race"]

Different architectures fail in different ways, so the audit trains all of them and reports the best. `linear` is the
matched filter: against a faint pattern spread over the whole image it often beats every convolution.
"""

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sfumato.core.errors import UsageError, unknown
from sfumato.models.cloud import ResNet
from sfumato.models.layers import Halving, Separable, convolution

Classes = Mapping[str, int]
Size = tuple[int, int]


class Attacker(nn.Module):
    """A feature extractor (B, 3, H, W) -> (B, F) under one linear head per attribute; images are centred first."""

    def __init__(self, features: nn.Module, width: int, classes: Classes, *, dropout: float = 0.2) -> None:
        super().__init__()
        self.features = features
        self.dropout = nn.Dropout(dropout)
        self.heads = nn.ModuleDict({name: nn.Linear(width, count) for name, count in classes.items()})

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Upload (B, 3, H, W) in 0..1 -> logits per attribute."""
        features = self.dropout(self.features(2 * x - 1))
        return {name: head(features) for name, head in self.heads.items()}


class GlobalAverage(nn.Module):
    """(B, C, H, W) -> (B, C)."""

    def forward(self, x: Tensor) -> Tensor:
        """Mean over the pixels."""
        return x.mean(dim=(2, 3))


def halving(planes: int, wider: int) -> nn.Sequential:
    """The first layer: training against an attacker takes the slope of its input, the upload's few planes."""
    return nn.Sequential(Halving(planes, wider, 3), nn.BatchNorm2d(wider))


def linear(classes: Classes, size: Size, planes: int = 3) -> nn.Module:
    """Logistic regression on the pixels."""
    height, width = size
    return Attacker(nn.Flatten(), planes * height * width, classes, dropout=0.0)


def cnn(classes: Classes, size: Size, planes: int = 3) -> nn.Module:
    """Four strided convolutions, flattened at the end so that position is kept; `planes` maps in 0..1 go in."""
    layers: list[nn.Module] = []
    height, width = size
    for wider in (32, 48, 64, 96):
        layer = convolution(planes, wider, stride=2) if layers else halving(planes, wider)
        layers += [layer, nn.ReLU(inplace=True)]
        planes, height, width = wider, (height + 1) // 2, (width + 1) // 2
    features = nn.Sequential(*layers, nn.Flatten(), nn.Linear(planes * height * width, 128), nn.ReLU())
    return Attacker(features, 128, classes, dropout=0.3)


def resnet(classes: Classes, size: Size, planes: int = 3) -> nn.Module:
    """The cloud network's own architecture, from scratch."""
    return ResNet(classes, widths=(24, 48, 96), stride=2 if size[0] >= 48 else 1, planes=planes)


def mobilenet(classes: Classes, size: Size, planes: int = 3) -> nn.Module:
    """Separable convolutions (Howard et al., 2017)."""
    first = 2 if size[0] >= 48 else 1
    features = nn.Sequential(
        halving(planes, 32) if first == 2 else convolution(planes, 32),
        nn.ReLU(inplace=True),
        Separable(32, 64, stride=2),
        Separable(64, 64),
        Separable(64, 96, stride=2),
        Separable(96, 96),
        Separable(96, 128, stride=2),
        GlobalAverage(),
    )
    return Attacker(features, 128, classes)


class TinyViT(nn.Module):
    """A vision transformer (Dosovitskiy et al., 2021) of three layers on 8x8 or 4x4 patches; mean-pooled tokens."""

    def __init__(self, size: Size, planes: int = 3, width: int = 96, depth: int = 3) -> None:
        super().__init__()
        patch = 8 if min(size) >= 48 else 4
        self.patches = nn.Conv2d(planes, width, patch, stride=patch)
        tokens = (size[0] // patch) * (size[1] // patch)
        self.position = nn.Parameter(torch.randn(1, tokens, width) * 0.02)
        layer = nn.TransformerEncoderLayer(
            width,
            nhead=4,
            dim_feedforward=2 * width,
            dropout=0.1,
            activation="gelu",
            batch_first=True,
            norm_first=True,
        )
        self.encoder = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, width)."""
        tokens = self.patches(x).flatten(2).transpose(1, 2) + self.position
        features: Tensor = self.norm(self.encoder(tokens)).mean(dim=1)
        return F.gelu(features)


def vit(classes: Classes, size: Size, planes: int = 3) -> nn.Module:
    """A tiny vision transformer."""
    return Attacker(TinyViT(size, planes), 96, classes)


ATTACKERS: dict[str, Callable[[Classes, Size, int], nn.Module]] = {
    "linear": linear,
    "cnn": cnn,
    "resnet": resnet,
    "mobilenet": mobilenet,
    "vit": vit,
}


def create_attacker(name: str, classes: Classes, size: Size, planes: int = 3) -> nn.Module:
    """An untrained attacker for uploads of `planes` planes of `size` (height, width).

    Raises:
        UsageError: the name is not known.
    """
    if name not in ATTACKERS:
        raise UsageError(unknown("attacker", name, ATTACKERS))
    return ATTACKERS[name](classes, size, planes)
