"""The local network as it ships: frozen, batch norm folded, channels last at both ends.

network = freeze_network(run.local, run.dataset.size)
outputs = network(image)        # (1, H, W, 3) -> one (1, H, W, planes) per output, each in 0..1
"""

import copy

import torch
from torch import Tensor, nn

from sfumato.channels import create, upload_size
from sfumato.channels.dither import over_pixels
from sfumato.core.errors import SfumatoError
from sfumato.models import layers
from sfumato.models.answer_network import AnswerNetwork
from sfumato.models.layers import Network
from sfumato.models.local import LocalNetwork
from sfumato.models.own_local import OwnLocal

FOLDING_LIMIT = 1e-4
"""Largest difference that folding batch norm may make to an output."""


class PhoneNetwork(nn.Module):
    """A folded local network, NHWC in and out, each output a logistic function.

    A logistic function has the int8 scale 1/256 and the zero point -128 by TensorFlow Lite's definition, so nothing is
    left to calibration. The gaussian scale is therefore exported in units of `largest_scale`.
    """

    def __init__(self, local: LocalNetwork) -> None:
        super().__init__()
        self.local = copy.deepcopy(local)
        if "largest_scale" in local.channel.settings:
            self.local.channel = create(
                local.channel.name, **{**local.channel.settings, "largest_scale": 1.0}
            )
        self.names = tuple(local.channel.outputs)
        self.planes = local.channel.colours
        """Of the image."""
        self.eval()

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """(B, H, W, planes of the image) in 0..1 -> one (B, H, W, planes) per output, smaller by the channel's `subsample`."""
        parameters = self.local(image.permute(0, 3, 1, 2))
        return tuple(parameters[name].permute(0, 2, 3, 1) for name in self.names)

    def decision_margin(self, image: Tensor) -> Tensor:
        """Margin of the phone's decision on each image (B, H, W, 3), (B,), in logits; infinite without a decision."""
        decision = self.local.decision
        if decision is None:
            return torch.full((len(image),), torch.inf)
        return decision.lead(decision.logits(self.local.encoder(image.permute(0, 3, 1, 2))[-1]))

    def gate_margin(self, image: Tensor) -> Tensor:
        """How clearly each pixel's block is open or closed, in logits, (B, H, W, 1); infinite without gates."""
        if self.local.gates is None:
            return torch.full((*image.shape[:3], 1), torch.inf)
        return over_pixels(self.local.gate_margin(image.permute(0, 3, 1, 2))).permute(0, 2, 3, 1)


class AnswerPhone(nn.Module):
    """A folded network of answer mode, NHWC in and out: one score for every class, no logistic function behind it."""

    names = ("scores",)

    def __init__(self, network: AnswerNetwork) -> None:
        super().__init__()
        self.network, self.planes = network, network.planes
        self.eval()

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """(B, H, W, 3) in 0..1 -> (B, 1, 1, S)."""
        return (self.network.scores(image.permute(0, 3, 1, 2)).permute(0, 2, 3, 1),)


def freeze_answer(network: AnswerNetwork, size: tuple[int, int]) -> AnswerPhone:
    """Freeze, fold and wrap a trained network of answer mode; the original is left as it was.

    Args:
        network: in evaluation mode.
        size: (height, width) of the images.

    Raises:
        SfumatoError: as `freeze_network`.
    """
    phone = AnswerPhone(freeze(network))
    example = torch.rand(2, *size, phone.planes, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        (before,) = phone(example)
        fold(phone.network)
        phone.eval()  # folding puts new parts in
        (after,) = phone(example)
    check_folding(float((before - after).abs().max()))
    shape = (2, 1, 1, sum(network.classes.values()))
    if tuple(after.shape) != shape:
        raise SfumatoError(f"the phone's network gives scores of {tuple(after.shape)}, not {shape}")
    return phone


def freeze_network(local: LocalNetwork, size: tuple[int, int]) -> PhoneNetwork:
    """Freeze, fold and wrap a trained network; the original is left as it was.

    Args:
        local: the trained network, in evaluation mode.
        size: (height, width) of the images.

    Raises:
        SfumatoError: it is in training mode or not finite, its batch norm cannot be folded, or an output has another shape
            than the channel's or leaves 0..1.
    """
    frozen = freeze(local)
    example = torch.rand(2, frozen.channel.colours, *size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        before = frozen(example)
        after = fold(frozen)(example)
    gap = max(float((before[name] - after[name]).abs().max()) for name in before)
    check_folding(gap)
    network = PhoneNetwork(frozen)
    check_outputs(network, size)
    return network


def check_folding(gap: float) -> None:
    """Refuse a network whose outputs folding changed by more than rounding does.

    Raises:
        SfumatoError: `gap`, the largest difference, is above `FOLDING_LIMIT` or not a number.
    """
    if not gap <= FOLDING_LIMIT:
        raise SfumatoError(
            f"folding batch norm changed the outputs by {gap:.1e}: the weights are too extreme to ship"
        )


def freeze(local: Network) -> Network:
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
    if isinstance(network, OwnLocal):
        return network  # what stands elsewhere is an operator like any other, and the converter's affair
    left = [
        name for name, part in network.named_modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)
    ]
    if left:
        raise SfumatoError(f"batch norm without a convolution before it cannot ship: {', '.join(left)}")
    return network


def check_outputs(network: PhoneNetwork, size: tuple[int, int]) -> None:
    """Run a black image and compare the outputs with the channel's.

    Raises:
        SfumatoError: an output is missing, has another shape than (1, H, W, planes), or leaves 0..1.
    """
    with torch.no_grad():
        found = dict(zip(network.names, network(torch.zeros(1, *size, network.planes)), strict=True))
    channel = network.local.channel
    for name, planes in channel.outputs.items():
        shape, value = (1, *upload_size(channel, size), planes), found[name]
        if tuple(value.shape) != shape:
            raise SfumatoError(f"the local network's output {name} is {tuple(value.shape)}, not {shape}")
        if not bool(((value >= 0) & (value <= 1)).all()):
            raise SfumatoError(f"the local network's output {name} leaves the range 0..1")
