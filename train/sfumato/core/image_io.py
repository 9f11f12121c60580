"""From any picture file to the pixels a model sees: decode, orient, crop, resize.

Training and the phone-side code share these lines, because a model is only as good as the agreement between
the two. Needs numpy and Pillow alone. A picture comes back as plain pixels: no EXIF, GPS, comment, profile or
thumbnail survives.

Usage: `pixels = load(Path("photo.jpg"), height=64, width=64)`
"""

import importlib
import io
import mmap
import re
import struct
import sys
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import IO, Any, TypeAlias

import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from sfumato.core.errors import DataError

Pixels: TypeAlias = NDArray[np.uint8]
Source: TypeAlias = str | Path | bytes | Image.Image
"""A picture: a file, the bytes of one, or what Pillow made of one."""

MAX_PIXELS = 250_000_000
"""Largest picture that is opened, in pixels: a photo of 200 megapixels fits, as a JPEG decoded at a reduced scale."""

MAX_DECODED = 50_000_000
"""Most pixels that are really unpacked, of every kind. WebP needs 17 bytes a pixel on the way: this stays below 1 GB."""

MAX_SCANNED = 1_200_000_000
"""Pixels times scans of a JPEG in several scans, which are held together: ten scans of 120 megapixels. A hostile file
holds thousands of empty ones."""

REDUCTION = 4
"""A JPEG may be decoded at a reduced scale as long as both sides stay this many times the target."""

BAND = 1_000_000
"""Pixels that are converted at a time."""

ORIENTATION = 0x0112
TURNS: dict[int, Callable[[Pixels], Pixels]] = {
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
    8: lambda a: np.rot90(a, 1),
}
"""What makes a picture upright, by its EXIF orientation; 1 and unknown values leave it as it is."""

_FORMATS = (
    "JPEG",
    "MPO",
    "PNG",
    "WEBP",
    "GIF",
    "BMP",
    "TIFF",
    "PPM",
    "AVIF",
    "HEIF",
)  # no format that starts another program
# Size is checked against max_pixels before any pixel is decoded, so Pillow's own (lower) warning says nothing
# new.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
if (
    Image.MAX_IMAGE_PIXELS is not None
):  # Pillow refuses twice as many, and would refuse a photo of 200 megapixels
    Image.MAX_IMAGE_PIXELS = max(Image.MAX_IMAGE_PIXELS, MAX_PIXELS // 2)
warnings.filterwarnings(
    "ignore", category=UserWarning, module=r"PIL\."
)  # damage that matters is an error here
_JPEG, _PNG = (".jpg", ".jpeg", ".jpe", ".mpo"), (".png", ".apng")
_PLAIN, _CODED = (
    (".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm"),
    (".webp", ".avif", ".heic", ".heif"),
)
SUFFIXES = (*_JPEG, *_PNG, ".gif", *_PLAIN, *_CODED)
"""Endings, in small letters, of what is taken for a picture in a folder."""


def read_rgb(
    source: Source, *, max_pixels: int = MAX_PIXELS, at_least: tuple[int, int] | None = None
) -> Pixels:
    """Decode a picture to upright 8-bit RGB.

    EXIF orientation is applied, and no other: what XMP says is not. CMYK, palette and grey are converted; 16-bit
    values are divided by 257 and rounded; transparent pixels are laid over white, the colour most viewers show; of an
    animation the first frame is taken, not a still that stands in for it. Colour profiles are not applied. What
    follows a JPEG's end, a motion photo's video for example, is not looked at.

    Args:
        source: a file, its bytes, or an image of Pillow's, which is left as it is.
        max_pixels: refuse larger pictures before decoding them.
        at_least: (height, width) in pixels; a JPEG may be decoded at 1/2, 1/4 or 1/8 of its size (libjpeg's
            scaled inverse transform) while both sides stay at least the larger of the two. None decodes every
            pixel, and so does an image of Pillow's.

    Returns:
        (H, W, 3) uint8.

    Raises:
        DataError: not a picture, broken, of an unknown kind, or larger than `max_pixels`.
    """
    name = str(source) if isinstance(source, str | Path) else "the image"
    try:
        with _opened(source) as image:
            _check_size(image, name, max_pixels)
            if at_least is not None and image is not source:
                image.draft(None, (max(at_least), max(at_least)))
            width, height = image.size
            if width * height > MAX_DECODED:
                raise DataError(
                    f"{name}: {width} x {height} pixels to decode, more than the {MAX_DECODED} allowed: make it smaller "
                    "or save it as a JPEG, which is decoded at a reduced scale"
                )
            bands = None if image is source else _sixteen_bits(source, image)
            if image.format == "TIFF" and image is not source:
                image.info.pop("xmp", None)  # Pillow turns a TIFF itself, and would do so by XMP too
            frame = _gif_frame(image)
            image.load()  # an EXIF block may stand behind the picture
            turn = TURNS.get(_orientation(image))
            pixels = _pixels(image, bands or image.crop, name)
            if frame is not None:  # the rest of the canvas is transparent, whatever Pillow paints there
                left, top, right, bottom = frame
                pixels[:top] = pixels[bottom:] = pixels[:, :left] = pixels[:, right:] = 255
        return np.ascontiguousarray(turn(pixels)) if turn else pixels
    except DataError as error:
        raise error if str(error).startswith(name) else DataError(f"{name}: {error}") from None
    except FileNotFoundError:
        raise DataError(f"{name}: no such file") from None
    except Image.DecompressionBombError:
        raise DataError(f"{name}: more than the {min(max_pixels, MAX_PIXELS)} pixels allowed") from None
    except UnidentifiedImageError:
        if "HEIF" not in _formats() and _is_heif(source):
            raise DataError(
                f"{name}: HEIC is read where the package pillow-heif is installed; else save it as a JPEG "
                "(iPhone: Settings, Camera, Formats, Most Compatible)"
            ) from None
        raise DataError(f"{name}: not a picture of a known kind ({', '.join(_formats())})") from None
    except Exception as error:  # Pillow's decoders raise nearly every type there is on damaged files
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{name}: cannot be decoded ({reason})") from None


def fit(image: Pixels, height: int, width: int) -> Pixels:
    """Crop to the target's aspect around the centre, then resize: part of the contract with the phone.

    For an input of H x W:

    1. Crop. If `W * height > H * width`, keep `cw = max(1, floor(H * width / height + 1/2))` columns from
       column `floor((W - cw) / 2)`; otherwise keep `ch = max(1, floor(W * height / width + 1/2))` rows from
       row `floor((H - ch) / 2)`. All in integers.
    2. Resize columns, then rows (Pillow's antialiased BILINEAR). For output index i of n from m inputs:
       `scale = m / n`, `support = max(scale, 1)`, `centre = (i + .5) * scale`; inputs from
       `floor(centre - support + .5)` up to, not including, `floor(centre + support + .5)`, both kept within
       0..m, have weight `1 - |j + .5 - centre| / support`, never below 0, normalised to sum 1, times 2^22 and
       rounded half away from zero. Output is `(sum(weight * pixel) + 2^21) >> 22`, kept within 0..255; the
       first pass is rounded to 8 bits before the second. A pass that changes no size is left out.

    Args:
        image: (H, W, 3) uint8.
        height: of the result, in pixels.
        width: of the result, in pixels.

    Returns:
        (height, width, 3) uint8.
    """
    rows, columns = image.shape[:2]
    if columns * height > rows * width:
        kept = max(1, (2 * rows * width + height) // (2 * height))
        left = (columns - kept) // 2
        image = image[:, left : left + kept]
    else:
        kept = max(1, (2 * columns * height + width) // (2 * width))
        top = (rows - kept) // 2
        image = image[top : top + kept]
    if image.shape[:2] == (height, width):
        return image.copy()
    resized = Image.fromarray(np.ascontiguousarray(image)).resize((width, height), Image.Resampling.BILINEAR)
    return np.array(resized, dtype=np.uint8)


def load(source: Source, height: int, width: int, *, max_pixels: int = MAX_PIXELS) -> Pixels:
    """`read_rgb` and `fit` in one: what every picture goes through before a model.

    Large JPEGs are decoded at a reduced scale of at least `REDUCTION` times the target, which changes the
    result by about one level and makes a 12-megapixel photo several times faster to read.

    Returns:
        (height, width, 3) uint8.
    """
    at_least = (REDUCTION * height, REDUCTION * width)
    return fit(read_rgb(source, max_pixels=max_pixels, at_least=at_least), height, width)


def decoder() -> str:
    """Names what decides the pixels of a file beside the file: results of another decoder are not this one's."""
    return f"pillow {PIL.__version__} {' '.join(_formats())}"


@contextmanager
def _opened(source: Source) -> Iterator[Image.Image]:
    """A picture of which nothing is decoded yet. Pillow never sees a path: it would map some files into memory, and misread
    a turned TIFF there."""
    if isinstance(source, Image.Image):
        yield source
        return
    with _stream(source) as stream:
        image: Image.Image = Image.open(stream, formats=_formats())
        if image.format == "PNG" and getattr(image, "default_image", False):
            image = _first_frame(stream)
        with image:
            yield image


def _stream(source: str | Path | bytes) -> IO[bytes]:
    if isinstance(source, bytes):
        return io.BytesIO(source)
    if Path(source).exists() and not Path(source).is_file():
        raise DataError("not a file")  # a pipe would block whoever opens it
    return Path(source).open("rb")


def _orientation(image: Image.Image) -> int:
    """As its EXIF block says, 1 without one. A TIFF has been turned by Pillow when it was decoded."""
    exif = image.info.get("exif")
    if image.format == "TIFF" or not isinstance(exif, bytes):
        return 1
    tags = Image.Exif()
    try:
        tags.load(exif)
        found = tags.get(ORIENTATION, 1)
    except (
        Exception
    ):  # whatever a damaged block makes of it; browsers and phones leave the picture as it is, too
        return 1
    return found if isinstance(found, int) else 1


def _check_size(image: Image.Image, name: str, max_pixels: int) -> None:
    """Refuse, before anything is decoded, what would take too much memory or time, and a JPEG that
    lacks its end or a PNG whose checksums are wrong."""
    width, height = image.size
    if width * height > max_pixels:
        raise DataError(f"{name}: {width} x {height} pixels, more than the {max_pixels} allowed")
    stream = getattr(image, "fp", None)
    if stream is None:  # it is decoded already
        return
    if image.format == "PNG":
        _check_png(stream)
    if image.format not in ("JPEG", "MPO"):
        return
    scans, whole = count_scans(stream)
    if scans > 1 and width * height * scans > MAX_SCANNED:
        raise DataError(
            f"{name}: a JPEG of {width} x {height} pixels in {scans} scans takes too long to decode"
        )
    if not whole:
        raise DataError(f"{name}: the end of the picture is missing: copy it again")


_ENTROPY_END = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
"""What ends the compressed data of a scan: a marker other than a restart; FF 00 is a byte of data."""


def count_scans(stream: IO[bytes]) -> tuple[int, bool]:
    """How many scans a JPEG holds up to its end, and whether it has one; segments are walked as a decoder walks them, so
    that neither a thumbnail nor what follows the picture counts."""
    position = stream.tell()
    try:
        data: mmap.mmap | bytes = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError):  # no file: bytes in memory
        stream.seek(0)
        data = stream.read()
    at, count = 2, 0
    while found := _ENTROPY_END.search(data, at):
        code, at = found.group()[-1], found.end()
        if code == 0xD9:
            break
        if code in (0x01, 0xD8):  # markers without a length
            continue
        count += code == 0xDA
        at += int.from_bytes(data[at : at + 2], "big")
    stream.seek(position)
    return count, found is not None


def _first_frame(stream: IO[bytes]) -> Image.Image:
    """The first frame of an animated PNG whose own picture is only a stand-in, as a browser shows it: on nothing."""
    head: list[tuple[bytes, bytes]] = []  # chunks that say how to read the picture
    body, control, started = b"", b"", False
    for kind, content in _chunks(stream):
        if kind == b"fcTL":
            if control:
                break
            control = content
        elif kind == b"fdAT" and control:
            body += content[4:]
        elif kind == b"IDAT":
            started = True
        elif not started and kind not in (b"acTL", b"IHDR"):
            head.append((kind, content))
        elif kind == b"IHDR":
            header = content
    _, width, height, left, top = struct.unpack(">5I", control[:20])
    canvas = struct.unpack(">2I", header[:8])
    if left + width > canvas[0] or top + height > canvas[1]:
        raise DataError("an animated PNG whose first frame lies outside the picture")
    frame = [(b"IHDR", control[4:12] + header[8:]), *head, (b"IDAT", body), (b"IEND", b"")]
    image: Image.Image = Image.open(io.BytesIO(_png(frame)), formats=("PNG",))
    if (width, height) == canvas:
        return image
    whole = Image.new("RGBA", canvas)
    whole.paste(image.convert("RGBA"), (left, top))
    whole.info.update({key: image.info[key] for key in ("exif",) if key in image.info})
    return whole


def _gif_frame(image: Image.Image) -> tuple[int, int, int, int] | None:
    """Where the first frame of a GIF that is not decoded yet lies on its canvas; None for other kinds."""
    tiles = getattr(image, "tile", None)
    return tiles[0][1] if image.format == "GIF" and tiles else None


def _chunks(stream: IO[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """Kind and content of every chunk of a PNG; Pillow does not look at the checksums of pixels."""
    stream.seek(8)
    while len(start := stream.read(8)) == 8:
        length, kind = int.from_bytes(start[:4], "big"), start[4:]
        content = stream.read(length)
        if kind in (b"IDAT", b"fdAT") and stream.read(4) != zlib.crc32(content, zlib.crc32(kind)).to_bytes(
            4, "big"
        ):
            raise DataError("a part of the picture is damaged or missing: copy it again")
        if kind not in (b"IDAT", b"fdAT"):
            stream.read(4)
        yield kind, content


def _check_png(stream: IO[bytes]) -> None:
    """`DataError` if a checksum of the pixels is wrong."""
    position, last = stream.tell(), b""
    for kind, _ in _chunks(stream):
        if last == b"IDAT" != kind:
            break
        last = kind
    stream.seek(position)


def _png(chunks: list[tuple[bytes, bytes]]) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in chunks
    )


Bands: TypeAlias = Callable[[tuple[int, int, int, int]], Image.Image]
"""Cuts (left, top, right, bottom) out of a picture."""

_DEEP = re.compile(r"(RGB|RGBA|RGBX|CMYK);16([LBN])")
_OTHER_BYTE = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}


def _sixteen_bits(source: Source, image: Image.Image) -> Bands | None:
    """A picture of 16 bits a colour, rounded to 8; None for any other. Pillow drops the low byte.

    The picture is decoded twice. Read in the other byte order, the byte that is kept is the low one. Grey with
    transparency has as many bytes a pixel as four colours of 8 bits have, and is read as those.
    """
    tiles = getattr(image, "tile", None)
    if isinstance(source, Image.Image) or not tiles:
        return None
    raw = _rawmode(tiles[0][3])
    if raw == "LA;16B":
        with _stream(source) as stream:
            chunks = [(kind, part) for kind, part in _chunks(stream) if kind in (b"IHDR", b"IDAT", b"IEND")]
        chunks[0] = b"IHDR", chunks[0][1][:8] + b"\x08\x06" + chunks[0][1][10:]
        both = Image.open(io.BytesIO(_png(chunks)), formats=("PNG",))

        def grey(box: tuple[int, int, int, int]) -> Image.Image:
            values = np.asarray(both.crop(box)).reshape(-1, 2)
            return Image.fromarray(_rounded(values[:, 0], values[:, 1], box, 2))

        return grey
    match = _DEEP.fullmatch(raw)
    if match is None:
        return None
    other = f"{match[1]};16{_OTHER_BYTE[match[2]]}"
    with _stream(source) as stream:
        low = Image.open(stream, formats=_formats())
        low.tile = [part._replace(args=_with_rawmode(part.args, other)) for part in low.tile]
        low.info.pop("xmp", None)
        low.load()
    clear = image.info.pop("transparency", None)  # 16-bit values, which mean nothing to 8-bit ones

    def colours(box: tuple[int, int, int, int]) -> Image.Image:
        high_part, low_part = (np.asarray(one.crop(box)) for one in (image, low))
        planes = len(image.getbands())
        band = Image.fromarray(_rounded(high_part, low_part, box, planes), mode=image.mode)
        if clear is not None:
            values = high_part.astype(np.uint16) * 256 + low_part
            band.putalpha(Image.fromarray(((values != clear).any(2) * 255).astype(np.uint8)))
        return band

    return colours


def _rounded(high: Pixels, low: Pixels, box: tuple[int, int, int, int], planes: int) -> Pixels:
    left, top, right, bottom = box
    values = high.astype(np.uint32) * 256 + low
    return ((values + 128) // 257).astype(np.uint8).reshape(bottom - top, right - left, planes)


def _rawmode(args: object) -> str:
    """How the bytes of a file are arranged, from the arguments of one of Pillow's decoders."""
    first = args[0] if isinstance(args, tuple) and args else args
    return first if isinstance(first, str) else ""


def _with_rawmode(args: tuple[Any, ...] | str | None, rawmode: str) -> tuple[Any, ...] | str:
    return (rawmode, *args[1:]) if isinstance(args, tuple) else rawmode


def _is_heif(source: Source) -> bool:
    if isinstance(source, Image.Image):
        return False
    with _stream(source) as stream:
        head = stream.read(12)
    return head[4:8] == b"ftyp" and head[8:12] in b"heic heix hevc heim heis mif1 msf1".split()


@lru_cache(maxsize=1)
def _formats() -> tuple[str, ...]:
    Image.init()
    with suppress(ImportError):
        importlib.import_module("pillow_heif").register_heif_opener()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


def _pixels(image: Image.Image, bands: Bands, name: str) -> Pixels:
    """(H, W, 3) of a decoded picture, made band by band: a large one never exists in several forms at once."""
    width, height = image.size
    out = np.empty((height, width, 3), dtype=np.uint8)
    rows = max(1, BAND // width)
    grey = _grey_scale(image, name) if image.mode.startswith("I") else None
    for top in range(0, height, rows):
        band = bands((0, top, width, min(height, top + rows)))
        if grey is None:
            out[top : top + rows] = np.asarray(_as_rgb(band, name))
        else:
            out[top : top + rows] = grey(np.asarray(band).astype(np.int64))[:, :, None]
    return out


def _grey_scale(image: Image.Image, name: str) -> Callable[[NDArray[np.int64]], Pixels]:
    """From grey values beyond 8 bits to 8, by how the file says they are meant."""
    tags = getattr(image, "tag_v2", {})
    depth, signed = tags.get(_BITS_PER_SAMPLE, (16,))[0], tags.get(_SAMPLE_FORMAT, (1,))[0] == 2
    if depth > 16 or signed:
        raise DataError(f"{name}: grey values beyond 16 bits; save it as an 8-bit picture")
    most, white_is_zero = 2**depth - 1, tags.get(_PHOTOMETRIC) == 0
    clear = image.info.get("transparency")

    def scaled(values: NDArray[np.int64]) -> Pixels:
        if values.size and (values.min() < 0 or values.max() > most):
            raise DataError(f"{name}: grey values beyond {depth} bits; save it as an 8-bit picture")
        grey = (2 * 255 * (most - values if white_is_zero else values) + most) // (2 * most)
        return np.where(values == clear, 255, grey).astype(np.uint8)

    return scaled


_BITS_PER_SAMPLE, _PHOTOMETRIC, _SAMPLE_FORMAT = 258, 262, 339
"""TIFF tags."""


def _as_rgb(image: Image.Image, name: str) -> Image.Image:
    if image.mode == "F":
        raise DataError(f"{name}: floating-point grey values; save it as an 8-bit picture")
    if "transparency" in image.info or image.mode in ("RGBA", "LA", "PA", "RGBa", "La"):
        # Pillow converts a premultiplied grey picture only by way of plain LA.
        overlay = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", overlay.size, "white"), overlay).convert("RGB")
    return image.convert("RGB")
