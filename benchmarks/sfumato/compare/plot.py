"""The comparison as a picture: desired accuracy against NAG for each hidden attribute, 95 % intervals on both.

Above, ours as curves along their targets and every other method at the point that was chosen on validation. Below, one small
panel for each curve of another method, its chosen point filled, with ours as thin lines. Up and to the left is better. The
dashed line is the clean cloud network, the shaded corner is where the pass rule holds.

Where nothing is hidden: desired accuracy against the rate, which bounds what an upload carries.

    draw(comparison, Path("comparison.png"))
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle, product, zip_longest
from math import ceil
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from sfumato.audit.pass_rule import LARGEST_DROP, LARGEST_NAG
from sfumato.compare.rows import Point
from sfumato.compare.schema import Comparison, ComparisonRow
from sfumato.compare.selection import is_ours
from sfumato.core.reports import COLOURS, GREY, save_png

HEIGHTS = (3, -11, 12, -20, 21, -29, 30, -38, 39)
"""Points above a mark at which its label is tried."""
DARK = "#23292f"
"""Of another method's curve in its own small panel."""
SMALL_COLUMNS = 4
"""Small panels side by side."""


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


def frame(axes: Any, comparison: Comparison, index: int) -> None:
    """What every panel has: the clean network, the corner of the pass rule, ticks in percent."""
    clean = sum(comparison.clean_accuracy.values()) / len(comparison.clean_accuracy)
    axes.axhline(clean, color=GREY, linewidth=0.8, linestyle="--")
    axes.fill_between([0, LARGEST_NAG], clean - LARGEST_DROP, 1, color=COLOURS[2], alpha=0.12, linewidth=0)
    # The shaded corner reaches up to 1; what matters may end far below.
    axes.set_ylim(top=min(1.0, max(desired_span(row)[2] for row in comparison.rows) + 0.02))
    hidden = [row.attributes[index] for row in comparison.rows]
    # A gain may be below 0: then its estimate is shown, and no more of its interval than fits.
    left = min([0.0, *(one.nag_label_only for one in hidden)]) - 0.02
    axes.set_xlim(left, max(one.nag_label_only_ci95[1] for one in hidden) + 0.02)
    axes.xaxis.set_major_formatter(percent)
    axes.yaxis.set_major_formatter(percent)
    axes.grid(alpha=0.25, linewidth=0.6)


def curves(comparison: Comparison, *, ours: bool) -> dict[str, list[ComparisonRow]]:
    """Rows by method; the literal scheme is the paper's."""
    found: dict[str, list[ComparisonRow]] = {}
    for row in comparison.rows:
        if is_ours(row) is ours:
            found.setdefault(row.method, []).append(row)
    return found


def point(row: ComparisonRow, index: int) -> tuple[float, float]:
    """Where a row stands in the panel of attribute `index`."""
    return row.attributes[index].nag_label_only, desired_span(row)[1]


def mark(axes: Any, row: ComparisonRow, index: int, shape: str, colour: str, *, filled: bool) -> None:
    """One row with its intervals."""
    face = colour if filled else "white"
    style = {"color": colour, "markersize": 4, "linewidth": 0.8, "markerfacecolor": face}
    axes.errorbar(**bars(row, index), fmt=shape, elinewidth=0.8 if filled else 0.4, **style)


def panel(axes: Any, comparison: Comparison, index: int) -> list[Label]:
    """All methods and one hidden attribute; returns what is to be written beside the points.

    Files of earlier releases have no chosen points: every row is drawn.
    """
    best, labels = {one.row for one in comparison.best_points}, []
    for method, rows in curves(comparison, ours=False).items():
        for row in rows:
            if row.id in best or not best:
                mark(axes, row, index, "o", GREY, filled=True)
                labels.append(Label(method, *point(row, index)))
    ours = curves(comparison, ours=True)
    for (method, rows), colour in zip(ours.items(), cycle(COLOURS)):
        points = [point(row, index) for row in rows]
        axes.plot(*zip(*points, strict=True), "-", color=colour, linewidth=1.2, label=method)
        for row in rows:
            mark(axes, row, index, "s", colour, filled=row.id in best or not best)
            if row.target_bits is not None:
                target = str(Point(row.target_bits, row.target_beyond_bits))
                labels.append(Label(target, *point(row, index), colour))
            elif row.setting is not None:
                labels.append(Label(f"{row.setting.value:.3g}", *point(row, index), colour))
    frame(axes, comparison, index)
    axes.set_xlabel(f"NAG on {comparison.hide[index]} (label-only floor)", fontsize=9)
    axes.set_ylabel(f"accuracy on {', '.join(comparison.keep)}", fontsize=9)
    if ours:
        axes.legend(fontsize=8, frameon=False, loc="best")
    return labels


def small_panel(axes: Any, comparison: Comparison, index: int, rows: Sequence[ComparisonRow]) -> list[Label]:
    """The curve of one method, ours behind it; returns its settings, to be written beside the points."""
    best = {one.row for one in comparison.best_points}
    for own, colour in zip(curves(comparison, ours=True).values(), cycle(COLOURS)):
        behind = [point(row, index) for row in own]
        axes.plot(*zip(*behind, strict=True), ".-", color=colour, linewidth=0.8, markersize=3, alpha=0.6)
    axes.plot(*zip(*(point(row, index) for row in rows), strict=True), "-", color=DARK, linewidth=1)
    labels, name = [], ""
    for row in rows:
        mark(axes, row, index, "o", DARK, filled=row.id in best)
        if row.setting is not None:
            name = row.setting.name
            labels.append(Label(f"{row.setting.value:.3g}", *point(row, index), DARK))
    frame(axes, comparison, index)
    axes.set_title(f"{rows[0].method}: {name}", fontsize=8)
    axes.tick_params(labelsize=7)
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


def byte_points(rows: Sequence[ComparisonRow], *, lossless: bool) -> list[tuple[float, float, float, float]]:
    """Mean bytes and the desired accuracy (low, mean, high) of a method's rows, by bytes; rows without bytes are left out."""
    sizes = [row.cost.lossless_bytes if lossless else row.cost.upload_bytes for row in rows]
    return sorted((size, *desired_span(row)) for size, row in zip(sizes, rows, strict=True) if size)


def draw_bytes(comparison: Comparison, path: Path) -> None:
    """Write accuracy against the bytes of an upload as a PNG; dashed: ours as lossless WebP. Nothing before the first row."""
    if not comparison.rows:
        return
    plot = Figure(figsize=(6.4, 5.2), layout="constrained")
    axes: Any = plot.subplots()
    clean = sum(comparison.clean_accuracy.values()) / len(comparison.clean_accuracy)
    axes.axhline(clean, color=GREY, linewidth=0.8, linestyle="--", label="clean cloud network")
    for method, colour in zip(dict.fromkeys(row.method for row in comparison.rows), cycle(COLOURS)):
        rows = [row for row in comparison.rows if row.method == method]
        for lossless, style in ((False, "o-"), (True, "s--")):
            if points := byte_points(rows, lossless=lossless):
                size, low, middle, high = zip(*points, strict=True)
                name = f"{method}, lossless" if lossless else method
                axes.plot(size, middle, style, color=colour, markersize=4, linewidth=1.2, label=name)
                axes.fill_between(size, low, high, color=colour, alpha=0.15, linewidth=0)
    axes.set_xscale("log")
    axes.set_xlabel("bytes of an upload, mean", fontsize=9)
    axes.set_ylabel(f"accuracy on {', '.join(comparison.keep)}", fontsize=9)
    axes.yaxis.set_major_formatter(percent)
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.legend(fontsize=7, frameon=False, loc="best")
    save_png(plot, path)


def draw(comparison: Comparison, path: Path) -> None:
    """Write the picture as a PNG; nothing is drawn before the first row."""
    if not comparison.rows:
        return
    labels: list[tuple[Any, list[Label]]] = []
    if not comparison.hide:
        plot = Figure(figsize=(6.4, 5.2), layout="constrained")
        axes = plot.subplots()
        rate_panel(axes, comparison)
        axes.set_ylabel(f"accuracy on {', '.join(comparison.keep)}", fontsize=9)
    else:
        varied = [rows for rows in curves(comparison, ours=False).values() if len(rows) > 1]
        lines = ceil(len(varied) / SMALL_COLUMNS)
        heights = [5.2, 2.2 * lines][: 1 + bool(varied)] * len(comparison.hide)
        plot = Figure(figsize=(10, sum(heights)), layout="constrained")
        parts = iter(plot.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0])
        for index in range(len(comparison.hide)):
            axes = next(parts).subplots()
            labels.append((axes, panel(axes, comparison, index)))
            if varied:
                grid = next(parts).subplots(lines, SMALL_COLUMNS, sharex=True, sharey=True, squeeze=False)
                for axes, rows in zip_longest(grid.flat, varied):
                    if rows is None:
                        axes.set_axis_off()
                    else:
                        labels.append((axes, small_panel(axes, comparison, index, rows)))
    plot.draw_without_rendering()  # so that points have their places
    for axes, found in labels:
        place(axes, found)
    save_png(plot, path)
