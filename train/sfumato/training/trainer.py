"""A defence in training: one epoch of co-training at a time, with checkpoints.

One step draws an upload for every image of a batch and moves both networks along the gradient of the objective
(`sfumato.training.losses`). The weight of the rate is found by `RateController`; `suppress` also trains an ensemble of
adversaries. The cloud network starts from the clean one and the channel starts nearly clean, so training begins where the
task is solved and then gives up information step by step.

    defence = Defence(config, dataset, clean, folder, fabric)
    defence.resume()
    defence.set_up()
    record = defence.run_epoch(lambda: None)
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from math import log, prod
from pathlib import Path
from typing import Any, Self, cast

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from sfumato.channels import Parameters
from sfumato.channels.dither import Dither
from sfumato.data import Dataset, Split
from sfumato.data.label_dependence import conditional_entropy
from sfumato.models.autoregressive import PEAK, ContextReference, foreseen
from sfumato.models.cloud import ResNet, answer
from sfumato.models.layers import fold
from sfumato.models.local import LocalNetwork
from sfumato.models.schedule import one_cycle, set_learning_rate
from sfumato.training import checkpoint
from sfumato.training.clean import make_cloud, shared_batches
from sfumato.training.config import TrainConfig
from sfumato.training.epoch_selection import Score, corrected_goal, next_goal, score
from sfumato.training.evaluate import Evaluation, evaluate
from sfumato.training.loader import Batch, Batches, derive_seed, seed_everything
from sfumato.training.losses import feature_loss, noise_price, suppression, task_loss
from sfumato.training.rate_controller import RateController
from sfumato.training.regularisers.adversaries import Ensemble, adversary_loss, best_accuracy, restart_one
from sfumato.training.regularisers.equal_odds import EqualOdds
from sfumato.training.regularisers.residual import References, label_cells
from sfumato.training.run import make_local

HOLD = 0.25
"""Share of the run after which the decoder's batch norm keeps its figures. The decisions of a batch are never evenly spread;
figures that follow them make uploads of one decision differ by a tenth of a bit, and whatever presses on that would press
the code word itself together."""
LEAST_AT_FULL_PACE = 0.1
"""Bits beyond the decision. What a target under it asks for is left to the end of the run, where the learning rate is small
(docs/decisions/0013-limited-weight.md)."""
LEARN_FROM = 0.3
"""Share of the run after which adversaries learn. They press once the rate's line is down: thousands of bits cannot be made
private by choosing among them, and the quickest way to try is to drive every sample to certainty, where the price of the
rate has no gradient left to bring it back."""
LOOKED_AT = 8
"""Steps after which the residual rate is looked at where nothing steers it."""
STARTING_GOAL_BITS = 64.0
"""Where `--max-drop` starts to look for the lowest rate."""

DEFAULT_GOAL_BITS = 16.0
"""Where neither `--bits` nor `--max-drop` is given."""

Answers = dict[str, Tensor]


@dataclass(frozen=True)
class Step:
    """What one forward pass through both networks gives.

    Attributes:
        logits: the cloud's answers, head -> (B, classes).
        features: what its heads look at, (B, F), where the network tells.
        hints: the local network's own guesses, head -> (B, classes).
        said: its decisions, one and zero, head -> (B, classes).
        parameters: of the channel.
        upload: (B, 3, H, W).
    """

    logits: Answers
    features: Tensor | None
    hints: Answers
    said: Answers
    parameters: Parameters
    upload: Tensor


def by_head(planes: Tensor, heads: Mapping[str, int]) -> dict[str, Tensor]:
    """Planes of a decision, (B, K, 1, 1) -> head -> (B, classes)."""
    return dict(zip(heads, planes.flatten(1).split(list(heads.values()), dim=1), strict=True))


class Guesser(nn.Module):
    """The encoder of a local network under its decision: the phone's own guess at the desired labels.

    Args:
        local: a network with a decision.
        heads: names and classes of the kept attributes, in the order of the decision's planes.
    """

    def __init__(self, local: LocalNetwork, heads: Mapping[str, int]) -> None:
        super().__init__()
        assert local.decision is not None
        self.encoder, self.decision, self.heads = local.encoder, local.decision, dict(heads)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Images (B, 3, H, W) -> logits, head -> (B, classes)."""
        return by_head(self.decision.logits(self.encoder(x)[-1]), self.heads)


class Pair(nn.Module):
    """Local and cloud network as one module, so that one optimiser and one process group drive both.

    The logits of the local network's decision are trained beside everything else, on the desired labels themselves (deep
    supervision, Lee et al., 2015): through the noise of a few bits an image the phone would learn them far too slowly.

    Args:
        local, cloud: the two networks.
        heads: names and classes of the kept attributes, in the order of the decision's planes.
        fixed: the cloud network takes no step and stays in evaluation mode; gradients only pass through it.
    """

    def __init__(
        self, local: LocalNetwork, cloud: nn.Module, heads: Mapping[str, int], *, fixed: bool = False
    ) -> None:
        super().__init__()
        self.local, self.cloud, self.heads, self.fixed = local, cloud, dict(heads), fixed
        if fixed:
            cloud.eval().requires_grad_(False)

    def train(self, mode: bool = True) -> Self:
        """Training mode, for the local network alone if the cloud one is fixed."""
        super().train(mode)
        if self.fixed:
            self.cloud.eval()
        return self

    def forward(self, x: Tensor) -> tuple[Answers, Tensor | None, Answers, Answers, Parameters, Tensor]:
        """Images (B, 3, H, W) -> the fields of a `Step`."""
        *fine, coarse = self.local.encoder(x)
        hints, said = {}, coarse
        if self.local.decision is not None:
            logits, said = self.local.decision(coarse)
            hints = by_head(logits, self.heads)
        parameters = self.local.decode(x, fine, said)
        upload = self.local.channel.sample(parameters, self.local.channel.noise(parameters))
        logits, features = answer(self.cloud, upload)
        return logits, features, hints, by_head(said, self.heads) if hints else {}, parameters, upload


@dataclass
class Means:
    """Running means of named figures."""

    total: dict[str, float] = field(default_factory=dict)
    count: dict[str, int] = field(default_factory=dict)

    def add(self, **figures: float) -> None:
        """Take in one value each."""
        for name, value in figures.items():
            self.total[name] = self.total.get(name, 0.0) + value
            self.count[name] = self.count.get(name, 0) + 1

    def result(self) -> dict[str, float]:
        """The means so far."""
        return {name: self.total[name] / self.count[name] for name in self.total}


class Defence:
    """A defence in training: networks, optimisers, controller, and the best epoch so far."""

    def __init__(
        self, config: TrainConfig, dataset: Dataset, clean: nn.Module, folder: Path, fabric: Fabric
    ) -> None:
        self.config, self.dataset, self.folder, self.fabric = config, dataset, folder, fabric
        self.clean = fabric.to_device(clean).eval()
        # The same answers from fewer operators. What the user's own networks do with their layers is not known.
        self.teacher = fold(deepcopy(self.clean)) if isinstance(self.clean, ResNet) else self.clean
        seed_everything(config.seed, "cotrain", "initial")
        cloud = make_cloud(config, dataset, folder)
        cloud.load_state_dict(clean.state_dict())
        self.pair = self._pair(cloud)
        self.optimizer: Any = torch.optim.AdamW(
            self.pair.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
        )
        self.classes = tuple(len(dataset.attributes[name].classes) for name in config.keep)
        references = References(self.pair.local.channel, prod(self.classes), dataset.size)
        self.references = references.to(fabric.device)
        self.best = self._pair(make_cloud(config, dataset, folder))
        self.best_score: Any = None
        self.best_record: dict[str, Any] = {}
        self.adversaries: Ensemble | None = None
        self.adversary_optimizer: Any = None
        self.odds: EqualOdds | None = None
        if config.objective == "suppress":
            classes = {name: len(dataset.attributes[name].classes) for name in config.hide}
            self.adversaries = Ensemble(classes, dataset.size)
            self.odds = EqualOdds(self.pair.heads, classes).to(fabric.device)
            self.adversary_optimizer = torch.optim.AdamW(
                self.adversaries.parameters(), lr=2e-3, weight_decay=1e-3, fused=True
            )
        self.context: ContextReference | None = None
        self.context_optimizer: Any = None
        if config.reference == "context":
            self.context = ContextReference(cast(Dither, self.pair.local.channel))
            self.context_optimizer = torch.optim.AdamW(self.context.parameters(), lr=PEAK, fused=True)
        self.batches = shared_batches(fabric, dataset, (*config.keep, *config.hide), config.batch_size)
        self.validation = Batches(
            dataset, Split.VALIDATION, config.keep, config.batch_size, device=fabric.device
        )
        self.steps = config.epochs * self.batches.steps
        # What the desired labels tell about each hidden attribute, in nats: no adversary is pushed below it.
        rows = dataset.splits[Split.DEFENDER]
        kept = [dataset.labels[name][rows] for name in config.keep]
        self.entropy = {n: conditional_entropy(dataset.labels[n][rows], kept) * log(2) for n in config.hide}
        self.clean_accuracy = evaluate(self.clean, self.validation).accuracy
        goal_bits = config.bits or (STARTING_GOAL_BITS if config.max_drop else DEFAULT_GOAL_BITS)
        self.controller = RateController(self.steps, goal_bits * log(2))
        beyond, least = (config.beyond or 1.0) * log(2), LEAST_AT_FULL_PACE * log(2)
        late = beyond if beyond < least else None
        self.residual_controller = RateController(self.steps, max(beyond, least), late_goal=late)
        self.epoch = 0

    def _pair(self, cloud: nn.Module) -> Pair:
        classes = {name: len(self.dataset.attributes[name].classes) for name in self.config.keep}
        local, fixed = make_local(self.config, self.dataset), self.config.frozen_cloud is not None
        return Pair(local, cloud, classes, fixed=fixed)

    @property
    def follows_features(self) -> float:
        """The weight of the features in the loss; only the built-in network tells its own, and a frozen one cannot follow."""
        able = isinstance(self.clean, ResNet) and self.config.frozen_cloud is None
        return self.config.follows_features if able else 0.0

    @property
    def least_accuracy(self) -> float | None:
        """Validation accuracy that `--max-drop` allows."""
        return None if self.config.max_drop is None else self.clean_accuracy - self.config.max_drop / 100

    @property
    def target_bits(self) -> float | None:
        """The rate target in bits; None where the objective has none."""
        if self.config.objective == "seed" or self.config.max_drop is not None:
            return None
        return self.config.bits or DEFAULT_GOAL_BITS

    def set_up(self) -> None:
        """Hand modules to Fabric. Called after `resume`, so that restored weights are the ones set up."""
        self.shared, self.optimizer = self.fabric.setup(self.pair, self.optimizer)
        if self.adversaries is not None:
            setup = self.fabric.setup(self.adversaries, self.adversary_optimizer)
            self.shared_adversaries, self.adversary_optimizer = setup
        if self.context is not None:
            self.shared_context, self.context_optimizer = self.fabric.setup(
                self.context, self.context_optimizer
            )

    def learning(self, step: int) -> bool:
        """Whether adversaries learn by then."""
        return step >= LEARN_FROM * self.steps

    def run_epoch(self, advance: Callable[[], None]) -> dict[str, Any]:
        """One epoch: train, validate, keep the best. Returns the record for the log."""
        started, means = time.perf_counter(), Means()
        seed_everything(self.config.seed, "cotrain", self.epoch)
        if self.adversaries is not None and self.learning(self.epoch * self.batches.steps):
            restart_one(self.adversaries, self.adversary_optimizer, self.epoch, self.config.seed)
            seed_everything(self.config.seed, "cotrain", self.epoch)
        self.shared.train()
        self.pair.local.up.train(self.epoch < HOLD * self.config.epochs)
        plain = self.config.is_plain(self.epoch, self.config.epochs)
        for index, batch in enumerate(self.batches.epoch(plain=plain)):
            self.step(batch, self.epoch * self.batches.steps + index, means)
            advance()
        self.share_statistics()
        seed = derive_seed(self.config.seed, "val")
        result = evaluate(self.pair.cloud, self.validation, self.pair.local, seed=seed, context=self.context)
        record = self.record(result, means.result(), time.perf_counter() - started)
        self.keep_best(record)
        self.epoch += 1
        if self.controller.arrived(self.epoch * self.batches.steps):
            self.move_goal(record)
        return record

    def share_statistics(self) -> None:
        """Bring processes together that have each kept running means of their own share of the batches."""
        if self.fabric.world_size > 1:
            for module in (self.references, self.odds):
                for value in module.buffers() if module is not None else ():
                    value.copy_(cast(Tensor, self.fabric.all_reduce(value)))

    def move_goal(self, record: Mapping[str, Any]) -> None:
        """Where the rate of the next epoch shall be, once the ramp is behind."""
        bits, validated = self.controller.goal / log(2), record["val_rate_bits"]
        if self.least_accuracy is not None:
            bits = next_goal(bits, record["val_accuracy"], self.least_accuracy)
        elif self.target_bits and validated:
            bits = corrected_goal(bits, self.target_bits, validated, trained=record["rate_bits"])
        self.controller.goal = bits * log(2)

    def step(self, batch: Batch, number: int, means: Means) -> None:
        """One optimiser step of the pair, and the steps of the adversaries after it."""
        learning_rate = one_cycle(number, self.steps, self.config.learning_rate)
        set_learning_rate(self.optimizer, learning_rate)
        made = Step(*self.shared(batch.images))
        loss = self.loss(made, batch, number, means)
        means.add(loss=loss.item())
        self.optimizer.zero_grad()
        self.fabric.backward(loss)
        self.optimizer.step()
        if self.odds is not None:
            pace = learning_rate / self.config.learning_rate
            means.add(odds_gap=self.odds.update(made.hints, batch.labels, pace))
        if self.adversaries is not None and self.learning(number):
            parameters = {name: value.detach() for name, value in made.parameters.items()}
            self.step_adversaries(parameters, batch, means)

    def loss(self, made: Step, batch: Batch, number: int, means: Means) -> Tensor:
        """All terms of the objective (`sfumato.training.losses`) for what one step made."""
        config, teacher, seen = self.config, None, None
        if config.distill or self.follows_features:
            teacher, seen = self.taught(batch.images)
        task = task_loss(made.logits, batch.labels, teacher, config.distill)
        means.add(task_loss=task.item())
        loss = task + self.price(made, number, means)
        if self.follows_features and made.features is not None and seen is not None:
            followed = feature_loss(made.features, seen)
            loss = loss + self.follows_features * followed
            means.add(feature_loss=followed.item())
        if made.hints:
            hint = task_loss(made.hints, batch.labels, teacher, config.distill)
            loss = loss + config.hint_weight * hint
            means.add(hint_loss=hint.item())
        if self.odds is not None:
            loss = loss + config.suppress_weight * self.odds(made.hints, batch.labels)
        if self.adversaries is not None and self.controller.arrived(number):
            with frozen(self.adversaries):
                hidden = suppression(self.adversaries(made.upload), batch.labels, self.entropy)
            loss = loss + config.suppress_weight * hidden
            means.add(suppression=hidden.item())
        return loss

    def taught(self, images: Tensor) -> tuple[Answers, Tensor | None]:
        """The clean network's answers and features, in bfloat16 where that is quicker: a teacher's answers are soft anyway."""
        kind = images.device.type
        quick = isinstance(self.clean, ResNet) and has_bfloat16(images.device)
        with torch.no_grad(), torch.autocast(kind, torch.bfloat16, enabled=quick):
            logits, seen = answer(self.teacher, images)
        return {name: head.to(images.dtype) for name, head in logits.items()}, seen

    def price(self, made: Step, number: int, means: Means) -> Tensor:
        """What the uploads cost: their rate, and their rate beyond the decision, each at what its controller asks."""
        if self.config.objective == "seed":
            return noise_price(made.parameters["scale"], self.config.noise_weight)
        coins = rate = self.pair.local.channel.rate(made.parameters)
        if self.context is not None:
            rate = coins - self.step_context(made, number)
        beta = self.controller.update(self.shared_mean(rate), number)
        means.add(rate_bits=rate.mean().item() / log(2), beta=beta)
        price = beta * rate.mean()
        if self.config.beyond is not None:
            price = price + self.residual_price(made, coins, number, means)
        elif number % LOOKED_AT == 0:
            self.residual(made, coins, means)
        return price

    def residual_price(self, made: Step, rate: Tensor, number: int, means: Means) -> Tensor:
        """What the residual rate costs."""
        residual = self.residual(made, rate, means)
        delta = self.residual_controller.update(self.shared_mean(residual), number)
        return delta * residual.mean()

    def residual(self, made: Step, rate: Tensor, means: Means) -> Tensor:
        """The rate beyond the decision from that against fair coins, both (B,) nats; the references learn from it."""
        decisions = {name: crowned.argmax(1) for name, crowned in made.said.items()}
        cell = label_cells(decisions, self.config.keep, self.classes)
        residual: Tensor = self.references(made.parameters, cell, rate)
        self.references.update(made.parameters, cell)
        means.add(residual_bits=residual.mean().item() / log(2))
        return residual

    def step_context(self, made: Step, number: int) -> Tensor:
        """Train the reference on the uploads of a step; what it foresaw of them before, in nats, (B,)."""
        p, logits = made.parameters["p"], self.shared_context(made.upload.detach())
        set_learning_rate(self.context_optimizer, one_cycle(number, self.steps, PEAK))
        self.context_optimizer.zero_grad()
        self.fabric.backward(-foreseen(p.detach(), logits).mean())
        self.context_optimizer.step()
        return foreseen(p, logits.detach())

    def shared_mean(self, values: Tensor) -> float:
        """The mean over the batches of all processes."""
        return cast(Tensor, self.fabric.all_reduce(values.mean().detach())).item()

    def step_adversaries(self, parameters: Parameters, batch: Batch, means: Means) -> None:
        """Train the adversaries on fresh draws from the same parameters."""
        channel = self.pair.local.channel
        for _ in range(self.config.adversary_steps):
            answers = self.shared_adversaries(channel.sample(parameters, channel.noise(parameters)))
            loss = adversary_loss([{n: a[n] for n in self.config.hide} for a in answers], batch.labels)
            self.adversary_optimizer.zero_grad()
            self.fabric.backward(loss)
            self.adversary_optimizer.step()
        means.add(adversary_accuracy=best_accuracy(answers, batch.labels))

    def record(self, result: Evaluation, means: dict[str, float], seconds: float) -> dict[str, Any]:
        """The line of `metrics.jsonl` for this epoch."""
        return {
            "stage": "cotrain",
            "epoch": self.epoch,
            "val_accuracy": result.accuracy,
            "val_accuracy_by_head": result.accuracy_by_head,
            "val_cross_entropy": result.cross_entropy,
            "val_rate_bits": result.rate_bits if self.context is None else result.context_bits,
            "val_coin_bits": result.rate_bits,
            "target_bits": self.target_bits or self.controller.goal / log(2),
            **means,
            "seconds": round(seconds, 3),
        }

    def score(self, record: Mapping[str, Any]) -> Score:
        """How good an epoch was, by its record."""
        residual = 0.0 if self.config.beyond is None else record["residual_bits"] / self.config.beyond
        return score(
            record["val_accuracy"],
            record["val_rate_bits"] or 0.0,
            target_bits=self.target_bits,
            least_accuracy=self.least_accuracy,
            residual=residual,
        )

    def keep_best(self, record: dict[str, Any]) -> None:
        """Keep this epoch's weights if it is the best so far."""
        now = self.score(record)
        if self.best_score is None or now >= self.best_score:
            self.best_score = now
            self.best_record = {**record, "goal_met": now.met}
            self.best.load_state_dict(self.pair.state_dict())

    def _parts(self) -> dict[str, dict[str, Any]]:
        modules: dict[str, nn.Module] = {"pair": self.pair, "best": self.best, "references": self.references}
        optimizers = {"pair": self.optimizer}
        if self.odds is not None:
            modules["odds"] = self.odds
        if self.adversaries is not None:
            modules["adversaries"] = self.adversaries
            optimizers["adversaries"] = self.adversary_optimizer
        if self.context is not None:
            modules["context"] = self.context
            optimizers["context"] = self.context_optimizer
        return {"modules": modules, "optimizers": optimizers}

    def save(self) -> None:
        """Write a checkpoint of the epochs done so far."""
        state = {
            "epoch": self.epoch,
            "controller": self.controller.state(),
            "residual_controller": self.residual_controller.state(),
            "best": self.best_record,
        }
        checkpoint.save(self.folder / "checkpoint", self.epoch, state=state, **self._parts())

    def resume(self) -> bool:
        """Continue from the latest checkpoint; False if there is none."""
        if not checkpoint.exists(self.folder / "checkpoint"):
            return False
        state = checkpoint.load(self.folder / "checkpoint", **self._parts())
        self.epoch = state["epoch"]
        self.controller = RateController(**state["controller"])
        self.residual_controller = RateController(**state["residual_controller"])
        self.best_record = state["best"]
        self.best_score = self.score(self.best_record)
        return True


def has_bfloat16(device: torch.device) -> bool:
    """Whether the processor or GPU has instructions for bfloat16, without which it is slow."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu.get_capabilities().get("avx512_bf16"))


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """Keep gradients out of a module's weights, but let them pass through it; batch norm uses its running figures."""
    mode = module.training
    module.eval().requires_grad_(False)
    try:
        yield
    finally:
        module.train(mode).requires_grad_(True)
