"""What the audit judges: anything that turns images into channel parameters and has a cloud network behind it.

A training run (float) and an exported bundle (int8) both are artifacts. The network is deterministic, so an audit computes
the parameters of each image once and draws as many uploads from them as its attackers want.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sfumato.channels import Channel, Parameters
from sfumato.data import Dataset


class Artifact(Protocol):
    """A frozen defence."""

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


def to_tensor(images: NDArray[np.uint8]) -> Tensor:
    """(N, H, W, 3) bytes -> (N, 3, H, W) float in 0..1, channels-last in memory (three times faster on a CPU)."""
    return torch.from_numpy(np.array(images)).permute(0, 3, 1, 2).float() / 255


@contextmanager
def evaluating(*modules: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients inside the block; each module's mode is restored after it."""
    modes = [module.training for module in modules]
    try:
        for module in modules:
            module.eval()
        with torch.no_grad():
            yield
    finally:
        for module, mode in zip(modules, modes, strict=True):
            module.train(mode)


def network_parameters(local: nn.Module, images: NDArray[np.uint8], *, batch_size: int = 256) -> Parameters:
    """Run a local network over images (N, H, W, 3) and gather its channel parameters on the CPU."""
    device = next(local.parameters()).device
    parts: list[Parameters] = []
    with evaluating(local):
        for start in range(0, len(images), batch_size):
            batch = local(to_tensor(images[start : start + batch_size]).to(device))
            parts.append({name: value.cpu() for name, value in batch.items()})
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
