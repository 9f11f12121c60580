"""The price of open blocks (`sfumato.training.gating`)."""

from torch import Tensor

from sfumato.training.gating import gate_price
from sfumato.training.loader import Batch
from sfumato.training.local_cloud import ForwardOutput
from sfumato.training.log import RunningMeans
from sfumato.training.regularisers.base import Regulariser, Setting


class GatePenalty(Regulariser):
    """`price * share of open blocks`."""

    name = "gates"

    def __init__(self, setting: Setting) -> None:
        self.price = gate_price(setting.model.heads, setting.config.gating)

    def losses(self, output: ForwardOutput, batch: Batch, step: int, log: RunningMeans) -> list[Tensor]:
        """The share of open blocks at its price."""
        opened = output.parameters["open"].mean()
        log.add(open_share=opened.item())
        return [self.price * opened]
