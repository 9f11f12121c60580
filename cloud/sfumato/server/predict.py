"""POST /v1/predict: an upload in, the network's predictions out; POST /v1/predict/batch: several uploads.

    service = PredictionService(model, batcher, access, telemetry, body_seconds=10)
    service.endpoints                   # with their checks on headers, from cheap to dear

After those, the body is read, decoded, and compared with what the channel can draw. The last runs beside the network, for many
uploads at once: alone it would take as long as HTTP. In a batch, the problem of one upload stands in its
place, and the others get their predictions.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from sfumato.runtime.contract import Contract
from sfumato.server.admission import Shares, client_name
from sfumato.server.auth import AccessControl
from sfumato.server.batching import Batcher, Done
from sfumato.server.endpoints import JSON, Check, Endpoint
from sfumato.server.formats import (
    CONTRACT_HEADER,
    INDEX,
    INDEX_BATCH,
    PACKED,
    PACKED_BATCH,
    PNG,
    SINGLE,
    WORD,
    WORD_BATCH,
    batch_types,
    largest_batch,
    largest_body,
    single_types,
    upload_bytes,
)
from sfumato.server.model import AttributePrediction, CloudModel
from sfumato.server.photo_check import PhotoCheck, check_uploads
from sfumato.server.problems import CLOSE, URN, Problem, ProblemError
from sfumato.server.telemetry import Telemetry
from sfumato.server.uploads import (
    BODY_REFUSALS,
    COMPLETE,
    PERTURB_FIRST,
    body_bytes,
    decode,
    media_type,
    read_body,
    type_check,
)

INLINE_PIXELS = 256 * 256
"""More pixels than these are decoded in a thread, so that they do not hold up the others."""
BODY_BYTES = 2**25
"""Most bytes of all requests that are being read, shared by their clients."""

ENCODINGS = {PNG: "png", PACKED: "packed", WORD: "word", INDEX: "index"}
ENCODINGS |= {batch: ENCODINGS[kind] for batch, kind in SINGLE.items()}
"""Media type -> the encoding's name in log and metrics."""
EXAMPLES = {
    PNG: "(the bytes of a PNG that sfumato perturb writes)",
    PACKED: "(levels in the order row, column, colour)",
    WORD: "(the code word, most significant byte first)",
    INDEX: "(the bits of the index, most significant first)",
    PACKED_BATCH: "(packed uploads, one after the other)",
    WORD_BATCH: "(code words, one after the other)",
    INDEX_BATCH: "(indices, one after the other)",
}

Levels = NDArray[np.uint8]
Result = dict[str, AttributePrediction] | ProblemError
"""Of one upload: attribute -> prediction, or why there is none."""
UploadBatcher = Batcher[Levels, Result]


@dataclass(frozen=True)
class Prepared:
    """A batch that is ready for the network."""

    refused: Sequence[ProblemError | None]
    """For each upload: why the network is not asked about it, or None."""
    pixels: NDArray[np.float32] | None
    """Those that the network is asked about, (B, 3, H, W) in 0..1; None if there are none."""


def prepare(model: CloudModel, uploads: Sequence[Levels]) -> Prepared:
    """What comes before the network: which uploads look like photos, and the others as the network takes them."""
    refused: list[ProblemError | None] = [None] * len(uploads)
    # Decoding lets code words pass and nothing else, or entries of the book, which tell B bits of a photo at most.
    if model.contract.answer is None and model.contract.index is None:
        checks = check_uploads(uploads, model.contract)
        refused = [None if check.passed else raw_photo(check) for check in checks]
    passed = [levels for levels, problem in zip(uploads, refused, strict=True) if problem is None]
    return Prepared(refused, model.pixels(passed) if passed else None)


def predict_prepared(model: CloudModel, batch: Prepared) -> list[Result]:
    """The network's predictions for each upload, or that it looks like a photo."""
    predictions = iter(() if batch.pixels is None else model.predict_pixels(batch.pixels))
    return [next(predictions) if problem is None else problem for problem in batch.refused]


def raw_photo(check: PhotoCheck) -> ProblemError:
    """The refusal of an upload that this channel cannot have drawn."""
    return ProblemError("raw-photo", f"neighbouring samples agree too much ({check.reason}); {PERTURB_FIRST}")


class Timing(BaseModel):
    """Where the time went, in milliseconds."""

    queue: float = Field(description="waiting for the network", examples=[1.2])
    network: float = Field(description="the network, for all that ran together", examples=[3.4])


class Origin(BaseModel):
    """What made a prediction."""

    model: str = Field(description="sha256 of the cloud network")
    contract: str = Field(description="sha256 of contract.json")
    request_id: str = Field(examples=["9f86d081884c7d65"])


class Run(Origin):
    """How a request ran."""

    timing_ms: Timing
    batch: int = Field(description="uploads in a call of the network", examples=[4])


class Prediction(Run):
    """The answer to an upload."""

    answers: dict[str, AttributePrediction] = Field(
        description="one for every kept attribute of the contract"
    )


class Item(BaseModel):
    """One upload of a batch: either `answers` or `problem`."""

    answers: dict[str, AttributePrediction] | None = None
    problem: Problem | None = Field(
        default=None, description="what the upload alone would have been refused with"
    )


class BatchPrediction(Run):
    """The answers to a batch, in its order."""

    items: list[Item]


@dataclass(frozen=True)
class PredictionService:
    """The two endpoints and what they need."""

    model: CloudModel
    batcher: UploadBatcher
    access: AccessControl
    telemetry: Telemetry
    body_seconds: float
    bodies: Shares = field(default_factory=lambda: Shares(BODY_BYTES))
    """Of requests that are being read."""

    @property
    def contract(self) -> Contract:
        """Of the export that is served."""
        return self.model.contract

    def max_batch(self, kind: str) -> int:
        """Most uploads in a request: more would never find room in the queue, or exceed the rate limit."""
        limits = (self.batcher.config.queue, self.access.buckets.config.burst)
        return min(largest_batch(self.contract, kind), *limits)

    @property
    def endpoints(self) -> list[Endpoint]:
        """Both. The length of a batch is its number of uploads, so it comes before the rate."""
        token, rate = self.access.token, self.access.rate
        contract = Check(
            "contract", self._check_contract, ("no-contract", "other-contract"), self._parameters()
        )
        length = Check("length", self._check_length, ("no-length", "too-large", "not-an-upload"))
        queue = Check("queue", self._check_queue, ("overloaded",))
        refusals = (*BODY_REFUSALS, "not-an-upload", "raw-photo", "overloaded")
        single = Endpoint(
            path="/v1/predict",
            method="POST",
            respond=self.predict,
            summary="Answer for an upload",
            description="Refuses a photo: perturb it first, on the device.",
            checks=(token, rate, contract, type_check(single_types(self.contract)), queue),
            refusals=refusals,
            answer=Prediction,
            operation=self._upload_body(),
        )
        batch = Endpoint(
            path="/v1/predict/batch",
            method="POST",
            respond=self.predict_batch,
            summary="Answer for several uploads",
            description="Uploads of one length, one directly after the other. Each counts for the rate. "
            "A refused one does not stop the others.",
            checks=(token, contract, type_check(batch_types(self.contract)), length, rate, queue),
            refusals=refusals,
            answer=BatchPrediction,
            operation=self._batch_body(),
        )
        return [single, batch]

    async def predict(self, request: Request) -> Response:
        """Read one upload and answer it."""
        kind, hint = media_type(request), "; a photo must be perturbed first"
        limit = largest_body(self.contract, kind)
        held = self.bodies.hold(client_name(request), body_bytes(request, limit))
        with held, self.batcher.coming():
            body = await read_body(request, limit=limit, seconds=self.body_seconds, hint=hint)
            self.access.check_again(request)
            (levels,) = await self._decode(request, [body], kind)
        if isinstance(levels, ProblemError):
            raise levels
        done = await self._run(request, [levels])
        (result,) = done.values
        if isinstance(result, ProblemError):
            raise result
        return respond(Prediction.model_construct(answers=result, **self._common(request, done)))

    async def predict_batch(self, request: Request) -> Response:
        """Read several uploads and answer each."""
        kind = SINGLE[media_type(request)]
        length = upload_bytes(self.contract, kind)
        limit = request.state.uploads * length
        with self.bodies.hold(client_name(request), limit), self.batcher.coming():
            body = await read_body(request, limit=limit, seconds=self.body_seconds)
            self.access.check_again(request)
            parts = [body[at : at + length] for at in range(0, len(body), length)]
            decoded = await self._decode(request, parts, kind)
        good = [levels for levels in decoded if not isinstance(levels, ProblemError)]
        done = await self._run(request, good) if good else Done[Result]([], 0.0, 0.0, 0)
        results = iter(done.values)
        items = [self._item(one if isinstance(one, ProblemError) else next(results)) for one in decoded]
        return respond(BatchPrediction.model_construct(items=items, **self._common(request, done)))

    def _check_contract(self, request: Request) -> None:
        """The upload must have been made with the contract that is served: another one means another channel or network."""
        given = request.headers.get(CONTRACT_HEADER, "").strip().strip('"').lower()
        if not given:
            detail = f"send the sha256 of contract.json as {CONTRACT_HEADER}"
            raise ProblemError("no-contract", detail, headers=CLOSE)
        if given != self.model.contract_digest:
            detail = f"this service has the contract {self.model.contract_digest}: update the app's bundle"
            raise ProblemError("other-contract", detail, headers=CLOSE)

    def _check_length(self, request: Request) -> None:
        """A whole number of uploads, by Content-Length: they are counted, as `state.uploads`, before any is read."""
        given, kind = request.headers.get("content-length", ""), media_type(request)
        length, most = upload_bytes(self.contract, kind), self.max_batch(kind)
        if not given.isdecimal():
            raise ProblemError("no-length", "send a Content-Length, not chunks", headers=CLOSE)
        count, rest = divmod(int(given[:20]), length)
        if count + (rest > 0) > most:
            detail = f"at most {most} uploads of {length:,} bytes"
            raise ProblemError("too-large", detail, headers=CLOSE)
        if rest or not count:
            detail = f"{int(given):,} bytes are no whole number of uploads, {length:,} bytes each"
            raise ProblemError("not-an-upload", detail, headers=CLOSE)
        request.state.uploads = count

    def _check_queue(self, request: Request) -> None:
        """There must be room for `state.uploads`, one if nothing was left there: cheaper than to decode them first."""
        uploads = getattr(request.state, "uploads", 1)
        self.batcher.admit(time.perf_counter(), uploads, client_name(request))

    async def _decode(
        self, request: Request, bodies: Sequence[bytes], kind: str
    ) -> list[Levels | ProblemError]:
        """Levels of each body, or why it has none; their number is counted by encoding."""
        request.state.encoding = encoding = ENCODINGS[kind]
        self.telemetry.uploads.labels(encoding).inc(len(bodies))

        def decode_each() -> list[Levels | ProblemError]:
            return [decode_or_refuse(body, kind, self.contract) for body in bodies]

        height, width = self.contract.upload_size
        small = len(bodies) * height * width <= INLINE_PIXELS
        return decode_each() if small else await run_in_threadpool(decode_each)

    async def _run(self, request: Request, uploads: Sequence[Levels]) -> Done[Result]:
        """Through the queue and the network; the time is measured and the size of the batch is logged."""
        arrived = getattr(request.state, COMPLETE, None)
        done = await self.batcher.submit(uploads, arrived, client=client_name(request))
        self.telemetry.waited.observe(done.waited_s)
        self.telemetry.ran.observe(done.ran_s)
        self.telemetry.sizes.observe(done.size)
        request.state.batch = done.size
        return done

    def _item(self, result: Result) -> Item:
        if not isinstance(result, ProblemError):
            return Item.model_construct(answers=result)
        self.telemetry.refusals.labels(result.kind).inc()
        name, title = URN + result.kind, result.title
        return Item(problem=Problem(type=name, title=title, status=result.status, detail=result.detail))

    def _common(self, request: Request, done: Done[Result]) -> Mapping[str, Any]:
        timing = Timing.model_construct(
            queue=round(1000 * done.waited_s, 3), network=round(1000 * done.ran_s, 3)
        )
        return {
            "model": self.model.id,
            "contract": self.model.contract_digest,
            "timing_ms": timing,
            "batch": done.size,
            "request_id": request.state.request_id,
        }

    def _parameters(self) -> dict[str, Any]:
        """The contract's header for OpenAPI."""
        header = {
            "name": CONTRACT_HEADER,
            "in": "header",
            "required": True,
            "description": "sha256 of the contract.json that the upload was made with",
            "schema": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
            "example": self.model.contract_digest,
        }
        return {"parameters": [header]}

    def _upload_body(self) -> dict[str, Any]:
        """The body of /v1/predict for OpenAPI, with this export's sizes."""
        part, limit = self.contract.upload, largest_body(self.contract)
        size = f"{part.width} x {part.height}, {part.bit_depth} bits a sample, {part.colour}; at most {limit:,} bytes"
        content = {kind: binary(EXAMPLES[kind]) for kind in single_types(self.contract)}
        if self.contract.index is not None:
            length = upload_bytes(self.contract, INDEX)
            size = f"the index of an entry of the contract's book, {self.contract.index.bits:,} bits in {length:,} bytes"
        if self.contract.answer is not None:
            size = f"the code word of the phone's answer, {self._words}; or its image, {size}"
        return request_body(f"An upload (docs/contract.md): {size}", content)

    def _batch_body(self) -> dict[str, Any]:
        """The body of /v1/predict/batch for OpenAPI."""
        kinds = batch_types(self.contract)
        each = " or ".join(
            f"{self.max_batch(kind)} of {upload_bytes(self.contract, kind):,} bytes each ({ENCODINGS[kind]})"
            for kind in kinds
        )
        content = {kind: binary(EXAMPLES[kind]) for kind in kinds}
        return request_body(f"Uploads, nothing in between: 1 to {each}", content)

    @property
    def _words(self) -> str:
        """The words of an answer bundle, in words."""
        assert self.contract.answer is not None
        return f"0 to {self.contract.answer.words - 1} in {upload_bytes(self.contract, WORD)} byte(s)"


def decode_or_refuse(body: bytes, kind: str, contract: Contract) -> Levels | ProblemError:
    """Levels (H, W, 3) of one upload, or the refusal: in a batch it is one among several."""
    try:
        return decode(body, kind, contract)
    except ProblemError as error:
        return error


def respond(answer: Run) -> Response:
    """The model as JSON. It was made here: no need to check it."""
    return Response(answer.model_dump_json(exclude_none=True), media_type=JSON)


def request_body(description: str, content: Mapping[str, Any]) -> dict[str, Any]:
    """The body of a request, for OpenAPI."""
    return {"requestBody": {"required": True, "description": description, "content": dict(content)}}


def binary(example: str) -> dict[str, Any]:
    """A media type of bytes, for OpenAPI."""
    return {"schema": {"type": "string", "format": "binary"}, "example": example}
