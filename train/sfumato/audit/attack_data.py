"""What the attacker holds: images of its own, their labels, and the channel that perturbs them.

The local network is deterministic, so the channel's parameters of every image are computed once; each epoch then draws fresh
uploads from them. An attacker may mirror or shift its images *before* they are perturbed, so these augmented copies are
computed as well. Parameters and uploads have float16 precision (the shipped model's bytes q / 256 are exact in it) and are kept
in fewer bytes where that loses nothing (`sfumato.audit.rows`); the rate of the test images is taken before that rounding.
Photos stay where the data set has them, and augmented copies are made when they are asked for. Nothing here holds a whole split
as floats.

    data = build_attack_data(artifact, ("race",), copies=2, seed=0)
    uploads = data.train.uploads(rows, data.channel, generator)      # (n, 3, H, W)
"""

import copy
import hashlib
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sfumato.audit.artifact import Artifact
from sfumato.audit.predictions import Floats, Ints, log_prior
from sfumato.audit.rows import Kept, Numbers, Rows, at_once, floats, keep
from sfumato.channels import CHANNELS, Channel, Parameters, prior_rate
from sfumato.data import Split
from sfumato.models.tensors import to_tensor

MAX_PARAMETER_BYTES = 768 * 2**20
"""Bytes that the attacker's parameters may take as float16; beyond it, fewer copies are made, but always one. It counts float16
however they are kept, so that float and int8 artifacts are attacked with equally many copies."""
PARAMETER_STEPS = 256
"""What ships as a probability is a whole number of 8 bits over this."""
VALIDATION_DRAWS = 2
"""Uploads of each validation image: more of them make the choice between attacks depend less on chance."""
BATCH = 256
BATCH_NUMBERS = 2**22
"""Numbers of a batch, at most: 256 pictures up to 64x64, 27 of 224x224. A network's layers take many times as much."""
CPU = torch.device("cpu")


class Photos:
    """Images of a data set, mirrored or shifted, (N, H, W, 3); pixels are read when rows are asked for."""

    def __init__(
        self, images: NDArray[np.uint8], rows: Ints, mirrored: NDArray[np.bool_], moved: Ints
    ) -> None:
        """
        Args:
            images: (M, H, W, 3) of the data set.
            rows: (N,) which image each is.
            mirrored: (N,) left and right change places, before all else.
            moved: (N, 2) pixels by which it moves up and to the left; the edge is repeated.
        """
        self.images, self.rows, self.mirrored, self.moved = images, rows, mirrored, moved

    @classmethod
    def augmented(
        cls,
        images: NDArray[np.uint8],
        rows: Ints,
        copies: int,
        rng: np.random.Generator,
        *,
        mirror: bool = True,
    ) -> "Photos":
        """Copy after copy of the images `rows`: 0 as they are, 1 mirrored, 2 shifted, 3 mirrored and shifted, and so on.

        Without `mirror`, as of recordings, all copies but the first are shifted.
        """
        reach = max(1, min(images.shape[1:3]) // 16)
        still = np.zeros((len(rows), 2), np.int64)
        moved = [
            still if copy < (2 if mirror else 1) else rng.integers(0, 2 * reach + 1, size=still.shape) - reach
            for copy in range(copies)
        ]
        mirrored = np.repeat((np.arange(copies) % 2 == 1) & mirror, len(rows))
        return cls(images, np.tile(rows, copies), mirrored, np.concatenate(moved))

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, H, W, planes)."""
        return (len(self.rows), *self.images.shape[1:])

    def __len__(self) -> int:
        return len(self.rows)

    def copies_of_first(self, count: int) -> bool:
        """Whether these are the first `count` images as they are, and then whole copies of them."""
        whole = len(self) % count == 0 and np.array_equal(
            self.rows, np.tile(self.rows[:count], len(self) // count)
        )
        return bool(whole and not self.mirrored[:count].any() and not self.moved[:count].any())

    def take(self, rows: Ints) -> "Photos":
        """Some of them, not yet read."""
        return Photos(self.images, self.rows[rows], self.mirrored[rows], self.moved[rows])

    def __getitem__(self, rows: Any) -> NDArray[np.uint8]:
        """The pixels (n, H, W, 3) of a slice, or of row numbers (n,)."""
        found = np.array(self.images[self.rows[rows]])
        height, width = self.images.shape[1:3]
        for image, mirrored, (down, right) in zip(found, self.mirrored[rows], self.moved[rows], strict=True):
            if mirrored:
                image[:] = image[:, ::-1].copy()
            if down or right:
                image[:] = image[(np.arange(height) + down).clip(0, height - 1)][
                    :, (np.arange(width) + right).clip(0, width - 1)
                ]
        return found


Pixels: TypeAlias = Photos | NDArray[np.uint8]
"""Images (N, H, W, 3), whose pixels a slice or row numbers read."""


@dataclass(frozen=True, kw_only=True)
class AttackSplit:
    """One split as the attacker sees it. Row `c * images + i` is augmented copy c of image i."""

    pixels: Pixels
    """(copies * N, H, W, 3) clean images."""
    parameters: Kept
    """Of float16 precision, each (copies * N, C, H, W)."""
    labels: Mapping[str, Ints]
    """(copies * N,) per attribute."""
    images: int
    """N: the first N rows are the images as they are."""
    repeats: int = 1
    """Uploads of an image that the attacker holds and averages."""
    key: bytes | None = None
    """Of the phone that uploads: its noise follows from key, artifact, parameters and image. None: fresh noise every time."""
    artifact: bytes = b""
    """Names the artifact to the keyed noise. It matters only where uploads of several are put together."""

    @property
    def copies(self) -> int:
        """Augmented copies of each image, itself included."""
        return len(self.pixels) // self.images

    def clean(self, rows: Tensor) -> Tensor:
        """Clean images (n, 3, H, W) in 0..1, channels-last in memory."""
        return to_tensor(self.pixels[rows.numpy()])

    def draws(self, rows: Tensor, channel: Channel, generator: torch.Generator) -> Iterator[Tensor]:
        """The `repeats` uploads of each row, one after the other, (n, 3, H, W) in 0..1, drawn where the generator is."""
        parameters = floats(self.parameters, rows, generator.device)
        keyed = None
        if self.key is not None:
            # A phone's noise is the same wherever it is checked.
            given = floats(self.parameters, rows)
            noise = keyed_noise(channel, given, self.pixels[rows.numpy()], self.key, artifact=self.artifact)
            keyed = noise.to(generator.device)
        for _ in range(self.repeats):
            yield channel.sample(parameters, channel.noise(parameters, generator) if keyed is None else keyed)

    def uploads(self, rows: Tensor, channel: Channel, generator: torch.Generator) -> Tensor:
        """The mean of the `repeats` uploads of each row, (n, 3, H, W) in 0..1, channels-last in memory."""
        drawn = mean(self.draws(rows, channel, generator))
        return drawn.contiguous(memory_format=torch.channels_last)


@dataclass(frozen=True)
class AttackData:
    """Everything that the attacks work with."""

    channel: Channel
    cloud: nn.Module
    keep: tuple[str, ...]
    classes: Mapping[str, int]
    """Number of classes of every attribute that is attacked or kept."""
    size: tuple[int, int]
    train: AttackSplit
    validation: AttackSplit
    test: AttackSplit
    rate: Tensor
    """(n_test,) nats per test image."""
    seed: int
    persons: Ints | None = None
    """(n_test,) who is on each test image, where the data set tells."""
    device: torch.device = CPU
    """Where uploads are drawn and attackers are trained."""
    networks: dict[str, nn.Module] = field(default_factory=dict, compare=False)
    """Architecture -> network trained on clean images, kept so that later attacks can put it behind a decoder or a filter."""
    from_store: list[str] = field(default_factory=list, compare=False)
    """Networks on clean images that were not trained now (`sfumato.audit.clean_cache`)."""

    def generator(self, purpose: str) -> torch.Generator:
        """A generator of its own for a purpose, so that attacks do not depend on their order; on the device.

        Draws of other methods may look up what lies on the CPU, so theirs stay there.
        """
        own = getattr(self.channel, "name", None) in CHANNELS
        return torch.Generator(self.device if own else CPU).manual_seed(self.seed_for(purpose))

    def seed_for(self, purpose: str) -> int:
        """A seed for a purpose."""
        return zlib.crc32(f"{self.seed}/{purpose}".encode())

    def prior(self, attribute: str) -> Floats:
        """Log class frequencies on the attacker's split."""
        return log_prior(self.train.labels[attribute][: self.train.images], self.classes[attribute])

    @cached_property
    def photos_digest(self) -> bytes:
        """Of the clean photos of all splits, in their order."""
        return b"".join(split_digest(split) for split in (self.train, self.validation, self.test))

    @cached_property
    def validation_uploads(self) -> Rows:
        """Fixed uploads of the validation split, one draw after the other: (draws * n, 3, H, W)."""
        return draw_all(self.validation, self.channel, self.generator("validation noise"), VALIDATION_DRAWS)

    @cached_property
    def test_uploads(self) -> Rows:
        """The one upload of every test image that all attacks are tested on: (n_test, 3, H, W)."""
        return draw_all(self.test, self.channel, self.generator("test noise"))

    @property
    def photo_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of an image."""
        height, width, planes = self.test.pixels.shape[1:]
        return planes, height, width

    @property
    def upload_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of an upload; other than the image's for methods that upload features."""
        planes, height, width = self.test_uploads.shape[1:]
        return planes, height, width

    def validation_labels(self, attribute: str, *, clean: bool = False) -> Ints:
        """Labels that belong to `validation_uploads`, or to the clean validation images."""
        labels = self.validation.labels[attribute]
        return labels if clean else np.tile(labels, VALIDATION_DRAWS)


def random_rows(count: int, size: int, generator: torch.Generator) -> Tensor:
    """`size` random numbers below `count`, on the CPU, wherever the generator is."""
    return torch.randint(count, (size,), generator=generator, device=generator.device).cpu()


def random_order(count: int, generator: torch.Generator) -> Tensor:
    """The numbers below `count` in random order, on the CPU, wherever the generator is."""
    return torch.randperm(count, generator=generator, device=generator.device).cpu()


def mean(draws: Iterator[Tensor]) -> Tensor:
    """The mean of equally shaped tensors; a single one comes back as it is."""
    total = next(draws)
    count = 1
    for one in draws:
        total, count = total + one, count + 1
    return total if count == 1 else total / count


def keyed_noise(
    channel: Channel, parameters: Parameters, pixels: NDArray[np.uint8], key: bytes, *, artifact: bytes = b""
) -> Tensor:
    """Noise that follows from key, artifact, parameters and image, as a phone's does (docs/contract.md, "Noise v2").

    Whoever sends an image twice sends the same upload; other parameters, or another artifact, draw independently. It stands in
    for the phone's cipher, which this package must not import.

    Args:
        channel: says how much noise an image takes.
        parameters: of the images, each (n, C, H, W).
        pixels: the images, (n, H, W, 3).
        key: of the device.
        artifact: names it, as the digest of its contract does on a phone.
    """
    rows = []
    for i, image in enumerate(pixels):
        given = {name: value[i : i + 1] for name, value in parameters.items()}
        hashed = [value.numpy().tobytes() for value in given.values()]
        parts = [key, artifact, *hashed, image.tobytes()]
        digest = hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "little"))
        rows.append(channel.noise(given, generator))
    return torch.cat(rows)


def draw_all(split: AttackSplit, channel: Channel, generator: torch.Generator, draws: int = 1) -> Rows:
    """One upload of every row of a split, (n, 3, H, W), or several, one draw after the other."""
    count = len(split.pixels)
    parts = (
        {"upload": split.uploads(rows, channel, generator).cpu()}
        for _ in range(draws)
        for rows in torch.split(torch.arange(count), batch_size(split.pixels))
    )
    return keep(draws * count, parts, divisor={"upload": getattr(channel, "levels", 2) - 1})["upload"]


def split_digest(split: AttackSplit) -> bytes:
    """A digest of the photos of a split, and of what its copies are made of."""
    pixels, count = split.pixels, split.images
    digest = hashlib.sha256(f"{pixels.shape} {count} ".encode())
    if isinstance(pixels, Photos) and pixels.copies_of_first(count):  # each photo is read once
        digest.update(np.ascontiguousarray(pixels.mirrored).data)
        digest.update(np.ascontiguousarray(pixels.moved).data)
    else:
        count = len(pixels)
    size = batch_size(pixels)
    for first in range(0, count, size):
        digest.update(np.ascontiguousarray(pixels[first : min(first + size, count)]).data)
    return digest.digest()


@dataclass(frozen=True)
class Batches:
    """Batches (n, 3, H, W) that are made when they are asked for, anew in every pass."""

    images: Numbers | Pixels
    """All images, whose shape decides how many make a batch."""
    make: Callable[[Tensor], Tensor]
    """Row numbers (n,) -> their images."""
    count: int | None = None
    """Of the first images, without any: of all."""

    def __iter__(self) -> Iterator[Tensor]:
        count = len(self.images) if self.count is None else self.count
        for rows in torch.split(torch.arange(count), batch_size(self.images)):
            yield self.make(rows)


def batch_size(images: Numbers | Pixels) -> int:
    """How many images a network is given at once where nothing is learned."""
    return at_once(images, BATCH, BATCH_NUMBERS)


def batches(uploads: Rows) -> Batches:
    """Uploads as float32 batches (n, 3, H, W), channels-last in memory."""
    return Batches(uploads, lambda rows: uploads[rows].float().contiguous(memory_format=torch.channels_last))


def clean_batches(split: AttackSplit) -> Batches:
    """The unchanged clean images of a split as batches (n, 3, H, W)."""
    return Batches(split.pixels, split.clean, split.images)


def build_split(
    artifact: Artifact,
    split: Split,
    attributes: Sequence[str],
    copies: int,
    seed: int,
    *,
    rated: bool = False,
) -> tuple[AttackSplit, Tensor]:
    """One split with its augmented copies, and where it is `rated` the rate of its unchanged images in nats."""
    rows = artifact.dataset.splits[split]
    one = artifact.parameters(np.array(artifact.dataset.images[rows[:1]]))
    size = sum(value[0].numel() for value in one.values()) * 2 * len(rows)
    copies = max(1, min(copies, MAX_PARAMETER_BYTES // max(size, 1)))
    rng, mirror = np.random.default_rng(seed), artifact.dataset.mirrored
    photos = Photos.augmented(artifact.dataset.images, rows, copies, rng, mirror=mirror)
    # A randomised answer is drawn for all photos at once.
    part = len(rows) if getattr(artifact, "mode", "picture") == "answer" else batch_size(photos)
    rate: list[Tensor] = []

    def parameters() -> Iterator[Parameters]:
        for number in range(copies):
            for start in range(0, len(rows), part):
                first = number * len(rows)
                begin, end = first + start, first + min(start + part, len(rows))
                exact = artifact.parameters(photos[begin:end])
                if rated and number == 0:
                    rate.append(prior_rate(artifact.channel, exact))
                yield exact

    kept = keep(copies * len(rows), parameters(), divisor={"p": PARAMETER_STEPS})
    labels = {name: artifact.dataset.labels[name][rows] for name in attributes}
    return (
        AttackSplit(
            pixels=photos,
            parameters=kept,
            labels={name: np.tile(values, copies) for name, values in labels.items()},
            images=len(rows),
        ),
        torch.cat(rate) if rated else torch.empty(0),
    )


def build_attack_data(
    artifact: Artifact,
    attributes: Sequence[str],
    *,
    copies: int = 2,
    seed: int = 0,
    device: torch.device | None = None,
) -> AttackData:
    """Compute the channel's parameters of the attacker, validation and test splits.

    Args:
        artifact: the frozen model.
        attributes: what is attacked; the kept attributes are added for the floors.
        copies: augmented copies of each attacker image, itself included.
        seed: decides noise, shifts and the initial weights of all attackers.
        device: where uploads are drawn and attackers are trained; by default a GPU if there is one. Its generators draw other
            numbers than the CPU's under the same seed.
    """
    if device is None:
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    names = list(dict.fromkeys([*attributes, *artifact.keep]))
    classes = {a.name: len(a.classes) for a in artifact.dataset.require(names)}
    train, _ = build_split(artifact, Split.ATTACKER, names, copies, seed)
    validation, _ = build_split(artifact, Split.VALIDATION, names, 1, seed)
    test, rate = build_split(artifact, Split.TEST, names, 1, seed, rated=True)
    person = artifact.dataset.identity
    return AttackData(
        channel=artifact.channel,
        # A copy: the artifact's own stays where it is.
        cloud=artifact.cloud if device.type == "cpu" else copy.deepcopy(artifact.cloud).to(device),
        keep=artifact.keep,
        classes=classes,
        size=artifact.dataset.size,
        train=train,
        validation=validation,
        test=test,
        rate=rate,
        seed=seed,
        device=device,
        persons=None
        if person is None
        else artifact.dataset.labels[person][artifact.dataset.splits[Split.TEST]],
    )
