"""Networks that several methods share: the two halves of a split cloud network, an encoder, an image-to-image network.

head, tail = split(clean)          # phone half and cloud half of the built-in network
features = head(2 * x - 1)
"""

from collections.abc import Mapping
from copy import deepcopy

from torch import Tensor, nn
from torchmetrics.functional.image import structural_similarity_index_measure

from sfumato.channels import Parameters
from sfumato.core.errors import UsageError
from sfumato.models import channels_last
from sfumato.models.cloud import GRID, ResNet, pool
from sfumato.models.layers import convolution
from sfumato.models.local import LocalNetwork

CUT = 2
"""Stages on the phone: the first convolution and one residual block, three convolutions in all."""


class Tail(nn.Module):
    """The rest of a cloud network behind the cut.

    Args:
        cloud: the whole network; its later stages, dropout and heads are copied.
        centre, scale: features are `(upload - centre) * scale`, so that uploads can lie around 0..1.
    """

    def __init__(self, cloud: ResNet, *, centre: float = 0.0, scale: float = 1.0) -> None:
        super().__init__()
        self.stages = deepcopy(cloud.stages[CUT:])
        self.dropout, self.heads = deepcopy(cloud.dropout), deepcopy(cloud.heads)
        self.centre, self.scale = centre, scale

    def forward(self, upload: Tensor) -> dict[str, Tensor]:
        """(B, C, h, w) -> logits per head."""
        features = self.stages((upload - self.centre) * self.scale)
        flat = self.dropout(pool(features, GRID).flatten(1))
        return {name: head(flat) for name, head in self.heads.items()}


def split(clean: nn.Module) -> tuple[nn.Module, ResNet]:
    """The first stages of the built-in network, copied, and the network itself.

    Raises:
        UsageError: the cloud network is the user's own, and nobody knows where it can be cut.
    """
    if not isinstance(clean, ResNet):
        raise UsageError("split methods need the built-in cloud network: leave --cloud out")
    return deepcopy(clean.stages[:CUT]), clean


class Encoder(nn.Module):
    """Four convolutions, the second and the last but one at a half and a quarter of the resolution, then a sigmoid.

    Images (B, 3, H, W) -> {"mean": (B, planes, H/4, W/4)} in 0..1.
    """

    def __init__(self, widths: tuple[int, int, int, int] = (16, 32, 64, 32)) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs, outputs, stride in zip((3, *widths), widths, (2, 2, 1, 1), strict=False):
            layers += [convolution(inputs, outputs, stride=stride), nn.ReLU()]
        self.layers = channels_last(nn.Sequential(*layers[:-1]))
        self.planes = widths[-1]

    def forward(self, x: Tensor) -> Parameters:
        """Images -> features."""
        return {"mean": self.layers(2 * x - 1).sigmoid()}

    def shape(self, height: int, width: int) -> tuple[int, int, int]:
        """(C, h, w) of the features of an image."""
        return self.planes, (height + 3) // 4, (width + 3) // 4


def feature_cloud(classes: Mapping[str, int], planes: int, *, height: int) -> nn.Module:
    """The cloud network for features of `planes` planes of an image `height` pixels high: same widths, no first stride."""
    widths = (16, 32, 64) if height >= 48 else (32, 64, 128)
    return channels_last(ResNet(classes, widths=widths, planes=planes))


class _Residual:
    """Tells `LocalNetwork` to put out one map that is added to the image."""

    maps: Mapping[str, int] = {"change": 3}
    starts: Mapping[str, float] = {"change": 0.0}

    def parameters(self, x: Tensor, maps: Mapping[str, Tensor]) -> Parameters:
        """`sigmoid` of the image's logit plus the change: stays in 0..1 and starts as the image."""
        return {"mean": (x.clamp(0.01, 0.99).logit() + maps["change"]).sigmoid()}


def image_network() -> LocalNetwork:
    """Image in, image out: the U-shaped network of our own phone side, so that capacities are equal."""
    return channels_last(LocalNetwork(_Residual()))  # type: ignore[arg-type]  # only these members are read


def ssim(first: Tensor, second: Tensor) -> Tensor:
    """Mean structural similarity of images (B, 3, H, W) in 0..1 (Wang et al., 2004), as the audit measures it."""
    value = structural_similarity_index_measure(first, second, data_range=1.0)
    assert isinstance(value, Tensor)  # it returns more only if asked for more
    return value
