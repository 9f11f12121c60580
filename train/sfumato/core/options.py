"""What several commands share in reading their command line."""

from typing import TypeVar

Value = TypeVar("Value")


def names(text: str) -> tuple[str, ...]:
    """A comma-separated list of names.

    >>> names("gender, race"), names("")
    (('gender', 'race'), ())
    """
    return tuple(part.strip() for part in text.split(",") if part.strip())


def renamed(old: Value, new: Value, *, was: str, now: str) -> Value:
    """The value of an option that was called otherwise in the release before, with a note if the old name was used.

    >>> renamed("", "all", was="--peers", now="--methods")
    'all'
    """
    if not old:
        return new
    from sfumato.core.console import note  # rich is slow to import, and `--help` needs none of it

    note(f"{was} is called {now} now: the old name goes with the next release")
    return old
