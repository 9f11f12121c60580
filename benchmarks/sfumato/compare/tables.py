"""A comparison in tables: privacy and utility, how ours stand beside each other method, and the price on the phone.

for grid in comparison_tables(comparison): ...
standings(comparison)[0].verdict                 # "less": ours leak less, and the intervals are apart
"""

from sfumato.compare.schema import Comparison, Row, Standing, Verdict
from sfumato.core.reports import Grid

MARGIN = 0.005
"""Accuracies this close count as equal: half a point."""
VERDICTS: dict[Verdict, str] = {
    "less": "ours leak less",
    "more": "ours leak more",
    "open": "no difference shown",
    "none": "none of ours is as accurate",
}


def standings(rows: tuple[Row, ...]) -> tuple[Standing, ...]:
    """Each other method beside that row of ours which is at least as accurate, within `MARGIN`, and leaks least.

    A difference counts when the 95 % intervals of NAG over the label-only floor are apart. Ours are picked among several rows,
    by the upper limit; the intervals make no allowance for that.
    """
    found = []
    ours = [row for row in rows if is_ours(row)]
    for other in (row for row in rows if not is_ours(row)):
        for index, attribute in enumerate(other.attributes):
            least = accuracy(other) - MARGIN
            equals = [row for row in ours if accuracy(row) >= least]
            best = min(equals, key=lambda row: row.attributes[index].nag_label_only_ci95[1], default=None)
            low, high = attribute.nag_label_only_ci95
            verdict: Verdict = "none"
            if best is not None:
                ours_low, ours_high = best.attributes[index].nag_label_only_ci95
                verdict = "less" if ours_high < low else "more" if ours_low > high else "open"
            name = None if best is None else best.id
            found.append(Standing(method=other.id, attribute=attribute.name, ours=name, verdict=verdict))
    return tuple(found)


def is_ours(row: Row) -> bool:
    """The literal scheme is trained by our trainer, but it is the paper's method."""
    return row.ours and row.method != "literal"


def accuracy(row: Row) -> float:
    """Mean over the desired attributes."""
    return sum(one.accuracy for one in row.desired) / len(row.desired)


def comparison_tables(comparison: Comparison) -> list[Grid]:
    """All tables; those without rows are left out."""
    made = [privacy_table(comparison), standing_table(comparison), price_table(comparison)]
    return [grid for grid in made if grid.rows]


def privacy_table(comparison: Comparison) -> Grid:
    """Rate, bound, desired accuracy and the best attack of every row."""
    clean = ", ".join(f"{name} {value:.1%}" for name, value in comparison.clean_accuracy.items())
    columns = ["method", "bits", "told at most", *[f"{name}, 95 %" for name in comparison.keep]]
    for name in comparison.hide:
        columns += [f"{name}: best attack", "accuracy", "NAG, 95 %"]
    title = f"{comparison.n_test} test images; clean cloud network: {clean}; * read the hidden labels"
    return Grid(title, tuple(columns), tuple(privacy_cells(row) for row in comparison.rows))


def privacy_cells(row: Row) -> tuple[str, ...]:
    """The cells of one row of the first table."""
    bits = "no bound" if row.rate_bits is None else f"{row.rate_bits.mean:,.1f}"
    told = "-" if row.told_bits is None else f"{row.told_bits:,.2f}"
    cells = [row.id + (" *" if row.reads_hidden_labels else ""), bits, told]
    cells += [f"{d.accuracy:.1%} ({d.ci95[0]:.1%} - {d.ci95[1]:.1%})" for d in row.desired]
    for a in row.attributes:
        cells += [f"{a.best.attack} {a.best.architecture}", f"{a.best.accuracy:.1%}", nag(row, a.name)]
    return tuple(cells)


def nag(row: Row, attribute: str) -> str:
    """NAG over the label-only floor with its interval."""
    (found,) = (one for one in row.attributes if one.name == attribute)
    low, high = found.nag_label_only_ci95
    return f"{found.nag_label_only:.1%} ({low:.1%} - {high:.1%})"


def standing_table(comparison: Comparison) -> Grid:
    """How ours stand beside each other method."""
    rows = {row.id: row for row in comparison.rows}
    lines = []
    for standing in comparison.standings:
        other, ours = rows[standing.method], rows.get(standing.ours or "")
        cells = ["-"] * 3
        if ours is not None:
            cells = [ours.id, f"{accuracy(ours):.1%}", nag(ours, standing.attribute)]
        beside = (f"{accuracy(other):.1%}", nag(other, standing.attribute), *cells)
        lines.append((other.id, standing.attribute, *beside, VERDICTS[standing.verdict]))
    columns = ("method", "hidden", "desired", "NAG, 95 %", "of ours", "desired", "NAG, 95 %", "")
    title = f"beside that of ours which is as accurate, within {100 * MARGIN:g} points, and leaks least"
    return Grid(title, columns, tuple(lines))


def price_table(comparison: Comparison) -> Grid:
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
