"""Draw one of ten everyday things. Shape alone tells them apart: colours are drawn by chance, alike for all.

Each painter fills shapes within about the unit circle of the canvas's coordinates, a main colour and a second one.

Usage: `paint_objects(canvas, kinds, main, second)`
"""

from collections.abc import Callable

import numpy as np

from sfumato.data.dataset import Ints
from sfumato.data.loaders.strokes import Canvas, Colour, Field, box, ellipse


def _union(*shapes: Field) -> Field:
    whole = shapes[0]
    for shape in shapes[1:]:
        whole = np.minimum(whole, shape)
    return whole


def _ring(x: Field, y: Field, radius: float, width: float) -> Field:
    return np.abs(ellipse(x, y, radius, radius)) - np.float32(width / 2)


def _cone(x: Field, y: Field, top: float, base: float, half: float) -> Field:
    """An upright triangle: apex at `top`, `2 half` wide at `base`."""
    steep = np.float32((base - top) / half)
    side = (np.abs(x) * steep - (y - np.float32(top))) / np.sqrt(1 + steep * steep)
    return np.maximum(side, y - np.float32(base))


def _ball(c: Canvas, main: Colour, second: Colour) -> None:
    disc = ellipse(c.x, c.y, 0.75, 0.75)
    c.fill(disc, main)
    c.fill(np.maximum(disc, np.abs(c.y + 0.25 * c.x * c.x) - 0.2), second)


def _cup(c: Canvas, main: Colour, second: Colour) -> None:
    c.fill(_ring(c.x - 0.55, c.y - 0.1, 0.3, 0.14), main)
    c.fill(box(c.x + 0.1, c.y - 0.1, 0.5, 0.6, 0.15), main)
    c.fill(ellipse(c.x + 0.1, c.y + 0.45, 0.47, 0.14), second)


def _key(c: Canvas, main: Colour, second: Colour) -> None:
    c.fill(ellipse(c.x + 0.45, c.y, 0.34, 0.34), second)
    shaft = box(c.x - 0.4, c.y, 0.55, 0.1, 0.02)
    teeth = _union(*(box(c.x - at, c.y - 0.2, 0.08, 0.2, 0.02) for at in (0.55, 0.85)))
    c.fill(_union(_ring(c.x + 0.45, c.y, 0.34, 0.2), shaft, teeth), main)


def _fish(c: Canvas, main: Colour, second: Colour) -> None:
    tail = np.maximum(np.maximum(np.abs(c.y) - (c.x - 0.25) * 0.9, c.x - 0.9) / 1.3, 0.3 - c.x)
    c.fill(tail, second)
    c.fill(ellipse(c.x + 0.2, c.y, 0.65, 0.38), main)
    c.fill(ellipse(c.x + 0.55, c.y + 0.08, 0.09, 0.09), second)


def _tree(c: Canvas, main: Colour, second: Colour) -> None:
    c.fill(box(c.x, c.y - 0.6, 0.12, 0.35, 0.02), second)
    crowns = [
        ellipse(c.x - dx, c.y - dy, r, r) for dx, dy, r in ((0, -0.5, 0.4), (-0.35, 0, 0.4), (0.35, 0, 0.4))
    ]
    c.fill(_union(*crowns), main)


def _house(c: Canvas, main: Colour, second: Colour) -> None:
    c.fill(box(c.x, c.y - 0.4, 0.58, 0.45, 0.02), main)
    c.fill(_cone(c.x, c.y, -0.85, 0.0, 0.85), second)
    c.fill(box(c.x, c.y - 0.6, 0.14, 0.25, 0.02), second)


def _star(c: Canvas, main: Colour, second: Colour) -> None:
    c.fill(_union(_cone(c.x, c.y, -0.9, 0.45, 0.78), _cone(c.x, -c.y, -0.9, 0.45, 0.78)), main)
    c.fill(ellipse(c.x, c.y, 0.22, 0.22), second)


def _bottle(c: Canvas, main: Colour, second: Colour) -> None:
    c.fill(_union(box(c.x, c.y - 0.3, 0.32, 0.6, 0.15), box(c.x, c.y + 0.5, 0.12, 0.4, 0.03)), main)
    c.fill(box(c.x, c.y - 0.35, 0.32, 0.24, 0.01), second)


def _clock(c: Canvas, main: Colour, second: Colour) -> None:
    c.fill(ellipse(c.x, c.y, 0.75, 0.75), second)
    hands = _union(box(c.x, c.y + 0.25, 0.07, 0.3, 0.02), box(c.x - 0.2, c.y, 0.25, 0.07, 0.02))
    c.fill(_union(_ring(c.x, c.y, 0.75, 0.2), hands), main)


def _umbrella(c: Canvas, main: Colour, second: Colour) -> None:
    hook = np.maximum(_ring(c.x - 0.16, c.y - 0.65, 0.16, 0.13), 0.65 - c.y)
    c.fill(_union(box(c.x, c.y - 0.2, 0.07, 0.5, 0.02), hook), second)
    c.fill(np.maximum(ellipse(c.x, c.y, 0.9, 0.8), c.y), main)


OBJECTS: dict[str, Callable[[Canvas, Colour, Colour], None]] = {
    "ball": _ball,
    "cup": _cup,
    "key": _key,
    "fish": _fish,
    "tree": _tree,
    "house": _house,
    "star": _star,
    "bottle": _bottle,
    "clock": _clock,
    "umbrella": _umbrella,
}
"""Class name -> what paints it, in the order of the classes."""


def paint_objects(canvas: Canvas, kinds: Ints, main: Colour, second: Colour) -> None:
    """Paint on every picture the thing that its class says.

    Args:
        canvas: B pictures, posed.
        kinds: (B,) positions in `OBJECTS`.
        main: (B, 3) colours.
        second: (B, 3) colours of the smaller parts.
    """
    for kind, paint in enumerate(OBJECTS.values()):
        rows = np.flatnonzero(kinds == kind)
        if len(rows):
            part = canvas.take(rows)
            paint(part.window(-1.2, -1.2, 1.2, 1.2), main[rows], second[rows])
            canvas.pixels[rows] = part.pixels
