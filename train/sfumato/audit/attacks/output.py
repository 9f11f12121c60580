"""Output: what the cloud's own answer says about a sensitive attribute.

The probabilities of the desired classes go to the service anyway. If they tell more than the desired label
itself, the co-trained networks have found a side channel. Logistic regression and gradient boosting on the
answers, and the plain table from the answered classes.

    answers = [answer for step in steps(evidence, QUICK, (("race",),)) for answer in step.run()]
"""

from functools import partial

import numpy as np
import torch
from sklearn.ensemble import HistGradientBoostingClassifier
from torch import Tensor, nn

from sfumato.audit.attack_data import Evidence, batches
from sfumato.audit.attacks.floors import cells, table_scores
from sfumato.audit.attacks.provider import regress, to_scores
from sfumato.audit.plan import Plan
from sfumato.audit.predictions import Answer, Floats, Step
from sfumato.models.tensors import evaluating


def cloud_answers(cloud: nn.Module, images: list[Tensor], keep: tuple[str, ...]) -> dict[str, Floats]:
    """Log probabilities of the cloud network per desired attribute, (n, classes)."""
    parts: dict[str, list[Tensor]] = {name: [] for name in keep}
    with evaluating(cloud):
        # A cloud that merely reads an answer has no parameters.
        where = next((p.device for p in cloud.parameters()), torch.device("cpu"))
        for batch in images:
            logits = cloud(batch.to(where))
            for name in keep:
                parts[name].append(logits[name].log_softmax(1).cpu())
    return {name: torch.cat(part).double().numpy() for name, part in parts.items()}


def guess(evidence: Evidence, plan: Plan, attributes: tuple[str, ...]) -> list[Answer]:
    """Three readers of the cloud's answer, for every attribute."""
    generator = evidence.generator("output noise")
    base, draws = evidence.train.images, plan.stage_draws + 1
    rows = torch.arange(base).repeat(draws)
    uploads = [evidence.train.uploads(part, evidence.channel, generator) for part in torch.split(rows, 256)]
    splits = [uploads, batches(evidence.validation_uploads), batches(evidence.test_uploads)]
    answered = [cloud_answers(evidence.cloud, images, evidence.keep) for images in splits]
    train, validation, test = (
        np.concatenate([np.maximum(a, -20) for a in one.values()], axis=1) for one in answered
    )
    counts = [evidence.classes[name] for name in evidence.keep]
    decided = [cells([one[name].argmax(1) for name in evidence.keep], counts) for one in answered]

    answers = []
    for name in attributes:
        labels = evidence.train.labels[name][rows.numpy()]
        prior, classes = evidence.prior(name), evidence.classes[name]
        table = [table_scores(decided[0], labels, part, classes) for part in decided[1:]]
        linear = regress((train, validation, test), labels, evidence.validation_labels(name), prior)
        model = HistGradientBoostingClassifier(
            max_iter=60,
            max_leaf_nodes=8,
            learning_rate=0.1,
            random_state=evidence.seed_for("boosting") % 2**31,
        ).fit(train, labels)
        boosted = [
            to_scores(np.log(model.predict_proba(part) + 1e-9), model.classes_, prior)
            for part in (validation, test)
        ]
        for reader, scores in (("answer", table), ("logistic", linear), ("boosting", boosted)):
            answers.append(
                Answer(
                    attack="output", architecture=reader, attribute=name, validation=scores[0], test=scores[1]
                )
            )
    return answers


def steps(evidence: Evidence, plan: Plan, groups: tuple[tuple[str, ...], ...]) -> list[Step]:
    """One piece of work for all attributes."""
    everything = tuple(name for group in groups for name in group)
    return [Step(title="output", run=partial(guess, evidence, plan, everything))]
