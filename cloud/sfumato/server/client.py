"""The phone's side of the service: perturb here, check that the server has the same contract, send, retry.

    client = Client(PhoneModel.load("export"), "https://photos.example", token=token)
    key = device_keys().for_service(client.service)
    reply = client.send("photo.jpg", key=key)
    reply.answers["smiling"]["label"]
    replies = client.send_many(["a.jpg", "b.jpg"], key=key)

With `ledger=Ledger(...)` every upload is counted for the server's host before it is sent, and refused over the limit.
Only the upload is sent. It is made from pixels alone: no EXIF, no location, no file name. A refusal that stays one is raised at
once. 429, 502, 503, 504, a proxy's own 500 and network faults are tried again, always with the same upload; the pause doubles,
with jitter, and is never shorter than the server's Retry-After. A token goes out with uploads alone, so only to who has shown
the same contract. No redirect is followed, and what is not encrypted, or stays on this machine, goes through no proxy.
"""

import hashlib
import json
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import httpx
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    stop_after_attempt,
    wait_random_exponential,
)

from sfumato.core.errors import SfumatoError, UsageError
from sfumato.runtime.contract import FILE
from sfumato.runtime.ledger import Draw, Ledger, LimitError, service_of
from sfumato.runtime.masks import from_runs
from sfumato.runtime.phone_model import Encoding, PhoneModel, Upload
from sfumato.runtime.upload_codec import pack
from sfumato.server.addresses import is_loopback
from sfumato.server.formats import (
    CONTRACT_HEADER,
    INDEX,
    INDEX_BATCH,
    PACKED_BATCH,
    PNG,
    WORD,
    WORD_BATCH,
    largest_batch,
)

LARGEST_REPLY = 2**20
"""Most bytes of a server's answer that are read."""
TYPES: Mapping[Encoding, str] = {"image": PNG, "word": WORD, "index": INDEX}
BATCH_TYPES: Mapping[Encoding, str] = {"image": PACKED_BATCH, "word": WORD_BATCH, "index": INDEX_BATCH}
UNFIT = "the server's answer does not fit the contract"
RETRIED = (429, 502, 503, 504)
"""Statuses after which the same request may succeed."""


class ServerError(SfumatoError):
    """The server refused, or its response is no answer."""

    def __init__(self, message: str, *, status: int | None = None, kind: str = "") -> None:
        super().__init__(message)
        self.status, self.kind = status, kind


class _RetryError(ServerError):
    """May succeed later; `after` is the server's Retry-After in seconds."""

    after = 0.0


@dataclass(frozen=True, kw_only=True)
class ClientConfig:
    """Time-outs and retries."""

    attempts: int = 5
    """Tries of one request, the first included."""
    connect_seconds: float = 5.0
    answer_seconds: float = 15.0
    """Longest silence while an answer is awaited."""
    first_pause: float = 0.25
    """Upper end of the first pause in seconds; it doubles with every try."""
    longest_pause: float = 10.0
    """Longest pause in seconds; a server that asks for a longer one is given up."""
    plain_http: bool = False
    """Allow http:// beyond this machine: whoever listens on the way reads uploads, answers and the token."""


@dataclass(frozen=True)
class Reply:
    """The server's answer, checked against the local contract."""

    answers: Mapping[str, Mapping[str, Any]]
    """Kept attribute -> `label` and `probabilities`, and `value` of a number."""
    model: str
    request_id: str
    sent_bytes: int
    attempts: int
    seconds: float
    """From the first try to the answer; perturbing not included."""
    rate_bits: float
    """Rate of this photo's upload in bits, as `Upload.rate_bits`: for the user's eyes, it was not sent."""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"schema": "sfumato-reply/1", **asdict(self)}


class Client:
    """Sends perturbed photos to one server. Safe to use from several threads but for perturbing itself."""

    def __init__(
        self,
        phone: PhoneModel,
        server: str,
        *,
        token: str | None = None,
        config: ClientConfig | None = None,
        ledger: Ledger | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.phone, self.config = phone, config or ClientConfig()
        self.contract_json = (phone.folder / FILE).read_bytes()
        self.digest = hashlib.sha256(self.contract_json).hexdigest()
        base = checked_url(server, plain_http=self.config.plain_http)
        self.ledger, self.service = ledger, service_of(base)
        self._checked = False
        self._sleep = sleep
        self._bearer = {"Authorization": f"Bearer {checked_token(token)}"} if token else {}
        self._http = httpx.Client(
            base_url=base,
            headers={"User-Agent": "sfumato"},
            timeout=httpx.Timeout(self.config.answer_seconds, connect=self.config.connect_seconds),
            transport=None if may_use_proxy(base) else httpx.HTTPTransport(),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def check_contract(self) -> None:
        """Ask once whether the server has the contract of this export.

        Raises:
            ServerError: for another one, or the server cannot be reached.
        """
        if self._checked:
            return
        content, _ = self._ask("GET", "/v1/contract")
        if hashlib.sha256(content).hexdigest() != self.digest:
            raise ServerError(
                f"the server answers for another contract than {self.phone.folder}: nothing was sent; get its export",
                kind="other-contract",
            )
        self._checked = True

    def send(
        self, image: Any, *, key: bytes | None, encoding: str | None = None, strength: int | None = None
    ) -> Reply:
        """Perturb a photo here and send the upload.

        Args:
            image: whatever `PhoneModel.perturb` takes: a file, the bytes of one, or pixels.
            key: the device's key for this service; None draws fresh noise, for measurements only.
            encoding, strength: as for `PhoneModel.perturb`.

        Raises:
            DataError: the photo cannot be read.
            UsageError: the export has no such encoding, or no point of this strength.
            LimitError: the upload would pass the ledger's limit; nothing was sent.
            LogError: the ledger cannot be kept; nothing was sent.
            ServerError: another contract, a refusal, or no answer after all tries.
        """
        self.check_contract()
        upload = self.phone.perturb(image, key=key, encoding=encoding, strength=strength)
        return self.send_upload(upload)

    def send_many(
        self,
        images: Sequence[Any],
        *,
        key: bytes | None,
        encoding: str | None = None,
        strength: int | None = None,
    ) -> list[Reply | ServerError | LimitError]:
        """Perturb photos here and send all uploads, as many in a request as the service takes.

        Args:
            images: each as for `send`.
            key: as for `send`.
            encoding: as for `send`; images travel packed, without a PNG around each.
            strength: as for `send`.

        Returns:
            One entry for each photo, in order: its reply, or why the service or the ledger refused this one. A reply's
            `seconds` and `attempts` are those of the request it came with.

        Raises:
            DataError: a photo cannot be read; nothing was sent.
            UsageError: the export has no such encoding, or no point of this strength; nothing was sent.
            LogError: the ledger cannot be kept.
            ServerError: another contract, a refusal of a whole request, or no answer after all tries.
        """
        self.check_contract()
        uploads = [
            self.phone.perturb(image, key=key, encoding=encoding, strength=strength) for image in images
        ]
        if not uploads:
            return []
        most = largest_batch(self.phone.contract, BATCH_TYPES[uploads[0].encoding])
        parts = (uploads[at : at + most] for at in range(0, len(uploads), most))
        return [reply for part in parts for reply in self._send_counted(part)]

    def _send_counted(self, uploads: Sequence[Upload]) -> list[Reply | ServerError | LimitError]:
        """Count a batch, and send what the limit allows."""
        refusals = self._count(uploads)
        allowed = [upload for upload, refusal in zip(uploads, refusals, strict=True) if refusal is None]
        replies = iter(self._send_batch(allowed) if allowed else [])
        return [refusal or next(replies) for refusal in refusals]

    def _count(self, uploads: Sequence[Upload], camera: str | None = None) -> list[LimitError | None]:
        """Put uploads into the ledger, if there is one, before they are sent."""
        if self.ledger is None:
            return [None] * len(uploads)
        draws = [Draw(upload.draw, upload.rate_bits) for upload in uploads]
        return self.ledger.spend_many(self.service, draws, camera=camera)

    def _send_batch(self, uploads: Sequence[Upload]) -> list[Reply | ServerError]:
        start, bits = time.perf_counter(), self.phone.contract.channel.bits
        kind = BATCH_TYPES[uploads[0].encoding]  # one call has one encoding
        each = [
            pack(upload.levels, bits=bits) if kind == PACKED_BATCH else upload.content for upload in uploads
        ]
        headers = {"Content-Type": kind, CONTRACT_HEADER: self.digest, **self._bearer}
        body, attempts = self._ask("POST", "/v1/predict/batch", content=b"".join(each), headers=headers)
        seconds = time.perf_counter() - start
        try:
            answer = json.loads(body)
            items, common = list(answer["items"]), {name: answer[name] for name in ("model", "request_id")}
            if len(items) != len(uploads):
                raise KeyError("items")
            return [
                _item_refusal(item["problem"])
                if "problem" in item
                else self._reply({**common, **item}, len(content), attempts, seconds, upload.rate_bits)
                for item, content, upload in zip(items, each, uploads, strict=True)
            ]
        except (ValueError, KeyError, TypeError):
            raise ServerError(UNFIT) from None

    def send_upload(self, upload: Upload, *, camera: str | None = None) -> Reply:
        """Count and send an upload that is already perturbed.

        Args:
            upload: of `PhoneModel.perturb`.
            camera: name of the camera that it comes from, which the ledger counts it for as well.

        Raises:
            LimitError, LogError, ServerError: as `send`.
        """
        self.check_contract()
        (refusal,) = self._count([upload], camera)
        if refusal is not None:
            raise refusal
        start = time.perf_counter()
        headers = {"Content-Type": TYPES[upload.encoding], CONTRACT_HEADER: self.digest, **self._bearer}
        body, attempts = self._ask("POST", "/v1/predict", content=upload.content, headers=headers)
        seconds = time.perf_counter() - start
        try:
            return self._reply(json.loads(body), len(upload.content), attempts, seconds, upload.rate_bits)
        except (ValueError, KeyError, TypeError):
            raise ServerError(UNFIT) from None

    def _ask(self, method: str, path: str, **more: Any) -> tuple[bytes, int]:
        """The body of a successful answer and the number of tries."""
        retrying = Retrying(
            stop=stop_after_attempt(self.config.attempts),
            wait=self._pause,
            retry=retry_if_exception_type(_RetryError),
            sleep=self._sleep,
            reraise=True,
        )
        for attempt in retrying:
            with attempt:
                return self._once(method, path, **more), attempt.retry_state.attempt_number
        raise AssertionError("tenacity either returns or raises")

    def _once(self, method: str, path: str, **more: Any) -> bytes:
        try:
            with self._http.stream(method, path, **more) as response:
                content = b""
                for part in response.iter_bytes():
                    content += part
                    if len(content) > LARGEST_REPLY:
                        raise ServerError(f"the answer is larger than {LARGEST_REPLY:,} bytes")
        except httpx.HTTPError as error:
            reason = str(error) or type(error).__name__
            raise _RetryError(printable(f"{self._http.base_url} gives no answer ({reason})")) from None
        if response.status_code == 200:
            return content
        if response.has_redirect_location:
            target = printable(response.headers["location"])
            raise ServerError(
                f"the server sends us on ({response.status_code}) to {target}, which nothing follows: "
                "give that address as the server if you trust it",
                status=response.status_code,
            )
        raise self._refusal(response, content)

    def _refusal(self, response: httpx.Response, content: bytes) -> ServerError:
        title, detail, kind = response.reason_phrase, "", ""
        try:
            problem = json.loads(content)
            title, detail = str(problem["title"]), str(problem["detail"])
            kind = str(problem["type"]).rpartition(":")[2]
        except (ValueError, KeyError, TypeError):
            pass  # a proxy's own page
        text = f"the server refuses ({response.status_code}): {title}" + (f": {detail}" if detail else "")
        message = printable(text)
        # HAProxy, as Ray Serve sets it up, says 500 where it reaches nobody. The service's own has problem details.
        if response.status_code not in RETRIED and (response.status_code != 500 or kind):
            return ServerError(message, status=response.status_code, kind=kind)
        again = _RetryError(message, status=response.status_code, kind=kind)
        again.after = retry_after(response.headers.get("retry-after", ""), response.headers.get("date", ""))
        if again.after > self.config.longest_pause:
            return ServerError(
                f"{message}; it asks for {again.after:.0f} s", status=response.status_code, kind=kind
            )
        return again

    def _pause(self, state: RetryCallState) -> float:
        """Full jitter below a doubling limit, on top of what the server asks for."""
        error = state.outcome.exception() if state.outcome else None
        asked = error.after if isinstance(error, _RetryError) else 0.0
        drawn = wait_random_exponential(self.config.first_pause, self.config.longest_pause)(state)
        return asked + min(drawn, random.uniform(0, self.config.longest_pause)) if asked else drawn

    def _reply(self, answer: Any, sent: int, attempts: int, seconds: float, rate_bits: float) -> Reply:
        """Raises ValueError, KeyError or TypeError if the answer does not fit this contract."""
        answers, model, request = dict(answer["answers"]), str(answer["model"]), str(answer["request_id"])
        for entry in self.phone.contract.keep:
            found = answers[entry.name]
            if found["label"] not in entry.classes or set(found["probabilities"]) != set(entry.classes):
                raise KeyError(entry.name)
            if entry.values is not None:
                float(found["value"])
            if entry.grid is not None:
                from_runs(found["mask"], entry.grid, classes=len(entry.classes))
        return Reply(answers, model, request, sent, attempts, seconds, rate_bits)


def _item_refusal(problem: Any) -> ServerError:
    """Why one upload of a batch has no answer."""
    message = printable(f"the server refuses this upload: {problem['title']}: {problem['detail']}")
    return ServerError(message, status=int(problem["status"]), kind=str(problem["type"]).rpartition(":")[2])


def printable(text: str) -> str:
    """A server's text, as one line that a terminal may show."""
    return "".join(c if c.isprintable() else " " for c in text)[:500]


def retry_after(value: str, date: str = "") -> float:
    """Seconds that a Retry-After asks for, as a number or as a date; 0 for anything else, and for the past.

    Args:
        value: of the header.
        date: the server's Date, so that two clocks need not agree; without it our own counts.
    """
    if value.strip().isascii() and value.strip().isdecimal():
        return float(value)
    until, now = moment(value), moment(date) or time.time()
    return max(0.0, until - now) if until else 0.0


def moment(value: str) -> float | None:
    """Seconds since 1970 of an HTTP date; None if it is none."""
    try:
        found = parsedate_to_datetime(value)
        # The form of C's asctime names no zone: HTTP dates are in UTC (RFC 9110, section 5.6.7), not in ours.
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    except (TypeError, ValueError, OverflowError):
        return None


def checked_token(token: str) -> str:
    """A token as it can stand in a header; the mark of an editor and a line end around it are no part of it.

    Raises:
        UsageError: it holds something else than printable ASCII. The message does not show it.
    """
    token = token.removeprefix("\ufeff").strip()
    if not token.isascii() or not token.isprintable() or " " in token:
        raise UsageError(
            "the token holds characters that no token has: give it alone, without its name or quotes"
        )
    return token


def may_use_proxy(url: str) -> bool:
    """Whether a proxy of the environment may carry requests: it sees nothing of https, and everything of http."""
    parts = urlsplit(url)
    return parts.scheme == "https" and not is_loopback(parts.hostname or "")


def checked_url(server: str, *, plain_http: bool) -> str:
    """The server's address, if uploads may go there.

    Raises:
        UsageError: no http or https address, or http beyond this machine.
    """
    try:
        parts, url = urlsplit(server), httpx.URL(server)
        named = parts.hostname and url.host == parts.hostname and (parts.port is None or parts.port > 0)
        extra = parts.username or parts.password or parts.query or parts.fragment
    except (ValueError, httpx.InvalidURL):  # a port that is no number, a bracket that is not closed
        named = extra = None
    if not named or extra or " " in server or parts.scheme not in ("http", "https"):
        example = "https://photos.example, or http://[::1]:8080 for an address of IPv6"
        raise UsageError(f"{printable(server)!r} is no server: give something like {example}")
    if parts.scheme == "http" and not is_loopback(parts.hostname or "") and not plain_http:
        raise UsageError(
            f"{server} is not encrypted: use https, or say --plain-http inside a trusted network"
        )
    return server.rstrip("/")
