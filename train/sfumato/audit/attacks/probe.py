"""Probe: networks trained from scratch on (upload, label) pairs that the attacker makes itself.

The main attack of every audit. Each epoch draws fresh noise; several architectures and learning rates are tried,
because they fail in different ways: the linear one finds patterns spread over the whole image, convolutions
find local ones.

    for step in steps(data, QUICK, (("race",),)): step.run()
"""

from functools import partial

import torch

from sfumato.audit.attack_data import AttackData
from sfumato.audit.attacks.fit import Recipe, fit, make_recipe
from sfumato.audit.plan import Plan
from sfumato.audit.predictions import Groups, Prediction, Step
from sfumato.models.attackers import create_attacker


def train(data: AttackData, group: tuple[str, ...], recipe: Recipe) -> list[Prediction]:
    """Train one architecture from scratch for a group of attributes."""
    with torch.random.fork_rng():
        torch.manual_seed(data.seed_for(f"{recipe.attack}/{recipe.architecture}/{recipe.lr}/{group}/weights"))
        planes, *size = data.upload_shape
        classes = {name: data.classes[name] for name in group}
        network = create_attacker(recipe.architecture, classes, (size[0], size[1]), planes)
        return fit(network, data, group, recipe)


def steps(data: AttackData, plan: Plan, groups: Groups) -> list[Step]:
    """Every architecture, learning rate and group of attributes of the plan."""
    return [
        Step(
            title=f"probe {architecture} {lr:g} on {', '.join(group)}",
            run=partial(train, data, group, make_recipe(plan, data, "probe", architecture, lr, plan.epochs)),
        )
        for group in groups
        for architecture in plan.probes
        for lr in plan.rates
    ]
