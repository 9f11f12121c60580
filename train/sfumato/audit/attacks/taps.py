"""Features of any cloud network, read out between its stages.

The built-in network names its stages; for a user's own the top-level parts that return a tensor are taken.
Reading goes through forward hooks, so a network needs no special shape, and gradients flow through what was
read.

    taps = Taps(copy.deepcopy(cloud))
    features, logits = taps(upload)      # features: stage name -> (B, C, h, w) or (B, F)
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sfumato.models.cloud import inner_network

MASK_GRID = 8
"""Rows and columns, at most, of cells that an attacker reads a mask's logits in."""


class Taps(nn.Module):
    """A cloud network that also returns what its stages put out."""

    def __init__(self, cloud: nn.Module) -> None:
        super().__init__()
        self.cloud = cloud
        self.read: dict[str, Tensor] = {}
        inner = inner_network(cloud)
        stages = getattr(inner, "stages", None)
        parent, prefix = (stages, "stage ") if isinstance(stages, nn.Module) else (inner, "")
        for name, part in parent.named_children():
            part.register_forward_hook(self._keep(f"{prefix}{name}"))

    def _keep(self, name: str) -> Any:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor) and output.dim() >= 2 and output.is_floating_point():
                self.read[name] = output

        return hook

    def forward(self, x: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """(B, 3, H, W) -> stage features, and all logits side by side (B, sum of classes), those of a mask by coarse cells."""
        self.read = {}
        logits = torch.cat([pooled(one, MASK_GRID) for one in self.cloud(x).values()], dim=1)
        features, self.read = self.read, {}
        return features, logits


def pooled(features: Tensor, grid: int) -> Tensor:
    """Average a map (B, C, h, w) over a grid: (B, C * grid^2). Vectors stay, tokens are averaged."""
    if features.dim() == 4:
        grid = min(grid, features.shape[2], features.shape[3])
        return F.adaptive_avg_pool2d(features, grid).flatten(1)
    return features.mean(dim=1) if features.dim() == 3 else features.flatten(1)
