"""Damaged and strange HTTP requests to a real service and a real gateway, for `tests.fuzz.bundle`.

    case = request_cases(export, 0)
    case(17)            # raises a SfumatoError of one line (the service refused), or the answer was right

An ordinary client asks after every few requests, and has to be answered as ever. The memory and the processor's time of the
services count as those of a case.
"""

import contextlib
import json
import random
import re
import socket
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.fuzz.mutation import PICTURES, mutate, mutate_picture, scene
from tests.fuzz.running import started
from tests.load.cases import FORMS, TOLERANCE, Case, encode, make_cases, request

from sfumato.core.errors import SfumatoError
from sfumato.runtime.contract import read_contract
from sfumato.runtime.phone_model import PhoneModel
from sfumato.server.formats import PACKED_BATCH, WORD_BATCH
from sfumato.server.model import CloudModel

KEY = bytes(range(32))
FLAGS = ("--rate", "1000000", "--burst", "1000000", "--header-seconds", "1", "--body-seconds", "1")
PATIENCE = 60.0
"""Seconds without a byte after which a request hangs."""
EVERY = 10
"""Requests between two of the ordinary client."""
PATHS = ("/", "/page/", "/page/page.js", "/v1/contract", "/healthz", "/readyz", "/metrics", "/openapi.json")
STRANGE_PATHS = (
    *(
        "/page/../../etc/passwd",
        "/page/%2e%2e/%2e%2e/etc/passwd",
        "/page//etc/passwd",
        "/page/%00",
        "//",
        "*",
    ),
    *(
        "http://elsewhere.example/",
        "/" + "a" * 9_000,
        "/" + "../" * 300,
        "/v1/predict?" + "a=b&" * 500,
        "/é",
        "",
    ),
)
STRANGE_HEADERS = (
    *(
        "Content-Length: 5",
        "Content-Length: -1",
        "Content-Length: 99999999999999999999",
        "Content-Length: 1e3",
    ),
    *(
        "Transfer-Encoding: chunked",
        "Transfer-Encoding: gzip, chunked",
        "Content-Encoding: gzip",
        "Expect: 100-continue",
    ),
    *(
        "Upgrade: websocket",
        "Upgrade: h2c",
        "Connection: close",
        "Connection: Upgrade",
        "Host: elsewhere.example",
    ),
    *(
        "Host:",
        "Range: bytes=0-0,5-9999999",
        "Range: bytes=-1",
        "If-None-Match: *",
        "X: " + "y" * 9_000,
        "X" * 500 + ":",
    ),
    *(
        "Authorization: Bearer",
        "Authorization: Bearer " + "é" * 50,
        "Cookie: " + "a=b;" * 900,
        "Bad header",
        "\0: x",
    ),
    *(
        "Content-Type: image/png; charset=\xff",
        "Sfumato-Contract: 0",
        "Accept-Encoding: zstd;q=x",
        " folded: x",
    ),
)
CHUNK_ENDS = (
    *(b"0\r\n\r\n", b"0\r\nX: y\r\n\r\n", b"0;x=y\r\n\r\n", b"ffffffffffffffffff\r\n", b"-1\r\n\r\n", b""),
)
METHODS = ("GET", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PATCH", "get", "G" * 300, "")


def request_cases(folder: Path, seed: int) -> Callable[[int], None]:
    """Requests to the service: uploads in every form, batches and every path, as they are, strange, or damaged."""
    contract = read_contract(folder)
    words = contract.answer is not None
    cases = [
        one for form in FORMS if words or form != "word" for one in make_cases(folder, count=2, form=form)
    ]
    kind, form = (WORD_BATCH, "word") if words else (PACKED_BATCH, "packed")
    body = b"".join(encode(one.levels, contract, form) for one in cases[:2])
    digest = CloudModel.load(folder).contract_digest
    whole = [one.request for one in cases]
    whole.append(request(body, kind, digest, path="/v1/predict/batch"))
    whole += [f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode() for path in PATHS]
    port = started(folder, *FLAGS).port

    def case(number: int) -> None:
        rng = random.Random(f"{seed}/requests/{number}")
        at = rng.randrange(len(whole))
        content, changed = strange_request(whole[at], rng)
        try:
            answer = asked(port, content, cut_off=changed)
            if answer and at < len(cases) and not changed:
                assert right(cases[at], answer)
        finally:
            if number % EVERY == 0:
                assert right(cases[0], asked(port, cases[0].request, cut_off=False)), "the ordinary upload"

    return case


def photo_cases(folder: Path, seed: int) -> Callable[[int], None]:
    """Photos to a gateway, most of them damaged, some in damaged requests; answers are those of the bundle itself."""
    phone, cloud, kinds = PhoneModel.load(folder), CloudModel.load(folder), list(PICTURES)
    place = Path(tempfile.mkdtemp(prefix="gateway-", dir=folder.parent))
    key = place / "key"
    key.write_text(KEY.hex(), encoding="ascii")
    key.chmod(0o600)
    service = started(folder, *FLAGS)
    server = ("--gateway", "--server", f"http://127.0.0.1:{service.port}", "--key", str(key))
    port = started(folder, *FLAGS, *server).port
    plain = PICTURES["jpeg"](scene(random.Random(0)))

    def expected(photo: bytes) -> dict[str, dict[str, float]]:
        (answer,) = cloud.predict([phone.perturb(photo, key=KEY).levels])
        return {name: dict(found.probabilities) for name, found in answer.items()}

    def agrees(photo: bytes, answer: dict[str, Any]) -> bool:
        return all(
            abs(answer["answers"][name]["probabilities"][option] - value) <= TOLERANCE
            for name, options in expected(photo).items()
            for option, value in options.items()
        )

    def case(number: int) -> None:
        rng = random.Random(f"{seed}/photos/{number}")
        kind = kinds[number % len(kinds)]
        photo = mutate_picture(kind, rng) if rng.random() < 0.8 else PICTURES[kind](scene(rng))
        content, changed = photo_post(photo, rng.choice(("jpeg", "png", "webp"))), False
        if rng.random() < 0.3:
            content, changed = strange_request(content, rng)
        try:
            answer = asked(port, content, cut_off=changed)
            if answer and not changed:
                assert agrees(photo, json.loads(answer))
        finally:
            if number % EVERY == 0:
                answer = asked(port, photo_post(plain, "jpeg"), cut_off=False)
                assert agrees(plain, json.loads(answer)), "the ordinary photo"

    return case


def photo_post(photo: bytes, kind: str) -> bytes:
    """A photo for a gateway."""
    head = f"POST /v1/photo HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: image/{kind}\r\n"
    return f"{head}Content-Length: {len(photo)}\r\n\r\n".encode() + photo


def strange_request(content: bytes, rng: random.Random) -> tuple[bytes, bool]:
    """A request as it is, under other headers, or damaged; and whether it is another than it was."""
    head, _, body = content.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    kind = rng.randrange(8)
    if kind == 0:
        return content, False
    if kind == 1:
        return mutate(content, rng), True
    if kind == 2:
        return mutate(head, rng) + b"\r\n\r\n" + body, True
    if kind == 3:
        body = (
            mutate(body, rng) if rng.random() < 0.8 else rng.randbytes(rng.choice((0, 1, 5_000, 2_000_000)))
        )
        lines = [line for line in lines if not line.startswith("Content-Length")] + [
            f"Content-Length: {len(body)}"
        ]
    elif kind == 4:
        for _ in range(rng.choice((1, 1, 2, 120))):
            lines.insert(rng.randrange(1, len(lines) + 1), rng.choice(STRANGE_HEADERS))
    elif kind == 5:
        method, path, version = lines[0].split(" ", 2)
        choice = rng.randrange(3)
        lines[0] = " ".join(
            (rng.choice(METHODS), path, version)
            if choice == 0
            else (method, rng.choice(STRANGE_PATHS), version)
            if choice == 1
            else (method, path, rng.choice(("HTTP/1.0", "HTTP/2.0", "HTTP/9.9", "", "HTTP/1.1 x")))
        )
    elif kind == 6:  # in chunks, good or not
        lines = [line for line in lines if not line.startswith("Content-Length")] + [
            "Transfer-Encoding: chunked"
        ]
        step = rng.choice((1, 100, 10_000))
        parts = [body[at : at + step] for at in range(0, len(body), step)]
        body = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts)
        body += rng.choice(CHUNK_ENDS)
    else:
        del lines[rng.randrange(1, len(lines))]
    return "\r\n".join(lines).encode("latin-1", "replace") + b"\r\n\r\n" + body, True


AGAIN = 8
"""How often a request is sent that finds no room: the one before may hold it until its connection is known to be gone."""


def asked(port: int, content: bytes, *, cut_off: bool) -> bytes:
    """Send a request, again where it finds no room; the body of a good answer.

    Args:
        port: of this machine.
        content: the bytes of it.
        cut_off: whether the service may hang up without a word.

    Raises:
        SfumatoError: it was refused, in one line.
        AssertionError: what came back is no answer of ours.
    """
    for _ in range(AGAIN):
        status, kind, body = _once(port, content)
        if status != 503:
            break
        time.sleep(0.5)
    if status == 0:
        assert cut_off, "hung up without a word"
        raise SfumatoError("hung up")
    if status < 400:
        return body
    assert status < 500, f"answered {status}: {body[:200]!r}"
    if body:
        assert kind == "application/problem+json", f"{status} as {kind}"
        detail = json.loads(body)["detail"]
        assert detail, "no detail"
        raise SfumatoError(f"{status}: {detail}")
    raise SfumatoError(f"{status}")


def _once(port: int, content: bytes) -> tuple[int, str, bytes]:
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as client:
        with contextlib.suppress(OSError):  # it is refused before its end
            client.sendall(content)
        return _read(client, head_only=content.startswith(b"HEAD "))


def _read(client: socket.socket, *, head_only: bool) -> tuple[int, str, bytes]:
    """Status, content type and body of an answer; status 0 where there is none."""
    held = b""
    while True:
        head, end, body = held.partition(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
        if end and (head_only or (length and len(body) >= int(length[1]))):
            break
        try:
            more = client.recv(2**16)
        except ConnectionError:
            more = b""
        if not more:
            break
        held += more
    line = re.match(rb"HTTP/1\.1 (\d{3})", held)
    if line is None:
        assert not held, f"no answer of HTTP: {held[:100]!r}"
        return 0, "", b""
    kind = re.search(rb"content-type: ([^\r;]*)", head, re.IGNORECASE)
    return int(line[1]), kind[1].decode() if kind else "", body


def right(case: Case, answer: bytes) -> bool:
    """Whether a body is the network's own answer."""
    return case.right(answer)
