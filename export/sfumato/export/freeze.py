"""The local network as it ships: frozen, batch norm folded, channels last at both ends.

Three passes turn a trained `LocalNetwork` into the module that is written as local.onnx:

    network = PhoneNetwork(fold(freeze(local)))
    outputs = network(image)        # (1, H, W, 3) -> one (1, H, W, planes) per output, each in 0..1
"""

import copy

import torch
from torch import Tensor, nn

from sfumato.channels import create
from sfumato.core.errors import SfumatoError
from sfumato.models import layers
from sfumato.models.layers import Network
from sfumato.models.local import LocalNetwork


def freeze(local: LocalNetwork) -> LocalNetwork:
    """A copy without gradients, on the CPU, in evaluation mode.

    Raises:
        SfumatoError: the network is in training mode (its batch norm would still move), or holds a value that is not
            a finite number.
    """
    if local.training:
        raise SfumatoError("the local network is in training mode: call eval() before the export")
    frozen = copy.deepcopy(local).cpu().float().requires_grad_(False)
    for name, value in frozen.state_dict().items():
        if not torch.isfinite(value).all():
            raise SfumatoError(f"the local network's {name} holds values that are not finite: train it again")
    return frozen


def fold(network: Network) -> Network:
    """Fold every batch norm into the convolution before it, in place; returns the same network.

    Raises:
        SfumatoError: one stands elsewhere.
    """
    layers.fold(network)
    left = [
        name for name, part in network.named_modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)
    ]
    if left:
        raise SfumatoError(f"batch norm without a convolution before it cannot ship: {', '.join(left)}")
    return network


class PhoneNetwork(nn.Module):
    """A folded local network, NHWC in and out, each output a logistic function.

    A logistic function has the int8 scale 1/256 and the zero point -128 by TensorFlow Lite's definition, so nothing is
    left to calibration. The gaussian scale is therefore exported in units of `largest_scale`.
    """

    def __init__(self, local: LocalNetwork) -> None:
        super().__init__()
        self.local = copy.deepcopy(local)
        settings = dict(local.channel.settings)
        if "largest_scale" in settings:
            settings["largest_scale"] = 1.0
        self.local.channel = create(local.channel.name, **settings)
        self.names = tuple(local.channel.outputs)
        self.eval()

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """(B, H, W, 3) in 0..1 -> one (B, H, W, planes) per output."""
        parameters = self.local(image.permute(0, 3, 1, 2))
        return tuple(parameters[name].permute(0, 2, 3, 1) for name in self.names)

    def lead(self, image: Tensor) -> Tensor:
        """How clearly each image (B, H, W, 3) is decided upon, (B,), in logits; infinite without a decision."""
        decision = self.local.decision
        if decision is None:
            return torch.full((len(image),), torch.inf)
        return decision.lead(decision.logits(self.local.encoder(image.permute(0, 3, 1, 2))[-1]))
