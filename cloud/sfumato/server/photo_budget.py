"""What decoding a photo will cost, read from its first bytes: a file of 1.6 kB can unpack to a gigabyte.

`sfumato perturb` reads a picture of its own user and allows 1 GB for it. A gateway reads what others send, one after the other,
and each waits for the dearest photo before his. So it refuses photos that need more memory or time than `check_photo` allows.

    load(content, 64, 64, max_decoded=check_photo(content, (64, 64), 100_000_000))     # DataError: too large to decode here

The figures are the growth of the resident set while `image_io.load` reads pictures of 8 megapixels in every format and mode
(Pillow 13), rounded up.
"""

import io

from PIL import Image, PngImagePlugin

from sfumato.core.errors import DataError
from sfumato.core.image_io import REDUCTION, count_scans, known_formats, reduction
from sfumato.core.picture_file import MAX_DECODED, PictureError

BYTES = 9
"""For a pixel: Pillow's own, twice where a colour has 16 bits, and the parts that are converted."""
JPEG_BYTES = 5
"""The same for JPEGs, which have 8 bits."""
CODED_BYTES = 17
"""The same for WebP, AVIF and HEIC, whose decoders hold further pictures."""
CODED = ("WEBP", "AVIF", "HEIF")
COEFFICIENT_BYTES = 2
"""libjpeg holds every coefficient of a JPEG of several scans, also where it gives a reduced picture."""
MAX_SCANNED = 300_000_000
"""Pixels times scans of a JPEG: about a second."""
TILE = (322, 323)
"""TIFF tags: a tile may be larger than the picture."""

PngImagePlugin.MAX_TEXT_MEMORY = (
    2**20
)  # 64 MB is Pillow's own limit on what the texts of one PNG may unpack to


def check_photo(content: bytes, size: tuple[int, int], most: int) -> int:
    """Compare what a photo would cost with what may be spent. What is no photo passes: the decoder says it better.

    Args:
        content: the bytes of the photo.
        size: (height, width) of the model.
        most: bytes of memory.

    Returns:
        Pixels that `image_io.load` may unpack: a JPEG of more is decoded at a reduced scale.

    Raises:
        DataError: it needs more memory, or more time.
    """
    limit = MAX_DECODED
    try:
        with Image.open(io.BytesIO(content), formats=known_formats()) as image:
            width, height = image.size
            scans = 0
            if image.format in ("JPEG", "MPO"):
                scans = count_scans(content)[0]
                limit = min(limit, max(0, most - held_bytes(image, content)) // JPEG_BYTES)
            needed = decoding_bytes(image, content, size, limit)
    except Exception:  # as image_io: Pillow's decoders raise nearly every type there is
        return limit
    if needed > most or width * height * scans > MAX_SCANNED:
        raise DataError(
            f"a photo of {width} x {height} takes {needed / 1e6:,.0f} MB to decode, {most / 1e6:,.0f} are allowed here: "
            "send a smaller one, or a JPEG that is not progressive"
        )
    return limit


def decoding_bytes(
    image: Image.Image, content: bytes, size: tuple[int, int], limit: int = MAX_DECODED
) -> int:
    """Bytes that `image_io.load` will need for an opened picture of this content, and a model of (height, width), where it
    may unpack `limit` pixels."""
    pixels = image.width * image.height
    if image.format in ("JPEG", "MPO"):
        # A file that lies may be turned: the larger of the two ways to reduce it counts.
        least = [(REDUCTION * size[0], REDUCTION * size[1]), (REDUCTION * size[1], REDUCTION * size[0])]
        try:
            divisor = min(reduction(image.height, image.width, sides, limit) for sides in least)
        except PictureError:
            divisor = 1
        return pixels // divisor**2 * JPEG_BYTES + held_bytes(image, content)
    if image.format == "TIFF":
        across, down = (int(getattr(image, "tag_v2").get(tag, 0)) for tag in TILE)  # noqa: B009 - not in Pillow's stubs
        pixels = max(pixels, across * down)
    return pixels * (CODED_BYTES if image.format in CODED else BYTES)


def held_bytes(image: Image.Image, content: bytes) -> int:
    """What a JPEG's decoder holds beside its pixels."""
    return round(coefficients(image, content) * image.width * image.height * COEFFICIENT_BYTES)


def coefficients(image: Image.Image, content: bytes) -> float:
    """Coefficients for each pixel that a JPEG's decoder holds: none, if one scan has all components."""
    layers: list[tuple[int, int, int, int]] = getattr(image, "layer")  # noqa: B009 - (id, across, down, table) each
    if "progressive" not in image.info and first_scan(content) == len(layers):
        return 0.0
    largest = max(across for _, across, _, _ in layers) * max(down for _, _, down, _ in layers)
    return sum(across * down for _, across, down, _ in layers) / largest


def first_scan(content: bytes) -> int:
    """Number of components in the first scan of a JPEG; 0 if it cannot be found."""
    at = 2
    while at + 4 < len(content) and content[at] == 0xFF:
        if content[at + 1] == 0xDA:
            return content[at + 4]
        at += 1 if content[at + 1] == 0xFF else 2 + int.from_bytes(content[at + 2 : at + 4], "big")
    return 0
