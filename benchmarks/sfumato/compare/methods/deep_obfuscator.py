"""DeepObfuscator (Li et al., "DeepObfuscator: Obfuscating Intermediate Representations with Privacy-Preserving
Adversarial Learning on Smartphones", IoTDI 2021).

An encoder on the phone is trained against two opponents, one that reads the hidden attributes and one that reconstructs
the image:

    encoder, cloud:   CE_task - p CE_adversary + q SSIM(reconstruction, x),     p 10
    opponents:        CE_adversary,   |reconstruction - x|^2

The paper runs its five phases one after the other; here all five happen in every step, opponents first or second like in
every other adversarial method. The encoder has four convolutions as in the paper, but narrower (about 43,000 parameters
instead of 261,000), so that all methods train within one budget. q = 1 is ours; the paper uses multi-scale SSIM.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sfumato.compare.methods.base import Method, Phase, Task, cross_entropies
from sfumato.compare.methods.draws import Fixed
from sfumato.compare.methods.parts import Encoder, feature_cloud, ssim
from sfumato.models import channels_last
from sfumato.models.layers import convolution, enlarge
from sfumato.models.tensors import frozen
from sfumato.training.loader import Batch


class Reconstructor(nn.Module):
    """Features (B, planes, H/4, W/4) -> images (B, 3, H, W) in 0..1."""

    def __init__(self, planes: int) -> None:
        super().__init__()
        self.first, self.second = convolution(planes, 32), convolution(32, 16)
        self.last = nn.Conv2d(16, 3, 3, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        """The guess at the image."""
        y = enlarge(F.relu(self.first(features)))
        image: Tensor = self.last(enlarge(F.relu(self.second(y)))).sigmoid()
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


class DeepObfuscator(Method):
    """Encoder against attribute reader and reconstructor."""

    reads_hidden = True
    adversary: Opponents

    def __init__(self, task: Task, *, weight: float = 10.0, picture_weight: float = 1.0) -> None:
        height, width = task.dataset.size
        phone = Encoder()
        shape = phone.shape(height, width)
        opponents = Opponents(task.adversary(shape), Reconstructor(shape[0]))
        cloud = feature_cloud(task.kept, shape[0], height=height)
        super().__init__(phone=phone, draw=Fixed(), cloud=cloud, adversary=opponents)
        self.weight, self.picture_weight = weight, picture_weight

    def losses(self, batch: Batch, phase: Phase) -> dict[str, Tensor]:
        """Task, minus the reader's loss, plus the likeness of the reconstruction."""
        upload = self.upload(batch.images)
        task = self.task_loss(upload, batch)
        if not phase.active:
            return {"loss": task, "task": task}
        hidden = cross_entropies(self.adversary_logits(upload), batch.labels)
        with frozen(self.adversary):
            likeness = ssim(self.adversary.reconstructor(upload), batch.images)
        loss = task - self.weight * hidden + self.picture_weight * likeness
        return {"loss": loss, "task": task, "adversary": hidden, "likeness": likeness}

    def adversary_loss(self, batch: Batch, phase: Phase) -> Tensor:
        """Both opponents' losses."""
        with torch.no_grad():
            upload = self.upload(batch.images)
        picture = F.mse_loss(self.adversary.reconstructor(upload), batch.images)
        return cross_entropies(self.adversary(upload), batch.labels) + picture
