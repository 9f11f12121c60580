"""The comparison as a picture: desired accuracy against NAG, one panel per hidden attribute, 95 % intervals on both.

Where nothing is hidden: desired accuracy against the rate, which bounds what an upload carries.

Up and to the left is better. Every method is a curve along its setting, ours along their targets; the filled mark is the point
that was chosen on validation. The dashed line is the clean cloud network, the shaded corner is where the pass rule holds.

    draw(comparison, Path("comparison.png"))
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import cycle, product
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from sfumato.audit.pass_rule import LARGEST_DROP, LARGEST_NAG
from sfumato.compare.rows import Point
from sfumato.compare.schema import Comparison, ComparisonRow
from sfumato.core.reports import COLOURS, GREY, save_png

HEIGHTS = (3, -11, 12, -20, 21, -29, 30, -38, 39)
"""Points above a mark at which its label is tried."""
MARKERS = "ov^D<>pPX*hd"
"""Of other methods, which are all grey: names stand beside their chosen points."""


def desired_span(row: ComparisonRow) -> tuple[float, float, float]:
    """Low, mean and high of the desired accuracy, averaged over the desired attributes."""
    count = len(row.desired)
    low, high = (sum(one.ci95[side] for one in row.desired) / count for side in (0, 1))
    return low, sum(one.accuracy for one in row.desired) / count, high


def percent(value: float, _position: int | None = None) -> str:
    """A tick, with the digits it needs.

    >>> percent(0.8), percent(0.725)
    ('80 %', '72.5 %')
    """
    return f"{100 * value:.4g} %"


def bars(row: ComparisonRow, index: int) -> dict[str, Any]:
    """Arguments of `errorbar` for one row in the panel of attribute `index`."""
    low, y, high = desired_span(row)
    hidden = row.attributes[index]
    x, (left, right) = hidden.nag_label_only, hidden.nag_label_only_ci95
    # A bootstrap interval may lie to one side of the estimate; a bar has no negative length.
    return {
        "x": x,
        "y": y,
        "xerr": [[max(0.0, x - left)], [max(0.0, right - x)]],
        "yerr": [[max(0.0, y - low)], [max(0.0, high - y)]],
    }


@dataclass(frozen=True)
class Label:
    """Words beside a point."""

    text: str
    x: float
    y: float
    colour: str = GREY


def place(axes: Any, labels: Sequence[Label]) -> None:
    """Write labels beside their points, once the layout stands: each at the first place where it covers no other and no mark.

    A line leads to those that had to go further away.
    """
    marks = [axes.transData.transform((label.x, label.y)) for label in labels]
    reach = 3 * axes.figure.dpi / 72
    taken = [Bbox([mark - reach, mark + reach]) for mark in marks]
    for label in sorted(labels, key=lambda one: (-one.y, one.x)):
        point = {"xy": (label.x, label.y), "textcoords": "offset points", "color": label.colour}
        text = axes.annotate(label.text, xytext=(0, 0), fontsize=7, **point)
        for height, (side, shift) in product(HEIGHTS, (("left", 4), ("right", -4))):
            text.set(horizontalalignment=side, position=(shift, height))
            box = text.get_window_extent()
            inside = axes.bbox.x0 < box.x0 and box.x1 < axes.bbox.x1
            if inside and not any(box.overlaps(other) for other in taken):
                break
        taken.append(box)
        if height not in HEIGHTS[:2]:
            line = {"arrowstyle": "-", "linewidth": 0.5, "color": label.colour, "shrinkA": 0, "shrinkB": 0}
            axes.annotate("", xytext=(shift, height + 3), arrowprops=line, **point)


def panel(axes: Any, comparison: Comparison, index: int) -> list[Label]:
    """One hidden attribute; returns what is to be written beside the points."""
    labels = []
    clean = sum(comparison.clean_accuracy.values()) / len(comparison.clean_accuracy)
    axes.axhline(clean, color=GREY, linewidth=0.8, linestyle="--")
    axes.fill_between([0, LARGEST_NAG], clean - LARGEST_DROP, 1, color=COLOURS[2], alpha=0.12, linewidth=0)
    best = {one.row for one in comparison.best_points}
    others = dict.fromkeys(row.method for row in comparison.rows if not row.ours)
    for method, marker in zip(others, cycle(MARKERS)):
        rows = [row for row in comparison.rows if row.method == method]
        labels += series(axes, rows, index, best, GREY, marker)
    methods = dict.fromkeys(row.method for row in comparison.rows if row.ours)
    for method, colour in zip(methods, cycle(COLOURS)):
        rows = [row for row in comparison.rows if row.method == method]
        labels += series(axes, rows, index, best, colour, "s")
    # The shaded corner reaches up to 1; what matters may end far below.
    axes.set_ylim(top=min(1.0, max(desired_span(row)[2] for row in comparison.rows) + 0.02))
    axes.set_xlabel(f"NAG on {comparison.hide[index]} (label-only floor)", fontsize=9)
    axes.set_xlim(left=-0.02)
    axes.xaxis.set_major_formatter(percent)
    axes.yaxis.set_major_formatter(percent)
    axes.grid(alpha=0.25, linewidth=0.6)
    if methods:
        axes.legend(fontsize=8, frameon=False, loc="best")
    return labels


def rate_panel(axes: Any, comparison: Comparison) -> None:
    """Accuracy against bits; a method whose uploads have no bound is a horizontal line at its most accurate setting."""
    clean = sum(comparison.clean_accuracy.values()) / len(comparison.clean_accuracy)
    axes.axhline(clean, color=GREY, linewidth=0.8, linestyle="--", label="clean cloud network")
    for method, colour in zip(dict.fromkeys(row.method for row in comparison.rows), cycle(COLOURS)):
        rows = [row for row in comparison.rows if row.method == method]
        highest = max(rows, key=lambda row: desired_span(row)[1])
        points = sorted(
            (row.leakage_bound_bits or row.rate_bits.mean, *desired_span(row))
            for row in rows
            if row.rate_bits
        )
        if points:
            bits, low, middle, high = zip(*points, strict=True)
            axes.plot(bits, middle, "o-", color=colour, markersize=4, linewidth=1.2, label=method)
            axes.fill_between(bits, low, high, color=colour, alpha=0.15, linewidth=0)
        else:
            axes.axhline(desired_span(highest)[1], color=colour, linewidth=1, linestyle=":", label=method)
    axes.set_xscale("log")
    axes.set_xlabel("bound on the information in an upload, bits", fontsize=9)
    axes.yaxis.set_major_formatter(percent)
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.legend(fontsize=8, frameon=False, loc="lower right")


def series(
    axes: Any, rows: Sequence[ComparisonRow], index: int, best: Collection[str], colour: str, marker: str
) -> list[Label]:
    """One method: a curve along its setting or target, its chosen point filled; ours with their targets beside the points.

    Without a chosen point, as in files of earlier releases, every mark is filled and the first one named.
    """
    labels, ours = [], rows[0].ours
    points = [(row.attributes[index].nag_label_only, desired_span(row)[1]) for row in rows]
    name = {"label": rows[0].method} if ours else {}
    axes.plot(*zip(*points, strict=True), "-", color=colour, linewidth=1.2 if ours else 0.7, **name)
    named = next((row.id for row in rows if row.id in best), rows[0].id)
    for row, point in zip(rows, points, strict=True):
        filled = row.id in best or not best
        style = {"color": colour, "markersize": 5 if row.id in best else 4, "linewidth": 0.8}
        faint = {"elinewidth": 0.8 if filled else 0.4}
        axes.errorbar(
            **bars(row, index), fmt=marker, markerfacecolor=colour if filled else "white", **style, **faint
        )
        if row.target_bits is not None:
            labels.append(Label(str(Point(row.target_bits, row.target_beyond_bits)), *point, colour))
        elif row.id == named:
            value = "" if row.setting is None else f" {row.setting.value:.3g}"
            labels.append(Label(row.method + value, *point, colour))
    return labels


def draw(comparison: Comparison, path: Path) -> None:
    """Write the picture as a PNG; nothing is drawn before the first row."""
    if not comparison.rows:
        return
    panels = max(1, len(comparison.hide))
    plot = Figure(figsize=(6.4 * panels, 5.2), layout="constrained")
    labels: list[tuple[Any, list[Label]]] = []
    for index, axes in enumerate(plot.subplots(1, panels, squeeze=False, sharey=True)[0]):
        if comparison.hide:
            labels.append((axes, panel(axes, comparison, index)))
        else:
            rate_panel(axes, comparison)
    plot.axes[0].set_ylabel(f"accuracy on {', '.join(comparison.keep)}", fontsize=9)
    plot.draw_without_rendering()  # so that points have their places
    for axes, found in labels:
        place(axes, found)
    save_png(plot, path)
