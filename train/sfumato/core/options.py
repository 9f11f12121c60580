"""What several commands share in reading their command line."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

Value = TypeVar("Value")


def names(text: str) -> tuple[str, ...]:
    """A comma-separated list of names. Ranges that follow a colon stay with their name.

    >>> names("gender, race"), names(""), names("age:0-12,13-,race")
    (('gender', 'race'), (), ('age:0-12,13-', 'race'))
    """
    found: list[str] = []
    for part in filter(None, map(str.strip, text.split(","))):
        if found and ":" in found[-1] and re.fullmatch(r"-?[0-9.]*-(-?[0-9.]+)?", part):
            found[-1] += f",{part}"
        else:
            found.append(part)
    return tuple(found)


NUMBER_BINS = 16
"""Classes of an attribute that is kept as a number, where nobody says how many."""
MASK_CELL = 4
"""Side in pixels of the cells of an attribute that is kept as a mask, where nobody says how large."""
MOST_CELLS = 65_536
"""Of a mask, at most: a service's answer is then shorter than a megabyte."""


def kept_masks(spec: str, keep: Sequence[str]) -> tuple[str, ...]:
    """The kept attributes that a data SPEC asks for as masks.

    >>> kept_masks("folder:own,mask=lesion:4", ("age", "lesion"))
    ('lesion',)
    """
    return _asked(spec, "mask", keep)


def kept_numbers(spec: str, keep: Sequence[str]) -> tuple[str, ...]:
    """The kept attributes that a data SPEC asks for as numbers.

    >>> kept_numbers("folder:own,number=age:q16", ("age", "lesion"))
    ('age',)
    """
    return _asked(spec, "number", keep)


def _asked(spec: str, option: str, keep: Sequence[str]) -> tuple[str, ...]:
    asked = re.findall(rf",{option}=([^:,]+):", spec)
    return tuple(name for name in keep if name in asked)


def with_bins(values: Any) -> Any:
    """Options whose bins, `--hide age:q4`, are moved into their data SPEC; whatever is no such options stays as it is.

    >>> with_bins({"data": "folder:own", "keep": "age:q4", "seed": 1})
    {'data': 'folder:own,bins=age:q4', 'keep': ('age',), 'seed': 1, 'hide': ()}
    """
    if not isinstance(values, Mapping):
        return values
    lists = [values.get(name, ()) for name in ("keep", "hide")]
    keep, hide = (names(one) if isinstance(one, str) else one for one in lists)
    if not all(isinstance(one, (list, tuple)) for one in (keep, hide)):
        return values  # the fields say what is wrong
    strings = isinstance(values.get("data"), str) and all(isinstance(one, str) for one in (*keep, *hide))
    if not strings or not any(":" in one for one in (*keep, *hide)):
        return values
    data, keep, hide = take_bins(values["data"], keep, hide)
    return {**values, "data": data, "keep": keep, "hide": hide}


def take_bins(
    spec: str, keep: Sequence[str], hide: Sequence[str]
) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
    """Move the bins that attributes were asked for with into the data SPEC.

    >>> take_bins("folder:own", ("smiling", "age:0-12,13-"), ("height:q4",))
    ('folder:own,bins=age:0-12/13-,bins=height:q4', ('smiling', 'age'), ('height',))
    >>> take_bins("folder:own", ("age:number", "weight:number24"), ())
    ('folder:own,number=age:q16,number=weight:q24', ('age', 'weight'), ())
    >>> take_bins("folder:own", ("lesion:mask", "organ:mask8"), ())
    ('folder:own,mask=lesion:4,mask=organ:8', ('lesion', 'organ'), ())
    """
    for name in (*keep, *hide):
        attribute, colon, bins = name.partition(":")
        as_number = re.fullmatch("number([0-9]{0,3})", bins)
        if as_mask := re.fullmatch("mask([0-9]{0,3})", bins):
            option = f",mask={attribute}:{as_mask[1] or MASK_CELL}"
        elif as_number:
            option = f",number={attribute}:q{as_number[1] or NUMBER_BINS}"
        else:
            option = f",bins={attribute}:{bins.replace(',', '/')}"
        if colon and option not in spec:
            spec += option
    kept, hidden = (tuple(name.partition(":")[0] for name in names) for names in (keep, hide))
    return spec, kept, hidden


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
