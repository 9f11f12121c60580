"""The phone's shortlist: which bits of an upload it takes, and what the cloud network makes of them."""

import math

import pytest
import torch
from torch import Tensor, nn

from sfumato.channels.dither import Dither, interpolated
from sfumato.models.local import LocalNetwork
from sfumato.models.shortlist import LEAST, MOST, NEAR, STEEP, TRUST, Shortlist, ShortlistReader, rows_for

CHANNELS = [
    Dither(2),
    Dither(4),
    Dither(16, gray=True),
    Dither(4, gray=True, subsample=2),
    Dither(2, subsample=4),
]
HEADS = {"product": 81, "kind": 5}


class Brightness(nn.Module):
    """Logits that depend on every pixel of the picture."""

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """(B, 3, H, W) -> logits."""
        mean = x.mean((1, 2, 3))
        return {name: mean[:, None] * torch.arange(count) for name, count in HEADS.items()}


def slow_odds(logits: list[float], classes: list[int]) -> list[float]:
    """Log odds of each class, in order, in Python's numbers."""
    odds, start = [], 0
    for count in classes:
        part = logits[start : start + count]
        for value in part:
            step = min(max(STEEP * (NEAR - (max(part) - value)) + 3, 0), 6) / 6
            odds.append(LEAST + (MOST - LEAST) * step)
        start += count
    return odds


@pytest.mark.parametrize(("planes", "columns"), [(3, 64), (6, 16), (12, 16), (6, 3)])
def test_the_rows_hold_a_bit_for_each_class_in_the_order_of_the_draw(planes: int, columns: int) -> None:
    torch.manual_seed(1)
    part = Shortlist(8, (2, 2), list(HEADS.values()), planes=planes, columns=columns)
    logits = 3 * torch.randn(4, sum(HEADS.values()), 1, 1)
    rows = part.rows(logits)
    assert rows.shape == (4, planes, rows_for(86, planes, columns), columns)
    for one, made in zip(logits, rows, strict=True):
        wanted = slow_odds(one.flatten().tolist(), list(HEADS.values()))
        found = [
            float(made[plane, row, column])
            for row in range(rows.shape[2])
            for column in range(columns)
            for plane in range(planes)
        ]
        assert found[:86] == pytest.approx(wanted, abs=1e-4)
        assert all(value == pytest.approx(LEAST) for value in found[86:])


def test_the_largest_is_always_on_the_list_and_what_is_far_behind_never() -> None:
    part = Shortlist(8, (2, 2), [4], planes=3, columns=16)
    odds = part.rows(torch.tensor([5.0, 4.5, 3.0, -9.0]).view(1, 4, 1, 1))[0, :, 0].T.flatten()[:4]
    assert odds.tolist() == pytest.approx([MOST, MOST, LEAST, LEAST])
    sure = [256 * torch.tensor(value).sigmoid().item() for value in (MOST, LEAST)]
    assert [math.floor(value + 0.5) for value in sure] == [255, 0], "the bytes that the phone draws from"


def drawn(channel: Dither, *, seed: int = 0) -> tuple[LocalNetwork, Tensor, Tensor]:
    """A phone's network with a shortlist, and uploads of it, every bit as it is likelier, with their probabilities."""
    torch.manual_seed(seed)
    network = LocalNetwork(channel, (), (64, 64), shortlist=list(HEADS.values())).eval()
    assert network.shortlist is not None
    assert network.shortlist.answer.bias is not None
    with torch.no_grad():
        network.shortlist.answer.bias.normal_(std=3)  # as decided as that of a trained network
        parameters = network(torch.rand(6, 3, 64, 64))
        upload = channel.sample(parameters, torch.full_like(parameters["p"], 0.5))
    return network, upload, parameters["p"]


@pytest.mark.parametrize("channel", CHANNELS)
def test_the_reader_finds_the_list_that_was_drawn(channel: Dither) -> None:
    network, upload, p = drawn(channel)
    assert network.shortlist is not None
    reader = ShortlistReader(Brightness(), channel, HEADS, (64, 64))
    assert reader.height == network.shortlist.height
    listed = torch.cat(list(reader.listed(upload).values()), 1)
    slow = p[:, :, -reader.height :].permute(0, 2, 3, 1).flatten(1)[:, :86]
    assert 0 < slow.round().mean() < 1
    assert torch.equal(listed, slow.round())
    assert all((part.sum(1) > 0).all() for part in reader.listed(upload).values()), "no list is empty"


@pytest.mark.parametrize("channel", CHANNELS)
def test_the_picture_has_nothing_of_the_list(channel: Dither) -> None:
    _, upload, _ = drawn(channel)
    reader = ShortlistReader(Brightness(), channel, HEADS, (64, 64))
    side = channel.subsample
    samples = upload[..., side // 2 :: side, side // 2 :: side].clone()
    other = samples.clone()
    other[:, :, -reader.height :] = 1 - other[:, :, -reader.height :]
    first, second = (reader.picture(interpolated(one, side)) for one in (samples, other))
    assert torch.equal(first, second)
    assert first.shape == upload.shape
    last = samples[:, :, -reader.height - 1]
    below = first[..., side // 2 :: side, side // 2 :: side][:, :, -reader.height :]
    assert torch.equal(below, last[:, :, None].expand_as(below))
    kept = 64 - side * (reader.height + 1) + side // 2
    assert torch.equal(first[:, :, :kept], upload[:, :, :kept])


def test_trust_is_what_a_class_of_the_list_gains() -> None:
    channel = Dither(4, gray=True, subsample=2)
    _, upload, _ = drawn(channel)
    reader = ShortlistReader(Brightness(), channel, HEADS, (64, 64))
    reader.trust.copy_(torch.tensor([TRUST, 0.5]))
    plain, listed = Brightness()(reader.picture(upload)), reader.listed(upload)
    found = reader(upload)
    assert torch.allclose(found["product"], plain["product"] + TRUST * listed["product"])
    assert torch.allclose(found["kind"], plain["kind"] + 0.5 * listed["kind"])


@pytest.mark.parametrize("levels", [2, 4, 16])
@pytest.mark.parametrize("gray", [False, True])
def test_bits_are_read_back_as_they_were_drawn(levels: int, gray: bool) -> None:
    channel = Dither(levels, gray=gray)
    bits = torch.randint(0, 2, (3, 3 * channel.bits, 8, 8)).float()
    assert torch.equal(channel.planes(channel.sample({"p": bits}, torch.full_like(bits, 0.5))), bits)


def test_a_network_in_training_draws_the_same_rows() -> None:
    """The packed way of training and the way that ships give the same probabilities."""
    torch.manual_seed(2)
    network = LocalNetwork(Dither(4, gray=True, subsample=2), (), (32, 32), shortlist=[4]).train()
    images = torch.rand(5, 3, 32, 32)
    for part in network.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            part.eval()
    with torch.no_grad():
        training = network(images)["p"]
        shipped = network.eval()(images)["p"]
    assert torch.allclose(training, shipped, atol=1e-5)
    assert network(images)["p"].shape == (5, 6, 16, 16)
