"""The browser page in headless Chromium: the same upload as Python, the same answer, and nothing else on the wire.

Chromium is sent through a proxy of ours for every address there is, this machine's included, so what it asks for is seen from
outside the browser.
"""

import http.client
import json
import math
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import (
    Browser,
    FileChooser,
    FilePayload,
    Page,
    ProxySettings,
    expect,
    sync_playwright,
)
from tests.pictures.corpus import NO_BROWSER
from tests.pictures.metadata import ORIENTATION, SIGN, TRANSPARENT, Hidden, hidden
from tests.server.conftest import KEY, Server, Start, start_server

from sfumato.data import open_dataset
from sfumato.runtime.phone_model import PhoneModel
from sfumato.runtime.upload_codec import pack
from sfumato.server.client import Client
from sfumato.server.model import CloudModel
from sfumato.server.page import BUILT, FOLDER
from sfumato.server.page import Page as Files

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_page = pytest.mark.skipif(
    not (FOLDER / BUILT).exists(), reason="the page was not built: install node and npm, then make setup"
)
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium: apt-get install chromium")
PATIENCE = 30_000  # milliseconds, on a busy machine


@dataclass
class Seen:
    """What the browser asked for, from outside."""

    port: int = 0
    requests: list[tuple[str, str]] = field(default_factory=list)
    sent: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    """Headers and body of every request that carries one."""


@pytest.fixture(scope="module")
def seen() -> Iterator[Seen]:
    """A proxy that writes down all it is asked for, and leads to this machine alone."""
    notes = Seen()

    class Proxy(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            notes.requests.append((self.command, self.path))
            address = urlsplit(self.path)
            if self.command == "CONNECT" or address.hostname != "127.0.0.1":
                self.send_error(502)
                return
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if body:
                notes.sent.append((dict(self.headers), body))
            onward = http.client.HTTPConnection("127.0.0.1", address.port or 80)
            onward.request(self.command, self.path.partition(address.netloc)[2], body, dict(self.headers))
            answer = onward.getresponse()
            content = answer.read()
            self.send_response_only(answer.status)
            for name, value in answer.getheaders():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        do_POST = do_PUT = do_HEAD = do_CONNECT = do_OPTIONS = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    http_server = ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    notes.port = http_server.server_address[1]
    threading.Thread(target=http_server.serve_forever, daemon=True).start()
    yield notes
    http_server.shutdown()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    # Chromium asks its maker about itself, and about every form it sees. The first leads nowhere here, the second is off.
    quiet = ("--disable-features=AutofillServerCommunication",)
    camera = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--disable-gpu", "--disable-quic", *quiet, *camera],
            proxy={"server": "http://127.0.0.1:9"},
        )
        yield running
        running.close()


Open = Callable[..., Page]


@pytest.fixture
def open_page(browser: Browser, seen: Seen) -> Iterator[Open]:
    """Opens the page of a service in a browser profile of its own."""
    contexts = []

    def go(url: str, *, prepare: Callable[[Page], None] = lambda _: None, **options: Any) -> Page:
        watched = ProxySettings(server=f"http://127.0.0.1:{seen.port}", bypass="<-loopback>")
        contexts.append(browser.new_context(proxy=watched, **options))
        page = contexts[-1].new_page()
        page.set_default_timeout(PATIENCE)
        prepare(page)
        seen.requests.clear()
        seen.sent.clear()
        page.goto(url)
        await_state(page, "ready|failed")
        return page

    yield go
    for context in contexts:
        context.close()


def await_state(page: Page, states: str) -> str:
    """Wait until the page shows a final state; its message."""
    page.wait_for_function(
        "states => !document.body.ariaBusy && states.includes(document.getElementById('status').dataset.state)",
        arg=states.split("|"),
    )
    return page.locator("#status").inner_text()


def use_key(page: Page, key: bytes) -> None:
    """Type the device key in."""
    page.locator("summary").click()
    page.locator("#key").fill(key.hex())
    page.locator("#use-key").click()
    expect(page.locator("#status")).to_contain_text("that key")


def choose(page: Page, photo: Path) -> None:
    page.locator("#file").set_input_files(photo)
    expect(page.locator("#status")).to_contain_text("Perturbed", timeout=PATIENCE)


def check_flag(page: Page, phone: PhoneModel, path: Path) -> bool | None:
    """The warning is shown if Python flags the photo, and never otherwise; what Python found."""
    found = phone.perturb(path, key=KEY).unlike
    assert page.locator("#unlike").is_visible() == bool(found)
    assert ("anyway" in page.locator("#send").inner_text()) == bool(found)
    return found


def send(page: Page) -> None:
    page.locator("#send").click()
    await_state(page, "sent|failed")


def photo(path: Path, height: int, width: int) -> Path:
    y, x = np.mgrid[0:height, 0:width]
    waves = [np.sin(6 * k * x / width + c * y / height) for c, k in enumerate((1, 2, 3))]
    Image.fromarray((127 + 120 * np.stack(waves, axis=2)).astype(np.uint8)).save(path)
    return path


@needs_page
@needs_browser
def test_same_upload_and_same_answer_as_python_and_nothing_else(
    open_page: Open, server: Server, phone: PhoneModel, seen: Seen, tmp_path: Path
) -> None:
    page = open_page(f"{server.url}/")
    assert page.locator("#status").get_attribute("data-deviation") == "0"  # the int8 model, to the byte
    use_key(page, KEY)
    # Larger and smaller than the model's 32 x 32, wide and tall, more rows than one band. The hash of the pixels is in the
    # noise, so equal uploads mean equal pixels.
    for index, (height, width) in enumerate([(32, 32), (45, 300), (701, 120), (20, 30)]):
        picture = photo(tmp_path / f"holiday-in-paris-{index}.png", height, width)
        expected = pack(phone.perturb(picture, key=KEY).levels, bits=1)
        choose(page, picture)
        assert len(seen.sent) == index  # nothing leaves before the button is pressed
        assert check_flag(page, phone, picture)
        send(page)
        headers, body = seen.sent[-1]
        assert body == expected
        assert f"Sent {len(expected)} bytes" in page.locator("#status").inner_text()
        with Client(phone, server.url) as client:
            reply = client.send(picture, key=KEY)
        answer = page.locator("#answer section")
        assert answer.get_attribute("data-label") == reply.answers["glasses"]["label"]
        shown = [float(text.rstrip(" %")) for text in answer.locator("dd").all_inner_texts()]
        exact = [100 * value for value in reply.answers["glasses"]["probabilities"].values()]
        assert shown == pytest.approx(exact, abs=0.051)
    assert len(seen.sent) == 4
    assert {url.partition(server.url)[0] for _, url in seen.requests} == {
        ""
    }  # the service's address and no other
    assert not [url for _, url in seen.requests if "?" in url]
    names = {name.lower() for name in headers} - {"host", "proxy-connection", "connection", "content-length"}
    assert {name for name in names if not name.startswith(("sec-", "accept"))} == {
        "content-type", "origin", "sfumato-contract", "user-agent",
    }  # fmt: skip
    assert "paris" not in str(seen.requests) + str(seen.sent)
    assert "like" not in str(seen.sent).lower().replace("like gecko", "")  # nor the flag
    face = tmp_path / "face.png"
    Image.fromarray(open_dataset("synthetic,count=800,size=32").images[0]).save(face)
    choose(page, face)
    assert check_flag(page, phone, face) is False


@needs_page
@needs_browser
def test_what_a_photo_holds_beside_its_pixels_is_not_sent(
    open_page: Open, server: Server, phone: PhoneModel, seen: Seen, tmp_path: Path
) -> None:
    """The files of tests/pictures/metadata.py: every request is that of the bare picture, to the byte."""
    page = open_page(f"{server.url}/")
    use_key(page, KEY)
    bare: dict[bytes, tuple[dict[str, str], bytes]] = {}

    def request_for(case: Hidden, content: bytes) -> tuple[dict[str, str], bytes]:
        photo = tmp_path / f"{SIGN.decode()}{case.name}.{case.container.lower()}"
        photo.write_bytes(content)
        choose(page, photo)
        page.locator("#status").evaluate(
            "status => { status.textContent = ''; }"
        )  # the next picture says it again
        send(page)
        return seen.sent[-1]

    cases = [case for case in hidden() if case.container not in NO_BROWSER and case.place != ORIENTATION]
    # Every container with its first, last and every third place: the same modules read all of them in tests/pictures.
    for case in [one for i, one in enumerate(cases) if i % 3 == 0 or one.place == TRANSPARENT]:
        if case.bare not in bare:
            bare[case.bare] = request_for(case, case.bare)
            assert bare[case.bare][1] == pack(phone.perturb(case.bare, key=KEY).levels, bits=1)
        assert request_for(case, case.content) == bare[case.bare], case.name
    assert len(bare) >= 7
    assert SIGN.decode() not in str(seen.requests) + str(seen.sent)


@needs_page
@needs_browser
def test_a_model_of_grey_pictures_is_shown_grey_and_sends_one_plane(
    open_page: Open, int8_export: Callable[[str], Path], seen: Seen, tmp_path: Path
) -> None:
    export = int8_export("grey")
    phone, model = PhoneModel.load(export), CloudModel.load(export)
    running = start_server(export, model.contract_digest, tmp_path / "log")
    try:
        page = open_page(f"{running.url}/")
        assert page.locator("#status").get_attribute("data-deviation") == "0"
        use_key(page, KEY)
        picture = photo(tmp_path / "photo.png", 45, 300)
        choose(page, picture)
        check_flag(page, phone, picture)
        for canvas in ("original", "upload"):
            width, height, grey = page.evaluate(
                """id => {
                    const canvas = document.getElementById(id), {width, height} = canvas;
                    const {data} = canvas.getContext('2d').getImageData(0, 0, width, height);
                    return [width, height, data.every((value, i) => i % 4 === 3 || value === data[i - i % 4])];
                }""",
                canvas,
            )
            assert (width, height, grey) == (32, 32, True)
        send(page)
        assert seen.sent[-1][1] == pack(phone.perturb(picture, key=KEY).levels, bits=2)
        assert page.locator("#answer section").count() == 1
    finally:
        running.process.kill()
        running.process.wait()


@needs_page
@needs_browser
@pytest.mark.parametrize("randomised", [True, False])
def test_an_answer_bundle_sends_the_code_word_and_says_so(
    open_page: Open,
    answer_export: Callable[[bool], Path],
    seen: Seen,
    tmp_path: Path,
    randomised: bool,
) -> None:
    export = answer_export(randomised)
    phone, model = PhoneModel.load(export), CloudModel.load(export)
    running = start_server(export, model.contract_digest, tmp_path / "log")
    try:
        page = open_page(f"{running.url}/")
        assert page.locator("#status").get_attribute("data-deviation") == "0"
        expect(page.locator("#promise")).to_contain_text("Only the code word of that answer is sent")
        use_key(page, KEY)
        words = set()
        for index, seed in enumerate(range(5)):
            pixels = np.random.default_rng(seed).random((40, 60, 3)) ** (1 + seed)
            Image.fromarray((255 * pixels).astype(np.uint8)).save(tmp_path / "photo.png")
            upload = phone.perturb(tmp_path / "photo.png", key=KEY)
            choose(page, tmp_path / "photo.png")
            assert (
                check_flag(page, phone, tmp_path / "photo.png") is None
            )  # as in bundles of earlier versions
            assert len(seen.sent) == index
            says = page.locator("#travels").inner_text()
            assert f"the number {upload.word} in {len(upload.content)} byte" in says
            assert says.count(".") == 1
            assert ("it was drawn" in says) == randomised
            rest = upload.word
            assert rest is not None
            for entry in reversed(phone.contract.keep):
                assert f"{entry.name}: {entry.classes[rest % len(entry.classes)]}" in says
                rest //= len(entry.classes)
            send(page)
            headers, body = seen.sent[-1]
            assert body == upload.content
            assert headers["Content-Type"] == "application/vnd.sfumato.word"
            assert f"Sent {len(body)} byte" in page.locator("#status").inner_text()
            (expected,) = model.predict([upload.levels])
            for entry in phone.contract.keep:
                shown = page.locator("#answer section", has_text=f"{entry.name}:")
                assert shown.get_attribute("data-label") == expected[entry.name].label
            words.add(upload.word)
        assert len(words) > 1
        page.locator("#as-image").check()
        says = page.locator("#travels").inner_text()
        assert f"the number {upload.word} as an image in 384 bytes" in says
        send(page)
        headers, body = seen.sent[-1]
        assert body == pack(upload.levels, bits=1)
        assert headers["Content-Type"] == "application/vnd.sfumato.packed"
        assert "Sent 384 bytes" in page.locator("#status").inner_text()
        assert page.locator("#noise").is_hidden()
        read = (
            "Array.from(document.getElementById('upload').getContext('2d').getImageData(0, 0, 32, 32).data)"
        )
        shown_levels = np.array(page.evaluate(read)).reshape(32, 32, 4)[..., :3] // 255
        assert np.array_equal(shown_levels, upload.levels)
    finally:
        running.stop()


@needs_page
@needs_browser
def test_a_point_is_chosen_on_the_page(
    open_page: Open, dial_export: Path, server: Server, seen: Seen, tmp_path: Path
) -> None:
    assert open_page(f"{server.url}/").locator("#dial").is_hidden()  # a bundle without points
    phone, model = PhoneModel.load(dial_export), CloudModel.load(dial_export)
    running = start_server(dial_export, model.contract_digest, tmp_path / "log")
    try:
        page = open_page(f"{running.url}/")
        assert page.locator("#status").get_attribute("data-deviation") == "0"
        offered = page.locator("#strength option").all_inner_texts()
        assert phone.contract.points is not None
        for text, point in zip(offered, phone.contract.points, strict=True):
            right = f"glasses {100 * point.accuracy['glasses']:.1f} %"
            assert text == f"{point.rate_bits.mean:.1f} bits; {right} (strength {point.strength})"
        use_key(page, KEY)
        picture = photo(tmp_path / "photo.png", 45, 60)
        choose(page, picture)
        for strength in (128, 31, 64):
            page.locator("#strength").select_option(str(strength))
            await_state(page, "ready")
            upload = phone.perturb(picture, key=KEY, strength=strength)
            expect(page.locator("#facts")).to_contain_text(f"at most {upload.rate_bits:.1f} bits")
            send(page)
            assert "Sent" in page.locator("#status").inner_text()
            assert seen.sent[-1][1] == pack(upload.levels, bits=2)
        assert "3 photos" in page.locator("#account").inner_text()
    finally:
        running.stop()


@needs_page
@needs_browser
def test_the_key_stays_and_cannot_be_read(
    open_page: Open, server: Server, seen: Seen, tmp_path: Path
) -> None:
    picture = photo(tmp_path / "photo.png", 40, 40)
    page = open_page(f"{server.url}/")
    for _ in range(2):
        choose(page, picture)
        send(page)
        page.reload()
        await_state(page, "ready")
    page.locator("summary").click()
    page.locator("#new-key").click()
    choose(page, picture)
    send(page)
    bodies = [body for _, body in seen.sent]
    assert bodies[0] == bodies[1] != bodies[2]
    read = """async () => {
        const {storedKey} = await import('/page/key_store.js'), {mac, stream} = await storedKey();
        const tries = [mac, stream].map(key => crypto.subtle.exportKey('raw', key).then(() => 'read', () => 'kept'));
        return Promise.all(tries);
    }"""
    assert page.evaluate(read) == ["kept", "kept"]


@needs_page
@needs_browser
def test_the_account_is_kept_and_its_limit_holds(
    open_page: Open, server: Server, phone: PhoneModel, seen: Seen, tmp_path: Path
) -> None:
    pictures = [photo(tmp_path / f"{size}.png", size, size) for size in (40, 50, 60)]
    rates = [phone.perturb(picture, key=KEY).rate_bits for picture in pictures]
    page = open_page(f"{server.url}/")
    account = page.locator("#account")
    assert account.inner_text() == "Today 0 photos, at most 0.0 bits to 127.0.0.1; no limit is set."
    for picture in (pictures[0], pictures[0], pictures[1]):
        choose(page, picture)
        send(page)
    limit = round(rates[0] + rates[1] + rates[2] / 2, 3)
    spent = math.ceil(10 * (rates[0] + rates[1]) - 1e-4) / 10
    page.reload()
    await_state(page, "ready")
    assert account.inner_text() == f"Today 2 photos, at most {spent} bits to 127.0.0.1; no limit is set."
    page.locator("summary").click()
    page.locator("#limit").fill(str(limit))
    page.locator("#set-limit").click()
    expect(account).to_contain_text(f"the limit is {limit}.")
    choose(page, pictures[2])
    send(page)
    refusal = page.locator("#status")
    assert refusal.get_attribute("data-state") == "failed"
    assert refusal.inner_text().startswith("127.0.0.1: this photo's ")
    assert len(seen.sent) == 3
    page.locator("#new-key").click()  # another key is no way round: it makes another draw of each photo
    choose(page, pictures[1])
    send(page)
    assert refusal.get_attribute("data-state") == "failed"
    assert len(seen.sent) == 3


@needs_page
@needs_browser
def test_an_older_copy_of_the_account_is_noticed(
    open_page: Open, server: Server, seen: Seen, tmp_path: Path
) -> None:
    page = open_page(f"{server.url}/")
    choose(page, photo(tmp_path / "photo.png", 40, 40))
    send(page)
    drop = """() => new Promise((resolve, reject) => {
        const opening = indexedDB.open('sfumato-ledger');
        opening.onsuccess = () => {
            const change = opening.result.transaction('lines', 'readwrite');
            change.objectStore('lines').delete(1);
            change.oncomplete = () => { opening.result.close(); resolve(); };
            change.onabort = reject;
        };
    })"""
    page.evaluate(drop)
    page.reload()
    assert "holds 1 entries and had 2, an older copy" in await_state(page, "failed")
    assert page.locator("#file").is_disabled()
    page.locator("#repair").click()
    await_state(page, "ready")
    expect(page.locator("#account")).to_contain_text("Entries were lost on ")
    choose(page, photo(tmp_path / "photo.png", 50, 50))
    send(page)
    assert len(seen.sent) == 2


@needs_page
@needs_browser
def test_a_picture_waits_for_what_is_being_done_and_a_press_does_not(
    open_page: Open, server: Server, seen: Seen, tmp_path: Path
) -> None:
    page = open_page(f"{server.url}/")
    page.locator("summary").click()
    pictures = [list(photo(tmp_path / f"{size}.png", size, size).read_bytes()) for size in (40, 50)]
    # Within one task, so that nothing that was pressed can be done before the next.
    press = """([pressed, pictures]) => {
        const at = id => document.getElementById(id), files = pictures.map(bytes => new File([new Uint8Array(bytes)], 'a.png'));
        for (const id of pressed) at(id).click();
        for (const file of files) {
            const data = new DataTransfer();
            data.items.add(file);
            at('file').files = data.files;
            at('file').dispatchEvent(new Event('change'));
        }
        at('send').click();
    }"""
    page.evaluate(press, [["new-key"], pictures[:1]])
    await_state(page, "ready")
    expect(page.locator("#status")).to_contain_text("Perturbed")
    page.evaluate(press, [["send", "send"], []])
    await_state(page, "sent")
    assert len(seen.sent) == 1
    page.evaluate(press, [[], pictures])
    await_state(page, "ready")
    assert len(seen.sent) == 1  # what was pressed for the first picture does not send the second
    expect(page.locator("#facts")).to_contain_text(f"{len(pictures[1]):,} bytes")


@needs_page
@needs_browser
def test_by_keyboard_on_a_phone(open_page: Open, server: Server, seen: Seen, tmp_path: Path) -> None:
    choosers: list[FileChooser] = []
    page = open_page(
        f"{server.url}/",
        # From the start: `expect_file_chooser` may register with the browser after the key has been pressed.
        prepare=lambda page: page.on("filechooser", lambda chooser: choosers.append(chooser)),
        viewport={"width": 360, "height": 740},
        has_touch=True,
    )
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "file"
    assert page.evaluate("getComputedStyle(document.querySelector('.button')).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    for _ in range(PATIENCE // 50):
        if choosers:
            break
        page.wait_for_timeout(50)
    choosers[0].set_files(photo(tmp_path / "photo.png", 64, 48))
    expect(page.locator("#send")).to_be_focused(timeout=PATIENCE)
    page.keyboard.press("Enter")
    await_state(page, "sent")
    assert len(seen.sent) == 1
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    for name in ("#camera", "#original", "#noise", "#upload", "#send", "#answer section"):
        box = page.locator(name).bounding_box()
        assert box is not None
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 360


@needs_page
@needs_browser
def test_the_camera(open_page: Open, server: Server, seen: Seen) -> None:
    page = open_page(f"{server.url}/", permissions=["camera"])
    page.locator("#camera").click()
    page.wait_for_function("() => document.getElementById('video').videoWidth > 0")
    page.locator("#shoot").click()
    expect(page.locator("#status")).to_contain_text("Perturbed", timeout=PATIENCE)
    assert not page.evaluate("document.getElementById('video').srcObject")
    colours = (
        "new Set(document.getElementById('original').getContext('2d').getImageData(0, 0, 32, 32).data).size"
    )
    assert page.evaluate(colours) > 8  # Chromium's own test picture, not an empty frame
    send(page)
    assert len(seen.sent) == 1


CAMERAS = """
const asked = [], drawn = document.createElement('canvas');
Object.assign(drawn, {width: 96, height: 64});
const context = drawn.getContext('2d');
window.asked = asked;
navigator.mediaDevices.enumerateDevices = async () => ['front', 'back'].map(deviceId => ({kind: 'videoinput', deviceId}));
navigator.mediaDevices.getUserMedia = async ({video}) => {
    asked.push(video);
    const back = video.facingMode === 'environment';
    // The left half red, the right half blue.
    for (const [x, colour] of [[0, 'red'], [48, 'blue']]) {
        context.fillStyle = colour;
        context.fillRect(x, 0, 48, 64);
    }
    const stream = drawn.captureStream(10), [track] = stream.getVideoTracks();
    track.getSettings = () => ({facingMode: back ? 'environment' : 'user', deviceId: back ? 'back' : 'front'});
    setInterval(() => context.fillRect(95, 0, 1, 1), 50);  // a frame comes only when something is drawn
    return stream;
};
"""
"""A phone's two cameras: Chromium's own stand-ins do not say where they look."""


@needs_page
@needs_browser
def test_front_and_rear_camera_a_mirror_and_the_part_that_is_kept(open_page: Open, server: Server) -> None:
    page = open_page(f"{server.url}/", prepare=lambda page: page.add_init_script(CAMERAS))
    page.locator("#camera").click()
    expect(page.locator("#shoot")).to_be_enabled(timeout=PATIENCE)
    mirrored = "getComputedStyle(document.getElementById('scene')).transform"
    assert page.evaluate(mirrored).startswith("matrix(-1,")
    # 64 of 96 columns are kept for a square model.
    scene, kept = (page.locator(name).bounding_box() for name in ("#scene", "#kept"))
    assert scene is not None
    assert kept is not None
    assert kept["width"] == pytest.approx(scene["width"] * 64 / 96, abs=1)
    assert kept["height"] == pytest.approx(scene["height"], abs=1)
    assert kept["x"] - scene["x"] == pytest.approx(scene["width"] * 16 / 96, abs=1)
    page.locator("#other").click()
    page.wait_for_function("() => window.asked.length === 2")
    expect(page.locator("#shoot")).to_be_enabled(timeout=PATIENCE)
    assert page.evaluate("asked.map(video => video.facingMode)") == ["user", "environment"]
    assert page.evaluate(mirrored) == "none"
    page.locator("#other").click()
    expect(page.locator("#shoot")).to_be_enabled(timeout=PATIENCE)
    page.locator("#shoot").click()
    expect(page.locator("#status")).to_contain_text("Perturbed", timeout=PATIENCE)
    # What is taken is the scene and not its mirror image: red stays on the left.
    red, blue = page.evaluate(
        "[0, 31].map(x => [...document.getElementById('original').getContext('2d').getImageData(x, 16, 1, 1).data])"
    )
    assert red[0] > 200 > 60 > red[2]
    assert blue[2] > 200 > 60 > blue[0]


@needs_page
@needs_browser
def test_after_an_unreadable_file_nothing_of_the_former_picture_stays(
    open_page: Open, server: Server, seen: Seen, tmp_path: Path
) -> None:
    page = open_page(f"{server.url}/")
    choose(page, photo(tmp_path / "photo.png", 50, 50))
    send(page)
    whole = (tmp_path / "photo.png").read_bytes()
    for buffer, reason in (
        (b"no picture", "no picture of a kind"),
        (whole[: len(whole) // 2], "end of the picture is missing"),
    ):
        choose(page, tmp_path / "photo.png")
        page.locator("#file").set_input_files(FilePayload(name="a.png", mimeType="image/png", buffer=buffer))
        assert reason in await_state(page, "failed")
        for name in ("#result", "#send", "#unlike"):
            assert page.locator(name).is_hidden()
        assert page.locator("#send").is_disabled()
        left = "['original', 'noise', 'upload'].map(id => document.getElementById(id).width)"
        assert page.evaluate(left) == [0, 0, 0]
        assert [page.locator(name).text_content() for name in ("#answer", "#facts", "#bits")] == ["", "", ""]
        page.evaluate("document.getElementById('send').click()")
        page.locator("summary").click()
        page.locator(
            "#new-key"
        ).click()  # another key makes another upload of the picture at hand: there is none
        await_state(page, "ready")
        page.locator("summary").click()
        assert page.locator("#result").is_hidden()
    assert len(seen.sent) == 1


@needs_page
@needs_browser
def test_the_status_stands_beside_the_button(open_page: Open, server: Server, tmp_path: Path) -> None:
    for width, height in ((360, 740), (1000, 800)):
        page = open_page(f"{server.url}/", viewport={"width": width, "height": height})
        choose(page, photo(tmp_path / "photo.png", 64, 48))
        page.locator("#send").scroll_into_view_if_needed()
        send(page)
        button, status = (page.locator(name).bounding_box() for name in ("#send", "#status"))
        assert button is not None
        assert status is not None
        gap = max(status["y"] - button["y"] - button["height"], status["x"] - button["x"] - button["width"])
        assert 0 <= gap < 40
        assert "Sent" in page.locator("#status").inner_text()


@needs_page
@needs_browser
def test_who_has_no_mouse_is_not_told_to_drop(open_page: Open, server: Server) -> None:
    assert open_page(f"{server.url}/").locator("#drop").is_visible()
    touched = open_page(
        f"{server.url}/", has_touch=True, is_mobile=True, viewport={"width": 360, "height": 740}
    )
    assert touched.locator("#drop").is_hidden()


@needs_page
@needs_browser
def test_the_rate_and_the_bound_are_told_apart(
    open_page: Open, server: Server, phone: PhoneModel, bundle: Path, tmp_path: Path
) -> None:
    page = open_page(f"{server.url}/")
    picture = photo(tmp_path / "photo.png", 64, 48)
    choose(page, picture)
    rate = phone.perturb(picture, key=KEY).rate_bits  # no key changes it
    contract = json.loads((bundle / "contract.json").read_text(encoding="utf-8"))
    mean = contract["figures"]["rate_bits"]["mean"]["int8"]
    facts = page.locator("#facts").inner_text()
    assert f"Rate of this upload\nat most {rate:.1f} bits" in facts
    assert f"Bound for all photos\nat most {mean:.1f} bits on average" in facts
    said = page.locator("#bits").inner_text()
    assert "not sent" in said
    assert "mean rate of the maker's test photos" in said
    assert "leakage bound" in said  # the name it has in the report


@needs_page
@needs_browser
def test_dropped_files_and_files_that_are_no_pictures(
    open_page: Open, server: Server, tmp_path: Path
) -> None:
    page = open_page(f"{server.url}/")
    text = FilePayload(name="a.png", mimeType="image/png", buffer=b"no picture")
    page.locator("#file").set_input_files(text)
    assert "no picture" in await_state(page, "failed")
    content = list(photo(tmp_path / "photo.png", 50, 50).read_bytes())
    drop = """bytes => {
        const dataTransfer = new DataTransfer();
        dataTransfer.items.add(new File([new Uint8Array(bytes)], 'photo.png', {type: 'image/png'}));
        document.dispatchEvent(new DragEvent('drop', {dataTransfer, bubbles: true, cancelable: true}));
    }"""
    page.evaluate(drop, content)
    expect(page.locator("#status")).to_contain_text("Perturbed", timeout=PATIENCE)


@needs_page
@needs_browser
def test_the_policy_allows_neither_other_addresses_nor_other_scripts(open_page: Open, server: Server) -> None:
    page = open_page(f"{server.url}/")
    fetched = "fetch('http://127.0.0.2:9/').then(() => 'sent', error => String(error))"
    assert "Failed to fetch" in page.evaluate(fetched)
    late = """new Promise(resolve => setTimeout(() => {
        try { resolve(eval('1')) } catch (error) { resolve(error.name) }
    }))"""  # in a task of its own: what the debugger evaluates is exempt
    assert page.evaluate(late) == "EvalError"
    page.evaluate(
        "document.body.append(Object.assign(document.createElement('script'), {text: 'window.ran = 1'}))"
    )
    assert page.evaluate("window.ran") is None
    blocked = """async () => {
        const blocked = new Promise(resolve => addEventListener('securitypolicyviolation', event => resolve(event.blockedURI)));
        new Image().src = 'http://127.0.0.2:9/leak.png';
        return blocked;
    }"""
    assert "127.0.0.2" in page.evaluate(blocked)


NOISY = """
const read = CanvasRenderingContext2D.prototype.getImageData;
CanvasRenderingContext2D.prototype.getImageData = function (...box) {
    const image = read.apply(this, box);
    image.data[0] ^= 1;
    return image;
};
"""


@needs_page
@needs_browser
def test_what_would_compute_something_else_never_starts(open_page: Open, server: Server) -> None:
    page = open_page(f"{server.url}/", prepare=lambda page: page.add_init_script(NOISY))
    assert "averaged" in page.locator("#status").inner_text()

    def falsify(page: Page) -> None:
        page.route("**/v1/phone/vectors.json", lambda route: route.fulfill(body="{}"))

    page = open_page(f"{server.url}/", prepare=falsify)
    assert "vectors.json is not the contract's" in page.locator("#status").inner_text()
    assert page.locator("#file").is_disabled()


@needs_page
@needs_browser
def test_a_token_is_asked_for(open_page: Open, start: Start, seen: Seen, tmp_path: Path) -> None:
    token = "0123456789abcdef-app"
    running = start(SFUMATO_TOKENS=f"app {token}")
    page = open_page(f"{running.url}/")
    choose(page, photo(tmp_path / "photo.png", 40, 40))
    send(page)
    assert "401" in page.locator("#status").inner_text()
    expect(page.locator("#token")).to_be_focused()
    page.keyboard.type(token)
    send(page)
    assert page.locator("#status").get_attribute("data-state") == "sent"
    assert seen.sent[-1][0]["Authorization"] == f"Bearer {token}"


@needs_page
def test_files_come_compressed_and_are_fetched_once(server: Server, bundle: Path) -> None:
    wasm = f"{server.url}/page/vendor/wasm/litert_wasm_internal.wasm"
    with httpx.Client() as client:
        zipped = client.get(wasm)
        plain = client.get(wasm, headers={"Accept-Encoding": "identity"})
        assert zipped.headers["content-type"] == "application/wasm"
        assert int(zipped.headers["content-length"]) < len(zipped.content) / 3
        assert plain.content == zipped.content
        assert client.get(wasm, headers={"If-None-Match": zipped.headers["etag"]}).status_code == 304
        assert (
            client.get(f"{server.url}/v1/phone/local_int8.tflite").content
            == (bundle / "local_int8.tflite").read_bytes()
        )
        for name in ("cloud.onnx", "local_float32.tflite", "..%2Fcontract.json", "%2Fetc%2Fpasswd"):
            assert client.get(f"{server.url}/v1/phone/{name}").status_code == 404
        for name in ("../app.py", "..%2Fapp.py", "vendor/build.json/..", "package.json"):
            assert client.get(f"{server.url}/page/{name}").status_code == 404


def test_without_the_page_the_service_says_why(bundle: Path, model: CloudModel, tmp_path: Path) -> None:
    for name in ("contract.json", "cloud.onnx"):
        shutil.copy(bundle / name, tmp_path / name)
    reason = Files.load(tmp_path, model.contract).missing
    assert reason
    running = start_server(tmp_path, model.contract_digest, tmp_path / "log")
    try:
        answer = httpx.get(f"{running.url}/")
        assert (answer.status_code, answer.json()["type"]) == (404, "urn:sfumato:problem:no-page")
        assert answer.json()["detail"] == reason
        lines = [json.loads(line) for line in running.log.read_text(encoding="utf-8").splitlines()]
        assert [line["reason"] for line in lines if line["event"] == "no browser page"] == [reason]
    finally:
        assert running.stop() == 0
