"""Answer bundles: a word of one byte or two, or its image, through service, client, command line and gateway."""

import json
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image
from tests.server.conftest import KEY, Server, Start, shared_server, start_server
from tests.server.test_app import kind
from typer import Typer
from typer.testing import CliRunner, Result

from sfumato.cli import perturb, send
from sfumato.core.errors import UsageError
from sfumato.runtime.answer import word_bytes, word_image
from sfumato.runtime.keyring import KeyRing
from sfumato.runtime.phone_model import PhoneModel
from sfumato.runtime.upload_codec import encode_png, pack
from sfumato.server.client import Client, Reply
from sfumato.server.model import CloudModel
from sfumato.training.run import AnswerRun

WORD, WORD_BATCH = "application/vnd.sfumato.word", "application/vnd.sfumato.word-batch"
PACKED, PACKED_BATCH = "application/vnd.sfumato.packed", "application/vnd.sfumato.packed-batch"


@pytest.fixture(scope="module", params=[True, False], ids=["6 words", "300 words"])
def bundle_folder(request: pytest.FixtureRequest, answer_export: Callable[[bool], Path]) -> Path:
    return answer_export(request.param)


@pytest.fixture(scope="module")
def phone(bundle_folder: Path) -> PhoneModel:
    return PhoneModel.load(bundle_folder)


@pytest.fixture(scope="module")
def model(bundle_folder: Path) -> CloudModel:
    return CloudModel.load(bundle_folder)


@pytest.fixture(scope="module")
def words(phone: PhoneModel) -> int:
    assert phone.contract.answer is not None
    return phone.contract.answer.words


@pytest.fixture(scope="module")
def server(
    bundle_folder: Path, model: CloudModel, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    with shared_server(bundle_folder, model, tmp_path_factory) as running:
        yield running


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    random = np.random.default_rng(2)
    Image.fromarray(random.integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def test_byte_image_and_packed_image_have_the_same_answer(
    server: Server, model: CloudModel, words: int
) -> None:
    bits = (words - 1).bit_length()
    for word in {0, 1, words // 2, words - 1}:
        # The slow obvious image, read by ONNX Runtime alone.
        image = np.zeros((32, 32, 3), np.uint8)
        for y, x, c in np.ndindex(32, 32, 3):
            image[y, x, c] = word >> (bits - 1 - ((y // 8 * 4 + x // 8) * 3 + c) % bits) & 1
        logits = model.session.run(None, {"upload": image.transpose(2, 0, 1)[None].astype(np.float32)})
        forms = (
            (word_bytes(word, words), WORD),
            (encode_png(image, bits=1), "image/png"),
            (pack(image, bits=1), PACKED),
        )
        answers = [server.post(content, **{"Content-Type": form}) for content, form in forms]
        assert [response.status_code for response in answers] == [200, 200, 200], answers[0].text
        first, *others = (response.json()["answers"] for response in answers)
        assert others == [first, first]
        for entry, head in zip(model.contract.keep, logits, strict=True):
            found = list(first[entry.name]["probabilities"].values())
            expected = [float(np.exp(value)) for value in head[0].astype(np.float64)]
            assert found == pytest.approx(expected, abs=2e-6)
            assert first[entry.name]["label"] == entry.classes[int(np.argmax(expected))]


def test_the_words_of_an_export_are_answered_alike_in_every_form(
    drawn_run: AnswerRun, drawn_bundle: Path, tmp_path: Path
) -> None:
    """The whole way: a run's export, the phone's words of its own data, the service."""
    phone, model = PhoneModel.load(drawn_bundle), CloudModel.load(drawn_bundle)
    log = tmp_path / "log"
    running = start_server(drawn_bundle, model.contract_digest, log, "--rate", "1000", "--burst", "1000")
    try:
        seen = set()
        with Client(phone, running.url) as client:
            for image in drawn_run.dataset.images[:30]:
                word, drawn = (client.send(image, key=KEY, encoding=form) for form in ("word", "image"))
                upload = phone.perturb(image, key=KEY)
                (expected,) = model.predict([upload.levels])
                assert word.answers == drawn.answers
                assert word.sent_bytes == 1
                assert {name: one["label"] for name, one in word.answers.items()} == {
                    name: one.label for name, one in expected.items()
                }
                seen.add(upload.word)
        assert len(seen) > 1
    finally:
        running.stop()


def test_different_words_have_different_answers(server: Server, words: int) -> None:
    answers = {
        json.dumps(server.post(word_bytes(word, words), **{"Content-Type": WORD}).json()["answers"])
        for word in range(min(words, 20))
    }
    assert len(answers) == min(words, 20)


def test_what_is_no_word_is_refused_in_one_line(server: Server, words: int) -> None:
    size = len(word_bytes(0, words))
    full = (256**size - 1).to_bytes(size, "big")
    thresholded = np.random.default_rng(0).integers(0, 2, (32, 32, 3), dtype=np.uint8)
    nearly = word_image(1, words, 32, 32)
    nearly[3, 4, 1] ^= 1
    missing = word_image(words, 2 ** (words - 1).bit_length(), 32, 32)
    cases = [
        (
            words.to_bytes(size, "big"),
            WORD,
            422,
            "not-an-upload",
            f"there is no word {words}: this model has",
        ),
        (full, WORD, 422, "not-an-upload", f"the words 0 to {words - 1}"),
        (b"", WORD, 422, "not-an-upload", f"takes {size}"),
        (bytes(size + 1), WORD, 413, "too-large", f"at most {size} bytes"),
        (thresholded, PACKED, 422, "raw-photo", f"none of the {words} code words"),
        (nearly, PACKED, 422, "raw-photo", "nearly went to the cloud"),
        (missing, PACKED, 422, "raw-photo", "code words"),
        (bytes(10), PACKED, 422, "not-an-upload", "10 bytes"),
        (bytes(size), "application/vnd.sfumato.words", 415, "wrong-type", WORD),
    ]
    for content, form, status, name, detail in cases:
        sent = content if isinstance(content, bytes) else pack(content, bits=1)
        response = server.post(sent, **{"Content-Type": form})
        assert (response.status_code, kind(response)) == (status, name), (form, response.text)
        assert detail in response.json()["detail"]
        assert "\n" not in response.json()["detail"]
    assert kind(server.post(encode_png(thresholded, bits=1))) == "raw-photo"


def test_a_large_body_is_refused_before_it_is_read(server: Server) -> None:
    for path, form in (("/v1/predict", WORD), ("/v1/predict/batch", WORD_BATCH)):
        with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
            lines = [
                f"POST {path} HTTP/1.1",
                "Host: 127.0.0.1",
                f"Content-Type: {form}",
                f"Sfumato-Contract: {server.digest}",
                "Content-Length: 1000000000",
            ]
            connection.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())  # and no body
            assert connection.recv(4096).startswith(b"HTTP/1.1 413")


def post_batch(server: Server, content: bytes, form: str) -> httpx.Response:
    headers = server.headers(**{"Content-Type": form})
    return httpx.post(f"{server.url}/v1/predict/batch", content=content, headers=headers, timeout=120)


def test_a_batch_of_words(server: Server, words: int) -> None:
    size = len(word_bytes(0, words))
    chosen = [0, words - 1, words, 2, 2]  # the third is no word
    response = post_batch(server, b"".join(word.to_bytes(size, "big") for word in chosen), WORD_BATCH)
    assert response.status_code == 200, response.text
    items = response.json()["items"]
    for word, item in zip(chosen, items, strict=True):
        if word == words:
            assert item["problem"]["type"] == "urn:sfumato:problem:not-an-upload"
            assert f"no word {words}" in item["problem"]["detail"]
            continue
        alone = server.post(word_bytes(word, words), **{"Content-Type": WORD}).json()
        assert item["answers"] == alone["answers"]
    images = b"".join(pack(word_image(word, words, 32, 32), bits=1) for word in (0, words - 1))
    packed = post_batch(server, images, PACKED_BATCH).json()["items"]
    assert [item["answers"] for item in packed] == [items[0]["answers"], items[1]["answers"]]
    assert kind(post_batch(server, bytes(size * 65), WORD_BATCH)) == "too-large"
    assert kind(post_batch(server, b"", WORD_BATCH)) == "not-an-upload"
    assert kind(post_batch(server, bytes(size), WORD)) == "wrong-type"


def test_a_picture_bundle_takes_no_words(start: Start, bundle: Path, photo: Path) -> None:
    running = start()
    running.digest = CloudModel.load(bundle).contract_digest
    assert kind(running.post(b"\0", **{"Content-Type": WORD})) == "wrong-type"
    assert kind(post_batch(running, b"\0", WORD_BATCH)) == "wrong-type"
    with Client(PhoneModel.load(bundle), running.url) as client:
        with pytest.raises(UsageError, match="no code words"):
            client.send(photo, key=KEY, encoding="word")
        assert client.send(photo, key=KEY, encoding="image").sent_bytes > 300


def test_log_and_metrics_name_the_encoding(server: Server, words: int) -> None:
    def counted() -> dict[str, float]:
        text = httpx.get(f"{server.url}/metrics").text
        lines = [line for line in text.splitlines() if line.startswith("sfumato_uploads_total{")]
        return {line.split('"')[1]: float(line.split()[-1]) for line in lines}

    before = counted()
    size = len(word_bytes(0, words))
    response = server.post(bytes(size), **{"Content-Type": WORD})
    post_batch(server, bytes(3 * size), WORD_BATCH)
    server.post(encode_png(word_image(0, words, 32, 32), bits=1))
    after = counted()
    assert after["word"] - before.get("word", 0) == 4
    assert after["png"] - before.get("png", 0) == 1
    line = server.line(response.json()["request_id"])
    assert (line["encoding"], line["bytes_in"], line["status"]) == ("word", size, 200)
    assert set(line) <= {
        "time", "level", "event", "request_id", "method", "route", "status", "ms", "bytes_in", "bytes_out", "batch", "encoding",
    }  # fmt: skip


def test_the_document_names_words(server: Server, words: int) -> None:
    paths = httpx.get(f"{server.url}/openapi.json").json()["paths"]
    single = paths["/v1/predict"]["post"]["requestBody"]
    assert list(single["content"]) == [WORD, "image/png", PACKED]
    assert f"0 to {words - 1}" in single["description"]
    batch = paths["/v1/predict/batch"]["post"]["requestBody"]
    assert list(batch["content"]) == [WORD_BATCH, PACKED_BATCH]
    assert "1 to 64" in batch["description"]


def test_the_client_sends_a_word_and_the_image_gives_the_same(
    server: Server, phone: PhoneModel, words: int, photo: Path
) -> None:
    with Client(phone, server.url) as client:
        plain, word, image = (client.send(photo, key=KEY, encoding=form) for form in (None, "word", "image"))
        many = client.send_many([photo] * 70, key=KEY)  # two requests
        packed = client.send_many([photo] * 2, key=KEY, encoding="image")
        assert client.send_many([], key=KEY) == []
        with pytest.raises(UsageError, match="letter"):
            client.send_many([photo], key=KEY, encoding="letter")
    assert plain.answers == word.answers == image.answers
    assert (plain.sent_bytes, word.sent_bytes) == (1 + (words > 256), 1 + (words > 256))
    assert image.sent_bytes > 300
    assert word.rate_bits == image.rate_bits == pytest.approx(np.log2(words))
    assert len(many) == 70
    for reply in many:
        assert isinstance(reply, Reply)
        assert (reply.answers, reply.sent_bytes) == (word.answers, word.sent_bytes)
    for reply in packed:
        assert isinstance(reply, Reply)
        assert (reply.answers, reply.sent_bytes) == (word.answers, 32 * 32 * 3 // 8)


def run(command: Callable[..., None], *arguments: object) -> Result:
    app = Typer()
    app.command()(command)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_the_command_line(
    server: Server, bundle_folder: Path, words: int, photo: Path, tmp_path: Path
) -> None:
    key = tmp_path / "key"
    key.write_bytes(KEY)
    key.chmod(0o600)
    given = (bundle_folder, photo, "--server", server.url, "--key", key)
    word, image = (run(send.command, *given, "--json", "--encoding", form) for form in ("word", "image"))
    assert word.exit_code == image.exit_code == 0, word.output
    told = json.loads(word.stdout)
    assert told["answers"] == json.loads(image.stdout)["answers"]
    assert told["sent_bytes"] == 1 + (words > 256)
    people = run(send.command, *given)
    assert f"at most {np.log2(words):.1f} bits" in people.stderr
    refused = run(send.command, *given, "--encoding", "letter")
    assert isinstance(refused.exception, UsageError)
    files = run(
        perturb.command,
        bundle_folder,
        photo,
        "--out",
        tmp_path / "out",
        "--key",
        key,
        "--service",
        "127.0.0.1",
    )
    assert files.exit_code == 0, files.output
    sent = (tmp_path / "out" / "photo.upload.word").read_bytes()
    assert server.post(sent, **{"Content-Type": WORD}).json()["answers"] == told["answers"]


def test_the_gateway_sends_words(
    start: Start,
    server: Server,
    bundle_folder: Path,
    phone: PhoneModel,
    words: int,
    photo: Path,
    tmp_path: Path,
) -> None:
    key = tmp_path / "key"
    key.write_text(KEY.hex())
    key.chmod(0o600)
    gateway = start("--gateway", "--server", server.url, "--key", str(key), export=bundle_folder)
    answer = httpx.post(
        f"{gateway.url}/v1/photo",
        content=photo.read_bytes(),
        headers={"Content-Type": "image/png"},
        timeout=120,
    ).json()
    content = phone.perturb(photo, key=KeyRing.of(KEY).for_service("127.0.0.1")).content
    alone = server.post(content, **{"Content-Type": WORD}).json()
    assert answer["answers"] == alone["answers"]
    assert answer["sent_bytes"] == len(content)
    assert server.line(answer["service_request_id"])["encoding"] == "word"
