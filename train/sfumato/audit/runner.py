"""The audit: fresh attackers against a frozen model.

    result = audit("runs/smiling", attacks="quick")     # also writes audit.json and report.html there

From top to bottom: plan -> attack data -> attacks -> scores -> bounds -> pass rule -> report. The model is finished before
the first attacker starts. Attackers have a data split of their own. What the best one gains is measured on test images, against
what guessing reaches in the population (docs/decisions/0004-audit.md, 0022-pass-rule.md).
"""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import wraps
from pathlib import Path
from typing import ParamSpec, TypeVar

import numpy as np

from sfumato.audit import clean_cache, metrics, report
from sfumato.audit.answer_audit import Answering, audit_answer
from sfumato.audit.artifact import Artifact, at_strength, load
from sfumato.audit.attack_data import AttackData, batches, build_attack_data
from sfumato.audit.attacks import create
from sfumato.audit.attacks.ensemble import combine
from sfumato.audit.attacks.output import cloud_responses
from sfumato.audit.attribute_selection import Selection, select_attributes
from sfumato.audit.basis import describe_basis
from sfumato.audit.bounds import information_bounds, photo_bounds, rate_summary, worst_groups
from sfumato.audit.cluster import FoldJob, attack_on_ray
from sfumato.audit.compositions import compose
from sfumato.audit.cross_fitting import pool, rotate
from sfumato.audit.floors import kept_cells, measure_population
from sfumato.audit.goal import measure_goal
from sfumato.audit.index_channel import IndexChannel
from sfumato.audit.pass_rule import DEFAULT, Judgement, judge
from sfumato.audit.plan import Plan, create_plan, to_the_end
from sfumato.audit.positive_control import positive_control
from sfumato.audit.predictions import Groups, Prediction, ReconstructedImages, Step, all_attributes
from sfumato.audit.schema import AttributeResult, Audit, Composition, DesiredResult, RateBits, Rule
from sfumato.audit.scoring import ScoredAttack, attribute_result, best_attack, score
from sfumato.audit.screening import narrowed
from sfumato.audit.seed_spread import seed_spread
from sfumato.audit.statements import (
    averaging_statements,
    composition_statements,
    control_statements,
    fold_statements,
    group_statements,
    index_statement,
    seed_statements,
    statements,
)
from sfumato.audit.stored import StoredSteps, fingerprint, remove_stored
from sfumato.audit.upload_size import upload_bytes
from sfumato.core.cluster import check_ray
from sfumato.core.console import note
from sfumato.core.errors import UsageError
from sfumato.core.files import only_process, replaced_result, write_json
from sfumato.core.memory import keep_freed_memory
from sfumato.core.provenance import provenance
from sfumato.core.strengths import FULL
from sfumato.data import Split
from sfumato.data.truth import MaskTruth, truth

Watch = Callable[[int, int, str, str], None]
"""Called before each step and at the end: steps done, steps in total, title, best attacks so far."""


def silent(done: int, total: int, title: str, best: str) -> None:
    """A `Watch` that shows nothing."""


P = ParamSpec("P")
R = TypeVar("R")


def alone(work: Callable[P, R]) -> Callable[P, R]:
    """Hold the folder that an audit writes into: steps of two at once would be mixed, and one would remove the other's."""

    @wraps(work)
    def held(*arguments: P.args, **options: P.kwargs) -> R:
        artifact = arguments[0] if arguments else options["artifact"]
        where = options.get("out") or getattr(artifact, "folder", artifact)
        folder = Path(str(where))
        with only_process(folder) if folder.is_dir() else nullcontext():
            return work(*arguments, **options)

    return held


@alone
def audit(
    artifact: str | Path | Artifact,
    attacks: str | Plan = "default",
    *,
    attributes: Sequence[str] | None = None,
    seed: int = 0,
    seeds: int = 1,
    folds: int = 1,
    exhaustive: bool = False,
    out: str | Path | None = None,
    resume: bool = False,
    ray: str | None = None,
    cloud: str | None = None,
    data: str | None = None,
    strength: int | None = None,
    others: Mapping[str, Artifact] | None = None,
    rule: Rule = DEFAULT,
    command: str = "",
    watch: Watch = silent,
) -> Audit:
    """Attack an artifact, write `audit.json` and `report.html`, and return the audit.

    With a strength the files are `audit-strength-64.json` and `report-strength-64.html`, beside those of the artifact as it is.

    Args:
        artifact: the frozen model, float or int8, or the folder of a run or an export.
        attacks: `quick`, `default`, `full`, or a plan.
        attributes: what to attack; by default the declared ones and all others with labels.
        seed: decides noise, initial weights and resamples.
        seeds: how many audits, under `seed`, `seed + 1` and so on. The figures are those of the first; the others give the
            spread, and the artifact passes only if it passes under every seed.
        folds: how often attackers are trained anew, each time tested on other images that training never saw
            (`sfumato.audit.cross_fitting`). Everything but the attacks is measured on the test split. The best few attacks
            of the first fold run in the others (`sfumato.audit.screening`).
        exhaustive: run every attack in every fold, and train every network to the end.
        out: folder for the two files; by default the artifact's own.
        resume: go on with an interrupted audit of the same artifact and plan, whose finished steps lie in the folder.
        ray: address of a Ray cluster whose tasks the seeds and folds are, `auto` or `local` (`sfumato.audit.cluster`); None:
            one after the other, here. `artifact` is a folder then.
        cloud: the `module:factory` of the artifact's cloud network, where that is the user's own and `artifact` is a folder.
        data: the spec of the artifact's data here, where they lie elsewhere than for its maker and `artifact` is a folder.
        strength: attack uploads of this one of an export's points; a goal of training counts at full strength alone,
            and not where uploads are indices.
        others: what else a provider receives of the same photos -> the artifact that makes it, for instance an earlier release;
            see `sfumato.audit.compositions`.
        rule: the thresholds of the verdict.
        command: the command line, for the report.
        watch: told about progress.

    Raises:
        UsageError: an unknown plan, no seed, no fold, a strength of no point, or attributes that are kept or cannot be
            attacked.
        DataError: an unknown attribute, or so many folds that one has too few images.
        SfumatoError: the folder holds neither a run nor an export, or `audit.json` there is something else.
    """
    keep_freed_memory()
    started = time.monotonic()
    plan = create_plan(attacks) if isinstance(attacks, str) else attacks
    plan = to_the_end(plan) if exhaustive else plan
    if seeds < 1:
        raise UsageError(f"an audit needs at least one seed, not {seeds}")
    if folds < 1:
        raise UsageError(f"an audit needs at least one fold, not {folds}")
    where = artifact
    if ray is not None:
        check_ray()
    if isinstance(artifact, str | Path):
        artifact = load(Path(artifact), cloud=cloud, data=data)
    if strength is not None:
        artifact = at_strength(artifact, strength)
    selection = select_attributes(artifact, attributes)
    folder = artifact.folder if out is None else Path(out)
    result_file, page = result_files(folder, strength)
    if (old := replaced_result(result_file, "sfumato-audit")) is not None:
        note(f"replaces the audit of {old.get('date') or 'an earlier day'} in {folder}: --out keeps both")
    if getattr(artifact, "mode", "picture") == "answer":
        if seeds > 1 or folds > 1 or others:
            note(
                "words are counted, not attacked: further seeds, folds and artifacts change nothing in answer mode"
            )
        words: Answering = artifact  # type: ignore[assignment]
        exact, images = audit_answer(
            words, plan, selection, seed=seed, rule=rule, command=command, watch=watch, asked=attributes
        )
        write_json(result_file, exact.to_json())
        report.write(exact, images, artifact.folder, page)
        return exact

    if not resume and remove_stored(folder):
        note(f"finished steps of an interrupted audit in {folder} are gone: --resume would have kept them")
    tried = tuple(range(seed, seed + seeds))
    digests: Mapping[tuple[int, int], str] = {}
    if ray is not None and selection.names:
        if not isinstance(where, str | Path):
            raise UsageError("tasks of a Ray cluster load the artifact themselves: give its folder")
        job = FoldJob(
            folder=Path(where).absolute(),
            cloud=cloud,
            data=data,
            strength=strength,
            selection=selection,
            folds=folds,
            out=folder.absolute(),
            keep_references=clean_cache.in_use(),
        )
        digests = attack_on_ray(ray, job, plan, tried, watch)
    by_seed: dict[int, tuple[AttributeResult, ...]] = {}
    further: list[tuple[int, Judgement]] = []
    # Backwards, so that only the attack data of the first seed, which the report shows, are kept to the end.
    for each in reversed(tried):
        first = attack_with_seed(
            artifact, plan, selection, each, prefixed(watch, "seed", each, seeds), folds, folder, digests
        )
        by_seed[each] = first.attributes
        if each != seed and selection.names:
            judged = judge(first.desired, first.attributes, rule, images=first.n_attack_test)
            further.insert(0, (each, judged))

    found, results = first.data, [one.result for one in first.scored]
    control = None
    if plan.control and selection.names:
        watch(0, 1, "positive control", "")
        control = positive_control(found, plan)
    controls = () if control is None else (control,)
    compositions: Sequence[Composition] = ()
    if plan.compose and selection.names:
        watch(0, 1, "several uploads", "")
        compositions = compose(artifact, found, first.predictions, plan, selection.names, others)
    watch(0, 1, "bounds", "")
    photos = photo_bounds(found)
    rate, bounds, groups = (
        rate_bits(found),
        information_bounds(found, photos, steps=plan.prior_steps),
        worst_groups(artifact.dataset, photos[0]),
    )
    index = found.channel.code.bits if isinstance(found.channel, IndexChannel) else None
    config = getattr(artifact, "config", None) if strength in (None, FULL) and index is None else None
    goal = None if config is None else measure_goal(config, rate, bounds, first.desired, found.test.images)
    spreads = seed_spread([by_seed[each] for each in tried]) if seeds > 1 else ()
    judgement = over_seeds(
        judge(
            first.desired, first.attributes, rule, images=first.n_attack_test, goal=goal, controls=controls
        ),
        further,
    )
    result = Audit(
        artifact=artifact.kind,
        n_test=found.test.images,
        desired=first.desired,
        rate_bits=rate,
        information_bounds=bounds,
        upload_bytes=upload_bytes(found.channel, found.test.pixels, found.test_uploads),
        attributes=first.attributes,
        attacks=tuple(results),
        verdict=judgement.verdict,
        reasons=judgement.reasons,
        rule=rule,
        more_images=judgement.more_images,
        goal=goal,
        worst_groups=groups,
        statements=(
            *(() if index is None else (index_statement(index),)),
            *statements(
                first.attributes,
                rate,
                bounds,
                [one.name for one in first.desired if one.guess_iou is not None],
            ),
            *group_statements(groups),
            *control_statements(controls),
            *composition_statements(compositions),
            *averaging_statements(first.attributes, results),
            *seed_statements(spreads, len(tried)),
            *fold_statements(folds, first.n_attack_test, found.test.images, plan.survivors),
        ),
        skipped=selection.skipped,
        positive_controls=controls,
        compositions=tuple(compositions),
        reconstructions=tuple(one.figures for one in first.reconstructed),
        seeds=tried if seeds > 1 else (),
        seed_spread=spreads,
        folds=folds,
        n_attack_test=first.n_attack_test,
        plan=plan.name,
        seed=seed,
        dataset=artifact.dataset.id,
        data_spec=artifact.dataset.spec,
        keep=artifact.keep,
        channel=artifact.channel.name,
        seconds=round(time.monotonic() - started, 1),
        provenance={**provenance(), "clean_references_from_store": list(found.from_store)},
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        command=command,
        strength=strength,
        basis=describe_basis(artifact, plan, attributes, others or {}, found.device),
    )
    watch(0, 1, "report", "")
    write_json(result_file, result.to_json())
    report.write(result, found, artifact.folder, page, first.reconstructed)
    remove_stored(folder)
    return result


def result_files(folder: Path, strength: int | None) -> tuple[Path, Path]:
    """The result and the report of an audit, in its folder.

    >>> [path.name for path in result_files(Path("export"), 64)]
    ['audit-strength-64.json', 'report-strength-64.html']
    """
    point = "" if strength is None else f"-strength-{strength}"
    return folder / f"audit{point}.json", folder / f"report{point}.html"


@dataclass(frozen=True)
class SeedResult:
    """What the attackers of one seed found: over all folds in `scored` and `attributes`, of the first fold in the rest."""

    data: AttackData
    scored: list[ScoredAttack]
    reconstructed: list[ReconstructedImages]
    desired: tuple[DesiredResult, ...]
    attributes: tuple[AttributeResult, ...]
    n_attack_test: int
    """Test images of all folds."""
    predictions: list[Prediction]


def attack_with_seed(
    artifact: Artifact,
    plan: Plan,
    selection: Selection,
    seed: int,
    watch: Watch,
    folds: int = 1,
    out: Path | None = None,
    digests: Mapping[tuple[int, int], str] | None = None,
) -> SeedResult:
    """All attacks of a plan under one seed, in the further folds the best few; none if no attribute is selected.

    With a folder `out`, what each piece of work found is stored there until the audit is done. `digests` names what other
    processes stored there, by seed and fold.
    """
    digests = digests or {}
    rotated = rotate(artifact, folds)
    watch_fold = prefixed(watch, "fold", 1, folds)
    first = attack_fold(artifact, plan, selection, seed, watch_fold, out, digests.get((seed, 1)))
    later = narrowed(plan, first.predictions, first.scored)
    by_fold, labels_by_fold = [first.scored], [first.data.test.labels]
    for number, fold in enumerate(rotated[1:], 2):
        watch_fold = prefixed(watch, "fold", number, folds)
        found = attack_fold(fold, later, selection, seed, watch_fold, out, digests.get((seed, number)))
        by_fold.append(found.scored)
        labels_by_fold.append(found.data.test.labels)
        del found  # the first fold's attack data are enough at once
    pooled, left = pool(by_fold)
    cells = kept_cells(artifact.dataset, artifact.keep)
    tested = cells[np.concatenate([one.dataset.splits[Split.TEST] for one in rotated])]
    labels = {name: np.concatenate([one[name] for one in labels_by_fold]) for name in first.data.test.labels}
    attributes = tuple(
        attribute_result(
            name,
            pooled,
            labels[name],
            tested,
            measure_population(artifact.dataset, cells, name),
            values=artifact.dataset.attributes[name].classes,
            declared=name in selection.declared,
            asked=name in selection.asked,
            person=name == artifact.dataset.identity,
            seed=seed,
        )
        for name in selection.names
    )
    return SeedResult(
        data=first.data,
        scored=[*pooled, *left],
        reconstructed=first.reconstructed,
        desired=desired_results(artifact, first.data),
        attributes=attributes,
        n_attack_test=len(tested),
        predictions=first.predictions,
    )


@dataclass(frozen=True)
class FoldResult:
    """What the attackers of one fold found."""

    data: AttackData
    scored: list[ScoredAttack]
    """One for each of `predictions`."""
    reconstructed: list[ReconstructedImages]
    predictions: list[Prediction]
    digest: str | None
    """Names what is stored; None without a folder."""


def attack_fold(
    fold: Artifact,
    plan: Plan,
    selection: Selection,
    seed: int,
    watch: Watch,
    out: Path | None,
    digest: str | None = None,
) -> FoldResult:
    """All attacks of a plan in one fold, whose artifact has its images in their roles; as `attack_with_seed`.

    `digest` names what another process stored of this fold.
    """
    watch(0, 1, "uploads", "")
    data = build_attack_data(fold, selection.names, copies=plan.copies if selection.names else 1, seed=seed)
    groups = selection.groups(separate=plan.separate)
    if out is not None and digest is None:
        digest = fingerprint(data, plan, groups)
    stored = None if out is None or digest is None else StoredSteps(out, digest)
    scored, reconstructed, predictions = run_attacks(data, plan, groups, watch, stored)
    return FoldResult(data, scored, reconstructed, predictions, digest)


def run_attacks(
    data: AttackData, plan: Plan, groups: Groups, watch: Watch, stored: StoredSteps | None = None
) -> tuple[list[ScoredAttack], list[ReconstructedImages], list[Prediction]]:
    """Run every attack of the plan, and the ensemble of the best; without groups there is nothing to run.

    Pieces of work that are stored already are not run again.
    """
    if not groups:
        return [], [], []
    names = all_attributes(groups)
    steps: list[Step] = [step for name in plan.attacks for step in create(name)(data, plan, groups)]
    predictions: list[Prediction] = []
    scored: list[ScoredAttack] = []
    reconstructed: list[ReconstructedImages] = []
    left = TimeLeft([step.work for step in steps])
    for done, step in enumerate(steps):
        watch(done, len(steps), step.title, f"{left.text(done)} {best_so_far(scored, names)}".strip())
        outputs = None if stored is None else stored.load(done)
        if outputs is None:
            found = len(data.from_store)
            left.start(done)
            outputs = list(step.run())
            if (
                len(data.from_store) == found
            ):  # what came from the store says nothing about the speed of the rest
                left.stop(done)
            if stored is not None:
                stored.save(done, outputs)
        for output in outputs:
            if isinstance(output, Prediction):
                predictions.append(output)
                scored.append(score(output, data))
            else:
                reconstructed.append(output)
    for name in names:
        ensemble = combine([one for one in predictions if one.attribute == name], data)
        scored.append(score(ensemble, data))
        predictions.append(ensemble)
    watch(len(steps), len(steps), "done", best_so_far(scored, names))
    return scored, reconstructed, predictions


def desired_results(artifact: Artifact, data: AttackData) -> tuple[DesiredResult, ...]:
    """Accuracy of the cloud on the test uploads, per desired attribute."""
    responses = cloud_responses(data.cloud, batches(data.test_uploads), data.keep, whole=True)
    results = []
    for name, found in responses.items():
        facts = truth(artifact.dataset, name, artifact.dataset.splits[Split.TEST])
        masks = facts if isinstance(facts, MaskTruth) else None
        hits = facts.credit(found) if masks is None else masks.credit_of(found)
        results.append(
            DesiredResult(
                name=name,
                classes=data.classes[name],
                accuracy=float(hits.mean()),
                clean_accuracy=artifact.clean_accuracy[name],
                ci95=metrics.accuracy_interval(hits, seed=data.seed),
                guess_error=facts.guess_error,
                guess_iou=None if masks is None else masks.guess_iou,
                cells_right=None if masks is None else masks.cells_right(found),
            )
        )
    return tuple(results)


def rate_bits(data: AttackData) -> RateBits:
    """The rate over the test images, in bits."""
    return rate_summary(data.rate.double().numpy() / np.log(2))


def over_seeds(first: Judgement, further: Sequence[tuple[int, Judgement]]) -> Judgement:
    """One judgement from those of all seeds: what falls short under any seed falls short."""
    return Judgement(
        (*first.failures, *(f"seed {seed}: {why}" for seed, one in further for why in one.failures)),
        (*first.doubts, *(f"seed {seed}: {why}" for seed, one in further for why in one.doubts)),
        max((one.more_images or 0 for one in (first, *(one for _, one in further))), default=0) or None,
    )


class TimeLeft:
    """Estimates how long the remaining steps take from how long the finished ones took.

    Steps of less than a second do not count: most are results from a store, and tell nothing of what others take.
    """

    def __init__(self, work: Sequence[float]) -> None:
        self.work = work
        self.seconds = self.done = self.started = 0.0

    def start(self, number: int) -> None:
        """Step `number` begins."""
        self.started = time.monotonic()

    def stop(self, number: int) -> None:
        """Step `number` ends."""
        took = time.monotonic() - self.started
        if took >= 1:
            self.seconds += took
            self.done += self.work[number]

    def text(self, number: int) -> str:
        """`~3 min left`; empty before a step has been timed."""
        if not self.done:
            return ""
        left = self.seconds / self.done * sum(self.work[number:])
        return f"~{left / 60:.0f} min left" if left >= 90 else f"~{left:.0f} s left"


def prefixed(watch: Watch, what: str, number: int, count: int) -> Watch:
    """A `Watch` whose titles start with the seed or fold, where there are several."""
    if count == 1:
        return watch
    return lambda done, total, title, best: watch(done, total, f"{what} {number}: {title}", best)


def best_so_far(scored: Sequence[ScoredAttack], names: Sequence[str]) -> str:
    """The current best attack on every attribute, for the progress bar."""
    parts = []
    for name in names:
        uploads = [one for one in scored if one.result.attribute == name and one.result.input == "uploads"]
        if uploads:
            best = best_attack(uploads).result
            parts.append(f"{name} {best.val_accuracy:.1%} ({best.architecture})")
    return ", ".join(parts)
