"""Rows of a comparison as tasks of a Ray cluster: as many at a time as it has processors for.

    for plan, outcome in rows_on_ray("auto", RowJob(config, out, "cpu"), plans): ...

A task is what `compare` does for one row: it opens the data, reads the clean network from the folder, trains and attacks. So
every node sees data and folder at the same paths. A task that dies with its node runs again elsewhere and goes on with what the
folder holds. The rows themselves are written by the driver alone.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sfumato.compare.config import CompareConfig
from sfumato.compare.rows import RowPlan
from sfumato.compare.schema import ComparisonRow
from sfumato.core.console import note
from sfumato.core.errors import SfumatoError, UsageError

LOCAL = "local"
"""In place of an address: a cluster of this machine alone, which ends with the comparison."""
RETRIES = 3
"""How often a row begins again whose process died."""
THREADS, REFERENCES = "OMP_NUM_THREADS", "SFUMATO_REFERENCES_GB"

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


def check_ray() -> None:
    """Look for Ray before any work.

    Raises:
        UsageError: it is not installed.
    """
    if find_spec("ray") is None:
        raise UsageError("--ray needs Ray beside this program: pip install ray==2.60.0")


def rows_on_ray(address: str, job: RowJob, plans: Sequence[RowPlan]) -> Iterator[tuple[RowPlan, Outcome]]:
    """Each row with its outcome, as they finish.

    Args:
        address: of a cluster, `auto` for the one that was started here, or `local`.
        job: what is the same for all rows.
        plans: rows that are to be made.

    Raises:
        SfumatoError: Ray is not installed, there is no cluster, or what a row raised.
    """
    check_ray()
    import ray
    from ray.exceptions import RayError, RayTaskError

    # Without a number of threads Ray gives a task one.
    variables = {name: os.environ[name] for name in (THREADS, REFERENCES) if name in os.environ}
    try:
        ray.init(
            address, include_dashboard=False, runtime_env={"env_vars": variables}, logging_level="warning"
        )
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise SfumatoError(f"no Ray cluster at {address}: {error}") from None
    try:
        wants = {"num_cpus": 1, "num_gpus": float(job.accelerator == "cuda"), "max_retries": RETRIES}
        task = ray.remote(**wants)(_run)
        waiting: dict[Any, RowPlan] = {task.remote(job, plan): plan for plan in plans}
        note(
            f"{len(waiting)} rows on {len(ray.nodes())} node(s), {ray.cluster_resources().get('CPU', 0):.0f} processors"
        )
        while waiting:
            (done, *_), _ = ray.wait(list(waiting), num_returns=1)
            plan = waiting.pop(done)
            try:
                yield plan, ray.get(done)
            except RayTaskError as error:
                cause = error.cause
                raise (
                    cause if isinstance(cause, SfumatoError) else SfumatoError(f"{plan.id}: {cause!r}")
                ) from None
            except RayError as error:
                raise SfumatoError(f"{plan.id} was lost {RETRIES + 1} times: {error}") from None
    finally:
        ray.shutdown()


def _run(job: RowJob, plan: RowPlan) -> Outcome:
    return job.run(plan)
