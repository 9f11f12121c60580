"""The gateway: for cameras that cannot run a model, a box in the trusted network perturbs photos and sends the uploads on.

    app = create_gateway(Client(PhoneModel.load("export"), "https://photos.example"), lambda: key, GatewayConfig(), tokens)

POST /v1/photo     a photo (any format that `sfumato perturb` reads), or a WAV file where the model takes recordings -> the
                   service's answer; the upload's rate, and whether the photo looks like none of those that the model was made
                   for: neither is sent on
GET  /v1/contract, /healthz, /readyz, /metrics     as the service

It holds the device key and the phone's model of the export; the photo is decoded, perturbed and forgotten. The client of
`sfumato send` takes the upload on: the contract is compared first, the upload is counted in the ledger and refused over its
limit, uploads are tried again with patience. With `scenes`, photos of one client that show one scene are one upload and have
one answer, which is asked for once. A service answers /v1/predict and a gateway /v1/photo, so neither can be mistaken for the
other.
"""

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response

from sfumato.core.errors import DataError, UsageError
from sfumato.core.picture_file import DICOM, kind_of
from sfumato.runtime.ledger import LimitError
from sfumato.runtime.scenes import SceneConfig
from sfumato.runtime.sealed_log import LogError
from sfumato.server.admission import Shares, client_name
from sfumato.server.app import access_control, contract_endpoint, health_endpoints, new_app
from sfumato.server.auth import AccessControl, KnownTokens, RateLimitConfig
from sfumato.server.batching import BatchConfig, Batcher
from sfumato.server.client import Client, Reply, ServerError
from sfumato.server.client_scenes import Asked, ClientScenes, asked_about
from sfumato.server.endpoints import JSON, Endpoint
from sfumato.server.hosts import asked_names
from sfumato.server.model import AttributePrediction
from sfumato.server.photo_budget import check_photo
from sfumato.server.predict import Origin, binary, request_body
from sfumato.server.problems import OverloadedError, ProblemError
from sfumato.server.shared import Place
from sfumato.server.telemetry import Telemetry
from sfumato.server.uploads import BODY_REFUSALS, body_bytes, read_body, type_check

PHOTOS = (
    "image/jpeg",
    "image/png",
    "image/webp",
    "image/bmp",
    "image/tiff",
    "audio/wav",
    "application/octet-stream",
)
"""Content types that are taken; what a photo really is, its bytes decide."""
LATER = (429, 503)
"""Statuses of the service that say: try again."""


@dataclass(frozen=True, kw_only=True)
class GatewayConfig:
    """How the gateway works."""

    rate: RateLimitConfig = field(default_factory=RateLimitConfig)
    largest_photo: int = 20_000_000
    """Most bytes of a photo."""
    body_seconds: float = 30.0
    """Longest time the body of a request may take."""
    queue: int = 16
    """Photos that may wait, in memory, until they are perturbed one after the other."""
    deadline_ms: float = 10_000.0
    """Longest time until a photo is perturbed."""
    concurrent_sends: int = 32
    """Uploads that may wait for the service's answer at the same time; clients share them."""
    photo_bytes: int = 40_000_000
    """Most bytes of all photos in memory; clients share them, and a place is taken before the first byte is read."""
    decode_bytes: int = 100_000_000
    """Most memory that decoding a photo may take (`decoding_bytes`); one is decoded at a time."""
    hosts: tuple[str, ...] = ()
    """As `AppConfig.hosts`."""
    scenes: SceneConfig | None = None
    """When two photos of a client show one scene, and so are one upload; None: every photo is one of its own."""

    def __post_init__(self) -> None:
        if not 0 < self.largest_photo <= self.photo_bytes:
            raise ValueError(f"no photo of {self.largest_photo} bytes would find room with {self}")


class GatewayPrediction(Origin):
    """The service's answer to a photo's upload, and what was sent for it."""

    answers: dict[str, AttributePrediction] = Field(
        description="one for every kept attribute of the contract"
    )
    sent_bytes: int = Field(
        description="size of the upload; 0 where its scene had its answer, so that nothing was sent",
        examples=[1754],
    )
    rate_bits: float = Field(
        description="rate of this upload: how many bits of the photo it can carry at most; 0 where nothing was sent. "
        "It was not sent itself",
        examples=[6.1],
    )
    scene: int | None = Field(
        description="number of the photo's scene among those of this client, from 1; null where scenes are not looked for",
        examples=[1],
    )
    unlike: bool | None = Field(
        description="whether the photo looks like none of those that the model was made for, so that the answer means "
        "nothing; null where the bundle does not say what they look like; it was not sent",
        examples=[False],
    )
    account: str | None = Field(
        description="what was sent to the service by now, in words; null where no account is kept",
        examples=["Today 12 photos, at most 13.1 bits to photos.example; the limit is 100."],
    )
    service_request_id: str = Field(
        description="the service's own, as in its log", examples=["60303ae22b998861"]
    )


class Sender:
    """Sends uploads on from threads of its own; beyond a number it refuses instead of waiting."""

    def __init__(self, client: Client, most: int) -> None:
        self._client, self._places = client, Shares(most, "places for uploads that wait for the service")
        self._pool = ThreadPoolExecutor(max_workers=most, thread_name_prefix="sender")

    async def send(self, asked: Asked, client: str) -> tuple[Reply, str | None]:
        """The service's answer to this client's upload, and the account in words where one is kept.

        Where the scene has its answer, this one says that nothing was sent.

        Raises:
            OverloadedError: too many are being sent.
            LimitError, LogError: the account says no, or cannot be kept; nothing was sent.
            ServerError: another contract, a refusal, or no answer.
        """
        with self._places.hold(client, 1):
            return await asyncio.get_running_loop().run_in_executor(self._pool, self._send, asked)

    def _send(self, asked: Asked) -> tuple[Reply, str | None]:
        client, upload, reply = self._client, asked.upload, asked.reply
        if reply is not None:
            reply = replace(reply, sent_bytes=0, rate_bits=0.0)
        else:
            assert upload is not None
            client.check_contract()
            reply = client.send_upload(upload)
            asked.reply, asked.upload = reply, None  # the answer first: another thread may look at both
        return reply, client.ledger.account(client.service).sentence() if client.ledger else None


def create_gateway(
    client: Client,
    key: Callable[[], bytes],
    config: GatewayConfig | None = None,
    tokens: KnownTokens | None = None,
    place: Place | None = None,
) -> Starlette:
    """The application in front of one service.

    Args:
        client: holds the phone's model, the service's address, and the ledger if one is kept.
        key: gives the device's key for this service, 32 bytes; asked for every photo, for it may change from a day on.
        config: limits; None takes the defaults.
        tokens: who may ask; None asks for no token.
        place: which of the gateway's processes this is; None: there is one.

    Raises:
        UsageError: scenes, and a model that takes recordings.
    """
    config = config or GatewayConfig()
    if config.scenes is not None and client.phone.contract.sound is not None:
        raise UsageError("this model takes recordings, and scenes are of photos: leave --scenes out")
    telemetry, access = Telemetry(place), access_control(tokens, config.rate, place)
    size = client.phone.contract.size

    def read(photo: bytes) -> NDArray[np.uint8]:
        if kind_of(photo) == DICOM:  # its memory is no budget's: pydicom reads whatever the file holds
            raise DataError("a gateway reads no DICOM: save it as a PNG of 16 bits")
        return client.phone.read(photo, max_decoded=check_photo(photo, size, config.decode_bytes))

    scenes = ClientScenes(config.scenes)

    def asked(name: str, photo: bytes) -> Asked:
        if client.phone.contract.sound is not None:  # a recording is a small file, which is read as it is
            return asked_about(client.phone.perturb(photo, key=key()))
        pixels = read(photo)
        return scenes.asked(name, pixels, lambda: client.phone.perturb(pixels, key=key()))

    def perturb(photos: Sequence[tuple[str, bytes]]) -> list[Asked | DataError]:
        found: list[Asked | DataError] = []
        for name, photo in photos:
            try:
                found.append(asked(name, photo))
            except DataError as error:
                found.append(error)
        return found

    perturber: Batcher[tuple[str, bytes], Asked | DataError] = Batcher(
        perturb,
        BatchConfig(largest=1, delay_ms=0, queue=config.queue, deadline_ms=config.deadline_ms),
        changed=telemetry.waiting.set,
    )
    telemetry.model = {"contract": client.digest}
    # A photo of the largest size must find room.
    room = max(config.largest_photo, place.share(config.photo_bytes)) if place else config.photo_bytes
    sender = Sender(client, config.concurrent_sends)
    endpoints = [
        photo_endpoint(config, access, perturber, sender, client.digest, room),
        contract_endpoint(client.contract_json, client.digest),
        *health_endpoints(telemetry, access, lambda: perturber.alive),
    ]
    hosts = asked_names(config.hosts, tokens=tokens is not None)
    return new_app("sfumato gateway", endpoints, telemetry, perturber, hosts=hosts)


def photo_endpoint(
    config: GatewayConfig,
    access: AccessControl,
    perturber: Batcher[tuple[str, bytes], Asked | DataError],
    sender: Sender,
    digest: str,
    photo_bytes: float,
) -> Endpoint:
    """POST /v1/photo; `photo_bytes` are this process's."""

    photos = Shares(photo_bytes, "bytes for photos")

    async def perturbed(request: Request, client: str) -> Asked:
        """The photo itself is gone when this returns, before the service is asked."""
        size = body_bytes(request, config.largest_photo)
        perturber.admit(time.perf_counter(), 1, client)
        with photos.hold(client, size):
            body = await read_body(request, limit=config.largest_photo, seconds=config.body_seconds)
            (asked,) = (await perturber.submit([(client, body)], client=client)).values
        if isinstance(asked, DataError):
            raise asked
        return asked

    async def photo(request: Request) -> Response:
        try:
            client = client_name(request)
            asked = await perturbed(request, client)
            reply, account = await sender.send(asked, client)
        except DataError as error:
            raise ProblemError("not-a-photo", str(error)) from None
        except LimitError as error:
            raise ProblemError("over-limit", str(error)) from None
        except LogError as error:
            raise ProblemError("no-account", str(error)) from None
        except ServerError as error:
            raise (
                OverloadedError(str(error)) if error.status in LATER else ProblemError("upstream", str(error))
            ) from None
        answer = GatewayPrediction(
            answers={name: AttributePrediction(**one) for name, one in reply.answers.items()},
            model=reply.model,
            contract=digest,
            sent_bytes=reply.sent_bytes,
            rate_bits=reply.rate_bits,
            unlike=asked.unlike,
            scene=asked.scene,
            account=account,
            service_request_id=reply.request_id,
            request_id=request.state.request_id,
        )
        body = answer.model_dump(mode="json")
        for one in body["answers"].values():
            for name in (
                "value",
                "mask",
            ):  # of a number and a mask alone; nulls of other fields say something
                if one[name] is None:
                    del one[name]
        return Response(json.dumps(body), media_type=JSON)

    size = f"A photo, at most {config.largest_photo:,} bytes"
    return Endpoint(
        path="/v1/photo",
        method="POST",
        respond=photo,
        summary="Perturb a photo and ask the service about it",
        checks=(access.token, access.rate, type_check(PHOTOS, photos=True)),
        refusals=(*BODY_REFUSALS, "not-a-photo", "over-limit", "no-account", "upstream", "overloaded"),
        answer=GatewayPrediction,
        operation=request_body(size, dict.fromkeys(PHOTOS, binary("(the bytes of a photo)"))),
    )
