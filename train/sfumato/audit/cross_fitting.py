"""Cross-fitting: every image that training never saw is a test image once.

A small test split resolves a leak coarsely: of 1,600 images, half a point of accuracy is eight. The model has seen the
attacker's images as little as the test images, so they can change places. The first fold is the ordinary audit. Each further
fold tests on a part of the attacker's split and lets the attackers learn from all the rest, test images included. Every
attack is trained anew in every fold and tested once on every image, so its answers count together (cross-fitting,
Chernozhukov et al., 2018; cross-validation of the attacker).

    for artifact in rotate(artifact, folds=3): ...
    scored = pool([scored_in_fold_0, scored_in_fold_1, scored_in_fold_2])
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np

from sfumato.audit.artifact import Artifact
from sfumato.audit.metrics import Answers
from sfumato.audit.scoring import ScoredAttack
from sfumato.data import Dataset, Split
from sfumato.data.splits import assign, check_sizes, sort_keys, stratified_order

MEANS = (
    "val_accuracy",
    "accuracy",
    "balanced_accuracy",
    "auc",
    "cross_entropy_bits",
    "temperature",
    "train_auc",
)


def rotate(artifact: Artifact, folds: int) -> list[Artifact]:
    """The artifact as it is, and with attacker and test images in other roles.

    Args:
        artifact: any dataclass that is an artifact.
        folds: at least 1; the first is the artifact itself.

    Raises:
        DataError: a fold's test images would be too few.
    """
    further = [
        replace(cast(Any, artifact), dataset=dataset) for dataset in rotated_datasets(artifact.dataset, folds)
    ]
    return [artifact, *further]


def rotated_datasets(dataset: Dataset, folds: int) -> list[Dataset]:
    """The data set of every fold but the first: the attacker's split cut into `folds - 1` test splits.

    Labels are spread evenly, and a person stays in one part, unless persons are in both splits already, as they must be where
    who is shown is itself kept or hidden. Copies of one picture may fall into two: that helps attackers.
    """
    if folds == 1:
        return []
    attacker, test = dataset.splits[Split.ATTACKER], dataset.splits[Split.TEST]
    count = len(dataset)
    order = stratified_order(sort_keys(list(dataset.attributes.values()), dataset.labels), count, seed=0)
    rows = order[np.isin(order, attacker)]
    groups = np.arange(count)
    if dataset.identity is not None:
        persons = dataset.labels[dataset.identity]
        groups = groups if np.isin(persons[attacker], persons[test]).any() else persons
    out = []
    for part in assign(groups[rows], rows, dict.fromkeys(range(folds - 1), 1.0)).values():
        rest = np.sort(np.concatenate([np.setdiff1d(attacker, part), test]))
        splits = {**dataset.splits, Split.ATTACKER: rest, Split.TEST: part}
        check_sizes(splits)
        out.append(replace(dataset, splits=splits))
    return out


def pool(folds: Sequence[Sequence[ScoredAttack]]) -> tuple[list[ScoredAttack], list[ScoredAttack]]:
    """The attacks that ran in all folds as one list: answers about all images, figures as means weighted by images.

    Args:
        folds: attacks of each, in any order: networks leave a tournament as they lose. The further folds hold the same ones,
            all of the first fold's or some.

    Returns:
        The attacks of all folds, and those that ran in the first one alone.

    Raises:
        ValueError: a further fold holds an attack that the first one lacks, or another than the rest.
    """
    first, *further = folds
    if not further:
        return list(first), []
    placed = [dict(zip(_places(first, fold), fold, strict=True)) for fold in further]
    if any(fold.keys() != placed[0].keys() for fold in placed):
        raise ValueError("the further folds hold different attacks")
    stayed = sorted(placed[0])
    merged = [_merge([first[place], *(fold[place] for fold in placed)]) for place in stayed]
    return merged, [_sized(one) for index, one in enumerate(first) if index not in placed[0]]


def _places(first: Sequence[ScoredAttack], further: Sequence[ScoredAttack]) -> list[int]:
    """Where each attack of a further fold stands in the first one.

    Attacks of one name are told apart by architecture and rate. An architecture may say what an attack chose on validation, so
    it can differ from fold to fold: where as many are not the same, their order counts.
    """
    before, after = _by_name(first), _by_name(further)
    place: dict[int, int] = {}
    for name, there in after.items():
        here = before.get(name, [])
        known = {(first[index].result.architecture, first[index].result.lr): index for index in here}
        asked = {(further[index].result.architecture, further[index].result.lr) for index in there}
        if len(here) == len(there) and (known.keys() != asked or len(known) < len(here)):
            place |= dict(zip(there, here, strict=True))
            continue
        for index in there:
            result = further[index].result
            if (result.architecture, result.lr) not in known:
                raise ValueError(f"different attacks in one place: {result.attack} ({result.architecture})")
            place[index] = known[result.architecture, result.lr]
    return [place[index] for index in range(len(further))]


def _by_name(scored: Sequence[ScoredAttack]) -> dict[tuple[str, str, str], list[int]]:
    found: dict[tuple[str, str, str], list[int]] = {}
    for index, one in enumerate(scored):
        found.setdefault((one.result.attack, one.result.attribute, one.result.input), []).append(index)
    return found


def _sized(one: ScoredAttack) -> ScoredAttack:
    """The same attack, whose result says on how many images it was tested."""
    return replace(one, result=one.result.model_copy(update={"images": len(one.answers.balanced)}))


def _merge(same: Sequence[ScoredAttack]) -> ScoredAttack:
    results = [one.result for one in same]
    if len({(one.attack, one.attribute, one.input) for one in results}) != 1:
        raise ValueError(f"different attacks in one place: {', '.join(one.attack for one in results)}")
    weights = [len(one.answers.balanced) for one in same]
    figures: dict[str, Any] = {
        "architecture": " or ".join(dict.fromkeys(one.architecture for one in results))
    }
    for name in MEANS:
        values = [getattr(one, name) for one in results]
        figures[name] = None if None in values else float(np.average(values, weights=weights))
    # An attack that learnt nothing in one fold is suspect in all.
    figures["note"] = next((one.note for one in results if one.note is not None), None)
    figures["images"] = int(sum(weights))
    return ScoredAttack(
        result=results[0].model_copy(update=figures),
        answers=Answers(
            np.concatenate([one.answers.log_probabilities for one in same]),
            np.concatenate([one.answers.ranking for one in same]),
            np.concatenate([one.answers.balanced for one in same]),
        ),
        # The validation images are the same in every fold: they count once.
        validation_loss=float(np.mean([one.validation_loss for one in same])),
        validation_uploads=same[0].validation_uploads,
    )
