"""How well the cloud does on a split, clean or through the channel, and what the uploads carry.

result = evaluate(cloud, batches, local, seed=0)      # local=None: clean images
result.accuracy, result.rate_bits
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import log

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sfumato.channels import prior_rate
from sfumato.data import Dataset, Split
from sfumato.data.truth import MaskTruth, truths
from sfumato.models.autoregressive import AutoregressivePrior, nats_saved
from sfumato.models.local import LocalNetwork
from sfumato.models.tensors import evaluating
from sfumato.training.loader import Batches


@dataclass(frozen=True)
class Evaluation:
    """Figures over one split.

    Attributes:
        accuracy_by_head: mean credit (`sfumato.data.truth`), per kept attribute: the fraction right, of a number the share
            of a guess's error that is gone, of a mask the mean intersection over union.
        cross_entropy: nats, averaged over heads.
        rate_bits: mean rate of the uploads in bits against the uniform prior; None for clean images.
        autoregressive_bits: the same against an autoregressive prior (`sfumato.models.autoregressive`); None without one.
        cells_right: of kept masks, the share of cells whose class is named rightly.
    """

    accuracy_by_head: dict[str, float]
    cross_entropy: float
    rate_bits: float | None
    autoregressive_bits: float | None = None
    cells_right: Mapping[str, float] = field(default_factory=dict)

    @property
    def prior_bits(self) -> float | None:
        """The rate against the autoregressive prior where there is one, else against the uniform one."""
        return self.rate_bits if self.autoregressive_bits is None else self.autoregressive_bits

    @property
    def accuracy(self) -> float:
        """Mean over heads, a fraction."""
        return sum(self.accuracy_by_head.values()) / len(self.accuracy_by_head)


def evaluate(
    cloud: nn.Module,
    batches: Batches,
    local: LocalNetwork | None = None,
    *,
    seed: int = 0,
    prior: AutoregressivePrior | None = None,
) -> Evaluation:
    """Evaluate on a split; the noise is fixed by `seed`, so two calls give the same figures."""
    generator = torch.Generator(device=batches.device).manual_seed(seed)
    scores: dict[str, list[Tensor]] = {}
    entropy, nats, learned, count = 0.0, 0.0, 0.0, 0
    with evaluating(*(module for module in (cloud, local, prior) if module is not None)):
        for batch in batches.ordered():
            upload = batch.images
            if local is not None:
                parameters = local(batch.images)
                upload = local.channel.sample(parameters, local.channel.noise(parameters, generator))
                nats += prior_rate(local.channel, parameters).sum().item()
                if prior is not None:
                    p = parameters["p"]
                    learned += (local.channel.rate(parameters) - nats_saved(p, prior(upload))).sum().item()
            logits = cloud(upload)
            for name, of_head in logits.items():
                wanted = batch.labels[name]
                scores.setdefault(name, []).append(kept_scores(of_head))
                total = F.cross_entropy(of_head, wanted, reduction="sum").item()
                entropy += total * len(wanted) / wanted.numel() / len(logits)
            count += len(batch.images)
    return Evaluation(
        mean_credits(batches.dataset, batches.split, scores),
        entropy / count,
        None if local is None else nats / count / log(2),
        None if prior is None else learned / count / log(2),
        mean_cells_right(batches.dataset, batches.split, scores),
    )


def figure_name(dataset: Dataset, names: Sequence[str]) -> str:
    """What `Evaluation.accuracy` of these attributes is: the accuracy of classes, the credit of numbers and masks."""
    return "accuracy" if {*names}.isdisjoint({*dataset.numbers, *dataset.masks}) else "credit"


def kept_scores(logits: Tensor) -> Tensor:
    """What is kept of logits (b, classes), on the CPU; of a mask's the class of every cell, since all would take gigabytes."""
    return (logits.argmax(1).byte() if logits.dim() == 4 else logits).cpu()


def mean_credits(dataset: Dataset, split: Split, scores: Mapping[str, Sequence[Tensor]]) -> dict[str, float]:
    """Mean credit of the images of a split, per attribute.

    Args:
        dataset, split: whose images were asked about.
        scores: `kept_scores` of batches that follow each other, per attribute.
    """
    facts = truths(dataset, list(scores), dataset.splits[split])
    found = {name: torch.cat(list(parts)).numpy() for name, parts in scores.items()}
    return {
        name: float((one.credit_of if isinstance(one, MaskTruth) else one.credit)(found[name]).mean())
        for name, one in facts.items()
    }


def mean_cells_right(
    dataset: Dataset, split: Split, scores: Mapping[str, Sequence[Tensor]]
) -> dict[str, float]:
    """Of kept masks, the share of all cells that is right. Arguments as of `mean_credits`."""
    facts = truths(dataset, list(scores), dataset.splits[split])
    masks = {name: one for name, one in facts.items() if isinstance(one, MaskTruth)}
    return {name: one.cells_right(torch.cat(list(scores[name])).numpy()) for name, one in masks.items()}
