"""Freed memory stays with the process: a training step takes and gives back the same tensors again and again.

By default glibc returns large blocks to the kernel at once, and the kernel clears every page anew: 7 to 17 % of a step of the
cloud network on a CPU (docs/history/log.md). Elsewhere than on glibc nothing happens.

    keep_freed_memory()       # once, before the first large tensor
"""

import ctypes

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
"""M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h."""
LARGEST_BLOCK = 32 << 20
"""The most that glibc accepts: larger blocks are mapped and unmapped as before."""
NEVER = 2**31 - 1


def keep_freed_memory() -> bool:
    """Tell the allocator; whether it took it."""
    try:
        tell = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # no glibc; on Windows, no library of that name
        return False
    return bool(tell(MMAP_THRESHOLD, LARGEST_BLOCK)) and bool(tell(TRIM_THRESHOLD, NEVER))
