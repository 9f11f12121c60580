"""What every report shares: a table of text, its Markdown, and the colours of plots.

markdown(Grid("sizes", ("variant", "kB"), (("int8", "59"),)))
"""

from dataclasses import dataclass

COLOURS = ("#d9572b", "#3b82c4", "#2f9e5f", "#8a5cc2", "#b8860b", "#c2417c")
GREY = "#6b747d"


@dataclass(frozen=True)
class Grid:
    """One table."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def markdown(grid: Grid) -> str:
    """A table as Markdown."""
    aligned = ["---"] + ["---:"] * (len(grid.columns) - 1)
    lines = [grid.columns, aligned, *grid.rows]
    return "\n".join([f"**{grid.title}**", "", *("| " + " | ".join(line) + " |" for line in lines)])
