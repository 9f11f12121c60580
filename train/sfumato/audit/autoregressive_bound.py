"""The bound of an autoregressive reference on finished uploads (`sfumato.models.autoregressive`).

The reference is fitted on the attacker's images, stopped by validation and judged on uploads of the test images, so nothing in
the bound depends on what it is judged on.

    bits = context_bits(evidence)
"""

from copy import deepcopy
from math import log

import torch

from sfumato.audit.attack_data import Evidence, Side
from sfumato.channels.dither import Dither
from sfumato.models.autoregressive import AutoregressivePrior, nats_saved
from sfumato.models.schedule import one_cycle, set_learning_rate

STEPS = 600
"""Optimiser steps of the fit."""
JUDGED = 100
"""Steps between two looks at validation."""
BATCH = 64
PEAK = 3e-3
"""Largest learning rate of the fit (AdamW)."""


def context_bits(evidence: Evidence) -> float | None:
    """The bound in bits an image: fitted on the attacker's images, stopped by validation, judged on uploads of the test images.

    None for channels other than dither, whose uploads are not made of bits.
    """
    channel = evidence.channel
    if not isinstance(channel, Dither):
        return None
    context = fit(channel, evidence)
    test = evidence.test
    rate = channel.rate({"p": test.parameters["p"].float()}).mean().item()
    return (rate - mean_foreseen(context, test, evidence.generator("context test"))) / log(2)


def fit(channel: Dither, evidence: Evidence) -> AutoregressivePrior:
    """What foresees most of validation's uploads while it learns from the attacker's; at worst still a fair coin."""
    side, generator = evidence.train, evidence.generator("context reference")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(evidence.seed_for("context weights"))
        context = AutoregressivePrior(channel)
    optimizer = torch.optim.AdamW(context.parameters(), lr=PEAK, weight_decay=1e-3, fused=True)
    best, weights = 0.0, deepcopy(context.state_dict())
    count = len(side.pixels)
    passes = -(-STEPS * BATCH // count)
    order = torch.cat([torch.randperm(count, generator=generator) for _ in range(passes)])
    for step, rows in enumerate(order[: STEPS * BATCH].split(BATCH), 1):
        set_learning_rate(optimizer, one_cycle(step, STEPS, PEAK))
        p = side.parameters["p"][rows].float()
        loss = -nats_saved(p, context(side.uploads(rows, channel, generator))).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % JUDGED == 0:
            found = mean_foreseen(context, evidence.validation, evidence.generator("context validation"))
            if found > best:
                best, weights = found, deepcopy(context.state_dict())
    context.load_state_dict(weights)
    return context


@torch.no_grad()
def mean_foreseen(context: AutoregressivePrior, side: Side, generator: torch.Generator) -> float:
    """Mean of `nats_saved` over one upload of every image of a split as it is, in nats."""
    total = 0.0
    for rows in torch.arange(side.images).split(BATCH):
        upload = side.uploads(rows, context.channel, generator)
        total += nats_saved(side.parameters["p"][rows].float(), context(upload)).sum().item()
    return total / side.images
