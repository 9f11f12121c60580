"""Training a decoder on pairs of upload and something the attacker knows about the image behind it.

decoder = train_decoder(data, photos, pairs=1000, steps=400)
images = reconstruct(decoder, data.test_uploads)           # (n_test, planes, H, W)
"""

from collections.abc import Callable, Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sfumato.audit.attack_data import BATCH, AttackData, AttackSplit, batches, random_order, random_rows
from sfumato.audit.predictions import Ints
from sfumato.audit.rows import Rows
from sfumato.models.decoder import Decoder
from sfumato.models.tensors import evaluating

LEARNING_RATE = 4e-3
BATCH_SIZE = 64
EVALUATIONS = 8
"""How often a decoder is evaluated on validation; the best one is kept."""
VALIDATION_IMAGES = 512
"""Validation images it is evaluated on, at most."""

Target = Callable[[AttackSplit, Tensor], Tensor]
"""What a decoder should put out for some rows of a split, (n, planes, H, W)."""


def photos(split: AttackSplit, rows: Tensor) -> Tensor:
    """The clean images."""
    return split.clean(rows)


def parameters(split: AttackSplit, rows: Tensor) -> Tensor:
    """The channel's parameters, stacked."""
    return torch.cat([value[rows].float() for value in split.parameters.values()], dim=1)


def mean_of(split: AttackSplit, target: Target) -> Tensor:
    """The mean of a target over the images of a split, (planes, H, W): the best constant guess by squared error."""
    parts = torch.split(torch.arange(split.images), BATCH)
    total: Tensor = sum((target(split, rows).double().sum(0) for rows in parts), torch.zeros(()))
    return (total / split.images).float()


def train_decoder(data: AttackData, target: Target, *, pairs: int, steps: int) -> Decoder:
    """A decoder that learned from `pairs` of the attacker's images, under fresh noise in every batch.

    The provider knows the phone's network, so it can make many uploads of one image: stronger than one upload each.

    Args:
        data: gives images, channel and validation uploads.
        target: what to reconstruct.
        pairs: images to learn from.
        steps: optimiser steps.
    """
    split, where = data.train, data.device
    generator = data.generator(f"decoder/{target.__name__}/{pairs}")
    known = random_order(split.images, generator)[:pairs]
    with torch.random.fork_rng():
        torch.manual_seed(data.seed_for(f"decoder/{target.__name__}/{pairs}/weights"))
        decoder = Decoder(mean_of(split, target), inputs=data.upload_shape[0]).to(where)
    optimizer = torch.optim.AdamW(decoder.parameters(), lr=LEARNING_RATE, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=LEARNING_RATE, total_steps=steps, pct_start=0.2
    )
    rows = np.linspace(0, data.validation.images - 1, min(VALIDATION_IMAGES, data.validation.images)).astype(
        np.int64
    )
    best, kept = validation_error(decoder, data, target, rows), copy_weights(decoder)
    for step in range(1, steps + 1):
        pick = known[random_rows(len(known), BATCH_SIZE, generator)]
        pick = pick + split.images * random_rows(split.copies, BATCH_SIZE, generator)
        decoder.train()
        uploads = split.uploads(pick, data.channel, generator).to(where)
        loss = F.mse_loss(decoder(uploads), target(split, pick).to(where))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(decoder.parameters(), 5.0)
        optimizer.step()
        schedule.step()
        if step % max(1, steps // EVALUATIONS) == 0:
            error = validation_error(decoder, data, target, rows)
            if error < best:
                best, kept = error, copy_weights(decoder)
    decoder.load_state_dict(kept)
    return decoder.eval()


def copy_weights(network: nn.Module) -> dict[str, Tensor]:
    """The weights as they are now."""
    return {name: value.clone() for name, value in network.state_dict().items()}


def validation_error(decoder: nn.Module, data: AttackData, target: Target, rows: Ints) -> float:
    """Mean squared error on some validation images."""
    images = reconstruct(decoder, data.validation_uploads[rows])
    return float(F.mse_loss(images, target(data.validation, torch.from_numpy(rows))))


def reconstruct(decoder: nn.Module, uploads: Rows) -> Tensor:
    """What a decoder makes of uploads (n, C, H, W): (n, planes, H, W) on the CPU."""
    return torch.cat(list(restored(decoder, uploads)))


def restored(decoder: nn.Module, uploads: Rows) -> Iterator[Tensor]:
    """As `reconstruct`, a batch at a time."""
    where = next(decoder.parameters()).device
    for batch in batches(uploads):
        with evaluating(decoder):
            images = decoder(batch.to(where)).cpu()
        yield images
