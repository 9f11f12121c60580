"""Uploads: lossless, smaller than their bits allow only by compression, nothing but the picture in or out."""

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from sfumato.core.errors import DataError
from sfumato.runtime.upload_codec import decode_png, encode_png, pack, unpack

BITS = (1, 2, 4, 8)


def picture(bits: int, seed: int = 0, height: int = 16, width: int = 20) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 2**bits, (height, width, 3), dtype=np.uint8)


@given(st.sampled_from(BITS), st.integers(1, 33), st.integers(1, 33), st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_png_and_packed_form_give_back_what_went_in(bits: int, height: int, width: int, seed: int) -> None:
    levels = picture(bits, seed, height, width)
    assert np.array_equal(
        decode_png(encode_png(levels, bits=bits), height=height, width=width, bits=bits), levels
    )
    packed = pack(levels, bits=bits)
    assert len(packed) == -(-height * width * 3 * bits // 8)
    assert np.array_equal(unpack(packed, height=height, width=width, bits=bits), levels)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_pack_equals_a_string_of_bits(bits: int) -> None:
    levels = picture(bits, height=3, width=5)
    text = "".join(format(value, f"0{bits}b") for value in levels.reshape(-1).tolist())
    text += "0" * (-len(text) % 8)
    assert pack(levels, bits=bits) == bytes(int(text[i : i + 8], 2) for i in range(0, len(text), 8))


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_planes_lie_one_below_the_other(bits: int) -> None:
    levels = picture(bits)
    with Image.open(io.BytesIO(encode_png(levels, bits=bits))) as image:
        assert image.size == (20, 48)
        seen = np.asarray(image).astype(np.uint8) // (255 // (2**bits - 1) if bits > 1 else 1)
    for colour in range(3):
        assert np.array_equal(seen[16 * colour : 16 * (colour + 1)], levels[..., colour])


def test_another_encoder_with_other_filters_is_read_too() -> None:
    y, x = np.indices((16, 20))
    smooth = np.stack([x * 9, y * 7, x + y], axis=2).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(smooth).save(stream, "PNG", optimize=True)
    assert np.array_equal(decode_png(stream.getvalue(), height=16, width=20, bits=8), smooth)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_the_length_of_a_dithered_upload_tells_nothing(bits: int) -> None:
    flat, busy = np.zeros((16, 20, 3), np.uint8), picture(bits)
    assert len(encode_png(flat, bits=bits)) == len(encode_png(busy, bits=bits))


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_rows_with_a_filter_are_the_same_picture(bits: int) -> None:
    levels = picture(bits)
    header, data, end = _chunks(encode_png(levels, bits=bits))
    rows = np.frombuffer(zlib.decompress(data[8:-4]), dtype=np.uint8).reshape(48, -1)
    filtered = rows.copy()
    filtered[:, 0] = 2  # up: each byte less the one above
    filtered[1:, 1:] -= rows[:-1, 1:]
    body = b"IDAT" + zlib.compress(filtered.tobytes())
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    content = b"\x89PNG\r\n\x1a\n" + header + chunk + end
    assert np.array_equal(decode_png(content, height=16, width=20, bits=bits), levels)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_closed_blocks_take_no_room(bits: int) -> None:
    levels = np.random.default_rng(bits).integers(0, 1 << bits, (64, 64, 3), dtype=np.uint8)
    whole = len(encode_png(levels, bits=bits, gates=True))
    levels[:, 16:] = 0
    quarter = encode_png(levels, bits=bits, gates=True)
    assert np.array_equal(decode_png(quarter, height=64, width=64, bits=bits), levels)
    assert len(quarter) < 0.4 * whole < 0.41 * (64 * 64 * 3 * bits // 8 + 300)


def test_a_smooth_picture_is_compressed() -> None:
    smooth = np.tile(np.arange(64, dtype=np.uint8)[None, :, None] * 3, (64, 1, 3))
    assert len(encode_png(smooth, bits=8)) < smooth.size // 10


def test_metadata_is_refused_in_both_directions() -> None:
    levels = picture(8)
    kinds = [content[4:8] for content in _chunks(encode_png(levels, bits=8))]
    assert kinds == [b"IHDR", b"IDAT", b"IEND"]
    notes = PngImagePlugin.PngInfo()
    notes.add_text("Comment", "52.5200, 13.4050")
    stream = io.BytesIO()
    Image.fromarray(levels).save(stream, "PNG", pnginfo=notes)
    with pytest.raises(DataError, match="'tEXt' chunk: only the picture may travel"):
        decode_png(stream.getvalue(), height=16, width=20, bits=8)


@pytest.mark.parametrize(("height", "width", "bits"), [(20, 16, 1), (16, 20, 2), (16, 20, 8), (48, 20, 1)])
def test_another_size_or_depth_is_refused(height: int, width: int, bits: int) -> None:
    with pytest.raises(DataError, match="this model takes"):
        decode_png(encode_png(picture(1), bits=1), height=height, width=width, bits=bits)


def test_a_header_that_claims_a_giant_is_refused_before_decoding() -> None:
    header = struct.pack(">IIBBBBB", 2**31 - 1, 2**31 - 1, 1, 0, 0, 0, 0)
    body = zlib.compress(bytes(10_000_000))
    content = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(part)) + kind + part + struct.pack(">I", zlib.crc32(kind + part))
        for kind, part in ((b"IHDR", header), (b"IDAT", body), (b"IEND", b""))
    )
    with pytest.raises(DataError, match="this model takes"):
        decode_png(content, height=16, width=20, bits=1)


@pytest.mark.parametrize("bits", BITS)
def test_every_cut_and_every_changed_byte_is_noticed(bits: int) -> None:
    levels = picture(bits, height=4, width=4)
    content = encode_png(levels, bits=bits)
    for at in range(len(content)):
        with pytest.raises(DataError):
            decode_png(content[:at], height=4, width=4, bits=bits)
        changed = bytearray(content)
        changed[at] ^= 0x10
        with pytest.raises(DataError):
            decode_png(bytes(changed), height=4, width=4, bits=bits)


def test_a_picture_whose_data_ends_early_is_refused() -> None:
    content = encode_png(picture(8), bits=8)
    (header, _, end) = _chunks(content)
    short = zlib.compress(bytes(100))
    body = struct.pack(">I", len(short)) + b"IDAT" + short + struct.pack(">I", zlib.crc32(b"IDAT" + short))
    with pytest.raises(DataError, match="damaged"):
        decode_png(content[:8] + header + body + end, height=16, width=20, bits=8)


def test_packed_form_of_another_length_or_filling_is_refused() -> None:
    packed = pack(picture(1, height=3, width=3), bits=1)
    with pytest.raises(DataError, match="this model takes 4"):
        unpack(packed + b"\0", height=3, width=3, bits=1)
    with pytest.raises(DataError, match="not filled with zeros"):
        unpack(packed[:-1] + bytes([packed[-1] | 1]), height=3, width=3, bits=1)


def _chunks(content: bytes) -> list[bytes]:
    found, at = [], 8
    while at < len(content):
        (length,) = struct.unpack_from(">I", content, at)
        found.append(content[at : at + 12 + length])
        at += 12 + length
    return found
