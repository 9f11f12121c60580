"""What every report shares: a table of text, its Markdown, the colours of plots and how they are saved.

markdown(Grid("sizes", ("variant", "kB"), (("int8", "59"),)))
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sfumato.core.files import atomic_write

COLOURS = ("#d9572b", "#3b82c4", "#2f9e5f", "#8a5cc2", "#b8860b", "#c2417c")
GREY = "#6b747d"


@dataclass(frozen=True)
class Grid:
    """One table."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def credit_text(credit: float, guess_error: float | None = None, *, mask: bool = False) -> str:
    """A mean credit (`sfumato.data.truth`) as people read it: the share that is right, of a number its mean absolute error,
    of a mask the mean intersection over union.

    >>> credit_text(0.741), credit_text(0.55, guess_error=13.2), credit_text(0.741, mask=True)
    ('74.1 %', 'error 5.94', 'IoU 74.1 %')
    """
    if mask:
        return f"IoU {100 * credit:.1f} %"
    return f"{100 * credit:.1f} %" if guess_error is None else f"error {(1 - credit) * guess_error:.3g}"


def markdown(grid: Grid) -> str:
    """A table as Markdown."""
    aligned = ["---"] + ["---:"] * (len(grid.columns) - 1)
    lines = [grid.columns, aligned, *grid.rows]
    return "\n".join([f"**{grid.title}**", "", *("| " + " | ".join(line) + " |" for line in lines)])


def save_png(figure: Any, path: Path) -> None:
    """Write a matplotlib figure at 144 dots an inch, whole or not at all."""
    with atomic_write(path) as scratch:
        figure.savefig(scratch, format="png", dpi=144)
