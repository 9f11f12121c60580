"""What a person sees: progress and tables on standard error, `--json` results alone on standard output."""

import json
import sys
from collections.abc import Iterable, Sequence
from datetime import timedelta
from functools import lru_cache
from threading import Event, Thread
from time import monotonic
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from sfumato.core.reports import Grid

UNBROKEN = 10_000
"""Columns of a log or a pipe, which have no width of their own."""

LINE_SECONDS = 60.0
"""Least time between two lines of progress in a log."""

err = Console(stderr=True, highlight=False, emoji=False)


def note(message: str) -> None:
    """Say one line on standard error; only a terminal breaks it, between words."""
    err.print(message, markup=False, soft_wrap=not err.file.isatty())


@lru_cache
def note_once(message: str) -> None:
    """`note`, once a process: a command opens its data set several times, and a folder holds many files."""
    note(message)


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
    """A bar on a terminal. A file or a pipe gets a line a minute instead, so that a run in the background can be watched.

    A step may take half an hour: a thread repeats the last line meanwhile.
    """

    def __init__(self, *columns: Any, **options: Any) -> None:
        super().__init__(*columns, **options)
        self._told, self._ended = monotonic(), Event()
        self._latest: TaskID | None = None
        self._thread: Thread | None = None

    def start(self) -> None:
        """As rich's."""
        super().start()
        if self.live.auto_refresh and not self.console.file.isatty():
            self._thread = Thread(target=self._repeat, name="progress", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """As rich's."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
        super().stop()

    def advance(self, task_id: TaskID, advance: float = 1) -> None:
        """As rich's."""
        super().advance(task_id, advance)
        self._tell(task_id)

    def update(self, task_id: TaskID, **changes: Any) -> None:
        """As rich's."""
        super().update(task_id, **changes)
        self._tell(task_id)

    def _repeat(self) -> None:
        while not self._ended.wait(LINE_SECONDS / 4):
            if self._latest is not None:
                self._tell(self._latest)

    def _tell(self, task_id: TaskID) -> None:
        with self._lock:
            self._latest = task_id
            now, task = monotonic(), self._tasks[task_id]
            if now - self._told >= LINE_SECONDS and task.visible and not self.console.file.isatty():
                self._told = now
                self._say(task)

    def _say(self, task: Task) -> None:
        total = "" if task.total is None else f" of {task.total:g}"
        parts = [f"{task.description.strip()}: {task.completed:g}{total}", f"{_clock(task.elapsed)} so far"]
        if task.time_remaining and not task.fields.get("estimated"):
            parts.append(f"{_clock(task.time_remaining)} left")
        if figures := task.fields.get("figures"):
            parts.append(str(figures))
        self.console.print(", ".join(parts), markup=False, soft_wrap=True)


class _TimeLeft(TimeRemainingColumn):
    """As rich's, for equal steps. A task that is `estimated` says in its figures how long the others take."""

    def render(self, task: Task) -> Text:
        """Empty where the task has an estimate of its own."""
        return Text("") if task.fields.get("estimated") else super().render(task)


def _clock(seconds: float | None) -> str:
    """Seconds as h:mm:ss.

    >>> _clock(3725.9)
    '1:02:05'
    """
    return str(timedelta(seconds=int(seconds or 0)))


def progress(*, alone: bool = False) -> Progress:
    """A progress bar on standard error, lines where that is no terminal; `figures` is a free text field beside the bar.

    A task with the field `estimated` says in its figures how long it still takes.

    Args:
        alone: without a thread that draws it now and then: a process that is forked while it holds its lock would wait
            forever.
    """
    return _Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        _TimeLeft(),
        TextColumn("{task.fields[figures]}"),
        console=err,
        transient=False,
        auto_refresh=not alone,
    )
