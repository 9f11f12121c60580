"""Pictures that are kept packed, 48 planes at a quarter of their size, for as long as they can be.

A sub-pixel convolution ends in DEPTH_TO_SPACE, and operators that look at one value at a time give the same before it as
after it. Before it they are cheaper: kernels pay by the place, whatever it holds (docs/decisions/0016).

    p = Packed(tf.sigmoid(Packed(x).places * Affine(image, 0.5, 8.0).packed.places)).whole
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import tensorflow as tf

from sfumato.models.local import BLOCK

Value = Any
"""A TensorFlow tensor (always channels last), a numpy constant, or one of the two below."""


@dataclass(frozen=True, eq=False)
class Packed:
    """A picture (1, H, W, C), kept as (1, H / 4, W / 4, 16 C): all planes of a block's first pixel, then of its next."""

    places: Value

    @cached_property
    def whole(self) -> Value:
        """The picture."""
        return tf.nn.depth_to_space(self.places, BLOCK)


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

    @cached_property
    def whole(self) -> Value:
        """(1, H, W, times * C)."""
        y = self._scaled(self.source)
        return tf.concat([y] * self.times, axis=-1) if self.times > 1 else y

    @cached_property
    def packed(self) -> Packed:
        """The same, packed."""
        places = tf.nn.space_to_depth(self.source, BLOCK)
        return Packed(self._scaled(places) if self.times == 1 else self._copied(places))

    def _scaled(self, x: Value) -> Value:
        kernel = np.full((1, 1, x.shape[-1], 1), self.factor, np.float32)
        return self._add_bias(tf.nn.depthwise_conv2d(x, kernel, [1, 1, 1, 1], "VALID"))

    def _copied(self, places: Value) -> Value:
        """Copies lie between the pixels of a place, where no concatenation brings them."""
        pixel, colour = np.eye(BLOCK**2), np.eye(self.source.shape[-1])
        kernel = np.einsum("pq,t,cd->pcqtd", pixel, np.ones(self.times), colour) * self.factor
        kernel = kernel.reshape(1, 1, places.shape[-1], -1).astype(np.float32)
        return self._add_bias(tf.nn.conv2d(places, kernel, 1, "VALID"))

    def _add_bias(self, y: Value) -> Value:
        return tf.nn.bias_add(y, np.full(y.shape[-1], -self.offset * self.factor, np.float32))


def whole(value: Value) -> Value:
    """A value at its full size."""
    return value.whole if isinstance(value, Packed | Affine) else value


def all_packed(values: Sequence[Value]) -> list[Value] | None:
    """What an operator on single values can take instead of the pictures, if they can all be had packed; constants stay.

    None: no picture is packed yet, or one cannot be, or they differ in shape and one would have to be stretched.
    """
    if not any(isinstance(value, Packed) for value in values):
        return None
    packed = []
    for value in values:
        if isinstance(value, Packed | Affine):
            packed.append((value.packed if isinstance(value, Affine) else value).places)
        elif value is not None and not isinstance(value, np.ndarray):
            return None
    if any(places.shape != packed[0].shape for places in packed):
        return None
    found = iter(packed)
    return [next(found) if isinstance(value, Packed | Affine) else value for value in values]
