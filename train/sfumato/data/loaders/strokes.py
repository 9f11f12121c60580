"""Painting with signed distances on a batch of pictures, the same bytes on every machine.

A shape is a field `d(x, y)`, negative inside, in units of half the picture's shorter side; its coverage of a
pixel is `clip(1/2 - d/pixel, 0, 1)`. Only sums, products, quotients, square roots and comparisons are used,
which IEEE 754 rounds the same everywhere; sines are replaced by rational rotations and triangle waves.

Legend: B pictures, H rows, W columns; x to the right, y down.
"""

from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Field: TypeAlias = NDArray[np.float32]  # (B, h, w), or (B, 1, 1) for one number per picture
Colour: TypeAlias = NDArray[np.float32]  # (B, 3), 0..255


@dataclass(frozen=True)
class Canvas:
    """Pictures in the making, and where every pixel lies in the drawing's own coordinates."""

    pixels: NDArray[np.float32]  # (B, 3, H, W), 0..255
    x: Field  # (B, H, W)
    y: Field
    pixel: Field  # (B, 1, 1) size of one pixel in drawing units

    def window(self, left: float, top: float, right: float, bottom: float) -> "Canvas":
        """The rows and columns that can hold a shape with these bounds in any of the poses of this batch.

        The bounds must leave a pixel's room around the shape, so that nothing depends on the batch.
        """
        inside = (self.x > left) & (self.x < right) & (self.y > top) & (self.y < bottom)
        rows, columns = np.flatnonzero(inside.any(axis=(0, 2))), np.flatnonzero(inside.any(axis=(0, 1)))
        h, w = _span(rows), _span(columns)
        return Canvas(self.pixels[:, :, h, w], self.x[:, h, w], self.y[:, h, w], self.pixel)

    def take(self, rows: NDArray[np.intp]) -> "Canvas":
        """Copies of some of the pictures."""
        return Canvas(self.pixels[rows], self.x[rows], self.y[rows], self.pixel[rows])

    def posed(self, dx: Field, dy: Field, turn: Field, scale: Field) -> "Canvas":
        """The same pixels under the coordinates of another drawing; arguments as of `posed_canvas`."""
        height, width = self.pixels.shape[2:]
        return replace(posed_canvas(dx, dy, turn, scale, height, width), pixels=self.pixels)

    def coverage(self, distance: Field) -> Field:
        """Share of every pixel inside the shape, (B, h, w) in 0..1."""
        return np.asarray(np.clip(0.5 - distance / self.pixel, 0, 1))

    def paint(self, alpha: Field, colour: Colour) -> None:
        """Lay a colour over the pixels with opacity `alpha`, (B, h, w)."""
        for channel in range(3):
            plane = self.pixels[:, channel]
            change = colour[:, channel, None, None] - plane
            change *= alpha
            plane += change

    def fill(self, distance: Field, colour: Colour, strength: Field | float = 1.0) -> None:
        """Paint the inside of a shape."""
        self.paint(self.coverage(distance) * strength, colour)


def posed_canvas(dx: Field, dy: Field, turn: Field, scale: Field, height: int, width: int) -> Canvas:
    """An empty canvas.

    Args:
        dx: shift to the right, in drawing units.
        dy: shift down.
        turn: tangent of half the angle of rotation.
        scale: size of the drawing, 1 for as large as the picture.
        height: of the pictures, in pixels.
        width: of the pictures, in pixels.
    """
    half = np.float32(min(height, width) / 2)
    rows = ((np.arange(height, dtype=np.float32) + 0.5 - height / 2) / half)[None, :, None]
    columns = ((np.arange(width, dtype=np.float32) + 0.5 - width / 2) / half)[None, None, :]
    cosine = (1 - turn * turn) / (1 + turn * turn)
    sine = 2 * turn / (1 + turn * turn)
    u, v = (columns - dx) / scale, (rows - dy) / scale
    pixels = np.empty((len(dx), 3, height, width), dtype=np.float32)
    return Canvas(pixels, cosine * u + sine * v, cosine * v - sine * u, 1 / (half * scale))


def ellipse(x: Field, y: Field, a: Field | float, b: Field | float) -> Field:
    """Distance to an ellipse of half axes a, b: to first order, exact on the edge (k1 (k1 - 1) / k2)."""
    u, v = x / a, y / b
    u *= u
    v *= v
    k1 = np.sqrt(u + v)
    u *= 1 / (a * a)
    v *= 1 / (b * b)
    return np.asarray(k1 * (k1 - 1) / np.maximum(np.sqrt(u + v), np.float32(1e-6)))


def box(x: Field, y: Field, a: Field | float, b: Field | float, r: Field | float) -> Field:
    """Distance to a rectangle of half sides a, b with corners of radius r."""
    u, v = np.abs(x) - a + r, np.abs(y) - b + r
    out_u, out_v = np.maximum(u, 0), np.maximum(v, 0)
    return np.asarray(np.sqrt(out_u * out_u + out_v * out_v) + np.minimum(np.maximum(u, v), 0) - r)


def triangle(value: Field) -> Field:
    """Triangle wave of period 1 in -1..1."""
    return np.asarray(np.abs((value - np.floor(value)) * 4 - 2) - 1)


def lit(pixels: Field, gain: Field, across: Field, down: Field, noise: Field) -> NDArray[np.uint8]:
    """Finish the pictures: brightness with a gradient, noise, rounding.

    Args:
        pixels: (B, 3, H, W), 0..255.
        gain: (B, 1, 1) brightness in the middle.
        across: what is added to the gain at the right edge and taken off at the left.
        down: the same from the upper to the lower edge.
        noise: (B, H, W, 3) in grey levels.

    Returns:
        (B, H, W, 3) uint8.
    """
    height, width = pixels.shape[2:]
    x = ((2 * np.arange(width) + 1 - width) / width).astype(np.float32)[None, None, :]
    y = ((2 * np.arange(height) + 1 - height) / height).astype(np.float32)[None, :, None]
    shade = (gain + across * x + down * y)[:, None]
    bright = np.moveaxis(pixels * shade, 1, 3) + noise
    return np.asarray(np.clip(np.floor(bright + 0.5), 0, 255).astype(np.uint8))


def _span(found: NDArray[np.intp]) -> slice:
    return slice(int(found[0]), int(found[-1]) + 1) if len(found) else slice(0, 0)
