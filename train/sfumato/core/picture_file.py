"""What a picture file says of itself, read before anything is decoded: kind, size, orientation, and whether it is whole.

Browsers, phones and Pillow agree on sound files and not on odd ones. So Python, the page (`web/picture_file.js`) and the app
(`PictureFile.kt`) read a file's structure with the same rules, which stand in docs/contract.md, and refuse the same files for
the same reason. A decoder sees only what passed. Source: ITU T.81 (JPEG), PNG 3rd edition, GIF89a, RFC 9649 (WebP),
ISO 23008-12 (AVIF).

Usage: `file = inspect(Path("photo.jpg").read_bytes()); file.orientation`
"""

import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from mmap import mmap
from typing import NoReturn, TypeAlias

from sfumato.core.errors import DataError

Content: TypeAlias = bytes | mmap

MAX_BYTES = 160_000_000
"""Largest file: as much as `MAX_DECODED` pixels take uncompressed."""

MAX_PIXELS = 250_000_000
"""Largest picture that is opened, in pixels: a photo of 200 megapixels fits, as a JPEG decoded at a reduced scale."""

MAX_DECODED = 50_000_000
"""Most pixels that are really unpacked, of every kind. WebP needs 17 bytes a pixel on the way: this stays below 1 GB."""

MAX_SCANNED = 1_200_000_000
"""Pixels times scans of a JPEG in several scans, which are held together: ten scans of 120 megapixels. A hostile file
holds thousands of empty ones."""

MAX_SIDE = 32_767
"""Longest side, in pixels: what every browser's canvas takes."""

JPEG, PNG, GIF, BMP, WEBP, AVIF, HEIF, TIFF, PPM, DICOM = [
    "JPEG",
    "PNG",
    "GIF",
    "BMP",
    "WEBP",
    "AVIF",
    "HEIF",
    "TIFF",
    "PPM",
    "DICOM",
]


class PictureError(DataError):
    """A picture that is not read; `reason` is one of kind, size, form and damaged."""

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class PictureFile:
    """What stands in a file beside its pixels. Sizes are as stored, before any turn; 0 where only a decoder can say."""

    kind: str
    height: int = 0
    width: int = 0
    orientation: int = 1
    """EXIF's, 1 to 8; 1 for AVIF and HEIF, whose decoders turn by the container, and for TIFF, which Pillow turns."""
    frame: tuple[int, int, int, int] | None = None
    """Left, top, width and height of the first frame, where it is not the whole picture."""
    still: bool = False
    """A PNG whose own picture is no part of its animation."""


def inspect(content: Content) -> PictureFile:
    """Read a file's structure.

    Args:
        content: of the file, bytes or mapped.

    Raises:
        PictureError: no picture of a known kind (`kind`), too large (`size`), of a form that is not read (`form`), or
            incomplete or contradictory (`damaged`).
    """
    kind = kind_of(content)
    if kind is None:
        raise PictureError("not a picture of a known kind", "kind")
    if len(content) > MAX_BYTES:
        raise PictureError(f"{len(content)} bytes, more than the {MAX_BYTES} allowed", "size")
    readers = {JPEG: _jpeg, PNG: _png, GIF: _gif, BMP: _bmp, WEBP: _webp, AVIF: _avif, HEIF: _avif}
    try:
        return readers[kind](content) if kind in readers else PictureFile(kind)
    except (IndexError, struct.error):  # the file ends within a header
        cut()


def kind_of(content: Content) -> str | None:
    """By the first bytes; the name's ending means nothing."""
    head = bytes(content[:32])
    if head[:3] == b"\xff\xd8\xff":
        return JPEG
    if head[:8] == b"\x89PNG\r\n\x1a\n":
        return PNG
    if head[:6] in (b"GIF87a", b"GIF89a"):
        return GIF
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return WEBP
    if head[:2] == b"BM":
        return BMP
    if head[:4] in (b"II*\0", b"MM\0*"):
        return TIFF
    if (
        head[:1] == b"P"
        and head[1:2] in (b"1", b"2", b"3", b"4", b"5", b"6")
        and head[2:3] in (b" ", b"\t", b"\n", b"\r", b"#")
    ):
        return PPM
    if bytes(content[128:132]) == b"DICM":
        return DICOM
    return _brand(head) if head[4:8] == b"ftyp" else None


def _brand(head: bytes) -> str | None:
    brands = _brands(head)
    if b"avif" in brands or b"avis" in brands:
        return AVIF
    return HEIF if brands[0] in b"heic heix hevc heim heis mif1 msf1".split() else None


def _brands(head: bytes) -> list[bytes]:
    """Of an ISO file, its own first."""
    end = min(len(head), int.from_bytes(head[:4], "big"))
    return [head[8:12], *(head[at : at + 4] for at in range(16, end, 4))]


def check_size(height: int, width: int, most: int) -> None:
    """Refuse a picture of more than `most` pixels, or with a side of more than `MAX_SIDE`."""
    if height * width > most:
        raise PictureError(f"{width} x {height} pixels, more than the {most} allowed", "size")
    if max(height, width) > MAX_SIDE:
        raise PictureError(f"{width} x {height} pixels, a side of more than the {MAX_SIDE} allowed", "size")


def check_decoded(height: int, width: int) -> None:
    """Refuse a picture of a kind that is unpacked whole, if it has more than `MAX_DECODED` pixels."""
    check_size(height, width, MAX_PIXELS)
    if height * width > MAX_DECODED:
        raise PictureError(
            f"{width} x {height} pixels to decode, more than the {MAX_DECODED} allowed: make it smaller "
            "or save it as a JPEG, which is decoded at a reduced scale",
            "size",
        )


def cut() -> NoReturn:
    """The file ends too early."""
    raise PictureError("the end of the picture is missing: copy it again", "damaged")


def damaged(what: str) -> NoReturn:
    """The file contradicts itself."""
    raise PictureError(f"the picture is damaged ({what}): copy it again", "damaged")


def exif_orientation(block: bytes) -> int:
    """Of an EXIF block without its `Exif\\0\\0`: 1 to 8. 1 where it says none, is damaged, or says it in another type."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(block[:4])
    if order is None or len(block) < 10:
        return 1
    (start,) = struct.unpack_from(order + "I", block, 4)
    if start + 2 > len(block):
        return 1
    (count,) = struct.unpack_from(order + "H", block, start)
    for at in range(start + 2, min(start + 2 + 12 * count, len(block) - 11), 12):
        tag, kind, values, value = struct.unpack_from(order + "HHIH", block, at)
        if tag == 0x0112:
            return value if kind == 3 and values == 1 and 1 <= value <= 8 else 1
    return 1


# --- JPEG ---

_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
"""A marker other than a restart; FF 00 is a byte of data, and further FF before a marker fill."""
_FRAMES = {0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF}
_READ_FRAMES = (0xC0, 0xC1, 0xC2)


def segments(content: Content) -> Iterator[tuple[int, int, int]]:
    """Marker, start and end of every segment of a JPEG up to its end (D9, empty), as a decoder walks them: neither a thumbnail
    nor what follows the picture is one. Without that end the picture is cut."""
    at = 2
    while found := _MARKER.search(content, at):
        code, at = found.group()[-1], found.end()
        if code == 0xD9:
            yield code, at, at
            return
        if code in (0x01, 0xD8):  # markers without a length
            continue
        length = int.from_bytes(content[at : at + 2], "big")
        yield code, at + 2, at + length
        at += length


def _jpeg(content: Content) -> PictureFile:
    scans, ended, orientation = 0, False, None
    height = width = 0
    for code, start, end in segments(content):
        ended = code == 0xD9
        scans += code == 0xDA
        if code == 0xE1 and orientation is None and not scans and content[start : start + 6] == b"Exif\0\0":
            orientation = exif_orientation(bytes(content[start + 6 : end]))
        if code in _FRAMES and not width:
            depth, height, width, planes = struct.unpack(">BHHB", content[start : start + 6])
            if code not in _READ_FRAMES or depth != 8:
                raise PictureError(
                    "a JPEG of 12 bits, without loss or of arithmetic codes; save it as an ordinary one",
                    "form",
                )
            if not height or not width or planes not in (1, 3, 4):
                damaged("its size is missing")
            check_size(height, width, MAX_PIXELS)
    if scans > 1 and width * height * scans > MAX_SCANNED:
        raise PictureError(
            f"a JPEG of {width} x {height} pixels in {scans} scans takes too long to decode", "size"
        )
    if not ended or not scans or not width:
        cut()
    return PictureFile(JPEG, height, width, orientation or 1)


# --- PNG ---

_CRITICAL = (b"IHDR", b"PLTE", b"IDAT", b"IEND")
_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
_CLEAR = {0: 2, 2: 6}
"""Bytes of tRNS where it names one colour."""
_LENGTHS = {b"acTL": 8, b"fcTL": 26}
_PLANES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_PASSES = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
"""Of Adam7: first row, first column, step down, step across."""


def chunks(content: Content) -> Iterator[tuple[bytes, int, int]]:
    """Kind, start and end of every chunk of a PNG up to its last, IEND. Each one's checksum is compared."""
    at = 8
    while at + 12 <= len(content):
        length, kind = int.from_bytes(content[at : at + 4], "big"), bytes(content[at + 4 : at + 8])
        end = at + 8 + length
        if end + 4 > len(content):
            cut()
        with memoryview(content) as view, view[at + 4 : end] as part:
            found = zlib.crc32(part)
        if found.to_bytes(4, "big") != content[end : end + 4]:
            damaged(f"a checksum of {kind!r} is wrong")
        yield kind, at + 8, end
        if kind == b"IEND":
            return
        at = end + 4
    cut()


def _png(content: Content) -> PictureFile:
    header: tuple[int, ...] = ()
    orientation: int | None = None
    control: tuple[int, ...] = ()  # of the first frame, if it stands behind a picture that is not one
    animated = led = False
    seen: list[bytes] = []
    bodies: dict[bytes, list[tuple[int, int]]] = {b"IDAT": [], b"fdAT": []}
    frames = palette = 0
    for kind, start, end in chunks(content):
        if not header:
            header = _png_header(kind, content[start:end])
            height, width, depth, colour, laced = header
        elif kind == b"IHDR" or (kind[0] < 0x60 and kind not in _CRITICAL):
            damaged(f"a chunk {kind!r}")
        if kind in (b"PLTE", b"tRNS") and (kind in seen or b"IDAT" in seen):
            damaged(f"a chunk {kind!r}")
        if kind == b"IDAT" and kind in seen and seen[-1] != kind:
            damaged("its pixels are not together")
        if kind == b"PLTE":
            palette = (end - start) // 3
            if (end - start) % 3 or not 0 < palette <= 256 or colour in (0, 4):
                damaged("its palette")
        elif kind == b"tRNS":
            if (colour == 3 and not palette) or _CLEAR.get(colour, end - start) != end - start:
                damaged("its transparency")
        elif kind == b"eXIf" and orientation is None:
            orientation = exif_orientation(bytes(content[start:end]))
        elif end - start != _LENGTHS.get(kind, end - start):
            damaged(f"a chunk {kind!r}")
        elif kind == b"acTL" and b"IDAT" not in seen:
            animated = int.from_bytes(content[start : start + 4], "big") > 0
        elif kind == b"fcTL":
            led = led or b"IDAT" not in seen
            frames += b"IDAT" in seen
            if frames == 1 and not control:
                control = struct.unpack(">5I", content[start : start + 20])[1:]
        elif kind == b"IDAT" or (kind == b"fdAT" and frames == 1):
            bodies[kind].append((start, end))
        seen.append(kind)
    if b"IDAT" not in seen or (colour == 3 and not palette):
        damaged("it has no pixels, or no palette")
    still = animated and not led and bool(control)
    size = (height, width)
    if still:
        across, down, left, top = control
        if not across or not down or left + across > width or top + down > height:
            damaged("its first frame lies outside")
        size = (down, across)
    parts = [(start + 4 * still, end) for start, end in bodies[b"fdAT" if still else b"IDAT"]]
    _check_stream(content, parts, raw_bytes(*size, depth, colour, laced))
    frame = (control[2], control[3], control[0], control[1]) if still else None
    return PictureFile(PNG, height, width, orientation or 1, frame=frame, still=still)


def _png_header(kind: bytes, content: bytes) -> tuple[int, ...]:
    if kind != b"IHDR" or len(content) != 13:
        damaged("its header is missing")
    width, height, depth, colour, compression, method, laced = struct.unpack(">IIBBBBB", content)
    if not width or not height or depth not in _DEPTHS.get(colour, ()) or compression or method or laced > 1:
        damaged("its header")
    check_decoded(height, width)
    return height, width, depth, colour, laced


def raw_bytes(height: int, width: int, depth: int, colour: int, laced: int) -> int:
    """How many bytes a PNG's rows have, each with its filter."""
    parts = [
        (len(range(y, height, down)), len(range(x, width, across)))
        for y, x, down, across in (_PASSES if laced else ((0, 0, 1, 1),))
    ]
    return sum(
        rows * (1 + (columns * depth * _PLANES[colour] + 7) // 8) for rows, columns in parts if columns
    )


def _check_stream(content: Content, parts: list[tuple[int, int]], least: int) -> None:
    """Whether a PNG's stream has all rows, ends with its checksum, and nothing stands behind it."""
    stream, count = zlib.decompressobj(), 0
    try:
        for start, end in parts:
            given = bytes(content[start:end])
            if stream.eof and given:
                damaged("bytes behind its pixels")
            while given:
                count += len(stream.decompress(given, 1 << 20))
                given = stream.unconsumed_tail
    except zlib.error:
        damaged("its pixels")
    if not stream.eof or count < least:
        cut()
    if stream.unused_data:
        damaged("bytes behind its pixels")


# --- GIF, BMP, WebP, AVIF ---


def _gif(content: Content) -> PictureFile:
    width, height, flags = struct.unpack("<HHB", content[6:11])
    if not width or not height:
        damaged("its size is missing")
    check_decoded(height, width)
    at = 13 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
    while content[at] == 0x21:
        at = _sub_blocks(content, at + 2)
    if content[at] != 0x2C:
        damaged("it has no picture")
    left, top, across, down, form = struct.unpack("<HHHHB", content[at + 1 : at + 10])
    if not across or not down or left + across > width or top + down > height:
        damaged("its first frame lies outside")
    if not (flags | form) & 0x80:
        damaged("it has no palette")
    at += 10 + (3 << (form & 7) + 1 if form & 0x80 else 0)
    if not 2 <= content[at] <= 8:
        damaged("its codes")
    _sub_blocks(content, at + 1)
    whole = (left, top, across, down) == (0, 0, width, height)
    return PictureFile(GIF, height, width, frame=None if whole else (left, top, across, down))


def _sub_blocks(content: Content, at: int) -> int:
    """Behind the empty one that ends them."""
    while content[at]:
        at += 1 + content[at]
    return at + 1


_BMP_HEADERS = (12, 40, 52, 56, 64, 108, 124)
_BMP_FORMS = {0: (1, 4, 8, 24, 32), 3: (32,)}
"""Bits a pixel that are read, without compression and with masks."""


def _bmp(content: Content) -> PictureFile:
    start, header = struct.unpack("<II", content[10:18])
    form = 0
    if header == 12:
        width, height, planes, depth = struct.unpack("<HHHH", content[18:26])
    elif header in _BMP_HEADERS:
        width, height, planes, depth, form = struct.unpack("<iiHHI", content[18:34])
        height = abs(height)
    else:
        damaged("its header")
    if width <= 0 or not height or planes != 1:
        damaged("its header")
    if depth not in _BMP_FORMS.get(form, ()):
        raise PictureError(f"a BMP of {depth} bits in form {form}; save it as a PNG", "form")
    check_decoded(height, width)
    if start + (width * depth + 31) // 32 * 4 * height > len(content):
        cut()
    return PictureFile(BMP, height, width)


def _webp(content: Content) -> PictureFile:
    end = 8 + int.from_bytes(content[4:8], "little")
    if end > len(content):
        cut()
    height = width = 0
    orientation: int | None = None
    at, pictures = 12, 0
    while at + 8 <= end:
        kind, length = content[at : at + 4], int.from_bytes(content[at + 4 : at + 8], "little")
        at += 8
        if at + length > end:
            cut()
        if at == 20 and kind == b"VP8X" and length >= 10:
            width, height = (1 + int.from_bytes(content[at + i : at + i + 3], "little") for i in (4, 7))
        elif at == 20 and kind == b"VP8 " and length >= 10:
            width, height = (value & 0x3FFF for value in struct.unpack("<HH", content[at + 6 : at + 10]))
        elif at == 20 and kind == b"VP8L" and length >= 5:
            bits = int.from_bytes(content[at + 1 : at + 5], "little")
            width, height = 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
        elif kind == b"EXIF" and orientation is None:
            orientation = exif_orientation(bytes(content[at : at + length]))
        pictures += kind in (b"VP8 ", b"VP8L", b"ANMF")
        at += length + length % 2
    if not width or not height or not pictures:
        damaged("it has no picture")
    check_decoded(height, width)
    return PictureFile(WEBP, height, width, orientation or 1)


def _avif(content: Content) -> PictureFile:
    kind = kind_of(content) or AVIF
    height = width = 0
    plain = b"avis" not in _brands(bytes(content[:32]))
    for name, start, end in _boxes(content, 0, len(content), ()):
        plain = plain and not (
            kind == AVIF and _odd_property(name, bytes(content[start : min(end, start + 64)]))
        )
        if name == b"ispe" and end - start >= 12:
            across, down = struct.unpack(">II", content[start + 4 : start + 12])
            check_decoded(down, across)  # of tiles and thumbnails too: the largest is the picture
            if across * down > width * height:
                width, height = across, down
    if not plain:  # decoders differ by up to 20 levels
        raise PictureError(
            "an AVIF that moves, is partly clear or has more than 8 bits; save it as a PNG", "form"
        )
    return PictureFile(kind, height, width)


def _odd_property(name: bytes, content: bytes) -> bool:
    """An opacity, or more than 8 bits."""
    return (name == b"auxC" and b":alpha" in content) or (name == b"av1C" and content[2] & 0x40 > 0)


_INSIDE = {(): b"meta", (b"meta",): b"iprp", (b"meta", b"iprp"): b"ipco"}
"""The box to enter within these ones."""


def _boxes(
    content: Content, at: int, end: int, within: tuple[bytes, ...]
) -> Iterator[tuple[bytes, int, int]]:
    """Kind, start and end of the properties of an ISO file's pictures."""
    while at + 8 <= end:
        length, kind, start = (
            int.from_bytes(content[at : at + 4], "big"),
            bytes(content[at + 4 : at + 8]),
            at + 8,
        )
        if length == 1:
            length, start = int.from_bytes(content[start : start + 8], "big"), at + 16
        stop = end if length == 0 else at + length
        if stop < start or stop > end:
            cut()
        if within not in _INSIDE:
            yield kind, start, stop
        elif kind == _INSIDE[within]:
            yield from _boxes(content, start + 4 * (kind == b"meta"), stop, (*within, kind))
        at = stop
