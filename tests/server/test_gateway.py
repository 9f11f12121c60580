"""The gateway between a camera and the real service: photos in, answers out, and only uploads in between."""

import io
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from tests.fixtures import sounds
from tests.server.conftest import KEY, Server, Start, start_server
from tests.server.test_app import kind

from sfumato.data import open_dataset
from sfumato.runtime.keyring import KeyRing
from sfumato.runtime.ledger import Ledger
from sfumato.runtime.phone_model import PhoneModel, Upload
from sfumato.runtime.scenes import SceneConfig
from sfumato.server.client_scenes import MOST_CLIENTS, ClientScenes
from sfumato.server.model import CloudModel

Pictures = list[NDArray[np.uint8]]
linux = pytest.mark.skipif(sys.platform != "linux", reason="--processes needs Linux")
JPEG = {"Content-Type": "image/jpeg"}


def photo(picture: NDArray[np.uint8], form: str = "JPEG") -> bytes:
    stream = io.BytesIO()
    exif = Image.Exif()
    exif[0x010F] = "Camera-of-Ada"
    Image.fromarray(picture).resize((90, 70)).save(stream, form, exif=exif)
    return stream.getvalue()


def post(gateway: Server, content: bytes, **headers: str) -> httpx.Response:
    return httpx.post(f"{gateway.url}/v1/photo", content=content, headers={**JPEG, **headers}, timeout=120)


def test_the_answer_is_that_of_the_upload_python_makes(
    start: Start, server: Server, key_file: Path, phone: PhoneModel, model: CloudModel, pictures: Pictures
) -> None:
    gateway = start("--gateway", "--server", server.url, "--key", str(key_file))
    forms, face = ("JPEG", "PNG", "WEBP", "TIFF"), io.BytesIO()
    Image.fromarray(open_dataset("synthetic,count=800,size=32").images[0]).save(face, "PNG")
    contents = [photo(picture, form) for picture, form in zip(pictures, forms, strict=False)]
    flags = []
    for content, form in zip([*contents, face.getvalue()], (*forms, "PNG"), strict=True):
        response = post(gateway, content, **{"Content-Type": f"image/{form.lower()}"})
        assert response.status_code == 200, response.text
        upload = phone.perturb(content, key=KeyRing.of(KEY).for_service("127.0.0.1"))
        (expected,) = model.predict([upload.levels])
        answer = response.json()
        assert answer["answers"]["glasses"]["label"] == expected["glasses"].label
        found = answer["answers"]["glasses"]["probabilities"]
        assert found == pytest.approx(dict(expected["glasses"].probabilities), abs=2e-6)
        assert (answer["sent_bytes"], answer["contract"]) == (len(upload.content), gateway.digest)
        assert answer["rate_bits"] == pytest.approx(upload.rate_bits)
        assert answer["unlike"] is upload.unlike
        flags.append(upload.unlike)
        line = server.line(answer["service_request_id"])
        assert line["bytes_in"] == len(upload.content)
    assert flags == [True, True, True, True, False]
    assert httpx.get(f"{gateway.url}/v1/contract").content == model.contract_json
    assert httpx.get(f"{gateway.url}/v1/predict").status_code == 404


def test_recordings_where_the_model_takes_them(sound_export: Path, key_file: Path, tmp_path: Path) -> None:
    cloud, phone, found = CloudModel.load(sound_export), PhoneModel.load(sound_export), set()
    digest = cloud.contract_digest
    service = start_server(sound_export, digest, tmp_path / "service", "--no-page")
    gateway = None
    try:
        options = ("--gateway", "--server", service.url, "--key", str(key_file))
        gateway = start_server(sound_export, digest, tmp_path / "gateway", *options)
        for content in sounds.recordings(6):
            response = post(gateway, content, **{"Content-Type": "audio/wav"})
            assert response.status_code == 200, response.text
            (expected,) = cloud.predict([phone.perturb(content, key=KEY).levels])
            assert response.json()["answers"]["digit"]["label"] == expected["digit"].label
            found.add(expected["digit"].label)
        assert len(found) > 1
        refused = post(gateway, photo(np.zeros((40, 40, 3), np.uint8)))
        assert (refused.status_code, kind(refused)) == (422, "not-a-photo")
        assert "not a WAV file" in refused.json()["detail"]
        scenes = serve(sound_export, *options, "--scenes", "4")
        assert (scenes.returncode, "takes recordings" in scenes.stderr) == (2, True)
    finally:
        for running in filter(None, (gateway, service)):
            running.process.kill()
            running.process.wait()


def shaken(picture: NDArray[np.uint8], frame: int) -> bytes:
    """What a camera sends that still looks at the picture: noise, and a lamp that flickers."""
    noise = np.random.default_rng(frame).normal(0, 4, picture.shape)
    return photo((picture * (1 - 0.02 * frame) + noise).clip(0, 255).astype(np.uint8))


def test_photos_of_one_scene_are_one_upload(
    start: Start, server: Server, key_file: Path, pictures: Pictures, tmp_path: Path
) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text("door 0123456789abcdef-door\ngate 0123456789abcdef-gate\n")
    tokens.chmod(0o600)
    options = ["--gateway", "--server", server.url, "--key", str(key_file), "--tokens", str(tokens)]
    gateway = start(*options, "--scenes", "4", "--ledger", str(tmp_path / "account"))

    def ask(gateway: Server, camera: str, content: bytes) -> dict[str, Any]:
        response = post(gateway, content, Authorization=f"Bearer 0123456789abcdef-{camera}")
        assert response.status_code == 200, response.text
        answer: dict[str, Any] = response.json()
        return answer

    still = [ask(gateway, "door", shaken(pictures[0], frame)) for frame in range(4)]
    assert [one["scene"] for one in still] == [1] * 4
    assert still[0]["sent_bytes"] > 0
    assert still[0]["rate_bits"] > 0
    for one in still[1:]:
        assert (one["sent_bytes"], one["rate_bits"]) == (0, 0)
        assert all(one[name] == still[0][name] for name in ("answers", "service_request_id", "unlike"))
    moved = ask(gateway, "door", photo(pictures[1]))
    assert (moved["scene"], moved["sent_bytes"] > 0) == (2, True)
    assert ask(gateway, "door", shaken(pictures[0], 5))["scene"] == 1  # it comes back
    other = ask(gateway, "gate", shaken(pictures[0], 6))
    assert (other["scene"], other["sent_bytes"] > 0) == (1, True), "scenes of one client are not another's"
    account = Ledger(tmp_path / "account", KEY).account("127.0.0.1")
    assert (account.today.uploads, account.today.draws) == (3, 3)
    gateway.stop()
    apart = start(*options)  # without the option every photo is a draw
    found = [ask(apart, "door", shaken(pictures[0], frame)) for frame in range(3)]
    assert [one["scene"] for one in found] == [None] * 3
    assert all(one["sent_bytes"] > 0 for one in found)


def test_an_upload_is_kept_until_it_is_answered_and_clients_are_bounded(
    phone: PhoneModel, pictures: Pictures
) -> None:
    scenes, made = ClientScenes(SceneConfig()), 0

    def perturb() -> Upload:
        nonlocal made
        made += 1
        return phone.perturb(pictures[0], key=KEY)

    first = scenes.asked("door", pictures[0], perturb)
    again = scenes.asked("door", pictures[0], perturb)
    assert first is again
    assert (made, first.upload is not None, first.reply) == (1, True, None)
    for number in range(MOST_CLIENTS):
        scenes.asked(f"camera {number}", pictures[0], perturb)
    assert made == 1 + MOST_CLIENTS
    assert scenes.asked("door", pictures[0], perturb) is not first  # not heard of for longest
    assert scenes.asked(f"camera {MOST_CLIENTS - 1}", pictures[0], perturb).scene == 1
    assert made == 2 + MOST_CLIENTS


def test_refusals(start: Start, server: Server, key_file: Path, pictures: Pictures) -> None:
    gateway = start("--gateway", "--server", server.url, "--key", str(key_file), "--rate", "1000")
    content = photo(pictures[0])
    for body, headers, expected in (
        (b"no photo", {}, (422, "not-a-photo")),
        (content[:200], {}, (422, "not-a-photo")),
        (b"", {}, (422, "not-a-photo")),
        (content, {"Content-Type": "text/html"}, (415, "wrong-type")),
        (content, {"Content-Encoding": "gzip"}, (415, "wrong-type")),
        (bytes(20_000_001), {}, (413, "too-large")),
    ):
        response = post(gateway, body, **headers)
        assert (response.status_code, kind(response)) == expected
    assert post(gateway, content).status_code == 200


def test_tokens_of_both_sides(start: Start, key_file: Path, pictures: Pictures, tmp_path: Path) -> None:
    service = start(SFUMATO_TOKENS="box 0123456789abcdef-box")
    camera = tmp_path / "tokens"
    camera.write_text("camera 0123456789abcdef-camera\n")
    camera.chmod(0o600)
    options = ("--gateway", "--server", service.url, "--key", str(key_file), "--tokens", str(camera))
    content, token = photo(pictures[0]), {"Authorization": "Bearer 0123456789abcdef-camera"}
    gateway = start(*options, SFUMATO_TOKEN="0123456789abcdef-box")
    assert post(gateway, content).status_code == 401
    assert post(gateway, content, **token).status_code == 200
    stranger = start(*options, SFUMATO_TOKEN="0123456789abcdef-other")
    response = post(stranger, content, **token)
    assert (response.status_code, kind(response)) == (502, "upstream")
    assert "401" in response.json()["detail"]


@pytest.mark.parametrize("processes", [1, pytest.param(2, marks=linux)])
def test_over_the_limit_nothing_goes_out(
    processes: int,
    start: Start,
    server: Server,
    key_file: Path,
    phone: PhoneModel,
    pictures: Pictures,
    tmp_path: Path,
) -> None:
    contents = [photo(picture) for picture in pictures[:3]]
    rates = [phone.perturb(content, key=KEY).rate_bits for content in contents]
    options = (
        "--gateway",
        "--server",
        server.url,
        "--key",
        str(key_file),
        "--ledger",
        str(tmp_path / "account"),
        "--processes",
        str(processes),
    )
    gateway = start(*options, "--bits-per-day", str(rates[0] + rates[1] + 0.001))
    answers = [post(gateway, content) for content in (contents[0], contents[0], contents[1], contents[2])]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 403]
    assert answers[2].json()["account"].startswith("Today 2 photos, at most ")
    assert kind(answers[3]) == "over-limit"
    assert "127.0.0.1: this photo's" in answers[3].json()["detail"]
    gateway.stop()
    gateway = start(*options)  # started again: the account and its limit stay
    assert post(gateway, contents[2]).status_code == 403
    assert post(gateway, contents[1]).status_code == 200
    account = Ledger(tmp_path / "account", KEY).account("127.0.0.1")
    assert (account.today.uploads, account.today.draws) == (4, 2)
    (tmp_path / "account").write_bytes(b"")
    response = post(gateway, contents[1])
    assert (response.status_code, kind(response)) == (500, "no-account")
    assert "older copy" in response.json()["detail"]


def test_without_an_account_no_gateway_starts(bundle: Path, key_file: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sfumato.cli.main", "serve", str(bundle), "--port", "0", "--gateway"]
    more = ["--server", "https://x.example", "--key", str(key_file), "--ledger", str(tmp_path)]
    done = subprocess.run([*command, *more], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 1
    assert "cannot be kept" in done.stderr


def test_a_service_that_is_away_or_has_another_contract(
    start: Start, bundle: Path, key_file: Path, pictures: Pictures, tmp_path: Path
) -> None:
    gateway = start("--gateway", "--server", "http://127.0.0.1:9", "--key", str(key_file))
    response = post(gateway, photo(pictures[0]))
    assert (response.status_code, kind(response)) == (502, "upstream")
    other = tmp_path / "other"
    other.mkdir()
    for name in ("contract.json", "cloud.onnx"):
        shutil.copy(bundle / name, other / name)
    (other / "contract.json").write_text((bundle / "contract.json").read_text(encoding="utf-8") + "\n")
    away = start(export=other)
    gateway = start("--gateway", "--server", away.url, "--key", str(key_file))
    response = post(gateway, photo(pictures[0]))
    assert (response.status_code, kind(response)) == (502, "upstream")
    assert "another contract" in response.json()["detail"]
    assert "/v1/predict" not in away.log.read_text(encoding="utf-8")  # nothing was sent


@pytest.mark.parametrize(
    "options",
    [
        ["--gateway"],
        ["--server", "https://x.example"],
        ["--key", "k"],
        ["--plain-http"],
        ["--ledger", "l"],
        ["--bits-per-day", "1"],
        ["--scenes", "4"],
        ["--tolerance", "10"],
    ],
)
def test_wrong_use(bundle: Path, options: list[str]) -> None:
    done = serve(bundle, *options)
    assert done.returncode == 2
    assert "--gateway needs --server URL" in done.stderr


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--tolerance", "10"], "give --scenes too"),
        (["--scenes", "4", "--processes", "2"], "needs --processes 1"),
    ],
)
def test_wrong_use_of_scenes(bundle: Path, options: list[str], reason: str) -> None:
    done = serve(bundle, "--gateway", "--server", "https://x.example", *options)
    assert (done.returncode, reason in done.stderr) == (2, True)


def serve(export: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    """A service that does not start."""
    command = [sys.executable, "-m", "sfumato.cli.main", "serve", str(export), "--port", "0", *options]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
