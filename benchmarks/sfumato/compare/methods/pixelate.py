"""Pixelate: the mean of every cell of a grid, by default of 8 x 8.

    x'[cell] = mean of x over the cell

The grid is ours: coarse enough that a face is hard to name by eye.
"""

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from sfumato.audit.upload_size import SAMPLE, image_sizes
from sfumato.channels import Parameters
from sfumato.compare.methods.base import Curve, Method, Task
from sfumato.compare.methods.draws import Fixed


class Pixelate(nn.Module):
    """Means over a `grid` x `grid` of cells, drawn at the image's own size."""

    def __init__(self, grid: int) -> None:
        super().__init__()
        self.grid = grid

    def forward(self, x: Tensor) -> Parameters:
        """Images (B, 3, H, W) -> mosaics of the same size."""
        return {"mean": F.interpolate(F.adaptive_avg_pool2d(x, self.grid), size=x.shape[2:], mode="nearest")}


class Pixelated(Method):
    """Upload a mosaic."""

    curve = Curve("grid", (8, 16, 4, 2), published="no paper: a naive baseline", least=1, most=1024)

    trained = ("cloud",)

    def __init__(self, task: Task, *, grid: int = 8) -> None:
        super().__init__(task, phone=Pixelate(grid), draw=Fixed(), cloud=task.clean_cloud())
        self.grid = grid

    def upload_sizes(self, uploads: Tensor, pixels: NDArray[np.uint8]) -> tuple[NDArray[np.float64], str]:
        """One pixel a cell is all that has to travel."""
        cells = F.adaptive_avg_pool2d(uploads[:SAMPLE].float(), self.grid)
        return image_sizes(cells, "PNG"), "PNG of the cells"
