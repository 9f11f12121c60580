"""Attacks on frozen models: what a provider who owns the cloud and knows the local network can still find out.

Every attack is a module with one function `steps(data, plan, groups)` that lists pieces of work. Each piece returns
`Prediction`s: scores for an attribute of every validation and test image (`pairs` and `generate` also return
`ReconstructedImages`). The
audit runs the pieces and scores all predictions by the same rule.

    for step in create("probe")(data, QUICK, groups):
        predictions = step.run()

A further attack is one module and one line in `ATTACKS`. Published defences that reach chance against the adversary they
trained with leak 83-99.9 % of the clean gain to a fresh one (PASS, ICML 2025), so nothing here shares state with training.
"""

from collections.abc import Callable

from sfumato.audit.attack_data import AttackData
from sfumato.audit.attacks import (
    average,
    clean,
    denoise,
    discriminant,
    floors,
    generate,
    output,
    pairs,
    posterior,
    probe,
    provider,
    whitebox,
)
from sfumato.audit.plan import Plan
from sfumato.audit.predictions import Groups, Step
from sfumato.audit.schema import OLD_ATTACKS
from sfumato.core.console import note
from sfumato.core.errors import UsageError, unknown

Attack = Callable[[AttackData, Plan, Groups], list[Step]]

ATTACKS: dict[str, Attack] = {
    "floor": floors.steps,
    "clean": clean.steps,
    "output": output.steps,
    "posterior": posterior.steps,
    "discriminant": discriminant.steps,
    "probe": probe.steps,
    "provider": provider.steps,
    "average": average.steps,
    "pairs": pairs.steps,
    "generate": generate.steps,
    "denoise": denoise.steps,
    "whitebox": whitebox.steps,
}
"""Name -> attack, in the order in which the audit runs them: cheap ones first."""


def create(name: str) -> Attack:
    """The attack of this name.

    Raises:
        UsageError: the name is not known.
    """
    if name in OLD_ATTACKS:
        note(f"the attack {name!r} is called {OLD_ATTACKS[name]!r} now; the next release knows only that")
        name = OLD_ATTACKS[name]
    if name not in ATTACKS:
        raise UsageError(unknown("attack", name, ATTACKS))
    return ATTACKS[name]
