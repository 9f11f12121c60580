"""The head of a mask: feature maps of several resolutions in, the logits of every cell of a grid out.

    head = MaskHead((16, 32, 64), classes=2, grid=(16, 16))
    logits = head([fine, middle, coarse])          # (B, 2, 16, 16)

Each map is brought to the grid and to one number of planes, and they are added, as in Feature Pyramid Networks (Lin et al.,
CVPR 2017) with one level of output. The mean of the coarsest map over the whole picture joins them: an upload's noise is
averaged away over many places alone.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from sfumato.models.layers import convolution, enlarge_to_size, pool

PLANES = 48
"""Of the sum, and of the layer behind it."""


class MaskHead(nn.Module):
    """Lateral convolutions, their sum, one 3 x 3 layer and the classes of every cell.

    Args:
        widths: planes of the maps, the finest first.
        classes: of a cell.
        grid: rows and columns of cells.
    """

    def __init__(self, widths: Sequence[int], classes: int, grid: tuple[int, int]) -> None:
        super().__init__()
        self.grid = grid
        self.lateral = nn.ModuleList(nn.Conv2d(width, PLANES, 1) for width in widths)
        self.whole = nn.Linear(widths[-1], PLANES)
        self.mix = nn.Sequential(convolution(PLANES, PLANES), nn.ReLU())
        self.classes = nn.Conv2d(PLANES, classes, 1)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Maps (B, width, H, W) each -> (B, classes, rows, columns)."""
        total = self.whole(maps[-1].mean((2, 3)))[:, :, None, None]
        for layer, one in zip(self.lateral, maps, strict=True):
            total = total + to_grid(layer(one), self.grid)
        logits: Tensor = self.classes(self.mix(F.relu(total)))
        return logits


def to_grid(x: Tensor, grid: tuple[int, int]) -> Tensor:
    """A map (B, planes, H, W) as (B, planes, rows, columns): means of what lies in a cell, or bilinear enlargement."""
    height, width = (int(length) for length in x.shape[2:])
    if (height, width) == grid:
        return x
    if height >= grid[0] and width >= grid[1]:
        return pool(x, grid)
    return enlarge_to_size(x, grid)
