"""What a method brings to the shared trainer and audit: a phone network, a draw, a cloud network and a loss.

    class Mine(Method):
        curve = Curve("weight", (1.0, 0.1, 10.0, 100.0), published="gender to chance (its table 2)")
        def __init__(self, task, *, weight=1.0):
            super().__init__(task, phone=Unchanged(), draw=Fixed(), cloud=task.clean_cloud())
        def losses(self, batch, phase):
            task = self.task_loss(self.upload(batch.images), batch)
            return {"loss": task, "task": task}

Everything that is not a method's own idea is shared: data, splits, the clean network they start from and learn from, epochs,
batch size, optimiser, schedule and the choice of the epoch (`sfumato.compare.methods.training`). The methods are written from
the published formulas; where a paper leaves a number open, the docstring says that it is ours.
"""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from math import inf, log
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sfumato.audit.upload_size import SAMPLE, image_sizes
from sfumato.channels import Parameters
from sfumato.compare.methods.draws import Draw
from sfumato.core.errors import UsageError
from sfumato.data import Dataset, Split
from sfumato.data.label_dependence import conditional_entropy, entropy
from sfumato.models import channels_last
from sfumato.models.attackers import create_attacker
from sfumato.models.cost import Cost, cost
from sfumato.models.tensors import evaluating, frozen
from sfumato.training.clean import make_cloud, weight_groups
from sfumato.training.config import TrainConfig
from sfumato.training.loader import Batch
from sfumato.training.losses import Logits, task_loss

ADVERSARY = "cnn"
"""Architecture of the co-trained adversary of every adversarial method."""
CHOSEN_FROM = 2 / 3
"""Share of the training proper after which epochs are candidates: by then every method's privacy terms have long counted."""


class UnsuitableError(UsageError):
    """A method cannot be made for these attributes or this cloud network, whatever its setting; the message says why."""


@dataclass(frozen=True)
class Curve:
    """The setting of a method that a comparison varies, from one row to the next."""

    option: str
    """Keyword of the method's constructor, a number."""
    values: tuple[float, ...]
    """At least four, of a yardstick two. The first stands for the method where only one is made: the paper's, or one that its
    module argues for."""
    published: str = field(kw_only=True)
    """What its paper reports, and what of it a row here can be held against."""
    least: float = 0.0
    most: float = inf
    """Range of the values, ends included."""

    def accept(self, method: str, value: float) -> float:
        """A value in range; whole numbers where the method's own are whole.

        Raises:
            UsageError: out of range, or no whole number.
        """
        whole = isinstance(self.values[0], int)
        if not self.least <= value <= self.most or (whole and value != int(value)):
            kind = "a whole number" if whole else "a number"
            limits = f"from {self.least:g}" + ("" if self.most == inf else f" to {self.most:g}")
            raise UsageError(f"the {self.option} of {method} is {kind} {limits}, not {value:g}")
        return int(value) if whole else float(value)


@dataclass(frozen=True, kw_only=True)
class Task:
    """What every method is given."""

    config: TrainConfig
    dataset: Dataset
    clean: nn.Module
    """The clean cloud network, in evaluation mode; never changed by a method."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """(3, H, W) of an image."""
        return (3, *self.dataset.size)

    def classes(self, names: Sequence[str]) -> dict[str, int]:
        """Number of classes per attribute."""
        return {name: len(self.dataset.attributes[name].classes) for name in names}

    @property
    def kept(self) -> dict[str, int]:
        """Classes of the desired attributes."""
        return self.classes(self.config.keep)

    @property
    def hidden(self) -> dict[str, int]:
        """Classes of the attributes to hide.

        Raises:
            UnsuitableError: none was named, but the method needs them.
        """
        if not self.config.hide:
            raise UnsuitableError(
                "this method learns from the labels of hidden attributes: name some with --hide"
            )
        return self.classes(self.config.hide)

    def entropy(self, name: str) -> float:
        """H of an attribute on the defender's split, in nats."""
        return entropy(self.dataset.labels[name][self.dataset.splits[Split.DEFENDER]]) * log(2)

    def left_entropy(self, name: str) -> float:
        """H(S|Y) in nats: what the desired labels leave open about an attribute."""
        rows = self.dataset.splits[Split.DEFENDER]
        kept = [self.dataset.labels[k][rows] for k in self.config.keep]
        return conditional_entropy(self.dataset.labels[name][rows], kept) * log(2)

    def clean_cloud(self) -> nn.Module:
        """A copy of the clean network, to be trained further."""
        cloud = make_cloud(self.config, self.dataset)
        cloud.load_state_dict(self.clean.state_dict())
        return cloud

    def adversary(self, shape: tuple[int, int, int]) -> nn.Module:
        """An untrained adversary for all hidden attributes that reads uploads of `shape` (C, H, W)."""
        planes, *size = shape
        return channels_last(create_attacker(ADVERSARY, self.hidden, (size[0], size[1]), planes=planes))


class Unchanged(nn.Module):
    """A phone that passes the image on."""

    def forward(self, x: Tensor) -> Parameters:
        """Images (B, 3, H, W) -> the mean of the draw."""
        return {"mean": x}


class Method(nn.Module):
    """A method in training and, afterwards, frozen under audit.

    Args:
        task: what it is made for; its clean network is the teacher.
        phone: images (B, 3, H, W) in 0..1 -> parameters of the draw.
        draw: parameters -> upload.
        cloud: upload -> logits per desired attribute.
        adversary: co-trained, upload -> logits per hidden attribute; None for methods without.
    """

    curve: ClassVar[Curve | None] = None
    """What is varied; None where there is nothing to vary."""
    reads_hidden: ClassVar[bool] = False
    """Whether training reads the labels of hidden attributes."""
    trained: ClassVar[tuple[str, ...]] = ("phone", "cloud")
    """The parts that the defender's optimiser moves; the others stay frozen, in evaluation mode."""

    def __init__(
        self,
        task: Task,
        *,
        phone: nn.Module,
        draw: Draw,
        cloud: nn.Module,
        adversary: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.phone, self.cloud, self.adversary = phone, cloud, adversary
        self.draw, self.task = draw, task
        self._taught: tuple[Tensor, Logits] | None = None

    def upload(self, x: Tensor) -> Tensor:
        """One fresh upload per image."""
        parameters = self.phone(x)
        return self.draw.sample(parameters, self.draw.noise(parameters))

    def losses(self, batch: Batch, phase: "Phase") -> dict[str, Tensor]:
        """What the defender steps on (`loss`) and its named parts; by default the task alone."""
        task = self.task_loss(self.upload(batch.images), batch)
        return {"loss": task, "task": task}

    def adversary_loss(self, batch: Batch, phase: "Phase") -> Tensor | None:
        """What the adversary steps on, from fresh uploads without a gradient into the phone; None to rest."""
        with torch.no_grad():
            upload = self.upload(batch.images)
        assert self.adversary is not None
        return cross_entropies(self.adversary(upload), batch.labels)

    def adversary_logits(self, upload: Tensor) -> dict[str, Tensor]:
        """The adversary's logits; gradients pass through it to the upload and never into its weights."""
        assert self.adversary is not None
        with frozen(self.adversary):
            answer: dict[str, Tensor] = self.adversary(upload)
        return answer

    def task_loss(self, upload: Tensor, batch: Batch) -> Tensor:
        """Mean loss of the cloud network over the desired attributes: labels and, as in our own training, the clean network."""
        return task_loss(
            self.cloud(upload), batch.labels, self.teacher(batch.images), self.task.config.distill
        )

    def teacher(self, images: Tensor) -> Logits:
        """What the clean network says of photos; remembered, since some losses ask twice about one batch."""
        if self._taught is None or self._taught[0] is not images:
            with evaluating(self.task.clean):
                self._taught = images, self.task.clean(images)
        return self._taught[1]

    def prepare_mode(self) -> None:
        """Training mode for the trained parts and the adversary, evaluation mode for the frozen ones."""
        for name in ("phone", "cloud"):
            part = getattr(self, name)
            part.train(name in self.trained)
            # A trained one may hold weights that never learn, of a library's first parts.
            if name not in self.trained:
                part.requires_grad_(False)
        if self.adversary is not None:
            self.adversary.train()

    def groups(self) -> list[dict[str, Any]]:
        """Parameter groups of the defender; `factor` multiplies the common learning rate, as a library's network asks."""
        return [
            {"params": group["params"], "factor": group.get("share", 1.0)}
            for name in self.trained
            for group in weight_groups(getattr(self, name))
            if group["params"]
        ]

    def finish(self) -> None:
        """Called once after the last epoch, before the audit."""

    def cost(self, shape: tuple[int, int, int]) -> Cost:
        """What runs on the phone for one image of `shape` (3, H, W)."""
        return cost(self.phone, shape) if any(True for _ in self.phone.parameters()) else Cost(0, 0)

    @property
    def stored_bytes(self) -> int:
        """Bytes that have to be on the phone beside the network."""
        return 0

    def upload_sizes(self, uploads: Tensor, pixels: NDArray[np.uint8]) -> tuple[NDArray[np.float64], str]:
        """Bytes of some uploads, and how they are counted: images as PNG, features as float32.

        Args:
            uploads: (N, C, H, W), images in 0..1 or features.
            pixels: (N, H, W, 3) the photos they were made of.

        Returns:
            (M,) bytes of each of the first uploads, at most `SAMPLE`; M is 1 where all have one size.
        """
        if uploads.shape[1] != 3:
            return np.array([4.0 * uploads[0].numel()]), "float32 features"
        return image_sizes(uploads[:SAMPLE], "PNG"), "PNG"


@dataclass(frozen=True)
class Phase:
    """How far the training loop has come.

    Attributes:
        epoch: counted from the end of the warm-up; negative during it.
        epochs: epochs after the warm-up.
    """

    epoch: int
    epochs: int

    @property
    def active(self) -> bool:
        """Whether the method's privacy terms count: the warm-up trains the task alone."""
        return self.epoch >= 0

    @property
    def progress(self) -> float:
        """0 at the first epoch after the warm-up, 1 after the last."""
        return self.epoch / self.epochs

    @property
    def candidate(self) -> bool:
        """Whether this epoch's weights may be kept: the last third, or the last epoch of a short run."""
        return self.progress >= CHOSEN_FROM or self.epoch == self.epochs - 1


def cross_entropies(logits: Mapping[str, Tensor], labels: Mapping[str, Tensor]) -> Tensor:
    """Sum over attributes of the mean cross entropy, in nats."""
    parts = [nn.functional.cross_entropy(answer, labels[name]) for name, answer in logits.items()]
    return torch.stack(parts).sum()


def frozen_copy(module: nn.Module) -> nn.Module:
    """A copy in evaluation mode whose weights take no gradient."""
    return deepcopy(module).eval().requires_grad_(False)
