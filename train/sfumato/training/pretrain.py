"""Pretraining: before co-training the local network's encoder learns to classify the desired labels on clean images.

At a few bits an image the channel can only carry the phone's own decision. Learning it through the noise of the channel is
slow (docs/history/log.md). Learning it directly takes a fraction of the time: neither the cloud network nor the
decoder of the local network takes part.

Small networks gain from a consistent teacher (Beyer et al., CVPR 2022): every other batch is a mixture of pairs of images
(mixup, Zhang et al., ICLR 2018), whose only label is the clean network's output for the same mixture.

    pretrain(EncoderClassifier(local, heads), clean, batches, config, fabric, log)
"""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from sfumato.core.console import progress
from sfumato.core.seeding import seed_everything
from sfumato.models.schedule import one_cycle, set_learning_rate
from sfumato.models.tensors import evaluating
from sfumato.training.loader import Batch, Batches, mix
from sfumato.training.losses import Logits, task_loss
from sfumato.training.regularisers.equal_odds import EqualOdds

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from sfumato.training.config import TrainConfig
    from sfumato.training.log import TrainingLog


def distillation_loss(
    student: Callable[[Tensor], Logits],
    teacher: nn.Module,
    batch: Batch,
    number: int,
    distill: float,
    mix_every: int = 2,
) -> tuple[Tensor, Logits | None]:
    """Loss of one batch, and the student's logits for its images; None for a mixture, which has no true label.

    Args:
        student: images (B, 3, H, W) -> logits per kept attribute.
        teacher: the clean network.
        batch: images and labels.
        number: of the batch; the last of every `mix_every` batches is a mixture.
        distill: share of the loss that follows the teacher; at 0 there are no mixtures.
        mix_every: batches.
    """
    mixed = bool(distill) and number % mix_every == mix_every - 1
    images = mix(batch.images) if mixed else batch.images
    with evaluating(teacher):
        soft = teacher(images) if distill else None
    logits = student(images)
    loss = task_loss(logits, batch.labels, soft, 1.0 if mixed else distill)
    return loss, None if mixed else logits


def distillation_epoch(
    student: Any,
    optimizer: Any,
    teacher: nn.Module,
    batches: Batches,
    config: "TrainConfig",
    fabric: "Fabric",
    *,
    epoch: int,
    epochs: int,
    only_mirror: bool = False,
    odds: EqualOdds | None = None,
    odds_weight: float = 1.0,
    advance: Callable[[], None] = lambda: None,
) -> float:
    """One epoch of distillation on the one-cycle schedule of `epochs` of them.

    Args:
        student, optimizer: as `fabric.setup` returns them.
        teacher: the clean network.
        batches: the defender's batches.
        config: of the run.
        fabric: where to train.
        epoch: number of this epoch; torch's generator is seeded for it.
        epochs: of the whole stage.
        only_mirror: images are at most mirrored.
        odds: holds the student's errors equal for every value of the hidden attributes, whose labels the batches then carry.
        odds_weight: of its term.
        advance: called after every step.

    Returns:
        The student's accuracy in training, a fraction.
    """
    right, seen, steps = 0, 0, epochs * batches.steps
    peak = config.pretraining.learning_rate_factor * config.learning_rate
    student.train()
    for index, batch in enumerate(batches.epoch(only_mirror=only_mirror)):
        step = epoch * batches.steps + index
        rate = one_cycle(step, steps, peak, **config.schedule.model_dump())
        set_learning_rate(optimizer, rate)
        loss, logits = distillation_loss(
            student, teacher, batch, index, config.distill, config.pretraining.mix_every
        )
        if odds is not None and logits is not None:
            loss = loss + odds_weight * odds(logits, batch.labels)
        optimizer.zero_grad()
        fabric.backward(loss)
        optimizer.step()
        if odds is not None and logits is not None:
            odds.update(logits, batch.labels, rate / peak)
        if logits is not None:
            right += sum(int((a.argmax(1) == batch.labels[n]).sum()) for n, a in logits.items())
            seen += len(batch.images) * len(logits)
        advance()
    return right / seen


def pretrain(
    classifier: nn.Module,
    clean: nn.Module,
    batches: Batches,
    config: "TrainConfig",
    fabric: "Fabric",
    log: "TrainingLog | None",
) -> None:
    """Train `classifier`, which maps images (B, 3, H, W) to logits per kept attribute, in place.

    Args:
        classifier: the encoder of the local network with the logits of its decision.
        clean: the teacher.
        batches: the defender's batches.
        config: of the run.
        fabric: where to train.
        log: one record an epoch, stage `pretrain`; None in processes that do not write.
    """
    optimizer: Any = torch.optim.AdamW(
        classifier.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
    )
    shared, optimizer = fabric.setup(classifier, optimizer)
    with progress() as bar:
        steps = config.pretrain_epochs * batches.steps
        task = bar.add_task("pretraining", total=steps, figures="", visible=fabric.is_global_zero)
        for epoch in range(config.pretrain_epochs):
            seed_everything(
                config.seed, "warm-up", epoch
            )  # the stage's old name, so that seeds keep their runs
            started = time.perf_counter()
            right = distillation_epoch(
                shared,
                optimizer,
                clean,
                batches,
                config,
                fabric,
                epoch=epoch,
                epochs=config.pretrain_epochs,
                advance=lambda: bar.advance(task),
            )
            bar.update(task, figures=f"local accuracy {100 * right:.1f} %")
            if log is not None:
                seconds = round(time.perf_counter() - started, 3)
                log.write({"stage": "pretrain", "epoch": epoch, "train_accuracy": right, "seconds": seconds})
