"""Measuring without AMX on a processor that has it.

No phone has such matrix tiles, and XNNPACK's int8 kernels for them are made for large products: a network as small as ours
takes up to twice as long with them as with dot products (docs/benchmarks.md). A program must ask Linux before it may use
them (`arch_prctl(ARCH_REQ_XCOMP_PERM)`, Linux 5.16), so it is enough that Linux says no.

    refuse_amx()        # before the first model is opened; holds for this process and its children
"""

import ctypes
import os
import platform
import struct

from sfumato.core.errors import UsageError

NO_NEW_PRIVILEGES, SET_SECCOMP, FILTER = 38, 22, 2
"""Of `prctl(2)`."""
ARCH_PRCTL, REQUEST_PERMISSION = 158, 0x1023
"""The system call on x86-64, and its first argument."""
LOAD, EQUAL, RETURN = 0x20, 0x15, 0x06
"""Instructions of the filter (BPF)."""
NUMBER, FIRST_ARGUMENT = 0, 16
"""Where the filter finds both (`struct seccomp_data`)."""
REFUSED, ALLOWED = 0x00050001, 0x7FFF0000
"""EPERM instead of the call, and the call itself."""

PROGRAM = (
    (LOAD, 0, 0, NUMBER),
    (EQUAL, 0, 3, ARCH_PRCTL),
    (LOAD, 0, 0, FIRST_ARGUMENT),
    (EQUAL, 0, 1, REQUEST_PERMISSION),
    (RETURN, 0, 0, REFUSED),
    (RETURN, 0, 0, ALLOWED),
)
"""Instructions: code, jump if true, jump if false, operand."""


class _Program(ctypes.Structure):
    """`struct sock_fprog`."""

    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def refuse_amx() -> None:
    """Have Linux refuse AMX to this process from now on; it cannot be taken back.

    Raises:
        UsageError: not Linux on x86-64, or the kernel takes no filters.
    """
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        raise UsageError("AMX can be refused on Linux and x86-64 only")
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *line) for line in PROGRAM))
    program = _Program(len(PROGRAM), ctypes.addressof(code))
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    for arguments in ((NO_NEW_PRIVILEGES, 1, 0, 0, 0), (SET_SECCOMP, FILTER, ctypes.byref(program))):
        if prctl(*arguments):
            raise UsageError(f"AMX cannot be refused ({os.strerror(ctypes.get_errno())})")
