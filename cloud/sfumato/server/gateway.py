"""The gateway: for cameras that cannot run a model, a box in the trusted network perturbs photos and sends the uploads on.

    app = create_gateway(Client(PhoneModel.load(Path("export")), "https://photos.example"), key, GatewayConfig(), tokens)

POST /v1/photo     a photo (any format that `sfumato perturb` reads) -> the cloud's answer, and what the upload told
GET  /v1/contract, /healthz, /readyz, /metrics     as the service

It holds the device key and the phone's model of the export; the photo is decoded, perturbed and forgotten, and the same client
as `sfumato send` takes the upload on: the contract is compared first, uploads are tried again with patience. A service answers
/v1/predict and a gateway /v1/photo, so neither can be mistaken for the other.
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel, Field

from sfumato.core.errors import DataError
from sfumato.runtime.phone_model import Upload
from sfumato.server.app import add_contract, add_health, new_app
from sfumato.server.auth import Admission, RateConfig, Tokens
from sfumato.server.batching import BatchConfig, Batcher, OverloadedError
from sfumato.server.client import Client, Reply, ServerError
from sfumato.server.predict import HeadAnswer
from sfumato.server.problems import AGAIN, CLOSE, ProblemError, documented
from sfumato.server.telemetry import Telemetry
from sfumato.server.uploads import read_body

PHOTOS = ("image/jpeg", "image/png", "image/webp", "image/bmp", "image/tiff", "application/octet-stream")
"""Content types that are taken; what a photo really is, its bytes decide."""
LATER = (429, 503)
"""Answers of the service that say: try again."""


@dataclass(frozen=True, kw_only=True)
class GatewayConfig:
    """How the gateway works."""

    rate: RateConfig = field(default_factory=RateConfig)
    largest_photo: int = 20_000_000
    """Most bytes of a photo."""
    body_seconds: float = 30.0
    """Longest time the body of a request may take."""
    queue: int = 16
    """Photos that may wait, in memory, until they are perturbed one after the other."""
    deadline_ms: float = 10_000.0
    """Longest time until a photo is perturbed."""
    on_the_way: int = 32
    """Uploads that may wait for the service's answer at the same time."""


class Passed(BaseModel):
    """The cloud's answer to a photo, and what was told for it."""

    answers: dict[str, HeadAnswer] = Field(description="one for every kept attribute of the contract")
    model: str = Field(description="sha256 of the cloud network")
    contract: str = Field(description="sha256 of contract.json")
    sent_bytes: int = Field(description="size of the upload", examples=[1754])
    rate_bits: float = Field(description="what this upload can tell; it was not sent", examples=[6.1])
    service_request_id: str = Field(
        description="the service's own, as in its log", examples=["60303ae22b998861"]
    )
    request_id: str = Field(examples=["9f86d081884c7d65"])


class Sender:
    """Sends uploads on from threads of its own; beyond a number it refuses instead of waiting."""

    def __init__(self, client: Client, most: int) -> None:
        self._client, self._most, self._busy = client, most, 0
        self._pool = ThreadPoolExecutor(max_workers=most, thread_name_prefix="sender")

    async def send(self, upload: Upload) -> Reply:
        """The service's answer.

        Raises:
            OverloadedError: too many are on their way.
            ServerError: another contract, a refusal, or no answer.
        """
        if self._busy >= self._most:
            raise OverloadedError(f"{self._most} uploads wait for the service's answer already")
        self._busy += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, self._send, upload)
        finally:
            self._busy -= 1

    def _send(self, upload: Upload) -> Reply:
        self._client.check_contract()
        return self._client.send_upload(upload.content, rate_bits=upload.rate_bits)


def create_gateway(
    client: Client, key: bytes, config: GatewayConfig, tokens: Tokens | None = None
) -> FastAPI:
    """The application for one service; `tokens` None asks for none."""
    telemetry, admission = Telemetry(), Admission(tokens, config.rate)
    perturber: Batcher[bytes, Upload] = Batcher(
        lambda photos: [client.phone.perturb(photo, key=key) for photo in photos],
        BatchConfig(largest=1, delay_ms=0, queue=config.queue, deadline_ms=config.deadline_ms),
    )
    telemetry.waiting.set_function(lambda: perturber.waiting)
    telemetry.model.info({"contract": client.digest})
    app = new_app("sfumato gateway", telemetry, perturber, {})
    add_contract(app, client.contract_json, client.digest)
    add_health(app, telemetry, admission, lambda: perturber.alive)
    _add_photo(app, config, admission, perturber, Sender(client, config.on_the_way), client.digest)
    return app


def _add_photo(
    app: FastAPI,
    config: GatewayConfig,
    admission: Admission,
    perturber: Batcher[bytes, Upload],
    sender: Sender,
    digest: str,
) -> None:
    bearer = HTTPBearer(auto_error=False, description="an API token, where the gateway asks for one")

    @app.post(
        "/v1/photo",
        summary="Perturb a photo and ask the service about it",
        openapi_extra=photo_body(config),
        responses=documented(
            "cut-off", "unauthorized", "too-slow", "too-large", "wrong-type", "not-a-photo", "too-many",
            "upstream", "overloaded",
        ),
    )  # fmt: skip
    async def photo(
        request: Request, _token: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)]
    ) -> Passed:
        admission.check(request)
        check_type(request)
        body = await read_body(request, limit=config.largest_photo, seconds=config.body_seconds)
        try:
            (upload,) = (await perturber.submit([body])).values
            reply = await sender.send(upload)
        except DataError as error:
            raise ProblemError("not-a-photo", str(error)) from None
        except OverloadedError as error:
            raise ProblemError("overloaded", str(error), headers=AGAIN) from None
        except ServerError as error:
            if error.status in LATER:
                raise ProblemError("overloaded", str(error), headers=AGAIN) from None
            raise ProblemError("upstream", str(error)) from None
        return Passed(
            answers={name: HeadAnswer.model_validate(answer) for name, answer in reply.answers.items()},
            model=reply.model,
            contract=digest,
            sent_bytes=reply.sent_bytes,
            rate_bits=reply.rate_bits,
            service_request_id=reply.request_id,
            request_id=request.state.request_id,
        )


def check_type(request: Request) -> None:
    """Whether the content type is one that photos come in.

    Raises:
        ProblemError: another one, or the body is compressed once more.
    """
    given = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if given not in PHOTOS or request.headers.get("content-encoding", "identity") != "identity":
        accepted = {"Accept": ", ".join(PHOTOS), **CLOSE}
        raise ProblemError(
            "wrong-type", f"send one of {', '.join(PHOTOS)}, without Content-Encoding", headers=accepted
        )


def photo_body(config: GatewayConfig) -> dict[str, Any]:
    """The request of /v1/photo for OpenAPI."""
    entry = {"schema": {"type": "string", "format": "binary"}, "example": "(the bytes of a photo)"}
    return {
        "requestBody": {
            "required": True,
            "description": f"A photo, at most {config.largest_photo:,} bytes",
            "content": dict.fromkeys(PHOTOS, entry),
        }
    }
