"""Networks that several methods share: the two halves of a split cloud network, an image-to-image network.

head, tail = split(clean)          # phone half and cloud half of the built-in network
features = head(2 * x - 1)
"""

from collections.abc import Mapping
from copy import deepcopy

import torch
from torch import Tensor, nn
from torchmetrics.functional.image import structural_similarity_index_measure

from sfumato.channels import Parameters
from sfumato.compare.methods.base import Task, UnsuitableError
from sfumato.data import Split
from sfumato.models import channels_last
from sfumato.models.cloud import GRID, ResNet
from sfumato.models.layers import pool
from sfumato.models.local import LocalNetwork
from sfumato.models.tensors import evaluating, to_tensor

CUT = 2
"""Stages on the phone: the first convolution and one residual block, three convolutions in all."""
IMAGES = 256
"""Training images that figures of the features are taken from."""


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
        UnsuitableError: it is another cloud network, and nobody knows where it can be cut.
    """
    if not isinstance(clean, ResNet):
        raise UnsuitableError(
            "this method cuts the cloud network in two, which needs the built-in cloud network: leave --cloud out"
        )
    return deepcopy(clean.stages[:CUT]), clean


class CutEncoder(nn.Module):
    """The first layers of the clean network, to be trained further, in units of their largest feature.

    Images (B, 3, H, W) -> {"mean": (B, C, h, w)}, around 0..1. With `Tail(whole, scale=bound)` behind it the clean network is
    whole again: encoder and cloud start where every other method starts.
    """

    def __init__(self, head: nn.Module, task: Task) -> None:
        super().__init__()
        self.head, self.bound = head, feature_bound(head, task)
        with evaluating(head):
            features = head(torch.zeros(1, *task.shape))
        planes, height, width = features.shape[1:]
        self.shape = (planes, height, width)

    def forward(self, x: Tensor) -> Parameters:
        """Images -> features."""
        return {"mean": self.head(2 * x - 1) / self.bound}


def feature_bound(head: nn.Module, task: Task) -> float:
    """The median over training images of the largest feature."""
    rows = task.dataset.splits[Split.DEFENDER][:IMAGES]
    with evaluating(head):
        features = head(2 * to_tensor(task.dataset.images[rows]) - 1)
    return float(features.flatten(1).abs().amax(1).median().clamp_min(1e-6))


class _Residual:
    """Tells `LocalNetwork` to put out one map that is added to the image."""

    maps: Mapping[str, int] = {"change": 3}
    starts: Mapping[str, float] = {"change": 0.0}
    subsample, colours = 1, 3

    def parameters(self, x: Tensor, maps: Mapping[str, Tensor], middle: float = 0.5) -> Parameters:
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
