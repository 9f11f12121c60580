"""What a platform made of the corpus, against what Python made of it.

table, wrong = compare(cases(), by_python, by_page)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from tests.pictures.corpus import NO_BROWSER, Case

from sfumato.core.image_io import load, read_rgb
from sfumato.core.picture_file import PictureError

Pixels: TypeAlias = NDArray[np.uint8]

TARGETS = [(32, 32), (24, 40)]
"""Height and width of two models: one square, one not."""
TOLERANCE = 2
"""Levels between two decoders of a kind that loses something. Chromium 156 and Pillow 13 differ by none."""


@dataclass(frozen=True)
class Read:
    """Pixels at every target, or the reason of a refusal."""

    size: tuple[int, int] = (0, 0)
    """Height and width of the upright picture."""
    fitted: tuple[Pixels, ...] = ()
    reason: str | None = None


def read_python(source: bytes | Path) -> Read:
    """What `PhoneModel.perturb` reads."""
    try:
        height, width, _ = read_rgb(source).shape
        return Read((height, width), tuple(load(source, *target) for target in TARGETS))
    except PictureError as error:
        return Read(reason=error.reason)


def compare(corpus: Sequence[Case], ours: Sequence[Read], theirs: Sequence[Read]) -> tuple[str, list[str]]:
    """A table of differences by kind, and a line for each that may not be."""
    rows: dict[str, list[int]] = {}
    wrong = []
    for case, one, other in zip(corpus, ours, theirs, strict=True):
        alone = case.container in NO_BROWSER
        row = rows.setdefault(case.container or "no picture", [0] * 5)
        row[0] += 1
        if one.reason is not None or other.reason is not None:
            row[1] += 1
            if one.reason != other.reason and not (alone and other.reason == "kind"):
                row[2] += 1
                wrong.append(
                    f"{case.group}, {case.name}: {one.reason or 'read'} by Python, {other.reason or 'read'} here"
                )
            continue
        pairs = zip(one.fitted, other.fitted, strict=True)
        off = max(int(np.abs(a.astype(int) - b).max()) for a, b in pairs)
        row[3] += off > 0
        row[4] = max(row[4], off)
        if one.size != other.size or off > (TOLERANCE if case.expected is None else 0):
            wrong.append(f"{case.group}, {case.name}: {off} levels, {other.size} for {one.size}")
    lines = [f"{'kind':12} files  refused  other reason  other pixels  largest difference"]
    lines += [f"{kind:12} {a:5} {b:8} {c:13} {d:13} {e:19}" for kind, (a, b, c, d, e) in sorted(rows.items())]
    return "\n".join([*lines, *wrong]), wrong
