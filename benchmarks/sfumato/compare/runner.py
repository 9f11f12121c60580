"""`compare`: other methods and ours on the same data, trained on one budget, attacked by one audit.

    config = CompareConfig(data="synthetic", keep=("smiling",), hide=("skin",))
    comparison = compare(config, Path("comparison"), choose_rows(["all"], POINTS))

Every row is one JSON file below `rows/`, written when it is finished; one that diverged is a note below `failed/`. Trained
weights are kept in `methods/` and `runs/`, so an interrupted comparison goes on with what is missing, and takes more settings.
All rows start from one clean cloud network (`clean.safetensors`), learn from it, and are attacked on the same test images by
attackers with the same seeds. `comparison.json`, `.md`, `.png`
and `accuracy-bytes.png` are written anew after each row.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor, nn

from sfumato.audit import clean_cache
from sfumato.audit.answer_audit import answer_rate
from sfumato.audit.artifact import Artifact
from sfumato.audit.attribute_selection import select_attributes
from sfumato.audit.bounds import information_bounds
from sfumato.audit.exact_answer import exact_leaks
from sfumato.audit.pass_rule import leakage_bound_bits, shortfalls
from sfumato.audit.plan import create_plan
from sfumato.audit.upload_size import SAMPLE, image_sizes, upload_sizes
from sfumato.bench.instructions import price
from sfumato.compare import plot
from sfumato.compare.auditing import MethodArtifact, MethodAudit, audit_method
from sfumato.compare.cluster import Outcome, RowJob, rows_on_ray
from sfumato.compare.config import CompareConfig
from sfumato.compare.methods import METHODS, Method, Task, UnsuitableError, available, create
from sfumato.compare.methods.training import SEED_WORD, DivergedError, adversary_accuracy, train_method
from sfumato.compare.rows import OUR_CURVES, OURS, RowPlan, curve_of
from sfumato.compare.schema import CleanCost, Comparison, ComparisonRow, PhoneCost, Setting, read_row
from sfumato.compare.selection import RULE, best_points, match_comparisons
from sfumato.compare.tables import comparison_tables
from sfumato.core.cluster import check_ray
from sfumato.core.console import note
from sfumato.core.errors import SfumatoError, UsageError
from sfumato.core.files import atomic_write, claim_folder, only_process, read_json, write_json
from sfumato.core.memory import keep_freed_memory
from sfumato.core.provenance import provenance
from sfumato.core.reports import markdown
from sfumato.core.seeding import seed_everything
from sfumato.data import Split, open_dataset
from sfumato.models.cost import Cost, cost
from sfumato.models.local import check_size
from sfumato.runtime.answer import word_size
from sfumato.training import checkpoint
from sfumato.training.answer import check_answer
from sfumato.training.clean import check_cloud, make_cloud, train_clean
from sfumato.training.config import TrainConfig
from sfumato.training.evaluate import evaluate
from sfumato.training.loader import Batches
from sfumato.training.run import AnswerRun
from sfumato.training.runner import train
from sfumato.training.start import check_devices
from sfumato.training.started import record as record_start

CLEAN = "clean.safetensors"
"""The clean network, here as in a run."""
WEIGHTS = "methods"
"""Folder of trained methods."""
TRAINER = 2
"""Version of the shared trainer, stored with a comparison. 1, which stored none: last epoch, no teacher for other methods."""


def compare(
    config: CompareConfig,
    out: Path,
    plans: tuple[RowPlan, ...],
    *,
    overwrite: bool = False,
    accelerator: str = "auto",
    ray: str | None = None,
) -> Comparison:
    """Make every row that is not there yet, and the files that sum them up.

    Args:
        config: what is the same for all rows.
        out: folder; one with rows of the same configuration is continued.
        plans: from `choose_rows`.
        overwrite: start anew.
        accelerator: `auto`, `cpu` or `cuda`.
        ray: address of a Ray cluster that makes the rows, `auto` or `local` (`sfumato.compare.cluster`); None: one after the
            other, here.

    Raises:
        SfumatoError: the folder holds something else or rows of another configuration, training failed, or there is no cluster.
        UsageError: attributes that cannot be compared on.
    """
    check_devices(accelerator)
    if ray is not None:
        check_ray()
    keep_freed_memory()
    comparer = Comparer(config, out, accelerator)
    if overwrite or not (out / CLEAN).exists():  # later that file is the network, whatever it was made of
        check_cloud(comparer.training, comparer.dataset)
    values = {**config.model_dump(mode="json"), "dataset": comparer.dataset.id, "trainer": TRAINER}
    _claim(out, values, overwrite=overwrite)
    with only_process(out):
        comparer.prepare()
        numbers = {plan: f"[{number}/{len(plans)}] {plan.id}" for number, plan in enumerate(plans, 1)}
        missing = []
        for plan, shown in numbers.items():
            if comparer.path(plan).exists():
                note(f"{shown}: kept from before")
            elif comparer.failure(plan).exists():
                note(f"{shown}: could not be trained before")
            else:
                missing.append(plan)
        for plan, outcome in comparer.outcomes(missing, numbers, ray):
            if isinstance(outcome, str):
                note(outcome)
                write_json(comparer.failure(plan), {"id": plan.id, "reason": outcome})
            else:
                write_json(comparer.path(plan), outcome.model_dump(mode="json"))
            comparer.write(plans)
        return comparer.write(plans)


def _claim(out: Path, values: dict[str, Any], *, overwrite: bool) -> None:
    """Take a new folder, or go on in one that holds the same comparison."""
    path = out / "comparison-config.json"
    if not path.exists() or overwrite:
        claim_folder(out, holds=path.name, overwrite=overwrite)
        write_json(path, values)
        return
    # What a comparison of an earlier version does not name has its default.
    defaults = CompareConfig(data="", keep=("",)).model_dump(mode="json")
    before = {**defaults, **read_json(path)}
    # The same data may lie elsewhere: its id tells.
    changed = [name for name in values if name != "data" and before.get(name) != values[name]]
    if changed:
        raise SfumatoError(
            f"{out} holds rows made with another {' and '.join(changed)}: their figures cannot stand side by "
            "side; use the same options, choose another --out, or pass --overwrite"
        )


class Comparer:
    """One comparison in the making: data, clean network, and the folder where rows are kept."""

    def __init__(self, config: CompareConfig, out: Path, accelerator: str = "auto") -> None:
        self.config, self.out = config, out
        self.plan = create_plan(config.attacks)
        self.training = config.training()
        self.dataset = open_dataset(config.data, keep=config.keep, hide=config.hide)
        if self.dataset.planes != 3:  # blur, codecs and other methods' networks are made for three
            raise UsageError(
                f"sfumato compare takes pictures in colour: write planes=3, not {self.dataset.planes}, into the data SPEC"
            )
        check_size(*self.dataset.size)
        self.accelerator = accelerator
        self.fabric = Fabric(accelerator=accelerator, devices=1)
        self.clean = make_cloud(self.training, self.dataset).eval()

    @property
    def task(self) -> Task:
        """What every method is given."""
        return Task(config=self.training, dataset=self.dataset, clean=self.clean)

    def path(self, plan: RowPlan) -> Path:
        """The file of a finished row."""
        return self.out / "rows" / f"{plan.id}.json"

    def failure(self, plan: RowPlan) -> Path:
        """The file of a row that could not be trained."""
        return self.out / "failed" / f"{plan.id}.json"

    def batches(self, split: Split, attributes: tuple[str, ...]) -> Batches:
        """A split for figures, on the device of the clean network."""
        return Batches(self.dataset, split, attributes, self.config.batch_size)

    def prepare(self) -> None:
        """Train the clean network, or read it.

        Raises:
            UsageError: attributes that cannot be attacked; raised before anything is trained.
        """
        if self.config.hide:
            select_attributes(self.freeze(create("raw", self.task), {}), self.config.hide)
        path = self.out / CLEAN
        if not path.exists():
            trained = train_clean(self.training, self.dataset, self.fabric, None)
            checkpoint.save_module(trained, path)
        checkpoint.load_module(self.clean, path)
        self.clean_accuracy = evaluate(
            self.clean, self.batches(Split.TEST, self.config.keep)
        ).accuracy_by_head
        self.clean_validation = evaluate(
            self.clean, self.batches(Split.VALIDATION, self.config.keep)
        ).accuracy

    def outcomes(
        self, plans: Sequence[RowPlan], shown: Mapping[RowPlan, str], ray: str | None
    ) -> Iterator[tuple[RowPlan, Outcome]]:
        """Each row with its outcome, as they finish; `shown` names it."""
        if ray is not None and plans:
            job = RowJob(
                self.config, self.out.absolute(), self.accelerator, keep_references=clean_cache.in_use()
            )
            for plan, outcome in rows_on_ray(ray, job, plans):
                note(shown[plan])
                yield plan, outcome
            return
        for plan in plans:
            note(shown[plan])
            yield plan, self.attempt(plan)

    def attempt(self, plan: RowPlan) -> Outcome:
        """Make a row, or say why it cannot be trained."""
        try:
            return self.make(plan)
        except (DivergedError, UnsuitableError) as error:
            return str(error)

    def make(self, plan: RowPlan) -> ComparisonRow:
        """Train and attack one row."""
        return self.make_ours(plan) if plan.ours else self.make_method(plan)

    def make_method(self, plan: RowPlan) -> ComparisonRow:
        """A row of another method."""
        method, record = self.train_method(plan)
        audit = self.audit(self.freeze(method, self.clean_accuracy), plan)
        test = self.batches(Split.TEST, (*self.config.keep, *self.config.hide))
        uploads = audit.data.test_uploads[:SAMPLE].float()
        sizes, encoding = method.upload_sizes(uploads, audit.data.test.pixels[:SAMPLE])
        return self.row(
            plan,
            audit,
            phone_cost(method.cost(self.task.shape), sizes, encoding, stored_bytes=method.stored_bytes),
            record["seconds"],
            reads=method.reads_hidden,
            losses=record["means"],
            validation=record["validation_accuracy"],
            epoch=record["epoch"],
            own=adversary_accuracy(method, test, self.config.seed),
        )

    def train_method(self, plan: RowPlan) -> tuple[Method, dict[str, Any]]:
        """A trained method, from its file if there is one; and the record of its training."""
        seed_everything(self.config.seed, SEED_WORD, plan.method, "initial")
        method = create(plan.method, self.task, plan.setting)
        path = self.out / WEIGHTS / f"{plan.id}.safetensors"
        record = path.with_suffix(".json")
        if record.exists():
            checkpoint.load_module(method, path)
        else:
            trained = train_method(method, plan.method, self.task, self.fabric.device)
            checkpoint.save_module(method, path)
            write_json(record, {**asdict(trained), "seconds": round(trained.seconds, 1)})
        return method, read_json(record)

    def make_ours(self, plan: RowPlan) -> ComparisonRow:
        """A row of our own.

        Raises:
            UnsuitableError: these attributes or this target are not for it.
        """
        target = {} if plan.point is None else asdict(plan.point)
        if plan.setting is not None:
            target = {OUR_CURVES[plan.method].option: plan.setting}
        folder = self.out / "runs" / plan.id
        try:
            config = self.config.training(**OURS[plan.method], **target)
            if config.mode == "answer":
                check_answer(config, self.dataset)
        except UsageError as error:
            raise UnsuitableError(str(error)) from None
        started = time.perf_counter()
        self.share_clean_network(config, folder)
        run = train(config, folder, resume=True, accelerator=self.accelerator)
        seconds = time.perf_counter() - started
        audit = self.audit(run, plan)
        if isinstance(run, AnswerRun):
            return self.answer_row(plan, run, audit, seconds)
        rate, data = audit.rate_bits, audit.data
        sizes, encoding = upload_sizes(run.channel, data.test_uploads)
        return self.row(
            plan,
            audit,
            phone_cost(
                cost(run.local, self.task.shape),
                sizes,
                encoding,
                lossless=lossless_sizes(data.test_uploads[:SAMPLE].float()),
            ),
            seconds,
            reads=config.objective == "suppress",
            validation=run.card["best_epoch"]["val_accuracy"],
            epoch=run.card["best_epoch"]["epoch"],
            bound=None
            if rate is None
            else leakage_bound_bits(rate, information_bounds(data, steps=self.plan.prior_steps)),
            notes=() if run.card["goal_met"] else ("the rate target was not reached within these epochs",),
        )

    def answer_row(self, plan: RowPlan, run: AnswerRun, audit: MethodAudit, seconds: float) -> ComparisonRow:
        """A row of answer mode: attacked as the image of its word like any other upload; rate and leak are counted exactly."""
        table = run.table
        leaks = exact_leaks(run, self.config.hide, seed=self.config.seed)
        stored = 0 if table.cumulative is None else 4 * table.cumulative.size
        return self.row(
            plan,
            replace(audit, rate_bits=answer_rate(table)),
            phone_cost(
                cost(run.local, self.task.shape),
                np.array([float(word_size(table.words))]),
                "code word",
                stored_bytes=stored,
            ),
            seconds,
            reads=run.config.equal_odds is not None,
            validation=run.card["best_epoch"]["val_accuracy"],
            epoch=run.card["best_epoch"]["epoch"],
            bound=run.card["told"]["entropy_bits"],
            notes=tuple(
                f"counted, not attacked: a word gives {leak.attribute} away with {leak.accuracy:.1%}, at most "
                f"{leak.accuracy_limits[1]:.1%}, and {leak.bits:.3f} bits of it, at most {leak.bits_upper:.3f}"
                for leak in leaks
            ),
        )

    def share_clean_network(self, config: TrainConfig, folder: Path) -> None:
        """Start a run with the clean network that all rows share; a run that has begun has it already."""
        if not (folder / "config.json").exists():
            folder.mkdir(parents=True, exist_ok=True)
            checkpoint.save_module(self.clean, folder / CLEAN)
            record_start(folder, config, self.dataset, auto=False)
            write_json(folder / "config.json", config.model_dump(mode="json"))

    def freeze(self, method: Method, accuracy: dict[str, float]) -> MethodArtifact:
        """Freeze a method, for the audit."""
        method.eval().requires_grad_(False)
        return MethodArtifact(method, self.out, self.task, accuracy)

    def audit(self, artifact: Artifact, plan: RowPlan) -> MethodAudit:
        """Attack a row."""
        return audit_method(artifact, self.plan, self.config.seed, title=plan.id)

    def row(
        self,
        plan: RowPlan,
        audit: MethodAudit,
        price: PhoneCost,
        seconds: float,
        *,
        reads: bool,
        validation: float,
        epoch: int,
        own: dict[str, float] | None = None,
        bound: float | None = None,
        notes: tuple[str, ...] = (),
        losses: dict[str, float] | None = None,
    ) -> ComparisonRow:
        """Put a row together."""
        reasons, curve = shortfalls(audit.desired, audit.attributes), curve_of(plan.method)
        return ComparisonRow(
            id=plan.id,
            method=plan.method,
            ours=plan.ours,
            setting=None
            if curve is None or plan.setting is None
            else Setting(name=curve.option, value=plan.setting),
            validation_accuracy=validation,
            epoch=epoch,
            own_adversary=own or {},
            published="" if curve is None else curve.published,
            target_bits=plan.point.bits if plan.point else None,
            target_beyond_bits=plan.point.beyond if plan.point else None,
            reads_hidden_labels=reads,
            rate_bits=audit.rate_bits,
            leakage_bound_bits=bound,
            desired=audit.desired,
            attributes=audit.attributes,
            cost=price,
            passed=not reasons,
            reasons=reasons,
            notes=(*audit.notes, *notes),
            training=losses or {},
            attacks=audit.attacks,
            train_seconds=round(seconds, 1),
            audit_seconds=round(audit.seconds, 1),
        )

    def write(self, plans: tuple[RowPlan, ...]) -> Comparison:
        """Write the comparison and its plots from all rows in the folder, whoever asked for them."""
        rows = tuple(sorted(map(read_row, (self.out / "rows").glob("*.json")), key=position))
        failed = map(read_json, sorted((self.out / "failed").glob("*.json")))
        chosen = best_points(rows, self.clean_validation)
        result = Comparison(
            dataset=self.dataset.id,
            data_spec=self.dataset.spec,
            keep=self.config.keep,
            hide=self.config.hide,
            n_test=len(self.dataset.splits[Split.TEST]),
            clean_accuracy=self.clean_accuracy,
            clean_validation_accuracy=self.clean_validation,
            clean_cost=clean_cost(self.clean, self.task.shape),
            config=self.config.model_dump(mode="json"),
            rows=rows,
            rule=RULE,
            best_points=chosen,
            matched_comparisons=match_comparisons(rows, chosen),
            failed={one["id"]: one["reason"] for one in failed},
            missing=tuple(
                plan.id for plan in plans if not self.path(plan).exists() and not self.failure(plan).exists()
            ),
            provenance=provenance(),
        )
        write_json(self.out / "comparison.json", result.to_json())
        with atomic_write(self.out / "comparison.md") as scratch:
            scratch.write_text("\n\n".join(map(markdown, comparison_tables(result))) + "\n", encoding="utf-8")
        plot.draw(result, self.out / "comparison.png")
        plot.draw_bytes(result, self.out / "accuracy-bytes.png")
        return result


def lossless_sizes(uploads: Tensor) -> NDArray[np.float64] | None:
    """Bytes of uploads (N, 3, H, W) in 0..1 as lossless WebP, (N,); None where this Pillow writes none."""
    return image_sizes(uploads, "WEBP", lossless=1) if available("webp") else None


def phone_cost(
    network: Cost,
    sizes: NDArray[np.float64],
    encoding: str,
    *,
    stored_bytes: int = 0,
    lossless: NDArray[np.float64] | None = None,
) -> PhoneCost:
    """What a row costs on the phone; `sizes` and `lossless`: (M,) bytes of uploads."""
    return PhoneCost(
        parameters=network.parameters,
        macs=network.macs,
        upload_bytes=float(sizes.mean()),
        upload_bytes_p95=float(np.percentile(sizes, 95)),
        upload_encoding=encoding,
        lossless_bytes=None if lossless is None else float(lossless.mean()),
        lossless_bytes_p95=None if lossless is None else float(np.percentile(lossless, 95)),
        stored_bytes=stored_bytes,
    )


def clean_cost(network: nn.Module, shape: tuple[int, int, int]) -> CleanCost:
    """What the clean network would cost on the phone, for an image of `shape` (3, H, W)."""
    parameters, estimate = cost(network, shape).parameters, price(network, shape)
    return CleanCost(
        parameters=parameters,
        macs=estimate.macs,
        float_bytes=4 * parameters,
        int8_bytes=estimate.bytes,
        int8_instructions=dict(estimate.instructions),
    )


def position(row: ComparisonRow) -> tuple[int, float, float]:
    """Where a row stands: methods in the order of the registries, along their settings, ours along their targets."""
    order, along = [*METHODS, *OURS], row.setting.value if row.setting else row.target_bits
    return order.index(row.method), along or 0.0, row.target_beyond_bits or 0.0
