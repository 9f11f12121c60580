"""The sentences of a report: what the figures allow to say about an artifact, and no more.

lines = statements(attributes, rate, bounds)
"""

from collections.abc import Sequence

from sfumato.audit.pass_rule import WORDS, leakage_bound_bits
from sfumato.audit.schema import (
    AttackResult,
    AttributeResult,
    Composition,
    ExactLeak,
    Gain,
    InformationBounds,
    PositiveControl,
    RateBits,
    Rule,
    SeedSpread,
    Verification,
    WorstGroup,
)


def rule_statement(rule: Rule) -> str:
    """The pass rule with its thresholds.

    >>> rule_statement(Rule())[:84]
    'Desired accuracy at most 1.5 points under the clean network; the goal of training me'
    """
    return (
        f"Desired accuracy at most {100 * rule.max_drop:g} points under the clean network; the goal of training met on test; "
        "for every attribute that was declared hidden or asked for by name (if there is none, for every one that was attacked) "
        f"the best attack's gain is at most {100 * rule.max_nag:g} % of what clean photos give, and its one-sided upper 95 % "
        f"limit at most {100 * rule.max_nag_upper:g} %, by accuracy, balanced accuracy, AUC and information alike. A leak that "
        "is found in any other attribute counts too. Where the limit is wider than that and no leak was found, there is no "
        "verdict."
    )


def bound_statements(rate: RateBits, bounds: InformationBounds, masks: Sequence[str] = ()) -> tuple[str, ...]:
    """How much an upload can reveal, whatever the attack; `masks` are kept attributes that no component stands for."""
    parts = (
        f"Under a uniform prior the bound is {rate.mean:.1f} bits (95 % of the images: {rate.p95:.1f} or less). Under a "
        f"mixture prior it is {bounds.total:.2f} bits: {bounds.answer:.2f} for the desired answer and "
        f"{bounds.residual:.2f} for everything else."
    )
    if masks:
        parts += f" Everything else includes what the mask {' and '.join(masks)} says: the mixture knows labels alone."
    if bounds.autoregressive is not None:
        parts += f" Under an autoregressive prior it is {bounds.autoregressive:.1f} bits."
    out = [
        f"An upload carries at most {leakage_bound_bits(rate, bounds):.2f} bits about its photo on average. "
        "That bounds every attack on every attribute, tried or not.",
        parts,
    ]
    if bounds.residual_photos is not None and bounds.residual_allows is not None:
        low, high = bounds.residual_photos.ci95
        out.append(
            f"Beyond the answer it is {bounds.residual:.2f} bits (95 % interval {low:.2f} to {high:.2f}); 1 % of the photos "
            f"have more than {bounds.residual_photos.p99:.2f}, the largest {bounds.residual_photos.max:.2f}. "
            f"{bounds.residual:.2f} bits allow {bounds.residual_allows:.0%} on an even yes-or-no attribute of which the answer "
            "tells nothing."
        )
    return tuple(out)


def index_statement(bits: int) -> str:
    """What holds of every upload that is an entry of a public book of 2^bits."""
    return (
        f"An upload is the number of one of 2^{bits:,} entries of a public book: no photo tells more than {bits:,} bits. "
        "The attacks were given entries that were drawn and looked up as phone and service do. A goal of training is about "
        "ordinary draws and was not judged."
    )


def attribute_statement(one: AttributeResult) -> str:
    """What was measured about one attribute."""
    best, top = one.best, one.strongest_on_test
    text = (
        f"{one.name} ({'declared' if one.declared else 'never declared'}): the best attack on uploads, {best.attack} "
        f"({best.architecture}), reaches {best.accuracy:.1%} [{best.ci95[0]:.1%}, {best.ci95[1]:.1%}]. "
        f"Guessing without the upload reaches {one.label_only:.1%}, attackers on clean images {one.clean:.1%}."
    )
    if (worst := one.worst) is not None:
        text += _largest(worst)
    else:
        text += f" NAG {one.nag_label_only:.1%}."
    if one.decision_only is not None:
        text += f" The cloud's decision alone gives {one.decision_only.accuracy:.1%}."
    if top.accuracy > best.accuracy:
        text += (
            f" Chosen on test instead, the strongest attack reaches {top.accuracy:.1%} "
            f"({top.attack}, {top.architecture}; NAG {top.nag_label_only:.1%})."
        )
    return text


def statements(
    attributes: Sequence[AttributeResult],
    rate: RateBits,
    bounds: InformationBounds,
    masks: Sequence[str] = (),
) -> tuple[str, ...]:
    """What may be said about the artifact, bounded and measured, and no more; `masks` as of `bound_statements`."""
    out = [*bound_statements(rate, bounds, masks), *map(attribute_statement, attributes)]
    out += [verification_statement(one.name, one.verification) for one in attributes if one.verification]
    if not attributes:
        out.append("Nothing was attacked: these bounds are all that is known about other attributes.")
    elif not any(one.declared or one.asked for one in attributes):
        out.append(
            "No attribute was declared hidden or asked for: the pass rule judged all that were attacked."
        )
    elif others := [one.name for one in attributes if not (one.declared or one.asked)]:
        out.append(
            f"Neither declared nor asked for: {', '.join(others)}. A leak found there counts against the artifact; that none "
            "was found is a measurement, not a guarantee."
        )
    return tuple(out)


def averaging_statements(
    attributes: Sequence[AttributeResult], attacks: Sequence[AttackResult]
) -> tuple[str, ...]:
    """What averaging would reveal under fresh noise; empty if no attack averaged."""
    out = []
    for one in attributes:
        averaged = [a for a in attacks if a.attribute == one.name and a.input == "averaged fresh uploads"]
        if averaged:
            best = min(averaged, key=lambda attack: attack.cross_entropy_bits)
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


def fold_statements(folds: int, attacked: int, test: int, survivors: int = 0) -> tuple[str, ...]:
    """On how many images attackers were tested; empty if on the test split alone.

    Args:
        folds: of the audit.
        attacked: images of all folds.
        test: images of the test split.
        survivors: attacks of each attribute that went on from the first fold; 0: all.
    """
    if folds == 1:
        return ()
    screened = (
        f"All attacks ran in the first fold. Of each attribute the best {survivors} on validation images, and those that train "
        "no network, ran in the others; no test image had a say in that. The figures and the verdict are theirs.",
    )
    return (
        *(screened if survivors else ()),
        f"Attackers were tested on {attacked} images that training never saw, {test} of them the test split. They were "
        f"trained {folds} times, each time on all of these images except the ones they were then tested on.",
    )


def group_statements(groups: Sequence[WorstGroup]) -> tuple[str, ...]:
    """Whom uploads may tell most about; empty if no attribute is known."""
    if not groups:
        return ()
    parts = (f"{one.attribute} {one.group} {one.bits:.2f}" for one in groups)
    return (f"Groups with the largest mean bound, in bits: {', '.join(parts)}.",)


def control_statements(controls: Sequence[PositiveControl]) -> tuple[str, ...]:
    """Whether planted leaks were found."""
    return tuple(
        f"A leak of NAG {one.planted_nag:.0%} was planted for {one.attribute} in a copy: the attackers "
        + (
            f"found {one.found_nag:.1%} ({one.attack})."
            if one.passed
            else f"missed it (best: {one.attack}, {one.found_nag:.1%}), so the audit is void."
        )
        for one in controls
    )


def composition_statements(compositions: Sequence[Composition]) -> tuple[str, ...]:
    """What several uploads tell together."""
    return tuple(
        f"{one.attribute}, {one.what}: {one.uploads} uploads give {one.accuracy:.1%} (guessing {one.floor:.1%}; AUC "
        f"{one.auc:.2f})."
        for one in compositions
    )


def exact_statements(leaks: Sequence[ExactLeak]) -> tuple[str, ...]:
    """What the words of answer mode tell."""
    told = tuple(
        f"{one.attribute}: one of {one.words} words tells {one.bits:.3f} of {one.entropy_bits:.3f} bits (at most "
        f"{one.bits_upper:.3f} with 95 % confidence); the "
        f"best guess from it reaches {one.accuracy:.1%}, guessing without it {one.floor:.1%}."
        + ("" if (worst := one.worst) is None else _largest(worst))
        for one in leaks
    )
    linked = (verification_statement(one.attribute, one.verification) for one in leaks if one.verification)
    return (*told, *linked)


def verification_statement(name: str, found: Verification) -> str:
    """Whether uploads of one person can be linked."""
    low, high = found.uploads.ci95
    return (
        f"Two uploads of one {name} are told from those of two with an AUC of {found.uploads.auc:.3f} (95 % interval {low:.3f} "
        f"to {high:.3f}; chance .500) and an equal error rate of {found.uploads.equal_error_rate:.1%}, two clean ones with "
        f"{found.clean.auc:.3f} and {found.clean.equal_error_rate:.1%}: {found.pairs:,} pairs of {found.images} test images of "
        "persons that the attacker knows."
    )


def _largest(gain: Gain) -> str:
    """The gain of the measure by which it may be largest."""
    return f" Its largest gain is by {WORDS[gain.measure]}: NAG {gain.nag:.1%}, with 95 % confidence at most {gain.upper:.1%}."
