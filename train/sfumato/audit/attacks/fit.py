"""Training one attacker network, with early stopping per attribute.

One trunk may carry a head for several attributes; each keeps the predictions of its own best epoch, so a shared
trunk costs an attribute little and an overtrained head nothing. AdamW under a one-cycle schedule; fresh noise
in every batch; the loss is the cross entropy of `f + log prior` (logit adjustment, Menon et al., ICLR 2021).

    predictions = fit(network, data, ("race",), recipe, clean=False)
"""

import math
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sfumato.audit import metrics
from sfumato.audit.attack_data import AttackData, batches, clean_batches
from sfumato.audit.plan import Plan
from sfumato.audit.predictions import Floats, Ints, Prediction, cross_entropy, fit_temperature, log_posterior

WEIGHT_DECAY = 0.02
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


def make_recipe(
    plan: Plan, data: AttackData, attack: str, architecture: str, lr: float, epochs: int
) -> Recipe:
    """A recipe of a plan, with enough epochs for the plan's least number of steps."""
    per_epoch = max(1, data.train.images // plan.batch_size)
    return Recipe(
        attack=attack,
        architecture=architecture,
        lr=lr,
        epochs=max(epochs, math.ceil(plan.steps / per_epoch)),
        patience=plan.patience,
        batch_size=plan.batch_size,
        clean=attack == "clean",
    )


def device() -> torch.device:
    """Where attackers are trained: a GPU if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def scores(network: nn.Module, images: list[Tensor], attributes: tuple[str, ...]) -> dict[str, Floats]:
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


def fit(
    network: nn.Module, data: AttackData, attributes: tuple[str, ...], recipe: Recipe
) -> list[Prediction]:
    """Train `network` (upload -> dict of scores) and predict every attribute with its best epoch.

    The best epoch has the least calibrated cross entropy on validation. An attribute whose training accuracy
    stayed at the majority rate and whose training AUC stayed at chance gets a note: that is a failed optimisation
    or an empty upload, and no evidence of safety by itself. (Accuracy alone would not do: with one class in ten, a
    network can rank its images well and still never guess the rare class.)
    """
    generator = data.generator(f"{recipe.attack}/{recipe.architecture}/{recipe.lr}/{attributes}")
    network = network.to(device()).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if recipe.clean:
        validation, test = clean_batches(data.validation), clean_batches(data.test)
    else:
        validation, test = batches(data.validation_uploads), batches(data.test_uploads)
    prior = {name: data.prior(name) for name in attributes}
    truth = {name: data.validation_labels(name, clean=recipe.clean) for name in attributes}
    best = {name: BestEpoch() for name in attributes}

    per_epoch = max(1, data.train.images // recipe.batch_size)
    optimizer = torch.optim.AdamW(network.parameters(), lr=recipe.lr, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=recipe.lr, total_steps=recipe.epochs * per_epoch, pct_start=0.2
    )
    epoch = 0
    for epoch in range(1, recipe.epochs + 1):
        reached = train_epoch(network, data, prior, optimizer, schedule, generator, recipe)
        guesses = scores(network, validation, attributes)
        weights: dict[str, Tensor] | None = None
        for name in attributes:
            best[name].accuracy_gain = max(best[name].accuracy_gain, reached[name].accuracy_gain)
            best[name].auc = max(best[name].auc, reached[name].auc)
            t = fit_temperature(guesses[name], truth[name], prior[name])
            loss = cross_entropy(log_posterior(guesses[name], prior[name], t), truth[name])
            if loss < best[name].loss - 1e-6:
                weights = weights or {key: value.clone() for key, value in network.state_dict().items()}
                best[name].loss, best[name].epoch, best[name].validation = loss, epoch, guesses[name]
                best[name].weights = weights
        if epoch - max(b.epoch for b in best.values()) >= recipe.patience:
            break
    final: dict[int, dict[str, Floats]] = {}
    for one in best.values():
        # Attributes that were best in the same epoch share one pass over the test uploads.
        if one.weights is not None and one.epoch not in final:
            network.load_state_dict(one.weights)
            final[one.epoch] = scores(network, test, attributes)
    return [
        make_prediction(data, name, best[name], final.get(best[name].epoch, {}).get(name), epoch, recipe)
        for name in attributes
    ]


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
    network: nn.Module,
    data: AttackData,
    prior: dict[str, Floats],
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    generator: torch.Generator,
    recipe: Recipe,
) -> dict[str, TrainingFigures]:
    """One pass over the attacker's images, each in a random augmented copy; returns what it reached per attribute."""
    split = data.train
    where = next(network.parameters()).device
    offsets = {name: torch.from_numpy(value).float().to(where) for name, value in prior.items()}
    labels = {name: torch.from_numpy(np.asarray(split.labels[name])) for name in prior}
    draw = split.clean if recipe.clean else partial(split.uploads, channel=data.channel, generator=generator)
    copies = torch.randint(split.copies, (split.images,), generator=generator)
    order = torch.randperm(split.images, generator=generator)
    order = order + copies[order] * split.images
    size = min(recipe.batch_size, len(order))
    hits = dict.fromkeys(prior, 0)
    probabilities: dict[str, list[Tensor]] = {name: [] for name in prior}
    seen: list[Tensor] = []
    network.train()
    for rows in torch.split(order[: len(order) // size * size], size):
        logits = network(draw(rows).to(where))
        loss = torch.zeros((), device=where)
        for name, offset in offsets.items():
            target = labels[name][rows].to(where)
            posterior = logits[name] + offset
            loss = loss + F.cross_entropy(posterior, target)
            # Against the majority guess on the same images, so that luck in the draw of a batch cancels.
            hits[name] += int((posterior.argmax(1) == target).sum() - (offset.argmax() == target).sum())
            probabilities[name].append(posterior.detach().softmax(1).cpu())
        seen.append(rows)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimizer.step()
        schedule.step()
    rows = torch.cat(seen)
    return {
        name: TrainingFigures(
            count / len(rows),
            finite_auc(labels[name][rows].numpy(), torch.cat(probabilities[name]).double().numpy()),
        )
        for name, count in hits.items()
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
