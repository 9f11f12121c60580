"""Decoding against pictures made here, `fit` against the arithmetic its docstring promises."""

import io
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from sfumato.core.errors import DataError
from sfumato.core.image_io import fit, load, read_rgb


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def scene(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    """Smooth shapes and some noise: unlike pure noise, JPEG keeps it."""
    y, x = np.mgrid[0:height, 0:width] / max(height, width)
    planes = [127 + 90 * np.sin(5 * x + k) * np.cos(4 * y - k) for k in range(3)]
    noise = np.random.default_rng(seed).normal(0, 3, (height, width, 3))
    return np.asarray(np.clip(np.stack(planes, axis=2) + noise, 0, 255).astype(np.uint8))


def slow_pass(rows: NDArray[np.uint8], n: int) -> NDArray[np.uint8]:
    """Resize the second axis of (h, m, 3), one output at a time, as the docstring of `fit` says."""
    m = rows.shape[1]
    if m == n:
        return rows
    out = np.zeros((rows.shape[0], n, 3), dtype=np.uint8)
    scale = m / n
    support = max(scale, 1.0)
    for i in range(n):
        centre = (i + 0.5) * scale
        first, last = max(0, math.floor(centre - support + 0.5)), min(m, math.floor(centre + support + 0.5))
        weights = [max(0.0, 1 - abs(j + 0.5 - centre) / support) for j in range(first, last)]
        fixed = np.array([math.floor(w / sum(weights) * 2**22 + 0.5) for w in weights], dtype=np.int64)
        total = (rows[:, first:last].astype(np.int64) * fixed[None, :, None]).sum(axis=1) + 2**21
        out[:, i] = np.clip(total >> 22, 0, 255)
    return out


def slow_fit(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    H, W = image.shape[:2]
    if W * height > H * width:
        kept = max(1, math.floor(H * width / height + 0.5))
        image = image[:, (W - kept) // 2 :][:, :kept]
    else:
        kept = max(1, math.floor(W * height / width + 0.5))
        image = image[(H - kept) // 2 :][:kept]
    across = slow_pass(image, width)
    return slow_pass(across.swapaxes(0, 1), height).swapaxes(0, 1)


@pytest.mark.parametrize(
    ("source", "target"),
    [((200, 200), (64, 64)), ((37, 91), (16, 24)), ((91, 37), (24, 16)), ((20, 20), (50, 40)), ((7, 300), (9, 9)),
     ((64, 64), (64, 64)), ((1, 1), (8, 8)), ((218, 178), (64, 64))],
)  # fmt: skip
def test_fit_is_bit_for_bit_what_its_contract_says(source: tuple[int, int], target: tuple[int, int]) -> None:
    image = np.random.default_rng(1).integers(0, 256, (*source, 3), dtype=np.uint8)
    np.testing.assert_array_equal(fit(image, *target), slow_fit(image, *target))


def test_every_orientation_comes_out_upright() -> None:
    upright = scene(24, 40)
    undo: dict[int, Callable[[Any], Any]] = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.swapaxes(0, 1),
        6: lambda a: np.rot90(a, 1),
        7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
        8: lambda a: np.rot90(a, -1),
    }
    for orientation, stored in undo.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        data = encoded(Image.fromarray(np.ascontiguousarray(stored(upright))), exif=exif)
        np.testing.assert_array_equal(read_rgb(data), upright, err_msg=f"orientation {orientation}")


def test_grey_sixteen_bit_palette_and_cmyk() -> None:
    values = np.array([[0, 257, 65535, 32768]], dtype=np.uint16)
    assert read_rgb(encoded(Image.fromarray(values)))[0, :, 1].tolist() == [0, 1, 255, 128]
    grey = np.array([[0, 90, 255]], dtype=np.uint8)
    assert read_rgb(encoded(Image.fromarray(grey))).tolist() == [[[0] * 3, [90] * 3, [255] * 3]]
    red = Image.new("RGB", (6, 5), (200, 10, 20))
    assert read_rgb(encoded(red.quantize(4)))[2, 3].tolist() == [200, 10, 20]
    cmyk = read_rgb(encoded(red.convert("CMYK"), "JPEG", quality=98))[2, 3].astype(int)
    assert np.abs(cmyk - [200, 10, 20]).max() <= 12
    one_bit = Image.fromarray(np.array([[True, False]]))
    assert read_rgb(encoded(one_bit))[0, :, 0].tolist() == [255, 0]


def test_transparency_lies_over_white() -> None:
    picture = np.array([[[10, 20, 30, 0], [10, 20, 30, 255], [0, 0, 0, 128]]], dtype=np.uint8)
    assert read_rgb(encoded(Image.fromarray(picture))).tolist() == [[[255] * 3, [10, 20, 30], [127] * 3]]
    grey = Image.fromarray(np.array([[[40, 0], [40, 255]]], dtype=np.uint8), "LA")
    assert read_rgb(encoded(grey)).tolist() == [[[255] * 3, [40] * 3]]
    palette = Image.new("P", (2, 1), 0)
    palette.putpalette([1, 2, 3, 200, 100, 50])
    palette.putpixel((1, 0), 1)
    assert read_rgb(encoded(palette, transparency=0)).tolist() == [[[255] * 3, [200, 100, 50]]]


def test_of_an_animation_the_first_frame_is_taken() -> None:
    first, second = Image.new("RGB", (8, 8), (255, 0, 0)), Image.new("RGB", (8, 8), (0, 0, 255))
    data = encoded(first, "GIF", save_all=True, append_images=[second], duration=40)
    assert read_rgb(data)[4, 4].tolist() == [255, 0, 0]


def test_bad_files_are_one_line_errors(tmp_path: Path) -> None:
    whole = encoded(Image.fromarray(scene(64, 64)), "JPEG")
    (tmp_path / "text.jpg").write_text("not a picture")
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "half.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "script.eps").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n")
    for name in ("text.jpg", "empty.png", "half.jpg", "script.eps", "absent.jpg", "."):
        with pytest.raises(DataError) as caught:
            read_rgb(tmp_path / name)
        assert "\n" not in str(caught.value)
        assert name in str(caught.value) or name == "."
    floating = encoded(Image.fromarray(np.full((4, 4), 0.5, dtype=np.float32)), "TIFF")
    with pytest.raises(DataError, match="floating"):
        read_rgb(floating)


def test_a_decompression_bomb_is_refused_before_it_unfolds() -> None:
    bomb = encoded(Image.new("1", (15_000, 15_000)))
    assert len(bomb) < 100_000
    with pytest.raises(DataError, match=r"cannot be decoded|more than"):
        read_rgb(bomb)
    with pytest.raises(DataError, match="100 x 100 pixels, more than the 9999"):
        read_rgb(encoded(Image.new("L", (100, 100))), max_pixels=9999)


def test_a_camera_photo_is_read_at_a_reduced_scale_with_nearly_the_same_result() -> None:
    data = encoded(Image.fromarray(np.tile(scene(750, 1000), (4, 4, 1))), "JPEG", quality=90)  # 12 megapixels
    reduced = read_rgb(data, at_least=(256, 256))
    assert reduced.shape == (375, 500, 3)
    np.testing.assert_array_equal(load(data, 64, 64), fit(reduced, 64, 64))
    difference = np.abs(load(data, 64, 64).astype(int) - fit(read_rgb(data), 64, 64).astype(int))
    assert difference.mean() < 1
    assert difference.max() <= 12  # at the seams between tiles, sharper than any photo
