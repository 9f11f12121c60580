"""Attacks on frozen defences: what a provider who owns the cloud and knows the local network can still find
out.

Every attack is a small file with one function `steps(evidence, plan, groups)` that lists the pieces of work
it wants done; each piece returns `Answer`s: how an attribute of every validation and test image was guessed
(`pairs` returns `Restoration`s too). The audit runs the pieces, judges all answers by the same rule and picks
the winner on the validation split.

    for step in create("probe")(evidence, QUICK, groups):
        answers = step.run()

A further attack is one file and one line in `ATTACKS`. Published defences that reach chance against the
adversary they trained with leak 83-99.9 % of the clean gain to a fresh one (PASS, ICML 2025), so nothing here
shares state with training.
"""

from collections.abc import Callable

from sfumato.audit.attack_data import Evidence, prepare
from sfumato.audit.attacks import (
    average,
    bayes,
    clean,
    denoise,
    floors,
    output,
    pairs,
    probe,
    provider,
    whitebox,
)
from sfumato.audit.plan import DEFAULT, FULL, PLANS, QUICK, Plan, create_plan
from sfumato.audit.predictions import Answer, Finding, Restoration, Step
from sfumato.core.errors import UsageError, unknown

Attack = Callable[[Evidence, Plan, tuple[tuple[str, ...], ...]], list[Step]]

ATTACKS: dict[str, Attack] = {
    "floor": floors.steps,
    "clean": clean.steps,
    "output": output.steps,
    "bayes": bayes.steps,
    "probe": probe.steps,
    "provider": provider.steps,
    "average": average.steps,
    "pairs": pairs.steps,
    "denoise": denoise.steps,
    "whitebox": whitebox.steps,
}
"""Name -> attack, in the order in which the audit runs them: cheap ones first."""


def create(name: str) -> Attack:
    """The attack of this name.

    Raises:
        UsageError: the name is not known.
    """
    if name not in ATTACKS:
        raise UsageError(unknown("attack", name, ATTACKS))
    return ATTACKS[name]


__all__ = [
    "ATTACKS",
    "DEFAULT",
    "FULL",
    "PLANS",
    "QUICK",
    "Answer",
    "Attack",
    "Evidence",
    "Finding",
    "Plan",
    "Restoration",
    "Step",
    "create",
    "create_plan",
    "prepare",
]
