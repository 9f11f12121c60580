"""Batches of images on the training device: shuffled and varied, the same for the same seed and epoch.

    for batch in Batches(dataset, Split.DEFENDER, ("gender",), size=128).epoch(seed=0, epoch=3):
        batch.images, batch.labels["gender"]

Everything random comes from `seed_everything(seed, stage, epoch, rank)`, called once an epoch: a run resumed at the start of
an epoch therefore draws what the uninterrupted run would have drawn.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from sfumato.core.seeding import seed_everything
from sfumato.data import Dataset, Split
from sfumato.models.tensors import to_tensor

CPU = torch.device("cpu")
SHIFT = 16
"""Images are shifted by up to 1 / SHIFT of their size."""
TURN = 0.2
"""Largest angle in radians by which an image is turned."""
SCALE = 0.12
"""Largest relative change of its size."""
CONTRAST = 0.3
"""Largest relative change of its contrast, and of its brightness."""


@dataclass(frozen=True)
class Batch:
    """Images (B, 3, H, W) in 0..1, channels-last in memory, and labels (B,) int64 per attribute."""

    images: Tensor
    labels: dict[str, Tensor]


def mirror(images: Tensor) -> Tensor:
    """Mirror half of the images (B, 3, H, W), chosen at random."""
    chosen = (torch.rand(len(images)) < 0.5).view(-1, 1, 1, 1).to(images.device)
    return torch.where(chosen, images.flip(3), images).contiguous(memory_format=torch.channels_last)


def augment(images: Tensor) -> Tensor:
    """Mirror half of the images; turn, scale and shift each a little, repeating the border; vary contrast and brightness.

    Args:
        images: (B, 3, H, W) in 0..1.

    Returns:
        Images of the same shape, range and memory layout.
    """
    count = len(images)

    def uniform(reach: float) -> Tensor:
        return ((torch.rand(count) * 2 - 1) * reach).to(images.device)

    angle, scale = uniform(TURN), 1 + uniform(SCALE)
    mirror = torch.where(uniform(1.0) < 0, -1.0, 1.0)
    # Rows of the inverse map, in coordinates that run from -1 to 1 over the image.
    across = torch.stack([mirror * scale * angle.cos(), -scale * angle.sin(), uniform(2 / SHIFT)], dim=1)
    down = torch.stack([mirror * scale * angle.sin(), scale * angle.cos(), uniform(2 / SHIFT)], dim=1)
    grid = F.affine_grid(torch.stack([across, down], dim=1), list(images.shape), align_corners=False)
    moved = F.grid_sample(images, grid, padding_mode="border", align_corners=False)
    contrast, brightness = 1 + uniform(CONTRAST).view(-1, 1, 1, 1), 1 + uniform(CONTRAST).view(-1, 1, 1, 1)
    middle = moved.mean((1, 2, 3), keepdim=True)
    varied = (((moved - middle) * contrast + middle) * brightness).clamp(0, 1)
    return varied.contiguous(memory_format=torch.channels_last)


@dataclass(frozen=True)
class Batches:
    """The batches of one split, shared out among `world` processes."""

    dataset: Dataset
    split: Split
    attributes: Sequence[str]
    size: int
    device: torch.device = CPU
    rank: int = 0
    world: int = 1

    @property
    def steps(self) -> int:
        """Steps an epoch; an incomplete last batch is left out unless it is the only one."""
        return max(1, len(self.dataset.splits[self.split]) // self.size)

    def epoch(self, *, plain: bool = False) -> Iterator[Batch]:
        """One shuffled, augmented pass, with `plain` one of mirrored images; draws from torch's global generator."""
        indices = torch.from_numpy(self.dataset.splits[self.split].copy())
        # Every process draws the same order and takes its own share of each batch.
        shuffle = torch.Generator().manual_seed(torch.initial_seed() % 2**63)
        indices = indices[torch.randperm(len(indices), generator=shuffle)]
        seed_everything(torch.initial_seed(), self.rank)
        for step in range(self.steps):
            batch = self.load(indices[step * self.size : (step + 1) * self.size][self.rank :: self.world])
            yield Batch((mirror if plain else augment)(batch.images), batch.labels)

    def ordered(self) -> Iterator[Batch]:
        """One pass in order, without augmentation, the last batch included."""
        indices = torch.from_numpy(self.dataset.splits[self.split].copy())
        size = max(self.size, 256)
        for start in range(0, len(indices), size):
            yield self.load(indices[start : start + size])

    def load(self, indices: Tensor) -> Batch:
        """The images at `indices`, as they are."""
        rows = indices.numpy()
        labels = {name: torch.from_numpy(self.dataset.labels[name][rows]) for name in self.attributes}
        images = to_tensor(self.dataset.images[rows]).to(self.device)
        return Batch(images, {name: label.to(self.device) for name, label in labels.items()})
