"""Pictures that are kept at half their size, four planes for one, for as long as they can be.

A sub-pixel convolution ends in DEPTH_TO_SPACE, and operators that look at one value at a time give the same before it as
after it. Before it they are cheaper: kernels pay by the pixel, and three planes cost what sixteen do (docs/decisions/0006).

    p = Packed(tf.sigmoid(Packed(x).half * Affine(image, 0.5, 8.0).packed.half)).whole
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import tensorflow as tf

Value = Any
"""A TensorFlow tensor (always channels last), a numpy constant, or one of the two below."""

BLOCK = 2
"""Height and width of the block of pixels that one place of a packed picture stands for."""


@dataclass(frozen=True, eq=False)
class Packed:
    """A picture (1, H, W, C), kept as (1, H / 2, W / 2, 4 C): all planes of a block's first pixel, then of its next."""

    half: Value

    @cached_property
    def whole(self) -> Value:
        """The picture."""
        return tf.nn.depth_to_space(self.half, BLOCK)


@dataclass(frozen=True, eq=False)
class Affine:
    """`(x - offset) * factor`, one convolution of fixed weights at either size; `times` copies of it, plane after plane.

    Left as SUB and MUL, TensorFlow's quantiser gives the difference the scale of the product: of an 8-bit image, 5 bits
    remain. A convolution keeps its bias in 32 bits.
    """

    source: Value
    offset: float
    factor: float
    times: int = 1

    @cached_property
    def whole(self) -> Value:
        """(1, H, W, times * C), depthwise."""
        planes = self.source.shape[-1]
        kernel = np.full((1, 1, planes, 1), self.factor, np.float32)
        y = self._add_bias(tf.nn.depthwise_conv2d(self.source, kernel, [1, 1, 1, 1], "VALID"))
        return tf.concat([y] * self.times, axis=-1) if self.times > 1 else y

    @cached_property
    def packed(self) -> Packed:
        """The same, packed: each pixel of a block goes to its own planes."""
        pixel, colour = np.eye(BLOCK), np.eye(self.source.shape[-1])
        kernel = np.einsum("ik,jl,t,cd->ijckltd", pixel, pixel, np.ones(self.times), colour)
        kernel = self.factor * kernel.reshape(BLOCK, BLOCK, len(colour), -1)
        return Packed(
            self._add_bias(tf.nn.conv2d(self.source, kernel.astype(np.float32), [BLOCK, BLOCK], "VALID"))
        )

    def _add_bias(self, y: Value) -> Value:
        return tf.nn.bias_add(y, np.full(y.shape[-1], -self.offset * self.factor, np.float32))


def whole(value: Value) -> Value:
    """A value at its full size."""
    return value.whole if isinstance(value, Packed | Affine) else value


def at_half(values: Sequence[Value]) -> list[Value] | None:
    """What an operator on single values can take instead of the pictures, if they can all be had packed; constants stay.

    None: no picture is packed yet, or one cannot be, or they differ in shape and one would have to be stretched.
    """
    if not any(isinstance(value, Packed) for value in values):
        return None
    halves = []
    for value in values:
        if isinstance(value, Packed | Affine):
            halves.append((value.packed if isinstance(value, Affine) else value).half)
        elif value is not None and not isinstance(value, np.ndarray):
            return None
    if any(half.shape != halves[0].shape for half in halves):
        return None
    found = iter(halves)
    return [next(found) if isinstance(value, Packed | Affine) else value for value in values]
