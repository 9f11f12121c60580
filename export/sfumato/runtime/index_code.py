"""Sampler 2: an upload is the number of an entry of a public book, drawn with keyed noise (docs/contract.md, "Index").

Phone and service hold the same book of 2^B pictures. The phone draws entry i with probability

    w_i = P(z_i) / Q(z_i) / sum_j P(z_j) / Q(z_j)

where P is what the dither channel draws for the photo and Q a fair coin for every bit, and sends the B bits of i (minimal
random coding: Havasi et al., ICLR 2019; Theis and Yosri, ICML 2022). Every upload has B bits, so no photo tells more; one photo
tells at most `B - H(w)` (`exact_bits`).

A book of 2^B entries cannot be listed. This one is a trellis (Viterbi and Omura, IEEE Trans. Inf. Theory, 1974): one step a
pixel of the upload, in a fixed scattered order; a step takes the next few bits of the index, and the last `memory` bits before
them and these choose the pixel's value by a public hash. Sums over all entries are then sums over 2^memory states a step
(forward filtering), and the draw goes back through them (backward sampling, Fruehwirth-Schnatter, 1994).

Every operation is one of IEEE 754's in double precision, in a fixed order: Kotlin and JavaScript have the same lines and give
the same bytes. Integers of 53 bits do not reach: where bits are all but certain, a pixel has values of 2^-120.

    code = IndexCode(height=24, width=24, planes=6, bits=1728, gray=True)
    index = code.draw(parameters["p"], noise)           # noise_bytes of them
    levels = code.levels(index)
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
from numpy.typing import NDArray

from sfumato.core.errors import DataError, SfumatoError
from sfumato.runtime.contract import INDEX_BITS_A_PIXEL, INDEX_MEMORY, MOST_INDEX_PIXELS, Contract
from sfumato.runtime.sampler import CERTAIN, Bytes

VALUES = 65536
"""Of two noise bytes."""
LEAST = 0.25
"""In 1/256: no value of a bit counts as less likely. Nothing underflows then."""

Numbers = NDArray[np.int64]
Floats = NDArray[np.float64]


def book(step: int | Numbers, register: Numbers, planes: int) -> Bytes:
    """Values of a pixel, 0 .. 2^planes - 1, for a step and registers: the book, by a public hash (lowbias32, Wellons, 2018).

    >>> book(1, np.array([1, 2047]), 6).tolist()
    [38, 28]

    Args:
        step: 0 .. 65535.
        register: 0 .. 65535.
        planes: bits of a pixel; bit j of a value is plane j of the tensor.
    """
    x = (np.left_shift(step, 16) | register).astype(np.uint32)
    with np.errstate(over="ignore"):
        x ^= x >> np.uint32(16)
        x *= np.uint32(0x7FEB352D)
        x ^= x >> np.uint32(15)
        x *= np.uint32(0x846CA68B)
        x ^= x >> np.uint32(16)
    return (x >> np.uint32(32 - planes)).astype(np.uint8)


def stride(pixels: int) -> int:
    """How far apart two pixels lie that follow each other: the least number from five eighths of all on that meets every pixel.

    >>> stride(576), stride(7)
    (361, 5)
    """
    found = -(-5 * pixels // 8)
    while math.gcd(found, pixels) > 1:
        found += 1
    return found


@dataclass(frozen=True)
class IndexCode:
    """The book of a contract."""

    height: int
    """Of the upload, in samples."""
    width: int
    planes: int
    """Bits of a pixel: 3 k for k bits a colour."""
    bits: int
    """B: of an index."""
    gray: bool = False
    """Whether a byte of 255 stands for 1, as in `sampler.dither`."""
    power: int = 1
    """1, or 2: the draw follows the square of the channel's probabilities."""
    memory: int = INDEX_MEMORY[1]
    """Bits of the index before a step that its pixel depends on."""

    def __post_init__(self) -> None:
        pixels, most = self.height * self.width, min(INDEX_BITS_A_PIXEL, self.planes)
        fits = (
            2 <= pixels <= MOST_INDEX_PIXELS
            and max(8, pixels * self.planes // 3) <= self.bits <= pixels * most
        )
        if (
            not fits
            or self.planes not in (3, 6)
            or self.power not in (1, 2)
            or not INDEX_MEMORY[0] <= self.memory <= INDEX_MEMORY[1]
        ):
            raise SfumatoError(
                f"there is no index of {self.bits} bits for {self.height} x {self.width} pixels of {self.planes} bits"
            )

    @staticmethod
    def of(contract: Contract) -> "IndexCode":
        """The book of a contract whose uploads are indices.

        Raises:
            SfumatoError: they are not.
        """
        if contract.index is None:
            raise SfumatoError("the uploads of this export are no indices")
        height, width = contract.upload_size
        part, channel = contract.index, contract.channel
        return _made(height, width, 3 * channel.bits, part.bits, bool(channel.gray), part.power, part.memory)

    @property
    def steps(self) -> int:
        """T: pixels of the upload."""
        return self.height * self.width

    @property
    def states(self) -> int:
        """How many values the last `memory` bits have."""
        return 1 << self.memory

    @property
    def size(self) -> int:
        """Bytes of an upload."""
        return -(-self.bits // 8)

    @property
    def noise_bytes(self) -> int:
        """Noise bytes of a draw: two for the last state and two a step."""
        return 2 * (self.steps + 1)

    @cached_property
    def ends(self) -> Numbers:
        """How many bits of the index lie before each step, and B at the end: (T + 1,)."""
        return self.bits * np.arange(self.steps + 1, dtype=np.int64) // self.steps

    @cached_property
    def order(self) -> Numbers:
        """The pixel, y * width + x, of each step: (T,)."""
        return np.arange(self.steps, dtype=np.int64) * stride(self.steps) % self.steps

    def weights(self, q: Bytes) -> Floats:
        """Weight of every value of every pixel, by step, (..., T, 2^planes): above 0, at most 1.

        Args:
            q: probabilities in 1/256, (..., H, W, planes).
        """
        ones = q.reshape(*q.shape[:-3], self.steps, self.planes)[..., self.order, :].astype(np.float64)
        if self.gray:
            ones[ones == CERTAIN] = 256
        ones = np.clip(ones, LEAST, 256 - LEAST) / 256  # exact, as is 1 minus it
        weights: Floats = np.ones((*ones.shape[:-1], 1))
        for plane in range(self.planes):
            one = ones[..., plane : plane + 1]
            weights = np.concatenate([weights * (1 - one), weights * one], axis=-1)
        return weights * weights if self.power == 2 else weights

    def draw(self, q: Bytes, noise: Bytes) -> bytes:
        """Draw the index of one picture.

        Args:
            q: probabilities in 1/256, (H, W, planes).
            noise: `noise_bytes` of them.

        Raises:
            SfumatoError: another shape, or another number of noise bytes.
        """
        if q.shape != (self.height, self.width, self.planes) or noise.size != self.noise_bytes:
            raise SfumatoError(
                f"an index is drawn from {self.height} x {self.width} x {self.planes} probabilities and "
                f"{self.noise_bytes} noise bytes"
            )
        return self.draw_many(q[None], noise[None])[0]

    def draw_many(self, q: Bytes, noise: Bytes) -> list[bytes]:
        """The index of each of N pictures: q (N, H, W, planes), noise (N, `noise_bytes`)."""
        weights = self.weights(q)
        rows = np.arange(len(q))
        u = np.ascontiguousarray(noise).view("<u2").astype(np.int64)
        sums = [sums for sums, _ in self._forward(weights)]
        state = _choose(sums[-1], u[:, 0])
        digits = np.zeros((len(q), self.bits), dtype=np.uint8)
        for step in range(self.steps - 1, -1, -1):
            taken = self._taken(step)
            registers = state[:, None] + self.states * np.arange(1 << taken)
            chosen = book(step, registers, self.planes)
            each = sums[step][rows[:, None], registers >> taken] * weights[rows[:, None], step, chosen]
            register = registers[rows, _choose(each, u[:, self.steps - step])]
            for bit in range(taken):
                digits[:, self.ends[step + 1] - 1 - bit] = register >> bit & 1
            state = register >> taken
        return [packed.tobytes() for packed in np.packbits(digits, axis=1)]

    def exact_bits(self, q: Bytes) -> float:
        """`B - H(w)` of one picture, q (H, W, planes): the most that its index tells, in bits; exact."""
        return float(self.exact_bits_of_many(q[None])[0])

    def exact_bits_of_many(self, q: Bytes) -> Floats:
        """`exact_bits` of N pictures, q (N, H, W, planes): (N,)."""
        entropy: Floats = np.zeros((len(q), self.states))  # of the ways to each state
        forward = self._forward(self.weights(q))
        last, _ = next(forward)
        for (registers, _), taken, (sums, each) in zip(self._book, np.diff(self.ends), forward, strict=True):
            last, shares = sums, _shares(each)
            entropy = (shares * entropy[:, registers >> taken]).sum(-1) + _entropy(shares)
        ends = _shares(last)
        bits: Floats = self.bits - (ends * entropy).sum(-1) - _entropy(ends)
        return bits

    def levels(self, index: bytes) -> Bytes:
        """The entry of the book, as levels (H, W, 3) of the channel.

        Raises:
            DataError: another length, or the last byte is not filled with zeros.
        """
        if len(index) != self.size:
            raise DataError(f"the index has {len(index)} bytes; this model takes {self.size}")
        digits = np.unpackbits(np.frombuffer(index, dtype=np.uint8)).astype(np.int64)
        if digits[self.bits :].any():
            raise DataError("the index's last byte is not filled with zeros")
        # Before the first bit stands the first state, 0.
        digits = np.concatenate([np.zeros(self.memory, np.int64), digits[: self.bits]])
        taken = np.diff(self.ends)
        register = np.zeros(self.steps, np.int64)
        for bit in range(self.memory + int(taken.max())):
            inside = bit < self.memory + taken
            register |= (
                np.where(inside, digits[np.maximum(self.ends[1:] + self.memory - 1 - bit, 0)], 0) << bit
            )
        found = np.empty(self.steps, dtype=np.uint8)
        found[self.order] = book(np.arange(self.steps), register, self.planes)
        planes = (found[:, None] >> np.arange(self.planes) & 1).astype(np.uint8)
        drawn = planes.reshape(self.height, self.width, self.planes // 3, 3)
        levels: Bytes = drawn[:, :, 0]
        for plane in range(1, self.planes // 3):
            bit_ = drawn[:, :, plane] ^ (levels & np.uint8(1)) if self.gray else drawn[:, :, plane]
            levels = (levels << np.uint8(1)) | bit_
        return levels

    def _taken(self, step: int) -> int:
        """Bits of the index that a step takes."""
        return int(self.ends[step + 1] - self.ends[step])

    @cached_property
    def _book(self) -> list[tuple[Numbers, Bytes]]:
        """Of each step its registers (states, 2^bits), and the value of the pixel for each."""
        found = []
        for step in range(self.steps):
            taken = self._taken(step)
            registers = np.arange(self.states)[:, None] + self.states * np.arange(1 << taken)
            found.append((registers, book(step, registers, self.planes)))
        return found

    def _forward(self, weights: Floats) -> Iterator[tuple[Floats, Floats]]:
        """Before every step and after the last: sums (N, states), and what they were added up from, (N, states, 2^bits)."""
        sums = np.zeros((len(weights), self.states))
        sums[:, 0] = 1
        yield sums, sums[..., None]
        for step in range(self.steps):
            registers, values = self._book[step]
            each = sums[:, registers >> self._taken(step)] * weights[:, step][:, values]
            sums = each[..., 0]
            for more in range(
                1, each.shape[-1]
            ):  # numpy's own sum adds in an order that depends on the processor
                sums = sums + each[..., more]
            sums = np.ldexp(sums, -np.frexp(sums.max(-1, keepdims=True))[1])
            yield sums, each


@cache
def _made(height: int, width: int, planes: int, bits: int, gray: bool, power: int, memory: int) -> IndexCode:
    """A code once for all uploads of a service: it keeps what it computes of its book."""
    return IndexCode(height, width, planes, bits, gray, power, memory)


def _choose(each: Floats, u: Numbers) -> Numbers:
    """The first of weights (N, n) whose cumulative sum is above `u total / 65536`, for u (N,) of 0 .. 65535."""
    reached = each.cumsum(-1)
    place = u * reached[:, -1] / VALUES
    chosen: Numbers = (reached <= place[:, None]).sum(-1)
    return chosen


def _shares(each: Floats) -> Floats:
    """Probability of each of the weights (..., n) in `_choose`: how many u of 65,536 choose it."""
    reached = each.cumsum(-1)
    total = np.where(
        reached[..., -1:] > 0, reached[..., -1:], 1.0
    )  # of a state that nothing leads to, all are 0
    shares: Floats = np.diff(np.ceil(reached * VALUES / total), axis=-1, prepend=0) / VALUES
    return shares


def _entropy(shares: Floats) -> Floats:
    """Of distributions (..., n), in bits."""
    safe = np.where(shares > 0, shares, 1.0)
    entropy: Floats = -(safe * np.log2(safe) * (shares > 0)).sum(-1)
    return entropy
