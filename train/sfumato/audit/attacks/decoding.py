"""Training a decoder on pairs of upload and something the attacker knows about the image behind it.

decoder = train_decoder(evidence, photos, pairs=1000, steps=400)
restored = restore(decoder, evidence.test_uploads)           # (n_test, planes, H, W)
"""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from sfumato.audit.attack_data import BATCH, Evidence, Side, batches
from sfumato.audit.attacks.fit import device
from sfumato.audit.predictions import Ints
from sfumato.models.decoder import Decoder
from sfumato.models.tensors import evaluating

LEARNING_RATE = 4e-3
BATCH_SIZE = 64
LOOKS = 8
"""How often a decoder is compared on validation; the best one is kept."""
JUDGED = 512
"""Validation images it is compared on, at most."""

Target = Callable[[Side, Tensor], Tensor]
"""What a decoder should put out for some rows of a split, (n, planes, H, W)."""


def photos(side: Side, rows: Tensor) -> Tensor:
    """The clean images."""
    return side.clean(rows)


def parameters(side: Side, rows: Tensor) -> Tensor:
    """The channel's parameters, stacked."""
    return torch.cat([value[rows].float() for value in side.parameters.values()], dim=1)


def average_of(side: Side, target: Target) -> Tensor:
    """The mean of a target over the images of a split, (planes, H, W): the best constant guess by squared error."""
    parts = torch.split(torch.arange(side.images), BATCH)
    total: Tensor = sum((target(side, rows).double().sum(0) for rows in parts), torch.zeros(()))
    return (total / side.images).float()


def train_decoder(evidence: Evidence, target: Target, *, pairs: int, steps: int) -> Decoder:
    """A decoder that learned from `pairs` of the attacker's images, under fresh noise in every batch.

    The provider knows the phone's network, so it can make many uploads of one image: stronger than one upload each.

    Args:
        evidence: gives images, channel and validation uploads.
        target: what to restore.
        pairs: images to learn from.
        steps: optimiser steps.
    """
    side, where = evidence.train, device()
    generator = evidence.generator(f"decoder/{target.__name__}/{pairs}")
    known = torch.randperm(side.images, generator=generator)[:pairs]
    with torch.random.fork_rng():
        torch.manual_seed(evidence.seed_for(f"decoder/{target.__name__}/{pairs}/weights"))
        decoder = Decoder(average_of(side, target)).to(where)
    optimizer = torch.optim.AdamW(decoder.parameters(), lr=LEARNING_RATE, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=LEARNING_RATE, total_steps=steps, pct_start=0.2
    )
    rows = np.linspace(0, evidence.validation.images - 1, min(JUDGED, evidence.validation.images)).astype(
        np.int64
    )
    best, kept = validation_error(decoder, evidence, target, rows), clone(decoder)
    for step in range(1, steps + 1):
        pick = known[torch.randint(len(known), (BATCH_SIZE,), generator=generator)]
        pick = pick + side.images * torch.randint(side.copies, (BATCH_SIZE,), generator=generator)
        decoder.train()
        uploads = side.uploads(pick, evidence.channel, generator).to(where)
        loss = F.mse_loss(decoder(uploads), target(side, pick).to(where))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(decoder.parameters(), 5.0)
        optimizer.step()
        schedule.step()
        if step % max(1, steps // LOOKS) == 0:
            error = validation_error(decoder, evidence, target, rows)
            if error < best:
                best, kept = error, clone(decoder)
    decoder.load_state_dict(kept)
    return decoder.eval()


def clone(network: nn.Module) -> dict[str, Tensor]:
    """The weights as they are now."""
    return {name: value.clone() for name, value in network.state_dict().items()}


def validation_error(decoder: nn.Module, evidence: Evidence, target: Target, rows: Ints) -> float:
    """Mean squared error on some validation images."""
    restored = restore(decoder, evidence.validation_uploads[rows])
    return float(F.mse_loss(restored, target(evidence.validation, torch.from_numpy(rows))))


def restore(decoder: nn.Module, uploads: NDArray[np.float16]) -> Tensor:
    """What a decoder makes of uploads (n, 3, H, W): (n, planes, H, W) on the CPU."""
    where = next(decoder.parameters()).device
    with evaluating(decoder):
        return torch.cat([decoder(batch.to(where)).cpu() for batch in batches(uploads)])
