"""Errors a user can act on.

`SfumatoError` is work that failed or a check that fell short (exit code 1); `UsageError` is wrong use (exit code 2).
Both carry one line that says what was given, what is allowed and what to do; the command line prints that line and
keeps the traceback for `--debug`.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError


class SfumatoError(Exception):
    """The work failed or a check fell short; the message is one line that says what to do."""

    exit_code = 1


class UsageError(SfumatoError):
    """The command was called in a way it does not know."""

    exit_code = 2


class DataError(SfumatoError):
    """Images or labels cannot be used as they are."""


def unknown(kind: str, given: str, known: object) -> str:
    """The sentence for a name that is not in a list.

    >>> unknown("channel", "ditherr", ["gaussian", "dither"])
    "unknown channel 'ditherr': known are gaussian, dither"
    """
    names = [str(name) for name in known]  # type: ignore[attr-defined]
    return f"unknown {kind} {given!r}: known are {', '.join(names)}"


def complaint(error: "ValidationError", whole: str = "") -> str:
    """What a pydantic model objects to first, `where: what`; `whole` stands for the model itself."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"]) or whole
    return f"{where}: {first['msg']}"


def first_line(error: BaseException) -> str:
    """The first line of an error of another library, or its type where it says nothing."""
    return (str(error).splitlines() or [type(error).__name__])[0]
