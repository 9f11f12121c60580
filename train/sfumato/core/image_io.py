"""From any picture file to the pixels a model sees: decode, orient, crop, resize.

Training and the phone-side code share these lines, because a model is only as good as the agreement between
the two. Needs numpy and Pillow alone. A picture comes back as plain pixels: no EXIF, GPS, comment, profile or
thumbnail survives. What is refused, and which way is up, `picture_file` decides before Pillow sees the file, by the rules
that the page and the app have too.

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
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO, Any, TypeAlias, cast

import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from sfumato.core.dicom_file import Window, read_dicom, windowed
from sfumato.core.errors import DataError
from sfumato.core.picture_file import (
    AVIF,
    DICOM,
    HEIF,
    JPEG,
    MAX_BYTES,
    MAX_DECODED,
    MAX_PIXELS,
    PNG,
    TIFF,
    Content,
    PictureError,
    PictureFile,
    check_size,
    chunks,
    exif_orientation,
    inspect,
    segments,
)

Pixels: TypeAlias = NDArray[np.uint8]
Source: TypeAlias = str | Path | bytes | Image.Image
"""A picture: a file, the bytes of one, or what Pillow made of one."""
Box: TypeAlias = tuple[int, int, int, int]
Bands: TypeAlias = Callable[[Box], Image.Image]
"""Cuts (left, top, right, bottom) out of a picture."""

REDUCTION = 4
"""A JPEG of more than `MAX_DECODED` pixels is decoded at a reduced scale: each side stays this many times the target's."""

GREY_WEIGHTS = (19_595, 38_470, 7_471)
"""Of red, green and blue in a grey value, in 65,536ths."""

BAND = 1_000_000
"""Pixels that are converted at a time."""

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
SUFFIXES = (*_JPEG, *_PNG, ".gif", *_PLAIN, *_CODED, ".dcm", ".dicom")
"""Endings, in small letters, of what is taken for a picture in a folder."""


def read_rgb(
    source: Source,
    *,
    max_pixels: int = MAX_PIXELS,
    at_least: tuple[int, int] | None = None,
    window: Window | None = None,
) -> Pixels:
    """Decode a picture to upright 8-bit RGB.

    EXIF orientation is applied, and no other: what XMP says is not. CMYK, palette and grey are converted; 16-bit values are
    divided by 257 and rounded unless there is a window; transparent pixels are laid over white, the colour most viewers show;
    of an animation the first frame is taken, not a still that stands in for it. Colour profiles are not applied. What follows
    a JPEG's end, a motion photo's video for example, is not looked at. DICOM: `sfumato.core.dicom_file`.

    Args:
        source: a file, its bytes, or an image of Pillow's, which is left as it is.
        max_pixels: refuse larger pictures before decoding them.
        at_least: (height, width) in pixels; a JPEG of more than `MAX_DECODED` pixels may be decoded at 1/2, 1/4 or 1/8 of
            its size (libjpeg's scaled inverse transform) while it stays at least as high and as wide. None refuses it.
        window: the grey values that become black and white, for PNG and TIFF of 16 bits and for DICOM; other pictures are then
            refused. None: all values of 16 bits, of DICOM the file's own window.

    Returns:
        (H, W, 3) uint8.

    Raises:
        PictureError: not a picture, broken, of an unknown kind, or larger than `max_pixels`; `reason` says which.
        DataError: no such file.
    """
    with _upright(source, max_pixels, MAX_DECODED, at_least, window) as picture:
        return picture.all()


def fit(image: Pixels, height: int, width: int) -> Pixels:
    """Crop to the target's aspect around the centre, then resize: part of the contract with the phone.

    For an input of H x W:

    1. Crop. If `W * height > H * width`, keep `cw = max(1, floor(H * width / height + 1/2))` columns from
       column `floor((W - cw) / 2)`; otherwise keep `ch = max(1, floor(W * height / width + 1/2))` rows from
       row `floor((H - ch) / 2)`. All in integers.
    2. Resize columns, then rows (Pillow's antialiased BILINEAR). For output index i of n from m inputs:
       `scale = m / n`, `support = max(scale, 1)`, `centre = (i + .5) * scale`; inputs from
       `floor(centre - support + .5)` up to, not including, `floor(centre + support + .5)`, both kept within
       0..m, have weight `1 - |(j - centre + .5) * (1 / support)|`, never below 0, normalised to sum 1, times 2^22 and
       rounded half away from zero. Output is `(sum(weight * pixel) + 2^21) >> 22`, kept within 0..255; the
       first pass is rounded to 8 bits before the second. A pass that changes no size is left out.

    Args:
        image: (H, W, 3) uint8.
        height: of the result, in pixels.
        width: of the result, in pixels.

    Returns:
        (height, width, 3) uint8.
    """
    top, left, rows, columns = centre_crop(image.shape[0], image.shape[1], height, width)
    return _resized(image[top : top + rows, left : left + columns], height, width).copy()


def centre_crop(rows: int, columns: int, height: int, width: int) -> tuple[int, int, int, int]:
    """Top, left, rows and columns of what step 1 of `fit` keeps."""
    if columns * height > rows * width:
        kept = max(1, (2 * rows * width + height) // (2 * height))
        return 0, (columns - kept) // 2, rows, kept
    kept = max(1, (2 * columns * height + width) // (2 * width))
    return (rows - kept) // 2, 0, kept, columns


def load(
    source: Source,
    height: int,
    width: int,
    *,
    max_pixels: int = MAX_PIXELS,
    max_decoded: int = MAX_DECODED,
    window: Window | None = None,
) -> Pixels:
    """`read_rgb` and `fit` in one: what every picture goes through before a model; `window` as there.

    A picture is decoded whole, so that a JPEG and its lossless copy give the same pixels. A JPEG of more than `max_decoded`
    pixels is decoded at a reduced scale, each side at least `REDUCTION` times the target's; another kind of that size is
    refused.

    Returns:
        (height, width, 3) uint8.
    """
    at_least = (REDUCTION * height, REDUCTION * width)
    with _upright(source, max_pixels, max_decoded, at_least, window) as picture:
        return _fit_bands(picture, height, width)


def is_deep(path: Path) -> bool:
    """Whether a file is a grey picture of more than 8 bits, as its header says; False for what is no picture."""
    try:
        with Image.open(path, formats=("PNG", "TIFF")) as image:
            return image.mode.startswith("I")
    except Exception:  # nobody asked for its pixels yet: whoever does is told
        return False


def to_grey(pixels: Pixels) -> Pixels:
    """Pixels (..., 3) -> one plane (..., 1): `(19595 red + 38470 green + 7471 blue + 32768) >> 16`, the luma of ITU-R BT.601.

    What is grey already keeps its values: the weights sum to 65,536. Part of the contract with the phone, after `fit`.
    """
    weighted = pixels.astype(np.uint32) @ np.array(GREY_WEIGHTS, dtype=np.uint32)
    return ((weighted + 32768) >> 16).astype(np.uint8)[..., None]


def reduction(height: int, width: int, at_least: tuple[int, int], most: int = MAX_DECODED) -> int:
    """By how much a JPEG's sides are divided as it is decoded: 1 up to `most` pixels, else the first of 2, 4 and 8 that
    brings it there and leaves each side at least as long as asked for."""
    for divisor in (1, 2, 4, 8):
        if height // divisor < at_least[0] or width // divisor < at_least[1]:
            break
        if (height // divisor) * (width // divisor) <= most:
            return divisor
    if height * width <= most:
        return 1
    raise PictureError(
        f"{width} x {height} pixels to decode, more than the {most} allowed: make it smaller "
        "or save it as a JPEG, which is decoded at a reduced scale",
        "size",
    )


def decoder() -> str:
    """Names what decides the pixels of a file beside the file: results of another decoder are not this one's."""
    known = known_formats()
    heif = f" libheif {importlib.import_module('pillow_heif').libheif_version()}" if "HEIF" in known else ""
    return f"pillow {PIL.__version__}{heif} {' '.join(known)}"


@dataclass(frozen=True)
class _Upright:
    """A decoded picture that is converted, turned and cut out a part at a time: it never exists in several forms at once."""

    height: int
    width: int
    orientation: int
    stored: Callable[[tuple[int, int, int, int]], Pixels]
    """(left, top, right, bottom) of the picture as stored -> RGB."""

    def part(self, left: int, top: int, right: int, bottom: int) -> Pixels:
        """(bottom - top, right - left, 3) of the upright picture."""
        turn = TURNS.get(self.orientation)
        # Sides of the stored picture: from 5 on its rows are the upright one's columns.
        height, width = (self.width, self.height) if self.orientation >= 5 else (self.height, self.width)
        if self.orientation >= 5:
            left, top, right, bottom = top, left, bottom, right
        if self.orientation in (2, 3, 7, 8):
            left, right = width - right, width - left
        if self.orientation in (3, 4, 6, 7):
            top, bottom = height - bottom, height - top
        pixels = self.stored((left, top, right, bottom))
        return turn(pixels) if turn else pixels

    def bands(self, left: int, top: int, right: int, bottom: int) -> Iterator[tuple[int, Pixels]]:
        """First row, counted from `top`, and pixels of every `BAND` of a part."""
        rows = max(1, BAND // (right - left))
        for start in range(top, bottom, rows):
            yield start - top, self.part(left, start, right, min(bottom, start + rows))

    def all(self) -> Pixels:
        """(H, W, 3)."""
        out = np.empty((self.height, self.width, 3), dtype=np.uint8)
        for start, band in self.bands(0, 0, self.width, self.height):
            out[start : start + len(band)] = band
        return out


def _fit_bands(picture: _Upright, height: int, width: int) -> Pixels:
    """`fit` of the whole picture: its columns band by band, then the rows."""
    top, left, rows, columns = centre_crop(picture.height, picture.width, height, width)
    narrow = np.empty((rows, width, 3), dtype=np.uint8)
    for start, band in picture.bands(left, top, left + columns, top + rows):
        narrow[start : start + len(band)] = _resized(band, len(band), width)
    return _resized(narrow, height, width)


def _resized(image: Pixels, height: int, width: int) -> Pixels:
    if image.shape[:2] == (height, width):
        return image
    resized = Image.fromarray(np.ascontiguousarray(image)).resize((width, height), Image.Resampling.BILINEAR)
    return np.array(resized, dtype=np.uint8)


@contextmanager
def _upright(
    source: Source,
    max_pixels: int,
    max_decoded: int,
    at_least: tuple[int, int] | None,
    window: Window | None,
) -> Iterator[_Upright]:
    """A decoded picture. Whatever goes wrong is a `PictureError` that begins with the file's name."""
    name = str(source) if isinstance(source, str | Path) else "the image"
    try:
        if isinstance(source, Image.Image):
            height, width = source.height, source.width
            check_size(height, width, max_pixels)
            reduction(height, width, (height, width), max_decoded)
            tiles = getattr(source, "tile", None)
            frame = tiles[0][1] if source.format == "GIF" and tiles else None
            source.load()
            exif = None if source.format == "TIFF" else source.info.get("exif")  # Pillow turns a TIFF itself
            turn = exif_orientation(exif.removeprefix(b"Exif\0\0")) if isinstance(exif, bytes) else 1
            convert = _converted(source, source.crop, window)
            if frame is not None:
                left, top, right, bottom = frame
                convert = _within((left, top, right - left, bottom - top), (0, 0), convert)
            yield _turned(height, width, turn, convert)
            return
        with _content(source) as content:
            file = inspect(content)
            if file.height:
                check_size(file.height, file.width, max_pixels)
            if file.kind == DICOM:
                grey = read_dicom(content, window)
                height, width = grey.shape
                check_size(height, width, max_pixels)
                yield _turned(height, width, 1, _shown(grey))
                return
            if file.kind == PNG:
                content = _plain_png(content, file)
            with Image.open(_stream(content), formats=_formats_of(file.kind)) as image:
                yield _decoded(image, content, file, max_pixels, max_decoded, at_least, window)
    except PictureError as error:
        known = (
            f" ({', '.join(known_formats())})"
            if error.reason == "kind" and str(error).endswith("kind")
            else ""
        )
        raise PictureError(f"{name}: {error}{known}", error.reason) from None
    except FileNotFoundError:
        raise DataError(f"{name}: no such file") from None
    except Image.DecompressionBombError:
        raise PictureError(
            f"{name}: more than the {min(max_pixels, MAX_PIXELS)} pixels allowed", "size"
        ) from None
    except DataError as error:
        raise DataError(f"{name}: {error}") from None
    except UnidentifiedImageError:
        raise PictureError(f"{name}: the picture is damaged: copy it again", "damaged") from None
    except Exception as error:  # Pillow's decoders raise nearly every type there is on damaged files
        reason = " ".join(str(error).split()) or type(error).__name__
        raise PictureError(f"{name}: cannot be decoded ({reason})", "damaged") from None


def _decoded(
    image: Image.Image,
    content: Content,
    file: PictureFile,
    max_pixels: int,
    max_decoded: int,
    at_least: tuple[int, int] | None,
    window: Window | None,
) -> _Upright:
    """Decode an opened picture, after a last look at its size."""
    width, height = image.size
    check_size(height, width, max_pixels)
    whole = (height, width) if at_least is None or file.kind != JPEG else at_least
    if file.orientation >= 5:
        whole = whole[::-1]
    divisor = reduction(height, width, whole, max_decoded)
    if divisor > 1:
        image.draft(None, (width // divisor, height // divisor))
    bands = _sixteen_bits(content, image)
    if file.kind == TIFF:
        image.info.pop("xmp", None)  # Pillow turns a TIFF itself, and would do so by XMP too
    image.load()
    turn = file.orientation
    if file.kind in (AVIF, HEIF):  # Pillow hands their containers' turn on as EXIF
        exif = image.info.get("exif")
        turn = exif_orientation(exif.removeprefix(b"Exif\0\0")) if isinstance(exif, bytes) else 1
    if file.kind == PNG and image.mode in ("L", "LA") and isinstance(image.info.get("transparency"), int):
        image.info["transparency"] *= _grey_step(content)
    convert = _converted(image, bands or image.crop, window)
    if file.frame is not None:  # the rest of the canvas is clear, whatever Pillow paints there
        shift = file.frame[:2] if file.still else (0, 0)
        convert = _within(file.frame, shift, convert)
    height, width = (file.height, file.width) if file.frame is not None else (image.height, image.width)
    return _turned(height, width, turn, convert)


def _turned(height: int, width: int, orientation: int, stored: Callable[[Box], Pixels]) -> _Upright:
    if orientation >= 5:
        height, width = width, height
    return _Upright(height, width, orientation, stored)


def _within(frame: Box, shift: tuple[int, int], stored: Callable[[Box], Pixels]) -> Callable[[Box], Pixels]:
    """White around a first frame (left, top, width, height), whose pixels are kept `shift` before their place on the canvas."""
    left, top, across, down = frame

    def cut_out(box: Box) -> Pixels:
        pixels = np.full((box[3] - box[1], box[2] - box[0], 3), 255, dtype=np.uint8)
        a, b, c, d = max(box[0], left), max(box[1], top), min(box[2], left + across), min(box[3], top + down)
        if a < c and b < d:
            x, y = shift
            pixels[b - box[1] : d - box[1], a - box[0] : c - box[0]] = stored((a - x, b - y, c - x, d - y))
        return pixels

    return cut_out


def _grey_step(content: Content) -> int:
    """Between two grey values of a PNG's depth, in 8 bits."""
    depth = content[24]
    return 255 // ((1 << depth) - 1) if depth < 8 else 1


@contextmanager
def _content(source: str | Path | bytes) -> Iterator[Content]:
    """A file's bytes, mapped where that can be."""
    if isinstance(source, bytes):
        yield source
        return
    if Path(source).exists() and not Path(source).is_file():
        raise DataError("not a file")  # a pipe would block whoever opens it
    with Path(source).open("rb") as stream:
        try:
            mapped = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError):  # empty, or on a file system that maps none
            yield stream.read(MAX_BYTES + 1)
            return
        try:
            yield mapped
        finally:
            with suppress(BufferError):  # whoever still looks at it closes it
                mapped.close()


def _stream(content: Content) -> IO[bytes]:
    """For Pillow, which never sees a path: it would map some files into memory itself, and misread a turned TIFF there."""
    if isinstance(content, bytes):
        return io.BytesIO(content)
    content.seek(0)
    return cast(IO[bytes], content)  # reads, seeks and tells as a file does


def count_scans(content: Content) -> tuple[int, bool]:
    """How many scans a JPEG holds up to its end, and whether it has one."""
    codes = [code for code, _, _ in segments(content)]
    return codes.count(0xDA), codes[-1:] == [0xD9]


def _plain_png(content: Content, file: PictureFile) -> bytes:
    """The chunks that make a PNG's pixels and no other; of an animation's first frame, where its own picture is a stand-in."""
    kept: list[tuple[bytes, bytes]] = []
    frames = 0
    for kind, start, end in chunks(content):
        frames += kind == b"fcTL" and any(name == b"IDAT" for name, _ in kept)
        if kind in (b"IHDR", b"PLTE", b"tRNS", b"IDAT") or (file.still and kind == b"fdAT" and frames == 1):
            kept.append((kind, bytes(content[start:end])))
    if file.still and file.frame is not None:
        header = struct.pack(">II", *file.frame[2:]) + kept[0][1][8:]
        rest = [(kind, part) for kind, part in kept[1:] if kind not in (b"IDAT", b"fdAT")]
        body = [(b"IDAT", part[4:]) for kind, part in kept if kind == b"fdAT"]
        kept = [(b"IHDR", header), *rest, *body]
    return _png([*kept, (b"IEND", b"")])


def _png(chunks: list[tuple[bytes, bytes]]) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in chunks
    )


_DEEP = re.compile(r"(RGB|RGBA|RGBX|CMYK);16([LBN])")
_OTHER_BYTE = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}


def _sixteen_bits(content: Content, image: Image.Image) -> Bands | None:
    """A picture of 16 bits a colour, rounded to 8; None for any other. Pillow drops the low byte.

    The picture is decoded twice. Read in the other byte order, the byte that is kept is the low one. Grey with
    transparency has as many bytes a pixel as four colours of 8 bits have, and is read as those.
    """
    tiles = getattr(image, "tile", None)
    if not tiles:
        return None
    raw = _rawmode(tiles[0][3])
    if raw == "LA;16B":
        parts = [(kind, bytes(content[start:end])) for kind, start, end in chunks(content)]
        parts[0] = b"IHDR", parts[0][1][:8] + b"\x08\x06" + parts[0][1][10:]
        both = Image.open(io.BytesIO(_png(parts)), formats=("PNG",))

        def grey(box: tuple[int, int, int, int]) -> Image.Image:
            values = np.asarray(both.crop(box)).reshape(-1, 2)
            return Image.fromarray(_rounded(values[:, 0], values[:, 1], box, 2))

        return grey
    match = _DEEP.fullmatch(raw)
    if match is None:
        return None
    other = f"{match[1]};16{_OTHER_BYTE[match[2]]}"
    with Image.open(_stream(content), formats=known_formats()) as low:
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


def _formats_of(kind: str) -> tuple[str, ...]:
    """Pillow's names for a kind of file."""
    if kind not in known_formats():
        if kind == HEIF:
            raise PictureError(
                "HEIC is read where pillow-heif is installed (pip install 'sfumato[heic]'); else save it as a JPEG "
                "(iPhone: Settings, Camera, Formats, Most Compatible)",
                "kind",
            )
        raise PictureError(f"this Pillow reads no {kind}: save it as a PNG", "kind")
    return (JPEG, "MPO") if kind == JPEG else (kind,)


@lru_cache(maxsize=1)
def known_formats() -> tuple[str, ...]:
    """Pillow's names for what is read here, HEIF among them where pillow-heif is installed, which `Image.open` then knows."""
    Image.init()
    with suppress(ImportError):
        importlib.import_module("pillow_heif").register_heif_opener()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


def _shown(grey: Pixels) -> Callable[[Box], Pixels]:
    """From a box of a picture of one plane to its RGB."""
    return lambda box: np.repeat(grey[box[1] : box[3], box[0] : box[2], None], 3, axis=2)


def _converted(image: Image.Image, bands: Bands, window: Window | None) -> Callable[[Box], Pixels]:
    """From a box of a decoded picture to its RGB."""
    grey = _grey_scale(image, window) if image.mode.startswith("I") else None
    if window is not None and grey is None:
        raise PictureError(
            "a window is given, and this is no grey picture of 16 bits without transparency", "form"
        )

    def convert(box: Box) -> Pixels:
        band = bands(box)
        if grey is None:
            return _as_rgb(band)
        return np.repeat(grey(np.asarray(band).astype(np.int64))[:, :, None], 3, axis=2)

    return convert


def _grey_scale(image: Image.Image, window: Window | None) -> Callable[[NDArray[np.int64]], Pixels]:
    """From grey values beyond 8 bits to 8, by the window or by how the file says they are meant."""
    tags = getattr(image, "tag_v2", {})
    depth, signed = tags.get(_BITS_PER_SAMPLE, (16,))[0], tags.get(_SAMPLE_FORMAT, (1,))[0] == 2
    if depth > 16 or signed:
        raise PictureError("grey values beyond 16 bits; save it as an 8-bit picture", "form")
    most, white_is_zero = 2**depth - 1, tags.get(_PHOTOMETRIC) == 0
    clear = image.info.get("transparency")

    def scaled(values: NDArray[np.int64]) -> Pixels:
        if values.size and (values.min() < 0 or values.max() > most):
            raise PictureError(f"grey values beyond {depth} bits; save it as an 8-bit picture", "form")
        if window is not None:
            shown = windowed(values, window)
            grey = 255 - shown if white_is_zero else shown
        else:
            grey = (2 * 255 * (most - values if white_is_zero else values) + most) // (2 * most)
        return np.where(values == clear, 255, grey).astype(np.uint8)

    return scaled


_BITS_PER_SAMPLE, _PHOTOMETRIC, _SAMPLE_FORMAT = 258, 262, 339
"""TIFF tags."""


def _as_rgb(image: Image.Image) -> Pixels:
    """(H, W, 3) of 8 bits a colour."""
    if image.mode == "F":
        raise PictureError("floating-point grey values; save it as an 8-bit picture", "form")
    if image.mode == "CMYK":
        ink = np.asarray(image, dtype=np.uint16)
        return np.asarray((255 - ink[..., :3]) * (255 - ink[..., 3:]) // 255, dtype=np.uint8)
    if "transparency" in image.info or image.mode in ("RGBA", "LA", "PA", "RGBa", "La"):
        # Pillow converts a premultiplied grey picture only by way of plain LA.
        overlay = np.asarray(
            (image.convert("LA") if image.mode == "La" else image).convert("RGBA"), dtype=np.uint16
        )
        alpha = overlay[..., 3:]
        return np.asarray((overlay[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255, dtype=np.uint8)
    return np.asarray(image.convert("RGB"))
