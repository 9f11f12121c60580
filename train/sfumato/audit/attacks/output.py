"""Output: what the cloud's response says about a sensitive attribute.

The probabilities of the desired classes go to the service anyway. If they tell more than the desired label itself, the
co-trained networks have found a side channel. Three readers: a table from the decided classes, and logistic regression and
gradient boosting on the probabilities.

    predictions = [prediction for step in steps(data, QUICK, (("race",),)) for prediction in step.run()]
"""

from collections.abc import Iterable
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier
from torch import Tensor, nn

from sfumato.audit.attack_data import AttackData, batch_size, batches
from sfumato.audit.attacks.floors import table_scores
from sfumato.audit.attacks.provider import regress, to_scores
from sfumato.audit.attacks.taps import MASK_GRID, pooled
from sfumato.audit.plan import Plan
from sfumato.audit.predictions import Groups, Prediction, Step, all_attributes
from sfumato.data.label_cells import label_cells
from sfumato.models.tensors import evaluating


def cloud_responses(
    cloud: nn.Module, images: Iterable[Tensor], keep: tuple[str, ...], *, whole: bool = False
) -> dict[str, NDArray[Any]]:
    """Log probabilities of the cloud network per desired attribute, (n, classes).

    Of a mask their means over coarse cells, (n, classes * cells); `whole` gives the class of every cell instead, (n, rows,
    columns).
    """

    def found(logits: Tensor) -> Tensor:
        if logits.dim() == 4:
            return logits.argmax(1).byte() if whole else pooled(logits.log_softmax(1), MASK_GRID)
        return logits.log_softmax(1)

    parts: dict[str, list[Tensor]] = {name: [] for name in keep}
    with evaluating(cloud):
        # A comparison method may have a cloud without parameters.
        where = next((p.device for p in cloud.parameters()), torch.device("cpu"))
        for batch in images:
            logits = cloud(batch.to(where))
            for name in keep:
                parts[name].append(found(logits[name]).cpu())
    joined = {name: torch.cat(part) for name, part in parts.items()}
    return {name: (one if one.dim() == 3 else one.double()).numpy() for name, one in joined.items()}


def predict(data: AttackData, plan: Plan, attributes: tuple[str, ...]) -> list[Prediction]:
    """Three readers of the cloud's response, for every attribute."""
    generator = data.generator("output noise")
    base, draws = data.train.images, plan.stage_draws + 1
    rows = torch.arange(base).repeat(draws)
    uploads = (
        data.train.uploads(part, data.channel, generator)
        for part in torch.split(rows, batch_size(data.train.pixels))
    )
    splits: list[Iterable[Tensor]] = [uploads, batches(data.validation_uploads), batches(data.test_uploads)]
    responses = [cloud_responses(data.cloud, images, data.keep) for images in splits]
    train, validation, test = (
        np.concatenate([np.maximum(a, -20) for a in one.values()], axis=1) for one in responses
    )
    # A mask decides nothing about a picture as a whole: only the other two readers look at it.
    single = [name for name in data.keep if responses[0][name].shape[1] == data.classes[name]]
    counts = [data.classes[name] for name in single]
    decisions = [label_cells([one[name].argmax(1) for name in single], counts) for one in responses if single]

    predictions = []
    for name in attributes:
        labels = data.train.labels[name][rows.numpy()]
        prior, classes = data.prior(name), data.classes[name]
        readers = {}
        if single:
            readers["decision"] = [
                table_scores(decisions[0], labels, part, classes) for part in decisions[1:]
            ]
        linear = regress((train, validation, test), labels, data.validation_labels(name), prior)
        model = HistGradientBoostingClassifier(
            max_iter=60,
            max_leaf_nodes=8,
            learning_rate=0.1,
            random_state=data.seed_for("boosting") % 2**31,
        ).fit(train, labels)
        boosted = [
            to_scores(np.log(model.predict_proba(part) + 1e-9), model.classes_, prior)
            for part in (validation, test)
        ]
        for reader, scores in (readers | {"logistic": linear, "boosting": boosted}).items():
            predictions.append(
                Prediction(
                    attack="output", architecture=reader, attribute=name, validation=scores[0], test=scores[1]
                )
            )
    return predictions


def steps(data: AttackData, plan: Plan, groups: Groups) -> list[Step]:
    """One piece of work for all attributes."""
    attributes = all_attributes(groups)
    return [Step(title="output", run=partial(predict, data, plan, attributes))]
