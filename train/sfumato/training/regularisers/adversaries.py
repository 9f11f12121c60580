"""The adversaries that the networks are trained against (objective `suppress`).

An ensemble of different architectures, each with one head per hidden attribute. Once the rate has come down
(docs/decisions/0014-late-adversaries.md) they learn on uploads with fresh noise, a few steps for every step of the networks.
One of them starts over every other epoch: networks that only outrun adversaries which have lost their plasticity leak to fresh
ones. None of these adversaries takes part in the audit.

    loss += gamma * sum_s max_k (H(S|Y) - CE(a_k(x'), s))_+^2          (`sfumato.training.losses.suppression`)
"""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from math import log as ln
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sfumato.core.seeding import seed_everything
from sfumato.data import Split
from sfumato.data.label_dependence import conditional_entropy
from sfumato.models import channels_last
from sfumato.models.attackers import create_attacker
from sfumato.models.tensors import frozen
from sfumato.training import checkpoint
from sfumato.training.config import Adversaries
from sfumato.training.loader import Batch
from sfumato.training.local_cloud import ForwardOutput, Logits
from sfumato.training.log import RunningMeans
from sfumato.training.losses import Labels, suppression
from sfumato.training.regularisers.base import Regulariser, Setting


class Ensemble(nn.Module):
    """Adversaries of several architectures.

    Args:
        classes: hidden attribute -> number of classes.
        size: height and width of an upload.
        architectures: names of `sfumato.models.attackers`.
    """

    def __init__(
        self,
        classes: Mapping[str, int],
        size: tuple[int, int],
        architectures: Sequence[str] = Adversaries().architectures,
    ) -> None:
        super().__init__()
        members = [create_attacker(name, classes, size) for name in architectures]
        self.members = channels_last(nn.ModuleList(members))

    def forward(self, upload: Tensor) -> list[Logits]:
        """(B, 3, H, W) -> logits (B, classes) per attribute, per member."""
        return [member(upload) for member in self.members]


def adversary_loss(outputs: list[Logits], labels: Labels) -> Tensor:
    """Cross entropy summed over members and attributes."""
    losses = [F.cross_entropy(logits[name], labels[name]) for logits in outputs for name in logits]
    return torch.stack(losses).sum()


def restart_one(
    ensemble: Ensemble,
    optimizer: torch.optim.Optimizer,
    epoch: int,
    seed: int,
    every: int = Adversaries().restart_every,
) -> None:
    """Every so many epochs give one member, in turn, new weights and a new optimiser state."""
    if epoch == 0 or epoch % every:
        return
    member = ensemble.members[epoch // every % len(ensemble.members)]
    seed_everything(seed, "restart", epoch)
    fresh = deepcopy(member)
    for part in fresh.modules():
        if callable(reset := getattr(part, "reset_parameters", None)):
            reset()
    with torch.no_grad():
        for old, new in zip(member.parameters(), fresh.parameters(), strict=True):
            old.copy_(new)
            optimizer.state.pop(old, None)
        for kept, given in zip(member.buffers(), fresh.buffers(), strict=True):
            kept.copy_(given)


def best_accuracy(outputs: list[Logits], labels: Labels) -> float:
    """Highest accuracy (fraction) of any member, averaged over attributes."""
    return max(
        sum((logits[name].argmax(1) == labels[name]).float().mean().item() for name in logits) / len(logits)
        for logits in outputs
    )


class AdversarialPenalty(Regulariser):
    """What the strongest adversary knows beyond the desired labels, and the adversaries' own optimiser."""

    name = "adversaries"

    def __init__(self, setting: Setting) -> None:
        self.setting, self.how = setting, setting.config.adversaries
        config, dataset = setting.config, setting.dataset
        classes = {name: len(dataset.attributes[name].classes) for name in config.hide}
        self.ensemble = Ensemble(classes, dataset.size, self.how.architectures)
        optimizer = torch.optim.AdamW(
            self.ensemble.parameters(),
            lr=self.how.learning_rate,
            weight_decay=self.how.weight_decay,
            fused=True,
        )
        self.shared, self.optimizer = setting.fabric.setup(self.ensemble, optimizer)
        # H(S|Y) in nats. What the desired labels tell about s stays: no adversary is pushed below it.
        rows = dataset.splits[Split.DEFENDER]
        kept = [dataset.labels[name][rows] for name in config.keep]
        self.entropy = {n: conditional_entropy(dataset.labels[n][rows], kept) * ln(2) for n in config.hide}

    def learning(self, step: int) -> bool:
        """Whether the adversaries are updated by then."""
        return step >= self.how.learn_from * self.setting.steps

    def start_epoch(self, epoch: int, step: int) -> None:
        """Every few epochs one member, in turn, starts over."""
        if self.learning(step):
            seed = self.setting.config.seed
            restart_one(self.ensemble, self.optimizer, epoch, seed, self.how.restart_every)

    def losses(self, output: ForwardOutput, batch: Batch, step: int, log: RunningMeans) -> list[Tensor]:
        """The suppression term, once the rate ramp has ended."""
        if step < self.setting.config.rate.ramp[1] * self.setting.steps:
            return []
        with frozen(self.ensemble):
            hidden = suppression(self.ensemble(output.upload), batch.labels, self.entropy)
        log.add(suppression=hidden.item())
        return [self.setting.config.suppress_weight * hidden]

    def update(self, output: ForwardOutput, batch: Batch, step: int, log: RunningMeans) -> None:
        """Train the adversaries on fresh draws from the same parameters."""
        if not self.learning(step):
            return
        channel = self.setting.model.local.channel
        parameters = {name: value.detach() for name, value in output.parameters.items()}
        for _ in range(self.how.steps):
            guesses = self.shared(channel.sample(parameters, channel.noise(parameters)))
            loss = adversary_loss(guesses, batch.labels)
            self.optimizer.zero_grad()
            self.setting.fabric.backward(loss)
            self.optimizer.step()
        log.add(adversary_accuracy=best_accuracy(guesses, batch.labels))

    def state_dict(self) -> dict[str, Any]:
        """Of ensemble and optimiser."""
        return {
            "ensemble": self.ensemble.state_dict(),
            "optimizer": checkpoint.optimizer_state(self.optimizer),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Of ensemble and optimiser."""
        self.ensemble.load_state_dict(state["ensemble"])
        checkpoint.load_optimizer_state(self.optimizer, state["optimizer"])
