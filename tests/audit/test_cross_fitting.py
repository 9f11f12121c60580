"""Cross-fitting: every image that training never saw is tested once, by attackers that did not learn from it."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from sfumato.audit import audit
from sfumato.audit.cross_fitting import pool, rotate, rotated_datasets
from sfumato.audit.metrics import Answers
from sfumato.audit.plan import QUICK
from sfumato.audit.schema import AttackResult
from sfumato.audit.scoring import ScoredAttack
from sfumato.core.errors import DataError, UsageError
from sfumato.data import Attribute, Split

Make = Callable[..., Any]
TINY = QUICK.model_copy(
    update={
        "probes": ("linear",),
        "clean_probes": ("cnn",),
        "epochs": 8,
        "clean_epochs": 6,
        "steps": 1,
        "clean_steps": 1,
        "prior_steps": 10,
    }
)


def result(**changes: Any) -> AttackResult:
    values: dict[str, Any] = {
        "attack": "probe",
        "architecture": "cnn",
        "lr": 1e-3,
        "attribute": "tone",
        "epochs": 3,
        "val_accuracy": 0.5,
        "accuracy": 0.5,
        "balanced_accuracy": 0.5,
        "auc": 0.5,
    }
    return AttackResult(**{**values, **changes})


def scored(hits: list[bool], **changes: Any) -> ScoredAttack:
    guesses = np.where(hits, 1, 0)
    logs = np.log(np.where(np.eye(2, dtype=bool)[guesses], 0.9, 0.1))
    return ScoredAttack(
        result(accuracy=float(np.mean(hits)), **changes), Answers(logs, logs, guesses), 1.0, 200
    )


def test_the_first_fold_is_the_ordinary_audit(make: Make) -> None:
    artifact = make("noise")
    assert rotate(artifact, 1) == [artifact]
    assert rotate(artifact, 3)[0] is artifact


def test_every_unseen_image_is_tested_once_and_never_learnt_from_in_that_fold(make: Make) -> None:
    artifact = make("noise")
    whole = artifact.dataset.splits
    folds = [one.dataset.splits for one in rotate(artifact, 4)]
    tested = np.concatenate([splits[Split.TEST] for splits in folds])
    unseen = np.concatenate([whole[Split.ATTACKER], whole[Split.TEST]])
    assert np.array_equal(np.sort(tested), np.sort(unseen))
    for splits in folds:
        together = np.concatenate([splits[Split.ATTACKER], splits[Split.TEST]])
        assert np.array_equal(np.sort(together), np.sort(unseen))
        for split in (Split.DEFENDER, Split.VALIDATION):
            assert np.array_equal(splits[split], whole[split])


def test_labels_are_dealt_evenly_and_persons_stay_together(make: Make) -> None:
    dataset = make("noise").dataset
    shares = [
        d.counts("tone", Split.TEST)[0] / len(d.splits[Split.TEST]) for d in rotated_datasets(dataset, 3)
    ]
    assert np.ptp(shares) < 0.02
    count = len(dataset)
    persons = np.arange(count) // 3
    known = replace(
        dataset,
        labels={**dataset.labels, "person": persons},
        attributes={
            **dataset.attributes,
            "person": Attribute(name="person", classes=tuple(map(str, range(count)))),
        },
        identity="person",
    )
    first, second = (set(persons[d.splits[Split.TEST]]) for d in rotated_datasets(known, 3))
    assert not first & second


def test_persons_who_are_in_both_splits_stay_in_both(make: Make) -> None:
    """Where who is shown is itself attacked, attackers must have seen everybody they are asked about."""
    dataset = make("noise").dataset
    persons = np.arange(len(dataset)) % 6
    known = replace(
        dataset,
        identity="who",
        labels={**dataset.labels, "who": persons},
        attributes={**dataset.attributes, "who": Attribute(name="who", classes=tuple("abcdef"))},
    )
    for fold in rotated_datasets(known, 3):
        assert (
            set(persons[fold.splits[Split.TEST]])
            == set(persons[fold.splits[Split.ATTACKER]])
            == set(range(6))
        )


def test_pooling_counts_images_not_folds() -> None:
    a = scored([True, False], val_accuracy=0.4, train_auc=0.6)
    b = scored([True, True, True, False, True, False], val_accuracy=0.8, train_auc=0.9, note="learnt nothing")
    (one,), left = pool([[a], [b]])
    assert (left, one.result.images) == ([], 8)
    hits = [True, False, True, True, True, False, True, False]
    assert one.answers.guesses.astype(bool).tolist() == hits
    assert one.answers.balanced.astype(bool).tolist() == hits
    assert one.answers.ranking.shape == (8, 2)
    assert (one.validation_loss, one.validation_uploads) == (1.0, 200)
    assert one.result.accuracy == pytest.approx(np.mean(hits))
    assert one.result.val_accuracy == pytest.approx((2 * 0.4 + 6 * 0.8) / 8)
    assert one.result.note == "learnt nothing"
    (without,), _ = pool([[scored([True])], [b]])
    assert without.result.train_auc is None
    assert pool([[a, b]]) == ([a, b], [])


def test_what_an_attack_chose_may_differ_between_folds() -> None:
    (one,), _ = pool(
        [[scored([True], architecture="posterior")], [scored([True], architecture="posterior, mirrored")]]
    )
    assert one.result.architecture == "posterior or posterior, mirrored"


def test_pooling_refuses_to_mix_attacks() -> None:
    with pytest.raises(ValueError, match="different attacks"):
        pool([[scored([True])], [scored([True], attack="provider")]])
    with pytest.raises(ValueError):
        pool([[scored([True])], [scored([True])], []])
    two = [scored([True], architecture=name) for name in ("cnn", "vit")]
    with pytest.raises(ValueError, match="resnet"):
        pool([two, [scored([True], architecture="resnet")]])


def test_networks_that_leave_a_tournament_in_another_order_are_pooled_with_themselves() -> None:
    names = [("probe", "cnn"), ("provider", "finetune"), ("probe", "vit")]
    folds = [
        [scored([True], attack=names[index][0], architecture=names[index][1]) for index in order]
        for order in ((0, 1, 2), (2, 0, 1), (1, 2, 0))
    ]
    both, left = pool(folds)
    assert [(one.result.attack, one.result.architecture) for one in both] == names
    assert left == []
    assert all(one.result.images == 3 for one in both)


def test_an_attack_that_left_after_the_first_fold_keeps_its_figures() -> None:
    first = [scored([True, False], architecture=name) for name in ("cnn", "vit", "resnet")]
    further = [[scored([True] * 3, architecture=name) for name in ("resnet", "cnn")] for _ in range(2)]
    both, left = pool([first, *further])
    assert [(one.result.architecture, one.result.images) for one in both] == [("cnn", 8), ("resnet", 8)]
    assert [(one.result.architecture, one.result.images) for one in left] == [("vit", 2)]
    assert left[0].answers is first[1].answers


def test_an_audit_in_folds_narrows_the_interval_and_still_finds_a_planted_bit(make: Make) -> None:
    artifact = make("noise")
    plain, folded = (audit(artifact, attacks=TINY, folds=folds) for folds in (1, 2))
    unseen = sum(len(artifact.dataset.splits[split]) for split in (Split.ATTACKER, Split.TEST))
    assert (folded.folds, folded.n_attack_test, folded.n_test) == (2, unseen, plain.n_test)
    assert plain.n_attack_test == plain.n_test
    assert folded.desired == plain.desired
    width = [np.ptp(one.attributes[0].best.ci95) for one in (plain, folded)]
    assert width[1] < 0.8 * width[0]
    assert any(f"tested on {unseen} images" in statement for statement in folded.statements)
    assert f"attackers tested on {unseen} in 2 folds" in (artifact.folder / "report.html").read_text(
        encoding="utf-8"
    )
    (tone,) = audit(make("planted"), attacks=TINY, folds=2).attributes
    assert tone.best.accuracy > 0.9


def test_bad_folds_are_refused(make: Make) -> None:
    with pytest.raises(UsageError, match="at least one fold"):
        audit(make("noise"), attacks=TINY, folds=0)
    with pytest.raises(DataError, match="test split has"):
        audit(make("noise"), attacks=TINY, folds=500)
