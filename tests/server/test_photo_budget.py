"""What decoding would cost, beside what it does cost."""

import io
import struct
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.load.abuse import jpeg_bomb

from sfumato.core.errors import DataError
from sfumato.core.image_io import known_formats, load
from sfumato.server.photo_budget import check_photo, decoding_bytes, first_scan

SIZE = (64, 64)
MODES = [
    ("JPEG", "RGB", {}), ("JPEG", "RGB", {"progressive": True, "subsampling": 0}), ("JPEG", "L", {"progressive": True}),
    ("PNG", "RGBA", {}), ("PNG", "P", {}), ("PNG", "I;16", {}), ("WEBP", "RGBA", {"lossless": True}), ("GIF", "P", {}),
    ("BMP", "RGB", {}), ("TIFF", "CMYK", {"compression": "tiff_lzw"}), ("PPM", "RGB", {}),
    ("AVIF", "RGB", {}), ("HEIF", "RGB", {}),
]  # fmt: skip


def encoded(form: str, mode: str, size: tuple[int, int], **options: Any) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB" if mode == "CMYK" else "L" if mode == "I;16" else mode, size).convert(mode).save(
        stream, form, **options
    )
    return stream.getvalue()


def high_water() -> int:
    with open("/proc/self/status") as status:
        return 1024 * int(next(line for line in status if line.startswith("VmHWM")).split()[1])


@pytest.mark.parametrize(("form", "mode", "options"), MODES)
def test_no_format_needs_more_than_is_said(form: str, mode: str, options: dict[str, Any]) -> None:
    if form not in known_formats():
        pytest.skip(f"{form} cannot be read here")
    content = encoded(form, mode, (2500, 1600), **options)
    check_photo(content, SIZE, 2500 * 1600 * 30)
    with pytest.raises(DataError, match="MB to decode"):
        check_photo(content, SIZE, 1_000)
    with Image.open(io.BytesIO(content)) as image:
        said = decoding_bytes(image, content, SIZE)
    try:
        with open("/proc/self/clear_refs", "w") as refs:
            refs.write("5")
    except OSError:
        pytest.skip("this system does not tell what a process needed at most")
    before = high_water()
    load(content, *SIZE)
    assert high_water() - before <= said + 16_000_000  # of the interpreter and the C library, once


def test_a_photo_within_the_budget_passes_and_a_larger_one_does_not() -> None:
    photo, most = encoded("PNG", "RGB", (1000, 1000)), 9_000_000
    check_photo(photo, SIZE, most)
    with pytest.raises(DataError, match=r"1000 x 1000 takes 9 MB"):
        check_photo(photo, SIZE, most - 1)
    check_photo(encoded("JPEG", "RGB", (4000, 3000)), SIZE, most)  # decoded at an eighth
    with pytest.raises(DataError, match="progressive"):
        check_photo(jpeg_bomb(), SIZE, 120_000_000)


def test_a_jpeg_of_several_scans_counts_whether_or_not_it_says_progressive() -> None:
    """Sequential, one component a scan: libjpeg holds all of it too."""
    plain = bytearray(encoded("JPEG", "RGB", (4000, 3000)))
    assert first_scan(bytes(plain)) == 3
    at = plain.index(b"\xff\xda")
    plain[at + 2 : at + 14] = b"\x00\x08\x01\x01\x00\x00\x3f\x00"
    assert first_scan(bytes(plain)) == 1
    with Image.open(io.BytesIO(bytes(plain))) as image:
        assert decoding_bytes(image, bytes(plain), SIZE) > 4000 * 3000 * 1.5 * 2


def test_what_follows_a_photo_is_no_scan_of_it() -> None:
    """A motion photo carries a video, whose bytes look like hundreds of scans."""
    photo = encoded("JPEG", "RGB", (4000, 3000))
    check_photo(photo + b"\xff\xda" * 1000, SIZE, 9_000_000)


def test_a_tile_larger_than_its_picture_counts() -> None:
    side = 30_000
    tags = {256: 64, 257: 64, 258: 8, 259: 1, 262: 1, 277: 1, 322: side, 323: side, 324: 8, 325: side * side}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    content = struct.pack("<2sHIH", b"II", 42, 8, len(tags)) + entries + bytes(4)
    with Image.open(io.BytesIO(content)) as image:
        assert image.size == (64, 64)
        assert decoding_bytes(image, content, SIZE) >= side * side
    with pytest.raises(DataError, match="MB to decode"):
        check_photo(content, SIZE, 120_000_000)


@pytest.mark.parametrize("content", [b"", b"no photo", b"\xff\xd8\xff", np.random.default_rng(0).bytes(3000)])
def test_what_is_no_photo_is_left_to_the_decoder(content: bytes) -> None:
    check_photo(content, SIZE, 1)
    assert first_scan(content) == 0
