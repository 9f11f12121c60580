"""What is said is one line in a log or a pipe, and broken between words in a terminal alone."""

import io
import re
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

from sfumato.core import console
from sfumato.core.console import note, progress, show, table

PATH = "/home/someone/" + "a folder with spaces/" * 12 + "garden.jpg"


class Terminal(io.StringIO):
    """Says that it is one."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def eighty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


@pytest.mark.parametrize(
    "message", [f"wrote {PATH}", f"wrote [bold]{PATH}[/bold] :smile:", "short", "a\nb" + PATH]
)
def test_a_note_in_a_log_is_unbroken(message: str, capsys: pytest.CaptureFixture[str]) -> None:
    note(message)
    assert capsys.readouterr().err == message + "\n"


def test_colours_that_are_forced_make_no_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    note(PATH)
    assert PATH in capsys.readouterr().err


def test_a_terminal_breaks_between_words(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    note(f"wrote {PATH}")
    lines = terminal.getvalue().splitlines()
    assert len(lines) > 1
    assert max(map(len, lines)) <= 80
    assert " ".join(line.strip() for line in lines) == f"wrote {PATH}"


def test_rows_of_a_table_in_a_pipe_are_unbroken(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    grid = table("uploads", ("photo", "upload"), [("garden.jpg", PATH)])
    show(grid)
    assert any(PATH in line for line in capsys.readouterr().out.splitlines())
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    show(grid)
    assert not any(PATH in line for line in terminal.getvalue().splitlines())


def advance(monkeypatch: pytest.MonkeyPatch, file: io.StringIO, seconds: list[float], **fields: Any) -> str:
    """What a bar of as many steps writes, if each happens at its time; rich's own clock is left alone."""
    clock = iter([0.0, *seconds])
    monkeypatch.setattr(console, "monotonic", lambda: next(clock))
    monkeypatch.setattr(console.err, "_file", file)  # `file` would be pinned afterwards
    with progress(alone=True) as bar:
        task = bar.add_task("clean network ", total=len(seconds), **{"figures": "accuracy 70.1 %", **fields})
        for _ in seconds:
            bar.advance(task)
    return file.getvalue()


def test_progress_in_a_log_is_a_line_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    """One step within the first minute, then late ones: a line for each that comes a minute after the last line."""
    *lines, bar = advance(monkeypatch, io.StringIO(), [59.0, 61.0, 100.0, 121.5]).splitlines()
    assert [re.sub(r"\d+:\d\d:\d\d", "T", line) for line in lines] == [
        "clean network: 2 of 4, T so far, T left, accuracy 70.1 %",
        "clean network: 4 of 4, T so far, accuracy 70.1 %",
    ]
    assert "4/4" in bar


def test_one_estimate_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A task that has its own says it alone: where steps are unlike, a count of them says little."""
    own: dict[str, Any] = {"figures": "~46 min left", "estimated": True}
    line, bar = advance(monkeypatch, io.StringIO(), [59.0, 61.0, 62.0], **own).splitlines()
    assert re.sub(r"\d+:\d\d:\d\d", "T", line) == "clean network: 2 of 3, T so far, ~46 min left"
    ours = advance(monkeypatch, io.StringIO(), [1.0, 2.0])
    assert (len(re.findall(r"\d+:\d\d:\d\d", bar)), len(re.findall(r"\d+:\d\d:\d\d", ours))) == (1, 2)


def test_a_terminal_has_the_bar_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "so far" not in advance(monkeypatch, Terminal(), [61.0, 122.0])


def test_another_process_of_the_same_run_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    file = io.StringIO()
    monkeypatch.setattr(console, "LINE_SECONDS", 0.0)
    monkeypatch.setattr(console.err, "_file", file)  # `file` would be pinned afterwards
    with progress(alone=True) as bar:
        bar.advance(bar.add_task("clean network", total=2, figures="", visible=False))
    assert "clean" not in file.getvalue()


def test_a_long_step_is_told_every_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing advances, yet the lines go on, until the bar is gone."""
    file = io.StringIO()
    monkeypatch.setattr(console, "LINE_SECONDS", 0.04)
    monkeypatch.setattr(console.err, "_file", file)
    with progress() as bar:
        task = bar.add_task("clean finetune", total=14, figures="")
        bar.update(task, completed=5)
        wait_for(lambda: file.getvalue().count("clean finetune: 5 of 14") >= 3)
    told = file.getvalue()
    time.sleep(0.2)
    assert file.getvalue() == told


def wait_for(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)
