"""The audit: fresh attackers against a frozen defence, and what they found.

    audit = run_audit(load_run(folder), attacks="quick")     # also writes folder/audit.json and
    folder/report.html

The defence is finished before the first attacker starts; attackers have a data split of their own; the
strongest one on validation is reported on test, against what could be guessed without the upload
(docs/decisions/0004-audit.md).
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from sfumato import metrics, report, upload_size
from sfumato.artifact import Artifact
from sfumato.attacks import create, create_plan, prepare
from sfumato.attacks.answer import Answer, Step
from sfumato.attacks.ensemble import combine
from sfumato.attacks.evidence import Evidence, batches
from sfumato.attacks.output import cloud_answers
from sfumato.attacks.plan import Plan
from sfumato.audit_schema import Audit, Desired, RateBits
from sfumato.audit_selection import choose
from sfumato.files import write_json
from sfumato.information import bound_information
from sfumato.judge import Judged, conclude, judge, winner
from sfumato.verdict import shortfalls, statements

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


def so_far(judged: Sequence[Judged], names: Sequence[str]) -> str:
    """The current best attack on every attribute, for the progress bar."""
    parts = []
    for name in names:
        mine = [j for j in judged if j.row.attribute == name and j.row.on == "uploads"]
        if mine:
            best = winner(mine).row
            parts.append(f"{name} {best.val_accuracy:.1%} ({best.architecture})")
    return ", ".join(parts)


def attack(evidence: Evidence, plan: Plan, groups: tuple[tuple[str, ...], ...], watch: Watch) -> list[Judged]:
    """Run every attack of the plan and judge all answers."""
    names = [name for group in groups for name in group]
    steps: list[Step] = [step for name in plan.attacks for step in create(name)(evidence, plan, groups)]
    answers: list[Answer] = []
    judged: list[Judged] = []
    for done, step in enumerate(steps):
        watch(done, len(steps), step.title, so_far(judged, names))
        found = step.run()
        answers += found
        judged += [judge(answer, evidence) for answer in found]
    for name in names:
        together = combine([answer for answer in answers if answer.attribute == name], evidence)
        judged.append(judge(together, evidence))
    watch(len(steps), len(steps), "done", so_far(judged, names))
    return judged


def run_audit(
    artifact: Artifact,
    *,
    attacks: str | Plan = "quick",
    attributes: Sequence[str] | None = None,
    seed: int = 0,
    out: Path | None = None,
    watch: Watch = silent,
) -> Audit:
    """Attack an artifact, write `audit.json` and `report.html`, and return the audit.

    Args:
        artifact: the frozen defence, float or int8.
        attacks: `quick`, `default`, or a plan.
        attributes: what to attack; by default the declared ones and all others with labels.
        seed: decides noise, initial weights and resamples.
        out: folder for the two files; by default the artifact's own.
        watch: told about progress.

    Raises:
        UsageError: an unknown plan, or attributes that are kept or cannot be attacked.
        DataError: an unknown attribute.
    """
    started = time.monotonic()
    plan = create_plan(attacks) if isinstance(attacks, str) else attacks
    chosen = choose(artifact, attributes)
    watch(0, 1, "uploads", "")
    evidence = prepare(artifact, chosen.names, copies=plan.copies, seed=seed)
    judged = attack(evidence, plan, chosen.groups(separate=plan.separate), watch)
    desired = desired_rows(artifact, evidence)
    rate, information = rate_bits(evidence), bound_information(evidence)
    found = tuple(conclude(name, judged, evidence, declared=name in chosen.declared) for name in chosen.names)
    reasons = shortfalls(desired, found)
    result = Audit(
        artifact=artifact.kind,
        n_test=evidence.test.images,
        desired=desired,
        rate_bits=rate,
        information_bits=information,
        upload_bytes=upload_size.measure(evidence.channel, evidence.test.pixels, evidence.test_uploads),
        attributes=found,
        attacks=tuple(j.row for j in judged),
        passed=not reasons,
        reasons=reasons,
        statements=statements(found, rate, information),
        left_out=chosen.left_out,
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
    report.write(result, evidence, artifact.folder, folder / "report.html")
    return result
