"""Processes that `torchrun` started, on one machine or several, and what they agree on before they train together.

    torchrun --nnodes 2 --nproc-per-node 1 --node-rank 0 --master-addr HOST --master-port 29500 -m sfumato.cli.main train ...

Started otherwise, a process is a team of its own and everything here is done at once. In a team every process opens the data;
the first one alone writes. All machines see data and run at the same paths. Nobody waits for somebody who failed: an error of
one ends all, each with one line (docs/train-on-several-machines.md).

    team = Team.join()
    dataset = team.each(lambda: open_dataset(spec))
    team.agree({"bits": 8})
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from lightning_fabric import Fabric

from sfumato.core.errors import SfumatoError, UsageError
from sfumato.training.start import by_torchrun

T = TypeVar("T")


@dataclass(frozen=True)
class Team:
    """This process among those that train together."""

    fabric: Fabric | None = None
    """None for a process by itself."""

    @classmethod
    def join(cls) -> "Team":
        """The team that torchrun says; waits until everybody is there.

        Raises:
            UsageError: machines with unlike numbers of processes.
        """
        if not by_torchrun():
            return cls()
        here, machines, world = (
            int(os.environ[name]) for name in ("LOCAL_WORLD_SIZE", "GROUP_WORLD_SIZE", "WORLD_SIZE")
        )
        if here * machines != world:
            raise UsageError(
                f"{world} processes on {machines} machines, {here} of them here: give every torchrun the same --nproc-per-node"
            )
        fabric = Fabric(accelerator="cpu", devices=here, num_nodes=machines, strategy="ddp")
        fabric.launch()
        return cls(fabric)

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes."""
        return self.fabric is None or self.fabric.is_global_zero

    def everybody(self, mine: Any) -> list[Any]:
        """What each process gives, by rank."""
        if self.fabric is None:
            return [mine]
        found: list[Any] = [None] * self.fabric.world_size
        torch.distributed.all_gather_object(found, mine)
        return found

    def each(self, work: Callable[[], T]) -> T:
        """Do something in every process; if one cannot, all end.

        Raises:
            SfumatoError: what it raised here, or in another process.
        """
        done, error = [], None
        try:
            done.append(work())
        except SfumatoError as caught:
            error = caught
        problems = self.everybody(None if error is None else str(error))
        if error is not None:
            raise error
        for rank, problem in enumerate(problems):
            if problem is not None:
                raise SfumatoError(f"process {rank} cannot begin: {problem}")
        return done[0]

    def first(self, work: Callable[[], T]) -> T:
        """What the process that writes makes of it, in all; an error there is one in all."""
        made = self.each(lambda: work() if self.leads else None)
        found: T = self.everybody(made)[0]
        return found

    def agree(self, settings: Mapping[str, Any]) -> None:
        """Compare settings with those of the other processes.

        Raises:
            SfumatoError: they differ.
        """
        if problem := unlike(self.everybody(dict(settings))):
            raise SfumatoError(problem)

    def leave(self) -> None:
        """Let the others go."""
        if self.fabric is not None:
            torch.distributed.destroy_process_group()


def unlike(given: list[dict[str, Any]]) -> str:
    """What keeps processes from training together; empty if nothing does.

    >>> unlike([{"bits": 8, "seed": 0}, {"bits": 6, "seed": 0}])
    'process 1 was started with other settings or data than process 0: bits (6, not 8)'
    """
    for rank, settings in enumerate(given):
        other = [
            f"{name} ({settings.get(name)}, not {given[0].get(name)})"
            for name in dict.fromkeys([*given[0], *settings])
            if settings.get(name) != given[0].get(name)
        ]
        if other:
            return (
                f"process {rank} was started with other settings or data than process 0: {', '.join(other)}"
            )
    return ""
