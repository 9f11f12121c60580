"""How an upload travels: a PNG of its own bit depth, or packed bits without any header.

- dither, k bits a colour: a grey PNG of bit depth k (1, 2 or 4), W wide and 3 H high: the red plane, below it the green,
  below it the blue one; of grey pictures one plane, W wide and H high. PNG knows no RGB of fewer than 8 bits.
- gaussian: an RGB PNG of depth 8.
- packed (either): the levels in the order (y, x, colour), k (or 8) bits each, most significant bit first, the last byte
  filled with zeros.

The writer makes IHDR, IDAT and IEND and nothing else; the reader refuses every other chunk, so no metadata can pass in
either direction, and it checks the size before it decompresses anything.

    content = encode_png(levels, bits=1)
    levels = decode_png(content, height=64, width=64, bits=1)
"""

import io
import struct
import zlib

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sfumato.core.errors import DataError

SIGNATURE = b"\x89PNG\r\n\x1a\n"
CHUNKS = (b"IHDR", b"IDAT", b"IEND")
GREY, RGB = 0, 2
STORED, SMALLEST = 0, 9
"""Levels of deflate. Drawn bits are noise but for a few: looking for repetitions takes as long as a fifth of the network, saves
2 %, and makes the length of an upload depend on the picture."""

Bytes = NDArray[np.uint8]


def encode_png(levels: Bytes, *, bits: int, gates: bool = False) -> bytes:
    """Encode levels (H, W, 3), or (H, W, 1) of grey pictures, 0 .. 2^bits - 1, losslessly.

    Args:
        levels: of an upload.
        bits: 1, 2, 4 (dither) or 8 (gaussian).
        gates: whether blocks can be closed. Those take no room, so the length tells how many are open; all other dithered
            uploads of a size are of one length.
    """
    height, width, colours = levels.shape
    if bits == 8:
        rows = levels.reshape(height, 3 * width)
        header, body = _header(width, height, 8, RGB), _smallest(rows)
    else:
        planes = levels.transpose(2, 0, 1).reshape(colours * height, width)
        header = _header(width, colours * height, bits, GREY)
        # Nor do they hold anything that a row filter could predict. Closed blocks are zeros, which cost next to nothing.
        body = _deflate(_pack_rows(planes, bits), 0, SMALLEST if gates else STORED)
    return SIGNATURE + _chunk(b"IHDR", header) + _chunk(b"IDAT", body) + _chunk(b"IEND", b"")


def decode_png(content: bytes, *, height: int, width: int, bits: int, colours: int = 3) -> Bytes:
    """Decode what `encode_png`, or any other encoder of plain PNGs, made; `colours` is 1 of grey pictures.

    Returns:
        (height, width, colours) uint8, levels 0 .. 2^bits - 1.

    Raises:
        DataError: not a PNG, another size, depth or colour type, chunks beyond the picture itself, or damage.
    """
    tall = height if bits == 8 else colours * height
    expected = _header(width, tall, bits, RGB if bits == 8 else GREY)
    header, data = _checked_chunks(content)
    if header != expected:
        raise DataError(f"the upload is a PNG of {_describe(header)}; this model takes {_describe(expected)}")
    samples = width * (3 if bits == 8 else 1)
    rows = _inflate(data, tall, -(-samples * bits // 8))
    # The writer above filters no row, so most uploads need nothing more; Pillow knows the filters.
    values = _decode_filtered(content, bits) if rows[:, 0].any() else _unpack_rows(rows[:, 1:], bits)
    if bits == 8:
        return values.reshape(height, width, 3)
    return values[:, :width].reshape(colours, height, width).transpose(1, 2, 0)


def pack(levels: Bytes, *, bits: int) -> bytes:
    """The packed form of levels (H, W, colours): ceil(H * W * colours * bits / 8) bytes."""
    return _pack_rows(levels.reshape(1, -1), bits).tobytes()


def unpack(content: bytes, *, height: int, width: int, bits: int, colours: int = 3) -> Bytes:
    """Levels (height, width, colours) from their packed form.

    Raises:
        DataError: the length is wrong, or the filling is not zero.
    """
    count = height * width * colours
    size = -(-count * bits // 8)
    if len(content) != size:
        raise DataError(f"the packed upload has {len(content)} bytes; this model takes {size}")
    levels: Bytes = _unpack_rows(np.frombuffer(content, dtype=np.uint8)[None], bits)[0]
    if levels[count:].any():
        raise DataError("the packed upload's last byte is not filled with zeros")
    return levels[:count].reshape(height, width, colours)


def _unpack_rows(rows: Bytes, bits: int) -> Bytes:
    """(N, B) bytes -> (N, floor(8 B / bits)) values, most significant bit first."""
    if bits == 8:
        return rows
    drawn: Bytes = np.unpackbits(rows, axis=1)
    if bits == 1:
        return drawn
    first, *lower = np.moveaxis(drawn.reshape(len(rows), -1, bits), 2, 0)
    values: Bytes = first
    for bit in lower:
        values = (values << np.uint8(1)) | bit
    return values


def _pack_rows(rows: Bytes, bits: int) -> Bytes:
    """(N, W) values -> (N, ceil(W * bits / 8)) bytes, most significant bit first."""
    if bits == 1:  # many times faster than the general way below
        return np.packbits(rows, axis=1)
    count, width = rows.shape
    filled = np.zeros((count, -(-width * bits // 8), 8 // bits), np.uint8)
    filled.reshape(count, -1)[:, :width] = rows
    first, *others = np.moveaxis(filled, 2, 0)
    packed: Bytes = first
    for level in others:
        packed = (packed << np.uint8(bits)) | level
    return packed


def _header(width: int, height: int, depth: int, colour: int) -> bytes:
    return struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _deflate(rows: Bytes, kind: int, level: int = SMALLEST) -> bytes:
    """Rows (N, bytes), each behind the number of its filter, as a zlib stream."""
    marked = np.empty((len(rows), rows.shape[1] + 1), np.uint8)
    marked[:, 0], marked[:, 1:] = kind, rows
    return zlib.compress(marked.tobytes(), level)


def _smallest(rows: Bytes) -> bytes:
    """Deflated RGB rows under whichever of the filters none, sub and up gives the fewest bytes."""
    left, above = np.zeros_like(rows), np.zeros_like(rows)
    left[:, 3:], above[1:] = rows[:, :-3], rows[:-1]
    return min((_deflate(rows, 0), _deflate(rows - left, 1), _deflate(rows - above, 2)), key=len)


def _checked_chunks(content: bytes) -> tuple[bytes, bytes]:
    """IHDR, and all of IDAT, of a PNG that holds nothing but its picture."""
    if not content.startswith(SIGNATURE):
        raise DataError("the upload is not a PNG")
    at, kinds, header, data = len(SIGNATURE), [], b"", b""
    while at < len(content):
        if len(content) < at + 12:
            raise DataError("the upload's PNG is cut off")
        length, kind = struct.unpack_from(">I4s", content, at)
        body = content[at + 8 : at + 8 + length]
        checksum = content[at + 8 + length : at + 12 + length]
        if len(checksum) < 4 or struct.unpack(">I", checksum)[0] != zlib.crc32(kind + body):
            raise DataError("the upload's PNG is cut off or damaged")
        if kind not in CHUNKS:
            raise DataError(
                f"the upload's PNG carries a {kind.decode('latin-1')!r} chunk: only the picture may travel"
            )
        kinds.append(kind)
        header = body if kind == b"IHDR" else header
        data += body if kind == b"IDAT" else b""
        at += 12 + length
    if (
        kinds[:1] != [b"IHDR"]
        or kinds[-1:] != [b"IEND"]
        or kinds.count(b"IHDR") != 1
        or b"IEND" in kinds[:-1]
    ):
        raise DataError("the upload's PNG is incomplete")
    return header, data


def _inflate(data: bytes, count: int, size: int) -> Bytes:
    """(count, 1 + size) rows, each with its filter in front, from a stream that holds them and not a byte more."""
    inflate, expected = zlib.decompressobj(), count * (1 + size)
    try:
        found = inflate.decompress(data, expected + 1)
    except zlib.error:
        raise DataError("the upload's picture data is damaged") from None
    if len(found) != expected or not inflate.eof or inflate.unused_data:
        raise DataError("the upload's picture data is damaged: it does not end with the picture")
    return np.frombuffer(found, dtype=np.uint8).reshape(count, 1 + size)


def _decode_filtered(content: bytes, bits: int) -> Bytes:
    """Rows of samples as Pillow reads them: (rows, columns), or (rows, columns, 3) for 8 bits."""
    try:
        with Image.open(io.BytesIO(content), formats=("PNG",)) as image:
            values = np.asarray(image).astype(np.uint8)
    except Exception as error:  # Pillow's decoders raise nearly every type there is on damaged files
        raise DataError(f"the upload's picture data is damaged ({' '.join(str(error).split())})") from None
    # Pillow spreads 2 and 4 bits over 0..255.
    return values // np.uint8(255 // (2**bits - 1)) if bits in (2, 4) else values


def _describe(header: bytes) -> str:
    if len(header) != 13:
        return "an unreadable header"
    width, height, depth, colour = struct.unpack(">IIBB", header[:10])
    return f"{width} x {height}, {depth} bit, colour type {colour}"
