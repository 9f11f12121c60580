"""`sfumato bench training`: what a co-training step costs beside a plain step of the cloud network, and where the rest goes.

The step is the trainer's own (`sfumato.training.trainer`), on one batch that stays in memory. With attributes to hide, one of
the objective `suppress` is timed as well, at the end of a run, where its adversaries learn and count. The parts are timed
alone, in turn with both. Times are processor time: other programs on the machine do not lengthen it.

    results = bench_training(make_config({"data": "synthetic,count=800", "keep": ("smiling",)}), rounds=10, steps=30)
"""

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
from lightning_fabric import Fabric
from torch import nn

from sfumato.bench.host import computer
from sfumato.bench.results import Results, Speed
from sfumato.bench.timing import Times, interleave, ratio
from sfumato.core.memory import keep_freed_memory
from sfumato.core.provenance import provenance
from sfumato.data import Dataset, open_dataset
from sfumato.training.clean import make_cloud
from sfumato.training.config import TrainConfig
from sfumato.training.log import RunningMeans
from sfumato.training.losses import task_loss
from sfumato.training.trainer import CoTrainer

PLAIN, COTRAINING = "plain step of the cloud network", "co-training step"
SUPPRESSING = "co-training step with adversaries"
PARTS = ("local network and channel", "cloud network", "clean network's answers")
SECONDS = 60.0
"""At most, for each candidate."""


def bench_training(
    config: TrainConfig,
    *,
    rounds: int,
    steps: int,
    audited: Path | None = None,
    watch: Callable[[str], None] = lambda title: None,
) -> Results:
    """Time steps, and a quick audit if there is something to audit.

    Args:
        config: data, batch size and objective. What is to be hidden counts for the step with adversaries alone.
        rounds: turns of each kind of step.
        steps: timed steps of each kind in all.
        audited: a run or an export, to be audited once; None leaves that out.
        watch: called with the name of each part as it begins.

    Raises:
        SfumatoError: the data or the artifact cannot be used.
    """
    watch("steps, taking turns")
    keep_freed_memory()  # as the trainer does
    with tempfile.TemporaryDirectory(prefix="sfumato-training-") as folder:
        calls = step_calls(config, Path(folder))
        times = interleave(calls, rounds=rounds, runs=steps, seconds=SECONDS, clock=time.process_time_ns)
    period = {SUPPRESSING: config.adversaries.every}
    speeds = [_speed(name, found, config.batch_size, period.get(name, 1)) for name, found in times.items()]
    shares = {name: ratio(times[name], times[COTRAINING]) for name in PARTS}
    shares["the rest"] = 1 - sum(shares.values())
    speeds = [s.model_copy(update={"parts": shares}) if s.name == COTRAINING else s for s in speeds]
    if audited is not None:
        watch("a quick audit")
        speeds.append(audit_speed(audited))
    return Results(
        target="training",
        environment={
            **provenance(),
            **computer(),
            "threads": torch.get_num_threads(),
            "load": os.getloadavg()[0],
        },
        speeds=tuple(speeds),
        settings={"rounds": rounds, "steps": steps, **config.model_dump(mode="json")},
    )


def step_calls(config: TrainConfig, folder: Path) -> dict[str, Callable[[], object]]:
    """All kinds of step and the parts of a co-training step, each as a call that repeats it on one batch.

    Adversaries are updated once in several steps: a call with them makes all of these.
    """
    dataset = open_dataset(config.data, keep=config.keep, hide=config.hide)
    plainly = config.model_copy(update={"hide": ()}) if config.objective != "suppress" else config
    trainer = _trainer(plainly, dataset, folder)
    batch = next(iter(trainer.batches.epoch()))
    number = iter(range(10**9))
    cloud, local = make_cloud(config, dataset).train(), trainer.model.local
    optimizer = torch.optim.AdamW(cloud.parameters(), lr=config.learning_rate, fused=True)

    def cotraining() -> None:
        trainer.step(batch, next(number) % trainer.steps, RunningMeans())

    def plain() -> None:
        loss = task_loss(cloud(batch.images), batch.labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    def phone() -> None:
        parameters = local(batch.images)
        backward(local, local.channel.sample(parameters, local.channel.noise(parameters)).mean())

    def reader() -> None:
        backward(cloud, task_loss(cloud(batch.images), batch.labels))

    def teacher() -> None:
        trainer.task.teacher_outputs(batch.images)

    calls: dict[str, Callable[[], object]] = {PLAIN: plain, COTRAINING: cotraining}
    if config.hide and config.objective == "rate":
        hiding = _trainer(config.model_copy(update={"objective": "suppress"}), dataset, folder)
        labelled, every = next(iter(hiding.batches.epoch())), config.adversaries.every

        def suppressing() -> None:
            for step in range(hiding.steps - every, hiding.steps):
                hiding.step(labelled, step, RunningMeans())

        calls[SUPPRESSING] = suppressing
    return calls | dict(zip(PARTS, (phone, reader, teacher), strict=True))


def _trainer(config: TrainConfig, dataset: Dataset, folder: Path) -> CoTrainer:
    """A trainer in training mode, with untrained networks."""
    fabric = Fabric(accelerator="cpu", devices=1)
    trainer = CoTrainer(config, dataset, make_cloud(config, dataset), folder, fabric)
    trainer.shared.train()
    return trainer


def backward(module: nn.Module, loss: torch.Tensor) -> None:
    """Gradients of a module, without a step."""
    module.zero_grad()
    loss.backward()


def cotraining_over_plain(results: Results, name: str = COTRAINING) -> float:
    """How many plain steps a co-training step costs: the median over rounds of the ratio of medians."""
    found = {speed.name: speed.round_seconds for speed in results.speeds}
    return median(a / b for a, b in zip(found[name], found[PLAIN], strict=True))


def audit_speed(artifact: Path) -> Speed:
    """Seconds of one quick audit."""
    from sfumato.audit import audit

    with tempfile.TemporaryDirectory(prefix="sfumato-audit-") as folder:
        result = audit(artifact, "quick", out=Path(folder))
    return Speed(name="quick audit", seconds=result.seconds, runs=1)


def _speed(name: str, times: Times, images: int, steps: int) -> Speed:
    """Of one step, where a run is `steps` of them."""
    seconds = times.p(50) / 1000 / steps
    rounds = tuple(value / 1000 / steps for value in times.medians)
    return Speed(
        name=name, images_per_s=images / seconds, seconds=seconds, runs=times.runs, round_seconds=rounds
    )
