"""The mixture bound against mutual information by enumeration."""

import itertools
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from sfumato.audit.bounds import fit_mixture, information_bounds
from sfumato.channels.dither import Dither
from sfumato.channels.gaussian import Gaussian


def mutual_information(p: Tensor) -> float:
    """I(X; X') in bits for equally likely images with bit probabilities p (N, D), by enumeration."""
    total = 0.0
    for bits in itertools.product((0, 1), repeat=p.shape[1]):
        drawn = torch.tensor(bits, dtype=torch.float64)
        chance = (p * drawn + (1 - p) * (1 - drawn)).prod(1)  # p(x'|x)
        total += (chance / len(p) * (chance / chance.mean()).clamp_min(1e-300).log2()).sum().item()
    return total


def attack_data(p: Tensor, answers: Tensor) -> Any:
    """Images (N, 3, 1, 1) that serve as attacker's and test images alike."""
    split = SimpleNamespace(images=len(p), parameters={"p": p}, labels={"answer": answers.numpy()})
    return SimpleNamespace(
        train=split, test=split, keep=("answer",), classes={"answer": 2}, channel=Dither(levels=2)
    )


@pytest.mark.parametrize("seed", range(5))
def test_it_bounds_the_mutual_information(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    p = torch.rand(8, 3, 2, 1, generator=generator)
    bound = information_bounds(attack_data(p, torch.arange(8) % 2))
    assert mutual_information(p.flatten(1).double()) <= bound.total + 1e-6
    assert bound.total == pytest.approx(bound.answer + bound.residual)


def test_two_code_words_cost_one_bit_however_often_they_are_repeated() -> None:
    answers = torch.arange(6) % 2
    p = torch.where(answers[:, None, None, None] == 1, 0.9, 0.1) * torch.ones(6, 3, 8, 8)
    bound = information_bounds(attack_data(p, answers))
    rate = Dither(levels=2).rate({"p": p}).mean().item() / 0.6931471805599453
    assert rate > 90
    assert bound.answer == pytest.approx(1.0)
    assert bound.residual == pytest.approx(0.0, abs=1e-4)


def test_wrong_labels_are_mended_by_the_fit() -> None:
    truth = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1])
    p = torch.where(truth[:, None, None, None] == 1, 0.8, 0.2) * torch.ones(8, 3, 4, 4)
    labels = truth.clone()
    labels[0], labels[7] = 1, 0
    assert information_bounds(attack_data(p, labels)).residual == pytest.approx(0.0, abs=1e-4)


def test_an_empty_upload_tells_nothing() -> None:
    bound = information_bounds(attack_data(torch.full((4, 3, 4, 4), 0.5), torch.tensor([0, 1, 0, 1])))
    assert bound.residual == pytest.approx(0.0, abs=1e-6)
    assert bound.total <= 1.0 + 1e-6


def test_gaussian_references() -> None:
    mean = torch.tensor([0.2, 0.8, 0.2, 0.8])[:, None, None, None] * torch.ones(4, 3, 4, 4)
    parameters = {"mean": mean, "scale": torch.full_like(mean, 0.3)}
    reference, log_weight = fit_mixture(Gaussian(), parameters, torch.tensor([0, 1, 0, 1]))
    assert reference["mean"][:, 0, 0, 0].tolist() == pytest.approx([0.2, 0.8])
    assert log_weight.exp().tolist() == pytest.approx([0.5, 0.5])
