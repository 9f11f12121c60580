"""The room of a scene: a wall with faint stripes, a floor, and a little clutter, all by chance.

Usage: `rooms = draw_room(chances, height=64, width=64)`
"""

import numpy as np
from numpy.typing import NDArray

from sfumato.data.dataset import Ints
from sfumato.data.loaders.drawn_faces import Dice
from sfumato.data.loaders.strokes import Canvas, box, ellipse, lit, posed_canvas, triangle

ROOM_CHANCES = 44
"""Numbers in [0, 1) that a room uses, its light included."""
COLOURS = (
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


def draw_room(chances: NDArray[np.float64], height: int, width: int) -> NDArray[np.uint8]:
    """Empty rooms, lit, without pixel noise: chances (B, `ROOM_CHANCES`) -> (B, H, W, 3)."""
    dice = Dice(chances)
    canvas = empty_canvas(len(chances), height, width)
    paint_room(canvas, dice)
    light = dice.between(0.86, 1.06), dice.between(-0.12, 0.12), dice.between(-0.1, 0.1)
    return lit(canvas.pixels, *light, np.zeros((len(chances), height, width, 3), dtype=np.float32))


def empty_canvas(count: int, height: int, width: int) -> Canvas:
    """`count` pictures in the coordinates of the scene itself."""
    still = np.zeros((count, 1, 1), dtype=np.float32)
    return posed_canvas(still, still, still, still + 1, height, width)


def paint_room(canvas: Canvas, dice: Dice) -> None:
    """Wall, floor, and a few small round or square things of any colour."""
    wall, floor = (dice.shade(palette, pick(dice, len(palette)), 0.1) for palette in (_WALLS, _FLOORS))
    canvas.pixels[:] = wall[:, :, None, None]
    stripes = triangle(canvas.x * dice.between(1.0, 2.5) + canvas.y * dice.between(-0.5, 0.5))
    canvas.paint((stripes + 1) * 0.5 * dice.between(0.0, 0.15), wall * 0.6)
    edge = dice.between(0.45, 0.85)
    canvas.fill(edge - canvas.y, floor)
    for index in range(_BLOBS):
        colour = dice.shade(COLOURS, pick(dice, len(COLOURS)), 0.1)
        x, y = canvas.x - dice.between(-1, 1), canvas.y - dice.between(-1, 1)
        a, b = dice.between(0.04, 0.12), dice.between(0.04, 0.12)
        canvas.fill(ellipse(x, y, a, b) if index % 2 else box(x, y, a, b, 0.02), colour, 0.8)


def pick(dice: Dice, count: int) -> Ints:
    """One of `count` for each picture, (B,)."""
    return np.asarray(dice.between(0, count)[:, 0, 0].astype(np.int64))
