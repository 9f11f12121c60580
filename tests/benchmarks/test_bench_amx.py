"""Linux refuses AMX to a process that asked it to, and nothing else."""

import platform
import subprocess
import sys

import pytest

from sfumato.bench import amx
from sfumato.errors import UsageError

ASKING = """
import ctypes, errno, sys
from sfumato.bench.amx import ARCH_PRCTL, REQUEST_PERMISSION, refuse_amx
libc = ctypes.CDLL(None, use_errno=True)
def ask(request):
    return 0 if libc.syscall(ARCH_PRCTL, request, 18) == 0 else ctypes.get_errno()
before = ask(REQUEST_PERMISSION)
assert before != errno.EPERM, before
refuse_amx()
assert ask(REQUEST_PERMISSION) == errno.EPERM
assert ask(0x1022) != errno.EPERM  # which permissions it has
print(open("/proc/self/status").read().count("Seccomp:"))
"""


@pytest.mark.skipif(
    (platform.system(), platform.machine()) != ("Linux", "x86_64"),
    reason="AMX is of x86-64, the filter of Linux",
)
def test_permission_is_refused_from_then_on() -> None:
    done = subprocess.run([sys.executable, "-c", ASKING], capture_output=True, text=True, check=False)
    if "AMX cannot be refused" in done.stderr:
        pytest.skip("this kernel takes no filters")
    assert done.returncode == 0, done.stderr


def test_elsewhere_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "arm64")
    with pytest.raises(UsageError, match="Linux and x86-64 only"):
        amx.refuse_amx()
