"""Which blocks of a picture are worth sending: learned on clean photos, before any noise.

    loss = CE(cloud(photo with closed blocks black)) + price * share of open blocks

Local and cloud network learn together, as in co-training (Chen et al., L2X, ICML 2018; Dabkowski and Gal, NeurIPS 2017, with a
fixed classifier). In co-training itself gates learn too slowly: whatever a block does for the task drowns in the noise of the
draws, and no gate ever closed (docs/decisions/0031). There the price holds what was learned here.

    learn_gates(model, clean, batches, config, fabric, log)
"""

import time
from collections.abc import Callable, Iterable, Mapping
from math import log as ln
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, nn

from sfumato.channels.dither import open_blocks, over_pixels
from sfumato.core.console import progress
from sfumato.core.seeding import seed_everything
from sfumato.models.cloud import answer
from sfumato.models.schedule import one_cycle, set_learning_rate
from sfumato.models.tensors import evaluating
from sfumato.training.clean import weight_groups
from sfumato.training.config import Gating
from sfumato.training.loader import Batch, Batches
from sfumato.training.local_cloud import LocalCloudModel, by_head
from sfumato.training.log import RunningMeans
from sfumato.training.losses import Logits, task_loss

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from sfumato.training.config import TrainConfig
    from sfumato.training.log import TrainingLog


Given = TypeVar("Given")
"""What one step of a stage needs."""


class GatedPhotos(nn.Module):
    """The cloud network behind gates alone: what is sent is sent as it is.

    Args:
        model: local network with gates, and cloud network.
    """

    def __init__(self, model: LocalCloudModel) -> None:
        super().__init__()
        self.learning = nn.ModuleList([*model.local.seeing(), *([] if model.fixed else [model.cloud])])
        # In a tuple, which torch does not look into: processes that share a batch would wait for gradients of the decoder.
        self.networks = (model,)

    def forward(self, x: Tensor) -> tuple[Logits, Logits, Tensor]:
        """Photos (B, 3, H, W) -> logits of the cloud network, those of the phone's decision, and the share of open blocks."""
        (model,) = self.networks
        fine, bottleneck, scores = model.look(x)
        assert model.local.gates is not None
        z = model.local.gates(model.local.at_eighth(fine, bottleneck))
        logits, _ = answer(model.cloud, x * over_pixels(open_blocks(z)))
        own = {} if scores is None else by_head(scores, model.heads)
        return logits, own, z.sigmoid().mean()


def learn_gates(
    model: LocalCloudModel,
    clean: nn.Module,
    batches: Batches,
    config: "TrainConfig",
    fabric: "Fabric",
    log: "TrainingLog | None",
) -> None:
    """Train gates, encoder and cloud network in place.

    Args:
        model: both networks; a fixed cloud network stays as it is.
        clean: the teacher.
        batches: the defender's.
        config: of the run.
        fabric: where to train.
        log: one record an epoch, stage `gates`; None in processes that do not write.
    """
    how, price = config.gating, gate_price(model.heads, config.gating)
    steps = how.epochs * batches.steps

    def loss_of(shared: Any, batch: Batch, step: int) -> tuple[Tensor, dict[str, float]]:
        with evaluating(clean):
            soft = clean(batch.images) if config.distill else None
        logits, own, opened = shared(batch.images)
        climbed = min(1.0, step / max(1.0, how.climb * steps))
        seen = task_loss(logits, batch.labels, soft, config.distill)
        loss = seen + climbed * price * opened
        if own:
            loss = loss + config.aux_weight * task_loss(own, batch.labels, soft, config.distill)
        return loss, {"task_loss": seen.item(), "open_share": opened.item()}

    run_epochs(
        GatedPhotos(model),
        batches.epoch,
        loss_of,
        lambda figures: f"open {100 * figures['open_share']:.0f} %",
        steps=batches.steps,
        config=config,
        fabric=fabric,
        log=log,
    )


def run_epochs(
    network: nn.Module,
    draw: Callable[[], Iterable[Given]],
    loss_of: Callable[[Any, Given, int], tuple[Tensor, dict[str, float]]],
    tell: Callable[[dict[str, float]], str],
    *,
    steps: int,
    config: "TrainConfig",
    fabric: "Fabric",
    log: "TrainingLog | None",
) -> None:
    """The epochs of the stage `gates`, on one schedule.

    Args:
        network: what learns.
        draw: gives what the steps of one epoch need, from torch's global generator, which is seeded for the epoch.
        loss_of: `network` as `fabric.setup` returns it, what one step needs, and the step's number -> loss and figures.
        tell: says an epoch's mean figures beside the bar.
        steps: of one epoch.
        config: of the run.
        fabric: where to train.
        log: one record an epoch; None in processes that do not write.
    """
    epochs, rate = config.gating.epochs, config.learning_rate
    optimizer: Any = torch.optim.AdamW(
        weight_groups(network), lr=rate, weight_decay=config.weight_decay, fused=True
    )
    shared, optimizer = fabric.setup(network, optimizer)
    with progress() as bar:
        task = bar.add_task("gates", total=epochs * steps, figures="", visible=fabric.is_global_zero)
        for epoch in range(epochs):
            seed_everything(config.seed, "gates", epoch)
            started, means = time.perf_counter(), RunningMeans()
            shared.train()
            for step, given in enumerate(draw(), epoch * steps):
                set_learning_rate(
                    optimizer, one_cycle(step, epochs * steps, rate, **config.schedule.model_dump())
                )
                loss, found = loss_of(shared, given, step)
                optimizer.zero_grad()
                fabric.backward(loss)
                optimizer.step()
                means.add(**found)
                bar.advance(task)
            figures = means.result()
            bar.update(task, figures=tell(figures))
            if log is not None:
                seconds = round(time.perf_counter() - started, 3)
                log.write({"stage": "gates", "epoch": epoch, **figures, "seconds": seconds})


def gate_price(heads: Mapping[str, int], settings: Gating) -> float:
    """Weight of the share of open blocks, in nats.

    Args:
        heads: kept attribute -> number of classes.
        settings: `price` in units of the loss of a guess.
    """
    return settings.price * sum(ln(classes) for classes in heads.values()) / len(heads)
