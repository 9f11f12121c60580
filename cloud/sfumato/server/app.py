"""The service as an application: its endpoints, and what every request passes before the network sees it.

    app = create_app(CloudModel.load("export"), AppConfig(), tokens)

POST /v1/predict   an upload (PNG, packed, or a code word: docs/contract.md) -> label and probabilities of every kept attribute
POST /v1/predict/batch   several packed ones or words -> the same for each (sfumato.server.predict)
GET  /v1/contract  contract.json as exported, its sha256 as ETag
GET  /             the browser page, GET /v1/phone/NAME what it runs (sfumato.server.page)
GET  /healthz      the process runs;  GET /readyz  it answers uploads;  GET /metrics  Prometheus
GET  /openapi.json all of this for programs

Refusals are problem details (sfumato.server.problems).
"""

import json
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from sfumato.server.admission import Shares
from sfumato.server.auth import AccessControl, KnownTokens, RateLimitConfig
from sfumato.server.batching import BatchConfig, Batcher
from sfumato.server.endpoints import JSON, Endpoint, document
from sfumato.server.hosts import HostCheck, asked_names
from sfumato.server.model import CloudModel
from sfumato.server.page import Page, page_endpoints
from sfumato.server.predict import BODY_BYTES, PredictionService, UploadBatcher, predict_prepared, prepare
from sfumato.server.problems import HANDLERS, ProblemError
from sfumato.server.shared import Place, SharedBuckets
from sfumato.server.telemetry import Telemetry, Watch

logger = logging.getLogger("sfumato.server.app")

DESCRIPTION = "Answers for perturbed uploads. Photos are refused."
STATUS = {JSON: {"schema": {"type": "object", "additionalProperties": {"type": "string"}}}}


@dataclass(frozen=True, kw_only=True)
class AppConfig:
    """What the service takes, and how it works."""

    batch: BatchConfig = field(default_factory=BatchConfig)
    rate: RateLimitConfig = field(default_factory=RateLimitConfig)
    body_seconds: float = 10.0
    """Longest time the body of a request may take."""
    hosts: tuple[str, ...] = ()
    """Names that may be asked for, besides addresses and localhost; where there are tokens and no names, any may."""


def create_app(
    model: CloudModel,
    config: AppConfig | None = None,
    tokens: KnownTokens | None = None,
    page: Page | None = None,
    place: Place | None = None,
) -> Starlette:
    """The application for one export.

    Args:
        model: the cloud network and its contract.
        config: limits; None takes the defaults.
        tokens: who may ask; None asks for no token.
        page: the browser page; None shows none.
        place: which of the service's processes this is; None: there is one.
    """
    config = config or AppConfig()
    telemetry, access = Telemetry(place), access_control(tokens, config.rate, place)
    batcher: UploadBatcher = Batcher(
        partial(predict_prepared, model),
        config.batch,
        prepare=partial(prepare, model),
        changed=telemetry.waiting.set,
    )
    telemetry.model = {"contract": model.contract_digest, "model": model.id}
    bodies = Shares(place.share(BODY_BYTES) if place else BODY_BYTES)
    service = PredictionService(model, batcher, access, telemetry, config.body_seconds, bodies)
    endpoints = [
        *service.endpoints,
        contract_endpoint(model.contract_json, model.contract_digest),
        *health_endpoints(telemetry, access, lambda: batcher.alive),
        *(page_endpoints(page) if page else ()),
    ]
    hosts = asked_names(config.hosts, tokens=tokens is not None)
    no_page = page.missing if page else ""
    return new_app("sfumato", endpoints, telemetry, batcher, hosts=hosts, no_page=no_page)


def access_control(tokens: KnownTokens | None, rate: RateLimitConfig, place: Place | None) -> AccessControl:
    """Tokens and rates; the rates are those of all processes together."""
    return AccessControl(tokens, rate, SharedBuckets(rate, place.memory) if place else None)


def new_app(
    title: str,
    endpoints: Sequence[Endpoint],
    telemetry: Telemetry,
    batcher: Batcher[Any, Any],
    *,
    hosts: tuple[str, ...] | None = None,
    no_page: str = "",
) -> Starlette:
    """An application of these endpoints: problem details, metrics, log, start and stop.

    Args:
        title: of the OpenAPI document.
        endpoints: the most used first: Starlette compares paths in order.
        telemetry: counts every request.
        batcher: starts and stops with the application.
        hosts: names that may be asked for, besides addresses and localhost; None allows any.
        no_page: why there is no page, for the log.
    """

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        if no_page:
            logger.warning("no browser page", extra={"fields": {"reason": no_page}})
        await batcher.start()
        yield
        await batcher.stop()

    described = json.dumps(document(title, DESCRIPTION, endpoints)).encode()

    async def openapi(_request: Request) -> Response:
        return Response(described, media_type=JSON)

    app = Starlette(
        routes=[endpoint.route for endpoint in (*endpoints, Endpoint(path="/openapi.json", respond=openapi))],
        middleware=[
            Middleware(Watch, telemetry=telemetry),
            *([] if hosts is None else [Middleware(HostCheck, names=hosts)]),
        ],
        exception_handlers=HANDLERS,
        lifespan=lifespan,
    )
    app.state.telemetry, app.state.endpoints = telemetry, tuple(endpoints)
    app.state.ready = lambda: batcher.alive
    return app


def contract_endpoint(content: bytes, digest: str) -> Endpoint:
    """GET /v1/contract. No token: the contract ships in every app."""
    tag = f'"{digest}"'

    async def contract(request: Request) -> Response:
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers={"ETag": tag})
        return Response(content, media_type=JSON, headers={"ETag": tag})

    return Endpoint(
        path="/v1/contract",
        respond=contract,
        summary="The contract",
        description="contract.json, byte for byte as it was exported. Its sha256 is the ETag.",
        content={JSON: {}},
        operation={"responses": {"304": {"description": "Not changed"}}},
    )


def health_endpoints(
    telemetry: Telemetry, access: AccessControl, ready: Callable[[], bool]
) -> list[Endpoint]:
    """GET /healthz, /readyz and /metrics."""

    async def healthz(_request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def readyz(_request: Request) -> Response:
        if not ready():
            raise ProblemError("overloaded", "the network is not running")
        return JSONResponse({"status": "ready"})

    async def metrics(_request: Request) -> Response:
        return Response(telemetry.text(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    return [
        Endpoint(path="/healthz", respond=healthz, summary="The process runs", content=STATUS),
        Endpoint(
            path="/readyz",
            respond=readyz,
            summary="Uploads are answered",
            refusals=("overloaded",),
            content=STATUS,
        ),
        Endpoint(
            path="/metrics",
            respond=metrics,
            summary="Prometheus metrics",
            checks=(access.monitor,),
            content={"text/plain": {}},
        ),
    ]
