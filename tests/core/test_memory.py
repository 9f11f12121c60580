"""The allocator keeps what was freed."""

import os
import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource
from sfumato.core.memory import keep_freed_memory
{call}
for _ in range(50):
    block = bytearray(8 << 20)
    del block
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
"""


def page_faults(call: str) -> int:
    command = [sys.executable, "-c", FAULTS.format(call=call)]
    # A fixed threshold, or glibc learns by itself that this one size comes back.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "131072", "MALLOC_TRIM_THRESHOLD_": "131072"}
    return int(subprocess.run(command, check=True, capture_output=True, env=environment).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the allocator is not glibc's")
def test_freed_blocks_are_used_again() -> None:
    assert page_faults("keep_freed_memory()") * 5 < page_faults("")
