"""Quantization-aware fine-tuning: the local network learns to give the same outputs with eight bits.

Used where plain post-training quantization moves rate or accuracy too far. The float network is the teacher: a copy of it
computes every tensor with TensorFlow Lite's rounding (int8 per tensor with a zero point, weights int8 per output channel) and
learns to give the same probabilities, measured by the divergence that the rate itself is made of. No labels and no cloud
network take part.
Gradients pass rounding unchanged inside the range (Jacob et al., Quantization and Training of Neural Networks, CVPR 2018).

    tuned = fine_tune(network, images, calibration)
"""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, fx, nn

from sfumato.export.freeze import AnswerPhone, PhoneNetwork
from sfumato.models.layers import Same

Phone = TypeVar("Phone", PhoneNetwork, AnswerPhone)

MOVES = ("permute", "identity", "detach", "pixel_shuffle", "amax", "adaptive_max_pool2d", "max_pool2d")
"""Values change places and nothing else: TensorFlow Lite keeps their scale, and the export does it later or not at all."""
LOGISTIC_RANGE = (0.0, 255 / 256)
"""Scale 1/256, zero point -128, by definition."""


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """How long and how fast."""

    steps: int = 240
    batch_size: int = 16
    learning_rate: float = 3e-4
    """Peak of Adam's step; a quarter cosine down to zero."""
    refresh: int = 40
    """Steps after which the ranges are measured again, as the converter will."""
    seed: int = 0


def fake_quantize(x: Tensor, low: float, high: float) -> Tensor:
    """Round to the 256 values of an int8 tensor that covers `low` .. `high` and zero.

    >>> fake_quantize(torch.tensor([0.25, 0.6, 9.0]), 0.0, 1.0)
    tensor([0.2510, 0.6000, 1.0000])
    """
    low, high = min(low, 0.0), max(high, 0.0)
    scale = (high - low) / 255 or 1.0
    return torch.fake_quantize_per_tensor_affine(x, scale, round(-128 - low / scale), -128, 127)


def fake_quantize_weight(weight: Tensor) -> Tensor:
    """int8 per output channel, symmetric, -127 .. 127: convolution weights (C_out, ...)."""
    scale = weight.detach().abs().flatten(1).amax(1).clamp_min(1e-12) / 127
    zeros = torch.zeros(len(scale), dtype=torch.int32)
    return torch.fake_quantize_per_channel_affine(weight, scale, zeros, 0, -127, 127)


def operation(node: fx.Node, modules: Mapping[str, nn.Module]) -> str:
    """What a traced node does, as one word."""
    if node.op == "call_module":
        part = modules[str(node.target)]
        return "conv2d" if isinstance(part, Same) else type(part).__name__.lower()
    if node.op in ("call_function", "call_method"):
        return str(getattr(node.target, "__name__", node.target))
    return node.op


class _Tracer(fx.Tracer):
    """Leaves our convolution whole, as it leaves torch's."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, Same) or super().is_leaf_module(m, module_qualified_name)


class Quantized(fx.Interpreter):
    """Runs a traced network with or without int8 rounding after every tensor that TensorFlow Lite keeps.

    Rounding is left out where operators are fused: a convolution or sum before its RELU, and a difference before its factor.
    """

    SILENT = (*MOVES, "placeholder", "output", "get_attr", "getitem")

    def __init__(self, network: nn.Module) -> None:
        super().__init__(fx.GraphModule(network, _Tracer().trace(network)))
        self.kinds = {node: operation(node, self.submodules) for node in self.module.graph.nodes}  # type: ignore[union-attr]
        self.ranges: dict[fx.Node, tuple[float, float]] = {}
        self.measuring = False

    def run_node(self, n: fx.Node) -> Any:
        """Run one node and round its result."""
        kind = self.kinds[n]
        rounded = kind == "conv2d" and not self.measuring
        result = self._convolution(n) if rounded else super().run_node(n)
        if kind in self.SILENT or self._fused(n):
            return result
        if self.measuring:
            self._measure(n, result)
            return result
        low, high = LOGISTIC_RANGE if kind == "sigmoid" else self.ranges[self._source(n)]
        return fake_quantize(result, low, high)

    def measure(self, images: Tensor) -> None:
        """Smallest and largest value of every tensor over images (N, H, W, 3), without rounding."""
        self.ranges, self.measuring = {}, True
        with torch.no_grad():
            for batch in images.split(32):
                self.run(batch)
        self.measuring = False

    def _convolution(self, n: fx.Node) -> Tensor:
        part = self.submodules[str(n.target)]
        assert isinstance(part, nn.Conv2d)
        (x,), _ = self.fetch_args_kwargs_from_env(n)
        # Not `F.conv2d`: the layer knows where its zeros lie.
        made: Tensor = part._conv_forward(x, fake_quantize_weight(part.weight), part.bias)
        return made

    def _measure(self, n: fx.Node, result: Tensor) -> None:
        low, high = self.ranges.get(n, (0.0, 0.0))
        self.ranges[n] = (min(low, float(result.min())), max(high, float(result.max())))

    def _source(self, n: fx.Node) -> fx.Node:
        """A resized tensor keeps the scale of what it was made from."""
        while self.kinds[n] in ("interpolate", "enlarge_to"):
            n = self._behind(n.args[0])
        return n

    def _behind(self, n: Any) -> fx.Node:
        while self.kinds[n] in MOVES:
            n = n.args[0]
        assert isinstance(n, fx.Node)
        return n

    def _fused(self, n: fx.Node) -> bool:
        users = [user for user in n.users]
        while len(users) == 1 and self.kinds[users[0]] in ("identity", "pixel_shuffle"):
            users = list(users[0].users)
        if len(users) != 1:
            return False
        pair = (self.kinds[n], self.kinds[users[0]])
        return pair in (("conv2d", "relu"), ("conv2d", "relu6"), ("add", "relu"), ("sub", "mul"))


Divergence = Callable[[tuple[Tensor, ...], tuple[Tensor, ...]], Tensor]
"""Outputs of teacher and student -> a loss."""


def divergence(teacher: tuple[Tensor, ...], student: tuple[Tensor, ...]) -> Tensor:
    """KL between Bernoulli distributions, summed over outputs and samples, mean over the batch, in nats."""
    total = torch.zeros(())
    for p, q in zip(teacher, student, strict=True):
        p, q = p.clamp(1e-4, 1 - 1e-4), q.clamp(1e-4, 1 - 1e-4)
        total = total + (p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()).flatten(1).sum(1).mean()
    return total


def answer_divergence(classes: Sequence[int]) -> Divergence:
    """KL between the distributions over the classes of each attribute, summed over attributes, mean over the batch, in nats.

    Args:
        classes: number of classes of each attribute, whose scores follow one another in an output (B, 1, 1, S).
    """

    def loss(teacher: tuple[Tensor, ...], student: tuple[Tensor, ...]) -> Tensor:
        total = torch.zeros(())
        parts = (scores.flatten(1).split(list(classes), dim=1) for (scores,) in (teacher, student))
        for wanted, found in zip(*parts, strict=True):
            total = total + F.kl_div(
                found.log_softmax(1), wanted.log_softmax(1), reduction="batchmean", log_target=True
            )
        return total

    return loss


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch on one thread: sums over several depend on their number, and the bytes of the model that ships follow from them."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def fine_tune(
    network: Phone,
    images: NDArray[np.uint8],
    calibration: NDArray[np.uint8],
    tuning: Tuning = Tuning(),
    watch: Callable[[int, float], None] = lambda step, loss: None,
    divergence: Divergence = divergence,
) -> Phone:
    """A copy of the network that gives the same outputs once it is quantized.

    Args:
        network: folded, frozen.
        images: (N, H, W, 3) training images.
        calibration: the images that the converter will measure ranges on.
        tuning: how long and how fast.
        watch: called with step and divergence in nats an image.
        divergence: what is made small; between probabilities of the channel unless said otherwise.
    """
    student = copy.deepcopy(network).requires_grad_(True).eval()
    runner = Quantized(student)
    # fx traced copies of nothing: the runner's submodules are the student's own.
    optimizer = torch.optim.Adam(student.parameters(), lr=tuning.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, tuning.steps)
    generator = torch.Generator().manual_seed(tuning.seed)
    measured = torch.from_numpy(calibration).float() / 255
    with one_thread():
        for step in range(tuning.steps):
            if step % tuning.refresh == 0:
                runner.measure(measured)
            rows = torch.randint(len(images), (tuning.batch_size,), generator=generator)
            batch = torch.from_numpy(images[rows.numpy()]).float() / 255
            with torch.no_grad():
                wanted = network(batch)
            loss = divergence(wanted, runner.run(batch))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            watch(step, loss.item())
    return student.requires_grad_(False)
