"""`sfumato send` and its class, against the real service and against one that behaves badly on purpose."""

import hashlib
import json
import math
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from tests.server.conftest import KEY, Server, Start, start_server
from typer import Typer
from typer.testing import CliRunner

from sfumato.cli import send
from sfumato.core.errors import UsageError
from sfumato.runtime.keyring import KeyRing
from sfumato.runtime.ledger import Ledger, LimitError
from sfumato.runtime.phone_model import PhoneModel
from sfumato.runtime.sealed_log import LogError
from sfumato.runtime.signing import write_digests
from sfumato.runtime.upload_codec import pack
from sfumato.server.client import Client, ClientConfig, Reply, ServerError, retry_after
from sfumato.server.model import CloudModel

Pictures = list[NDArray[np.uint8]]
Step = Callable[[BaseHTTPRequestHandler], None]


def test_send_shows_the_predictions_of_the_network(
    server: Server, bundle: Path, model: CloudModel, phone: PhoneModel, pictures: Pictures, tmp_path: Path
) -> None:
    photo, key = tmp_path / "photo.png", tmp_path / "key"
    Image.fromarray(pictures[3]).save(photo)
    key.write_bytes(KEY)
    key.chmod(0o600)
    app = Typer()
    app.command()(send.command)
    arguments = [str(bundle), str(photo), "--server", server.url, "--key", str(key)]
    # Noise is no photo that the model was made for.
    refused = CliRunner().invoke(app, arguments)
    assert refused.exit_code == 1
    assert "--anyway" in str(refused.exception)
    result = CliRunner().invoke(app, [*arguments, "--anyway", "--json"])
    assert result.exit_code == 0, result.output
    answer = json.loads(result.stdout)
    upload = phone.perturb(photo, key=KeyRing.of(KEY).for_service("127.0.0.1"))
    (expected,) = model.predict([upload.levels])
    assert answer["answers"]["glasses"]["label"] == expected["glasses"].label
    assert (answer["sent_bytes"], answer["attempts"]) == (len(upload.content), 1)
    people = CliRunner().invoke(app, [*arguments, "--anyway"])
    assert expected["glasses"].label in people.stdout
    said = Ledger(tmp_path / "key.ledger", KEY).account("127.0.0.1").sentence()
    assert answer["account"] == said
    assert (
        said
        == f"Today 1 photo, at most {math.ceil(10 * upload.rate_bits) / 10} bits to 127.0.0.1; no limit is set."
    )


def test_many_at_once_get_what_each_gets_alone(server: Server, phone: PhoneModel, pictures: Pictures) -> None:
    with Client(phone, server.url) as client:
        replies = client.send_many(pictures * 9, key=KEY)  # two requests
        assert len(replies) == 72
        for reply, picture in zip(replies, pictures, strict=False):
            assert isinstance(reply, Reply)
            alone = client.send(picture, key=KEY)
            found, expected = (one.answers["glasses"]["probabilities"] for one in (reply, alone))
            assert found == pytest.approx(expected, abs=2e-6)
            assert (reply.rate_bits, reply.sent_bytes) == (alone.rate_bits, 384)
        assert replies[0].request_id != replies[71].request_id  # type: ignore[union-attr]


def test_an_upload_of_a_chosen_strength_is_sent_and_counted(
    dial_export: Path, pictures: Pictures, tmp_path: Path
) -> None:
    phone, model = PhoneModel.load(dial_export), CloudModel.load(dial_export)
    photo, key = tmp_path / "photo.png", tmp_path / "key"
    Image.fromarray(pictures[3]).save(photo)
    key.write_bytes(KEY)
    key.chmod(0o600)
    app = Typer()
    app.command()(send.command)
    own = KeyRing.of(KEY).for_service("127.0.0.1")
    upload = phone.perturb(photo, key=own, strength=64)
    (expected,) = model.predict([upload.levels])
    running = start_server(dial_export, model.contract_digest, tmp_path / "log")
    try:
        arguments = [str(dial_export), str(photo), "--server", running.url, "--key", str(key), "--anyway"]
        result = CliRunner().invoke(app, [*arguments, "--json", "--strength", "64"])
        assert result.exit_code == 0, result.output
        answer = json.loads(result.stdout)
        assert answer["strength"] == 64
        assert answer["rate_bits"] == pytest.approx(upload.rate_bits)
        assert answer["answers"]["glasses"]["label"] == expected["glasses"].label
        refused = CliRunner().invoke(app, [*arguments, "--strength", "65"])
        assert isinstance(refused.exception, UsageError)
        ledger = Ledger(tmp_path / "key.ledger", KEY)
        with Client(phone, running.url, ledger=ledger) as client:
            assert client.send(photo, key=own, strength=64).rate_bits == upload.rate_bits
            (reply,) = client.send_many([photo], key=own, strength=31)
            assert isinstance(reply, Reply)
        # The command's draw again is no new one; another strength is.
        assert ledger.account("127.0.0.1").total.draws == 2
    finally:
        running.stop()


def test_one_refusal_among_many_stands_in_its_place(
    scripted: Callable[..., "Scripted"], phone: PhoneModel, pictures: Pictures
) -> None:
    good = dict(json.loads(GOOD)["answers"])
    good["glasses"] = {"label": phone.contract.keep[0].classes[0]}
    good["glasses"]["probabilities"] = dict.fromkeys(phone.contract.keep[0].classes, 0.5)
    refused = {"type": "urn:sfumato:problem:raw-photo", "title": "T", "status": 422, "detail": "D\n"}
    answer = {"items": [{"problem": refused}, {"answers": good}], "model": "m", "request_id": "r"}
    fake = scripted(say(200, json.dumps(answer).encode()), say(200, json.dumps(answer).encode()))
    with Client(phone, fake.url) as client:
        first, second = client.send_many(pictures[:2], key=KEY)
        assert isinstance(first, ServerError)
        assert (first.status, first.kind, str(first).endswith("T: D ")) == (422, "raw-photo", True)
        assert isinstance(second, Reply)
        with pytest.raises(ServerError, match="does not fit"):
            client.send_many(pictures[:3], key=KEY)
    packed = [pack(phone.perturb(picture, key=KEY).levels, bits=1) for picture in pictures[:2]]
    assert fake.bodies[0] == b"".join(packed)


class Scripted:
    """A server that plays steps in turn and remembers what it was sent."""

    def __init__(self, contract: bytes, steps: list[Step]) -> None:
        self.bodies: list[bytes] = []
        self.headers: list[dict[str, str]] = []
        self.asked: list[dict[str, str]] = []
        """Headers of every GET."""
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.append(dict(self.headers))
                say(200, contract)(self)

            def do_POST(self) -> None:
                outer.bodies.append(self.rfile.read(int(self.headers["content-length"])))
                outer.headers.append(dict(self.headers))
                steps.pop(0)(self)

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()


def say(status: int, body: bytes = b"", **headers: str) -> Step:
    def step(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(body)

    return step


def hang_up(handler: BaseHTTPRequestHandler) -> None:
    handler.connection.close()


GOOD = json.dumps(
    {
        "answers": {"glasses": {"label": "yes", "probabilities": {"no": 0.1, "yes": 0.9}}},
        "model": "m",
        "request_id": "r",
    }
).encode()


@pytest.fixture
def scripted(bundle: Path) -> Iterator[Callable[..., Scripted]]:
    running: list[Scripted] = []

    def go(*steps: Step) -> Scripted:
        running.append(Scripted((bundle / "contract.json").read_bytes(), list(steps)))
        return running[-1]

    yield go
    for one in running:
        one.http.shutdown()
        one.http.server_close()


def test_busy_and_broken_servers_are_asked_again(
    scripted: Callable[..., Scripted], phone: PhoneModel, pictures: Pictures
) -> None:
    classes = phone.contract.keep[0].classes
    good = GOOD.replace(b"yes", classes[1].encode()).replace(b'"no"', json.dumps(classes[0]).encode())
    fake = scripted(say(503), hang_up, say(429, Retry_After="3"), say(500), say(200, good))
    pauses: list[float] = []
    with Client(phone, fake.url, sleep=pauses.append, token="secret-of-this-app") as client:
        reply = client.send(pictures[0], key=KEY)
    assert reply.attempts == 5
    assert reply.answers["glasses"]["label"] == classes[1]
    assert len(set(fake.bodies)) == 1  # the same upload each time: fresh noise would add information
    assert len(pauses) == 4
    assert all(0 <= pause <= limit for pause, limit in zip(pauses[:2], (0.25, 0.5), strict=True))
    assert 3 <= pauses[2] <= 13


def test_only_the_upload_travels(
    scripted: Callable[..., Scripted], phone: PhoneModel, pictures: Pictures, tmp_path: Path
) -> None:
    fake = scripted(say(400))
    exif = Image.Exif()
    exif[0x010F] = "Camera-of-Ada"
    photo = tmp_path / "holiday-in-paris.jpg"
    Image.fromarray(pictures[1]).save(photo, exif=exif)
    with Client(phone, fake.url) as client, pytest.raises(ServerError):
        client.send(photo, key=KEY)
    (body,), (headers,) = fake.bodies, fake.headers
    upload = phone.perturb(photo, key=KEY)
    assert body == upload.content
    assert upload.unlike  # which nothing that was sent says
    assert set(headers) <= {
        "Host", "Accept", "Accept-Encoding", "Connection", "User-Agent", "Content-Type", "Sfumato-Contract",
        "Content-Length",
    }  # fmt: skip
    assert "paris" not in str(headers)


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (say(422, b'{"type": "urn:x:raw-photo", "title": "T", "detail": "D"}'), "T: D"),
        (say(401, b"<html>"), "401"),
        (
            say(302, Location="http://elsewhere.example/"),
            r"302.*elsewhere\.example/, which nothing follows",
        ),
        (say(301, Location="/api/v1/predict"), "give that address"),
        (say(308, Location="//127.0.0.1:1/"), "give that address"),
        (say(429, Retry_After="3600"), "3600 s"),
        (say(200, b"no json"), "does not fit"),
        (say(200, GOOD.replace(b"glasses", b"hair")), "does not fit"),
        (say(200, b"x" * (2**20 + 1)), "larger"),
    ],
)
def test_a_refusal_that_stays_one_is_raised_at_once(
    scripted: Callable[..., Scripted], phone: PhoneModel, pictures: Pictures, step: Step, expected: str
) -> None:
    fake = scripted(step)
    with Client(phone, fake.url) as client, pytest.raises(ServerError, match=expected):
        client.send(pictures[0], key=KEY)
    assert len(fake.bodies) == 1


def test_another_contract_stops_before_anything_is_sent(
    scripted: Callable[..., Scripted], bundle: Path, pictures: Pictures, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(bundle, tmp_path / "copy"))
    text = (copy / "contract.json").read_text(encoding="utf-8")
    (copy / "contract.json").write_text(text + "\n")
    write_digests(copy)
    fake = scripted()
    with (
        Client(PhoneModel.load(copy), fake.url) as client,
        pytest.raises(ServerError, match="another contract"),
    ):
        client.send(pictures[0], key=KEY)
    assert fake.bodies == []


def test_what_is_sent_is_counted_before_and_refused_over_the_limit(
    scripted: Callable[..., Scripted], phone: PhoneModel, pictures: Pictures, tmp_path: Path
) -> None:
    fake = scripted(say(400), say(400))
    ledger = Ledger(tmp_path / "ledger", KEY)
    rates = [phone.perturb(picture, key=KEY).rate_bits for picture in pictures]
    with Client(phone, fake.url, ledger=ledger) as client:
        with pytest.raises(ServerError, match="400"):
            client.send(pictures[0], key=KEY)
        account = ledger.account("127.0.0.1")
        assert account.today.microbits == math.ceil(rates[0] * 1e6)  # the service has it, whatever it says
        ledger.set_limit("127.0.0.1", day=rates[0] + 1e-5, total=None)
        with pytest.raises(LimitError, match=r"127\.0\.0\.1: this photo's .* nothing was sent"):
            client.send(pictures[1], key=KEY)
        assert len(fake.bodies) == 1
        with pytest.raises(ServerError, match="400"):
            client.send(pictures[0], key=KEY)  # the same upload costs nothing more
        ledger.path.write_bytes(b"")
        with pytest.raises(LogError, match="older copy"):
            client.send(pictures[0], key=KEY)
    assert len(fake.bodies) == 2
    assert fake.bodies[0] == fake.bodies[1]


def test_of_many_the_ledger_leaves_out_what_does_not_fit(
    server: Server, phone: PhoneModel, pictures: Pictures, tmp_path: Path
) -> None:
    rates = [phone.perturb(picture, key=KEY).rate_bits for picture in pictures[:4]]
    ledger = Ledger(tmp_path / "ledger", KEY)
    ledger.set_limit("127.0.0.1", day=rates[0] + rates[1] + 1e-4, total=None)
    with Client(phone, server.url, ledger=ledger) as client:
        replies = client.send_many([*pictures[:2], pictures[2], pictures[0]], key=KEY)
        assert [type(reply) for reply in replies] == [Reply, Reply, LimitError, Reply]
        alone = client.send(pictures[1], key=KEY)
        assert isinstance(replies[1], Reply)
        assert replies[1].rate_bits == alone.rate_bits
        found = replies[1].answers["glasses"]["probabilities"]
        assert found == pytest.approx(alone.answers["glasses"]["probabilities"], abs=2e-6)
        refused = client.send_many(pictures[2:4], key=KEY)
    assert [type(reply) for reply in refused] == [LimitError, LimitError]
    account = ledger.account("127.0.0.1")
    assert (account.today.uploads, account.today.draws) == (4, 2)
    assert account.today.microbits == sum(math.ceil(rate * 1e6) for rate in rates[:2])


def test_nobody_there(phone: PhoneModel, pictures: Pictures) -> None:
    pauses: list[float] = []
    config = ClientConfig(attempts=3)
    with (
        Client(phone, "http://127.0.0.1:9", config=config, sleep=pauses.append) as client,
        pytest.raises(ServerError, match="gives no answer"),
    ):
        client.send(pictures[0], key=KEY)
    assert len(pauses) == 2


class Proxy:
    """Listens, and remembers the first bytes of every connection."""

    def __init__(self) -> None:
        self.seen: list[bytes] = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            with connection:
                self.seen.append(connection.recv(2**16))
                connection.sendall(
                    b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                )


TOKEN = "secret-token-0123456789"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.0.0.2"])
def test_this_machine_is_not_asked_through_a_proxy(
    scripted: Callable[..., Scripted],
    phone: PhoneModel,
    pictures: Pictures,
    monkeypatch: pytest.MonkeyPatch,
    host: str,
) -> None:
    proxy, fake = Proxy(), scripted(say(400))
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, proxy.url)
        monkeypatch.setenv(name.lower(), proxy.url)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    config = ClientConfig(attempts=1, connect_seconds=2)
    url = fake.url.replace("127.0.0.1", host)
    with Client(phone, url, token=TOKEN, config=config) as client, pytest.raises(ServerError):
        client.send(pictures[0], key=KEY)  # 127.0.0.2 leads to nobody, which is fine: it led to no proxy
    assert proxy.seen == []
    # What goes beyond this machine without encryption tells a proxy everything; with it, nothing but the host.
    plain = ClientConfig(attempts=1, plain_http=True, connect_seconds=0.2)
    with Client(phone, "http://192.0.2.1", token=TOKEN, config=plain) as client, pytest.raises(ServerError):
        client.check_contract()
    assert proxy.seen == []
    with (
        Client(phone, "https://photos.example", token=TOKEN, config=config) as client,
        pytest.raises(ServerError),
    ):
        client.check_contract()
    proxy.listener.close()
    assert [request.split(b"\r\n")[0] for request in proxy.seen] == [b"CONNECT photos.example:443 HTTP/1.1"]
    assert TOKEN.encode() not in b"".join(proxy.seen)


def test_a_token_goes_to_who_showed_the_contract_and_with_uploads_alone(
    scripted: Callable[..., Scripted], phone: PhoneModel, bundle: Path, pictures: Pictures, tmp_path: Path
) -> None:
    fake = scripted(say(400), say(400))
    upload = phone.perturb(pictures[0], key=KEY)
    with Client(phone, fake.url, token=f"\ufeff{TOKEN}\r\n") as client:
        with pytest.raises(ServerError):
            client.send_upload(upload)  # without check_contract before it
        with pytest.raises(ServerError):
            client.send_many(pictures[:1], key=KEY)
    assert [headers.get("Authorization") for headers in fake.asked] == [None]
    assert [headers["Authorization"] for headers in fake.headers] == [f"Bearer {TOKEN}"] * 2
    stranger = scripted()
    copy = Path(shutil.copytree(bundle, tmp_path / "copy"))
    (copy / "contract.json").write_text((copy / "contract.json").read_text(encoding="utf-8") + " ")
    write_digests(copy)  # another contract, and whole
    other = Client(PhoneModel.load(copy), stranger.url, token=TOKEN)
    with other, pytest.raises(ServerError, match="another contract"):
        other.send_upload(upload)
    assert stranger.headers == []
    assert [headers.get("Authorization") for headers in stranger.asked] == [None]


@pytest.mark.parametrize("token", ["a b", "t\u00e9", "x\r\nHost: evil", "\u201ctoken\u201d", "a\x00"])
def test_what_is_no_token_is_refused_and_not_shown(phone: PhoneModel, token: str) -> None:
    with pytest.raises(UsageError) as error:
        Client(phone, "http://127.0.0.1:9", token=token)
    assert token not in str(error.value)


@pytest.mark.parametrize(
    ("value", "date", "seconds"),
    [
        ("3", "", 3.0), (" 120 ", "", 120.0), ("0", "", 0.0), ("", "", 0.0), ("soon", "", 0.0), ("\u00b2", "", 0.0),
        ("-5", "", 0.0), ("1.5", "", 0.0),
        ("Fri, 31 Dec 2032 23:59:59 GMT", "Fri, 31 Dec 2032 23:59:52 GMT", 7.0),
        ("Friday, 31-Dec-32 23:59:59 GMT", "Fri, 31 Dec 2032 23:59:52 GMT", 7.0),
        ("Fri Dec 31 23:59:59 2032", "Fri, 31 Dec 2032 23:59:52 GMT", 7.0),
        ("Fri, 31 Dec 1999 23:59:59 GMT", "", 0.0), ("Fri, 31 Dec 99999 23:59:59 GMT", "", 0.0),
        ("Fri, 31 Dec 2032 25:61:61 GMT", "", 0.0),
    ],
)  # fmt: skip
def test_retry_after_is_a_number_or_a_date(
    value: str, date: str, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    try:
        for zone in ("UTC", "Pacific/Kiritimati", "America/Los_Angeles"):
            monkeypatch.setenv("TZ", zone)
            time.tzset()
            assert retry_after(value, date) == seconds
    finally:
        monkeypatch.undo()
        time.tzset()


def test_a_date_is_waited_for_and_one_far_away_is_said(
    scripted: Callable[..., Scripted], phone: PhoneModel, pictures: Pictures
) -> None:
    soon = formatdate(time.time() + 5, usegmt=True)
    fake = scripted(say(503, Retry_After=soon), say(503, Retry_After="Fri, 31 Dec 2032 23:59:59 GMT"))
    pauses: list[float] = []
    with (
        Client(phone, fake.url, sleep=pauses.append) as client,
        pytest.raises(ServerError, match=r"it asks for \d+ s"),
    ):
        client.send(pictures[0], key=KEY)
    assert len(pauses) == 1
    assert 3 <= pauses[0] <= 15


@pytest.mark.parametrize(
    "server",
    [
        "photos.example", "ftp://x", "http://photos.example", "https://u:p@x.example", "http://[::1", "http://::1:8080",
        "https://x:99999", "https://x:y", "https://x#y", "https://a b", "https://\x1b[2J", "", "https://:443",
        "http://localhost@evil.example", "http://127.0.0.1.evil.example", "https://x\\@y",
    ],
)  # fmt: skip
def test_addresses_that_are_refused(phone: PhoneModel, server: str) -> None:
    with pytest.raises(UsageError) as error:
        Client(phone, server)
    assert str(error.value).isprintable()


@pytest.mark.parametrize(
    "server", ["http://[::1]:8080", "http://127.0.0.2", "http://LOCALHOST:1/api", "https://[2001:db8::1]"]
)
def test_addresses_that_are_taken(phone: PhoneModel, server: str) -> None:
    Client(phone, server).close()


def test_killed_and_started_again_without_a_wrong_answer(
    start: Start, model: CloudModel, phone: PhoneModel, pictures: Pictures
) -> None:
    expected = []
    for picture in pictures:
        (answer,) = model.predict([phone.perturb(picture, key=KEY).levels])
        expected.append(answer["glasses"].probabilities)
    options = ("--rate", "100000", "--burst", "100000")
    first = start(*options)
    config = ClientConfig(attempts=12, first_pause=0.2, longest_pause=2)
    with Client(phone, first.url, config=config) as client:
        killer = threading.Timer(0.2, first.process.kill)
        killer.start()
        again = threading.Timer(0.6, start, options, {"port": first.port})
        again.start()
        tries = 0
        for index in range(400):
            reply = client.send(pictures[index % 8], key=KEY)
            tries += reply.attempts - 1
            assert reply.answers["glasses"]["probabilities"] == pytest.approx(
                dict(expected[index % 8]), abs=2e-6
            )
            if index > 40 and tries:
                break
        again.join()
    assert tries > 0
    assert hashlib.sha256(model.contract_json).hexdigest() == client.digest
