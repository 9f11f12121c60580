"""Dither: every colour sample is `log2(levels)` independent bits, each drawn with its own probability.

The local network says with which probability each bit of the upload is one; the draw compares that probability with a
uniform number. With `levels = 2` the upload is a binary image, a learned form of dithering. With 4 or 16 levels a sample
is two or four such bits, most significant first, so sampler, rate and packing stay those of a single bit.

Independent bit planes can reach rate zero at any number of levels. Rounding one probability up or down between
neighbouring levels cannot: it always gives away log(levels / 2) nats a sample (docs/decisions/0003).

The rate is exact, a sum of Bernoulli divergences from the fair coin:
    KL(Bernoulli(p) || Bernoulli(1/2)) = log 2 - H(p).

The plane of bit j (0 = most significant) and colour c is number 3 j + c.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.special import entr

from sfumato.errors import UsageError

LEVELS = (2, 4, 16)
GAIN = 8.0
"""Slope of the logit over the pixel value: large enough that a binary draw starts out as a recognisable picture."""


def binary_rate(p: Tensor) -> Tensor:
    """KL(Bernoulli(p) || Bernoulli(1/2)) in nats, elementwise; `p` in 0..1.

    >>> binary_rate(torch.tensor([0.5, 1.0])).tolist()
    [0.0, 0.6931471824645996]
    """
    rate: Tensor = math.log(2) - entr(p) - entr(1 - p)
    return rate


@dataclass(frozen=True)
class Dither:
    """The dither channel with `levels` in {2, 4, 16} values a sample."""

    levels: int = 2

    def __post_init__(self) -> None:
        if self.levels not in LEVELS:
            raise UsageError(f"dither has {', '.join(map(str, LEVELS))} levels, not {self.levels}")

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
        return {"gate": 3 * self.bits, "offset": 3 * self.bits}

    @property
    def starts(self) -> Mapping[str, float]:
        """An open gate, no offset."""
        return {"gate": 2.0, "offset": 0.0}

    @property
    def outputs(self) -> Mapping[str, int]:
        """One probability per bit."""
        return {"p": 3 * self.bits}

    @property
    def settings(self) -> dict[str, float | int | bool]:
        """Arguments of the constructor."""
        return {"levels": self.levels}

    def parameters(self, x: Tensor, maps: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """`p = sigmoid(g * GAIN * (x - 1/2) + d)`, with the gate `g = sigmoid(gate)` nearly open at the start.

        The last operation is a logistic function, whose int8 output scale is 1/256 by TFLite's definition: the byte
        that the phone computes *is* the probability, and nothing is left to calibration.
        """
        image = GAIN * (x - 0.5)
        planes = torch.cat([image] * self.bits, dim=1) if self.bits > 1 else image
        return {"p": torch.sigmoid(planes * torch.sigmoid(maps["gate"]) + maps["offset"])}

    def noise(self, parameters: dict[str, Tensor], generator: torch.Generator | None = None) -> Tensor:
        """Uniform numbers in [0, 1), one per bit."""
        p = parameters["p"]
        return torch.rand(p.shape, generator=generator, device=p.device)

    def sample(self, parameters: dict[str, Tensor], noise: Tensor) -> Tensor:
        """Draw the bits and read them as levels 0..1; the gradient passes straight through the comparison."""
        p = parameters["p"]
        drawn = (noise < p).to(p.dtype)
        bits = p + (drawn - p).detach()
        planes = bits.view(len(bits), self.bits, 3, *bits.shape[2:])  # (B, k, 3, H, W)
        weights = torch.tensor([2.0 ** (self.bits - 1 - j) for j in range(self.bits)], device=p.device)
        return torch.einsum("bkchw,k->bchw", planes, weights) / (self.levels - 1)

    def rate(self, parameters: dict[str, Tensor]) -> Tensor:
        """Exact rate against fair coins, in nats per image, shape (B,)."""
        return binary_rate(parameters["p"]).flatten(1).sum(1)

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

    def divergence(self, parameters: dict[str, Tensor], other: dict[str, Tensor]) -> Tensor:
        """Sum of Bernoulli divergences, shape (B,)."""
        p, q = parameters["p"], other["p"]
        terms = -entr(p) - entr(1 - p) - p * q.log() - (1 - p) * (-q).log1p()
        total: Tensor = terms.flatten(1).sum(1)
        return total
