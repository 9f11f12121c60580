"""The phone's shortlist: the classes that its own classifier finds likely, written into the last rows of the upload.

A phone that cannot answer a question by itself still has an opinion, and the cloud network decides better where it knows it. A
second, independent look at the photo adds more than as many bits of picture do (docs/decisions/0046). So the likeliest classes
travel as bits of the picture: one for every class, after one another in the order of the draw (row, column, plane). The other
bits of these rows are 0. Nothing else about an upload changes: same channel, same size, same bound, and no reader has to know.

    odds_k = LEAST + (MOST - LEAST) hardsigmoid(STEEP (NEAR - (max z - z_k)))       z the logits of an attribute

They join the log odds of the picture before its logistic function: of two such functions that are put together behind them,
TensorFlow Lite would no longer keep the scale of 1/256.

    shortlist = Shortlist(width=64, grid=(6, 6), classes=(81,), planes=6, columns=24)
    rows = shortlist.rows(shortlist.logits(features))         # (B, 6, 1, 24), log odds
    reader = ShortlistReader(cloud, channel, {"product": 81}, size=(96, 96))
    logits = reader(upload)                                   # those of `cloud`, more for the classes of the list
"""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sfumato.channels.dither import Dither
from sfumato.models.argmax_head import ClassScores, behind_largest, planewise
from sfumato.models.layers import Padding

NEAR = 1.0
"""A class is on the list if its logit lies no further behind the largest."""
STEEP = 9.0
"""Slope at that border: within a third of a logit on either side chance decides, everywhere else a bit is certain. int8 logits
differ by about a tenth."""
LEAST, MOST = -8.0, 6.0
"""Log odds of what is not on the list and of what is: bytes of 0 and 255. In Gray code both are certain."""
TRUST = 2.0
"""What being on the list adds to a logit until validation says otherwise."""


def rows_for(classes: int, planes: int, columns: int) -> int:
    """Rows of the upload that hold a bit for each of so many classes.

    >>> rows_for(81, planes=6, columns=24), rows_for(2, planes=3, columns=64)
    (1, 1)
    """
    return -(-classes // (planes * columns))


class Shortlist(ClassScores):
    """Coarsest features in, the logits of all classes and the last rows of the upload out.

    Args:
        width, grid, classes, padding: as in `ClassScores`.
        planes: bit planes of the channel.
        columns: width of the upload in samples.
    """

    def __init__(
        self,
        width: int,
        grid: tuple[int, int],
        classes: Sequence[int],
        padding: Padding = "same",
        *,
        planes: int,
        columns: int,
    ) -> None:
        super().__init__(width, grid, classes, padding)
        count = sum(classes)
        self.planes, self.columns = planes, columns
        self.height = rows_for(count, planes, columns)
        self.empty = self.height * columns * planes - count
        """Bits of the rows that belong to no class."""
        self.near = planewise(count, STEEP, STEEP * NEAR + 3)
        self.spread = planewise(count + self.empty, (MOST - LEAST) / 6, LEAST)

    def rows(self, logits: Tensor) -> Tensor:
        """Logits (B, K, 1, 1) -> log odds of the rows' bits, (B, planes, height, columns), between `LEAST` and `MOST`.

        In training no gradient passes: the classifier learns from labels.
        """
        seen = logits.detach() if self.training else logits
        listed = F.relu6(self.near(behind_largest(seen, self.classes)))
        odds: Tensor = self.spread(F.pad(listed, (0, 0, 0, 0, 0, self.empty)))
        return odds.reshape(-1, self.height, self.columns, self.planes).permute(0, 3, 1, 2)


class ShortlistReader(nn.Module):
    """A cloud network that reads the picture without the shortlist's rows, and the shortlist.

    Args:
        network: takes pictures, (B, 3, H, W) -> attribute -> (B, classes).
        channel: of the uploads.
        heads: kept attribute -> number of classes.
        size: height and width of the pictures, in pixels.
    """

    trust: Tensor

    def __init__(
        self, network: nn.Module, channel: Dither, heads: Mapping[str, int], size: tuple[int, int]
    ) -> None:
        super().__init__()
        self.network, self.channel, self.heads = network, channel, dict(heads)
        side = channel.subsample
        self.height = rows_for(sum(heads.values()), channel.outputs["p"], size[1] // side)
        # The pixel row of the last sample that is kept. Below it, values between two samples know of the list already.
        self.last = size[0] - side * (self.height + 1) + side // 2
        self.below = size[0] - self.last
        self.register_buffer("trust", torch.full((len(heads),), TRUST))

    def forward(self, upload: Tensor) -> dict[str, Tensor]:
        """Uploads (B, 3, H, W) -> logits per attribute, (B, classes)."""
        logits, listed = self.network(self.picture(upload)), self.listed(upload)
        return {
            name: logits[name] + trust * listed[name]
            for name, trust in zip(self.heads, self.trust, strict=True)
        }

    def picture(self, upload: Tensor) -> Tensor:
        """Uploads (B, 3, H, W), the rows of the shortlist drawn over with the row above them."""
        below = [upload[:, :, self.last : self.last + 1]] * self.below
        return torch.cat([upload[:, :, : self.last], *below], dim=2)

    def listed(self, upload: Tensor) -> dict[str, Tensor]:
        """Uploads (B, 3, H, W) -> which classes of each attribute are on the list, 0 or 1, (B, classes)."""
        rows = self.channel.planes(upload)[:, :, -self.height :]
        places = rows.permute(0, 2, 3, 1).flatten(1)[:, : sum(self.heads.values())]
        return dict(zip(self.heads, places.split(list(self.heads.values()), 1), strict=True))
