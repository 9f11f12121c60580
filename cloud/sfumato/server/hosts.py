"""Which names a request may give as its Host: the guard against DNS rebinding.

A page of any website can have its own name lead to 127.0.0.1. Its scripts may then ask whoever listens there, for it is their
own origin. What they cannot change is the Host header, which holds the name. An address or `localhost` cannot be such a name,
so these always pass. Other names pass where `sfumato serve --allow-host NAME` gives them. Where tokens are asked for, such a
page has none, and names are checked only if some are given.

    Middleware(HostCheck, names=("photos.example",))
"""

from collections.abc import Iterable

from starlette.types import ASGIApp, Receive, Scope, Send

from sfumato.server.addresses import is_address, name_of, plain
from sfumato.server.problems import CLOSE, problem_response

KIND = "other-host"


def asked_names(given: tuple[str, ...], *, tokens: bool) -> tuple[str, ...] | None:
    """The names that may be asked for; None: any may, since tokens guard the service and no name is given."""
    return None if tokens and not given else given


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
