"""Between arrays of pictures and tensors, and networks run without gradients.

parameters = network_parameters(local, images)      # images: (N, H, W, 3) uint8
"""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from sfumato.channels import Parameters

MOMENTUM = 0.1
"""Least share of a batch in a batch norm's running statistics: PyTorch's usual one."""


def to_tensor(images: NDArray[np.uint8], device: torch.device | None = None) -> Tensor:
    """(N, H, W, 3) bytes -> (N, 3, H, W) float in 0..1, channels-last in memory (three times faster on a CPU).

    Bytes travel to `device`, a quarter of what floats would take, and are divided there.
    """
    return torch.from_numpy(np.array(images)).to(device).permute(0, 3, 1, 2).float() / 255


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


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """Keep gradients out of a module's weights, but let them pass through it; batch norm uses its running statistics."""
    mode = module.training
    module.eval().requires_grad_(False)
    try:
        yield
    finally:
        module.train(mode).requires_grad_(True)


def follow_batches(network: nn.Module) -> None:
    """Let the running statistics of a network from elsewhere follow training as fast as those of our own do.

    Several libraries' networks bring a momentum of 0.01, for epochs of thousands of steps. After an epoch of 26 steps three
    quarters of such statistics are still those of the pictures they came from: evaluation, which reads them, then judges a
    network that training never saw.
    """
    for part in network.modules():
        if isinstance(part, _BatchNorm) and part.momentum is not None:
            part.momentum = max(part.momentum, MOMENTUM)


def network_parameters(local: nn.Module, images: NDArray[np.uint8], *, batch_size: int = 256) -> Parameters:
    """Run a local network over images (N, H, W, 3) and gather its channel parameters on the CPU."""
    device = next(local.parameters()).device
    parts: list[Parameters] = []
    with evaluating(local):
        for start in range(0, len(images), batch_size):
            batch = local(to_tensor(images[start : start + batch_size], device))
            parts.append({name: value.cpu() for name, value in batch.items()})
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
