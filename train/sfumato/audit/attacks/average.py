"""Average: the provider holds k uploads of the same image and averages them.

Under fresh noise that undoes the protection by and by, which is why a phone draws its noise from a key and the image:
sent again, the image gives the same upload, and the mean of k equal uploads is that upload. Both are measured.

- The exact posterior (`bayes`): log-likelihoods of independent draws add, so the mean statistics of the k uploads
  count k times.
- A network trained from scratch on averages. (Under keyed noise that would be `probe` once more.)

Rows of fresh averages describe a channel that does not ship. They are reported as `averaged fresh uploads` and never
are the headline.

    for step in steps(evidence, DEFAULT, (("race",),)): step.run()
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from sfumato.audit.attack_data import VALIDATION_DRAWS, Evidence, Side, mean
from sfumato.audit.attacks import bayes, probe
from sfumato.audit.attacks.fit import recipe
from sfumato.audit.plan import Plan
from sfumato.audit.predictions import Answer, Floats, Step
from sfumato.channels import Parameters

Noise = Literal["fresh", "keyed"]
CANDIDATES = 4_000
"""Attacker images in the prior at most: fewer than in `bayes`, since the posterior is taken for every k."""
ROWS = 1024
"""Images whose uploads are in memory at once."""


def holding(evidence: Evidence, repeats: int, noise: Noise) -> Evidence:
    """The evidence of a provider that gets every image `repeats` times.

    Under fresh noise it makes such averages of its own images too. The phone's key it does not have: its own images
    are uploaded once each, since more of them would be equal.
    """
    if noise == "fresh":
        sides = {
            name: replace(getattr(evidence, name), repeats=repeats)
            for name in ("train", "validation", "test")
        }
        return replace(evidence, **sides)
    key = evidence.seed_for("device key").to_bytes(4, "little")
    sides = {
        name: replace(getattr(evidence, name), repeats=repeats, key=key) for name in ("validation", "test")
    }
    return replace(evidence, **sides)


def tables(
    held: Evidence, side: Side, draws: int, candidates: Parameters, generator: torch.Generator
) -> Iterator[NDArray[np.float32]]:
    """Mean log likelihood of the uploads of each image under every candidate, (n, candidates), piece by piece."""
    rows = torch.arange(side.images).repeat(draws)
    likelihood = bayes.likelihood_of(held.channel)
    for part in torch.split(rows, ROWS):
        uploads = side.draws(part, held.channel, generator)
        statistics = mean(likelihood.statistics(one, candidates) for one in uploads)
        yield bayes.explained(held.channel, statistics, candidates)


def posterior(evidence: Evidence, repeats: int, noise: Noise, attributes: tuple[str, ...]) -> list[Answer]:
    """The posterior from `repeats` uploads of every image."""
    held = holding(evidence, repeats, noise)
    candidates = {name: value[:CANDIDATES] for name, value in held.train.parameters.items()}
    # The likelihood of all uploads is the mean one to the power of their number, if they are independent.
    independent = repeats if noise == "fresh" else 1
    powers = np.concatenate([bayes.POWERS, np.geomspace(1, independent, 1 + independent.bit_length())[1:]])
    generator = held.generator(f"average {noise}")
    known = np.concatenate(list(tables(held, held.validation, VALIDATION_DRAWS, candidates, generator)))
    every = np.arange(len(known))
    chosen = {name: bayes.choose(known, held, name, every, powers) for name in attributes}
    validation = {name: bayes.chosen_scores(held, known, name, choice) for name, choice in chosen.items()}
    test: dict[str, list[Floats]] = {name: [] for name in attributes}
    for table in tables(held, held.test, 1, candidates, generator):
        for name, choice in chosen.items():
            test[name].append(bayes.chosen_scores(held, table, name, choice))
    return [
        Answer(
            attack="average",
            architecture=f"posterior, k={repeats}, {noise}",
            attribute=name,
            validation=validation[name],
            test=np.concatenate(test[name]),
            averaged=noise,
        )
        for name in attributes
    ]


def network(evidence: Evidence, plan: Plan, repeats: int, attributes: tuple[str, ...]) -> list[Answer]:
    """A small network trained from scratch on averages of fresh uploads."""
    how = recipe(plan, evidence, "average", "cnn", max(plan.rates), plan.epochs)
    answers = probe.train(holding(evidence, repeats, "fresh"), attributes, how)
    return [replace(one, architecture=f"cnn, k={repeats}, fresh", averaged="fresh") for one in answers]


def steps(evidence: Evidence, plan: Plan, groups: tuple[tuple[str, ...], ...]) -> list[Step]:
    """The posterior for every k, keyed noise at one and at the most uploads, then the networks."""
    everything = tuple(name for group in groups for name in group)
    ways: list[tuple[int, Noise]] = [(1, "keyed"), (max(plan.repeats), "keyed")]
    ways += [(repeats, "fresh") for repeats in plan.repeats]
    work = [
        Step(
            title=f"average of {repeats}, {noise}",
            run=partial(posterior, evidence, repeats, noise, everything),
        )
        for repeats, noise in ways
    ]
    return work + [
        Step(title=f"average of {repeats}, cnn", run=partial(network, evidence, plan, repeats, everything))
        for repeats in plan.average_networks
    ]
