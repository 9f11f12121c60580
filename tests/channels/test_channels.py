"""Channels against the slow, obvious computation."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sfumato.channels import CHANNELS, create
from sfumato.channels.dither import STEP_GAIN, SUBSAMPLES, Dither, binary_rate, folded
from sfumato.channels.gaussian import Gaussian
from sfumato.core.errors import UsageError
from sfumato.runtime import contract, sampler


@pytest.mark.parametrize("levels", [2, 4, 16])
def test_dither_rate_equals_exact_enumeration(levels: int) -> None:
    """Sum p(x'|x) log(p(x'|x) / r(x')) over every possible upload of a one-pixel image."""
    channel = Dither(levels)
    planes = channel.outputs["p"]
    p = torch.rand(1, planes, 1, 1, generator=torch.Generator().manual_seed(levels), dtype=torch.float64)
    total = 0.0
    for bits in itertools.product((0, 1), repeat=planes):
        probability = math.prod(
            q if bit else 1 - q for bit, q in zip(bits, p.flatten().tolist(), strict=True)
        )
        total += probability * math.log(probability / 2**-planes)
    assert channel.rate({"p": p}).item() == pytest.approx(total, rel=1e-9)


@pytest.mark.parametrize("levels", [2, 4, 16])
def test_dither_draws_every_level_with_its_exact_probability(levels: int) -> None:
    channel = Dither(levels)
    p = torch.rand(1, channel.outputs["p"], 1, 1, generator=torch.Generator().manual_seed(1))
    draws = 40_000
    many = {"p": p.expand(draws, -1, -1, -1)}
    upload = channel.sample(many, channel.noise(many, torch.Generator().manual_seed(2)))
    values = (upload[:, 0, 0, 0] * (levels - 1)).round().long()
    assert torch.allclose(upload[:, 0, 0, 0] * (levels - 1), values.float(), atol=1e-5)
    for level in range(levels):
        expected = 1.0
        for plane in range(channel.bits):
            one = p[0, 3 * plane, 0, 0].item()  # plane j of colour 0 is channel 3 j
            expected *= one if level >> (channel.bits - 1 - plane) & 1 else 1 - one
        seen = (values == level).float().mean().item()
        assert abs(seen - expected) < 5 * math.sqrt(expected * (1 - expected) / draws) + 1e-6


def test_dither_noise_is_uniform_and_repeats_with_its_seed() -> None:
    channel, given = Dither(2), {"p": torch.rand(5, 3, 33, 31)}
    noise = channel.noise(given, torch.Generator().manual_seed(3))
    assert noise.shape == given["p"].shape
    assert torch.equal(noise, channel.noise(given, torch.Generator().manual_seed(3)))
    assert not torch.equal(noise, channel.noise(given, torch.Generator().manual_seed(4)))
    assert noise.min() > 0
    assert noise.max() < 1
    counts = torch.histc(noise, 16, 0, 1)
    expected = noise.numel() / 16
    assert (
        (counts - expected) ** 2 / expected
    ).sum() < 45  # chi-squared, 15 degrees of freedom: one in 10,000
    # Neighbours come out of one draw of the generator; they know nothing of each other.
    centred = noise.flatten() - 0.5
    for lag in (1, 2, 3, 4):
        assert abs((centred[lag:] * centred[:-lag]).mean() * 12) < 4 / len(centred) ** 0.5


def test_dither_uploads_are_exact_levels() -> None:
    p = torch.rand(2, 3, 8, 8)
    upload = Dither(2).sample({"p": p}, torch.rand(2, 3, 8, 8))
    assert set(upload.unique().tolist()) == {0.0, 1.0}


@pytest.mark.parametrize("levels", [2, 4, 16])
def test_a_gray_code_starts_as_an_even_dither(levels: int) -> None:
    """An even ramp, with gate and offset as training starts: every draw is one of the two nearest levels, but for rare ones."""
    channel, steps, draws = Dither(levels, gray=True), 241, 400
    x = torch.linspace(0, 1, steps).view(1, 1, 1, steps).expand(draws, 3, 1, steps)
    maps = {
        name: torch.full((1, planes, 1, steps), channel.starts[name]) for name, planes in channel.maps.items()
    }
    p = channel.parameters(x, maps)
    upload = channel.sample(p, channel.noise(p, torch.Generator().manual_seed(0)))
    within = (upload - x).abs() * (levels - 1) <= 1 + 1e-4
    assert within.float().mean() > 0.99
    slope = STEP_GAIN / (1 + math.exp(-channel.starts["gate"]))
    for value, found in zip(
        (x[0, 0, 0] * (levels - 1)).tolist(), (upload.mean((0, 1, 2)) * (levels - 1)).tolist(), strict=True
    ):
        below = min(int(value), levels - 2)
        assert found == pytest.approx(below + 1 / (1 + math.exp(-slope * (value - below - 0.5))), abs=0.07)
    assert channel.settings["gray"] is True


@pytest.mark.parametrize("levels", [4, 16])
def test_a_gray_bit_turns_over_where_the_nearest_level_s_does(levels: int) -> None:
    x = torch.linspace(0, 1, 1000, dtype=torch.float64)
    nearest = (x * (levels - 1)).round().long()
    code = nearest ^ (nearest >> 1)
    bits = folded(x, levels)
    for bit, distance in enumerate(bits):
        assert torch.equal((distance > 0).long(), (code >> (len(bits) - 1 - bit)) & 1)


@pytest.mark.parametrize("levels", [2, 4, 16])
def test_all_gray_codes_are_drawn_and_read_back(levels: int) -> None:
    """Every combination of bits, by the definition `level ^ (level >> 1)`, and the slope of each bit by turning it over."""
    channel = Dither(levels, gray=True)
    every = torch.arange(levels)
    code = every ^ (every >> 1)
    bits = torch.stack([(code >> (channel.bits - 1 - bit)) & 1 for bit in range(channel.bits)], 1).float()
    p = bits[:, :, None].expand(-1, -1, 3).reshape(levels, -1, 1, 1).clone().requires_grad_()
    upload = channel.sample({"p": p}, torch.full_like(p, 0.5))
    assert (upload[:, 0, 0, 0] * (levels - 1)).round().tolist() == list(range(levels))
    assert torch.equal(channel.planes(upload.half().float()), p)
    (slope,) = torch.autograd.grad(upload.sum(), p)
    for plane in range(3 * channel.bits):
        other = p.detach().clone()
        other[:, plane] = 1 - other[:, plane]
        change = channel.sample({"p": other}, torch.full_like(p, 0.5)) - upload
        turned = change.sum((1, 2, 3)) / (other - p)[:, plane, 0, 0]
        assert slope[:, plane, 0, 0].tolist() == pytest.approx(turned.tolist(), abs=1e-6)


def neighbours(pixel: int, side: int, count: int) -> list[tuple[int, float]]:
    """Which of `count` samples a pixel lies between, and the share of each."""
    place = min(max((pixel - side // 2) / side, 0), count - 1)
    below = int(place)
    return [(below, 1 - place + below), (min(below + 1, count - 1), place - below)]


@pytest.mark.parametrize("levels", [2, 4, 16])
@pytest.mark.parametrize("side", [2, 4])
def test_a_sample_of_several_pixels_is_drawn_once_and_interpolated(levels: int, side: int) -> None:
    one, several = Dither(levels, gray=True), Dither(levels, gray=True, subsample=side)
    p = torch.rand(2, 3 * one.bits, 5, 6, generator=torch.Generator().manual_seed(1)).requires_grad_()
    noise = one.noise({"p": p}, torch.Generator().manual_seed(2))
    small, upload = one.sample({"p": p}, noise), several.sample({"p": p}, noise)
    assert upload.shape == (2, 3, 5 * side, 6 * side)
    weights = torch.zeros(5 * side, 6 * side, 5, 6)
    for row, column in itertools.product(range(5 * side), range(6 * side)):
        for (i, vertical), (j, horizontal) in itertools.product(
            neighbours(row, side, 5), neighbours(column, side, 6)
        ):
            weights[row, column, i, j] += vertical * horizontal
    torch.testing.assert_close(upload, torch.einsum("yxij,bcij->bcyx", weights, small))
    assert torch.equal(several.planes(upload.half().float()), one.planes(small))
    shown = sampler.interpolated(small.detach().numpy(), side)
    torch.testing.assert_close(torch.from_numpy(shown), upload)
    upwards = torch.randn(upload.shape)
    (slope,) = torch.autograd.grad((upload * upwards).sum(), p, retain_graph=True)
    (wanted,) = torch.autograd.grad((small * torch.einsum("yxij,bcyx->bcij", weights, upwards)).sum(), p)
    torch.testing.assert_close(slope, wanted)
    assert torch.equal(several.rate({"p": p}), one.rate({"p": p}))
    assert create("dither", **several.settings) == several
    assert "subsample" not in one.settings


def test_squares_that_no_upload_has_are_refused() -> None:
    with pytest.raises(UsageError, match="stands for 1, 2, 4 pixels a side, not 3"):
        create("dither", subsample=3)
    with pytest.raises(UsageError, match="leave gates or subsample out"):
        create("dither", gates=True, subsample=2)
    assert create("gaussian", additive=False, largest_scale=0.5, reference_scale=0.3).subsample == 1
    assert SUBSAMPLES == contract.SUBSAMPLES


def test_fair_coins_carry_nothing_and_certain_bits_carry_one_bit_each() -> None:
    channel = Dither(2)
    assert channel.rate({"p": torch.full((1, 3, 4, 4), 0.5)}).item() == 0.0
    certain = torch.cat([torch.zeros(1, 3, 2, 4), torch.ones(1, 3, 2, 4)], dim=2)
    assert channel.rate({"p": certain}).item() == pytest.approx(48 * math.log(2), rel=1e-6)


def test_straight_through_gradient_is_that_of_the_probability() -> None:
    channel = Dither(2)
    p = torch.rand(2, 3, 4, 4, requires_grad=True)
    weights = torch.randn(2, 3, 4, 4)
    total = (channel.sample({"p": p}, channel.noise({"p": p})) * weights).sum()
    (slope,) = torch.autograd.grad(total, p)
    assert torch.equal(slope, weights)


@settings(max_examples=10, deadline=None)
@given(mean=st.floats(0.05, 0.95), scale=st.floats(0.03, 0.5))
def test_gaussian_rate_equals_monte_carlo(mean: float, scale: float) -> None:
    """E[log p(x'|x) - log r(x')] over draws before clipping."""
    channel = Gaussian(reference_scale=0.3)
    p, r = torch.distributions.Normal(mean, scale), torch.distributions.Normal(0.5, 0.3)
    torch.manual_seed(0)
    value = p.sample((200_000,))
    terms = p.log_prob(value) - r.log_prob(value)
    one = torch.full((1, 1, 1, 1), 1.0)
    exact = channel.rate({"mean": mean * one, "scale": scale * one}).item()
    assert abs(terms.mean().item() - exact) < 6 * terms.std().item() / math.sqrt(200_000) + 1e-4


def test_clipping_only_loses_information() -> None:
    """The rate before clipping bounds the divergence of what is really uploaded (here: of a binned upload)."""
    mean, scale = 0.9, 0.4
    edges = torch.linspace(0, 1, 65, dtype=torch.float64)

    def clipped(normal: torch.distributions.Normal) -> torch.Tensor:
        inner = normal.cdf(edges).diff()
        below, above = normal.cdf(edges[:1]), 1 - normal.cdf(edges[-1:])
        return torch.cat([below, inner, above])

    p = clipped(torch.distributions.Normal(torch.tensor(mean).double(), torch.tensor(scale).double()))
    r = clipped(torch.distributions.Normal(torch.tensor(0.5).double(), torch.tensor(0.3).double()))
    uploaded = (p * (p / r).log()).sum().item()
    one = torch.ones(1, 1, 1, 1)
    assert 0 < uploaded <= Gaussian().rate({"mean": mean * one, "scale": scale * one}).item()


def test_additive_channel_leaves_the_mean_alone() -> None:
    channel = Gaussian(additive=True, largest_scale=2.0)
    x = torch.rand(2, 3, 8, 8)
    parameters = channel.parameters(x, {"noise": torch.zeros(2, 3, 8, 8)})
    assert torch.equal(parameters["mean"], x)
    assert set(channel.outputs) == {"scale"}
    quiet = channel.sample(parameters, torch.zeros_like(x))
    assert torch.allclose(quiet, x)


@pytest.mark.parametrize("name", sorted(CHANNELS))
def test_every_channel_starts_nearly_clean(name: str) -> None:
    """At first the upload must still show the picture: a network that starts noisy does not learn."""
    channel = create(name)
    x = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    maps = {key: torch.full((4, planes, 16, 16), channel.starts[key]) for key, planes in channel.maps.items()}
    parameters = channel.parameters(x, maps)
    upload = channel.sample(parameters, channel.noise(parameters, torch.Generator().manual_seed(1)))
    assert upload.min() >= 0
    assert upload.max() <= 1
    correlation = torch.corrcoef(torch.stack([x.flatten(), upload.flatten()]))[0, 1]
    assert correlation > 0.6


@pytest.mark.parametrize("name", sorted(CHANNELS))
def test_settings_rebuild_the_channel(name: str) -> None:
    channel = create(name)
    assert create(name, **channel.settings) == channel


@pytest.mark.parametrize(
    ("name", "settings", "word"),
    [
        ("ditherr", {}, "known are"),
        ("dither", {"levels": 3}, "levels"),
        ("gaussian", {"levels": 2}, "gaussian"),
    ],
)
def test_wrong_use_is_named(name: str, settings: dict[str, int], word: str) -> None:
    with pytest.raises(UsageError, match=word):
        create(name, **settings)


@pytest.mark.parametrize("levels", [2, 4, 16])
@pytest.mark.parametrize("gray", [False, True])
def test_one_colour_is_the_red_one_of_three(levels: int, gray: bool) -> None:
    """The same probabilities and noise: levels, planes and rate are those of one colour of an upload of three."""
    one, three = Dither(levels, gray=gray, colours=1), Dither(levels, gray=gray)
    p = torch.rand(4, 3 * three.bits, 8, 8)
    noise = torch.rand_like(p)
    red = {"p": p[:, ::3]}
    upload = one.sample(red, noise[:, ::3])
    assert torch.equal(upload, three.sample({"p": p}, noise)[:, :1])
    assert torch.equal(one.planes(upload), three.planes(three.sample({"p": p}, noise))[:, ::3])
    assert one.rate(red).tolist() == pytest.approx(binary_rate(p[:, ::3]).sum((1, 2, 3)).tolist())
    assert create("dither", **one.settings) == one
    with pytest.raises(UsageError, match="3 colours, or 1"):
        Dither(levels, colours=2)
