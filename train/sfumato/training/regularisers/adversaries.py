"""The adversaries that a defence is trained against (objective `suppress`).

An ensemble of different architectures, each with one head per hidden attribute. Once the rate has come down
(docs/decisions/0014-late-adversaries.md) they learn on uploads with fresh noise, a few steps for every step of the defence.
One of them starts over every other epoch: a defence that only outruns adversaries which have lost their plasticity leaks to
fresh ones. None of these adversaries takes part in the audit.
"""

from collections.abc import Mapping
from copy import deepcopy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sfumato.core.seeding import seed_everything
from sfumato.models import channels_last
from sfumato.models.attackers import create_attacker

ARCHITECTURES = ("linear", "cnn", "mobilenet")
RESTART_EVERY = 2
"""Epochs between restarts; each restart takes the next member of the ensemble."""


class Ensemble(nn.Module):
    """Adversaries of several architectures; forward gives one mapping attribute -> logits for each."""

    def __init__(self, classes: Mapping[str, int], size: tuple[int, int]) -> None:
        super().__init__()
        members = [create_attacker(name, classes, size) for name in ARCHITECTURES]
        self.members = channels_last(nn.ModuleList(members))

    def forward(self, upload: Tensor) -> list[dict[str, Tensor]]:
        """(B, 3, H, W) -> logits (B, classes) per attribute, per member."""
        return [member(upload) for member in self.members]


def adversary_loss(answers: list[dict[str, Tensor]], labels: Mapping[str, Tensor]) -> Tensor:
    """Cross entropy summed over members and attributes."""
    losses = [F.cross_entropy(answer[name], labels[name]) for answer in answers for name in answer]
    return torch.stack(losses).sum()


def restart_one(ensemble: Ensemble, optimizer: torch.optim.Optimizer, epoch: int, seed: int) -> None:
    """Give one member new weights and a new optimiser state, in turn, every `RESTART_EVERY` epochs."""
    if epoch == 0 or epoch % RESTART_EVERY:
        return
    member = ensemble.members[epoch // RESTART_EVERY % len(ensemble.members)]
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


def best_accuracy(answers: list[dict[str, Tensor]], labels: Mapping[str, Tensor]) -> float:
    """Highest accuracy (fraction) of any member, averaged over attributes."""
    return max(
        sum((answer[name].argmax(1) == labels[name]).float().mean().item() for name in answer) / len(answer)
        for answer in answers
    )
