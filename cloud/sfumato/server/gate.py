"""The limit on uploads in work, as ASGI middleware: for an HTTP server that is not ours, as on Ray Serve.

    app.add_middleware(Gate, limit=ConcurrencyLimit(144, 1.0), tokens=tokens, telemetry=telemetry)

`sfumato serve` has the same limit in its HTTP layer (`http`), where a refusal costs still less. An upload is in work from its
last byte until its answer begins. One beyond the limit gets its 503 before the application sees it, and after a pause: else
refusals to clients that ask again at once would crowd out answers.
"""

import asyncio
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sfumato.server.auth import ConcurrencyLimit, KnownTokens
from sfumato.server.http import overloaded
from sfumato.server.telemetry import Telemetry
from sfumato.server.uploads import COMPLETE

PAUSE_SECONDS = 1.0
"""What the refusal's Retry-After says, too."""


class Gate:
    """Lets as many uploads in as are answered in time.

    Args:
        app: what answers.
        limit: uploads in work, shared by the clients.
        tokens: who the clients are; a request with a token that is not known takes no place, it is refused anyway.
        telemetry: counts the refusals.
        pause_seconds: a refusal comes after this time.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        limit: ConcurrencyLimit,
        tokens: KnownTokens,
        telemetry: Telemetry,
        pause_seconds: float = PAUSE_SECONDS,
    ) -> None:
        self.app, self.limit, self.tokens, self.telemetry = app, limit, tokens, telemetry
        self.pause_seconds = pause_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        client = self._client(scope) if scope["type"] == "http" and scope["method"] == "POST" else None
        if client is None:
            await self.app(scope, receive, send)
        elif self.limit.fits(client):
            await self._work(client, scope, receive, send)
        else:
            refusal = overloaded(f"{self.limit.held:.0f} requests are in work already")
            self.telemetry.refusals.labels("overloaded").inc()
            await asyncio.sleep(self.pause_seconds)
            await refusal(scope, receive, send)

    def _client(self, scope: Scope) -> str | None:
        """The name behind the token."""
        given = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
        return self.tokens.holder(given.decode("latin-1"))

    async def _work(self, client: str, scope: Scope, receive: Receive, send: Send) -> None:
        held, arrived = False, 0.0

        async def read() -> Message:
            nonlocal held, arrived
            message = await receive()
            if message["type"] == "http.request" and not message.get("more_body", False) and not arrived:
                # The deadline counts from here. Bodies that come slowly must not keep others out.
                scope.setdefault("state", {})[COMPLETE] = arrived = time.perf_counter()
                held = self.limit.take(client)
            return message

        async def begin(message: Message) -> None:
            if done():
                self.limit.answered(arrived)
            await send(message)

        def done() -> bool:
            nonlocal held
            had, held = held, False
            if had:
                self.limit.give(client)
            return had

        try:
            await self.app(scope, read, begin)
        finally:
            done()
