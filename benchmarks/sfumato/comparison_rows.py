"""Which rows a comparison has: every peer once, ours at several operating points.

rows = choose_rows("all", (2, 4, 8, 16, 32, 64))
rows[-1].id                      # "suppress-gaussian-64"
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sfumato.errors import UsageError, unknown
from sfumato.peers import PEERS

POINTS = (2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
"""Default targets of the mean rate, in bits."""

OURS: dict[str, dict[str, Any]] = {
    "literal": {"objective": "seed", "channel": "gaussian"},
    "rate": {"objective": "rate", "channel": "dither"},
    "rate-gaussian": {"objective": "rate", "channel": "gaussian"},
    "suppress": {"objective": "suppress", "channel": "dither"},
    "suppress-gaussian": {"objective": "suppress", "channel": "gaussian"},
}
"""Name on the command line -> training options. `literal` is the scheme of Xia et al. (2020) as published."""
WITHOUT_TARGET = ("literal",)


@dataclass(frozen=True, kw_only=True)
class RowPlan:
    """One row to be made."""

    method: str
    bits: float | None = None
    """Rate target; None for methods without one."""

    @property
    def id(self) -> str:
        """Name of its files."""
        return self.method if self.bits is None else f"{self.method}-{self.bits:g}"

    @property
    def ours(self) -> bool:
        """Whether our own trainer makes it."""
        return self.method in OURS


def choose_rows(methods: Sequence[str], points: Sequence[float]) -> tuple[RowPlan, ...]:
    """The rows of some methods, in the order of the registries.

    Args:
        methods: names of peers and of ours, or `all`.
        points: rate targets in bits for ours.

    Raises:
        UsageError: a name is not known, nothing is named, or a target is not positive.
    """
    known = [*PEERS, *OURS]
    for name in methods:
        if name not in known and name != "all":
            raise UsageError(unknown("peer", name, ["all", *known]))
    if not methods:
        raise UsageError(f"no peer is named: choose all or some of {', '.join(known)}")
    if not points or min(points) <= 0:
        raise UsageError("operating points are rates in bits above 0, for example --points 2,4,8")
    rows: list[RowPlan] = []
    for name in known:
        if name in methods or "all" in methods:
            targets = sorted(set(points)) if name in OURS and name not in WITHOUT_TARGET else [None]
            rows += [RowPlan(method=name, bits=bits) for bits in targets]
    return tuple(rows)
