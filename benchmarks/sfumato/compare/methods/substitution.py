"""PASS (private attributes protection with stochastic data substitution, ICML 2025), in style.

The phone sends no version of its image but one of K stored training images, chosen at random with learned probabilities:

    p_k(x) = softmax_k( cos(f(x), a_k) / tau ),      x' = bank[k],   k ~ p(x)

f is an encoder on the phone and a_k a learned anchor of stored image k. The mechanism is a plain table of probabilities,
so its mutual information are, too. Hidden attributes are held down and desired ones up:

    loss = sum_u -log sum_k p_k [u_k = u]   +   lam * sum_s I(K; S),      I(K; S) = sum_s P(s) KL(p(k|s) || p(k))

p(k|s) is a running mean over batches. The cloud network learns on the images that are sent. K = 4,096 as in the paper, or as
many as there are training images; lam, 64 dimensions and the form of the desired term are ours. tau is the curve: at .1 the
choice stays so random that UTKFace loses six points of gender, at .05 none (the cosine lies in -1..1, so the largest odds of
two images are exp(2 / tau)). The stored images have to be on every phone. The rate log K - H(p) is exact, and never more than
log K.
"""

from dataclasses import dataclass
from math import log

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sfumato.channels import Parameters
from sfumato.compare.methods.base import Curve, Method, Phase, Task
from sfumato.compare.methods.draws import Draw
from sfumato.core.seeding import derive_seed
from sfumato.data import Split
from sfumato.models.cost import Cost, cost
from sfumato.models.local import STRIDE
from sfumato.models.local import Encoder as Pyramid
from sfumato.models.tensors import to_tensor
from sfumato.training.loader import Batch

STORED, DIMENSIONS, TEMPERATURE = 4096, 64, 0.05
MOMENTUM = 0.9
SKETCH = 32
"""Projections by which the attacker recognises a stored image."""


class Chooser(nn.Module):
    """Probabilities of the stored images.

    Args:
        bank: (K, 3, H, W) stored images in 0..1; kept as bytes.
        temperature: tau; the lower, the surer the choice.
    """

    def __init__(self, bank: Tensor, temperature: float = TEMPERATURE) -> None:
        super().__init__()
        self.temperature = temperature
        self.pyramid = Pyramid((16, 32, 48, 48), (1, 2, 1))
        height, width = bank.shape[2:]
        self.embed = nn.Linear(48 * (height // STRIDE) * (width // STRIDE), DIMENSIONS)
        self.anchors = nn.Parameter(torch.randn(len(bank), DIMENSIONS))
        self.register_buffer("stored", (bank * 255).round().byte(), persistent=False)

    def forward(self, x: Tensor) -> Parameters:
        """Images -> log probabilities (B, K)."""
        embedded = F.normalize(self.embed(self.pyramid(x)[-1].flatten(1)), dim=1)
        likeness = embedded @ F.normalize(self.anchors, dim=1).T / self.temperature
        return {"logits": likeness.log_softmax(1)}

    def look_up(self, index: Tensor) -> Tensor:
        """Stored images (B, 3, H, W) in 0..1."""
        return self.get_buffer("stored")[index].float() / 255


@dataclass(frozen=True)
class Substituted:
    """One stored image per upload."""

    phone: Chooser
    name: str = "substitution"

    def noise(self, parameters: Parameters, generator: torch.Generator | None = None) -> Tensor:
        """One uniform number per image, (B, 1)."""
        logits = parameters["logits"]
        return torch.rand(len(logits), 1, generator=generator, device=logits.device)

    def sample(self, parameters: Parameters, noise: Tensor) -> Tensor:
        """The stored image at which the cumulated probability passes the uniform number; no gradient."""
        cumulated = parameters["logits"].detach().softmax(1).cumsum(1)
        index = torch.searchsorted(cumulated, noise * cumulated[:, -1:]).squeeze(1)
        return self.phone.look_up(index.clamp_max(cumulated.shape[1] - 1))

    def rate(self, parameters: Parameters) -> Tensor:
        """KL from the uniform choice, in nats, (B,)."""
        logits = parameters["logits"].double().log_softmax(1)
        rate: Tensor = log(logits.shape[1]) + (logits.exp() * logits).sum(1)
        return rate

    def likelihood(self, uploads: Tensor, parameters: Parameters) -> Tensor:
        """log P(upload | candidate), (uploads, candidates): the stored image is recognised, its probability read."""
        table = parameters["logits"].float().log_softmax(1).double()
        return table[:, self.recognise(uploads)].T

    def recognise(self, uploads: Tensor) -> Tensor:
        """Numbers of the stored images nearest to uploads, (B,); a few random projections tell images apart."""
        bank = self.phone.get_buffer("stored").flatten(1).float() / 255
        directions = torch.randn(bank.shape[1], SKETCH, generator=torch.Generator().manual_seed(0))
        return torch.cdist(uploads.flatten(1) @ directions, bank @ directions).argmin(1)


class Substitution(Method):
    """Learned stochastic substitution."""

    curve = Curve(
        "temperature",
        (TEMPERATURE, 0.02, 0.1, 0.2),
        published="CelebA, Male hidden: NAG 4.9 +- 0.5 % under a fresh attacker, Smiling keeps a NAG of 98.3 %; other data "
        "here, so the pair of NAG and drop is what can be set beside it",
        least=1e-3,
    )
    reads_hidden = True
    phone: Chooser

    def __init__(
        self, task: Task, *, stored: int = STORED, weight: float = 1.0, temperature: float = TEMPERATURE
    ) -> None:
        rows = torch.from_numpy(task.dataset.splits[Split.DEFENDER].copy())
        generator = torch.Generator().manual_seed(derive_seed(task.config.seed, "bank"))
        chosen = rows[torch.randperm(len(rows), generator=generator)[:stored]].numpy()
        phone = Chooser(to_tensor(task.dataset.images[chosen]), temperature)
        draw: Draw = Substituted(phone)
        super().__init__(task, phone=phone, draw=draw, cloud=task.clean_cloud())
        self.weight, self.stored = weight, len(chosen)
        for name in task.kept:
            self.register_buffer(f"label_{name}", torch.from_numpy(task.dataset.labels[name][chosen]))
        self.hidden = task.classes(task.config.hide)
        for name, count in self.hidden.items():
            self.register_buffer(f"given_{name}", torch.full((count, self.stored), 1 / self.stored))
            self.register_buffer(f"share_{name}", torch.full((count,), 1 / count))

    def losses(self, batch: Batch, phase: Phase) -> dict[str, Tensor]:
        """The phone's two terms and the cloud's cross entropy, which has no gradient into the phone."""
        parameters = self.phone(batch.images)
        p = parameters["logits"].exp()
        upload = self.draw.sample(parameters, self.draw.noise(parameters))
        task = self.task_loss(upload, batch)
        kept = torch.stack(
            [self.kept_loss(p, name, batch.labels[name]) for name in self.task.config.keep]
        ).mean()
        loss, parts = task + kept, {"task": task, "kept": kept}
        if phase.active and self.hidden:
            leak = torch.stack([self.information(p, name, batch.labels[name]) for name in self.hidden]).sum()
            loss, parts["leak"] = loss + self.weight * leak, leak
        return {"loss": loss, **parts}

    def kept_loss(self, p: Tensor, name: str, labels: Tensor) -> Tensor:
        """-log of the probability that an image of the same desired label is sent."""
        same = (self.get_buffer(f"label_{name}")[None] == labels[:, None]).float()
        return -(p * same).sum(1).clamp_min(1e-6).log().mean()

    def information(self, p: Tensor, name: str, labels: Tensor) -> Tensor:
        """I(K; S) in nats from running means; the gradient is scaled up to that of the batch's own means."""
        given, share = self.get_buffer(f"given_{name}"), self.get_buffer(f"share_{name}")
        member = F.one_hot(labels, len(given)).float()
        counts = member.sum(0)
        batch = member.T @ p / counts.clamp_min(1)[:, None]
        blend = torch.where(counts[:, None] > 0, MOMENTUM * given + (1 - MOMENTUM) * batch, given)
        with torch.no_grad():
            given.copy_(blend)
            share.mul_(MOMENTUM).add_((1 - MOMENTUM) * counts / counts.sum())
        nats = mutual_information(blend, share)
        return nats.detach() + (nats - nats.detach()) / (1 - MOMENTUM)

    def cost(self, shape: tuple[int, int, int]) -> Cost:
        """Encoder, embedding and the comparison with every anchor; the stored images come on top, as a file."""
        layers = cost(self.phone, shape)
        return Cost(layers.parameters, layers.macs + self.phone.anchors.numel())

    @property
    def stored_bytes(self) -> int:
        """The stored images as raw bytes."""
        return self.phone.get_buffer("stored").numel()


def mutual_information(given: Tensor, share: Tensor) -> Tensor:
    """I(K; S) in nats from p(k|s) (classes, K) and P(s) (classes,).

    >>> round(mutual_information(torch.eye(2), torch.tensor([0.5, 0.5])).item(), 4)  # log 2
    0.6931
    """
    mixture = share @ given
    terms = given * (given.clamp_min(1e-12).log() - mixture.clamp_min(1e-12).log())
    return (share * terms.sum(1)).sum()
