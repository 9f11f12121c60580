"""Draw a batch of faces from factor values and chance, with signed distances and no curve library.

Every shape is a field `d(x, y)`, negative inside, in units of half the picture's shorter side; its coverage of a pixel is
`clip(1/2 - d/pixel, 0, 1)`. Only additions, products, quotients, square roots and comparisons are used, which IEEE 754
rounds the same everywhere, so a seed gives the same bytes on every machine.

Legend: B pictures, H rows, W columns; x to the right, y down, the face near the origin.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from sfumato.data.dataset import Ints

Field: TypeAlias = NDArray[np.float32]  # (B, h, w), or (B, 1, 1) for a number per picture

CHANCES = 48
"""Numbers in [0, 1) that one picture uses, beside its noise."""
IDENTITIES = 50
SKIN = ((246, 214, 190), (222, 172, 132), (164, 112, 76), (98, 64, 46))
HAIR = ((38, 34, 38), (104, 66, 40), (228, 192, 112), (178, 70, 36))
BACKGROUND = ((126, 170, 196), (226, 152, 128), (150, 186, 136), (186, 160, 206))
_SHIRTS = ((64, 84, 120), (140, 62, 70), (70, 104, 84), (232, 226, 214), (92, 92, 100), (212, 160, 74))
_IRIS = ((74, 50, 34), (64, 96, 130), (78, 104, 66), (52, 40, 36), (110, 92, 60))
# One column per feature of a face; every identity has its own of 50 evenly spaced levels of each (a Latin hypercube).
_FEATURES = (
    "width", "jaw", "height", "eye_gap", "eye_y", "eye_size", "nose_length", "nose_width", "brow_thick",
    "brow_y", "brow_tilt", "mouth_width", "mouth_y", "lip", "hairline", "iris", "ears",
)  # fmt: skip


def identity_table() -> NDArray[np.float32]:
    """(50, features) in 0..1: the same 50 persons whatever the seed of a data set."""
    generator = np.random.Generator(np.random.PCG64(50))
    columns = [(generator.permutation(IDENTITIES) + 0.5) / IDENTITIES for _ in _FEATURES]
    return np.stack(columns, axis=1).astype(np.float32)


@dataclass(frozen=True)
class _Canvas:
    """Pictures in the making, and where every pixel lies in the face's own coordinates."""

    pixels: NDArray[np.float32]  # (B, 3, H, W), 0..255
    x: Field  # (B, H, W)
    y: Field
    pixel: Field  # (B, 1, 1) size of one pixel in face units

    def window(self, left: float, top: float, right: float, bottom: float) -> "_Canvas":
        """The rows and columns that can hold a shape with these bounds in any of the poses of this batch."""
        inside = (self.x > left) & (self.x < right) & (self.y > top) & (self.y < bottom)
        rows, columns = np.flatnonzero(inside.any(axis=(0, 2))), np.flatnonzero(inside.any(axis=(0, 1)))
        if len(rows) == 0 or len(columns) == 0:
            rows = columns = np.zeros(1, dtype=np.int64)
        h, w = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
        return _Canvas(self.pixels[:, :, h, w], self.x[:, h, w], self.y[:, h, w], self.pixel)

    def coverage(self, distance: Field) -> Field:
        """(B, h, w) in 0..1."""
        return np.clip(np.float32(0.5) - distance / self.pixel, np.float32(0), np.float32(1))

    def paint(self, alpha: Field, colour: NDArray[np.float32]) -> None:
        """Lay a colour (B, 3) over the pixels with opacity (B, h, w)."""
        for channel in range(3):
            plane = self.pixels[:, channel]
            plane += alpha * (colour[:, channel, None, None] - plane)


def draw(
    factors: Mapping[str, Ints],
    chances: NDArray[np.float64],
    noise: NDArray[np.float32],
    height: int,
    width: int,
) -> NDArray[np.uint8]:
    """Draw faces.

    Args:
        factors: (B,) class indices of smiling, glasses, skin, hair, background, identity.
        chances: (B, `CHANCES`) in [0, 1): pose, light, expression and colour within the class.
        noise: (B, H, W, 3) in grey levels, added last.
        height: of the pictures, in pixels.
        width: of the pictures, in pixels.

    Returns:
        (B, H, W, 3) uint8.
    """
    dice = iter(np.moveaxis(chances.astype(np.float32), 1, 0)[:, :, None, None])

    def between(low: float, high: float) -> Field:
        return np.float32(low) + next(dice) * np.float32(high - low)

    who = identity_table()[factors["identity"]][:, :, None, None]  # (B, features, 1, 1)
    level = {name: who[:, i] for i, name in enumerate(_FEATURES)}

    def feature(name: str, low: float, high: float) -> Field:
        return np.float32(low) + level[name] * np.float32(high - low)

    def coloured(
        palette: tuple[tuple[int, int, int], ...], index: Ints, spread: float
    ) -> NDArray[np.float32]:
        gain, tint = between(1 - spread, 1 + spread)[:, 0], between(-spread, spread)[:, 0]  # (B, 1)
        warm = np.array([0.5, 0, -0.5], dtype=np.float32)
        return np.array(palette, dtype=np.float32)[index] * (gain + tint * warm)

    canvas = _pose(
        between(-0.1, 0.1), between(-0.08, 0.1), between(-0.07, 0.07), between(0.92, 1.08), height, width
    )
    background = coloured(BACKGROUND, factors["background"], 0.07)
    skin = coloured(SKIN, factors["skin"], 0.05)
    hair = coloured(HAIR, factors["hair"], 0.08)
    shirt_index = (next(dice)[:, 0, 0] * len(_SHIRTS)).astype(np.int64)
    shirt = coloured(_SHIRTS, shirt_index, 0.1)
    iris_index = (level["iris"][:, 0, 0] * len(_IRIS)).astype(np.int64)
    iris = np.array(_IRIS, dtype=np.float32)[iris_index]

    canvas.pixels[:] = background[:, :, None, None]
    disc = _ellipse(canvas.x, canvas.y - np.float32(0.05), between(0.86, 1.02), between(0.86, 1.02))
    canvas.paint(canvas.coverage(disc) * np.float32(0.25), np.full_like(background, 255))

    face = _Face(
        half_width=feature("width", 0.42, 0.54),
        half_height=feature("height", 0.56, 0.66),
        jaw=feature("jaw", 0.0, 0.30),
        hairline=feature("hairline", -0.40, -0.24),
    )
    style = factors["hair"][:, None, None]
    _back_hair(canvas, face, style, hair * np.float32(0.78))
    _shoulders(canvas, shirt, skin * np.float32(0.86))
    for side in (-1, 1):
        part = canvas.window(-0.85, -0.3, 0.85, 0.4)
        ear = _ellipse(part.x - side * (face.half_width + np.float32(0.0)), part.y - np.float32(0.03),
                       np.float32(0.08) + np.float32(0) * face.jaw, feature("ears", 0.09, 0.17))  # fmt: skip
        part.paint(part.coverage(ear) * (style != 2), skin * np.float32(0.9))
    part = canvas.window(-0.75, -0.8, 0.75, 0.8)
    distance = face.distance(part.x, part.y)
    part.paint(part.coverage(distance), skin)
    # Skin darkens softly towards the edge and on the side away from the light.
    rim = np.clip(np.float32(1) + distance / np.float32(0.22), np.float32(0), np.float32(1))
    part.paint(part.coverage(distance) * rim * rim * np.float32(0.22), skin * np.float32(0.55))

    eye_x, eye_y = feature("eye_gap", 0.17, 0.25), feature("eye_y", -0.12, 0.02)
    mouth_y = feature("mouth_y", 0.30, 0.38)
    smile = factors["smiling"][:, None, None].astype(np.float32)
    _cheeks(canvas, eye_x, skin, between(0.1, 0.3))
    gaze, squint = between(-0.02, 0.02), between(0.8, 1.05) - smile * between(0.0, 0.15)
    _eyes(canvas, eye_x, eye_y, feature("eye_size", 0.075, 0.115), squint, gaze, iris)
    brow = (feature("brow_y", 0.14, 0.20) + between(-0.015, 0.03), feature("brow_tilt", -0.25, 0.25),
            feature("brow_thick", 0.016, 0.045))  # fmt: skip
    _brows(canvas, eye_x, eye_y, brow, hair * np.float32(0.6))
    nose_end = eye_y + feature("nose_length", 0.19, 0.30)
    _nose(canvas, nose_end, feature("nose_width", 0.05, 0.11), skin)
    # The corners of a smile rise; an open mouth, teeth and the mouth's width say nothing, both classes have them.
    lift = smile * between(0.07, 0.13) + (1 - smile) * between(-0.045, 0.012)
    opening = np.maximum(between(-0.05, 0.07), np.float32(0))
    half = (
        feature("mouth_width", 0.14, 0.22)
        * (np.float32(1) + smile * between(0.0, 0.25))
        * between(0.92, 1.08)
    )
    _mouth(canvas, mouth_y + between(-0.015, 0.015), half, lift, opening, feature("lip", 0.016, 0.036), skin)
    _front_hair(canvas, face, style, hair, between(-0.15, 0.15))
    frames = factors["glasses"][:, None, None] == 1
    _glasses(
        canvas,
        eye_x,
        eye_y,
        frames,
        between(0.125, 0.16),
        between(0.1, 0.15),
        between(0.5, 1.0),
        between(0, 1),
    )
    return _light(canvas.pixels, between(0.86, 1.1), between(-0.14, 0.14), between(-0.1, 0.1), noise)


@dataclass(frozen=True)
class _Face:
    half_width: Field
    half_height: Field
    jaw: Field
    hairline: Field

    def distance(self, x: Field, y: Field) -> Field:
        """An ellipse whose lower half narrows towards the chin."""
        down = np.maximum(y, np.float32(0)) / self.half_height
        return _ellipse(x * (np.float32(1) + self.jaw * down * down), y, self.half_width, self.half_height)


def _pose(dx: Field, dy: Field, turn: Field, scale: Field, height: int, width: int) -> _Canvas:
    """Shift in face units, `turn` is the tangent of half the angle (so no sine is needed), scale a factor."""
    half = np.float32(min(height, width) / 2)
    rows = ((np.arange(height, dtype=np.float32) + np.float32(0.5) - np.float32(height / 2)) / half)[
        None, :, None
    ]
    columns = ((np.arange(width, dtype=np.float32) + np.float32(0.5) - np.float32(width / 2)) / half)[
        None, None, :
    ]
    cosine = (1 - turn * turn) / (1 + turn * turn)
    sine = 2 * turn / (1 + turn * turn)
    u, v = (columns - dx) / scale, (rows - dy) / scale
    pixels = np.empty((len(dx), 3, height, width), dtype=np.float32)
    return _Canvas(pixels, cosine * u + sine * v, cosine * v - sine * u, 1 / (half * scale))


def _ellipse(x: Field, y: Field, a: Field, b: Field) -> Field:
    """Distance to an ellipse to first order, exact on the edge (k1 (k1 - 1) / k2)."""
    u, v = x / a, y / b
    p, q = u / a, v / b
    k1, k2 = np.sqrt(u * u + v * v), np.sqrt(p * p + q * q)
    return np.asarray(k1 * (k1 - 1) / np.maximum(k2, np.float32(1e-6)))


def _box(x: Field, y: Field, a: Field, b: Field, r: Field) -> Field:
    """Distance to a rectangle of half sides a, b with corners of radius r."""
    u, v = np.abs(x) - a + r, np.abs(y) - b + r
    out_u, out_v = np.maximum(u, np.float32(0)), np.maximum(v, np.float32(0))
    return np.asarray(
        np.sqrt(out_u * out_u + out_v * out_v) + np.minimum(np.maximum(u, v), np.float32(0)) - r
    )


def _back_hair(canvas: _Canvas, face: _Face, style: NDArray[np.bool_], hair: NDArray[np.float32]) -> None:
    """What hangs behind the head: nothing (short), to the chin (bob), to the shoulders (long), a cloud (curly)."""
    x, y = canvas.x, canvas.y
    zero = np.float32(0) * face.jaw
    w = face.half_width
    bob = _box(
        x, y - np.float32(-0.02), w + np.float32(0.13), zero + np.float32(0.62), zero + np.float32(0.42)
    )
    long = _box(
        x, y - np.float32(0.22), w + np.float32(0.12), zero + np.float32(0.88), zero + np.float32(0.45)
    )
    cloud = _ellipse(x, y + np.float32(0.18), w + np.float32(0.3), zero + np.float32(0.72))
    # Curls: a product of two triangle waves makes the edge wavy without a sine.
    wave = (_triangle(x * np.float32(3.1)) + _triangle(y * np.float32(3.1) + np.float32(0.25))) * np.float32(
        0.06
    )
    distance = np.where(style == 1, bob, np.where(style == 2, long, cloud + wave))
    canvas.paint(canvas.coverage(distance) * (style != 0), hair)


def _front_hair(
    canvas: _Canvas, face: _Face, style: NDArray[np.bool_], hair: NDArray[np.float32], parting: Field
) -> None:
    """The cap over the forehead: the head's outline, a little larger, above a bent hairline."""
    part = canvas.window(-0.95, -1.05, 0.95, 0.5)
    x, y = part.x, part.y
    cap = _ellipse(
        x, y + np.float32(0.03), face.half_width + np.float32(0.06), face.half_height + np.float32(0.08)
    )
    aside = x - parting
    bend = np.where(style == 0, np.float32(0.5), np.where(style == 3, np.float32(0.35), np.float32(1.5)))
    line = y - (face.hairline + bend * aside * aside)
    line = np.where(style == 3, line + _triangle(x * np.float32(4.0)) * np.float32(0.05), line)
    part.paint(part.coverage(np.maximum(cap, line)), hair)
    shine = np.clip(
        np.float32(1) - np.abs(y + np.float32(0.5) - x * x) * np.float32(9), np.float32(0), np.float32(1)
    )
    part.paint(part.coverage(np.maximum(cap, line)) * shine * np.float32(0.16), np.full_like(hair, 255))


def _triangle(value: Field) -> Field:
    """Triangle wave of period 1 in -1..1."""
    return np.asarray(np.abs((value - np.floor(value)) * np.float32(4) - np.float32(2)) - np.float32(1))


def _shoulders(canvas: _Canvas, shirt: NDArray[np.float32], skin: NDArray[np.float32]) -> None:
    part = canvas.window(-2.0, 0.3, 2.0, 2.0)
    one = part.pixel * np.float32(0) + np.float32(1)
    part.paint(part.coverage(_box(part.x, part.y - np.float32(0.6), one * np.float32(0.2), one * np.float32(0.4),
                                  one * np.float32(0.1))), skin)  # fmt: skip
    body = part.coverage(
        _ellipse(part.x, part.y - np.float32(1.3), one * np.float32(0.95), one * np.float32(0.55))
    )
    collar = part.coverage(
        _ellipse(part.x, part.y - np.float32(0.72), one * np.float32(0.25), one * np.float32(0.2))
    )
    part.paint(body, shirt)
    part.paint(collar * body, skin)


def _cheeks(canvas: _Canvas, eye_x: Field, skin: NDArray[np.float32], strength: Field) -> None:
    part = canvas.window(-0.5, -0.05, 0.5, 0.45)
    rose = skin * np.array([1.0, 0.72, 0.7], dtype=np.float32)
    for side in (-1, 1):
        u, v = (
            (part.x - side * (eye_x + np.float32(0.06))) / np.float32(0.15),
            (part.y - np.float32(0.19)) / np.float32(0.1),
        )
        blob = np.clip(np.float32(1) - u * u - v * v, np.float32(0), np.float32(1))
        part.paint(blob * strength, rose)


def _eyes(
    canvas: _Canvas,
    eye_x: Field,
    eye_y: Field,
    size: Field,
    squint: Field,
    gaze: Field,
    iris: NDArray[np.float32],
) -> None:
    part = canvas.window(-0.42, -0.28, 0.42, 0.18)
    white, dark = np.full_like(iris, 248), np.full_like(iris, 24)
    for side in (-1, 1):
        x, y = part.x - side * eye_x, part.y - eye_y
        lid = _ellipse(x, y, size * np.float32(1.12), size * np.float32(0.72) * squint)
        inside = part.coverage(lid)
        part.paint(part.coverage(lid - np.float32(0.016)) * np.float32(0.75), dark)
        part.paint(inside, white)
        ball = _ellipse(x - gaze, y, size * np.float32(0.6), size * np.float32(0.6))
        part.paint(inside * part.coverage(ball), iris)
        part.paint(inside * part.coverage(ball + size * np.float32(0.3)), dark)
        glint = _ellipse(
            x - gaze - np.float32(0.02), y + np.float32(0.02), size * np.float32(0.2), size * np.float32(0.2)
        )
        part.paint(inside * part.coverage(glint), white)


def _brows(
    canvas: _Canvas, eye_x: Field, eye_y: Field, brow: tuple[Field, Field, Field], hair: NDArray[np.float32]
) -> None:
    part = canvas.window(-0.5, -0.48, 0.5, 0.05)
    above, tilt, thick = brow
    for side in (-1, 1):
        out = side * part.x - eye_x  # towards the temple
        curve = eye_y - above - tilt * out + np.float32(1.6) * out * out
        along = np.abs(out) - np.float32(0.125)
        distance = np.maximum(np.abs(part.y - curve) - thick, along)
        part.paint(part.coverage(distance) * np.float32(0.9), hair)


def _nose(canvas: _Canvas, end: Field, half: Field, skin: NDArray[np.float32]) -> None:
    part = canvas.window(-0.22, -0.15, 0.22, 0.42)
    shadow = skin * np.float32(0.72)
    tip = _ellipse(part.x, part.y - end, half, np.float32(0.55) * half)
    part.paint(part.coverage(tip) * np.float32(0.55), shadow)
    bridge = np.maximum(np.abs(part.x - half * np.float32(0.55)) - np.float32(0.014),
                        np.abs(part.y - end + np.float32(0.11)) - np.float32(0.1))  # fmt: skip
    part.paint(part.coverage(bridge) * np.float32(0.45), shadow)
    light = _ellipse(part.x, part.y - end + np.float32(0.03), half * np.float32(0.5), half * np.float32(0.4))
    part.paint(part.coverage(light) * np.float32(0.5), np.minimum(skin * np.float32(1.12), np.float32(255)))


def _mouth(
    canvas: _Canvas,
    y0: Field,
    half: Field,
    lift: Field,
    opening: Field,
    lip: Field,
    skin: NDArray[np.float32],
) -> None:
    """Two parabolas meet at the corners: the upper lip bent by the lift, the lower one further down by the opening."""
    part = canvas.window(-0.4, 0.1, 0.4, 0.66)
    across = part.x / half
    arch = np.float32(1) - across * across  # 1 in the middle, 0 at the corners
    middle = part.y - (y0 - lift * np.float32(0.5) + lift * arch)
    slope = 2 * lift * across / half
    steep = np.sqrt(1 + slope * slope)
    lower = opening * arch
    span = np.abs(part.x) - half
    body = np.maximum(
        np.maximum(-middle - lip * arch, middle - lower - lip * arch * np.float32(1.2)) / steep, span
    )
    line = np.maximum(np.abs(middle) / steep - np.float32(0.018), span - np.float32(0.02))
    hollow = np.maximum(np.maximum(-middle, middle - lower) / steep, span)
    rose = skin * np.array([0.86, 0.52, 0.52], dtype=np.float32)
    dark = skin * np.array([0.4, 0.2, 0.2], dtype=np.float32)
    part.paint(part.coverage(body), rose)
    part.paint(part.coverage(line) * np.float32(0.85), dark)
    part.paint(part.coverage(hollow) * (opening > np.float32(0.02)), dark)
    teeth = np.maximum(hollow, middle - lower * np.float32(0.6))
    part.paint(part.coverage(teeth) * (opening > np.float32(0.03)), np.full_like(skin, 244))


def _glasses(
    canvas: _Canvas,
    eye_x: Field,
    eye_y: Field,
    worn: NDArray[np.bool_],
    a: Field,
    b: Field,
    round_: Field,
    tone: Field,
) -> None:
    """Rims, bridge and temples; corners from square to round, frames from dark brown to light metal."""
    part = canvas.window(-0.75, -0.35, 0.75, 0.3)
    colour = (np.float32(20) + tone[:, 0] * tone[:, 0] * np.float32(130)) * np.array(
        [1.1, 0.95, 0.85], dtype=np.float32
    )
    thick = np.float32(0.02)
    y = part.y - eye_y - np.float32(0.01)
    gap = np.maximum(eye_x, a + np.float32(0.035))
    rim = np.maximum(np.abs(part.x) - gap, np.float32(-9))
    lens = _box(rim, y, a, b, round_ * np.minimum(a, b))
    part.paint(part.coverage(lens) * np.float32(0.14) * worn, np.full_like(colour, 235))
    bridge = np.maximum(np.abs(y + np.float32(0.02)) - thick, np.abs(part.x) - (gap - a))
    temple = np.maximum(
        np.abs(y + np.float32(0.03)) - thick,
        np.maximum(gap + a - np.abs(part.x), np.abs(part.x) - np.float32(0.56)),
    )
    frame = np.minimum(np.minimum(np.abs(lens) - thick, bridge), temple)
    part.paint(part.coverage(frame) * worn, colour)


def _light(
    pixels: NDArray[np.float32], gain: Field, across: Field, down: Field, noise: NDArray[np.float32]
) -> NDArray[np.uint8]:
    """Brightness with a gradient over the picture, noise, rounding."""
    height, width = pixels.shape[2:]
    x = np.linspace(-1, 1, width, dtype=np.float32)[None, None, :]
    y = np.linspace(-1, 1, height, dtype=np.float32)[None, :, None]
    shade = (gain + across * x + down * y)[:, None]
    lit = np.moveaxis(pixels * shade, 1, 3) + noise
    return np.asarray(np.clip(np.floor(lit + np.float32(0.5)), 0, 255).astype(np.uint8))
