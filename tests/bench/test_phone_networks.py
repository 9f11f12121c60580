"""Other methods' networks have the cost that their papers state, and survive the export."""

import shutil
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sfumato import channels, models
from sfumato.bench import phone_networks
from sfumato.bench.arm.counting import bench_arm
from sfumato.bench.phone_networks import (
    PHONE_NETWORKS,
    ChannelsLast,
    phone_network_subjects,
    untrained_subjects,
)
from sfumato.bench.standard import standard_input
from sfumato.core.errors import SfumatoError, UsageError
from sfumato.export.freeze import fold
from sfumato.models.cost import cost
from sfumato.runtime.contract import ChannelPart
from sfumato.runtime.delegate_lint import xnnpack_partitions
from sfumato.runtime.interpreter import open_model

PUBLISHED = {
    "protective": (32, 7.76e6, 188.7e6, 0.002),
    "arden": (32, None, 39.5e6, 0.002),
    "deepobfuscator": (32, 261e3, 96e6, 0.002),
    "mobilenetv3": (224, 2_542_856, 56.5e6, 0.005),
    "efficientnet": (
        224,
        4_652_008,
        407e6,
        0.06,
    ),  # as rounded by those who publish it: others count 386 million
}
"""Side of the picture, parameters, multiply-accumulates, and by how much those may differ.

The parameters of the last two are those of torchvision 0.21 and timm 1.0 for the same names, batch norms included.
"""


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_layers_reproduce_the_published_cost(name: str) -> None:
    side, parameters, macs, near = PUBLISHED[name]
    network = PHONE_NETWORKS[name]().eval()
    found = cost(network, (3, side, side))
    assert found.macs == pytest.approx(macs, rel=near)
    if parameters is None:
        return
    if isinstance(parameters, int):
        assert sum(weights.numel() for weights in network.parameters()) == parameters
    else:
        assert found.parameters == pytest.approx(parameters, rel=0.005)


def test_uploads_have_the_published_sizes() -> None:
    image = torch.zeros(1, 3, 32, 32)
    assert 4 * PHONE_NETWORKS["arden"]().eval()(image).numel() == 65536
    assert PHONE_NETWORKS["protective"]().eval()(image).shape == image.shape
    assert PHONE_NETWORKS["mobilenet"]().eval()(image).shape == (1, 2, 1, 1)


@pytest.mark.slow
def test_a_network_is_exported_once_and_computes_what_it_did(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(phone_networks, "cache_folder", lambda: tmp_path)
    float32, int8 = phone_network_subjects(["protective"], (32, 32), ["float32", "dynamic", "int8"])
    assert [float32.variant, int8.variant] == ["float32", "int8"]
    torch.manual_seed(phone_networks.SEED)
    network = PHONE_NETWORKS["protective"]().eval()
    for subject in (float32, int8):
        facts = subject.facts()
        assert (facts["macs"], facts["size"]) == (cost(network, (3, 32, 32)).macs, (32, 32))
        assert xnnpack_partitions(open_model(subject.content)) == 1
    session = open_model(float32.content)
    (entry,) = session.inputs.values()
    image = standard_input(entry)
    with torch.no_grad():
        (wanted,) = ChannelsLast(fold(network))(torch.from_numpy(image))
    assert np.abs(session.run(image)["out"] - wanted.numpy()).max() < 1e-4

    def refuse(*_: object) -> None:
        raise AssertionError("converted twice")

    monkeypatch.setattr(phone_networks, "convert_network", refuse)
    (again,) = phone_network_subjects(["protective"], (32, 32), ["int8"])
    assert again.content == int8.content


def test_planes_of_a_settled_network_do_not_fade() -> None:
    """Otherwise scales would differ so much that XNNPACK leaves out sums."""
    torch.manual_seed(phone_networks.SEED)
    network = PHONE_NETWORKS["mobilenetv3"]().eval()
    seen: list[Tensor] = []
    list(network.children())[-5].register_forward_hook(lambda *parts: seen.append(parts[-1]))
    images = torch.rand(4, 3, 64, 64)
    with torch.no_grad():
        network(images)
        for part in network.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.reset_running_stats()
        network(images)
    settled, random = (one.std().item() for one in seen)
    assert settled > 0.1
    assert random < 0.01


@pytest.mark.slow
def test_xnnpack_takes_all_of_a_hard_swish(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(phone_networks, "cache_folder", lambda: tmp_path)
    monkeypatch.setattr(phone_networks, "VARIANTS", ("int8",))
    (subject,) = phone_network_subjects(["mobilenetv3"], (32, 32), ["int8"])
    assert xnnpack_partitions(open_model(subject.content)) == 1


@pytest.mark.slow
def test_a_picture_of_480_by_640_works(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    channel = ChannelPart(name="dither", levels=2)
    monkeypatch.setattr(phone_networks, "cache_folder", lambda: tmp_path)
    monkeypatch.setattr(phone_networks, "CALIBRATION_IMAGES", 1)
    monkeypatch.setattr(phone_networks, "VARIANTS", ("int8",))
    (subject,) = untrained_subjects(channel, (480, 640), ["int8"])
    assert subject.facts()["size"] == (480, 640)
    try:
        (row,) = bench_arm([subject], ["cortex-a76"], runs=1).rows
    except SfumatoError as error:
        pytest.skip(f"no emulator: {error}")
    assert row.same_as_host
    assert row.instructions is not None
    assert row.instructions > 480 * 640


@pytest.mark.parametrize(
    ("package", "changed"),
    [(models, "local.py"), (models, "layers.py"), (models, "argmax_head.py"), (channels, "dither.py")],
)
def test_another_network_is_another_model(
    package: ModuleType, changed: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    before = phone_networks.fingerprint()
    copy = shutil.copytree(Path(str(package.__file__)).parent, tmp_path / "package")
    monkeypatch.setattr(package, "__file__", str(copy / "__init__.py"))
    assert phone_networks.fingerprint() == before
    with (copy / changed).open("a") as file:
        file.write("# another one")
    assert phone_networks.fingerprint() != before


def test_names_and_sizes_are_checked() -> None:
    with pytest.raises(UsageError, match="unknown phone network 'cloak': known are all, arden"):
        phone_network_subjects(["cloak"], (64, 64), ["int8"])
    with pytest.raises(UsageError, match="multiples of 16, not 50x64"):
        untrained_subjects(ChannelPart(name="dither", levels=2), (50, 64), ["int8"])
