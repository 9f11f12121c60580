"""Co-training: both networks, one epoch at a time, with checkpoints.

One step draws an upload for every image of a batch and moves both networks along the gradient of the objective. The loss is a
list of terms (`sfumato.training.regularisers`), each of which keeps what it needs. The cloud network starts from the clean one
and the channel starts nearly clean, so training begins where the task is solved and then gives up information step by step.

    trainer = CoTrainer(config, dataset, clean, folder, fabric)      # continues from a checkpoint in `folder`
    while trainer.epoch < config.epochs:
        record = trainer.run_epoch()
        trainer.save()
"""

import time
from collections.abc import Callable, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any, cast

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from sfumato.core.seeding import derive_seed, seed_everything
from sfumato.data import Dataset, Split
from sfumato.models.argmax_head import ClassScores
from sfumato.models.autoregressive import AutoregressivePrior
from sfumato.models.cloud import inner_network
from sfumato.models.local import STRIDE
from sfumato.models.schedule import set_learning_rate
from sfumato.training import checkpoint
from sfumato.training.clean import make_cloud, training_batches, weight_groups
from sfumato.training.config import TrainConfig
from sfumato.training.epoch_selection import Score, Targets, score
from sfumato.training.evaluate import Evaluation, evaluate
from sfumato.training.loader import Batch, Batches, mixture
from sfumato.training.local_cloud import LocalCloudModel
from sfumato.training.log import RunningMeans
from sfumato.training.regularisers import Setting, TaskLoss, create
from sfumato.training.regularisers.autoregressive import AutoregressiveRatePenalty
from sfumato.training.run import make_local, make_reader


def make_model(config: TrainConfig, dataset: Dataset, folder: Path | None) -> LocalCloudModel:
    """Both networks of this configuration, untrained.

    Args:
        config, dataset: of the run.
        folder: of the run, where it holds the copy of a given ONNX network.
    """
    heads = {name: len(dataset.attributes[name].classes) for name in config.keep}
    cloud = make_reader(config, dataset, make_cloud(config, dataset, folder))
    local, fixed = make_local(config, dataset), config.frozen_cloud is not None
    scores = None
    if config.auxiliary_classifier and local.decision is None and local.shortlist is None:
        height, width = dataset.size
        grid = (height // STRIDE, width // STRIDE)
        scores = ClassScores(local.encoder.width, grid, list(heads.values()), config.padding)
    return LocalCloudModel(local, cloud, heads, fixed=fixed, dial=config.dial, auxiliary=scores)


def first_model(config: TrainConfig, dataset: Dataset, clean: nn.Module, folder: Path) -> LocalCloudModel:
    """The networks that training starts from: the clean cloud network, and the same local network for the same seed."""
    seed_everything(config.seed, "cotrain", "initial")
    model = make_model(config, dataset, folder)
    inner_network(model.cloud).load_state_dict(clean.state_dict())
    return model


class CoTrainer:
    """Networks, optimiser, terms of the loss, and the best epoch so far. Continues from a checkpoint if there is one.

    Args:
        config: of the run.
        dataset: its data.
        clean: the clean cloud network, on any device.
        folder: of the run.
        fabric: launched; says on which device and in which process this is.
        first: both networks as they were pretrained on clean images; None starts from the clean cloud network alone.

    Attributes:
        model: local and cloud network.
        mean: the running mean of their weights, with `average`; else None.
        best: a copy of the judged ones as they were after the best epoch, on the CPU.
        best_record: the record of that epoch.
        best_prior: the learned prior as it was then: a later one is fitted to other uploads, and its bound is looser.
        regularisers: the terms of the loss.
        epoch: number of the next epoch.
        steps: optimiser steps of the whole co-training.
    """

    def __init__(
        self,
        config: TrainConfig,
        dataset: Dataset,
        clean: nn.Module,
        folder: Path,
        fabric: Fabric,
        *,
        first: LocalCloudModel | None = None,
    ) -> None:
        self.config, self.dataset, self.folder, self.fabric = config, dataset, folder, fabric
        self.clean = fabric.to_device(clean).eval()
        self.batches = training_batches(config, dataset, fabric, hidden=True)
        self.validation = Batches(
            dataset, Split.VALIDATION, config.keep, config.batch_size, device=fabric.device
        )
        self.steps = config.epochs * self.batches.steps
        self.targets = self._targets()
        # First weights come from one generator, so the order in which networks are made belongs to the seed.
        self.model = first_model(config, dataset, clean, folder)
        if first is not None:
            self.model.load_state_dict(first.state_dict())
        if config.gating.window:
            self.model.local.hold()
        self.mean: AveragedModel | None = None
        if config.average is not None:
            # Buffers too: the statistics of batch norms then belong to the mean weights about as well as to any.
            average = get_ema_multi_avg_fn(config.average)
            self.mean = AveragedModel(self.model, multi_avg_fn=average, use_buffers=True)
        self.best = make_model(config, dataset, folder)
        self.best_record: dict[str, Any] = {}
        self.best_prior: AutoregressivePrior | None = None
        optimizer = torch.optim.AdamW(
            weight_groups(self.model), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
        )
        self.shared, self.optimizer = fabric.setup(self.model, optimizer)
        self.setting = Setting(
            config=config,
            dataset=dataset,
            fabric=fabric,
            model=self.model,
            targets=self.targets,
            steps=self.steps,
        )
        self.task = TaskLoss(self.setting, self.clean)
        self.regularisers = create(self.setting, self.task)
        self.epoch = 0
        if checkpoint.exists(folder / "checkpoint"):
            with checkpoint.restored(folder / "checkpoint") as state:
                self._load(state)
        else:
            for term in self.regularisers:
                term.begin()

    def _targets(self) -> Targets:
        config = self.config
        if config.max_drop is not None:
            clean_accuracy = evaluate(self.clean, self.validation).accuracy
            return Targets(
                least_accuracy=clean_accuracy - config.max_drop / 100,
                beyond=config.beyond,
                leaks=config.leaks,
            )
        if config.objective == "literal":
            return Targets()
        return Targets(bits=config.bits or config.rate.default_bits, beyond=config.beyond, leaks=config.leaks)

    @property
    def judged(self) -> LocalCloudModel:
        """The networks that are validated and kept: those in training, or their running mean."""
        return self.model if self.mean is None else cast(LocalCloudModel, self.mean.module)

    @property
    def prior(self) -> AutoregressivePrior | None:
        """The learned prior, where the rate is measured against one."""
        learned = (term.prior for term in self.regularisers if isinstance(term, AutoregressiveRatePenalty))
        return next(learned, None)

    def run_epoch(self, advance: Callable[[], None] = lambda: None) -> dict[str, Any]:
        """One epoch: train, validate, keep the best.

        Args:
            advance: called after every step.

        Returns:
            The record for `metrics.jsonl`.
        """
        started, log = time.perf_counter(), RunningMeans()
        config, first = self.config, self.epoch * self.batches.steps
        for term in self.regularisers:
            term.start_epoch(self.epoch, first)
        seed_everything(config.seed, "cotrain", self.epoch)
        self.shared.train()
        self.model.local.up.train(self.epoch < config.decoder_norm_until * config.epochs)
        only_mirror = config.only_mirrors(self.epoch, config.epochs)
        for step, batch in enumerate(self.batches.epoch(only_mirror=only_mirror), first):
            self.step(mixture(batch) if config.mixes(step) else batch, step, log)
            advance()
        seed = derive_seed(config.seed, "val")
        judged = self.judged
        result = evaluate(judged.cloud, self.validation, judged.local, seed=seed, prior=self.prior)
        end = first + self.batches.steps
        more = {
            name: figure for term in self.regularisers for name, figure in term.validate(end, seed).items()
        }
        record = self.record(result, log, time.perf_counter() - started) | more
        self.keep_best(record)
        self.epoch += 1
        for term in self.regularisers:
            term.end_epoch(record, self.epoch * self.batches.steps)
        return record

    def step(self, batch: Batch, step: int, log: RunningMeans) -> None:
        """One optimiser step of both networks; then the terms of the loss learn from the batch."""
        set_learning_rate(self.optimizer, self.setting.learning_rate(step, self.config.learning_rate))
        output = self.shared(batch.images)
        terms: list[Tensor] = []
        for term in self.regularisers:
            terms += term.losses(output, batch, step, log)
        loss = sum(terms[1:], terms[0])
        log.add(loss=loss.item())
        self.optimizer.zero_grad()
        self.fabric.backward(loss)
        self.optimizer.step()
        if self.mean is not None:
            self.mean.update_parameters(self.model)
        for term in self.regularisers:
            term.update(output, batch, step, log)

    def record(self, result: Evaluation, log: RunningMeans, seconds: float) -> dict[str, Any]:
        """The line of `metrics.jsonl` for this epoch."""
        return {
            "stage": "cotrain",
            "epoch": self.epoch,
            "val_accuracy": result.accuracy,
            "val_accuracy_by_head": result.accuracy_by_head,
            "val_cross_entropy": result.cross_entropy,
            "val_rate_bits": result.prior_bits,
            "val_uniform_bits": result.rate_bits,
            "target_bits": self.config.rate.default_bits,
            **log.result(),
            "seconds": round(seconds, 3),
        }

    def score(self, record: Mapping[str, Any]) -> Score:
        """How good an epoch was, by its record."""
        return score(
            record["val_accuracy"],
            record["val_rate_bits"] or 0.0,
            self.targets,
            residual_bits=record.get("residual_bits", 0.0),
            leaks=record.get("val_leak"),
            settings=self.config.selection,
        )

    def keep_best(self, record: dict[str, Any]) -> None:
        """Keep this epoch's weights if it is the best so far."""
        now = self.score(record)
        if not self.best_record or now >= self.score(self.best_record):
            self.best_record = {**record, "goal_met": now.met}
            self.best.load_state_dict(self.judged.state_dict())
            if self.prior is not None:
                self.best_prior = deepcopy(self.prior)

    def save(self) -> None:
        """Write a checkpoint of the epochs done so far."""
        state = {
            "epoch": self.epoch,
            "best_record": self.best_record,
            "best": self.best.state_dict(),
            **({} if self.best_prior is None else {"best_prior": self.best_prior.state_dict()}),
            "model": self.model.state_dict(),
            **({} if self.mean is None else {"mean": self.mean.state_dict()}),
            "optimizer": checkpoint.optimizer_state(self.optimizer),
            "regularisers": {term.name: term.state_dict() for term in self.regularisers},
        }
        checkpoint.save(self.folder / "checkpoint", self.epoch, state)

    def _load(self, state: Mapping[str, Any]) -> None:
        self.epoch, self.best_record = state["epoch"], state["best_record"]
        if self.best_record:
            self.score(self.best_record)  # what cannot be judged is told now, not an epoch later
        self.best.load_state_dict(state["best"])
        self.model.load_state_dict(state["model"])
        if self.mean is not None:
            self.mean.load_state_dict(state["mean"])
        checkpoint.load_optimizer_state(self.optimizer, state["optimizer"])
        for term in self.regularisers:
            term.load_state_dict(state["regularisers"][term.name])
        if self.prior is not None:
            self.best_prior = deepcopy(self.prior)
            if "best_prior" in state:  # checkpoints of before have the last one alone
                self.best_prior.load_state_dict(state["best_prior"])
