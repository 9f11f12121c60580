"""The pass rule, in sentences.

An artifact passes if every desired attribute stays within 1.5 points of the clean cloud network, and for
every declared attribute the best attacker's NAG over the label-only floor is at most 5 %, its upper 95 %
limit at most 8 %. About attributes that nobody declared the audit says what was measured and what the rate
allows; a general claim is impossible. Where nothing was attacked, nothing passes.

    reasons = shortfalls(desired, attributes)
"""

from collections.abc import Sequence

from sfumato.audit.schema import AttackRow, Attribute, Desired, InformationBits, OverSeeds, RateBits

LARGEST_DROP = 0.015
LARGEST_NAG = 0.05
LARGEST_NAG_UPPER = 0.08


def shortfalls(desired: Sequence[Desired], attributes: Sequence[Attribute]) -> tuple[str, ...]:
    """What keeps the artifact from passing; empty if nothing does."""
    reasons = [] if attributes else ["nothing was attacked"]
    for one in desired:
        drop = one.clean_accuracy - one.accuracy
        if drop > LARGEST_DROP + 1e-9:
            reasons.append(
                f"{one.name}: accuracy {one.accuracy:.1%} is {100 * drop:.1f} points under the clean "
                f"network's {one.clean_accuracy:.1%}; at most {100 * LARGEST_DROP:.1f} are allowed"
            )
    for one_hidden in attributes:
        if not one_hidden.declared:
            continue
        best, upper = one_hidden.best, one_hidden.nag_label_only_ci95[1]
        who = f"{one_hidden.name}: {best.attack} ({best.architecture}) reaches {best.accuracy:.1%}"
        if one_hidden.nag_label_only > LARGEST_NAG:
            reasons.append(
                f"{who}, NAG {one_hidden.nag_label_only:.1%}; at most {LARGEST_NAG:.0%} is allowed"
            )
        elif upper > LARGEST_NAG_UPPER:
            reasons.append(
                f"{who}, NAG {one_hidden.nag_label_only:.1%} with an upper 95 % limit of {upper:.1%}; "
                f"at most {LARGEST_NAG_UPPER:.0%} is allowed (more images narrow it: --folds 3, or a larger test split)"
            )
    return tuple(reasons)


def told_bits(rate: RateBits, information: InformationBits) -> float:
    """The tightest bound on what an upload tells, in bits an image."""
    return min(rate.mean, information.least)


def statements(
    attributes: Sequence[Attribute], rate: RateBits, information: InformationBits
) -> tuple[str, ...]:
    """What may be said about the artifact, measured and bounded, and no more."""
    said = [
        f"An upload carries at most {told_bits(rate, information):.2f} bits about its photo on average: "
        "that bounds every attack on every attribute, tried or not.",
        f"Its rate is {rate.mean:.1f} bits (95 % of the images: {rate.p95:.1f} or less). Measured against a mixture of "
        f"the few things that uploads say, it is {information.total:.2f} bits: {information.answer:.2f} for the answer "
        f"and {information.beyond:.2f} for anything beyond it.",
    ]
    if information.context is not None:
        said[-1] += (
            f" Against a reference that foresees each bit from those before it: {information.context:.1f} bits."
        )
    for one in attributes:
        best, top = one.best, one.strongest_on_test
        kind = "declared" if one.declared else "never declared"
        text = (
            f"{one.name} ({kind}): the best attack on uploads, {best.attack} ({best.architecture}), is "
            f"right for {best.accuracy:.1%} [{best.ci95[0]:.1%}, {best.ci95[1]:.1%}]; guessing without the upload for "
            f"{one.label_only:.1%}, attackers on clean images for {one.clean:.1%}: "
            f"NAG {one.nag_label_only:.1%}."
        )
        if one.answer_only is not None:
            text += f" Whoever knows the cloud's decision alone is right for {one.answer_only.accuracy:.1%}."
        if top.accuracy > best.accuracy:
            text += (
                f" Even choosing on test, no attack exceeds {top.accuracy:.1%} "
                f"({top.attack}, {top.architecture}; NAG {top.nag_label_only:.1%})."
            )
        said.append(text)
    if not attributes:
        said.append("Nothing was attacked: these bounds are all that is known about other attributes.")
    elif not any(one.declared for one in attributes):
        said.append("No attribute was declared hidden: the pass rule judged the desired accuracy alone.")
    if any(not one.declared for one in attributes):
        said.append(
            "For attributes nobody declared, these are measurements and a rate bound, not a guarantee."
        )
    return tuple(said)


def averaging(attributes: Sequence[Attribute], rows: Sequence[AttackRow]) -> tuple[str, ...]:
    """What fresh noise would have given away to somebody who averages; empty if nobody averaged."""
    said = []
    for one in attributes:
        mine = [row for row in rows if row.attribute == one.name and row.on == "averaged fresh uploads"]
        if mine:
            best = max(mine, key=lambda row: row.val_accuracy)
            said.append(
                f"{one.name}: were the noise fresh for every upload, averages of one photo's uploads would tell it with "
                f"{best.accuracy:.1%} ({best.architecture}); it is keyed, so a photo sent again is the same upload, and "
                "this row is no part of the verdict."
            )
    return tuple(said)


def spread_statements(spreads: Sequence[OverSeeds], seeds: int) -> tuple[str, ...]:
    """How far the figures moved between attack seeds; empty if there was only one."""
    return tuple(
        f"{one.name}: over {seeds} attack seeds the best attack is right for {one.accuracy.min:.1%} to "
        f"{one.accuracy.max:.1%}, on average {one.accuracy.mean:.1%}, NAG {one.nag_label_only.min:.1%} to "
        f"{one.nag_label_only.max:.1%}; all other figures are those of the first seed, and every seed has to pass."
        for one in spreads
    )


def fold_statements(folds: int, attacked: int, test: int) -> tuple[str, ...]:
    """On how many images attackers were judged; empty if on the test split alone."""
    if folds == 1:
        return ()
    return (
        f"Attackers were judged on {attacked} images that the defence never saw, {test} of them the test split: trained "
        f"{folds} times, each time on all of these images but the ones they were then judged on.",
    )
