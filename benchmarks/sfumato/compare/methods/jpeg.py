"""JPEG, by default of quality 10, the coarsest that still looks like a photo (ITU-T T.81, as Pillow's libjpeg writes it).

x' = decode(encode(x, quality))
"""

import io

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from sfumato.audit.upload_size import SAMPLE, encoded
from sfumato.channels import Parameters
from sfumato.compare.methods.base import Curve, Method, Task
from sfumato.compare.methods.draws import Fixed


class Jpeg(nn.Module):
    """Encode and decode; not differentiable, and nothing before it needs to be."""

    def __init__(self, quality: int) -> None:
        super().__init__()
        self.quality = quality

    def forward(self, x: Tensor) -> Parameters:
        """Images (B, 3, H, W) in 0..1 -> what is left of them."""
        pixels = (x.detach().cpu() * 255).round().byte().permute(0, 2, 3, 1).contiguous().numpy()
        out = torch.from_numpy(np.stack([self.degrade(image) for image in pixels]))
        return {"mean": out.permute(0, 3, 1, 2).float().div(255).to(x.device)}

    def degrade(self, image: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
        """One image (H, W, 3) of bytes through the codec."""
        stream = io.BytesIO()
        Image.fromarray(image).save(stream, "JPEG", quality=self.quality)
        return np.asarray(Image.open(stream).convert("RGB"))


class Compressed(Method):
    """Upload a coarse JPEG."""

    curve = Curve("quality", (10, 30, 5, 1), published="no paper: a naive baseline", least=1, most=95)
    trained = ("cloud",)

    def __init__(self, task: Task, *, quality: int = 10) -> None:
        super().__init__(task, phone=Jpeg(quality), draw=Fixed(), cloud=task.clean_cloud())
        self.quality = quality

    def upload_size(self, uploads: Tensor) -> tuple[float, str]:
        """The file itself; encoding what was decoded gives it again, but for rounding."""
        images = (uploads[:SAMPLE].float() * 255).round().byte().permute(0, 2, 3, 1).numpy()
        sizes = [encoded(np.ascontiguousarray(image), "JPEG", quality=self.quality) for image in images]
        return sum(sizes) / len(sizes), f"JPEG, quality {self.quality}"
