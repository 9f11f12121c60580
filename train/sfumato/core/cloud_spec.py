"""The cloud networks that can be named, each with options after commas: `resnet`, `lite0`, `timm:NAME`, `torchvision:NAME`.

spec = parse_cloud("timm:resnet18,weights=resnet18.safetensors,freeze=2")
spec.library, spec.name, spec.freeze                    # "timm", "resnet18", 2
parse_cloud("my_cloud:make")                            # None: code of the user's own, or "resnet"
resnet_width("resnet,width=64")                         # 64
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

from sfumato.core.errors import UsageError, unknown

LIBRARIES = ("timm", "torchvision")
RESNET = "resnet"
"""The built-in network (`sfumato.models.cloud.ResNet`)."""


@dataclass(frozen=True)
class CloudSpec:
    """A network of one of the libraries, and how it is trained.

    Attributes:
        library: where it comes from.
        name: in the library; empty for `lite0`.
        weights: file of those it starts from; `none` starts from scratch; empty: those that come with `lite0`, else none.
        size: height and width to which uploads are enlarged before the network sees them; None: as they are.
        freeze: how many of its first parts keep their weights.
        decay: learning rate of each part as a share of the one after it, above 0 and at most 1.
        rate: learning rate of its last part as a share of the run's.
    """

    library: Literal["lite0", "timm", "torchvision"]
    name: str = ""
    weights: str = ""
    size: tuple[int, int] | None = None
    freeze: int = 0
    decay: float = 1.0
    rate: float = 0.25

    @property
    def from_scratch(self) -> bool:
        """Whether it starts without weights: `none` were asked for, or a library has none and no file was named."""
        return self.weights == "none" or (not self.weights and self.library != "lite0")

    def __str__(self) -> str:
        """What to call it in messages."""
        return self.library if not self.name else f"{self.library}:{self.name}"


OPTIONS = tuple(entry.name for entry in fields(CloudSpec) if entry.name not in ("library", "name"))


def parse_cloud(text: str) -> CloudSpec | None:
    """Read the name of a cloud network; None where it names none of the libraries.

    Raises:
        UsageError: an unknown option, or a value out of its range.

    >>> parse_cloud("lite0,size=112,decay=0.9")
    CloudSpec(library='lite0', name='', weights='', size=(112, 112), freeze=0, decay=0.9, rate=0.25)
    >>> parse_cloud("resnet") is parse_cloud("my_cloud:make") is None
    True
    """
    head, *rest = text.split(",")
    library, colon, name = head.partition(":")
    if head == RESNET:
        resnet_width(text)
        return None
    if library == "lite0" and not colon:
        return CloudSpec("lite0", **_options(head, rest))
    if library in LIBRARIES and colon:
        if not re.fullmatch(r"[A-Za-z0-9_.]+", name):
            raise UsageError(
                f"{head}: {library}:NAME names a network of {library}, for example {library}:resnet18"
            )
        return CloudSpec(library, name, **_options(head, rest))  # type: ignore[arg-type]
    return None


def is_resnet(text: str) -> bool:
    """Whether this names the built-in network, of whatever width."""
    return text.split(",")[0] == RESNET


def resnet_width(text: str) -> int | None:
    """Planes of the first stage of the built-in network; None: as many as suit the size of the photos.

    Raises:
        UsageError: an option other than `width`, or one that is no multiple of 8 from 8 to 256: with some other numbers
            torch's kernels abort in training.

    >>> resnet_width("resnet,width=64"), resnet_width("resnet")
    (64, None)
    """
    head, *rest = text.split(",")
    return _options(head, rest, ("width",)).get("width")


def _options(head: str, rest: list[str], known: Sequence[str] = OPTIONS) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for part in rest:
        key, equals, value = part.partition("=")
        if key not in known or not equals:
            raise UsageError(unknown(f"option of {head}", key, known))
        found[key] = _value(head, key, value)
    return found


def _value(head: str, key: str, value: str) -> Any:
    """One option's value.

    Raises:
        UsageError: it is out of range.
    """
    wanted = {
        "weights": "a file, or none",
        "size": "pixels, N or HEIGHTxWIDTH, from 16 to 1024",
        "freeze": "a whole number of parts, 0 or more",
        "decay": "a number above 0 and at most 1",
        "rate": "a number above 0 and at most 10",
        "width": "a multiple of 8 from 8 to 256",
    }[key]
    try:
        if key == "weights" and value:
            return value
        if key == "size":
            sides = [int(side) for side in value.split("x")]
            if len(sides) in (1, 2) and all(16 <= side <= 1024 for side in sides):
                return sides[0], sides[-1]
        if key == "freeze" and int(value) >= 0:
            return int(value)
        if key == "width" and 8 <= int(value) <= 256 and int(value) % 8 == 0:
            return int(value)
        if key in ("decay", "rate") and 0 < float(value) <= (1 if key == "decay" else 10):
            return float(value)
    except ValueError:
        pass
    raise UsageError(f"{head}: {key} is {wanted}, not {value!r}")
