"""Warm-up: before co-training the local network's encoder learns to guess the desired labels on clean images.

At a few bits an image the channel can only carry what the phone has already understood. Learning that through the noise of
the channel is slow (docs/history/log.md). Learning it directly takes a fraction of the time: neither the cloud network nor
the full-resolution half of the local network takes part.

The small network learns most from a patient teacher (Beyer et al., CVPR 2022): every other batch is a mixture of pairs of
images (mixup, Zhang et al., ICLR 2018) whose only label is what the clean network says about that very mixture.

    warm_up(pair, clean, batches, config, log)
"""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from sfumato.core.console import progress
from sfumato.models.schedule import one_cycle, set_learning_rate
from sfumato.models.tensors import evaluating
from sfumato.training.loader import Batch, Batches, seed_everything
from sfumato.training.losses import Logits, task_loss

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from sfumato.training.config import TrainConfig
    from sfumato.training.log import TrainingLog


def mix(images: Tensor) -> Tensor:
    """Each image (B, 3, H, W) blended with another of the batch, by a share drawn uniformly for each."""
    share = torch.rand(len(images), 1, 1, 1).to(images.device)
    return share * images + (1 - share) * images[torch.randperm(len(images)).to(images.device)]


def lesson(
    learner: Callable[[Tensor], Logits], clean: nn.Module, batch: Batch, turn: int, distill: float
) -> tuple[Tensor, Logits | None]:
    """Loss of one batch, and the answers to its images; None for a mixture, which has no label to be right about.

    Args:
        learner: images (B, 3, H, W) -> logits per kept attribute.
        clean: the teacher.
        batch: images and labels.
        turn: every other batch is a mixture, the odd ones.
        distill: share of the loss that follows the teacher; without any there are no mixtures.
    """
    mixed = bool(distill) and turn % 2 == 1
    images = mix(batch.images) if mixed else batch.images
    with evaluating(clean):
        teacher = clean(images) if distill else None
    logits = learner(images)
    loss = task_loss(logits, batch.labels, teacher, 1.0 if mixed else distill)
    return loss, None if mixed else logits


def warm_up(
    guesser: nn.Module,
    clean: nn.Module,
    batches: Batches,
    config: "TrainConfig",
    fabric: "Fabric",
    log: "TrainingLog | None",
) -> None:
    """Train `guesser`, which maps images (B, 3, H, W) to logits per kept attribute, in place.

    Args:
        guesser: the encoder of the local network under its decision.
        clean: the teacher.
        batches: the defender's batches.
        config: `warm_epochs`, `learning_rate`, `distill` and `seed` are read.
        fabric: where to train.
        log: one record an epoch, stage `warm-up`; None in processes that do not write.
    """
    optimizer: Any = torch.optim.AdamW(
        guesser.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
    )
    shared, optimizer = fabric.setup(guesser, optimizer)
    steps = config.warm_epochs * batches.steps
    with progress() as bar:
        task = bar.add_task("warm-up", total=steps, figures="", visible=fabric.is_global_zero)
        for epoch in range(config.warm_epochs):
            seed_everything(config.seed, "warm-up", epoch)
            started, right, seen = time.perf_counter(), 0, 0
            shared.train()
            for index, batch in enumerate(batches.epoch()):
                set_learning_rate(
                    optimizer, one_cycle(epoch * batches.steps + index, steps, 2 * config.learning_rate)
                )
                loss, answers = lesson(shared, clean, batch, index, config.distill)
                optimizer.zero_grad()
                fabric.backward(loss)
                optimizer.step()
                if answers is not None:
                    right += sum(int((a.argmax(1) == batch.labels[n]).sum()) for n, a in answers.items())
                    seen += len(batch.images) * len(answers)
                bar.advance(task)
            bar.update(task, figures=f"the phone's own guess {100 * right / seen:.1f} %")
            if log is not None:
                seconds = round(time.perf_counter() - started, 3)
                log.write(
                    {"stage": "warm-up", "epoch": epoch, "train_accuracy": right / seen, "seconds": seconds}
                )
