"""Blocks that can be closed, against loops over pixels."""

import math
from typing import cast

import pytest
import torch

from sfumato.channels import create, prior_rate
from sfumato.channels.dither import BLOCK, CLOSED, SHUT, Dither, binary_rate, open_blocks, over_pixels
from sfumato.core.errors import UsageError
from sfumato.models.local import EDGE, FAR, GATE_START, Gates, LocalNetwork, check_window

LOG2 = math.log(2)


IMAGES = torch.rand(4, 3, 4, 6, generator=torch.Generator().manual_seed(1)).round().repeat_interleave(8, 2)
IMAGES = IMAGES.repeat_interleave(8, 3)


def network(levels: int = 2, block: int = 4, classes: tuple[int, ...] = (3,)) -> LocalNetwork:
    """One that closes half of the blocks of `IMAGES`, (4, 3, 32, 48), most of them clearly."""
    torch.manual_seed(levels * block)
    made = LocalNetwork(Dither(levels, gates=True), classes, (32, 48), block).eval()
    assert made.gates is not None
    seen: list[torch.Tensor] = []
    handle = made.gates.register_forward_hook(lambda module, given, z: seen.append(z))
    with torch.no_grad():
        made(IMAGES)
        scale = 10 / seen[0].std()
        made.gates.odds.weight.mul_(scale)
        bias = made.gates.odds.bias
        assert bias is not None
        bias.copy_(scale * (GATE_START - seen[0].mean()))
    handle.remove()
    return made


def test_values_of_blocks_lie_over_their_pixels() -> None:
    blocks = torch.arange(6.0).view(1, 1, 2, 3)
    pixels = over_pixels(blocks)
    for y in range(2 * BLOCK):
        for x in range(3 * BLOCK):
            assert pixels[0, 0, y, x] == blocks[0, 0, y // BLOCK, x // BLOCK]


def test_blocks_open_as_often_as_their_odds_say() -> None:
    torch.manual_seed(1)
    for z in (-2.0, 0.0, 1.5):
        share = open_blocks(torch.full((20_000,), z)).mean().item()
        expected = 1 / (1 + math.exp(-z))
        assert abs(share - expected) < 5 * math.sqrt(expected * (1 - expected) / 20_000)


@pytest.mark.parametrize("levels", [2, 4, 16])
def test_the_rate_of_blocks_equals_a_loop(levels: int) -> None:
    channel = Dither(levels, gates=True)
    generator = torch.Generator().manual_seed(levels)
    p = torch.rand(2, channel.outputs["p"], 2 * BLOCK, 3 * BLOCK, generator=generator, dtype=torch.float64)
    p[0, :, :BLOCK, :BLOCK] = 0.0
    p[1, :, BLOCK:, 2 * BLOCK :] = CLOSED / 2
    found = prior_rate(channel, {"p": p})
    for image in range(2):
        expected = 0.0
        for top in range(0, 2 * BLOCK, BLOCK):
            for left in range(0, 3 * BLOCK, BLOCK):
                block = p[image, :, top : top + BLOCK, left : left + BLOCK]
                expected += LOG2 + (binary_rate(block).sum().item() if block.max() > CLOSED else 0.0)
        assert found[image].item() == pytest.approx(expected, rel=1e-9)
    assert prior_rate(Dither(levels), {"p": p})[0] == Dither(levels).rate({"p": p})[0]


def test_in_training_closing_pays_what_the_block_costs() -> None:
    """The slope of the rate in a gate is the block's own rate times that of the logistic function."""
    channel = Dither(2, gates=True)
    inside = torch.rand(1, 3, BLOCK, 2 * BLOCK, generator=torch.Generator().manual_seed(5))
    z = torch.tensor([[[[0.3, -0.4]]]], requires_grad=True)
    torch.manual_seed(2)
    u = torch.rand_like(z).clamp_(1e-6, 1 - 1e-6).logit()
    torch.manual_seed(2)
    channel.block_rate(channel.close({"p": inside}, z)).sum().backward()
    share = (z.detach() + u).sigmoid()
    costs = torch.stack([binary_rate(part).sum() for part in inside.split(BLOCK, dim=3)])
    assert torch.allclose(z.grad.flatten(), (share * (1 - share)).flatten() * costs, rtol=1e-5)  # type: ignore[union-attr]


@pytest.mark.parametrize(("levels", "block"), [(2, 4), (4, 4), (2, 2)])
def test_closed_blocks_are_zero_in_every_upload_and_open_ones_as_without_gates(
    levels: int, block: int
) -> None:
    made = network(levels, block)
    gates = made.gates
    assert gates is not None
    seen: list[torch.Tensor] = []
    handle = gates.register_forward_hook(lambda module, given, z: seen.append(z))
    with torch.no_grad():
        parameters = made(IMAGES)
        handle.remove()
        z = seen[0].clone()
        gates.odds.weight.zero_()
        torch.nn.init.constant_(cast(torch.Tensor, gates.odds.bias), 50.0)
        whole = made(IMAGES)["p"]
    opened = over_pixels((z > 0).float()).bool().expand_as(whole)
    clear = over_pixels((z.abs() > 1).float()).bool().expand_as(whole)
    assert 0 < opened.float().mean() < 1
    assert torch.allclose(parameters["p"][opened & clear], whole[opened & clear])
    assert parameters["p"][~opened & clear].max() < CLOSED
    for seed in range(5):
        noise = made.channel.noise(parameters, torch.Generator().manual_seed(seed))
        upload = made.channel.sample(parameters, noise)
        dark = (~opened & clear)[:, :3]
        assert not upload[dark].any()


def test_training_and_evaluation_close_the_same_blocks() -> None:
    made = network(classes=())  # a decision is soft on the phone, and nothing is decided by chance weights
    assert made.gates is not None
    with torch.no_grad():
        for weights in made.gates.odds.parameters():
            weights.mul_(1000)  # so that no draw turns a gate over
        made.train()
        for part in made.modules():  # statistics as in evaluation
            if isinstance(part, torch.nn.BatchNorm2d):
                part.eval()
        drawn = made(IMAGES)
        made.eval()
        shipped = made(IMAGES)
    assert torch.equal(drawn["p"] > CLOSED, shipped["p"] > CLOSED)
    assert torch.allclose(drawn["p"], shipped["p"], atol=1e-5)
    assert torch.allclose(prior_rate(made.channel, drawn), prior_rate(made.channel, shipped), rtol=1e-4)


@pytest.mark.parametrize("region", [1, 3, 5])
def test_blocks_are_open_around_the_likeliest_alone(region: int) -> None:
    gates = Gates(8, 3, region)
    z = 6 * torch.randn(40, 1, 6, 7, generator=torch.Generator().manual_seed(region))
    reach = region // 2
    found, distance = gates.bounded(z)
    for picture, odds, far in zip(z[:, 0], found[:, 0], distance[:, 0], strict=True):
        top, left = divmod(int(picture.argmax()), 7)
        for y in range(6):
            for x in range(7):
                around = picture[max(0, y - reach) : y + reach + 1, max(0, x - reach) : x + reach + 1]
                behind = (picture.max() - around.max()).item()
                assert far[y, x].item() == pytest.approx(behind, abs=1e-5)
                lost = min(EDGE * behind, FAR)
                assert odds[y, x].item() == pytest.approx(picture[y, x].item() - lost, abs=1e-3)
                within = abs(y - top) <= reach and abs(x - left) <= reach
                assert (behind == 0) == within
    gates.look = torch.nn.Identity()
    gates.odds = torch.nn.Identity()  # type: ignore[assignment]
    assert torch.equal(gates(z), z), "training looks everywhere"
    assert torch.equal(gates.eval()(z), found)


def test_a_margin_says_what_turns_a_block_over() -> None:
    """Moving the likeliest block by less than every margin leaves all blocks as they are; by more, some turn over."""
    made = LocalNetwork(Dither(2, gates=True), (), (32, 48), region=1).eval()
    gates = made.gates
    assert gates is not None
    gates.look = torch.nn.Identity()
    gates.odds = torch.nn.Identity()  # type: ignore[assignment]
    z = 3 * torch.randn(200, 1, 4, 6, generator=torch.Generator().manual_seed(3))
    made.encode = lambda x: ([x], x)  # type: ignore[method-assign]
    made.at_eighth = lambda fine, bottleneck: bottleneck  # type: ignore[method-assign]
    odds, margin = made.gate_odds(z), made.gate_margin(z)
    best = z == z.amax((2, 3), keepdim=True)
    seen = 0
    for step in (0.01, 0.05, 0.2):
        moved = made.gate_odds(z - step * best)
        turned = (moved > 0) != (odds > 0)
        assert not (turned & (margin > 1.2 * step)).any()
        seen += int(turned.sum())
    assert seen > 0


@pytest.mark.parametrize("window", [1, 2, 3, 4])
def test_the_window_that_is_worth_most_is_open(window: int) -> None:
    gates = Gates(8, 3, window=window)
    z = 2 * torch.randn(60, 1, 5, 7, generator=torch.Generator().manual_seed(window))
    z[0] = 0.5  # all alike: all open
    for picture, odds, margin in zip(z, gates.best_window(z), gates.margin(z), strict=True):
        scores = {
            (top, left): picture[0, top : top + window, left : left + window].mean().item()
            for top in range(6 - window)
            for left in range(8 - window)
        }
        best = max(scores.values())
        for y in range(5):
            for x in range(7):
                reaching = {at for at in scores if 0 <= y - at[0] < window and 0 <= x - at[1] < window}
                here = max(scores[at] for at in reaching)
                there = max((score for at, score in scores.items() if at not in reaching), default=-math.inf)
                lead = here - there + 0.5 / EDGE
                assert margin[0, y, x].item() == pytest.approx(abs(lead), abs=1e-5)
                if abs(lead) > 1e-4:
                    assert (odds[0, y, x] > 0) == (lead > 0) == (best - here < 0.5 / EDGE)
    assert gates.best_window(z[:1]).min() > 0
    gates.worth = lambda features: features  # type: ignore[method-assign]
    assert torch.equal(gates.train()(z), gates.eval()(z)), "training sees what the phone sends"


def test_a_window_fits_the_picture() -> None:
    check_window(4, 32, 48)
    with pytest.raises(UsageError, match=r"gating\.window is 5 blocks of 8 pixels, and 32x48 has room for 4"):
        check_window(5, 32, 48)


def test_what_is_held_does_not_move_and_the_rest_learns() -> None:
    torch.manual_seed(3)
    made = LocalNetwork(Dither(2, gates=True), (), (32, 48), window=2)
    made.hold()
    made.train()
    before = {name: value.clone() for name, value in made.state_dict().items()}
    optimizer = torch.optim.AdamW(made.parameters(), lr=0.1)
    made(IMAGES)["p"].square().mean().backward()
    optimizer.step()
    moved = {
        name.split(".")[0]
        for name, value in made.state_dict().items()
        if not torch.equal(value, before[name])
    }
    assert moved == {"up", "heads"}
    assert made.gates is not None
    modes = {"made": made, "up": made.up, "encoder": made.encoder, "gates": made.gates}
    assert [name for name, part in modes.items() if part.training] == ["made", "up"]
    assert not made.eval().up.training


def test_a_closed_byte_is_zero() -> None:
    """What int8 makes of the log odds of a closed block, whatever the picture is."""
    for odds in (-8.0, 0.0, 8.0):
        shut = 255 / 256
        assert round(256 / (1 + math.exp(-(odds - shut * (odds + SHUT))))) == 0


def test_settings_tell_of_gates_only_where_there_are_some() -> None:
    assert Dither(4).settings == {"levels": 4}
    assert create("dither", **Dither(4, gates=True).settings) == Dither(4, gates=True)
