"""Small artifacts with a known answer, for the tests of the audit.

`dataset` holds images of two attributes: `shape` (kept: a bright disc or not) and `tone` (to be hidden: the
picture is reddish or bluish). The artifacts differ in what their channel lets through.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from sfumato.audit import audit
from sfumato.audit.attack_data import AttackData, build_attack_data
from sfumato.audit.plan import Plan
from sfumato.audit.schema import Audit
from sfumato.channels import Channel, Parameters, create
from sfumato.data import Attribute, Dataset, Split
from sfumato.models.cloud import ResNet
from sfumato.models.tensors import to_tensor

SIZE = 16
COUNTS = {Split.DEFENDER: 60, Split.ATTACKER: 400, Split.VALIDATION: 200, Split.TEST: 500}
TINY = Plan(
    name="tiny",
    probes=("linear", "cnn", "mobilenet"),
    clean_probes=("cnn",),
    rates=(3e-3,),
    provider_rates=(3e-3,),
    epochs=8,
    provider_epochs=12,
    clean_epochs=6,
    steps=1,
    clean_steps=1,
    patience=8,
    prior_steps=10,
)


def dataset(*, balanced: bool = True, coupled: float = 0.0, seed: int = 0) -> Dataset:
    """Discs on tinted, noisy ground. `coupled` is the probability that tone copies shape."""
    rng = np.random.default_rng(seed)
    n = sum(COUNTS.values())
    shape = rng.integers(0, 2, n)
    tone = (rng.random(n) < (0.5 if balanced else 0.2)).astype(np.int64)
    tone = np.where(rng.random(n) < coupled, shape, tone)
    y, x = np.mgrid[:SIZE, :SIZE]
    disc = ((x - SIZE / 2) ** 2 + (y - SIZE / 2) ** 2 < 16)[None, :, :, None] * shape[:, None, None, None]
    tint = np.array([[0.12, 0, -0.12], [-0.12, 0, 0.12]])[tone][:, None, None, :]
    pixels = 0.45 + 0.3 * disc + tint + rng.normal(0, 0.08, (n, SIZE, SIZE, 3))
    starts = np.cumsum([0, *COUNTS.values()])
    return Dataset(
        id="0" * 16,
        spec="test",
        images=(pixels.clip(0, 1) * 255).astype(np.uint8),
        labels={"shape": shape.astype(np.int64), "tone": tone.astype(np.int64)},
        attributes={
            "shape": Attribute(name="shape", classes=("none", "disc")),
            "tone": Attribute(name="tone", classes=("red", "blue")),
        },
        splits={
            split: np.arange(start, start + count)
            for (split, count), start in zip(COUNTS.items(), starts, strict=False)
        },
    )


def cloud(seed: int = 0) -> nn.Module:
    """A small untrained cloud network with one head for `shape`."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return ResNet({"shape": 2}, widths=(8, 8, 16)).eval()


@dataclass
class SmallArtifact:
    """An artifact whose channel parameters come from a plain function of the images."""

    folder: Path
    dataset: Dataset
    function: Callable[[NDArray[np.uint8]], Parameters]
    channel: Channel = field(default_factory=lambda: create("dither", levels=2))
    cloud: nn.Module = field(default_factory=cloud)
    keep: tuple[str, ...] = ("shape",)
    hide: tuple[str, ...] = ("tone",)
    clean_accuracy: Mapping[str, float] = field(default_factory=lambda: {"shape": 0.99})
    kind: Literal["float", "int8"] = "float"

    def parameters(self, images: NDArray[np.uint8]) -> Parameters:
        """Channel parameters of images."""
        return self.function(images)


def nearly_clean(images: NDArray[np.uint8]) -> Parameters:
    """A channel that passes the image on, as far as one bit a sample can."""
    return {"p": torch.sigmoid(8 * (to_tensor(images) - 0.5))}


def noise_only(images: NDArray[np.uint8]) -> Parameters:
    """A channel that passes nothing."""
    return {"p": torch.full((len(images), 3, SIZE, SIZE), 0.5)}


def planted(images: NDArray[np.uint8]) -> Parameters:
    """Pure noise but for a 4x4 patch that spells out the tone."""
    p = noise_only(images)["p"]
    reddish = (images[..., 0].mean((1, 2)) > images[..., 2].mean((1, 2))).astype(np.float32)
    p[:, :, 4:8, 8:12] = torch.from_numpy(0.15 + 0.7 * reddish)[:, None, None, None]
    return {"p": p}


def identity(images: NDArray[np.uint8]) -> Parameters:
    """A gaussian channel that passes the image as it is."""
    mean = to_tensor(images)
    return {"mean": mean, "scale": torch.full_like(mean, 1e-4)}


def faint(images: NDArray[np.uint8]) -> Parameters:
    """The tone, spread over all bits and nearly lost in each: many uploads together tell it."""
    reddish = (images[..., 0].mean((1, 2)) > images[..., 2].mean((1, 2))).astype(np.float32)
    shift = torch.from_numpy(0.016 * reddish - 0.008)[:, None, None, None]
    return {"p": noise_only(images)["p"] + shift}


FUNCTIONS = {
    "clean": nearly_clean,
    "noise": noise_only,
    "planted": planted,
    "identity": identity,
    "faint": faint,
}
Make = Callable[..., SmallArtifact]


@pytest.fixture(scope="session")
def make(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """`make("clean" | "noise" | ..., **options of dataset)`: an artifact in a folder of its own."""

    def build(kind: str, **options: Any) -> SmallArtifact:
        channel = create("gaussian") if kind == "identity" else create("dither", levels=2)
        return SmallArtifact(tmp_path_factory.mktemp(kind), dataset(**options), FUNCTIONS[kind], channel)

    return build


@pytest.fixture(scope="session")
def attack_data(make: Make) -> Callable[[str], AttackData]:
    """Attack data against one of the artifacts, prepared once."""
    return cache(lambda kind: build_attack_data(make(kind), ("tone",), copies=2, seed=0))


@pytest.fixture(scope="session")
def audited(make: Make) -> Callable[[str], tuple[Audit, Path]]:
    """A tiny audit of one of the artifacts, run once, and the folder it wrote to."""

    def run(kind: str) -> tuple[Audit, Path]:
        artifact = make(kind)
        return audit(artifact, attacks=TINY), artifact.folder

    return cache(run)
