"""Seeds and folds of an audit as tasks of a Ray cluster.

    digests = attack_on_ray("auto", job, plan, seeds=(0, 1), watch=watch)

A task is one fold under one seed. It loads the artifact, attacks, and leaves what each piece of work found in the folder of the
audit, as one does that may be interrupted (`sfumato.audit.stored`). So every node sees artifact, data and folder at the same
paths, and a task that dies goes on elsewhere with what is there. The first fold of a seed says which attacks run in the others,
which begin then. At the end the audit itself takes up what was found.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sfumato.audit.artifact import Artifact, at_strength, load
from sfumato.audit.attribute_selection import Selection
from sfumato.audit.plan import Plan
from sfumato.audit.stored import StoredSteps
from sfumato.core.cluster import on_ray
from sfumato.core.errors import SfumatoError


@dataclass(frozen=True)
class FoldPart:
    """One fold under one seed."""

    seed: int
    number: int
    """From 1 on."""
    plan: Plan

    def __str__(self) -> str:
        return f"seed {self.seed}, fold {self.number}"


@dataclass(frozen=True)
class FoldOutcome:
    """What a task says; what its attackers found is in the folder."""

    later: Plan
    """Of the further folds."""
    digest: str
    """Names what is stored: another processor may compute the same parameters with another last digit."""


@dataclass(frozen=True)
class FoldJob:
    """What a task is told beside its fold."""

    folder: Path
    """Of the artifact."""
    cloud: str | None
    strength: int | None
    selection: Selection
    folds: int
    out: Path
    keep_references: bool
    """Whether networks on clean photos are read from their store and kept there."""
    data: str | None = None
    """The spec of the artifact's data on the nodes, where they lie elsewhere than for its maker."""

    def artifact(self) -> Artifact:
        """What is attacked."""
        found = load(self.folder, cloud=self.cloud, data=self.data)
        return found if self.strength is None else at_strength(found, self.strength)

    def run(self, part: FoldPart) -> FoldOutcome:
        """Attack in one fold, in a process of a node."""
        from sfumato.audit.clean_cache import switched_off
        from sfumato.audit.cross_fitting import rotate
        from sfumato.audit.runner import attack_fold, silent
        from sfumato.audit.screening import narrowed

        with switched_off(not self.keep_references):
            fold = rotate(self.artifact(), self.folds)[part.number - 1]
            found = attack_fold(fold, part.plan, self.selection, part.seed, silent, self.out)
        assert found.digest is not None  # there is a folder
        return FoldOutcome(narrowed(part.plan, found.predictions, found.scored), found.digest)


def attack_on_ray(
    address: str, job: FoldJob, plan: Plan, seeds: Sequence[int], watch: Callable[[int, int, str, str], None]
) -> dict[tuple[int, int], str]:
    """Attack in all folds under all seeds, and leave what was found in the folder of the audit.

    Args:
        address: of a cluster, as `sfumato.core.cluster.on_ray` takes it.
        job: what is the same for all.
        plan: of the first fold.
        seeds: of the attackers.
        watch: told which fold is done.

    Returns:
        (seed, fold) -> the name of what is stored.

    Raises:
        SfumatoError: Ray is not installed, there is no cluster, what a task raised, or a task's files are not here.
    """
    digests: dict[tuple[int, int], str] = {}
    total = len(seeds) * job.folds

    def further(part: FoldPart, outcome: FoldOutcome) -> list[FoldPart]:
        if part.number > 1:
            return []
        return [FoldPart(part.seed, number, outcome.later) for number in range(2, job.folds + 1)]

    watch(0, total, f"{total} folds on Ray", "")
    parts = [FoldPart(seed, 1, plan) for seed in seeds]
    for part, outcome in on_ray(address, job.run, parts, what="seeds", further=further):
        if not StoredSteps(job.out, outcome.digest).folder.is_dir():
            raise SfumatoError(
                f"{part} is done, and its files are not in {job.out}: every node has to see this folder"
            )
        digests[part.seed, part.number] = outcome.digest
        watch(len(digests), total, str(part), "")
    return digests
