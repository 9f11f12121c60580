"""The service on Ray Serve: what its driver decides; and the whole, where SFUMATO_RAY names the python of Ray's environment."""

import asyncio
import os
import pickle
import subprocess
from pathlib import Path

import httpx
import pytest
from pydantic import ValidationError

from sfumato.core.errors import UsageError
from sfumato.server.auth import VARIABLE
from sfumato.server.model import CloudModel
from sfumato.server.scale_out import RayConfig, build_app, deployment_options, read_tokens

TOKEN = "0123456789abcdef-app"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
RAY = os.environ.get("SFUMATO_RAY", "")


def test_without_tokens_nothing_starts(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    with pytest.raises(UsageError, match=f"give tokens=FILE or {VARIABLE}"):
        read_tokens(RayConfig(export=str(bundle)))


def test_replicas_get_digests_and_need_no_file(
    bundle: Path, model: CloudModel, upload: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    file = tmp_path / "tokens"
    file.write_text(f"app {TOKEN}\n")
    file.chmod(0o600)
    args = RayConfig(export=str(bundle), tokens=str(file))
    passed = pickle.dumps(read_tokens(args))
    assert TOKEN.encode() not in passed
    file.unlink()
    app = build_app(args, pickle.loads(passed))
    headers = {"Content-Type": "image/png", "Sfumato-Contract": model.contract_digest}
    assert not app.state.ready()

    async def go() -> list[int]:
        transport = httpx.ASGITransport(app)
        async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport) as client:
            assert app.state.ready()
            asked = [headers, headers | BEARER]
            url = "http://localhost/v1/predict"
            for given in ("5e5c1d66-a1c0-4b6c-9f0e-0e6f5f1f2c3d", "Ada's photo"):
                named = {"X-Request-ID": given, **headers, **BEARER}  # as Ray's own middleware leaves it
                answer = await client.post(url, content=upload, headers=named)
                taken = answer.json()["request_id"] == given
                assert taken == (given != "Ada's photo")
                assert ("x-request-id" in answer.headers) != taken  # Ray says it where it is Ray's
            return [(await client.post(url, content=upload, headers=one)).status_code for one in asked]

    assert asyncio.run(go()) == [401, 200]
    assert not app.state.ready()  # what Ray's health check asks


def test_bounds_on_replicas_and_on_what_waits(bundle: Path) -> None:
    fixed = deployment_options(RayConfig(export=str(bundle), replicas=3, connections=70))
    assert (fixed["num_replicas"], fixed["max_ongoing_requests"], fixed["max_queued_requests"]) == (3, 70, 70)
    assert "autoscaling_config" not in fixed
    scaled = deployment_options(RayConfig(export=str(bundle), replicas=2, most_replicas=6))
    assert "num_replicas" not in scaled
    bounds = scaled["autoscaling_config"]
    assert (bounds["min_replicas"], bounds["max_replicas"], bounds["target_ongoing_requests"]) == (2, 6, 72)
    with pytest.raises(ValidationError, match="most_replicas=1 is less than replicas=2"):
        RayConfig(export=str(bundle), most_replicas=1)


DRIVER = """
import sys
from ray import cloudpickle
from sfumato.server.scale_out import RayConfig, application
bound = application(RayConfig(export=sys.argv[1], tokens=sys.argv[2], replicas=2, most_replicas=3, connections=7))
deployment = bound._bound_deployment
scaling = deployment._deployment_config.autoscaling_config
assert (scaling.min_replicas, scaling.max_replicas, deployment.max_queued_requests) == (2, 3, 7)
sys.stdout.buffer.write(cloudpickle.dumps(deployment.func_or_class))
"""
REPLICA = """
import asyncio, sys
from ray import cloudpickle
from ray.serve._private.http_util import ASGIAppReplicaWrapper

async def go():
    kind = cloudpickle.loads(sys.stdin.buffer.read())
    assert issubclass(kind, ASGIAppReplicaWrapper)
    replica = kind.__new__(kind)
    await replica.__init__()  # as Ray makes one
    replica._set_asgi_app(replica.__serve_build_asgi_app__())
    try:
        replica.check_health()
        raise AssertionError("it answers before it runs")
    except RuntimeError:
        await replica._run_asgi_lifespan_startup()
    replica.check_health()
    sent = []
    for token in sys.argv[3:]:
        headers = {"host": "127.0.0.1", "content-type": "image/png", "sfumato-contract": sys.argv[2]}
        headers["authorization"] = "Bearer " + token
        scope = {"type": "http", "method": "POST", "path": "/v1/predict", "http_version": "1.1", "query_string": b""}
        scope["headers"] = [(name.encode(), value.encode()) for name, value in headers.items()]
        async def receive():
            return {"type": "http.request", "body": open(sys.argv[1], "rb").read()}
        async def send(message):
            sent.append(message)
        await replica(scope, receive, send)
    print(*(message["status"] for message in sent if "status" in message))

asyncio.run(go())
"""


@pytest.mark.skipif(not RAY, reason="SFUMATO_RAY names no python")
def test_what_ray_sends_to_a_replica_holds_no_token_and_answers(
    bundle: Path, model: CloudModel, upload: bytes, tmp_path: Path
) -> None:
    """Ray's own classes and pickling, without a cluster."""
    tokens, file = tmp_path / "tokens", tmp_path / "upload"
    tokens.write_text(f"app {TOKEN}\n")
    tokens.chmod(0o600)
    file.write_bytes(upload)

    def run(code: str, *arguments: str, given: bytes = b"") -> bytes:
        done = subprocess.run([RAY, "-c", code, *arguments], input=given, capture_output=True, timeout=280)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout

    sent = run(DRIVER, str(bundle), str(tokens))
    assert TOKEN.encode() not in sent
    tokens.unlink()  # a replica that starts later, or elsewhere, has no such file
    found = run(REPLICA, str(file), model.contract_digest, TOKEN, TOKEN[::-1], given=sent)
    assert found.split()[-2:] == [b"200", b"401"]
    without = subprocess.run(
        [RAY, "-c", DRIVER.replace("tokens=sys.argv[2], ", ""), str(bundle)],
        capture_output=True,
        timeout=280,
        env={name: value for name, value in os.environ.items() if name != VARIABLE},
    )
    assert without.returncode == 1
    assert f"give tokens=FILE or {VARIABLE}".encode() in without.stderr
