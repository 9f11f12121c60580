"""Other methods' networks have the cost that their papers state, and survive the export."""

import shutil
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

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
    "protective": (7.76e6, 188.7e6),
    "arden": (None, 39.5e6),
    "deepobfuscator": (261e3, 96e6),
}
"""Parameters and multiply-accumulates at 32x32."""


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_layers_reproduce_the_published_cost(name: str) -> None:
    parameters, macs = PUBLISHED[name]
    found = cost(PHONE_NETWORKS[name]().eval(), (3, 32, 32))
    assert found.macs == pytest.approx(macs, rel=0.002)
    if parameters is not None:
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
