"""Which attributes an audit attacks, and how they are grouped into networks.

By default it attacks the declared hidden attributes and every other one that the data set has labels for, since a provider
will not keep to the list. What is skipped is reported, with the reason. Where every label is kept nothing is left to attack:
the audit then measures accuracy and bounds, and does not pass.

    selection = select_attributes(artifact, None)
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sfumato.audit.artifact import Artifact
from sfumato.audit.schema import Skipped
from sfumato.core.errors import UsageError
from sfumato.data import Split
from sfumato.data.label_cells import label_cells

MANY_CLASSES = 20
PER_CLASS = 5
"""Images that every class of a many-valued attribute needs on average in each split."""


@dataclass(frozen=True)
class Selection:
    """The attributes to attack."""

    declared: tuple[str, ...]
    undeclared: tuple[str, ...]
    skipped: tuple[Skipped, ...]
    asked: tuple[str, ...] = ()
    """Those that were asked for by name."""

    @property
    def names(self) -> tuple[str, ...]:
        """All of them, declared ones first."""
        return self.declared + self.undeclared

    def groups(self, *, separate: bool) -> tuple[tuple[str, ...], ...]:
        """Attributes that share a network: all, or the declared and the undeclared ones apart."""
        groups = (self.declared, self.undeclared) if separate else (self.names,)
        return tuple(group for group in groups if group)


def unfit(artifact: Artifact, name: str) -> str | None:
    """Why an attribute cannot be attacked on this data, or None."""
    data = artifact.dataset
    if data.attributes[name].grid is not None:
        return "it is a mask"
    classes = len(data.attributes[name].classes)
    counts = {split: data.counts(name, split) for split in (Split.ATTACKER, Split.VALIDATION, Split.TEST)}
    if any(np.count_nonzero(count) < 2 for count in counts.values()):
        return "one of the splits holds a single class of it"
    known = counts[Split.ATTACKER] > 0
    unseen = counts[Split.TEST][~known].sum() / counts[Split.TEST].sum()
    if unseen > 0.5:
        return "the splits divide its classes: the attacker never sees the ones that are tested"
    if classes >= MANY_CLASSES and min(count.sum() for count in counts.values()) < PER_CLASS * classes:
        return f"its {classes} classes have fewer than {PER_CLASS} images each in some split"
    return None


def determined(artifact: Artifact, name: str) -> bool:
    """Whether the kept attributes fix an attribute: nothing is left to hide."""
    data = artifact.dataset
    kept = label_cells(
        [data.labels[k] for k in artifact.keep], [len(data.attributes[k].classes) for k in artifact.keep]
    )
    pairs = np.unique(np.stack([kept, data.labels[name]]), axis=1)
    return bool(pairs.shape[1] == len(np.unique(kept)))


def select_attributes(artifact: Artifact, asked: Sequence[str] | None) -> Selection:
    """The attributes to attack.

    Raises:
        DataError: an attribute is not in the data set.
        UsageError: an attribute that was asked for is kept or cannot be attacked on this data.
    """
    data = artifact.dataset
    data.require(list(asked or ()))
    if asked is not None:
        for name in asked:
            if name in artifact.keep:
                raise UsageError(
                    f"{name} is what the cloud is meant to recognise: choose attributes that are not kept"
                )
            if reason := unfit(artifact, name):
                raise UsageError(f"{name} cannot be attacked on this data: {reason}")
    skipped = []
    names = []
    for name in dict.fromkeys(asked if asked is not None else [*artifact.hide, *data.attributes]):
        if name in artifact.keep:
            continue
        reason = unfit(artifact, name)
        if reason is None and asked is None and name not in artifact.hide and determined(artifact, name):
            reason = "the kept attributes determine it"
        if reason is None:
            names.append(name)
        else:
            skipped.append(Skipped(name=name, reason=reason))
    return Selection(
        declared=tuple(name for name in names if name in artifact.hide),
        undeclared=tuple(name for name in names if name not in artifact.hide),
        skipped=tuple(skipped),
        asked=() if asked is None else tuple(names),
    )
