"""What `sfumato data inspect` tells about a data set before anybody trains on it.

Usage: `facts = inspect("synthetic", keep=["smiling"], hide=["glasses"])`
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sfumato.core.options import take_bins
from sfumato.data.dataset import Attribute, Split
from sfumato.data.label_dependence import LabelDependence, measure_dependence
from sfumato.data.registry import open_dataset


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Counts of one data set, and how its labels depend on one another; plain values that go into JSON as they are."""

    id: str
    spec: str
    images: int
    size: tuple[int, int]
    """(height, width) in pixels."""
    splits: dict[str, int]
    """Images per split."""
    attributes: dict[str, dict[str, list[int]]]
    """Attribute -> class -> images per split, of a mask cells, in the order of `splits`."""
    identity: str | None
    skipped: list[str]
    label_dependence: tuple[LabelDependence, ...]
    """One row per hidden attribute."""


def inspect(spec: str, *, keep: Sequence[str] = (), hide: Sequence[str] = ()) -> Facts:
    """Open a data set and count.

    Args:
        spec: as for `open_dataset`.
        keep: what the cloud should learn; nothing named leaves H(S) and the majority class as the floor.
        hide: what it should not; every other attribute but the identity if none is named.
    """
    spec, keep, hide = take_bins(spec, keep, hide)
    data = open_dataset(spec, keep=keep, hide=hide)
    hidden = list(hide) or [name for name in data.attributes if name not in (*keep, data.identity)]
    return Facts(
        id=data.id,
        spec=data.spec,
        images=len(data),
        size=data.size,
        splits={split.value: len(rows) for split, rows in data.splits.items()},
        attributes={
            name: _per_class(attribute, [data.counts(name, split).tolist() for split in Split])
            for name, attribute in data.attributes.items()
        },
        identity=data.identity,
        skipped=list(data.skipped),
        label_dependence=measure_dependence(data, keep, hidden),
    )


def _per_class(attribute: Attribute, counts: Sequence[Sequence[int]]) -> dict[str, list[int]]:
    return {name: [split[index] for split in counts] for index, name in enumerate(attribute.classes)}
