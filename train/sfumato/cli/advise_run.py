"""`advise`: what minutes of training tell about a question, before anything long is trained.

    report = advise("synthetic,count=9000", keep=("smiling",), hide=("skin",))
    report.advice.mode, report.networks, report.hidden

Four short trainings: the clean cloud network, a classifier of the local network's cost and one of ten times that (both
distilled from the clean network, as answer mode does), and a quick attacker on clean photos for the hidden attributes. The
choice follows validation images (`sfumato.training.advice`); every figure is reported on test, with its interval. Longer
trainings find a little more: what these find is a lower bound.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor, nn

from sfumato.bench.instructions import price
from sfumato.compare.methods.base import Task
from sfumato.compare.methods.on_phone import Classifier, widest
from sfumato.core.console import note
from sfumato.core.errors import SfumatoError, UsageError
from sfumato.core.files import only_process, read_json, write_json
from sfumato.core.provenance import provenance
from sfumato.core.seeding import seed_everything
from sfumato.data import Dataset, Split, open_dataset
from sfumato.data.intervals import Z95, wilson
from sfumato.data.label_dependence import label_only_floor
from sfumato.data.truth import truths
from sfumato.models.cost import cost
from sfumato.models.local import check_names, check_size
from sfumato.models.tensors import evaluating
from sfumato.training import checkpoint
from sfumato.training.advice import Advice, Figures, Hidden, Limits, OnPhone, recommend
from sfumato.training.clean import check_cloud, make_cloud, train_clean, training_batches
from sfumato.training.config import TrainConfig, make_config
from sfumato.training.loader import Batches
from sfumato.training.pretrain import pretrain
from sfumato.training.run import make_local

SCHEMA = "sfumato-advice/1"
SETTINGS, RESULT = "settings.json", "advice.json"
TIMES = 10
"""The larger classifier may cost so many times what the local network does."""
SEEN = {"cloud": 32_000, "phone": 64_000, "larger": 32_000, "attacker": 20_000}
"""Images that each training sees, as whole epochs within `EPOCHS`."""
CLASSIFIERS = 2
"""Version of the phone's classifiers, kept with a folder. 1, which none kept: at most 64 planes, in steps of 4."""
EPOCHS = (4, 32)
"""Fewest and most epochs of a training."""

Credits = dict[str, NDArray[np.float64]]
"""Attribute -> which images were answered right, (n,)."""


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """Of one network for one attribute; fractions."""

    network: str
    attribute: str
    validation: float
    test: float
    ci95: tuple[float, float]
    """Of `test` (Wilson)."""
    behind: float
    """Test accuracy of the clean cloud network less this one's, in points, on the same photos."""
    behind_ci95: tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class HiddenRow:
    """What a hidden attribute is worth on clean photos; fractions."""

    attribute: str
    majority: float
    """Of always guessing the most frequent class, over all images."""
    label_only: float
    """Of the best guess from the true kept labels, over all images."""
    clean: float
    """Of the quick attacker, on test."""
    ci95: tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Report:
    """Everything that `advise` found."""

    data: str
    dataset_id: str
    keep: tuple[str, ...]
    hide: tuple[str, ...]
    networks: tuple[Accuracy, ...]
    hidden: tuple[HiddenRow, ...]
    costs: dict[str, OnPhone]
    """Network -> its cost as int8 on the phone."""
    limits: Limits
    advice: Advice
    seconds: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"schema": SCHEMA, **asdict(self), "provenance": provenance()}


class Answers(nn.Module):
    """A classifier whose forward pass is its answers: images (B, 3, H, W) -> logits per attribute."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """As `Classifier.answers`."""
        return self.classifier.answers(x)


def configuration(
    data: str, keep: Sequence[str], hide: Sequence[str] = (), *, cloud: str = "resnet", seed: int = 0
) -> TrainConfig:
    """The settings of all trainings but their epochs; `cloud` may name an ONNX file, which is taken as it is."""
    which = {"frozen_cloud": cloud} if cloud.endswith(".onnx") else {"cloud": cloud}
    return make_config({"data": data, "keep": tuple(keep), "hide": tuple(hide), "seed": seed, **which})


def advise(
    config: TrainConfig, *, out: Path | None = None, private_cloud: bool = False, limits: Limits = Limits()
) -> Report:
    """Measure and recommend.

    Args:
        config: data, kept and hidden attributes, cloud network.
        out: folder that keeps the networks and the result; an interrupted run goes on there.
        private_cloud: the cloud network may not leave the cloud, whatever it costs.
        limits: of the rule.

    Raises:
        SfumatoError: the data or the cloud network cannot be used, or `out` was begun with other settings or is in use.
    """
    if config.masks:
        raise UsageError(
            f"{config.masks[0]} is a mask, which no phone answers alone: there is nothing to advise, train in picture mode"
        )
    dataset = open_dataset(config.data, keep=config.keep, hide=config.hide)
    check_size(*dataset.size)
    check_names((*config.keep, *config.hide))
    check_cloud(config, dataset)
    if out is not None:
        settings = {"config": config.model_dump(mode="json"), "dataset": dataset.id}
        claim(out, {**settings, "classifiers": CLASSIFIERS})
    with nullcontext() if out is None else only_process(out):
        report = measure(Stages(config, dataset, out), private_cloud=private_cloud, limits=limits)
        if out is not None:
            write_json(out / RESULT, report.to_json())
    return report


class Stages:
    """The trainings, one after the other; each says how long the rest will take, by what the ones before took.

    Args:
        config: as of `advise`.
        dataset: its data.
        out: folder that keeps finished networks; None keeps nothing.

    Attributes:
        cloud: the clean cloud network.
        seconds: that each training took.
    """

    def __init__(self, config: TrainConfig, dataset: Dataset, out: Path | None) -> None:
        self.config, self.dataset, self.out = config, dataset, out
        self.fabric = Fabric(accelerator="auto", devices=1)
        self.seconds: dict[str, float] = {}
        self.shape = (dataset.planes, *dataset.size)
        self.local_macs = cost(make_local(config, dataset), self.shape).macs
        self.cloud_macs = cost(make_cloud(config, dataset), self.shape).macs
        self.work = self._work()
        self.spent = 0.0
        if config.given_cloud is None:
            settings = config.model_copy(update={"clean_epochs": self.epochs("cloud")})
            self.cloud = self._stage(
                "cloud",
                "the clean cloud network",
                lambda: make_cloud(settings, dataset),
                lambda _: train_clean(settings, dataset, self.fabric, None),
            )
        else:
            self.cloud = make_cloud(config, dataset).eval()

    def epochs(self, stage: str) -> int:
        """As many as show about `SEEN` images."""
        least, most = EPOCHS
        return min(most, max(least, round(SEEN[stage] / self._images(stage))))

    def classifier(self, stage: str, times: int) -> nn.Module:
        """The widest classifier of `times` the local network's cost, distilled from the clean network."""
        settings = self.config.model_copy(update={"pretrain_epochs": self.epochs(stage)})
        task = Task(config=settings, dataset=self.dataset, clean=self.cloud)

        def make() -> nn.Module:
            seed_everything(settings.seed, "advise", stage)
            return Answers(widest(task, times * self.local_macs))

        def train(network: nn.Module) -> nn.Module:
            batches = training_batches(settings, self.dataset, self.fabric)
            pretrain(network, self.fabric.to_device(self.cloud), batches, settings, self.fabric, None)
            return network.cpu().eval()

        title = "the phone alone" if times == 1 else f"the phone alone at {times} times the cost"
        return self._stage(stage, title, make, train)

    def attacker(self) -> nn.Module:
        """The cloud network's architecture; it learns the hidden attributes from clean photos of the attacker's split."""
        changes = {
            "keep": self.config.hide,
            "hide": (),
            "frozen_cloud": None,
            "clean_epochs": self.epochs("attacker"),
        }
        settings = self.config.model_copy(update=changes)
        splits = {**self.dataset.splits, Split.DEFENDER: self.dataset.splits[Split.ATTACKER]}
        dataset = replace(self.dataset, splits=splits)
        return self._stage(
            "attacker",
            "a quick attacker on clean photos",
            lambda: make_cloud(settings, dataset),
            lambda _: train_clean(settings, dataset, self.fabric, None, what="attacker"),
        )

    def _stage(
        self, name: str, title: str, make: Callable[[], nn.Module], train: Callable[[nn.Module], nn.Module]
    ) -> nn.Module:
        """A network, trained or read back from the folder."""
        file = None if self.out is None else self.out / f"{name}.safetensors"
        if file is not None and file.exists():
            network = make()
            checkpoint.load_module(network, file)
            self.work.pop(name)
            return network.eval()
        note(f"{title}{self._left()}")
        started = time.perf_counter()
        network = train(make())
        self.seconds[name] = round(time.perf_counter() - started, 1)
        self.spent += self.work.pop(name)
        if file is not None:
            checkpoint.save_module(network, file)
        return network

    def _images(self, stage: str) -> int:
        split = Split.ATTACKER if stage == "attacker" else Split.DEFENDER
        return len(self.dataset.splits[split])

    def _work(self) -> dict[str, float]:
        """Multiply-accumulates of each training still to come: forward, and twice that backward; the teacher's forward."""
        macs: dict[str, float] = {}
        if self.config.given_cloud is None:
            macs["cloud"] = 3 * self.cloud_macs
        macs["phone"] = 3 * self.local_macs + self.cloud_macs
        macs["larger"] = 3 * TIMES * self.local_macs + self.cloud_macs
        if self.config.hide:
            macs["attacker"] = 3 * self.cloud_macs
        return {name: each * self.epochs(name) * self._images(name) for name, each in macs.items()}

    def _left(self) -> str:
        if not self.spent:
            return f" (the first of {len(self.work)} trainings)"
        minutes = sum(self.seconds.values()) / self.spent * sum(self.work.values()) / 60
        return f" (about {max(1, round(minutes))} min left in all)"


def measure(stages: Stages, *, private_cloud: bool, limits: Limits) -> Report:
    """Train or take up what is missing, and weigh it."""
    config, dataset = stages.config, stages.dataset
    networks = {"phone": stages.classifier("phone", 1), "larger": stages.classifier("larger", TIMES)}
    hits = {
        split: {
            name: credits(one, dataset, split, config.keep)
            for name, one in (("cloud", stages.cloud), *networks.items())
        }
        for split in (Split.VALIDATION, Split.TEST)
    }
    rows = tuple(
        accuracy(name, attribute, *(hits[split] for split in (Split.VALIDATION, Split.TEST)))
        for attribute in config.keep
        for name in ("phone", "larger", "cloud")
    )
    validated = {
        name: {row.attribute: row.validation for row in rows if row.network == name}
        for name in hits[Split.TEST]
    }
    shape = (dataset.planes, *dataset.size)
    costs = {name: price(one, shape) for name, one in (*networks.items(), ("cloud", stages.cloud))}
    hidden = hidden_rows(stages) if config.hide else ()
    figures = Figures(
        classes={name: len(dataset.attributes[name].classes) for name in config.keep},
        phone=validated["phone"],
        cloud=validated["cloud"],
        larger=validated["larger"],
        on_phone=None if private_cloud else costs["cloud"],
        majority={name: label_only_floor(dataset.labels[name], []) for name in config.keep},
        hidden=[
            Hidden(name=row.attribute, majority=row.majority, label_only=row.label_only, clean=row.clean)
            for row in hidden
        ],
    )
    return Report(
        data=dataset.spec,
        dataset_id=dataset.id,
        keep=config.keep,
        hide=config.hide,
        networks=rows,
        hidden=hidden,
        costs=costs,
        limits=limits,
        advice=recommend(figures, limits),
        seconds=stages.seconds,
    )


def credits(network: nn.Module, dataset: Dataset, split: Split, names: Sequence[str]) -> Credits:
    """What each answer of a network about a split is worth (`sfumato.data.truth`): 1 or 0 where classes are asked for."""
    found: dict[str, list[Tensor]] = {name: [] for name in names}
    with evaluating(network):
        for batch in Batches(dataset, split, names, 256).ordered():
            for name, logits in network(batch.images).items():
                found[name].append(logits)
    facts = truths(dataset, names, dataset.splits[split])
    return {name: facts[name].credit(torch.cat(parts).numpy()) for name, parts in found.items()}


def interval(found: NDArray[np.float64]) -> tuple[float, float]:
    """95 % interval of a mean credit: Wilson's where answers are right or wrong."""
    if np.isin(found, (0.0, 1.0)).all():
        return wilson(float(found.sum()), len(found))
    half = Z95 * float(found.std()) / len(found) ** 0.5
    return float(found.mean()) - half, float(found.mean()) + half


def accuracy(name: str, attribute: str, validation: dict[str, Credits], test: dict[str, Credits]) -> Accuracy:
    """The figures of one network for one attribute, from the credits of all networks."""
    mine, clean = test[name][attribute], test["cloud"][attribute]
    lost = 100.0 * (clean - mine)
    mean, half = float(lost.mean()), Z95 * float(lost.std()) / len(lost) ** 0.5
    return Accuracy(
        network=name,
        attribute=attribute,
        validation=float(validation[name][attribute].mean()),
        test=float(mine.mean()),
        ci95=interval(mine),
        behind=mean,
        behind_ci95=(mean - half, mean + half),
    )


def hidden_rows(stages: Stages) -> tuple[HiddenRow, ...]:
    """Floors and the quick attacker, by attribute."""
    config, dataset = stages.config, stages.dataset
    hits = credits(stages.attacker(), dataset, Split.TEST, config.hide)
    kept = [dataset.labels[name] for name in config.keep]
    return tuple(
        HiddenRow(
            attribute=name,
            majority=label_only_floor(dataset.labels[name], []),
            label_only=label_only_floor(dataset.labels[name], kept),
            clean=float(hits[name].mean()),
            ci95=interval(hits[name]),
        )
        for name in config.hide
    )


def claim(out: Path, settings: dict[str, Any]) -> None:
    """Take a folder, or go on in it.

    Raises:
        SfumatoError: it holds something else, or was begun with other settings or by an earlier version.
    """
    if (out / SETTINGS).exists():
        if read_json(out / SETTINGS) != settings:
            raise SfumatoError(
                f"{out} was begun with other settings or by another version: choose another --out, or remove it"
            )
        return
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise SfumatoError(f"{out} is not empty and holds no {SETTINGS}: choose another --out")
    write_json(out / SETTINGS, settings)
