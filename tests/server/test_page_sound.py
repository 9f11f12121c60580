"""The page of a bundle that takes recordings, in headless Chromium: a WAV file, and a microphone that plays one."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from playwright.sync_api import Browser, Page, expect, sync_playwright
from tests.fixtures.sounds import recordings
from tests.server import test_page
from tests.server.conftest import KEY, Server, start_server
from tests.server.test_page import Open, Seen, await_state, choose, needs_browser, needs_page, send, use_key

from sfumato.core.sound import load_sound
from sfumato.runtime.phone_model import PhoneModel
from sfumato.runtime.test_vectors import wav_bytes
from sfumato.server.client import Client
from sfumato.server.model import CloudModel

pytestmark = [needs_page, needs_browser]
seen, open_page = test_page.seen, test_page.open_page
HERTZ = 1000


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """Its microphone hears a tone without end."""
    tone = 12_000 * np.sin(2 * np.pi * HERTZ * np.arange(3 * 48_000) / 48_000)
    heard = tmp_path_factory.mktemp("microphone") / "tone.wav"
    heard.write_bytes(wav_bytes(np.rint(tone).astype(np.int64), rate=48_000))
    media = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(
            executable_path=test_page.CHROMIUM,
            args=["--no-sandbox", "--disable-gpu", *media, f"--use-file-for-fake-audio-capture={heard}"],
            proxy={"server": "http://127.0.0.1:9"},
        )
        yield running
        running.close()


@pytest.fixture(scope="module")
def service(sound_export: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    digest = CloudModel.load(sound_export).contract_digest
    running = start_server(sound_export, digest, tmp_path_factory.mktemp("sound") / "log")
    yield running
    running.process.kill()
    running.process.wait()


def shown(page: Page, height: int, width: int) -> NDArray[Any]:
    """What the canvas shows of the recording, (height, width) uint8."""
    found = page.evaluate(
        "() => Array.from(document.getElementById('original').getContext('2d').getImageData(0, 0, "
        f"{width}, {height}).data)"
    )
    pixels = np.array(found, np.uint8).reshape(height, width, 4)
    assert (pixels[..., 0] == pixels[..., 1]).all()
    return pixels[..., 0]


def test_a_wav_file_gives_the_upload_and_the_answer_of_python(
    open_page: Open, service: Server, sound_export: Path, seen: Seen, tmp_path: Path
) -> None:
    phone = PhoneModel.load(sound_export)
    page = open_page(f"{service.url}/")
    assert page.locator("#status").get_attribute("data-deviation") == "0"
    expect(page.locator("#promise")).to_contain_text("Your recording is answered here")
    expect(page.locator("#choose")).to_contain_text("Choose a WAV file")
    use_key(page, KEY)
    words = set()
    for index, content in enumerate(recordings(6)):
        file = tmp_path / "said-at-home.wav"
        file.write_bytes(content)
        upload = phone.perturb(file, key=KEY)
        choose(page, file)
        assert len(seen.sent) == index  # nothing leaves before the button is pressed
        assert np.array_equal(shown(page, 32, 32), load_sound(content, 32, 32)[:, :, 0])
        assert "nothing else of the recording" in page.locator("#travels").inner_text()
        assert f"Recording{len(content):,} bytes" in page.locator("#facts").inner_text().replace("\n", "")
        send(page)
        assert seen.sent[-1][1] == upload.content
        with Client(phone, service.url) as client:
            reply = client.send(file, key=KEY)
        answer = page.locator("#answer section")
        assert answer.get_attribute("data-label") == reply.answers["digit"]["label"]
        words.add(upload.word)
    assert len(words) > 1
    assert "home" not in str(seen.requests) + str(seen.sent)


def test_what_is_no_recording_is_refused_in_words(open_page: Open, service: Server, tmp_path: Path) -> None:
    page = open_page(f"{service.url}/")
    good = tmp_path / "good.wav"
    good.write_bytes(recordings(1)[0])
    choose(page, good)
    for content, reason in (
        (b"GIF89a", "This is no WAV file"),
        (good.read_bytes()[:-3], "the file is cut"),
        (wav_bytes(np.arange(9), rate=7000), "7000 samples a second"),
    ):
        (tmp_path / "bad.wav").write_bytes(content)
        page.locator("#file").set_input_files(tmp_path / "bad.wav")
        expect(page.locator("#status")).to_contain_text(reason)
        assert await_state(page, "failed")
        assert page.locator("#send").is_hidden()


def test_the_microphone(open_page: Open, service: Server, seen: Seen) -> None:
    page = open_page(f"{service.url}/", permissions=["microphone"])
    expect(page.locator("#camera")).to_have_text("Record 2 seconds")
    page.locator("#camera").click()
    expect(page.locator("#status")).to_contain_text("Perturbed", timeout=test_page.PATIENCE)
    picture = shown(page, 32, 32).astype(float)
    corners = 700 * ((47 / 7) ** (np.arange(34) / 33) - 1)
    row = int(picture.mean(axis=1).argmax())
    assert abs(corners[32 - row] - HERTZ) < 100
    assert picture[row].min() > 200, "the tone has no end"
    assert seen.sent == []
    send(page)
    assert len(seen.sent) == 1
    assert len(seen.sent[0][1]) == 1


def test_a_microphone_that_is_refused(open_page: Open, service: Server) -> None:
    denied = "navigator.mediaDevices.getUserMedia = () => Promise.reject(new Error('Permission denied'))"
    page = open_page(f"{service.url}/", prepare=lambda page: page.add_init_script(denied))
    page.locator("#camera").click()
    expect(page.locator("#status")).to_contain_text("No microphone: Permission denied")


def test_the_page_may_ask_for_the_microphone_and_not_for_the_camera(service: Server) -> None:
    policy = httpx.get(f"{service.url}/").headers["Permissions-Policy"]
    assert "microphone=(self)" in policy
    assert "camera=()" in policy
