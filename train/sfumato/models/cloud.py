"""The cloud network: a small residual network with one head per kept attribute, one of a library, or the user's own.

    cloud = create_cloud("resnet", {"gender": 2}, size=(64, 64))
    logits = cloud(upload)["gender"]       # upload: (B, 3, H, W), 0..1

`resnet,width=64` is the same network with other numbers of planes: 64, 128 and 256.
`lite0`, `timm:NAME` and `torchvision:NAME` are networks of libraries (`sfumato.models.pretrained`). `module:factory` names a
callable `factory(classes: dict[str, int]) -> nn.Module` of the user's own, whose forward maps (B, 3, H, W) in 0..1 to a dict of
logits, one entry a kept attribute. Those of a mask are (B, classes, rows, columns); of ours, `resnet` alone has such heads.
"""

import importlib
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext

import torch
from torch import Tensor, nn

from sfumato.core.cloud_spec import is_resnet, parse_cloud, resnet_width
from sfumato.core.errors import SfumatoError, UsageError, first_line
from sfumato.models.layers import Residual, convolution, pool
from sfumato.models.mask_head import MaskHead
from sfumato.models.pretrained import Pretrained, create_pretrained
from sfumato.models.restorer import RestoringReader
from sfumato.models.shortlist import ShortlistReader
from sfumato.models.tensors import evaluating

GRID = 4
KNOWN = "'resnet', 'lite0', 'timm:NAME', 'torchvision:NAME' or 'module:factory'"


class ResNet(nn.Module):
    """Three residual stages, pooled to a grid of GRID x GRID before the heads.

    The heads keep a coarse sense of place. What a tight channel lets through is a faint pattern spread over the whole
    image, and faces are aligned: averaging over all places would throw away most of both.

    Args:
        classes: head name -> number of classes.
        widths: planes of the three stages.
        stride: of the first convolution; 2 for images of 48 pixels and more.
        dropout: before the heads.
        planes: of the upload; 3 for colour, 1 for grey.
        grids: head name -> rows and columns of cells, of those that answer with masks.

    Attributes:
        lean: whether convolutions compute in bfloat16 while training; evaluation and export never do.
    """

    lean = False

    def __init__(
        self,
        classes: Mapping[str, int],
        *,
        widths: tuple[int, int, int] = (32, 64, 128),
        stride: int = 1,
        dropout: float = 0.2,
        planes: int = 3,
        grids: Mapping[str, tuple[int, int]] | None = None,
    ) -> None:
        super().__init__()
        grids = grids or {}
        a, b, c = widths
        size = 3 if stride == 1 else 5
        self.stages = nn.Sequential(
            nn.Sequential(convolution(planes, a, size=size, stride=stride), nn.ReLU()),
            Residual(a, a),
            Residual(a, b, stride=2),
            Residual(b, c, stride=2),
        )
        self.dropout = nn.Dropout(dropout)
        self.heads = nn.ModuleDict(
            {
                name: MaskHead(widths, count, grids[name]) if name in grids else nn.Linear(c * GRID**2, count)
                for name, count in classes.items()
            }
        )

    def maps(self, x: Tensor) -> list[Tensor]:
        """(B, 3, H, W) in 0..1 -> what each stage gives, the finest first, (B, planes, h, w)."""
        reduced, found = self.lean and self.training, []
        x, kind = 2 * x - 1, x.dtype
        with torch.autocast(x.device.type, torch.bfloat16) if reduced else nullcontext():
            for stage in self.stages:
                x = stage(x)
                found.append(x)
        return [one.to(kind) for one in found[1:]]

    def features(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) in 0..1 -> what the heads of labels look at, (B, GRID * GRID * planes)."""
        return pool(self.maps(x)[-1], GRID).flatten(1)

    def answers(self, features: Tensor, maps: Sequence[Tensor] = ()) -> dict[str, Tensor]:
        """Features, and for masks the maps -> logits per head, each (B, classes), of a mask (B, classes, rows, columns)."""
        features = self.dropout(features)
        heads = self.heads.items()
        return {name: head(maps) if isinstance(head, MaskHead) else head(features) for name, head in heads}

    def answer(self, x: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """(B, 3, H, W) in 0..1 -> logits per head, and the features."""
        maps = self.maps(x)
        features = pool(maps[-1], GRID).flatten(1)
        return self.answers(features, maps), features

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """(B, 3, H, W) in 0..1 -> logits per head, each (B, classes), of a mask (B, classes, rows, columns)."""
        return self.answer(x)[0]


BUILT_IN = (ResNet, Pretrained)
"""Networks that tell what their heads look at, and whose layers are known."""


def answer(cloud: nn.Module, x: Tensor) -> tuple[dict[str, Tensor], Tensor | None]:
    """Logits per head, and the features under them where the network tells; of the picture alone where there is a shortlist.

    In training the phone knows the classes of its photos by heart, so a list would only teach the cloud network to repeat it.
    """
    if isinstance(cloud, ShortlistReader | RestoringReader):
        return answer(cloud.network, cloud.picture(x))
    if isinstance(cloud, BUILT_IN):
        return cloud.answer(x)
    return cloud(x), None


def inner_network(cloud: nn.Module) -> nn.Module:
    """The network that looks at pictures: the one inside readers of shortlists and restorers, else the network itself."""
    while isinstance(cloud, ShortlistReader | RestoringReader):
        cloud = cloud.network
    return cloud


def create_cloud(
    name: str,
    classes: Mapping[str, int],
    *,
    size: tuple[int, int],
    planes: int = 3,
    grids: Mapping[str, tuple[int, int]] | None = None,
) -> nn.Module:
    """The built-in `resnet`, one of a library, or `module:factory` of the user's own.

    Args:
        name: as on the command line.
        classes: kept attribute -> number of classes.
        size: height and width of the uploads.
        planes: of the uploads: 3 for colour, 1 for grey. Networks of a library, which know colour alone, see grey three times.
        grids: kept mask -> rows and columns of its cells.

    Raises:
        UsageError: the name is none of these, or the factory cannot be found, fails or returns no module;
            or as `create_pretrained`.
    """
    if is_resnet(name):
        stride = 2 if size[0] >= 48 else 1
        width = resnet_width(name) or (16 if stride == 2 else 32)
        return ResNet(
            classes, widths=(width, 2 * width, 4 * width), stride=stride, planes=planes, grids=grids
        )
    if (spec := parse_cloud(name)) is not None:
        return create_pretrained(spec, classes, size=size)
    factory = find_factory(name)
    try:
        made = factory(dict(classes))
    except (Exception, SystemExit) as error:  # it is the user's: it may raise anything
        raise UsageError(
            f"{name} failed ({type(error).__name__}: {first_line(error)}); it was called with the classes {dict(classes)}"
        ) from error
    if not isinstance(made, nn.Module):
        raise UsageError(f"{name} returned {type(made).__name__}, but a torch.nn.Module is needed")
    return made


def find_factory(name: str, what: str = "cloud network", known: str = KNOWN) -> Callable[..., object]:
    """The callable behind `module:factory`. Modules of the current folder are found too, after all installed ones.

    Args:
        name: of the factory.
        what: it makes, for messages.
        known: what may be given, for messages.

    Raises:
        UsageError: no such module or name, the module fails, or what it names cannot be called.
    """
    module, separator, attribute = name.partition(":")
    if not separator or not module or not attribute:
        raise UsageError(f"unknown {what} {name!r}: give {known}")
    if (here := os.getcwd()) not in sys.path:
        sys.path.append(here)
        importlib.invalidate_caches()
    try:
        factory = getattr(importlib.import_module(module), attribute)
    except (Exception, SystemExit) as error:
        raise UsageError(
            f"cannot load the {what} {name!r} ({type(error).__name__}: {first_line(error)})"
        ) from error
    if not callable(factory):
        raise UsageError(
            f"{name} is {type(factory).__name__}, but a function is needed that returns a torch.nn.Module"
        )
    return factory  # type: ignore[no-any-return]


def check_answers(
    cloud: nn.Module,
    classes: Mapping[str, int],
    size: tuple[int, int],
    name: str,
    planes: int = 3,
    grids: Mapping[str, tuple[int, int]] | None = None,
) -> None:
    """Refuse a network that is given as it is but does not answer uploads as the kept attributes ask.

    Args:
        cloud: the network.
        classes: kept attribute -> number of classes.
        size: height and width of the uploads.
        name: what to call it.
        planes: of the uploads.
        grids: kept mask -> rows and columns of its cells.

    Raises:
        SfumatoError: it does not take a batch of uploads, or its answers are not finite logits of these shapes.
    """
    probe = torch.rand(3, planes, *size, generator=torch.Generator().manual_seed(0))
    try:
        with evaluating(cloud):
            answers = cloud(probe)
    except Exception as error:  # it is the user's: it may raise anything
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise SfumatoError(f"{name} does not take uploads {tuple(probe.shape)}: {lines[0]}") from None
    wanted = {
        attribute: (len(probe), count, *(grids or {}).get(attribute, ()))
        for attribute, count in classes.items()
    }
    if not isinstance(answers, dict) or not all(isinstance(value, Tensor) for value in answers.values()):
        raise SfumatoError(f"{name} returned {type(answers).__name__}: a dict of logits is needed, {wanted}")
    if (found := {key: tuple(value.shape) for key, value in answers.items()}) != wanted:
        raise SfumatoError(f"{name} answers three uploads with {found}, the kept attributes need {wanted}")
    for attribute, logits in answers.items():
        if not torch.isfinite(logits).all():
            raise SfumatoError(f"{name}: its answers for {attribute} are not finite")
        if (logits >= 0).all() and torch.allclose(total := logits.sum(1), torch.ones_like(total), atol=1e-4):
            raise SfumatoError(f"{name}: its answers for {attribute} are probabilities: logits are needed")
