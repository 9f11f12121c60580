"""The service as a client meets it: right answers, clear refusals. A real process, over loopback."""

import asyncio
import hashlib
import io
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from tests.load.clients import Connection
from tests.server.conftest import KEY, Server, Start

from sfumato.runtime.phone_model import PhoneModel
from sfumato.runtime.upload_codec import encode_png, pack
from sfumato.server.model import CloudModel
from sfumato.server.predict import BatchPrediction, Prediction

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "0123456789abcdef-app"
Pictures = list[NDArray[np.uint8]]


def kind(response: httpx.Response) -> str:
    """The problem's kind, after a look at its form."""
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert problem["status"] == response.status_code
    assert problem["request_id"] == response.headers["x-request-id"]
    return str(problem["type"]).removeprefix("urn:sfumato:problem:")


def test_answers_are_those_of_the_network(
    server: Server, model: CloudModel, phone: PhoneModel, pictures: Pictures
) -> None:
    for picture in pictures:
        sent = phone.perturb(picture, key=KEY)
        (expected,) = model.predict([sent.levels])
        packed = pack(sent.levels, bits=1)
        for content, form in ((sent.content, "image/png"), (packed, "application/vnd.sfumato.packed")):
            response = server.post(content, **{"Content-Type": form})
            assert response.status_code == 200, response.text
            body = response.json()
            for name, answer in expected.items():
                assert body["answers"][name]["label"] == answer.label
                found = body["answers"][name]["probabilities"]
                assert found == pytest.approx(dict(answer.probabilities), abs=2e-6)
            assert body["model"] == model.id
            assert body["timing_ms"]["network"] > 0


BATCH = "application/vnd.sfumato.packed-batch"


def post_batch(server: Server, content: Any, **more: str) -> httpx.Response:
    headers = server.headers(**{"Content-Type": BATCH, **more})
    return httpx.post(f"{server.url}/v1/predict/batch", content=content, headers=headers, timeout=120)


def test_a_batch_is_answered_in_order_and_a_photo_in_it_is_refused_alone(
    server: Server, model: CloudModel, phone: PhoneModel, pictures: Pictures
) -> None:
    levels = [
        phone.perturb(picture, key=KEY).levels for picture in pictures
    ] * 3  # more than the network takes at once
    levels[5] = np.where(pictures[5] > 127, 1, 0).astype(np.uint8)
    response = post_batch(server, b"".join(pack(one, bits=1) for one in levels))
    assert response.status_code == 200, response.text
    items = response.json()["items"]
    assert len(items) == len(levels) == 24
    for index, (item, one) in enumerate(zip(items, levels, strict=True)):
        if index == 5:
            assert set(item) == {"problem"}
            assert (item["problem"]["status"], item["problem"]["type"]) == (
                422,
                "urn:sfumato:problem:raw-photo",
            )
            continue
        (expected,) = model.predict([one])
        assert set(item) == {"answers"}
        assert item["answers"]["glasses"]["label"] == expected["glasses"].label
        found = item["answers"]["glasses"]["probabilities"]
        assert found == pytest.approx(dict(expected["glasses"].probabilities), abs=2e-6)


def test_batches_that_are_refused_whole(server: Server, phone: PhoneModel, pictures: Pictures) -> None:
    one = pack(phone.perturb(pictures[0], key=KEY).levels, bits=1)
    cases = [
        (one[:-1], {}, (422, "not-an-upload")),
        (b"", {}, (422, "not-an-upload")),
        (one * 65, {}, (413, "too-large")),
        (iter([one, one]), {}, (411, "no-length")),  # chunked
        (one, {"Content-Type": "application/vnd.sfumato.packed"}, (415, "wrong-type")),
        (one, {"Content-Type": "image/jpeg"}, (422, "raw-photo")),
        (one, {"Sfumato-Contract": "0" * 64}, (409, "other-contract")),
    ]
    for content, headers, expected in cases:
        response = post_batch(server, content, **headers)
        assert (response.status_code, kind(response)) == expected
    response = post_batch(server, bytes(len(one)))  # black: nothing is left to answer
    assert response.status_code == 200
    assert [item["problem"]["status"] for item in response.json()["items"]] == [422]


def test_each_upload_of_a_batch_counts(start: Start, phone: PhoneModel, pictures: Pictures) -> None:
    running = start("--rate", "0.5", "--burst", "5")
    one = pack(phone.perturb(pictures[0], key=KEY).levels, bits=1)
    assert kind(post_batch(running, one * 6)) == "too-large"  # more than the rate would ever let in
    assert post_batch(running, one * 3).status_code == 200
    response = post_batch(running, one * 3)
    assert kind(response) == "too-many"
    assert response.headers["retry-after"] == "2"
    assert post_batch(running, one * 2).status_code == 200


def test_the_answer_is_softmax_of_onnxruntime_over_the_temperature(
    model: CloudModel, phone: PhoneModel, pictures: Pictures
) -> None:
    """The slow obvious way: one upload, floats by hand."""
    levels = phone.perturb(pictures[1], key=KEY).levels
    pixels = np.zeros((1, 3, 32, 32), np.float32)
    for y, x, c in np.ndindex(32, 32, 3):
        pixels[0, c, y, x] = levels[y, x, c] / 1
    (logits,) = model.session.run(None, {"upload": pixels})
    (temperature,) = model.temperatures
    powers = [float(np.exp(np.float64(value) / temperature)) for value in logits[0]]
    expected = [power / sum(powers) for power in powers]
    found = model.predict([levels] * 3)[2]["glasses"].probabilities
    assert list(found.values()) == pytest.approx(expected, abs=2e-6)


def test_the_contract_is_the_exported_one(server: Server, bundle: Path) -> None:
    response = httpx.get(f"{server.url}/v1/contract")
    assert response.content == (bundle / "contract.json").read_bytes()
    tag = response.headers["etag"]
    assert tag.strip('"') == hashlib.sha256(response.content).hexdigest()
    assert httpx.get(f"{server.url}/v1/contract", headers={"If-None-Match": tag}).status_code == 304


def jpeg(picture: NDArray[np.uint8]) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "JPEG")
    return stream.getvalue()


def png(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


def test_photos_are_refused_with_a_warning(server: Server, pictures: Pictures) -> None:
    picture = pictures[2]
    for content, form in (
        (jpeg(picture), "image/jpeg"),
        (png(Image.fromarray(picture[::4, ::4])), "image/png"),
    ):
        response = server.post(content, **{"Content-Type": form})
        assert kind(response) == "raw-photo"
        assert "nearly" in response.json()["detail"]
    bits = np.where(picture > 127, 1, 0).astype(np.uint8)
    response = server.post(encode_png(bits, bits=1))
    assert (response.status_code, kind(response)) == (422, "raw-photo")


@pytest.mark.parametrize(
    ("headers", "content", "expected"),
    [
        ({"Sfumato-Contract": ""}, None, (400, "no-contract")),
        ({"Sfumato-Contract": "0" * 64}, None, (409, "other-contract")),
        ({"Content-Type": "text/plain"}, None, (415, "wrong-type")),
        ({"Content-Type": "multipart/form-data; boundary=x"}, None, (415, "wrong-type")),
        ({"Content-Encoding": "gzip"}, None, (415, "wrong-type")),
        ({}, b"", (422, "not-an-upload")),
        ({}, b"x" * 100, (422, "not-an-upload")),
        ({}, b"x" * 100_000, (413, "too-large")),
        ({"Content-Type": "application/vnd.sfumato.packed"}, b"x" * 10, (422, "not-an-upload")),
        ({}, encode_png(np.zeros((48, 48, 3), np.uint8), bits=1), (422, "not-an-upload")),
        ({}, encode_png(np.zeros((32, 32, 3), np.uint8), bits=2), (422, "not-an-upload")),
        ({}, encode_png(np.zeros((32, 32, 3), np.uint8), bits=8), (422, "raw-photo")),
        ({}, encode_png(np.zeros((32, 32, 3), np.uint8), bits=1), (422, "raw-photo")),
    ],
)
def test_refusals(
    server: Server, upload: bytes, headers: dict[str, str], content: bytes | None, expected: tuple[int, str]
) -> None:
    response = server.post(upload if content is None else content, **headers)
    assert (response.status_code, kind(response)) == expected
    assert "Traceback" not in response.text


def test_routes_that_are_not_there(server: Server) -> None:
    assert kind(httpx.get(f"{server.url}/nowhere")) == "about:blank"
    response = httpx.get(f"{server.url}/v1/predict")
    assert (response.status_code, kind(response)) == (405, "about:blank")


def test_openapi_has_examples_for_every_refusal(server: Server, model: CloudModel) -> None:
    document = httpx.get(f"{server.url}/openapi.json").json()
    route = document["paths"]["/v1/predict"]["post"]
    assert set(route["requestBody"]["content"]) == {"image/png", "application/vnd.sfumato.packed"}
    batch = document["paths"]["/v1/predict/batch"]["post"]
    assert set(batch["requestBody"]["content"]) == {BATCH}
    assert "1 to 64" in batch["requestBody"]["description"]
    for path, more in ((route, ()), (batch, ("411",))):
        assert path["parameters"][0]["example"] == model.contract_digest
        assert path["security"] == [{"HTTPBearer": []}]
        for status in ("400", "401", "408", "409", "413", "415", "422", "429", "503", *more):
            assert path["responses"][status]["content"]["application/problem+json"]["examples"]


def test_what_is_sent_fits_the_document(
    server: Server, upload: bytes, phone: PhoneModel, pictures: Pictures
) -> None:
    """Nothing compares answers with their models while the service runs."""
    assert Prediction.model_validate_json(server.post(upload).content)
    packed = pack(phone.perturb(pictures[0], key=KEY).levels, bits=1)
    body = BatchPrediction.model_validate_json(post_batch(server, packed + bytes(len(packed))).content)
    assert [item.problem is None for item in body.items] == [True, False]


def test_tokens(start: Start, upload: bytes, tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_text(f"# ours\napp {TOKEN}\nmetrics {TOKEN}-m\n")
    file.chmod(0o600)
    running = start("--tokens", str(file), "--rate", "1000")
    for given in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {TOKEN}"}):
        response = running.post(upload, **given)
        assert (response.status_code, kind(response)) == (401, "unauthorized")
        assert "Bearer" in response.headers["www-authenticate"]
    assert running.post(upload, Authorization=f"Bearer {TOKEN}").status_code == 200
    assert running.post(upload, Authorization=f"Bearer {TOKEN}-m").status_code == 401
    assert httpx.get(f"{running.url}/v1/contract").status_code == 200
    statuses = {}
    for name, token in (("nobody", "nothing"), ("app", TOKEN), ("metrics", f"{TOKEN}-m")):
        headers = {"Authorization": f"Bearer {token}"}
        statuses[name] = httpx.get(f"{running.url}/metrics", headers=headers).status_code
    assert statuses == {"nobody": 401, "app": 401, "metrics": 200}
    log = running.log.read_text(encoding="utf-8")
    assert '"client": "app"' in log
    assert TOKEN not in log


def test_tokens_from_the_environment_and_a_rate_for_each(start: Start, upload: bytes) -> None:
    tokens = f"a {TOKEN}-a\nb {TOKEN}-b"
    running = start("--rate", "0.5", "--burst", "3", SFUMATO_TOKENS=tokens)
    statuses = [running.post(upload, Authorization=f"Bearer {TOKEN}-a") for _ in range(5)]
    assert [response.status_code for response in statuses[:4]] == [200, 200, 200, 429]
    assert 1 <= int(statuses[3].headers["retry-after"]) <= 3
    assert running.post(upload, Authorization=f"Bearer {TOKEN}-b").status_code == 200


def test_nobody_is_served_beyond_this_machine_without_tokens(bundle: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "sfumato.cli.main",
        "serve",
        str(bundle),
        "--host",
        "0.0.0.0",
        "--port",
        "0",
    ]
    environment = {name: value for name, value in os.environ.items() if name != "SFUMATO_TOKENS"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300, env=environment)
    assert done.returncode == 2
    assert "--tokens" in done.stderr


def test_the_log_is_json_and_holds_no_picture(server: Server, upload: bytes) -> None:
    line = server.line(server.post(upload).headers["x-request-id"])
    assert set(line) == {
        "time", "level", "event", "request_id", "method", "route", "status", "ms", "bytes_in", "bytes_out", "batch", "encoding",
    }  # fmt: skip
    assert (line["route"], line["status"], line["bytes_in"]) == ("/v1/predict", 200, len(upload))


def test_metrics_count(server: Server, upload: bytes) -> None:
    def answered() -> float:
        text = httpx.get(f"{server.url}/metrics").text
        wanted = 'sfumato_requests_total{method="POST",route="/v1/predict",status="200"}'
        return float(next(line.split()[-1] for line in text.splitlines() if line.startswith(wanted)))

    server.post(upload)
    before = answered()
    server.post(upload)
    assert answered() == before + 1


def answers(port: int) -> bool:
    """Whether a new connection gets an answer."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as late:
            late.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            return bool(late.recv(10))
    except OSError:
        return False


def test_what_is_in_flight_is_answered_before_the_end(start: Start, upload: bytes) -> None:
    running = start()
    with socket.create_connection(("127.0.0.1", running.port)) as connection:
        head = "".join(f"{name}: {value}\r\n" for name, value in running.headers(Host="127.0.0.1").items())
        connection.sendall(
            f"POST /v1/predict HTTP/1.1\r\n{head}Content-Length: {len(upload)}\r\n\r\n".encode()
        )
        connection.sendall(upload[:40])
        time.sleep(0.5)
        running.process.terminate()
        time.sleep(0.5)
        assert not answers(running.port)
        connection.sendall(upload[40:])
        answer = connection.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 200")
    assert b'"answers"' in answer
    assert running.process.wait(timeout=120) == 0
    assert '"stopped"' in running.log.read_text(encoding="utf-8")


def test_the_deadline_counts_from_the_last_byte(start: Start, upload: bytes) -> None:
    """A slow network is no overload."""
    running = start("--deadline-ms", "800")
    with socket.create_connection(("127.0.0.1", running.port)) as connection:
        head = "".join(f"{name}: {value}\r\n" for name, value in running.headers(Host="127.0.0.1").items())
        head = (
            f"POST /v1/predict HTTP/1.1\r\n{head}Connection: close\r\nContent-Length: {len(upload)}\r\n\r\n"
        )
        connection.sendall(head.encode())
        time.sleep(1.2)
        connection.sendall(upload)
        assert connection.makefile("rb").read().startswith(b"HTTP/1.1 200")


def test_more_than_can_be_in_work_is_refused_after_a_pause(start: Start, upload: bytes) -> None:
    """Refused below the application, on connections that go on, and counted."""
    running = start("--queue", "1", "--batch", "1")
    head = "".join(f"{name}: {value}\r\n" for name, value in running.headers(Host="127.0.0.1").items())
    request = f"POST /v1/predict HTTP/1.1\r\n{head}Content-Length: {len(upload)}\r\n\r\n".encode() + upload

    async def ask(connection: Connection) -> tuple[int, bytes, float]:
        begun = time.perf_counter()
        status, body = await connection.ask(request)
        return status, body, time.perf_counter() - begun

    async def go() -> None:
        connections = [await Connection.open(running.port) for _ in range(40)]
        outcomes = await asyncio.gather(*map(ask, connections))
        assert {status for status, _, _ in outcomes} == {200, 503}
        refused = [(body, took) for status, body, took in outcomes if status == 503]
        held = [json.loads(body) for body, took in refused if took > 0.9]
        assert held
        assert {problem["type"] for problem in held} == {"urn:sfumato:problem:overloaded"}
        for connection in connections:
            assert (await ask(connection))[0] == 200
            connection.close()
        text = httpx.get(f"{running.url}/metrics").text
        assert f'sfumato_refusals_total{{kind="overloaded"}} {len(refused)}.0' in text

    asyncio.run(go())


def test_asked_to_stop_while_it_starts(bundle: Path) -> None:
    command = [sys.executable, "-m", "sfumato.cli.main", "serve", str(bundle), "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert '"listening"' in process.stderr.readline()
        process.terminate()
        assert process.wait(timeout=120) == 0


WATCHED = """
import os, sys, json
written = []
def hook(event, arguments):
    if event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR):
        written.append(str(arguments[0]))
    if event in ("tempfile.mkstemp", "tempfile.mkdtemp", "os.rename", "os.mkdir"):
        written.append(event)
from pathlib import Path
from starlette.testclient import TestClient
from sfumato.server.model import CloudModel
from sfumato.server.app import AppConfig, create_app
model = CloudModel.load(Path(sys.argv[1]))
upload = Path(sys.argv[2]).read_bytes()
headers = {"Sfumato-Contract": model.contract_digest, "Content-Type": "image/png"}
with TestClient(create_app(model, AppConfig()), base_url="http://localhost") as client:
    sys.addaudithook(hook)
    statuses = [client.post("/v1/predict", content=content, headers=headers).status_code
                for content in (upload, upload[:-9], upload + bytes(10**6), b"", b"x" * 1500)]
print(json.dumps([statuses, written, sorted({"torch", "tensorflow", "onnx", "scipy"} & set(sys.modules))]))
"""


def test_nothing_is_written_and_nothing_heavy_imported(bundle: Path, upload: bytes, tmp_path: Path) -> None:
    (tmp_path / "upload.png").write_bytes(upload)
    command = [sys.executable, "-c", WATCHED, str(bundle), str(tmp_path / "upload.png")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    statuses, written, heavy = json.loads(done.stdout)
    assert statuses == [200, 422, 413, 422, 422]
    assert written == []
    assert heavy == []


def test_a_run_or_a_damaged_export_is_not_served(bundle: Path, tmp_path: Path) -> None:
    def serve(folder: Path) -> Any:
        command = [sys.executable, "-m", "sfumato.cli.main", "serve", str(folder), "--port", "0"]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)

    (tmp_path / "run" / "checkpoint").mkdir(parents=True)
    assert "sfumato export" in serve(tmp_path / "run").stderr
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("contract.json", "cloud.onnx"):
        (copy / name).write_bytes((bundle / name).read_bytes())
    content = bytearray((copy / "cloud.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (copy / "cloud.onnx").write_bytes(content)
    done = serve(copy)
    assert done.returncode == 1
    assert "sha256 differs" in done.stderr
    assert done.stderr.count("\n") == 1
