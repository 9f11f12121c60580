"""The audit of one row: the same steps as `sfumato audit`, without its page.

result = audit_method(MethodArtifact(method, folder, task, clean_accuracy), create_plan("quick"), seed=0, title="cloak")
result.attributes[0].nag_label_only
"""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray

from sfumato.audit import runner
from sfumato.audit.artifact import Artifact
from sfumato.audit.attack_data import AttackData
from sfumato.audit.attacks import discriminant
from sfumato.audit.attacks.posterior import has_likelihood
from sfumato.audit.attribute_selection import Selection, select_attributes
from sfumato.audit.plan import Plan
from sfumato.audit.schema import AttackResult, AttributeResult, DesiredResult, RateBits
from sfumato.channels import Channel, Parameters
from sfumato.compare.methods import Method, Task
from sfumato.core.console import progress
from sfumato.data import Dataset
from sfumato.models.tensors import to_tensor

BATCH = 256
COMPARED = ("floor", "clean", "output", "posterior", "discriminant", "probe", "provider")
"""Attacks that every method can be put under. The others need uploads in the shape of a photo."""
NOTHING = Selection(declared=(), undeclared=(), skipped=())


@dataclass(frozen=True)
class MethodArtifact:
    """A frozen method as the audit sees it (`sfumato.audit.artifact.Artifact`)."""

    method: Method
    folder: Path
    task: Task
    clean_accuracy: dict[str, float]
    kind: Literal["float"] = "float"

    @property
    def dataset(self) -> Dataset:
        """The data, with its splits."""
        return self.task.dataset

    @property
    def keep(self) -> tuple[str, ...]:
        """Desired attributes."""
        return self.task.config.keep

    @property
    def hide(self) -> tuple[str, ...]:
        """Attributes under attack."""
        return self.task.config.hide

    @property
    def channel(self) -> Channel:
        """The method's draw. The audit asks a channel for name, noise, sample and rate, which a draw has."""
        return cast(Channel, self.method.draw)

    @property
    def cloud(self) -> torch.nn.Module:
        """The cloud network."""
        return self.method.cloud

    def parameters(self, images: NDArray[np.uint8]) -> Parameters:
        """Parameters of the draw for images (N, H, W, 3)."""
        parts: list[Parameters] = []
        with torch.no_grad():
            for start in range(0, len(images), BATCH):
                parts.append(self.method.phone(to_tensor(images[start : start + BATCH])))
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


@dataclass(frozen=True, kw_only=True)
class MethodAudit:
    """What the audit found about one row."""

    desired: tuple[DesiredResult, ...]
    attributes: tuple[AttributeResult, ...]
    attacks: tuple[AttackResult, ...]
    rate_bits: RateBits | None
    """None where no bound is known."""
    data: AttackData
    notes: tuple[str, ...]
    """Attacks that were left out, and why."""
    seconds: float


def audit_method(artifact: Artifact, plan: Plan, seed: int, title: str) -> MethodAudit:
    """Attack a frozen method.

    Args:
        artifact: the method, or a run of ours.
        plan: the attacks to try; those that the method rules out are left out.
        seed: of the attackers.
        title: shown beside the progress bar.

    Raises:
        UsageError: an attribute that cannot be attacked.
    """
    started = time.perf_counter()
    plan, notes = applicable(plan, artifact)
    selection = select_attributes(artifact, artifact.hide) if artifact.hide else NOTHING
    with progress() as bar:
        line = bar.add_task(f"audit {title}", total=1, figures="", estimated=True)

        def watch(done: int, total: int, what: str, best: str) -> None:
            bar.update(line, completed=done, total=total, figures=f"{what}: {best}")

        found = runner.attack_with_seed(artifact, plan, selection, seed, watch)
    bounded = bool(torch.isfinite(found.data.rate).all())
    return MethodAudit(
        desired=found.desired,
        attributes=found.attributes,
        attacks=tuple(one.result for one in found.scored),
        rate_bits=runner.rate_bits(found.data) if bounded else None,
        data=found.data,
        notes=notes,
        seconds=time.perf_counter() - started,
    )


def applicable(plan: Plan, artifact: Artifact) -> tuple[Plan, tuple[str, ...]]:
    """The attacks that a method can be put under; and which were left out, with the reason."""
    out, notes = set(plan.attacks) - set(COMPARED), []
    if not hasattr(artifact.channel, "likelihood") and not has_likelihood(artifact.channel):
        out.add("posterior")
        notes.append(
            f"posterior was left out: no likelihood of an upload is known for the draw {artifact.channel.name!r}"
        )
    if discriminant.moments_of(artifact.channel) is None:
        out.add("discriminant")
        notes.append(
            "discriminant was left out: mean and variance of an upload are not known for the draw "
            f"{artifact.channel.name!r}"
        )
    if not any(True for _ in artifact.cloud.parameters()):
        out.add("provider")
        notes.append("provider was left out: there is no cloud network to train further")
    attacks = tuple(name for name in plan.attacks if name not in out)
    return plan.model_copy(update={"attacks": attacks}), tuple(notes)
