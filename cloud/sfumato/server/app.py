"""The service: routes, and what every request passes before the network sees it.

    app = create_app(CloudModel.load(Path("export")), ServiceConfig(), tokens)

POST /v1/predict   an upload (PNG or packed, docs/contract.md) -> label and probabilities of every kept attribute
POST /v1/predict/batch   several packed ones -> the same for each (sfumato.server.predict)
GET  /v1/contract  contract.json as exported, its sha256 as ETag
GET  /             the browser page, GET /v1/phone/NAME what it runs (sfumato.server.page)
GET  /healthz      the process runs;  GET /readyz  it answers uploads;  GET /metrics  Prometheus

Refusals are problem details (sfumato.server.problems).
"""

import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.routing import APIRoute
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from sfumato.server.auth import Admission, RateConfig, Tokens
from sfumato.server.batching import BatchConfig, Batcher
from sfumato.server.model import CloudModel
from sfumato.server.page import Page, add_page
from sfumato.server.predict import Predictions, Uploads, answer
from sfumato.server.problems import ProblemError, documented, install
from sfumato.server.shortcut import ShortCut
from sfumato.server.telemetry import Telemetry, Watch

logger = logging.getLogger("sfumato.server.app")


@dataclass(frozen=True, kw_only=True)
class ServiceConfig:
    """How the service works."""

    batch: BatchConfig = field(default_factory=BatchConfig)
    rate: RateConfig = field(default_factory=RateConfig)
    body_seconds: float = 10.0
    """Longest time the body of a request may take."""


def create_app(
    model: CloudModel, config: ServiceConfig, tokens: Tokens | None = None, page: Page | None = None
) -> FastAPI:
    """The application for one export; `tokens` None asks for none, `page` None shows none."""
    telemetry, admission = Telemetry(), Admission(tokens, config.rate)
    batcher: Uploads = Batcher(partial(answer, model), config.batch)
    telemetry.waiting.set_function(lambda: batcher.waiting)
    telemetry.model.info({"contract": model.contract_digest, "model": model.id})
    direct: dict[str, APIRoute] = {}
    app = new_app("sfumato", telemetry, batcher, direct, no_page=page.missing if page else "")
    if page is not None:
        add_page(app, page)
    add_contract(app, model.contract_json, model.contract_digest)
    add_health(app, telemetry, admission, lambda: batcher.alive)
    predictions = Predictions(model, batcher, admission, telemetry, config.body_seconds)
    direct.update(predictions.add_to(app))
    return app


def new_app(
    title: str,
    telemetry: Telemetry,
    batcher: Batcher[Any, Any],
    direct: Mapping[str, APIRoute],
    *,
    no_page: str = "",
) -> FastAPI:
    """An application without routes: problem details, metrics, log, start and stop.

    Args:
        title: of the OpenAPI document.
        telemetry: counts every request.
        batcher: starts and stops with the application.
        direct: path -> route that is called without FastAPI's layers; may be filled later.
        no_page: why there is no page, for the log.
    """

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        if no_page:
            logger.warning("no browser page", extra={"fields": {"reason": no_page}})
        await batcher.start()
        yield
        await batcher.stop()

    app = FastAPI(
        title=title,
        version="1",
        description="Answers for perturbed uploads. Photos are refused.",
        lifespan=lifespan,
        docs_url=None,  # FastAPI's page fetches scripts from elsewhere
        redoc_url=None,
    )
    app.state.telemetry = telemetry
    app.add_middleware(ShortCut, routes=direct)
    app.add_middleware(Watch, telemetry=telemetry)
    install(app)
    return app


def add_contract(app: FastAPI, content: bytes, digest: str) -> None:
    """GET /v1/contract. No token: the contract ships in every app."""
    tag = f'"{digest}"'

    @app.get(
        "/v1/contract",
        summary="The contract",
        response_class=Response,
        responses={200: {"content": {"application/json": {}}}, 304: {"description": "Not changed"}},
    )
    async def contract(request: Request) -> Response:
        """contract.json, byte for byte as it was exported. Its sha256 is the ETag."""
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers={"ETag": tag})
        return Response(content, media_type="application/json", headers={"ETag": tag})


def add_health(app: FastAPI, telemetry: Telemetry, admission: Admission, ready: Any) -> None:
    """GET /healthz, /readyz and /metrics."""

    @app.get("/healthz", summary="The process runs")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/readyz", summary="Uploads are answered", responses=documented("overloaded"))
    async def readyz() -> dict[str, str]:
        if not ready():
            raise ProblemError("overloaded", "the network is not running")
        return {"status": "ready"}

    @app.get(
        "/metrics",
        summary="Prometheus metrics",
        response_class=Response,
        responses={200: {"content": {"text/plain": {}}}, **documented("unauthorized")},
    )
    async def metrics(request: Request) -> Response:
        admission.check_monitor(request)
        return Response(generate_latest(telemetry.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})
