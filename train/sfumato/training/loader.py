"""Batches of images on the training device: shuffled and augmented, the same for the same seed and epoch.

    seed_everything(seed, "cotrain", epoch)
    for batch in Batches(dataset, Split.DEFENDER, ("gender",), size=128).epoch():
        batch.images, batch.labels["gender"]

Everything random comes from torch's global generator, seeded once an epoch: a run resumed at the start of an epoch draws what
the uninterrupted run would have drawn.
"""

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from sfumato.core.seeding import seed_everything
from sfumato.data import Dataset, Split
from sfumato.data.paging import announce, fetch
from sfumato.models.tensors import to_tensor
from sfumato.training.config import Augmentation

Given = TypeVar("Given")
Found = TypeVar("Found")
CPU = torch.device("cpu")
DEFAULTS = Augmentation()


@dataclass(frozen=True)
class Batch:
    """Images (B, 3, H, W) in 0..1, channels-last in memory, and labels (B,) int64 per attribute, masks (B, rows, columns).

    `mixed` says that each image is a mixture of two (`mixture`): the labels are of the first alone, and no truth.
    """

    images: Tensor
    labels: dict[str, Tensor]
    mixed: bool = False


Labels: TypeAlias = dict[str, Tensor]


def mirror(images: Tensor, labels: Labels) -> tuple[Tensor, Labels]:
    """Mirror half of the images (B, 3, H, W), chosen at random, and their masks with them."""
    chosen = (torch.rand(len(images)) < 0.5).to(images.device)

    def mirrored(one: Tensor) -> Tensor:
        return torch.where(chosen.view(-1, *[1] * (one.dim() - 1)), one.flip(-1), one)

    moved = {name: mirrored(one) if one.dim() == 3 else one for name, one in labels.items()}
    return mirrored(images).contiguous(memory_format=torch.channels_last), moved


def mix(images: Tensor) -> Tensor:
    """Each image (B, 3, H, W) blended with another of the batch, by a share drawn uniformly for each."""
    share = torch.rand(len(images), 1, 1, 1).to(images.device)
    return share * images + (1 - share) * images[torch.randperm(len(images)).to(images.device)]


def mixture(batch: Batch) -> Batch:
    """Mixtures of pairs of a batch's images (mixup, Zhang et al., ICLR 2018): only a teacher can say what is on them."""
    return Batch(mix(batch.images), batch.labels, mixed=True)


def augment_batch(
    images: Tensor,
    labels: Labels,
    reach: Augmentation = DEFAULTS,
    *,
    mirrored: bool = True,
    turned: bool = True,
) -> tuple[Tensor, Labels]:
    """Mirror half of the images; turn, scale and shift each a little, repeating the border; vary contrast and brightness.

    Args:
        images: (B, 3, H, W) in 0..1.
        labels: of the images; masks (B, rows, columns) move with them, each cell taking the class of where its middle was.
        reach: how far each of these may go. Angles are those that a person sees, also where height and width differ.
        mirrored: False leaves left and right where they are.
        turned: False turns none. No recording looks like its picture mirrored or turned.

    Returns:
        Images of the same shape, range and memory layout, and the labels.
    """
    count = len(images)

    def uniform(most: float) -> Tensor:
        return ((torch.rand(count) * 2 - 1) * most).to(images.device)

    angle, scale = uniform(reach.turn), 1 + uniform(reach.scale)
    mirror = torch.where(uniform(1.0) < 0, -1.0, 1.0)
    if not turned:
        angle = torch.zeros_like(angle)
    if not mirrored:
        mirror = torch.ones_like(mirror)
    # Rows of the inverse map, in coordinates that run from -1 to 1 over the image.
    along, over = scale * angle.cos(), scale * angle.sin()
    wide = images.shape[3] / images.shape[2]
    across = torch.stack([mirror * along, -over / wide, uniform(2 * reach.shift)], dim=1)
    down = torch.stack([mirror * over * wide, along, uniform(2 * reach.shift)], dim=1)
    rows = torch.stack([across, down], dim=1)
    grid = F.affine_grid(rows, list(images.shape), align_corners=False)
    moved = F.grid_sample(images, grid, padding_mode="border", align_corners=False)
    masks = {name: move_mask(one, rows) for name, one in labels.items() if one.dim() == 3}
    return vary_light(moved, reach), {**labels, **masks}


def move_mask(mask: Tensor, rows: Tensor) -> Tensor:
    """A mask (B, rows, columns) moved as its image: `rows` (B, 2, 3) of the inverse map, in coordinates from -1 to 1."""
    planes = mask[:, None].to(rows.dtype)  # class numbers are small, so floats hold them exactly
    grid = F.affine_grid(rows, list(planes.shape), align_corners=False)
    moved = F.grid_sample(planes, grid, mode="nearest", padding_mode="border", align_corners=False)
    return moved[:, 0].to(mask.dtype)


def vary_light(images: Tensor, reach: Augmentation = DEFAULTS) -> Tensor:
    """Vary contrast, brightness and colours of each of the images (B, 3, H, W). Arguments and result as of `augment`."""
    contrast, brightness = (1 + _uniform(images, most) for most in (reach.contrast, reach.brightness))
    middle = images.mean((1, 2, 3), keepdim=True)
    varied = ((images - middle) * contrast + middle) * brightness
    if reach.saturation or reach.hue:  # asked first: a run without them draws the numbers that it always drew
        varied = vary_colours(varied, reach)
    return varied.clamp(0, 1).contiguous(memory_format=torch.channels_last)


def vary_colours(images: Tensor, reach: Augmentation) -> Tensor:
    """Stretch the colours of each of the images (B, 3, H, W) away from grey, and turn them about the grey axis."""
    grey = images.mean(1, keepdim=True)
    colour = images - grey
    # The cross product with the grey axis (1, 1, 1) / sqrt 3: the same colour a quarter turn on.
    quarter = (colour.roll(1, dims=1) - colour.roll(-1, dims=1)) / 3**0.5
    angle, saturation = _uniform(images, reach.hue), 1 + _uniform(images, reach.saturation)
    return grey + saturation * (angle.cos() * colour + angle.sin() * quarter)


def _uniform(images: Tensor, most: float) -> Tensor:
    """One number for each of the images, (B, 1, 1, 1), in -most .. most."""
    return ((torch.rand(len(images)) * 2 - 1) * most).to(images.device).view(-1, 1, 1, 1)


def ahead(load: Callable[[Given], Found], items: Iterable[Given]) -> Generator[Found, None, None]:
    """`map`, one item ahead: the next is loaded by a thread while the caller works on this one.

    >>> list(ahead(abs, [-1, 2]))
    [1, 2]
    """
    with ThreadPoolExecutor(1, thread_name_prefix="loader") as pool:
        waiting = None
        for item in items:
            next_one = pool.submit(load, item)
            if waiting is not None:
                yield waiting.result()
            waiting = next_one
        if waiting is not None:
            yield waiting.result()


@dataclass(frozen=True)
class Batches:
    """The batches of one split, shared out among `world` processes.

    Attributes:
        dataset: images and labels.
        split: which of its splits.
        attributes: whose labels a batch carries.
        size: images of a batch, over all processes.
        device: where batches go.
        rank, world: number of this process, and of all.
        augmentation: how far the images of `epoch` are varied.
    """

    dataset: Dataset
    split: Split
    attributes: Sequence[str]
    size: int
    device: torch.device = CPU
    rank: int = 0
    world: int = 1
    augmentation: Augmentation = DEFAULTS

    @property
    def steps(self) -> int:
        """Steps an epoch; an incomplete last batch is left out unless it is the only one."""
        return max(1, len(self.dataset.splits[self.split]) // self.size)

    def epoch(self, *, only_mirror: bool = False) -> Iterator[Batch]:
        """One shuffled, augmented pass; with `only_mirror` images are at most mirrored. Draws from torch's global generator.

        Pictures of recordings are never mirrored, nor those of a data set with `mirror=no`.
        """
        indices = torch.from_numpy(self.dataset.splits[self.split].copy())
        for batch in self._loaded(indices[places] for places in self.places()):
            yield Batch(*self._varied(batch, only_mirror=only_mirror))

    def _varied(self, batch: Batch, *, only_mirror: bool) -> tuple[Tensor, Labels]:
        images, labels, data = batch.images, batch.labels, self.dataset
        if not only_mirror:
            return augment_batch(
                images, labels, self.augmentation, mirrored=data.mirrored, turned=not data.sound
            )
        return mirror(images, labels) if data.mirrored else (images, labels)

    def places(self) -> list[Tensor]:
        """Where in the split the images of each batch of one shuffled pass are; draws from torch's global generator."""
        # Every process draws the same order and takes its own share of each batch.
        shuffle = torch.Generator().manual_seed(torch.initial_seed() % 2**63)
        order = torch.randperm(len(self.dataset.splits[self.split]), generator=shuffle)
        seed_everything(torch.initial_seed(), self.rank)
        return [
            order[step * self.size : (step + 1) * self.size][self.rank :: self.world]
            for step in range(self.steps)
        ]

    def ordered(self) -> Iterator[Batch]:
        """One pass in order, without augmentation, the last batch included."""
        indices = torch.from_numpy(self.dataset.splits[self.split].copy())
        size = max(self.size, 256)
        yield from self._loaded(indices[start : start + size] for start in range(0, len(indices), size))

    def _loaded(self, shares: Iterable[Tensor]) -> Iterator[Batch]:
        # A processor has no thread to spare: loading would take cores from the step (1.6 to 1.9 times the time on two). The
        # kernel reads the disk ahead for it.
        announced = self._announced(shares)
        return map(self.load, announced) if self.device.type == "cpu" else ahead(self.load, announced)

    def _announced(self, shares: Iterable[Tensor]) -> Iterator[Tensor]:
        """The same shares, each handed on when the kernel has been told of the one behind it."""
        waiting = None
        for share in shares:
            announce(self.dataset.images, share.numpy())
            if waiting is not None:
                yield waiting
            waiting = share
        if waiting is not None:
            yield waiting

    def load(self, indices: Tensor) -> Batch:
        """The images at `indices`, as they are."""
        rows = indices.numpy()
        labels = {name: torch.from_numpy(self.dataset.targets(name, rows)) for name in self.attributes}
        images = to_tensor(fetch(self.dataset.images, rows), self.device)
        return Batch(images, {name: label.to(self.device) for name, label in labels.items()})
