"""Networks behind a frozen front: a decoder, a filter or an estimator that looks at the upload first.

network = FrozenFront(Median(), create_attacker("cnn", classes, size))
"""

from typing import Self

import torch
from torch import Tensor, nn

from sfumato.audit.attack_data import AttackData, batches
from sfumato.audit.attacks.fit import Recipe, fit, scores
from sfumato.audit.predictions import Prediction
from sfumato.models.attackers import create_attacker
from sfumato.models.tensors import evaluating


class FrozenFront(nn.Module):
    """`network(front(x))`; the front is frozen and always in evaluation mode, no gradient enters it."""

    def __init__(self, front: nn.Module, network: nn.Module) -> None:
        super().__init__()
        self.front = front.requires_grad_(False).eval()
        self.network = network

    def train(self, mode: bool = True) -> Self:
        """Training mode for the network alone."""
        super().train(mode)
        self.front.eval()
        return self

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Upload (B, 3, H, W) -> scores per attribute."""
        with torch.no_grad():
            seen = self.front(x)
        scores: dict[str, Tensor] = self.network(seen)
        return scores


def apply(
    front: nn.Module,
    network: nn.Module,
    data: AttackData,
    attack: str,
    name: str,
    attributes: tuple[str, ...],
) -> list[Prediction]:
    """A finished network behind a front, as it is; only calibrated on validation."""
    both = FrozenFront(front, network).to(next(network.parameters()).device)
    validation = scores(both, batches(data.validation_uploads), attributes)
    test = scores(both, batches(data.test_uploads), attributes)
    return [
        Prediction(
            attack=attack, architecture=name, attribute=one, validation=validation[one], test=test[one]
        )
        for one in attributes
    ]


def retrain(
    front: nn.Module, data: AttackData, attributes: tuple[str, ...], recipe: Recipe
) -> list[Prediction]:
    """A cnn from scratch on what the front makes of uploads; fresh noise in every batch."""
    with torch.random.fork_rng():
        torch.manual_seed(data.seed_for(f"{recipe.attack}/{recipe.architecture}/weights"))
        classes = {name: data.classes[name] for name in attributes}
        (example,) = batches(data.validation_uploads[:1])
        with evaluating(front):
            planes = front(example.to(data.device)).shape[1]
        network = create_attacker("cnn", classes, data.size, planes)
        return fit(FrozenFront(front, network), data, attributes, recipe)
