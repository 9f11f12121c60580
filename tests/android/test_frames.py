"""Frames of a camera from real photos: what the core makes of the planes beside decoding to RGB and resizing."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from sfumato.core.image_io import fit, read_rgb

Pixels = NDArray[np.uint8]
TURNED = {0: 0, 90: -1, 180: 2, 270: 1}
"""Degrees clockwise -> quarter turns of `np.rot90`."""
MEAN, SHARE, MOST = 1.0, 0.97, 2
"""What docs/kotlin.md promises for photos, in levels of 0..255: the mean of a photo, how many are off by one at most, and by
how much a value is off that no colour cut off has a part in."""


def planes(photo: Pixels) -> tuple[Pixels, Pixels, Pixels]:
    """JPEG's matrix, by Pillow; a value of the colours for 2 x 2 pixels, the last row and column for fewer."""
    y, *colours = np.moveaxis(np.asarray(Image.fromarray(photo).convert("YCbCr")), 2, 0)
    height, width = y.shape
    padded = [np.pad(plane, ((0, height % 2), (0, width % 2)), mode="edge") for plane in colours]
    u, v = (
        plane.reshape((height + 1) // 2, 2, (width + 1) // 2, 2).mean((1, 3)).round().astype(np.uint8)
        for plane in padded
    )
    return y, u, v


def decoded(y: Pixels, u: Pixels, v: Pixels) -> tuple[Pixels, Pixels]:
    """Every pixel to RGB, the colours of its 2 x 2; and 255 in all three colours where RGB has no room for one."""
    height, width = y.shape
    blue, red = (plane.repeat(2, 0).repeat(2, 1)[:height, :width] - 128.0 for plane in (u, v))
    rgb = np.rint(np.stack([y + 1.402 * red, y - 0.344136 * blue - 0.714136 * red, y + 1.772 * blue], axis=2))
    kept = np.clip(rgb, 0, 255)
    cut = np.where((rgb != kept).any(axis=2, keepdims=True), 255, np.zeros_like(rgb))
    return kept.astype(np.uint8), cut.astype(np.uint8)


def test_a_frame_is_what_its_decoded_picture_is(kit: Any, app: Any, shared_data: Path) -> None:
    folder = shared_data / "groceries5k"
    files = sorted(folder.rglob("*.jpg"))
    if len(files) < 40:
        pytest.skip(f"no photos in {folder}")
    photos = files[:: len(files) // 40][:40]
    cases: list[dict[str, Any]] = []
    wanted: list[Pixels] = []
    cut: list[Pixels] = []
    for number, file in enumerate(photos):
        whole = read_rgb(file.read_bytes())
        photo = whole[number % 3 :, : whole.shape[1] - number % 4]  # odd sides too
        rotation = 90 * (number % 4)
        to_height, to_width = [(64, 64), (32, 48), (96, 64), (17, 30)][number // 4 % 4]
        parts = planes(photo)
        for pixels, made in zip(decoded(*parts), (wanted, cut), strict=True):
            upright = np.ascontiguousarray(np.rot90(pixels, TURNED[rotation]))
            made.append(fit(upright, to_height, to_width))
        case: dict[str, Any] = {"height": photo.shape[0], "width": photo.shape[1], "rotation": rotation}
        case |= {name: plane.tobytes().hex() for name, plane in zip("yuv", parts, strict=True)}
        cases.append({**case, "to_height": to_height, "to_width": to_width})
    classpath = kit.path([app.tests, app.core, *kit.RUNTIME])
    lines = "".join(json.dumps(case) + "\n" for case in cases)
    done = kit.run(*kit.JAVA, "-cp", classpath, "dev.sfumato.core.CrossLanguage", "frame", text=lines)
    assert done.returncode == 0, done.stderr
    found = [
        np.frombuffer(bytes.fromhex(json.loads(line)["rgb"]), np.uint8) for line in done.stdout.splitlines()
    ]
    off = [
        np.abs(one.reshape(other.shape).astype(int) - other) for one, other in zip(found, wanted, strict=True)
    ]
    alone = np.concatenate([one[other == 0] for one, other in zip(off, cut, strict=True)])
    every = np.concatenate([one.ravel() for one in off])
    assert alone.size > every.size / 2
    assert alone.max() <= MOST
    assert max(one.mean() for one in off) <= MEAN
    assert (every <= 1).mean() >= SHARE
