"""Four disjoint splits, stratified by every label at once.

Pictures that belong together (duplicates, one person) form a group. Groups are sorted by their labels, in random order where
labels agree. Each group in turn goes to the split that is furthest behind its share. Neighbours in that order have equal
labels, so every split gets its share of every combination of labels to within a picture or two. A combination too rare for
all four splits goes to some of them. Pictures of a rare class come first, class by class, so that every split has some of them
if there are enough for all.
"""

from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np

from sfumato.core.errors import DataError
from sfumato.data.dataset import Attribute, Ints, Split
from sfumato.data.source import TEST, TRAIN, VALIDATION

FRACTIONS: Mapping[Split, float] = {
    Split.DEFENDER: 0.45,
    Split.ATTACKER: 0.25,
    Split.VALIDATION: 0.10,
    Split.TEST: 0.20,
}
LEAST = 50
"""Images a split needs for its figures to mean anything."""
RARE = 40
"""A class of fewer pictures is dealt out on its own: in the order of all labels, validation might well get none of it."""
FEW = 10
"""Test images of a class below which a figure about it is coarse."""
LEFT_OUT = -1
"""Code of a picture that no split may hold."""
_SMALL = 12
"""Attributes of at most so many classes decide the order in which pictures are assigned."""
Name = TypeVar("Name")


def stratified_order(labels: Sequence[Ints], count: int, seed: int) -> Ints:
    """(N,) rows sorted by the labels, first key first, in seeded random order where all labels agree."""
    chance = np.random.Generator(np.random.PCG64(seed)).random(count)
    return np.asarray(np.lexsort([chance, *reversed(labels)]), dtype=np.int64)


def sort_keys(
    attributes: Sequence[Attribute], labels: Mapping[str, Ints], first: str | None = None
) -> list[Ints]:
    """The label arrays to sort by: `first` if given, rare classes if there are any, then every attribute of few classes."""
    names = [
        attribute.name
        for attribute in attributes
        if len(attribute.classes) <= _SMALL and attribute.name != first
    ]
    rare = _rarest([labels[name] for name in names])
    return [
        *([labels[first]] if first else []),
        *([] if rare is None else [rare]),
        *(labels[name] for name in names),
    ]


def _rarest(labels: Sequence[Ints]) -> Ints | None:
    """(N,) which rare class each picture belongs to, the rarest one first; after all of them what belongs to none. None
    where there is no rare class."""
    rows = [values == index for values in labels for index in np.unique(values).tolist()]
    rare = sorted((int(row.sum()), place) for place, row in enumerate(rows) if row.sum() < RARE)
    if not rare:
        return None
    out = np.full(len(rows[0]), len(rare), dtype=np.int64)
    for number, (_, place) in reversed(list(enumerate(rare))):
        out[rows[place]] = number
    return out


def choose(order: Ints, limit: int) -> Ints:
    """`limit` of the ordered rows at equal steps, so that labels keep their proportions; sorted."""
    if limit >= len(order):
        return np.sort(order)
    return np.sort(order[(np.arange(limit) * len(order)) // limit])


def shares(attacker: float | None) -> Mapping[Split, float]:
    """Share of every split.

    Args:
        attacker: its share of the pictures that are neither for validation nor for test; None: as in `FRACTIONS`.

    >>> {str(split): round(share, 3) for split, share in shares(0.1).items()}
    {'defender': 0.63, 'attacker': 0.07, 'validation': 0.1, 'test': 0.2}
    """
    if attacker is None:
        return FRACTIONS
    both = FRACTIONS[Split.DEFENDER] + FRACTIONS[Split.ATTACKER]
    return {**FRACTIONS, Split.DEFENDER: (1 - attacker) * both, Split.ATTACKER: attacker * both}


def make_splits(
    groups: Ints, order: Ints, official: Ints | None, attacker: float | None = None
) -> dict[Split, Ints]:
    """Assign every picture to a split.

    Args:
        groups: (N,) group numbers; a group stays together.
        order: (N,) rows in the order in which they are assigned.
        official: (N,) codes of the makers' partition from `without_copies`, or None. Test and validation are
            kept as they are; what the makers did not set apart is cut from their training part.
        attacker: as in `shares`.

    Returns:
        Sorted row numbers per split.

    Raises:
        DataError: the makers' partition has no training part.
    """
    part = np.full(len(groups), TRAIN) if official is None else official
    fixed: dict[int, Split] = {VALIDATION: Split.VALIDATION, TEST: Split.TEST}
    present = {fixed[code] for code in (VALIDATION, TEST) if (part == code).any()}
    rows = order[part[order] == TRAIN]
    if len(rows) == 0:
        raise DataError("the data set's own partition has no training images: use split=stratified")
    fractions = {split: share for split, share in shares(attacker).items() if split not in present}
    splits = assign(groups[rows], rows, fractions)
    for code, split in fixed.items():
        if split in present:
            splits[split] = np.flatnonzero(part == code).astype(np.int64)
    return {split: splits[split] for split in Split}


def check_sizes(splits: Mapping[Split, Ints]) -> None:
    """`DataError` if a split is too small to be judged on."""
    for split, rows in splits.items():
        if len(rows) < LEAST:
            counts = ", ".join(f"{name} {len(members)}" for name, members in splits.items())
            raise DataError(
                f"the {split} split has {len(rows)} images, at least {LEAST} are needed ({counts}). Without splits of your "
                f"own that takes {round(LEAST / min(FRACTIONS.values()))} images; with fewer, name {LEAST} for val and {LEAST} "
                "for test in a column 'split', and judge with sfumato audit --folds 3, which tests on the attacker's images too"
            )


def without_copies(official: Ints, duplicates: Ints) -> Ints:
    """The makers' partition without pictures that also occur in one of its stricter parts.

    Test is stricter than validation, validation than training: the part that figures are compared on stays
    whole.

    Args:
        official: (N,) `TRAIN`, `VALIDATION` or `TEST`.
        duplicates: (N,) group numbers; pictures of a group are the same.

    Returns:
        (N,) the same codes, `LEFT_OUT` for the pictures that must not be used.
    """
    strictest = np.zeros(int(duplicates.max()) + 1, dtype=np.int64)
    np.maximum.at(strictest, duplicates, official)
    return np.asarray(np.where(strictest[duplicates] > official, LEFT_OUT, official), dtype=np.int64)


def assign(groups: Ints, rows: Ints, fractions: Mapping[Name, float]) -> dict[Name, Ints]:
    """Assign rows to parts by shares, each group to one part.

    Args:
        groups: (n,) group number of each row.
        rows: (n,) row numbers, in the order in which they are assigned.
        fractions: part -> share; shares need not add up to 1.

    Returns:
        Sorted row numbers of each part.
    """
    total = sum(fractions.values())
    names = list(fractions)
    shares = [fractions[name] / total for name in names]
    members: dict[int, list[int]] = {}  # in the order in which a group's first picture comes up
    for group, row in zip(groups.tolist(), rows.tolist(), strict=True):
        members.setdefault(group, []).append(row)
    parts: list[list[int]] = [[] for _ in names]
    assigned = 0
    for group_rows in members.values():
        assigned += len(group_rows)
        behind = [share * assigned - len(part) for share, part in zip(shares, parts, strict=True)]
        parts[behind.index(max(behind))].extend(group_rows)
    return {name: np.sort(np.array(part, dtype=np.int64)) for name, part in zip(names, parts, strict=True)}
