"""Draw a batch of faces from factor values and chance.

What a factor decides is fixed here; what chance decides (pose, light, gaze, an open mouth, the shape of the
frames, shades within a colour) is spread alike over all classes, so that no single pixel gives a factor away.

Legend: B pictures, H rows, W columns; x to the right, y down, the face near the origin.
Usage: `pictures = draw(factors, chances, noise, height=64, width=64)`
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sfumato.data.dataset import Ints
from sfumato.data.loaders.strokes import Canvas, Colour, Field, box, ellipse, lit, posed_canvas, triangle

CHANCES = 48
"""Numbers in [0, 1) that one picture may use, beside its noise."""
IDENTITIES = 50
SKIN = ((240, 204, 178), (218, 166, 126), (160, 108, 72), (96, 62, 45))
HAIR = ((40, 36, 42), (106, 68, 42), (228, 192, 112), (178, 70, 36))
BACKGROUND = ((126, 170, 196), (226, 152, 128), (150, 186, 136), (186, 160, 206))
SHORT, BOB, LONG, CURLY = range(4)
_SHIRTS = ((64, 84, 120), (140, 62, 70), (70, 104, 84), (232, 226, 214), (92, 92, 100), (212, 160, 74))
_IRIS = ((74, 50, 34), (64, 96, 130), (78, 104, 66), (52, 40, 36), (110, 92, 60))
# What an identity decides, with the range of each feature in drawing units. Every identity has its own of 50
# evenly spaced levels of every feature (a Latin hypercube), so that no two persons look alike.
_FEATURES = {
    "half_width": (0.39, 0.56),
    "jaw": (0.0, 0.40),
    "half_height": (0.54, 0.68),
    "eye_x": (0.16, 0.26),
    "eye_y": (-0.13, 0.04),
    "eye_size": (0.07, 0.12),
    "nose_length": (0.17, 0.31),
    "nose_width": (0.04, 0.12),
    "brow_thick": (0.012, 0.052),
    "brow_y": (0.13, 0.21),
    "brow_tilt": (-0.32, 0.32),
    "mouth_half": (0.13, 0.23),
    "mouth_y": (0.29, 0.39),
    "lip": (0.012, 0.042),
    "hairline": (-0.43, -0.22),
    "iris": (0.0, 1.0),
    "ears": (0.07, 0.18),
}


def identity_table() -> NDArray[np.float32]:
    """(50, features) in 0..1: the same 50 persons whatever the seed of a data set."""
    generator = np.random.Generator(np.random.PCG64(50))
    columns = [(generator.permutation(IDENTITIES) + 0.5) / IDENTITIES for _ in _FEATURES]
    return np.asarray(np.stack(columns, axis=1).astype(np.float32))


class Dice:
    """Hands out one number per picture and call, in a fixed order."""

    def __init__(self, chances: NDArray[np.float64]) -> None:
        self._left = iter(np.moveaxis(chances.astype(np.float32), 1, 0)[:, :, None, None])

    def between(self, low: float, high: float) -> Field:
        """One number for each picture, even between the bounds, (B, 1, 1)."""
        return np.asarray(np.float32(low) + next(self._left) * np.float32(high - low))

    def shade(self, palette: tuple[tuple[int, int, int], ...], index: Ints, spread: float) -> Colour:
        """A colour of the palette, a little brighter or darker, warmer or cooler."""
        gain, tint = self.between(1 - spread, 1 + spread)[:, 0], self.between(-spread, spread)[:, 0]
        warm = np.array([0.5, 0, -0.5], dtype=np.float32)
        return np.asarray(np.array(palette, dtype=np.float32)[index] * (gain + tint * warm))


@dataclass(frozen=True)
class Sitter:
    """Everything about the person that more than one part of the face needs."""

    features: Mapping[str, Field]
    style: Ints  # (B, 1, 1) hair
    smile: Field  # (B, 1, 1) 0 or 1
    skin: Colour
    hair: Colour

    def __getitem__(self, feature: str) -> Field:
        return self.features[feature]


def draw(
    factors: Mapping[str, Ints],
    chances: NDArray[np.float64],
    noise: NDArray[np.float32],
    height: int,
    width: int,
) -> NDArray[np.uint8]:
    """Draw faces, from the background to the glasses.

    Args:
        factors: (B,) class indices of smiling, glasses, skin, hair, background, identity.
        chances: (B, `CHANCES`) in [0, 1).
        noise: (B, H, W, 3) in grey levels, added last.
        height: of the pictures, in pixels.
        width: of the pictures, in pixels.

    Returns:
        (B, H, W, 3) uint8.
    """
    dice = Dice(chances)
    sitter = sit(factors, dice)
    pose = dice.between(-0.1, 0.1), dice.between(-0.08, 0.1), dice.between(-0.07, 0.07)
    canvas = posed_canvas(*pose, dice.between(0.92, 1.08), height, width)
    _background(canvas, dice, factors["background"])
    paint_person(canvas, sitter, dice, factors["glasses"])
    light = dice.between(0.86, 1.06), dice.between(-0.12, 0.12), dice.between(-0.1, 0.1)
    return lit(canvas.pixels, *light, noise)


def sit(factors: Mapping[str, Ints], dice: Dice) -> Sitter:
    """The persons that these factor values describe."""
    levels = identity_table()[factors["identity"]]  # (B, features)
    return Sitter(
        features={
            name: np.float32(low) + levels[:, i, None, None] * np.float32(high - low)
            for i, (name, (low, high)) in enumerate(_FEATURES.items())
        },
        style=factors["hair"][:, None, None],
        smile=factors["smiling"][:, None, None].astype(np.float32),
        skin=dice.shade(SKIN, factors["skin"], 0.05),
        hair=dice.shade(HAIR, factors["hair"], 0.08),
    )


def paint_person(canvas: Canvas, sitter: Sitter, dice: Dice, glasses: Ints) -> None:
    """Head and shoulders, over whatever is on the canvas; `glasses` (B,) 0 or 1."""
    _back_hair(canvas, sitter)
    _shoulders(canvas, sitter, dice)
    _head(canvas, sitter, dice)
    _eyes(canvas, sitter, dice)
    _brows(canvas, sitter, dice)
    _nose(canvas, sitter)
    _mouth(canvas, sitter, dice)
    _front_hair(canvas, sitter, dice)
    _glasses(canvas, sitter, dice, glasses[:, None, None].astype(np.float32))


def _background(canvas: Canvas, dice: Dice, index: Ints) -> None:
    colour = dice.shade(BACKGROUND, index, 0.07)
    canvas.pixels[:] = colour[:, :, None, None]
    halo = ellipse(canvas.x, canvas.y - 0.05, dice.between(0.86, 1.02), dice.between(0.86, 1.02))
    canvas.fill(halo, np.full_like(colour, 255), 0.25)


def _back_hair(canvas: Canvas, sitter: Sitter) -> None:
    """What hangs behind the head: nothing (short), to the chin, to the shoulders, a cloud (curly)."""
    x, y, wide, style = canvas.x, canvas.y, sitter["half_width"], sitter.style
    bob = box(x, y + 0.02, wide + 0.13, 0.62, 0.42)
    long = box(x, y - 0.22, wide + 0.12, 0.88, 0.45)
    curls = (triangle(x * 3.7) + triangle(y * 3.7 + 0.25)) * np.float32(0.035)
    cloud = ellipse(x, y + 0.14, wide + 0.24, 0.68) + curls
    hanging = np.where(style == BOB, bob, np.where(style == LONG, long, cloud))
    canvas.fill(hanging, sitter.hair * 0.78, (style != SHORT).astype(np.float32))


def _shoulders(canvas: Canvas, sitter: Sitter, dice: Dice) -> None:
    part = canvas.window(-2.0, 0.0, 2.0, 2.5)
    pick = (dice.between(0, len(_SHIRTS))[:, 0, 0]).astype(np.int64)
    part.fill(box(part.x, part.y - 0.6, 0.2, 0.4, 0.1), sitter.skin * 0.86)
    body = ellipse(part.x, part.y - 1.3, 0.95, 0.55)
    neckline = ellipse(part.x, part.y - 0.72, 0.23, 0.2)
    part.fill(np.maximum(body, -neckline), dice.shade(_SHIRTS, pick, 0.1))


def _head(canvas: Canvas, sitter: Sitter, dice: Dice) -> None:
    part = canvas.window(-0.95, -0.95, 0.95, 0.95)
    x, y, tall = part.x, part.y, sitter["half_height"]
    for side in (-1, 1):
        ear = ellipse(x - side * sitter["half_width"], y - 0.03, 0.08, sitter["ears"])
        part.fill(ear, sitter.skin * 0.9, (sitter.style != LONG).astype(np.float32))
    down = np.maximum(y, 0) / tall
    face = ellipse(x * (1 + sitter["jaw"] * down * down), y, sitter["half_width"], tall)  # narrow at the chin
    part.fill(face, sitter.skin)
    rim = np.clip(1 + face / 0.22, 0, 1)  # the skin darkens softly towards the edge
    part.fill(face, sitter.skin * 0.55, rim * rim * 0.22)
    rose = sitter.skin * np.array([1.0, 0.72, 0.7], dtype=np.float32)
    strength: Field = dice.between(0.1, 0.3) + sitter.smile * dice.between(
        0.1, 0.35
    )  # a smile lifts the cheeks
    for side in (-1, 1):
        u, v = (x - side * (sitter["eye_x"] + 0.06)) / 0.15, (y - 0.19) / 0.1
        part.paint(np.clip(1 - u * u - v * v, 0, 1) * strength, rose)


def _eyes(canvas: Canvas, sitter: Sitter, dice: Dice) -> None:
    size, gaze = sitter["eye_size"], dice.between(-0.02, 0.02)
    squint = dice.between(0.8, 1.05) - sitter.smile * dice.between(0.1, 0.35)
    white, dark = np.full_like(sitter.skin, 248), np.full_like(sitter.skin, 24)
    iris = np.array(_IRIS, dtype=np.float32)[(sitter["iris"][:, 0, 0] * len(_IRIS)).astype(np.int64)]
    for side in (-1, 1):
        part = canvas.window(-0.7, -0.5, 0.15, 0.4) if side < 0 else canvas.window(-0.15, -0.5, 0.7, 0.4)
        x, y = part.x - side * sitter["eye_x"], part.y - sitter["eye_y"]
        lid = ellipse(x, y, size * 1.12, size * 0.72 * squint)
        inside = part.coverage(lid)
        ball = ellipse(x - gaze, y, size * 0.6, size * 0.6)
        part.fill(lid - 0.016, dark, 0.75)
        part.paint(inside, white)
        part.fill(ball, iris, inside)
        part.fill(ball + size * 0.3, dark, inside)
        part.fill(ellipse(x - gaze - 0.02, y + 0.02, size * 0.2, size * 0.2), white, inside)


def _brows(canvas: Canvas, sitter: Sitter, dice: Dice) -> None:
    part = canvas.window(-0.7, -0.75, 0.7, 0.3)
    above = sitter["brow_y"] + dice.between(-0.015, 0.03)
    for side in (-1, 1):
        out = side * part.x - sitter["eye_x"]  # towards the temple
        curve = sitter["eye_y"] - above - sitter["brow_tilt"] * out + 1.6 * out * out
        stroke = np.maximum(np.abs(part.y - curve) - sitter["brow_thick"], np.abs(out) - 0.125)
        part.fill(stroke, sitter.hair * 0.6, 0.9)


def _nose(canvas: Canvas, sitter: Sitter) -> None:
    part = canvas.window(-0.4, -0.4, 0.4, 0.65)
    half, end = sitter["nose_width"], sitter["eye_y"] + sitter["nose_length"]
    x, y = part.x, part.y - end
    part.fill(ellipse(x, y, half, 0.55 * half), sitter.skin * 0.72, 0.55)
    bridge = np.maximum(np.abs(x - half * 0.55) - 0.014, np.abs(y + 0.11) - 0.1)
    part.fill(bridge, sitter.skin * 0.72, 0.45)
    tip = ellipse(x, y + 0.03, half * 0.5, half * 0.4)
    part.fill(tip, np.minimum(sitter.skin * 1.12, 255), 0.5)


def _mouth(canvas: Canvas, sitter: Sitter, dice: Dice) -> None:
    """Two parabolas that meet at the corners: one bent by the lift, one further down by the opening.

    The corners of a smile rise and spread. Being open and showing teeth say nothing: both classes do.
    """
    part = canvas.window(-0.6, 0.0, 0.6, 0.85)
    lift = sitter.smile * dice.between(0.11, 0.2) + (1 - sitter.smile) * dice.between(-0.09, 0.012)
    opening = np.maximum(dice.between(-0.05, 0.07), 0)
    wider = 1 + sitter.smile * dice.between(0.1, 0.4)
    half = sitter["mouth_half"] * wider * dice.between(0.92, 1.08)
    height = sitter["mouth_y"] + dice.between(-0.015, 0.015)
    across = part.x / half
    arch = 1 - across * across  # 1 in the middle, 0 at the corners
    upper = part.y - (height - lift * 0.5 + lift * arch)
    lower = upper - opening * arch
    slope = 2 * lift * across / half
    steep, span, lip = np.sqrt(1 + slope * slope), np.abs(part.x) - half, sitter["lip"] * arch
    lips = np.maximum(np.maximum(-upper - lip, lower - lip * 1.2) / steep, span)
    line = np.maximum(np.abs(upper) / steep - 0.018, span - 0.02)
    hollow = np.maximum(np.maximum(-upper, lower) / steep, span)
    teeth = np.maximum(hollow, upper - opening * arch * 0.6)
    dark = sitter.skin * np.array([0.4, 0.2, 0.2], dtype=np.float32)
    part.fill(lips, sitter.skin * np.array([0.86, 0.52, 0.52], dtype=np.float32))
    part.fill(line, dark, 0.85)
    part.fill(hollow, dark, (opening > 0.02).astype(np.float32))
    part.fill(teeth, np.full_like(dark, 244), (opening > 0.03).astype(np.float32))


def _front_hair(canvas: Canvas, sitter: Sitter, dice: Dice) -> None:
    """The hair over the forehead: the head's outline, a little larger, above a bent hairline."""
    part = canvas.window(-0.95, -1.1, 0.95, 0.9)
    x, y, style = part.x, part.y, sitter.style
    cap = ellipse(x, y + 0.03, sitter["half_width"] + 0.05, sitter["half_height"] + 0.07)
    aside = x - dice.between(-0.15, 0.15)
    bend, rise, curl = (
        np.array(values, dtype=np.float32)[style]
        for values in ((0.95, 1.5, 1.5, 0.5), (0.04, 0.0, 0.0, 0.0), (0.0, 0.0, 0.0, 0.05))
    )
    line = y - (sitter["hairline"] - rise + bend * aside * aside) + triangle(x * 4.0) * curl
    hair = np.maximum(cap, line)
    shine = np.clip(1 - np.abs(y + 0.5 - x * x) * 9, 0, 1)
    part.fill(hair, sitter.hair)
    part.fill(hair, np.full_like(sitter.hair, 255), shine * 0.14)


def _glasses(canvas: Canvas, sitter: Sitter, dice: Dice, worn: Field) -> None:
    """Rims, bridge and temples; corners from square to round, frames from black to light metal."""
    part = canvas.window(-0.85, -0.6, 0.85, 0.5)
    half_width, half_height = dice.between(0.125, 0.16), dice.between(0.1, 0.15)
    corner = dice.between(0.5, 1.0) * np.minimum(half_width, half_height)
    tone = dice.between(0, 1)[:, 0]
    metal = np.array([1.1, 0.95, 0.85], dtype=np.float32)
    colour = np.asarray((20 + tone * tone * 130) * metal, dtype=np.float32)
    x, y = np.abs(part.x), part.y - sitter["eye_y"] - 0.01
    middle = np.maximum(sitter["eye_x"], half_width + 0.035)
    lens = box(x - middle, y, half_width, half_height, corner)
    bridge = np.maximum(np.abs(y + 0.02) - 0.02, x - (middle - half_width))
    temple = np.maximum(np.abs(y + 0.03) - 0.02, np.maximum(middle + half_width - x, x - 0.56))
    frame = np.minimum(np.minimum(np.abs(lens) - 0.02, bridge), temple)
    part.fill(lens, np.full_like(colour, 235), worn * 0.14)
    part.fill(frame, colour, worn)
