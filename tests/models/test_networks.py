"""The local network's budget and operators, and the counting of its cost."""

import sys
from copy import deepcopy
from pathlib import Path
from typing import Literal

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sfumato.channels import create
from sfumato.core.errors import SfumatoError, UsageError
from sfumato.core.local_constants import BLOCKS
from sfumato.models.argmax_head import TIE, Decision, LargestDecision, make_decision
from sfumato.models.attackers import ATTACKERS, create_attacker
from sfumato.models.cloud import ResNet, check_answers, create_cloud
from sfumato.models.cost import cost
from sfumato.models.decoder import Beside, Decoder
from sfumato.models.flow import Flow
from sfumato.models.layers import Halving, Padding, fold, pack, pool, reorder, unpack
from sfumato.models.local import Encoder, LocalNetwork, check_size

CHANNELS = [
    ("dither", {"levels": 2}),
    ("dither", {"levels": 16}),
    ("gaussian", {}),
    ("gaussian", {"additive": True}),
]


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("classes", [(), (2,), (5, 2), (10,)])
@pytest.mark.parametrize(("name", "settings"), CHANNELS)
def test_local_network_keeps_to_its_budget(
    name: str, settings: dict[str, int], classes: tuple[int, ...], block: int
) -> None:
    channel = create(name, **settings)
    local = LocalNetwork(channel, classes, block=block)
    figures = cost(local, (3, 64, 64))
    heads = 16 * (32 + 1) * sum(channel.maps.values())
    assert figures.parameters <= 24_500 + heads, figures
    assert figures.macs <= 10_000_000
    for height, width in ((64, 64), (64, 80), (96, 128)):
        parameters = local.eval()(torch.rand(2, 3, height, width))
        for output, planes in channel.outputs.items():
            assert parameters[output].shape == (2, planes, height, width)


@pytest.mark.parametrize("classes", [(2,), (5,), (3, 10, 2)])
def test_pairwise_comparisons_find_the_largest_logit_of_every_attribute(classes: tuple[int, ...]) -> None:
    decision = Decision(8, (4, 4), classes).eval()
    logits = torch.randn(500, sum(classes), 1, 1, generator=torch.Generator().manual_seed(0)) * 3
    chosen = decision.decide(logits).flatten(1).split(list(classes), dim=1)
    for z, d in zip(logits.flatten(1).split(list(classes), dim=1), chosen, strict=True):
        first, second = z.topk(2, dim=1).values.T
        clear = first - second > 0.2
        wanted = F.one_hot(z.argmax(1), z.shape[1]).float()
        assert clear.sum() > 400
        assert torch.allclose(d[clear], wanted[clear], atol=1e-3)


def test_a_decision_in_training_is_the_shipped_one_without_doubt() -> None:
    decision, classes = Decision(8, (4, 4), (2, 5)), [2, 5]
    logits = torch.randn(500, 7, 1, 1, generator=torch.Generator().manual_seed(0))
    exact, shipped = decision.decide(logits), decision.eval().decide(logits)
    for one, other in zip(exact.split(classes, dim=1), shipped.split(classes, dim=1), strict=True):
        assert torch.equal(one.sum(1), torch.ones(500, 1, 1))
        assert torch.equal(one.argmax(1), other.argmax(1))
        assert set(one.unique().tolist()) == {0, 1}


@pytest.mark.parametrize("classes", [(12,), (2, 30)])
def test_many_classes_are_decided_by_the_largest_logit(classes: tuple[int, ...]) -> None:
    decision = make_decision(8, (2, 2), classes)
    assert isinstance(decision, LargestDecision)
    logits = torch.randn(300, sum(classes), 1, 1, generator=torch.Generator().manual_seed(0))
    exact, shipped = decision.decide(logits), decision.eval().decide(logits)
    parts = (whole.split(list(classes), dim=1) for whole in (logits, exact, shipped))
    for z, one, other in zip(*parts, strict=True):
        wanted = F.one_hot(z.flatten(1).argmax(1), z.shape[1]).float()
        assert torch.equal(one.flatten(1), wanted)
        clear = z.flatten(1).topk(2).values.diff().abs().flatten() > TIE
        assert torch.equal(other.flatten(1)[clear], wanted[clear])
        assert clear.float().mean() > 0.8
        assert torch.equal(other.flatten(1).argmax(1), wanted.argmax(1))
    assert not shipped.requires_grad


def test_weights_grow_with_the_classes_and_no_faster() -> None:
    """Pairwise, 100 classes took 1,029,310 parameters."""
    weights = {
        count: sum(
            one.numel() for one in LocalNetwork(create("dither", levels=2), (count,), (32, 32)).parameters()
        )
        for count in (10, 11, 100, 1000)
    }
    assert weights == {10: 25_669, 11: 24_849, 100: 35_084, 1000: 138_584}
    each = (weights[100] - weights[11]) / 89
    assert weights[1000] - weights[100] <= 900 * each


def test_up_to_ten_classes_the_network_is_what_it_was() -> None:
    torch.manual_seed(0)
    now = make_decision(8, (2, 2), (10, 2))
    torch.manual_seed(0)
    before = Decision(8, (2, 2), (10, 2))
    assert type(now) is Decision
    assert {name: value.tolist() for name, value in now.state_dict().items()} == {
        name: value.tolist() for name, value in before.state_dict().items()
    }


def test_large_images_keep_to_the_budget_and_are_decided_upon_once() -> None:
    local = LocalNetwork(create("dither", levels=2), (2,), (480, 640)).eval()
    assert cost(local, (3, 480, 640)).parameters <= 26_500
    assert local.decision is not None
    assert local.decision.logits(local.encoder(torch.rand(1, 3, 480, 640))[-1]).shape == (1, 2, 1, 1)


def test_equal_logits_are_a_win_of_the_class_named_first() -> None:
    logits = torch.tensor([0.3, 1.1, 1.1, -2.0]).view(1, 4, 1, 1)
    chosen = Decision(8, (4, 4), (4,)).eval().decide(logits).flatten()
    assert chosen[1] > 0.99
    assert chosen[[0, 2, 3]].max() < 0.01


def test_no_gradient_passes_a_decision_and_its_constants_stay() -> None:
    decision = Decision(8, (2, 2), (3,))
    logits, chosen = decision(torch.randn(4, 8, 2, 2, requires_grad=True))
    assert logits.requires_grad
    assert not chosen.requires_grad
    fixed = [name for name, weight in decision.named_parameters() if not weight.requires_grad]
    assert fixed == ["pairwise.weight", "pairwise.bias", "one_hot.weight", "one_hot.bias"]


def test_weights_of_sfumato_0_1_load() -> None:
    """The layers of the decision had other names then."""
    channel = create("dither", levels=2)
    local, other = LocalNetwork(channel, (2, 3)).eval(), LocalNetwork(channel, (2, 3)).eval()
    old = {
        name.replace(".pairwise.", ".duels.").replace(".one_hot.", ".crown."): value
        for name, value in local.state_dict().items()
    }
    assert "decision.duels.weight" in old
    other.load_state_dict(old)
    x = torch.rand(2, 3, 64, 64)
    assert torch.equal(local(x)["p"], other(x)["p"])
    old["decision.champion.weight"] = torch.zeros(1)
    with pytest.raises(RuntimeError, match="champion"):
        other.load_state_dict(old)


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
    cloud = create_cloud("own_cloud:make", {"a": 3}, size=(32, 32))
    assert cloud(torch.rand(2, 3, 32, 32))["a"].shape == (2, 3)
    for name, word in [
        ("own_cloud:wrong", "Module"),
        ("own_cloud:absent", "absent"),
        ("vgg", "module:factory"),
    ]:
        with pytest.raises(UsageError, match=word):
            create_cloud(name, {"a": 3}, size=(32, 32))


OWN = """
import torch
from torch import nn

class Sized(nn.Module):
    def forward(self, x):
        return {"a": x.flatten(1) @ torch.zeros(3 * 224 * 224, 3)}

class Plain(nn.Module):
    def forward(self, x):
        return x.mean((2, 3))

class Soft(nn.Module):
    def forward(self, x):
        return {"a": x.mean((2, 3)).softmax(1)}

def sized(classes): return Sized()
def plain(classes): return Plain()
def soft(classes): return Soft()
def no_arguments(): return Plain()
def raises(classes): raise RuntimeError("weights not found")
def leaves(classes): raise SystemExit(3)
def deep(classes): return deep(classes)
number = 3
"""


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("sized", "does not take uploads"),
        ("plain", "a dict of logits is needed"),
        ("soft", "are probabilities"),
        ("no_arguments", r"0 positional arguments.*called with the classes {'a': 3}"),
        ("raises", "RuntimeError: weights not found"),
        ("leaves", "SystemExit: 3"),
        ("deep", "RecursionError"),
        ("number", "a function is needed"),
        ("", "module:factory"),
    ],
)
def test_a_cloud_network_that_is_wrong_is_told_in_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, words: str
) -> None:
    """The module lies in the current folder, which is on no path."""
    (tmp_path / "cloud_of_a_user.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    with pytest.raises(SfumatoError, match=words) as caught:
        check_answers(
            create_cloud(f"cloud_of_a_user:{name}", {"a": 3}, size=(32, 32)),
            {"a": 3},
            (32, 32),
            f"cloud_of_a_user:{name}",
        )
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("size", "usual"), [(32, 32), (48, 16)])
def test_the_built_in_network_has_the_width_that_was_asked_for(size: int, usual: int) -> None:
    def widths(name: str) -> list[int]:
        cloud = create_cloud(name, {"a": 3}, size=(size, size))
        assert isinstance(cloud, ResNet)
        assert cloud(torch.rand(2, 3, size, size))["a"].shape == (2, 3)
        return [found.shape[1] for found in cloud.maps(torch.rand(1, 3, size, size))]

    assert widths("resnet") == [usual, 2 * usual, 4 * usual]
    assert widths("resnet,width=24") == [24, 48, 96]


def test_bfloat16_is_for_training_alone() -> None:
    cloud = create_cloud("resnet", {"a": 3}, size=(48, 48))
    assert isinstance(cloud, ResNet)
    cloud.dropout.p = 0.0
    x = torch.rand(8, 3, 48, 48)
    exact, judged = cloud(x)["a"], cloud.eval()(x)["a"]
    cloud.lean = True
    assert torch.equal(cloud.eval()(x)["a"], judged)
    rough = cloud.train()(x)["a"]
    assert rough.dtype == torch.float32
    assert not torch.equal(rough, exact)
    assert torch.allclose(rough, exact, atol=0.05)


@pytest.mark.parametrize(("block", "pictures"), [(2, 1), (4, 1), (4, 3)])
def test_packing_is_a_pixel_shuffle_of_reordered_planes(block: int, pictures: int) -> None:
    given = torch.randn(2, 3 * pictures * block**2, 4, 6)
    mine, theirs = (given.clone().requires_grad_() for _ in range(2))
    planes = reorder(mine.transpose(0, 1), block).transpose(0, 1)  # as of weights: planes first
    quick = unpack(planes.contiguous(memory_format=torch.channels_last), block)
    slow = F.pixel_shuffle(theirs, block)
    assert torch.equal(quick, slow)
    assert quick.is_contiguous(memory_format=torch.channels_last)
    slope = torch.randn_like(slow)
    quick.backward(slope)
    slow.backward(slope)
    assert mine.grad is not None
    assert theirs.grad is not None
    assert torch.equal(mine.grad, theirs.grad)
    assert torch.equal(pack(quick.detach(), block), planes)


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize(("name", "settings"), CHANNELS)
def test_a_channel_gives_the_same_on_packed_pixels(name: str, settings: dict[str, int], block: int) -> None:
    local = LocalNetwork(create(name, **settings), (2,), (32, 48), block).eval()
    for head in local.heads.values():
        torch.nn.init.normal_(head.weight)  # type: ignore[arg-type]
    x = torch.rand(2, 3, 32, 48)
    whole = local(x)
    local.training = True  # of this module alone: batch norm and the decision stay as they were
    packed = local(x)
    assert {name: value.shape for name, value in whole.items()} == {n: v.shape for n, v in packed.items()}
    for name in whole:
        torch.testing.assert_close(packed[name], whole[name])


@pytest.mark.parametrize(("subsample", "block"), [(2, 2), (2, 4), (4, 4)])
@pytest.mark.parametrize("gray", [False, True])
def test_a_sample_of_several_pixels_is_drawn_from_their_mean(subsample: int, block: int, gray: bool) -> None:
    """With maps that all places share, the parameters are those of a picture that a loop has made smaller."""
    channel = create("dither", levels=4, gray=gray, subsample=subsample)
    local = LocalNetwork(channel, (2,), (32, 48), block).eval()
    for head in local.heads.values():
        torch.nn.init.zeros_(head.weight)  # type: ignore[arg-type]
    x = torch.rand(2, 3, 32, 48)
    small = torch.zeros(2, 3, 32 // subsample, 48 // subsample)
    for row in range(small.shape[2]):
        for column in range(small.shape[3]):
            square = x[:, :, subsample * row :, subsample * column :][:, :, :subsample, :subsample]
            small[:, :, row, column] = square.mean((2, 3))
    maps = {
        name: torch.full((1, planes, *small.shape[2:]), channel.starts[name])
        for name, planes in channel.maps.items()
    }
    wanted = channel.parameters(small, maps, local.middle)["p"]
    torch.testing.assert_close(local(x)["p"], wanted)
    for head in local.heads.values():
        torch.nn.init.normal_(head.weight)  # type: ignore[arg-type]
    whole = local(x)["p"]
    local.training = True
    torch.testing.assert_close(local(x)["p"], whole)
    assert whole.shape == (2, 6, *small.shape[2:])


def test_a_centred_network_is_another_of_the_same_weights() -> None:
    """It looks at 8 (x - 128/255), its channel takes 128/255 for the middle; a Gray code leaves both alone."""
    torch.manual_seed(0)
    photo = LocalNetwork(create("dither"), (2,), (32, 48), centred=False).eval()
    centred = LocalNetwork(create("dither"), (2,), (32, 48)).eval()
    centred.load_state_dict(photo.state_dict())
    x = torch.rand(2, 3, 32, 48)
    shown = 8 * (x - 128 / 255)
    for level, wanted in zip(centred.encoder(x), photo.encoder(shown), strict=True):
        torch.testing.assert_close(level, wanted)
    maps = {name: torch.zeros(1, planes, 32, 48) for name, planes in photo.channel.maps.items()}
    for head in centred.heads.values():
        torch.nn.init.zeros_(head.weight)  # type: ignore[arg-type]
        torch.nn.init.zeros_(head.bias)  # type: ignore[arg-type]
    torch.testing.assert_close(centred(x)["p"], torch.sigmoid(shown / 2))
    torch.testing.assert_close(photo.channel.parameters(x, maps)["p"], torch.sigmoid(4 * x - 2))
    for channel in (create("dither", levels=4, gray=True), create("gaussian", additive=True)):
        other = LocalNetwork(channel, (2,), (32, 48))
        assert (other.encoder.centred, other.middle) == (False, 0.5)


def test_a_block_holds_whole_samples() -> None:
    with pytest.raises(UsageError, match="a block of 2 pixels a side holds no sample of 4: give block = 4"):
        LocalNetwork(create("dither", levels=2, subsample=4), (2,), (64, 64), 2)


@pytest.mark.parametrize("size", [3, 5])
@pytest.mark.parametrize("height", [16, 17])
def test_halving_is_torchs_own_convolution(height: int, size: Literal[3, 5]) -> None:
    layer = Halving(3, 8, size).double()
    mine, theirs = (torch.rand(2, 3, height, 24, dtype=torch.float64).requires_grad_() for _ in range(2))
    theirs.data.copy_(mine.data)
    quick, slow = layer(mine), F.conv2d(theirs, layer.weight, stride=2, padding=size // 2)
    assert torch.equal(quick, slow)
    slope = torch.randn_like(slow)
    found = torch.autograd.grad(quick, [mine, layer.weight], slope)
    expected = torch.autograd.grad(slow, [theirs, layer.weight], slope)
    for gradient, wanted in zip(found, expected, strict=True):
        assert torch.allclose(gradient, wanted, atol=1e-12)
    passed = torch.autograd.grad(layer.requires_grad_(False)(mine), mine, slope)
    assert torch.allclose(passed[0], expected[0], atol=1e-12), "through frozen weights"
    norm = nn.BatchNorm2d(8).double()
    torch.nn.init.normal_(norm.bias)
    block = nn.Sequential(layer, norm).eval()
    assert torch.allclose(block(mine), fold(deepcopy(nn.Sequential(block)))(mine), atol=1e-12), "folded"


def test_halving_keeps_the_precision_of_what_it_was_given() -> None:
    layer, x = Halving(3, 8), torch.rand(2, 3, 16, 16, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(x)
    assert y.dtype == torch.bfloat16
    y.float().sum().backward()
    exact = torch.autograd.grad(F.conv2d(x, layer.weight, stride=2, padding=2).sum(), [x, layer.weight])
    for gradient, wanted in zip((x.grad, layer.weight.grad), exact, strict=True):
        assert gradient is not None
        assert gradient.dtype == torch.float32
        assert torch.allclose(gradient, wanted, rtol=0.05, atol=0.05)


@pytest.mark.parametrize("padding", ["same", "symmetric"])
@pytest.mark.parametrize("size", [(64, 64), (96, 224)])
def test_layers_that_halve_are_padded_as_asked(size: tuple[int, int], padding: Padding) -> None:
    """Against zeros put around by hand. The decision of the second size halves 6x14 and then 3x7."""
    torch.manual_seed(1)
    local = LocalNetwork(create("dither", levels=2), (2,), size, padding=padding).eval()
    seen = {}
    halving = [part for part in local.modules() if isinstance(part, nn.Conv2d) and part.stride == (2, 2)]
    for part in halving:
        part.register_forward_hook(lambda part, given, made: seen.update({part: (given[0], made)}))
    local(torch.rand(2, 3, *size))
    assert len(seen) == len(halving) == (4 if size == (64, 64) else 6)
    for part, (x, found) in seen.items():
        rows, columns = (
            (0, 1) if padding == "same" and length % 2 == 0 else (1, 1) for length in x.shape[2:]
        )
        wanted = F.conv2d(F.pad(x, (*columns, *rows)), part.weight, stride=2, groups=part.groups)
        assert torch.allclose(found, wanted, atol=1e-5)


def test_the_paddings_are_mirror_images_of_each_other() -> None:
    """Of an even length symmetric zeros are read before the picture alone, those of `same` behind it alone."""
    torch.manual_seed(1)
    same, symmetric = (
        Encoder((8, 12, 16, 24), (1, 2, 1), padding=padding).eval() for padding in ("same", "symmetric")
    )
    symmetric.load_state_dict(
        {name: value.flip(2, 3) if value.dim() == 4 else value for name, value in same.state_dict().items()}
    )
    x = torch.rand(2, 3, 64, 48)
    for level, mirrored in zip(same(x), symmetric(x.flip(2, 3)), strict=True):
        assert level.std() > 1e-3
        assert torch.allclose(level, mirrored.flip(2, 3), atol=1e-5)


def test_the_padding_leaves_weights_and_cost_as_they_are() -> None:
    same, symmetric = (
        LocalNetwork(create("dither", levels=2), (2,), padding=padding) for padding in ("same", "symmetric")
    )
    assert cost(same, (3, 64, 64)) == cost(symmetric, (3, 64, 64))
    same.load_state_dict(symmetric.state_dict())


def test_a_folded_network_answers_as_before() -> None:
    cloud = create_cloud("resnet", {"a": 3}, size=(48, 48))
    x = torch.rand(16, 3, 48, 48)
    for _ in range(3):  # so that the running figures are not where they started
        cloud(x)
    before = cloud.eval()(x)["a"]
    folded = fold(cloud)
    assert not any(isinstance(part, nn.BatchNorm2d) for part in folded.modules())
    assert torch.allclose(folded(x)["a"], before, atol=1e-5)


def test_a_folded_local_network_stays_padded() -> None:
    local, x = LocalNetwork(create("dither", levels=2), (2,)), torch.rand(16, 3, 64, 64)
    for _ in range(3):
        local(x)
    before = local.eval()(x)["p"]
    folded = fold(local)
    assert not any(isinstance(part, nn.BatchNorm2d) for part in folded.modules())
    assert torch.allclose(folded(x)["p"], before, atol=1e-5)


@pytest.mark.parametrize("size", [(8, 8), (6, 6), (10, 14), (3, 5), (8, 6)])
def test_pooling_is_torchs_own(size: tuple[int, int]) -> None:
    x = torch.rand(2, 3, *size)
    assert torch.allclose(pool(x, 4), F.adaptive_avg_pool2d(x, 4), atol=1e-6)


@pytest.mark.parametrize(("levels", "subsample"), [(2, 1), (4, 2), (16, 1)])
def test_a_network_of_one_plane_computes_in_training_what_the_phone_does(levels: int, subsample: int) -> None:
    """In training the planes of a block stay packed: of one colour in another order than of three."""
    channel = create("dither", levels=levels, subsample=subsample, colours=1)
    torch.manual_seed(0)
    local = LocalNetwork(channel, (2,), size=(32, 32)).eval()
    for head in local.heads.values():
        torch.nn.init.normal_(head.weight, std=1.0)  # type: ignore[arg-type]
    x = torch.rand(3, 1, 32, 32)
    with torch.no_grad():
        phone = local(x)["p"]
        local.training = True  # the way to compute alone: batch norms keep their statistics
        assert torch.allclose(local(x)["p"], phone, atol=1e-5)
    assert phone.shape == (3, channel.bits, 32 // subsample, 32 // subsample)  # type: ignore[attr-defined]


def test_library_networks_see_grey_three_times() -> None:
    cloud = create_cloud("lite0", {"a": 2}, size=(32, 32), planes=1).eval()
    x = torch.rand(2, 1, 32, 32)
    with torch.no_grad():
        assert torch.allclose(cloud(x)["a"], cloud(x.expand(-1, 3, -1, -1))["a"], atol=1e-6)
    with pytest.raises(SfumatoError, match=r"does not take uploads \(3, 1, 32, 32\)"):
        check_answers(create_cloud("resnet", {"a": 2}, size=(32, 32)), {"a": 2}, (32, 32), "mine", 1)


@pytest.mark.parametrize(("photo", "uploaded"), [(1, 1), (1, 3), (3, 3)])
def test_attackers_restore_photos_of_one_plane_from_uploads_of_one_or_of_a_word(
    photo: int, uploaded: int
) -> None:
    """In answer mode the phone sees grey, and a code word is drawn in three colours."""
    upload, clean = torch.rand(2, uploaded, 32, 32), torch.rand(2, photo, 32, 32)
    decoder = Decoder(clean[0], inputs=uploaded).eval()
    estimate = decoder(upload)
    assert estimate.shape == clean.shape
    flow = Flow((photo, 32, 32), 0.1, uploaded=uploaded).eval()
    assert flow(clean, upload, estimate, torch.rand(2)).shape == clean.shape
    assert Beside(decoder)(upload).shape == (2, uploaded + photo, 32, 32)
