"""Gaussian: the upload is a learned mean plus learned noise per sample, clipped to 0..1.

    x' = clip(m(x) + s(x) * eps, 0, 1),   eps ~ N(0, 1)

Two forms share this file:
- the default learns the mean as well, `m = sigmoid(g * GAIN * (x - 1/2) + d)`, so that a pixel can be forgotten and not
  only be drowned;
- `additive=True` keeps `m = x`: the literal scheme of Xia et al. (ICME 2020), noise added to the picture.

Rate against the fixed reference r = N(1/2, s_0), per sample and before clipping (clipping only loses information):
    KL = log(s_0 / s) + (s^2 + (m - 1/2)^2) / (2 s_0^2) - 1/2.
This bounds I(X; X') for any dependence of s on the image. The often quoted 1/2 log(1 + S/s^2) does not once s depends
on the image, and is therefore never printed.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from sfumato.channels.dither import flat
from sfumato.core.errors import UsageError
from sfumato.core.local_constants import GAIN

CENTRE = 0.5


def gaussian_rate(mean: Tensor, scale: Tensor, reference: float) -> Tensor:
    """KL(N(mean, scale) || N(1/2, reference)) in nats, elementwise.

    >>> gaussian_rate(torch.tensor(0.5), torch.tensor(0.3), 0.3).item()
    0.0
    """
    variance = reference**2
    return torch.log(reference / scale) + (scale**2 + (mean - CENTRE) ** 2) / (2 * variance) - 0.5


@dataclass(frozen=True)
class Gaussian:
    """The gaussian channel.

    `largest_scale` is s_max and `reference_scale` is s_0, both in units of the full pixel range.
    """

    additive: bool = False
    largest_scale: float = 0.5
    reference_scale: float = 0.3

    def __post_init__(self) -> None:
        if not (self.largest_scale > 0 and self.reference_scale > 0):
            raise UsageError("the gaussian channel needs largest_scale > 0 and reference_scale > 0")

    @property
    def subsample(self) -> int:
        """Every pixel is a sample."""
        return 1

    @property
    def name(self) -> str:
        """The registry name."""
        return "gaussian"

    @property
    def maps(self) -> Mapping[str, int]:
        """Noise alone, or noise with gate and offset for the mean."""
        return {"noise": 3} if self.additive else {"gate": 3, "offset": 3, "noise": 3}

    @property
    def starts(self) -> Mapping[str, float]:
        """An open gate, no offset, and a scale of 2 % of s_max."""
        return {"gate": 2.0, "offset": 0.0, "noise": -4.0}

    @property
    def outputs(self) -> Mapping[str, int]:
        """With `additive` the mean is the image, which the phone has already."""
        return {"scale": 3} if self.additive else {"mean": 3, "scale": 3}

    @property
    def colours(self) -> int:
        """Colour pictures alone."""
        return 3

    @property
    def settings(self) -> dict[str, float | int | bool]:
        """Arguments of the constructor."""
        return {
            "additive": self.additive,
            "largest_scale": self.largest_scale,
            "reference_scale": self.reference_scale,
        }

    def parameters(self, x: Tensor, maps: Mapping[str, Tensor], middle: float = CENTRE) -> dict[str, Tensor]:
        """Mean in 0..1 and scale in (0, s_max); the scale starts at 2 % of s_max, which is nearly clean."""
        scale = self.largest_scale * torch.sigmoid(maps["noise"])
        if self.additive:
            return {"mean": x, "scale": scale}
        gate = torch.sigmoid(maps["gate"])
        return {"mean": torch.sigmoid(GAIN * (x - middle) * gate + maps["offset"]), "scale": scale}

    def noise(self, parameters: dict[str, Tensor], generator: torch.Generator | None = None) -> Tensor:
        """Standard normal numbers, one per sample."""
        mean = parameters["mean"]
        return torch.randn(mean.shape, generator=generator, device=mean.device)

    def sample(self, parameters: dict[str, Tensor], noise: Tensor) -> Tensor:
        """`clip(m + s * eps, 0, 1)`; a clipped sample passes its gradient on, or noise would stop all learning."""
        value = parameters["mean"] + parameters["scale"] * noise
        return value + (value.clamp(0, 1) - value).detach()

    def rate(self, parameters: dict[str, Tensor]) -> Tensor:
        """Rate against N(1/2, s_0), in nats per image, shape (B,)."""
        scale = parameters["scale"].clamp_min(1e-6)
        return gaussian_rate(parameters["mean"], scale, self.reference_scale).sum((1, 2, 3))

    @property
    def moments(self) -> Mapping[str, int]:
        """First and second moment of a sample."""
        return {"first": 3, "second": 3}

    def to_moments(self, parameters: dict[str, Tensor]) -> dict[str, Tensor]:
        """E[x'] and E[x'^2] before clipping."""
        mean, scale = parameters["mean"], parameters["scale"]
        return {"first": mean, "second": mean**2 + scale**2}

    def from_moments(self, moments: dict[str, Tensor]) -> dict[str, Tensor]:
        """The gaussian with these moments."""
        variance = (moments["second"] - moments["first"] ** 2).clamp_min(1e-6)
        return {"mean": moments["first"], "scale": variance.sqrt()}

    def gain(self, parameters: dict[str, Tensor], references: dict[str, Tensor]) -> Tensor:
        """Mean of log q(x') / r(x') before clipping, r = N(1/2, s_0): linear in the moments about 1/2, (B, K)."""
        mean, scale = flat(parameters["mean"]) - CENTRE, flat(parameters["scale"])
        offset, inverse = flat(references["mean"]) - CENTRE, flat(references["scale"]) ** -2
        narrower = 0.5 * (self.reference_scale**-2 - inverse)
        constant = 0.5 * (self.reference_scale**2 * inverse).log() - 0.5 * inverse * offset**2
        return (mean**2 + scale**2) @ narrower.T + mean @ (inverse * offset).T + constant.sum(1)
