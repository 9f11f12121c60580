"""Pictures that are kept packed, 3 planes as 48 at a quarter of their size, for as long as they can be.

A sub-pixel convolution ends in DEPTH_TO_SPACE, and operators that look at one value at a time give the same before it as
after it. Before it they are cheaper: kernels pay by the place, whatever it holds (docs/decisions/0016).

    p = Packed(tf.sigmoid(Packed(x, 4).places * Affine(image, 0.5, 8.0).packed(4).places), 4).whole
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import tensorflow as tf

Value = Any
"""A TensorFlow tensor (always channels last), a numpy constant, or one of the two below."""


@dataclass(frozen=True, eq=False)
class Packed:
    """A picture (1, H, W, C), kept as (1, H / block, W / block, block^2 C): all planes of a block's pixel, then of its next."""

    places: Value
    block: int

    @cached_property
    def whole(self) -> Value:
        """The picture."""
        return tf.nn.depth_to_space(self.places, self.block)


@dataclass(frozen=True, eq=False)
class Affine:
    """`(x - offset) * factor`, a convolution of fixed weights at either size; `times` copies of it, plane after plane.

    Left as SUB and MUL, TensorFlow's quantiser gives the difference the scale of the product: of an 8-bit image, 5 bits
    remain. A convolution keeps its bias in 32 bits.
    """

    source: Value
    offset: float
    factor: float
    times: int = 1
    made: dict[int, Packed] = field(default_factory=dict, init=False)
    """Packed pictures by the size of their block."""

    @cached_property
    def whole(self) -> Value:
        """(1, H, W, times * C)."""
        y = self._scaled(self.source)
        return tf.concat([y] * self.times, axis=-1) if self.times > 1 else y

    def packed(self, block: int) -> Packed:
        """The same, packed."""
        if block not in self.made:
            places = tf.nn.space_to_depth(self.source, block)
            scaled = self._scaled(places) if self.times == 1 else self._copied(places, block)
            self.made[block] = Packed(scaled, block)
        return self.made[block]

    def _scaled(self, x: Value) -> Value:
        if (self.offset, self.factor) == (0.0, 1.0):
            return x
        kernel = np.full((1, 1, x.shape[-1], 1), self.factor, np.float32)
        return self._add_bias(tf.nn.depthwise_conv2d(x, kernel, [1, 1, 1, 1], "VALID"))

    def _copied(self, places: Value, block: int) -> Value:
        """Copies lie between the pixels of a place, where no concatenation brings them."""
        pixel, colour = np.eye(block**2), np.eye(self.source.shape[-1])
        kernel = np.einsum("pq,t,cd->pcqtd", pixel, np.ones(self.times), colour) * self.factor
        kernel = kernel.reshape(1, 1, places.shape[-1], -1).astype(np.float32)
        return self._add_bias(tf.nn.conv2d(places, kernel, 1, "VALID"))

    def _add_bias(self, y: Value) -> Value:
        return tf.nn.bias_add(y, np.full(y.shape[-1], -self.offset * self.factor, np.float32))


def whole(value: Value) -> Value:
    """A value at its full size."""
    return value.whole if isinstance(value, Packed | Affine) else value


def all_packed(values: Sequence[Value]) -> tuple[list[Value], int] | None:
    """What an operator on single values can take instead of the pictures, if they can all be had packed, and the size of the
    block; numbers stay.

    None: no picture is packed yet, or one cannot be, or they differ in shape and one would have to be stretched.
    """
    blocks = {value.block for value in values if isinstance(value, Packed)}
    if len(blocks) != 1:
        return None
    (block,) = blocks
    packed = []
    for value in values:
        if isinstance(value, Packed | Affine):
            packed.append((value.packed(block) if isinstance(value, Affine) else value).places)
        elif value is not None and not (isinstance(value, np.ndarray) and value.size == 1):
            return None
    if any(places.shape != packed[0].shape for places in packed):
        return None
    found = iter(packed)
    return [next(found) if isinstance(value, Packed | Affine) else value for value in values], block
