"""Uploads that are indices, through service, client and command line: the same answer as their entries have."""

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from tests.server.conftest import KEY, Server, shared_server
from tests.server.test_app import kind

from sfumato.runtime.perturb_files import perturb_files
from sfumato.runtime.phone_model import PhoneModel
from sfumato.runtime.upload_codec import encode_png, pack
from sfumato.server.client import Client, Reply
from sfumato.server.model import CloudModel

INDEX, INDEX_BATCH = "application/vnd.sfumato.index", "application/vnd.sfumato.index-batch"
PACKED = "application/vnd.sfumato.packed"


@pytest.fixture(scope="module")
def phone(index_export: Path) -> PhoneModel:
    return PhoneModel.load(index_export)


@pytest.fixture(scope="module")
def model(index_export: Path) -> CloudModel:
    return CloudModel.load(index_export)


@pytest.fixture(scope="module")
def server(
    index_export: Path, model: CloudModel, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    with shared_server(index_export, model, tmp_path_factory) as running:
        yield running


def photos(count: int) -> list[NDArray[np.uint8]]:
    random = np.random.default_rng(4)
    return [random.integers(0, 256, (32, 32, 3), dtype=np.uint8) for _ in range(count)]


def test_the_service_reads_the_entry_that_the_phone_drew(
    server: Server, model: CloudModel, phone: PhoneModel
) -> None:
    upload = phone.perturb(photos(1)[0], key=KEY)
    (expected,) = model.predict([upload.levels])
    response = server.post(upload.content, **{"Content-Type": INDEX})
    assert response.status_code == 200
    for name, one in expected.items():
        found = response.json()["answers"][name]["probabilities"]
        assert found == pytest.approx(one.probabilities, abs=1e-5)


def test_client_and_batch(server: Server, phone: PhoneModel) -> None:
    with Client(phone, server.url) as client:
        one = client.send(photos(1)[0], key=KEY)
        many = client.send_many(photos(3), key=KEY)
    replies = [reply for reply in many if isinstance(reply, Reply)]
    assert len(replies) == 3
    assert {reply.sent_bytes for reply in [one, *replies]} == {88}
    for name, answer in one.answers.items():
        assert replies[0].answers[name]["probabilities"] == pytest.approx(answer["probabilities"], abs=1e-5)


def test_anything_else_is_refused(server: Server, phone: PhoneModel) -> None:
    upload = phone.perturb(photos(1)[0], key=KEY)
    filled = upload.content[:-1] + bytes([upload.content[-1] | 1])
    for content, given, expected in (
        (encode_png(upload.levels, bits=2), "image/png", "raw-photo"),
        (pack(upload.levels, bits=2), PACKED, "wrong-type"),
        (upload.content[:-1], INDEX, "not-an-upload"),
        (upload.content + b"\0", INDEX, "too-large"),
        (filled, INDEX, "not-an-upload"),
    ):
        assert kind(server.post(content, **{"Content-Type": given})) == expected
    headers = server.headers(**{"Content-Type": INDEX_BATCH})
    batch = httpx.post(
        f"{server.url}/v1/predict/batch", content=upload.content + filled, headers=headers, timeout=120
    )
    good, bad = batch.json()["items"]
    assert "answers" in good
    assert bad["problem"]["type"].endswith("not-an-upload")
    short = httpx.post(f"{server.url}/v1/predict/batch", content=filled + b"\0", headers=headers, timeout=120)
    assert kind(short) == "not-an-upload"


def test_files_of_an_index(phone: PhoneModel, tmp_path: Path) -> None:
    Image.fromarray(photos(1)[0]).save(tmp_path / "photo.png")
    (done,) = perturb_files(phone, [tmp_path / "photo.png"], tmp_path / "out", key=KEY)
    assert (done.upload.name, done.bytes) == ("photo.upload.index", 88)
    beside = json.loads((tmp_path / "out" / "photo.upload.json").read_text(encoding="utf-8"))
    assert (beside["encoding"], beside["sampler"], beside["bytes"]) == ("index", 2, 88)
    assert done.upload.read_bytes() == phone.perturb(photos(1)[0], key=KEY).content
