"""Screening: all attacks run in the first fold, and in the further folds the best few of them.

Who goes on is chosen by cross entropy on validation images. Those are in no fold's test split, so the choice has seen none of
the images that the verdict is made of, and each fold's figures are what they would be without it. An attack that does not go
on is reported with the first fold's figures and takes no part in the verdict: it answered for a part of the images alone.

Attacks that train no network (`ALWAYS`) always go on. A network that left a tournament early does not: it was given a part of
its epochs. Networks that go on are trained as in the first fold (docs/decisions/0050-screening.md).

    going = going_on(predictions, scored, plan.survivors)
    later = narrowed(plan, predictions, scored)               # the plan of the further folds
"""

from collections.abc import Sequence

from sfumato.audit.plan import Plan
from sfumato.audit.predictions import Prediction
from sfumato.audit.scoring import ScoredAttack, best_attack

ALWAYS = ("floor", "clean", "output", "posterior", "discriminant")
"""Floors, the scale of every gain, and attacks that are computed from what is known of the channel."""


def going_on(
    predictions: Sequence[Prediction], scored: Sequence[ScoredAttack], count: int
) -> list[Prediction]:
    """Of every attribute the `count` attacks on uploads of least cross entropy on validation; between equals, the first.

    Args:
        predictions: of one fold.
        scored: the same, scored.
        count: for each attribute.
    """
    by_attribute: dict[str, list[tuple[float, int]]] = {}
    for index, (one, found) in enumerate(zip(predictions, scored, strict=True)):
        if one.input == "uploads" and one.calibrate and not one.early and one.attack != "ensemble":
            by_attribute.setdefault(one.attribute, []).append((found.validation_loss, index))
    chosen = {index for ranked in by_attribute.values() for _, index in sorted(ranked)[:count]}
    return [predictions[index] for index in sorted(chosen)]


def narrowed(plan: Plan, predictions: Sequence[Prediction], scored: Sequence[ScoredAttack]) -> Plan:
    """The plan of the further folds; the plan itself if it keeps all.

    Args:
        plan: of the first fold.
        predictions: of the first fold.
        scored: the same, scored.
    """
    if not plan.survivors:
        return plan
    going = going_on(predictions, scored, plan.survivors)
    names = {one.attack for one in going}
    if "provider" in names and plan.rounds > 1:
        names.add("probe")  # a copy of the cloud network plays in the tournament of the probes
    networks = [one for one in going if one.lr is not None]
    probes = {one.architecture for one in networks if one.attack == "probe"}
    finetune = any(one.attack == "provider" for one in networks)
    stages = {one.architecture for one in going if one.attack == "provider" and one.lr is None}
    references = clean_references(predictions, scored)
    return plan.model_copy(
        update={
            "attacks": tuple(name for name in plan.attacks if name in (*ALWAYS, *names)),
            "probes": tuple(name for name in plan.probes if name in probes),
            "from_clean": plan.from_clean and "from clean" in probes,
            "finetune": finetune,
            "stages": tuple(sorted(stages)),
            "clean_probes": tuple(name for name in plan.clean_probes if name in references),
            "clean_finetune": plan.clean_finetune and "finetune" in references,
        }
    )


def clean_references(predictions: Sequence[Prediction], scored: Sequence[ScoredAttack]) -> set[str]:
    """Networks on clean photos that go on: of every attribute the best on validation, and the best that is not fine-tuned.

    The latter is what reads restored and drawn photos.
    """
    clean = [
        (one, found)
        for one, found in zip(predictions, scored, strict=True)
        if one.input == "clean images" and not one.early
    ]
    chosen = set[str]()
    for name in {one.attribute for one, _ in clean}:
        mine = [found for one, found in clean if one.attribute == name]
        small = [found for found in mine if found.result.architecture != "finetune"]
        chosen |= {best_attack(each).result.architecture for each in (mine, small) if each}
    return chosen
