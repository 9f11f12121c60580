"""A small export and real server processes on loopback, each test of a worker shares them where it can."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from sfumato.runtime.phone_model import PhoneModel
from sfumato.server.model import CloudModel

KEY = bytes(range(32))


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    """The key of a device that holds `KEY`."""
    path = tmp_path / "key"
    path.write_text(KEY.hex())
    path.chmod(0o600)
    return path


@pytest.fixture(scope="session")
def bundle(sealed: Path) -> Path:
    """The export of `tests.fixtures.runs`, with a rate that was measured. It must not be changed."""
    return sealed


@pytest.fixture(scope="session")
def phone(bundle: Path) -> PhoneModel:
    return PhoneModel.load(bundle)


@pytest.fixture(scope="session")
def model(bundle: Path) -> CloudModel:
    return CloudModel.load(bundle)


@pytest.fixture(scope="session")
def pictures() -> list[NDArray[np.uint8]]:
    """Soft pictures (32, 32, 3), each of its own colours."""
    y, x = np.mgrid[0:32, 0:32] / 32
    made = []
    for seed in range(8):
        a, b, c = np.random.default_rng(seed).uniform(1, 6, (3, 3))
        waves = np.sin(a * x[..., None] + b * y[..., None] + c)
        made.append((127 + 120 * waves).astype(np.uint8))
    return made


@pytest.fixture(scope="session")
def upload(phone: PhoneModel, pictures: list[NDArray[np.uint8]]) -> bytes:
    """A PNG as a phone sends it."""
    return phone.perturb(pictures[0], key=KEY).content


@dataclass
class Server:
    """A running `sfumato serve`."""

    process: subprocess.Popen[str]
    url: str
    port: int
    log: Path
    digest: str

    def headers(self, **more: str) -> dict[str, str]:
        """What an upload comes with."""
        return {"Sfumato-Contract": self.digest, "Content-Type": "image/png", **more}

    def post(self, content: Any, **more: str) -> httpx.Response:
        """Send one upload."""
        return httpx.post(
            f"{self.url}/v1/predict", content=content, headers=self.headers(**more), timeout=120
        )

    def line(self, request: str) -> dict[str, Any]:
        """The one log line of a request. It is written once the answer has gone, so it may come a moment after it."""
        found: list[dict[str, Any]] = []
        for _ in range(2000):
            whole = self.log.read_text(encoding="utf-8").rpartition("\n")[0].splitlines()
            found = [line for line in map(json.loads, whole) if line.get("request_id") == request]
            if found:
                break
            time.sleep(0.05)
        (line,) = found
        return line

    def stop(self) -> int:
        """Ask it to end; its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=120)


Start = Callable[..., Server]


def start_server(
    bundle: Path, digest: str, log: Path, *options: str, port: int = 0, **variables: str
) -> Server:
    """Start a process and wait until it listens."""
    command = [sys.executable, "-m", "sfumato.cli.main", "serve", str(bundle), "--port", str(port), *options]
    environment = {**os.environ, **variables}
    with log.open("a") as stream:
        before = stream.tell()
        process = subprocess.Popen(command, stderr=stream, text=True, env=environment)
    for _ in range(6000):
        for line in log.read_text(encoding="utf-8")[before:].splitlines():
            if '"listening"' in line:
                url = json.loads(line)["url"]
                server = Server(process, url, int(url.rpartition(":")[2]), log, digest)
                _wait_ready(url)
                return server
        if process.poll() is not None:
            break
        time.sleep(0.05)
    process.kill()
    raise AssertionError(log.read_text(encoding="utf-8"))


@contextmanager
def shared_server(
    bundle: Path, model: CloudModel, made: pytest.TempPathFactory, *options: str
) -> Iterator[Server]:
    """One for many tests: no tokens, a high rate."""
    log = made.mktemp("server") / "log"
    many = ("--rate", "100000", "--burst", "100000")
    running = start_server(bundle, model.contract_digest, log, *many, *options)
    try:
        yield running
        assert running.process.poll() is None, "the server died during the tests"
    finally:
        running.process.kill()
        running.process.wait()


def _wait_ready(url: str) -> None:
    for _ in range(2000):
        try:
            if httpx.get(f"{url}/readyz").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.05)
    raise AssertionError("not ready")


@pytest.fixture
def start(bundle: Path, model: CloudModel, tmp_path: Path) -> Iterator[Start]:
    """Starts servers with options of a test's own; they end with it."""
    servers: list[Server] = []

    def go(*options: str, export: Path = bundle, **more: Any) -> Server:
        log = tmp_path / f"log-{len(servers)}"
        server = start_server(export, model.contract_digest, log, *options, **more)
        servers.append(server)
        return server

    yield go
    for server in servers:
        server.process.kill()
        server.process.wait()


@pytest.fixture(scope="session")
def server(bundle: Path, model: CloudModel, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One that most tests share."""
    with shared_server(bundle, model, tmp_path_factory, "--log-level", "debug") as running:
        yield running
