"""The phone's network of answer mode: the encoder of the local network and the scores of its decision, nothing behind them.

The upload is made from the decision alone (`sfumato.runtime.answer`), so the network ends where the decision can be read: no
decoder, no pairwise comparison, no noise. Ties and the argmax are integer code outside it, the same on every platform.

    network = AnswerNetwork({"gender": 2, "age": 5}, size=(64, 64))
    network(x)["age"]           # logits (B, 5); x: (B, 3, H, W), 0..1
    network.scores(x)           # (B, 7, 1, 1): what the phone's model returns
"""

from collections.abc import Mapping

from torch import Tensor, nn

from sfumato.models.argmax_head import ClassScores
from sfumato.models.layers import Padding
from sfumato.models.local import STRIDE, Encoder


class AnswerNetwork(nn.Module):
    """Image in, one score for every class of every kept attribute out.

    Args:
        classes: kept attribute -> number of classes; their scores follow one another in this order.
        size: height and width of the images, multiples of 16.
        widths, depths, padding: as in `Encoder`.
        planes: of the images: 3 for colour, 1 for grey.
    """

    def __init__(
        self,
        classes: Mapping[str, int],
        size: tuple[int, int] = (64, 64),
        widths: tuple[int, int, int, int] = (16, 32, 48, 64),
        depths: tuple[int, int, int] = (0, 2, 1),
        padding: Padding = "same",
        planes: int = 3,
    ) -> None:
        super().__init__()
        self.classes, self.planes = dict(classes), planes
        self.encoder = Encoder(widths, depths, planes, padding=padding)
        grid = (size[0] // STRIDE, size[1] // STRIDE)
        self.decision = ClassScores(widths[-1], grid, tuple(classes.values()), padding)

    def scores(self, x: Tensor) -> Tensor:
        """(B, planes, H, W) in 0..1 -> (B, S, 1, 1), S the sum of all class counts."""
        return self.decision.logits(self.encoder(x)[-1])

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """(B, planes, H, W) in 0..1 -> logits per attribute, each (B, classes)."""
        parts = self.scores(x).flatten(1).split(list(self.classes.values()), dim=1)
        return dict(zip(self.classes, parts, strict=True))
