"""POST /v1/predict: an upload in, the network's answer out; POST /v1/predict/batch: several at once.

    Predictions(model, batcher, admission, telemetry, body_seconds=10).add_to(app)

Checks come in this order: token, rate, contract, type, queue, size, form, statistics; for a batch, whose length is its number
of uploads, size before rate. The last runs beside the network, for many uploads at once: alone it would take as long as HTTP.
What is wrong with one upload of a batch is told in its place, and the others are answered.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from fastapi import Depends, FastAPI, Request, Response
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer
from numpy.typing import NDArray
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool

from sfumato.server.auth import Admission
from sfumato.server.batch_form import PACKED_BATCH, largest_batch, packed_bytes
from sfumato.server.batching import Batcher, Done, OverloadedError
from sfumato.server.model import Answer, CloudModel
from sfumato.server.photo_check import Verdict, check
from sfumato.server.problems import AGAIN, CLOSE, KINDS, URN, ProblemError, documented
from sfumato.server.telemetry import Telemetry
from sfumato.server.uploads import COMPLETE, PACKED, PNG, RAW, content_type, decode, largest_body, read_body

SINGLE, BATCH = "/v1/predict", "/v1/predict/batch"
CONTRACT_HEADER = "Sfumato-Contract"
"""sha256 of the contract.json that the upload was made with, in hexadecimal."""
INLINE = 256 * 256
"""More pixels than these are decoded in a thread, so that they do not hold up the others."""

Levels = NDArray[np.uint8]
Told = dict[str, Answer] | ProblemError
Uploads = Batcher[Levels, Told]


def answer(model: CloudModel, uploads: Sequence[Levels]) -> list[Told]:
    """What the network says about each upload, or that it looks like a photo."""
    verdicts = check(uploads, model.contract)
    good = [levels for levels, verdict in zip(uploads, verdicts, strict=True) if verdict.plausible]
    answers = iter(model.answer(good) if good else ())
    return [next(answers) if verdict.plausible else raw_photo(verdict) for verdict in verdicts]


def raw_photo(verdict: Verdict) -> ProblemError:
    """The refusal of an upload that this channel cannot have drawn."""
    return ProblemError("raw-photo", f"neighbouring samples agree too much ({verdict.reason}); {RAW}")


class HeadAnswer(BaseModel):
    """The answer for one kept attribute."""

    label: str = Field(examples=["yes"])
    probabilities: dict[str, float] = Field(examples=[{"no": 0.03, "yes": 0.97}])


class Timing(BaseModel):
    """Where the time went, in milliseconds."""

    queue: float = Field(description="waiting for the network", examples=[1.2])
    network: float = Field(description="the network, for all that ran together", examples=[3.4])


class Common(BaseModel):
    """What every answer says beside the answers."""

    model: str = Field(description="sha256 of the cloud network")
    contract: str = Field(description="sha256 of contract.json")
    timing_ms: Timing
    batch: int = Field(description="uploads in a call of the network", examples=[4])
    request_id: str = Field(examples=["9f86d081884c7d65"])


class Prediction(Common):
    """The answer to an upload."""

    answers: dict[str, HeadAnswer] = Field(description="one for every kept attribute of the contract")


class ItemProblem(BaseModel):
    """Why one upload of a batch has no answer."""

    type: str = Field(examples=[URN + "raw-photo"])
    title: str = Field(examples=[KINDS["raw-photo"][1]])
    status: int = Field(description="what the upload alone would have been refused with", examples=[422])
    detail: str


class Item(BaseModel):
    """One upload of a batch: either `answers` or `problem`."""

    answers: dict[str, HeadAnswer] | None = None
    problem: ItemProblem | None = None


class BatchPrediction(Common):
    """The answers to a batch, in its order."""

    items: list[Item]


@dataclass(frozen=True)
class Predictions:
    """The two routes and what they need."""

    model: CloudModel
    batcher: Uploads
    admission: Admission
    telemetry: Telemetry
    body_seconds: float

    def add_to(self, app: FastAPI) -> dict[str, APIRoute]:
        """Add the routes; path -> route. Each endpoint takes the request and makes its own response."""
        bearer = HTTPBearer(auto_error=False, description="an API token, where the service asks for one")
        refusals = (
            "no-contract", "cut-off", "unauthorized", "too-slow", "other-contract", "too-large", "wrong-type",
            "not-an-upload", "raw-photo", "too-many", "overloaded",
        )  # fmt: skip
        app.add_api_route(
            SINGLE,
            self.predict,
            methods=["POST"],
            summary="Answer for an upload",
            response_model=Prediction,
            dependencies=[Depends(bearer)],
            openapi_extra=self._upload_body(),
            responses=documented(*refusals),
        )
        app.add_api_route(
            BATCH,
            self.predict_batch,
            methods=["POST"],
            summary="Answer for several uploads",
            response_model=BatchPrediction,
            dependencies=[Depends(bearer)],
            openapi_extra=self._batch_body(),
            responses=documented("no-length", *refusals),
        )
        routes = {route.path: route for route in app.routes if isinstance(route, APIRoute)}
        return {path: routes[path] for path in (SINGLE, BATCH)}

    async def predict(self, request: Request) -> Response:
        """Refuses a photo: perturb it first, on the device."""
        contract = self.model.contract
        self.admission.check(request)
        self._check_contract(request)
        kind = content_type(request)
        self._admit(time.perf_counter(), 1)
        hint = "; a photo must be perturbed first"
        body = await read_body(request, limit=largest_body(contract), seconds=self.body_seconds, hint=hint)
        if contract.size[0] * contract.size[1] <= INLINE:
            levels = decode(body, kind, contract)
        else:
            levels = await run_in_threadpool(decode, body, kind, contract)
        done = await self._submit(request, [levels])
        (found,) = done.values
        if isinstance(found, ProblemError):
            raise found
        return self._respond(Prediction(answers=told(found), **self._common(request, done)))

    async def predict_batch(self, request: Request) -> Response:
        """Packed uploads, one directly after the other. Each counts for the rate. A refused one does not stop the others."""
        contract = self.model.contract
        client = self.admission.client(request)
        self._check_contract(request)
        content_type(request, (PACKED_BATCH,))
        count = self._declared(request)
        self.admission.count(client, count)
        self._admit(time.perf_counter(), count)
        length = packed_bytes(contract)
        body = await read_body(request, limit=count * length, seconds=self.body_seconds)
        parts = [body[at : at + length] for at in range(0, len(body), length)]
        if count * contract.size[0] * contract.size[1] <= INLINE:
            found = self._decode_each(parts)
        else:
            found = await run_in_threadpool(self._decode_each, parts)
        good = [levels for levels in found if not isinstance(levels, ProblemError)]
        done = await self._submit(request, good) if good else Done[Told]([], 0.0, 0.0, 0)
        answers = iter(done.values)
        items = [self._item(one if isinstance(one, ProblemError) else next(answers)) for one in found]
        return self._respond(BatchPrediction(items=items, **self._common(request, done)))

    def _check_contract(self, request: Request) -> None:
        """The upload must have been made with the contract that is served: another one means another channel or network."""
        given = request.headers.get(CONTRACT_HEADER, "").strip().strip('"').lower()
        if not given:
            detail = f"send the sha256 of contract.json as {CONTRACT_HEADER}"
            raise ProblemError("no-contract", detail, headers=CLOSE)
        if given != self.model.contract_digest:
            detail = (
                f"this service answers for the contract {self.model.contract_digest}: update the app's bundle"
            )
            raise ProblemError("other-contract", detail, headers=CLOSE)

    @property
    def most(self) -> int:
        """Most uploads in a request: more would never find room in the queue, or exceed the rate."""
        own = (self.batcher.config.queue, self.admission.buckets.config.burst)
        return min(largest_batch(self.model.contract), *own)

    def _declared(self, request: Request) -> int:
        """Uploads in a batch, by its Content-Length: they are counted before any is read."""
        given, length = request.headers.get("content-length", ""), packed_bytes(self.model.contract)
        if not given.isdecimal():
            raise ProblemError("no-length", "send a Content-Length, not chunks", headers=CLOSE)
        count, rest = divmod(int(given[:20]), length)
        if count + (rest > 0) > self.most:
            raise ProblemError("too-large", f"at most {self.most} uploads of {length:,} bytes", headers=CLOSE)
        if rest or not count:
            detail = f"{int(given):,} bytes are no whole number of uploads, {length:,} bytes each"
            raise ProblemError("not-an-upload", detail, headers=CLOSE)
        return count

    def _decode_each(self, parts: Sequence[bytes]) -> list[Levels | ProblemError]:
        found: list[Levels | ProblemError] = []
        for part in parts:
            try:
                found.append(decode(part, PACKED, self.model.contract))
            except ProblemError as error:
                found.append(error)
        return found

    def _item(self, found: Told) -> Item:
        if not isinstance(found, ProblemError):
            return Item(answers=told(found))
        self.telemetry.refusals.labels(found.kind).inc()
        return Item(
            problem=ItemProblem(
                type=URN + found.kind, title=found.title, status=found.status, detail=found.detail
            )
        )

    def _admit(self, arrived: float, count: int) -> None:
        try:
            self.batcher.admit(arrived, count)
        except OverloadedError as error:
            raise ProblemError("overloaded", str(error), headers=AGAIN) from None

    async def _submit(self, request: Request, uploads: Sequence[Levels]) -> Done[Told]:
        try:
            done = await self.batcher.submit(uploads, getattr(request.state, COMPLETE, None))
        except OverloadedError as error:
            raise ProblemError("overloaded", str(error), headers=AGAIN) from None
        self.telemetry.waited.observe(done.waited_s)
        self.telemetry.ran.observe(done.ran_s)
        self.telemetry.sizes.observe(done.size)
        request.state.batch = done.size
        return done

    def _common(self, request: Request, done: Done[Told]) -> dict[str, Any]:
        timing = Timing(queue=round(1000 * done.waited_s, 3), network=round(1000 * done.ran_s, 3))
        return {
            "model": self.model.id,
            "contract": self.model.contract_digest,
            "timing_ms": timing,
            "batch": done.size,
            "request_id": request.state.request_id,
        }

    def _respond(self, answer: Common) -> Response:
        """Made here: no need to check it."""
        return Response(answer.model_dump_json(exclude_none=True), media_type="application/json")

    def _header(self) -> dict[str, Any]:
        return {
            "name": CONTRACT_HEADER,
            "in": "header",
            "required": True,
            "description": "sha256 of the contract.json that the upload was made with",
            "schema": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
            "example": self.model.contract_digest,
        }

    def _upload_body(self) -> dict[str, Any]:
        """The request of /v1/predict for OpenAPI, with this export's sizes."""
        part, limit = self.model.contract.upload, largest_body(self.model.contract)
        size = f"{part.width} x {part.height}, {part.bit_depth} bits a sample, {part.colour}; at most {limit:,} bytes"
        content = {
            PNG: binary("(the bytes that sfumato perturb writes)"),
            PACKED: binary("(levels in the order row, column, colour)"),
        }
        body = {"required": True, "description": f"An upload (docs/contract.md): {size}", "content": content}
        return {"parameters": [self._header()], "requestBody": body}

    def _batch_body(self) -> dict[str, Any]:
        """The request of /v1/predict/batch for OpenAPI."""
        told = f"1 to {self.most} packed uploads of {packed_bytes(self.model.contract):,} bytes each, nothing in between"
        content = {PACKED_BATCH: binary("(packed uploads, one after the other)")}
        body = {"required": True, "description": told, "content": content}
        return {"parameters": [self._header()], "requestBody": body}


def told(found: dict[str, Answer]) -> dict[str, HeadAnswer]:
    """The network's answers as they are sent."""
    return {
        name: HeadAnswer(label=answer.label, probabilities=dict(answer.probabilities))
        for name, answer in found.items()
    }


def binary(example: str) -> dict[str, Any]:
    """A media type of bytes, for OpenAPI."""
    return {"schema": {"type": "string", "format": "binary"}, "example": example}
