"""The residual rate against torch's own divergences and against exact mutual information on a toy."""

import itertools
import math

import pytest
import torch
from torch import Tensor

from sfumato.channels import create
from sfumato.channels.dither import Dither, binary_rate
from sfumato.channels.gaussian import Gaussian
from sfumato.data.label_cells import label_cells
from sfumato.training.rate_controller import RateController
from sfumato.training.regularisers.residual import MOMENTUM, References


@pytest.mark.parametrize("kind", ["dither", "gaussian"])
def test_rate_less_gain_is_torchs_divergence_and_has_its_slopes(kind: str) -> None:
    channel = create(kind)
    draws, references = ({name: torch.rand(n, 3, 4, 4) for name in channel.outputs} for n in (5, 2))
    for part in (draws, references):
        part.update({name: 0.02 + 0.96 * value for name, value in part.items()})
    leaves = {name: value.requires_grad_() for name, value in draws.items()}

    def slowly(k: int) -> Tensor:
        one, other = (
            torch.distributions.Bernoulli(p["p"])
            if kind == "dither"
            else torch.distributions.Normal(p["mean"], p["scale"])
            for p in (leaves, {name: value[k].expand(5, -1, -1, -1) for name, value in references.items()})
        )
        return torch.distributions.kl_divergence(one, other).flatten(1).sum(1)

    expected = torch.stack([slowly(0), slowly(1)], dim=1)
    found = channel.rate(leaves)[:, None] - channel.gain(leaves, references)
    assert torch.allclose(found, expected, rtol=1e-4)
    weights = torch.rand(5, 2)
    slopes = [
        torch.autograd.grad((value * weights).sum(), list(leaves.values())) for value in (found, expected)
    ]
    for ours, theirs in zip(*slopes, strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-3, atol=1e-5)


def test_a_small_divergence_of_many_bits_keeps_its_digits() -> None:
    """What training holds on to is a tenth of a nat among thousands of bits."""
    near = 0.5 + 0.004 * torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    other = {"p": near.mean(0, keepdim=True)}
    one, two = (torch.distributions.Bernoulli(value.double()) for value in (near, other["p"].expand_as(near)))
    expected = torch.distributions.kl_divergence(one, two).flatten(1).sum(1)
    assert 0.1 < expected.mean() < 1
    found = (Dither().rate({"p": near})[:, None] - Dither().gain({"p": near}, other))[:, 0]
    assert torch.allclose(found.double(), expected, rtol=0, atol=5e-4)


def test_certain_bits_have_a_rate_and_a_slope() -> None:
    p = torch.tensor([0.0, 1.0], requires_grad=True)
    binary_rate(p).sum().backward()
    assert binary_rate(p).tolist() == pytest.approx([math.log(2)] * 2)
    assert p.grad is not None
    assert p.grad.isfinite().all()
    assert torch.autograd.gradcheck(binary_rate, torch.rand(9, dtype=torch.float64, requires_grad=True))


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
    bound = references({"p": p}, cell, Dither().rate({"p": p})).mean().item()
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
    rate = Dither().rate({"p": p})
    assert references({"p": p}, answer, rate).abs().max() < 1e-5
    assert rate.min() > 0.1


def test_unseen_cells_count_nothing_and_running_means_move() -> None:
    references = References(Dither(), 3, (1, 1))
    first, second = torch.full((1, 3, 1, 1), 0.2), torch.full((1, 3, 1, 1), 0.7)
    zero = torch.tensor([0])
    assert references({"p": first}, zero, torch.ones(1)).item() == 0.0
    references.update({"p": first}, zero)
    references.update({"p": second}, zero)
    assert references.get_buffer("p")[0, 0].item() == pytest.approx(0.25)


def test_a_batch_moves_the_references_of_its_own_cells_alone() -> None:
    channel, generator = Gaussian(), torch.Generator().manual_seed(5)
    references = References(channel, 4, (2, 2))
    slow: dict[int, dict[str, Tensor]] = {}
    for cells in ([0, 0, 2, 0, 2], [2, 1, 1, 1, 2]):
        cell = torch.tensor(cells)
        parameters = {name: torch.rand(5, 3, 2, 2, generator=generator) for name in channel.outputs}
        references.update(parameters, cell)
        for k in set(cells):
            means = {n: v[cell == k].mean(0) for n, v in channel.to_moments(parameters).items()}
            slow[k] = (
                {n: MOMENTUM * slow[k][n] + (1 - MOMENTUM) * means[n] for n in means} if k in slow else means
            )
    assert references.get_buffer("seen").tolist() == [3, 3, 4, 0]
    for name in channel.moments:
        for k, means in slow.items():
            assert torch.allclose(references.get_buffer(name)[k], means[name], atol=1e-6)
        assert not references.get_buffer(name)[3].any()


def test_cells_number_every_combination_once() -> None:
    pairs = list(itertools.product(range(2), range(3)))
    labels = {"a": torch.tensor([a for a, _ in pairs]), "b": torch.tensor([b for _, b in pairs])}
    assert label_cells([labels["a"], labels["b"]], (2, 3)).tolist() == list(range(6))


def test_a_controller_holds_the_residual_at_its_goal_and_leaves_the_code_word() -> None:
    """Free uploads that want to say as much as they can: what is common to an answer may stay, the rest has to go."""
    generator = torch.Generator().manual_seed(0)
    logits = (0.5 * torch.randn(40, 3, 4, 4, generator=generator)).requires_grad_()
    cell, channel = torch.arange(40) % 2, Dither()
    references, controller = References(channel, 2, (4, 4)), RateController(steps=1600, goal=1.0)
    optimizer = torch.optim.Adam([logits], lr=0.03)
    for step in range(1600):
        parameters = {"p": logits.sigmoid()}
        rates = channel.rate(parameters)
        residual, rate = references(parameters, cell, rates).mean(), rates.mean()
        references.update(parameters, cell)
        loss = -0.02 * rate + controller.update(residual.item(), step) * residual
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
