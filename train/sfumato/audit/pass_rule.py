"""The pass rule, and the sentences of the report.

An artifact passes if every desired attribute stays within 1.5 points of the clean cloud network, and for every declared
attribute the best attack's NAG over the label-only floor is at most 5 %, its upper 95 % limit at most 8 %. About attributes
that nobody declared the audit states what was measured and what the bounds allow; a general claim is impossible. Where
nothing was attacked, nothing passes.

    reasons = shortfalls(desired, attributes)
"""

from collections.abc import Sequence

from sfumato.audit.schema import (
    AttackResult,
    AttributeResult,
    DesiredResult,
    InformationBounds,
    RateBits,
    SeedSpread,
)

LARGEST_DROP = 0.015
LARGEST_NAG = 0.05
LARGEST_NAG_UPPER = 0.08


def shortfalls(desired: Sequence[DesiredResult], attributes: Sequence[AttributeResult]) -> tuple[str, ...]:
    """What keeps the artifact from passing; empty if nothing does."""
    reasons = [] if attributes else ["nothing was attacked"]
    for kept in desired:
        drop = kept.clean_accuracy - kept.accuracy
        if drop > LARGEST_DROP + 1e-9:
            reasons.append(
                f"{kept.name}: accuracy {kept.accuracy:.1%} is {100 * drop:.1f} points under the clean "
                f"network's {kept.clean_accuracy:.1%}; at most {100 * LARGEST_DROP:.1f} are allowed"
            )
    for hidden in attributes:
        if not hidden.declared:
            continue
        best, nag, upper = hidden.best, hidden.nag_label_only, hidden.nag_label_only_ci95[1]
        who = f"{hidden.name}: {best.attack} ({best.architecture}) reaches {best.accuracy:.1%}, NAG {nag:.1%}"
        if nag > LARGEST_NAG:
            reasons.append(f"{who}; at most {LARGEST_NAG:.0%} is allowed")
        elif upper > LARGEST_NAG_UPPER:
            reasons.append(
                f"{who} with an upper 95 % limit of {upper:.1%}; at most {LARGEST_NAG_UPPER:.0%} is allowed "
                "(more images narrow it: --folds 3, or a larger test split)"
            )
    return tuple(reasons)


def leakage_bound_bits(rate: RateBits, bounds: InformationBounds) -> float:
    """The tightest bound on the information in an upload, in bits an image."""
    return min(rate.mean, bounds.tightest)


def bound_statements(rate: RateBits, bounds: InformationBounds) -> tuple[str, ...]:
    """How much an upload can reveal, whatever the attack."""
    parts = (
        f"Under a uniform prior the bound is {rate.mean:.1f} bits (95 % of the images: {rate.p95:.1f} or less). Under a "
        f"mixture prior it is {bounds.total:.2f} bits: {bounds.answer:.2f} for the desired answer and "
        f"{bounds.residual:.2f} for everything else."
    )
    if bounds.autoregressive is not None:
        parts += f" Under an autoregressive prior it is {bounds.autoregressive:.1f} bits."
    return (
        f"An upload carries at most {leakage_bound_bits(rate, bounds):.2f} bits about its photo on average. "
        "That bounds every attack on every attribute, tried or not.",
        parts,
    )


def attribute_statement(one: AttributeResult) -> str:
    """What was measured about one attribute."""
    best, top = one.best, one.strongest_on_test
    text = (
        f"{one.name} ({'declared' if one.declared else 'never declared'}): the best attack on uploads, {best.attack} "
        f"({best.architecture}), reaches {best.accuracy:.1%} [{best.ci95[0]:.1%}, {best.ci95[1]:.1%}]. "
        f"Guessing without the upload reaches {one.label_only:.1%}, attackers on clean images {one.clean:.1%}: "
        f"NAG {one.nag_label_only:.1%}."
    )
    if one.decision_only is not None:
        text += f" The cloud's decision alone gives {one.decision_only.accuracy:.1%}."
    if top.accuracy > best.accuracy:
        text += (
            f" Chosen on test instead, the strongest attack reaches {top.accuracy:.1%} "
            f"({top.attack}, {top.architecture}; NAG {top.nag_label_only:.1%})."
        )
    return text


def statements(
    attributes: Sequence[AttributeResult], rate: RateBits, bounds: InformationBounds
) -> tuple[str, ...]:
    """What may be said about the artifact, bounded and measured, and no more."""
    out = [*bound_statements(rate, bounds), *map(attribute_statement, attributes)]
    if not attributes:
        out.append("Nothing was attacked: these bounds are all that is known about other attributes.")
    elif not any(one.declared for one in attributes):
        out.append("No attribute was declared hidden: the pass rule judged the desired accuracy alone.")
    if any(not one.declared for one in attributes):
        out.append("For attributes nobody declared, these are measurements and a bound, not a guarantee.")
    return tuple(out)


def averaging_statements(
    attributes: Sequence[AttributeResult], attacks: Sequence[AttackResult]
) -> tuple[str, ...]:
    """What averaging would reveal under fresh noise; empty if no attack averaged."""
    out = []
    for one in attributes:
        averaged = [a for a in attacks if a.attribute == one.name and a.input == "averaged fresh uploads"]
        if averaged:
            best = max(averaged, key=lambda attack: attack.val_accuracy)
            out.append(
                f"{one.name}: with fresh noise in every upload, averages of one photo's uploads would reach "
                f"{best.accuracy:.1%} ({best.architecture})."
            )
    if out:
        out.append(
            "Noise is keyed, so a photo sent again is the same upload: the pass rule ignores averages of fresh noise."
        )
    return tuple(out)


def seed_statements(spreads: Sequence[SeedSpread], seeds: int) -> tuple[str, ...]:
    """How far the figures moved between attack seeds; empty if there was only one."""
    out = [
        f"{one.name}: over {seeds} attack seeds the best attack reaches {one.accuracy.min:.1%} to "
        f"{one.accuracy.max:.1%}, on average {one.accuracy.mean:.1%}, NAG {one.nag_label_only.min:.1%} to "
        f"{one.nag_label_only.max:.1%}."
        for one in spreads
    ]
    if out:
        out.append("All other figures are those of the first seed, and every seed has to pass.")
    return tuple(out)


def fold_statements(folds: int, attacked: int, test: int) -> tuple[str, ...]:
    """On how many images attackers were tested; empty if on the test split alone."""
    if folds == 1:
        return ()
    return (
        f"Attackers were tested on {attacked} images that training never saw, {test} of them the test split. They were "
        f"trained {folds} times, each time on all of these images except the ones they were then tested on.",
    )
