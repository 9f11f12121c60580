"""Several processes behind one port: real ones, also while one of them is killed."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
import uvloop
from prometheus_client.parser import text_string_to_metric_families
from tests.load.cases import make_cases
from tests.load.clients import Outcome, closed_loop
from tests.server.conftest import Server, Start

from sfumato.server.auth import Buckets, RateLimitConfig
from sfumato.server.shared import CELLS, WAYS, Cells, Place, SharedBuckets, SharedMemory
from sfumato.server.telemetry import Telemetry

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="--processes needs Linux")
PLENTY = ("--processes", "2", "--no-page", "--rate", "100000", "--burst", "100000")


def workers(server: Server) -> list[int]:
    """Numbers of the supervisor's processes."""
    pid = server.process.pid
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def eventually(holds: Callable[[], bool], seconds: float = 120) -> None:
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.05)


def metric(server: Server, name: str, **labels: str) -> float:
    """A sum over all samples of this name with these labels."""
    text = httpx.get(f"{server.url}/metrics", timeout=60).text
    samples = (sample for family in text_string_to_metric_families(text) for sample in family.samples)
    return sum(one.value for one in samples if one.name == name and labels.items() <= one.labels.items())


def test_one_rate_and_one_account_for_all_processes(start: Start, upload: bytes) -> None:
    running = start("--processes", "2", "--no-page", "--rate", "0.01", "--burst", "5")
    statuses = [running.post(upload).status_code for _ in range(24)]  # each over a connection of its own
    assert statuses == 5 * [200] + 19 * [429]
    read = [metric(running, "sfumato_requests_total", route="/v1/predict") for _ in range(12)]
    assert read == 12 * [24]  # whichever process is asked
    assert metric(running, "sfumato_refusals_total", kind="too-many") == 19
    assert metric(running, "sfumato_request_seconds_count", route="/v1/predict") == 24
    assert metric(running, "sfumato_request_seconds_bucket", route="/v1/predict", le="+Inf") == 24
    assert metric(running, "sfumato_requests_active") == 1  # the one that reads it
    line = next(line for line in running.log.read_text().splitlines() if '"listening"' in line)
    assert json.loads(line)["processes"] == len(workers(running)) == 2
    assert len(list(Path(f"/proc/{running.process.pid}/task").iterdir())) == 1  # it forks again later
    assert running.stop() == 0
    assert json.loads(running.log.read_text().splitlines()[-1])["event"] == "stopped"


def test_a_killed_process_is_started_again_and_nothing_is_wrong(start: Start, bundle: Path) -> None:
    running = start(*PLENTY)
    cases = make_cases(bundle, count=16)
    before = workers(running)

    def load(seconds: float) -> Outcome:
        return uvloop.run(closed_loop([running.port], cases, clients=12, seconds=seconds))

    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(load, 12)
        eventually(lambda: metric(running, "sfumato_requests_total", status="200", route="/v1/predict") > 20)
        counted = metric(running, "sfumato_requests_total", route="/v1/predict")
        os.kill(before[0], signal.SIGKILL)
        # Whoever comes now waits for the next process at most; nobody is turned away.
        for _ in range(12):
            assert httpx.get(f"{running.url}/healthz", timeout=120).status_code == 200
        found = asked.result()
    assert found.wrong == 0
    assert set(found.statuses) == {0, 200}
    assert found.statuses[0] <= 12  # a connection that broke was opened anew, once
    eventually(lambda: len(workers(running)) == 2)
    assert before[1] in workers(running)
    assert metric(running, "sfumato_restarts_total") == 1
    assert metric(running, "sfumato_requests_total", route="/v1/predict") >= counted
    # An answer that was counted may have been cut off by the kill, never the other way round.
    answered = metric(running, "sfumato_requests_total", route="/v1/predict", status="200")
    assert answered >= found.statuses[200] - 12
    assert load(0.5).statuses.keys() == {200}
    assert running.stop() == 0


def test_no_process_outlives_its_supervisor(start: Start) -> None:
    running = start(*PLENTY)
    left = workers(running)
    running.process.kill()
    running.process.wait()
    eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in left))
    with pytest.raises(httpx.ConnectError):
        httpx.get(running.url)


HANGING = """
import logging, sys, time
from starlette.responses import JSONResponse
from sfumato.server.app import new_app
from sfumato.server.batching import BatchConfig, Batcher
from sfumato.server.endpoints import Endpoint
from sfumato.server.http import ServerConfig
from sfumato.server.processes import serve_processes
from sfumato.server.telemetry import Telemetry

async def hang(_request):
    time.sleep(3600)

async def pid(_request):
    import os
    return JSONResponse(os.getpid())

def build(place):
    endpoints = [Endpoint(path=f"/{one.__name__}", respond=one) for one in (hang, pid)]
    return new_app("hanging", endpoints, Telemetry(place), Batcher(list, BatchConfig()))

serve_processes(2, build, ServerConfig(port=0, hung_seconds=float(sys.argv[1])))
"""


def test_a_process_that_hangs_is_killed_and_another_takes_its_place() -> None:
    """One whose loop does not come back, and one that is stopped; a supervisor that was stopped itself blames nobody."""
    command = [sys.executable, "-c", HANGING, "5"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, bufsize=1) as running:
        try:
            assert running.stderr is not None
            lines = (json.loads(line) for line in iter(running.stderr.readline, ""))
            url = next(line["url"] for line in lines if line["event"] == "listening")
            children = Path(f"/proc/{running.pid}/task/{running.pid}/children")
            first = set(children.read_text().split())
            assert len(first) == 2
            os.kill(running.pid, signal.SIGSTOP)
            time.sleep(6)
            os.kill(running.pid, signal.SIGCONT)
            time.sleep(1.5)
            assert set(children.read_text().split()) == first
            with contextlib.suppress(httpx.TransportError):
                httpx.get(f"{url}/hang", timeout=120)  # the kill ends the connection
            killed = next(line for line in lines if "killed" in line["event"])
            assert str(killed["pid"]) in first
            assert killed["seconds"] >= 5
            eventually(lambda: len(children.read_text().split()) == 2)
            left = next(iter(first - {str(killed["pid"])}))
            os.kill(int(left), signal.SIGSTOP)
            assert next(line for line in lines if "killed" in line["event"])["pid"] == int(left)
            eventually(lambda: len(set(children.read_text().split()) - first) == 2)
            eventually(lambda: httpx.get(f"{url}/pid", timeout=60).status_code == 200)
        finally:
            running.terminate()
        assert running.wait(timeout=60) == 0


def test_what_is_in_flight_is_answered_before_all_end(start: Start, upload: bytes) -> None:
    running = start(*PLENTY)
    left = workers(running)
    head = f"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\nContent-Length: {len(upload)}\r\n"
    head += f"Sfumato-Contract: {running.digest}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", running.port), timeout=60) as client:
        client.sendall(head.encode() + upload[:-1])
        eventually(lambda: metric(running, "sfumato_requests_active") == 2)
        running.process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        client.sendall(upload[-1:])
        assert client.recv(12) == b"HTTP/1.1 200"
    assert running.process.wait(timeout=120) == 0
    assert not any(Path(f"/proc/{pid}").exists() for pid in left)


@pytest.mark.parametrize("fault", ["port", "export"])
def test_where_they_cannot_start_one_line_says_why(fault: str, bundle: Path, tmp_path: Path) -> None:
    export, reason = bundle, "cannot listen on 127.0.0.1"
    if fault == "export":
        export, reason = tmp_path, "contract.json"
        (tmp_path / "contract.json").write_text("{")
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)  # as another service of this kind would
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1] if fault == "port" else 0
        command = [sys.executable, "-m", "sfumato.cli.main", "serve", str(export), "--processes", "3"]
        done = subprocess.run([*command, "--port", str(port)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("sfumato: ")
    assert reason in line


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_shared_buckets_count_as_those_of_one_process() -> None:
    clock, draw = Clock(), np.random.default_rng(0)
    config = RateLimitConfig(per_second=3, burst=10)
    alone = Buckets(config, clock=clock)
    memory = SharedMemory(2)
    both = [SharedBuckets(config, memory, clock=clock) for _ in range(2)]
    for _ in range(3000):
        clock.now += float(draw.exponential(0.1))
        client, count = f"client {draw.integers(5)}", int(draw.integers(1, 11))
        assert both[draw.integers(2)].take(client, count) == alone.take(client, count)


def test_buckets_that_are_unused_for_longest_make_place() -> None:
    clock = Clock()
    buckets = SharedBuckets(RateLimitConfig(per_second=0.001, burst=1), SharedMemory(1), clock=clock)
    assert buckets.take("first") == 0
    crowd = 2**12 * WAYS
    for number in range(crowd):
        clock.now += 0.001
        buckets.take(f"crowd {number}")
    clock.now += 0.001
    refused = sum(buckets.take(f"crowd {number}") > 0 for number in range(crowd - 2000, crowd))
    assert refused > 1950  # of those that came last hardly any is forgotten


def test_a_lock_ends_with_its_process() -> None:
    memory = SharedMemory(1)
    pid = os.fork()
    if not pid:
        with memory.held(0):
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)
    with memory.held(0):
        pass


def test_numbers_outlive_their_process_and_what_was_held_does_not() -> None:
    memory = SharedMemory(2)
    first, second = (Telemetry(Place(memory, number)) for number in range(2))
    first.uploads.labels("png").inc(3)
    second.uploads.labels("png").inc(4)
    second.sizes.observe(3)
    first.active.inc()
    again = Telemetry(Place(memory, 0))
    again.uploads.labels("png").inc()
    text = second.text().decode()
    assert 'sfumato_uploads_total{encoding="png"} 8.0' in text
    assert "sfumato_requests_active 0.0" in text
    assert 'sfumato_batch_size_bucket{le="2.0"} 0.0' in text
    assert 'sfumato_batch_size_bucket{le="4.0"} 1.0' in text
    assert "sfumato_batch_size_sum 3.0" in text


def test_full_memory_loses_numbers_and_nothing_else() -> None:
    cells = Cells(memoryview(bytearray(CELLS)))
    for number in range(CELLS // 16):
        cells.values[cells.find("counter", str(number))] += number
    read = cells.read()
    assert len(read) > 1000
    assert all(value == int(json.loads(name)[1]) for name, value in read.items())
