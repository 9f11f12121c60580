r"""The decision path: what the phone itself takes the picture for, said as firmly as possible.

A service asked for one of a few classes needs the phone's decision and nothing of how it was reached: how sure the phone is
already tells who is on the picture (docs/decisions/0007). So between the encoder and the rest of the local network stands
a decision that is all or nothing, made of operators that every delegate takes, since none of them knows ARGMAX:

    z      logits: features are mixed into a few planes, and those are weighed over the whole grid
    duels  s_ij = sigmoid(STEEP (z_i - z_j + TIE)) for i < j: nearly 1 if class i beats class j, else nearly 0
    crown  d_k  = sigmoid(STEEP (wins_k - (K - 3/2))) where wins_k counts the duels that k has won

Only who wins all K - 1 duels is crowned. The weights of duels and crown are constants; no gradient passes a decision, its
encoder learns from the logits.

    decision = Decision(width=48, grid=(4, 4), classes=(2, 5))
    logits, crowned = decision(features)       # features: (B, 48, 4, 4); both (B, 7, 1, 1)
"""

from collections.abc import Sequence
from itertools import combinations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sfumato.models.layers import convolution

MIXED = 16
"""Planes that are weighed over the whole grid: most of the weights of a decision."""
LARGEST_GRID = 5
"""Larger grids are halved first, or the weights over a whole 480x640 image would outnumber all others."""
STEEP = 40.0
"""Slope of both logistic functions. int8 logits differ by about .05, which already decides a duel."""
TIE = 0.05
"""Equal logits count as a win of the class named first: equal bytes are common, and a draw would say `unsure`."""


def constant(weight: Tensor, bias: Tensor) -> nn.Conv2d:
    """A 1x1 convolution of fixed weights (outputs, inputs) and bias (outputs,)."""
    outputs, inputs = weight.shape
    layer = nn.Conv2d(inputs, outputs, 1)
    layer.weight = nn.Parameter(weight.view(outputs, inputs, 1, 1), requires_grad=False)
    layer.bias = nn.Parameter(bias, requires_grad=False)
    return layer


def tournament(classes: Sequence[int]) -> tuple[nn.Conv2d, nn.Conv2d]:
    """Duels between all classes of each attribute, and who has won all of its duels.

    Args:
        classes: how many classes every attribute has; their planes follow one another.

    >>> duels, crown = tournament([3])
    >>> z = torch.tensor([0.1, 0.9, 0.4]).view(1, 3, 1, 1)
    >>> [round(d, 2) for d in crown(duels(z).sigmoid()).sigmoid().flatten().tolist()]
    [0.0, 1.0, 0.0]
    """
    starts = [sum(classes[:k]) for k in range(len(classes))]
    pairs = [
        (start + i, start + j)
        for start, count in zip(starts, classes, strict=True)
        for i, j in combinations(range(count), 2)
    ]
    planes = sum(classes)
    duel, wins = torch.zeros(len(pairs), planes), torch.zeros(planes, len(pairs))
    needed = torch.tensor([count - 1.5 for count in classes for _ in range(count)])
    for row, (i, j) in enumerate(pairs):
        duel[row, i], duel[row, j] = 1.0, -1.0
        wins[i, row], wins[j, row] = 1.0, -1.0
        needed[j] -= 1.0  # j wins where i does not: 1 - s_ij
    return (
        constant(STEEP * duel, torch.full((len(pairs),), STEEP * TIE)),
        constant(STEEP * wins, -STEEP * needed),
    )


class Decision(nn.Module):
    """Coarsest features in, logits and the crowned class of every attribute out.

    Args:
        width: planes of the features.
        grid: height and width of the features at the size of the training images.
        classes: how many classes every kept attribute has.
    """

    def __init__(self, width: int, grid: tuple[int, int], classes: Sequence[int]) -> None:
        super().__init__()
        self.classes = tuple(classes)
        shrinks = []
        while max(grid) > LARGEST_GRID:
            shrinks.append(convolution(width, width, stride=2, groups=width))
            grid = ((grid[0] + 1) // 2, (grid[1] + 1) // 2)
        self.shrink = nn.Sequential(*shrinks)
        self.mix = convolution(width, MIXED, size=1)
        self.answer = nn.Conv2d(MIXED, sum(classes), grid)
        self.duels, self.crown = tournament(classes)

    def logits(self, features: Tensor) -> Tensor:
        """(B, width, h, w) -> (B, K, 1, 1) at the size of the training images; more places on larger ones."""
        z: Tensor = self.answer(F.relu(self.mix(self.shrink(features))))
        return z

    def lead(self, logits: Tensor) -> Tensor:
        """How far the winning logit is ahead, the least of all attributes and places, (B,)."""
        ahead = []
        for part in logits.split(list(self.classes), dim=1):
            first, second = part.topk(2, dim=1).values.unbind(1)
            ahead.append((first - second).flatten(1).amin(1))
        return torch.stack(ahead).amin(0)

    def decide(self, logits: Tensor) -> Tensor:
        """Logits -> nearly one for the winner of each attribute, nearly zero for the others; same shape.

        In training exactly one and zero: the few images on a step's edge would be held against the rest of the network, which
        cannot help them.
        """
        crowned: Tensor = self.crown(self.duels(logits).sigmoid()).sigmoid().detach()
        if not self.training:
            return crowned
        parts = crowned.split(list(self.classes), dim=1)
        return torch.cat(
            [torch.zeros_like(part).scatter_(1, part.argmax(1, keepdim=True), 1.0) for part in parts], dim=1
        )

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Features -> logits and decision."""
        logits = self.logits(features)
        return logits, self.decide(logits)
