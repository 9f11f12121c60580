"""A comparison in tables: privacy and utility, ours beside each other method at matched accuracy, cost on the phone.

for grid in comparison_tables(comparison): ...
match_comparisons(comparison.rows)[0].result     # "less": ours leak less, and the intervals are apart
"""

from sfumato.compare.schema import Comparison, ComparisonRow, MatchedComparison, MatchResult
from sfumato.core.reports import Grid

MARGIN = 0.005
"""Accuracies this close count as equal: half a point."""
RESULTS: dict[MatchResult, str] = {
    "less": "ours leak less",
    "more": "ours leak more",
    "inconclusive": "no difference shown",
    "unmatched": "none of ours is as accurate",
}


def match_comparisons(rows: tuple[ComparisonRow, ...]) -> tuple[MatchedComparison, ...]:
    """Each other method beside that row of ours which is at least as accurate, within `MARGIN`, and leaks least.

    A difference counts when the 95 % intervals of NAG over the label-only floor are apart. Ours are picked among several rows,
    by the upper limit; the intervals make no allowance for that.
    """
    ours = [row for row in rows if is_ours(row)]
    others = [row for row in rows if not is_ours(row)]
    return tuple(_match(other, ours, index) for other in others for index in range(len(other.attributes)))


def _match(other: ComparisonRow, ours: list[ComparisonRow], index: int) -> MatchedComparison:
    """One method and one attribute."""
    attribute = other.attributes[index]
    candidates = [row for row in ours if accuracy(row) >= accuracy(other) - MARGIN]
    if not candidates:
        return MatchedComparison(method=other.id, attribute=attribute.name, ours=None, result="unmatched")
    best = min(candidates, key=lambda row: row.attributes[index].nag_label_only_ci95[1])
    ours_low, ours_high = best.attributes[index].nag_label_only_ci95
    low, high = attribute.nag_label_only_ci95
    result: MatchResult = "less" if ours_high < low else "more" if ours_low > high else "inconclusive"
    return MatchedComparison(method=other.id, attribute=attribute.name, ours=best.id, result=result)


def is_ours(row: ComparisonRow) -> bool:
    """The literal scheme is trained by our trainer, but it is the paper's method."""
    return row.ours and row.method != "literal"


def accuracy(row: ComparisonRow) -> float:
    """Mean over the desired attributes."""
    return sum(one.accuracy for one in row.desired) / len(row.desired)


def comparison_tables(comparison: Comparison) -> list[Grid]:
    """All tables; those without rows are left out."""
    made = [privacy_table(comparison), match_table(comparison), cost_table(comparison)]
    return [grid for grid in made if grid.rows]


def privacy_table(comparison: Comparison) -> Grid:
    """Rate, bound, desired accuracy and the best attack of every row."""
    clean = ", ".join(f"{name} {value:.1%}" for name, value in comparison.clean_accuracy.items())
    columns = ["method", "bits", "leakage bound, bits", *[f"{name}, 95 %" for name in comparison.keep]]
    for name in comparison.hide:
        columns += [f"{name}: best attack", "accuracy", "NAG, 95 %"]
    title = f"{comparison.n_test} test images; clean cloud network: {clean}; * read the hidden labels"
    return Grid(title, tuple(columns), tuple(privacy_cells(row) for row in comparison.rows))


def privacy_cells(row: ComparisonRow) -> tuple[str, ...]:
    """The cells of one row of the first table."""
    bits = "no bound" if row.rate_bits is None else f"{row.rate_bits.mean:,.1f}"
    bound = "-" if row.leakage_bound_bits is None else f"{row.leakage_bound_bits:,.2f}"
    cells = [row.id + (" *" if row.reads_hidden_labels else ""), bits, bound]
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


def cost_table(comparison: Comparison) -> Grid:
    """What a method costs on the phone."""
    columns = ("method", "parameters", "million MACs", "upload bytes", "as", "stored bytes")
    rows = tuple(
        (
            row.id,
            f"{row.cost.parameters:,}",
            f"{row.cost.macs / 1e6:.2f}",
            f"{row.cost.upload_bytes:,.0f}",
            row.cost.upload_encoding,
            f"{row.cost.stored_bytes:,}",
        )
        for row in comparison.rows
    )
    return Grid("on the phone, an image", columns, rows)
