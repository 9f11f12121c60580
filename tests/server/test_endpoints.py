"""Every check that an endpoint declares is reached, in its order, and stands in the OpenAPI document."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from tests.server.conftest import KEY

from sfumato.runtime.phone_model import PhoneModel
from sfumato.runtime.upload_codec import pack
from sfumato.server.app import create_app
from sfumato.server.auth import AccessControl, RateLimitConfig, Tokens
from sfumato.server.batching import BatchConfig, Batcher
from sfumato.server.client import Client
from sfumato.server.endpoints import Check, Endpoint, document
from sfumato.server.gateway import GatewayConfig, create_gateway
from sfumato.server.model import CloudModel
from sfumato.server.page import Page
from sfumato.server.predict import PredictionService, Result
from sfumato.server.problems import HANDLERS, KINDS, ProblemError
from sfumato.server.telemetry import Telemetry, Watch

TOKEN = "0123456789abcdef-app"
TOKENS = Tokens.parse(f"app {TOKEN}\nmetrics {TOKEN}-m", "the test")
GOOD = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture
def service(bundle: Path, model: CloudModel) -> Starlette:
    return create_app(model, None, TOKENS, Page.load(bundle, model.contract))


@pytest.fixture
def gateway(phone: PhoneModel) -> Starlette:
    return create_gateway(Client(phone, "http://127.0.0.1:9"), lambda: KEY, None, TOKENS)


def endpoints(app: Starlette) -> dict[str, Endpoint]:
    return {endpoint.path: endpoint for endpoint in app.state.endpoints}


def ask(
    app: Starlette, endpoint: Endpoint, headers: Mapping[str, str], content: bytes = b""
) -> httpx.Response:
    """Through the whole application, whose batcher is not started."""

    async def go() -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.request(endpoint.method, endpoint.path, headers=headers, content=content)

    return asyncio.run(go())


@dataclass(frozen=True)
class Case:
    """Headers on which one check refuses; those before it let the request pass."""

    headers: Mapping[str, str]
    expected: str


PACKED = {"Content-Type": "application/vnd.sfumato.packed"}
BATCH = {"Content-Type": "application/vnd.sfumato.packed-batch"}
OTHER = {"Sfumato-Contract": "0" * 64}
TEXT = {"Content-Type": "text/plain"}

SERVICE = {
    ("/v1/predict", "token"): Case({}, "unauthorized"),
    ("/v1/predict", "contract"): Case({**GOOD, **OTHER}, "other-contract"),
    ("/v1/predict", "type"): Case({**GOOD, **TEXT}, "wrong-type"),
    ("/v1/predict/batch", "token"): Case({}, "unauthorized"),
    ("/v1/predict/batch", "contract"): Case({**GOOD, **OTHER}, "other-contract"),
    ("/v1/predict/batch", "type"): Case({**GOOD, **PACKED}, "wrong-type"),
    ("/v1/predict/batch", "length"): Case({**GOOD, **BATCH, "Content-Length": "1"}, "not-an-upload"),
    ("/metrics", "monitor"): Case(GOOD, "unauthorized"),
}
GATEWAY = {
    ("/v1/photo", "token"): Case({}, "unauthorized"),
    ("/v1/photo", "type"): Case({**GOOD, **TEXT}, "wrong-type"),
    ("/metrics", "monitor"): Case(GOOD, "unauthorized"),
}
BUSY = {
    ("/v1/predict", "rate"),
    ("/v1/predict", "queue"),
    ("/v1/predict/batch", "rate"),
    ("/v1/predict/batch", "queue"),
    ("/v1/photo", "rate"),
}
"""Refuse for what other requests did: below, each with a test of its own."""


def check(app: Starlette, cases: Mapping[tuple[str, str], Case], base: Mapping[str, str]) -> None:
    """Each case is refused by its check, as the document says."""
    described = document("test", "", app.state.endpoints)["paths"]
    for (path, name), case in cases.items():
        endpoint = endpoints(app)[path]
        response = ask(app, endpoint, {**base, **case.headers})
        (declared,) = (one for one in endpoint.checks if one.name == name)
        kind = response.json()["type"].removeprefix("urn:sfumato:problem:")
        assert (response.status_code, kind) == (KINDS[case.expected][0], case.expected), (path, name)
        assert kind in declared.refusals
        operation = described[path][endpoint.method.lower()]
        examples = operation["responses"][str(response.status_code)]["content"]["application/problem+json"][
            "examples"
        ]
        assert kind in examples


def test_each_check_of_the_service_refuses(service: Starlette, model: CloudModel) -> None:
    check(service, SERVICE, {"Sfumato-Contract": model.contract_digest})


def test_each_check_of_the_gateway_refuses(gateway: Starlette) -> None:
    check(gateway, GATEWAY, {})


def test_no_check_is_left_out(service: Starlette, gateway: Starlette) -> None:
    declared = {
        (endpoint.path, one.name)
        for app in (service, gateway)
        for endpoint in app.state.endpoints
        for one in endpoint.checks
    }
    assert declared == {*SERVICE, *GATEWAY, *BUSY}


def app_of(service: PredictionService) -> Starlette:
    """The prediction endpoints alone, around a batcher that the test holds."""
    app = Starlette(routes=[one.route for one in service.endpoints], exception_handlers=HANDLERS)
    app.add_middleware(Watch, telemetry=service.telemetry)
    app.state.endpoints = service.endpoints
    return app


@pytest.mark.parametrize("path", ["/v1/predict", "/v1/predict/batch"])
def test_the_rate_is_counted_and_the_queue_is_bounded(
    path: str, model: CloudModel, phone: PhoneModel, pictures: list[NDArray[np.uint8]]
) -> None:
    levels = phone.perturb(pictures[0], key=KEY).levels
    kind = PACKED if path == "/v1/predict" else BATCH
    headers = {**GOOD, **kind, "Sfumato-Contract": model.contract_digest}

    async def go() -> list[tuple[int, str]]:
        batcher: Batcher[Any, Result] = Batcher(
            model.predict, BatchConfig(queue=1)
        )  # not started: what waits stays
        access = AccessControl(TOKENS, RateLimitConfig(per_second=0.01, burst=1))
        service = PredictionService(model, batcher, access, Telemetry(), body_seconds=5)
        waiting = asyncio.create_task(batcher.submit([levels]))
        await asyncio.sleep(0)
        found = []
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app_of(service)), base_url="http://test"
        ) as client:
            for _ in range(2):
                response = await client.post(path, headers=headers, content=pack(levels, bits=1))
                found.append((response.status_code, response.json()["type"].rpartition(":")[2]))
        waiting.cancel()
        return found

    assert asyncio.run(go()) == [(503, "overloaded"), (429, "too-many")]


def test_the_gateway_counts_photos(phone: PhoneModel) -> None:
    config = GatewayConfig(rate=RateLimitConfig(per_second=0.01, burst=1))
    app = create_gateway(Client(phone, "http://127.0.0.1:9"), lambda: KEY, config, TOKENS)
    found = [ask(app, endpoints(app)["/v1/photo"], {**GOOD, **TEXT}) for _ in range(2)]
    assert [response.status_code for response in found] == [415, 429]


def test_checks_run_in_order_and_stop_at_the_first_refusal() -> None:
    seen: list[str] = []

    def note(name: str) -> Check:
        return Check(name, lambda _: seen.append(name), ())

    def refuse(_request: Request) -> None:
        raise ProblemError("too-many", "no")

    async def respond(_request: Request) -> Response:
        seen.append("respond")
        return Response()

    good = Endpoint(path="/", respond=respond, checks=(note("a"), note("b")))
    app = Starlette(routes=[good.route], exception_handlers=HANDLERS)
    assert ask(app, good, {}).status_code == 200
    assert seen == ["a", "b", "respond"]
    seen.clear()
    bad = replace(good, checks=(note("a"), Check("c", refuse, ("too-many",)), note("b")))
    app = Starlette(routes=[bad.route], exception_handlers=HANDLERS)
    assert ask(app, bad, {}).status_code == 429
    assert seen == ["a"]


def test_an_error_of_ours_is_a_problem_too() -> None:
    async def respond(_request: Request) -> Response:
        raise RuntimeError("a secret of the code")

    endpoint = Endpoint(path="/", respond=respond)
    app = Starlette(routes=[endpoint.route], exception_handlers=HANDLERS)

    async def go() -> httpx.Response:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.get("/")

    response = asyncio.run(go())
    assert (response.status_code, response.json()["type"]) == (500, "urn:sfumato:problem:failed")
    assert "secret" not in response.text
