"""The ONNX operators that convolutional networks are made of, in PyTorch and with gradients.

A signature says all there is to know: positional arguments are the inputs in ONNX's order, keyword-only ones the attributes
with ONNX's defaults. Whatever a signature does not name, and whatever value a function refuses, is refused by name.

    OPERATORS["Relu"].bind(inputs=1, attributes={}); OPERATORS["Relu"].make(x)

Source: ONNX operator specification, opsets 13 to 22.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from math import floor, prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sfumato.core.errors import SfumatoError
from sfumato.models.tensors import follow_batches


@dataclass(frozen=True)
class Operator:
    """How one kind of node is computed."""

    make: Callable[..., Any]
    """A function of the inputs; for a layer, the class that is built from the weights and then takes the first input."""
    layer: bool = False
    settings: frozenset[int] = frozenset()
    """Inputs that say how to compute (shapes, axes, bounds): never weights."""

    def bind(self, inputs: int, attributes: Mapping[str, Any]) -> None:
        """Check that a node of so many inputs with these attributes is understood.

        Raises:
            SfumatoError: it is not.
        """
        signature = inspect.signature(self.make)
        named = {p.name for p in signature.parameters.values() if p.kind is p.KEYWORD_ONLY}
        if unknown := sorted(set(attributes) - named):
            raise SfumatoError(f"the attribute {unknown[0]} is not supported")
        try:
            signature.bind(*[None] * (inputs - self.layer), **attributes)
        except TypeError as error:
            raise SfumatoError(str(error)) from None


OPERATORS: dict[str, Operator] = {}
"""By the name of the operator in ONNX's own domain."""


def operator(name: str, *, settings: Sequence[int] = ()) -> Callable[[Any], Any]:
    """Enter a function into the table."""

    def enter(function: Any) -> Any:
        OPERATORS[name] = Operator(function, settings=frozenset(settings))
        return function

    return enter


def layer(name: str) -> Callable[[Any], Any]:
    """Enter a class of layers into the table."""

    def enter(made: Any) -> Any:
        OPERATORS[name] = Operator(made, layer=True)
        return made

    return enter


def demand(holds: bool, what: str) -> None:
    """Refuse a node of which `what` does not hold."""
    if not holds:
        raise SfumatoError(what)


# Elementwise -------------------------------------------------------------------------------------------------------------

UNARY: dict[str, Callable[[Tensor], Tensor]] = {
    "Identity": lambda x: x,
    "Relu": F.relu,
    "Sigmoid": torch.sigmoid,
    "Tanh": torch.tanh,
    "HardSwish": F.hardswish,
    "Softplus": F.softplus,
    "Erf": torch.erf,
    "Exp": torch.exp,
    "Sqrt": torch.sqrt,
    "Neg": torch.neg,
    "Abs": torch.abs,
    "Log": torch.log,
    "Sin": torch.sin,
    "Cos": torch.cos,
    "Floor": torch.floor,
    "Ceil": torch.ceil,
    "Reciprocal": torch.reciprocal,
    "Mish": F.mish,
    "Softsign": F.softsign,
    "Not": torch.logical_not,
}
BINARY: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "Add": torch.add,
    "Sub": torch.sub,
    "Mul": torch.mul,
    "Pow": torch.pow,
    "Equal": torch.eq,
    "Less": torch.lt,
    "LessOrEqual": torch.le,
    "Greater": torch.gt,
    "GreaterOrEqual": torch.ge,
    "And": torch.logical_and,
    "Or": torch.logical_or,
    # Among whole numbers, which are shapes, ONNX divides like C.
    "Div": lambda a, b: torch.div(a, b, rounding_mode=None if a.is_floating_point() else "trunc"),
}


def _of_one(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    return lambda x: function(x)  # PyTorch's own have no signature to look at


def _of_two(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda a, b: function(a, b)


for _name, _one in UNARY.items():
    operator(_name)(_of_one(_one))
for _name, _two in BINARY.items():
    operator(_name)(_of_two(_two))


@operator("Where", settings=(0,))
def where(condition: Tensor, yes: Tensor, no: Tensor) -> Tensor:
    """One or the other, place by place."""
    return torch.where(condition.to(yes.device), yes, no.to(yes.device))


@operator("Mod")
def modulo(a: Tensor, b: Tensor, *, fmod: int = 0) -> Tensor:
    """What division leaves: with the divisor's sign, or with `fmod` the dividend's."""
    return torch.fmod(a, b) if fmod else torch.remainder(a, b)


@operator("Min")
def smallest(*parts: Tensor) -> Tensor:
    """Of several tensors, place by place."""
    return reduce(torch.minimum, parts)


@operator("Max")
def largest(*parts: Tensor) -> Tensor:
    """Of several tensors, place by place."""
    return reduce(torch.maximum, parts)


@operator("Selu")
def selu(x: Tensor, *, alpha: float = 1.6732632, gamma: float = 1.050701) -> Tensor:
    """Klambauer et al., 2017."""
    return gamma * F.elu(x, alpha)


@operator("Celu")
def celu(x: Tensor, *, alpha: float = 1.0) -> Tensor:
    """Barron, 2017."""
    return F.celu(x, alpha)


@operator("LeakyRelu")
def leaky_relu(x: Tensor, *, alpha: float = 0.01) -> Tensor:
    """Slope `alpha` below zero."""
    return F.leaky_relu(x, alpha)


@operator("Elu")
def elu(x: Tensor, *, alpha: float = 1.0) -> Tensor:
    """Exponential below zero."""
    return F.elu(x, alpha)


@operator("PRelu")
def prelu(x: Tensor, slope: Tensor) -> Tensor:
    """A slope below zero that was learnt."""
    return x.clamp(min=0) + slope * x.clamp(max=0)


@operator("HardSigmoid")
def hard_sigmoid(x: Tensor, *, alpha: float = 0.2, beta: float = 0.5) -> Tensor:
    """A line, cut off at 0 and 1."""
    return (alpha * x + beta).clamp(0, 1)


@operator("Gelu")
def gelu(x: Tensor, *, approximate: str = "none") -> Tensor:
    """Hendrycks and Gimpel, 2016; exact or by tanh."""
    return F.gelu(x, approximate=approximate)


@operator("Clip", settings=(1, 2))
def clip(x: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Tensor:
    """Cut off at bounds that are there."""
    bounds = [None if bound is None else bound.item() for bound in (low, high)]
    return x if bounds == [None, None] else x.clamp(*bounds)


@operator("Softmax")
def softmax(x: Tensor, *, axis: int = -1) -> Tensor:
    """Positive, sum 1."""
    return x.softmax(axis)


@operator("LogSoftmax")
def log_softmax(x: Tensor, *, axis: int = -1) -> Tensor:
    """Logarithm of Softmax."""
    return x.log_softmax(axis)


@operator("Dropout", settings=(1, 2))
def dropout(
    x: Tensor, ratio: Tensor | None = None, training: Tensor | None = None, *, seed: int = 0
) -> Tensor:
    """Nothing: the network is used as it answers."""
    demand(training is None or not training.item(), "Dropout in training mode is not supported")
    return x


@operator("Cast")
def cast(x: Tensor, *, to: int, saturate: int = 1) -> Tensor:
    """To a type by ONNX's number."""
    demand(to in TYPES, f"a cast to type {to} is not supported")
    return x.to(TYPES[to])


TYPES = {1: torch.float32, 6: torch.int32, 7: torch.int64, 9: torch.bool}
"""ONNX's number of a type -> PyTorch's."""


# Places ------------------------------------------------------------------------------------------------------------------


def edges(
    x: Tensor,
    kernel: Sequence[int],
    steps: Sequence[int],
    apart: Sequence[int],
    pads: Sequence[int],
    auto: str,
) -> list[int]:
    """Rows and columns to add to (B, C, H, W): top, left, bottom, right."""
    demand(x.dim() == 4 and len(kernel) == 2, "only maps (B, C, H, W) are supported")
    if auto == "NOTSET":
        return list(pads)
    demand(auto in ("VALID", "SAME_UPPER", "SAME_LOWER"), f"auto_pad {auto} is not supported")
    first, last = [], []
    for length, size, step, gap in zip(x.shape[2:], kernel, steps, apart, strict=True):
        wanted = (-(-length // step) - 1) * step + (size - 1) * gap + 1
        total = 0 if auto == "VALID" else max(0, wanted - length)
        smaller, larger = total // 2, total - total // 2
        first.append(smaller if auto == "SAME_UPPER" else larger)
        last.append(larger if auto == "SAME_UPPER" else smaller)
    return first + last


def widen(x: Tensor, around: Sequence[int], value: float = 0.0) -> Tensor:
    """Add rows and columns of one value: top, left, bottom, right."""
    top, left, bottom, right = around
    return F.pad(x, (left, right, top, bottom), value=value) if any(around) else x


def native(around: Sequence[int], kernel: Sequence[int]) -> bool:
    """Whether PyTorch's pooling can add these rows and columns by itself."""
    same = around[:2] == around[2:]
    return same and all(2 * edge <= size for edge, size in zip(around[:2], kernel, strict=True))


@operator("MaxPool")
def max_pool(
    x: Tensor,
    *,
    kernel_shape: list[int],
    strides: Sequence[int] = (1, 1),
    pads: Sequence[int] = (0, 0, 0, 0),
    dilations: Sequence[int] = (1, 1),
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    storage_order: int = 0,
) -> Tensor:
    """Largest of every window."""
    around = edges(x, kernel_shape, strides, dilations, pads, auto_pad)
    inside = native(around, kernel_shape)
    demand(inside or not ceil_mode, "ceil_mode with unequal pads is not supported")
    if not inside:
        x, around = widen(x, around, -torch.inf), [0, 0, 0, 0]
    largest: Tensor = F.max_pool2d(
        x, kernel_shape, list(strides), around[:2], list(dilations), bool(ceil_mode)
    )
    return largest


@operator("AveragePool")
def average_pool(
    x: Tensor,
    *,
    kernel_shape: list[int],
    strides: Sequence[int] = (1, 1),
    pads: Sequence[int] = (0, 0, 0, 0),
    dilations: Sequence[int] = (1, 1),
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    count_include_pad: int = 0,
) -> Tensor:
    """Mean of every window, over the image alone or with what was added around it."""
    demand(list(dilations) == [1, 1], "dilations are not supported")
    around = edges(x, kernel_shape, strides, (1, 1), pads, auto_pad)
    counted = bool(count_include_pad) and any(around)
    if native(around, kernel_shape) and not counted:
        return F.avg_pool2d(
            x, kernel_shape, list(strides), around[:2], bool(ceil_mode), count_include_pad=False
        )
    demand(not ceil_mode, "ceil_mode with pads that are unequal or counted is not supported")
    total = F.avg_pool2d(widen(x, around), kernel_shape, list(strides))
    if counted:
        return total
    return total / F.avg_pool2d(widen(torch.ones_like(x[:1, :1]), around), kernel_shape, list(strides))


@operator("GlobalAveragePool")
def global_average_pool(x: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, C, 1, 1)."""
    return x.mean((2, 3), keepdim=True)


@operator("GlobalMaxPool")
def global_max_pool(x: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, C, 1, 1)."""
    return x.amax((2, 3), keepdim=True)


@operator("Pad", settings=(1, 2, 3))
def pad(
    x: Tensor,
    pads: Tensor,
    value: Tensor | None = None,
    axes: Tensor | None = None,
    *,
    mode: str = "constant",
) -> Tensor:
    """Add a constant, the mirrored image, or its edge."""
    rank, given = x.dim(), pads.tolist()
    along = list(range(rank)) if axes is None else [axis % rank for axis in axes.tolist()]
    around = [0] * 2 * rank  # PyTorch names the last axis first
    for place, axis in enumerate(along):
        around[2 * (rank - 1 - axis)] = given[place]
        around[2 * (rank - 1 - axis) + 1] = given[place + len(along)]
    if mode == "constant":
        return F.pad(x, around, value=0.0 if value is None else value.item())
    demand(mode in ("reflect", "edge"), f"mode {mode} is not supported")
    demand(rank == 4 and not any(around[4:]), f"mode {mode} is supported for height and width of maps alone")
    return F.pad(x, around[:4], mode="reflect" if mode == "reflect" else "replicate")


def sources(length: int, found: int, scale: float, mode: str) -> Tensor:
    """Where the `found` places of a resized axis lie on the original one of `length`, in single precision as elsewhere."""
    place = torch.arange(found, dtype=torch.float32)
    if mode == "asymmetric":
        return place / scale
    if mode == "align_corners":
        return place * (length - 1) / max(1, found - 1)
    if mode == "pytorch_half_pixel" and found == 1:
        return torch.zeros(1)
    demand(mode in ("half_pixel", "pytorch_half_pixel"), f"coordinates {mode} are not supported")
    return (place + 0.5) / scale - 0.5


NEAREST: dict[str, Callable[[Tensor], Tensor]] = {
    "round_prefer_floor": lambda place: (place - 0.5).ceil(),
    "round_prefer_ceil": lambda place: (place + 0.5).floor(),
    "floor": torch.floor,
    "ceil": torch.ceil,
}


@operator("Resize", settings=(1, 2, 3))
def resize(
    x: Tensor,
    roi: Tensor | None = None,
    scales: Tensor | None = None,
    sizes: Tensor | None = None,
    *,
    mode: str = "nearest",
    coordinate_transformation_mode: str = "half_pixel",
    nearest_mode: str = "round_prefer_floor",
    antialias: int = 0,
    exclude_outside: int = 0,
    cubic_coeff_a: float = -0.75,
    extrapolation_value: float = 0.0,
    keep_aspect_ratio_policy: str = "stretch",
) -> Tensor:
    """Nearest or linear, one axis after the other; straight from the formulas of the specification."""
    demand(mode in ("nearest", "linear"), f"mode {mode} is not supported")
    demand(nearest_mode in NEAREST, f"nearest_mode {nearest_mode} is not supported")
    demand(not antialias, "antialias is not supported")
    demand(keep_aspect_ratio_policy == "stretch", f"policy {keep_aspect_ratio_policy} is not supported")
    if sizes is not None and sizes.numel():
        lengths = sizes.tolist()
        factors = [new / old for new, old in zip(lengths, x.shape, strict=True)]
    else:
        demand(scales is not None and scales.numel() == x.dim(), "neither scales nor sizes are given")
        assert scales is not None
        factors = scales.tolist()
        lengths = [floor(old * factor) for old, factor in zip(x.shape, factors, strict=True)]
    for axis, (length, factor) in enumerate(zip(lengths, factors, strict=True)):
        if length == x.shape[axis] and factor == 1:
            continue
        last = x.shape[axis] - 1
        place = sources(last + 1, length, factor, coordinate_transformation_mode)
        if mode == "nearest":
            x = x.index_select(axis, NEAREST[nearest_mode](place).clamp(0, last).long().to(x.device))
            continue
        place = place.clamp(0, last)
        low = place.floor().long()
        weight = (place - low).to(x).view([-1 if axis == other else 1 for other in range(x.dim())])
        near, far = (x.index_select(axis, i.to(x.device)) for i in (low, (low + 1).clamp(max=last)))
        x = near + weight * (far - near)
    return x


# Sums and shapes ---------------------------------------------------------------------------------------------------------


def _reduce(one: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def over_axes(
        x: Tensor,
        over: Tensor | None = None,
        *,
        axes: list[int] | None = None,
        keepdims: int = 1,
        noop_with_empty_axes: int = 0,
    ) -> Tensor:
        demand(not noop_with_empty_axes, "noop_with_empty_axes is not supported")
        given = over.tolist() if over is not None else axes
        return one(x, tuple(given or range(x.dim())), keepdim=bool(keepdims))

    return over_axes


operator("ReduceMean", settings=(1,))(_reduce(torch.mean))
operator("ReduceSum", settings=(1,))(_reduce(torch.sum))
operator("ReduceMax", settings=(1,))(_reduce(torch.amax))
operator("ReduceMin", settings=(1,))(_reduce(torch.amin))
operator("ReduceL2", settings=(1,))(_reduce(lambda x, over, keepdim: x.norm(dim=over, keepdim=keepdim)))


def _product(x: Tensor, over: tuple[int, ...], keepdim: bool) -> Tensor:
    """PyTorch multiplies along one axis at a time; the last one first, so that the others keep their place."""
    for axis in sorted((axis % x.dim() for axis in over), reverse=True):
        x = x.prod(axis, keepdim=keepdim)
    return x


operator("ReduceProd", settings=(1,))(_reduce(_product))


@operator("Flatten")
def flatten(x: Tensor, *, axis: int = 1) -> Tensor:
    """Two axes: those before `axis`, and the others."""
    return x.reshape(prod(x.shape[:axis]), -1)


@operator("Reshape", settings=(1,))
def reshape(x: Tensor, shape: Tensor, *, allowzero: int = 0) -> Tensor:
    """0 keeps a length (unless it is allowed to be one), -1 takes what is left."""
    lengths = shape.tolist()
    if not allowzero:
        lengths = [length or x.shape[axis] for axis, length in enumerate(lengths)]
    return x.reshape(lengths)


@operator("Transpose")
def transpose(x: Tensor, *, perm: list[int] | None = None) -> Tensor:
    """Another order of the axes; reversed by default."""
    return x.permute(perm or list(reversed(range(x.dim()))))


@operator("Squeeze", settings=(1,))
def squeeze(x: Tensor, axes: Tensor | None = None) -> Tensor:
    """Drop axes of length 1."""
    return x.squeeze() if axes is None else x.squeeze(tuple(axes.tolist()))


@operator("Unsqueeze", settings=(1,))
def unsqueeze(x: Tensor, axes: Tensor) -> Tensor:
    """Put in axes of length 1, counted in the result."""
    rank = x.dim() + axes.numel()
    for axis in sorted(axis % rank for axis in axes.flatten().tolist()):
        x = x.unsqueeze(axis)
    return x


@operator("Concat")
def concat(*parts: Tensor, axis: int) -> Tensor:
    """One after the other."""
    return torch.cat(parts, axis)


@operator("Split", settings=(1,))
def split(
    x: Tensor, sizes: Tensor | None = None, *, axis: int = 0, num_outputs: int | None = None
) -> tuple[Tensor, ...]:
    """Parts of given lengths, or of equal ones."""
    if sizes is not None:
        return tuple(x.split(sizes.tolist(), axis))
    demand(num_outputs is not None, "a split needs the lengths of its parts")
    assert num_outputs is not None
    return tuple(x.split(-(-x.shape[axis] // num_outputs), axis))


@operator("Slice", settings=(1, 2, 3, 4))
def cut(
    x: Tensor, starts: Tensor, ends: Tensor, axes: Tensor | None = None, steps: Tensor | None = None
) -> Tensor:
    """A range of every named axis, forwards."""
    along = range(starts.numel()) if axes is None else axes.tolist()
    strides = [1] * starts.numel() if steps is None else steps.tolist()
    demand(min(strides) > 0, "negative steps are not supported")
    where = [slice(None)] * x.dim()
    for axis, start, end, step in zip(along, starts.tolist(), ends.tolist(), strides, strict=True):
        # "To the end" is written as the largest number there is, which PyTorch warns of.
        where[axis] = slice(*slice(start, end).indices(x.shape[axis])[:2], step)
    return x[tuple(where)]


@operator("Gather", settings=(1,))
def gather(x: Tensor, indices: Tensor, *, axis: int = 0) -> Tensor:
    """Entries of one axis."""
    axis %= x.dim()
    places = torch.where(indices < 0, indices + x.shape[axis], indices).flatten().to(x.device)
    return x.index_select(axis, places).reshape((*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]))


@operator("Expand", settings=(1,))
def expand(x: Tensor, shape: Tensor) -> Tensor:
    """Repeat along axes of length 1; lengths of 1 stay what they are."""
    return x.expand(torch.broadcast_shapes(x.shape, tuple(shape.tolist())))


@operator("Tile", settings=(1,))
def tile(x: Tensor, times: Tensor) -> Tensor:
    """Copies side by side."""
    return x.repeat(times.tolist())


@operator("Einsum")
def einsum(*parts: Tensor, equation: str) -> Tensor:
    """Sums of products over named axes."""
    return torch.einsum(equation, *parts)


@operator("DepthToSpace")
def depth_to_space(x: Tensor, *, blocksize: int, mode: str = "DCR") -> Tensor:
    """Channels become blocks of pixels."""
    demand(mode in ("DCR", "CRD"), f"mode {mode} is not supported")
    if mode == "CRD":
        return F.pixel_shuffle(x, blocksize)
    batch, planes, height, width = x.shape
    parts = x.reshape(batch, blocksize, blocksize, planes // blocksize**2, height, width)
    return parts.permute(0, 3, 4, 1, 5, 2).reshape(batch, -1, height * blocksize, width * blocksize)


@operator("SpaceToDepth")
def space_to_depth(x: Tensor, *, blocksize: int) -> Tensor:
    """Blocks of pixels become channels."""
    batch, planes, height, width = x.shape
    parts = x.reshape(batch, planes, height // blocksize, blocksize, width // blocksize, blocksize)
    return parts.permute(0, 3, 5, 1, 2, 4).reshape(batch, -1, height // blocksize, width // blocksize)


@operator("ConstantOfShape", settings=(0,))
def constant_of_shape(shape: Tensor, *, value: Tensor | None = None) -> Tensor:
    """One value everywhere, 0 by default."""
    lengths = shape.tolist()
    return torch.zeros(lengths) if value is None else value.reshape(()).expand(lengths).clone()


@operator("Range", settings=(0, 1, 2))
def numbers(start: Tensor, end: Tensor, step: Tensor) -> Tensor:
    """From `start` to below `end`."""
    return torch.arange(start.item(), end.item(), step.item(), dtype=start.dtype)


@operator("Shape")
def shape_of(x: Tensor, *, start: int = 0, end: int | None = None) -> Tensor:
    """Lengths of the axes."""
    return torch.tensor(x.shape[start:end])


# Layers ------------------------------------------------------------------------------------------------------------------


def fill(module: nn.Module, **weights: Tensor | None) -> None:
    """Put weights in; those that are None stay away."""
    with torch.no_grad():
        for name, weight in weights.items():
            if weight is not None:
                getattr(module, name).copy_(weight)


@layer("Conv")
class Convolution(nn.Conv2d):
    """Convolution over height and width."""

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None = None,
        *,
        kernel_shape: Sequence[int] | None = None,
        strides: Sequence[int] = (1, 1),
        pads: Sequence[int] = (0, 0, 0, 0),
        dilations: Sequence[int] = (1, 1),
        group: int = 1,
        auto_pad: str = "NOTSET",
    ) -> None:
        demand(weight.dim() == 4, "only maps (B, C, H, W) are supported")
        outputs, inputs, height, width = weight.shape
        super().__init__(
            inputs * group,
            outputs,
            (height, width),
            (strides[0], strides[1]),
            dilation=(dilations[0], dilations[1]),
            groups=group,
            bias=bias is not None,
        )
        fill(self, weight=weight, bias=bias)
        self.pads, self.auto_pad = list(pads), auto_pad

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, outputs, h, w)."""
        steps, apart = self.stride, self.dilation
        around = edges(x, self.kernel_size, steps, apart, self.pads, self.auto_pad)
        if around[:2] != around[2:]:
            x, around = widen(x, around), [0, 0, 0, 0]
        return F.conv2d(x, self.weight, self.bias, steps, tuple(around[:2]), apart, self.groups)


@layer("ConvTranspose")
class TransposedConvolution(nn.ConvTranspose2d):
    """Transposed convolution over height and width."""

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None = None,
        *,
        kernel_shape: Sequence[int] | None = None,
        strides: Sequence[int] = (1, 1),
        pads: Sequence[int] = (0, 0, 0, 0),
        dilations: Sequence[int] = (1, 1),
        output_padding: Sequence[int] = (0, 0),
        group: int = 1,
        auto_pad: str = "NOTSET",
    ) -> None:
        demand(weight.dim() == 4, "only maps (B, C, H, W) are supported")
        demand(auto_pad == "NOTSET", f"auto_pad {auto_pad} is not supported")
        demand(list(pads[:2]) == list(pads[2:]), "unequal pads are not supported")
        inputs, outputs, height, width = weight.shape
        super().__init__(
            inputs,
            outputs * group,
            (height, width),
            (strides[0], strides[1]),
            (pads[0], pads[1]),
            (output_padding[0], output_padding[1]),
            groups=group,
            bias=bias is not None,
            dilation=(dilations[0], dilations[1]),
        )
        fill(self, weight=weight, bias=bias)


@layer("Gemm")
class Dense(nn.Linear):
    """Matrix product with weights, and a bias."""

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None = None,
        *,
        alpha: float = 1.0,
        beta: float = 1.0,
        transA: int = 0,
        transB: int = 0,
    ) -> None:
        demand(not transA, "transA is not supported")
        weight = alpha * (weight if transB else weight.T)
        super().__init__(weight.shape[1], weight.shape[0], bias=bias is not None)
        fill(self, weight=weight, bias=None if bias is None else beta * bias)


@operator("MatMul")
def matrix_product(a: Tensor, b: Tensor) -> Tensor:
    """Of two tensors that are both computed; with weights it is a layer."""
    return a @ b


class Scaled(nn.Module):
    """A factor and a shift of every plane, behind a norm."""

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight.clone())
        self.bias = None if bias is None else nn.Parameter(bias.clone())


@layer("LayerNormalization")
class LayerNorm(Scaled):
    """Layer norm over the last axes (Ba et al., 2016)."""

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None = None,
        *,
        axis: int = -1,
        epsilon: float = 1e-5,
        stash_type: int = 1,
    ) -> None:
        demand(stash_type == 1, "a stash_type other than float32 is not supported")
        super().__init__(weight, bias)
        self.axis, self.epsilon = axis, epsilon

    def forward(self, x: Tensor) -> Tensor:
        """Any shape, kept."""
        return F.layer_norm(x, x.shape[self.axis % x.dim() :], self.weight, self.bias, self.epsilon)


@layer("InstanceNormalization")
class InstanceNorm(Scaled):
    """Instance norm of maps (Ulyanov et al., 2016)."""

    def __init__(self, weight: Tensor, bias: Tensor, *, epsilon: float = 1e-5) -> None:
        super().__init__(weight, bias)
        self.epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, ...), kept."""
        return F.instance_norm(x, weight=self.weight, bias=self.bias, eps=self.epsilon)


@layer("GroupNormalization")
class GroupNorm(Scaled):
    """Group norm (Wu and He, 2018); opset 21, with a factor for every plane."""

    def __init__(
        self, weight: Tensor, bias: Tensor, *, num_groups: int, epsilon: float = 1e-5, stash_type: int = 1
    ) -> None:
        demand(stash_type == 1, "a stash_type other than float32 is not supported")
        super().__init__(weight, bias)
        self.groups, self.epsilon = num_groups, epsilon

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, ...), kept."""
        demand(len(self.weight) == x.shape[1], "GroupNormalization before opset 21 is not supported")
        return F.group_norm(x, self.groups, self.weight, self.bias, self.epsilon)


@layer("BatchNormalization")
class BatchNorm(nn.BatchNorm2d):
    """Batch norm of maps or vectors; the statistics are buffers."""

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor,
        running_mean: Tensor,
        running_var: Tensor,
        *,
        epsilon: float = 1e-5,
        momentum: float = 0.9,
        training_mode: int = 0,
    ) -> None:
        demand(not training_mode, "training_mode is not supported")
        super().__init__(len(weight), epsilon, 1 - momentum)
        follow_batches(self)
        fill(self, weight=weight, bias=bias, running_mean=running_mean, running_var=running_var)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) or (B, C)."""
        return super().forward(x[..., None, None]).flatten(1) if x.dim() == 2 else super().forward(x)
