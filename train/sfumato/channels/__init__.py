"""The noisy channel between the phone and the cloud.

A channel turns the maps of the local network into the parameters of a random draw, draws the upload, and says how many
nats the draw can carry. The network is deterministic; every bit of randomness is in the noise handed to `sample`.

    channel = create("dither", levels=2)
    parameters = channel.parameters(x, maps)
    upload = channel.sample(parameters, channel.noise(parameters))
    nats = channel.rate(parameters)

Shapes: B images, H x W pixels, 3 colours (1 in grey pictures), `k` bit planes a colour. All tensors are float32, (B, C, H, W).
With `subsample` H and W of maps, parameters and noise are smaller by it; those of uploads are not, for `sample` interpolates.
"""

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor

from sfumato.channels.dither import Dither
from sfumato.channels.gaussian import Gaussian
from sfumato.core.errors import UsageError, unknown

Parameters = dict[str, Tensor]
"""Name -> tensor of shape (B, C, H, W): dither has `p`; gaussian has `mean` and `scale`."""


class Channel(Protocol):
    """What every channel offers. Implementations are stateless: they hold settings, never weights."""

    @property
    def name(self) -> str:
        """The name under which `create` knows it."""
        ...

    @property
    def maps(self) -> Mapping[str, int]:
        """The maps a local network has to produce: name -> number of planes."""
        ...

    @property
    def starts(self) -> Mapping[str, float]:
        """The value every map has before training: the picture passes nearly unharmed."""
        ...

    @property
    def outputs(self) -> Mapping[str, int]:
        """The parameters the exported network returns: name -> number of planes."""
        ...

    @property
    def subsample(self) -> int:
        """Height and width, in pixels, of the square that a sample of the upload stands for."""
        ...

    @property
    def colours(self) -> int:
        """Samples a pixel of photos and uploads: 3, or 1 for grey."""
        ...

    @property
    def settings(self) -> dict[str, float | int | bool]:
        """The keyword arguments that `create` needs to make this channel again."""
        ...

    def parameters(self, x: Tensor, maps: Mapping[str, Tensor], middle: float = 0.5) -> Parameters:
        """Parameters of the draw for images `x` (B, colours, H, W) in 0..1 and raw maps (B, planes, H, W).

        `middle` is the value of a pixel that is as good as none: without an offset its samples are coins.

        Value by value: where the pixels of each block are packed as planes (`sfumato.models.layers.pack`), in both, the
        parameters come out packed alike.
        """
        ...

    def noise(self, parameters: Parameters, generator: torch.Generator | None = None) -> Tensor:
        """One fresh draw of the noise that `sample` consumes."""
        ...

    def sample(self, parameters: Parameters, noise: Tensor) -> Tensor:
        """The upload (B, colours, H, W), values 0..1; differentiable in the parameters."""
        ...

    def rate(self, parameters: Parameters) -> Tensor:
        """KL(p(x'|x) || r(x')) in nats per image, shape (B,); r treats every value alike."""
        ...

    @property
    def moments(self) -> Mapping[str, int]:
        """The moments of a draw that a mixture of draws averages: name -> number of planes."""
        ...

    def to_moments(self, parameters: Parameters) -> Parameters:
        """Parameters -> moments."""
        ...

    def from_moments(self, moments: Parameters) -> Parameters:
        """Moments -> the parameters of the draw that has them."""
        ...

    def gain(self, parameters: Parameters, references: Parameters) -> Tensor:
        """How much better K references predict each draw than r does, shape (B, K): the mean of log q_k(x') / r(x'), in nats.

        Args:
            parameters: of B draws.
            references: parameters of K others, each (K, planes, H, W); `rate - gain` is the divergence from them.
        """
        ...


CHANNELS: dict[str, type[Dither] | type[Gaussian]] = {"dither": Dither, "gaussian": Gaussian}


def create(name: str, **settings: float | int | bool) -> Channel:
    """Make a channel by name.

    Raises:
        UsageError: the name is not known, or a setting does not belong to this channel.
    """
    if name not in CHANNELS:
        raise UsageError(unknown("channel", name, CHANNELS))
    if name != "dither" and settings.pop("colours", 3) != 3:
        raise UsageError(
            f"the channel {name} takes colour pictures alone: give planes=3 in the data spec, or take dither"
        )
    try:
        return CHANNELS[name](**settings)  # type: ignore[arg-type]
    except TypeError as error:
        raise UsageError(f"channel {name}: {error}") from None


def upload_size(channel: Channel, size: tuple[int, int]) -> tuple[int, int]:
    """(height, width), in samples, of the uploads of images of this height and width."""
    return size[0] // channel.subsample, size[1] // channel.subsample


def prior_rate(channel: Channel, parameters: Parameters) -> Tensor:
    """What `--bits` bounds without a learned prior: the rate, by blocks where they can be closed, in nats per image, (B,)."""
    if isinstance(channel, Dither) and channel.gates:
        return channel.block_rate(parameters)
    return channel.rate(parameters)
