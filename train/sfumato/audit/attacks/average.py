"""Average: the provider holds k uploads of the same image and averages them.

Under fresh noise that gradually removes the protection. So a phone draws its noise from a key and the image: sent again, the
image gives the same upload, and the mean of k equal uploads is that upload. Both are measured.

- The exact posterior (`posterior`): log-likelihoods of independent draws add, so the mean statistics of the k uploads
  count k times.
- A network trained from scratch on averages. (Under keyed noise that would be `probe` once more.)

Averages of fresh uploads describe a channel that does not ship. They are reported as `averaged fresh uploads` and never are
the best attack.

    for step in steps(data, DEFAULT, (("race",),)): step.run()
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from sfumato.audit.attack_data import VALIDATION_DRAWS, AttackData, AttackSplit, mean
from sfumato.audit.attacks import posterior, probe
from sfumato.audit.attacks.fit import make_recipe
from sfumato.audit.plan import Plan
from sfumato.audit.predictions import Floats, Groups, Prediction, Step, all_attributes
from sfumato.audit.rows import Kept, at_once

Noise = Literal["fresh", "keyed"]
CANDIDATES = 4_000
"""Attacker images in the prior at most: fewer than in `posterior`, since the posterior is taken for every k."""
ROWS = 1024
"""Images whose uploads are in memory at once."""


def with_repeats(data: AttackData, repeats: int, noise: Noise) -> AttackData:
    """The data of a provider that gets every image `repeats` times.

    Under fresh noise it makes such averages of its own images too. The phone's key it does not have: its own images
    are uploaded once each, since more of them would be equal.
    """
    fresh = noise == "fresh"
    key = None if fresh else data.seed_for("device key").to_bytes(4, "little")
    names = ("train", "validation", "test") if fresh else ("validation", "test")
    return replace(data, **{name: replace(getattr(data, name), repeats=repeats, key=key) for name in names})


def likelihood_tables(
    averaged: AttackData, split: AttackSplit, draws: int, candidates: Kept, generator: torch.Generator
) -> Iterator[NDArray[np.float32]]:
    """Mean log likelihood of the uploads of each image under every candidate, (n, candidates), piece by piece."""
    rows = torch.arange(split.images).repeat(draws)
    likelihood = posterior.likelihood_of(averaged.channel)
    for part in torch.split(rows, at_once(next(iter(split.parameters.values())), ROWS)):
        uploads = split.draws(part, averaged.channel, generator)
        statistics = mean(likelihood.statistics(one) for one in uploads)
        yield posterior.likelihoods_from_statistics(averaged.channel, statistics, candidates)


def predict_posterior(
    data: AttackData, repeats: int, noise: Noise, attributes: tuple[str, ...]
) -> list[Prediction]:
    """The posterior from `repeats` uploads of every image."""
    averaged = with_repeats(data, repeats, noise)
    candidates: Kept = {name: value[:CANDIDATES] for name, value in averaged.train.parameters.items()}
    # The likelihood of all uploads is the mean one to the power of their number, if they are independent.
    independent = repeats if noise == "fresh" else 1
    powers = np.concatenate(
        [posterior.POWERS, np.geomspace(1, independent, 1 + independent.bit_length())[1:]]
    )
    generator = averaged.generator(f"average {noise}")
    table = np.concatenate(
        list(likelihood_tables(averaged, averaged.validation, VALIDATION_DRAWS, candidates, generator))
    )
    every = np.arange(len(table))
    chosen = posterior.choose(table, averaged, attributes, every, powers)
    validation = posterior.chosen_scores(averaged, table, chosen)
    test: dict[str, list[Floats]] = {name: [] for name in attributes}
    for part in likelihood_tables(averaged, averaged.test, 1, candidates, generator):
        for name, scores in posterior.chosen_scores(averaged, part, chosen).items():
            test[name].append(scores)
    return [
        Prediction(
            attack="average",
            architecture=f"posterior, k={repeats}, {noise}",
            attribute=name,
            validation=validation[name],
            test=np.concatenate(test[name]),
            averaged=noise,
        )
        for name in attributes
    ]


def predict_network(
    data: AttackData, plan: Plan, repeats: int, attributes: tuple[str, ...]
) -> list[Prediction]:
    """A small network trained from scratch on averages of fresh uploads."""
    recipe = make_recipe(plan, data, "average", "cnn", max(plan.rates), plan.epochs)
    predictions = probe.train(with_repeats(data, repeats, "fresh"), attributes, recipe)
    return [replace(one, architecture=f"cnn, k={repeats}, fresh", averaged="fresh") for one in predictions]


def steps(data: AttackData, plan: Plan, groups: Groups) -> list[Step]:
    """The posterior for every k, under keyed noise for the most uploads and for one of them, then the networks."""
    attributes = all_attributes(groups)
    keyed = {1, max(plan.repeats)} if len(plan.repeats) > 1 else set(plan.repeats)
    ways: list[tuple[int, Noise]] = [(repeats, "keyed") for repeats in sorted(keyed)]
    ways += [(repeats, "fresh") for repeats in plan.repeats]
    work = [
        Step(
            title=f"average of {repeats}, {noise}",
            run=partial(predict_posterior, data, repeats, noise, attributes),
        )
        for repeats, noise in ways
    ]
    return work + [
        Step(
            title=f"average of {repeats}, cnn", run=partial(predict_network, data, plan, repeats, attributes)
        )
        for repeats in plan.average_networks
    ]
