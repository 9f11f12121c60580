"""The limit on uploads in work where the HTTP server is not ours."""

import asyncio
import time

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from sfumato.server.auth import ConcurrencyLimit, Tokens
from sfumato.server.gate import Gate
from sfumato.server.telemetry import Telemetry
from sfumato.server.uploads import COMPLETE

TOKENS = Tokens.parse("one 0123456789abcdef-one\ntwo 0123456789abcdef-two", "here")
PAUSE = 0.2


def bearer(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer 0123456789abcdef-{name}"}


class Slow:
    """Reads, then answers when it is told to."""

    def __init__(self, places: int) -> None:
        self.told, self.inside, self.seen = asyncio.Event(), 0, list[bool]()
        self.telemetry, self.limit = Telemetry(), ConcurrencyLimit(places, 1.0)
        app = Starlette(routes=[Route("/", self.answer, methods=["GET", "POST"])])
        app.add_middleware(
            Gate, limit=self.limit, tokens=TOKENS, telemetry=self.telemetry, pause_seconds=PAUSE
        )
        self.client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost")

    async def answer(self, request: Request) -> Response:
        await request.body()
        self.seen.append(hasattr(request.state, COMPLETE))
        self.inside += 1
        await self.told.wait()
        return PlainTextResponse("done")

    async def until_inside(self, count: int) -> None:
        while self.inside < count:
            await asyncio.sleep(0.001)


def test_one_beyond_the_limit_waits_a_moment_for_its_refusal() -> None:
    async def go() -> None:
        slow = Slow(4)  # of which a client that is alone may have two
        working = [
            asyncio.create_task(slow.client.post("/", content=b"x", headers=bearer("one"))) for _ in range(2)
        ]
        await slow.until_inside(2)
        start = time.perf_counter()
        refused = await slow.client.post("/", content=b"x", headers=bearer("one"))
        assert time.perf_counter() - start >= PAUSE
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert refused.json()["type"] == "urn:sfumato:problem:overloaded"
        assert refused.json()["detail"] == "2 requests are in work already"
        assert b'sfumato_refusals_total{kind="overloaded"} 1.0' in slow.telemetry.text()
        other = asyncio.create_task(slow.client.post("/", content=b"x", headers=bearer("two")))
        await slow.until_inside(3)  # another client finds room
        slow.told.set()
        assert [(await task).status_code for task in (*working, other)] == [200, 200, 200]
        assert slow.limit.held == 0
        assert (await slow.client.post("/", content=b"x", headers=bearer("one"))).status_code == 200
        assert slow.seen == [True] * 4  # the deadline counts from the last byte

    asyncio.run(go())


def test_who_reads_or_has_no_token_takes_no_place() -> None:
    async def go() -> None:
        slow = Slow(1)
        nobody = asyncio.create_task(slow.client.post("/", content=b"x"))
        getting = asyncio.create_task(slow.client.get("/", headers=bearer("one")))
        await slow.until_inside(2)
        assert slow.limit.held == 0
        slow.told.set()
        assert [(await task).status_code for task in (nobody, getting)] == [200, 200]

    asyncio.run(go())


def test_a_request_that_fails_gives_its_place_back() -> None:
    async def go() -> None:
        slow = Slow(2)
        slow.told = None  # type: ignore[assignment]
        with pytest.raises(AttributeError):
            await slow.client.post("/", content=b"x", headers=bearer("one"))
        assert slow.limit.held == 0

    asyncio.run(go())
