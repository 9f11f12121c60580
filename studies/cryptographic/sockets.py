"""Bytes that this process's TCP connections carried, as the kernel counts them (Linux).

Payload only, without headers, acknowledgements or what was sent twice for loss on the way; whatever library opened the sockets.

    before = traffic(); ...; sent, received = (b - a for a, b in zip(before, traffic()))
"""

import os
import socket
import stat
import struct

TCP_INFO_BYTES = 256
RECEIVED, SENT = 128, 200
"""Offsets of tcpi_bytes_received and tcpi_bytes_sent, both u64, in `struct tcp_info` (linux/tcp.h, 4.19 and later)."""


def traffic() -> tuple[int, int]:
    """Bytes sent and received over all TCP connections that are open in this process."""
    sent = received = 0
    for name in os.listdir("/proc/self/fd"):
        info = tcp_info(int(name))
        if len(info) >= SENT + 8:
            sent += struct.unpack_from("<Q", info, SENT)[0]
            received += struct.unpack_from("<Q", info, RECEIVED)[0]
    return sent, received


def tcp_info(descriptor: int) -> bytes:
    """`struct tcp_info` of a descriptor; empty if it is no TCP connection, or gone."""
    try:
        if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
            return b""
        with socket.socket(fileno=os.dup(descriptor)) as connection:
            if connection.family not in (socket.AF_INET, socket.AF_INET6):
                return b""
            return connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TCP_INFO_BYTES)
    except OSError:
        return b""
