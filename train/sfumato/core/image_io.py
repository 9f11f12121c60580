"""From any picture file to the pixels a model sees: decode, orient, crop, resize.

Training and the phone-side code share these lines, because a model is only as good as the agreement between
the two. Needs numpy and Pillow alone. A picture comes back as plain pixels: no EXIF, GPS, comment, profile or
thumbnail survives.

Usage: `pixels = load(Path("photo.jpg"), height=64, width=64)`
"""

import io
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TypeAlias

import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from sfumato.core.errors import DataError

Pixels: TypeAlias = NDArray[np.uint8]
Source: TypeAlias = str | Path | bytes | Image.Image
"""A picture: a file, the bytes of one, or what Pillow made of one."""

MAX_PIXELS = 120_000_000
"""Largest picture that is opened, in pixels: a photo of 108 megapixels fits, as a JPEG decoded at a reduced scale."""

MAX_DECODED = 40_000_000
"""Most pixels that are really unpacked. WebP and AVIF need about 20 bytes a pixel on the way: this stays below 1 GB."""

MAX_SCANNED = 1_200_000_000
"""Pixels times scans of a JPEG: ten scans of the largest picture. A hostile file holds thousands of empty scans."""

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
)  # no format that starts another program
# Size is checked against max_pixels before any pixel is decoded, so Pillow's own (lower) warning says nothing
# new.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


def read_rgb(
    source: Source, *, max_pixels: int = MAX_PIXELS, at_least: tuple[int, int] | None = None
) -> Pixels:
    """Decode a picture to upright 8-bit RGB.

    EXIF orientation is applied; CMYK, palette and grey are converted; 16-bit values are divided by 257 and
    rounded; transparent pixels are laid over white, the colour most viewers show; of an animation the first
    frame is taken. Colour profiles are not applied.

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
                    f"{name}: {width} x {height} pixels to decode, more than the {MAX_DECODED} allowed: make it smaller"
                )
            image.load()  # an EXIF block may stand behind the picture
            turn = TURNS.get(image.getexif().get(ORIENTATION, 1))
            pixels = _pixels(image, name)
        return np.ascontiguousarray(turn(pixels)) if turn else pixels
    except DataError:
        raise
    except FileNotFoundError:
        raise DataError(f"{name}: no such file") from None
    except UnidentifiedImageError:
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


def _opened(source: Source) -> AbstractContextManager[Image.Image]:
    if isinstance(source, Image.Image):
        return nullcontext(source)
    return Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=_formats())


def _check_size(image: Image.Image, name: str, max_pixels: int) -> None:
    """Refuse, before anything is decoded, what would take too much memory or time."""
    width, height = image.size
    if width * height > max_pixels:
        raise DataError(f"{name}: {width} x {height} pixels, more than the {max_pixels} allowed")
    if (
        image.format in ("JPEG", "MPO") and getattr(image, "fp", None) is not None
    ):  # else it is decoded already
        scans = _scans(image)
        if width * height * scans > MAX_SCANNED:
            raise DataError(
                f"{name}: a JPEG of {width} x {height} pixels in {scans} scans takes too long to decode"
            )


def _scans(image: Image.Image) -> int:
    """Start-of-scan markers in a JPEG file; thumbnails count as well, which does no harm."""
    stream = getattr(image, "fp")  # noqa: B009 - Pillow's type stubs do not promise that it is open
    position, count, last = stream.tell(), 0, b""
    stream.seek(0)
    while block := stream.read(2**20):
        count += (last + block).count(b"\xff\xda")
        last = block[-1:]
    stream.seek(position)
    return count


def _formats() -> tuple[str, ...]:
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


def _pixels(image: Image.Image, name: str) -> Pixels:
    """(H, W, 3) of a decoded picture, made band by band: a large one never exists in several forms at once."""
    width, height = image.size
    out = np.empty((height, width, 3), dtype=np.uint8)
    rows = max(1, BAND // width)
    for top in range(0, height, rows):
        band = image.crop((0, top, width, min(height, top + rows)))
        out[top : top + rows] = np.asarray(_as_rgb(band, name))
    return out


def _as_rgb(image: Image.Image, name: str) -> Image.Image:
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.int64)
        if values.size and (values.min() < 0 or values.max() > 65535):
            raise DataError(f"{name}: grey values beyond 16 bits; save it as an 8-bit picture")
        return Image.fromarray(((values + 128) // 257).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise DataError(f"{name}: floating-point grey values; save it as an 8-bit picture")
    if "transparency" in image.info or image.mode in ("RGBA", "LA", "PA", "RGBa", "La"):
        # Pillow converts a premultiplied grey picture only by way of plain LA.
        overlay = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", overlay.size, "white"), overlay).convert("RGB")
    return image.convert("RGB")
