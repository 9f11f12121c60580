"""Which mode fits a question: a rule over figures that a few minutes of training give.

    advice = recommend(Figures(classes={"smiling": 2}, phone={"smiling": 0.991}, cloud={"smiling": 0.993}))
    advice.mode, advice.reasons            # "answer", and why, in sentences

- `answer`: the phone finds the answer about as well as the clean cloud network, and there are few answers. It sends the code
  word of its answer and nothing else.
- `phone`: it does not, but a network that does would run on the phone. Then no cloud is needed to recognise.
- `picture`: the cloud network is needed. The upload carries parts of the picture, with noise where they matter least.

All accuracies that decide are those of validation images, so the test images stay untouched by the choice. `sfumato advise`
measures everything, `sfumato train --mode auto` the two networks that it trains anyway.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log2, prod
from typing import Literal

LARGEST_ALPHABET = 2**16
"""A code word has at most two bytes."""
LEAST_GAIN = 0.01
"""Accuracies that differ by less than this, a point, are called equal in words."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What the rule allows."""

    drop: float = 1.5
    """Points of accuracy that the phone's own answer may lose against the clean cloud network, in the worst kept attribute."""
    instructions: float = 100e6
    """int8 instructions an image that a phone can afford, counted for the slowest core (Cortex-A53): a tenth of a second at
    one instruction per cycle of 1 GHz."""
    bytes: float = 5e6
    """Size of an int8 model that an app can afford."""


@dataclass(frozen=True, kw_only=True)
class OnPhone:
    """What a network would cost on the phone, as int8, for one image."""

    macs: int
    instructions: Mapping[str, float]
    """Core -> executed instructions."""
    bytes: int
    counted: bool = False
    """Whether the instructions were counted; else they are estimated from other networks that were."""

    def affordable(self, limits: Limits) -> bool:
        """Whether the slowest core runs it within the limits."""
        return max(self.instructions.values()) <= limits.instructions and self.bytes <= limits.bytes


@dataclass(frozen=True, kw_only=True)
class Hidden:
    """What a hidden attribute is worth; accuracies are fractions."""

    name: str
    majority: float
    """Of always guessing the most frequent class."""
    label_only: float
    """Of the best guess from the true kept labels."""
    clean: float
    """Of a quick attacker on clean photos."""


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What the rule looks at. Accuracies are fractions on validation images, kept attribute -> accuracy."""

    classes: Mapping[str, int]
    """Kept attribute -> number of classes."""
    phone: Mapping[str, float]
    """The phone alone, at the local network's cost."""
    cloud: Mapping[str, float]
    """The clean cloud network."""
    larger: Mapping[str, float] | None = None
    """The phone alone at ten times that cost; None where it was not trained."""
    on_phone: OnPhone | None = None
    """The clean cloud network on the phone; None where it was not looked at, or may not leave the cloud."""
    majority: Mapping[str, float] | None = None
    """Always guessing the most frequent class of the kept attribute."""
    hidden: Sequence[Hidden] = ()


@dataclass(frozen=True)
class Advice:
    """A recommendation.

    Attributes:
        mode: `answer`, `picture` or `phone`.
        network: what should run on the phone where `mode` is `phone`: the `clean` cloud network, or the `larger` one of ten
            times the local network's cost.
        reasons: sentences; the first two suffice for the choice.
        cautions: sentences about what limits it.
    """

    mode: Literal["answer", "picture", "phone"]
    network: Literal["clean", "larger"] | None
    reasons: tuple[str, ...]
    cautions: tuple[str, ...]

    @property
    def train_mode(self) -> Literal["answer", "picture"]:
        """What `sfumato train` does with it. Who trains a pair although the phone could do alone wants a cloud that looks."""
        return "answer" if self.mode == "answer" else "picture"


def recommend(figures: Figures, limits: Limits = Limits()) -> Advice:
    """Choose a mode and say why.

    Args:
        figures: accuracies and costs.
        limits: what may be lost and spent.

    >>> recommend(Figures(classes={"label": 10}, phone={"label": 0.65}, cloud={"label": 0.8})).mode
    'picture'
    """
    answers = prod(figures.classes.values())
    worst = max(figures.classes, key=lambda name: figures.cloud[name] - figures.phone[name])
    few, suffices = answers <= LARGEST_ALPHABET, reaches(figures.phone, figures.cloud, limits)
    cautions = _cautions(figures)
    compared = _compared(figures.phone, figures.cloud, worst)
    if few and suffices:
        reasons = (
            f"The phone's own network finds the answer: {compared}, and {limits.drop:g} points may be lost.",
            f"There are {answers:,} possible answers, so a code word of at most {_bits(log2(answers))} says "
            "all that a service asks for, and nothing else on the photo has to leave the phone.",
        )
        return Advice("answer", None, (*reasons, *_answer_leak(figures)), cautions)
    why = (
        f"The phone's own network does not suffice: {compared}, and {limits.drop:g} points may be lost."
        if few
        else f"There are {answers:,} possible answers, more than the {LARGEST_ALPHABET:,} words of answer mode."
    )
    cost = figures.on_phone
    if cost is not None and cost.affordable(limits):
        text = (
            f"The clean cloud network itself would run on the phone: {_price(cost)}. Nothing has to be uploaded to recognise, "
            "and whatever the app sends afterwards is its own choice."
        )
        return Advice("phone", "clean", (why, text), cautions)
    too_large = (
        () if cost is None else (f"The clean cloud network is too large for the phone: {_price(cost)}.",)
    )
    if figures.larger is not None and reaches(figures.larger, figures.cloud, limits):
        text = (
            "A network of ten times the local network's cost finds the answer on the phone: "
            f"{_compared(figures.larger, figures.cloud, worst)}. Nothing has to be uploaded to recognise."
        )
        return Advice("phone", "larger", (why, text, *too_large), cautions)
    tried = "" if figures.larger is None else ", and ten times its cost does not suffice either"
    text = (
        f"The cloud network is needed{tried}, so uploads must carry parts of the picture: noise is allocated by significance, "
        "and what is hidden needs its own pressure and an audit."
    )
    return Advice("picture", None, (why, text, *too_large), cautions)


def reaches(one: Mapping[str, float], other: Mapping[str, float], limits: Limits = Limits()) -> bool:
    """Whether no attribute of `one` lies further below `other` than the limit allows.

    >>> reaches({"age": 0.616}, {"age": 0.625}), reaches({"label": 0.65}, {"label": 0.80})
    (True, False)
    """
    return all(100 * (other[name] - one[name]) <= limits.drop + 1e-9 for name in other)


def _compared(one: Mapping[str, float], cloud: Mapping[str, float], name: str) -> str:
    where = f" for {name}" if len(cloud) > 1 else ""
    return f"{_percent(one[name])} against {_percent(cloud[name])} of the clean cloud network{where}"


def _price(cost: OnPhone) -> str:
    core = max(cost.instructions, key=lambda name: cost.instructions[name])
    millions = cost.instructions[core] / 1e6
    how = "counted" if cost.counted else "estimated"
    return (
        f"{cost.macs / 1e6:.1f} million multiply-accumulates, {millions:.1f} million instructions on {core} ({how}), "
        f"{cost.bytes / 1000:,.0f} kB"
    )


def _answer_leak(figures: Figures) -> tuple[str, ...]:
    """What the answer itself says about hidden attributes."""
    told = [
        f"{one.name} {_percent(one.label_only)} instead of {_percent(one.majority)}"
        for one in figures.hidden
        if one.label_only - one.majority >= LEAST_GAIN
    ]
    if not figures.hidden:
        return ()
    if not told:
        return ("The right answer says less than a point about each hidden attribute.",)
    return (
        f"The right answer itself lets guess {', '.join(told)}: no method that keeps it can hide this part.",
    )


def _cautions(figures: Figures) -> tuple[str, ...]:
    found = []
    for name, accuracy in figures.cloud.items():
        if figures.majority is not None and accuracy - figures.majority[name] < LEAST_GAIN:
            found.append(
                f"The clean cloud network guesses {name} no better than the most frequent class: more images or a better "
                "network come first."
            )
    for one in figures.hidden:
        floor = max(one.majority, one.label_only)
        if one.clean - floor < LEAST_GAIN:
            found.append(
                f"A quick attacker on clean photos finds nothing about {one.name} beyond its floor "
                f"({_percent(one.clean)}, floor {_percent(floor)}): an audit on this data cannot show that it is hidden."
            )
    return tuple(found)


def _bits(bits: float) -> str:
    return "1 bit" if bits == 1 else f"{bits:.3g} bits"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
