"""Drawn scenes: a thing to recognise, and somewhere else a passer-by whose face is nobody's business.

No files are needed. Every scene has one of ten objects (`sfumato.data.loaders.drawn_objects`) on one side and, four times in
five, a person (`sfumato.data.loaders.drawn_faces`) on the other. All factors are even and independent but `presence`, so the
floors of hidden attributes are known. A scene without a person has the labels of the one who would have stood there: what
anybody can learn about them is bounded by the share of scenes that show a person.

Options: `count=6000`, `presence=0.8`. Image i depends on the seed and i alone, so a smaller count is a prefix of a larger one.

Usage: `sfumato data inspect scenes,size=64 --keep object --hide skin,hair`
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from sfumato.core.errors import DataError
from sfumato.data.dataset import Attribute, Ints
from sfumato.data.loaders.drawn_faces import CHANCES, Dice, paint_person, sit
from sfumato.data.loaders.drawn_objects import OBJECTS, paint_objects
from sfumato.data.loaders.joint import JointDistribution
from sfumato.data.loaders.strokes import Canvas, box, ellipse, lit, posed_canvas, triangle
from sfumato.data.loaders.synthetic import FACTORS, Drawn, image_count, sample
from sfumato.data.source import Source
from sfumato.data.spec import Spec

OPTIONS = ("count", "presence")
PRESENT = 0.8
"""Share of the scenes that show a person."""
OWN_CHANCES = 56
"""Numbers in [0, 1) that a scene uses beside those of its person."""
ATTRIBUTES = (
    Attribute(name="object", classes=tuple(OBJECTS)),
    Attribute(name="presence", classes=("no", "yes")),
    *(factor for factor in FACTORS if factor.name != "background"),
)
_COLOURS = (
    (204, 62, 56),
    (236, 152, 60),
    (238, 212, 90),
    (88, 160, 84),
    (66, 132, 190),
    (120, 86, 168),
    (60, 60, 70),
    (240, 238, 230),
)
_WALLS = ((178, 190, 200), (206, 196, 176), (168, 186, 166), (196, 176, 184))
_FLOORS = ((120, 98, 80), (104, 110, 118), (92, 116, 92), (150, 128, 104))
_BLOBS = 4


def load_scenes(spec: Spec) -> Source:
    """Draw the factor values; pixels follow when they are read."""
    if spec.path is not None:
        raise DataError("scenes takes no path: write scenes,option=value")
    count, present = image_count(spec), _share(dict(spec.extra).get("presence", str(PRESENT)))
    even = {one.name: (1 / len(one.classes),) * len(one.classes) for one in ATTRIBUTES}
    joint = JointDistribution(marginals={**even, "presence": (1 - present, present)})
    factors, chances = sample(joint, count, OWN_CHANCES + CHANCES, spec.seed)
    rows = np.arange(count, dtype=np.int64)
    return Source(
        pictures=Drawn(
            factors=factors, chances=chances, rows=rows, seed=spec.seed, draw=draw_scenes, what="scene"
        ),
        attributes=ATTRIBUTES,
        labels=factors,
        identity="identity",
    )


def draw_scenes(
    factors: Mapping[str, Ints],
    chances: NDArray[np.float64],
    noise: NDArray[np.float32],
    height: int,
    width: int,
) -> NDArray[np.uint8]:
    """Draw scenes: room, clutter, object, person.

    Args:
        factors: (B,) class indices of object, presence, smiling, glasses, skin, hair, identity.
        chances: (B, `OWN_CHANCES` + `CHANCES`) in [0, 1).
        noise: (B, H, W, 3) in grey levels, added last.
        height: of the pictures, in pixels.
        width: of the pictures, in pixels.

    Returns:
        (B, H, W, 3) uint8.
    """
    dice = Dice(chances[:, :OWN_CHANCES])
    still = np.zeros((len(chances), 1, 1), dtype=np.float32)
    canvas = posed_canvas(still, still, still, still + 1, height, width)
    _room(canvas, dice)
    _clutter(canvas, dice)
    side = np.where(dice.between(0, 1) < 0.5, np.float32(-1), np.float32(1))  # where the object stands
    pose = side * dice.between(0.44, 0.54), dice.between(-0.4, 0.4), dice.between(-0.15, 0.15)
    first = _pick(dice, len(_COLOURS))
    other = (first + 1 + _pick(dice, len(_COLOURS) - 1)) % len(_COLOURS)
    main, second = dice.shade(_COLOURS, first, 0.08), dice.shade(_COLOURS, other, 0.08)
    paint_objects(canvas.posed(*pose, dice.between(0.38, 0.46)), factors["object"], main, second)
    light = dice.between(0.86, 1.06), dice.between(-0.12, 0.12), dice.between(-0.1, 0.1)
    rows = np.flatnonzero(factors["presence"])
    if len(rows):
        part = canvas.take(rows)
        _person(part, side[rows], {n: v[rows] for n, v in factors.items()}, Dice(chances[rows, OWN_CHANCES:]))
        canvas.pixels[rows] = part.pixels
    return lit(canvas.pixels, *light, noise)


def _person(canvas: Canvas, side: NDArray[np.float32], factors: Mapping[str, Ints], dice: Dice) -> None:
    """A person on the side where the object is not."""
    sitter = sit(factors, dice)
    pose = -side * dice.between(0.44, 0.54), dice.between(-0.35, 0.2), dice.between(-0.07, 0.07)
    paint_person(canvas.posed(*pose, dice.between(0.4, 0.46)), sitter, dice, factors["glasses"])


def _room(canvas: Canvas, dice: Dice) -> None:
    """A wall with faint stripes above a floor."""
    wall, floor = (dice.shade(palette, _pick(dice, len(palette)), 0.1) for palette in (_WALLS, _FLOORS))
    canvas.pixels[:] = wall[:, :, None, None]
    stripes = triangle(canvas.x * dice.between(1.0, 2.5) + canvas.y * dice.between(-0.5, 0.5))
    canvas.paint((stripes + 1) * 0.5 * dice.between(0.0, 0.15), wall * 0.6)
    edge = dice.between(0.45, 0.85)
    canvas.fill(edge - canvas.y, floor)


def _clutter(canvas: Canvas, dice: Dice) -> None:
    """A few small round or square things of any colour."""
    for index in range(_BLOBS):
        colour = dice.shade(_COLOURS, _pick(dice, len(_COLOURS)), 0.1)
        x, y = canvas.x - dice.between(-1, 1), canvas.y - dice.between(-1, 1)
        a, b = dice.between(0.04, 0.12), dice.between(0.04, 0.12)
        canvas.fill(ellipse(x, y, a, b) if index % 2 else box(x, y, a, b, 0.02), colour, 0.8)


def _pick(dice: Dice, count: int) -> Ints:
    return np.asarray(dice.between(0, count)[:, 0, 0].astype(np.int64))


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 < share < 1:
        raise DataError(f"option presence={text!r} must be a number between 0 and 1, e.g. presence=0.8")
    return share
