"""The local network's budget and operators, and the counting of its cost."""

import pytest
import torch
from torch import nn

from sfumato.channels import create
from sfumato.errors import UsageError
from sfumato.models.attackers import ATTACKERS, create_attacker
from sfumato.models.cloud import create_cloud
from sfumato.models.cost import cost
from sfumato.models.local import LocalNetwork, check_size

CHANNELS = [
    ("dither", {"levels": 2}),
    ("dither", {"levels": 16}),
    ("gaussian", {}),
    ("gaussian", {"additive": True}),
]


@pytest.mark.parametrize(("name", "settings"), CHANNELS)
def test_local_network_keeps_to_its_budget(name: str, settings: dict[str, int]) -> None:
    channel = create(name, **settings)
    local = LocalNetwork(channel)
    figures = cost(local, (3, 64, 64))
    assert figures.parameters <= 20_000
    assert figures.macs <= 10_000_000
    parameters = local.eval()(torch.rand(2, 3, 48, 64))
    for output, planes in channel.outputs.items():
        assert parameters[output].shape == (2, planes, 48, 64)


def test_cost_counts_what_a_hand_counts() -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False),  # 4x4 outputs: 16 * 8 * 27
        nn.BatchNorm2d(8),  # folds into 8 biases
        nn.Conv2d(8, 8, 3, padding=1, groups=8),  # 16 * 8 * 9
        nn.ConvTranspose2d(8, 4, 2, stride=2),  # 16 inputs * 8 * 4 * 4
        nn.Flatten(),
        nn.Linear(4 * 8 * 8, 5),
    )
    figures = cost(network, (3, 8, 8))
    assert figures.macs == 16 * 8 * 27 + 16 * 8 * 9 + 16 * 8 * 16 + 256 * 5
    assert figures.parameters == 216 + 8 + (72 + 8) + (128 + 4) + (1280 + 5)
    assert network.training, "counting must leave the mode as it was"


@pytest.mark.parametrize("size", [(0, 16), (30, 32), (64, 65)])
def test_sizes_that_cannot_be_halved_are_refused(size: tuple[int, int]) -> None:
    with pytest.raises(UsageError, match="multiples of 16"):
        check_size(*size)


@pytest.mark.parametrize("name", sorted(ATTACKERS))
@pytest.mark.parametrize("size", [(32, 32), (64, 48)])
def test_attackers_answer_every_attribute(name: str, size: tuple[int, int]) -> None:
    network = create_attacker(name, {"race": 5, "age": 3}, size)
    logits = network(torch.rand(2, 3, *size))
    assert {key: tuple(value.shape) for key, value in logits.items()} == {"race": (2, 5), "age": (2, 3)}


def test_cloud_of_the_users_own(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "own_cloud.py").write_text(  # type: ignore[operator]
        "from sfumato.models.cloud import ResNet\n"
        "def make(classes): return ResNet(classes, widths=(4, 4, 4))\n"
        "def wrong(classes): return 'cloud'\n"
    )
    cloud = create_cloud("own_cloud:make", {"a": 3}, height=32)
    assert cloud(torch.rand(2, 3, 32, 32))["a"].shape == (2, 3)
    for name, word in [
        ("own_cloud:wrong", "Module"),
        ("own_cloud:absent", "absent"),
        ("vgg", "module:factory"),
    ]:
        with pytest.raises(UsageError, match=word):
            create_cloud(name, {"a": 3}, height=32)
