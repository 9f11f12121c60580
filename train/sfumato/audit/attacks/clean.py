"""Clean: networks trained on unperturbed images.

Their accuracy on clean test images is the reference of NAG: what could be learned if nothing were protected. Applied to
uploads they are the attack that most papers report, and a misleading one: it fails on any unfamiliar image, safe or not.

Beside a large cloud network the plan's small ones are a weak reference, and a weak reference makes a NAG large and coarse. So a
copy of such a cloud network is trained on clean images as well, as the attack `provider` trains one on uploads.

    for step in steps(data, QUICK, (("race",),)): step.run()
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import nn

from sfumato.audit import clean_cache
from sfumato.audit.attack_data import AttackData, batches
from sfumato.audit.attacks import provider
from sfumato.audit.attacks.fit import Recipe, epochs_of_work, fit, make_recipe, scores
from sfumato.audit.attacks.tournament import Contestant, Tournament
from sfumato.audit.plan import Plan
from sfumato.audit.predictions import Groups, Prediction, Step, all_attributes
from sfumato.models.attackers import create_attacker

LARGE = 10**6
"""Weights of a cloud network from which on a copy of it learns from clean images too; the plan's networks have fewer."""


def start(data: AttackData, group: tuple[str, ...], recipe: Recipe) -> nn.Module:
    """A network for a group of attributes, before any training."""
    torch.manual_seed(data.seed_for(f"clean/{recipe.architecture}/{group}/weights"))
    return create_attacker(
        recipe.architecture, {name: data.classes[name] for name in group}, data.size, data.photo_shape[0]
    )


def train(data: AttackData, group: tuple[str, ...], recipe: Recipe) -> list[Prediction]:
    """Predict clean images; uploads are predicted by the network as it is at the end.

    Clean photos do not depend on the artifact, so the network is trained once per data set and kept (`clean_cache`).
    """

    def trained() -> clean_cache.Kept:
        network = start(data, group, recipe)
        return clean_cache.Kept(recipe, network, fit(network, data, group, recipe))

    return predict(data, group, [recipe], 1, trained)


def compete(
    data: AttackData, group: tuple[str, ...], recipes: Sequence[Recipe], rounds: int
) -> list[Prediction]:
    """As `train`, for whichever of several networks a tournament trains to the end; the others are reported as they leave."""

    def trained() -> clean_cache.Kept:
        game = Tournament(data, group, [Contestant(start, recipe) for recipe in recipes], rounds)
        predictions = [one for number in range(1, rounds + 1) for one in game.play(number)]
        last = game.finished[0]
        return clean_cache.Kept(last.recipe, last.network, predictions)

    return predict(data, group, recipes, rounds, trained)


def predict(
    data: AttackData,
    group: tuple[str, ...],
    recipes: Sequence[Recipe],
    rounds: int,
    trained: Callable[[], clean_cache.Kept],
) -> list[Prediction]:
    """What is in the store, or what is trained now; and the network's word on uploads."""
    with torch.random.fork_rng():
        kept = clean_cache.clean_reference(data, group, recipes, rounds, start, trained)
    data.networks[kept.recipe.architecture] = kept.network.to(data.device)
    own = [one for one in kept.predictions if one.architecture == kept.recipe.architecture]
    return kept.predictions + applied(data, kept.network, own)


def applied(data: AttackData, network: nn.Module, found: Sequence[Prediction]) -> list[Prediction]:
    """The word of a network on uploads, as it is at the end; none where uploads are no images.

    Args:
        data: the attacker's.
        network: trained on clean images.
        found: what it predicts of those.
    """
    if data.upload_shape != data.photo_shape:
        return []
    names = tuple(one.attribute for one in found)
    validation = scores(network, batches(data.validation_uploads), names)
    test = scores(network, batches(data.test_uploads), names)
    # It has never seen an upload, so it is not calibrated on uploads either.
    return [
        replace(
            one,
            validation=validation[one.attribute],
            test=test[one.attribute],
            clean=False,
            calibrate=False,
            best_epoch=one.epochs,
        )
        for one in found
    ]


def finetune(data: AttackData, group: tuple[str, ...], recipe: Recipe) -> list[Prediction]:
    """Train a copy of the cloud network on clean images; kept for artifacts whose cloud network has the same weights."""

    def trained() -> clean_cache.Kept:
        network = provider.start(data, group, recipe)
        return clean_cache.Kept(recipe, network, fit(network, data, group, recipe))

    with torch.random.fork_rng():
        kept = clean_cache.clean_reference(data, group, [recipe], 1, provider.start, trained)
    return kept.predictions + applied(data, kept.network, kept.predictions)


def clean_network(data: AttackData, plan: Plan, group: tuple[str, ...]) -> tuple[str, nn.Module]:
    """Architecture and network of a clean attacker on these attributes: one that this audit has already, or a new one."""
    if not data.networks.keys() & set(plan.clean_probes):
        # An audit that goes on after an interruption does not run this step again: its network comes from the cache.
        steps(data, plan, (group,))[0].run()
    return next((name, data.networks[name]) for name in plan.clean_probes if name in data.networks)


def steps(data: AttackData, plan: Plan, groups: Groups) -> list[Step]:
    """Every clean architecture of the plan, all attributes together: one after the other, or in rounds."""
    attributes = all_attributes(groups)
    recipes = [
        make_recipe(plan, data, "clean", architecture, max(plan.rates), plan.clean_epochs)
        for architecture in plan.clean_probes
    ]
    if plan.clean_rounds > 1:
        game = Tournament(data, attributes, [Contestant(start, one) for one in recipes], plan.clean_rounds)
        work = sum(step.work for step in game.steps())
        run = partial(compete, data, attributes, recipes, plan.clean_rounds)
        small = [Step(title=f"{len(recipes)} clean network(s)", run=run, work=work)]
    else:
        small = [
            Step(
                title=f"clean {recipe.architecture}",
                run=partial(train, data, attributes, recipe),
                work=epochs_of_work(recipe.architecture, plan.clean_epochs),
            )
            for recipe in recipes
        ]
    if not plan.clean_finetune or sum(weight.numel() for weight in data.cloud.parameters()) < LARGE:
        return small
    recipe = make_recipe(plan, data, "clean", "finetune", max(plan.provider_rates), plan.provider_epochs)
    large = Step(
        title="clean finetune",
        run=partial(finetune, data, attributes, recipe),
        work=epochs_of_work("finetune", recipe.epochs),
    )
    return [*small, large]
