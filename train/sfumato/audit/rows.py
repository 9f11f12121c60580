"""How an audit keeps what it computes for every image: in as few bytes as are exact, and from some megabytes on in a file.

Uploads of a dither channel are whole levels, log2(levels) bits a sample. The shipped model's probabilities are q / 256, one
byte. Whatever is not so is float16. Many rows are written into a file that has no name: it is gone when the process is, however
that ends, and the system may take back the memory that its pages fill.

    kept = keep(count, parts, divisor={"p": 256})     # parts: {"p": (n, C, H, W)}, one after the other
    kept["p"][rows].float()                        # what `parts` were, rounded to float16
"""

import io
import math
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sfumato.core.errors import SfumatoError
from sfumato.core.failures import reason
from sfumato.data.cache import cache_folder

IN_MEMORY = 64 * 2**20
"""Bytes that are kept in memory; more go into a file."""
NUMBERS = 2**25
"""Numbers of a part, at most, where all rows would be too many at once: 128 MB of float32."""


class Shaped(Protocol):
    """Anything with rows of one shape."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, ...)."""
        ...


class Numbers(Protocol):
    """What attacks need of the numbers of many images: `Rows`, or a tensor."""

    @property
    def shape(self) -> torch.Size:
        """(N, planes, H, W), or (N, features)."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Any) -> "Numbers":
        """Some of them, by a slice or by row numbers."""
        ...

    def float(self) -> Tensor:
        """As a tensor."""
        ...


Kept = Mapping[str, Numbers]
"""Channel parameters of many images."""


class Rows:
    """Numbers (N, ...) of float16 precision, packed; a selection of rows is cheap until it is asked for as a tensor."""

    def __init__(
        self, packed: NDArray[np.uint8], shape: torch.Size, divisor: int, channels_last: bool
    ) -> None:
        """
        Args:
            packed: (N, bytes of a row).
            shape: of one row.
            divisor: a number is a whole one of 8 bits at most over this; 0: it is a float16.
            channels_last: how a row lies in memory.
        """
        self.packed, self.row_shape, self.divisor, self.channels_last = packed, shape, divisor, channels_last

    @property
    def shape(self) -> torch.Size:
        """(N, planes, H, W), or (N, features)."""
        return torch.Size((len(self.packed), *self.row_shape))

    def __len__(self) -> int:
        return len(self.packed)

    def __getitem__(self, rows: Any) -> "Rows":
        """The rows of a slice, or of row numbers (n,)."""
        index = rows.cpu().numpy() if isinstance(rows, Tensor) else rows
        return Rows(self.packed[index], self.row_shape, self.divisor, self.channels_last)

    def float(self, device: torch.device | None = None) -> Tensor:
        """As float32; packed bytes travel to `device` and are unpacked there."""
        count, size = len(self), math.prod(self.row_shape)
        packed = torch.from_numpy(self.packed).to(device)
        if self.divisor:
            # The same two roundings as on the way in: a third is what float16 makes of it.
            flat = unpack(packed, sample_bits(self.divisor), size).float().div_(self.divisor).half().float()
        else:
            flat = packed.view(torch.float16).float()
        if not self.channels_last:
            return flat.view(count, *self.row_shape)
        planes, height, width = self.row_shape
        return flat.view(count, height, width, planes).permute(0, 3, 1, 2)


def sample_bits(divisor: int) -> int:
    """Bits that hold 0..divisor: 1, 2, 4, or 8 at most, which the shipped bytes q of q / 256 fit into.

    >>> [sample_bits(divisor) for divisor in (1, 3, 15, 256)]
    [1, 2, 4, 8]
    """
    return min(8, 1 << (divisor.bit_length() - 1).bit_length())


def unpack(packed: Tensor, bits: int, size: int) -> Tensor:
    """Bytes (n, bytes) -> whole numbers (n, size), `bits` each, the first in the highest bits."""
    if bits == 8:
        return packed
    shifts = torch.arange(8 - bits, -1, -bits, dtype=torch.uint8, device=packed.device)
    samples = (packed[:, :, None] >> shifts) & (2**bits - 1)
    flat: Tensor = samples.flatten(1)[:, :size]
    return flat


def pack(samples: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    """Whole numbers (n, size) below 2^bits -> bytes (n, bytes)."""
    if bits == 8:
        return samples
    each = 8 // bits
    padded = np.pad(samples, ((0, 0), (0, -samples.shape[1] % each))).reshape(len(samples), -1, each)
    shifts = np.arange(8 - bits, -1, -bits, dtype=np.uint8)
    packed: NDArray[np.uint8] = np.bitwise_or.reduce(padded << shifts, axis=2)
    return packed


def whole(values: Tensor, divisor: int) -> Tensor | None:
    """The whole numbers, uint8, that these values are over `divisor`; None if they are not, or do not fit."""
    if not divisor:
        return None
    near = (values.float() * divisor).round()
    fits = bool(near.min() >= 0) and bool(near.max() < 2 ** sample_bits(divisor))
    return near.byte() if fits and torch.equal((near / divisor).half(), values.half()) else None


class Writer:
    """Rows that are written one part after the other; `rows` ends it."""

    def __init__(self, count: int, like: Tensor, divisor: int) -> None:
        self.shape, self.divisor = like.shape[1:], divisor
        size = math.prod(self.shape)
        self.row_bytes = -(-size * sample_bits(divisor) // 8) if divisor else 2 * size
        self.channels_last = not like.is_contiguous() and like.is_contiguous(
            memory_format=torch.channels_last
        )
        self.scratch = Scratch(count * self.row_bytes)

    def append(self, values: Tensor, samples: Tensor | None) -> None:
        """Values (n, ...), and the whole numbers that they are over the divisor, if there is one."""
        part = values.half() if samples is None else samples
        if self.channels_last:
            part = part.permute(0, 2, 3, 1)
        flat = part.contiguous().flatten(1).numpy()
        self.scratch.write(flat if samples is None else pack(flat, sample_bits(self.divisor)))

    def rows(self) -> Rows:
        """What was written."""
        packed = self.scratch.array().reshape(-1, self.row_bytes)
        return Rows(packed, self.shape, self.divisor, self.channels_last)


@contextmanager
def scratch_space() -> Iterator[Path]:
    """The folder of scratch files.

    Raises:
        SfumatoError: the system refused to write there.
    """
    folder = cache_folder()
    try:
        yield folder
    except OSError as error:
        raise SfumatoError(
            f"cannot keep the audit's numbers in {folder} ({reason(error)}): make room there, or set SFUMATO_CACHE to a folder "
            "that has some"
        ) from None


class Scratch:
    """Bytes that are written one after the other, then read as an array."""

    def __init__(self, size: int) -> None:
        self.stream: IO[bytes] = io.BytesIO()
        if size > IN_MEMORY:
            with scratch_space() as folder:
                folder.mkdir(parents=True, exist_ok=True)
                self.stream = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  # the map outlives any block

    def write(self, values: NDArray[Any]) -> None:
        """Append the bytes of an array."""
        with scratch_space():
            self.stream.write(np.ascontiguousarray(values).data.cast("B"))

    def array(self) -> NDArray[np.uint8]:
        """All bytes, without a copy."""
        if isinstance(self.stream, io.BytesIO):
            return np.frombuffer(self.stream.getbuffer(), np.uint8)
        with scratch_space(), self.stream:
            self.stream.flush()
            return np.asarray(np.memmap(self.stream, np.uint8, mode="c"))


def keep(count: int, parts: Iterable[Mapping[str, Tensor]], *, divisor: Mapping[str, int]) -> dict[str, Rows]:
    """Write the numbers of `count` images, part by part.

    Args:
        count: images of all parts together, at least 1.
        parts: name -> (n, ...) numbers of the next images, on the CPU.
        divisor: name -> numbers are probably whole ones over this, and kept so if they all are; else as float16.

    Raises:
        SfumatoError: the disk is full, for instance.
    """
    writers: dict[str, Writer] = {}
    for part in parts:
        for name, values in part.items():
            writer = writers.get(name)
            samples = whole(values, divisor.get(name, 0) if writer is None else writer.divisor)
            if writer is None or (writer.divisor and samples is None):
                before, writer = (
                    writer,
                    Writer(count, values, divisor.get(name, 0) if samples is not None else 0),
                )
                writers[name] = writer
                for old in () if before is None else in_parts(before.rows()):
                    writer.append(old, None)
            writer.append(values, samples)
    return {name: writer.rows() for name, writer in writers.items()}


class Gathered:
    """float32 numbers of a whole split, which come a batch at a time, as one tensor; many lie in a file."""

    def __init__(self, count: int) -> None:
        self.count, self.shape = count, torch.Size()
        self.scratch: Scratch | None = None

    def append(self, images: Tensor) -> None:
        """Those of the next images (n, ...)."""
        if self.scratch is None:
            self.shape = images.shape[1:]
            self.scratch = Scratch(4 * self.count * math.prod(self.shape))
        self.scratch.write(images.float().contiguous().numpy())

    def tensor(self) -> Tensor:
        """All of them, (count, ...)."""
        assert self.scratch is not None  # something was appended
        return torch.from_numpy(self.scratch.array().view(np.float32)).view(self.count, *self.shape)


def in_parts(rows: Numbers, size: int = 256) -> Iterator[Tensor]:
    """Numbers as tensors, `size` rows at a time."""
    for start in range(0, len(rows), size):
        yield rows[start : start + size].float()


def at_once(numbers: Shaped, most: int, limit: int = NUMBERS) -> int:
    """How many rows are worked on at once: `most`, or as many as have `limit` numbers, at least one."""
    return max(1, min(most, limit // max(1, math.prod(numbers.shape[1:]))))


def floats(
    parameters: Kept, rows: Any = slice(None), device: torch.device | None = None
) -> dict[str, Tensor]:
    """Parameters of some images as tensors, on the CPU or on a device."""
    out = {}
    for name, value in parameters.items():
        found = value[rows]
        out[name] = found.float(device) if isinstance(found, Rows) else found.float().to(device)
    return out
