"""What an audit was made from, so that somebody else can make it again: files, data, splits, plan, and the machine.

    audit.json holds `describe_basis(artifact, plan, asked, others, device)`
    machine_differences(stated, basis)              # what may move the last digits; empty on an equal machine

Nothing here is a name that a maker chooses: files, data and splits are told by SHA-256, and the plan by all its values.
"""

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
import torch

from sfumato.audit.artifact import Artifact
from sfumato.audit.plan import Plan
from sfumato.audit.schema import Audit, Basis, SplitDigest
from sfumato.core.provenance import processor

VERSIONS = ("sfumato", "python", "platform", "packages", "git_commit", "git_dirty")
"""Entries of an audit's `provenance` that decide what it computes."""


def describe_basis(
    artifact: Artifact,
    plan: Plan,
    asked: Sequence[str] | None,
    others: Mapping[str, Artifact],
    device: torch.device,
) -> Basis:
    """The basis of an audit.

    Args:
        artifact: what is attacked.
        plan: of the attacks.
        asked: attributes that were asked for by name; None: all.
        others: further artifacts, by the name of the composition.
        device: where attackers are trained.
    """
    data = artifact.dataset
    return Basis(
        files=file_digests(artifact),
        data=data.digest,
        splits={
            str(split): SplitDigest(
                images=len(rows), sha256=hashlib.sha256(np.ascontiguousarray(rows, "<i8").data).hexdigest()
            )
            for split, rows in data.splits.items()
        },
        plan=plan.model_dump(mode="json"),
        asked=None if asked is None else tuple(asked),
        others={name: file_digests(one) for name, one in others.items()},
        machine=machine(device),
    )


def file_digests(artifact: Artifact) -> dict[str, str]:
    """SHA-256 of the files of an artifact; empty for one that lies in no folder."""
    return dict(getattr(artifact, "digests", {}))


def machine(device: torch.device) -> dict[str, object]:
    """What decides the last digits of a sum on this machine: after some steps other sums are other networks."""
    cuda = device.type == "cuda"
    return {
        "processor": processor(),
        "arithmetic": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "matmul": torch.get_float32_matmul_precision(),
        "device": torch.cuda.get_device_name(device) if cuda else device.type,
    }


def machine_differences(stated: Audit, found: Audit) -> tuple[str, ...]:
    """What differs between the versions and machines of two audits, in words; code that no commit names counts as different."""
    pairs = [(name, stated.provenance.get(name), found.provenance.get(name)) for name in VERSIONS]
    assert stated.basis is not None
    assert found.basis is not None
    for name in sorted({*stated.basis.machine, *found.basis.machine}):
        pairs.append((name, stated.basis.machine.get(name), found.basis.machine.get(name)))
    out = []
    for name, before, now in pairs:
        if name == "packages":
            out += [
                f"{package} {_said(_get(before, package))}, here {_said(_get(now, package))}"
                for package in sorted({*(before or {}), *(now or {})})
                if _get(before, package) != _get(now, package)
            ]
        elif name == "git_dirty":
            if before or now:
                out.append("the code had changes that no commit names")
        elif before != now:
            out.append(f"{name} {_said(before)}, here {_said(now)}")
    return tuple(out)


def _get(packages: object, name: str) -> object:
    return packages.get(name) if isinstance(packages, Mapping) else None


def _said(value: object) -> str:
    if isinstance(value, Mapping):
        return " ".join(str(part) for part in value.values() if part)
    return "none" if value is None else str(value)
