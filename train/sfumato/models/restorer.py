"""A restorer: at the service, in front of a cloud network that cannot change. It turns uploads into pictures like photos.

A network that has never seen an upload reads it badly, and cannot learn to. What it can have is a network before it, which
learns together with the phone's: the two are the halves of a code that is made for this reader. The restorer is public like
the cloud network, and sees the upload alone: it tells nothing that the upload does not (docs/decisions/0059-restorer.md).

    reader = RestoringReader(cloud, Dither(subsample=2))
    logits = reader(upload)                        # those of `cloud` about the restored picture
    picture = reader.restorer(upload)              # (B, 3, H, W) -> (B, 3, H, W), about 0..1
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sfumato.channels.dither import Dither
from sfumato.models.layers import Residual, Separable, enlarge_to, pool

SIDE = 4
"""Most of the work is done on maps of a fourth of the height and the width."""
WIDTH, NARROW = 48, 24
"""Planes of these maps and of those at half the height and width."""
GRID, DENSE = 4, 128
"""Cells a side of what a dense layer sees of the maps, and its width. At a low rate what an upload tells is spread over all of
it, and convolutions alone would have to carry it across."""

SHARE = 0.1
"""Of what the last layer says, in the picture. With all of it the first steps would throw the picture far off."""


class Restorer(nn.Module):
    """Uploads in, pictures of the same size out: the upload itself at the start, and what training adds to it.

    Args:
        channel: of the uploads; its bits are read beside its levels, where a level of several bits alone hides them.
    """

    def __init__(self, channel: Dither) -> None:
        super().__init__()
        self.channel, colours = channel, channel.colours
        inputs = colours * (1 + channel.bits) if channel.bits > 1 else colours
        side = SIDE // channel.subsample
        reading = nn.Conv2d(inputs, WIDTH, 3 * side, side, padding=side, bias=False)
        self.first = nn.Sequential(reading, nn.BatchNorm2d(WIDTH), nn.ReLU())
        self.near, self.after = Residual(WIDTH, WIDTH), Residual(WIDTH, WIDTH)
        cells = WIDTH * GRID**2
        self.whole = nn.Sequential(nn.Linear(cells, DENSE), nn.ReLU(), nn.Linear(DENSE, cells))
        self.enlarge = nn.Sequential(nn.Conv2d(WIDTH, 4 * NARROW, 1), nn.PixelShuffle(2), nn.ReLU())
        self.smooth = Separable(NARROW, NARROW)
        self.last = nn.Conv2d(NARROW, 4 * colours, 3, padding=1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)  # type: ignore[arg-type]

    def forward(self, upload: Tensor) -> Tensor:
        """(B, 3, H, W) in 0..1, H and W multiples of 16 -> (B, 3, H, W), about 0..1."""
        side = self.channel.subsample
        seen = 2 * upload[..., side // 2 :: side, side // 2 :: side] - 1
        if self.channel.bits > 1:  # a level has a slope, its bits are only read
            seen = torch.cat([seen, 2 * self.channel.planes(upload).detach() - 1], dim=1)
        maps = self.near(self.first(seen))
        cells = pool(maps, GRID)
        everywhere = self.whole(cells.flatten(1)).view(-1, WIDTH, GRID, GRID)
        maps = self.after(maps + enlarge_to(everywhere, maps))
        added = F.pixel_shuffle(self.last(self.smooth(self.enlarge(maps))), 2)
        return upload + SHARE * added


class RestoringReader(nn.Module):
    """A cloud network that reads restored uploads.

    Args:
        network: takes pictures, (B, 3, H, W) -> attribute -> (B, classes).
        channel: of the uploads.
    """

    def __init__(self, network: nn.Module, channel: Dither) -> None:
        super().__init__()
        self.restorer, self.network = Restorer(channel), network

    def forward(self, upload: Tensor) -> dict[str, Tensor]:
        """Uploads (B, 3, H, W) -> logits per attribute, (B, classes)."""
        logits: dict[str, Tensor] = self.network(self.picture(upload))
        return logits

    def picture(self, upload: Tensor) -> Tensor:
        """Uploads (B, 3, H, W) -> what the network sees of them, the same shape."""
        restored: Tensor = self.restorer(upload)
        return restored
