"""The layers that our networks are made of.

block = nn.Sequential(convolution(3, 16, stride=2), nn.ReLU(), Separable(16, 32, stride=2))
"""

from typing import Any, Literal, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.grad import conv2d_weight
from torch.nn.utils.fusion import fuse_conv_bn_eval

Network = TypeVar("Network", bound=nn.Module)
Padding = Literal["same", "symmetric"]
"""Where the zeros of a strided convolution lie: as `Same` has them, or as many on either side."""


class Same(nn.Conv2d):
    """A convolution padded as TensorFlow's SAME is: where the padding is odd, one more below and to the right.

    (B, C, H, W) -> (B, planes, ceil(H / stride), ceil(W / stride)).
    """

    # Not `forward`: whoever puts other weights in (quantization) calls this one, as `nn.Conv2d.forward` does.
    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        left_to_bottom = []
        for length, kernel, stride in zip(
            input.shape[:1:-1], self.kernel_size[::-1], self.stride[::-1], strict=True
        ):
            missing = max((-(-int(length) // stride) - 1) * stride + kernel - int(length), 0)
            left_to_bottom += [missing // 2, missing - missing // 2]
        left, right, top, bottom = left_to_bottom
        # An even padding is the convolution's own; a layer of its own costs a copy of the picture.
        if (left, top) == (right, bottom):
            return F.conv2d(input, weight, bias, self.stride, (top, left), groups=self.groups)
        return F.conv2d(F.pad(input, left_to_bottom), weight, bias, self.stride, groups=self.groups)


def convolution(
    inputs: int,
    outputs: int,
    *,
    size: int = 3,
    stride: int = 1,
    groups: int = 1,
    padding: Padding = "symmetric",
) -> nn.Sequential:
    """Convolution and batch norm; the two fold into one operator at export."""
    if padding == "same" and stride > 1:  # one step apart the two are alike
        layer: nn.Conv2d = Same(inputs, outputs, size, stride, groups=groups, bias=False)
        return nn.Sequential(layer, nn.BatchNorm2d(outputs))
    if (size, stride, groups) == (5, 2, 1):
        return nn.Sequential(Halving(inputs, outputs), nn.BatchNorm2d(outputs))
    layer = nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, groups=groups, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(outputs))


class Separable(nn.Module):
    """Depthwise 3x3, pointwise 1x1, ReLU (Howard et al., MobileNets, 2017); residual where the shape allows it."""

    def __init__(self, inputs: int, outputs: int, *, stride: int = 1, padding: Padding = "symmetric") -> None:
        super().__init__()
        self.depthwise = convolution(inputs, inputs, stride=stride, groups=inputs, padding=padding)
        self.pointwise = convolution(inputs, outputs, size=1)
        self.residual = inputs == outputs and stride == 1

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) -> (B, outputs, H / stride, W / stride)."""
        y = self.pointwise(self.depthwise(x))
        return F.relu(x + y if self.residual else y)


class Residual(nn.Module):
    """Basic residual block (He et al., 2016), projection shortcut where the shape changes."""

    def __init__(self, inputs: int, outputs: int, *, stride: int = 1) -> None:
        super().__init__()
        self.first = convolution(inputs, outputs, stride=stride)
        self.second = convolution(outputs, outputs)
        same = inputs == outputs and stride == 1
        self.shortcut: nn.Module = (
            nn.Identity() if same else convolution(inputs, outputs, size=1, stride=stride)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) -> (B, outputs, H / stride, W / stride)."""
        return F.relu(self.second(F.relu(self.first(x))) + self.shortcut(x))


def enlarge(x: Tensor) -> Tensor:
    """Double height and width; bilinear, since nearest-neighbour splits the XNNPACK partition."""
    return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)


def pool(x: Tensor, grid: int | tuple[int, int]) -> Tensor:
    """Adaptive mean pooling, (B, planes, H, W) -> (B, planes, *grid), in operators that ONNX has for every size.

    One number stands for both sides of the grid.

    ONNX knows it for whole factors alone; otherwise cells overlap, and the means are two matrix products.
    """
    height, width = (int(length) for length in x.shape[2:])
    grid = (grid, grid) if isinstance(grid, int) else grid
    if height % grid[0] == 0 and width % grid[1] == 0:
        return F.adaptive_avg_pool2d(x, grid)
    return cell_shares(height, grid[0]).to(x) @ x @ cell_shares(width, grid[1]).to(x).T


def cell_shares(length: int, grid: int) -> Tensor:
    """What each of `length` places contributes to the mean of each of `grid` cells, (grid, length).

    >>> cell_shares(3, 2)
    tensor([[0.5000, 0.5000, 0.0000],
            [0.0000, 0.5000, 0.5000]])
    """
    rows = []
    for cell in range(grid):
        first, end = cell * length // grid, -(-(cell + 1) * length // grid)
        rows.append([float(first <= place < end) / (end - first) for place in range(length)])
    return torch.tensor(rows)


def enlarge_to(x: Tensor, like: Tensor) -> Tensor:
    """Bilinear enlargement to the height and width of `like`, as `enlarge_to_size`."""
    return enlarge_to_size(x, (int(like.shape[2]), int(like.shape[3])))


def enlarge_to_size(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear enlargement to a height and width.

    A single value a plane is left as it is, for an addition stretches it. As whole factors where they are whole: with sizes,
    ONNX would compute shapes inside the graph.
    """
    (h, w), (height, width) = (int(length) for length in x.shape[2:]), size
    if h == w == 1:
        return x
    whole = height % h == 0 and width % w == 0
    target: dict[str, Any] = (
        {"scale_factor": (height // h, width // w)} if whole else {"size": (height, width)}
    )
    return F.interpolate(x, **target, mode="bilinear", align_corners=False)


def mean_of_squares(x: Tensor, side: int) -> Tensor:
    """The mean of every square of pixels: (B, C, H, W) -> (B, C, H / side, W / side)."""
    return x if side == 1 else F.avg_pool2d(x, side)


def unpack(x: Tensor, block: int, colours: int = 3) -> Tensor:
    """Give every pixel its own place again, with a gradient: (B, C * block^2, H, W) -> (B, C, block * H, block * W).

    The values of a pixel lie `colours` together, those of a block's pixels row by row, and planes beyond `colours` follow
    as further pictures. Of channels-last tensors whole rows of a block are copied at once, in half the time that
    `F.pixel_shuffle` takes: it has the planes in another order (`reorder`). For training; exports hold torch's operator.

    Args:
        x: B, C * block^2, H, W.
        block: height and width of a block of pixels.
        colours: a divisor of C.
    """
    unpacked: Tensor = _Unpack.apply(x, block, colours)  # type: ignore[no-untyped-call]
    return unpacked


def pack(x: Tensor, block: int, colours: int = 3) -> Tensor:
    """The reverse of `unpack`, without a gradient: (B, C, block * H, block * W) -> (B, C * block^2, H, W)."""
    batch, _, height, width = x.shape
    rows = x.permute(0, 2, 3, 1).view(batch, height // block, block, width // block, block, -1, colours)
    packed = rows.permute(0, 1, 3, 5, 2, 4, 6).reshape(batch, height // block, width // block, -1)
    return packed.permute(0, 3, 1, 2)


def reorder(values: Tensor, block: int, colours: int = 3) -> Tensor:
    """Weights or biases of a convolution before `F.pixel_shuffle` -> of one before `unpack`: (C * block^2, ...), same shape."""
    pictures = values.view(-1, colours, block**2, *values.shape[1:])
    return pictures.transpose(1, 2).reshape(values.shape)


class _Unpack(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, block: int, colours: int) -> Tensor:
        ctx.given = block, colours
        batch, _, height, width = x.shape
        places = x.permute(0, 2, 3, 1).view(batch, height, width, -1, block, block, colours)
        rows = places.permute(0, 1, 4, 2, 5, 3, 6).reshape(batch, height * block, width * block, -1)
        return rows.permute(0, 3, 1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None, None]:
        return pack(slope.contiguous(memory_format=torch.channels_last), *ctx.given), None, None


class Halving(nn.Conv2d):
    """A 5x5 or 3x3 convolution that halves height and width, (B, C, H, W) -> (B, O, H / 2, W / 2), quick in both directions.

    The kernels for few input planes are slow backwards. Seen from the output, the four pixels under each place are four
    more planes, and their gradient is an ordinary 3x3 convolution that is unpacked.
    """

    def __init__(self, inputs: int, outputs: int, size: Literal[3, 5] = 5) -> None:
        super().__init__(inputs, outputs, size, 2, padding=size // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) -> (B, outputs, H / 2, W / 2)."""
        if not (x.requires_grad and torch.is_grad_enabled()) or x.shape[2] % 2 or x.shape[3] % 2:
            return super().forward(x)
        halved: Tensor = _Halve.apply(x, self.weight)  # type: ignore[no-untyped-call]
        return halved if self.bias is None else halved + self.bias[:, None, None]  # folded: it has one


class _Halve(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return F.conv2d(x, weight, stride=2, padding=weight.shape[2] // 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, Tensor | None]:
        x, weight = ctx.saved_tensors
        kernel = weight.to(
            slope.dtype
        )  # under autocast the convolution was computed in less than the weight's precision
        outputs, inputs = kernel.shape[:2]
        # Tap u of pixel i is row 4 + i - 2 u of a 5x5 kernel, which a sixth row of zeros makes whole. One of 3x3 is the middle.
        padding = weight.shape[2] // 2
        rim = 2 - padding
        taps = F.pad(kernel, (rim, rim + 1, rim, rim + 1)).view(outputs, inputs, 3, 2, 3, 2).flip(2, 4)
        taps = taps.permute(3, 5, 1, 0, 2, 4).reshape(4 * inputs, outputs, 3, 3)
        into_x = unpack(F.conv2d(slope, taps, padding=1), 2, inputs)
        if not ctx.needs_input_grad[1]:  # frozen: a slope alone passes through
            return into_x.to(x.dtype), None
        into_weight = conv2d_weight(x.to(slope.dtype), list(weight.shape), slope, stride=2, padding=padding)
        return into_x.to(x.dtype), into_weight.to(weight.dtype)


def fold(network: Network) -> Network:
    """Fold every batch norm into the convolution before it, in place; the network must be in evaluation mode."""
    for part in network.modules():
        if isinstance(part, nn.Sequential) and len(part) > 1:
            layer, norm = part[0], part[1]
            if isinstance(layer, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                part[0], part[1] = fuse_conv_bn_eval(layer, norm), nn.Identity()
    return network
