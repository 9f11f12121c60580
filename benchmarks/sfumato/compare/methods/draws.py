"""How a method's upload is drawn, in the form in which the audit takes any channel apart.

The audit computes what the phone's network says about an image once and then draws as many uploads from it as its
attackers want. A draw therefore offers `noise`, `sample` and `rate`; where the probability of an upload is known it
also offers `likelihood`, and the exact posterior attack becomes possible; where its mean and variance are known,
`upload_moments`, and the linear attack `discriminant` does.

    draw = Additive("gaussian", clip=True)
    upload = draw.sample(parameters, draw.noise(parameters))

Uploads are (B, C, H, W) of any number of planes, scaled so that their values lie around 0..1.
"""

from dataclasses import dataclass
from math import inf, log, pi
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from sfumato.audit.attacks.discriminant import Moments
from sfumato.audit.attacks.posterior import GAUSSIAN
from sfumato.channels import Parameters
from sfumato.channels.gaussian import gaussian_rate

REFERENCE = 0.3
"""Scale of the reference that gaussian rates are measured against, as in `sfumato.channels.gaussian`."""


class Draw(Protocol):
    """What the trainer and the audit need of a method's upload."""

    @property
    def name(self) -> str:
        """What the draw is called in an audit."""
        ...

    def noise(self, parameters: Parameters, generator: torch.Generator | None = None) -> Any:
        """Whatever randomness `sample` consumes."""
        ...

    def sample(self, parameters: Parameters, noise: Any) -> Tensor:
        """The upload (B, C, H, W)."""
        ...

    def rate(self, parameters: Parameters) -> Tensor:
        """Upper bound on what an upload carries, nats per image, (B,); infinite where none is known."""
        ...


def unbounded(parameters: Parameters) -> Tensor:
    """The rate of a release without a known bound, (B,)."""
    return torch.full((len(next(iter(parameters.values()))),), inf)


def laplace_noise(like: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Laplace numbers of scale 1, shaped like `like`; by the difference of two exponential ones."""
    first, second = (
        torch.empty_like(like, requires_grad=False).exponential_(generator=generator) for _ in range(2)
    )
    return first - second


def noisy(noise_variance: float) -> Moments:
    """Moments of `mean + scale * noise`, before clipping; without a scale there is no noise."""

    def variance(parameters: Parameters) -> Tensor:
        mean = parameters["mean"].float().flatten(1)
        scale = parameters.get("scale")
        return torch.zeros_like(mean) if scale is None else noise_variance * scale.float().flatten(1) ** 2

    return Moments(lambda uploads: uploads.flatten(1), lambda p: p["mean"].float().flatten(1), variance)


@dataclass(frozen=True)
class Fixed:
    """No noise: the upload is `parameters["mean"]`. The same image always gives the same upload."""

    name: str = "fixed"

    @property
    def upload_moments(self) -> Moments:
        """The mean, and no variance."""
        return noisy(0.0)

    def noise(self, parameters: Parameters, generator: torch.Generator | None = None) -> None:
        """Nothing."""
        return None

    def sample(self, parameters: Parameters, noise: None) -> Tensor:
        """The mean."""
        return parameters["mean"]

    def rate(self, parameters: Parameters) -> Tensor:
        """Unknown: a deterministic release may carry everything."""
        return unbounded(parameters)


@dataclass(frozen=True)
class Additive:
    """`mean + scale * noise`, gaussian or Laplace, optionally clipped to 0..1 as an image has to be."""

    kind: Literal["gaussian", "laplace"]
    clip: bool

    @property
    def name(self) -> str:
        """The kind of the noise."""
        return f"additive {self.kind}"

    @property
    def upload_moments(self) -> Moments:
        """Laplace noise of scale 1 has a variance of 2."""
        return noisy(2.0 if self.kind == "laplace" else 1.0)

    def noise(self, parameters: Parameters, generator: torch.Generator | None = None) -> Tensor:
        """Noise of scale 1, one number per sample."""
        mean = parameters["mean"]
        if self.kind == "laplace":
            return laplace_noise(mean.detach(), generator)
        return torch.randn(mean.shape, generator=generator, device=mean.device)

    def sample(self, parameters: Parameters, noise: Tensor) -> Tensor:
        """The upload; a clipped sample passes its gradient on."""
        value = parameters["mean"] + parameters["scale"] * noise
        return value + (value.clamp(0, 1) - value).detach() if self.clip else value

    def rate(self, parameters: Parameters) -> Tensor:
        """Gaussian: KL from N(1/2, 0.3) before clipping, the formula our own channel uses; Laplace: none is used."""
        if self.kind == "laplace":
            return unbounded(parameters)
        scale = parameters["scale"].clamp_min(1e-6)
        return gaussian_rate(parameters["mean"], scale, REFERENCE).flatten(1).sum(1)

    def likelihood(self, uploads: Tensor, parameters: Parameters) -> Tensor:
        """log P(upload | candidate) for all pairs, (uploads, candidates), up to a constant per upload.

        Laplace noise has one scale for all samples. Clipping needs no case of its own there: with means in 0..1 the
        mass beyond an end is proportional to the density at that end.
        """
        if self.kind == "laplace":
            scale = float(parameters["scale"].float().mean())
            means = parameters["mean"].float().flatten(1)
            return -torch.cdist(uploads.flatten(1), means, p=1.0).double() / scale
        return (GAUSSIAN if self.clip else open_gaussian)(uploads, parameters)


def open_gaussian(uploads: Tensor, parameters: Parameters) -> Tensor:
    """log N(upload; mean, scale) for all pairs, (uploads, candidates), without clipping."""
    mean = parameters["mean"].float().flatten(1) - 0.5
    scale = parameters["scale"].float().flatten(1).clamp_min(1e-3)
    x, precision = uploads.flatten(1) - 0.5, scale**-2
    constant = (-scale.log() - 0.5 * log(2 * pi) - 0.5 * mean**2 * precision).double().sum(1)
    product: Tensor = x @ (mean * precision).T - 0.5 * (x**2) @ precision.T
    return product.double() + constant
