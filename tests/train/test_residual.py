"""The residual rate against torch's own divergences and against exact mutual information on a toy."""

import itertools
import math

import pytest
import torch

from sfumato.channels.dither import Dither
from sfumato.channels.gaussian import Gaussian
from sfumato.controller import RateController
from sfumato.residual import References, label_cells


def test_divergence_of_bits_is_torchs() -> None:
    p, q = torch.rand(3, 3, 4, 4), torch.rand(3, 3, 4, 4).clamp(0.01, 0.99)
    expected = torch.distributions.kl_divergence(
        torch.distributions.Bernoulli(p), torch.distributions.Bernoulli(q)
    )
    assert torch.allclose(Dither().divergence({"p": p}, {"p": q}), expected.flatten(1).sum(1), rtol=1e-4)


def test_divergence_of_gaussians_is_torchs() -> None:
    a = {"mean": torch.rand(2, 3, 4, 4), "scale": torch.rand(2, 3, 4, 4) + 0.1}
    b = {"mean": torch.rand(2, 3, 4, 4), "scale": torch.rand(2, 3, 4, 4) + 0.1}
    normal = torch.distributions.Normal
    expected = torch.distributions.kl_divergence(normal(a["mean"], a["scale"]), normal(b["mean"], b["scale"]))
    assert torch.allclose(Gaussian().divergence(a, b), expected.flatten(1).sum(1), rtol=1e-4)


def test_moments_of_a_gaussian_mixture() -> None:
    channel = Gaussian()
    parts = {
        "mean": torch.tensor([0.2, 0.8]).view(2, 1, 1, 1),
        "scale": torch.tensor([0.1, 0.3]).view(2, 1, 1, 1),
    }
    moments = {name: value.mean(0, keepdim=True) for name, value in channel.to_moments(parts).items()}
    mixed = channel.from_moments(moments)
    assert mixed["mean"].item() == pytest.approx(0.5)
    assert mixed["scale"].item() == pytest.approx(math.sqrt((0.01 + 0.09) / 2 + 0.09), rel=1e-5)


def test_the_residual_rate_bounds_what_is_left_beyond_the_answer() -> None:
    """Four images, two answers, three bits: I(X'; X | Y) by enumeration, and the bound is the mean residual rate."""
    p = torch.rand(4, 3, 1, 1, generator=torch.Generator().manual_seed(3))
    cell = torch.tensor([0, 0, 1, 1])
    references = References(Dither(), 2, (1, 1))
    references.update({"p": p}, cell)
    bound = references({"p": p}, cell).mean().item()
    exact = 0.0
    for label in (0, 1):
        images = p[cell == label].flatten(1)
        for bits in itertools.product((0, 1), repeat=3):
            drawn = torch.tensor(bits, dtype=torch.float32)
            chance = (images * drawn + (1 - images) * (1 - drawn)).prod(1)  # p(x'|x)
            exact += 0.5 * (0.5 * chance * (chance / chance.mean()).log()).sum().item()
    assert 0 < exact <= bound + 1e-6


def test_an_upload_that_says_only_the_answer_has_no_residual() -> None:
    answer = torch.tensor([0, 1, 0, 1])
    p = torch.where(answer == 1, 0.8, 0.3).view(4, 1, 1, 1).expand(4, 3, 2, 2)
    references = References(Dither(), 2, (2, 2))
    references.update({"p": p}, answer)
    assert references({"p": p}, answer).abs().max() < 1e-5
    assert Dither().rate({"p": p}).min() > 0.1


def test_unseen_cells_count_nothing_and_running_means_move() -> None:
    references = References(Dither(), 3, (1, 1))
    first, second = torch.full((1, 3, 1, 1), 0.2), torch.full((1, 3, 1, 1), 0.7)
    zero = torch.tensor([0])
    assert references({"p": first}, zero).item() == 0.0
    references.update({"p": first}, zero)
    references.update({"p": second}, zero)
    assert references.get_buffer("p")[0, 0].item() == pytest.approx(0.25)


def test_cells_number_every_combination_once() -> None:
    pairs = list(itertools.product(range(2), range(3)))
    labels = {"a": torch.tensor([a for a, _ in pairs]), "b": torch.tensor([b for _, b in pairs])}
    assert label_cells(labels, ("a", "b"), (2, 3)).tolist() == list(range(6))


def test_a_controller_holds_the_residual_at_its_goal_and_leaves_the_code_word() -> None:
    """Free uploads that want to say as much as they can: what is common to an answer may stay, the rest has to go."""
    generator = torch.Generator().manual_seed(0)
    logits = (0.5 * torch.randn(40, 3, 4, 4, generator=generator)).requires_grad_()
    cell, channel = torch.arange(40) % 2, Dither()
    references, controller = References(channel, 2, (4, 4)), RateController(steps=400, goal=1.0)
    optimizer = torch.optim.Adam([logits], lr=0.03)
    for step in range(400):
        parameters = {"p": logits.sigmoid()}
        residual, rate = references(parameters, cell).mean(), channel.rate(parameters).mean()
        references.update(parameters, cell)
        loss = -0.2 * rate + controller.update(residual.item(), step) * residual
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert residual.item() == pytest.approx(1.0, rel=0.4)
    assert rate.item() > 10


def test_a_controller_waits_until_something_was_measured() -> None:
    controller = RateController(steps=10, goal=1.0)
    assert controller.update(0.0, 0) == 0.0
    assert controller.update(50.0, 1) > 0.0
    assert controller.start == 50.0
