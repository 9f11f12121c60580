"""From the values of a column to classes: what counts as one class, what as no value, and numbers in bins.

    classes, labels = to_classes(["Yes", "yes ", "no", ""], where="labels.csv: smiling")
    # ("no", "yes"), [1, 1, 0, UNLABELLED], and a note that 'Yes' and 'yes' are one class

Bins are asked for with the attribute: `age:0-12,13-19,20-` or `age:q4` for four of equal size. They travel in the data
SPEC (`bins=age:0-12/13-19/20-`), so that a run opens the same data again.
"""

import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from sfumato.core.console import note
from sfumato.core.errors import DataError
from sfumato.data.dataset import Floats, Ints
from sfumato.data.source import UNLABELLED

EMPTY = ("", "nan", "na", "n/a", "#n/a", "null")
"""Cells, in small letters, that hold no value. `none` is one: somebody who wears no glasses."""
MOST_NUMBERS = 20
"""More different numbers than this are a quantity and no classes, unless classes.json lists them."""
_NUMBER = r"-?[0-9]+(?:\.[0-9]+)?"
_LISTED = 6


def number(text: str) -> float | None:
    """The number a text is, or None.

    >>> number("01"), number("1.0"), number("1e5"), number("x")
    (1.0, 1.0, None, None)
    """
    return float(text) if re.fullmatch(_NUMBER, text) and len(text) < 100 else None


def meaning(value: str) -> str:
    """What two spellings of one class share: the case is ignored, and how a number is written.

    >>> meaning("Yes"), meaning("01.50"), meaning("-0.0"), meaning("100")
    ('yes', '1.5', '0', '100')
    """
    match = re.fullmatch(r"(-?)0*([0-9]*?)(?:\.([0-9]*?)0*)?", value) if number(value) is not None else None
    if match is None:
        return value.casefold()
    whole, part = (
        match[2] or "0",
        f".{match[3]}" if match[3] else "",
    )  # as text: long numbers of persons stay apart
    return f"{match[1] * (whole + part != '0')}{whole}{part}"


def by_size(value: str) -> tuple[int, float, str]:
    """Numbers before words, numbers by size."""
    found = number(value)
    return (1, 0.0, value) if found is None else (0, found, value)


def to_classes(
    values: Sequence[str], where: str, fixed: Sequence[str] | None = None, lines: Sequence[int] | None = None
) -> tuple[tuple[str, ...], Ints]:
    """Classes in order, and the class of every row.

    Args:
        values: (N,) cleaned cells.
        where: file and column, for messages.
        fixed: the classes, in order; else the different values, numbers by size.
        lines: (N,) line numbers, for messages.

    Returns:
        The classes, and (N,) their indices, `UNLABELLED` for an empty cell.

    Raises:
        DataError: a value is none of the fixed classes.
    """
    counts = Counter(values)
    empty = {value for value in counts if value.casefold() in EMPTY and value not in (fixed or ())}
    words = {value: counts[value] for value in counts if value not in empty}
    if any(empty - {""}):
        note(f"{where}: {', '.join(map(repr, sorted(empty - {''})))} counts as no value")
    spellings: dict[str, list[str]] = {}  # by meaning, the most frequent first
    for value in sorted(words, key=lambda one: (-words[one], len(one), one)):
        spellings.setdefault(meaning(value), []).append(value)
    if fixed is None:
        name_of = {value: same[0] for same in spellings.values() for value in same}
        classes = tuple(sorted((same[0] for same in spellings.values()), key=by_size))
    else:
        classes = tuple(fixed)
        known = {meaning(name): name for name in classes}
        several = len(known) < len(classes)  # letters whose case counts
        name_of = {v: v if v in classes or several else known.get(meaning(v), v) for v in words}
        for at, value in enumerate(values):
            if value not in empty and name_of[value] not in classes:
                line = f" line {lines[at]}" if lines is not None else ""
                file, _, column = where.rpartition(": ")
                raise DataError(
                    f"{file}{line}: {column} is {value!r}, outside classes.json: {', '.join(classes)}"
                )
    merged = {name: [v for v in words if name_of[v] == name and v != name] for name in classes}
    told = [
        f"{', '.join(map(repr, sorted(others)))} as {name!r}" for name, others in merged.items() if others
    ]
    if told:
        more = f" and {len(told) - _LISTED} more" if len(told) > _LISTED else ""
        note(
            f"{where}: {'; '.join(told[:_LISTED])}{more}. List the classes in classes.json if they are different ones"
        )
    index = {name: place for place, name in enumerate(classes)}
    code = {value: index[name_of[value]] if value in words else UNLABELLED for value in counts}
    return classes, np.array([code[value] for value in values], dtype=np.int64)


def is_quantity(classes: Sequence[str]) -> bool:
    """Whether these are numbers, and more than anybody means as classes: ages in years, prices."""
    return len(classes) > MOST_NUMBERS and all(number(one) is not None for one in classes)


def refuse_quantity(name: str, classes: Sequence[str]) -> DataError:
    """What to do about a quantity that is asked for as classes."""
    return DataError(
        f"{name!r} has {len(classes)} different numbers, from {classes[0]} to {classes[-1]}: ask for bins, e.g. "
        f"{name}:q4 for four of equal size or {name}:{_example(classes)}, or list them in classes.json if they are classes"
    )


def _example(classes: Sequence[str]) -> str:
    first, second = (round(float(classes[len(classes) * part // 3])) for part in (1, 2))
    return f"{round(float(classes[0]))}-{first},{first + 1}-{second},{second + 1}-"


def to_bins(
    name: str, classes: Sequence[str], labels: Ints, bins: str, *, fewer: bool = False
) -> tuple[tuple[str, ...], Ints]:
    """An attribute of numbers, with bins for classes.

    Args:
        name: of the attribute, for messages.
        classes: its classes, all numbers.
        labels: (N,) indices into them.
        bins: `q4`, or ranges with `/` between: `0-12/13-19/20-`. Both ends belong to a range; 12.5 belongs to 0-12 where
            the next range begins at 13. What lies in no range has no label.
        fewer: of `q4`: fewer bins will do where many values are equal.

    Returns:
        Names of the bins, and (N,) their indices, `UNLABELLED` for what has none.

    Raises:
        DataError: the attribute is not of numbers, or the bins cannot be read, overlap, or are too many.
    """
    numbers = [number(one) for one in classes]
    if None in numbers or not classes:
        strange = next((one for one, value in zip(classes, numbers, strict=True) if value is None), "")
        raise DataError(f"{name!r} cannot have bins: {strange!r} is not a number")
    sizes = np.array(numbers, dtype=np.float64)
    known = labels != UNLABELLED
    values = sizes[labels[known]]
    if match := re.fullmatch("q([1-9][0-9]?)", bins):
        names, edges = _quantiles(name, values, int(match[1]), fewer=fewer)
    else:
        names, edges = _ranges(name, bins)
    bin_of_class = np.full(len(classes), UNLABELLED, dtype=np.int64)
    for place, (low, high) in enumerate(edges):
        bin_of_class[(sizes >= low) & (sizes < high)] = place
    out = np.full(len(labels), UNLABELLED, dtype=np.int64)
    out[known] = bin_of_class[labels[known]]
    return names, out


def to_numbers(classes: Sequence[str], labels: Ints) -> Floats:
    """(N,) the numbers that labels (N,) into classes, all numbers, stand for; NaN for `UNLABELLED`."""
    sizes = np.array([float(one) for one in classes])
    return np.where(labels == UNLABELLED, np.nan, sizes[labels])


_Bins = tuple[tuple[str, ...], list[tuple[float, float]]]
"""Names of bins, and the half-open interval of each."""


def _quantiles(name: str, values: Floats, count: int, *, fewer: bool) -> _Bins:
    """Bins of equal size as nearly as equal values allow, named by the least and the largest value in each."""
    ordered = np.sort(values)
    cuts = [ordered[len(ordered) * part // count] for part in range(1, count)]
    if fewer:
        cuts = [cut for cut in dict.fromkeys(cuts) if cut > ordered[0]]
    starts = [-np.inf, *cuts, np.inf]
    inside = [ordered[(ordered >= a) & (ordered < b)] for a, b in pairwise(starts)]
    if not cuts or len(set(cuts)) < len(cuts) or not all(map(len, inside)):
        raise DataError(
            f"{name}:q{count}: there are too few different values for {count} bins: ask for fewer"
        )
    names = tuple(f"{_short(part[0])}-{_short(part[-1])}" for part in inside)
    return names, list(pairwise(starts))


def _short(value: float) -> str:
    return str(int(value)) if value == int(value) else str(value)


def _ranges(name: str, bins: str) -> _Bins:
    edges: list[tuple[float, float]] = []
    names = tuple(part.strip() for part in bins.split("/"))
    for part in names:
        match = re.fullmatch(f"({_NUMBER})?-({_NUMBER})?", part)
        if match is None or part == "-":
            raise DataError(
                f"{name}:{bins}: {part!r} is no range: write e.g. {name}:0-12,13-19,20- or {name}:q4"
            )
        low = float(match[1]) if match[1] else -np.inf
        whole = all("." not in (text or "") for text in match.groups())
        high = (
            np.inf
            if not match[2]
            else float(match[2]) + 1
            if whole
            else np.nextafter(float(match[2]), np.inf)
        )
        if not low < high or (edges and low < edges[-1][1]):
            raise DataError(f"{name}:{bins}: the ranges must rise and not overlap, which {part!r} does not")
        edges.append((low, float(high)))
    if len(edges) < 2:
        raise DataError(f"{name}:{bins}: one bin is no question: give at least two")
    return names, edges
