"""What the attacker holds: images of its own, their labels, and the channel that perturbs them.

The local network is deterministic, so the channel's parameters of every image are computed once; each epoch then draws fresh
uploads from them. An attacker may mirror or shift its images *before* they are perturbed, so these augmented copies are
computed as well. Parameters are kept as float16 (the shipped model's bytes k/256 are exact in it); the rate of the test
images is taken before that rounding.

    data = build_attack_data(artifact, ("race",), copies=2, seed=0)
    uploads = data.train.uploads(rows, data.channel, generator)      # (n, 3, H, W)
"""

import hashlib
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sfumato.audit.artifact import Artifact
from sfumato.audit.predictions import Floats, Ints, log_prior
from sfumato.channels import Channel, Parameters, prior_rate
from sfumato.data import Split
from sfumato.models.tensors import to_tensor

MAX_PARAMETER_BYTES = 768 * 2**20
"""Bytes that the attacker's parameters may take; beyond it, fewer copies are made."""
VALIDATION_DRAWS = 2
"""Uploads of each validation image: more of them make the choice between attacks depend less on chance."""
BATCH = 256


@dataclass(frozen=True, kw_only=True)
class AttackSplit:
    """One split as the attacker sees it. Row `c * images + i` is augmented copy c of image i."""

    pixels: NDArray[np.uint8]
    """(copies * N, H, W, 3) clean images."""
    parameters: Parameters
    """float16, each (copies * N, C, H, W)."""
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
        """The `repeats` uploads of each row, one after the other, (n, 3, H, W) in 0..1."""
        parameters = {name: value[rows].float() for name, value in self.parameters.items()}
        keyed = None
        if self.key is not None:
            keyed = keyed_noise(
                channel, parameters, self.pixels[rows.numpy()], self.key, artifact=self.artifact
            )
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
    networks: dict[str, nn.Module] = field(default_factory=dict, compare=False)
    """Architecture -> network trained on clean images, kept so that later attacks can put it behind a decoder or a filter."""

    def generator(self, purpose: str) -> torch.Generator:
        """A generator of its own for a purpose, so that attacks do not depend on their order."""
        return torch.Generator().manual_seed(self.seed_for(purpose))

    def seed_for(self, purpose: str) -> int:
        """A seed for a purpose."""
        return zlib.crc32(f"{self.seed}/{purpose}".encode())

    def prior(self, attribute: str) -> Floats:
        """Log class frequencies on the attacker's split."""
        return log_prior(self.train.labels[attribute][: self.train.images], self.classes[attribute])

    @cached_property
    def validation_uploads(self) -> NDArray[np.float16]:
        """Fixed uploads of the validation split, one draw after the other: (draws * n, 3, H, W)."""
        generator = self.generator("validation noise")
        return np.concatenate(
            [draw_all(self.validation, self.channel, generator) for _ in range(VALIDATION_DRAWS)], axis=0
        )

    @cached_property
    def test_uploads(self) -> NDArray[np.float16]:
        """The one upload of every test image that all attacks are tested on: (n_test, 3, H, W)."""
        return draw_all(self.test, self.channel, self.generator("test noise"))

    @property
    def upload_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of an upload; other than the image's for methods that upload features."""
        planes, height, width = self.test_uploads.shape[1:]
        return planes, height, width

    def validation_labels(self, attribute: str, *, clean: bool = False) -> Ints:
        """Labels that belong to `validation_uploads`, or to the clean validation images."""
        labels = self.validation.labels[attribute]
        return labels if clean else np.tile(labels, VALIDATION_DRAWS)


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


def draw_all(split: AttackSplit, channel: Channel, generator: torch.Generator) -> NDArray[np.float16]:
    """One upload of every row of a split, (n, 3, H, W); float16, which holds binary uploads exactly."""
    rows = torch.arange(len(split.pixels))
    parts = [split.uploads(batch, channel, generator).half().numpy() for batch in torch.split(rows, BATCH)]
    return np.concatenate(parts)


def batches(uploads: NDArray[np.float16]) -> list[Tensor]:
    """Uploads as float32 batches (n, 3, H, W), channels-last in memory."""
    parts = [torch.from_numpy(uploads[start : start + BATCH]) for start in range(0, len(uploads), BATCH)]
    return [part.float().contiguous(memory_format=torch.channels_last) for part in parts]


def clean_batches(split: AttackSplit) -> list[Tensor]:
    """The unchanged clean images of a split as batches (n, 3, H, W)."""
    return [split.clean(rows) for rows in torch.split(torch.arange(split.images), BATCH)]


def augment(images: NDArray[np.uint8], copy: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Copy number `copy` of images (N, H, W, 3): 0 as they are, 1 mirrored, then shifted ones."""
    if copy % 2:
        images = images[:, :, ::-1]
    if copy < 2:
        return np.ascontiguousarray(images)
    height, width = images.shape[1:3]
    reach = max(1, min(height, width) // 16)
    padded = np.pad(images, ((0, 0), (reach, reach), (reach, reach), (0, 0)), mode="edge")
    corners = rng.integers(0, 2 * reach + 1, size=(len(images), 2))
    shifted = np.empty_like(images, order="C")
    for i, (top, left) in enumerate(corners):
        shifted[i] = padded[i, top : top + height, left : left + width]
    return shifted


def build_split(
    artifact: Artifact, split: Split, attributes: Sequence[str], copies: int, seed: int
) -> tuple[AttackSplit, Tensor]:
    """One split with its augmented copies, and the rate of its unchanged images in nats."""
    images, labels = artifact.dataset.subset(split, list(attributes))
    images = np.ascontiguousarray(images)
    rng = np.random.default_rng(seed)
    pixels: list[NDArray[np.uint8]] = []
    parts: list[Parameters] = []
    rate = torch.empty(0)
    for copy in range(copies):
        pixels.append(augment(images, copy, rng))
        exact = artifact.parameters(pixels[-1])
        if copy == 0:
            rate = prior_rate(artifact.channel, exact)
            size = sum(value[0].numel() for value in exact.values()) * 2 * len(images)
            copies = max(1, min(copies, MAX_PARAMETER_BYTES // max(size, 1)))
        parts.append({name: value.half() for name, value in exact.items()})
        if copy + 1 >= copies:
            break
    return (
        AttackSplit(
            pixels=np.concatenate(pixels),
            parameters={name: torch.cat([part[name] for part in parts]) for name in parts[0]},
            labels={name: np.tile(values, len(parts)) for name, values in labels.items()},
            images=len(images),
        ),
        rate,
    )


def build_attack_data(
    artifact: Artifact, attributes: Sequence[str], *, copies: int = 2, seed: int = 0
) -> AttackData:
    """Compute the channel's parameters of the attacker, validation and test splits.

    Args:
        artifact: the frozen model.
        attributes: what is attacked; the kept attributes are added for the floors.
        copies: augmented copies of each attacker image, itself included.
        seed: decides noise, shifts and the initial weights of all attackers.
    """
    names = list(dict.fromkeys([*attributes, *artifact.keep]))
    classes = {a.name: len(a.classes) for a in artifact.dataset.require(names)}
    train, _ = build_split(artifact, Split.ATTACKER, names, copies, seed)
    validation, _ = build_split(artifact, Split.VALIDATION, names, 1, seed)
    test, rate = build_split(artifact, Split.TEST, names, 1, seed)
    person = artifact.dataset.identity
    return AttackData(
        channel=artifact.channel,
        cloud=artifact.cloud,
        keep=artifact.keep,
        classes=classes,
        size=artifact.dataset.size,
        train=train,
        validation=validation,
        test=test,
        rate=rate,
        seed=seed,
        persons=None
        if person is None
        else artifact.dataset.labels[person][artifact.dataset.splits[Split.TEST]],
    )
