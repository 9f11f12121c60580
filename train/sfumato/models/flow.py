"""A conditional generator: it draws photos that may lie behind an upload.

Rectified flow (Liu, Gong and Liu, ICLR 2023) from the posterior mean, as in PMRF (Ohayon, Michaeli and Elad, ICLR 2025): a
decoder's estimate plus noise of the size of its error is moved along straight lines to a photo. The network is the velocity,

    x(0) = estimate + scale n,    x(1) = photo,    v(x(t), t) = E[photo - x(0) | x(t), upload],    n ~ N(0, 1)

and a drawing is x(1) of dx/dt = v by a few steps of Euler. Other noise gives another drawing.

    flow = Flow((3, 32, 32), scale=0.15)
    drawn = flow.draw(upload, estimate, noise, steps=4)      # each (B, 3, H, W); H and W multiples of 16
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sfumato.models.decoder import NARROW
from sfumato.models.layers import Separable, convolution, enlarge
from sfumato.models.local import Encoder


class Flow(nn.Module):
    """The velocity, in units of `scale`: (state, upload, estimate, time) -> (B, 3, H, W).

    Args:
        shape: of a photo, (3, H, W), or (1, H, W) for grey.
        scale: of the noise that is added to an estimate, in 0..1.
        widths: feature planes at 1/2, 1/4, 1/8 and 1/16 of the resolution.
        uploaded: planes of an upload.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        scale: float,
        widths: tuple[int, int, int, int] = (24, 32, 48, 64),
        uploaded: int = 3,
    ) -> None:
        super().__init__()
        planes, height, width = shape
        a, b, c, d = widths
        self.scale = scale
        inputs = 2 * planes + uploaded + 1
        self.encoder = Encoder(widths, (1, 1, 1), inputs)
        cells = d * (height // 16) * (width // 16)
        self.whole = nn.Sequential(nn.Linear(cells, NARROW), nn.ReLU(), nn.Linear(NARROW, cells))
        self.up = nn.ModuleList([convolution(d, c, size=1), Separable(c, b), Separable(b, a)])
        self.smooth = Separable(a, a)
        self.head = nn.Conv2d(a, 4 * planes, 1)
        self.direct = nn.Conv2d(inputs, planes, 3, padding=1)
        for last in (self.head, self.direct):
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)  # type: ignore[arg-type]

    def forward(self, state: Tensor, upload: Tensor, estimate: Tensor, time: Tensor) -> Tensor:
        """State, upload and estimate (B, 3, H, W), time (B,) in 0..1."""
        clock = time.view(-1, 1, 1, 1).expand(-1, 1, *state.shape[2:])
        seen = torch.cat(
            [(state - estimate) / self.scale, 2 * estimate - 1, 2 * upload - 1, 2 * clock - 1], dim=1
        )
        *skips, y = self.encoder(seen)
        y = y + self.whole(y.flatten(1)).view(y.shape)
        for block, skip in zip(self.up, reversed(skips), strict=True):
            y = enlarge(block(y)) + skip
        velocity: Tensor = F.pixel_shuffle(self.head(self.smooth(y)), 2) + self.direct(seen)
        return velocity

    def loss(self, photo: Tensor, upload: Tensor, estimate: Tensor, noise: Tensor, time: Tensor) -> Tensor:
        """Mean squared error of the velocity at a point between start and photo, in units of `scale`."""
        start = estimate + self.scale * noise
        path = photo - start
        state = start + time.view(-1, 1, 1, 1) * path
        return F.mse_loss(self(state, upload, estimate, time), path / self.scale)

    @torch.no_grad()
    def draw(self, upload: Tensor, estimate: Tensor, noise: Tensor, steps: int) -> Tensor:
        """One drawing for each upload, (B, 3, H, W) in 0..1."""
        state = estimate + self.scale * noise
        for step in range(steps):
            time = torch.full((len(state),), step / steps, device=state.device)
            state = state + self.scale / steps * self(state, upload, estimate, time)
        return state.clamp(0, 1)
