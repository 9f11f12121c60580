"""What a network costs on the phone: parameters and multiply-accumulates.

    cost(local, (3, 64, 64))        # Cost(parameters=17930, macs=1709056)

Batch norm counts nothing: it is folded into the convolution before it ships. Resizing and elementwise operators count no
MACs, as is usual in the field.
"""

from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Cost:
    """Parameters after folding batch norm, and multiply-accumulates for one image."""

    parameters: int
    macs: int


def folded_parameters(module: nn.Module) -> int:
    """Weights and biases that remain once every batch norm is folded: each leaves one bias per plane."""
    total = 0
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            total += part.num_features
        else:
            total += sum(p.numel() for p in part.parameters(recurse=False))
    return total


def cost(module: nn.Module, shape: tuple[int, int, int]) -> Cost:
    """Run one blank image of `shape` (C, H, W) and count.

    Counts convolutions, transposed convolutions and linear layers; weights used twice count twice.
    """
    macs = 0

    def count(part: nn.Module, _: Any, output: Tensor) -> None:
        nonlocal macs
        if isinstance(part, nn.Linear):
            macs += output.numel() * part.in_features
        elif isinstance(part, nn.ConvTranspose2d):
            pixels = output.numel() // part.out_channels // (part.stride[0] * part.stride[1])
            macs += pixels * part.weight.numel()
        elif isinstance(part, nn.Conv2d):
            macs += output.numel() * part.in_channels // part.groups * prod(part.kernel_size)

    hooks = [part.register_forward_hook(count) for part in module.modules()]
    training = module.training
    device = next((weights.device for weights in module.parameters()), torch.device("cpu"))
    try:
        module.eval()
        with torch.no_grad():
            module(torch.zeros(1, *shape, device=device))
    finally:
        module.train(training)
        for hook in hooks:
            hook.remove()
    return Cost(folded_parameters(module), macs)
