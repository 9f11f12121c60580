"""The audit of answer mode: contingency tables in place of attackers on uploads.

    result = audit_answer(artifact, plan, selection, seed=0)

Attackers are trained on clean photos alone: their accuracy is the scale of NAG. What the word tells is counted
(`sfumato.audit.exact_answer`), so nothing hinges on how hard somebody tried.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from math import log, log2
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from sfumato.audit import metrics
from sfumato.audit.artifact import Artifact
from sfumato.audit.attack_data import AttackData, build_attack_data
from sfumato.audit.attacks import create
from sfumato.audit.attribute_selection import Selection
from sfumato.audit.basis import describe_basis
from sfumato.audit.exact_answer import AnswerArtifact, AnswerLeak, exact_leaks
from sfumato.audit.pass_rule import DEFAULT, judge
from sfumato.audit.plan import Plan
from sfumato.audit.predictions import Ints, Prediction
from sfumato.audit.schema import Audit, DesiredResult, RateBits, Rule, UploadBytes
from sfumato.audit.scoring import ScoredAttack, best_attack, score
from sfumato.audit.statements import exact_statements
from sfumato.audit.upload_size import upload_bytes
from sfumato.core.provenance import provenance
from sfumato.data import Split
from sfumato.data.truth import truth
from sfumato.runtime.answer import word_size
from sfumato.training.answer import told_bits
from sfumato.training.answer_table import AnswerTable

Watch = Callable[[int, int, str, str], None]
"""As in `sfumato.audit.runner`."""


class Answering(Artifact, AnswerArtifact, Protocol):
    """A run or an export of answer mode, with all that the report shows."""


def audit_answer(
    artifact: Answering,
    plan: Plan,
    selection: Selection,
    *,
    seed: int = 0,
    rule: Rule = DEFAULT,
    command: str = "",
    watch: Watch | None = None,
    asked: Sequence[str] | None = None,
) -> tuple[Audit, AttackData]:
    """Judge an artifact of answer mode.

    Args:
        artifact: the frozen model, float or int8.
        plan: says how attackers on clean photos are trained.
        selection: which attributes.
        seed: of their weights, and of the resamples.
        rule: the thresholds of the verdict.
        command: the command line, for the report.
        watch: told about progress.
        asked: the attributes that were asked for by name, as they were given.

    Returns:
        The audit, and the images that its report shows.
    """
    started, told = time.monotonic(), watch or (lambda done, total, title, best: None)
    told(0, 1, "words", "")
    data = build_attack_data(artifact, selection.names, copies=1, seed=seed)
    data = replace(data, rate=torch.full_like(data.rate, log(artifact.table.words)))
    scored = attack_clean(data, plan, selection, told)
    clean = {
        name: best_attack([one for one in scored if one.result.attribute == name]).answers
        for name in selection.names
    }
    leaks = exact_leaks(artifact, selection.names, seed=seed)
    records = tuple(
        leak.record(clean[leak.attribute], asked=leak.attribute in selection.asked, seed=seed)
        for leak in leaks
    )
    rows = artifact.dataset.splits[Split.TEST]
    states = artifact.table.states(artifact.scores(np.array(artifact.dataset.images[rows])))
    desired, rate = desired_answers(artifact, states, seed), answer_rate(artifact.table)
    judgement = judge(desired, (), rule, images=data.test.images, exact=records)
    entropy = told_bits(artifact.table, states)
    result = Audit(
        artifact=artifact.kind,
        n_test=data.test.images,
        desired=desired,
        rate_bits=rate,
        upload_bytes=word_bytes(data, artifact.table),
        attributes=(),
        attacks=tuple(one.result for one in scored),
        verdict=judgement.verdict,
        reasons=judgement.reasons,
        rule=rule,
        more_images=judgement.more_images,
        statements=(
            *answer_statements(artifact.table, entropy["entropy_bits"], leaks),
            *exact_statements(records),
        ),
        skipped=selection.skipped,
        exact=records,
        n_attack_test=data.test.images,
        plan=plan.name,
        seed=seed,
        dataset=artifact.dataset.id,
        data_spec=artifact.dataset.spec,
        keep=artifact.keep,
        channel="answer",
        seconds=round(time.monotonic() - started, 1),
        provenance={**provenance(), "clean_references_from_store": list(data.from_store)},
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        command=command,
        basis=describe_basis(artifact, plan, asked, {}, data.device),
    )
    return result, data


def attack_clean(data: AttackData, plan: Plan, selection: Selection, watch: Watch) -> list[ScoredAttack]:
    """Attackers trained and tested on clean photos; none if no attribute is selected."""
    groups, found = selection.groups(separate=False), list[ScoredAttack]()
    if not groups:
        return found
    steps = create("clean")(data, plan, groups)
    for done, step in enumerate(steps):
        watch(done, len(steps), step.title, "")
        found += [score(one, data) for one in step.run() if isinstance(one, Prediction) and one.clean]
    watch(len(steps), len(steps), "done", "")
    return found


def desired_answers(artifact: Answering, states: Ints, seed: int) -> tuple[DesiredResult, ...]:
    """Expected accuracy of what the cloud reads out of the words; `states` (n,) are those of the test photos."""
    data, table = artifact.dataset, artifact.table
    rows = data.splits[Split.TEST]
    answers: Tensor = artifact.cloud.table[: table.words]  # type: ignore[index]
    results = []
    for name, part in zip(artifact.keep, answers.split(list(table.classes), dim=1), strict=True):
        facts = truth(data, name, rows)
        right = table.credits(states, facts, part.double().numpy())  # resampled like 0 and 1
        results.append(
            DesiredResult(
                name=name,
                classes=part.shape[1],
                accuracy=float(right.mean()),
                clean_accuracy=artifact.clean_accuracy[name],
                ci95=metrics.accuracy_interval(right, seed=seed),
                guess_error=facts.guess_error,
            )
        )
    return tuple(results)


def answer_rate(table: AnswerTable) -> RateBits:
    """log2 N bits for every photo: no word of N tells more."""
    bits = log2(table.words)
    return RateBits(mean=bits, p95=bits, max=bits, p99=bits)


def word_bytes(data: AttackData, table: AnswerTable) -> UploadBytes:
    """Size of a word beside that of a photo."""
    size = word_size(table.words)
    found = upload_bytes(data.channel, data.test.pixels, data.test_uploads)
    return found.model_copy(update={"mean": float(size), "encoding": f"word, {size} byte(s)"})


def answer_statements(table: AnswerTable, entropy: float, leaks: Sequence[AnswerLeak]) -> tuple[str, ...]:
    """What holds for every photo, and how the leaks were found."""
    out = [
        f"An upload is one of {table.words} words: it tells at most {log2(table.words):.2f} bits of any photo, on average at "
        f"most {entropy:.2f}, on every delegate, and nothing beyond the answer."
    ]
    if leaks:
        images = round(float(leaks[0].counts.sum()))
        out.append(
            f"Leaks are counted on {images} test images, not attacked: no attacker gains more from a word than its table "
            "allows. Limits are one-sided, at 95 %; that of accuracy lets the attacker choose the guess on test."
        )
    return tuple(out)
