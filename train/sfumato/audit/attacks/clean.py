"""Clean: networks trained on unperturbed images.

Their accuracy on clean test images is the yardstick: what could be learned if nothing were protected. Applied
to uploads they are the attack that most papers report, and a misleading one: it fails on any unfamiliar
image, safe or not.

    for step in steps(evidence, QUICK, (("race",),)): step.run()
"""

from dataclasses import replace
from functools import partial

import torch
from torch import nn

from sfumato.audit.attack_data import Evidence, batches
from sfumato.audit.attacks.fit import Recipe, fit, recipe, scores
from sfumato.audit.plan import Plan
from sfumato.audit.predictions import Answer, Step
from sfumato.models.attackers import create_attacker


def train(evidence: Evidence, group: tuple[str, ...], how: Recipe) -> list[Answer]:
    """Train on clean images; answer for clean images, and as the network stands at the end for uploads."""
    with torch.random.fork_rng():
        torch.manual_seed(evidence.seed_for(f"clean/{how.architecture}/{group}/weights"))
        network = create_attacker(
            how.architecture, {name: evidence.classes[name] for name in group}, evidence.size
        )
        answers = fit(network, evidence, group, how)
    evidence.networks[how.architecture] = network
    if evidence.upload_shape != (3, *evidence.size):
        return answers  # a network for images cannot read features
    validation = scores(network, batches(evidence.validation_uploads), group)
    test = scores(network, batches(evidence.test_uploads), group)
    # It has never seen an upload, so it is not calibrated on uploads either.
    applied = [
        replace(
            answer,
            validation=validation[answer.attribute],
            test=test[answer.attribute],
            clean=False,
            calibrate=False,
            best_epoch=answer.epochs,
        )
        for answer in answers
    ]
    return answers + applied


def trained(evidence: Evidence, plan: Plan, group: tuple[str, ...]) -> tuple[str, nn.Module]:
    """Architecture and network of a clean attacker on these attributes: one that this audit has already, or a new one."""
    for architecture in plan.clean_probes:
        if architecture in evidence.networks:
            return architecture, evidence.networks[architecture]
    name = plan.clean_probes[0]
    train(evidence, group, recipe(plan, evidence, "clean", name, max(plan.rates), plan.clean_epochs))
    return name, evidence.networks[name]


def steps(evidence: Evidence, plan: Plan, groups: tuple[tuple[str, ...], ...]) -> list[Step]:
    """Every clean architecture of the plan, all attributes together."""
    everything = tuple(name for group in groups for name in group)
    return [
        Step(
            title=f"clean {architecture}",
            run=partial(
                train,
                evidence,
                everything,
                recipe(plan, evidence, "clean", architecture, max(plan.rates), plan.clean_epochs),
            ),
        )
        for architecture in plan.clean_probes
    ]
