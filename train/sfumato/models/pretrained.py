"""A cloud network of a library, with weights that were trained on other photos: EfficientNet-Lite0, timm's, torchvision's.

    spec = parse_cloud("timm:resnet18,weights=resnet18.safetensors")
    cloud = create_pretrained(spec, {"age": 9}, size=(128, 128))       # untrained: an artifact brings its own weights
    load_backbone(cloud, spec)                                          # those it starts from
    cloud(uploads)["age"]                                               # (B, 9)

The library's classifier is left out. One linear head for each kept attribute looks at what it looked at.
"""

import difflib
import importlib
import io
import math
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Self, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sfumato.core.cloud_spec import CloudSpec
from sfumato.core.errors import SfumatoError, UsageError, first_line
from sfumato.core.files import read_bytes
from sfumato.models.lite0 import DEVIATION, MEAN, Lite0, lite0_weights
from sfumato.models.tensors import evaluating, follow_batches

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Mean and deviation of colours, as torchvision's networks were trained with."""


class Pretrained(nn.Module):
    """A network of a library under one linear head for each kept attribute.

    Args:
        backbone: normalised pictures -> features (B, F).
        classes: head name -> number of classes.
        spec: names the network and says how it is trained.
        size: height and width that the backbone sees.
        mean, deviation: of each colour, which the backbone was trained with.
        dropout: before the heads.

    Attributes:
        lean: whether the backbone computes in bfloat16 while training; evaluation and export never do.

    Raises:
        UsageError: the backbone does not take pictures of this size, or has fewer parts than are to be frozen.
    """

    lean = False
    mean: Tensor
    deviation: Tensor

    def __init__(
        self,
        backbone: nn.Module,
        classes: Mapping[str, int],
        spec: CloudSpec,
        size: tuple[int, int],
        mean: tuple[float, ...],
        deviation: tuple[float, ...],
        *,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        self.backbone, self.spec, self.size = backbone, spec, size
        follow_batches(backbone)
        # Constants of the library, no weights: a checkpoint need not hold them.
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("deviation", torch.tensor(deviation).view(1, 3, 1, 1), persistent=False)
        try:
            with evaluating(backbone):
                features = backbone(torch.zeros(1, 3, *size))
        except Exception as error:  # the library's own words
            raise UsageError(
                f"{spec} does not take pictures of {size[0]} x {size[1]}: {first_line(error)}; "
                "size=224 enlarges uploads before it sees them"
            ) from None
        if not isinstance(features, Tensor) or features.dim() != 2:
            raise UsageError(f"{spec} gives no features (B, F) when its classifier is left out")
        self.dropout = nn.Dropout(dropout)
        self.heads = nn.ModuleDict(
            {name: nn.Linear(features.shape[1], count) for name, count in classes.items()}
        )
        count = len(self.parts())
        if spec.freeze > count:
            raise UsageError(f"{spec} has {count} parts: freeze={spec.freeze} is too many")
        if spec.freeze:
            # What lies in no part, such as a transformer's place vectors, belongs to the picture's side.
            learning = {id(weight) for part in self.parts()[spec.freeze :] for weight in part.parameters()}
            for weight in backbone.parameters():
                weight.requires_grad_(id(weight) in learning)

    def parts(self) -> list[nn.Module]:
        """What holds the backbone's weights, from the picture on: children, and the children of lists."""
        found: list[nn.Module] = []
        for child in self.backbone.children():
            inner = list(child.children()) if isinstance(child, nn.Sequential | nn.ModuleList) else [child]
            found += [part for part in inner if next(part.parameters(), None) is not None]
        return found

    def learning_rates(self) -> Iterator[tuple[list[nn.Parameter], float]]:
        """Weights that learn more slowly than the heads, and by what factor."""
        parts = [list(part.parameters()) for part in self.parts()]
        inside = {id(weight) for part in parts for weight in part}
        first = [weight for weight in self.backbone.parameters() if id(weight) not in inside]
        for depth, weights in enumerate(reversed([first, *parts])):
            learning = [weight for weight in weights if weight.requires_grad]
            if learning:
                yield learning, self.spec.rate * self.spec.decay**depth

    def train(self, mode: bool = True) -> Self:
        """Training mode; frozen parts keep the statistics of their batch norms as well."""
        super().train(mode)
        for part in self.parts()[: self.spec.freeze]:
            part.eval()
        return self

    def features(self, x: Tensor) -> Tensor:
        """(B, 3, H, W), or (B, 1, H, W) for grey, in 0..1 -> what the heads look at, (B, F)."""
        if tuple(int(length) for length in x.shape[2:]) != self.size:
            x = F.interpolate(x, size=self.size, mode="bilinear", align_corners=False)
        reduced = self.lean and self.training
        with torch.autocast(x.device.type, torch.bfloat16) if reduced else nullcontext():
            features: Tensor = self.backbone(
                (x - self.mean) / self.deviation
            )  # one plane becomes three alike
        return features.to(x.dtype)

    def answers(self, features: Tensor) -> dict[str, Tensor]:
        """Features -> logits per head, each (B, classes)."""
        features = self.dropout(features)
        return {name: head(features) for name, head in self.heads.items()}

    def answer(self, x: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """(B, 3, H, W) in 0..1 -> logits per head, and the features under them."""
        features = self.features(x)
        return self.answers(features), features

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """(B, 3, H, W) in 0..1 -> logits per head, each (B, classes)."""
        return self.answers(self.features(x))


def create_pretrained(spec: CloudSpec, classes: Mapping[str, int], *, size: tuple[int, int]) -> Pretrained:
    """A network of a library, untrained. Nothing is downloaded, and no file is read.

    Args:
        spec: from `parse_cloud`.
        classes: kept attribute -> number of classes.
        size: height and width of the uploads.

    Raises:
        UsageError: the library is not installed, does not know the name, or the network does not take this size.
    """
    seen = spec.size or size
    if spec.library == "lite0":
        return Pretrained(Lite0(), classes, spec, seen, MEAN, DEVIATION)
    make = _timm if spec.library == "timm" else _torchvision
    backbone, mean, deviation = make(spec, seen)
    return Pretrained(backbone, classes, spec, seen, mean, deviation)


def _library(name: str, example: CloudSpec) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        package = name.partition(".")[0]
        raise UsageError(f"{example} needs {package}: pip install {package} ({first_line(error)})") from None
    except Exception as error:  # torchvision raises where it was built for another PyTorch
        raise UsageError(f"{name} cannot be imported: {first_line(error)}") from None


def _unknown(library: str, name: str, known: list[str]) -> str:
    """The sentence for a name that is none of hundreds."""
    close = difflib.get_close_matches(name, known, 3) or known[:3]
    return f"{library} has no network {name!r}: close to it are {', '.join(close)}"


Colours = tuple[float, ...]


def _timm(spec: CloudSpec, size: tuple[int, int]) -> tuple[nn.Module, Colours, Colours]:
    timm = _library("timm", spec)
    # Names with a prefix such as `hf-hub:` would be fetched: only what the library itself holds is made.
    plain = spec.name.partition(".")[0]
    if plain not in timm.list_models():
        raise UsageError(_unknown("timm", plain, timm.list_models()))
    options: dict[str, Any] = {"pretrained": False, "num_classes": 0}
    entry = timm.model_entrypoint(plain)
    try:  # transformers have to know the size, others know no such option
        backbone = entry(**options, img_size=size)
    except TypeError:
        backbone = entry(**options)
    settings = backbone.pretrained_cfg
    return backbone, tuple(settings["mean"]), tuple(settings["std"])


def _torchvision(spec: CloudSpec, size: tuple[int, int]) -> tuple[nn.Module, Colours, Colours]:
    models = _library("torchvision.models", spec)
    known = models.list_models(module=models)
    if spec.name not in known:
        raise UsageError(_unknown("torchvision", spec.name, known))
    builder = models.get_model_builder(spec.name)
    square = {"image_size": size[0]} if size[0] == size[1] and "vit" in spec.name else {}
    # With side branches these two answer with a tuple while they train.
    single = {"aux_logits": False} if spec.name in ("googlenet", "inception_v3") else {}
    backbone = builder(weights=None, **square, **single)
    linear = [name for name, part in backbone.named_modules() if isinstance(part, nn.Linear)]
    if not linear:
        raise UsageError(f"{spec} has no linear classifier that could be left out")
    parent, _, child = linear[-1].rpartition(".")
    setattr(backbone.get_submodule(parent), child, nn.Identity())
    return backbone, *IMAGENET


def load_backbone(cloud: Pretrained, spec: CloudSpec) -> None:
    """Give a network the weights that it starts from, if there are any.

    Raises:
        UsageError: the package of the weights is not installed, or the file lacks weights of the network.
        SfumatoError: the file cannot be read, or is no file of weights.
    """
    if spec.from_scratch:
        return
    if not spec.weights:
        cast(Lite0, cloud.backbone).load(lite0_weights())
        return
    given = read_weights(Path(spec.weights))
    own = cloud.backbone.state_dict()
    usable = {name: given[name] for name, value in own.items() if _fits(given.get(name), value)}
    # Counters of batch norms are no weights, and old files lack them.
    missing = [name for name in own if name not in usable and not name.endswith("num_batches_tracked")]
    if missing:
        wrong = f"{missing[0]} has another shape" if missing[0] in given else f"{missing[0]} is missing"
        raise UsageError(
            f"{spec.weights} does not hold the weights of {spec}: {len(missing)} of {len(own)} do not fit ({wrong})"
        )
    cloud.backbone.load_state_dict({**own, **usable})


def _fits(given: Tensor | None, own: Tensor) -> bool:
    return given is not None and given.shape == own.shape


def read_weights(path: Path) -> dict[str, Tensor]:
    """A file of weights, safetensors or PyTorch's own; no code in it is run.

    Raises:
        SfumatoError: it cannot be read, or holds something else.
    """
    content = read_bytes(path)
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load

            found: Any = load(content)
        else:
            found = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # of a damaged file every library has its own
        raise SfumatoError(f"{path} is no file of weights: {first_line(error)}") from None
    for key in ("state_dict", "model", "state_dict_ema"):
        if isinstance(found, Mapping) and isinstance(found.get(key), Mapping):
            found = found[key]
    if not isinstance(found, Mapping) or not all(isinstance(value, Tensor) for value in found.values()):
        raise SfumatoError(f"{path} is no file of weights: it holds something else")
    weights = {str(name).removeprefix("module."): value for name, value in found.items()}
    broken = [name for name, value in weights.items() if value.is_floating_point() and not _finite(value)]
    if broken:
        raise SfumatoError(f"{path}: {broken[0]} holds numbers that are not finite")
    return weights


def _finite(value: Tensor) -> bool:
    return math.isfinite(float(value.double().sum()))
