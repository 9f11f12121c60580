"""Probe: networks trained from scratch on (upload, label) pairs that the attacker makes itself.

The main attack of every audit. Each epoch draws fresh noise; several architectures and learning rates are tried,
because they fail in different ways: the linear one finds patterns spread over the whole image, convolutions
find local ones. A plan with several rounds lets them compete (`tournament`), fine-tuned copies of the cloud network among them.

    for step in steps(data, QUICK, (("race",),)): step.run()
"""

from functools import partial

import torch
from torch import nn

from sfumato.audit.attack_data import AttackData
from sfumato.audit.attacks import provider
from sfumato.audit.attacks.fit import Recipe, epochs_of_work, fit, make_recipe
from sfumato.audit.attacks.tournament import Contestant, Tournament
from sfumato.audit.plan import Plan
from sfumato.audit.predictions import Groups, Prediction, Step
from sfumato.models.attackers import create_attacker


def start(data: AttackData, group: tuple[str, ...], recipe: Recipe) -> nn.Module:
    """A network for a group of attributes, before any training."""
    torch.manual_seed(data.seed_for(f"{recipe.attack}/{recipe.architecture}/{recipe.lr}/{group}/weights"))
    planes, *size = data.upload_shape
    classes = {name: data.classes[name] for name in group}
    return create_attacker(recipe.architecture, classes, (size[0], size[1]), planes)


def train(data: AttackData, group: tuple[str, ...], recipe: Recipe) -> list[Prediction]:
    """Train one architecture from scratch for a group of attributes."""
    with torch.random.fork_rng():
        return fit(start(data, group, recipe), data, group, recipe)


def contestants(data: AttackData, plan: Plan) -> list[Contestant]:
    """Every architecture and learning rate, and the cloud network itself where the plan has the attack `provider`."""
    scratch = [
        Contestant(start, make_recipe(plan, data, "probe", architecture, lr, plan.epochs))
        for architecture in plan.probes
        for lr in plan.rates
    ]
    if "provider" not in plan.attacks:
        return scratch
    return scratch + [
        Contestant(provider.start, make_recipe(plan, data, "provider", "finetune", lr, plan.epochs))
        for lr in plan.provider_rates
    ]


def steps(data: AttackData, plan: Plan, groups: Groups) -> list[Step]:
    """Every architecture, learning rate and group of attributes of the plan: one after the other, or in rounds."""
    if plan.rounds > 1:
        return [
            step
            for group in groups
            for step in Tournament(data, group, contestants(data, plan), plan.rounds).steps()
        ]
    return [
        Step(
            title=f"probe {architecture} {lr:g} on {', '.join(group)}",
            run=partial(train, data, group, make_recipe(plan, data, "probe", architecture, lr, plan.epochs)),
            work=epochs_of_work(architecture, plan.epochs),
        )
        for group in groups
        for architecture in plan.probes
        for lr in plan.rates
    ]
