"""A local network of the user's own, for the phone: image in, channel maps out.

    local = OwnLocal(create("dither", levels=2), make_own("my_phone:make", channel, (64, 64)))
    parameters = local(x)          # x: (B, 3, H, W), 0..1

`--local module:factory` names a callable `factory(planes: dict[str, int], size: tuple[int, int]) -> nn.Module`. `planes` says
which maps the channel takes and how many planes each has, for dither with two levels `{"gate": 3, "offset": 3}`. The module's
forward maps images (B, 3, H, W) in 0..1 to a dict of these maps, each (B, planes, H, W), any real numbers; with `subsample`
height and width of the maps are those of the upload. Zeros mean: the picture as it is, hardly any noise. What the channel makes
of maps stays ours, so the rate stays exact.

There is no decision path behind it (`sfumato.models.argmax_head`), so nothing holds what is told beyond the answer: such
networks are for uploads that show parts of a picture, tens of bits and more.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from sfumato.channels import Channel, Parameters, upload_size
from sfumato.core.console import note
from sfumato.core.errors import SfumatoError, UsageError, first_line
from sfumato.models.cloud import find_factory
from sfumato.models.layers import mean_of_squares
from sfumato.models.tensors import evaluating


class OwnLocal(nn.Module):
    """A user's network with the channel behind it; to training it is a `LocalNetwork` without decision, gates and shortlist.

    Args:
        channel: says which maps are needed and how they become parameters.
        network: (B, 3, H, W) in 0..1 -> a dict of maps.
    """

    decision = gates = shortlist = None
    block = 1

    def __init__(self, channel: Channel, network: nn.Module) -> None:
        super().__init__()
        self.channel, self.network = channel, network
        self.up = nn.ModuleList()

    def encoder(self, x: Tensor) -> list[Tensor]:
        """The image itself: what a user's network sees on its way is its own affair."""
        return [x]

    def decode(
        self, x: Tensor, fine: Sequence[Tensor], bottleneck: Tensor, scores: Tensor | None = None
    ) -> Parameters:
        """Image -> channel parameters; the other arguments are those of `LocalNetwork.decode`."""
        maps: Mapping[str, Tensor] = self.network(x)
        starts = self.channel.starts
        seen = mean_of_squares(x, self.channel.subsample)
        return self.channel.parameters(
            seen,
            {name: maps[name] + starts[name] if starts[name] else maps[name] for name in self.channel.maps},
        )

    def forward(self, x: Tensor) -> Parameters:
        """(B, 3, H, W) in 0..1 -> channel parameters, each (B, planes, H, W)."""
        return self.decode(x, [], x)


def make_own(name: str, channel: Channel, size: tuple[int, int]) -> nn.Module:
    """What `module:factory` makes for this channel and image size.

    Raises:
        UsageError: the factory cannot be found, fails, or does not return a module.
    """
    factory = find_factory(name, "local network", "module:factory")
    try:
        made = factory(dict(channel.maps), size)
    except (Exception, SystemExit) as error:  # it is the user's: it may raise anything
        reason = f"{type(error).__name__}: {first_line(error)}"
        raise UsageError(
            f"cannot make the local network {name!r} ({reason}); it is called with {dict(channel.maps)}, {size}"
        ) from None
    if not isinstance(made, nn.Module):
        raise UsageError(f"{name} returned {type(made).__name__}, but a torch.nn.Module is needed")
    return made


def check_maps(network: nn.Module, channel: Channel, size: tuple[int, int], name: str) -> None:
    """Refuse a network that does not give the channel its maps, or cannot learn; say what phones have no kernels for.

    Args:
        network: a user's.
        channel: that it is for.
        size: height and width of the images.
        name: what to call it.

    Raises:
        SfumatoError: it does not take a batch of images, its maps have other names or shapes or are not finite, or no gradient
            comes back through them.
    """
    probe = torch.rand(3, channel.colours, *size, generator=torch.Generator().manual_seed(0))
    wanted = {key: (len(probe), planes, *upload_size(channel, size)) for key, planes in channel.maps.items()}
    try:
        with evaluating(network), torch.enable_grad(), _Calls() as calls:
            maps = network(probe)
    except Exception as error:  # it is the user's: it may raise anything
        raise SfumatoError(f"{name} does not take images {tuple(probe.shape)}: {first_line(error)}") from None
    if not isinstance(maps, dict) or not all(isinstance(value, Tensor) for value in maps.values()):
        raise SfumatoError(f"{name} returned {type(maps).__name__}: a dict of maps is needed, {wanted}")
    if (found := {key: tuple(value.shape) for key, value in maps.items()}) != wanted:
        raise SfumatoError(f"{name} makes {found} of three images, the channel {channel.name} needs {wanted}")
    for key, value in maps.items():
        if not torch.isfinite(value).all():
            raise SfumatoError(f"{name}: its {key} is not finite")
        if not value.requires_grad:
            raise SfumatoError(f"{name}: its {key} depends on no weights that can learn")
    if slow := [name for name in SLOW if name in calls.kinds]:
        note(
            f"{name} uses {', '.join(slow)}: no phone's delegate takes them at int8, so the export would be refused; "
            f"take {', '.join(f'{SLOW[one]} for {one}' for one in slow)}"
        )


SLOW = {
    "GELU": "GELU('tanh') or SiLU",
    "mirrored or repeated edges": "zeros",
    "layer norm": "BatchNorm2d behind a convolution",
    "group norm": "BatchNorm2d behind a convolution",
    "instance norm": "BatchNorm2d behind a convolution",
    "attention or softmax": "squeeze-excite",
}
"""What no converter of ours brings to a phone at int8, and what it takes instead.

Measured, as docs/own-networks.md shows. XNNPACK leaves to the reference kernels: of the norms RSQRT and SQUARED_DIFFERENCE, of
GELU the operator itself, or the ABS and EXP of its parts, of attention SOFTMAX, of edges MIRROR_PAD. NNAPI has BATCH_MATMUL
from its feature level 6 on alone.
"""
CALLS = {
    "gelu": "GELU",
    "erf": "GELU",
    "layer_norm": "layer norm",
    "group_norm": "group norm",
    "instance_norm": "instance norm",
    "multi_head_attention_forward": "attention or softmax",
    "softmax": "attention or softmax",
    "scaled_dot_product_attention": "attention or softmax",
    "_native_multi_head_attention": "attention or softmax",
    "_transformer_encoder_layer_fwd": "attention or softmax",
}
"""PyTorch's functions, by their own names, -> keys of `SLOW`."""


def slow_kind(name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str | None:
    """The key of `SLOW` that a call of one of PyTorch's functions is; None if phones take it."""
    if name == "pad":
        mode = args[2] if len(args) > 2 else kwargs.get("mode", "constant")
        return None if mode == "constant" else "mirrored or repeated edges"
    if name == "gelu" and kwargs.get("approximate") == "tanh":  # products, sums and TANH
        return None
    return CALLS.get(name)


class _Calls(TorchFunctionMode):
    """Which of `SLOW` a network computes, whether by a layer or by a function."""

    def __init__(self) -> None:
        super().__init__()
        self.kinds: set[str] = set()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kind = slow_kind(getattr(func, "__name__", ""), args, kwargs or {})
        if kind is not None:
            self.kinds.add(kind)
        return func(*args, **(kwargs or {}))
