"""What `sfumato send` and a gateway put on the wire, and what services write down, for photos with something in every place.

The files are those of tests/pictures/metadata.py. A relay between client and service keeps every byte.
"""

import io
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from PIL import Image
from tests.pictures.metadata import ORIENTATION, SIGN, Hidden, hidden
from tests.server.conftest import KEY, Server, Start
from typer import Typer
from typer.testing import CliRunner

from sfumato.cli import send
from sfumato.runtime.keyring import KeyRing
from sfumato.runtime.ledger import Ledger
from sfumato.runtime.phone_model import PhoneModel
from sfumato.server.client import Client

HERE = KeyRing.of(KEY).for_service("127.0.0.1")
"""The key under which uploads to this machine are drawn."""


@dataclass
class Relay:
    """Passes connections on to a service; `sent` is what clients said."""

    port: int
    sent: bytearray = field(default_factory=bytearray)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@pytest.fixture
def relay(server: Server) -> Iterator[Relay]:
    listener = socket.create_server(("127.0.0.1", 0))
    notes = Relay(listener.getsockname()[1])

    def copy(source: socket.socket, target: socket.socket, kept: bytearray | None) -> None:
        while True:
            try:
                part = source.recv(65_536)
                if kept is not None:
                    kept.extend(part)
                target.sendall(part)
            except OSError:
                part = b""
            if not part:
                for one in (source, target):
                    one.close()
                return

    def accept() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            onward = socket.create_connection(("127.0.0.1", server.port))
            threading.Thread(target=copy, args=(client, onward, notes.sent), daemon=True).start()
            threading.Thread(target=copy, args=(onward, client, None), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    yield notes
    listener.close()


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "device.key"
    path.write_bytes(KEY)
    path.chmod(0o600)
    return path


def places() -> list[Hidden]:
    """Every file; one that is turned has another upload."""
    return [case for case in hidden() if case.place != ORIENTATION]


def test_requests_of_the_client_are_those_of_the_bare_picture(
    relay: Relay, server: Server, phone: PhoneModel, tmp_path: Path
) -> None:
    """To the byte, headers included; from files whose names say something too."""
    ledger = Ledger(tmp_path / "ledger", KEY)
    seen: dict[tuple[str, bytes], bytes] = {}
    with Client(phone, relay.url, ledger=ledger) as client:
        client.check_contract()
        for case in places():
            photo = tmp_path / f"{SIGN.decode()}{case.name}.jpg"
            for content in (case.bare, case.content):
                if (case.container, content) in seen:
                    continue
                photo.write_bytes(content)
                relay.sent.clear()
                client.send(photo, key=KEY)
                seen[case.container, content] = bytes(relay.sent)
            assert seen[case.container, case.content] == seen[case.container, case.bare], case.name
    requests = b"".join(seen.values())
    assert len(seen) > 80
    assert b"POST /v1/predict" in requests
    assert SIGN not in requests
    assert SIGN not in (tmp_path / "ledger").read_bytes()
    assert SIGN.decode() not in server.log.read_text(encoding="utf-8")


def test_the_command_says_and_sends_nothing_of_the_file(
    relay: Relay, server: Server, key_file: Path, phone: PhoneModel, tmp_path: Path
) -> None:
    case = next(one for one in places() if one.place == "EXIF, GPS")
    photo = tmp_path / f"{SIGN.decode()}holiday.jpg"
    photo.write_bytes(case.content)
    app = Typer()
    app.command()(send.command)
    words = [phone.folder, photo, "--server", relay.url, "--key", key_file, "--anyway", "--json"]
    result = CliRunner().invoke(app, list(map(str, words)))
    assert result.exit_code == 0, result.output
    assert SIGN.decode() not in result.stdout
    assert phone.perturb(case.bare, key=HERE).content in relay.sent
    assert SIGN not in relay.sent


def test_a_gateway_passes_nothing_on_and_writes_nothing_down(
    start: Start, relay: Relay, server: Server, key_file: Path, phone: PhoneModel
) -> None:
    """Photos come to it as they are; behind it, and in both logs, there are uploads alone."""
    many = ("--rate", "100000", "--burst", "100000", "--log-level", "debug")
    gateway = start("--gateway", "--server", relay.url, "--key", str(key_file), *many)
    kinds = {"JPEG": "jpeg", "PNG": "png", "WebP": "webp", "TIFF": "tiff", "BMP": "bmp"}
    chosen = [case for case in places() if case.container in kinds][::3]
    chosen += [case for case in places() if case.container == "AVIF"][:2]
    with httpx.Client(timeout=120) as client:
        for case in chosen:
            kind = f"image/{kinds[case.container]}" if case.container in kinds else "application/octet-stream"
            headers = {"Content-Type": kind, "User-Agent": "camera"}
            answer = client.post(f"{gateway.url}/v1/photo", content=case.content, headers=headers)
            assert answer.status_code == 200, (case.name, answer.text)
            assert SIGN.decode() not in answer.text
            assert phone.perturb(case.bare, key=HERE).content in relay.sent, case.name
        refused = client.post(
            f"{gateway.url}/v1/photo", content=SIGN + b" no photo", headers={"Content-Type": "image/jpeg"}
        )
        assert refused.status_code == 422
        assert SIGN.decode() not in refused.text
        scan = next(case.content for case in places() if case.container == "DICOM")
        refused = client.post(
            f"{gateway.url}/v1/photo", content=scan, headers={"Content-Type": "application/octet-stream"}
        )
        assert refused.status_code == 422
        assert "reads no DICOM" in refused.text
        assert SIGN.decode() not in refused.text
    assert SIGN not in relay.sent
    for log in (gateway.log, server.log):
        assert SIGN.decode() not in log.read_text(encoding="utf-8")


def test_a_picture_of_pillow_s_brings_nothing_along(phone: PhoneModel) -> None:
    """Whoever opened the file: its info holds EXIF, comment and profile."""
    for case in places():
        if case.container in ("JPEG", "PNG") and case.place in ("EXIF, GPS", "comment", "ICC profile"):
            with Image.open(io.BytesIO(case.content)) as image, Image.open(io.BytesIO(case.bare)) as bare:
                assert image.info != bare.info
                assert phone.perturb(image, key=KEY).content == phone.perturb(bare, key=KEY).content
