"""Many simulated audits of every kind of leak, decided by the shipped code; and a few with attackers that really learn.

row = run_case(case, images=3500, audits=100)
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from studies.planted_leaks.simulation import (
    NAME,
    VALIDATION,
    VALIDATION_IN_FOLDS,
    Case,
    SeenBy,
    Unit,
    entropy,
    in_folds,
    make_world,
    predicted_in_folds,
    simulate,
)

from sfumato.audit.attack_data import AttackData, AttackSplit
from sfumato.audit.attacks.ensemble import combine
from sfumato.audit.cross_fitting import pool
from sfumato.audit.floors import population
from sfumato.audit.pass_rule import judge
from sfumato.audit.plan import DEFAULT
from sfumato.audit.positive_control import positive_control
from sfumato.audit.scoring import ScoredAttack, attribute_result, score
from sfumato.audit.screening import going_on
from sfumato.channels import create
from sfumato.data.intervals import clopper_pearson
from sfumato.models.cloud import ResNet

NAG = 0.08
PREVALENCES = (0.5, 0.1, 0.03, 0.01)
CLASSES = (5, 20)
BITS = (0.03, 0.1, 0.3, 1.0)
MOST = 0.95
"""No more than this share of an attribute's entropy can be asked to leak."""
SIZE = 32

Watch = Callable[[int, int, str], None]


def cases() -> list[Case]:
    """All kinds of leaks: the goal's first (no leak, NAG 8 %), then the bits."""
    kinds = [(2, prevalence) for prevalence in PREVALENCES] + [(count, 1 / count) for count in CLASSES]
    goal: tuple[tuple[float, Unit, SeenBy], ...] = (
        (0.0, "bits", "one"),
        (NAG, "nag", "one"),
        (NAG, "nag", "many"),
    )
    first = [Case(k, p, leak, unit, seen) for k, p in kinds for leak, unit, seen in goal]
    seers: tuple[SeenBy, ...] = ("one", "many")
    rest = [
        Case(k, p, bits, "bits", seen)
        for k, p in kinds
        for bits in BITS
        for seen in seers
        if bits <= MOST * entropy(Case(k, p, 0.0, "bits", "one").prior)
    ]
    return first + rest


def decide(case: Case, images: int, seed: int, folds: int = 1, survivors: int = 0) -> tuple[str, float]:
    """One simulated audit: the verdict, and the NAG in accuracy that it measured.

    Args:
        case: the leak.
        images: test images of all folds together.
        seed: of the audit.
        folds: in which they are tested.
        survivors: attacks that go on from the first fold; 0: all.
    """
    world = make_world(case, images, seed, VALIDATION if folds == 1 else VALIDATION_IN_FOLDS)
    data = world.data
    by_fold: list[list[ScoredAttack]] = []
    chosen: set[str] | None = None
    told = predicted_in_folds(data, simulate(world, case, seed), folds)
    for fold, predictions in zip(in_folds(data, folds), told, strict=True):
        running = [one for one in predictions if chosen is None or one.clean or one.attack in chosen]
        scored = [score(one, fold) for one in running]
        if survivors and chosen is None:
            chosen = {one.attack for one in going_on(running, scored, survivors)}
        ensemble = combine([one for one in running if not one.clean], fold)
        by_fold.append([*scored, score(ensemble, fold)])
    scored, _ = pool(by_fold)
    known = np.concatenate([world.defender, data.train.labels[NAME]])
    result = attribute_result(
        NAME,
        scored,
        data.test.labels[NAME],
        np.zeros(data.test.images, np.int64),
        population(known, np.zeros(len(known), np.int64), case.classes, 1),
        declared=True,
        seed=seed,
    )
    return judge((), (result,), images=images).verdict, result.nag_label_only


def run_case(case: Case, images: int, audits: int, folds: int = 1, survivors: int = 0) -> dict[str, Any]:
    """Shares of verdicts over many audits of one kind of leak; as `decide`."""
    verdicts, gains = zip(
        *(decide(case, images, seed, folds, survivors) for seed in range(audits)), strict=True
    )
    called, passed = verdicts.count("not_passed"), verdicts.count("passed")
    return {
        **asdict(case),
        "audits": audits,
        "called": called / audits,
        "called_ci95": clopper_pearson(called, audits, 0.975),
        "passed": passed / audits,
        "no_verdict": (audits - called - passed) / audits,
        "not_green": 1 - passed / audits,
        "mean_nag": float(np.mean(gains)),
    }


def real_data(photos: int, seed: int, *, textured: bool) -> AttackData:
    """Attack data of a made channel: an answer in a third of the picture; and faint texture, different for every photo.

    Args:
        photos: of the attacker; half as many for validation and for test.
        seed: decides everything.
        textured: with texture an upload tells hundreds of bits, without it one.
    """
    generator = torch.Generator().manual_seed(seed)
    channel = create("dither", levels=2)

    def split(count: int) -> AttackSplit:
        answer = torch.randint(2, (count,), generator=generator)
        p = torch.full((count, 3, SIZE, SIZE), 0.5)
        p[:, :, : SIZE // 3] += 0.02 * (2 * answer.float() - 1)[:, None, None, None]
        if textured:
            coarse = torch.rand(count, 3, 8, 8, generator=generator) - 0.5
            p += 0.6 * torch.nn.functional.interpolate(coarse, size=(SIZE, SIZE), mode="bilinear")
        return AttackSplit(
            pixels=np.zeros((count, SIZE, SIZE, 3), np.uint8),
            parameters={"p": p.clamp(0.02, 0.98).half()},
            labels={"answer": answer.numpy()},
            images=count,
        )

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        cloud = ResNet({"answer": 2}, widths=(8, 16, 32)).eval()
    return AttackData(
        channel=channel,
        cloud=cloud,
        keep=("answer",),
        classes={"answer": 2},
        size=(SIZE, SIZE),
        train=split(photos),
        validation=split(photos // 2),
        test=split(photos // 2),
        rate=torch.zeros(photos // 2),
        seed=seed,
    )


def run_real(audits: int, photos: int, watch: Watch) -> list[dict[str, Any]]:
    """The positive control of many made channels: what real attackers find of a planted NAG of 8 %."""
    rows = []
    for textured in (False, True):
        found = []
        for seed in range(audits):
            watch(seed, audits, f"real attackers, {'picture' if textured else 'answer'}")
            control = positive_control(real_data(photos, seed, textured=textured), DEFAULT, NAG)
            assert control is not None
            found.append(control)
        passed = sum(one.passed for one in found)
        rows.append(
            {
                "channel": "picture" if textured else "answer",
                "photos": photos,
                "audits": audits,
                "planted_nag": found[0].planted_nag,
                "mean_found_nag": float(np.mean([one.found_nag for one in found])),
                "found": passed / audits,
                "found_ci95": clopper_pearson(passed, audits, 0.975),
                "attacks": sorted({one.attack for one in found}),
            }
        )
    return rows


def key(case: Mapping[str, Any]) -> str:
    """A name of a kind of leak, to find it among those that are done."""
    return f"{case['classes']} classes, {case['prevalence']:.3g}: {case['leak']:g} {case['unit']}, {case['seen_by']}"
