"""The corpus of picture files through the app's core: refused for Python's reasons, turned and reduced as Python does.

Android's decoder cannot run here. PNGs the core decodes itself. For the other kinds Python's decoded pixels, as the file stores
them, stand in for Android's: what is compared is the refusal, the orientation, the turn, the crop and the resize, and not
Android's decoding.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.pictures import metadata
from tests.pictures.comparison import TARGETS, read_python
from tests.pictures.corpus import PYTHON_ONLY, Case, cases, stored

from sfumato.core.image_io import REDUCTION, read_rgb, reduction
from sfumato.core.picture_file import AVIF, HEIF, PictureError, inspect, kind_of

DECODERS = {
    ("damaged", "GIF of zeros from the middle"),
    ("damaged", "gif of short data"),
    ("damaged", "jpeg without tables"),
}
"""What no header tells: Android's decoder must refuse it, as Pillow and Chromium do."""
BY_THE_PLATFORM = (AVIF, HEIF)
"""Kinds that Android decodes and turns, so that the core sees no stored pixels."""


def read(kit: Any, app: Any, corpus: list[Case], folder: Path) -> list[dict[str, Any]]:
    """What the core makes of every file."""
    lines = []
    for number, case in enumerate(corpus):
        file, pixels = folder / f"{number}.file", folder / f"{number}.rgb"
        file.write_bytes(case.content)
        line = {"file": str(file), "targets": TARGETS}
        if read_python(case.content).reason is None and kind_of(case.content) not in (
            *PYTHON_ONLY,
            "PNG",
            *BY_THE_PLATFORM,
        ):
            upright = read_rgb(case.content)
            pixels.write_bytes(stored(upright, inspect(case.content).orientation).tobytes())
            line["stored"] = str(pixels)
        lines.append(json.dumps(line) + "\n")
    classpath = kit.path([app.tests, app.core, *kit.RUNTIME])
    done = kit.run(*kit.JAVA, "-cp", classpath, "dev.sfumato.core.CrossLanguage", "read", text="".join(lines))
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def corpus() -> list[Case]:
    return [*cases(), *metadata.corpus_cases()]


def test_the_core_decides_as_python_does(kit: Any, app: Any, corpus: list[Case], tmp_path: Path) -> None:
    wrong: list[tuple[Any, ...]] = []
    left = set()
    for case, found in zip(corpus, read(kit, app, corpus, tmp_path), strict=True):
        expected, name = read_python(case.content), (case.group, case.name)
        if case.container in PYTHON_ONLY:
            if found != {"refusal": "kind"}:
                wrong.append((name, found))
        elif expected.reason is not None:
            if "refusal" not in found and expected.reason == "damaged":
                left.add(name)
            elif found.get("refusal") != expected.reason:
                wrong.append((name, expected.reason, found))
        elif "refusal" in found:
            wrong.append((name, "read", found))
        else:
            file = inspect(case.content)
            decided = (
                found["kind"],
                found["height"],
                found["width"],
                found["orientation"],
                found["reductions"],
            )
            if decided != (file.kind, file.height, file.width, file.orientation, [1] * len(TARGETS)):
                wrong.append((name, decided))
            digests = [
                hashlib.sha256(np.ascontiguousarray(pixels).tobytes()).hexdigest()
                for pixels in expected.fitted
            ]
            if file.kind not in BY_THE_PLATFORM and found["fitted"] != digests:
                wrong.append((name, "other pixels"))
    assert wrong == []
    assert left == DECODERS


def test_large_jpegs_are_reduced_as_python_does(kit: Any, app: Any, tmp_path: Path) -> None:
    """Sides and target in either order; a side that cannot stay four times the target's makes a refusal."""
    sizes = [
        (6120, 8160),
        (12_240, 16_320),
        (15_800, 15_800),
        (2_200, 30_000),
        (30_000, 2_200),
        (8_000, 8_000),
    ]
    targets = [(64, 64), (275, 64), (64, 275), (1_000, 96), (400, 400)]
    jpeg = next(case.content for case in cases() if case.name == "jpeg 32x32")
    at, lines = jpeg.index(b"\xff\xc0") + 5, []
    expected: list[list[int] | None] = []
    for number, (height, width) in enumerate(sizes):
        file = tmp_path / f"{number}.jpg"
        file.write_bytes(jpeg[:at] + height.to_bytes(2, "big") + width.to_bytes(2, "big") + jpeg[at + 4 :])
        for target in targets:
            lines.append(json.dumps({"file": str(file), "targets": [target]}) + "\n")
            try:
                expected.append([reduction(height, width, (REDUCTION * target[0], REDUCTION * target[1]))])
            except PictureError:
                expected.append(None)
    classpath = kit.path([app.tests, app.core, *kit.RUNTIME])
    done = kit.run(*kit.JAVA, "-cp", classpath, "dev.sfumato.core.CrossLanguage", "read", text="".join(lines))
    assert done.returncode == 0, done.stderr
    assert [json.loads(line).get("reductions") for line in done.stdout.splitlines()] == expected
