"""Hosts and addresses, as they stand in URLs, in Host headers and at the end of a connection.

is_loopback("127.0.0.2")                    # True: this machine alone
authority("::1", 8080)                      # "[::1]:8080"
network_of("2001:db8::7")                   # "2001:db8::/64", one client
"""

import ipaddress
from functools import lru_cache

LONGEST_NAME = 255
"""Characters of a name that can be one; no more are remembered."""


def name_of(host: str) -> str:
    """Of a Host header, without the port."""
    name, _, port = host.rpartition(":")
    return plain(name if port.isdecimal() and (name.endswith("]") or ":" not in name) else host)


def plain(name: str) -> str:
    """Names differ neither by case nor by the root's dot."""
    return name.strip().lower().removesuffix(".")


def is_address(name: str) -> bool:
    """Whether this is an IP address, of IPv6 with or without brackets."""
    return len(name) <= LONGEST_NAME and _is_address(name)


@lru_cache(maxsize=1024)
def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Whether a host is this machine alone: localhost, 127.0.0.0/8 or ::1."""
    name = plain(host)
    if name == "localhost":
        return True
    return is_address(name) and ipaddress.ip_address(name.strip("[]").partition("%")[0]).is_loopback


def authority(host: str, port: int) -> str:
    """HOST:PORT as it stands in a URL: IPv6 in brackets, its zone escaped."""
    return f"[{host.replace('%', '%25')}]:{port}" if ":" in host else f"{host}:{port}"


@lru_cache(
    maxsize=4096
)  # one client asks many times, and to read its address takes longer than to decode a word
def network_of(address: str) -> str:
    """What counts as one client: an IPv4 address, or the /64 of IPv6 that a single customer is given."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address or "unknown"
    if isinstance(found, ipaddress.IPv4Address):
        return str(found)
    if found.ipv4_mapped:
        return str(found.ipv4_mapped)
    return str(ipaddress.ip_network((found, 64), strict=False))
