"""Probe: networks trained from scratch on (upload, label) pairs that the attacker makes itself.

The headline of every audit. Each epoch draws fresh noise; several architectures and learning rates are tried,
because they fail in different ways: the linear one finds patterns spread over the whole image, convolutions
find local ones.

    for step in steps(evidence, QUICK, (("race",),)): step.run()
"""

from functools import partial

import torch

from sfumato.audit.attack_data import Evidence
from sfumato.audit.attacks.fit import Recipe, fit, recipe
from sfumato.audit.plan import Plan
from sfumato.audit.predictions import Answer, Step
from sfumato.models.attackers import create_attacker


def train(evidence: Evidence, group: tuple[str, ...], how: Recipe) -> list[Answer]:
    """Train one architecture from scratch for a group of attributes."""
    with torch.random.fork_rng():
        torch.manual_seed(evidence.seed_for(f"{how.attack}/{how.architecture}/{how.lr}/{group}/weights"))
        planes, *size = evidence.upload_shape
        classes = {name: evidence.classes[name] for name in group}
        network = create_attacker(how.architecture, classes, (size[0], size[1]), planes)
        return fit(network, evidence, group, how)


def steps(evidence: Evidence, plan: Plan, groups: tuple[tuple[str, ...], ...]) -> list[Step]:
    """Every architecture, learning rate and group of attributes of the plan."""
    return [
        Step(
            title=f"probe {architecture} {lr:g} on {', '.join(group)}",
            run=partial(
                train, evidence, group, recipe(plan, evidence, "probe", architecture, lr, plan.epochs)
            ),
        )
        for group in groups
        for architecture in plan.probes
        for lr in plan.rates
    ]
