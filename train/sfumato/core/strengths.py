"""The strengths at which one model can be used: how far its probabilities are drawn towards a fair coin.

    read_strengths("128,64,32")      # (128, 64, 32)

At 128 an upload is what the network computed. At s each bit is also flipped with probability `(1 - s / 128) / 2`: the upload
of full strength as a binary symmetric channel lets it through (docs/decisions/0033-operating-points.md).
"""

import re
from collections.abc import Sequence
from itertools import pairwise

from sfumato.core.errors import UsageError

FULL = 128
"""The strength that changes nothing."""


def check_strengths(strengths: Sequence[int]) -> None:
    """Refuse a list of points that is not 128 and weaker ones in order.

    Raises:
        ValueError: it is empty, does not start with 128, does not descend, or goes below 1.
    """
    ordered = all(first > second for first, second in pairwise(strengths))
    if not strengths or strengths[0] != FULL or strengths[-1] < 1 or not ordered:
        found = ", ".join(map(str, strengths)) or "none"
        raise ValueError(
            f"points are strengths from {FULL} on, each below the one before and at least 1, not {found}"
        )


def read_strengths(text: str) -> tuple[int, ...]:
    """Whole numbers, separated by commas.

    >>> read_strengths("128, 64"), read_strengths("")
    ((128, 64), ())

    Raises:
        UsageError: a part is no whole number.
    """
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if odd := next((part for part in parts if not re.fullmatch("[0-9]{1,9}", part)), None):
        raise UsageError(f"a strength is a whole number, not {odd!r}")
    return tuple(map(int, parts))
