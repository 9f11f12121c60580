"""What every term of the loss offers to the training step."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from torch import Tensor

from sfumato.data import Dataset
from sfumato.models.schedule import one_cycle
from sfumato.training.config import TrainConfig
from sfumato.training.epoch_selection import Targets
from sfumato.training.loader import Batch
from sfumato.training.local_cloud import ForwardOutput, LocalCloudModel
from sfumato.training.log import RunningMeans

if TYPE_CHECKING:
    from lightning_fabric import Fabric


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What the terms of a run are made from.

    Attributes:
        config: of the run.
        dataset: its data.
        fabric: where training runs.
        model: both networks.
        targets: what the run is steered towards.
        steps: optimiser steps of co-training.
    """

    config: TrainConfig
    dataset: Dataset
    fabric: "Fabric"
    model: LocalCloudModel
    targets: Targets
    steps: int

    def learning_rate(self, step: int, peak: float) -> float:
        """Of the one-cycle schedule that all optimisers of co-training follow."""
        return one_cycle(step, self.steps, peak, **self.config.schedule.model_dump())

    def shared_mean(self, values: Tensor) -> float:
        """The mean over the batches of all processes."""
        return cast(Tensor, self.fabric.all_reduce(values.mean().detach())).item()

    def share(self, statistics: Mapping[str, Tensor]) -> None:
        """Average running statistics, in place, over processes that have each seen their own share of the batches."""
        if self.fabric.world_size > 1:
            for value in statistics.values():
                value.copy_(cast(Tensor, self.fabric.all_reduce(value)))


class Regulariser(ABC):
    """One term of the loss, or several that belong together.

    A step calls `losses`, then `update` once the networks have taken their step. Figures added to `log` are averaged over the
    epoch and written to `metrics.jsonl`.
    """

    name: str
    """Key of its state in a checkpoint."""

    def begin(self) -> None:  # noqa: B027
        """Before the first epoch of a run, not of one that continues. May reseed the global generator."""

    def start_epoch(self, epoch: int, step: int) -> None:  # noqa: B027 - most terms have nothing to do
        """Before the first batch of an epoch; `step` is the number of that batch. May reseed the global generator."""

    @abstractmethod
    def losses(self, output: ForwardOutput, batch: Batch, step: int, log: RunningMeans) -> list[Tensor]:
        """Scalars to add to the loss, weights included; possibly none."""

    def update(  # noqa: B027
        self, output: ForwardOutput, batch: Batch, step: int, log: RunningMeans
    ) -> None:
        """Learn from the batch, after the optimiser step of the networks."""

    def validate(self, step: int, seed: int) -> Mapping[str, Any]:
        """After the last step of an epoch: figures on validation for its record; noise is fixed by `seed`."""
        return {}

    def end_epoch(self, record: Mapping[str, Any], step: int) -> None:  # noqa: B027
        """After an epoch: its record in `metrics.jsonl`, and the number of the next step."""

    def state_dict(self) -> dict[str, Any]:
        """Tensors, numbers and dictionaries of them: what a checkpoint keeps."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:  # noqa: B027
        """Continue where the term stood that gave `state`."""
