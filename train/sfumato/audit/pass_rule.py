"""The pass rule.

Passed: every desired attribute stays within `max_drop` of the clean cloud network, training's own goal is met on test, and for
every judged attribute the best attack's gain is at most `max_nag`, and its upper 95 % limit at most `max_nag_upper`, **by every
measure**: accuracy, balanced accuracy, AUC and information. In answer mode the attack is the reader of a word, whose gains are
counted. A gain below 0 is chance and counts as 0: luck does not make up for missing images. Judged are declared attributes and
those that were asked for by name; without any of them, all that were attacked.

Not passed: one of these is missed for certain. A leak is found where the gain is above `max_nag` and its lower limit above 0,
at 95 % for all attributes and measures together (Bonferroni). A leak that is found counts for every attribute, judged or not,
and for every class by itself: a mean over fifty classes hides one that is told. That no class is told need not be shown: few
data sets have the images for it.

No verdict: nothing was found, and nothing was shown either. The intervals are too wide, no attacker learns the attribute even
from clean images, a planted leak was missed, or nothing was attacked.

    judgement = judge(desired, attributes)
    judgement.verdict, judgement.reasons, judgement.more_images
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from scipy.stats import norm

from sfumato.audit.metrics import Z
from sfumato.audit.schema import (
    AttributeResult,
    ClassGain,
    DesiredResult,
    ExactLeak,
    Gain,
    Goal,
    InformationBounds,
    PositiveControl,
    RateBits,
    Rule,
    VerdictName,
)

if TYPE_CHECKING:
    from sfumato.runtime.contract import GoalPart

DEFAULT = Rule()
LARGEST_DROP, LARGEST_NAG = DEFAULT.max_drop, DEFAULT.max_nag
FAMILY = 0.05
"""Chance that any of many attributes without a leak is called one."""
SLACK = 1e-9
"""For fractions that should be equal."""
WORDS = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "auc": "AUC",
    "information": "information",
}


@dataclass(frozen=True)
class _Candidate:
    """What the rule reads of one attribute, whether it was attacked or counted."""

    name: str
    declared: bool
    judged: bool
    """Declared, or asked for: it has to be shown not to leak."""
    gains: Sequence[Gain]
    class_gains: Sequence[ClassGain]
    entropy_bits: float
    who: str
    """Whose gains these are."""
    cure: str
    """What gives more test images."""


def _candidate(one: AttributeResult | ExactLeak) -> _Candidate:
    if isinstance(one, ExactLeak):
        name, who, cure = one.attribute, "whoever reads the word", "more data"
    else:
        name, cure = one.name, "--folds 3, or more data"
        who = f"{one.best.attack} ({one.best.architecture})"
    judged = one.declared or one.asked
    return _Candidate(name, one.declared, judged, one.gains, one.class_gains, one.entropy_bits, who, cure)


@dataclass(frozen=True)
class Judgement:
    """What the rule says."""

    failures: tuple[str, ...]
    """What is certain."""
    doubts: tuple[str, ...]
    """What keeps the artifact from passing without being certain."""
    more_images: int | None = None
    """Further test images that would settle the doubts, roughly; None where more of them would not."""

    @property
    def verdict(self) -> VerdictName:
        """A failure outweighs a doubt."""
        return "not_passed" if self.failures else "no_verdict" if self.doubts else "passed"

    @property
    def reasons(self) -> tuple[str, ...]:
        """Failures, then doubts."""
        return (*self.failures, *self.doubts)


def judge(
    desired: Sequence[DesiredResult],
    attributes: Sequence[AttributeResult],
    rule: Rule = DEFAULT,
    *,
    images: int = 0,
    goal: Goal | None = None,
    controls: Sequence[PositiveControl] = (),
    exact: Sequence[ExactLeak] = (),
) -> Judgement:
    """Apply the rule.

    Args:
        desired: how well the cloud recognises what it should.
        attributes: what attackers found.
        rule: the thresholds.
        images: test images of the attackers; more of them are asked for where the intervals are too wide.
        goal: what training was asked for, measured on test.
        controls: planted leaks.
        exact: leaks of answer mode.
    """
    failures = [_drop_line(one, rule) for one in desired if _drop(one) > rule.max_drop + SLACK]
    if goal is not None and not goal.met:
        failures.append(f"the goal of training is missed on test: {goal_line(goal)}")
    doubts: list[str] = []
    needed: list[int] = []
    if not attributes and not exact:
        doubts.append("nothing was attacked")
    doubts += [
        f"the audit is void: its attackers missed a leak of {one.planted_nag:.0%} that was planted for {one.attribute} "
        f"(best: {one.attack}, NAG {one.found_nag:.1%})"
        for one in controls
        if not one.passed
    ]
    everyone = [_candidate(one) for group in (attributes, exact) for one in group]
    named = any(one.judged for one in everyone)
    z = family_limit(sum(len(one.gains) + len(one.class_gains) for one in everyone))
    for one in everyone:
        gains = [gain for gain in one.gains if gain.nag is not None]
        found = [gain for gain in gains if _found(gain, rule, z)]
        if found:
            failures.append(_line(one, max(found, key=lambda gain: gain.nag or 0.0), rule, found=True))
            continue
        told = [part for part in one.class_gains if _found(part.gain, rule, z)]
        if told:
            worst = max(told, key=lambda part: part.gain.nag or 0.0)
            failures.append(_line(one, worst.gain, rule, found=True, value=worst.value))
            continue
        if named and not one.judged:
            continue
        wide = [gain for gain in gains if not _small(gain, rule)]
        if wide:
            widest = max(wide, key=counted_limit)
            needed.append(missing_images(widest, rule, images))
            doubts.append(_line(one, widest, rule, found=False) + _request(needed[-1], one.cure))
        elif not gains:
            doubts.append(
                f"{one.name}: attackers do not learn it from clean images either, so nothing is shown"
            )
    return Judgement(tuple(failures), tuple(doubts), max(needed, default=0) or None)


def shortfalls(
    desired: Sequence[DesiredResult], attributes: Sequence[AttributeResult], rule: Rule = DEFAULT
) -> tuple[str, ...]:
    """What keeps an artifact from passing, certain or not; empty if nothing does."""
    return judge(desired, attributes, rule).reasons


def leakage_bound_bits(rate: RateBits, bounds: InformationBounds) -> float:
    """The tightest bound on the information in an upload, in bits an image."""
    return min(rate.mean, bounds.tightest)


def family_limit(tests: int) -> float:
    """Standard errors above 0 from which one of so many gains is called a leak.

    >>> round(family_limit(1), 3), round(family_limit(12), 3)
    (1.645, 2.638)
    """
    return float(norm.isf(FAMILY / max(1, tests)))


def missing_images(gain: Gain, rule: Rule, images: int) -> int:
    """Further images after which the upper limit would hold, if the gain is what it seems and allowed at all.

    >>> gain = Gain(measure="auc", value=0.51, floor=0.5, clean=1.0, nag=0.02, error=0.06, lower=-0.0787, upper=0.1187)
    >>> missing_images(gain, Rule(), 1000)  # the interval has to shrink from 9.9 to 6 %
    1707
    """
    nag = max(_limits(gain)[0], 0.0)
    room = max(rule.max_nag_upper - nag, rule.max_nag_upper - rule.max_nag, SLACK)
    return max(0, math.ceil(images * ((counted_limit(gain) - nag) / room) ** 2) - images)


def _drop(one: DesiredResult) -> float:
    return one.clean_accuracy - one.accuracy


def _found(gain: Gain, rule: Rule, z: float) -> bool:
    nag, error, _ = _limits(gain)
    return nag > rule.max_nag + SLACK and nag - z * error > 0


def _small(gain: Gain, rule: Rule) -> bool:
    return _limits(gain)[0] <= rule.max_nag + SLACK and counted_limit(gain) <= rule.max_nag_upper + SLACK


def counted_limit(gain: Gain) -> float:
    """The upper 95 % limit, of a gain below 0 as if it were 0."""
    _, error, upper = _limits(gain)
    return max(upper, Z * error)


def _limits(gain: Gain) -> tuple[float, float, float]:
    """NAG, its error and its upper limit, of a measure that has a scale."""
    assert gain.nag is not None
    assert gain.error is not None
    assert gain.upper is not None
    return gain.nag, gain.error, gain.upper


def _drop_line(one: DesiredResult, rule: Rule) -> str:
    if one.guess_error is not None:
        lost, allowed = _drop(one) * one.guess_error, rule.max_drop * one.guess_error
        return (
            f"{one.name}: {one.text(one.accuracy)} is {lost:.2g} over the clean network's "
            f"{one.text(one.clean_accuracy)}; at most {allowed:.2g} are allowed"
        )
    what = "accuracy" if one.guess_iou is None else "IoU"
    return (
        f"{one.name}: {what} {one.accuracy:.1%} is {100 * _drop(one):.1f} points under the clean "
        f"network's {one.clean_accuracy:.1%}; at most {100 * rule.max_drop:.1f} are allowed"
    )


def _line(one: _Candidate, gain: Gain, rule: Rule, *, found: bool, value: str = "") -> str:
    """One attribute's worst gain beside what is allowed, or that of one class of it."""
    who = f"{one.name}{'' if one.declared else ' (undeclared)'}: {one.who}"
    if gain.measure == "information":
        reached = f"finds {gain.value:.3f} of {one.entropy_bits:.3f} bits"
    else:
        form = "{:.2f}" if gain.measure == "auc" else "{:.1%}"
        reading, floor, clean = (form.format(one) for one in (gain.value, gain.floor, gain.clean))
        against = f" for {value!r} against the rest" if value else ""
        reached = f"reaches {WORDS[gain.measure]} {reading}{against} (guessing {floor}, clean {clean})"
    limits = f"NAG {gain.nag:.1%}; at most {rule.max_nag:.0%} is allowed"
    if not found:
        limits = (
            f"NAG {gain.nag:.1%} with an upper 95 % limit of {counted_limit(gain):.1%}; "
            f"at most {rule.max_nag_upper:.0%} is allowed"
        )
    return f"{who} {reached}, {limits}"


def _request(images: int, cure: str) -> str:
    """The cure for a wide interval."""
    return f": {round_up(images):,} more test images are needed ({cure})" if images else ""


def round_up(images: int) -> int:
    """Two leading digits are all that an estimate of images is worth.

    >>> round_up(1705), round_up(88), round_up(0)
    (1800, 88, 0)
    """
    unit = int(10 ** max(0, len(str(images)) - 2))
    return -(-images // unit) * unit


def goal_line(goal: "Goal | GoalPart") -> str:
    """What was asked for and what is reached; of a contract only where bits were asked for is the latter known.

    >>> goal_line(Goal(target_bits=8, reached_bits=9.6, met=False))
    'at most 8 bits an upload, 9.6 reached'
    """
    drop = None if goal.max_drop is None else 100 * goal.max_drop
    reached = getattr(goal, "reached_drop", None)
    lost = None if reached is None else 100 * reached
    pairs = (
        ("{:g} bits an upload", "{:.1f}", goal.target_bits, goal.reached_bits),
        ("{:g} bits beyond the answer", "{:.3f}", goal.beyond_target_bits, goal.beyond_reached_bits),
        ("{:g} points of accuracy lost", "{:.1f}", drop, lost),
    )
    return "; ".join(
        f"at most {asked.format(target)}, {'unknown' if reached is None else found.format(reached)} reached"
        for asked, found, target, reached in pairs
        if target is not None
    )
