"""The adversaries that the networks are trained against (objective `suppress`).

An ensemble of different architectures, each with one head per hidden attribute. Once the rate has come down
(docs/decisions/0014-late-adversaries.md) they learn on uploads with fresh noise, one step for three of the networks. One of
them starts over every few epochs: networks that only outrun adversaries which have lost their plasticity leak to fresh ones.
None of these adversaries takes part in the audit.

    loss += sum_s gamma_s max_k (H(S|Y) - CE(a_k(x'), s))_+^2          (`sfumato.training.losses.suppression`)

With limits on what may be found (`leak`) they learn on clean photos first, which says what a leak is a share of, and each
gamma_s follows what the strongest of them finds (`sfumato.training.regularisers.leak_weights`). Else all are `suppress_weight`.
"""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from math import log as ln
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sfumato.core.console import progress
from sfumato.core.seeding import seed_everything
from sfumato.data import Split
from sfumato.data.label_dependence import conditional_entropy, label_only_accuracy
from sfumato.models import channels_last
from sfumato.models.attackers import create_attacker
from sfumato.models.layers import fold
from sfumato.models.tensors import evaluating
from sfumato.training import checkpoint
from sfumato.training.clean import training_batches
from sfumato.training.config import Adversaries
from sfumato.training.loader import Batch, Batches
from sfumato.training.local_cloud import ForwardOutput, Logits
from sfumato.training.log import RunningMeans
from sfumato.training.losses import Labels, suppression
from sfumato.training.regularisers.base import Regulariser, Setting
from sfumato.training.regularisers.leak_weights import (
    LeakScale,
    LeakWeights,
    Success,
    largest_leak,
    successes,
)


class Ensemble(nn.Module):
    """Adversaries of several architectures.

    Args:
        classes: hidden attribute -> number of classes.
        size: height and width of an upload.
        architectures: names of `sfumato.models.attackers`.
        planes: of an upload: 3 for colour, 1 for grey.
    """

    def __init__(
        self,
        classes: Mapping[str, int],
        size: tuple[int, int],
        architectures: Sequence[str] = Adversaries().architectures,
        planes: int = 3,
    ) -> None:
        super().__init__()
        members = [create_attacker(name, classes, size, planes) for name in architectures]
        self.members = channels_last(nn.ModuleList(members))

    def forward(self, upload: Tensor) -> list[Logits]:
        """(B, 3, H, W) -> logits (B, classes) per attribute, per member."""
        return [member(upload) for member in self.members]


def adversary_loss(outputs: list[Logits], labels: Labels) -> Tensor:
    """Cross entropy summed over members and attributes."""
    losses = [F.cross_entropy(logits[name], labels[name]) for logits in outputs for name in logits]
    return torch.stack(losses).sum()


def restart_one(
    ensemble: Ensemble,
    optimizer: torch.optim.Optimizer,
    epoch: int,
    seed: int,
    every: int = Adversaries().restart_every,
) -> None:
    """Every so many epochs give one member, in turn, new weights and a new optimiser state."""
    if epoch == 0 or epoch % every:
        return
    member = ensemble.members[epoch // every % len(ensemble.members)]
    seed_everything(seed, "restart", epoch)
    fresh = deepcopy(member)
    for part in fresh.modules():
        if callable(reset := getattr(part, "reset_parameters", None)):
            reset()
    with torch.no_grad():
        for old, new in zip(member.parameters(), fresh.parameters(), strict=True):
            old.copy_(new)
            optimizer.state.pop(old, None)
        for kept, given in zip(member.buffers(), fresh.buffers(), strict=True):
            kept.copy_(given)


def best_accuracy(outputs: list[Logits], labels: Labels) -> float:
    """Highest accuracy (fraction) of any member, averaged over attributes."""
    return max(
        sum((logits[name].argmax(1) == labels[name]).float().mean().item() for name in logits) / len(logits)
        for logits in outputs
    )


class AdversarialPenalty(Regulariser):
    """What the strongest adversary knows beyond the desired labels, and the adversaries' own optimiser."""

    name = "adversaries"

    def __init__(self, setting: Setting) -> None:
        self.setting, self.how = setting, setting.config.adversaries
        config, dataset = setting.config, setting.dataset
        classes = {name: len(dataset.attributes[name].classes) for name in config.hide}
        self.ensemble = Ensemble(classes, dataset.size, self.how.architectures, dataset.planes)
        optimizer = torch.optim.AdamW(
            self.ensemble.parameters(),
            lr=self.how.learning_rate,
            weight_decay=self.how.weight_decay,
            fused=True,
        )
        self.shared, self.optimizer = setting.fabric.setup(self.ensemble, optimizer)
        self._judges: Ensemble | None = None
        # H(S|Y) in nats. What the desired labels tell about s stays: no adversary is pushed below it.
        rows = dataset.splits[Split.DEFENDER]
        kept = [dataset.labels[name][rows] for name in config.keep]
        self.entropy = {n: conditional_entropy(dataset.labels[n][rows], kept) * ln(2) for n in config.hide}
        self.limits = config.leaks
        scales = {name: LeakScale(0.0, 1.0, self.entropy[name]) for name in self.limits}  # until `begin`
        self.weights = LeakWeights(self.limits, scales, config.suppress_weight, config.leak_control)
        self.validation = Batches(
            dataset, Split.VALIDATION, config.hide, config.batch_size, device=setting.fabric.device
        )

    def begin(self) -> None:
        """With limits: train the adversaries on clean photos, and keep how much they find there."""
        if not self.limits:
            return
        setting, config = self.setting, self.setting.config
        batches = training_batches(config, setting.dataset, setting.fabric, hidden=True)
        with progress() as bar:
            task = bar.add_task(
                "adversaries on photos",
                total=self.how.photo_epochs * batches.steps,
                figures="",
                visible=setting.fabric.is_global_zero,
            )
            for epoch in range(self.how.photo_epochs):
                seed_everything(config.seed, "adversaries", epoch)
                for batch in batches.epoch():
                    self.learn(batch.images, batch.labels)
                    bar.advance(task)
        found = self.on_validation(lambda photos: photos)
        scales = {}
        for name in self.limits:
            photos = max(one.accuracy for one in found[name])
            scales[name] = LeakScale(self.guess(name), photos, self.entropy[name])
        self.weights.scales = scales

    def guess(self, name: str) -> float:
        """Validation accuracy of guessing an attribute from the desired labels, learned on the images of training."""
        data, keep = self.setting.dataset, self.setting.config.keep
        learned, judged = (data.splits[split] for split in (Split.DEFENDER, Split.VALIDATION))
        labels = data.labels
        return label_only_accuracy(
            labels[name][learned],
            [labels[one][learned] for one in keep],
            labels[name][judged],
            [labels[one][judged] for one in keep],
        )

    def on_validation(self, upload: Callable[[Tensor], Tensor]) -> dict[str, list[Success]]:
        """How well each adversary does on validation: images (B, 3, H, W) -> what it is shown of them."""
        totals = {name: [Success(0.0, 0.0) for _ in self.ensemble.members] for name in self.limits}
        with evaluating(self.ensemble, self.setting.model):
            for batch in self.validation.ordered():
                outputs = self.ensemble(upload(batch.images))
                for name, sums in totals.items():
                    for total, one in zip(sums, successes(outputs, batch.labels, name), strict=True):
                        share = len(batch.images) / len(self.setting.dataset.splits[Split.VALIDATION])
                        total.accuracy += share * one.accuracy
                        total.cross_entropy += share * one.cross_entropy
        return totals

    def validate(self, step: int, seed: int) -> Mapping[str, Any]:
        """With limits: what the strongest adversary finds, and the weights. Before they count it would mean nothing."""
        if not self.limits or step <= self.setting.config.rate.ramp[1] * self.setting.steps:
            return {}
        local = self.setting.model.local
        generator = torch.Generator(device=self.setting.fabric.device).manual_seed(seed)

        def upload(photos: Tensor) -> Tensor:
            parameters = local(photos)
            return local.channel.sample(parameters, local.channel.noise(parameters, generator))

        found = self.on_validation(upload)
        leaks = {
            name: largest_leak(limit, self.weights.scales[name], found[name])
            for name, limit in self.limits.items()
        }
        return {"val_leak": leaks, "leak_weight": dict(self.weights.weights)}

    def learning(self, step: int) -> bool:
        """Whether the adversaries learn by then."""
        return step >= self.how.learn_from * self.setting.steps

    def start_epoch(self, epoch: int, step: int) -> None:
        """Every few epochs one member, in turn, starts over."""
        if self.learning(step):
            seed, self._judges = self.setting.config.seed, None
            restart_one(self.ensemble, self.optimizer, epoch, seed, self.how.restart_every)

    def losses(self, output: ForwardOutput, batch: Batch, step: int, log: RunningMeans) -> list[Tensor]:
        """The suppression term, once the rate ramp has ended."""
        if step < self.setting.config.rate.ramp[1] * self.setting.steps:
            return []
        outputs: list[Logits] = self.judges()(output.upload)
        hidden = suppression(outputs, batch.labels, self.entropy)
        self.weights.update({name: self.shared_successes(outputs, batch, name) for name in self.limits})
        same = self.setting.config.suppress_weight
        log.add(suppression=sum(one.item() for one in hidden.values()))
        return [(self.weights[name] if name in self.limits else same) * one for name, one in hidden.items()]

    def judges(self) -> Ensemble:
        """The adversaries as they are, frozen and in evaluation mode, with batch norms folded into the convolutions."""
        if self._judges is None:
            self._judges = fold(deepcopy(self.ensemble).eval().requires_grad_(False))
        return self._judges

    def shared_successes(self, outputs: list[Logits], batch: Batch, name: str) -> list[Success]:
        """Of every adversary, over the batches of all processes."""
        found = successes(outputs, batch.labels, name)
        if self.setting.fabric.world_size > 1:
            figures = torch.tensor(
                [[one.accuracy, one.cross_entropy] for one in found], device=self.setting.fabric.device
            )
            self.setting.share({"": figures})
            found = [Success(*one) for one in figures.tolist()]
        return found

    def update(self, output: ForwardOutput, batch: Batch, step: int, log: RunningMeans) -> None:
        """Train the adversaries on fresh draws from the same parameters, every few steps."""
        if not self.learning(step) or step % self.how.every:
            return
        channel = self.setting.model.local.channel
        parameters = {name: value.detach() for name, value in output.parameters.items()}
        for _ in range(self.how.steps):
            guesses = self.learn(channel.sample(parameters, channel.noise(parameters)), batch.labels)
        log.add(adversary_accuracy=best_accuracy(guesses, batch.labels))

    def learn(self, shown: Tensor, labels: Labels) -> list[Logits]:
        """One step of all adversaries on images (B, 3, H, W); what they answered before it."""
        outputs: list[Logits] = self.shared(shown)
        loss = adversary_loss(outputs, labels)
        self.optimizer.zero_grad()
        self.setting.fabric.backward(loss)
        self.optimizer.step()
        self._judges = None
        return outputs

    def state_dict(self) -> dict[str, Any]:
        """Of ensemble, optimiser and weights."""
        limited = {"leaks": self.weights.state_dict()} if self.limits else {}
        return {
            **limited,
            "ensemble": self.ensemble.state_dict(),
            "optimizer": checkpoint.optimizer_state(self.optimizer),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Of ensemble, optimiser and weights."""
        if self.limits:
            self.weights.load_state_dict(state["leaks"])
        self.ensemble.load_state_dict(state["ensemble"])
        self._judges = None
        checkpoint.load_optimizer_state(self.optimizer, state["optimizer"])
