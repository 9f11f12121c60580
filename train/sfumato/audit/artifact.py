"""What the audit attacks: anything that turns images into channel parameters and has a cloud network behind it.

A training run (float) and an exported bundle (int8) both are artifacts. The network is deterministic, so an audit computes
the parameters of each image once and draws as many uploads from them as its attackers want.

    artifact = load(Path("runs/gender"))

Loaders are entry points of the group `sfumato.artifacts`: the name is the file that marks such a folder, the value the
function that loads it. So the audit imports no package above it.
"""

from collections.abc import Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import nn

from sfumato.channels import Channel, Parameters
from sfumato.core.errors import SfumatoError, UsageError
from sfumato.data import Dataset

GROUP = "sfumato.artifacts"


class Artifact(Protocol):
    """A frozen model."""

    @property
    def kind(self) -> Literal["float", "int8"]:
        """Which arithmetic produced the parameters."""
        ...

    @property
    def folder(self) -> Path:
        """Where the artifact lives and where its audit is written."""
        ...

    @property
    def dataset(self) -> Dataset:
        """The data it was trained on, with its splits."""
        ...

    @property
    def keep(self) -> tuple[str, ...]:
        """Desired attributes."""
        ...

    @property
    def hide(self) -> tuple[str, ...]:
        """Declared undesired attributes."""
        ...

    @property
    def channel(self) -> Channel:
        """The noisy channel."""
        ...

    @property
    def cloud(self) -> nn.Module:
        """The cloud network, in evaluation mode; maps an upload to logits per desired attribute."""
        ...

    @property
    def clean_accuracy(self) -> Mapping[str, float]:
        """Test accuracy (fraction) of the clean cloud network, per desired attribute."""
        ...

    def parameters(self, images: NDArray[np.uint8]) -> Parameters:
        """Channel parameters of images (N, H, W, 3), on the CPU."""
        ...


def at_strength(artifact: Artifact, strength: int) -> Artifact:
    """The same artifact where it draws its uploads at the strength of one of its points.

    Raises:
        UsageError: it has no such point; a run has none.
    """
    choose = getattr(artifact, "at_strength", None)
    if choose is None:
        raise UsageError(
            f"{artifact.folder} is no export, and exports alone have points: leave the strength out"
        )
    chosen: Artifact = choose(strength)
    return chosen


def load(folder: Path, *, cloud: str | None = None, data: str | None = None) -> Artifact:
    """Load whatever a folder holds: a run, or an export.

    Args:
        folder: of the artifact.
        cloud: the `module:factory` of its cloud network, where that is the user's own; several with commas.
        data: the spec of its data here, where they lie elsewhere than for its maker; they have to be equal.

    Raises:
        SfumatoError: it holds neither, its data are others, or it names a factory that `cloud` does not.
    """
    loaders = sorted(entry_points(group=GROUP), key=lambda loader: loader.name)
    for loader in loaders:
        if (folder / loader.name).exists():
            loaded: Artifact = loader.load()(folder, cloud=cloud, data=data)
            return loaded
    marks = ", ".join(dict.fromkeys(loader.name for loader in loaders))
    raise SfumatoError(f"{folder} holds neither a run nor an export ({marks} are missing)")
