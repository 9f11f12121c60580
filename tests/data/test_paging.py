"""Pages of memory-mapped pictures: read ahead by the kernel, and given back."""

import ctypes
import mmap
import os
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from sfumato.data.paging import announce, fetch

linux = pytest.mark.skipif(sys.platform != "linux", reason="counts pages by Linux's /proc and mincore")
MEGABYTE = 2**20


def stored(path: Path, count: int = 64, side: int = 512) -> NDArray[np.uint8]:
    """Pictures, of three quarters of a megabyte each, mapped, none of them read."""
    made = np.random.default_rng(0).integers(0, 256, (count, side, side, 3), dtype=np.uint8)
    np.save(path, made)
    handle = os.open(path, os.O_RDONLY)
    os.fsync(handle)
    os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(handle)
    mapped: NDArray[np.uint8] = np.load(path, mmap_mode="r")
    return mapped


def mapped_bytes() -> int:
    """Of files, that count as this process's."""
    status = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in status if line.startswith("RssFile")).split()[1])


def in_memory(images: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Share of the pages of each picture that the kernel has in memory, (N,), whoever read them."""
    start, size = images.ctypes.data, images.nbytes
    page = start - start % mmap.PAGESIZE
    pages = -(-(start + size - page) // mmap.PAGESIZE)
    found = (ctypes.c_ubyte * pages)()
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.mincore(ctypes.c_void_p(page), ctypes.c_size_t(pages * mmap.PAGESIZE), found) == 0
    present = np.frombuffer(bytes(found), dtype=np.uint8) & 1
    parts = np.array_split(present, len(images))
    return np.array([part.mean() for part in parts])


@linux
@pytest.mark.parametrize(("count", "side"), [(64, 512), (600, 170)])
def test_pictures_are_those_asked_for_and_no_page_stays(count: int, side: int, tmp_path: Path) -> None:
    images = stored(tmp_path / "images.npy", count, side)
    whole = np.load(tmp_path / "images.npy")
    assert fetch(images, np.arange(1)).shape == (1, side, side, 3)
    rows = np.random.default_rng(1).permutation(len(images))
    before = mapped_bytes()
    for part in np.split(rows, len(rows) // 8):
        assert (fetch(images, part) == whole[part]).all()
    assert mapped_bytes() - before < 4 * MEGABYTE, "of 48"
    assert (images[3] == fetch(images, np.array([3]))[0]).all(), "what was given back can be read again"


@linux
def test_announced_pictures_are_read_while_nobody_waits(tmp_path: Path) -> None:
    images = stored(tmp_path / "images.npy")
    if in_memory(images).max() > 0.5:
        pytest.skip("this file system keeps what it was told to drop")
    announce(images, np.array([5, 40]))
    end = time.monotonic() + 20
    while in_memory(images)[[5, 40]].min() < 0.95 and time.monotonic() < end:
        time.sleep(0.02)
    present = in_memory(images)
    assert present[[5, 40]].min() >= 0.95
    assert present[[15, 25, 55]].max() < 0.5, "nothing else was read"


def test_arrays_in_memory_and_views_are_left_alone(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (6, 4, 4, 3), dtype=np.uint8)
    np.save(tmp_path / "images.npy", images)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    rows = np.array([4, 1])
    for some in (images, mapped, mapped[::-1][::-1]):
        announce(some, rows)
        assert (fetch(some, rows) == images[rows]).all()
