"""White-box: the attacker knows the phone's network, estimates its parameters from the upload and reads both.

A decoder learns to tell, from one upload, the parameters it was drawn from: the noise-free part of what the phone computed.
A network from scratch then sees the upload with that estimate beside it.

    for step in steps(evidence, FULL, (("race",),)): step.run()
"""

from functools import partial

import torch

from sfumato.audit.attack_data import Evidence
from sfumato.audit.attacks.decoding import parameters, train_decoder
from sfumato.audit.attacks.fit import fit, recipe
from sfumato.audit.attacks.through import Through
from sfumato.audit.plan import Plan
from sfumato.audit.predictions import Answer, Step
from sfumato.models.attackers import cnn
from sfumato.models.decoder import Beside


def attack(evidence: Evidence, plan: Plan, lr: float, attributes: tuple[str, ...]) -> list[Answer]:
    """Train the estimator, then a network on upload and estimate."""
    estimator = train_decoder(evidence, parameters, pairs=evidence.train.images, steps=plan.decoder_steps)
    planes = 3 + sum(value.shape[1] for value in evidence.train.parameters.values())
    how = recipe(plan, evidence, "whitebox", "cnn on upload and estimated parameters", lr, plan.epochs)
    with torch.random.fork_rng():
        torch.manual_seed(evidence.seed_for(f"whitebox/{lr}/weights"))
        network = cnn({name: evidence.classes[name] for name in attributes}, evidence.size, planes)
        return fit(Through(Beside(estimator), network), evidence, attributes, how)


def steps(evidence: Evidence, plan: Plan, groups: tuple[tuple[str, ...], ...]) -> list[Step]:
    """One network for all attributes, at every learning rate of the probes."""
    everything = tuple(name for group in groups for name in group)
    return [
        Step(title=f"white-box {lr:g}", run=partial(attack, evidence, plan, lr, everything))
        for lr in plan.rates
    ]
