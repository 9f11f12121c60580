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
from collections.abc import Iterator, Sequence
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

TOGETHER = 32
"""Pictures that are drawn together, at most."""
MOST_SUMS = 2**24
"""Numbers of 8 bytes that are kept of pictures drawn together."""
CACHED = 2**16
"""Numbers of 8 bytes that a processor's cache holds beside others."""

Numbers = NDArray[np.int64]
Floats = NDArray[np.float64]

_SHARES = np.arange(1, VALUES + 1) / VALUES
ENTROPY: Floats = np.concatenate([[0.0], -_SHARES * np.log2(_SHARES)])
"""`-s log2 s` of s = 0 .. 65536 of 65,536, in bits."""


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

    def chances(self, q: Bytes) -> Floats:
        """What every bit counts as being one with, (..., H, W, planes), at least 2^-10 and at most 1 - 2^-10; exact.

        Args:
            q: probabilities in 1/256, (..., H, W, planes).
        """
        ones = q.astype(np.float64)
        if self.gray:
            ones[q == CERTAIN] = 256
        return np.asarray(np.clip(ones, LEAST, 256 - LEAST) / 256)  # exact, as is 1 minus it

    def draw(self, q: Bytes, noise: Bytes) -> bytes:
        """Draw the index of one picture.

        Args:
            q: probabilities in 1/256, (H, W, planes).
            noise: `noise_bytes` of them.

        Raises:
            SfumatoError: another shape, or another number of noise bytes.
        """
        return self.draw_many(q[None], noise[None])[0]

    def draw_many(self, q: Bytes, noise: Bytes) -> list[bytes]:
        """The index of each of N pictures, each the same as alone.

        Args:
            q: probabilities in 1/256, (N, H, W, planes).
            noise: (N, `noise_bytes`).

        Raises:
            SfumatoError: another shape, or another number of noise bytes.
        """
        shape = (self.height, self.width, self.planes)
        if q.shape[1:] != shape or noise.shape != (len(q), self.noise_bytes):
            raise SfumatoError(
                f"an index is drawn from {self.height} x {self.width} x {self.planes} probabilities and "
                f"{self.noise_bytes} noise bytes"
            )
        return [index for part in self._parts(len(q)) for index in self._draw(q[part], noise[part])]

    def exact_bits(self, q: Bytes) -> float:
        """`B - H(w)` of one picture, q (H, W, planes): the most that its index tells, in bits; exact."""
        return float(self._law(q[None], means=False)[0][0])

    def exact_law(self, q: Bytes) -> tuple[Floats, Floats]:
        """What is known of the draw of N pictures before it is made; exact.

        Args:
            q: probabilities in 1/256, (N, H, W, planes).

        Returns:
            `exact_bits` of each, (N,), and the probability that a bit of its entry is one, (N, H, W, planes).
        """
        found = [self._law(q[part], means=True) for part in self._parts(len(q))]
        return np.concatenate([bits for bits, _ in found]), np.concatenate([means for _, means in found])

    def log_sums(self, chances: Floats, power: int | None = None) -> Floats:
        """Natural logarithm of the sum of the weights of all entries, (N,): what `log_weight` is short of log P(entry).

        Args:
            chances: probability that a bit is one, above 0 and below 1, (N, H, W, planes).
            power: of the weights; by default the code's.
        """
        found: list[Floats] = []
        for part in self._parts(len(chances)):
            sums, twos = self._forward(self._weights(chances[part], power or self.power), keep=False)
            found.append(np.atleast_1d(np.log(sums[-1].sum(0)) + math.log(2) * twos))
        return np.concatenate(found)

    def levels(self, index: bytes) -> Bytes:
        """The entry of the book, as levels (H, W, 3) of the channel.

        Raises:
            DataError: another length, or the last byte is not filled with zeros.
        """
        found: Bytes = self.levels_of_many([index])[0]
        return found

    def levels_of_many(self, indices: Sequence[bytes]) -> Bytes:
        """The entries of N indices, (N, H, W, 3).

        Raises:
            DataError: as `levels`.
        """
        for index in indices:
            if len(index) != self.size:
                raise DataError(f"the index has {len(index)} bytes; this model takes {self.size}")
        content = np.frombuffer(b"".join(indices), dtype=np.uint8).reshape(len(indices), self.size)
        given = np.unpackbits(content, axis=1).T.astype(np.int64)
        if given[self.bits :].any():
            raise DataError("the index's last byte is not filled with zeros")
        # Before the first bit stands the first state, 0.
        digits = np.concatenate([np.zeros((self.memory, len(indices)), np.int64), given[: self.bits]])
        taken = np.diff(self.ends)
        register = np.zeros((self.steps, len(indices)), np.int64)
        for bit in range(self.memory + int(taken.max())):
            inside = bit < self.memory + taken
            place = np.maximum(self.ends[1:] + self.memory - 1 - bit, 0)
            register |= np.where(inside[:, None], digits[place], 0) << bit
        found = np.empty((len(indices), self.steps), dtype=np.uint8)
        found[:, self.order] = book(np.arange(self.steps)[:, None], register, self.planes).T
        planes = (found[..., None] >> np.arange(self.planes) & 1).astype(np.uint8)
        drawn: Bytes = planes.reshape(len(indices), self.height, self.width, self.planes // 3, 3)
        levels: Bytes = drawn[..., 0, :]
        for plane in range(1, self.planes // 3):
            bit_ = drawn[..., plane, :] ^ (levels & np.uint8(1)) if self.gray else drawn[..., plane, :]
            levels = (levels << np.uint8(1)) | bit_
        return levels

    def _parts(self, count: int) -> Iterator[slice]:
        """So many of `count` pictures at once as have `MOST_SUMS` sums, `TOGETHER` at most."""
        size = max(1, min(TOGETHER, MOST_SUMS // (self.states * (self.steps + 1))))
        for start in range(0, count, size):
            yield slice(start, min(start + size, count))

    def _taken(self, step: int) -> int:
        """Bits of the index that a step takes."""
        return int(self.ends[step + 1] - self.ends[step])

    @cached_property
    def _books(self) -> dict[int, Bytes]:
        return {}

    def _book(self, step: int) -> Bytes:
        """The value of a step's pixel for every register: (2^bits, states), register `state + states * i` at [i, state]."""
        found = self._books.get(step)
        if found is None:
            registers = np.arange(self.states << self._taken(step)).reshape(-1, self.states)
            found = book(step, registers, self.planes)
            if self.steps << self.memory + INDEX_BITS_A_PIXEL <= MOST_SUMS:  # else as large as what it saves
                self._books[step] = found
        return found

    def _weights(self, chances: Floats, power: int) -> Floats:
        """Weight of every value of every pixel, by step, above 0, at most 1: (T, 2^planes, N); (T, 2^planes) for one picture.

        Args:
            chances: probability that a bit is one, (N, H, W, planes).
            power: to which it is taken.
        """
        count = len(chances)
        tail = () if count == 1 else (count,)  # numpy is twice as fast without an axis of one
        ones = chances.reshape(count, self.steps, self.planes)[:, self.order].transpose(1, 2, 0)
        ones = ones.reshape(self.steps, self.planes, *tail)
        weights = np.empty((self.steps, 1 << self.planes, *tail))
        weights[:, 0] = 1
        for plane in range(self.planes):
            one, half = ones[:, plane, None], 1 << plane
            np.multiply(weights[:, :half], one, out=weights[:, half : 2 * half])
            weights[:, :half] *= 1 - one
        if power == 2:
            weights *= weights
        return weights

    def _forward(self, weights: Floats, *, keep: bool = True) -> tuple[Floats, Numbers]:
        """Sums before every step and after the last, of every state, each scaled to at most 1.

        Args:
            weights: (T, 2^planes, ...) of `_weights`.
            keep: whether all are wanted, or the last alone.

        Returns:
            (T + 1, states, ...), or (1, states, ...); and by which power of two the last were divided, (...).
        """
        tail, states = weights.shape[2:], self.states
        count = math.prod(tail)
        sums = np.zeros((self.steps + 1 if keep else 2, states, *tail))
        sums[0, 0] = 1
        twos = np.zeros(tail, dtype=np.int64)
        for step in range(self.steps):
            values, ways = self._book(step), 1 << self._taken(step)
            before = sums[step if keep else step % 2].reshape(ways, states // ways, 1, *tail)
            after = sums[step + 1 if keep else 1 - step % 2]
            # As many ways at once as fit into the processor's cache.
            size = max(1, min(ways, CACHED // (states * count)))
            for start in range(0, ways, size):
                each = weights[step].take(values[start : start + size], axis=0)
                each.reshape(-1, states // ways, ways, *tail)[:] *= before[start : start + size]
                for i in range(len(each)):  # numpy's own sum adds in an order that depends on the processor
                    if start + i:
                        after += each[i]
                    else:
                        after[:] = each[i]
            exponent = np.frexp(after.max(0))[1]
            after *= np.ldexp(1.0, -exponent)
            twos += exponent
        return (sums if keep else sums[self.steps % 2][None]), twos

    def _draw(self, q: Bytes, noise: Bytes) -> list[bytes]:
        """`draw_many` of few pictures."""
        weights = self._weights(self.chances(q), self.power)
        sums, _ = self._forward(weights)
        count = len(q)
        sums, weights = sums.reshape(*sums.shape[:2], count), weights.reshape(*weights.shape[:2], count)
        rows = np.arange(count)
        u = np.ascontiguousarray(noise).view("<u2").astype(np.int64)
        state = _choose(sums[-1], u[:, 0])
        digits = np.zeros((count, self.bits), dtype=np.uint8)
        for step in range(self.steps - 1, -1, -1):
            taken = self._taken(step)
            registers = state + self.states * np.arange(1 << taken)[:, None]
            values = self._book(step).reshape(-1)[registers]
            each = sums[step][registers >> taken, rows] * weights[step][values, rows]
            register = registers[_choose(each, u[:, self.steps - step]), rows]
            for bit in range(taken):
                digits[:, self.ends[step + 1] - 1 - bit] = register >> bit & 1
            state = register >> taken
        return [packed.tobytes() for packed in np.packbits(digits, axis=1)]

    def _law(self, q: Bytes, *, means: bool) -> tuple[Floats, Floats]:
        """`exact_law` of few pictures: back through the sums with the probability of every state, as a draw goes with one.

        Without `means` these stay 0.
        """
        weights, count, states = self._weights(self.chances(q), self.power), len(q), self.states
        sums, _ = self._forward(weights)
        sums, weights = sums.reshape(*sums.shape[:2], count), weights.reshape(*weights.shape[:2], count)
        parts = _parts_of(sums[-1].copy())
        reached, entropy = parts / VALUES, ENTROPY[parts].sum(0)
        ones = np.zeros((self.steps, self.planes, count))
        for step in range(self.steps - 1, -1, -1):
            values, ways = self._book(step), 1 << self._taken(step)
            each = weights[step].take(values, axis=0)
            each.reshape(ways, states // ways, ways, count)[:] *= sums[step].reshape(ways, -1, 1, count)
            parts = _parts_of(each)
            entropy += (reached * ENTROPY[parts].sum(0)).sum(0)
            mass = reached * (parts / VALUES)
            if means:
                bits = (values.reshape(-1) >> np.arange(self.planes)[:, None] & 1).astype(np.float64)
                ones[step] = bits @ mass.reshape(-1, count)
            reached = mass.reshape(states, ways, count).sum(1)
        pixels = np.empty((count, self.steps, self.planes))
        pixels[:, self.order] = ones.transpose(2, 0, 1)
        return self.bits - entropy, pixels.reshape(count, self.height, self.width, self.planes)


@cache
def _made(height: int, width: int, planes: int, bits: int, gray: bool, power: int, memory: int) -> IndexCode:
    """A code once for all uploads of a service: it keeps what it computes of its book."""
    return IndexCode(height, width, planes, bits, gray, power, memory)


def _choose(each: Floats, u: Numbers) -> Numbers:
    """The first of weights (n, N) whose cumulative sum is above `u total / 65536`, for u (N,) of 0 .. 65535: (N,)."""
    reached = each.cumsum(0)
    place = u * reached[-1] / VALUES
    chosen: Numbers = (reached <= place).sum(0)
    return chosen


def _parts_of(each: Floats) -> Numbers:
    """How many u of 65,536 choose each of the weights (n, ...) in `_choose`; `each` is overwritten."""
    for i in range(1, len(each)):  # several times as fast as numpy's own along this axis, and the same
        each[i] += each[i - 1]
    total = np.where(each[-1] > 0, each[-1], 1.0)  # of a state that nothing leads to, all are 0
    each *= VALUES
    each /= total
    upto = np.ceil(each, out=each).astype(np.int64)
    upto[1:] -= upto[:-1].copy()
    return upto
