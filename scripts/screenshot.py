"""Take docs/page.png: the browser page of an export, with a face of the embedded data set perturbed and answered.

Needs `make setup` with node and npm, and a Chromium. The device key is fixed, so the picture changes only with the page or the
export.

Usage: `.venv/bin/python scripts/screenshot.py demo/export docs/page.png`
"""

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import expect, sync_playwright

from sfumato.data.loaders.synthetic import OPTIONS, load_synthetic
from sfumato.data.spec import Spec

KEY = bytes(range(32))
FACE = 7
"""Which of the drawn faces."""


def main(export: Path, target: Path) -> None:
    """Start the service, open the page, choose the face, send the upload, take the picture."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    command = [sys.executable, "-m", "sfumato.cli.main", "serve", str(export), "--port", "0"]
    with (
        tempfile.TemporaryDirectory() as folder,
        subprocess.Popen(command, stderr=subprocess.PIPE) as service,
    ):
        try:
            assert service.stderr is not None
            url = json.loads(service.stderr.readline())["url"]
            face = Path(folder) / "face.png"
            faces = load_synthetic(Spec.parse("synthetic", extra=OPTIONS)).pictures
            (pixels,) = faces.read(range(FACE, FACE + 1), 256, 256)
            assert isinstance(pixels, np.ndarray)
            Image.fromarray(pixels).save(face)
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
                page = browser.new_page(viewport={"width": 760, "height": 700}, device_scale_factor=1.5)
                page.goto(url)
                expect(page.locator("#status")).to_contain_text("Ready", timeout=60_000)
                page.locator("summary").click()
                page.locator("#key").fill(KEY.hex())
                page.locator("#use-key").click()
                page.locator("summary").click()
                page.locator("#file").set_input_files(face)
                expect(page.locator("#status")).to_contain_text("Perturbed")
                page.locator("#send").click()
                expect(page.locator("#status")).to_contain_text("Sent")
                page.screenshot(path=target, full_page=True)
        finally:
            service.terminate()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
