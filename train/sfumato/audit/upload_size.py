"""Size of an upload in bytes, beside the photo it stands for.

A dither upload is packed: log2(levels) bits a colour sample, nothing else; where blocks can be closed it is a PNG. A gaussian
upload is a byte a sample in a PNG. All are measured without headers of the transport.

    upload_bytes(channel, pixels, uploads).mean
"""

import io
import zlib
from math import prod

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sfumato.audit.attack_data import Pixels
from sfumato.audit.rows import Numbers, pack
from sfumato.audit.schema import UploadBytes
from sfumato.channels import Channel
from sfumato.channels.dither import Dither

SAMPLE = 256
"""Images that are encoded; enough for a mean."""


def encoded(image: NDArray[np.uint8], form: str, **settings: int) -> int:
    """Bytes of one image (H, W, 3) in a file format."""
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, form, **settings)
    return stream.tell()


def deflated(levels: NDArray[np.uint8], bits: int) -> bytes:
    """The pixels of a PNG of levels (3, H, W), the planes one below the other, where closed blocks take no room."""
    rows = pack(levels.reshape(-1, levels.shape[2]), bits)
    return zlib.compress(np.pad(rows, ((0, 0), (1, 0))).tobytes(), 9)


def upload_bytes(channel: Channel, pixels: Pixels, uploads: Numbers) -> UploadBytes:
    """Mean bytes of an upload and of the raw image as JPEG 90.

    Args:
        channel: says how an upload is packed.
        pixels: (N, H, W, 3) raw images.
        uploads: (N, 3, H, W) in 0..1.
    """
    raw = float(np.mean([encoded(image, "JPEG", quality=90) for image in pixels[:SAMPLE]]))
    if isinstance(channel, Dither) and channel.gates:
        shown = (uploads[:SAMPLE].float() * (channel.levels - 1)).round().byte().numpy()
        sizes = [len(deflated(levels, channel.bits)) for levels in shown]
        return UploadBytes(mean=float(np.mean(sizes)), raw_jpeg90_mean=raw, encoding="PNG of open blocks")
    if isinstance(channel, Dither):
        size = -(-prod(uploads.shape[1:]) * channel.bits // 8)
        return UploadBytes(
            mean=float(size), raw_jpeg90_mean=raw, encoding=f"{channel.bits} bit(s) a sample, packed"
        )
    images = (uploads[:SAMPLE].float() * 255).round().byte().permute(0, 2, 3, 1).numpy()
    mean = float(np.mean([encoded(np.ascontiguousarray(image), "PNG") for image in images]))
    return UploadBytes(mean=mean, raw_jpeg90_mean=raw, encoding="PNG")
