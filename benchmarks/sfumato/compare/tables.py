"""A comparison in tables: every method at its best point, all points, ours beside the others, published figures, cost.

for grid in comparison_tables(comparison): ...
"""

from sfumato.compare.schema import CleanCost, Comparison, ComparisonRow, MatchResult
from sfumato.compare.selection import MARGIN
from sfumato.core.reports import Grid

RESULTS: dict[MatchResult, str] = {
    "less": "ours leak less",
    "more": "ours leak more",
    "inconclusive": "no difference shown",
    "unmatched": "none of ours is as accurate",
}


def accuracy(row: ComparisonRow) -> float:
    """Mean over the desired attributes."""
    return sum(one.accuracy for one in row.desired) / len(row.desired)


def comparison_tables(comparison: Comparison) -> list[Grid]:
    """All tables; those without rows are left out."""
    made = [
        best_table(comparison),
        privacy_table(comparison),
        match_table(comparison),
        published_table(comparison),
        cost_table(comparison),
        failed_table(comparison),
    ]
    return [grid for grid in made if grid.rows]


def privacy_columns(comparison: Comparison) -> tuple[str, ...]:
    """Of the first two tables."""
    columns = ["method", "bits", "leakage bound, bits", *[f"{name}, 95 %" for name in comparison.keep]]
    for name in comparison.hide:
        columns += [f"{name}: best attack", "accuracy", "NAG, 95 %"]
    return tuple(columns)


def best_table(comparison: Comparison) -> Grid:
    """One row a method."""
    rows = {row.id: row for row in comparison.rows}
    lines = tuple(privacy_cells(rows[one.row], far=not one.accurate) for one in comparison.best_points)
    title = f"each method at its best point. {comparison.rule} ! no setting was within the limit; * read the hidden labels"
    return Grid(title, privacy_columns(comparison), lines)


def privacy_table(comparison: Comparison) -> Grid:
    """Rate, bound, desired accuracy and the best attack of every row."""
    clean = ", ".join(f"{name} {value:.1%}" for name, value in comparison.clean_accuracy.items())
    title = f"{comparison.n_test} test images; clean cloud network: {clean}; * read the hidden labels"
    return Grid(title, privacy_columns(comparison), tuple(privacy_cells(row) for row in comparison.rows))


def privacy_cells(row: ComparisonRow, *, far: bool = False) -> tuple[str, ...]:
    """The cells of one row of the first two tables; `far`: less accurate than the rule asks."""
    bits = "no bound" if row.rate_bits is None else f"{row.rate_bits.mean:,.1f}"
    bound = "-" if row.leakage_bound_bits is None else f"{row.leakage_bound_bits:,.2f}"
    cells = [row.id + (" *" if row.reads_hidden_labels else "") + (" !" if far else ""), bits, bound]
    cells += [f"{d.accuracy:.1%} ({d.ci95[0]:.1%} - {d.ci95[1]:.1%})" for d in row.desired]
    for a in row.attributes:
        cells += [f"{a.best.attack} {a.best.architecture}", f"{a.best.accuracy:.1%}", nag(row, a.name)]
    return tuple(cells)


def nag(row: ComparisonRow, attribute: str) -> str:
    """NAG over the label-only floor with its interval."""
    (found,) = (one for one in row.attributes if one.name == attribute)
    low, high = found.nag_label_only_ci95
    return f"{found.nag_label_only:.1%} ({low:.1%} - {high:.1%})"


def match_table(comparison: Comparison) -> Grid:
    """Ours beside each other method."""
    rows = {row.id: row for row in comparison.rows}
    lines = []
    for match in comparison.matched_comparisons:
        other, ours = rows[match.method], rows.get(match.ours or "")
        cells = ["-"] * 3
        if ours is not None:
            cells = [ours.id, f"{accuracy(ours):.1%}", nag(ours, match.attribute)]
        theirs = (f"{accuracy(other):.1%}", nag(other, match.attribute))
        lines.append((other.id, match.attribute, *theirs, *cells, RESULTS[match.result]))
    columns = ("method", "hidden", "desired", "NAG, 95 %", "of ours", "desired", "NAG, 95 %", "")
    title = f"beside the row of ours that is as accurate, within {100 * MARGIN:g} points, and leaks least"
    return Grid(title, columns, tuple(lines))


def published_table(comparison: Comparison) -> Grid:
    """What papers report of the methods, and the co-trained adversary, which is what most of them report."""
    rows = {row.id: row for row in comparison.rows}
    lines = []
    for one in comparison.best_points:
        row = rows[one.row]
        if row.published:
            drop = accuracy(row) - sum(d.clean_accuracy for d in row.desired) / len(row.desired)
            own = ", ".join(f"{name} {value:.1%}" for name, value in row.own_adversary.items()) or "-"
            lines.append((row.id, f"{100 * drop:+.1f}", own, row.published))
    columns = ("method", "points from clean", "its own adversary", "published")
    return Grid("published figures; what is not named as comparable is not reproduced", columns, tuple(lines))


def cost_table(comparison: Comparison) -> Grid:
    """What a method costs on the phone; below them the clean network itself, which would send no image."""
    columns = (
        "method",
        "parameters",
        "as float32, bytes",
        "million MACs",
        "desired",
        "upload bytes",
        "p95",
        "as",
        "lossless, p95",
        "stored bytes",
    )
    rows: tuple[tuple[str, ...], ...] = tuple(
        (
            row.id,
            f"{row.cost.parameters:,}",
            f"{4 * row.cost.parameters:,}",
            f"{row.cost.macs / 1e6:.2f}",
            f"{accuracy(row):.1%}",
            f"{row.cost.upload_bytes:,.0f}",
            whole(row.cost.upload_bytes_p95),
            row.cost.upload_encoding,
            f"{whole(row.cost.lossless_bytes)}, {whole(row.cost.lossless_bytes_p95)}",
            f"{row.cost.stored_bytes:,}",
        )
        for row in comparison.rows
    )
    if rows and comparison.clean_cost is not None:
        rows += (clean_cells(comparison, comparison.clean_cost),)
    return Grid("on the phone, an image", columns, rows)


def clean_cells(comparison: Comparison, clean: CleanCost) -> tuple[str, ...]:
    """The cells of the clean network on the phone, in the table of costs."""
    right = sum(comparison.clean_accuracy.values()) / len(comparison.clean_accuracy)
    return (
        "the clean cloud network itself",
        f"{clean.parameters:,}",
        f"{clean.float_bytes:,}",
        f"{clean.macs / 1e6:.2f}",
        f"{right:.1%}",
        "-",
        "-",
        f"no upload; int8: {clean.int8_bytes:,} bytes",
        "-",
        "-",
    )


def whole(number: float | None) -> str:
    """A count of bytes, or a dash."""
    return "-" if number is None else f"{number:,.0f}"


def failed_table(comparison: Comparison) -> Grid:
    """Rows that could not be trained."""
    return Grid("not trained", ("row", "why"), tuple(comparison.failed.items()))
