"""Probe: networks trained from scratch on (upload, label) pairs that the attacker makes itself.

The main attack of every audit. Each epoch draws fresh noise; several architectures and learning rates are tried,
because they fail in different ways: the linear one finds patterns spread over the whole image, convolutions
find local ones. A plan with several rounds lets them compete (`tournament`), among them copies of two networks that know
something already: the cloud network, and the attacker on clean photos.

    for step in steps(data, QUICK, (("race",),)): step.run()
"""

import copy
from functools import partial

import torch
from torch import nn

from sfumato.audit.attack_data import AttackData
from sfumato.audit.attacks import clean, provider
from sfumato.audit.attacks.fit import Recipe, epochs_of_work, fit, make_recipe
from sfumato.audit.attacks.tournament import Contestant, Start, Tournament
from sfumato.audit.plan import Plan
from sfumato.audit.predictions import Groups, Prediction, Step, all_attributes
from sfumato.models.attackers import create_attacker

FROM_CLEAN = "from clean"
"""Named so in the report instead of an architecture."""


def start(data: AttackData, group: tuple[str, ...], recipe: Recipe) -> nn.Module:
    """A network for a group of attributes, before any training."""
    torch.manual_seed(data.seed_for(f"{recipe.attack}/{recipe.architecture}/{recipe.lr}/{group}/weights"))
    planes, *size = data.upload_shape
    classes = {name: data.classes[name] for name in group}
    return create_attacker(recipe.architecture, classes, (size[0], size[1]), planes)


def start_from_clean(
    plan: Plan, attributes: tuple[str, ...], data: AttackData, group: tuple[str, ...], recipe: Recipe
) -> nn.Module:
    """A copy of the best attacker on clean photos: where an upload shows parts of the photo, a few steps teach it to read them.

    Args:
        plan: knows that attacker.
        attributes: it was trained on, those of the group among them.
        data: of the attackers.
        group: what is attacked.
        recipe: of the training on uploads.
    """
    network = copy.deepcopy(clean.clean_network(data, plan, attributes)[1])
    torch.manual_seed(data.seed_for(f"{recipe.attack}/{recipe.architecture}/{recipe.lr}/{group}/weights"))
    return network


def train(data: AttackData, group: tuple[str, ...], recipe: Recipe, begin: Start = start) -> list[Prediction]:
    """Train one network for a group of attributes, from scratch or from what `begin` makes."""
    with torch.random.fork_rng():
        return fit(begin(data, group, recipe), data, group, recipe)


def probes(data: AttackData, plan: Plan, attributes: tuple[str, ...]) -> list[Contestant]:
    """Every architecture and learning rate, and the attacker on clean photos if the plan wants it and it can read uploads."""
    ways = [
        Contestant(start, make_recipe(plan, data, "probe", architecture, lr, plan.epochs))
        for architecture in plan.probes
        for lr in plan.rates
    ]
    if plan.from_clean and data.upload_shape == data.photo_shape:
        begin = partial(start_from_clean, plan, attributes)
        recipe = make_recipe(plan, data, "probe", FROM_CLEAN, min(plan.rates), plan.epochs)
        ways.append(Contestant(begin, recipe))
    return ways


def contestants(data: AttackData, plan: Plan, attributes: tuple[str, ...]) -> list[Contestant]:
    """All probes, and the cloud network itself where the plan has the attack `provider`."""
    rates = plan.provider_rates if "provider" in plan.attacks and plan.finetune else ()
    return probes(data, plan, attributes) + [
        Contestant(provider.start, make_recipe(plan, data, "provider", "finetune", lr, plan.epochs))
        for lr in rates
    ]


def steps(data: AttackData, plan: Plan, groups: Groups) -> list[Step]:
    """Every architecture, learning rate and group of attributes of the plan: one after the other, or in rounds."""
    attributes = all_attributes(groups)
    if plan.rounds > 1:
        playing = contestants(data, plan, attributes)
        return [
            step
            for group in groups
            if playing
            for step in Tournament(data, group, playing, plan.rounds).steps()
        ]
    return [
        Step(
            title=f"probe {one.recipe.architecture} {one.recipe.lr:g} on {', '.join(group)}",
            run=partial(train, data, group, one.recipe, one.start),
            work=epochs_of_work(one.recipe.architecture, plan.epochs),
        )
        for group in groups
        for one in probes(data, plan, attributes)
    ]
