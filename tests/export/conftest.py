"""One small run and one export of it, shared by all tests of a worker: a conversion takes ten seconds and more.

The network is not trained, but its gates are nearly closed like a trained one's; labels play no part in these tests.
"""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from sfumato.clean import make_cloud
from sfumato.config import TrainConfig
from sfumato.data import open_dataset
from sfumato.exporting import export
from sfumato.run import Run, make_local

SETTINGS = {
    "dither": {"channel": "dither", "levels": 2},
    "dither4": {"channel": "dither", "levels": 4},
    "gaussian": {"channel": "gaussian"},
    "additive": {"channel": "gaussian", "objective": "seed"},
}


def build_run(name: str) -> Run:
    """A run as `load_run` would give it, made in a second."""
    config = TrainConfig(
        data="synthetic,count=800,size=32",
        keep=("glasses",),
        hide=("smiling",),
        **SETTINGS[name],  # type: ignore[arg-type]
    )
    dataset = open_dataset(config.data, keep=config.keep, hide=config.hide)
    torch.manual_seed(3)
    local, cloud = make_local(config, dataset), make_cloud(config, dataset)
    with torch.no_grad():
        for part in local.modules():
            if isinstance(part, nn.BatchNorm2d):
                assert part.running_mean is not None
                assert part.running_var is not None
                part.running_mean.normal_(0, 0.1)
                part.running_var.uniform_(0.5, 2.0)
        if local.decision is not None:
            assert local.decision.answer.bias is not None
            local.decision.answer.bias.copy_(torch.tensor([0.0, 4.0]))
        for head, bias in (("gate", -2.0), ("offset", 0.0), ("noise", 0.0)):
            if head in local.heads:
                local.heads[head].bias.fill_(bias)  # type: ignore[operator]
                local.heads[head].weight.normal_(0, 0.05)  # type: ignore[operator]
    card = {"dataset": {"id": dataset.id}, "clean_accuracy": {"glasses": 0.9}}
    return Run(Path("run"), config, dataset, local.eval(), cloud.eval(), card)


@pytest.fixture(scope="session")
def make_run() -> Callable[[str], Run]:
    """A run of any name in `SETTINGS`."""
    return build_run


@pytest.fixture(scope="session")
def dither_run() -> Run:
    return build_run("dither")


@pytest.fixture(scope="session")
def sealed(dither_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export that must not be changed."""
    out = tmp_path_factory.mktemp("sealed") / "export"
    export(dither_run, out)
    return out


@pytest.fixture
def bundle(sealed: Path, tmp_path: Path) -> Path:
    """A copy of the export, free to be damaged."""
    return Path(shutil.copytree(sealed, tmp_path / "export"))


@pytest.fixture
def photo() -> Callable[[int, int], NDArray[np.uint8]]:
    """Pictures of any size with something to see in them."""

    def make(height: int, width: int) -> NDArray[np.uint8]:
        y, x = np.mgrid[0:height, 0:width]
        waves = [np.sin(6 * k * x / width + c * y / height) for c, k in enumerate((1, 2, 3))]
        picture: NDArray[np.uint8] = (127 + 120 * np.stack(waves, axis=2)).astype(np.uint8)
        return picture

    return make
