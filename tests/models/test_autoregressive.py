"""The autoregressive prior, against enumeration and against what uploads are known to tell."""

import itertools
from math import log
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from sfumato.audit.attack_data import AttackSplit
from sfumato.audit.autoregressive_bound import autoregressive_bound
from sfumato.audit.bounds import information_bounds
from sfumato.channels.dither import Dither
from sfumato.channels.gaussian import Gaussian
from sfumato.models.autoregressive import AutoregressivePrior, Masked, nats_saved


def learnt(levels: int = 2) -> AutoregressivePrior:
    """A prior with weights as if it had learnt something."""
    prior = AutoregressivePrior(Dither(levels=levels))
    torch.nn.init.normal_(prior.head.weight, std=0.3)
    return prior


def in_order(bits: int, height: int, width: int) -> Tensor:
    """Number of every bit (bits, height, width) in the order in which they are predicted."""
    number = torch.empty(bits, height, width, dtype=torch.int64)
    rest = map(range, (bits // 3, 2, 2, 3))
    bits_of_blocks = itertools.product(range(height // 2), range(width // 2), *rest)
    for count, (row, column, picture, i, j, colour) in enumerate(bits_of_blocks):
        number[3 * picture + colour, 2 * row + i, 2 * column + j] = count
    return number


@pytest.mark.parametrize("levels", [2, 4])
def test_no_bit_is_predicted_from_itself_or_a_later_one(levels: int) -> None:
    torch.manual_seed(0)
    prior, channel = learnt(levels), Dither(levels=levels)
    bits = torch.rand(1, 3 * channel.bits, 6, 6).round()
    number = in_order(3 * channel.bits, 6, 6)

    def predict(planes: Tensor) -> Tensor:
        upload = channel.sample({"p": planes}, torch.full_like(planes, 0.5))
        logits: Tensor = prior(upload).detach()[0]
        return logits

    before, changed = predict(bits), 0
    for place in torch.cartesian_prod(*(torch.arange(n) for n in bits.shape[1:])).tolist():
        other = bits.clone()
        other[0, *place] = 1 - other[0, *place]
        moved = (predict(other) - before).abs() > 1e-6
        assert not moved[number <= number[*place]].any(), place
        changed += int(moved.any())
    assert changed > bits.numel() / 2


@pytest.mark.parametrize("size", [1, 3, 5])
def test_rows_that_are_masked_as_a_whole_are_left_out_and_nothing_else(size: int) -> None:
    torch.manual_seed(0)
    layer, x = Masked(6, 12, size, 6, strict=True), torch.randn(2, 6, 7, 5)
    plain = F.conv2d(x, layer.weight * layer.mask, layer.bias, padding=size // 2)
    assert torch.allclose(layer(x), plain, atol=1e-5)


def test_it_is_a_distribution_and_the_estimate_is_its_divergence() -> None:
    """One block of 2 x 2 pixels: all 4,096 uploads, by hand."""
    torch.manual_seed(1)
    prior, channel = learnt(), Dither()
    uploads = torch.tensor(list(itertools.product((0.0, 1.0), repeat=12))).view(-1, 3, 2, 2)
    p = torch.rand(1, 3, 2, 2).expand(len(uploads), -1, -1, -1)
    with torch.no_grad():
        logits = prior(uploads)

    def chance(odds: Tensor) -> Tensor:
        return torch.where(uploads == 1, odds, 1 - odds).double().flatten(1).prod(1)

    drawn, reference = chance(p), chance(logits.sigmoid())
    assert reference.sum().item() == pytest.approx(1.0, abs=1e-5)
    divergence = (drawn * (drawn / reference).log()).sum().item()
    estimates = channel.rate({"p": p}) - nats_saved(p, logits)
    assert (drawn * estimates).sum().item() == pytest.approx(divergence, abs=1e-4)


def attack_data(p: Tensor, channel: Any) -> Any:
    """Images whose uploads have the probabilities p (N, 3, H, W); the first half to fit, the rest to choose and to judge."""

    def split(rows: slice) -> AttackSplit:
        part = p[rows]
        pixels = np.zeros((len(part), *p.shape[2:], 3), np.uint8)
        labels = {"answer": np.zeros(len(part), np.int64)}
        return AttackSplit(pixels=pixels, parameters={"p": part.half()}, labels=labels, images=len(part))

    return SimpleNamespace(
        channel=channel,
        keep=("answer",),
        classes={"answer": 1},
        train=split(slice(400)),
        validation=split(slice(400, 600)),
        test=split(slice(600, None)),
        generator=lambda purpose: torch.Generator().manual_seed(len(purpose)),
        seed_for=len,
    )


def test_what_is_repeated_is_counted_once() -> None:
    """One surprise in every second row, said by all 48 bits of two: 8 bits to tell, a rate of 380."""
    torch.manual_seed(2)
    rows = torch.rand(800, 1, 8, 1).round().repeat_interleave(2, dim=2)
    p = (0.001 + 0.998 * rows).expand(-1, 3, 16, 8)
    rate = Dither().rate({"p": p}).mean().item() / log(2)
    bound = information_bounds(attack_data(p, Dither()))
    assert rate > 370
    assert bound.autoregressive is not None
    assert 8 <= bound.autoregressive < 60 < 0.5 * bound.total
    assert bound.tightest == bound.autoregressive


def test_nothing_is_saved_where_bits_are_independent() -> None:
    torch.manual_seed(3)
    p = torch.rand(800, 3, 8, 8).round().clamp(0.01, 0.99)
    rate = Dither().rate({"p": p}).mean().item() / log(2)
    bound = autoregressive_bound(attack_data(p, Dither()))
    assert bound == pytest.approx(rate, rel=0.02)


def test_other_channels_have_no_bits_to_predict() -> None:
    assert autoregressive_bound(SimpleNamespace(channel=Gaussian())) is None  # type: ignore[arg-type]
