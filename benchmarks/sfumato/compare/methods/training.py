"""The one trainer of all methods: same data, order, start, teacher, epochs, batch size, optimiser, schedule, choice of epoch.

    train_method(method, "cloak", task)       # in place; the method is frozen afterwards

A warm-up of `pretrain_epochs` trains the task alone, `epochs` more train with the method's privacy terms: our own runs spend as
many on their encoder's warm-up and on co-training. The defender moves first, then the adversary takes `ADVERSARY_STEPS` on
fresh uploads of the same images, after its gradients were cleared; no gradient of one ever reaches the weights of the
other.

The most accurate epoch on validation is kept, as in our own training. Early epochs, in which privacy terms hardly acted, would
always be the most accurate, so the last third alone is chosen from; our own runs choose among the epochs within their targets.
"""

import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sfumato.compare.methods.base import Method, Phase, Task
from sfumato.core.console import progress
from sfumato.core.errors import SfumatoError
from sfumato.core.seeding import derive_seed, seed_everything
from sfumato.data import Split
from sfumato.models.schedule import one_cycle
from sfumato.training.evaluate import mean_credits
from sfumato.training.loader import Batch, Batches

Means = dict[str, float]
ADVERSARY_STEPS = 2
"""Optimiser steps of a method's adversary for each one of the defender."""
SEED_WORD = "peer"
"""Part of every seed. It stays: another word would change all stored figures."""


class DivergedError(SfumatoError):
    """A loss stopped being a number: this setting of this method cannot be trained like that."""


@dataclass(frozen=True)
class Training:
    """How a training went."""

    means: Means
    """The mean of every part of the loss over the epoch that was kept."""
    epoch: int
    """Which one that is, counted from the end of the warm-up."""
    validation_accuracy: float
    """Mean over the desired attributes, of the frozen method."""
    seconds: float


def train_method(method: Method, name: str, task: Task, device: torch.device | None = None) -> Training:
    """Train a method in place and freeze it.

    Args:
        method: untrained, from `sfumato.compare.methods.create`.
        name: for seeds and messages.
        task: what it is trained on.
        device: where; by default the CPU. The method and the clean network are on the CPU afterwards.

    Raises:
        DivergedError: the loss stopped being a number.
    """
    started, config, where = time.perf_counter(), task.config, device or torch.device("cpu")
    method.to(where)
    task.clean.to(where)
    method.prepare_mode()
    batches = Batches(
        task.dataset,
        Split.DEFENDER,
        (*config.keep, *config.hide),
        config.batch_size,
        where,
        augmentation=config.augmentation,
    )
    validation = Batches(task.dataset, Split.VALIDATION, config.keep, config.batch_size, where)
    optimizers = Optimizers(method, task, (config.pretrain_epochs + config.epochs) * batches.steps)
    best, kept, weights = -1.0, (0, Means()), dict[str, Tensor]()
    with progress() as bar:
        line = bar.add_task(f"train {name}", total=optimizers.steps, figures="")
        for epoch in range(-config.pretrain_epochs, config.epochs):
            seed_everything(config.seed, SEED_WORD, name, epoch)
            phase, sums = Phase(epoch, config.epochs), Means()
            for batch in batches.epoch(only_mirror=config.only_mirrors(epoch, config.epochs)):
                for part, value in optimizers.step(batch, phase).items():
                    sums[part] = sums.get(part, 0.0) + value
                bar.advance(line)
            means = {part: total / batches.steps for part, total in sums.items()}
            bar.update(line, figures=", ".join(f"{part} {value:.3f}" for part, value in means.items()))
            if not all(map(_finite, means.values())):
                raise DivergedError(
                    f"the training of {name} diverged in epoch {epoch}: its loss is not a number"
                )
            if phase.candidate:
                found = accuracy(method, validation, config.seed)
                if found >= best:
                    best, kept = found, (epoch, means)
                    weights = {key: value.detach().clone() for key, value in method.state_dict().items()}
                method.prepare_mode()
    method.load_state_dict(weights)
    method.finish()
    found = accuracy(method, validation, config.seed)
    method.cpu().eval().requires_grad_(False)
    task.clean.cpu()
    return Training(kept[1], kept[0], found, time.perf_counter() - started)


@torch.no_grad()
def accuracy(method: Method, batches: Batches, seed: int) -> float:
    """Mean credit of the cloud's answers to uploads, over the desired attributes; leaves evaluation mode on."""
    method.eval()
    generator = torch.Generator(device=batches.device).manual_seed(derive_seed(seed, "val"))
    answers: dict[str, list[Tensor]] = {}
    for batch in batches.ordered():
        parameters = method.phone(batch.images)
        upload = method.draw.sample(parameters, method.draw.noise(parameters, generator))
        for name, answer in method.cloud(upload).items():
            answers.setdefault(name, []).append(answer.cpu())
    credits = mean_credits(batches.dataset, batches.split, answers)
    return sum(credits.values()) / len(credits)


@torch.no_grad()
def adversary_accuracy(method: Method, batches: Batches, seed: int) -> dict[str, float]:
    """What a method's own adversary finds on uploads, attribute -> fraction: what most papers report; empty without one."""
    if method.adversary is None:
        return {}
    method.eval()
    generator = torch.Generator(device=batches.device).manual_seed(derive_seed(seed, "own adversary"))
    right: dict[str, int] = {}
    count = 0
    for batch in batches.ordered():
        parameters = method.phone(batch.images)
        upload = method.draw.sample(parameters, method.draw.noise(parameters, generator))
        for name, answer in method.adversary(upload).items():
            right[name] = right.get(name, 0) + int((answer.argmax(1) == batch.labels[name]).sum())
        count += len(batch.images)
    return {name: hits / count for name, hits in right.items()}


class Optimizers:
    """The defender's and the adversary's optimiser and the schedule that both follow."""

    def __init__(self, method: Method, task: Task, steps: int) -> None:
        self.method, self.config, self.steps, self.number = method, task.config, steps, 0
        self.groups = method.groups()
        self.defender: Any = torch.optim.AdamW(
            [{key: value for key, value in group.items() if key != "factor"} for group in self.groups],
            lr=task.config.learning_rate,
            weight_decay=task.config.weight_decay,
        )
        self.adversary: Any = None
        if method.adversary is not None:
            self.adversary = torch.optim.AdamW(method.adversary.parameters(), lr=2e-3, weight_decay=1e-3)

    def step(self, batch: Batch, phase: Phase) -> Means:
        """One step of the defender and those of the adversary; returns the parts of the defender's loss."""
        rate = one_cycle(self.number, self.steps, self.config.learning_rate)
        for group, ours in zip(self.defender.param_groups, self.groups, strict=True):
            group["lr"] = rate * ours["factor"]
        self.number += 1
        parts = self.method.losses(batch, phase)
        self.defender.zero_grad()
        parts["loss"].backward()
        self.defender.step()
        if self.adversary is not None:
            self._step_adversary(batch, phase)
        return {name: value.item() for name, value in parts.items()}

    def _step_adversary(self, batch: Batch, phase: Phase) -> None:
        for _ in range(ADVERSARY_STEPS):
            loss = self.method.adversary_loss(batch, phase)
            if loss is None:
                return
            self.adversary.zero_grad()
            loss.backward()
            self.adversary.step()


def _finite(value: float) -> bool:
    return value - value == 0.0
