"""Dither: every colour sample is `log2(levels)` independent bits, each drawn with its own probability.

The local network says with which probability each bit of the upload is one; the draw compares that probability with a
uniform number. With `levels = 2` the upload is a binary image, a learned form of dithering. With 4 or 16 levels a sample
is two or four such bits, most significant first, so sampler, rate and packing stay those of a single bit.

Independent bit planes can reach rate zero at any number of levels. Rounding one probability up or down between
neighbouring levels cannot: it always gives away log(levels / 2) nats a sample (docs/decisions/0003).

The rate is exact, a sum of Bernoulli divergences from the fair coin:
    KL(Bernoulli(p) || Bernoulli(1/2)) = log 2 - H(p).

The plane of bit j (0 = most significant) and colour c is number 3 j + c; of grey pictures, which have one colour, number j.

With `gray` these bits are the level's Gray code, `level ^ (level >> 1)`. Neighbouring levels differ in one bit. So a value
between two levels makes one bit uncertain and leaves the others certain: drawn independently, they are an even dither of all
levels. In plain binary code 7 and 8 differ in all four bits, and independent draws give any level (docs/decisions/0035).

With `gates`, blocks of `BLOCK` x `BLOCK` pixels are open or closed. All bits of a closed block are zero for certain, so it
carries nothing and need not be sent. The rate is then measured against a prior that opens every block by a fair coin and
fills the open ones by fair coins: log 2 for each block, and for open ones the divergence of their bits.

With `subsample` a sample stands for a square of pixels, so an upload has a fourth or a sixteenth of the photo's samples. Maps
and parameters have the upload's size; `sample` gives pictures of the photo's, linear between the samples (docs/decisions/0037).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx
from torch.autograd.function import once_differentiable

from sfumato.core.errors import UsageError
from sfumato.core.local_constants import GAIN
from sfumato.core.strengths import FULL

fx.wrap("below")  # one node when traced: it looks at shapes

LEVELS = (2, 4, 16)
SUBSAMPLES = (1, 2, 4)
BLOCK = 8
"""Height and width of a block that can be closed, in pixels."""
CLOSED = 1e-5
"""Probabilities below are never drawn: the smallest random number is 2**-17."""
SHUT = 12.0
"""Log odds of zero for the bits of a closed block: its byte is 0, and in floating point p < `CLOSED`."""
STEP_GAIN = 16.0
"""Slope of the logit over one step between levels, with a Gray code: values in the middle half of a step are dithered, others
certain."""


def binary_rate(p: Tensor) -> Tensor:
    """KL(Bernoulli(p) || Bernoulli(1/2)) in nats, elementwise; `p` in 0..1.

    >>> binary_rate(torch.tensor([0.5, 1.0])).tolist()
    [0.0, 0.6931471824645996]
    """
    rate: Tensor = _BinaryRate.apply(p)  # type: ignore[no-untyped-call]
    return rate


class _BinaryRate(torch.autograd.Function):
    """`log 2 + p log(p / (1 - p)) + log(1 - p)`, whose slope is the log odds: forward has made all that backward needs.

    torch's own `entr` takes three times as long and has no finite slope at 0 and 1.
    """

    @staticmethod
    def forward(ctx: Any, p: Tensor) -> Tensor:
        smallest = torch.finfo(p.dtype).tiny  # 0 log 0 = 0
        log_odds = p.clamp_min(smallest).log_()
        log_zero = (1 - p).clamp_min_(smallest).log_()
        log_odds -= log_zero
        ctx.save_for_backward(log_odds)
        return log_zero.addcmul_(p, log_odds).add_(math.log(2))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> Tensor:
        (log_odds,) = ctx.saved_tensors
        gradient: Tensor = slope * log_odds
        return gradient


class _Draw(torch.autograd.Function):
    """`noise < p` as numbers; the slope passes straight through (Bengio et al., 2013)."""

    @staticmethod
    def forward(ctx: Any, p: Tensor, noise: Tensor) -> Tensor:
        return (noise < p).to(p.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None]:
        return slope, None


class _Open(torch.autograd.Function):
    """`z > 0` as numbers, with the slope of the logistic function."""

    @staticmethod
    def forward(ctx: Any, z: Tensor) -> Tensor:
        ctx.save_for_backward(z)
        return (z > 0).to(z.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> Tensor:
        (z,) = ctx.saved_tensors
        share = z.sigmoid()
        gradient: Tensor = slope * share * (1 - share)
        return gradient


def open_blocks(z: Tensor) -> Tensor:
    """Which blocks are open, 0 or 1, drawn with the odds `exp(z)` (Maddison et al., ICLR 2017; Jang et al., ICLR 2017).

    The forward pass is hard, its slope that of the logistic function. The noise lets a network see what an open and what a
    closed block would do, and drives `z` away from the border.
    """
    u = torch.rand_like(z).clamp_(1e-6, 1 - 1e-6)
    opened: Tensor = _Open.apply(z + u.logit())  # type: ignore[no-untyped-call]
    return opened


def folded(x: Tensor, levels: int) -> list[Tensor]:
    """How far each value is from turning over each bit of its Gray code, in the value's units, most significant bit first.

    Positive where the bit of the nearest level is 1. The first bit turns over in the middle of the range; the others see the
    range folded there, and again for each further bit.

    >>> [round(float(bit), 2) for bit in folded(torch.tensor(0.4), 4)]
    [-0.1, 0.23]
    """
    bits = [x - 0.5]
    while 2 ** len(bits) < levels:
        # The distance from the next lower or higher border: its half-width less |previous|, without an absolute value, which
        # NNAPI does not take in int8.
        half_width = levels / 2 ** (len(bits) + 1) / (levels - 1)
        bits.append(bits[-1] + half_width - F.relu(2 * bits[-1]))
    return bits


def over_pixels(blocks: Tensor) -> Tensor:
    """A value for each block, (B, 1, h, w), over its pixels, (B, 1, BLOCK * h, BLOCK * w)."""
    return blocks.repeat_interleave(BLOCK, 2).repeat_interleave(BLOCK, 3)


def interpolated(samples: Tensor, side: int) -> Tensor:
    """Samples (B, C, H, W), each at one pixel of its square, as a picture (B, C, side * H, side * W), linear between them.

    Sample i stands at pixel `side * i + side // 2`; beyond the first and the last nothing changes. Pictures without steps
    between squares are what pretrained networks know, and the samples can be read back.

    >>> interpolated(torch.tensor([[[[0.0, 1.0]]]]), 2)[0, 0, 0].tolist()
    [0.0, 0.0, 0.5, 1.0]
    """
    if side == 1:
        return samples
    height, width = samples.shape[2:]
    around = F.pad(samples, (1, 1, 1, 1), mode="replicate")
    size = (side * (height + 1) + 1, side * (width + 1) + 1)
    whole = F.interpolate(around, size=size, mode="bilinear", align_corners=True)
    first = side - side // 2
    return whole[:, :, first : first + side * height, first : first + side * width]


def below(picture: Tensor, rows: Tensor) -> Tensor:
    """A picture (B, C, H, W) whose last rows are these, (B, C, h, W)."""
    height = int(rows.shape[2])  # a number in traced graphs too
    return torch.cat([picture[:, :, :-height], rows], dim=2)


def from_gray(planes: Tensor) -> Tensor:
    """Bits of a Gray code, 0 or 1, (B, k, ...), most significant first -> the bits of the binary code.

    Each is the exclusive or of all Gray bits up to it. As a product of signs it has a slope: what turning over that one bit of
    the Gray code would change, the others being as they were drawn.

    >>> from_gray(torch.tensor([[1.0, 1.0, 0.0, 1.0]])).tolist()
    [[1.0, 0.0, 0.0, 1.0]]
    """
    signs = 1 - 2 * planes
    products = [signs[:, 0]]
    for bit in range(1, planes.shape[1]):
        products.append(products[-1] * signs[:, bit])
    return (1 - torch.stack(products, 1)) / 2


@dataclass(frozen=True)
class Dither:
    """The dither channel.

    Attributes:
        levels: 2, 4 or 16 values a sample.
        gates: whether blocks can be closed.
        gray: the bits of a sample are its level's Gray code, and start as an even dither between neighbouring levels. Else all
            bits of a sample start alike, as coins that are weighted by the pixel.
        subsample: height and width, in pixels, of the square that a sample stands for: 1, 2 or 4.
        colours: samples a pixel: 3, or 1 for grey pictures.

    Raises:
        UsageError: levels or squares that no upload has, or gates with squares of more than a pixel.
    """

    levels: int = 2
    gates: bool = False
    gray: bool = False
    subsample: int = 1
    colours: int = 3

    def __post_init__(self) -> None:
        if self.levels not in LEVELS:
            raise UsageError(f"dither has {', '.join(map(str, LEVELS))} levels, not {self.levels}")
        if self.subsample not in SUBSAMPLES:
            raise UsageError(
                f"a sample of dither stands for {', '.join(map(str, SUBSAMPLES))} pixels a side, not {self.subsample}"
            )
        if self.colours not in (1, 3):
            raise UsageError(f"dither has 3 colours, or 1 for grey pictures, not {self.colours}")
        if self.gates and self.subsample > 1:
            raise UsageError("gates close blocks of pixels: leave gates or subsample out")

    @property
    def name(self) -> str:
        """The registry name."""
        return "dither"

    @property
    def bits(self) -> int:
        """Bits a colour sample."""
        return self.levels.bit_length() - 1

    @property
    def maps(self) -> Mapping[str, int]:
        """A gate on the image and an offset, one of each per bit plane and colour."""
        return dict.fromkeys(("gate", "offset"), self.colours * self.bits)

    @property
    def starts(self) -> Mapping[str, float]:
        """An open gate, no offset."""
        return {"gate": 2.0, "offset": 0.0}

    @property
    def outputs(self) -> Mapping[str, int]:
        """One probability per bit."""
        return {"p": self.colours * self.bits}

    @property
    def settings(self) -> dict[str, float | int | bool]:
        """Arguments of the constructor that are not at their defaults, and `levels`."""
        flags = {"gates": self.gates, "gray": self.gray}
        chosen: dict[str, float | int | bool] = {name: True for name, value in flags.items() if value}
        if self.subsample > 1:
            chosen["subsample"] = self.subsample
        if self.colours != 3:
            chosen["colours"] = self.colours
        return {"levels": self.levels, **chosen}

    def parameters(self, x: Tensor, maps: Mapping[str, Tensor], middle: float = 0.5) -> dict[str, Tensor]:
        """`p = sigmoid(g * GAIN * (x - middle) + d)`, with the gate `g = sigmoid(gate)` nearly open at the start.

        With a Gray code each bit has thresholds of its own (`folded`), and the slope is `STEP_GAIN` for a step between levels.
        Where a map `shut` (B, planes, H, W) is 1 instead of 0, the log odds are `-SHUT`. A map `listed` (B, planes, h, W) holds
        the log odds of the last rows (`sfumato.models.shortlist`).

        The last operation is a logistic function, whose int8 output scale is 1/256 by TFLite's definition: the byte
        that the phone computes *is* the probability, and nothing is left to calibration.
        """
        if self.gray:
            images = [STEP_GAIN * (self.levels - 1) * bit for bit in folded(x, self.levels)]
        else:
            images = [GAIN * (x - middle)] * self.bits
        planes = torch.cat(images, dim=1) if self.bits > 1 else images[0]
        odds = planes * torch.sigmoid(maps["gate"]) + maps["offset"]
        if "shut" in maps:  # exactly `odds` where it is 0: open blocks lose nothing to int8
            odds = odds - maps["shut"] * (odds + SHUT)
        if "listed" in maps:
            odds = below(odds, maps["listed"])
        return {"p": torch.sigmoid(odds)}

    def noise(self, parameters: dict[str, Tensor], generator: torch.Generator | None = None) -> Tensor:
        """Uniform numbers in (0, 1), one per bit, in steps of 1 / 65,536: as fine as a probability of the phone's is coarse."""
        p = parameters["p"]
        words = torch.empty(-(-p.numel() // 4), dtype=torch.int64, device=p.device)
        # Four numbers out of every draw of the generator, which takes three times as long as all that follows.
        numbers = words.random_(-(2**63), None, generator=generator).view(torch.int16)[: p.numel()]
        return numbers.float().add_(2**15 + 0.5).mul_(2**-16).view(p.shape)

    def sample(self, parameters: dict[str, Tensor], noise: Tensor) -> Tensor:
        """Draw the bits and read them as levels 0..1; the gradient passes straight through the comparison."""
        return interpolated(self._levels(parameters["p"], noise), self.subsample)

    def _levels(self, p: Tensor, noise: Tensor) -> Tensor:
        """The samples as they are drawn, (B, colours, H / subsample, W / subsample), 0..1."""
        bits: Tensor = _Draw.apply(p, noise)  # type: ignore[no-untyped-call]
        if self.bits == 1:
            return bits
        planes = bits.view(len(bits), self.bits, self.colours, *bits.shape[2:])  # (B, k, colours, H, W)
        if self.gray:
            planes = from_gray(planes)
        weights = torch.tensor([2.0 ** (self.bits - 1 - j) for j in range(self.bits)], device=bits.device)
        return torch.einsum("bkchw,k->bchw", planes, weights) / (self.levels - 1)

    def planes(self, upload: Tensor) -> Tensor:
        """Uploads (B, colours, H, W) -> the bits that were drawn, (B, colours * bits, H, W), most significant plane first.

        With `subsample` the bits of a square are there once.
        """
        upload = upload[..., self.subsample // 2 :: self.subsample, self.subsample // 2 :: self.subsample]
        if self.bits == 1:
            return upload.round()
        # In floating point, which is exact here: ONNX has no shifts of signed integers.
        values = (upload * (self.levels - 1)).round()
        shifted = [(values / 2 ** (self.bits - 1 - j)).floor() for j in range(self.bits)]
        bits = [shifted[0], *(low - 2 * high for high, low in pairwise(shifted))]
        if self.gray:
            bits = [bits[0], *((low - high).abs() for high, low in pairwise(bits))]
        return torch.cat(bits, dim=1)

    def rate(self, parameters: dict[str, Tensor]) -> Tensor:
        """Exact rate against fair coins, in nats per image, shape (B,)."""
        return binary_rate(parameters["p"]).sum((1, 2, 3))

    def block_rate(self, parameters: dict[str, Tensor]) -> Tensor:
        """Exact rate against a fair coin for every block and every bit of the open ones, in nats per image, shape (B,)."""
        p = parameters["p"]
        if "inside" in parameters:  # in training: the gates have a slope, and so do the bits behind them
            inside = binary_rate(parameters["inside"]) * over_pixels(parameters["open"])
        else:
            lit = F.max_pool2d(p.amax(1, keepdim=True), BLOCK) > CLOSED
            inside = binary_rate(p) * over_pixels(lit.to(p.dtype))
        blocks = p.shape[2] * p.shape[3] // BLOCK**2
        return inside.sum((1, 2, 3)) + blocks * math.log(2)

    def close(self, parameters: dict[str, Tensor], z: Tensor) -> dict[str, Tensor]:
        """For training: draw which blocks are open and close the others.

        Args:
            parameters: `p` (B, planes, H, W).
            z: log odds that a block is open, (B, 1, H / BLOCK, W / BLOCK).

        Returns:
            `p` with zeros in closed blocks; `inside`, `p` as it was; `open`, 0 or 1 a block.
        """
        opened = open_blocks(z)
        inside = parameters["p"]
        return {"p": inside * over_pixels(opened), "inside": inside, "open": opened}

    def weaken(self, parameters: dict[str, Tensor], strength: Tensor) -> dict[str, Tensor]:
        """For training: probabilities drawn towards a fair coin, in open blocks alone (`sfumato.core.strengths`).

        Args:
            parameters: `p` (B, planes, H, W); with gates those of `close`.
            strength: of each image, (B,) in 1..128.

        Returns:
            `p`, unrounded.
        """
        inside = parameters.get("inside", parameters["p"])
        drawn = 0.5 + (inside - 0.5) * (strength / FULL).view(-1, 1, 1, 1)
        return {"p": drawn * over_pixels(parameters["open"]) if "open" in parameters else drawn}

    @property
    def moments(self) -> Mapping[str, int]:
        """The mean of every bit is its probability."""
        return self.outputs

    def to_moments(self, parameters: dict[str, Tensor]) -> dict[str, Tensor]:
        """`p` as it is."""
        return parameters

    def from_moments(self, moments: dict[str, Tensor]) -> dict[str, Tensor]:
        """`p`, kept a little away from certainty so that no divergence is infinite."""
        return {"p": moments["p"].clamp(1e-4, 1 - 1e-4)}

    def gain(self, parameters: dict[str, Tensor], references: dict[str, Tensor]) -> Tensor:
        """Mean of log q(x') / r(x'), r the fair coins: linear in p, so one matrix product; (B, K)."""
        p, q = flat(parameters["p"]), flat(references["p"])
        # About p = 1/2, where rates of a few bits lie, only small numbers are added.
        return (p - 0.5) @ q.logit().T + 0.5 * (4 * q * (1 - q)).log().sum(1)


def flat(values: Tensor) -> Tensor:
    """(B, planes, H, W) -> (B, H * W * planes); a view of what the networks make, which is channels-last."""
    return values.permute(0, 2, 3, 1).flatten(1)
