"""Size of an upload in bytes, beside the photo it stands for.

A dither upload is packed: log2(levels) bits a colour sample, nothing else; where blocks can be closed it is a PNG, where
there is a book an index. A gaussian upload is a byte a sample in a PNG. All are measured without headers of the transport.

    upload_bytes(channel, pixels, uploads).mean
"""

import io
from math import prod

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from sfumato.audit.attack_data import Pixels
from sfumato.audit.index_channel import IndexChannel
from sfumato.audit.rows import Numbers
from sfumato.audit.schema import UploadBytes
from sfumato.channels import Channel
from sfumato.channels.dither import Dither
from sfumato.runtime.upload_codec import encode_png

SAMPLE = 256
"""Images that are encoded; enough for a mean."""


def encoded(image: NDArray[np.uint8], form: str, **settings: int) -> int:
    """Bytes of one image (H, W, 3), or (H, W, 1) for grey, in a file format."""
    stream = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[2] == 1 else image).save(stream, form, **settings)
    return stream.tell()


def image_sizes(images: Tensor, form: str, **settings: int) -> NDArray[np.float64]:
    """Bytes of images (N, 3, H, W) in 0..1, each as a file of one format: (N,)."""
    shown = (images.float().clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).numpy()
    sizes = [encoded(np.ascontiguousarray(image), form, **settings) for image in shown]
    return np.array(sizes, dtype=np.float64)


def upload_sizes(channel: Channel, uploads: Numbers) -> tuple[NDArray[np.float64], str]:
    """Bytes of the first uploads, and how they are packed.

    Args:
        channel: says how an upload is packed.
        uploads: (N, 3, H, W) in 0..1.

    Returns:
        (M,) bytes, at most `SAMPLE`; M is 1 where all have one size.
    """
    if isinstance(channel, IndexChannel):
        return np.array([float(channel.code.size)]), f"index of {channel.code.bits:,} bits"
    if isinstance(channel, Dither) and channel.gates:
        shown = (uploads[:SAMPLE].float() * (channel.levels - 1)).round().byte().permute(0, 2, 3, 1).numpy()
        sizes = [len(encode_png(levels, bits=channel.bits, gates=True)) for levels in shown]
        return np.array(sizes, dtype=np.float64), "PNG of open blocks"
    if isinstance(channel, Dither):
        size = -(-(prod(uploads.shape[1:]) // channel.subsample**2) * channel.bits // 8)
        return np.array([float(size)]), f"{channel.bits} bit(s) a sample, packed"
    return image_sizes(uploads[:SAMPLE].float(), "PNG"), "PNG"


def upload_bytes(channel: Channel, pixels: Pixels, uploads: Numbers) -> UploadBytes:
    """Mean bytes of an upload and of the raw image as JPEG 90.

    Args:
        channel: says how an upload is packed.
        pixels: (N, H, W, 3) raw images.
        uploads: (N, 3, H, W) in 0..1.
    """
    raw = float(np.mean([encoded(image, "JPEG", quality=90) for image in pixels[:SAMPLE]]))
    sizes, encoding = upload_sizes(channel, uploads)
    return UploadBytes(mean=float(sizes.mean()), raw_jpeg90_mean=raw, encoding=encoding)
