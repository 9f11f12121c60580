"""Every training stage, step by step in float64, against the same steps written out from the formulas.

In float64 the two differ by rounding alone, whatever the processor: a stored loss of float32 moves with its kernels. The
networks' forward passes and the restart of adversaries are shared, the former have tests of their own. Losses, weights of
terms, running means, schedules and the optimiser are written out here.
"""

from collections.abc import Iterable, Iterator
from copy import deepcopy
from math import cos, exp, log, pi
from pathlib import Path
from typing import Any, cast

import pytest
import torch
import torch.nn.functional as F
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.distributions import Bernoulli, Normal, kl_divergence

from sfumato.core.seeding import derive_seed, seed_everything
from sfumato.data import Dataset, Split, open_dataset
from sfumato.data.label_dependence import conditional_entropy
from sfumato.models.cloud import ResNet
from sfumato.models.tensors import to_tensor
from sfumato.training import clean, loader, regularisers
from sfumato.training.clean import make_cloud, train_clean
from sfumato.training.config import Augmentation, TrainConfig
from sfumato.training.epoch_selection import corrected_goal
from sfumato.training.evaluate import evaluate
from sfumato.training.loader import Batch, Batches, mix
from sfumato.training.local_cloud import EncoderClassifier
from sfumato.training.log import TrainingLog
from sfumato.training.pretrain import pretrain
from sfumato.training.regularisers.adversaries import AdversarialPenalty, Ensemble, restart_one
from sfumato.training.regularisers.rate import RatePenalty
from sfumato.training.run import make_local
from sfumato.training.trainer import CoTrainer

Answers = dict[str, Tensor]
SAME = 1e-9
"""Relative: far above the rounding of float64, far below what any change of method makes."""
DATA = "synthetic,size=16,count=520"
COMMON: dict[str, Any] = {
    "data": DATA,
    "keep": ("skin", "glasses"),
    "epochs": 3,
    "clean_epochs": 2,
    "pretrain_epochs": 2,
    "batch_size": 48,
}
OBJECTIVES: dict[str, dict[str, Any]] = {
    "rate": {"bits": 8},
    "picture": {"bits": 600, "augmentation": {"mirror_only": 0.5}, "distill": 0.3},
    "mixed": {"bits": 600, "distill": 0.3, "mix_every": 3, "decision": "pairwise"},
    "average": {"bits": 8, "average": 0.8},
    "beyond": {"bits": 8, "beyond": 0.05, "levels": 4, "aux_weight": 0.7},
    "autoregressive": {"bits": 150, "prior": "autoregressive", "distill": 0.0},
    "gaussian": {"bits": 50, "channel": "gaussian", "block": 2},
    "literal": {"objective": "literal", "channel": "gaussian", "noise_weight": 0.2},
    "suppress": {
        "objective": "suppress",
        "hide": ("background", "hair"),
        "beyond": 2,
        "suppress_weight": 0.8,
        "adversaries": {"every": 2, "steps": 2, "restart_every": 2},
    },
}


@pytest.fixture(autouse=True)
def float64(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Networks, images and statistics in float64; a narrow cloud network."""
    monkeypatch.setattr(clean, "create_cloud", lambda name, classes, **_: ResNet(classes, widths=(8, 12, 16)))
    monkeypatch.setattr(loader, "to_tensor", lambda images, device=None: to_tensor(images).double())
    monkeypatch.setattr(regularisers.task, "has_bfloat16", lambda device: False)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture(scope="module")
def fabric() -> Fabric:
    return Fabric(accelerator="cpu", devices=1)


def some_cloud(config: TrainConfig, dataset: Dataset) -> nn.Module:
    """An untrained cloud network with the batch norm figures of some images, so that its features spread."""
    seed_everything("some cloud")
    cloud = make_cloud(config, dataset)
    for part in cloud.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.momentum = 1.0
    cloud(to_tensor(dataset.images[:64]).double())
    return cloud.eval()


def one_cycle(step: int, steps: int, peak: float) -> float:
    part = step / steps
    if part < 0.2:
        return peak * (1 + 12 * (1 - cos(pi * part / 0.2))) / 25
    return peak * (1 + cos(pi * (part - 0.2) / 0.8)) / 2


class AdamW:
    """Loshchilov and Hutter (2019), one weight after the other."""

    def __init__(self, parameters: Iterable[nn.Parameter], decay: float) -> None:
        self.parameters = [weight for weight in parameters if weight.requires_grad]
        self.decay = decay
        self.state: dict[nn.Parameter, tuple[int, Tensor, Tensor]] = {}

    def step(self, loss: Tensor, rate: float) -> None:
        slopes = torch.autograd.grad(loss, self.parameters, allow_unused=True)
        for weight, slope in zip(self.parameters, slopes, strict=True):
            if slope is None:
                continue
            t, first, second = self.state.get(weight, (0, torch.zeros_like(slope), torch.zeros_like(slope)))
            t, first, second = t + 1, 0.9 * first + 0.1 * slope, 0.999 * second + 0.001 * slope**2
            self.state[weight] = t, first, second
            move = (first / (1 - 0.9**t)) / ((second / (1 - 0.999**t)).sqrt() + 1e-8)
            weight.data = weight.data * (1 - rate * self.decay) - rate * move


class Law:
    """The weight of a rate, as the head of `sfumato.training.rate_controller` has it."""

    def __init__(self, steps: int, goal: float, late: float | None = None) -> None:
        self.steps, self.goal, self.late = steps, goal, late
        self.start, self.integral, self.smooth = 0.0, 0.01, 0.0

    def allowed(self, part: float) -> float:
        down = min(max((part - 0.05) / 0.35, 0.0), 1.0)
        rate: float = max(self.start, self.goal) ** (1 - down) * self.goal**down
        if self.late is None:
            return rate
        on = min(max((part - 0.5) / 0.3, 0.0), 1.0)
        return cast(float, rate ** (1 - on) * self.late**on)

    def weight(self, rate: float, step: int) -> float:
        if not self.start and rate <= 0:
            return 0.0
        if not self.start:
            self.start, self.smooth = rate, log(rate)
        self.smooth = (self.smooth + log(max(rate, 1e-6))) / 2
        part = step / self.steps
        error = min(max(self.smooth - log(self.allowed(part)), -1.5), 1.5)
        asked, limit = self.integral * exp(2 * error), 0.05 * 1000 ** (max(part - 0.4, 0) / 0.6)
        if asked <= limit or error < 0:
            self.integral = max(self.integral * exp(0.05 * error), 1e-4)
        return cast(float, min(asked, limit) / exp(self.smooth))


def log_chances(logits: Tensor) -> Tensor:
    return logits - logits.exp().sum(1, keepdim=True).log()


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    chances = log_chances(logits)
    return -torch.stack([chances[row, label] for row, label in enumerate(labels.tolist())]).mean()


def task(logits: Answers, labels: Answers, teacher: Answers, share: float) -> Tensor:
    """Labels and teacher, mixed by the share of the teacher; the mean over heads."""
    losses = [
        (1 - share) * cross_entropy(answer, labels[name])
        - share * (log_chances(teacher[name]).exp() * log_chances(answer)).sum(1).mean()
        for name, answer in logits.items()
    ]
    return torch.stack(losses).mean()


class Formulas:
    """Co-training, with the networks that `source` starts from."""

    def __init__(self, config: TrainConfig, source: CoTrainer) -> None:
        self.config, self.source, self.dataset = config, source, source.dataset
        self.local, self.cloud, self.clean = source.model.local, source.model.cloud, source.clean
        self.channel = self.local.channel
        attributes = self.dataset.attributes
        self.classes = {name: len(attributes[name].classes) for name in (*config.keep, *config.hide)}
        self.batches = Batches(self.dataset, Split.DEFENDER, tuple(self.classes), config.batch_size)
        self.steps = config.epochs * self.batches.steps
        self.optimizer = AdamW(source.model.parameters(), 0.01)
        self.rate_law = Law(self.steps, (config.bits or 16) * log(2))
        beyond = (config.beyond or 1) * log(2)
        late = beyond if beyond < 0.1 * log(2) else None
        self.beyond_law = Law(self.steps, max(beyond, 0.1 * log(2)), late)
        self.uploads: dict[tuple[int, ...], dict[str, Tensor]] = {}
        self.odds: dict[tuple[str, str], tuple[Tensor, Tensor, set[tuple[int, int]]]] = {
            (kept, hidden): (
                torch.full(
                    (self.classes[kept], self.classes[hidden], self.classes[kept]), 1 / self.classes[kept]
                ),
                torch.zeros(self.classes[kept], self.classes[hidden], self.classes[kept]),
                set(),
            )
            for kept in config.keep
            for hidden in config.hide
        }
        for term in source.regularisers:
            if not isinstance(term, AdversarialPenalty):
                continue
            self.adversaries = term.ensemble
            self.adversary_optimizer = AdamW(self.adversaries.parameters(), 0.001)
        if source.prior is not None:
            self.prior = source.prior
            self.prior_optimizer = AdamW(self.prior.parameters(), 0.01)
        self.means: dict[str, list[float]] = {}
        self.running: Answers = {}

    def epoch(self, number: int) -> dict[str, float]:
        """One epoch; the means of what it lost and what the uploads told."""
        config = self.config
        first, self.means = number * self.batches.steps, {"loss": [], "rate_bits": [], "suppression": []}
        if config.objective == "suppress" and first >= 0.3 * self.steps:
            optimizer = cast(torch.optim.Optimizer, self.adversary_optimizer)
            restart_one(self.adversaries, optimizer, number, config.seed, 2)
        self.source.model.train()
        self.local.training = False  # of this module alone: pixels are not packed
        self.local.up.train(number < 0.25 * config.epochs)
        seed_everything(config.seed, "cotrain", number)
        plain = number >= (1 - config.augmentation.mirror_only) * config.epochs
        for index, batch in enumerate(self.batches.epoch(only_mirror=plain)):
            self.step(batch, first + index)
        return {name: sum(values) / len(values) for name, values in self.means.items() if values}

    def step(self, batch: Batch, number: int) -> None:
        config, labels, images, share = self.config, batch.labels, batch.images, self.config.distill
        if config.mix_every and number % config.mix_every == config.mix_every - 1:
            images, share = mix(images), 1.0
        *fine, coarse = self.local.encoder(images)
        hints, said = {}, coarse
        if self.local.decision is not None:
            planes, said = self.local.decision(coarse)
            counts = [self.classes[name] for name in config.keep]
            hints = dict(zip(config.keep, planes.flatten(1).split(counts, dim=1), strict=True))
            winners = [part.argmax(1) for part in said.flatten(1).split(counts, dim=1)]
            cells = list(zip(*(winner.tolist() for winner in winners), strict=True))
        parameters = self.local.decode(images, fine, said)
        upload = self.draw(parameters)
        assert isinstance(self.clean, ResNet)
        assert isinstance(self.cloud, ResNet)
        with torch.no_grad():
            seen = self.clean.features(images)
            teacher = self.clean.answers(seen)
        features = self.cloud.features(upload)
        loss = task(self.cloud.answers(features), labels, teacher, share)
        if config.objective == "literal":
            loss = loss - config.noise_weight * parameters["scale"].log().mean()
        else:
            loss = loss + self.price(parameters, upload, cells, number)
        if config.bits is not None and config.bits >= 100:
            spread = ((seen - seen.mean(0)) ** 2).mean()
            loss = loss + ((features - seen) ** 2).mean() / spread
        if hints:
            loss = loss + config.aux_weight * task(hints, labels, teacher, share)
        if config.objective == "suppress":
            loss = loss + config.suppress_weight * self.unevenness(hints, labels)
            if number >= 0.4 * self.steps:
                hidden = self.suppression(upload, labels)
                self.means["suppression"].append(hidden.item())
                loss = loss + config.suppress_weight * hidden
        self.means["loss"].append(loss.item())
        pace = one_cycle(number, self.steps, 1.0)
        self.optimizer.step(loss, config.learning_rate * pace)
        if config.average is not None:
            for name, value in self.source.model.state_dict().items():
                before = self.running.get(name, value)
                self.running[name] = config.average * before + (1 - config.average) * value
        if config.objective == "suppress":
            self.even_out(hints, labels, pace)
            for _ in range(2 if number >= 0.3 * self.steps and number % 2 == 0 else 0):
                told = self.adversaries(
                    self.draw({name: value.detach() for name, value in parameters.items()})
                )
                losses = [cross_entropy(one[name], labels[name]) for one in told for name in config.hide]
                self.adversary_optimizer.step(torch.stack(losses).sum(), 2e-3)

    def draw(self, parameters: Answers) -> Tensor:
        """An upload, with the slope of its mean."""
        noise = self.channel.noise(parameters)
        if "p" not in parameters:
            mean = parameters["mean"] + parameters["scale"] * noise
            return mean + (mean.clamp(0, 1) - mean).detach()
        bits = parameters["p"] + ((noise < parameters["p"]).double() - parameters["p"]).detach()
        planes = bits.split(3, dim=1)  # most significant first
        total = sum(plane * 2 ** (len(planes) - 1 - j) for j, plane in enumerate(planes))
        return cast(Tensor, total / (2 ** len(planes) - 1))

    def divergence(self, parameters: Answers, reference: Answers) -> Tensor:
        """Of the draws of each image from those of the reference, in nats, (B,)."""
        one, other = (
            Bernoulli(made["p"]) if "p" in made else Normal(made["mean"], made["scale"])
            for made in (parameters, reference)
        )
        return kl_divergence(one, other).flatten(1).sum(1)

    def price(self, parameters: Answers, upload: Tensor, cells: list[Any], number: int) -> Tensor:
        flat = {"p": 0.5} if "p" in parameters else {"mean": 0.5, "scale": 0.3}
        even = {name: torch.full_like(parameters[name], value) for name, value in flat.items()}
        rate = self.divergence(parameters, even)
        if self.config.prior == "autoregressive":
            p, odds = parameters["p"], self.prior(upload.detach())
            saved = (
                log(2) + p * odds.detach().sigmoid().log() + (1 - p) * (-odds.detach()).sigmoid().log()
            ).sum()
            rate = rate.mean() - saved / len(p)
            missed = p.detach() * odds.sigmoid().log() + (1 - p.detach()) * (-odds).sigmoid().log()
            learned = -(log(2) + missed).sum() / len(p)
            self.prior_optimizer.step(learned, one_cycle(number, self.steps, 3e-3))
        rate = rate.mean()
        self.means["rate_bits"].append(rate.item() / log(2))
        price = self.rate_law.weight(rate.item(), number) * rate
        if self.config.beyond is not None:
            residual = self.residual(parameters, cells)
            price = price + self.beyond_law.weight(residual.item(), number) * residual
        return price

    def residual(self, parameters: Answers, cells: list[tuple[int, ...]]) -> Tensor:
        """From the running mean of the uploads of the same decision, which then takes this batch in."""
        assert "p" in parameters
        total, p = torch.zeros(()), parameters["p"]
        for row, cell in enumerate(cells):
            if cell in self.uploads:
                mean = self.uploads[cell]["p"].clamp(1e-4, 1 - 1e-4)
                total = total + self.divergence({"p": p[row : row + 1]}, {"p": mean})[0]
        for cell in set(cells):
            mean = p[[row for row, one in enumerate(cells) if one == cell]].detach().mean(0, keepdim=True)
            before = self.uploads.get(cell, {"p": mean})["p"]
            self.uploads[cell] = {"p": 0.9 * before + 0.1 * mean}
        return total / len(cells)

    def unevenness(self, hints: Answers, labels: Answers) -> Tensor:
        total = torch.zeros(())
        for (kept, hidden), (_, multiplier, _) in self.odds.items():
            pairs = zip(hints[kept].softmax(1), labels[kept].tolist(), labels[hidden].tolist(), strict=True)
            terms = [multiplier[y, s] @ chances for chances, y, s in pairs]
            total = total + torch.stack(terms).mean()
        return total

    def even_out(self, hints: Answers, labels: Answers, pace: float) -> None:
        for (kept, hidden), (mean, multiplier, seen) in self.odds.items():
            chances = hints[kept].softmax(1).detach()
            pairs = list(zip(labels[kept].tolist(), labels[hidden].tolist(), strict=True))
            for pair in set(pairs):
                now = chances[[row for row, one in enumerate(pairs) if one == pair]].mean(0)
                mean[pair] = 0.95 * mean[pair] + 0.05 * now
            seen |= set(pairs)
            for y, s in seen:
                middle = torch.stack([mean[y, other] for label, other in seen if label == y]).mean(0)
                multiplier[y, s] += 0.02 * pace * (mean[y, s] - middle)

    def suppression(self, upload: Tensor, labels: Answers) -> Tensor:
        rows = self.dataset.splits[Split.DEFENDER]
        kept = [self.dataset.labels[name][rows] for name in self.config.keep]
        total = torch.zeros(())
        told = self.adversaries.eval()(upload)
        for name in self.config.hide:
            floor = conditional_entropy(self.dataset.labels[name][rows], kept) * log(2)
            total = total + max(F.relu(floor - cross_entropy(one[name], labels[name])) for one in told) ** 2
        self.adversaries.train()
        return total

    def move_goal(self, number: int, validated: float, trained: float) -> None:
        """Asked for after every epoch; heeded once the ramp is behind."""
        if (number + 1) * self.batches.steps >= 0.4 * self.steps and self.config.objective != "literal":
            goal = corrected_goal(self.config.bits or 16, validated=validated, trained=trained)
            self.rate_law.goal = goal * log(2)


@pytest.mark.parametrize("options", OBJECTIVES.values(), ids=OBJECTIVES)
def test_co_training_follows_its_formulas(options: dict[str, Any], tmp_path: Path, fabric: Fabric) -> None:
    config = TrainConfig(**COMMON, **options)
    dataset = open_dataset(config.data, keep=config.keep, hide=config.hide)
    teacher = some_cloud(config, dataset)
    made, source = (CoTrainer(config, dataset, deepcopy(teacher), tmp_path, fabric) for _ in range(2))
    slow = Formulas(config, source)
    for epoch in range(config.epochs):
        record = made.run_epoch(lambda: None)
        expected = slow.epoch(epoch)
        assert {name: record[name] for name in expected} == pytest.approx(expected, rel=SAME), epoch
        if "rate_bits" in expected:
            slow.move_goal(epoch, record["val_rate_bits"], expected["rate_bits"])
            (rate,) = (term for term in made.regularisers if isinstance(term, RatePenalty))
            assert rate.controller.goal == pytest.approx(slow.rate_law.goal, rel=SAME)
    if config.objective == "suppress":
        assert expected["suppression"] > 0, "else nothing is seen of its slope"
    compare(made.model, source.model)
    for name, value in made.judged.state_dict().items():
        if slow.running and value.is_floating_point():  # not the number of batches that a norm has seen
            assert torch.allclose(value, slow.running[name], rtol=1e-6, atol=SAME), name
    assert (made.judged is made.model) == (config.average is None)


def test_a_running_mean_is_judged_kept_and_continued(tmp_path: Path, fabric: Fabric) -> None:
    config = TrainConfig(**COMMON, bits=8, average=0.8)
    dataset = open_dataset(config.data, keep=config.keep)
    teacher = some_cloud(config, dataset)

    def trainer(name: str) -> CoTrainer:
        (tmp_path / name).mkdir(exist_ok=True)
        return CoTrainer(config, dataset, deepcopy(teacher), tmp_path / name, fabric)

    whole, first = trainer("whole"), trainer("broken")
    records = [whole.run_epoch() for _ in range(2)]
    first.run_epoch()
    first.save()
    rest = trainer("broken")
    assert rest.epoch == 1
    again = rest.run_epoch()
    drop = {"seconds"}
    assert {k: v for k, v in again.items() if k not in drop} == {
        k: v for k, v in records[1].items() if k not in drop
    }
    compare(rest.judged, whole.judged)
    seed = derive_seed(config.seed, "val")
    result = evaluate(whole.judged.cloud, whole.validation, whole.judged.local, seed=seed)
    other = evaluate(whole.model.cloud, whole.validation, whole.model.local, seed=seed)
    assert records[1]["val_rate_bits"] == result.rate_bits != other.rate_bits
    if whole.best_record["epoch"] == 1:
        compare(whole.best, whole.judged)


def test_pretraining_follows_its_formulas(fabric: Fabric) -> None:
    config = TrainConfig(**COMMON, distill=0.4)
    dataset = open_dataset(config.data, keep=config.keep)
    teacher = some_cloud(config, dataset)
    source = Batches(dataset, Split.DEFENDER, config.keep, config.batch_size)
    classes = {name: len(dataset.attributes[name].classes) for name in config.keep}
    quick = EncoderClassifier(make_local(config, dataset), classes)
    slow = deepcopy(quick)
    pretrain(quick, teacher, source, config, fabric, None)
    optimizer, step = AdamW(slow.parameters(), 0.01), 0
    for epoch in range(config.pretrain_epochs):
        seed_everything(config.seed, "warm-up", epoch)
        for index, batch in enumerate(source.epoch()):
            images = mix(batch.images) if index % 2 else batch.images
            with torch.no_grad():
                told = teacher(images)
            loss = task(slow(images), batch.labels, told, 1.0 if index % 2 else 0.4)
            optimizer.step(
                loss, one_cycle(step, config.pretrain_epochs * source.steps, 2 * config.learning_rate)
            )
            step += 1
    compare(quick, slow)


def test_the_prior_of_the_best_epoch_is_kept_and_continued(tmp_path: Path, fabric: Fabric) -> None:
    """A later prior has learned other uploads: it would loosen the bound of the ones that ship."""
    config = TrainConfig(**COMMON, bits=150, prior="autoregressive")
    dataset = open_dataset(config.data, keep=config.keep)
    trainer = CoTrainer(config, dataset, some_cloud(config, dataset), tmp_path, fabric)
    trainer.run_epoch()
    assert trainer.prior is not None
    assert trainer.best_prior is not None
    first = deepcopy(trainer.prior)
    compare(trainer.best_prior, first)
    trainer.best_record |= {"val_accuracy": 2.0, "val_rate_bits": 1.0}  # no later epoch is better
    trainer.run_epoch()
    compare(trainer.best_prior, first)
    assert any(
        not torch.equal(one, other)
        for one, other in zip(first.state_dict().values(), trainer.prior.state_dict().values(), strict=True)
    )
    trainer.save()
    again = CoTrainer(config, dataset, some_cloud(config, dataset), tmp_path, fabric)
    assert again.best_prior is not None
    compare(again.best_prior, first)


def test_the_clean_network_follows_its_formulas(
    fabric: Fabric, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = TrainConfig(**COMMON, augmentation=Augmentation(mirror_only=0.5))
    dataset = open_dataset(config.data, keep=config.keep)
    seed_everything(config.seed, "clean", "initial")
    slow = make_cloud(config, dataset)
    log_file = TrainingLog(tmp_path)
    lines: list[dict[str, Any]] = []
    monkeypatch.setattr(log_file, "write", lines.append)
    train_clean(config, dataset, fabric, log_file)
    source = Batches(dataset, Split.DEFENDER, config.keep, config.batch_size)
    optimizer, step, losses = AdamW(slow.parameters(), 0.01), 0, []
    for epoch in range(config.clean_epochs):
        seed_everything(config.seed, "clean", epoch)
        total = 0.0
        for batch in source.epoch(only_mirror=epoch == 1):
            answers = slow(batch.images)
            loss = task(answers, batch.labels, answers, 0.0)
            total += loss.item()
            optimizer.step(loss, one_cycle(step, config.clean_epochs * source.steps, config.learning_rate))
            step += 1
        losses.append(total / source.steps)
    assert [line["loss"] for line in lines] == pytest.approx(losses, rel=SAME)


def test_one_adversary_after_the_other_starts_over() -> None:
    """Every second epoch, with new weights and without what the optimiser knew of the old ones."""
    ensemble = Ensemble({"s": 3}, (16, 16))
    optimizer = torch.optim.AdamW(ensemble.parameters())
    torch.stack([one["s"].sum() for one in ensemble(torch.rand(4, 3, 16, 16))]).sum().backward()
    optimizer.step()
    for epoch, started in enumerate([[], [], [1], [], [2], [], [0]]):
        before = [deepcopy(member.state_dict()) for member in ensemble.members]
        restart_one(ensemble, optimizer, epoch, seed=0, every=2)
        changed = [
            number
            for number, (member, old) in enumerate(zip(ensemble.members, before, strict=True))
            if any(not torch.equal(value, old[name]) for name, value in member.state_dict().items())
        ]
        assert changed == started
        assert not any(
            weight in optimizer.state for k in started for weight in ensemble.members[k].parameters()
        )
    assert not optimizer.state, "by then all have started over"


def compare(one: nn.Module, other: nn.Module) -> None:
    """Weights and batch norm figures."""
    expected = other.state_dict()
    for name, value in one.state_dict().items():
        assert torch.allclose(value, expected[name], rtol=1e-6, atol=SAME), name
