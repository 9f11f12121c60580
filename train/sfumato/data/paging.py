"""Which pages of memory-mapped pictures the kernel should read ahead, and which this process is done with.

A map larger than memory is read where it is touched, and every touched page counts as the process's own until it is told
otherwise. A batch of shuffled pictures is announced one batch before it is needed: the kernel reads it from the disk while the
processor computes, without a thread. After it was copied its pages leave the process. They stay in the kernel's cache for as
long as there is room.

    announce(dataset.images, rows_of_the_next_batch)
    batch = fetch(dataset.images, rows)
"""

import mmap

import numpy as np
from numpy.typing import NDArray

from sfumato.data.dataset import Ints


def announce(images: NDArray[np.uint8], rows: Ints) -> None:
    """Let the kernel begin to read pictures from the disk; returns at once. Nothing happens for arrays in memory.

    Args:
        images: (N, H, W, 3).
        rows: (n,) which of them are needed soon.
    """
    mapped, advice = _map(images), getattr(mmap, "MADV_WILLNEED", None)
    if mapped is None or advice is None:
        return
    assert isinstance(images, np.memmap)
    first, size = images.offset % mmap.ALLOCATIONGRANULARITY, images.strides[0]
    for row in rows.tolist():
        begin = first + row * size
        start = begin - begin % mmap.PAGESIZE
        mapped.madvise(advice, start, begin + size - start)


def fetch(images: NDArray[np.uint8], rows: Ints) -> NDArray[np.uint8]:
    """A copy of some pictures (n, H, W, 3); no page of the whole array then belongs to this process."""
    found: NDArray[np.uint8] = np.asarray(images)[rows]
    mapped, advice = _map(images), getattr(mmap, "MADV_DONTNEED", None)
    if mapped is not None and advice is not None:
        # All of it: beside a page that is touched the kernel maps others that it has at hand, and how many is its own affair.
        mapped.madvise(advice)
    return found


def _map(images: NDArray[np.uint8]) -> mmap.mmap | None:
    """What an array is mapped from, if it is the whole of it: a view begins elsewhere. None: it lies in memory."""
    mapped = images.base
    return mapped if isinstance(images, np.memmap) and isinstance(mapped, mmap.mmap) else None
