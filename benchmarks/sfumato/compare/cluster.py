"""Rows of a comparison as tasks of a Ray cluster: as many at a time as it has processors for.

    for plan, outcome in rows_on_ray("auto", RowJob(config, out, "cpu"), plans): ...

A task is what `compare` does for one row: it opens the data, reads the clean network from the folder, trains and attacks. So
every node sees data and folder at the same paths. A task that dies with its node runs again elsewhere and goes on with what the
folder holds. The rows themselves are written by the driver alone.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sfumato.compare.config import CompareConfig
from sfumato.compare.rows import RowPlan
from sfumato.compare.schema import ComparisonRow
from sfumato.core.cluster import on_ray

Outcome = ComparisonRow | str
"""A row, or why there is none."""


@dataclass(frozen=True)
class RowJob:
    """What a task is told beside its row."""

    config: CompareConfig
    out: Path
    accelerator: str = "auto"
    keep_references: bool = True
    """Whether networks on clean photos are read from their store and kept there."""

    def run(self, plan: RowPlan) -> Outcome:
        """Make one row, in a process of a node."""
        from sfumato.audit.clean_cache import switched_off
        from sfumato.compare.runner import Comparer

        with switched_off(not self.keep_references):
            comparer = Comparer(self.config, self.out, self.accelerator)
            comparer.prepare()
            return comparer.attempt(plan)


def rows_on_ray(address: str, job: RowJob, plans: Sequence[RowPlan]) -> Iterator[tuple[RowPlan, Outcome]]:
    """Each row with its outcome, as they finish.

    Args:
        address: of a cluster, as `sfumato.core.cluster.on_ray` takes it.
        job: what is the same for all rows.
        plans: rows that are to be made.

    Raises:
        SfumatoError: Ray is not installed, there is no cluster, or what a row raised.
    """
    yield from on_ray(address, job.run, plans, what="rows", gpus=float(job.accelerator == "cuda"))
