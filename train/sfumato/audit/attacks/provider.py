"""Provider: attackers that start from the cloud network's own weights.

The cloud network is the one model that was trained to read these uploads, and the provider owns it. In
prototypes this attacker was the strongest. Two forms:
- finetune: a copy of the whole network under new heads, trained further at a lower rate;
- linear probes: logistic regression on the features of each stage, averaged over the image or over a 4x4
  grid.

    for step in steps(data, QUICK, (("race",),)): step.run()
"""

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from sfumato.audit.attack_data import AttackData, batch_size, batches
from sfumato.audit.attacks.fit import Recipe, epochs_of_work, fit, make_recipe
from sfumato.audit.attacks.taps import Taps, pooled
from sfumato.audit.plan import Plan
from sfumato.audit.predictions import (
    Floats,
    Groups,
    Ints,
    Prediction,
    Step,
    all_attributes,
    cross_entropy,
    log_posterior,
)
from sfumato.audit.rows import Gathered
from sfumato.models.tensors import evaluating

STRENGTHS = (1e-3, 3e-2)
"""Inverse regularisation C of the logistic regressions; chosen on validation."""
GRIDS = (1, 4)
MAX_FEATURES = 4096
"""Stage features with more numbers than this are left to the fine-tuned network."""


class Finetuned(nn.Module):
    """A copy of the cloud network under new linear heads on its last feature map and its logits."""

    def __init__(self, cloud: nn.Module, classes: Mapping[str, int], example: Tensor) -> None:
        super().__init__()
        self.taps = Taps(copy.deepcopy(cloud).requires_grad_(True))
        with evaluating(self.taps):
            width = self._features(example).shape[1]
        self.heads = nn.ModuleDict({name: nn.Linear(width, count) for name, count in classes.items()})

    def _features(self, x: Tensor) -> Tensor:
        features, logits = self.taps(x)
        maps = [value for value in features.values() if value.dim() == 4] or list(features.values())
        return torch.cat([pooled(value, 1) for value in maps[-1:]] + [logits], dim=1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """(B, 3, H, W) -> scores per attribute."""
        features = self._features(x)
        return {name: head(features) for name, head in self.heads.items()}


def start(data: AttackData, group: tuple[str, ...], recipe: Recipe) -> nn.Module:
    """A copy of the cloud network under new heads for a group of attributes, before any training."""
    torch.manual_seed(data.seed_for(f"provider/{recipe.lr}/{group}/weights"))
    where = next(data.cloud.parameters()).device
    example = next(iter(batches(data.test_uploads[:2]))).to(where)
    return Finetuned(data.cloud, {name: data.classes[name] for name in group}, example)


def finetune(data: AttackData, group: tuple[str, ...], recipe: Recipe) -> list[Prediction]:
    """Train a copy of the cloud network further, to recognise a group of attributes."""
    with torch.random.fork_rng():
        return fit(start(data, group, recipe), data, group, recipe)


@dataclass(frozen=True, kw_only=True)
class Features:
    """Stage features of the three splits, by stage and grid."""

    train: dict[str, NDArray[np.float32]]
    labels: dict[str, Ints]
    validation: dict[str, NDArray[np.float32]]
    test: dict[str, NDArray[np.float32]]


def stage_features(taps: Taps, images: Iterable[Tensor], count: int) -> dict[str, NDArray[np.float32]]:
    """`stage, grid` -> features (n, F) of the upload and of every stage that is not too wide, for batches of `count` images."""
    found: dict[str, Gathered] = {}
    with evaluating(taps):
        where = next(taps.parameters()).device
        for batch in images:
            # The upload itself comes first: a faint brightness of one place may be lost in every later stage.
            for stage, value in {"upload": batch, **taps(batch.to(where))[0]}.items():
                for grid in GRIDS if value.dim() == 4 else GRIDS[:1]:
                    flat = pooled(value, grid)
                    if flat.shape[1] <= MAX_FEATURES:
                        found.setdefault(f"{stage}, {grid}x{grid}", Gathered(count)).append(flat.cpu())
    return {name: every.tensor().numpy() for name, every in found.items()}


def read_features(data: AttackData, draws: int) -> Features:
    """Pass uploads of all splits through the frozen cloud network."""
    taps = Taps(copy.deepcopy(data.cloud))
    generator = data.generator("stage noise")
    base = data.train.images
    rows = torch.cat([torch.arange(base) + (draw % data.train.copies) * base for draw in range(draws)])
    uploads = (
        data.train.uploads(part, data.channel, generator)
        for part in torch.split(rows, batch_size(data.train.pixels))
    )
    return Features(
        train=stage_features(taps, uploads, len(rows)),
        labels={name: values[rows.numpy()] for name, values in data.train.labels.items()},
        validation=stage_features(taps, batches(data.validation_uploads), len(data.validation_uploads)),
        test=stage_features(taps, batches(data.test_uploads), len(data.test_uploads)),
    )


def regress(
    features: Sequence[NDArray[np.floating[Any]]], labels: Ints, truth: Ints, prior: Floats
) -> tuple[Floats, Floats]:
    """Logistic regression; returns the scores of validation and test for the best regularisation.

    Args:
        features: of training, validation and test, each (n, F).
        labels: of the training features.
        truth: labels of validation, to choose the regularisation.
        prior: log class frequencies.
    """
    # In float32 the fit takes a third of the time; probabilities differ in the sixth digit.
    single = [part.astype(np.float32, copy=False) for part in features]
    scaler = StandardScaler().fit(single[0])
    train, validation, test = (scaler.transform(part) for part in single)
    tried: list[tuple[float, Floats, Floats]] = []
    for strength in STRENGTHS:
        model = LogisticRegression(C=strength, max_iter=200, tol=1e-3).fit(train, labels)
        both = [
            to_scores(model.predict_log_proba(part), model.classes_, prior) for part in (validation, test)
        ]
        tried.append((cross_entropy(log_posterior(both[0], prior, 1.0), truth), both[0], both[1]))
    _, validation_scores, test_scores = min(tried, key=lambda item: item[0])
    return validation_scores, test_scores


def to_scores(log_probabilities: Floats, present: Ints, prior: Floats) -> Floats:
    """Posteriors of the classes seen in training -> scores (n, classes); the others get a very low one."""
    scores = np.full((len(log_probabilities), len(prior)), -20.0)
    scores[:, present] = np.maximum(log_probabilities, -20.0) - prior[present]
    return scores


def linear_probes(data: AttackData, plan: Plan, attributes: tuple[str, ...]) -> list[Prediction]:
    """Logistic regression at every stage of the plan, for every attribute."""
    features = read_features(data, plan.stage_draws)
    predictions = []
    for name in attributes:
        for stage in features.train if plan.stages is None else plan.stages:
            validation, test = regress(
                (features.train[stage], features.validation[stage], features.test[stage]),
                features.labels[name],
                data.validation_labels(name),
                data.prior(name),
            )
            predictions.append(
                Prediction(
                    attack="provider", architecture=stage, attribute=name, validation=validation, test=test
                )
            )
    return predictions


def steps(data: AttackData, plan: Plan, groups: Groups) -> list[Step]:
    """Linear probes for all attributes, then fine-tuning per group and learning rate, unless a tournament has it."""
    attributes = all_attributes(groups)
    work = [Step(title="provider stages", run=partial(linear_probes, data, plan, attributes), work=3)]
    if plan.stages == ():
        work = []
    for group in groups if plan.rounds == 1 and plan.finetune else ():
        for lr in plan.provider_rates:
            recipe = make_recipe(plan, data, "provider", "finetune", lr, plan.provider_epochs)
            work.append(
                Step(
                    title=f"provider finetune {lr:g} on {', '.join(group)}",
                    run=partial(finetune, data, group, recipe),
                    work=epochs_of_work("finetune", recipe.epochs),
                )
            )
    return work
