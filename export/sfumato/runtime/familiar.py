"""Whether a photo looks like those that a model was made for: found on the phone, before anything is sent.

A network answers a wall as surely as a face: its scores say which class is likelier, and nothing of whether there is one. So
the phone looks at the picture itself. It takes 43 numbers: brightness and contrast of every cell of a 4 x 4 grid, how much the
picture changes across and down, and its colours. Each is compared with its mean and spread over ordinary photos, those of
training and validation. The measure is the largest of these distances; the limit is what all but a stated share of the ordinary
photos stay below (docs/decisions/0027).

Nothing of it leaves the phone. A flag that travelled would be one more bit at most, and its entropy on average.

    limits = fit(images, alarms=0.01)           # (N, H, W, 3), ordinary photos
    limits.unlike(image)                        # farther from them than the limit
    read_limits(contract.figures)               # None in bundles of earlier versions
"""

import json
import math
from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sfumato.core.errors import SfumatoError, complaint

GRID = 4
"""Cells a side."""
FEATURES = 2 * GRID**2 + 11
LEAST = 1 / 255
"""Added before a logarithm: one step of brightness."""
ALARMS = 0.01
"""Share of ordinary photos that is flagged by mistake."""
DIGITS = 6
KEY = "familiar"
"""In the contract's figures."""

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float64]
Numbers = Annotated[tuple[float, ...], Field(min_length=FEATURES, max_length=FEATURES)]


class Limits(BaseModel):
    """What ordinary photos are like, and how far from it one may be."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    means: Numbers
    """Of every number over ordinary photos."""
    spreads: Annotated[
        tuple[Annotated[float, Field(gt=0)], ...], Field(min_length=FEATURES, max_length=FEATURES)
    ]
    """Its standard deviation there."""
    limit: float = Field(gt=0)
    """A photo whose distance is larger is unlike them."""
    alarms: float = Field(gt=0, lt=1)
    """Share of ordinary photos that may lie beyond the limit."""
    images: int = Field(ge=1)
    """How many ordinary photos there were."""

    def distance(self, image: Bytes) -> float:
        """How far a photo (H, W, 3) is from ordinary ones, in standard deviations of the number that is farthest off."""
        return float(self.distances(image[None])[0])

    def unlike(self, image: Bytes) -> bool:
        """Whether a photo (H, W, 3) is farther from ordinary ones than the limit."""
        return self.distance(image) > self.limit

    def distances(self, images: Bytes) -> Floats:
        """The same of photos (N, H, W, 3), (N,)."""
        apart = (features(images) - np.asarray(self.means)) / np.asarray(self.spreads)
        result: Floats = np.abs(apart).max(1)
        return result


def features(images: Bytes) -> Floats:
    """The 43 numbers of photos (N, H, W, 3), (N, 43). Grey ones, (N, H, W, 1), count as if all three colours were alike.

    Brightness is the mean of the three colours, 0..1. In order: its mean in every cell, row by row; log of its standard
    deviation there; log of the mean absolute first and second differences across, then down; logs of the ratios across : down,
    second : first across and second : first down; mean red less green and blue less green; logs of the means of their absolute
    values. Cells begin at floor(i H / 4) and floor(j W / 4); every logarithm is of its argument + 1/255.
    """
    pixels = np.broadcast_to(images, (*images.shape[:3], 3)).astype(np.float64) / 255
    grey, (height, width) = pixels.mean(3), images.shape[1:3]
    rows, columns = (np.arange(GRID + 1) * side // GRID for side in (height, width))
    cells = [
        grey[:, rows[i] : rows[i + 1], columns[j] : columns[j + 1]].reshape(len(images), -1)
        for i in range(GRID)
        for j in range(GRID)
    ]
    across, down = (_log(np.abs(np.diff(grey, axis=axis)).mean((1, 2))) for axis in (2, 1))
    across_2, down_2 = (_log(np.abs(np.diff(grey, 2, axis=axis)).mean((1, 2))) for axis in (2, 1))
    colours = [pixels[..., colour] - pixels[..., 1] for colour in (0, 2)]
    return np.stack(
        [
            *(cell.mean(1) for cell in cells),
            *(_log(cell.std(1)) for cell in cells),
            *(across, across_2, down, down_2),
            *(across - down, across_2 - across, down_2 - down),
            *(colour.mean((1, 2)) for colour in colours),
            *(_log(np.abs(colour).mean((1, 2))) for colour in colours),
        ],
        axis=1,
    )


def _log(values: Floats) -> Floats:
    logs: Floats = np.log(values + LEAST)
    return logs


def fit(images: Bytes, *, alarms: float = ALARMS) -> Limits:
    """What ordinary photos (N, H, W, 3) are like, and the limit that a further one of their kind passes with chance `alarms`.

    Args:
        images: ordinary photos. The measure learns 86 numbers from them, so it matters little whether networks saw them too.
        alarms: share of them that may lie beyond the limit.

    Raises:
        SfumatoError: there is none.
    """
    if not len(images):
        raise SfumatoError("there are no photos to compare with")
    found = features(images)
    spreads = np.maximum(found.std(0), 1e-3)  # drawn pictures may have cells that never change
    ordinary = Limits(
        means=_rounded(found.mean(0)), spreads=_rounded(spreads), limit=1.0, alarms=alarms, images=len(images)
    )
    rank = min(len(images), math.ceil((len(images) + 1) * (1 - alarms)))  # split conformal prediction's
    limit = float(np.sort(ordinary.distances(images))[rank - 1])
    # Upwards: grey photos, say, may all lie at one distance, and rounding must not put them on the other side.
    return ordinary.model_copy(update={"limit": math.ceil(limit * 10**DIGITS + 1) / 10**DIGITS})


def _rounded(values: Floats) -> tuple[float, ...]:
    return tuple(round(float(value), DIGITS) for value in values)


def read_limits(figures: Mapping[str, Any]) -> Limits | None:
    """The limits among a contract's figures; None in bundles of earlier versions.

    Raises:
        SfumatoError: they are damaged.
    """
    if KEY not in figures:
        return None
    try:
        return Limits.model_validate_json(json.dumps(figures[KEY]), strict=True)
    except ValidationError as error:
        raise SfumatoError(
            f"the contract's figures are damaged ({complaint(error, KEY)}): export again"
        ) from None
