"""What several commands share in reading their command line."""


def names(text: str) -> tuple[str, ...]:
    """A comma-separated list of names.

    >>> names("gender, race"), names("")
    (('gender', 'race'), ())
    """
    return tuple(part.strip() for part in text.split(",") if part.strip())
