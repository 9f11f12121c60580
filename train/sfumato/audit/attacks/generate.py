"""Drawn photos: a generator that knows how photos look draws what may lie behind an upload.

The decoder of `pairs` answers with the mean of all photos that are possible, which is blurred. A provider with a model of
photos draws sharp ones from them instead (`sfumato.models.flow`, a conditional flow that starts at the decoder's estimate). It
learns from the attacker's photos and their uploads, and several photos are drawn for each upload.

- An attacker on clean photos reads each drawing as it is; its probabilities are averaged over the drawings.
- Where persons are labelled, drawings are matched with other photos of the same person.
- PSNR and SSIM are means over the drawings. They are below the decoder's by construction: the mean has the least error.

A drawing looks like a photo whether or not the upload told anything. Only what agrees with the true photo was told.

    for step in steps(data, DEFAULT, (("race",),)): step.run()
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from scipy.special import log_softmax, logsumexp
from torch import Tensor, nn

from sfumato.audit.attack_data import AttackData, batches, random_rows
from sfumato.audit.attacks import clean
from sfumato.audit.attacks.decoder_training import VALIDATION_IMAGES, photos, validation_error
from sfumato.audit.attacks.fit import scores
from sfumato.audit.attacks.pairs import evaluate, restorer
from sfumato.audit.plan import Plan
from sfumato.audit.predictions import AttackOutput, Floats, Groups, Prediction, Step, all_attributes
from sfumato.audit.rows import Rows
from sfumato.models import channels_last
from sfumato.models.flow import Flow
from sfumato.models.tensors import evaluating

LEARNING_RATE = 4e-3
BATCH_SIZE = 32
EULER = 4
"""Steps of a drawing. Lines that start at the mean are short and nearly straight."""


def train_flow(data: AttackData, decoder: nn.Module, steps: int) -> Flow:
    """A flow from the decoder's estimate to photos, under fresh noise in every batch.

    Args:
        data: gives photos and channel.
        decoder: of all pairs, with outputs in 0..1.
        steps: optimiser steps.
    """
    split, where = data.train, data.device
    generator = data.generator("drawn photos")
    rows = np.unique(np.linspace(0, data.validation.images - 1, VALIDATION_IMAGES).astype(np.int64))
    scale = max(validation_error(decoder, data, photos, rows) ** 0.5, 1e-3)
    with torch.random.fork_rng():
        torch.manual_seed(data.seed_for("drawn photos/weights"))
        flow = channels_last(Flow(data.photo_shape, scale, uploaded=data.upload_shape[0])).to(where)
    optimizer = torch.optim.AdamW(flow.parameters(), lr=LEARNING_RATE, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=LEARNING_RATE, total_steps=steps, pct_start=0.2
    )
    flow.train()
    for _ in range(steps):
        pick = random_rows(len(split.pixels), BATCH_SIZE, generator)
        upload, photo = split.uploads(pick, data.channel, generator), split.clean(pick)
        noise = torch.randn(photo.shape, generator=generator, device=generator.device)
        time = torch.rand(len(pick), generator=generator, device=generator.device)
        with torch.no_grad():
            estimate = decoder(upload.to(where))
        loss = flow.loss(photo.to(where), upload.to(where), estimate, noise.to(where), time.to(where))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(flow.parameters(), 5.0)
        optimizer.step()
        schedule.step()
    return flow.eval()


def draw_photos(
    flow: Flow, decoder: nn.Module, uploads: Rows, count: int, generator: torch.Generator
) -> Iterator[Tensor]:
    """`count` photos for each of (n, 3, H, W) uploads: (count, n, 3, H, W) on the CPU, a batch at a time."""
    where = next(flow.parameters()).device
    for batch in batches(uploads):
        with evaluating(flow), evaluating(decoder):
            upload = batch.to(where)
            estimate = decoder(upload)
            noise = (
                torch.randn(batch.shape, generator=generator, device=generator.device).to(where)
                for _ in range(count)
            )
            drawn = torch.stack([flow.draw(upload, estimate, one, EULER).cpu() for one in noise])
        yield drawn


@dataclass
class Reading:
    """A clean attacker looks at drawings as they pass; its probabilities are averaged over those of one upload."""

    network: nn.Module
    data: AttackData
    attributes: tuple[str, ...]
    seen: list[dict[str, Floats]] = field(default_factory=list)
    """Of every batch, per attribute the log probabilities (count, n, classes)."""

    def through(self, drawn: Iterable[Tensor]) -> Iterator[Tensor]:
        """Batches of drawings (count, n, 3, H, W), which are read and passed on."""
        for batch in drawn:
            guesses = [
                scores(self.network, [one.contiguous(memory_format=torch.channels_last)], self.attributes)
                for one in batch
            ]
            self.seen.append(
                {
                    name: np.stack(
                        [log_softmax(one[name] + self.data.prior(name), axis=1) for one in guesses]
                    )
                    for name in self.attributes
                }
            )
            yield batch

    def scores(self) -> dict[str, Floats]:
        """Scores (n, classes) of all that passed, per attribute."""
        out = {}
        for name in self.attributes:
            logs = np.concatenate([one[name] for one in self.seen], axis=1)
            out[name] = np.asarray(logsumexp(logs, axis=0) - np.log(len(logs)) - self.data.prior(name))
        return out


def read(
    network: nn.Module, drawn: Iterable[Tensor], data: AttackData, attributes: tuple[str, ...]
) -> dict[str, Floats]:
    """Scores of a clean attacker whose probabilities are averaged over drawings, batches (count, n, 3, H, W), per attribute."""
    reading = Reading(network, data, attributes)
    for _ in reading.through(drawn):
        pass
    return reading.scores()


def attack(data: AttackData, plan: Plan, attributes: tuple[str, ...]) -> Sequence[AttackOutput]:
    """Train the generator, draw photos of all validation and test uploads, and read them."""
    decoder = restorer(data, plan)
    flow = train_flow(data, decoder, plan.flow_steps)
    architecture, network = clean.clean_network(data, plan, attributes)
    generator = data.generator("drawings")
    reading = Reading(network, data, attributes)
    drawn = reading.through(draw_photos(flow, decoder, data.test_uploads, plan.drawings, generator))
    figures = evaluate(data, "drawn photos", drawn, data.train.images, match=True)
    known = draw_photos(flow, decoder, data.validation_uploads, plan.drawings, generator)
    validation, tested = read(network, known, data, attributes), reading.scores()
    predictions = [
        Prediction(
            attack="generate",
            architecture=f"clean {architecture} on {plan.drawings} drawn photos",
            attribute=name,
            validation=validation[name],
            test=tested[name],
        )
        for name in attributes
    ]
    return [figures, *predictions]


def steps(data: AttackData, plan: Plan, groups: Groups) -> list[Step]:
    """One piece of work for all attributes."""
    return [Step(title="drawn photos", run=partial(attack, data, plan, all_attributes(groups)), work=10)]
