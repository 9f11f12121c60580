"""The one trainer of all methods: same data, order, start, epochs, batch size, optimiser and schedule.

    train_method(method, "cloak", task)       # in place; the method is frozen afterwards

A warm-up of `pretrain_epochs` trains the task alone, `epochs` more train with the method's privacy terms: our own runs spend as
many on their encoder's warm-up and on co-training. The defender moves first, then the adversary takes `adversaries.steps` on
fresh uploads of the same images, after its gradients were cleared; no gradient of one ever reaches the weights of the
other. The weights of the last epoch are kept, since choosing by accuracy would choose the epoch with the least privacy.
"""

import time
from typing import Any

import torch

from sfumato.compare.methods.base import Method, Phase, Task
from sfumato.core.console import progress
from sfumato.core.errors import SfumatoError
from sfumato.core.seeding import seed_everything
from sfumato.data import Split
from sfumato.models.schedule import one_cycle
from sfumato.training.loader import Batch, Batches

Means = dict[str, float]
SEED_WORD = "peer"
"""Part of every seed. It stays: another word would change all stored figures."""


def train_method(
    method: Method, name: str, task: Task, device: torch.device | None = None
) -> tuple[Means, float]:
    """Train a method in place and freeze it.

    Args:
        method: untrained, from `sfumato.compare.methods.create`.
        name: for seeds and messages.
        task: what it is trained on.
        device: where; by default the CPU. The method and the clean network are on the CPU afterwards.

    Returns:
        The mean of every part of the loss over the last epoch, and seconds.

    Raises:
        SfumatoError: the loss stopped being a number.
    """
    started, config, where = time.perf_counter(), task.config, device or torch.device("cpu")
    method.to(where)
    task.clean.to(where)
    method.prepare_mode()
    attributes = (*config.keep, *config.hide)
    batches = Batches(
        task.dataset,
        Split.DEFENDER,
        attributes,
        config.batch_size,
        where,
        augmentation=config.augmentation,
    )
    optimizers = Optimizers(method, task, (config.pretrain_epochs + config.epochs) * batches.steps)
    means: Means = {}
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
                raise SfumatoError(
                    f"the training of {name} diverged in epoch {epoch}: its loss is not a number"
                )
    method.finish()
    method.cpu().eval().requires_grad_(False)
    task.clean.cpu()
    return means, time.perf_counter() - started


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
        for _ in range(self.config.adversaries.steps):
            loss = self.method.adversary_loss(batch, phase)
            if loss is None:
                return
            self.adversary.zero_grad()
            loss.backward()
            self.adversary.step()


def _finite(value: float) -> bool:
    return value - value == 0.0
