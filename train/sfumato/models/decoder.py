"""A decoder: uploads back into maps of the same size, be it the photo or the channel's parameters.

U-shaped, with a narrow dense layer at its lowest point: at a low rate what an upload tells about the photo is spread
over all of it, and convolutions alone would have to carry it across. It starts as the best constant guess and learns what
to add.

    decoder = Decoder(mean_image)              # (3, H, W); H and W multiples of 16
    restored = decoder(upload).clamp(0, 1)     # upload: (B, 3, H, W), 0..1
"""

import torch
from torch import Tensor, nn

from sfumato.models.layers import Separable, convolution, enlarge
from sfumato.models.local import Encoder

NARROW = 128
"""Width of the dense layer."""


class Decoder(nn.Module):
    """Upload (B, inputs, H, W) in 0..1 -> maps of the shape of `start`.

    Args:
        start: the constant guess, (planes, H, W).
        widths: feature planes at 1/2, 1/4, 1/8 and 1/16 of the resolution.
        inputs: planes of the upload: 3 for colour, 1 for grey.
    """

    start: Tensor

    def __init__(
        self, start: Tensor, widths: tuple[int, int, int, int] = (24, 32, 48, 64), inputs: int = 3
    ) -> None:
        super().__init__()
        planes, height, width = start.shape
        a, b, c, d = widths
        self.register_buffer("start", start.clone())
        # The guess can be taken back, for uploads that show the photo itself.
        self.share = nn.Parameter(torch.ones(planes, 1, 1))
        self.encoder = Encoder(widths, (1, 1, 1), inputs)
        cells = d * (height // 16) * (width // 16)
        self.whole = nn.Sequential(nn.Linear(cells, NARROW), nn.ReLU(), nn.Linear(NARROW, cells))
        self.up = nn.ModuleList([convolution(d, c, size=1), Separable(c, b), Separable(b, a)])
        self.smooth = Separable(a, a)
        self.head = nn.Conv2d(a, planes, 1)
        self.direct = nn.Conv2d(inputs, planes, 5, padding=2)
        for last in (self.head, self.direct):
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, planes, H, W), not clamped."""
        centred = 2 * x - 1
        *skips, y = self.encoder(centred)
        y = y + self.whole(y.flatten(1)).view(y.shape)
        for block, skip in zip(self.up, reversed(skips), strict=True):
            y = enlarge(block(y)) + skip
        maps: Tensor = enlarge(self.head(self.smooth(y))) + self.direct(centred)
        return self.share * self.start + maps


class Clamped(nn.Module):
    """A decoder whose output is kept to 0..1."""

    def __init__(self, decoder: nn.Module) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, planes, H, W) in 0..1."""
        restored: Tensor = self.decoder(x).clamp(0, 1)
        return restored.contiguous(memory_format=torch.channels_last)


class Beside(nn.Module):
    """The upload with what was estimated from it: (B, C, H, W) -> (B, C + planes, H, W)."""

    def __init__(self, estimator: nn.Module) -> None:
        super().__init__()
        self.estimator = estimator

    def forward(self, x: Tensor) -> Tensor:
        """Stack upload and estimate."""
        return torch.cat([x, self.estimator(x)], dim=1)
