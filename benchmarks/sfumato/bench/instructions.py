"""What a network would cost on the phone as int8, estimated without converting it.

    price(cloud, (3, 64, 64))       # OnPhone(macs=13297664, instructions={"cortex-a53": ...}, bytes=...)

Executed instructions are those that `sfumato bench arm` counted for other int8 networks, per multiply-accumulate
(benchmarks/results/arm.json): more in networks of depthwise convolutions, which leave the dot products idle. The size is one
byte a weight, and for each output plane and layer what TensorFlow Lite stores beside them.
"""

from collections.abc import Mapping

from torch import nn

from sfumato.models.cost import cost
from sfumato.training.advice import OnPhone

DENSE: Mapping[str, float] = {"cortex-a53": 0.40, "cortex-a72": 0.39, "cortex-a76": 0.125}
"""Core -> instructions for each multiply-accumulate: those of the convolutions of our own cloud network at 64x64 (13.29 million
MACs: 5,356,554, 5,113,979 and 1,657,078 instructions, 91,520 bytes), which are smaller and so cost more than those of arden,
deepobfuscator and protective."""
SEPARABLE: Mapping[str, float] = {"cortex-a53": 0.61, "cortex-a72": 0.71, "cortex-a76": 0.35}
"""The same for networks of depthwise and pointwise convolutions: the larger of sfumato and mobilenet."""
PLANE_BYTES = 16
"""Beside the weights of an output plane: bias, scale and zero point."""
LAYER_BYTES = 700
"""Names, shapes and options of a layer and its tensors."""
LAYERS = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)


def price(network: nn.Module, shape: tuple[int, int, int]) -> OnPhone:
    """Estimate the cost of one image.

    Args:
        network: with batch norms as it was trained; the export folds them.
        shape: (3, H, W) of an image.
    """
    layers = [part for part in network.modules() if isinstance(part, LAYERS)]
    rates = SEPARABLE if any(depthwise(part) for part in layers) else DENSE
    macs = cost(network, shape).macs
    weights = sum(part.weight.numel() for part in layers)
    planes = sum(part.out_features if isinstance(part, nn.Linear) else part.out_channels for part in layers)
    return OnPhone(
        macs=macs,
        instructions={core: rate * macs for core, rate in rates.items()},
        bytes=weights + PLANE_BYTES * planes + LAYER_BYTES * len(layers),
    )


def depthwise(part: nn.Module) -> bool:
    """Whether each plane of a convolution sees one plane of its input."""
    return isinstance(part, nn.Conv2d) and part.groups == part.in_channels > 1
