"""Drawn scenes: a thing to recognise, and somewhere else a passer-by whose face is nobody's business.

No files are needed. Every scene has one of ten objects (`sfumato.data.loaders.drawn_objects`) on one side and, four times in
five, a person (`sfumato.data.loaders.drawn_faces`) on the other. All factors are even and independent but `presence`, so the
floors of hidden attributes are known. A scene without a person has the labels of the one who would have stood there: what
anybody can learn about them is bounded by the share of scenes that show a person.

Options: `count=6000`, `presence=0.8`. Image i depends on the seed and i alone, so a smaller count is a prefix of a larger one.
With `objects=SPEC,faces=SPEC` the pictures of two data sets stand in the room instead (`sfumato.data.loaders.composed_scenes`).

Usage: `sfumato data inspect scenes,size=64 --keep object --hide skin,hair`
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from sfumato.core.errors import DataError
from sfumato.data.dataset import Attribute, Ints
from sfumato.data.loaders.composed_scenes import compose
from sfumato.data.loaders.drawn_faces import CHANCES, Dice, paint_person, sit
from sfumato.data.loaders.drawn_objects import OBJECTS, paint_objects
from sfumato.data.loaders.drawn_room import COLOURS, empty_canvas, paint_room, pick
from sfumato.data.loaders.joint import JointDistribution
from sfumato.data.loaders.strokes import Canvas, lit
from sfumato.data.loaders.synthetic import FACTORS, Drawn, image_count, sample
from sfumato.data.source import Source
from sfumato.data.spec import Spec

OPTIONS = ("count", "presence", "objects", "faces")
PRESENT = 0.8
"""Share of the scenes that show a person."""
OWN_CHANCES = 56
"""Numbers in [0, 1) that a scene uses beside those of its person."""
ATTRIBUTES = (
    Attribute(name="object", classes=tuple(OBJECTS)),
    Attribute(name="presence", classes=("no", "yes")),
    *(factor for factor in FACTORS if factor.name != "background"),
)


def load_scenes(spec: Spec) -> Source:
    """Draw the factor values, or pair two data sets; pixels follow when they are read."""
    if spec.path is not None:
        raise DataError("scenes takes no path: write scenes,option=value")
    given = dict(spec.extra)
    present = _share(given.get("presence", str(PRESENT)))
    if ("objects" in given) != ("faces" in given):
        raise DataError("scenes of two data sets need both: scenes,objects=SPEC,faces=SPEC")
    if "objects" in given:
        from sfumato.data.registry import load_source  # which names this loader

        count = image_count(spec) if "count" in given else None
        return compose(load_source(given["objects"]), load_source(given["faces"]), spec, present, count)
    count = image_count(spec)
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
    canvas = empty_canvas(len(chances), height, width)
    paint_room(canvas, dice)
    side = np.where(dice.between(0, 1) < 0.5, np.float32(-1), np.float32(1))  # where the object stands
    pose = side * dice.between(0.44, 0.54), dice.between(-0.4, 0.4), dice.between(-0.15, 0.15)
    first = pick(dice, len(COLOURS))
    other = (first + 1 + pick(dice, len(COLOURS) - 1)) % len(COLOURS)
    main, second = dice.shade(COLOURS, first, 0.08), dice.shade(COLOURS, other, 0.08)
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


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 < share < 1:
        raise DataError(f"option presence={text!r} must be a number between 0 and 1, e.g. presence=0.8")
    return share
