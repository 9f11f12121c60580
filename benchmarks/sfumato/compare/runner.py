"""`compare`: other methods and ours on the same data, trained on one budget, attacked by one audit.

    config = CompareConfig(data="synthetic", keep=("smiling",), hide=("skin",))
    comparison = compare(config, Path("comparison"), choose_rows(["all"], POINTS))

Every row is one JSON file below `rows/`, written when it is finished; an interrupted comparison goes on with the rows that
are missing, and trained weights are kept in between. All rows start from one clean cloud network (`clean.safetensors`) and
are judged on the same test images by attackers with the same seeds. `comparison.json`, `.md` and `.png` are written anew after
each row.
"""

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sfumato.audit import runner
from sfumato.audit.artifact import Artifact
from sfumato.audit.attack_data import AttackData
from sfumato.audit.attacks.posterior import LIKELIHOODS
from sfumato.audit.attribute_selection import Selection, select_attributes
from sfumato.audit.bounds import information_bounds
from sfumato.audit.pass_rule import leakage_bound_bits, shortfalls
from sfumato.audit.plan import Plan, create_plan
from sfumato.audit.schema import AttackResult, AttributeResult, DesiredResult, RateBits
from sfumato.audit.upload_size import upload_bytes
from sfumato.channels import Channel, Parameters
from sfumato.compare import plot
from sfumato.compare.methods import PEERS, Peer, Task, create
from sfumato.compare.methods.training import train_peer
from sfumato.compare.rows import OURS, RowPlan
from sfumato.compare.schema import Comparison, PhoneCost, Row
from sfumato.compare.tables import comparison_tables, standings
from sfumato.core.console import note, progress
from sfumato.core.errors import SfumatoError, UsageError, complaint
from sfumato.core.files import atomic_write, claim_folder, read_json, write_json
from sfumato.core.memory import keep_freed_memory
from sfumato.core.provenance import provenance
from sfumato.core.reports import markdown
from sfumato.core.seeding import seed_everything
from sfumato.data import Dataset, Split, open_dataset
from sfumato.models.cost import cost
from sfumato.models.local import check_size
from sfumato.models.tensors import to_tensor
from sfumato.training import checkpoint
from sfumato.training.clean import make_cloud, train_clean
from sfumato.training.config import TrainConfig, make_config
from sfumato.training.evaluate import evaluate
from sfumato.training.loader import Batches
from sfumato.training.runner import train

BATCH = 256


class CompareConfig(BaseModel):
    """What is the same for every row. Unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: str
    """Data SPEC."""
    keep: tuple[str, ...] = Field(min_length=1)
    hide: tuple[str, ...] = ()
    """What the attackers are after; without any, accuracy is compared with what an upload may carry."""
    attacks: str = "default"
    """Plan of the audit: quick or default."""
    epochs: int = Field(default=24, ge=1)
    """Of each stage: the clean network, the warm-up and the training proper."""
    batch_size: int = Field(default=64, ge=2)
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of the cloud network in training, as in `TrainConfig`."""
    plain: float = Field(default=0.0, ge=0, le=1)
    """Share of training, at its end, that leaves images as they are, as in `TrainConfig`."""
    seed: int = 0

    def training(self, **options: Any) -> TrainConfig:
        """The configuration of one row."""
        stages = {"epochs": self.epochs, "pretrain_epochs": self.epochs, "clean_epochs": self.epochs}
        common = self.model_dump(include={"data", "keep", "hide", "batch_size", "precision", "seed"})
        augmentation = {"mirror_only": self.plain}
        return make_config({**common, "augmentation": augmentation, **stages, **options})


def make_compare_config(values: dict[str, Any]) -> CompareConfig:
    """Build a configuration.

    Raises:
        UsageError: a value is missing or out of range; an unknown audit.
    """
    try:
        config = CompareConfig(**values)
    except ValidationError as error:
        raise UsageError(complaint(error, "options")) from None
    create_plan(config.attacks)
    return config


@dataclass(frozen=True)
class Sealed:
    """A frozen peer as the audit sees it (`sfumato.audit.artifact.Artifact`)."""

    peer: Peer
    folder: Path
    task: Task
    clean_accuracy: dict[str, float]
    kind: Literal["float"] = "float"

    @property
    def dataset(self) -> Dataset:
        """The data, with its splits."""
        return self.task.dataset

    @property
    def keep(self) -> tuple[str, ...]:
        """Desired attributes."""
        return self.task.config.keep

    @property
    def hide(self) -> tuple[str, ...]:
        """Attributes under attack."""
        return self.task.config.hide

    @property
    def channel(self) -> Channel:
        """The peer's draw. The audit asks a channel for name, noise, sample and rate, which a draw has."""
        return cast(Channel, self.peer.draw)

    @property
    def cloud(self) -> torch.nn.Module:
        """The cloud network."""
        return self.peer.cloud

    def parameters(self, images: NDArray[np.uint8]) -> Parameters:
        """Parameters of the draw for images (N, H, W, 3)."""
        parts: list[Parameters] = []
        with torch.no_grad():
            for start in range(0, len(images), BATCH):
                parts.append(self.peer.phone(to_tensor(images[start : start + BATCH])))
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """What the audit says about one row."""

    desired: tuple[DesiredResult, ...]
    attributes: tuple[AttributeResult, ...]
    attacks: tuple[AttackResult, ...]
    rate_bits: RateBits | None
    data: AttackData
    notes: tuple[str, ...]
    seconds: float


COMPARED = ("floor", "clean", "output", "posterior", "probe", "provider")
"""Attacks that every method can be put under: the others need an upload in the shape of a photo."""


NOTHING = Selection(declared=(), undeclared=(), skipped=())


def possible(plan: Plan, artifact: Artifact) -> tuple[Plan, tuple[str, ...]]:
    """The attacks that a method can be put under, and what was left out and why."""
    out, notes = set(plan.attacks) - set(COMPARED), []
    if not hasattr(artifact.channel, "likelihood") and artifact.channel.name not in LIKELIHOODS:
        out.add("posterior")
        notes.append(
            f"posterior was left out: no likelihood of an upload is known for the draw {artifact.channel.name!r}"
        )
    if not any(True for _ in artifact.cloud.parameters()):
        out.add("provider")
        notes.append("provider was left out: there is no cloud network to train further")
    attacks = tuple(name for name in plan.attacks if name not in out)
    return plan.model_copy(update={"attacks": attacks}), tuple(notes)


def judge(artifact: Artifact, plan: Plan, seed: int, title: str) -> Judgement:
    """Attack a frozen method; the same steps as `sfumato audit`, without its page."""
    started = time.perf_counter()
    plan, notes = possible(plan, artifact)
    selection = select_attributes(artifact, artifact.hide) if artifact.hide else NOTHING
    with progress() as bar:
        line = bar.add_task(f"audit {title}", total=1, figures="")

        def watch(done: int, total: int, what: str, best: str) -> None:
            bar.update(line, completed=done, total=total, figures=f"{what}: {best}")

        found = runner.attack_with_seed(artifact, plan, selection, seed, watch)
    bounded = bool(torch.isfinite(found.data.rate).all())
    return Judgement(
        desired=found.desired,
        attributes=found.attributes,
        attacks=tuple(one.result for one in found.scored),
        rate_bits=runner.rate_bits(found.data) if bounded else None,
        data=found.data,
        notes=notes,
        seconds=time.perf_counter() - started,
    )


class Comparer:
    """One comparison in the making: data, clean network, and the folder where rows are kept."""

    def __init__(self, config: CompareConfig, out: Path, accelerator: str = "auto") -> None:
        self.config, self.out = config, out
        self.plan = create_plan(config.attacks)
        self.training = config.training()
        self.dataset = open_dataset(config.data, keep=config.keep, hide=config.hide)
        check_size(*self.dataset.size)
        self.accelerator = accelerator
        self.fabric = Fabric(accelerator=accelerator, devices=1)
        self.clean = make_cloud(self.training, self.dataset).eval()

    def prepare(self) -> None:
        """Train the clean network, or read it; refuse attributes that cannot be attacked before anything is trained."""
        test = Batches(self.dataset, Split.TEST, self.config.keep, self.config.batch_size)
        if self.config.hide:
            select_attributes(self._seal(create("raw", self.task), {}), self.config.hide)
        path = self.out / "clean.safetensors"
        if not path.exists():
            trained = train_clean(self.training, self.dataset, self.fabric, None)
            checkpoint.save_module(trained, path)
        checkpoint.load_module(self.clean, path)
        self.clean_accuracy = evaluate(self.clean, test).accuracy_by_head

    @property
    def task(self) -> Task:
        """What every peer is given."""
        return Task(config=self.training, dataset=self.dataset, clean=self.clean)

    def _seal(self, peer: Peer, accuracy: dict[str, float]) -> Sealed:
        peer.eval().requires_grad_(False)
        return Sealed(peer, self.out, self.task, accuracy)

    def make(self, plan: RowPlan) -> Row:
        """Train and attack one row."""
        return self.ours(plan) if plan.ours else self.peer(plan)

    def peer(self, plan: RowPlan) -> Row:
        """A row of another method."""
        seed_everything(self.config.seed, "peer", plan.method, "initial")
        peer, path = create(plan.method, self.task), self.out / "peers" / f"{plan.id}.safetensors"
        record = path.with_suffix(".json")
        if record.exists():
            checkpoint.load_module(peer, path)
        else:
            means, seconds = train_peer(peer, plan.method, self.task, self.fabric.device)
            checkpoint.save_module(peer, path)
            write_json(record, {"means": means, "seconds": round(seconds, 1)})
        trained = read_json(record)
        judged = judge(self._seal(peer, self.clean_accuracy), self.plan, self.config.seed, title=plan.id)
        figures = peer.cost(self.task.shape)
        size, encoding = peer.weigh(torch.from_numpy(judged.data.test_uploads))
        price = PhoneCost(
            parameters=figures.parameters,
            macs=figures.macs,
            upload_bytes=size,
            upload_encoding=encoding,
            stored_bytes=peer.stored_bytes,
        )
        return self.row(
            plan, judged, price, trained["seconds"], reads=peer.reads_hidden, means=trained["means"]
        )

    def ours(self, plan: RowPlan) -> Row:
        """A row of our own."""
        target = {} if plan.point is None else asdict(plan.point)
        config, folder = self.config.training(**OURS[plan.method], **target), self.out / "runs" / plan.id
        started = time.perf_counter()
        self.lend_clean(config, folder)
        run = train(config, folder, resume=True, accelerator=self.accelerator)
        seconds = time.perf_counter() - started
        judged = judge(run, self.plan, self.config.seed, title=plan.id)
        rate, data = judged.rate_bits, judged.data
        weight = upload_bytes(run.channel, data.test.pixels, data.test_uploads)
        figures = cost(run.local, self.task.shape)
        price = PhoneCost(
            parameters=figures.parameters,
            macs=figures.macs,
            upload_bytes=weight.mean,
            upload_encoding=weight.encoding,
        )
        return self.row(
            plan,
            judged,
            price,
            seconds,
            reads=config.objective == "suppress",
            told=None if rate is None else leakage_bound_bits(rate, information_bounds(data)),
            notes=() if run.card["goal_met"] else ("the rate target was not reached within these epochs",),
        )

    def lend_clean(self, config: TrainConfig, folder: Path) -> None:
        """Start a run with the clean network that all rows share; a run that has begun has it already."""
        if not (folder / "config.json").exists():
            folder.mkdir(parents=True, exist_ok=True)
            checkpoint.save_module(self.clean, folder / "clean.safetensors")
            write_json(folder / "config.json", config.model_dump(mode="json"))

    def row(
        self,
        plan: RowPlan,
        judged: Judgement,
        price: PhoneCost,
        seconds: float,
        *,
        reads: bool,
        told: float | None = None,
        notes: tuple[str, ...] = (),
        means: dict[str, float] | None = None,
    ) -> Row:
        """Put a row together."""
        reasons = shortfalls(judged.desired, judged.attributes)
        return Row(
            id=plan.id,
            method=plan.method,
            ours=plan.ours,
            target_bits=plan.point.bits if plan.point else None,
            target_beyond_bits=plan.point.beyond if plan.point else None,
            reads_hidden_labels=reads,
            rate_bits=judged.rate_bits,
            told_bits=told,
            desired=judged.desired,
            attributes=judged.attributes,
            cost=price,
            passed=not reasons,
            reasons=reasons,
            notes=(*judged.notes, *notes),
            training=means or {},
            attacks=judged.attacks,
            train_seconds=round(seconds, 1),
            audit_seconds=round(judged.seconds, 1),
        )

    def write(self, plans: tuple[RowPlan, ...]) -> Comparison:
        """Write `comparison.json`, `.md` and `.png` from all rows in the folder, whoever asked for them."""
        read = (Row.model_validate(read_json(path)) for path in (self.out / "rows").glob("*.json"))
        rows = tuple(sorted(read, key=position))
        result = Comparison(
            dataset=self.dataset.id,
            data_spec=self.dataset.spec,
            keep=self.config.keep,
            hide=self.config.hide,
            n_test=len(self.dataset.splits[Split.TEST]),
            clean_accuracy=self.clean_accuracy,
            config=self.config.model_dump(mode="json"),
            rows=rows,
            standings=standings(rows),
            missing=tuple(plan.id for plan in plans if not self.path(plan).exists()),
            provenance=provenance(),
        )
        write_json(self.out / "comparison.json", result.to_json())
        with atomic_write(self.out / "comparison.md") as scratch:
            scratch.write_text("\n\n".join(map(markdown, comparison_tables(result))) + "\n", encoding="utf-8")
        plot.draw(result, self.out / "comparison.png")
        return result

    def path(self, plan: RowPlan) -> Path:
        """The file of a finished row."""
        return self.out / "rows" / f"{plan.id}.json"


def position(row: Row) -> tuple[int, float, float]:
    """Where a row stands: methods in the order of the registries, ours by what they were steered to."""
    order = [*PEERS, *OURS]
    return order.index(row.method), row.target_bits or 0.0, row.target_beyond_bits or 0.0


def compare(
    config: CompareConfig,
    out: Path,
    plans: tuple[RowPlan, ...],
    *,
    overwrite: bool = False,
    accelerator: str = "auto",
) -> Comparison:
    """Make every row that is not there yet, and the files that sum them up.

    Args:
        config: what is the same for all rows.
        out: folder; one with rows of the same configuration is continued.
        plans: from `choose_rows`.
        overwrite: start anew.
        accelerator: `auto`, `cpu` or `cuda`.

    Raises:
        SfumatoError: the folder holds something else or rows of another configuration, or training failed.
        UsageError: attributes that cannot be compared on.
    """
    keep_freed_memory()
    comparer = Comparer(config, out, accelerator)
    _claim(out, {**config.model_dump(mode="json"), "dataset": comparer.dataset.id}, overwrite=overwrite)
    comparer.prepare()
    for number, plan in enumerate(plans, 1):
        if comparer.path(plan).exists():
            note(f"[{number}/{len(plans)}] {plan.id}: kept from before")
            continue
        note(f"[{number}/{len(plans)}] {plan.id}")
        row = comparer.make(plan)
        write_json(comparer.path(plan), row.model_dump(mode="json"))
        comparer.write(plans)
    return comparer.write(plans)


def _claim(out: Path, values: dict[str, Any], *, overwrite: bool) -> None:
    """Take a new folder, or go on in one that holds the same comparison."""
    path = out / "comparison-config.json"
    if path.exists() and not overwrite:
        defaults = {name: entry.default for name, entry in CompareConfig.model_fields.items()}
        before = {**defaults, **read_json(path)}
        # The same data may lie elsewhere: its id tells.
        changed = [name for name in values if name != "data" and before.get(name) != values[name]]
        if changed:
            raise SfumatoError(
                f"{out} holds rows made with another {' and '.join(changed)}: their figures cannot stand side by "
                "side; use the same options, choose another --out, or pass --overwrite"
            )
        return
    claim_folder(out, holds=path.name, overwrite=overwrite)
    write_json(path, values)
