"""What quantisation changes: accuracy through the int8 model against the float model, desired and hidden attributes alike.

The best attack of an audit is the luckiest of many, so two audits of the same uploads differ by more than quantisation does.
Comparable is the same attack on both models: same seed, same noise, same initial weights. The figure is therefore the mean
difference over all attacks on an attribute, with both best attacks beside it.

    for change in hidden_changes(read_audit(export, "int8"), read_audit(run, "float")): print(change.sentence)
"""

from dataclasses import dataclass
from pathlib import Path
from statistics import mean

from sfumato.audit import schema
from sfumato.audit.schema import AttributeResult, Audit
from sfumato.core.errors import SfumatoError

FILE = "audit.json"
LIMIT = 0.005
"""Half a point: the most that int8 may change an accuracy by."""


@dataclass(frozen=True, kw_only=True)
class AccuracyChange:
    """How much quantisation changes the accuracy on one attribute."""

    name: str
    kept: bool
    """Whether the cloud should recognise it; otherwise attackers should not."""
    difference: float
    """int8 minus float, a fraction of 1; for an attribute that is not kept, the mean over the attacks on it."""
    detail: str

    @property
    def within(self) -> bool:
        """Whether it is half a point at most."""
        return abs(self.difference) <= LIMIT

    @property
    def sentence(self) -> str:
        """For people."""
        size = "within" if self.within else "more than"
        return (
            f"{self.name}: int8 {100 * self.difference:+.2f} points, {size} {100 * LIMIT:g} ({self.detail})"
        )


def kept_change(name: str, floats: float, int8: float, draws: int) -> AccuracyChange:
    """The change of a kept attribute, from the fractions that the cloud recognises through either model."""
    detail = f"{int8:.1%} against {floats:.1%} recognised, {draws} uploads under the same noise"
    return AccuracyChange(name=name, kept=True, difference=int8 - floats, detail=detail)


def read_audit(folder: Path, artifact: str) -> Audit | None:
    """The audit of a run (`float`) or an export (`int8`); None if there is none of this artifact."""
    if not (folder / FILE).exists():
        return None
    audit = schema.read_audit(folder / FILE)
    return audit if audit.artifact == artifact else None


def hidden_changes(int8: Audit, floats: Audit) -> list[AccuracyChange]:
    """The change of every attribute that both audits attacked.

    Raises:
        SfumatoError: the audits differ in plan, seed or data, so that their attacks do not compare.
    """
    if (int8.plan, int8.seed, int8.dataset) != (floats.plan, floats.seed, floats.dataset):
        raise SfumatoError(
            f"the audits do not compare: {int8.plan}, seed {int8.seed} of int8 and {floats.plan}, seed "
            f"{floats.seed} of float; audit both with the same --attacks and --seed"
        )
    others = {one.name: one for one in floats.attributes}
    pairs = [(one, others[one.name]) for one in int8.attributes if one.name in others]
    return [_hidden_change(one, other, int8, floats) for one, other in pairs]


def _hidden_change(
    one: AttributeResult, other: AttributeResult, int8: Audit, floats: Audit
) -> AccuracyChange:
    mine, theirs = _accuracies(int8, one.name), _accuracies(floats, one.name)
    differences = [mine[attack] - theirs[attack] for attack in mine if attack in theirs]
    best = f"best attack {one.best.accuracy:.1%} against {other.best.accuracy:.1%}"
    detail = f"mean of {len(differences)} attacks; {best}"
    return AccuracyChange(name=one.name, kept=False, difference=mean(differences), detail=detail)


def _accuracies(audit: Audit, attribute: str) -> dict[tuple[str, str, float | None], float]:
    """Accuracy on test of every attack on uploads, by attack, architecture and learning rate."""
    return {
        (row.attack, row.architecture, row.lr): row.accuracy
        for row in audit.attacks
        if row.attribute == attribute and row.input == "uploads"
    }
