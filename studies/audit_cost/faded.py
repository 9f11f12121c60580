"""The same run with a fainter leak: its probabilities mixed with those of pure noise.

A share of 1 leaves the run as it is, a share of 0 leaks nothing. In between the leak has the shape that training gave it and
any size, so that two plans are compared on leaks of which one is easily found and the other hardly.

    artifact = Faded(load(Path("runs/mine")), 0.1)
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from torch import nn

from sfumato.audit.artifact import Artifact
from sfumato.channels import Channel, Parameters
from sfumato.core.errors import UsageError
from sfumato.data import Dataset


class Faded:
    """An artifact whose dithered uploads tell less than another's.

    Args:
        artifact: the other.
        share: of its probabilities, in 0..1; the rest is 1/2.

    Raises:
        UsageError: a share outside 0..1, or a channel other than dither.
    """

    def __init__(self, artifact: Artifact, share: float) -> None:
        if not 0 <= share <= 1:
            raise UsageError(f"a leak is faded to a share in 0..1, not {share}")
        if artifact.channel.name != "dither":
            raise UsageError(f"only dithered uploads can be faded, not those of {artifact.channel.name!r}")
        self.artifact, self.share = artifact, share
        self.kind: Literal["float", "int8"] = artifact.kind
        self.folder: Path = artifact.folder
        self.dataset: Dataset = artifact.dataset
        self.keep, self.hide = artifact.keep, artifact.hide
        self.channel: Channel = artifact.channel
        self.cloud: nn.Module = artifact.cloud
        self.clean_accuracy: Mapping[str, float] = artifact.clean_accuracy

    def parameters(self, images: NDArray[np.uint8]) -> Parameters:
        """Probabilities of images (N, H, W, 3) on bytes' steps, as a phone's are."""
        exact = self.artifact.parameters(images)["p"].float()
        mixed = 0.5 + self.share * (exact - 0.5)
        return {"p": ((mixed * 256).round() / 256).clamp(1 / 256, 255 / 256)}
