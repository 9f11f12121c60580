"""Three pictures of result files: time by variant, instructions by core, cost against other methods.

figure = PLOTS["latency"](results)          # None if there is nothing to draw
"""

from collections.abc import Callable, Sequence
from typing import Any

from matplotlib.figure import Figure

from sfumato.bench.results import Measurement, Results
from sfumato.bench.subjects import OURS
from sfumato.bench.tables import label, multiple, pairs, place, where
from sfumato.core.reports import COLOURS, GREY


def latency(found: Sequence[Results]) -> Figure | None:
    """Median time of ours by variant and configuration, up to the 90th percentile."""
    rows = [(place(results), row) for results in found for row in results.rows]
    rows = [(target, row) for target, row in rows if row.subject == OURS and row.p50_ms is not None]
    if not rows:
        return None
    names = [f"{target}: {label(row)}" for target, row in rows]
    middle = [row.p50_ms or 0.0 for _, row in rows]
    above = [max(0.0, (row.p90_ms or 0.0) - p50) for (_, row), p50 in zip(rows, middle, strict=True)]
    plot, axes = _axes(len(rows), "ms an image: median, bar to the 90th percentile")
    axes.barh(names, middle, color=COLOURS[1], height=0.6)
    axes.errorbar(middle, names, xerr=[[0.0] * len(rows), above], fmt="none", color=GREY, linewidth=1)
    axes.invert_yaxis()
    return plot


def instructions(found: Sequence[Results]) -> Figure | None:
    """Executed instructions of every int8 model on every emulated core, in millions."""
    rows = [row for results in found for row in results.rows if row.instructions and row.variant == "int8"]
    if not rows:
        return None
    cores = list(dict.fromkeys(row.cpu for row in rows))
    subjects = list(dict.fromkeys(row.subject for row in rows))
    plot, axes = _axes(
        len(subjects) * len(cores) // 2 + 1, "million executed A64 instructions an image, int8"
    )
    height = 0.8 / len(cores)
    for index, (core, colour) in enumerate(zip(cores, COLOURS, strict=False)):
        values = {row.subject: (row.instructions or 0) / 1e6 for row in rows if row.cpu == core}
        places = [subjects.index(name) + (index - (len(cores) - 1) / 2) * height for name in values]
        bars = axes.barh(places, list(values.values()), height=height, color=colour, label=core)
        axes.bar_label(bars, fmt="%.1f", fontsize=7, padding=2)
    axes.set_yticks(range(len(subjects)), subjects)
    axes.set_xscale("log")
    axes.margins(x=0.12)
    axes.invert_yaxis()
    axes.legend(fontsize=8, frameon=False)
    return plot


def relative_cost(found: Sequence[Results]) -> Figure | None:
    """Cost of other methods as a multiple of ours, int8."""
    bars: list[tuple[str, float]] = []
    for results in found:
        for row, base in pairs(results):
            ratio, unit = multiple(row, base)
            if row.variant == base.variant == "int8":
                bars.append((f"{row.subject}: {unit}, {_place(results, row)}", ratio))
    if not bars:
        return None
    plot, axes = _axes(len(bars), "times ours, int8")
    drawn = axes.barh([name for name, _ in bars], [ratio for _, ratio in bars], color=COLOURS[0], height=0.6)
    axes.bar_label(drawn, fmt="%.1f", fontsize=7, padding=2)
    axes.axvline(1, color=GREY, linewidth=0.8, linestyle="--")
    axes.set_xscale("log")
    axes.margins(x=0.12)
    axes.invert_yaxis()
    return plot


def _place(results: Results, row: Measurement) -> str:
    return where(row) if results.target == "arm" else f"{place(results)}, {where(row)}"


def _axes(bars: int, title: str) -> tuple[Figure, Any]:
    plot = Figure(figsize=(8.0, 1.2 + 0.28 * bars), layout="constrained")
    axes = plot.subplots()
    axes.set_xlabel(title, fontsize=9)
    axes.tick_params(labelsize=8)
    axes.grid(axis="x", alpha=0.25, linewidth=0.6)
    return plot, axes


PLOTS: dict[str, Callable[[Sequence[Results]], Figure | None]] = {
    "latency": latency,
    "instructions": instructions,
    "relative_cost": relative_cost,
}
"""Name of the file -> what draws it."""
