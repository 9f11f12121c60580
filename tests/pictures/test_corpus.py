"""Every file of the corpus through Python and through the page's own code in Chromium: the same pixels, or the same refusal.

The app's part is in tests/android/test_pictures.py. `python -m pytest -s tests/pictures` prints how many files of each kind
differ.
"""

import base64
import functools
import http.server
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Page, sync_playwright
from tests.pictures import metadata
from tests.pictures.comparison import TARGETS, Pixels, Read, compare, read_python
from tests.pictures.corpus import Case, cases

from sfumato.core.image_io import fit, load, read_rgb
from sfumato.core.picture_file import PictureError

WEB = Path(__file__).parents[2] / "cloud" / "sfumato" / "server" / "web"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium: apt-get install chromium")

READ = """async ([count, targets]) => {
    const {readPicture} = await import('/canvas.js'), {fitPicture} = await import('/picture.js'), found = [];
    const text = bytes => btoa(Array.from(bytes, byte => String.fromCharCode(byte)).join(''));
    for (let i = 0; i < count; i++) {
        const file = await (await fetch(`/case/${i}`)).blob();
        try {
            const picture = await readPicture(file);
            const fitted = targets.map(([height, width]) => text(fitPicture(picture, height, width)));
            found.push([[picture.height, picture.width], fitted]);
            picture.close();
        } catch (error) {
            found.push(error.reason ?? String(error.stack));
        }
    }
    return found;
}"""


@pytest.fixture(scope="module")
def corpus() -> list[Case]:
    return [*cases(), *metadata.corpus_cases()]


@pytest.fixture(scope="module")
def by_python(corpus: list[Case]) -> list[Read]:
    return [read_python(case.content) for case in corpus]


@pytest.fixture(scope="module")
def page(corpus: list[Case]) -> Iterator[Page]:
    """An empty page of a service that has the page's modules and the corpus."""

    class Files(http.server.SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            if not self.path.startswith(("/case/", "/empty")):
                super().do_GET()
                return
            number = self.path.partition("/case/")[2]
            content = corpus[int(number)].content if number else b"<!doctype html>"
            self.send_response(200)
            self.send_header("Content-Type", "application/octet-stream" if number else "text/html")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    service = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Files, directory=str(WEB)))
    threading.Thread(target=service.serve_forever, daemon=True).start()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        opened = browser.new_page()
        opened.set_default_timeout(0)
        opened.goto(f"http://127.0.0.1:{service.server_address[1]}/empty")
        yield opened
        browser.close()
    service.shutdown()


def test_there_are_enough_of_every_kind(corpus: list[Case]) -> None:
    assert len(corpus) >= 200
    assert {case.container for case in corpus} >= {"JPEG", "PNG", "GIF", "BMP", "WEBP", "AVIF", "TIFF", "PPM"}


def test_python_reads_what_was_drawn(corpus: list[Case]) -> None:
    """Exactly, where the kind loses nothing; the slow computation of the pixels is in the corpus."""
    wrong = []
    for case in corpus:
        try:
            found: Pixels | str = read_rgb(case.content)
        except PictureError as error:
            found = error.reason if "\n" not in str(error) else "several lines"
        if case.expected is None:
            same = not isinstance(found, str)
        elif isinstance(found, str) or isinstance(case.expected, str):
            same = isinstance(found, str) and found == case.expected
        else:
            same = np.array_equal(found, case.expected)
        if not same:
            wrong.append((case.group, case.name, found if isinstance(found, str) else found.shape))
    assert wrong == []


def test_python_reads_the_same_from_a_file_and_in_bands(
    corpus: list[Case], by_python: list[Read], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sfumato.core.image_io.BAND", 300)  # bands of a few rows
    for case, expected in zip(corpus[::3], by_python[::3], strict=True):
        (tmp_path / "file").write_bytes(case.content)
        again = read_python(tmp_path / "file")
        assert again.reason == expected.reason
        for one, other in zip(again.fitted, expected.fitted, strict=True):
            np.testing.assert_array_equal(one, other, err_msg=case.name)


def test_reading_and_fitting_in_bands_is_fitting_what_was_read(
    corpus: list[Case], by_python: list[Read]
) -> None:
    for case, found in zip(corpus[::3], by_python[::3], strict=True):
        if found.reason is None:
            whole = read_rgb(case.content)
            assert found.size == whole.shape[:2]
            for target, fitted in zip(TARGETS, found.fitted, strict=True):
                np.testing.assert_array_equal(fitted, fit(whole, *target), err_msg=case.name)


@needs_browser
def test_the_page_reads_what_python_reads(corpus: list[Case], by_python: list[Read], page: Page) -> None:
    found = []
    for answer in page.evaluate(READ, [len(corpus), TARGETS]):
        if isinstance(answer, str):
            found.append(Read(reason=answer))
            continue
        (height, width), fitted = answer
        arrays = [np.frombuffer(base64.b64decode(text), np.uint8) for text in fitted]
        shaped = tuple(array.reshape(*target, 3) for array, target in zip(arrays, TARGETS, strict=True))
        found.append(Read(size=(height, width), fitted=shaped))
    table, wrong = compare(corpus, by_python, found)
    print(f"\n{table}")
    assert wrong == [], table


LARGE = [(520, 700), (1030, 520), (512, 900)]


@pytest.mark.parametrize("size", LARGE)
def test_a_lossless_copy_of_a_large_jpeg_gives_the_same_upload(
    corpus: list[Case], size: tuple[int, int]
) -> None:
    """From eight times the model's side on JPEGs were decoded at a reduced scale, and their copies were not."""
    height, width = size
    one, *copies = [
        case for case in corpus if case.name.endswith(f" {height}x{width}") and case.group == "size"
    ]
    assert (one.container, [case.container for case in copies]) == ("JPEG", ["PNG", "BMP"])
    for target in (*TARGETS, (64, 64)):
        expected = load(one.content, *target)
        for copy in copies:
            np.testing.assert_array_equal(load(copy.content, *target), expected)


@needs_browser
def test_a_lossless_copy_by_the_browser_gives_the_same_pixels(corpus: list[Case], page: Page) -> None:
    """The copy is of the browser's own pixels: true of every browser, whatever its decoder does."""
    numbers = [
        i
        for i, case in enumerate(corpus)
        if case.group == "size" and case.name in {f"jpeg {h}x{w}" for h, w in LARGE}
    ]
    assert len(numbers) == len(LARGE)
    same: Any = """async (numbers) => {
        const {readPicture} = await import('/canvas.js'), {fitPicture} = await import('/picture.js'), found = [];
        for (const i of numbers) {
            const file = await (await fetch(`/case/${i}`)).blob(), bitmap = await createImageBitmap(file);
            const canvas = Object.assign(document.createElement('canvas'), {height: bitmap.height, width: bitmap.width});
            canvas.getContext('2d').drawImage(bitmap, 0, 0);
            const copy = await new Promise(resolve => canvas.toBlob(resolve, 'image/png'));
            const [one, other] = [await readPicture(file), await readPicture(copy)].map(picture => fitPicture(picture, 64, 64));
            found.push(one.every((byte, j) => byte === other[j]));
        }
        return found;
    }"""
    assert page.evaluate(same, numbers) == [True] * len(LARGE)
