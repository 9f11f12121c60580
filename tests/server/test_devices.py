"""A thousand devices, each with secrets of its own, ask a real service of several processes; some of them are revoked."""

import http.client
import json
import socket
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from tests.server.conftest import Server, start_server
from tests.server.test_processes import workers

from sfumato.runtime.keyring import KeyRing
from sfumato.runtime.phone_model import PhoneModel
from sfumato.server.auth import add_tokens, revoke_tokens
from sfumato.server.formats import WORD
from sfumato.server.model import CloudModel

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="--processes needs Linux")
COUNT, REVOKED = 1000, 300
SERVICES = ("127.0.0.1", "localhost")
"""Two services to a device, by the names of their hosts; behind both is one that puts together what it gets."""


@dataclass(frozen=True)
class Device:
    """What one phone holds."""

    name: str
    token: str
    keys: KeyRing


@pytest.fixture(scope="module")
def devices(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Device], Path]:
    """The devices, and the service's file of tokens."""
    path = tmp_path_factory.mktemp("devices") / "tokens.txt"
    made = add_tokens(path, [f"phone-{number}" for number in range(COUNT)])
    rng = np.random.default_rng(7)
    return [Device(name, token, KeyRing.of(rng.bytes(32))) for name, token in made.items()], path


@pytest.fixture(scope="module")
def service(
    drawn_bundle: Path, devices: tuple[list[Device], Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    log = tmp_path_factory.mktemp("service") / "log"
    options = ("--processes", "2", "--no-page", "--tokens", str(devices[1]))
    running = start_server(drawn_bundle, CloudModel.load(drawn_bundle).contract_digest, log, *options)
    yield running
    running.process.kill()
    running.process.wait()


@pytest.fixture(scope="module")
def phone(drawn_bundle: Path) -> PhoneModel:
    return PhoneModel.load(drawn_bundle)


@pytest.fixture(scope="module")
def photo(phone: PhoneModel) -> tuple[np.ndarray, np.ndarray]:  # type: ignore[type-arg]
    """The photo, of some, whose randomised answer is least certain; and the probabilities of its words."""
    assert phone.table is not None
    best = None
    for seed in range(60):
        pixels = np.random.default_rng(seed).integers(0, 256, (32, 32, 3), dtype=np.uint8)
        pixels[:, : seed % 32] //= 3
        drawn = [phone.perturb(pixels, key=None).word for _ in range(60)]
        top = max(Counter(drawn).values()) / 60
        if best is None or top < best[0]:
            best = (top, pixels)
    assert best is not None
    words = [phone.perturb(best[1], key=None).word for _ in range(4000)]
    return best[1], np.bincount(words, minlength=8) / 4000  # type: ignore[arg-type]


def ask(connection: http.client.HTTPConnection, server: Server, token: str, word: bytes) -> tuple[int, bytes]:
    headers = server.headers(Authorization=f"Bearer {token}", **{"Content-Type": WORD})
    connection.request("POST", "/v1/predict", word, headers)
    answer = connection.getresponse()
    return answer.status, answer.read()


def test_a_thousand_devices_are_answered_and_two_services_cannot_link_their_draws(
    service: Server,
    devices: tuple[list[Device], Path],
    phone: PhoneModel,
    photo: tuple[np.ndarray, np.ndarray],  # type: ignore[type-arg]
) -> None:
    """Every device sends the same photo to both services."""
    pixels, shares = photo
    sent: dict[str, list[int]] = {name: [] for name in SERVICES}
    keys = set()
    expected: dict[bytes, bytes] = {}
    for host in SERVICES:
        connection = http.client.HTTPConnection(host, service.port, timeout=120)
        for device in devices[0]:
            key = device.keys.for_service(host)
            keys.add(key)
            upload = phone.perturb(pixels, key=key)
            status, body = ask(connection, service, device.token, upload.content)
            assert status == 200, body
            answers = json.dumps(json.loads(body)["answers"]).encode()
            assert (
                expected.setdefault(upload.content, answers) == answers
            )  # one answer to a word, whoever asks
            assert upload.word is not None
            sent[host].append(upload.word)
        connection.close()
    assert len(keys) == 2 * COUNT
    # The two words of a device agree as often as two independent draws of this photo do, within five standard errors.
    chance = float((shares**2).sum())
    assert chance < 0.9, "a photo whose words are nearly certain shows nothing"
    agree = np.mean(np.array(sent[SERVICES[0]]) == np.array(sent[SERVICES[1]]))
    error = np.sqrt(chance * (1 - chance) / COUNT) + 2 * np.sqrt(chance / 4000)
    assert abs(agree - chance) < 5 * error


def test_revoked_devices_are_refused_at_once_in_all_processes_and_the_others_are_answered(
    service: Server, devices: tuple[list[Device], Path], phone: PhoneModel
) -> None:
    everyone, path = devices
    revoked, left = everyone[:REVOKED], everyone[REVOKED:]
    assert len(workers(service)) == 2
    word = b"\0"
    # Connections that were open before, to whichever process; and one upload whose body has not come yet.
    old = [http.client.HTTPConnection(SERVICES[0], service.port, timeout=120) for _ in range(20)]
    for connection, device in zip(old, revoked, strict=False):
        assert ask(connection, service, device.token, word)[0] == 200
    with socket.create_connection((SERVICES[0], service.port), timeout=120) as half:
        lines = [f"{name}: {value}" for name, value in service.headers(**{"Content-Type": WORD}).items()]
        lines += [f"Authorization: Bearer {revoked[0].token}", "Content-Length: 1", "Host: 127.0.0.1", "", ""]
        half.sendall("\r\n".join(["POST /v1/predict HTTP/1.1", *lines]).encode())
        assert ask(old[1], service, revoked[1].token, word)[0] == 200  # by now the other's headers were read
        revoke_tokens(path, [device.name for device in revoked])
        half.sendall(word)
        assert half.recv(2**16).startswith(b"HTTP/1.1 401 ")
    for connection, device in zip(old, revoked, strict=False):
        assert ask(connection, service, device.token, word)[0] == 401
        connection.close()
    # Every request over a new connection: the system spreads them, and with one process alone that is a chance of 2^-299.
    statuses = Counter[int]()
    for device in revoked:
        connection = http.client.HTTPConnection(SERVICES[0], service.port, timeout=120)
        statuses[ask(connection, service, device.token, word)[0]] += 1
        connection.close()
    assert statuses == {401: REVOKED}
    connection = http.client.HTTPConnection(SERVICES[0], service.port, timeout=120)
    assert {ask(connection, service, device.token, word)[0] for device in left[:100]} == {200}
    # A device that is let in again has another token; the old one stays worth nothing.
    again = add_tokens(path, [revoked[0].name])[revoked[0].name]
    assert ask(connection, service, again, word)[0] == 200
    assert ask(connection, service, revoked[0].token, word)[0] == 401
    connection.close()
    log = service.log.read_text(encoding="utf-8")
    assert '"tokens were read again"' in log
    assert again not in log
