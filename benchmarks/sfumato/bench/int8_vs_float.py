"""int8 against float on both sides: what the cloud should recognise, and what attackers should not.

The best attack of an audit is the luckiest of many, so two audits of the same uploads differ by more than eight bits do. What
compares is the same attack on both models: same seed, same noise, same initial weights. Its mean over all attacks of an
attribute is therefore the figure, with both best attacks beside it.

    for side in compare_audits(read_audit(export, "int8"), read_audit(run, "float")): print(side.sentence)
"""

from dataclasses import dataclass
from pathlib import Path
from statistics import mean

from sfumato.audit import schema
from sfumato.audit.schema import AttributeResult, Audit
from sfumato.core.errors import SfumatoError

FILE = "audit.json"
LIMIT = 0.005
"""Half a point: what int8 may move accuracy by, on either side."""


@dataclass(frozen=True, kw_only=True)
class Side:
    """One attribute, recognised through both models."""

    name: str
    kept: bool
    moved: float
    """int8 minus float, a fraction; mean over the attacks where the attribute is not kept."""
    detail: str

    @property
    def within(self) -> bool:
        """int8 moved it by half a point at most."""
        return abs(self.moved) <= LIMIT

    @property
    def sentence(self) -> str:
        """For people."""
        verdict = "within" if self.within else "more than"
        return f"{self.name}: int8 {100 * self.moved:+.2f} points, {verdict} {100 * LIMIT:g} ({self.detail})"


def kept_side(name: str, floats: float, int8: float, draws: int) -> Side:
    """The side of a kept attribute: fractions that the cloud finds through either model."""
    detail = f"{int8:.1%} against {floats:.1%} recognised, {draws} uploads under the same noise"
    return Side(name=name, kept=True, moved=int8 - floats, detail=detail)


def read_audit(folder: Path, artifact: str) -> Audit | None:
    """The audit of a run (`float`) or an export (`int8`); None if there is none of this artifact."""
    if not (folder / FILE).exists():
        return None
    audit = schema.read_audit(folder / FILE)
    return audit if audit.artifact == artifact else None


def compare_audits(int8: Audit, floats: Audit) -> list[Side]:
    """The sides of all attributes that both audits attacked.

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
    return [_hidden_side(one, other, int8, floats) for one, other in pairs]


def _hidden_side(one: AttributeResult, other: AttributeResult, int8: Audit, floats: Audit) -> Side:
    mine, theirs = _accuracies(int8, one.name), _accuracies(floats, one.name)
    moved = [mine[attack] - theirs[attack] for attack in mine if attack in theirs]
    best = f"best attack {one.best.accuracy:.1%} against {other.best.accuracy:.1%}"
    detail = f"mean of {len(moved)} attacks; {best}"
    return Side(name=one.name, kept=False, moved=mean(moved), detail=detail)


def _accuracies(audit: Audit, attribute: str) -> dict[tuple[str, str, float | None], float]:
    """Accuracy on test of every attack on uploads, by attack, architecture and learning rate."""
    return {
        (row.attack, row.architecture, row.lr): row.accuracy
        for row in audit.attacks
        if row.attribute == attribute and row.input == "uploads"
    }
