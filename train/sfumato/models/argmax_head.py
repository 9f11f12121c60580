r"""A hard argmax from operators that every delegate takes: none of them has ARGMAX.

A service asked for one of a few classes needs the phone's decision and nothing of how it was reached: the confidence alone
already tells who is on the picture (docs/decisions/0007). So between the encoder and the decoder of the local network stands
a one-hot decision:

    z_k    logits: a 1x1 convolution to a few planes, then a linear layer over the whole grid
    s_ij = sigmoid(STEEP (z_i - z_j + TIE))          pairwise comparison, i < j: nearly 1 where class i is the larger
    d_k  = sigmoid(STEEP (wins_k - (K - 3/2)))       one-hot: nearly 1 where class k won all of its K - 1 comparisons

Both layers have constant weights. The decision is detached; the encoder learns from the logits.

That is K (K - 1) / 2 comparisons of K planes each: for 100 classes a million weights that never change. From `PAIRWISE`
classes on the largest logit is found by MAX_POOL_2D over the planes, and the weights grow with K alone
(docs/decisions/0027):

    d_k  = relu(1 - (max z - z_k) / TIE)

    decision = make_decision(width=48, grid=(4, 4), classes=(2, 5))
    logits, one_hot = decision(features)       # features: (B, 48, 4, 4); both (B, 7, 1, 1)
"""

from collections.abc import Sequence
from itertools import accumulate, combinations
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sfumato.models.layers import Padding, convolution

MIXED = 16
"""Planes that go into the linear layer over the grid: most of the weights of a decision."""
LARGEST_GRID = 5
"""Larger grids are halved first, or the weights over a whole 480x640 image would outnumber all others."""
STEEP = 40.0
"""Slope of both logistic functions. int8 logits differ by about .05, which already decides a comparison."""
TIE = 0.05
"""Equal logits count as a win of the class named first: equal bytes are common, and a draw would leave no class at 1."""
PAIRWISE = 10
"""Up to so many classes of every attribute are compared pair by pair."""
Form = Literal["pairwise", "largest"]
FORMS: tuple[Form, ...] = get_args(Form)


def constant(weight: Tensor, bias: Tensor, padding: int = 0) -> nn.Conv2d:
    """A convolution of fixed weights (outputs, inputs, height, width), or (outputs, inputs) for 1x1, and bias (outputs,).

    Args:
        padding: zeros around the picture, on every side.
    """
    weight = weight.view(*weight.shape, *[1] * (4 - weight.dim()))
    outputs, inputs, height, width = weight.shape
    layer = nn.Conv2d(inputs, outputs, (height, width), padding=padding)
    layer.weight = nn.Parameter(weight, requires_grad=False)
    layer.bias = nn.Parameter(bias, requires_grad=False)
    return layer


def planewise(planes: int, factor: float, offset: float) -> nn.Conv2d:
    """A convolution of fixed weights that computes `factor x + offset` of each of so many planes.

    In int8 a product would lose the steps of a difference; a convolution keeps them.
    """
    layer = nn.Conv2d(planes, planes, 1, groups=planes)
    layer.weight = nn.Parameter(torch.full((planes, 1, 1, 1), factor), requires_grad=False)
    layer.bias = nn.Parameter(torch.full((planes,), offset), requires_grad=False)
    return layer


def argmax_layers(classes: Sequence[int]) -> tuple[nn.Conv2d, nn.Conv2d]:
    """The comparisons between all classes of each attribute, and which class has won all of its comparisons.

    Args:
        classes: how many classes every attribute has; their planes follow one another.

    >>> pairwise, one_hot = argmax_layers([3])
    >>> z = torch.tensor([0.1, 0.9, 0.4]).view(1, 3, 1, 1)
    >>> [round(d, 2) for d in one_hot(pairwise(z).sigmoid()).sigmoid().flatten().tolist()]
    [0.0, 1.0, 0.0]
    """
    starts = [sum(classes[:k]) for k in range(len(classes))]
    pairs = [
        (start + i, start + j)
        for start, count in zip(starts, classes, strict=True)
        for i, j in combinations(range(count), 2)
    ]
    planes = sum(classes)
    difference, wins = torch.zeros(len(pairs), planes), torch.zeros(planes, len(pairs))
    needed = torch.tensor([count - 1.5 for count in classes for _ in range(count)])
    for row, (i, j) in enumerate(pairs):
        difference[row, i], difference[row, j] = 1.0, -1.0
        wins[i, row], wins[j, row] = 1.0, -1.0
        needed[j] -= 1.0  # j wins where i does not: 1 - s_ij
    return (
        constant(STEEP * difference, torch.full((len(pairs),), STEEP * TIE)),
        constant(STEEP * wins, -STEEP * needed),
    )


class ClassScores(nn.Module):
    """Coarsest features in, one score for every class of every attribute out.

    Args:
        width: planes of the features.
        grid: height and width of the features at the size of the training images.
        classes: how many classes every kept attribute has.
        padding: of the layers that halve the grid.
    """

    def __init__(
        self, width: int, grid: tuple[int, int], classes: Sequence[int], padding: Padding = "same"
    ) -> None:
        super().__init__()
        self.classes = tuple(classes)
        shrinks = []
        while max(grid) > LARGEST_GRID:
            shrinks.append(convolution(width, width, stride=2, groups=width, padding=padding))
            grid = ((grid[0] + 1) // 2, (grid[1] + 1) // 2)
        self.shrink = nn.Sequential(*shrinks)
        self.mix = convolution(width, MIXED, size=1)
        self.answer = nn.Conv2d(MIXED, sum(classes), grid)

    def logits(self, features: Tensor) -> Tensor:
        """(B, width, h, w) -> (B, K, 1, 1) at the size of the training images; more places on larger ones."""
        z: Tensor = self.answer(F.relu(self.mix(self.shrink(features))))
        return z

    def lead(self, logits: Tensor) -> Tensor:
        """Margin of the largest logit over the second, the smallest of all attributes and places, (B,)."""
        ahead = []
        for part in logits.split(list(self.classes), dim=1):
            first, second = part.topk(2, dim=1).values.unbind(1)
            ahead.append((first - second).flatten(1).amin(1))
        return torch.stack(ahead).amin(0)


def behind_largest(logits: Tensor, classes: Sequence[int]) -> Tensor:
    """How far each logit lies behind the largest of its attribute, at most 0; both (B, K, h, w).

    >>> behind_largest(torch.tensor([1.0, 3.0, 5.0, 4.0]).view(1, 4, 1, 1), [2, 2]).flatten().tolist()
    [-2.0, 0.0, 0.0, -1.0]
    """
    if len(classes) == 1:
        return logits - logits.amax(1, keepdim=True)
    parts = [logits[:, end - count : end] for end, count in zip(accumulate(classes), classes, strict=True)]
    return torch.cat([part - part.amax(1, keepdim=True) for part in parts], dim=1)


class OneHot(ClassScores):
    """Coarsest features in, logits and the one-hot decision of every attribute out. Arguments as in `ClassScores`."""

    def shipped(self, logits: Tensor) -> Tensor:
        """What the phone computes of logits, both (B, K, h, w)."""
        raise NotImplementedError

    def decide(self, logits: Tensor) -> Tensor:
        """Logits -> nearly one for the largest of each attribute, nearly zero for the others; same shape.

        In training exactly one and zero. A few images lie on the slope of the phone's function, and the rest of the network
        would be penalised for what it cannot change.
        """
        if not self.training:
            return self.shipped(logits).detach()
        parts = logits.split(list(self.classes), dim=1)
        return torch.cat(
            [torch.zeros_like(part).scatter_(1, part.argmax(1, keepdim=True), 1.0) for part in parts], dim=1
        )

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Features -> logits and decision."""
        logits = self.logits(features)
        return logits, self.decide(logits)


class LargestDecision(OneHot):
    """The decision by the largest logit: K weights. Classes within `TIE` of the largest all count, the nearer the more."""

    def __init__(
        self, width: int, grid: tuple[int, int], classes: Sequence[int], padding: Padding = "same"
    ) -> None:
        super().__init__(width, grid, classes, padding)
        self.near = planewise(sum(classes), 1 / TIE, 1.0)

    def shipped(self, logits: Tensor) -> Tensor:
        """As `OneHot.shipped`."""
        return F.relu(self.near(behind_largest(logits, self.classes)))


class Decision(OneHot):
    """The decision by comparing all pairs. Arguments as in `ClassScores`."""

    def __init__(
        self, width: int, grid: tuple[int, int], classes: Sequence[int], padding: Padding = "same"
    ) -> None:
        super().__init__(width, grid, classes, padding)
        self.pairwise, self.one_hot = argmax_layers(classes)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        # Runs of sfumato 0.1 call the two layers `duels` and `crown`.
        for old, new in (("duels", "pairwise"), ("crown", "one_hot")):
            for part in ("weight", "bias"):
                if f"{prefix}{old}.{part}" in state_dict:
                    state_dict[f"{prefix}{new}.{part}"] = state_dict.pop(f"{prefix}{old}.{part}")
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def shipped(self, logits: Tensor) -> Tensor:
        """As `OneHot.shipped`."""
        decision: Tensor = self.one_hot(self.pairwise(logits).sigmoid()).sigmoid()
        return decision

    def decide(self, logits: Tensor) -> Tensor:
        """As `OneHot.decide`; in training by the largest of what the phone computes, ties as it has them."""
        return super().decide(self.shipped(logits).detach() if self.training else logits)


DECISIONS: dict[Form, type[OneHot]] = {"pairwise": Decision, "largest": LargestDecision}


def form_of(classes: Sequence[int]) -> Form:
    """How a decision between so many classes of each attribute is made where nothing else is asked for."""
    return "pairwise" if max(classes) <= PAIRWISE else "largest"


def make_decision(
    width: int,
    grid: tuple[int, int],
    classes: Sequence[int],
    form: Form | None = None,
    padding: Padding = "same",
) -> OneHot:
    """A decision, by `form_of` where no form is given; other arguments as in `ClassScores`."""
    return DECISIONS[form or form_of(classes)](width, grid, classes, padding)
