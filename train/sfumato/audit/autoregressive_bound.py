"""The bound of an autoregressive prior on finished uploads (`sfumato.models.autoregressive`).

The prior is fitted on the attacker's images, stopped early by validation and evaluated on uploads of the test images, so
nothing in the bound depends on the images it is evaluated on.

    bits = autoregressive_bound(data)
"""

from copy import deepcopy
from math import log

import torch

from sfumato.audit.attack_data import AttackData, AttackSplit, random_order
from sfumato.audit.index_channel import IndexChannel
from sfumato.audit.rows import floats, in_parts
from sfumato.channels.dither import Dither
from sfumato.models.autoregressive import AutoregressivePrior, nats_saved
from sfumato.models.schedule import one_cycle, set_learning_rate

STEPS = 600
"""Optimiser steps of the fit."""
EVALUATE_EVERY = 100
"""Steps between two evaluations on validation."""
BATCH = 32
"""Every place of every upload is an example, so few uploads are many."""
PEAK = 5e-3
"""Largest learning rate of the fit (AdamW)."""


def autoregressive_bound(data: AttackData, *, steps: int = STEPS) -> float | None:
    """The bound in bits an image; None for channels other than dither, whose uploads are not made of bits, and for indices.

    With fewer optimiser steps it is looser. What the prior expects of pictures adds up to 1 over all pictures; over the entries
    of a book nobody can add it up.
    """
    channel = data.channel
    if not isinstance(channel, Dither) or isinstance(channel, IndexChannel):
        return None
    prior = fit(channel, data, steps)
    test = data.test
    rate = torch.cat([channel.rate({"p": p}) for p in in_parts(test.parameters["p"])]).mean().item()
    return (rate - mean_gain(prior, test, data.generator("context test"))) / log(2)


def fit(channel: Dither, data: AttackData, steps: int) -> AutoregressivePrior:
    """The prior that predicts validation uploads best while it learns from the attacker's; at worst still uniform."""
    train, generator = data.train, data.generator("context reference")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(data.seed_for("context weights"))
        prior = AutoregressivePrior(channel).to(generator.device)
    optimizer = torch.optim.AdamW(prior.parameters(), lr=PEAK, weight_decay=1e-3, fused=True)
    best, weights = 0.0, deepcopy(prior.state_dict())
    count = len(train.pixels)
    passes = -(-steps * BATCH // count)
    order = torch.cat([random_order(count, generator) for _ in range(passes)])
    for step, rows in enumerate(order[: steps * BATCH].split(BATCH), 1):
        set_learning_rate(optimizer, one_cycle(step, steps, PEAK))
        p = floats(train.parameters, rows, generator.device)["p"]
        loss = -nats_saved(p, prior(train.uploads(rows, channel, generator))).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % EVALUATE_EVERY == 0 or step == steps:
            gain = mean_gain(prior, data.validation, data.generator("context validation"))
            if gain > best:
                best, weights = gain, deepcopy(prior.state_dict())
    prior.load_state_dict(weights)
    return prior


@torch.no_grad()
def mean_gain(prior: AutoregressivePrior, split: AttackSplit, generator: torch.Generator) -> float:
    """By how much the prior lowers the rate: mean over one upload of every image of a split as it is, in nats."""
    total = 0.0
    for rows in torch.arange(split.images).split(BATCH):
        upload = split.uploads(rows, prior.channel, generator)
        p = floats(split.parameters, rows, generator.device)["p"]
        total += nats_saved(p, prior(upload)).sum().item()
    return total / split.images
