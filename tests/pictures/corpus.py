"""Picture files of every kind that readers disagree on, drawn from a seed: no file is kept, and nobody is shown.

    for case in cases():
        compare(read_rgb(case.content), case.expected)

A case says what must come out: the upright pixels of a lossless file, the reason of a refusal, or nothing, where the kind loses
something and Python's own decoder is the measure. The bytes are put together here wherever Pillow has no option for them.
"""

import io
import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

Pixels: TypeAlias = NDArray[np.uint8]
Chunk: TypeAlias = tuple[bytes, bytes]
Options: TypeAlias = dict[str, dict[str, Any]]

SEED = 20
PYTHON_ONLY = ("TIFF", "PPM", "DICOM")
"""What no browser and no phone reads: data sets may be of these, uploads made elsewhere may not."""
NO_BROWSER = (*PYTHON_ONLY, "HEIF", "HEIC")
"""What the browser of the tests does not read; phones read HEIC."""


@dataclass(frozen=True, eq=False)
class Case:
    """One file."""

    group: str
    """What it is about."""
    name: str
    container: str
    """As Pillow names it."""
    content: bytes
    expected: Pixels | str | None = None
    """Upright (H, W, 3), or the reason of the refusal; None: what Python reads, for kinds that lose something."""


def drawing(height: int, width: int, seed: int = SEED) -> Pixels:
    """A disc and a bar before a gradient with some grain: no two corners are alike, so a wrong turn shows."""
    y, x = np.mgrid[0:height, 0:width]
    rng = np.random.default_rng(seed)
    planes = [255 * x / width, 255 * y / height, 127 + 90 * np.sin(7 * x / width + 5 * y / height)]
    image = np.stack(planes, axis=2) + rng.normal(0, 4, (height, width, 3))
    image[(y - height / 3) ** 2 + (x - width / 3) ** 2 < (min(height, width) / 5) ** 2] = (220, 180, 30)
    image[(2 * height // 3 <= y) & (y < 3 * height // 4) & (x > width // 2)] = (10, 40, 160)
    return np.asarray(np.clip(image, 0, 255), dtype=np.uint8)


def encoded(picture: Pixels | Image.Image, kind: str, **options: Any) -> bytes:
    """By Pillow."""
    stream = io.BytesIO()
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    image.save(stream, kind, **options)
    return stream.getvalue()


def over_white(colour: NDArray[Any], alpha: NDArray[Any]) -> Pixels:
    """The slow way: real numbers, rounded once."""
    share = alpha[..., None].astype(float) / 255
    return np.asarray(np.floor(colour * share + 255 * (1 - share) + 0.5).astype(np.uint8))


# --- EXIF ---


def exif(orientation: int, order: str = "<", kind: int = 3, *, first: bool = True, offset: int = 8) -> bytes:
    """A TIFF directory with the orientation, as SHORT (3) or another type; `first` False: in the thumbnail's directory."""
    value = {1: "B3x", 3: "H2x", 4: "I", 8: "h2x"}[kind]
    entry = struct.pack(order + "HHI" + value, 0x0112, kind, 1, orientation)
    other = struct.pack(order + "HHIH2x", 0x0128, 3, 1, 2)
    magic = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", offset) + bytes(offset - 8)
    if first:
        return magic + struct.pack(order + "H", 2) + entry + other + bytes(4)
    after = offset + 2 + 12 + 4
    return (
        magic
        + struct.pack(order + "H", 1) + other + struct.pack(order + "I", after)
        + struct.pack(order + "H", 1) + entry + bytes(4)
    )  # fmt: skip


def segment(marker: int, content: bytes) -> bytes:
    """Of a JPEG."""
    return b"\xff" + bytes([marker]) + struct.pack(">H", 2 + len(content)) + content


def with_segments(jpeg: bytes, *segments: bytes) -> bytes:
    """Directly behind the start of a JPEG."""
    return jpeg[:2] + b"".join(segments) + jpeg[2:]


def app1(block: bytes) -> bytes:
    """EXIF in a JPEG."""
    return segment(0xE1, b"Exif\0\0" + block)


XMP = b'<x:xmpmeta><rdf:Description tiff:Orientation="6" tiff:orientation="6"/></x:xmpmeta>'

UNDO: dict[int, Any] = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, 1),
    7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
    8: lambda a: np.rot90(a, -1),
}
"""From the upright picture to the stored one."""


def stored(upright: Pixels, orientation: int) -> Pixels:
    """What a camera writes that was held so."""
    pixels: Pixels = np.ascontiguousarray(UNDO[orientation](upright))
    return pixels


# --- PNG ---


def png_bytes(chunks: Iterable[Chunk]) -> bytes:
    """Signature and chunks with their checksums."""
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in chunks
    )


def packed_rows(samples: NDArray[Any], depth: int) -> list[bytes]:
    """(H, W, planes) -> a row's bytes, without filter."""
    rows = samples.reshape(samples.shape[0], -1)
    if depth == 16:
        return [row.astype(">u2").tobytes() for row in rows]
    if depth == 8:
        return [row.astype(np.uint8).tobytes() for row in rows]
    bits = (rows[:, :, None].astype(np.uint8) >> np.arange(depth - 1, -1, -1)) & 1
    return [np.packbits(row.reshape(-1)).tobytes() for row in bits]


def filtered(rows: list[bytes], unit: int, kinds: Iterable[int]) -> bytes:
    """Every row under one of PNG's five filters, in turn."""
    out, kinds = bytearray(), list(kinds)
    above = bytes(len(rows[0])) if rows else b""
    for number, row in enumerate(rows):
        kind = kinds[number % len(kinds)]
        out.append(kind)
        for i, value in enumerate(row):
            a, b, c = row[i - unit] if i >= unit else 0, above[i], above[i - unit] if i >= unit else 0
            p = a + b - c
            nearest = min((abs(p - a), 0, a), (abs(p - b), 1, b), (abs(p - c), 2, c))[2]
            out.append((value - (0, a, b, (a + b) // 2, nearest)[kind]) % 256)
        above = row
    return bytes(out)


PASSES = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
"""Of Adam7: first row, first column, step down, step across."""


def png_chunks(
    samples: NDArray[Any], colour: int, depth: int = 8, *extra: Chunk, interlaced: bool = False,
    kinds: Iterable[int] = (0, 1, 2, 3, 4),
) -> list[Chunk]:  # fmt: skip
    """Chunks of a PNG; samples (H, W, planes)."""
    height, width, planes = samples.shape
    unit, kinds = max(1, planes * depth // 8), list(kinds)
    parts = [samples[y::down, x::across] for y, x, down, across in PASSES] if interlaced else [samples]
    body = b"".join(filtered(packed_rows(part, depth), unit, kinds) for part in parts if part.size)
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, int(interlaced))
    return [(b"IHDR", header), *extra, (b"IDAT", zlib.compress(body)), (b"IEND", b"")]


def png(samples: NDArray[Any], colour: int, depth: int = 8, *extra: Chunk, **options: Any) -> bytes:
    """A PNG under all five filters."""
    return png_bytes(png_chunks(samples, colour, depth, *extra, **options))


def apng(
    still: Pixels | None, frames: list[tuple[Pixels, int, int]], canvas: tuple[int, int], *extra: Chunk
) -> bytes:
    """An animated PNG; `still`: a default image that is no part of the animation. Frames: pixels, left, top."""
    first = still if still is not None else frames[0][0]
    header, *_, body, end = png_chunks(first, 2)
    header = (b"IHDR", struct.pack(">II", canvas[1], canvas[0]) + header[1][8:])
    chunks, number = [header, (b"acTL", struct.pack(">II", len(frames), 0)), *extra], 0
    for index, (frame, left, top) in enumerate(frames):
        control = struct.pack(">5IHHBB", number, frame.shape[1], frame.shape[0], left, top, 1, 10, 0, 0)
        number += 1
        data = png_chunks(frame, 2)[-2][1]
        if index == 0 and still is None:
            chunks += [(b"fcTL", control), (b"IDAT", data)]
            continue
        if index == 0:
            chunks.append(body)
        chunks += [(b"fcTL", control), (b"fdAT", struct.pack(">I", number) + data)]
        number += 1
    return png_bytes([*chunks, end])


# --- GIF ---


def lzw(indices: bytes, bits: int) -> bytes:
    """GIF's codes, cleared so often that they stay `bits` + 1 wide: longer than needed, and simple."""
    clear, width = 1 << bits, bits + 1
    codes, out = [], bytearray()
    for start in range(0, len(indices), clear - 2):
        codes += [clear, *indices[start : start + clear - 2]]
    codes.append(clear + 1)
    held = count = 0
    for code in codes:
        held |= code << count
        count += width
        while count >= 8:
            out.append(held & 255)
            held, count = held >> 8, count - 8
    if count:
        out.append(held & 255)
    return bytes(out)


def blocks(content: bytes) -> bytes:
    """GIF's sub-blocks and their end."""
    parts = [content[i : i + 255] for i in range(0, len(content), 255)]
    return b"".join(bytes([len(part)]) + part for part in parts) + b"\0"


def gif(
    canvas: tuple[int, int], frames: list[tuple[NDArray[Any], int, int]], palette: Pixels, *, clear: int | None = None,
    background: int = 0, interlaced: bool = False, local: bool = False, end: bytes = b";",
) -> bytes:  # fmt: skip
    """Frames are (H, W) of indices, left, top. The palette has 2^n colours."""
    bits = max(2, (len(palette) - 1).bit_length())
    table = palette.tobytes() + bytes(3 * ((1 << bits) - len(palette)))
    flags = 0x70 | (bits - 1)
    out = b"GIF89a" + struct.pack(
        "<HHBBB", canvas[1], canvas[0], flags if local else 0x80 | flags, background, 0
    )
    out += b"" if local else table
    for frame, left, top in frames:
        out += b"\x21\xf9\x04" + bytes([int(clear is not None), 10, 0, clear or 0, 0])
        height, width = frame.shape
        form = (0x40 if interlaced else 0) | ((0x80 | bits - 1) if local else 0)
        out += b"\x2c" + struct.pack("<HHHHB", left, top, width, height, form) + (table if local else b"")
        order = [*range(0, height, 8), *range(4, height, 8), *range(2, height, 4), *range(1, height, 2)]
        rows = frame[order] if interlaced else frame
        out += bytes([bits]) + blocks(lzw(rows.astype(np.uint8).tobytes(), bits))
    return out + end


# --- BMP ---


def bmp(
    rows: list[bytes], width: int, depth: int, *, palette: bytes = b"", form: int = 0, masks: bytes = b"",
    top_down: bool = False, header: int = 40,
) -> bytes:  # fmt: skip
    """Rows from the top, each without its filling; stored from the bottom unless `top_down`."""
    body = b"".join(row + bytes(-len(row) % 4) for row in (rows if top_down else rows[::-1]))
    height = -len(rows) if top_down else len(rows)
    if header == 12:
        head = struct.pack("<IHHHH", 12, width, height, 1, depth)
    else:
        colours = len(palette) // 4
        head = struct.pack(
            "<IiiHHIIiiII", header, width, height, 1, depth, form, len(body), 2835, 2835, colours, 0
        )
        head += (masks + bytes(header - 40))[: header - 40] if header > 40 else masks
    start = 14 + len(head) + len(palette)
    return b"BM" + struct.pack("<IHHI", start + len(body), 0, 0, start) + head + palette + body


# --- WebP ---


def riff(chunks: Iterable[Chunk]) -> bytes:
    """A WebP of these chunks."""
    body = b"".join(
        kind + struct.pack("<I", len(content)) + content + bytes(len(content) % 2) for kind, content in chunks
    )
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body


def riff_chunks(content: bytes) -> Iterator[Chunk]:
    """Of a WebP."""
    at = 12
    while at + 8 <= len(content):
        length = int.from_bytes(content[at + 4 : at + 8], "little")
        yield content[at : at + 4], content[at + 8 : at + 8 + length]
        at += 8 + length + length % 2


# --- TIFF ---


def tiff(pixels: NDArray[Any], order: str, photometric: int, *extra: tuple[int, int]) -> bytes:
    """Uncompressed, of 8 or 16 bits a sample (H, W, planes)."""
    height, width, planes = pixels.shape
    depth = 8 if pixels.dtype == np.uint8 else 16
    raw = pixels.astype(f"{order}u{depth // 8}").tobytes()
    tags = [(256, width), (257, height), (258, depth), (259, 1), (262, photometric), (273, 0), (277, planes)]
    tags = sorted([*tags, (278, height), (279, len(raw)), *extra])
    end = 8 + 2 + 12 * len(tags) + 4
    words = struct.pack(order + f"{planes}H", *[depth] * planes) if planes > 2 else b""
    directory = struct.pack(order + "H", len(tags))
    for tag, value in tags:
        many, large = tag == 258 and planes > 2, tag in (273, 279)
        value = {258: end if many else value, 273: end + len(words)}.get(tag, value)
        kind, count = (3, planes if tag == 258 else 1) if not large else (4, 1)
        form = "I" if large or many else "HH"
        packed = struct.pack(order + form, *([value] if large or many else [value, 0]))
        directory += struct.pack(order + "HHI", tag, kind, count) + packed
    magic = b"II*\0" if order == "<" else b"MM\0*"
    return magic + struct.pack(order + "I", 8) + directory + bytes(4) + words + raw


# --- the corpus ---


@cache
def cases() -> list[Case]:
    """All of them."""
    groups = (
        orientations,
        animations,
        depths,
        colours,
        transparency,
        profiles,
        sizes,
        aspects,
        damaged,
        surroundings,
        kinds,
    )
    found = [case for group in groups for case in group()]
    names = [(case.group, case.name) for case in found]
    assert len(set(names)) == len(names), "two cases of one name"
    return found


UPRIGHT = drawing(40, 56)


def orientations() -> Iterator[Case]:
    """EXIF in every container, and what looks like it."""

    def case(name: str, container: str, content: bytes, expected: Pixels | None = UPRIGHT) -> Case:
        return Case("orientation", name, container, content, expected)

    for number in range(1, 9):
        picture = stored(UPRIGHT, number)
        block, big = exif(number), exif(number, ">")
        jpeg = encoded(picture, "JPEG", quality=92)
        yield case(f"jpeg {number}", "JPEG", with_segments(jpeg, app1(block)), None)
        yield case(
            f"jpeg big-endian {number}",
            "JPEG",
            with_segments(jpeg, segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + XMP), app1(big)),
            None,
        )
        yield case(f"png {number}", "PNG", png(picture, 2, 8, (b"eXIf", block)))
        chunks = png_chunks(picture, 2)
        yield case(
            f"png behind the pixels {number}", "PNG", png_bytes([*chunks[:-1], (b"eXIf", big), chunks[-1]])
        )
        yield case(f"webp {number}", "WEBP", encoded(picture, "WEBP", lossless=True, exif=block))
        yield case(f"webp lossy {number}", "WEBP", encoded(picture, "WEBP", quality=80, exif=big), None)
        yield case(f"tiff {number}", "TIFF", tiff(picture, "<", 2, (274, number)))
        turned = Image.Exif()
        turned[0x0112] = number
        yield case(f"avif {number}", "AVIF", encoded(picture, "AVIF", quality=90, exif=turned), None)
    plain, jpeg = UPRIGHT, encoded(UPRIGHT, "JPEG", quality=92)
    webp = encoded(plain, "WEBP", lossless=True)
    odd: dict[str, bytes] = {
        "0": exif(0), "9": exif(9), "in bytes": exif(6, kind=1), "in long": exif(6, kind=4), "signed": exif(6, kind=8),
        "of the thumbnail": exif(6, first=False), "behind a gap": exif(6, offset=26), "outside": b"II*\0\xff\xff\0\0",
        "empty": b"", "no directory": b"II*\0\x08\0\0\0", "cut": exif(6)[:18], "other magic": b"JJ*\0" + exif(6)[4:],
        "magic in the other order": b"II\0*" + exif(6)[4:], "prefixed": b"Exif\0\0" + exif(6),
        "two values": exif(6)[:14] + b"\2" + exif(6)[15:],
    }  # fmt: skip
    for name, block in odd.items():
        upright = name not in ("behind a gap",)
        expected = plain if upright else np.ascontiguousarray(np.rot90(plain, -1))
        yield case(f"png exif {name}", "PNG", png(plain, 2, 8, (b"eXIf", block)), expected)
        yield case(f"jpeg exif {name}", "JPEG", with_segments(jpeg, app1(block)), None)
        extended = riff(
            [
                (
                    b"VP8X",
                    b"\x08\0\0\0"
                    + struct.pack("<I", plain.shape[1] - 1)[:3]
                    + struct.pack("<I", plain.shape[0] - 1)[:3],
                ),
                *riff_chunks(webp),
                (b"EXIF", block),
            ]
        )
        yield case(f"webp exif {name}", "WEBP", extended, expected)
    yield case("jpeg two blocks", "JPEG", with_segments(jpeg, app1(exif(6)), app1(exif(3))), None)
    yield case(
        "jpeg exif behind a comment",
        "JPEG",
        with_segments(jpeg, segment(0xFE, b"drawn"), app1(exif(8))),
        None,
    )
    at = jpeg.index(b"\xff\xda")
    yield case("jpeg exif before the scan", "JPEG", jpeg[:at] + app1(exif(6)) + jpeg[at:], None)
    yield case("jpeg exif behind the picture", "JPEG", jpeg + app1(exif(6)), None)
    yield case(
        "png two blocks", "PNG", png(plain, 2, 8, (b"eXIf", exif(3)), (b"eXIf", exif(6))), plain[::-1, ::-1]
    )
    yield case("jpeg xmp alone", "JPEG", encoded(plain, "JPEG", quality=92, xmp=XMP), None)
    yield case("webp xmp alone", "WEBP", encoded(plain, "WEBP", lossless=True, xmp=XMP))
    yield case("png xmp alone", "PNG", png(plain, 2, 8, (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP)))
    raw = b"Raw profile type exif\0\0" + zlib.compress(
        b"\nexif\n%8d\n" % len(exif(6)) + exif(6).hex().encode() + b"\n"
    )
    yield case("png exif in a text", "PNG", png(plain, 2, 8, (b"zTXt", raw)))
    yield case("tiff xmp alone", "TIFF", encoded(plain, "TIFF", tiffinfo={700: XMP}))


def animations() -> Iterator[Case]:
    """The first frame counts, on nothing."""
    first, second = drawing(24, 32, 1), drawing(24, 32, 2)

    def case(name: str, container: str, content: bytes, expected: Pixels | str | None) -> Case:
        return Case("animation", name, container, content, expected)

    frames = [Image.fromarray(second), Image.fromarray(first)]
    yield case(
        "webp", "WEBP", encoded(first, "WEBP", lossless=True, save_all=True, append_images=frames), first
    )
    yield case(
        "webp lossy", "WEBP", encoded(first, "WEBP", quality=70, save_all=True, append_images=frames), None
    )
    yield case("apng", "PNG", apng(None, [(first, 0, 0), (second, 0, 0)], (24, 32)), first)
    yield case("apng with a still", "PNG", apng(second, [(first, 0, 0), (second, 0, 0)], (24, 32)), first)
    small, on_white = first[:6, :9], np.full_like(first, 255)
    on_white[10:16, 20:29] = small
    yield case(
        "apng with a still, small frame",
        "PNG",
        apng(second, [(small, 20, 10), (second, 0, 0)], (24, 32)),
        on_white,
    )
    yield case("apng frame outside", "PNG", apng(second, [(small, 30, 10)], (24, 32)), "damaged")
    yield case(
        "apng with a still, turned",
        "PNG",
        apng(second, [(first, 0, 0)], (24, 32), (b"eXIf", exif(6))),
        np.ascontiguousarray(np.rot90(first, -1)),
    )
    yield case("apng of one frame", "PNG", apng(None, [(first, 0, 0)], (24, 32)), first)
    palette = drawing(1, 16, 3)[0]
    rng = np.random.default_rng(SEED)
    one, two = rng.integers(0, 16, (24, 32)), rng.integers(0, 16, (24, 32))
    yield case("gif", "GIF", gif((24, 32), [(one, 0, 0), (two, 0, 0)], palette), palette[one])
    yield case("gif interlaced", "GIF", gif((24, 32), [(one, 0, 0)], palette, interlaced=True), palette[one])
    yield case(
        "gif local palette",
        "GIF",
        gif((24, 32), [(one, 0, 0), (two, 0, 0)], palette, local=True),
        palette[one],
    )
    for name, (left, top), background in (("corner", (0, 0), 0), ("middle", (11, 7), 5)):
        inside, expected = one[:9, :13], np.full((24, 32, 3), 255, np.uint8)
        expected[top : top + 9, left : left + 13] = palette[inside]
        yield case(
            f"gif small frame {name}",
            "GIF",
            gif((24, 32), [(inside, left, top), (two, 0, 0)], palette, background=background),
            expected,
        )
    holes = np.where((one == 3)[..., None], 255, palette[one]).astype(np.uint8)
    yield case(
        "gif with a clear colour", "GIF", gif((24, 32), [(one, 0, 0), (two, 0, 0)], palette, clear=3), holes
    )
    yield case(
        "gif with a clear background",
        "GIF",
        gif((24, 32), [(one, 0, 0)], palette, clear=3, background=3),
        holes,
    )
    yield case("gif frame larger than its canvas", "GIF", gif((20, 30), [(one, 0, 0)], palette), "damaged")
    yield case("gif frame outside", "GIF", gif((24, 32), [(one[:9, :13], 25, 0)], palette), "damaged")
    yield case(
        "gif without its last mark", "GIF", gif((24, 32), [(one, 0, 0)], palette, end=b""), palette[one]
    )
    yield case(
        "gif of Pillow",
        "GIF",
        encoded(
            Image.fromarray(first).quantize(32),
            "GIF",
            save_all=True,
            append_images=[f.quantize(32) for f in frames],
        ),
        np.asarray(Image.fromarray(first).quantize(32).convert("RGB")),
    )
    yield case(
        "avif", "AVIF", encoded(first, "AVIF", quality=90, save_all=True, append_images=frames), "form"
    )


def depths() -> Iterator[Case]:
    """From 1 to 16 bits, 16 rounded as v / 257."""
    rng = np.random.default_rng(SEED)

    def case(name: str, container: str, content: bytes, expected: Pixels | str | None) -> Case:
        return Case("depth", name, container, content, expected)

    for colour, planes, name in ((0, 1, "grey"), (2, 3, "rgb"), (4, 2, "grey alpha"), (6, 4, "rgba")):
        values = rng.integers(0, 65536, (19, 23, planes))
        eight = (values + 128) // 257
        opaque = np.repeat(eight[..., :1], 3, 2) if planes < 3 else eight[..., :3]
        expected = over_white(opaque, eight[..., -1]) if planes in (2, 4) else opaque.astype(np.uint8)
        yield case(f"png {name} 16", "PNG", png(values, colour, 16), expected)
        yield case(f"png {name} 16 interlaced", "PNG", png(values, colour, 16, interlaced=True), expected)
    edge = np.array(
        [[[0], [127], [128], [129], [384], [385], [386], [65406], [65407], [65408], [65535], [257]]]
    )
    yield case(
        "png grey 16 at the edges",
        "PNG",
        png(edge, 0, 16),
        np.repeat(((edge + 128) // 257).astype(np.uint8), 3, 2),
    )
    for depth in (1, 2, 4):
        values = rng.integers(0, 1 << depth, (19, 23, 1))
        grey = np.repeat((values * (255 // ((1 << depth) - 1))).astype(np.uint8), 3, 2)
        for laced in (False, True):
            end = " interlaced" if laced else ""
            yield case(f"png grey {depth}{end}", "PNG", png(values, 0, depth, interlaced=laced), grey)
            palette = rng.integers(0, 256, (1 << depth, 3), dtype=np.uint8)
            yield case(
                f"png palette {depth}{end}",
                "PNG",
                png(values, 3, depth, (b"PLTE", palette.tobytes()), interlaced=laced),
                palette[values[..., 0]],
            )
    for order in "<>":
        values = rng.integers(0, 65536, (19, 23, 3))
        yield case(
            f"tiff 16 {order}", "TIFF", tiff(values, order, 2), ((values + 128) // 257).astype(np.uint8)
        )
    yield case(
        "tiff float", "TIFF", encoded(Image.fromarray(np.full((4, 4), 0.5, dtype=np.float32)), "TIFF"), "form"
    )
    single = rng.integers(0, 65536, (19, 23, 1))
    yield case(
        "pgm 16",
        "PPM",
        b"P5 23 19 65535\n" + single.astype(">u2").tobytes(),
        np.repeat(((single + 128) // 257).astype(np.uint8), 3, 2),
    )


def colours() -> Iterator[Case]:
    """Grey, palettes, CMYK, and JPEG's ways to sample chroma."""
    rng = np.random.default_rng(SEED)
    picture, image = UPRIGHT, Image.fromarray(UPRIGHT)

    def case(name: str, container: str, content: bytes, expected: Pixels | str | None = None) -> Case:
        return Case("colour", name, container, content, expected)

    samplings: Options = {
        "4:4:4": {"subsampling": 0}, "4:2:2": {"subsampling": 1}, "4:2:0": {"subsampling": 2}, "quality 20": {"quality": 20},
        "quality 100": {"quality": 100, "subsampling": 0},
        "progressive": {"progressive": True}, "progressive 4:4:4": {"progressive": True, "subsampling": 0},
        "optimised": {"optimize": True}, "restarts": {"restart_marker_blocks": 2}, "as RGB": {"keep_rgb": True},
    }  # fmt: skip
    for name, options in samplings.items():
        yield case(f"jpeg {name}", "JPEG", encoded(image, "JPEG", **options))
    grey = image.convert("L")
    yield case("jpeg grey", "JPEG", encoded(grey, "JPEG"))
    yield case("jpeg grey progressive", "JPEG", encoded(grey, "JPEG", progressive=True))
    cmyk = encoded(image.convert("CMYK"), "JPEG", quality=95, subsampling=0)
    yield case("jpeg cmyk", "JPEG", cmyk)
    adobe = cmyk.index(b"Adobe")
    yield case("jpeg ycck", "JPEG", cmyk[: adobe + 11] + b"\2" + cmyk[adobe + 12 :])
    yield case("jpeg cmyk without Adobe's mark", "JPEG", cmyk[: adobe - 4] + cmyk[adobe + 12 :])
    noisy = rng.integers(0, 256, (40, 56, 4), dtype=np.uint8)
    yield case(
        "jpeg cmyk of noise",
        "JPEG",
        encoded(Image.fromarray(noisy, "CMYK"), "JPEG", quality=95, subsampling=0),
    )
    yield case("tiff cmyk", "TIFF", tiff(noisy, "<", 5))
    flat = np.repeat(np.asarray(grey)[..., None], 3, 2)
    yield case("png grey", "PNG", encoded(grey, "PNG"), flat)
    yield case("png rgb", "PNG", encoded(image, "PNG"), picture)
    yield case("png rgb interlaced", "PNG", png(picture, 2, interlaced=True), picture)
    yield case("png in many parts", "PNG", png_bytes(_split(png_chunks(picture, 2), 7)), picture)
    yield case("png with a palette as a hint", "PNG", png(picture, 2, 8, (b"PLTE", bytes(range(9)))), picture)
    few = rng.integers(0, 5, (19, 23, 1))
    five = rng.integers(0, 256, (5, 3), dtype=np.uint8)
    yield case("png palette of five", "PNG", png(few, 3, 8, (b"PLTE", five.tobytes())), five[few[..., 0]])
    outside = few.copy()
    outside[3, 4] = 200
    black = np.concatenate([five, np.zeros((251, 3), np.uint8)])
    yield case(
        "png index outside its palette",
        "PNG",
        png(outside, 3, 8, (b"PLTE", five.tobytes())),
        black[outside[..., 0]],
    )
    yield case("png without its palette", "PNG", png(few, 3, 8), "damaged")
    losses: Options = {
        "lossless": {"lossless": True},
        "lossy": {"quality": 80},
        "near": {"quality": 5},
    }
    for name, options in losses.items():
        yield case(
            f"webp {name}", "WEBP", encoded(image, "WEBP", **options), picture if name == "lossless" else None
        )
    yield case("webp grey", "WEBP", encoded(grey.convert("RGB"), "WEBP", lossless=True), flat)
    chromas: Options = {
        "4:2:0": {"subsampling": "4:2:0"},
        "4:4:4": {"subsampling": "4:4:4"},
        "grey": {"subsampling": "4:0:0"},
    }
    for name, options in chromas.items():
        yield case(f"avif {name}", "AVIF", encoded(image, "AVIF", quality=85, **options))
    yield case(
        "gif of 256",
        "GIF",
        encoded(image.quantize(256), "GIF"),
        np.asarray(image.quantize(256).convert("RGB")),
    )
    yield case("bmp 24", "BMP", encoded(image, "BMP"), picture)
    rows = [row[:, ::-1].tobytes() for row in picture]
    yield case("bmp top down", "BMP", bmp(rows, 56, 24, top_down=True), picture)
    yield case("bmp of OS/2", "BMP", bmp(rows, 56, 24, header=12), picture)
    four = np.concatenate([picture[..., ::-1], rng.integers(0, 256, (40, 56, 1), dtype=np.uint8)], axis=2)
    yield case("bmp 32", "BMP", bmp([row.tobytes() for row in four], 56, 32), picture)
    for depth in (1, 4, 8):
        values = rng.integers(0, 1 << depth, (19, 23, 1))
        table = rng.integers(0, 256, (1 << depth, 3), dtype=np.uint8)
        quads = np.concatenate([table[:, ::-1], np.zeros((len(table), 1), np.uint8)], axis=1).tobytes()
        yield case(
            f"bmp {depth}",
            "BMP",
            bmp(packed_rows(values, depth), 23, depth, palette=quads),
            table[values[..., 0]],
        )
    yield case("ppm", "PPM", encoded(image, "PPM"), picture)
    yield case("pgm", "PPM", encoded(grey, "PPM"), flat)
    yield case("tiff lzw", "TIFF", encoded(image, "TIFF", compression="tiff_lzw"), picture)


def _split(chunks: list[Chunk], length: int) -> list[Chunk]:
    """The pixels in parts of so many bytes."""
    out: list[Chunk] = []
    for kind, content in chunks:
        parts = (
            [content[i : i + length] for i in range(0, len(content), length)]
            if kind == b"IDAT"
            else [content]
        )
        out += [(kind, part) for part in parts]
    return out


def transparency() -> Iterator[Case]:
    """Over white, by one rounding."""
    rng = np.random.default_rng(SEED)

    def case(name: str, container: str, content: bytes, expected: Pixels | str | None = None) -> Case:
        return Case("transparency", name, container, content, expected)

    alpha, value = np.indices((256, 256))
    every = np.stack([value, 255 - value, value // 2, alpha], axis=2).astype(np.uint8)
    white = over_white(every[..., :3], every[..., 3])
    yield case("png every value under every opacity", "PNG", encoded(Image.fromarray(every), "PNG"), white)
    yield case(
        "webp every value under every opacity",
        "WEBP",
        encoded(Image.fromarray(every), "WEBP", lossless=True, exact=True),
        white,
    )
    yield case("webp lossy", "WEBP", encoded(Image.fromarray(every), "WEBP", quality=80))
    yield case("avif", "AVIF", encoded(Image.fromarray(every), "AVIF", quality=90), "form")
    small = rng.integers(0, 256, (19, 23, 4), dtype=np.uint8)
    yield case(
        "png rgba interlaced",
        "PNG",
        png(small, 6, interlaced=True),
        over_white(small[..., :3], small[..., 3]),
    )
    grey = rng.integers(0, 256, (19, 23, 2), dtype=np.uint8)
    yield case(
        "png grey alpha", "PNG", png(grey, 4), over_white(np.repeat(grey[..., :1], 3, 2), grey[..., 1])
    )
    gone = np.dstack([small[..., :3], np.zeros((19, 23), np.uint8)])
    yield case("png all clear", "PNG", png(gone, 6), np.full((19, 23, 3), 255, np.uint8))
    palette = rng.integers(0, 256, (16, 3), dtype=np.uint8)
    for depth in (1, 2, 4, 8):
        count = min(16, 1 << depth)
        values = rng.integers(0, count, (19, 23, 1))
        opacities = rng.integers(0, 256, 16, dtype=np.uint8)
        for name, given in (("", opacities[:count]), (" short", opacities[: max(1, count // 2)])):
            full = np.concatenate([given, np.full(256, 255, np.uint8)])
            content = png(values, 3, depth, (b"PLTE", palette[:count].tobytes()), (b"tRNS", given.tobytes()))
            yield case(
                f"png palette {depth} with opacities{name}",
                "PNG",
                content,
                over_white(palette[values[..., 0]], full[values[..., 0]]),
            )
    colour = (b"tRNS", struct.pack(">3H", 1, 2, 3))
    rgb = rng.integers(0, 4, (19, 23, 3))
    clear = (rgb == (1, 2, 3)).all(2)
    yield case(
        "png one clear colour",
        "PNG",
        png(rgb, 2, 8, colour),
        np.where(clear[..., None], 255, rgb).astype(np.uint8),
    )
    for depth in (1, 2, 4, 8):
        values = rng.integers(0, 1 << depth, (19, 23, 1))
        scaled = values * (255 // ((1 << depth) - 1))
        yield case(
            f"png grey {depth} with one clear value",
            "PNG",
            png(values, 0, depth, (b"tRNS", struct.pack(">H", 1))),
            np.repeat(np.where(values == 1, 255, scaled).astype(np.uint8), 3, 2),
        )
    deep = np.array([[[257], [258], [5], [0]]])
    yield case(
        "png grey 16 with one clear value",
        "PNG",
        png(deep, 0, 16, (b"tRNS", struct.pack(">H", 257))),
        np.repeat(np.array([[[255], [1], [0], [0]]], np.uint8), 3, 2),
    )
    both = np.array([[[257, 258, 259], [257, 258, 260]]])
    yield case(
        "png one clear colour 16",
        "PNG",
        png(both, 2, 16, (b"tRNS", struct.pack(">3H", 257, 258, 259))),
        np.array([[[255] * 3, [1] * 3]], np.uint8),
    )
    yield case(
        "webp animated, half clear",
        "WEBP",
        encoded(
            Image.fromarray(small),
            "WEBP",
            lossless=True,
            exact=True,
            save_all=True,
            append_images=[Image.fromarray(small[::-1].copy())],
        ),
        over_white(small[..., :3], small[..., 3]),
    )
    masks = struct.pack("<4I", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    four = np.dstack([small[..., 2::-1], small[..., 3]])
    yield case(
        "bmp with an alpha mask",
        "BMP",
        bmp([row.tobytes() for row in four], 23, 32, form=3, masks=masks, header=108),
        None,
    )


def profiles() -> Iterator[Case]:
    """Profiles are applied nowhere."""
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    at = srgb.index(b"XYZ ", srgb.index(b"rXYZ") + 12)
    wide = srgb[: at + 8] + struct.pack(">iii", 33_750, 15_807, -69) + srgb[at + 20 :]
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    image = Image.fromarray(UPRIGHT)

    def case(name: str, container: str, content: bytes, expected: Pixels | None = None) -> Case:
        return Case("profile", name, container, content, expected)

    for name, profile in (
        ("sRGB", srgb),
        ("wide", wide),
        ("of another space", lab),
        ("damaged", b"no profile" * 20),
        ("cut", wide[:200]),
    ):
        yield case(f"png {name}", "PNG", encoded(image, "PNG", icc_profile=profile), UPRIGHT)
        yield case(
            f"webp {name}", "WEBP", encoded(image, "WEBP", lossless=True, icc_profile=profile), UPRIGHT
        )
        yield case(f"jpeg {name}", "JPEG", encoded(image, "JPEG", quality=95, icc_profile=profile))
        yield case(
            f"jpeg cmyk {name}",
            "JPEG",
            encoded(image.convert("CMYK"), "JPEG", quality=95, icc_profile=profile),
        )
        yield case(f"avif {name}", "AVIF", encoded(image, "AVIF", quality=90, icc_profile=profile))
        yield case(f"tiff {name}", "TIFF", encoded(image, "TIFF", icc_profile=profile), UPRIGHT)
    gamma = (b"gAMA", struct.pack(">I", 100_000))
    chroma = (b"cHRM", struct.pack(">8I", 31270, 32900, 70800, 29200, 17000, 79700, 13100, 4600))
    yield case("png gamma", "PNG", png(UPRIGHT, 2, 8, gamma), UPRIGHT)
    yield case("png gamma and chromaticities", "PNG", png(UPRIGHT, 2, 8, gamma, chroma), UPRIGHT)
    yield case("png sRGB chunk", "PNG", png(UPRIGHT, 2, 8, (b"sRGB", b"\0")), UPRIGHT)
    yield case("png cICP", "PNG", png(UPRIGHT, 2, 8, (b"cICP", bytes((9, 16, 0, 1)))), UPRIGHT)
    yield case("png significant bits", "PNG", png(UPRIGHT, 2, 8, (b"sBIT", bytes((5, 6, 5)))), UPRIGHT)
    yield case(
        "png background",
        "PNG",
        png(
            np.dstack([UPRIGHT, np.full((40, 56), 128, np.uint8)]),
            6,
            8,
            (b"bKGD", struct.pack(">3H", 255, 0, 0)),
        ),
        over_white(UPRIGHT, np.full((40, 56), 128)),
    )
    grey = np.repeat(np.asarray(image.convert("L"))[..., None], 3, 2)
    yield case(
        "png grey with a profile of colours",
        "PNG",
        encoded(image.convert("L"), "PNG", icc_profile=wide),
        grey,
    )
    yield case(
        "png resolution", "PNG", png(UPRIGHT, 2, 8, (b"pHYs", struct.pack(">IIB", 2000, 1000, 1))), UPRIGHT
    )


def sizes() -> Iterator[Case]:
    """Small, large, and beyond what is read."""

    def case(name: str, container: str, content: bytes, expected: Pixels | str | None = None) -> Case:
        return Case("size", name, container, content, expected)

    for height, width in ((1, 1), (1, 2), (2, 1), (3, 3), (7, 5), (32, 32), (33, 31), (64, 64)):
        picture = drawing(height, width, height)
        yield case(f"png {height}x{width}", "PNG", encoded(picture, "PNG"), picture)
        yield case(f"jpeg {height}x{width}", "JPEG", encoded(picture, "JPEG", quality=90))
        yield case(f"webp {height}x{width}", "WEBP", encoded(picture, "WEBP", lossless=True), picture)
    one = np.array([[[9, 200, 30]]], np.uint8)
    yield case(
        "gif 1x1",
        "GIF",
        gif(
            (1, 1),
            [(np.array([[1]]), 0, 0)],
            np.array([[0, 0, 0], [9, 200, 30], [0, 0, 0], [0, 0, 0]], np.uint8),
        ),
        one,
    )
    yield case("bmp 1x1", "BMP", encoded(one, "BMP"), one)
    for height, width in ((520, 700), (1030, 520), (512, 900)):
        picture = drawing(height, width, 4)
        jpeg = encoded(picture, "JPEG", quality=88)
        with Image.open(io.BytesIO(jpeg)) as decoded:
            pixels = np.asarray(decoded.convert("RGB"))
        yield case(f"jpeg {height}x{width}", "JPEG", jpeg, pixels)
        yield case(f"png of jpeg {height}x{width}", "PNG", encoded(pixels, "PNG", compress_level=1), pixels)
        yield case(f"bmp of jpeg {height}x{width}", "BMP", encoded(pixels, "BMP"), pixels)
    progressive = encoded(drawing(700, 900, 5), "JPEG", quality=85, progressive=True)
    yield case("jpeg progressive 700x900", "JPEG", progressive)
    # Headers alone: a picture that is too large is refused before a pixel is decoded.
    header = struct.pack(">IIBBBBB", 7_100, 7_100, 8, 2, 0, 0, 0)
    yield case(
        "png of 50.4 megapixels",
        "PNG",
        png_bytes([(b"IHDR", header), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")]),
        "size",
    )
    wide = struct.pack(">IIBBBBB", 32_768, 1, 1, 0, 0, 0, 0)
    yield case(
        "png of 32,768 columns",
        "PNG",
        png_bytes([(b"IHDR", wide), (b"IDAT", zlib.compress(bytes(1 + 4096))), (b"IEND", b"")]),
        "size",
    )
    yield case(
        "gif of 65,535 columns",
        "GIF",
        gif((1, 65_535), [(np.zeros((1, 4), int), 0, 0)], np.zeros((4, 3), np.uint8)),
        "size",
    )
    yield case(
        "bmp of 50.4 megapixels",
        "BMP",
        b"BM"
        + struct.pack("<IHHI", 54, 0, 0, 54)
        + struct.pack("<IiiHHIIiiII", 40, 7_100, 7_100, 1, 24, 0, 0, 0, 0, 0, 0),
        "size",
    )
    large = b"\0\0\0\0" + (16_000).to_bytes(3, "little") + (16_000).to_bytes(3, "little")
    yield case(
        "webp of 256 megapixels",
        "WEBP",
        riff([(b"VP8X", large), *riff_chunks(encoded(one, "WEBP", lossless=True))]),
        "size",
    )
    jpeg = encoded(one, "JPEG")
    at = jpeg.index(b"\xff\xc0") + 5
    yield case(
        "jpeg of 256 megapixels",
        "JPEG",
        jpeg[:at] + struct.pack(">HH", 16_000, 16_000) + jpeg[at + 4 :],
        "size",
    )
    yield case(
        "jpeg of 60,000 rows", "JPEG", jpeg[:at] + struct.pack(">HH", 60_000, 16) + jpeg[at + 4 :], "size"
    )
    small = encoded(drawing(16, 16), "JPEG", progressive=True)
    start, end = small.index(b"\xff\xda"), small.rindex(b"\xff\xd9")
    at = small.index(b"\xff\xc2") + 5
    many = (
        small[:at]
        + struct.pack(">HH", 8_000, 8_000)
        + small[at + 4 : start]
        + small[start:end] * 4
        + small[end:]
    )
    yield case("jpeg of many scans", "JPEG", many, "size")


def aspects() -> Iterator[Case]:
    """Far from the target's shape."""
    for height, width in (
        (1, 300),
        (300, 1),
        (2, 1000),
        (1000, 2),
        (5, 4000),
        (4000, 5),
        (1, 20_000),
        (20_000, 1),
        (32_767, 1),
        (1, 32_767),
    ):
        picture = drawing(height, width, width)
        yield Case("aspect", f"png {height}x{width}", "PNG", encoded(picture, "PNG"), picture)
        yield Case("aspect", f"jpeg {height}x{width}", "JPEG", encoded(picture, "JPEG", quality=90))
        if max(height, width) < 16_384:
            yield Case(
                "aspect", f"webp {height}x{width}", "WEBP", encoded(picture, "WEBP", lossless=True), picture
            )


def damaged() -> Iterator[Case]:
    """Cut, overwritten, or lying about themselves."""
    rng = np.random.default_rng(SEED)
    noisy = rng.integers(0, 256, (40, 56, 3), dtype=np.uint8)
    image = Image.fromarray(noisy)
    whole = {
        "JPEG": encoded(image, "JPEG"), "PNG": encoded(image, "PNG"), "GIF": encoded(image.quantize(64), "GIF"),
        "BMP": encoded(image, "BMP"), "WEBP": encoded(image, "WEBP", lossless=True), "AVIF": encoded(image, "AVIF"),
        "TIFF": encoded(image, "TIFF"), "PPM": encoded(image, "PPM"),
    }  # fmt: skip

    def case(name: str, container: str, content: bytes, expected: Pixels | str | None = "damaged") -> Case:
        return Case("damaged", name, container, content, expected)

    lossy = encoded(image, "WEBP", quality=60)
    progressive = encoded(image, "JPEG", progressive=True)
    for container, content in whole.items():
        for share in (0.3, 0.6, 0.9):
            yield case(f"{container} cut at {share}", container, content[: int(share * len(content))])
    for share in (0.5, 0.95):
        yield case(f"webp lossy cut at {share}", "WEBP", lossy[: int(share * len(lossy))])
        yield case(f"jpeg progressive cut at {share}", "JPEG", progressive[: int(share * len(progressive))])
    yield case("jpeg without its end", "JPEG", whole["JPEG"][:-2])
    yield case("png without its end chunk", "PNG", whole["PNG"][:-12])
    for container in ("JPEG", "PNG", "GIF", "WEBP"):
        content = whole[container]
        half = len(content) // 2
        zeros = content[:half] + bytes(len(content) - half)
        # A WebP holds nothing that would tell: both decoders show the same.
        yield case(
            f"{container} of zeros from the middle",
            container,
            zeros,
            None if container == "WEBP" else "damaged",
        )
    middle = len(whole["PNG"]) // 2
    flipped = bytearray(whole["PNG"])
    flipped[middle] ^= 0xFF
    yield case("png with a wrong byte", "PNG", bytes(flipped))
    flipped = bytearray(whole["JPEG"])
    flipped[len(flipped) // 2] = 0x55
    flipped[len(flipped) // 2 + 9] = 0x10
    yield case("jpeg with a wrong byte", "JPEG", bytes(flipped), None)
    chunks = png_chunks(noisy, 2)
    body = zlib.decompress(chunks[-2][1])

    def again(raw: bytes, more: bytes = b"") -> bytes:
        return png_bytes([*chunks[:-2], (b"IDAT", zlib.compress(raw) + more), chunks[-1]])

    yield case("png of too few rows", "PNG", again(body[: len(body) // 2]))
    yield case("png of one byte too few", "PNG", again(body[:-1]))
    yield case("png of too many rows", "PNG", again(body + bytes(500)), noisy)
    yield case("png with bytes behind its stream", "PNG", again(body, b"behind"))
    wrong = bytearray(body)
    wrong[0] = 7
    yield case("png of an unknown filter", "PNG", again(bytes(wrong)))
    spoilt = bytearray(zlib.compress(body))
    spoilt[-1] ^= 1
    yield case(
        "png with a wrong sum of its stream",
        "PNG",
        png_bytes([*chunks[:-2], (b"IDAT", bytes(spoilt)), chunks[-1]]),
    )
    yield case("png without pixels", "PNG", png_bytes([chunks[0], chunks[-1]]))
    yield case("png without a header", "PNG", png_bytes(chunks[1:]))
    for name, fields in {
        "of no rows": (56, 0, 8, 2, 0, 0, 0), "of depth 3": (56, 40, 3, 2, 0, 0, 0), "of colour 5": (56, 40, 8, 5, 0, 0, 0),
        "of compression 1": (56, 40, 8, 2, 1, 0, 0), "of filter 1": (56, 40, 8, 2, 0, 1, 0),
        "of interlace 2": (56, 40, 8, 2, 0, 0, 2),
        "of palette 16": (56, 40, 16, 3, 0, 0, 0),
    }.items():  # fmt: skip
        yield case(
            f"png {name}", "PNG", png_bytes([(b"IHDR", struct.pack(">IIBBBBB", *fields)), *chunks[1:]])
        )
    yield case("png with a chunk nobody knows", "PNG", png_bytes([chunks[0], (b"ABCD", b"?"), *chunks[1:]]))
    yield case("png with a private chunk", "PNG", png_bytes([chunks[0], (b"abCd", b"?"), *chunks[1:]]), noisy)
    for name, odd in (("acTL", bytes(3)), ("fcTL", bytes(9))):
        yield case(
            f"png with a short {name}", "PNG", png_bytes([chunks[0], (name.encode(), odd), *chunks[1:]])
        )
    header = bytearray(whole["PNG"])
    header[30] ^= 1
    yield case("png with a wrong sum of its header", "PNG", bytes(header))
    text = bytearray(png(noisy, 2, 8, (b"tEXt", b"Title\0drawn")))
    text[8 + 25 + 8 + 11] ^= 1
    yield case("png with a wrong sum of its text", "PNG", bytes(text))
    late = png_chunks(noisy, 2)
    first, second = late[-2][1][:1000], late[-2][1][1000:]
    yield case(
        "png with a chunk between its pixels",
        "PNG",
        png_bytes([late[0], (b"IDAT", first), (b"tEXt", b"a\0b"), (b"IDAT", second), late[-1]]),
    )
    riffed = bytearray(whole["WEBP"])
    riffed[4:8] = struct.pack("<I", len(riffed) + 1000)
    yield case("webp that claims more", "WEBP", bytes(riffed))
    zero = bytearray(whole["JPEG"])
    at = zero.index(b"\xff\xc0") + 5
    zero[at : at + 2] = b"\0\0"
    yield case("jpeg of no rows", "JPEG", bytes(zero))
    yield case("jpeg without tables", "JPEG", whole["JPEG"].replace(b"\xff\xdb", b"\xff\xfe"))
    yield case("jpeg of 12 bits", "JPEG", whole["JPEG"][: at - 1] + b"\x0c" + whole["JPEG"][at:], "form")
    arithmetic = bytearray(whole["JPEG"])
    arithmetic[at - 4] = 0xC9
    yield case("jpeg of arithmetic codes", "JPEG", bytes(arithmetic), "form")
    yield case("jpeg of its start alone", "JPEG", b"\xff\xd8\xff")
    yield case("gif of its header alone", "GIF", whole["GIF"][:13])
    yield case("gif without its last block", "GIF", whole["GIF"][:-2])
    low = bytearray(whole["GIF"])
    at = low.index(b"\x2c", 13 + 3 * 64) + 10
    yield case("gif of short data", "GIF", bytes(low[: at + 1]) + blocks(lzw(bytes(50), 6)) + b";")
    yield case("bmp of 5 bits", "BMP", whole["BMP"][:28] + b"\5\0" + whole["BMP"][30:], "form")
    yield case("bmp of its header alone", "BMP", whole["BMP"][:54])
    yield case("avif of its start alone", "AVIF", whole["AVIF"][:60])


def surroundings() -> Iterator[Case]:
    """What stands beside the picture in its file, and behind it."""
    jpeg = encoded(UPRIGHT, "JPEG", quality=90)
    with Image.open(io.BytesIO(jpeg)) as decoded:
        pixels = np.asarray(decoded.convert("RGB"))

    def case(name: str, container: str, content: bytes, expected: Pixels | None = UPRIGHT) -> Case:
        return Case("surroundings", name, container, content, expected)

    video = b"\0\0\0\x18ftypmp42" + np.random.default_rng(SEED).bytes(20_000)
    yield case("jpeg motion photo", "JPEG", jpeg + video, pixels)
    yield case("jpeg with scans behind it", "JPEG", jpeg + b"\xff\xda\0\0" * 5000, pixels)
    yield case("jpeg with zeros behind it", "JPEG", jpeg + bytes(1000), pixels)
    yield case("jpeg with another behind it", "JPEG", jpeg + encoded(drawing(9, 9), "JPEG"), pixels)
    thumbnail = encoded(drawing(8, 8), "JPEG")
    entry = struct.pack("<HHII", 0x0201, 4, 1, 44) + struct.pack("<HHII", 0x0202, 4, 1, len(thumbnail))
    block = b"II*\0" + struct.pack("<IHI", 8, 0, 14) + struct.pack("<H", 2) + entry + bytes(4) + thumbnail
    yield case("jpeg with a thumbnail", "JPEG", with_segments(jpeg, app1(block)), pixels)
    several = encoded(
        Image.fromarray(UPRIGHT),
        "MPO",
        save_all=True,
        append_images=[Image.fromarray(UPRIGHT[::-1].copy())],
        quality=90,
    )
    yield case("jpeg of two pictures", "MPO", several, None)
    yield case(
        "jpeg with filling bytes", "JPEG", jpeg.replace(b"\xff\xdb", b"\xff\xff\xff\xff\xdb", 1), pixels
    )
    yield case(
        "jpeg with a comment", "JPEG", encoded(UPRIGHT, "JPEG", quality=90, comment="drawn" * 900), pixels
    )
    yield case("jpeg without JFIF", "JPEG", jpeg[:2] + jpeg[20:], pixels)
    plain = encoded(UPRIGHT, "PNG")
    for name, extra in {
        "text": (b"tEXt", b"Title\0Drawn"), "compressed text": (b"zTXt", b"Comment\0\0" + zlib.compress(b"x" * 90_000)),
        "time": (b"tIME", bytes(7)), "broken compressed text": (b"zTXt", b"Comment\0\0no stream"),
    }.items():  # fmt: skip
        yield case(f"png {name}", "PNG", png(UPRIGHT, 2, 8, extra))
    yield case("png with bytes behind it", "PNG", plain + b"behind" * 500)
    yield case("png with another behind it", "PNG", plain + encoded(drawing(9, 9), "PNG"))
    webp = encoded(UPRIGHT, "WEBP", lossless=True)
    yield case("webp with bytes behind it", "WEBP", webp + b"behind" * 500)
    yield case(
        "webp with a chunk nobody knows",
        "WEBP",
        riff(
            [
                (b"VP8X", bytes(4) + (55).to_bytes(3, "little") + (39).to_bytes(3, "little")),
                *riff_chunks(webp),
                (b"ABCD", b"drawn"),
            ]
        ),
    )
    small = encoded(Image.fromarray(UPRIGHT).quantize(64), "GIF")
    expected = np.asarray(Image.fromarray(UPRIGHT).quantize(64).convert("RGB"))
    yield case("gif with bytes behind it", "GIF", small + b"behind" * 500, expected)
    yield case(
        "gif with a comment",
        "GIF",
        encoded(Image.fromarray(UPRIGHT).quantize(64), "GIF", comment=b"drawn" * 90),
        expected,
    )
    yield case("bmp with bytes behind it", "BMP", encoded(UPRIGHT, "BMP") + b"behind" * 500)


def kinds() -> Iterator[Case]:
    """What is no picture, or none that is read."""
    image = Image.fromarray(UPRIGHT)
    svg = b'<svg xmlns="http://www.w3.org/2000/svg" width="40" height="40"><rect width="40" height="40" fill="red"/></svg>'
    others = {
        "nothing": b"", "one byte": b"\xff", "text": b"not a picture", "svg": svg, "xml svg": b'<?xml version="1.0"?>' + svg,
        "html": b"<!doctype html><p>picture</p>", "pdf": b"%PDF-1.7\n",
        "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        "zip": b"PK\3\4" + bytes(40), "mp4": b"\0\0\0\x18ftypmp42" + bytes(100),
        "webm": b"\x1aE\xdf\xa3" + bytes(60), "zeros": bytes(5000),
        "noise": np.random.default_rng(SEED).bytes(3000), "ico": encoded(image, "ICO", sizes=[(32, 32)]),
        "cur": b"\0\0\2\0" + encoded(image, "ICO", sizes=[(32, 32)])[4:],
        "wave": b"RIFF\x24\0\0\0WAVEfmt " + bytes(28), "jpeg xl": b"\xff\x0a" + bytes(40),
        "jpeg xl box": b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(40),
        "tga": encoded(image, "TGA"), "jpeg 2000": b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(40), "wbmp": b"\0\0\x08\x01\xff",
        "psd": b"8BPS\0\1" + bytes(40),
        "png with unix line ends": encoded(image, "PNG").replace(b"\r\n", b"\n"), "qoi": encoded(image, "QOI"),
    }  # fmt: skip
    for name, content in others.items():
        yield Case("kind", name, "", content, "kind")
