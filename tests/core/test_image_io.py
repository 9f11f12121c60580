"""Decoding against pictures made here, `fit` against the arithmetic its docstring promises."""

import io
import math
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms
from tests.pictures.corpus import tiff

from sfumato.core import image_io
from sfumato.core.errors import DataError
from sfumato.core.image_io import TURNS, _png, count_scans, fit, load, read_rgb, reduction
from sfumato.core.picture_file import PictureError


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


def test_colour_profiles_are_not_applied() -> None:
    """A phone's Display P3 among them: the app, the page and Python take the numbers as they are stored."""
    picture = Image.fromarray(scene(9, 11))
    wide = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    # The red of Display P3 in place of that of sRGB: what a colour manager would have to convert.
    at = wide.index(b"XYZ ", wide.index(b"rXYZ") + 12)
    found = wide[: at + 8] + struct.pack(">iii", 33_750, 15_807, -69) + wide[at + 20 :]
    assert found != wide
    for kind, options in (("PNG", {}), ("TIFF", {}), ("WEBP", {"lossless": True}), ("JPEG", {"quality": 95})):
        plain = read_rgb(encoded(picture, kind, **options))
        assert np.array_equal(read_rgb(encoded(picture, kind, icc_profile=found, **options)), plain)


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


def test_a_camera_photo_is_decoded_whole_so_that_its_lossless_copy_is_the_same() -> None:
    data = encoded(Image.fromarray(np.tile(scene(750, 1000), (4, 4, 1))), "JPEG", quality=90)  # 12 megapixels
    whole = read_rgb(data, at_least=(256, 256))
    assert whole.shape == (3000, 4000, 3)
    copy = encoded(Image.fromarray(whole), "PNG", compress_level=0)
    np.testing.assert_array_equal(load(data, 64, 64), load(copy, 64, 64))


def test_beyond_the_limit_a_jpeg_is_reduced_by_one_rule_for_each_side() -> None:
    assert reduction(6120, 8160, (256, 256)) == 1  # 49.9 megapixels
    assert reduction(12_240, 16_320, (256, 256)) == 2
    assert reduction(15_800, 15_800, (256, 256)) == 4
    assert reduction(2200, 30_000, (1100, 256)) == 2
    with pytest.raises(PictureError, match="30000 x 2200 pixels to decode"):
        reduction(2200, 30_000, (1101, 256))
    picture = Image.fromarray(scene(1200, 1600))
    for orientation, target in ((1, (40, 64)), (6, (64, 40))):
        exif = Image.Exif()
        exif[0x0112] = orientation
        data = encoded(picture, "JPEG", quality=90, exif=exif)
        whole, reduced = load(data, *target), load(data, *target, max_decoded=500_000)
        assert 0 < np.abs(whole.astype(int) - reduced).max() <= 12


# --- kinds that decoders disagree on ---


def png(
    pixels: NDArray[Any], colour: int, depth: int = 16, *extra: tuple[bytes, bytes]
) -> list[tuple[bytes, bytes]]:
    """Chunks of an unfiltered PNG; pixels (H, W, channels)."""
    height, width = pixels.shape[:2]
    rows = pixels.astype(">u2" if depth == 16 else "u1")
    body = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return [(b"IHDR", header), *extra, (b"IDAT", body), (b"IEND", b"")]


def test_sixteen_bits_of_every_colour_are_rounded() -> None:
    rng = np.random.default_rng(5)
    for colour, planes in ((0, 1), (2, 3), (4, 2), (6, 4)):
        values = rng.integers(0, 65536, (9, 11, planes))
        rounded = ((values + 128) // 257).astype(np.uint8)
        eight = encoded(Image.fromarray(rounded.squeeze(), {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[planes]))
        np.testing.assert_array_equal(
            read_rgb(_png(png(values, colour))), read_rgb(eight), err_msg=str(colour)
        )
    for order in "<>":
        values = rng.integers(0, 65536, (9, 11, 3))
        np.testing.assert_array_equal(read_rgb(tiff(values, order, 2)), (values + 128) // 257)
        grey = rng.integers(0, 65536, (9, 11, 1))
        np.testing.assert_array_equal(read_rgb(tiff(grey, order, 1))[:, :, :1], (grey + 128) // 257)
    white_is_zero = read_rgb(tiff(grey, "<", 0))[:, :, :1]
    np.testing.assert_array_equal(white_is_zero, (65535 - grey + 128) // 257)


def test_one_transparent_colour_is_compared_in_sixteen_bits() -> None:
    grey = np.array([[[257], [258], [5]]])
    clear = (b"tRNS", struct.pack(">H", 257))
    assert read_rgb(_png(png(grey, 0, 16, clear)))[0, :, 0].tolist() == [255, 1, 0]
    colours = np.array([[[257, 258, 259], [257, 258, 260]]])
    clear = (b"tRNS", struct.pack(">3H", 257, 258, 259))
    assert read_rgb(_png(png(colours, 2, 16, clear))).tolist() == [[[255] * 3, [1] * 3]]


def test_a_turned_tiff_is_the_same_from_a_file_and_from_memory(tmp_path: Path) -> None:
    rng = np.random.default_rng(6)
    for values in (
        rng.integers(0, 256, (24, 16, 1), dtype=np.uint8),
        rng.integers(0, 65536, (24, 16, 1)),
        rng.integers(0, 256, (24, 16, 4), dtype=np.uint8),  # CMYK
        rng.integers(0, 65536, (24, 16, 3)),
    ):
        photometric = {1: 1, 3: 2, 4: 5}[values.shape[2]]
        plain = read_rgb(tiff(values, "<", photometric))
        for orientation in range(1, 9):
            content = tiff(values, "<", photometric, (274, orientation))
            (tmp_path / "a.tif").write_bytes(content)
            expected = TURNS[orientation](plain) if orientation > 1 else plain
            np.testing.assert_array_equal(read_rgb(content), expected)
            np.testing.assert_array_equal(read_rgb(tmp_path / "a.tif"), expected)


def test_orientation_is_read_from_exif_and_not_from_xmp() -> None:
    picture = scene(24, 40)
    xmp = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    exif = Image.Exif()
    exif[0x0112] = 3
    for kind, options in (("JPEG", {"quality": 95}), ("WEBP", {"lossless": True}), ("TIFF", {})):
        plain = read_rgb(encoded(Image.fromarray(picture), kind, **options))
        said = {"tiffinfo": {700: xmp}} if kind == "TIFF" else {"xmp": xmp}
        np.testing.assert_array_equal(
            read_rgb(encoded(Image.fromarray(picture), kind, **options, **said)), plain
        )
        if kind != "TIFF":
            both = encoded(Image.fromarray(picture), kind, **options, **said, exif=exif)
            np.testing.assert_array_equal(read_rgb(both), plain[::-1, ::-1])
    text = (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp)
    np.testing.assert_array_equal(read_rgb(_png(png(picture, 2, 8, text))), picture)
    broken = (b"eXIf", b"MM\0*\0\0\xff\xff")
    np.testing.assert_array_equal(read_rgb(_png(png(picture, 2, 8, broken))), picture)


def animated(still: NDArray[np.uint8], frame: NDArray[np.uint8], left: int, top: int) -> bytes:
    """A PNG whose default image is no part of its animation."""
    header, body, end = png(still, 2, 8)
    control = struct.pack(">5IHHBB", 0, frame.shape[1], frame.shape[0], left, top, 1, 10, 0, 0)
    first = (b"fdAT", struct.pack(">I", 1) + png(frame, 2, 8)[1][1])
    return _png([header, (b"acTL", struct.pack(">II", 1, 0)), body, (b"fcTL", control), first, end])


def test_the_first_frame_of_an_animation_stands_on_nothing() -> None:
    red, blue = np.zeros((8, 8, 3), np.uint8), np.zeros((2, 3, 3), np.uint8)
    red[..., 0], blue[..., 2] = 255, 255
    assert read_rgb(animated(red, red[..., ::-1], 0, 0)).tolist() == red[..., ::-1].tolist()
    expected = np.full((8, 8, 3), 255, np.uint8)
    expected[5:7, 4:7] = blue
    np.testing.assert_array_equal(read_rgb(animated(red, blue, 4, 5)), expected)
    with pytest.raises(DataError, match="lies outside"):
        read_rgb(animated(red, blue, 6, 5))
    gif = bytearray(encoded(Image.fromarray(red[:4, :4]), "GIF"))
    at = gif.index(b"\x2c")  # a canvas of 8 x 8, the frame in its middle
    gif[6:10], gif[at + 1 : at + 5] = struct.pack("<HH", 8, 8), struct.pack("<HH", 2, 2)
    expected[:] = 255
    expected[2:6, 2:6] = (255, 0, 0)
    np.testing.assert_array_equal(read_rgb(bytes(gif)), expected)


def test_what_follows_a_jpeg_is_not_looked_at(tmp_path: Path) -> None:
    whole = encoded(Image.fromarray(scene(64, 64)), "JPEG")
    video = b"\0\0\0\x18ftypmp42" + b"\xff\xda\0\0" * 500_000  # thousands of scans, were they scans
    (tmp_path / "motion.jpg").write_bytes(whole + video)
    np.testing.assert_array_equal(read_rgb(tmp_path / "motion.jpg"), read_rgb(whole))
    np.testing.assert_array_equal(read_rgb(whole + video), read_rgb(whole))
    progressive = encoded(Image.fromarray(scene(64, 64)), "JPEG", progressive=True)
    assert count_scans(progressive) == (progressive.count(b"\xff\xda"), True)
    assert count_scans(whole + video) == (1, True)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "AVIF"])
def test_a_picture_without_its_second_half_is_refused(kind: str) -> None:
    noisy = np.random.default_rng(1).integers(0, 256, (40, 56, 3), dtype=np.uint8)
    whole = encoded(Image.fromarray(noisy), kind)
    half = len(whole) // 2
    with pytest.raises(DataError):
        read_rgb(whole[:half])
    if kind in ("JPEG", "PNG", "GIF"):  # the others hold nothing that would tell
        with pytest.raises(DataError):
            read_rgb(whole[:half] + bytes(len(whole) - half))


def test_one_limit_for_every_kind_and_reduced_decoding_beyond_it() -> None:
    picture = Image.fromarray(scene(400, 640))
    for kind in ("PNG", "WEBP", "TIFF", "BMP"):
        with pytest.raises(DataError, match="640 x 400 pixels to decode, more than the 100000 allowed"):
            load(encoded(picture, kind), 32, 32, max_decoded=100_000)
    assert load(encoded(picture, "JPEG"), 32, 32, max_decoded=100_000).shape == (32, 32, 3)


def test_a_photo_of_200_megapixels_is_read() -> None:
    large = encoded(Image.new("L", (16_320, 12_240), 90), "JPEG", quality=30)
    assert np.abs(load(large, 64, 64).astype(int) - 90).max() <= 3
    with pytest.raises(DataError, match="more than the 250000000 allowed"):
        read_rgb(encoded(Image.new("1", (25_000, 20_001))))


def test_what_is_no_file_and_heic_say_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(DataError, match=r"pipe.jpg: not a file"):
        read_rgb(tmp_path / "pipe.jpg")
    (tmp_path / "photo.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(200))
    if "HEIF" in image_io.known_formats():
        with pytest.raises(DataError, match=r"photo.heic: the picture is damaged"):
            read_rgb(tmp_path / "photo.heic")
    monkeypatch.setattr(image_io, "known_formats", lambda: ("JPEG", "PNG"))
    with pytest.raises(
        DataError, match=r"photo.heic.*pillow-heif is installed \(pip install 'sfumato\[heic\]'\)"
    ):
        read_rgb(tmp_path / "photo.heic")


def test_another_decoder_of_heic_is_another_decoder(monkeypatch: pytest.MonkeyPatch) -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    named = image_io.decoder()
    assert pillow_heif.libheif_version() in named
    monkeypatch.setattr(pillow_heif, "libheif_version", lambda: "0.1")
    assert image_io.decoder() != named
