r"""An autoregressive prior of uploads: a tighter bound on what an upload tells where it shows parts of a picture.

The rate compares every bit of an upload with a fair coin, so what earlier bits already gave away is counted again. In a
picture that is most of it. But any distribution of uploads bounds the mutual information, also one that predicts each bit of
an upload from the bits before it:

    I(X'; X) <= E KL(p(x'|x) || r) = E_{x' ~ p} sum_i KL(p_i || r_i(x'_1 .. x'_{i-1}))

    = rate - E sum_i (log 2 - H(p_i, r_i)),             H(p, r) the cross entropy; the sum is what r saves

The mean over drawn uploads is an unbiased estimate of the right-hand side, however well r has been fitted. The prior is a
masked convolutional network (PixelCNN, van den Oord et al., ICML 2016) over blocks of 2 x 2 pixels, row by row; the bits
of a block follow one another as in MADE (Germain et al., ICML 2015). It belongs to the bound and to training; neither phone
nor cloud ever runs it.

    prior = AutoregressivePrior(channel)
    logits = prior(upload)
    nats = channel.rate(parameters) - nats_saved(parameters["p"], logits)      # (B,)
"""

from math import log

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sfumato.channels.dither import Dither
from sfumato.models import channels_last
from sfumato.models.layers import pack, unpack

HIDDEN = 96
"""Planes of the two hidden layers, in equal shares for each bit of a block."""


class Masked(nn.Conv2d):
    """A convolution that sees the places before, row by row, and at its own place the planes of the groups before.

    Args:
        inputs, outputs: planes, each in `groups` equal shares.
        size: of the kernel, odd.
        groups: how many bits a place has.
        strict: whether a group is hidden from itself.
    """

    mask: Tensor

    def __init__(self, inputs: int, outputs: int, size: int, groups: int, *, strict: bool) -> None:
        super().__init__(inputs, outputs, size, padding=size // 2)
        middle = size // 2
        mask = torch.zeros(outputs, inputs, size, size)
        mask[:, :, :middle] = 1
        mask[:, :, middle, :middle] = 1
        of_output, of_input = (torch.arange(n) * groups // n for n in (outputs, inputs))
        seen = of_input < of_output[:, None] if strict else of_input <= of_output[:, None]
        mask[:, :, middle, middle] = seen.float()
        self.register_buffer("mask", mask)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) -> (B, outputs, H, W)."""
        middle = self.kernel_size[0] // 2
        # Rows below the middle are masked as a whole: without them a quarter of the time is saved.
        upper = (self.weight * self.mask)[:, :, : middle + 1]
        return F.conv2d(F.pad(x, (0, 0, middle, 0)), upper, self.bias, padding=(0, middle))


class AutoregressivePrior(nn.Module):
    """Predicts every bit of a dithered upload from the bits before it.

    Args:
        channel: whose uploads.
    """

    def __init__(self, channel: Dither) -> None:
        super().__init__()
        self.channel = channel
        bits = 4 * channel.outputs["p"]
        self.first = Masked(bits, HIDDEN, 5, bits, strict=True)
        self.hidden = Masked(HIDDEN, HIDDEN, 1, bits, strict=False)
        self.head = Masked(HIDDEN, bits, 1, bits, strict=False)
        nn.init.zeros_(self.head.weight)  # fair coins at first
        assert self.head.bias is not None
        nn.init.zeros_(self.head.bias)
        channels_last(self)

    def forward(self, upload: Tensor) -> Tensor:
        """Uploads (B, 3, H, W), values 0..1 -> log odds of every bit, (B, colours * bits, H, W)."""
        x = pack(2 * self.channel.planes(upload) - 1, 2, self.channel.colours)
        y = F.relu(self.first(x))
        y = y + F.relu(self.hidden(y))
        return unpack(self.head(y), 2, self.channel.colours)


def nats_saved(p: Tensor, logits: Tensor, where: Tensor | float = 1.0) -> Tensor:
    """By how much the prior lowers the rate below that against fair coins, (B,) in nats; negative where it raises it.

    Args:
        p: probabilities of the bits, (B, planes, H, W).
        logits: the prior's log odds for the same bits.
        where: which pixels count, (B, 1, H, W) of 0 and 1.

    >>> coin, sure = torch.zeros(1, 1, 2, 2), torch.full((1, 1, 2, 2), 20.0)
    >>> certain = torch.ones(1, 1, 2, 2)
    >>> nats_saved(certain, coin).item(), round(nats_saved(certain, sure).item() / log(2), 3)
    (0.0, 4.0)
    """
    missed = F.binary_cross_entropy_with_logits(logits, p, reduction="none")
    return ((log(2) - missed) * where).sum((1, 2, 3))
