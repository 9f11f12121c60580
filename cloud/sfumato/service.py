"""The service: routes, and what every request passes before the network sees it.

    app = create_app(CloudModel.load(Path("export")), ServiceConfig(), tokens)

POST /v1/predict   an upload (PNG or packed, docs/contract.md) -> label and probabilities of every kept attribute
GET  /v1/contract  contract.json as exported, its sha256 as ETag
GET  /             the browser page, GET /v1/phone/NAME what it runs (sfumato.page)
GET  /healthz      the process runs;  GET /readyz  it answers uploads;  GET /metrics  Prometheus

Refusals are problem details (sfumato.problems). Checks come in this order: token, rate, contract, type, size, form, statistics,
queue.
"""

import logging
import math
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Request, Response
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool

from sfumato.admission import MONITOR, Buckets, RateConfig, Tokens
from sfumato.batching import BatchConfig, Batcher, Done, OverloadedError
from sfumato.cloud_model import Answer, CloudModel
from sfumato.intake import CLOSE, COMPLETE, PACKED, PNG, content_type, decode, largest_body, read_body
from sfumato.page import Page, add_page
from sfumato.problems import ProblemError, documented, install
from sfumato.telemetry import Telemetry, Watch

CONTRACT_HEADER = "Sfumato-Contract"
"""sha256 of the contract.json that the upload was made with, in hexadecimal."""
INLINE = 256 * 256
"""Uploads of more pixels are decoded in a thread, so that they do not hold up the others."""

logger = logging.getLogger("sfumato.service")


@dataclass(frozen=True, kw_only=True)
class ServiceConfig:
    """How the service works."""

    batch: BatchConfig = field(default_factory=BatchConfig)
    rate: RateConfig = field(default_factory=RateConfig)
    body_seconds: float = 10.0
    """Longest time the body of a request may take."""


class HeadAnswer(BaseModel):
    """The answer for one kept attribute."""

    label: str = Field(examples=["yes"])
    probabilities: dict[str, float] = Field(examples=[{"no": 0.03, "yes": 0.97}])


class Timing(BaseModel):
    """Where the time went, in milliseconds."""

    queue: float = Field(description="waiting for the network", examples=[1.2])
    network: float = Field(description="the network, for the whole batch", examples=[3.4])


class Prediction(BaseModel):
    """The answer to an upload."""

    answers: dict[str, HeadAnswer] = Field(description="one for every kept attribute of the contract")
    model: str = Field(description="sha256 of the cloud network")
    contract: str = Field(description="sha256 of contract.json")
    timing_ms: Timing
    batch: int = Field(description="uploads that were answered together", examples=[4])
    request_id: str = Field(examples=["9f86d081884c7d65"])


Uploads = Batcher[Any, dict[str, Answer]]


class Admission:
    """Token and rate, as a dependency of routes."""

    def __init__(self, tokens: Tokens | None, rate: RateConfig) -> None:
        self.tokens, self.buckets = tokens, Buckets(rate)

    def check(self, request: Request) -> None:
        """Let a request in, or refuse it.

        Raises:
            ProblemError: no valid token, or too many requests.
        """
        if self.tokens is None:
            client = request.client.host if request.client else "unknown"
        else:
            name = self.tokens.holder(request.headers.get("authorization"))
            if name is None or name == MONITOR:
                headers = {"WWW-Authenticate": 'Bearer realm="sfumato"', **CLOSE}
                raise ProblemError(
                    "unauthorized", "send the header Authorization: Bearer TOKEN", headers=headers
                )
            request.state.client = client = name
        if wait := self.buckets.take(client):
            headers = {"Retry-After": str(max(1, math.ceil(wait))), **CLOSE}
            raise ProblemError("too-many", f"try again in {wait:.2f} s", headers=headers)

    def check_monitor(self, request: Request) -> None:
        """Where there are tokens, /metrics takes the one named `metrics` alone.

        Raises:
            ProblemError: another one, or none.
        """
        known = self.tokens is None or self.tokens.holder(request.headers.get("authorization")) == MONITOR
        if not known:
            raise ProblemError(
                "unauthorized",
                f"/metrics takes the token named {MONITOR!r}",
                headers={"WWW-Authenticate": 'Bearer realm="sfumato"'},
            )


def create_app(
    model: CloudModel, config: ServiceConfig, tokens: Tokens | None = None, page: Page | None = None
) -> FastAPI:
    """The application for one export; `tokens` None asks for none, `page` None shows none."""
    telemetry, admission = Telemetry(), Admission(tokens, config.rate)
    batcher: Uploads = Batcher(model.answer, config.batch)
    telemetry.waiting.set_function(lambda: batcher.waiting)
    telemetry.model.info({"contract": model.contract_digest, "model": model.id})
    app = new_app("sfumato", telemetry, batcher, no_page=page.missing if page else "")
    if page is not None:
        add_page(app, page)
    add_contract(app, model.contract_json, model.contract_digest)
    add_health(app, telemetry, admission, lambda: batcher.alive)
    _add_predict(app, model, config, admission, batcher, telemetry)
    return app


def new_app(title: str, telemetry: Telemetry, batcher: Batcher[Any, Any], *, no_page: str = "") -> FastAPI:
    """An application without routes: problem details, metrics, log, start and stop; `no_page` goes to the log."""

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


def check_contract(request: Request, digest: str) -> None:
    """The upload must have been made with the contract that is served: another one means another channel or network.

    Raises:
        ProblemError: the header is missing or names another contract.
    """
    given = request.headers.get(CONTRACT_HEADER, "").strip().strip('"').lower()
    if not given:
        raise ProblemError(
            "no-contract", f"send the sha256 of contract.json as {CONTRACT_HEADER}", headers=CLOSE
        )
    if given != digest:
        told = f"this service answers for the contract {digest}: update the app's bundle"
        raise ProblemError("other-contract", told, headers=CLOSE)


def _add_predict(
    app: FastAPI,
    model: CloudModel,
    config: ServiceConfig,
    admission: Admission,
    batcher: Uploads,
    telemetry: Telemetry,
) -> None:
    bearer = HTTPBearer(auto_error=False, description="an API token, where the service asks for one")
    limit, (height, width) = largest_body(model.contract), model.contract.size

    @app.post(
        "/v1/predict",
        summary="Answer for an upload",
        response_model=Prediction,
        openapi_extra=upload_body(model),
        responses=documented(
            "no-contract", "cut-off", "unauthorized", "too-slow", "other-contract", "too-large",
            "wrong-type", "not-an-upload", "raw-photo", "too-many", "overloaded",
        ),
    )  # fmt: skip
    async def predict(
        request: Request, _token: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)]
    ) -> Response:
        admission.check(request)
        check_contract(request, model.contract_digest)
        kind = content_type(request)
        hint = "; a photo must be perturbed first"
        body = await read_body(request, limit=limit, seconds=config.body_seconds, hint=hint)
        arrived = getattr(request.state, COMPLETE, time.perf_counter())
        try:
            batcher.admit(arrived)
            if height * width <= INLINE:
                levels = decode(body, kind, model.contract)
            else:
                levels = await run_in_threadpool(decode, body, kind, model.contract)
            done = await batcher.submit(levels, arrived)
        except OverloadedError as error:
            raise ProblemError("overloaded", str(error), headers={"Retry-After": "1"}) from None
        _count(telemetry, done)
        request.state.batch = done.size
        told = reply(model, done, request.state.request_id)
        return Response(
            told.model_dump_json(), media_type="application/json"
        )  # made here: no need to check it


def _count(telemetry: Telemetry, done: Done[dict[str, Answer]]) -> None:
    telemetry.waited.observe(done.waited_s)
    telemetry.ran.observe(done.ran_s)
    telemetry.sizes.observe(done.size)


def reply(model: CloudModel, done: Done[dict[str, Answer]], request_id: str) -> Prediction:
    """The answer to one upload."""
    answers = {
        name: HeadAnswer(label=found.label, probabilities=dict(found.probabilities))
        for name, found in done.value.items()
    }
    timing = Timing(queue=round(1000 * done.waited_s, 3), network=round(1000 * done.ran_s, 3))
    return Prediction(
        answers=answers,
        model=model.id,
        contract=model.contract_digest,
        timing_ms=timing,
        batch=done.size,
        request_id=request_id,
    )


def upload_body(model: CloudModel) -> dict[str, Any]:
    """The request of /v1/predict for OpenAPI, with this export's sizes."""
    part, limit = model.contract.upload, largest_body(model.contract)
    told = f"{part.width} x {part.height}, {part.bit_depth} bits a sample, {part.colour}; at most {limit:,} bytes"
    schema = {"type": "string", "format": "binary"}
    return {
        "parameters": [
            {
                "name": CONTRACT_HEADER,
                "in": "header",
                "required": True,
                "description": "sha256 of the contract.json that the upload was made with",
                "schema": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
                "example": model.contract_digest,
            }
        ],
        "requestBody": {
            "required": True,
            "description": f"An upload (docs/contract.md): {told}",
            "content": {
                PNG: {"schema": schema, "example": "(the bytes that sfumato perturb writes)"},
                PACKED: {"schema": schema, "example": "(levels in the order row, column, colour)"},
            },
        },
    }
