"""What `sfumato.server.http` takes from uvicorn and adds to it, and what the package gives to Python."""

import asyncio
import json
import logging
import socket
import subprocess
import sys
import time
import warnings
from importlib.metadata import version
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette
from tests.server.conftest import Server, Start
from tests.server.test_app import kind

import sfumato.server
from sfumato.server import http
from sfumato.server.app import AppConfig, create_app
from sfumato.server.auth import Tokens
from sfumato.server.http import HEADER_BYTES, HEADERS, UVICORN
from sfumato.server.model import CloudModel
from sfumato.server.telemetry import JsonLines, log_to_stderr


def test_uvicorn_is_the_version_whose_internals_are_used() -> None:
    found = version("uvicorn")
    assert found == UVICORN, (
        f"uvicorn {found} is installed, but sfumato.server.http extends the HttpToolsProtocol of {UVICORN}: read that class "
        "again (connection_made, data_received, on_headers_complete, on_message_complete, on_response_complete, "
        "connection_lost), run tests/server, then change UVICORN and the pin in pyproject.toml together"
    )


@pytest.mark.parametrize("name", sfumato.server.__all__)
def test_public_names_are_found(name: str) -> None:
    assert getattr(sfumato.server, name).__module__.startswith("sfumato.server.")


def test_the_package_loads_nothing_before_it_is_asked() -> None:
    code = (
        "import sys, sfumato.server as server\n"
        "assert 'create_app' in dir(server)\n"
        "heavy = {'starlette', 'uvicorn', 'httpx', 'numpy', 'pydantic', 'onnxruntime'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
        "server.Client\n"
        "print(sorted({'fastapi', 'starlette', 'uvicorn', 'onnxruntime'} & set(sys.modules)))\n"
        "server.create_app, server.run\n"
        "print('fastapi' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.split("\n")[:3]) == (0, ["[]", "[]", "False"]), done.stderr


HOST = "Host: 127.0.0.1\r\n"
HEALTH = f"GET /healthz HTTP/1.1\r\n{HOST}\r\n".encode()


def talk(server: Server, content: bytes, *, within: float = 20.0) -> list[int]:
    """Send bytes on one connection; the statuses of all answers until the service hangs up, which it must do in time."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=within) as connection:
        connection.sendall(content)
        answer = b""
        while part := connection.recv(2**16):
            answer += part
    return [int(part[:3]) for part in answer.split(b"HTTP/1.1 ")[1:]]


def post(server: Server, more: str, path: str = "/v1/predict") -> str:
    head = "".join(f"{name}: {value}\r\n" for name, value in server.headers().items())
    return f"POST {path} HTTP/1.1\r\n{HOST}{head}{more}"


def test_a_request_before_the_last_answer_is_not_read(server: Server) -> None:
    assert talk(server, HEALTH * 2) == [200]
    assert talk(server, HEALTH * 1600) == [200]
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        for _ in range(3):  # one after the other, a connection takes as many as ever
            connection.sendall(HEALTH)
            answer = b""
            while not answer.endswith(b"}"):
                answer += connection.recv(2**16)
            assert answer.startswith(b"HTTP/1.1 200")


def test_headers_are_limited_in_bytes_and_number_even_when_they_come_at_once(server: Server) -> None:
    fits = "".join(f"a{number}: b\r\n" for number in range(HEADERS - 2))
    close = "Connection: close\r\n\r\n"
    line = f"GET /healthz HTTP/1.1\r\n{HOST}"
    assert talk(server, f"{line}{fits}{close}".encode()) == [200]
    assert talk(server, f"{line}c: d\r\n{fits}{close}".encode()) == [431]
    assert talk(server, f"{line}x: {'y' * HEADER_BYTES}\r\n{close}".encode()) == [431]
    assert talk(server, f"GET /{'y' * HEADER_BYTES} HTTP/1.1\r\n{HOST}{close}".encode()) == [431]


def test_trailers_and_frames_larger_than_their_body_are_refused(server: Server) -> None:
    chunked = post(server, "Transfer-Encoding: chunked\r\n\r\n")
    assert talk(server, f"{chunked}1\r\nx\r\n0\r\nX: y\r\n\r\n".encode()) == [400]
    endless = f"{chunked}1\r\nx\r\n0\r\nX: ".encode()
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        connection.sendall(endless)
        time.sleep(0.1)  # a frame's bytes are counted from the next that come
        connection.sendall(b"y" * 2 * HEADER_BYTES)
        assert connection.recv(100).startswith(b"HTTP/1.1 400")
    good = "".join(f"4\r\n{'y' * 4}\r\n" for _ in range(100))
    assert talk(server, f"{chunked}{good}0\r\n\r\n{HEALTH.decode()}".encode()) == [422]


def test_an_answer_before_the_end_of_a_body_ends_the_connection(server: Server) -> None:
    assert talk(server, post(server, "Content-Length: 1000000000\r\n\r\nx", "/nowhere").encode()) == [404]
    content = f"GET /healthz HTTP/1.1\r\n{HOST}Content-Length: 100000\r\n\r\nx".encode()
    assert talk(server, content) == [200]


def test_what_is_not_read_is_cut_off(start: Start) -> None:
    """A connection whose answers stay, and one that is closed on our side already."""
    running = start("--drain-seconds", "0.5", "--no-page", "--connections", "3")
    ask = f"GET /openapi.json HTTP/1.1\r\n{HOST}\r\n".encode()
    deaf = socket.socket()
    deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    with deaf:
        deaf.connect(("127.0.0.1", running.port))
        with pytest.raises(OSError):  # noqa: PT012 - it is cut while we ask
            for _ in range(400):
                deaf.sendall(ask)
                time.sleep(0.01)
    assert httpx.get(f"{running.url}/healthz").status_code == 200


@pytest.mark.parametrize(
    ("given", "status"),
    [
        ("127.0.0.1", 200), ("localhost:1234", 200), ("[::1]:8080", 200), ("LOCALHOST.", 200), ("evil.example", 421),
        ("127.0.0.1.evil.example:8080", 421), ("localhost.evil.example", 421), ("", 421), ("127.0.0.1, localhost", 421),
    ],
)  # fmt: skip
def test_without_tokens_names_of_others_are_refused(server: Server, given: str, status: int) -> None:
    for path in ("/healthz", "/", "/nowhere"):
        found = talk(server, f"GET {path} HTTP/1.1\r\nHost: {given}\r\nConnection: close\r\n\r\n".encode())
        assert (found == [421]) == (status == 421), (path, found)
    again = f"GET /healthz HTTP/1.1\r\nHost: {given}\r\n{HOST}Connection: close\r\n\r\n"
    assert talk(server, again.encode()) == [421]


async def ask(app: Starlette, host: str) -> httpx.Response:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        return await client.get("/healthz", headers={"Host": host})


def test_names_are_allowed_and_with_tokens_any_is(model: CloudModel) -> None:
    tokens = Tokens.parse("app 0123456789abcdef", "the test")
    names = ("Photos.Example.", "b.example")
    for known, hosts, host, status in (
        (None, names, "photos.example:443", 200), (None, names, "b.example", 200), (None, names, "c.example", 421),
        (tokens, (), "c.example", 200), (tokens, names, "c.example", 421), (tokens, names, "127.0.0.1", 200),
    ):  # fmt: skip
        response = asyncio.run(ask(create_app(model, AppConfig(hosts=hosts), known), host))
        assert response.status_code == status, (known, hosts, host)
        if status == 421:
            assert kind(response) == "other-host"
            assert "--allow-host" in response.json()["detail"]


def test_an_address_of_ipv6_is_announced_as_a_url(start: Start) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")
    running = start("--host", "[::1]", "--no-page")
    assert running.url == f"http://[::1]:{running.port}"
    assert httpx.get(f"{running.url}/healthz").json() == {"status": "ok"}


HOSTILE = "a\r\nb\nc\x1b[2Jd\x7fe\x85f\u2028g\x00h\ud800"


def test_a_log_line_stays_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    record = logging.LogRecord("sfumato", logging.INFO, "", 0, HOSTILE, (), None)
    record.fields = {HOSTILE: HOSTILE}
    line = JsonLines().format(record)
    assert line.isascii()
    assert line.isprintable()
    assert json.loads(line)[HOSTILE] == json.loads(line)["event"] == HOSTILE
    handlers = logging.getLogger().handlers
    try:
        log_to_stderr()
        warnings.warn(HOSTILE, stacklevel=1)  # as Pillow does about a photo
        logging.getLogger("PIL.TiffImagePlugin").error(HOSTILE)
    finally:
        logging.captureWarnings(False)
        logging.getLogger().handlers = handlers
    for line in capfd.readouterr().err.splitlines():
        assert line.isprintable()
        assert HOSTILE in json.loads(line)["event"]


def test_nothing_of_a_request_breaks_a_log_line(server: Server) -> None:
    before = len(server.log.read_text(encoding="utf-8").splitlines())
    for path in ("/%0d%0a%1b[2J", "/\x1b[31m", "/a\xe9", "/v1/phone/%00"):
        with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
            head = f"GET {path} HTTP/1.1\r\n{HOST}User-Agent: \x1b[2J\r\nX: \x7f\x85\r\nConnection: close\r\n\r\n"
            connection.sendall(head.encode("latin-1"))
            connection.recv(2**16)
    time.sleep(0.2)
    lines = server.log.read_text(encoding="utf-8").splitlines()[before:]
    assert all(line.isprintable() and line.isascii() and json.loads(line)["event"] for line in lines)


def test_a_system_without_limits_on_files_serves_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "resource", None)  # Windows
    http._raise_file_limit(10**9)


def test_a_token_file_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "tokens").write_bytes(b"\xef\xbb\xbfmetrics %b\napp %b\n" % (b"m" * 24, b"a" * 24))
    (tmp_path / "tokens").chmod(0o600)
    tokens = Tokens.read(tmp_path / "tokens")
    assert tokens is not None
    assert tokens.holder("Bearer " + "m" * 24) == "metrics"
