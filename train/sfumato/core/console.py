"""What a person sees: progress and tables on standard error, `--json` results alone on standard output."""

import json
import sys
from collections.abc import Iterable, Sequence
from datetime import timedelta
from time import monotonic
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from sfumato.core.reports import Grid

UNBROKEN = 10_000
"""Columns of a log or a pipe, which have no width of their own."""

LINE_SECONDS = 60.0
"""Least time between two lines of progress in a log."""

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


class _Progress(Progress):
    """A bar on a terminal. A file or a pipe gets a line a minute instead, so that a run in the background can be watched."""

    def __init__(self, *columns: Any, **options: Any) -> None:
        super().__init__(*columns, **options)
        self._told = monotonic()

    def advance(self, task_id: TaskID, advance: float = 1) -> None:
        """As rich's."""
        super().advance(task_id, advance)
        self._tell(task_id)

    def update(self, task_id: TaskID, **changes: Any) -> None:
        """As rich's."""
        super().update(task_id, **changes)
        self._tell(task_id)

    def _tell(self, task_id: TaskID) -> None:
        now, task = monotonic(), self._tasks[task_id]
        if now - self._told < LINE_SECONDS or not task.visible or self.console.file.isatty():
            return
        self._told = now
        total = "" if task.total is None else f" of {task.total:g}"
        parts = [f"{task.description.strip()}: {task.completed:g}{total}", f"{_clock(task.elapsed)} so far"]
        if task.time_remaining:
            parts.append(f"{_clock(task.time_remaining)} left")
        if figures := task.fields.get("figures"):
            parts.append(str(figures))
        self.console.print(", ".join(parts), markup=False, soft_wrap=True)


def _clock(seconds: float | None) -> str:
    """Seconds as h:mm:ss.

    >>> _clock(3725.9)
    '1:02:05'
    """
    return str(timedelta(seconds=int(seconds or 0)))


def progress(*, alone: bool = False) -> Progress:
    """A progress bar on standard error, lines where that is no terminal; `figures` is a free text field beside the bar.

    Args:
        alone: without a thread that draws it now and then: a process that is forked while it holds its lock would wait
            forever.
    """
    return _Progress(
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
