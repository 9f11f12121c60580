"""What other methods run on the phone, exported like ours: the networks of the papers, with random weights.

Cost does not depend on what weights were learned. The layers are those the papers name; where a paper gives only figures, the
layers are the ones that reproduce them (docs/benchmarks.md). `sfumato.compare.methods` trains the same methods within our own
budget, with smaller networks; `sfumato bench networks` shows both sizes.

    subjects = phone_network_subjects(["protective"], (64, 64), ["int8"])
"""

import hashlib
import tempfile
from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from sfumato import channels, export, models
from sfumato.bench.subjects import OURS, Subject
from sfumato.channels import create as create_channel
from sfumato.core.errors import UsageError, unknown
from sfumato.core.files import atomic_folder
from sfumato.data.cache import cache_folder
from sfumato.export.freeze import PhoneNetwork, fold, freeze
from sfumato.export.onnx_files import write_onnx
from sfumato.export.tflite import convert, model_file, name_tensors
from sfumato.models.layers import convolution
from sfumato.models.lite0 import FEATURES, Lite0
from sfumato.models.local import LocalNetwork, check_size
from sfumato.runtime.contract import ChannelPart

CALIBRATION_IMAGES = 4
VARIANTS = ("float32", "int8")
SEED = 0


def block(inputs: int, outputs: int) -> nn.Sequential:
    """Convolution 3x3, batch norm, ReLU."""
    return nn.Sequential(convolution(inputs, outputs), nn.ReLU())


class ChannelsLast(nn.Module):
    """A network with NHWC at both ends, as phones have it."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> tuple[Tensor]:
        """(1, H, W, 3) in 0..1 -> (1, h, w, planes)."""
        return (self.network(image.permute(0, 3, 1, 2)).permute(0, 2, 3, 1),)


class UNet(nn.Module):
    """Protective Perturbation (MMSys 2022): a residual U-Net; 7.76 million parameters, 188.7 million MACs at 32x32."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(5)]
        self.down = nn.ModuleList(double(a, b) for a, b in zip([3, *widths], widths, strict=False))
        pairs = list(zip(widths[1:], widths, strict=False))[::-1]
        self.enlarge = nn.ModuleList(nn.ConvTranspose2d(wide, narrow, 2, 2) for wide, narrow in pairs)
        self.up = nn.ModuleList(double(wide, narrow) for wide, narrow in pairs)
        self.last = nn.Conv2d(width, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) -> the perturbed image, of the same size."""
        levels = [self.down[0](x)]
        for part in self.down[1:]:
            levels.append(part(nn.functional.max_pool2d(levels[-1], 2)))
        *skips, y = levels
        for enlarge, part, skip in zip(self.enlarge, self.up, reversed(skips), strict=True):
            y = part(torch.cat([enlarge(y), skip], 1))
        image: Tensor = x + self.last(y)
        return image


def double(inputs: int, outputs: int) -> nn.Sequential:
    """Two convolutions."""
    return nn.Sequential(*block(inputs, outputs), *block(outputs, outputs))


def arden() -> nn.Module:
    """ARDEN's local part (KDD 2018): two convolutions, a pooling; 39.5 million MACs, 64 KiB of features at 32x32."""
    return nn.Sequential(*double(3, 64), nn.MaxPool2d(2))


def deep_obfuscator() -> nn.Module:
    """DeepObfuscator's encoder (IoTDI 2021): the first four convolutions of VGG-16; 261,000 parameters, 96 million MACs."""
    return nn.Sequential(*double(3, 64), nn.MaxPool2d(2), *double(64, 128), nn.MaxPool2d(2))


MOBILENET_V2 = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
"""MobileNetV2's stages: expansion, planes at full width, blocks, stride of the first."""
MOBILENET_V3_SMALL = (
    (3, 16, 16, True, nn.ReLU, 2),
    (3, 72, 24, False, nn.ReLU, 2),
    (3, 88, 24, False, nn.ReLU, 1),
    (5, 96, 40, True, nn.Hardswish, 2),
    (5, 240, 40, True, nn.Hardswish, 1),
    (5, 240, 40, True, nn.Hardswish, 1),
    (5, 120, 48, True, nn.Hardswish, 1),
    (5, 144, 48, True, nn.Hardswish, 1),
    (5, 288, 96, True, nn.Hardswish, 2),
    (5, 576, 96, True, nn.Hardswish, 1),
    (5, 576, 96, True, nn.Hardswish, 1),
)
"""MobileNetV3-small's blocks (Howard et al., 2019, table 2): kernel, expanded planes, planes, squeeze, activation, stride."""
CLASSES = 1000
"""Of networks that are measured as published: ImageNet's."""


def divisible(count: float) -> int:
    """Planes as the authors of the MobileNets round them: a multiple of 8, at most a tenth below."""
    rounded = max(8, int(count + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * count else rounded


class Excite(nn.Module):
    """Squeeze-excite (Hu et al., 2018)."""

    def __init__(
        self,
        width: int,
        act: nn.Module | None = None,
        gate: nn.Module | None = None,
        few: int | None = None,
    ) -> None:
        super().__init__()
        few = width // 4 if few is None else few
        self.layers = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(width, few, 1),
            nn.ReLU() if act is None else act,
            nn.Conv2d(few, width, 1),
            nn.Sigmoid() if gate is None else gate,
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W), kept."""
        y: Tensor = x * self.layers(x)
        return y


class Inverted(nn.Module):
    """An inverted residual (Sandler et al., MobileNetV2, 2018), with what MobileNetV3 changed: kernel, activation, squeeze."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        stride: int,
        wide: int,
        *,
        size: int = 3,
        activation: type[nn.Module] = nn.ReLU6,
        squeeze: bool = False,
    ) -> None:
        super().__init__()
        first = [convolution(inputs, wide, size=1), activation()] if wide != inputs else []
        self.layers = nn.Sequential(
            *first,
            convolution(wide, wide, size=size, stride=stride, groups=wide, padding="same"),
            activation(),
            *([Excite(wide, gate=nn.Hardsigmoid(), few=divisible(wide / 4))] if squeeze else []),
            convolution(wide, outputs, size=1),
        )
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) -> (B, outputs, H / stride, W / stride)."""
        y: Tensor = self.layers(x)
        return x + y if self.residual else y


def mobilenet(width: float = 0.35, classes: int = 2) -> nn.Module:
    """A whole classifier on the phone, the alternative without a cloud: MobileNetV2 at a width of 0.35.

    Padded as its authors' is, with TensorFlow's SAME.
    """
    inputs = divisible(32 * width)
    layers: list[nn.Module] = [convolution(3, inputs, stride=2, padding="same"), nn.ReLU6()]
    for factor, count, repeats, stride in MOBILENET_V2:
        planes = divisible(count * width)
        for index in range(repeats):
            layers.append(Inverted(inputs, planes, stride if index == 0 else 1, factor * inputs))
            inputs = planes
    last = [
        convolution(inputs, 1280, size=1),
        nn.ReLU6(),
        nn.AdaptiveAvgPool2d(1),
        nn.Conv2d(1280, classes, 1),
    ]
    return nn.Sequential(*layers, *last)


def efficientnet_lite0() -> nn.Module:
    """EfficientNet-Lite0 as published, with its classes: 4.7 million parameters, 407 million MACs at 224x224."""
    return nn.Sequential(Lite0().blocks, nn.AdaptiveAvgPool2d(1), nn.Conv2d(FEATURES, CLASSES, 1))


def mobilenet_v3_small() -> nn.Module:
    """MobileNetV3-small as published (Howard et al., 2019): 2.5 million parameters, 56 million MACs at 224x224."""
    inputs = 16
    layers: list[nn.Module] = [convolution(3, inputs, stride=2, padding="same"), nn.Hardswish()]
    for size, wide, planes, squeeze, activation, stride in MOBILENET_V3_SMALL:
        layers.append(
            Inverted(inputs, planes, stride, wide, size=size, activation=activation, squeeze=squeeze)
        )
        inputs = planes
    network = nn.Sequential(
        *layers,
        convolution(inputs, 576, size=1),
        nn.Hardswish(),
        nn.AdaptiveAvgPool2d(1),
        nn.Conv2d(576, 1024, 1),
        nn.Hardswish(),
        nn.Conv2d(1024, CLASSES, 1),
    )
    return settled(network)


def settled(network: nn.Module) -> nn.Module:
    """With batch norms that know what passes them, as training leaves them.

    Random weights alone let the planes of a deep network fade. A hard swish then adds three to values a thousand times smaller,
    and XNNPACK leaves a sum of such unlike scales to slower kernels: the one count here that would depend on weights.
    """
    norms = [part for part in network.modules() if isinstance(part, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None  # the mean of all batches, of which there is one
    with torch.no_grad():
        network.train()(torch.rand(8, 3, 64, 64))
    return network


PHONE_NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "arden": arden,
    "deepobfuscator": deep_obfuscator,
    "protective": UNet,
    "mobilenet": mobilenet,
    "mobilenetv3": mobilenet_v3_small,
    "efficientnet": efficientnet_lite0,
}
"""Name on the command line -> the network on the phone."""


def phone_network_subjects(
    names: Sequence[str], size: tuple[int, int], variants: Sequence[str]
) -> list[Subject]:
    """Other methods at a size (height, width), converted once and then kept in the cache.

    Raises:
        UsageError: a name is not known.
        SfumatoError: the conversion failed.
    """
    chosen = list(PHONE_NETWORKS) if "all" in names else names
    for name in chosen:
        if name not in PHONE_NETWORKS:
            raise UsageError(unknown("phone network", name, ["all", *PHONE_NETWORKS]))
    wanted = [variant for variant in variants if variant in VARIANTS]
    return [subject for name in chosen for subject in converted(name, PHONE_NETWORKS[name], size, wanted)]


def untrained_subjects(channel: ChannelPart, size: tuple[int, int], variants: Sequence[str]) -> list[Subject]:
    """Our own network for two classes, untrained, at any size: how cost grows with the image.

    Raises:
        UsageError: a side is not a multiple of 16.
    """
    check_size(*size)
    wanted = [variant for variant in variants if variant in VARIANTS]
    made = create_channel(channel.name, **channel.settings)
    return converted(OURS, lambda: LocalNetwork(made, (2,), size), size, wanted)


def converted(
    name: str, build: Callable[[], nn.Module], size: tuple[int, int], variants: Sequence[str]
) -> list[Subject]:
    """A network's models, from the cache if they are there."""
    folder = cache_folder() / "bench" / fingerprint() / f"{name}-{size[0]}x{size[1]}"
    if not folder.exists():
        with atomic_folder(folder) as made:
            convert_network(build, size, made)
    return [Subject(name, variant, (folder / model_file(variant)).read_bytes()) for variant in variants]


def convert_network(build: Callable[[], nn.Module], size: tuple[int, int], out: Path) -> None:
    """Write every variant of a network with seeded weights into `out`, by the passes of the export."""
    with torch.random.fork_rng():
        torch.manual_seed(SEED)
        network = build().eval()
    last: nn.Module
    if isinstance(network, LocalNetwork):
        last = PhoneNetwork(fold(freeze(network)))
        names = last.names
    else:
        last, names = ChannelsLast(fold(network)).eval(), ("out",)
    images = np.random.default_rng(SEED).integers(0, 256, (CALIBRATION_IMAGES, *size, 3), dtype=np.uint8)
    images[0, 0, 0], images[0, 0, 1] = 0, 255
    with tempfile.TemporaryDirectory(prefix="sfumato-network-") as name:
        scratch = Path(name)
        write_onnx(last, torch.zeros(1, *size, 3), scratch / "local.onnx", inputs=["image"], outputs=names)
        for variant, content in convert(scratch / "local.onnx", images, VARIANTS).items():
            (out / model_file(variant)).write_bytes(name_tensors(content, names))


def fingerprint() -> str:
    """A name for the code that the models come from: networks, channels, passes."""
    folders = [Path(str(package.__file__)).parent for package in (models, channels)]
    steps = ("freeze", "lowering", "onnx_files", "onnx_graph", "packed_planes", "tflite")
    modules = [
        Path(__file__),
        *chain.from_iterable(sorted(folder.glob("*.py")) for folder in folders),
        *(Path(str(export.__file__)).with_name(f"{step}.py") for step in steps),
    ]
    return hashlib.sha256(b"".join(path.read_bytes() for path in modules)).hexdigest()[:16]
