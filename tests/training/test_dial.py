"""Training for several strengths: what the cloud network sees, and what stays as it was."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sfumato.channels import prior_rate
from sfumato.channels.dither import BLOCK, Dither, over_pixels
from sfumato.core.errors import UsageError
from sfumato.training.config import TrainConfig, make_config
from sfumato.training.local_cloud import LocalCloudModel
from sfumato.training.runner import train

P = 0.9


class Sure(nn.Module):
    """A local network whose bits are one with probability `P`; with gates its left half is closed."""

    def __init__(self, channel: Dither) -> None:
        super().__init__()
        self.channel, self.decision, self.encoder = channel, None, nn.Sequential()
        self.p = nn.Parameter(torch.tensor(P))

    def decode(self, x: Tensor, fine: Tensor, coarse: Tensor, scores: None = None) -> dict[str, Tensor]:
        p = self.p.expand(len(x), self.channel.outputs["p"], *x.shape[2:])
        if not self.channel.gates:
            return {"p": p}
        z = torch.full((len(x), 1, x.shape[2] // BLOCK, x.shape[3] // BLOCK), 50.0)
        z[..., : z.shape[-1] // 2] = -50.0
        return self.channel.close({"p": p}, z)


class Watcher(nn.Module):
    """A cloud network that keeps what it sees."""

    def __init__(self, seen: list[Tensor]) -> None:
        super().__init__()
        self.seen = seen

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        self.seen.append(x)
        return {"kind": x.mean((2, 3))}


def model(channel: Dither, dial: tuple[int, ...], seen: list[Tensor]) -> LocalCloudModel:
    """In training; what its cloud network sees is added to `seen`."""
    torch.manual_seed(4)
    made = LocalCloudModel(Sure(channel), Watcher(seen), {"kind": 3}, dial=dial)  # type: ignore[arg-type]
    made.look = lambda x: ([], x, None)  # type: ignore[method-assign]
    return made.train()


@pytest.mark.parametrize("gates", [False, True])
def test_the_cloud_network_sees_every_strength_and_nothing_else_changes(gates: bool) -> None:
    watched: list[Tensor] = []
    made = model(Dither(2, gates=gates), (64, 16), watched)
    images = torch.rand(300, 3, 16, 32)
    output = made(images)
    seen, half = watched[0], (..., slice(16, None))
    if gates:
        assert seen[..., :16].max() == output.upload[..., :16].max() == 0
    shares = seen[half].mean((1, 2, 3))
    expected = torch.tensor([0.5 + (P - 0.5) * strength / 128 for strength in (128, 64, 16)])
    gaps, which = (shares[:, None] - expected).abs().min(1)
    assert gaps.max() < 5 * 0.5 / (3 * 16 * 16) ** 0.5
    for number in range(3):
        assert (which == number).float().mean().item() == pytest.approx(1 / 3, abs=0.12)
    # The rate, and what adversaries and a learned prior look at, are those of full strength.
    assert output.upload[half].mean().item() == pytest.approx(P, abs=0.01)
    assert torch.equal(output.rate, prior_rate(made.local.channel, output.parameters))
    made.eval()(images)
    assert watched[1][half].mean().item() == pytest.approx(P, abs=0.01)


def test_the_slope_is_that_of_the_weaker_draw() -> None:
    channel = Dither(4, gates=True)
    inside = torch.rand(2, 6, BLOCK, BLOCK, requires_grad=True)
    given = channel.close({"p": inside}, torch.tensor([[[[50.0]]], [[[-50.0]]]]))
    weaker = channel.weaken(given, torch.tensor([32, 32]))["p"]
    assert torch.allclose(weaker[0], 0.5 + (inside[0] - 0.5) / 4)
    assert (weaker[1] == 0).all()
    weaker.sum().backward()
    assert inside.grad is not None
    assert torch.allclose(inside.grad, over_pixels(given["open"].detach()) * 0.25 * torch.ones(2, 6, 1, 1))


def test_a_run_is_trained_with_a_dial_and_remembers_it(tmp_path: Path) -> None:
    options: dict[str, Any] = {"data": "synthetic,size=16,count=600", "keep": ["skin"], "gates": True}
    options |= {"epochs": 1, "clean_epochs": 1, "pretrain_epochs": 0, "gating": {"epochs": 1}}
    run = train(**options, dial="64,32", out=tmp_path / "run")
    assert run.config.dial == (64, 32)
    assert run.card["config"]["dial"] == [64, 32]
    assert make_config(run.card["config"]) == run.config


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"dial": "128,64"}, "not 128, 128, 64"),
        ({"dial": "32,64"}, "not 128, 32, 64"),
        ({"dial": [64, 64]}, "not 128, 64, 64"),
        ({"dial": "64,0"}, "not 128, 64, 0"),
        ({"dial": "half"}, "a strength is a whole number, not 'half'"),
        ({"dial": "64", "channel": "gaussian"}, "dial belongs to the channel dither"),
        ({"dial": "64", "objective": "literal"}, "dial belongs to the channel dither"),
        ({"dial": "64", "mode": "answer"}, "dial has no meaning there"),
    ],
)
def test_a_dial_that_cannot_be_is_refused(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        make_config({"data": "synthetic", "keep": "skin", **options})


def test_without_a_dial_the_random_numbers_are_those_of_before() -> None:
    """One draw of noise and nothing else."""
    watched: list[Tensor] = []
    made = model(Dither(2), (), watched)
    torch.manual_seed(9)
    output = made(torch.rand(4, 3, 16, 16))
    after = torch.rand(1)
    torch.manual_seed(9)
    torch.rand(4, 3, 16, 16)
    noise = made.local.channel.noise(output.parameters)
    assert torch.equal(after, torch.rand(1))
    assert torch.equal(watched[0], made.local.channel.sample(output.parameters, noise))
    assert TrainConfig(data="synthetic", keep=("skin",)).dial == ()
