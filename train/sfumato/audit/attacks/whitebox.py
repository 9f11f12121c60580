"""White-box: the attacker knows the phone's network, estimates its parameters from the upload and reads both.

A decoder learns to tell, from one upload, the parameters it was drawn from: the noise-free part of what the phone computed.
A network from scratch then sees the upload with that estimate beside it.

    for step in steps(data, FULL, (("race",),)): step.run()
"""

from functools import partial

import torch

from sfumato.audit.attack_data import AttackData
from sfumato.audit.attacks.decoder_training import parameters, train_decoder
from sfumato.audit.attacks.fit import fit, make_recipe
from sfumato.audit.attacks.frozen_front import FrozenFront
from sfumato.audit.plan import Plan
from sfumato.audit.predictions import Groups, Prediction, Step, all_attributes
from sfumato.models.attackers import cnn
from sfumato.models.decoder import Beside


def attack(data: AttackData, plan: Plan, lr: float, attributes: tuple[str, ...]) -> list[Prediction]:
    """Train the estimator, then a network on upload and estimate."""
    estimator = train_decoder(data, parameters, pairs=data.train.images, steps=plan.decoder_steps)
    planes = data.upload_shape[0] + sum(value.shape[1] for value in data.train.parameters.values())
    recipe = make_recipe(plan, data, "whitebox", "cnn on upload and estimated parameters", lr, plan.epochs)
    with torch.random.fork_rng():
        torch.manual_seed(data.seed_for(f"whitebox/{lr}/weights"))
        network = cnn({name: data.classes[name] for name in attributes}, data.size, planes)
        return fit(FrozenFront(Beside(estimator), network), data, attributes, recipe)


def steps(data: AttackData, plan: Plan, groups: Groups) -> list[Step]:
    """One network for all attributes, at every learning rate of the probes."""
    attributes = all_attributes(groups)
    return [
        Step(title=f"white-box {lr:g}", run=partial(attack, data, plan, lr, attributes)) for lr in plan.rates
    ]
