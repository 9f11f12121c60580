"""Cameras, a real service and the account: one draw a scene, whatever the camera, the service and the machine do."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from tests.fixtures.videos import Picture, http_camera, still, video, write_video
from tests.server.conftest import KEY, Server, start_server

from sfumato.cli.watch import answer_line
from sfumato.core.errors import SfumatoError, UsageError
from sfumato.data import open_dataset
from sfumato.runtime.keyring import KeyRing
from sfumato.runtime.ledger import Ledger, camera_account
from sfumato.runtime.phone_model import PhoneModel
from sfumato.runtime.scenes import SceneConfig
from sfumato.server.client import Client, ClientConfig
from sfumato.server.model import CloudModel
from sfumato.server.video import Frame, VideoConfig, parse_camera
from sfumato.server.watch import Sight, WatchConfig, Watcher, watch

HOST = "127.0.0.1"
OWN = KeyRing.of(KEY).for_service(HOST)
EVERY = WatchConfig(video=VideoConfig(every=0.1, first_pause=0.05), first_pause=0.0, anyway=True)
APART = replace(EVERY, scenes=SceneConfig(tolerance=0, remembered=1))
"""Every frame is a scene, as before there were scenes."""


@pytest.fixture(scope="module")
def scenes() -> list[list[Picture]]:
    """Three still scenes of twelve frames."""
    faces = open_dataset("synthetic,count=800,size=32").images
    return [still(np.array(faces[index]), 12, index) for index in range(3)]


@pytest.fixture(scope="module")
def film(scenes: list[list[Picture]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first scene, the second, the first again: 36 frames."""
    first, second, _ = scenes
    again = still(first[0], 12, 9, scale=1)
    return write_video(tmp_path_factory.mktemp("film") / "a.mp4", [*first, *second, *again], form="mp4")


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "account", KEY)


@pytest.fixture
def client(server: Server, phone: PhoneModel, ledger: Ledger) -> Iterator[Client]:
    with Client(phone, server.url, ledger=ledger) as made:
        yield made


def seen(client: Client, *cameras: str, config: WatchConfig = EVERY) -> list[Sight]:
    """What is told of cameras."""
    found: list[Sight] = []
    watch(
        [parse_camera(camera) for camera in cameras],
        client,
        lambda: OWN,
        config,
        stop=Event(),
        tell=found.append,
        note=lambda _: None,
    )
    return found


def predictions(server: Server) -> int:
    """Uploads that the service answered by now."""
    time.sleep(0.2)  # a line is written once its answer has gone
    return server.log.read_text(encoding="utf-8").count('"/v1/predict"')


def test_a_scene_is_one_draw_and_its_answer_is_repeated(
    film: Path, client: Client, server: Server, phone: PhoneModel, model: CloudModel, ledger: Ledger
) -> None:
    before = predictions(server)
    sights = seen(client, f"door={film}")
    assert predictions(server) - before == 2
    assert [sight.scene for sight in sights] == [1] * 12 + [2] * 12 + [1] * 12
    assert [index for index, sight in enumerate(sights) if sight.new] == [0, 12]
    assert [index for index, sight in enumerate(sights) if sight.sent_bytes] == [0, 12]
    for part in (sights[:12] + sights[24:], sights[12:24]):
        assert all(sight.answers == part[0].answers for sight in part)
        assert sum(sight.rate_bits for sight in part) == part[0].rate_bits > 0
    camera, service = ledger.account("door@127.0.0.1"), ledger.account(HOST)
    told = sum(sight.rate_bits for sight in sights)
    for account in (camera, service):
        assert (account.total.draws, account.total.uploads) == (2, 2)
        assert account.total.microbits / 1e6 == pytest.approx(told, abs=3e-6)
    assert sum(tally.microbits for tally in camera.hours.values()) == camera.total.microbits
    assert service.hours == {}
    assert [account.service for account in ledger.accounts()] == [HOST]


def test_without_scenes_every_frame_is_a_draw(film: Path, client: Client, ledger: Ledger) -> None:
    sights = seen(client, f"door={film}", config=APART)
    assert all(sight.new for sight in sights)
    assert ledger.account("door@127.0.0.1").total.draws == len(sights) == 36


def test_many_frames_of_a_still_scene_give_an_attacker_one_upload(
    scenes: list[list[Picture]], client: Client, phone: PhoneModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The attacker averages all that was sent and compares with the bytes q that the phone drew from."""
    received: list[Picture] = []
    send = client.send_upload

    def overheard(upload: Any, **more: Any) -> Any:
        received.append(upload.levels)
        return send(upload, **more)

    monkeypatch.setattr(client, "send_upload", overheard)
    frames = [frame for part in range(5) for frame in still(scenes[0][0], 12, 20 + part, scale=1)]

    def error(config: WatchConfig) -> tuple[int, float]:
        received.clear()
        watcher = Watcher("door", client, lambda: OWN, config)
        for number, frame in enumerate(frames):
            watcher.look(Frame(frame, number / 10))
        mean = np.mean(received, axis=0)
        exact = phone.parameters(phone.read(Image.fromarray(frames[0])))["p"] / 256
        return len(received), float(np.abs(mean - exact).mean())

    one, with_scenes = error(EVERY)
    many, without = error(APART)
    assert (one, many) == (1, 60)
    assert without < with_scenes / 3


@contextmanager
def proxy(server: Server) -> Iterator[tuple[str, Event]]:
    """The address of a proxy before the service, and the event whose setting takes the service away: 503."""
    away = Event()

    class Proxy(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            headers = {
                name: self.headers[name]
                for name in ("Content-Type", "Sfumato-Contract")
                if name in self.headers
            }
            status, content = 503, b"away"
            if not away.is_set():
                found = httpx.request(self.command, server.url + self.path, content=body, headers=headers)
                status, content = found.status_code, found.content
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_POST = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Proxy) as listening:
        Thread(target=listening.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{listening.server_port}", away
        listening.shutdown()


def test_an_upload_without_an_answer_is_sent_again_as_it_is(
    server: Server, scenes: list[list[Picture]], phone: PhoneModel, ledger: Ledger
) -> None:
    with (
        proxy(server) as (address, away),
        Client(phone, address, ledger=ledger, config=ClientConfig(attempts=1)) as client,
    ):
        client.check_contract()
        away.set()
        watcher = Watcher("door", client, lambda: OWN, EVERY)
        looks = [watcher.look(Frame(frame, 0.0)) for frame in scenes[0][:3]]
        assert [look.answers for look in looks] == [None] * 3
        assert all(look.reason and "(503)" in look.reason for look in looks)
        assert [look.rate_bits > 0 for look in looks] == [True, False, False]
        away.clear()
        looks = [watcher.look(Frame(frame, 0.0)) for frame in scenes[0][3:6]]
    assert [look.answers is not None for look in looks] == [True] * 3
    assert [look.sent_bytes > 0 for look in looks] == [True, False, False]
    assert [look.rate_bits for look in looks] == [0, 0, 0]
    account = ledger.account("door@127.0.0.1")
    assert (account.total.draws, account.total.uploads) == (1, 4)


def test_over_the_limit_of_a_camera_nothing_goes_out(
    scenes: list[list[Picture]], client: Client, server: Server, ledger: Ledger
) -> None:
    watcher = Watcher("door", client, lambda: OWN, EVERY)
    first = watcher.look(Frame(scenes[0][0], 0.0))
    ledger.set_limit("door@127.0.0.1", day=None, total=first.rate_bits + 0.001)
    before = predictions(server)
    refused = watcher.look(Frame(scenes[1][0], 0.0))
    assert (refused.answers, refused.sent_bytes, refused.rate_bits) == (None, 0, 0)
    assert "door@127.0.0.1: this photo's" in str(refused.reason)
    assert watcher.look(Frame(scenes[0][1], 0.0)).answers == first.answers  # what is known is still said
    assert predictions(server) == before
    assert (
        ledger.account(HOST).total.draws == 1
    )  # what the camera may not send is not counted for the service either
    other = Watcher("yard", client, lambda: OWN, EVERY)
    assert other.look(Frame(scenes[1][0], 0.0)).answers is not None
    assert ledger.account(HOST).total.draws == 2
    ledger.set_limit("door@127.0.0.1", day=None, total=None)
    assert watcher.look(Frame(scenes[1][1], 0.0)).answers is not None
    assert [account.total.draws for account in ledger.cameras()] == [2, 1]


def test_the_limit_of_the_service_holds_for_all_cameras_together(
    scenes: list[list[Picture]], client: Client, ledger: Ledger
) -> None:
    door, yard = (Watcher(name, client, lambda: OWN, EVERY) for name in ("door", "yard"))
    spent = door.look(Frame(scenes[0][0], 0.0)).rate_bits
    ledger.set_limit("*", day=None, total=spent)  # of services: a camera's account is none
    assert yard.look(Frame(scenes[1][0], 0.0)).answers is None
    assert ledger.account("yard@127.0.0.1").total.draws == 0
    assert ledger.account("yard@127.0.0.1").limit.total is None


def test_frames_unlike_the_training_data_are_not_sent(
    scenes: list[list[Picture]], client: Client, server: Server, ledger: Ledger
) -> None:
    """Drawn faces have no noise, so those that a camera saw look like none of them."""
    before = predictions(server)
    sight = Watcher("door", client, lambda: OWN, WatchConfig()).look(Frame(scenes[0][0], 0.0))
    assert (sight.unlike, sight.answers, sight.rate_bits) == (True, None, 0)
    assert "looks like none" in str(sight.reason)
    assert predictions(server) == before
    assert ledger.cameras() == []
    sight = Watcher("door", client, lambda: OWN, EVERY).look(Frame(scenes[0][0], 0.0))
    assert sight.unlike
    assert sight.answers is not None


def test_words_are_repeated_too(answer_bundle: Path, film: Path, ledger: Ledger, tmp_path: Path) -> None:
    phone, cloud = PhoneModel.load(answer_bundle), CloudModel.load(answer_bundle)
    service = start_server(answer_bundle, cloud.contract_digest, tmp_path / "service", "--no-page")
    try:
        with Client(phone, service.url, ledger=ledger) as client:
            sights = seen(client, f"door={film}")
    finally:
        service.process.kill()
        service.process.wait()
    assert [sight.sent_bytes for sight in sights if sight.sent_bytes] == [1, 1]
    account = ledger.account("door@127.0.0.1")
    assert account.total.draws == 2
    assert account.total.microbits == 2 * int(np.ceil(1e6 * sights[0].rate_bits))


def test_two_cameras_at_once(film: Path, client: Client, ledger: Ledger) -> None:
    sights = seen(client, f"door={film}", f"yard={film}")
    for name in ("door", "yard"):
        assert [sight.frame for sight in sights if sight.camera == name] == list(range(1, 37))
        assert ledger.account(camera_account(name, HOST)).total.draws == 2
    assert ledger.account(HOST).total.draws == 2  # equal pixels under one key: the same two draws


def test_an_error_of_one_camera_stops_all(film: Path, client: Client, tmp_path: Path) -> None:
    (tmp_path / "b.mp4").write_bytes(b"nothing")
    with pytest.raises(SfumatoError, match="camera yard cannot be read"):
        seen(client, f"door={film}", f"yard={tmp_path / 'b.mp4'}")
    with pytest.raises(UsageError, match="two cameras have one name"):
        seen(client, f"door={film}", f"door={film}")


Command = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def command(bundle: Path, server: Server, key_file: Path, tmp_path: Path) -> Iterator[Command]:
    """`sfumato watch` in a process of its own; killed at the test's end."""
    running: list[subprocess.Popen[str]] = []

    def go(*options: str) -> subprocess.Popen[str]:
        words = [sys.executable, "-m", "sfumato.cli.main", "watch", str(bundle), "--server", server.url]
        more = ["--key", str(key_file), "--every", "0.1", "--anyway", *options]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        process = subprocess.Popen([*words, *more], text=True, env=dict(os.environ), **pipes)  # type: ignore[call-overload]
        running.append(process)
        return process  # type: ignore[no-any-return]

    yield go
    for process in running:
        process.kill()
        process.communicate()


def test_killed_in_the_middle_the_account_holds(
    command: Command, scenes: list[list[Picture]], key_file: Path
) -> None:
    """A camera that never ends: killed without warning, started again under a limit, asked to end."""
    content = video(scenes[0] * 4)

    def send(_: int, write: Callable[[bytes], object]) -> None:
        for start in range(0, len(content), 188 * 7):
            write(content[start : start + 188 * 7])
            time.sleep(0.02)

    lines = list[dict[str, Any]]()
    with http_camera(send) as address:
        door = ("--camera", f"door={address}", "--json")
        for sign in (signal.SIGKILL, signal.SIGTERM):
            # Enough for the first draw alone. Where the frame is the very same one, its draw is, and costs nothing.
            limit = ("--limit-bits", str(1.1 * lines[0]["rate_bits"])) if lines else ()
            process = command(*door, *limit)
            assert process.stdout is not None
            found = [json.loads(process.stdout.readline()) for _ in range(3)]
            lines.append(found[0])
            process.send_signal(sign)
            _, said = process.communicate(timeout=30)
            assert process.returncode == (-9 if sign == signal.SIGKILL else 0), said
            assert "Traceback" not in said
    first, second = lines
    assert (first["schema"], first["new"], second["new"]) == ("sfumato-watch/1", True, True)
    assert first["answers"] is not None
    account = Ledger(key_file.with_name("key.ledger"), KEY).account("door@127.0.0.1")
    assert account.total.draws == 1
    assert account.total.microbits / 1e6 == pytest.approx(first["rate_bits"], abs=2e-6)
    assert account.limit.total == round(1.1e6 * first["rate_bits"])
    assert account.total.uploads == (1 if second["answers"] is None else 2)


def test_a_file_on_the_command_line(command: Command, film: Path, key_file: Path, tmp_path: Path) -> None:
    (tmp_path / "cameras").write_text(f"door={film}\n")
    process = command("--cameras", str(tmp_path / "cameras"), "--limit-bits-per-day", "5000")
    out, said = process.communicate(timeout=60)
    assert process.returncode == 0, said
    assert [line.split()[1:4] for line in out.splitlines()] == [
        ["door", "scene", "1:"],
        ["door", "scene", "2:"],
    ]
    assert "36 frame(s), 2 scene(s). Today 2 photos, at most" in " ".join(said.split())
    assert "the limit is 5000" in said
    words = [sys.executable, "-m", "sfumato.cli.main", "ledger", "cameras", "--key", str(key_file), "--json"]
    shown = json.loads(subprocess.run(words, capture_output=True, text=True, check=True).stdout)
    (camera,) = shown["cameras"]
    assert (camera["camera"], camera["service"], camera["total"]["draws"]) == ("door", HOST, 2)
    assert camera["limit"] == {"day": 5000.0, "total": None}
    assert [tally["draws"] for tally in camera["hours"].values()] in ([2], [1, 1])


def test_a_line_says_every_kind_of_answer() -> None:
    """A mask has a label too, the class of most cells, which is no answer about the picture."""
    shares = {"nothing": 0.9, "object": 0.1}
    assert answer_line("skin", {"label": "nothing", "probabilities": shares}) == "skin nothing (90.0 %)"
    assert (
        answer_line("age", {"label": "30-39", "probabilities": {"30-39": 1.0}, "value": 34.25}) == "age 34.2"
    )
    mask = answer_line("place", {"label": "nothing", "probabilities": shares, "mask": [0, 14, 1, 2]})
    assert mask == "place a mask: nothing 90.0 %, object 10.0 % of it"
