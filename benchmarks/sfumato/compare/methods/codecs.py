"""Picture formats: JPEG, WebP and AVIF, as Pillow writes them (ITU-T T.81; RFC 9649; AV1 Image File Format 1.1).

x' = decode(encode(x, quality))

The first quality of each stands for it: the coarsest of JPEG that still looks like a photo, 10, and
low ones of the others.
"""

import io
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, features
from torch import Tensor, nn

from sfumato.audit.upload_size import SAMPLE, encoded
from sfumato.channels import Parameters
from sfumato.compare.methods.base import Curve, Method, Task
from sfumato.compare.methods.draws import Fixed
from sfumato.core.errors import UsageError

PUBLISHED = "no paper: a naive baseline"


class Codec(nn.Module):
    """Encode and decode; not differentiable, and nothing before it needs to be."""

    def __init__(self, form: str, quality: int) -> None:
        super().__init__()
        self.form, self.quality = form, quality

    def forward(self, x: Tensor) -> Parameters:
        """Images (B, 3, H, W) in 0..1 -> what is left of them."""
        pixels = (x.detach().cpu() * 255).round().byte().permute(0, 2, 3, 1).contiguous().numpy()
        out = torch.from_numpy(np.stack([self.degrade(image) for image in pixels]))
        return {"mean": out.permute(0, 3, 1, 2).float().div(255).to(x.device)}

    def degrade(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """One image (H, W, 3) of bytes through the codec."""
        stream = io.BytesIO()
        Image.fromarray(image).save(stream, self.form, quality=self.quality)
        return np.asarray(Image.open(stream).convert("RGB"))


class Compressed(Method):
    """Upload a coarse file of one format.

    Raises:
        UsageError: this Pillow cannot write the format.
    """

    form: ClassVar[str]
    """Pillow's name of the format."""
    trained = ("cloud",)

    def __init__(self, task: Task, *, quality: int) -> None:
        if not self.available():
            raise UsageError(
                f"this Pillow writes no {self.form}: choose other methods, or install one that does"
            )
        super().__init__(task, phone=Codec(self.form, quality), draw=Fixed(), cloud=task.clean_cloud())
        self.quality = quality

    @classmethod
    def available(cls) -> bool:
        """Whether this Pillow writes the format."""
        return cls.form == "JPEG" or bool(features.check(cls.form.lower()))

    def upload_sizes(self, uploads: Tensor, pixels: NDArray[np.uint8]) -> tuple[NDArray[np.float64], str]:
        """The files themselves, made of the photos: a second encoding of what was decoded has another size."""
        sizes = [encoded(image, self.form, quality=self.quality) for image in pixels[:SAMPLE]]
        return np.array(sizes, dtype=np.float64), f"{self.form}, quality {self.quality}"


class Jpeg(Compressed):
    """Upload a coarse JPEG."""

    form = "JPEG"
    curve = Curve("quality", (10, 30, 5, 1), published=PUBLISHED, least=1, most=95)


class WebP(Compressed):
    """Upload a coarse WebP."""

    form = "WEBP"
    curve = Curve("quality", (10, 40, 1, 75), published=PUBLISHED, least=1, most=100)


class Avif(Compressed):
    """Upload a coarse AVIF."""

    form = "AVIF"
    curve = Curve("quality", (20, 40, 5, 60), published=PUBLISHED, least=1, most=100)
