"""Where the clean network would know the answer: what the phone foresees, and opens its one window by.

    value(window) = p(truth | photo with everything else black), by the clean network
    loss = BCE(mean over the window of the gates' log odds, value)

The clean network is asked about a few windows of each photo, once (Petsiuk et al., RISE, BMVC 2018, ask about many masks of one
photo). The phone learns what it would say about any window of any photo (as Jethani et al., FastSHAP, ICLR 2022, learn Shapley
values), so noise of single answers averages out. Nothing draws, and the cloud network is not trained: minutes, where learning
from the task takes hours (docs/decisions/0034). A face has no value for a question about objects: the window has no reason to
open on it, and nobody has to name it.
The value does not depend on what is around the window. So a share of the photos (`swap`) has another photo there, and the phone
learns to leave it out of account.

    learn_windows(model, clean, batches, config, fabric, log)
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sfumato.channels.dither import BLOCK, over_pixels
from sfumato.core.console import progress
from sfumato.core.seeding import derive_seed
from sfumato.models.tensors import evaluating
from sfumato.training.gating import run_epochs
from sfumato.training.loader import Batches, vary_light
from sfumato.training.local_cloud import LocalCloudModel
from sfumato.training.losses import Logits

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from sfumato.training.config import TrainConfig
    from sfumato.training.log import TrainingLog


class WindowScores(nn.Module):
    """The gates' scores of all windows, under a module of their own: processes that share a batch wait for no other gradient.

    Args:
        model: local network with a window, and cloud network.
    """

    def __init__(self, model: LocalCloudModel) -> None:
        super().__init__()
        self.learning = nn.ModuleList(model.local.seeing())
        self.networks = (model,)

    def forward(self, x: Tensor) -> Tensor:
        """Photos (B, 3, H, W) -> log odds that the clean network knows the answer from each window, (B, 1, rows, columns)."""
        (model,) = self.networks
        scores: Tensor = model.local.window_scores(x)
        return scores


def window_masks(rows: int, columns: int, side: int) -> Tensor:
    """Every window of `rows` x `columns` blocks, row by row: 1 inside, else 0, (windows, 1, rows, columns)."""
    down, across = rows - side + 1, columns - side + 1
    masks = torch.zeros(down * across, 1, rows, columns)
    for number in range(len(masks)):
        top, left = divmod(number, across)
        masks[number, 0, top : top + side, left : left + side] = 1
    return masks


def window_values(
    clean: nn.Module,
    batches: Batches,
    masks: Tensor,
    views: int,
    seed: int,
    advance: Callable[[int], None] = lambda photos: None,
) -> tuple[Tensor, Tensor]:
    """Ask the clean network about some windows of each photo of a split.

    Args:
        clean: on the batches' device.
        batches: of the split; a batch carries the kept attributes' labels.
        masks: of `window_masks`.
        views: windows of each photo, drawn with repetition.
        seed: of the draw.
        advance: called after every batch of one view, with its photos.

    Returns:
        Which windows, (N, views) int64, and the probability that the clean network gives to the truth, (N, views), both on the
        CPU and in the split's order. Of several attributes: that all are true, as if each were judged alone.
    """
    count = len(batches.dataset.splits[batches.split])
    chosen = torch.randint(len(masks), (count, views), generator=torch.Generator().manual_seed(seed))
    values, start = torch.empty(count, views), 0
    with evaluating(clean):
        for batch in batches.ordered():
            part = slice(start, start + len(batch.images))
            for view in range(views):
                shown = over_pixels(masks[chosen[part, view]]).to(batch.images.device)
                logits: Logits = clean(batch.images * shown)
                log_p = [
                    -F.cross_entropy(logits[name], truth, reduction="none")
                    for name, truth in batch.labels.items()
                ]
                values[part, view] = sum(log_p[1:], log_p[0]).exp().cpu()
                advance(len(batch.images))
            start = part.stop
    return chosen, values


def window_loss(scores: Tensor, chosen: Tensor, values: Tensor) -> Tensor:
    """Mean binary cross entropy, in nats, between the scores of the chosen windows and their values.

    Args:
        scores: log odds of all windows, (B, 1, rows, columns).
        chosen: which windows, (B, views).
        values: (B, views) in 0..1.
    """
    return F.binary_cross_entropy_with_logits(scores.flatten(1).gather(1, chosen), values)


def with_other_surroundings(images: Tensor, shown: Tensor) -> Tensor:
    """Images (B, 3, H, W), each with the next one of the batch where `shown`, (B, 1, H, W), is 0."""
    return torch.where(shown > 0, images, images.roll(-1, 0))


def learn_windows(
    model: LocalCloudModel,
    clean: nn.Module,
    batches: Batches,
    config: "TrainConfig",
    fabric: "Fabric",
    log: "TrainingLog | None",
) -> None:
    """Train gates and encoder in place; the cloud network stays as it is.

    Photos are mirrored, brightened and darkened, not moved: values belong to places. Nor are they mirrored where
    `mirrored` of the data set is False.
    Of several processes each asks the clean network for itself.

    Args:
        model: both networks, the local one with a window.
        clean: the network that is asked.
        batches: the defender's.
        config: of the run.
        fabric: where to train.
        log: one record an epoch, stage `gates`; None in processes that do not write.
    """
    how, rows = config.gating, torch.from_numpy(batches.dataset.splits[batches.split].copy())
    height, width = batches.dataset.size
    masks = window_masks(height // BLOCK, width // BLOCK, how.window)
    with progress() as bar:
        asking = bar.add_task(
            "windows", total=how.views * len(rows), figures="", visible=fabric.is_global_zero
        )
        seed = derive_seed(config.seed, "windows")
        chosen, values = window_values(
            clean, batches, masks, how.views, seed, lambda photos: bar.advance(asking, photos)
        )

    def loss_of(shared: Any, places: Tensor, step: int) -> tuple[Tensor, dict[str, float]]:
        images, asked, worth = batches.load(rows[places]).images, chosen[places], values[places]
        if how.swap:
            swapped = torch.rand(len(images), 1) < how.swap
            view = torch.randint(how.views, (len(images), 1))
            # The window that was kept is the only one whose value still holds.
            asked = torch.where(swapped, asked.gather(1, view), asked)
            worth = torch.where(swapped, worth.gather(1, view), worth)
            shown = torch.where(swapped.view(-1, 1, 1, 1), masks[asked[:, 0]], 1)
            images = with_other_surroundings(images, over_pixels(shown).to(images.device))
        images = vary_light(images, config.augmentation)
        turned = (torch.rand(len(images)) < 0.5).view(-1, 1, 1, 1).to(images.device)
        turned &= batches.dataset.mirrored
        scores = shared(torch.where(turned, images.flip(3), images))
        scores = torch.where(turned, scores.flip(3), scores)
        loss = window_loss(scores, asked.to(scores.device), worth.to(scores.device))
        return loss, {"window_loss": loss.item()}

    run_epochs(
        WindowScores(model),
        batches.places,
        loss_of,
        lambda figures: f"loss {figures['window_loss']:.3f}",
        steps=batches.steps,
        config=config,
        fabric=fabric,
        log=log,
    )
