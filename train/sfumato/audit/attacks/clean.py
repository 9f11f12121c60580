"""Clean: networks trained on unperturbed images.

Their accuracy on clean test images is the reference of NAG: what could be learned if nothing were protected. Applied to
uploads they are the attack that most papers report, and a misleading one: it fails on any unfamiliar image, safe or not.

    for step in steps(data, QUICK, (("race",),)): step.run()
"""

from dataclasses import replace
from functools import partial

import torch
from torch import nn

from sfumato.audit import clean_cache
from sfumato.audit.attack_data import AttackData, batches
from sfumato.audit.attacks.fit import Recipe, epochs_of_work, fit, make_recipe, scores
from sfumato.audit.plan import Plan
from sfumato.audit.predictions import Groups, Prediction, Step, all_attributes
from sfumato.models.attackers import create_attacker


def train(data: AttackData, group: tuple[str, ...], recipe: Recipe) -> list[Prediction]:
    """Predict clean images; uploads are predicted by the network as it is at the end.

    Clean photos do not depend on the artifact, so the network is trained once per data set and kept in the cache.
    """
    classes = {name: data.classes[name] for name in group}
    with torch.random.fork_rng():
        torch.manual_seed(data.seed_for(f"clean/{recipe.architecture}/{group}/weights"))
        network = create_attacker(recipe.architecture, classes, data.size)
        entry = clean_cache.entry(data, group, recipe)
        predictions = clean_cache.load(entry, network)
        if predictions is None:
            predictions = fit(network, data, group, recipe)
            clean_cache.save(entry, network, predictions)
    data.networks[recipe.architecture] = network
    if data.upload_shape != (3, *data.size):
        return predictions  # a network for images cannot read features
    validation = scores(network, batches(data.validation_uploads), group)
    test = scores(network, batches(data.test_uploads), group)
    # It has never seen an upload, so it is not calibrated on uploads either.
    applied = [
        replace(
            prediction,
            validation=validation[prediction.attribute],
            test=test[prediction.attribute],
            clean=False,
            calibrate=False,
            best_epoch=prediction.epochs,
        )
        for prediction in predictions
    ]
    return predictions + applied


def clean_network(data: AttackData, plan: Plan, group: tuple[str, ...]) -> tuple[str, nn.Module]:
    """Architecture and network of a clean attacker on these attributes: one that this audit has already, or a new one."""
    for architecture in plan.clean_probes:
        if architecture in data.networks:
            return architecture, data.networks[architecture]
    name = plan.clean_probes[0]
    train(data, group, make_recipe(plan, data, "clean", name, max(plan.rates), plan.clean_epochs))
    return name, data.networks[name]


def steps(data: AttackData, plan: Plan, groups: Groups) -> list[Step]:
    """Every clean architecture of the plan, all attributes together."""
    attributes = all_attributes(groups)
    return [
        Step(
            title=f"clean {architecture}",
            run=partial(
                train,
                data,
                attributes,
                make_recipe(plan, data, "clean", architecture, max(plan.rates), plan.clean_epochs),
            ),
            work=epochs_of_work(architecture, plan.clean_epochs),
        )
        for architecture in plan.clean_probes
    ]
