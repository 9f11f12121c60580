"""Which rows a comparison has: every method once, ours at several operating points.

rows = choose_rows(["all"], POINTS)
rows[-1].id                      # "suppress-gaussian-64"
choose_rows(["rate"], [Point(6, 0.1)])[0].id         # "rate-6-0.1"
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

from sfumato.compare.methods import METHODS
from sfumato.core.errors import UsageError, unknown
from sfumato.core.rates import PICTURE_BITS


@dataclass(frozen=True, order=True)
class Point:
    """Operating point of one of our own methods: what its training aims at."""

    bits: float
    """Target of the mean rate, in bits an image."""
    beyond: float | None = None
    """Target of the residual rate beyond the phone's decision, in bits an image; None: no such target."""

    def __str__(self) -> str:
        """`6` or `6/0.1`, as on the command line."""
        return f"{self.bits:g}" if self.beyond is None else f"{self.bits:g}/{self.beyond:g}"


def parse_point(text: str) -> Point:
    """`BITS` or `BITS/BEYOND`.

    Raises:
        UsageError: not one or two numbers above 0.

    >>> parse_point("6/0.1")
    Point(bits=6.0, beyond=0.1)
    """
    try:
        numbers = [float(part) for part in text.split("/")]
    except ValueError:
        numbers = []
    if len(numbers) not in (1, 2) or not all(0 < number < inf for number in numbers):
        raise UsageError(
            f"an operating point is BITS or BITS/BEYOND, numbers above 0, for example 8 or 6/0.1; not {text!r}"
        )
    return Point(*numbers)


POINTS = tuple(map(Point, (2.0, 4.0, 8.0, 16.0, 32.0, 64.0)))
"""Operating points of ours, by default."""

OURS: dict[str, dict[str, Any]] = {
    "literal": {"objective": "literal", "channel": "gaussian"},
    "rate": {"objective": "rate", "channel": "dither"},
    "rate-levels4": {"objective": "rate", "channel": "dither", "levels": 4},
    "rate-context": {"objective": "rate", "channel": "dither", "levels": 4, "prior": "autoregressive"},
    "rate-gaussian": {"objective": "rate", "channel": "gaussian"},
    "suppress": {"objective": "suppress", "channel": "dither"},
    "suppress-gaussian": {"objective": "suppress", "channel": "gaussian"},
}
"""Name on the command line -> training options. `literal` is the scheme of Xia et al. (2020) as published."""
WITHOUT_TARGET = ("literal",)
FROM_BITS = {"rate-context": PICTURE_BITS}
"""Targets from which on `all` has a method; below them its bound is no tighter than another's."""


@dataclass(frozen=True, kw_only=True)
class RowPlan:
    """One row to be made."""

    method: str
    point: Point | None = None
    """None for methods without a target."""

    @property
    def id(self) -> str:
        """Name of its files."""
        return self.method if self.point is None else f"{self.method}-{self.point}".replace("/", "-")

    @property
    def ours(self) -> bool:
        """Whether our own trainer makes it."""
        return self.method in OURS


def choose_rows(methods: Sequence[str], points: Sequence[Point]) -> tuple[RowPlan, ...]:
    """The rows of some methods, in the order of the registries.

    Args:
        methods: names of methods and of ours, or `all`: those that are not named only where they have something to gain.
        points: operating points of ours.

    Raises:
        UsageError: a name is not known, or no method or point is named.
    """
    known = [*METHODS, *OURS]
    for name in methods:
        if name not in known and name != "all":
            raise UsageError(unknown("method", name, ["all", *known]))
    if not methods:
        raise UsageError(f"no method is named: choose all or some of {', '.join(known)}")
    if not points:
        raise UsageError("no operating point is named, for example --points 2,4,6/0.1")
    rows: list[RowPlan] = []
    for name in known:
        if name in methods or "all" in methods:
            if name not in OURS or name in WITHOUT_TARGET:
                rows.append(RowPlan(method=name))
                continue
            least = 0.0 if name in methods else FROM_BITS.get(name, 0.0)
            rows += [RowPlan(method=name, point=one) for one in dict.fromkeys(points) if one.bits >= least]
    return tuple(rows)
