"""Which names a request may give as its Host: the guard against DNS rebinding.

A page of any website can have its own name lead to 127.0.0.1, and its scripts may then ask whoever listens there, for it is their
own origin. What they cannot change is the Host header, which holds the name. An address or `localhost` cannot be such a name, so
these always pass; other names pass where `sfumato serve --allow-host NAME` gives them. Where tokens are asked for, such a page
has none, and names are checked only if some are given.

    Middleware(HostCheck, names=("photos.example",))
"""

import ipaddress
from collections.abc import Iterable

from starlette.types import ASGIApp, Receive, Scope, Send

from sfumato.server.problems import CLOSE, problem_response

KIND = "other-host"


class HostCheck:
    """ASGI middleware: requests under other names are refused."""

    def __init__(self, app: ASGIApp, names: Iterable[str] = ()) -> None:
        self.app, self.names = app, frozenset(map(plain, names))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] == "http" and not self.passes(scope):
            state = scope.setdefault("state", {})
            state["problem"] = KIND
            detail = "this name is not the service's: ask for its address, or start it with --allow-host NAME"
            refusal = problem_response(
                KIND, detail, headers=CLOSE, request_id=str(state.get("request_id", ""))
            )
            await refusal(scope, receive, send)
            return
        await self.app(scope, receive, send)

    def passes(self, scope: Scope) -> bool:
        """Whether the request has one Host, and a good one; HTTP/1.0 knows no Host, and no browser speaks it."""
        given = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
        if not given:
            return str(scope.get("http_version")) == "1.0"
        name = name_of(given[0])
        return len(given) == 1 and (name == "localhost" or is_address(name) or name in self.names)


def name_of(host: str) -> str:
    """Of a Host header, without the port."""
    name, _, port = host.rpartition(":")
    return plain(name if port.isdecimal() and (name.endswith("]") or ":" not in name) else host)


def plain(name: str) -> str:
    """Names differ neither by case nor by the root's dot."""
    return name.strip().lower().removesuffix(".")


def is_address(name: str) -> bool:
    """Whether this is an IP address, of IPv6 with or without brackets."""
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
