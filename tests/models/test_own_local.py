"""A local network of the user's own: the example of the documentation, and what is refused."""

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sfumato.channels import create
from sfumato.core.errors import SfumatoError, UsageError
from sfumato.models.own_local import OwnLocal, check_maps, make_own
from sfumato.training.config import make_config
from sfumato.training.runner import train

DOCUMENTED = Path(__file__).resolve().parents[2] / "docs" / "local-network.md"
SIZE = (16, 32)
WRONG = """
import torch
from torch import nn

class Maps(nn.Module):
    def __init__(self, make):
        super().__init__()
        self.weight, self.make = nn.Parameter(torch.ones(())), make
    def forward(self, x):
        return self.make(x, self.weight)

def names(planes, size): return Maps(lambda x, w: {"gate": w * x})
def shapes(planes, size): return Maps(lambda x, w: {name: w * x[:, :, ::2] for name in planes})
def bare(planes, size): return Maps(lambda x, w: w * x)
def infinite(planes, size): return Maps(lambda x, w: {name: w * x / 0 for name in planes})
def constant(planes, size): return Maps(lambda x, w: {name: x for name in planes})
def large(planes, size): return Maps(lambda x, w: w @ x)
def number(planes, size): return 3
def fails(planes, size): raise RuntimeError("weights not found")
def alone(): return None
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """`own("make")`: the name of a factory; the documented one, or one that is wrong."""
    (example,) = re.findall(r"```python\n(.*?)```", DOCUMENTED.read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "own_phone.py").write_text(example)
    (tmp_path / "wrong_phone.py").write_text(WRONG)
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("own_phone", "wrong_phone"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return lambda name: f"{'own' if name == 'make' else 'wrong'}_phone:{name}"


@pytest.mark.parametrize(
    "settings",
    [
        ("dither", {"levels": 2}),
        ("dither", {"levels": 4}),
        ("gaussian", {"additive": True, "largest_scale": 2.0}),
    ],
)
def test_the_documented_example_serves_every_channel(
    own: Callable[[str], str], settings: tuple[str, dict[str, Any]]
) -> None:
    channel = create(settings[0], **settings[1])
    network = make_own(own("make"), channel, SIZE)
    check_maps(network, channel, SIZE, "it")
    local = OwnLocal(channel, network).eval()
    x = torch.rand(2, 3, *SIZE)
    parameters, maps = local(x), network.eval()(x)
    wanted = channel.parameters(x, {name: maps[name] + channel.starts[name] for name in channel.maps})
    for name, value in wanted.items():
        assert torch.equal(parameters[name], value)
    # It begins nearly clean: the rate is close to the largest one.
    if channel.name == "dither":
        start = OwnLocal(channel, nn.Identity())
        start.network.forward = lambda x: {name: torch.zeros(2, n, *SIZE) for name, n in channel.maps.items()}
        gate = torch.sigmoid(torch.tensor(2.0))
        planes = torch.cat([8 * (x - 0.5)] * channel.maps["gate"].__floordiv__(3), 1)
        assert torch.allclose(start(x)["p"], torch.sigmoid(planes * gate))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("names", r"the channel dither needs \{'gate': \(3, 3, 16, 32\), 'offset': \(3, 3, 16, 32\)\}"),
        ("shapes", r"makes \{'gate': \(3, 3, 8, 32\)"),
        ("bare", "returned Tensor: a dict of maps"),
        ("infinite", "its gate is not finite"),
        ("constant", "depends on no weights that can learn"),
        ("large", "does not take images"),
        ("number", "returned int, but a torch.nn.Module"),
        ("fails", r"RuntimeError: weights not found\); it is called with"),
        ("alone", "TypeError"),
        ("missing", "AttributeError"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(own: Callable[[str], str], name: str, words: str) -> None:
    channel = create("dither", levels=2)
    with pytest.raises(SfumatoError, match=words) as told:
        check_maps(make_own(own(name), channel, SIZE), channel, SIZE, own(name))
    assert "\n" not in str(told.value)


def test_nothing_is_written_for_a_network_that_does_not_fit(
    own: Callable[[str], str], tmp_path: Path
) -> None:
    config = make_config(
        {"data": "synthetic,size=16,count=600", "keep": "skin", "local": own("bare"), "bits": 50}
    )
    with pytest.raises(SfumatoError, match="a dict of maps"):
        train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def slow_and_quick(kind: str) -> nn.Module:
    """Layers and functions that compute the same kinds, none in a `Sequential` of ours."""

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.into, self.out = nn.Conv2d(3, 8, 4, 4), nn.Conv2d(8, 48, 1)
            self.norm, self.attention = nn.LayerNorm(8), nn.MultiheadAttention(8, 2, batch_first=True)
            self.group = nn.GroupNorm(2, 8)

        def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
            y = self.into(x)
            if kind == "function":
                y = F.gelu(y)
            elif kind == "edges":
                y = nn.ReflectionPad2d((1, 0, 0, 0))(y)[..., 1:]
            elif kind == "norms":
                y = F.instance_norm(self.group(y))
            elif kind == "transformer":
                tokens = self.norm(y.flatten(2).transpose(1, 2))
                y = self.attention(tokens, tokens, tokens)[0].transpose(1, 2).reshape(y.shape)
            else:
                y = (
                    F.hardswish(F.pad(y, (0, 0)))
                    * F.gelu(y, approximate="tanh")
                    * F.silu(y.mean((2, 3), keepdim=True)).sigmoid()
                )
            return {name: F.pixel_shuffle(self.out(y), 4) for name in ("gate", "offset")}

    return Network()


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("function", "it uses GELU: no phone's delegate"),
        ("edges", "it uses mirrored or repeated edges: no phone's delegate"),
        ("norms", "it uses group norm, instance norm: no phone's delegate"),
        ("transformer", "it uses layer norm, attention or softmax: no phone's delegate"),
        ("quick", ""),
    ],
)
def test_operators_that_phones_do_not_take_are_named_before_training(
    kind: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    channel = create("dither", levels=2)
    check_maps(slow_and_quick(kind), channel, SIZE, "it")
    told = " ".join(capsys.readouterr().err.split())
    assert told.startswith(words)
    assert bool(told) == bool(words)
    if kind == "function":
        assert told.endswith("take GELU('tanh') or SiLU for GELU")


def test_options_that_need_a_decision_are_refused() -> None:
    given = {"data": "synthetic", "keep": "skin", "local": "a:b"}
    for more, words in (
        ({"beyond": 1.0}, "has no decision"),
        ({"objective": "literal", "channel": "gaussian"}, "has no decision"),
        ({"mode": "answer"}, "local has no meaning"),
    ):
        with pytest.raises(UsageError, match=words):
            make_config({**given, **more})
    with pytest.raises(UsageError, match="give module:factory"):
        make_own("mine", create("dither", levels=2), SIZE)
