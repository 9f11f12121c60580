"""The whole task on the phone: a classifier of the local network's own cost, which sends its answer and nothing else.

No privacy method, but the alternative that every split has to beat: log2 K bits an image, and whoever gets the answer
learns the answer alone. It is trained as patiently as our encoder is: on the labels and on what the clean network says
about images and about mixtures of two (`sfumato.training.pretrain`). Its encoder is the widest of our local network's kind
whose multiply-accumulates do not exceed `times` those of the local network of `rate`. `times` is the curve: 1 spends what our
phone side spends, 10 asks whether a larger network on the phone would do without any cloud.

    widest(task, 10 * local_macs)       # untrained

The upload is an even picture whose grey says which combination of desired labels was found, so the audit can attack it
like any other.
"""

from dataclasses import dataclass
from math import log, log2, prod, sqrt

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sfumato.channels import Parameters
from sfumato.compare.methods.base import Curve, Method, Phase, Task
from sfumato.compare.methods.draws import Fixed
from sfumato.data.label_cells import label_cells
from sfumato.models.argmax_head import make_decision
from sfumato.models.cost import cost
from sfumato.models.local import STRIDE, Encoder
from sfumato.training.loader import Batch
from sfumato.training.local_cloud import by_head
from sfumato.training.pretrain import distillation_loss
from sfumato.training.run import make_local

NARROWEST = 4
SAMPLED = (8, 16, 24)
"""Widths whose cost is counted, to know that of all."""
DEPTHS = (1, 2, 1)


class Classifier(nn.Module):
    """Encoder and decision; says the combination of answers as a grey level.

    Args:
        width: feature planes at half the resolution; two, three and four times as many at the coarser ones.
        size: height and width of the images.
        heads: names and classes of the desired attributes.
    """

    def __init__(self, width: int, size: tuple[int, int], heads: dict[str, int]) -> None:
        super().__init__()
        self.heads, self.cells = heads, prod(heads.values())
        self.encoder = Encoder((width, 2 * width, 3 * width, 4 * width), DEPTHS, padding="same")
        grid = (size[0] // STRIDE, size[1] // STRIDE)
        self.decision = make_decision(4 * width, grid, tuple(heads.values()))

    def answers(self, x: Tensor) -> dict[str, Tensor]:
        """Images (B, 3, H, W) -> logits, head -> (B, classes)."""
        return by_head(self.decision.logits(self.encoder(x)[-1]), self.heads)

    def forward(self, x: Tensor) -> Parameters:
        """Images -> an even picture of grey (cell + 1/2) / cells."""
        decisions = {name: logits.argmax(1) for name, logits in self.answers(x).items()}
        cell = label_cells([decisions[name] for name in self.heads], list(self.heads.values()))
        grey = (cell + 0.5) / self.cells
        return {"mean": grey[:, None, None, None].expand_as(x).contiguous()}


class Reader(nn.Module):
    """The cloud's part: reads the grey level. Logits are 0 for the answer and very low for every other."""

    def __init__(self, heads: dict[str, int]) -> None:
        super().__init__()
        self.heads, self.cells = heads, prod(heads.values())

    def forward(self, upload: Tensor) -> dict[str, Tensor]:
        """Uploads (B, 3, H, W) -> logits, head -> (B, classes)."""
        cell = (upload[:, 0, 0, 0] * self.cells).long().clamp(0, self.cells - 1)
        logits: dict[str, Tensor] = {}
        for name, count in reversed(self.heads.items()):
            logits[name] = (nn.functional.one_hot(cell % count, count).float() - 1) * 20
            cell = cell // count
        return {name: logits[name] for name in self.heads}


@dataclass(frozen=True)
class Answer(Fixed):
    """The answer alone, so a bound is known: the logarithm of the number of answers."""

    cells: int = 2
    name: str = "answer"

    def rate(self, parameters: Parameters) -> Tensor:
        """log(cells) nats an image, (B,)."""
        return torch.full((len(parameters["mean"]),), log(self.cells))


class OnPhone(Method):
    """No cloud network at all."""

    curve = Curve(
        "times",
        (1.0, 10.0),
        published="no paper: what a phone without a cloud can do, at the cost of our local network and at ten times that",
        least=0.1,
        most=100.0,
    )
    trained = ("phone",)
    phone: Classifier

    def __init__(self, task: Task, *, times: float = 1.0) -> None:
        most = int(times * cost(make_local(task.config, task.dataset), task.shape).macs)
        super().__init__(
            task,
            phone=widest(task, most),
            draw=Answer(cells=prod(task.kept.values())),
            cloud=Reader(task.kept),
        )
        self.turn = 0

    def losses(self, batch: Batch, phase: Phase) -> dict[str, Tensor]:
        """Every other batch is a mixture labelled by the clean network."""
        task, _ = distillation_loss(
            self.phone.answers, self.task.clean, batch, self.turn, self.task.config.distill
        )
        self.turn += 1
        return {"loss": task, "task": task}

    def upload_sizes(self, uploads: Tensor, pixels: NDArray[np.uint8]) -> tuple[NDArray[np.float64], str]:
        """Whole bytes for one of the possible answers."""
        return np.array([-(-log2(self.phone.cells) // 8)]), "answer"


def widest(task: Task, most: int) -> Classifier:
    """The widest classifier that costs at most `most` multiply-accumulates an image, but none under `NARROWEST` planes."""

    def make(width: int) -> Classifier:
        return Classifier(width, task.dataset.size, task.kept)

    # Planes meet planes in pairs, so the cost is a quadratic polynomial of the width: three networks tell it.
    a, b, c = np.polyfit(SAMPLED, [cost(make(width), task.shape).macs for width in SAMPLED], 2)
    width = (sqrt(max(0.0, b * b + 4 * a * (most - c))) - b) / (2 * a)
    return make(max(NARROWEST, int(width)))
