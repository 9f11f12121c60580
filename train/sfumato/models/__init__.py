"""Networks: the local one on the phone, the cloud one, the attackers, and what they cost."""

from typing import TypeVar

import torch
from torch import nn

Network = TypeVar("Network", bound=nn.Module)


def channels_last(module: Network) -> Network:
    """Lay out the weights channels-last: depthwise convolutions train three times faster on a CPU."""
    moved: Network = module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return moved
