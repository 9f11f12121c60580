"""What is said is one line in a log or a pipe, and broken between words in a terminal alone."""

import io
import sys

import pytest

from sfumato.core.console import note, show, table

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
