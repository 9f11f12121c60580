"""What a person sees: progress and tables on standard error, `--json` results alone on standard output."""

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from sfumato.core.reports import Grid

UNBROKEN = 10_000
"""Columns of a log or a pipe, which have no width of their own."""

err = Console(stderr=True, highlight=False, emoji=False)


def note(message: str) -> None:
    """Say one line on standard error; only a terminal breaks it, between words."""
    err.print(message, markup=False, soft_wrap=not err.file.isatty())


def emit_json(value: Any) -> None:
    """Print a result as JSON, alone on standard output; escaped where that is not UTF-8."""
    plain = (sys.stdout.encoding or "").lower().replace("-", "") != "utf8"
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=plain) + "\n")


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Table:
    """A plain table; numbers are formatted by the caller."""
    grid = Table(title=title, title_justify="left", header_style="bold")
    for index, column in enumerate(columns):
        grid.add_column(column, justify="left" if index == 0 else "right")
    for row in rows:
        grid.add_row(*(str(cell) for cell in row))
    return grid


def show(grid: Table) -> None:
    """Print a table for people, on standard output; only a terminal breaks its rows."""
    width = None if sys.stdout.isatty() else UNBROKEN
    Console(highlight=False, markup=False, emoji=False, width=width).print(grid)


def show_tables(grids: Iterable[Grid]) -> None:
    """Print the tables of a report, on standard output."""
    for grid in grids:
        show(table(grid.title, grid.columns, grid.rows))


def progress(*, alone: bool = False) -> Progress:
    """A progress bar on standard error; `figures` is a free text field beside the bar.

    Args:
        alone: without a thread that draws it now and then: a process that is forked while it holds its lock would wait
            forever.
    """
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[figures]}"),
        console=err,
        transient=False,
        auto_refresh=not alone,
    )
