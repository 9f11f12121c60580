"""The audit: fresh attackers against a frozen defence, and what they found.

    audit = run_audit(load_run(folder), attacks="quick")     # also writes folder/audit.json and
    folder/report.html

The defence is finished before the first attacker starts; attackers have a data split of their own; the
strongest one on validation is reported on test, against what could be guessed without the upload
(docs/decisions/0004-audit.md).
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from sfumato.audit import metrics, report, upload_size
from sfumato.audit.artifact import Artifact
from sfumato.audit.attack_data import Evidence, batches
from sfumato.audit.attacks import create, create_plan, prepare
from sfumato.audit.attacks.ensemble import combine
from sfumato.audit.attacks.output import cloud_answers
from sfumato.audit.attribute_selection import Chosen, choose
from sfumato.audit.bounds import bound_information
from sfumato.audit.cross_fitting import pool, turn
from sfumato.audit.pass_rule import averaging, fold_statements, shortfalls, spread_statements, statements
from sfumato.audit.plan import Plan
from sfumato.audit.predictions import Answer, Ints, Restoration, Step
from sfumato.audit.schema import Attribute, Audit, Desired, RateBits, Reidentification, Restored
from sfumato.audit.scoring import Judged, conclude, judge, winner
from sfumato.audit.seed_spread import over_seeds
from sfumato.core.errors import UsageError
from sfumato.core.files import write_json
from sfumato.core.memory import keep_freed_memory

Watch = Callable[[int, int, str, str], None]
"""Called before each piece of work and at the end: done, total, title, best attacks so far."""


def silent(done: int, total: int, title: str, best: str) -> None:
    """A `Watch` that says nothing."""


def desired_rows(artifact: Artifact, evidence: Evidence) -> tuple[Desired, ...]:
    """Accuracy of the cloud on the test uploads, per desired attribute."""
    answers = cloud_answers(evidence.cloud, batches(evidence.test_uploads), evidence.keep)
    rows = []
    for name, log_probabilities in answers.items():
        hits = log_probabilities.argmax(1) == evidence.test.labels[name]
        rows.append(
            Desired(
                name=name,
                classes=evidence.classes[name],
                accuracy=float(hits.mean()),
                clean_accuracy=artifact.clean_accuracy[name],
                ci95=metrics.accuracy_interval(hits, seed=evidence.seed).pair(),
            )
        )
    return tuple(rows)


def rate_bits(evidence: Evidence) -> RateBits:
    """Mean, 95th percentile and maximum of the rate over the test images, in bits."""
    bits = evidence.rate.double().numpy() / np.log(2)
    return RateBits(mean=float(bits.mean()), p95=float(np.percentile(bits, 95)), max=float(bits.max()))


def named(watch: Watch, what: str, number: int, count: int) -> Watch:
    """A `Watch` whose titles tell which of several seeds or folds is at work."""
    if count == 1:
        return watch
    return lambda done, total, title, best: watch(done, total, f"{what} {number}: {title}", best)


def so_far(judged: Sequence[Judged], names: Sequence[str]) -> str:
    """The current best attack on every attribute, for the progress bar."""
    parts = []
    for name in names:
        mine = [j for j in judged if j.row.attribute == name and j.row.on == "uploads"]
        if mine:
            best = winner(mine).row
            parts.append(f"{name} {best.val_accuracy:.1%} ({best.architecture})")
    return ", ".join(parts)


def attack(
    evidence: Evidence, plan: Plan, groups: tuple[tuple[str, ...], ...], watch: Watch
) -> tuple[list[Judged], list[Restoration]]:
    """Run every attack of the plan; all answers judged, and what was restored. Without groups there is nothing to run."""
    if not groups:
        return [], []
    names = [name for group in groups for name in group]
    steps: list[Step] = [step for name in plan.attacks for step in create(name)(evidence, plan, groups)]
    answers: list[Answer] = []
    judged: list[Judged] = []
    restored: list[Restoration] = []
    for done, step in enumerate(steps):
        watch(done, len(steps), step.title, so_far(judged, names))
        found = step.run()
        fresh = [one for one in found if isinstance(one, Answer)]
        answers += fresh
        judged += [judge(answer, evidence) for answer in fresh]
        restored += [one for one in found if isinstance(one, Restoration)]
    for name in names:
        together = combine([answer for answer in answers if answer.attribute == name], evidence)
        judged.append(judge(together, evidence))
    watch(len(steps), len(steps), "done", so_far(judged, names))
    return judged, restored


@dataclass(frozen=True)
class Found:
    """What one seed's attackers found: over all folds in `judged` and `attributes`, of the first fold in the rest."""

    evidence: Evidence
    judged: list[Judged]
    restored: list[Restoration]
    desired: tuple[Desired, ...]
    attributes: tuple[Attribute, ...]
    attacked: int
    """Test images of all folds."""


def attack_once(
    artifact: Artifact, plan: Plan, chosen: Chosen, seed: int, watch: Watch, folds: int = 1
) -> Found:
    """All attacks of a plan under one seed, in every fold (`sfumato.audit.cross_fitting`); none if nothing was chosen."""
    every: list[list[Judged]] = []
    truths: list[Mapping[str, Ints]] = []
    copies = plan.copies if chosen.names else 1
    # Backwards, so that only the first fold's evidence, which the report shows, is kept to the end.
    for number, turned in reversed(list(enumerate(turn(artifact, folds)))):
        follow = named(watch, "fold", number + 1, folds)
        follow(0, 1, "uploads", "")
        evidence = prepare(turned, chosen.names, copies=copies, seed=seed)
        judged, restored = attack(evidence, plan, chosen.groups(separate=plan.separate), follow)
        every.insert(0, judged)
        truths.insert(0, evidence.test.labels)
    together = pool(every)
    labels = {name: np.concatenate([truth[name] for truth in truths]) for name in evidence.test.labels}
    attributes = tuple(
        conclude(
            name,
            together,
            labels[name],
            classes=evidence.classes[name],
            declared=name in chosen.declared,
            seed=seed,
        )
        for name in chosen.names
    )
    attacked = len(labels[artifact.keep[0]])
    return Found(evidence, together, restored, desired_rows(artifact, evidence), attributes, attacked)


def restored_rows(restored: Sequence[Restoration]) -> tuple[Restored, ...]:
    """Restorations without their pictures."""
    return tuple(
        Restored(
            restorer=one.restorer,
            pairs=one.pairs,
            psnr=one.psnr,
            ssim=one.ssim,
            reidentification=None
            if one.identity is None
            else Reidentification.model_validate(asdict(one.identity)),
        )
        for one in restored
    )


def run_audit(
    artifact: Artifact,
    *,
    attacks: str | Plan = "quick",
    attributes: Sequence[str] | None = None,
    seed: int = 0,
    seeds: int = 1,
    folds: int = 1,
    out: Path | None = None,
    watch: Watch = silent,
) -> Audit:
    """Attack an artifact, write `audit.json` and `report.html`, and return the audit.

    Args:
        artifact: the frozen defence, float or int8.
        attacks: `quick`, `default`, `full`, or a plan.
        attributes: what to attack; by default the declared ones and all others with labels.
        seed: decides noise, initial weights and resamples.
        seeds: how many audits, under `seed`, `seed + 1` and so on. The figures are those of the first; the others
            give the spread, and the artifact passes only if it passes under every seed.
        folds: how often attackers are trained anew, each time to be judged on other images that the defence never saw:
            with 3 there are more than twice as many as in the test split (`sfumato.audit.cross_fitting`). Everything but the
            attacks is measured on the test split.
        out: folder for the two files; by default the artifact's own.
        watch: told about progress.

    Raises:
        UsageError: an unknown plan, no seed, no fold, or attributes that are kept or cannot be attacked.
        DataError: an unknown attribute, or so many folds that one has too few images.
    """
    keep_freed_memory()
    started = time.monotonic()
    plan = create_plan(attacks) if isinstance(attacks, str) else attacks
    chosen = choose(artifact, attributes)
    if seeds < 1:
        raise UsageError(f"an audit needs at least one seed, not {seeds}")
    if folds < 1:
        raise UsageError(f"an audit needs at least one fold, not {folds}")
    tried = tuple(range(seed, seed + seeds))
    every: list[tuple[Attribute, ...]] = []
    further: list[str] = []
    # Backwards, so that only the first seed's evidence, which the report shows, is kept to the end.
    for each in reversed(tried):
        found = attack_once(artifact, plan, chosen, each, named(watch, "seed", each, seeds), folds)
        every.insert(0, found.attributes)
        if each != seed:
            further = [f"seed {each}: {why}" for why in shortfalls(found.desired, found.attributes)] + further
    rate, information = rate_bits(found.evidence), bound_information(found.evidence)
    reasons = (*shortfalls(found.desired, found.attributes), *further)
    spreads = over_seeds(every) if seeds > 1 else ()
    result = Audit(
        artifact=artifact.kind,
        n_test=found.evidence.test.images,
        desired=found.desired,
        rate_bits=rate,
        information_bits=information,
        upload_bytes=upload_size.measure(
            found.evidence.channel, found.evidence.test.pixels, found.evidence.test_uploads
        ),
        attributes=found.attributes,
        attacks=tuple(j.row for j in found.judged),
        passed=not reasons,
        reasons=reasons,
        statements=(
            *statements(found.attributes, rate, information),
            *averaging(found.attributes, [j.row for j in found.judged]),
            *spread_statements(spreads, len(tried)),
            *fold_statements(folds, found.attacked, found.evidence.test.images),
        ),
        left_out=chosen.left_out,
        restored=restored_rows(found.restored),
        seeds=tried if seeds > 1 else (),
        over_seeds=spreads,
        folds=folds,
        n_attacked=found.attacked,
        plan=plan.name,
        seed=seed,
        dataset=artifact.dataset.id,
        data_spec=artifact.dataset.spec,
        keep=artifact.keep,
        channel=artifact.channel.name,
        seconds=round(time.monotonic() - started, 1),
    )
    folder = artifact.folder if out is None else out
    write_json(folder / "audit.json", result.to_json())
    report.write(result, found.evidence, artifact.folder, folder / "report.html", found.restored)
    return result
