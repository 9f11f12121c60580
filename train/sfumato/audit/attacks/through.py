"""Networks behind a fixed front: a restorer, a filter or an estimator that looks at the upload first.

network = Through(Median(), create_attacker("cnn", classes, size))
"""

from typing import Self

import torch
from torch import Tensor, nn

from sfumato.audit.attack_data import Evidence, batches
from sfumato.audit.attacks.fit import Recipe, fit, scores
from sfumato.audit.predictions import Answer
from sfumato.models.attackers import create_attacker


class Through(nn.Module):
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
        answer: dict[str, Tensor] = self.network(seen)
        return answer


def apply(
    front: nn.Module,
    network: nn.Module,
    evidence: Evidence,
    attack: str,
    name: str,
    attributes: tuple[str, ...],
) -> list[Answer]:
    """A finished network behind a front, as it is; only its confidence is put right on validation."""
    both = Through(front, network).to(next(network.parameters()).device)
    validation = scores(both, batches(evidence.validation_uploads), attributes)
    test = scores(both, batches(evidence.test_uploads), attributes)
    return [
        Answer(attack=attack, architecture=name, attribute=one, validation=validation[one], test=test[one])
        for one in attributes
    ]


def retrain(front: nn.Module, evidence: Evidence, attributes: tuple[str, ...], how: Recipe) -> list[Answer]:
    """A cnn from scratch on what the front makes of uploads; fresh noise in every batch."""
    with torch.random.fork_rng():
        torch.manual_seed(evidence.seed_for(f"{how.attack}/{how.architecture}/weights"))
        classes = {name: evidence.classes[name] for name in attributes}
        return fit(Through(front, create_attacker("cnn", classes, evidence.size)), evidence, attributes, how)
