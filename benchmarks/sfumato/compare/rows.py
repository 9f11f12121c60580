"""Which rows a comparison has: every method at several settings, ours at several operating points.

rows = choose_rows(["all"], POINTS)
rows[-1].id                      # "answer-odds-equal-odds-0.2"
choose_rows(["pass"], POINTS, parse_settings(["pass=0.05,0.1"]))[1].id         # "pass-temperature-0.1"
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import inf, isfinite
from typing import Any

from sfumato.compare.methods import METHODS, Curve, available
from sfumato.core.console import note
from sfumato.core.errors import UsageError, unknown
from sfumato.core.options import names
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


POINTS = (Point(1, 0.1), Point(2, 0.1), Point(6, 0.1), Point(16, 0.5))
"""Operating points of ours where something is to be hidden, by default."""
RATE_POINTS = tuple(map(Point, (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)))
"""The same where accuracy is compared with the rate alone."""

OURS: dict[str, dict[str, Any]] = {
    "literal": {"objective": "literal", "channel": "gaussian"},
    "rate": {"objective": "rate", "channel": "dither"},
    "rate-levels4": {"objective": "rate", "channel": "dither", "levels": 4},
    "rate-context": {"objective": "rate", "channel": "dither", "levels": 4, "prior": "autoregressive"},
    "subsample": {
        "objective": "rate",
        "channel": "dither",
        "levels": 4,
        "gray": True,
        "subsample": 2,
        "prior": "autoregressive",
    },
    "gates": {"objective": "rate", "channel": "dither", "gates": True},
    "rate-gaussian": {"objective": "rate", "channel": "gaussian"},
    "suppress": {"objective": "suppress", "channel": "dither"},
    "suppress-gaussian": {"objective": "suppress", "channel": "gaussian"},
    "answer": {"mode": "answer"},
    "answer-odds": {"mode": "answer"},
}
"""Name on the command line -> training options. `literal` is the scheme of Xia et al. (2020) as published."""
WITHOUT_TARGET = ("answer",)
"""Ours with neither target nor setting: the word of the decision carries what it carries."""
OUR_CURVES: dict[str, Curve] = {
    "literal": Curve(
        "noise_weight",
        (0.1, 0.03, 0.3, 1.0),
        published="its tables are not at hand, only the abstract; the last epoch is kept, since it has no target",
    ),
    "answer-odds": Curve("equal_odds", (0.05, 0.02, 0.1, 0.2), published="", most=1.0),
}
"""Ours that have a setting in place of a target."""
FROM_BITS = dict.fromkeys(("rate-levels4", "rate-context", "subsample", "gates"), PICTURE_BITS)
"""Targets from which on `all` has a method: below them more levels, a bound that foresees, fewer samples or a coin a block for
the gates gain nothing (docs/decisions 12, 15, 31 and 37)."""
SETTINGS = 4
"""Settings of every other method, by default."""


def curve_of(method: str) -> Curve | None:
    """What a method varies; None for yardsticks and for ours with a target."""
    return OUR_CURVES.get(method) if method in OURS else METHODS[method].curve


@dataclass(frozen=True)
class Settings:
    """How many points a curve has, and the values of those methods for which they are given."""

    count: int = SETTINGS
    given: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    def values(self, method: str) -> tuple[float, ...]:
        """The settings of a method; empty if it has none to vary."""
        curve = curve_of(method)
        return () if curve is None else self.given.get(method, curve.values[: self.count])


def parse_settings(texts: Sequence[str]) -> Settings:
    """`N`, the number of settings a method, and `NAME=V1,V2,...`, those of one method, in any order.

    Raises:
        UsageError: neither form, a method that is not known or has no setting, or a value out of its range.

    >>> parse_settings(["2", "pass=0.05,0.1"]).values("pass")
    (0.05, 0.1)
    """
    count, given = SETTINGS, dict[str, tuple[float, ...]]()
    for text in texts:
        method, found, listed = text.partition("=")
        try:
            numbers = [float(value) for value in names(listed if found else text)]
        except ValueError:
            numbers = []
        if not numbers or not all(map(isfinite, numbers)) or (not found and len(numbers) > 1):
            raise UsageError(
                f"settings are N or NAME=V1,V2,..., for example 4 or pass=0.05,0.1; not {text!r}"
            )
        if not found:
            if numbers[0] < 1 or numbers[0] != int(numbers[0]):
                raise UsageError(f"every method needs a whole number of settings, at least 1, not {text}")
            count = int(numbers[0])
            continue
        varied = [name for name in (*METHODS, *OURS) if curve_of(name) is not None]
        if method not in varied:
            raise UsageError(unknown("method with a setting", method, varied))
        curve = curve_of(method)
        assert curve is not None
        given[method] = tuple(dict.fromkeys(curve.accept(method, number) for number in numbers))
    return Settings(count, given)


@dataclass(frozen=True, kw_only=True)
class RowPlan:
    """One row to be made."""

    method: str
    point: Point | None = None
    """None for methods without a target."""
    setting: float | None = None
    """None for methods without a setting."""

    def __str__(self) -> str:
        return self.id

    @property
    def id(self) -> str:
        """Name of its files."""
        if self.point is not None:
            return f"{self.method}-{self.point}".replace("/", "-")
        curve = curve_of(self.method)
        if curve is None or self.setting is None:
            return self.method
        return f"{self.method}-{curve.option}-{self.setting:.6g}".replace("_", "-")

    @property
    def ours(self) -> bool:
        """Whether our own trainer makes it."""
        return self.method in OURS


def choose_rows(
    methods: Sequence[str], points: Sequence[Point], settings: Settings | None = None
) -> tuple[RowPlan, ...]:
    """The rows of some methods, in the order of the registries.

    Args:
        methods: names of methods and of ours, or `all`: those that are not named only where they have something to gain.
        points: operating points of ours.
        settings: those of the others; None: the first `SETTINGS` of each.

    Raises:
        UsageError: a name is not known, or no method or point is named.
    """
    known, settings = [*METHODS, *OURS], settings or Settings()
    for name in methods:
        if name not in known and name != "all":
            raise UsageError(unknown("method", name, ["all", *known]))
    if not methods:
        raise UsageError(f"no method is named: choose all or some of {', '.join(known)}")
    if not points:
        raise UsageError("no operating point is named, for example --points 2,4,6/0.1")
    rows: list[RowPlan] = []
    for name in known:
        if name not in methods and "all" not in methods:
            continue
        if name in METHODS and name not in methods and not available(name):
            note(f"{name} is left out: this Pillow does not write it")
            continue
        if curve_of(name) is not None:
            rows += [RowPlan(method=name, setting=value) for value in settings.values(name)]
        elif name not in OURS or name in WITHOUT_TARGET:
            rows.append(RowPlan(method=name))
        else:
            least = 0.0 if name in methods else FROM_BITS.get(name, 0.0)
            rows += [RowPlan(method=name, point=one) for one in dict.fromkeys(points) if one.bits >= least]
    return tuple(rows)
