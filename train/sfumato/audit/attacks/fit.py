"""Training one attacker network, with early stopping per attribute.

One trunk may carry a head for several attributes; each keeps the predictions of its own best epoch, so a shared
trunk costs an attribute little and an overtrained head nothing. AdamW under a one-cycle schedule; fresh noise
in every batch; the loss is the cross entropy of `f + log prior` (logit adjustment, Menon et al., ICLR 2021).

    predictions = fit(network, data, ("race",), recipe, clean=False)
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sfumato.audit import metrics
from sfumato.audit.attack_data import AttackData, batches, clean_batches, random_order, random_rows
from sfumato.audit.plan import Plan
from sfumato.audit.predictions import Floats, Ints, Prediction, cross_entropy, fit_temperature, log_posterior

WEIGHT_DECAY = 0.02
LOOKS = 15
"""About so often a fit is judged on validation, which takes a third of an epoch."""
ROUND_LOOKS = 6
"""The same in a round of a tournament, whose rate falls to zero at its end."""
PATIENT_LOOKS = 4
"""Looks without a better cross entropy before a fit stops that is not looked at after every epoch."""
LEARNED = 0.01
"""By so much the training accuracy beats the majority guess once something has been learned, or the AUC chance."""
DEVIATIONS = 4
"""Standard deviations of the AUC of a blind guess that the training AUC must exceed, since the best epoch is picked."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How one network is trained."""

    attack: str
    architecture: str
    lr: float
    """Peak learning rate."""
    epochs: int
    patience: int
    batch_size: int
    clean: bool = False
    """Train and test on clean images instead of uploads."""

    @property
    def interval(self) -> int:
        """Epochs from one look at validation to the next: short epochs of a small split are looked at less often."""
        return max(1, self.epochs // LOOKS)


def make_recipe(
    plan: Plan, data: AttackData, attack: str, architecture: str, lr: float, epochs: int
) -> Recipe:
    """A recipe of a plan, with enough epochs for the plan's least number of steps."""
    per_epoch = max(1, data.train.images // plan.batch_size)
    least = plan.clean_steps if attack == "clean" else plan.steps
    return Recipe(
        attack=attack,
        architecture=architecture,
        lr=lr,
        epochs=max(epochs, math.ceil(least / per_epoch)),
        patience=plan.patience,
        batch_size=plan.batch_size,
        clean=attack == "clean",
    )


EFFORT = {
    "linear": 0.1,
    "cnn": 1.0,
    "mobilenet": 3.0,
    "resnet": 8.0,
    "from clean": 8.0,
    "vit": 10.0,
    "finetune": 13.0,
}
"""Time of an epoch beside that of the small cnn, measured on one core at 32x32."""


def epochs_of_work(architecture: str, epochs: int) -> float:
    """Work of a fit, in epochs of the small cnn; half of the most it may take, since most stop early."""
    return EFFORT.get(architecture, 1.0) * epochs / 2


def scores(network: nn.Module, images: Iterable[Tensor], attributes: tuple[str, ...]) -> dict[str, Floats]:
    """Scores of a network for batches of images, per attribute (n, classes)."""
    where = next(network.parameters()).device
    network.eval()
    parts: dict[str, list[Tensor]] = {name: [] for name in attributes}
    with torch.no_grad():
        for batch in images:
            logits = network(batch.to(where))
            for name in attributes:
                parts[name].append(logits[name].double().cpu())
    return {name: torch.cat(part).numpy() for name, part in parts.items()}


@dataclass
class BestEpoch:
    """The best epoch of one attribute so far."""

    loss: float = float("inf")
    epoch: int = 0
    validation: Floats | None = None
    weights: dict[str, Tensor] | None = None
    accuracy_gain: float = -1.0
    auc: float = 0.0


class Fit:
    """One network in training, and the best epoch of every attribute.

    The best epoch has the least calibrated cross entropy on validation. An attribute whose training accuracy
    stayed at the majority rate and whose training AUC stayed at chance gets a note: that is a failed optimisation
    or an empty upload, and no evidence of safety by itself. (Accuracy alone would not do: with one class in ten, a
    network can rank its images well and still never guess the rare class.)
    """

    def __init__(
        self, network: nn.Module, data: AttackData, attributes: tuple[str, ...], recipe: Recipe
    ) -> None:
        self.network = network.to(data.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.data, self.attributes, self.recipe = data, attributes, recipe
        self.prior = {name: data.prior(name) for name in attributes}
        self.truth = {name: data.validation_labels(name, clean=recipe.clean) for name in attributes}
        self.best = {name: BestEpoch() for name in attributes}
        self.epoch = 0
        self.optimizer = torch.optim.AdamW(
            network.parameters(), lr=recipe.lr, weight_decay=WEIGHT_DECAY, fused=True
        )
        self.begin(recipe.epochs, recipe.interval)

    def begin(self, until: int, interval: int) -> None:
        """The learning rate rises and falls once more, over the epochs up to `until`; the weights stay.

        Args:
            until: epochs in all, counted from the first.
            interval: epochs from one look at validation to the next.
        """
        self.began, self.until, self.interval = self.epoch, until, interval
        per_epoch = max(1, self.data.train.images // self.recipe.batch_size)
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer,
            max_lr=self.recipe.lr,
            total_steps=(until - self.epoch) * per_epoch,
            pct_start=0.2,
        )

    @property
    def finished(self) -> bool:
        """All epochs are done, or no attribute improved for some, as far as was looked."""
        since = self.epoch - max(self.began, *(b.epoch for b in self.best.values()))
        patience = self.recipe.patience
        if self.interval > 1:
            patience = max(patience, PATIENT_LOOKS * self.interval)
        return self.epoch >= self.until or since >= patience

    def evaluate(self, validation: Iterable[Tensor], reached: dict[str, "TrainingFigures"]) -> None:
        """Judge the network as it is after an epoch, by batches of validation images, if it is time to.

        Args:
            validation: the batches.
            reached: what the epoch reached on the attacker's images.
        """
        for name, best in self.best.items():
            best.accuracy_gain = max(best.accuracy_gain, reached[name].accuracy_gain)
            best.auc = max(best.auc, reached[name].auc)
        if (self.epoch - self.began) % self.interval and self.epoch < self.until:
            return
        guesses = scores(self.network, validation, self.attributes)
        weights: dict[str, Tensor] | None = None
        for name, best in self.best.items():
            t = fit_temperature(guesses[name], self.truth[name], self.prior[name])
            loss = cross_entropy(log_posterior(guesses[name], self.prior[name], t), self.truth[name])
            if loss < best.loss - 1e-6:
                weights = weights or {key: value.clone() for key, value in self.network.state_dict().items()}
                best.loss, best.epoch, best.validation = loss, self.epoch, guesses[name]
                best.weights = weights

    def predictions(self, test: Iterable[Tensor]) -> list[Prediction]:
        """Scores of every attribute at its best epoch, for batches of test images."""
        final: dict[int, dict[str, Floats]] = {}
        for one in self.best.values():
            # Attributes that were best in the same epoch share one pass over the test uploads.
            if one.weights is not None and one.epoch not in final:
                self.network.load_state_dict(one.weights)
                final[one.epoch] = scores(self.network, test, self.attributes)
        return [
            make_prediction(
                self.data, name, best, final.get(best.epoch, {}).get(name), self.epoch, self.recipe
            )
            for name, best in self.best.items()
        ]


def evaluation_images(data: AttackData, *, clean: bool) -> tuple[Iterable[Tensor], Iterable[Tensor]]:
    """Batches of validation and of test images: clean ones or uploads."""
    if clean:
        return clean_batches(data.validation), clean_batches(data.test)
    return batches(data.validation_uploads), batches(data.test_uploads)


def fit(
    network: nn.Module, data: AttackData, attributes: tuple[str, ...], recipe: Recipe
) -> list[Prediction]:
    """Train `network` (upload -> dict of scores) and predict every attribute with its best epoch (`Fit`)."""
    generator = data.generator(f"{recipe.attack}/{recipe.architecture}/{recipe.lr}/{attributes}")
    one = Fit(network, data, attributes, recipe)
    validation, test = evaluation_images(data, clean=recipe.clean)
    while not one.finished:
        (reached,) = train_epoch([one], data, generator)
        one.evaluate(validation, reached)
    return one.predictions(test)


@dataclass(frozen=True)
class TrainingFigures:
    """What one pass reached on the attacker's own images, before each step."""

    accuracy_gain: float
    """Accuracy of the guesses, less that of the majority guess."""
    auc: float


def blind_auc_deviation(labels: Ints) -> float:
    """Standard deviation of the AUC of a blind guess (Mann and Whitney, 1947); of the rarest class, if there are several.

    >>> round(blind_auc_deviation(np.array([0, 1] * 50)), 3)
    0.058
    """
    counts = np.bincount(labels)
    one = int(counts[counts > 0].min())
    n = len(labels)
    return math.sqrt((n + 1) / (12 * one * max(n - one, 1)))


def learned(best: BestEpoch, labels: Ints) -> bool:
    """Whether training accuracy or training AUC ever left chance."""
    return best.accuracy_gain >= LEARNED or best.auc > 0.5 + max(
        LEARNED, DEVIATIONS * blind_auc_deviation(labels)
    )


def train_epoch(
    fits: Sequence[Fit], data: AttackData, generator: torch.Generator
) -> list[dict[str, TrainingFigures]]:
    """One pass over the attacker's images, each in a random augmented copy; returns what each fit reached per attribute.

    All fits see the same batches, so an upload is drawn once for all of them; all are about the same attributes.
    """
    split, recipe, attributes = data.train, fits[0].recipe, fits[0].attributes
    labels = {name: torch.from_numpy(np.asarray(split.labels[name])) for name in attributes}
    draw = split.clean if recipe.clean else partial(split.uploads, channel=data.channel, generator=generator)
    copies = random_rows(split.copies, split.images, generator)
    order = random_order(split.images, generator)
    order = order + copies[order] * split.images
    size = min(recipe.batch_size, len(order))
    passes = [Pass(one, labels) for one in fits]
    for rows in torch.split(order[: len(order) // size * size], size):
        images = draw(rows)
        for each in passes:
            each.step(images, rows)
    for one in fits:
        one.epoch += 1
    return [each.figures() for each in passes]


class Pass:
    """One pass of one network over the attacker's images."""

    def __init__(self, one: Fit, labels: Mapping[str, Tensor]) -> None:
        self.fit, self.labels = one, labels
        self.where = next(one.network.parameters()).device
        self.offsets = {
            name: torch.from_numpy(value).float().to(self.where) for name, value in one.prior.items()
        }
        self.hits = dict.fromkeys(one.prior, 0)
        self.probabilities: dict[str, list[Tensor]] = {name: [] for name in one.prior}
        self.seen: list[Tensor] = []
        one.network.train()

    def step(self, images: Tensor, rows: Tensor) -> None:
        """One optimiser step on a batch."""
        logits = self.fit.network(images.to(self.where))
        loss = torch.zeros((), device=self.where)
        for name, offset in self.offsets.items():
            target = self.labels[name][rows].to(self.where)
            posterior = logits[name] + offset
            loss = loss + F.cross_entropy(posterior, target)
            # Against the majority guess on the same images, so that luck in the draw of a batch cancels.
            self.hits[name] += int((posterior.argmax(1) == target).sum() - (offset.argmax() == target).sum())
            self.probabilities[name].append(posterior.detach().softmax(1).cpu())
        self.seen.append(rows)
        self.fit.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.fit.network.parameters(), 5.0)
        self.fit.optimizer.step()
        self.fit.schedule.step()

    def figures(self) -> dict[str, TrainingFigures]:
        """What the network reached on the way."""
        rows = torch.cat(self.seen)
        return {
            name: TrainingFigures(
                count / len(rows),
                finite_auc(
                    self.labels[name][rows].numpy(), torch.cat(self.probabilities[name]).double().numpy()
                ),
            )
            for name, count in self.hits.items()
        }


def finite_auc(labels: Ints, values: Floats) -> float:
    """AUC, or 0.5 if the network returned something that cannot be ordered."""
    return metrics.auc(labels, values) if np.isfinite(values).all() else 0.5


def make_prediction(
    data: AttackData, name: str, best: BestEpoch, test: Floats | None, epochs: int, recipe: Recipe
) -> Prediction:
    """The scores of one attribute's best epoch, with a note if nothing was learned."""
    classes = data.classes[name]
    # A network that only ever returned NaN never improved: it predicts nothing.
    blank = np.zeros((len(data.validation_labels(name, clean=recipe.clean)), classes))
    failed = (
        "training accuracy stayed at the majority rate and training AUC at chance: it did not learn, "
        "which is no evidence of safety"
    )
    return Prediction(
        attack=recipe.attack,
        architecture=recipe.architecture,
        attribute=name,
        validation=blank if best.validation is None else best.validation,
        test=np.zeros((data.test.images, classes)) if test is None else test,
        lr=recipe.lr,
        epochs=epochs,
        best_epoch=best.epoch,
        note=None if learned(best, data.train.labels[name][: data.train.images]) else failed,
        train_auc=best.auc,
        clean=recipe.clean,
    )
