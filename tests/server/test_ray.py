"""The service on a real Ray cluster of two nodes: where SFUMATO_RAY names the python of Ray's environment (`make test-ray`)."""

import asyncio
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
import uvloop
from numpy.typing import NDArray
from tests.load.cases import Case, make_cases
from tests.load.clients import CUT_OFF, Outcome, closed_loop
from tests.load.cluster import BEARER, HEAD, SECOND, TOKEN, Cluster, cluster_of, cost, under_load

from sfumato.runtime.phone_model import PhoneModel
from sfumato.server.client import Client
from sfumato.server.model import CloudModel

RAY = os.environ.get("SFUMATO_RAY", "")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not RAY, reason="SFUMATO_RAY names no python: make test-ray"),
    pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() != 0, reason="two nodes need root"),
]
CLIENTS = 16


@pytest.fixture(scope="module")
def cluster(bundle: Path) -> Iterator[Cluster]:
    with cluster_of(
        Path(RAY), bundle, nodes=2, replicas=4, deadline_ms=1000, queue=32, rate=1e6, burst=10**6
    ) as running:
        yield running


@pytest.fixture(scope="module")
def cases(bundle: Path) -> list[Case]:
    return make_cases(bundle, count=16, more=BEARER)


def right(found: Outcome) -> None:
    """Nothing wrong. What was in work on what was killed may be refused, or cut off; all else is answered."""
    assert found.wrong == 0
    others = found.statuses.total() - found.statuses[200]
    assert set(found.statuses) <= {200, 500, 503, CUT_OFF}
    assert found.statuses[200] > 10 * CLIENTS
    assert others <= CLIENTS, found.statuses


def test_uploads_are_answered_and_others_refused(
    cluster: Cluster, model: CloudModel, phone: PhoneModel, upload: bytes, pictures: list[NDArray[np.uint8]]
) -> None:
    headers = {"Content-Type": "image/png", "Sfumato-Contract": model.contract_digest}
    for address in cluster.addresses:
        url = f"http://{address}:{cluster.port}"
        assert httpx.post(f"{url}/v1/predict", content=upload, headers=headers).status_code == 401
        given = {**headers, "Authorization": f"Bearer {TOKEN}"}
        answer = httpx.post(f"{url}/v1/predict", content=upload, headers=given)
        assert answer.status_code == 200
        assert answer.headers.get_list("x-request-id") == [answer.json()["request_id"]]
        assert httpx.post(f"{url}/v1/predict", content=b"no", headers=given).status_code == 422
        assert httpx.get(f"{url}/v1/contract").content == model.contract_json
    assert len(cluster.replicas(HEAD)) + len(cluster.replicas(SECOND)) == 4
    with Client(phone, f"http://127.0.0.1:{cluster.port}", token=TOKEN) as client:
        assert client.send(pictures[0], key=bytes(32)).answers


def test_processor_time_of_an_upload(cluster: Cluster, cases: list[Case]) -> None:
    """By Ray's own proxy it is several times as much as in `sfumato serve`; see docs/serve.md for figures."""
    spent = cost(cluster, cases, clients=32, seconds=4)
    assert spent.outcome.statuses.total() == spent.outcome.statuses[200]
    assert spent.outcome.wrong == 0
    assert (
        0 < spent.cpu_ms < 10
    )  # Ray's proxy takes 20 where this takes 3: the machine may do other things, too


def test_more_than_can_be_answered_is_refused_after_a_second(cluster: Cluster, cases: list[Case]) -> None:
    found = uvloop.run(closed_loop([cluster.port], cases, clients=600, seconds=8, heed=True))
    assert found.wrong == 0
    assert set(found.statuses) == {200, 503}
    assert found.quantile(0.5) < 4000  # the deadline is one second, and the machine may do other things
    body = asyncio.run(refusal(cluster, cases))
    assert body["type"] == "urn:sfumato:problem:overloaded"


async def refusal(cluster: Cluster, cases: list[Case]) -> dict[str, str]:
    """One of the refusals that many clients get."""
    url = f"http://127.0.0.1:{cluster.port}/v1/predict"
    head, _, content = cases[0].request.partition(b"\r\n\r\n")
    headers = dict(line.decode().split(": ", 1) for line in head.split(b"\r\n")[1:])
    limits = httpx.Limits(max_connections=400)
    async with httpx.AsyncClient(limits=limits, timeout=60) as client:
        found = await asyncio.gather(
            *(client.post(url, content=content, headers=headers) for _ in range(400))
        )
    refused = next(answer for answer in found if answer.status_code == 503)
    assert refused.headers["retry-after"] == "1"
    said: dict[str, str] = json.loads(refused.content)
    return said


def test_a_killed_replica_is_replaced_and_nothing_is_wrong(cluster: Cluster, cases: list[Case]) -> None:
    before = cluster.replicas(HEAD)
    found = under_load(cluster, cases, lambda: os.kill(before[0], signal.SIGKILL), seconds=4, clients=CLIENTS)
    right(found)
    assert before[0] not in cluster.replicas(HEAD)


def test_no_token_is_written_anywhere(cluster: Cluster) -> None:
    """The variable of the head's processes has it, and nothing that they write."""
    files = [path for path in cluster.logs() if path.is_file()]
    assert files
    assert not [path for path in files if TOKEN.encode() in path.read_bytes()]


def test_a_killed_node_is_missed_by_nobody(cluster: Cluster, cases: list[Case]) -> None:
    """The last one: the node does not come back. Its cable is cut before, so nobody is told that it died."""
    assert cluster.replicas(SECOND)
    found = under_load(cluster, cases, lambda: cluster.kill_node(SECOND), seconds=6, clients=CLIENTS)
    right(found)
    assert not cluster.processes(SECOND)
    assert cluster.replicas(HEAD)
