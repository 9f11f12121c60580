"""DeepObfuscator (Li et al., "DeepObfuscator: Obfuscating Intermediate Representations with Privacy-Preserving
Adversarial Learning on Smartphones", IoTDI 2021).

An encoder on the phone is trained against two opponents, one that reads the hidden attributes and one that reconstructs
the image. After a warm-up of encoder and cloud on the task the paper goes through five phases again and again:

    1  encoder, cloud:    CE_task
    2  reconstructor:     |reconstruction - x|^2
    3  encoder, cloud:    CE_task + q (1 - SSIM(reconstruction, noise picture))
    4  attribute reader:  CE_adversary
    5  encoder, cloud:    CE_task - p CE_adversary,      p 10

The encoder is not asked for a bad reconstruction, which can be read by turning it round, but for one that looks like a picture
of noise, drawn anew each time (mean 1/2, deviation 1/4, ours). A phase here is one step of the defender, or the steps that an
opponent is given, so three defender steps make a cycle. CE_task in phase 3 is ours. p is the curve. Encoder and cloud are the
halves of the clean network, three convolutions (the paper's encoder has four and 261,000 parameters), so that all methods start
alike. q = 1 is ours; the paper uses multi-scale SSIM.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sfumato.compare.methods.base import Curve, Method, Phase, Task, cross_entropies
from sfumato.compare.methods.draws import Fixed
from sfumato.compare.methods.parts import CutEncoder, Tail, split, ssim
from sfumato.models import channels_last
from sfumato.models.cost import Cost, cost
from sfumato.models.layers import convolution
from sfumato.models.tensors import frozen
from sfumato.training.loader import Batch

TASK, PICTURE, ATTRIBUTES = range(3)
"""Defender steps of a cycle. The reconstructor moves after the first of them, the attribute reader after the second."""


class Reconstructor(nn.Module):
    """Features (B, planes, h, w) -> images (B, 3, H, W) in 0..1, for images of `size` (H, W)."""

    def __init__(self, planes: int, size: tuple[int, int]) -> None:
        super().__init__()
        self.size = size
        self.first, self.second = convolution(planes, 32), convolution(32, 16)
        self.last = nn.Conv2d(16, 3, 3, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        """The guess at the image."""
        y = F.relu(self.second(F.relu(self.first(features))))
        larger = F.interpolate(y, size=self.size, mode="bilinear", align_corners=False)
        image: Tensor = self.last(larger).sigmoid()
        return image


class Opponents(nn.Module):
    """Both opponents; calling it asks the one that reads attributes."""

    def __init__(self, reader: nn.Module, reconstructor: nn.Module) -> None:
        super().__init__()
        self.reader, self.reconstructor = reader, channels_last(reconstructor)

    def forward(self, upload: Tensor) -> dict[str, Tensor]:
        """Logits per hidden attribute."""
        answer: dict[str, Tensor] = self.reader(upload)
        return answer


def noise_picture(like: Tensor) -> Tensor:
    """Pictures of gaussian noise shaped like `like`, in 0..1."""
    return (0.5 + 0.25 * torch.randn_like(like)).clamp(0, 1)


class DeepObfuscator(Method):
    """Encoder against attribute reader and reconstructor."""

    curve = Curve(
        "weight",
        (10.0, 3.0, 1.0, 0.3),
        published="CelebA: gender falls from 97.36 % to chance and MS-SSIM from 0.9458 to 0.3175, both against its own "
        "opponents; the row's own adversary is that figure, NAG is what a fresh one finds",
    )
    reads_hidden = True
    adversary: Opponents
    phone: CutEncoder

    def __init__(self, task: Task, *, weight: float = 10.0, picture_weight: float = 1.0) -> None:
        head, whole = split(task.clean)
        phone = CutEncoder(head, task)
        reconstructor = Reconstructor(phone.shape[0], task.dataset.size)
        opponents = Opponents(task.adversary(phone.shape), reconstructor)
        cloud = Tail(whole, scale=phone.bound)
        super().__init__(task, phone=phone, draw=Fixed(), cloud=cloud, adversary=opponents)
        self.weight, self.picture_weight = weight, picture_weight
        self.turn = -1

    def losses(self, batch: Batch, phase: Phase) -> dict[str, Tensor]:
        """Task; task and noise picture; task and attributes: one a step."""
        upload = self.upload(batch.images)
        task = self.task_loss(upload, batch)
        if not phase.active:
            return {"loss": task, "task": task}
        self.turn = (self.turn + 1) % 3
        # All parts are computed in every step, so that their means over an epoch can be read; one cycle counts each once.
        hidden = cross_entropies(self.adversary_logits(upload), batch.labels)
        with frozen(self.adversary):
            likeness = ssim(self.adversary.reconstructor(upload), noise_picture(batch.images))
        loss = task
        if self.turn == PICTURE:
            loss = task + self.picture_weight * (1 - likeness)
        elif self.turn == ATTRIBUTES:
            loss = task - self.weight * hidden
        return {"loss": loss, "task": task, "adversary": hidden, "likeness": likeness}

    def adversary_loss(self, batch: Batch, phase: Phase) -> Tensor | None:
        """The opponent whose turn it is; both in the warm-up."""
        with torch.no_grad():
            upload = self.upload(batch.images)
        picture = F.mse_loss(self.adversary.reconstructor(upload), batch.images)
        reader = cross_entropies(self.adversary(upload), batch.labels)
        if not phase.active:
            return reader + picture
        return {TASK: picture, PICTURE: reader}.get(self.turn)

    def cost(self, shape: tuple[int, int, int]) -> Cost:
        """The first layers."""
        return cost(self.phone.head, shape)
