"""Files of every container with something hidden in each place that a container has beside its pixels; all are made here.

    for case in hidden():
        assert upload(case.content) == upload(case.bare)

Every place holds a marker of its own, `PRIVATE-0001` and so on, or pixels that no viewer shows. The picture is the same.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms
from tests.pictures.corpus import (
    UPRIGHT,
    XMP,
    Case,
    Pixels,
    apng,
    app1,
    bmp,
    drawing,
    encoded,
    exif,
    gif,
    png,
    png_bytes,
    png_chunks,
    riff,
    riff_chunks,
    segment,
    tiff,
    with_segments,
)

from sfumato.core.image_io import known_formats

LOSSY = ("JPEG", "AVIF", "HEIC")
GREY = ("DICOM",)
"""What shows the picture in grey."""
SIGN = b"PRIVATE-"
"""What every marker begins with."""
ORIENTATION = "orientation in EXIF"
"""The one place that acts."""


@dataclass(frozen=True, eq=False)
class Hidden:
    """A file with something in one place, and the same without."""

    container: str
    """As the table of docs/hardening.md names it."""
    place: str
    content: bytes
    bare: bytes
    marker: bytes | None
    """What must be nowhere; None: what is hidden are pixels."""

    @property
    def name(self) -> str:
        """Of a file."""
        return f"{self.container} {self.place}".replace(" ", "-").replace("/", "-").replace(",", "")


class Markers:
    """Numbers them."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> bytes:
        """The next, which no other place has."""
        self.count += 1
        return SIGN + b"%04d" % self.count


@cache
def hidden() -> list[Hidden]:
    """All of them."""
    next_one = Markers()
    groups = (in_jpeg, in_png, in_webp, in_gif, in_tiff, in_bmp, in_ppm, in_avif, in_heic, in_dicom)
    return [case for group in groups for case in group(next_one)]


def corpus_cases() -> list[Case]:
    """The same files as cases of the corpus: read as the drawn picture, where the kind loses nothing."""
    found = []
    for one in hidden():
        expected: Pixels | None = None if one.container in (*LOSSY, *GREY) else UPRIGHT
        if one.place == ORIENTATION and expected is not None:
            expected = UPRIGHT[::-1, ::-1]
        if one.container == "GIF":
            expected = PALETTE[INDICES]
        if one.place == TRANSPARENT:
            expected = HOLES if one.container != "GIF" else np.where(CLEAR[..., None], 255, PALETTE[INDICES])
        kind = {"WebP": "WEBP", "HEIC": "HEIF"}.get(one.container, one.container)
        found.append(Case("metadata", one.name, kind, one.content, expected))
    return found


# --- what can be hidden in several containers ---

TRANSPARENT = "pixels below full transparency"
HEIGHT, WIDTH = UPRIGHT.shape[:2]
SIZE = (HEIGHT, WIDTH)
CLEAR = np.zeros(SIZE, dtype=bool)
CLEAR[8:20, 10:30] = True
HOLES: Pixels = np.where(CLEAR[..., None], 255, UPRIGHT).astype(np.uint8)


def below(secret: bool) -> Pixels:
    """(H, W, 4): a hole, and under it black or another picture."""
    under = drawing(HEIGHT, WIDTH, seed=9) if secret else np.zeros_like(UPRIGHT)
    colours = np.where(CLEAR[..., None], under, UPRIGHT)
    both = np.concatenate([colours, np.where(CLEAR, 0, 255)[..., None]], axis=2)
    return np.asarray(both, dtype=np.uint8)


def other(shape: tuple[int, ...] = UPRIGHT.shape) -> Pixels:
    """A picture that must not be seen."""
    return drawing(shape[0], shape[1], seed=77)


def profile(marker: bytes) -> bytes:
    """An ICC profile whose copyright holds the marker."""
    made = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    at = made.index(b"cprt", 128)
    start, text = len(made), b"text\0\0\0\0" + marker + b"\0"
    made[at + 4 : at + 12] = struct.pack(">II", start, len(text))
    made += text
    made[:4] = struct.pack(">I", len(made))
    return bytes(made)


def xmp(marker: bytes) -> bytes:
    """A packet with the marker, and an orientation that must not act."""
    return XMP.replace(b"<x:xmpmeta>", b"<x:xmpmeta><dc:creator>" + marker + b"</dc:creator>")


def iptc(marker: bytes) -> bytes:
    """Photoshop's resource block with an IPTC by-line."""
    line = b"\x1c\x02\x50" + struct.pack(">H", len(marker)) + marker
    block = b"8BIM\x04\x04\0\0" + struct.pack(">I", len(line)) + line
    return block + bytes(len(line) % 2)


DIRECTORIES = {
    "EXIF, first directory": 0x013B,  # Artist
    "EXIF, second directory": 0x9286,  # UserComment
    "EXIF, GPS": 0x001D,  # GPSDateStamp
    "EXIF, interoperability": 0x1000,
    "EXIF, MakerNote": 0x927C,
    "EXIF, thumbnail": 0x0201,
}


def exif_with(place: str, marker: bytes) -> bytes:
    """A little-endian EXIF block with the marker in one of its directories; the thumbnail is a JPEG of another picture."""
    ascii_, undefined, long_, short = 2, 7, 4, 3
    thumbnail = with_segments(encoded(other((8, 8)), "JPEG"), segment(0xFE, marker))
    tag = DIRECTORIES[place]
    value = (undefined if tag in (0x9286, 0x927C) else ascii_, len(marker) + 1, marker + b"\0")
    inside = {
        0x8769: {0x9286, 0x927C},
        0x8825: {0x001D},
        0xA005: {0x1000},
    }
    out = bytearray(b"II*\0" + struct.pack("<I", 8))

    def directory(entries: dict[int, tuple[int, int, bytes]], after: int = 0) -> int:
        """Append one; where it starts."""
        start = len(out)
        body, tail = struct.pack("<H", len(entries)), b""
        end = start + 2 + 12 * len(entries) + 4
        for number, (kind, count, content) in sorted(entries.items()):
            if len(content) > 4:
                body += struct.pack("<HHII", number, kind, count, end + len(tail))
                tail += content + bytes(len(content) % 2)
            else:
                body += struct.pack("<HHI", number, kind, count) + content.ljust(4, b"\0")
        out.extend(body + struct.pack("<I", after) + tail)
        return start

    first = {0x0128: (short, 1, struct.pack("<H", 2))}  # a unit: writers rewrite blocks that turn the picture
    # The first directory must stand at 8, and its entries have four bytes: the others are appended and their places filled in.
    pointer = next((key for key, tags in inside.items() if tag in tags), None)
    if tag == 0x013B:
        first[tag] = value
    if pointer is not None:
        first[0x8769 if pointer == 0xA005 else pointer] = (long_, 1, bytes(4))
    directory(first)
    if pointer is not None:
        own = directory({tag: value})
        if pointer == 0xA005:
            own = directory({pointer: (long_, 1, struct.pack("<I", own))})
        key = 0x8769 if pointer == 0xA005 else pointer
        at = next(at for at in range(10, len(out), 12) if struct.unpack_from("<H", out, at)[0] == key)
        struct.pack_into("<I", out, at + 8, own)
    if tag == 0x0201:
        at = 10 + 12 * len(first)
        start = len(out)
        struct.pack_into("<I", out, at, start)
        end = start + 2 + 2 * 12 + 4
        directory(
            {tag: (long_, 1, struct.pack("<I", end)), 0x0202: (long_, 1, struct.pack("<I", len(thumbnail)))}
        )
        out.extend(thumbnail)
    return bytes(out)


# --- DICOM ---

Element = tuple[int, int, str, bytes]
"""Group, number, VR and value."""


def element(group: int, number: int, kind: str, value: bytes) -> bytes:
    """Little-endian, of explicit VR."""
    value += (b"\0" if kind in ("OB", "UI", "UN") else b" ") * (len(value) % 2)
    long_form = kind in ("OB", "OW", "SQ", "UN", "UT")
    length = bytes(2) + struct.pack("<I", len(value)) if long_form else struct.pack("<H", len(value))
    return struct.pack("<HH", group, number) + kind.encode() + length + value


def short(value: int) -> bytes:
    """Of VR US."""
    return struct.pack("<H", value)


def dicom(
    values: NDArray[Any], *more: Element, stored: int = 12, signed: bool = False, kind: bytes = b"MONOCHROME2",
    preamble: bytes = bytes(128), syntax: bytes = b"1.2.840.10008.1.2.1", behind: bytes = b"", without: tuple[int, ...] = (),
) -> bytes:  # fmt: skip
    """A file of values (H, W) in 16 bits; `without` are numbers of elements of group 0028 to leave out."""
    height, width = values.shape
    picture: dict[int, tuple[str, bytes]] = {
        0x0002: ("US", short(1)), 0x0004: ("CS", kind), 0x0010: ("US", short(height)), 0x0011: ("US", short(width)),
        0x0100: ("US", short(16)), 0x0101: ("US", short(stored)), 0x0102: ("US", short(stored - 1)),
        0x0103: ("US", short(signed)),
    }  # fmt: skip
    given = {(group, number) for group, number, _, _ in more}
    elements = [*more, (0x7FE0, 0x0010, "OW", values.astype("<i2" if signed else "<u2").tobytes())]
    elements += [
        (0x0028, n, *rest) for n, rest in picture.items() if (0x0028, n) not in given and n not in without
    ]
    meta = element(0x0002, 0x0010, "UI", syntax)
    head = element(0x0002, 0x0000, "UL", struct.pack("<I", len(meta))) + meta
    return preamble + b"DICM" + head + b"".join(element(*one) for one in sorted(elements)) + behind


DEEP: NDArray[np.uint16] = (UPRIGHT.astype(np.uint16).sum(axis=2) * 5).astype(np.uint16)
"""The drawing in 12 bits."""


# --- the containers ---


def in_jpeg(marker: Markers) -> Iterator[Hidden]:
    """Segments before the picture, and what follows it."""
    plain = encoded(UPRIGHT, "JPEG", quality=92)

    def case(place: str, content: bytes, mark: bytes | None) -> Hidden:
        return Hidden("JPEG", place, content, plain, mark)

    for place in DIRECTORIES:
        mark = marker()
        yield case(place, with_segments(plain, app1(exif_with(place, mark))), mark)
    one = marker()
    yield case("XMP", with_segments(plain, segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + xmp(one))), one)
    one = marker()
    extended = b"http://ns.adobe.com/xmp/extension/\0" + b"0" * 32 + struct.pack(">II", len(one), 0) + one
    yield case("extended XMP", with_segments(plain, segment(0xE1, extended)), one)
    one = marker()
    yield case("IPTC, 8BIM", with_segments(plain, segment(0xED, b"Photoshop 3.0\0" + iptc(one))), one)
    one = marker()
    wide = b"ICC_PROFILE\0\x01\x01" + profile(one)
    yield case("ICC profile", with_segments(plain, segment(0xE2, wide)), one)
    one = marker()
    yield case("comment", with_segments(plain, segment(0xFE, one)), one)
    one = marker()
    jfxx = b"JFXX\0\x10" + with_segments(encoded(other((8, 8)), "JPEG"), segment(0xFE, one))
    yield case("thumbnail of the container", plain[:20] + segment(0xE0, jfxx) + plain[20:], one)
    for code in (0xE3, 0xE4, 0xE5, 0xE6, 0xE7, 0xE8, 0xE9, 0xEA, 0xEB, 0xEC, 0xEF):
        one = marker()
        place = "private tag or chunk" if code == 0xE4 else f"segment {code:02X}"
        yield case(place, with_segments(plain, segment(code, one)), one)
    one = marker()
    at = plain.index(b"\xff\xda")
    yield case("comment before the scan", plain[:at] + segment(0xFE, one) + plain[at:], one)
    one = marker()
    video = b"\0\0\0\x18ftypmp42" + one + np.random.default_rng(3).bytes(5_000)
    yield case("video behind the picture", plain + video, one)
    one = marker()
    yield case("bytes behind the picture", plain + b"SEFH" + one + b"SEFT", one)
    one = marker()
    second = with_segments(encoded(other(), "JPEG"), segment(0xFE, one))
    yield case("further frame or page", plain + second, one)
    yield case(ORIENTATION, with_segments(plain, app1(exif(3))), None)


def in_png(marker: Markers) -> Iterator[Hidden]:
    """Chunks before and behind the pixels, and what follows the last."""
    plain, chunks = png(UPRIGHT, 2), png_chunks(UPRIGHT, 2)

    def case(place: str, content: bytes, mark: bytes | None, bare: bytes = plain) -> Hidden:
        return Hidden("PNG", place, content, bare, mark)

    def chunk(place: str, kind: bytes, content: bytes, mark: bytes) -> Hidden:
        return case(place, png(UPRIGHT, 2, 8, (kind, content)), mark)

    for place in DIRECTORIES:
        one = marker()
        yield chunk(place, b"eXIf", exif_with(place, one), one)
    one = marker()
    yield chunk("XMP", b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp(one), one)
    one = marker()
    raw = b"Raw profile type iptc\0\0" + zlib.compress(
        b"\niptc\n%8d\n" % len(iptc(one)) + iptc(one).hex().encode()
    )
    yield chunk("IPTC, 8BIM", b"zTXt", raw, one)
    one = marker()
    yield chunk("ICC profile", b"iCCP", one + b"\0\0" + zlib.compress(profile(one)), one)
    one = marker()
    yield chunk("comment", b"tEXt", b"Comment\0" + one, one)
    one = marker()
    yield chunk("compressed comment", b"zTXt", b"Comment\0\0" + zlib.compress(one), one)
    one = marker()
    text = b"Author\0\x01\0en\0Author\0" + zlib.compress(one)
    yield chunk("comment in several languages", b"iTXt", text, one)
    for kind in (b"sPLT", b"caBX", b"tIME", b"zzZz"):
        one = marker()
        content = one + b"\0\x08" + bytes(6) if kind == b"sPLT" else one
        place = "private tag or chunk" if kind == b"zzZz" else f"chunk {kind.decode()}"
        yield chunk(place, kind, content, one)
    one = marker()
    yield case(
        "comment behind the pixels", png_bytes([*chunks[:-1], (b"tEXt", b"a\0" + one), chunks[-1]]), one
    )
    one = marker()
    yield case("bytes behind the picture", plain + one, one)
    still = apng(None, [(UPRIGHT, 0, 0)], SIZE)
    moving = apng(None, [(UPRIGHT, 0, 0), (other(), 0, 0)], SIZE)
    yield case("further frame or page", moving, None, still)
    yield case(TRANSPARENT, png(below(True), 6), None, png(below(False), 6))
    yield case(ORIENTATION, png(UPRIGHT, 2, 8, (b"eXIf", exif(3))), None)


def in_webp(marker: Markers) -> Iterator[Hidden]:
    """Chunks of the extended form, and what follows RIFF's end."""
    plain = encoded(UPRIGHT, "WEBP", lossless=True)

    def with_chunk(flags: int, kind: bytes, content: bytes, *, first: bool = False) -> bytes:
        head = bytes([flags, 0, 0, 0]) + struct.pack("<I", WIDTH - 1)[:3] + struct.pack("<I", HEIGHT - 1)[:3]
        picture, added = list(riff_chunks(plain)), [(kind, content)]
        return riff([(b"VP8X", head), *(added + picture if first else picture + added)])

    def case(place: str, content: bytes, mark: bytes | None, bare: bytes = plain) -> Hidden:
        return Hidden("WebP", place, content, bare, mark)

    for place in DIRECTORIES:
        one = marker()
        yield case(place, with_chunk(8, b"EXIF", exif_with(place, one)), one)
    one = marker()
    yield case("XMP", with_chunk(4, b"XMP ", xmp(one)), one)
    one = marker()
    yield case("ICC profile", with_chunk(32, b"ICCP", profile(one), first=True), one)
    one = marker()
    yield case("private tag or chunk", with_chunk(0, b"zzZz", one), one)
    one = marker()
    yield case("bytes behind the picture", plain + one, one)
    frames = [Image.fromarray(other())]
    moving = encoded(UPRIGHT, "WEBP", lossless=True, save_all=True, append_images=frames)
    yield case("further frame or page", moving, None)
    clear = {"lossless": True, "exact": True}
    yield case(
        TRANSPARENT, encoded(below(True), "WEBP", **clear), None, encoded(below(False), "WEBP", **clear)
    )
    yield case(ORIENTATION, with_chunk(8, b"EXIF", exif(3)), None)


_RNG = np.random.default_rng(5)
INDICES = _RNG.integers(0, 15, UPRIGHT.shape[:2])
PALETTE: Pixels = drawing(1, 16, 3)[0]
"""The last colour is never used."""


def in_gif(marker: Markers) -> Iterator[Hidden]:
    """Extensions before the frame, further frames, and what follows the end."""
    size = SIZE
    plain = gif(size, [(INDICES, 0, 0)], PALETTE)
    start = 13 + 3 * 16  # behind the palette

    def case(place: str, content: bytes, mark: bytes | None, bare: bytes = plain) -> Hidden:
        return Hidden("GIF", place, content, bare, mark)

    def extension(kind: int, *blocks: bytes) -> bytes:
        body = b"".join(bytes([len(block)]) + block for block in blocks)
        return plain[:start] + b"\x21" + bytes([kind]) + body + b"\0" + plain[start:]

    one = marker()
    yield case("comment", extension(0xFE, one), one)
    one = marker()
    packet = xmp(one)
    parts = [packet[at : at + 255] for at in range(0, len(packet), 255)]
    yield case("XMP", extension(0xFF, b"XMP DataXMP", *parts), one)
    one = marker()
    yield case("ICC profile", extension(0xFF, b"ICCRGBG1012", one), one)
    one = marker()
    yield case("private tag or chunk", extension(0xFF, b"PRIVATE1000", one), one)
    one = marker()
    yield case("bytes behind the picture", plain + one, one)
    one = marker()
    colours = PALETTE.copy()
    colours[15] = np.frombuffer(one[-3:], np.uint8)
    yield case("colour that no pixel has", gif(size, [(INDICES, 0, 0)], colours), None)
    yield case("further frame or page", gif(size, [(INDICES, 0, 0), (INDICES[::-1], 0, 0)], PALETTE), None)
    clear = np.where(CLEAR, 15, INDICES)
    yield case(
        TRANSPARENT,
        gif(size, [(clear, 0, 0)], colours, clear=15),
        None,
        gif(size, [(clear, 0, 0)], PALETTE, clear=15),
    )


def in_tiff(marker: Markers) -> Iterator[Hidden]:
    """Tags, pages, and bytes that no tag points to."""
    plain = encoded(UPRIGHT, "TIFF")

    def case(place: str, content: bytes, mark: bytes | None, bare: bytes = plain) -> Hidden:
        return Hidden("TIFF", place, content, bare, mark)

    def tags(**more: Any) -> bytes:
        return encoded(UPRIGHT, "TIFF", **more)

    def sub_directory(pointer: int, tag: int, value: bytes) -> bytes:
        made = tiff(UPRIGHT, "<", 2, (pointer, 0))
        entry = struct.pack("<HI", 4, 1) + struct.pack(
            "<I", len(made)
        )  # a LONG: where the directory is appended
        at = made.index(struct.pack("<HHI", pointer, 3, 1))
        body = struct.pack("<HHHII", 1, tag, 7, len(value), len(made) + 18) + bytes(4) + value
        return made[: at + 2] + entry + made[at + 12 :] + body

    one = marker()
    yield case("EXIF, first directory", tags(tiffinfo={315: one.decode()}), one)
    for place, pointer in (("second directory", 0x8769), ("MakerNote", 0x8769), ("GPS", 0x8825)):
        one = marker()
        yield case(f"EXIF, {place}", sub_directory(pointer, DIRECTORIES[f"EXIF, {place}"], one), one)
    one = marker()
    yield case("XMP", tags(tiffinfo={700: xmp(one)}), one)
    one = marker()
    yield case("IPTC, 8BIM", tags(tiffinfo={34377: iptc(one)}), one)
    one = marker()
    yield case("IPTC, own tag", tags(tiffinfo={33723: iptc(one)}), one)
    one = marker()
    yield case("ICC profile", tags(icc_profile=profile(one)), one)
    one = marker()
    yield case("comment", tags(tiffinfo={270: one.decode()}), one)
    one = marker()
    yield case("private tag or chunk", tags(tiffinfo={65000: one}), one)
    one = marker()
    yield case("bytes behind the picture", plain + one, one)
    pages = [Image.fromarray(other())]
    yield case("further frame or page", tags(save_all=True, append_images=pages), None)
    yield case(TRANSPARENT, encoded(below(True), "TIFF"), None, encoded(below(False), "TIFF"))
    yield case(ORIENTATION, tags(tiffinfo={274: 3}), None)


def in_bmp(marker: Markers) -> Iterator[Hidden]:
    """Between header and pixels, at the ends of rows, in a profile, and behind the picture."""
    rows = [row[:, ::-1].tobytes() for row in UPRIGHT]
    width = UPRIGHT.shape[1]
    plain = bmp(rows, width, 24)

    def case(place: str, content: bytes, mark: bytes | None, bare: bytes = plain) -> Hidden:
        return Hidden("BMP", place, content, bare, mark)

    one = marker()
    moved = plain[:10] + struct.pack("<I", 54 + len(one)) + plain[14:54] + one + plain[54:]
    yield case("private tag or chunk", moved, one)
    one = marker()
    latest = bytearray(bmp(rows, width, 24, header=124))
    wide = profile(one)
    latest[14 + 56 : 14 + 60] = b"DEBM"  # an embedded profile: where it lies and how long it is stand at 112
    latest[14 + 112 : 14 + 120] = struct.pack("<II", len(latest) - 14, len(wide))
    yield case("ICC profile", bytes(latest) + wide, one)
    one = marker()
    yield case("bytes behind the picture", plain + one, one)
    four = [
        np.concatenate([row, np.full((width, 1), fill, np.uint8)], axis=1)
        for fill in (0, 80)
        for row in UPRIGHT[..., ::-1]
    ]
    empty, filled = ([row.tobytes() for row in part] for part in (four[: len(rows)], four[len(rows) :]))
    yield case("bytes between pixels", bmp(filled, width, 32), None, bmp(empty, width, 32))


def in_ppm(marker: Markers) -> Iterator[Hidden]:
    """Comments, and what follows the pixels."""
    size, body = b"%d %d\n" % UPRIGHT.shape[1::-1], UPRIGHT.tobytes()
    plain = b"P6\n" + size + b"255\n" + body
    one = marker()
    yield Hidden("PPM", "comment", b"P6\n# " + one + b"\n" + size + b"255\n" + body, plain, one)
    one = marker()
    yield Hidden("PPM", "bytes behind the picture", plain + one, plain, one)


def in_avif(marker: Markers) -> Iterator[Hidden]:
    """What is hidden in items and boxes."""
    return _in_boxes("AVIF", "AVIF", marker)


def in_heic(marker: Markers) -> Iterator[Hidden]:
    """The same, written by pillow-heif."""
    known_formats()  # Pillow learns to write it, too
    return _in_boxes("HEIC", "HEIF", marker)


def _in_boxes(container: str, form: str, marker: Markers) -> Iterator[Hidden]:
    """Items beside the picture, boxes that nobody knows, and what follows; `form` is Pillow's name."""
    options: dict[str, Any] = {"quality": 85}
    plain = encoded(UPRIGHT, form, **options)

    def case(place: str, content: bytes, mark: bytes | None, bare: bytes = plain) -> Hidden:
        return Hidden(container, place, content, bare, mark)

    for place in DIRECTORIES:
        one = marker()
        yield case(place, encoded(UPRIGHT, form, exif=exif_with(place, one), **options), one)
    one = marker()
    # Written under another name: pillow-heif would turn the picture itself by what it says.
    made = encoded(UPRIGHT, form, xmp=xmp(one).replace(b"Orientation", b"Orientatiom"), **options)
    yield case("XMP", made.replace(b"Orientatiom", b"Orientation"), one)
    one = marker()
    yield case("ICC profile", encoded(UPRIGHT, form, icc_profile=profile(one), **options), one)
    one = marker()
    box = struct.pack(">I4s", 8 + 16 + len(one), b"uuid") + bytes(range(16)) + one
    yield case("private tag or chunk", plain + box, one)
    one = marker()
    skipped = struct.pack(">I4s", 8 + len(one), b"free") + one
    yield case("bytes behind the picture", plain + skipped, one)


def in_dicom(marker: Markers) -> Iterator[Hidden]:
    """Tags of patient and study, private ones, sequences, overlays, and bits and bytes beside the pixels."""
    plain = dicom(DEEP, (0x0028, 0x0301, "CS", b"NO"))

    def case(
        place: str, mark: bytes | None, *more: Element, values: NDArray[Any] = DEEP, **options: Any
    ) -> Hidden:
        return Hidden(
            "DICOM", place, dicom(values, (0x0028, 0x0301, "CS", b"NO"), *more, **options), plain, mark
        )

    one = marker()
    yield case("patient and study", one, (0x0010, 0x0010, "PN", one), (0x0010, 0x0030, "DA", b"19700101"))
    for place, group, number, kind in (
        ("tag of the study", 0x0008, 0x1030, "LO"),
        ("tag of the physician", 0x0008, 0x0090, "PN"),
        ("tag of the device", 0x0018, 0x1000, "LO"),
        ("tag of the instance", 0x0008, 0x0018, "UI"),
    ):
        one = marker()
        yield case(place, one, (group, number, kind, one))
    one = marker()
    yield case("comment", one, (0x0020, 0x4000, "LT", one))
    one = marker()
    yield case("private tag or chunk", one, (0x0009, 0x0010, "LO", b"OWN"), (0x0009, 0x1001, "UN", one))
    one = marker()
    yield case("ICC profile", one, (0x0028, 0x2000, "OB", profile(one)))
    one = marker()
    inner = element(0x0008, 0x0104, "LO", one)
    item = struct.pack("<HHI", 0xFFFE, 0xE000, len(inner)) + inner
    yield case("thumbnail of the container", one, (0x0088, 0x0200, "SQ", item))
    one = marker()
    yield case("bytes before the picture", one, preamble=one.ljust(128, b"\0"))
    one = marker()
    yield case("bytes behind the picture", one, (0xFFFC, 0xFFFC, "OB", one))
    overlay = (0x6000, 0x3000, "OW", np.packbits(other()[..., 0] > 128).tobytes())
    one = marker()
    yield case("overlay", one, overlay, (0x6000, 0x1500, "LO", one))
    high = DEEP | ((other()[..., 0] > 128).astype(np.uint16) << 12)
    yield case("values that no pixel shows", None, values=high)
