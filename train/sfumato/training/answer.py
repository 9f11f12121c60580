"""Answer mode: the phone's network learns to answer, and a table says which word it sends for which scores.

    trainer = AnswerTrainer(config, dataset, clean, folder, fabric)     # continues from a checkpoint in `folder`
    while trainer.epoch < trainer.epochs:
        trainer.run_epoch()
        trainer.save()
    answer = build_answer(config, dataset, read)       # table and cloud network, from what a model scores
    figures = judge_answer(answer, dataset, config, read)

The network is distilled from the clean cloud network (`sfumato.training.pretrain`), for as many epochs as picture mode gives
the encoder and co-training together; the best epoch on validation is kept. The table is then fitted to validation images,
which the network was not fitted to, and everything is reported on test. An export fits it again to the scores of the int8
model that ships.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from math import log2, prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sfumato.core.errors import UsageError
from sfumato.core.seeding import seed_everything
from sfumato.data import Dataset, Split
from sfumato.data.contingency import best_guess, cross_counts, guess_accuracy, mutual_information
from sfumato.data.dataset import Ints
from sfumato.data.label_cells import label_cells
from sfumato.data.label_dependence import count_entropy
from sfumato.data.truth import truth
from sfumato.models import channels_last
from sfumato.models.answer_network import AnswerNetwork
from sfumato.models.tensors import evaluating, to_tensor
from sfumato.models.word_decoder import WordDecoder
from sfumato.runtime.answer import MOST_WORDS
from sfumato.training import checkpoint
from sfumato.training.answer_table import (
    AnswerTable,
    Scores,
    check_alphabet,
    choose_margins,
    fit_table,
    quantise,
    score_scale,
    value_groups,
)
from sfumato.training.clean import class_counts, training_batches
from sfumato.training.config import TrainConfig
from sfumato.training.evaluate import evaluate
from sfumato.training.loader import Batches
from sfumato.training.pretrain import distillation_epoch
from sfumato.training.regularisers.equal_odds import EqualOdds

if TYPE_CHECKING:
    # Lightning takes a third of the time that a run takes to load, and reading one needs none of it.
    from lightning_fabric import Fabric

CHECKPOINT = "checkpoint_answer"
"""Folder of the stage's checkpoints: a run that goes on in picture mode has others."""
Images = NDArray[np.uint8]
Reader = Callable[[Images], Scores]
"""What a model scores: images (N, H, W, 3) -> int8 scores (N, S)."""
BATCH = 256
JUDGED_FROM = 0.75
"""Share of the epochs after which a randomised answer is fitted to every epoch; before, the learning rate is too high."""


def has_words(config: TrainConfig, dataset: Dataset) -> bool:
    """Whether two bytes hold every combination of answers; no word holds a mask."""
    return not config.masks and prod(class_counts(config, dataset).values()) <= MOST_WORDS


def check_answer(config: TrainConfig, dataset: Dataset) -> None:
    """Refuse attributes that answer mode cannot serve, before anything is trained.

    Raises:
        UsageError: there are more combinations of answers than words, the table of a randomised answer would be too large, or
            validation has too few images to hold a hidden attribute to equal odds.
    """
    classes = list(class_counts(config, dataset).values())
    if config.equal_odds is None:
        return check_alphabet(classes)
    check_alphabet(classes, config.answer.bins)
    rows = dataset.splits[Split.VALIDATION]
    cells = label_cells([dataset.labels[name][rows] for name in config.keep], classes)
    for name in config.hide:
        if not value_groups(dataset.labels[name][rows], cells, config.answer.least):
            raise UsageError(
                f"{name} cannot be held to equal odds: of the {len(rows)} validation images no {' and '.join(config.keep)} "
                f"has {config.answer.least} of two values of it; use more data, or set answer.least lower"
            )


def make_answer_network(config: TrainConfig, dataset: Dataset) -> AnswerNetwork:
    """The phone's network of this configuration, untrained, channels-last."""
    classes = class_counts(config, dataset)
    how = config.answer
    network = AnswerNetwork(
        classes, dataset.size, how.widths, how.depths, config.padding, planes=dataset.planes
    )
    return channels_last(network)


class AnswerTrainer:
    """The phone's network and its optimiser, one epoch at a time. Continues from a checkpoint if there is one.

    Args:
        config: of the run.
        dataset: its data.
        clean: the clean cloud network, which teaches; on any device.
        folder: of the run.
        fabric: launched; says on which device and in which process this is.

    Attributes:
        network: as it is now.
        best: a copy of it after the best epoch, on the CPU.
        best_record: the record of that epoch.
        epoch: number of the next epoch.
        epochs: of the stage.
    """

    def __init__(
        self, config: TrainConfig, dataset: Dataset, clean: nn.Module, folder: Path, fabric: "Fabric"
    ) -> None:
        self.config, self.folder, self.fabric = config, folder, fabric
        self.clean = fabric.to_device(clean).eval()
        self.batches = training_batches(config, dataset, fabric, hidden=config.equal_odds is not None)
        self.validation = Batches(
            dataset, Split.VALIDATION, config.keep, config.batch_size, device=fabric.device
        )
        self.epochs = config.pretrain_epochs + config.epochs
        seed_everything(config.seed, "answer", "initial")
        self.network = make_answer_network(config, dataset)
        self.best = make_answer_network(config, dataset)
        self.best_record: dict[str, Any] = {}
        optimizer: Any = torch.optim.AdamW(
            self.network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
        )
        self.shared, self.optimizer = fabric.setup(self.network, optimizer)
        self.odds: EqualOdds | None = None
        if config.equal_odds is not None:
            hidden = {name: len(dataset.attributes[name].classes) for name in config.hide}
            # Two values that are each within half of epsilon of the mean differ by at most epsilon.
            odds = EqualOdds(self.network.classes, hidden, config.odds_control, config.equal_odds / 2)
            self.odds = odds.to(fabric.device)
        self.epoch = 0
        if checkpoint.exists(folder / CHECKPOINT):
            with checkpoint.restored(folder / CHECKPOINT) as state:
                self._load(state)

    def run_epoch(self, advance: Callable[[], None] = lambda: None) -> dict[str, Any]:
        """One epoch: train, validate, keep the best.

        Args:
            advance: called after every step.

        Returns:
            The record for `metrics.jsonl`.
        """
        started = time.perf_counter()
        seed_everything(self.config.seed, "answer", self.epoch)
        trained = distillation_epoch(
            self.shared,
            self.optimizer,
            self.clean,
            self.batches,
            self.config,
            self.fabric,
            epoch=self.epoch,
            epochs=self.epochs,
            only_mirror=self.config.only_mirrors(self.epoch, self.epochs),
            odds=self.odds,
            odds_weight=self.config.suppress_weight,
            advance=advance,
        )
        if self.odds is not None:
            for mean in self.odds.buffers():  # every process has seen its own share of the batches
                mean.copy_(cast(Tensor, self.fabric.all_reduce(mean, reduce_op="mean")))
        result = evaluate(self.network, self.validation)
        record = {
            "stage": "answer",
            "epoch": self.epoch,
            "train_accuracy": trained,
            "val_accuracy": result.accuracy,
            "val_accuracy_by_head": result.accuracy_by_head,
            "val_cross_entropy": result.cross_entropy,
            "val_rate_bits": None,
            "seconds": round(time.perf_counter() - started, 3),
        }
        if self.odds is not None and self.epoch >= JUDGED_FROM * self.epochs:
            record["val_drawn"] = self._drawn_accuracy()
        if not self.best_record or self._score(record) >= self._score(self.best_record):
            self.best_record = record
            self.best.load_state_dict(self.network.state_dict())
        self.epoch += 1
        return record

    def _score(self, record: Mapping[str, Any]) -> tuple[float, float]:
        """How good an epoch was: by its randomised answer where that was fitted, else by its decisions."""
        return record.get("val_drawn", 0.0), record["val_accuracy"]

    def _drawn_accuracy(self) -> float:
        """Accuracy on validation of the randomised answer that is fitted there to the network as it is."""
        dataset, rows = self.validation.dataset, self.validation.dataset.splits[Split.VALIDATION]
        images = np.array(dataset.images[rows])
        scores = float_scores(self.network, images)
        read = float_reader(self.network, *score_scale(scores))
        table = fit_answer(self.config, dataset, read)
        states = table.states(read(images))
        right = [
            table.hits(states, dataset.labels[name][rows], named)
            for name, named in zip(self.config.keep, table.named, strict=True)
        ]
        return float(np.mean(right))

    def save(self) -> None:
        """Write a checkpoint of the epochs done so far."""
        state = {
            "epoch": self.epoch,
            "best_record": self.best_record,
            "best": self.best.state_dict(),
            "network": self.network.state_dict(),
            "optimizer": checkpoint.optimizer_state(self.optimizer),
            "odds": {} if self.odds is None else self.odds.state_dict(),
        }
        checkpoint.save(self.folder / CHECKPOINT, self.epoch, state)

    def _load(self, state: Mapping[str, Any]) -> None:
        self.epoch, self.best_record = state["epoch"], state["best_record"]
        if self.best_record:
            self._score(self.best_record)  # what cannot be judged is told now, not an epoch later
        self.best.load_state_dict(state["best"])
        self.network.load_state_dict(state["network"])
        checkpoint.load_optimizer_state(self.optimizer, state["optimizer"])
        if self.odds is not None:
            self.odds.load_state_dict(state["odds"])


def float_scores(network: AnswerNetwork, images: Images) -> NDArray[np.float64]:
    """Scores of images (N, H, W, 3), (N, S)."""
    parts = []
    with evaluating(network):
        for start in range(0, len(images), BATCH):
            parts.append(network.scores(to_tensor(images[start : start + BATCH])).flatten(1).double())
    return torch.cat(parts).numpy()


def score_range(network: AnswerNetwork, dataset: Dataset) -> tuple[float, int]:
    """Scale and zero point of int8 scores, from the defender's images."""
    return score_scale(float_scores(network, np.array(dataset.images[dataset.splits[Split.DEFENDER]])))


def quantised_scores(network: AnswerNetwork, scale: float, zero_point: int, images: Images) -> Scores:
    """The scores of the float network for images (N, H, W, 3), rounded to int8 as those of an export are."""
    return quantise(float_scores(network, images), scale, zero_point)


def float_reader(network: AnswerNetwork, scale: float, zero_point: int) -> Reader:
    """`quantised_scores` of a network."""
    return partial(quantised_scores, network, scale, zero_point)


@dataclass(frozen=True, eq=False)
class Answer:
    """The two ends of an upload: which word the phone sends, and how the cloud reads it."""

    table: AnswerTable
    cloud: WordDecoder


def build_answer(config: TrainConfig, dataset: Dataset, read: Reader) -> Answer:
    """The table that `config` asks for and the cloud network that belongs to it.

    The table is fitted to the validation images and their mirror images, which the network was not fitted to; the attacker's
    images stay untouched, so that an audit can use them. What a word means is counted on the defender's split.
    Recordings have no mirror images, nor has data with `mirror=no`.

    Args:
        config: of the run.
        dataset: its data.
        read: the model that ships, or the float network rounded.

    Raises:
        SfumatoError: as `fit_table`.
    """
    table = fit_answer(config, dataset, read)
    rows = dataset.splits[Split.DEFENDER]
    states = table.states(read(np.array(dataset.images[rows])))
    labels = [dataset.labels[name][rows] for name in config.keep]
    return Answer(table, make_decoder(config, dataset, decoder_table(table, states, labels)))


def fit_answer(config: TrainConfig, dataset: Dataset, read: Reader) -> AnswerTable:
    """The table that `config` asks for, fitted to what `read` gives for validation images and their mirror images, if any.

    Raises:
        SfumatoError: as `fit_table`.
    """
    classes = tuple(class_counts(config, dataset).values())
    if config.equal_odds is None:
        return AnswerTable(classes)
    rows = dataset.splits[Split.VALIDATION]
    images = np.array(dataset.images[rows])
    views = [images, images[:, :, ::-1]] if dataset.mirrored else [images]
    scores, twice = read(np.concatenate(views)), np.tile(rows, len(views))
    return fit_table(
        scores,
        [dataset.labels[name][twice] for name in config.keep],
        {name: dataset.labels[name][twice] for name in config.hide},
        classes,
        choose_margins(scores, classes, config.answer.bins),
        epsilon=config.equal_odds,
        least=2 * config.answer.least,  # every image counts twice
        shrink=2 * config.answer.shrink,
    )


def make_decoder(config: TrainConfig, dataset: Dataset, table: Tensor | None = None) -> WordDecoder:
    """The cloud network of answer mode; without a table its weights are still to be read."""
    return WordDecoder(class_counts(config, dataset), table).eval()


def decoder_table(table: AnswerTable, states: Ints, labels: list[Ints]) -> Tensor:
    """log P(class | word), (N, S), by counting; every word counts once more as the answer that it names.

    Args:
        table: of the answer.
        states: (n,) of images.
        labels: (n,) true class of every kept attribute.
    """
    words, parts = np.arange(table.words), []
    for values, count, named in zip(labels, table.classes, table.named, strict=True):
        counts = table.counts(states, values, count) + cross_counts(words, named, (table.words, count)) + 0.1
        parts.append(np.log(counts / counts.sum(1, keepdims=True)))
    return torch.from_numpy(np.concatenate(parts, axis=1)).float()


def told_bits(table: AnswerTable, states: Ints) -> dict[str, float]:
    """What a word can tell of the photo: at most log2 N bits of any, and on average no more than its entropy."""
    sent = table.counts(states, np.zeros_like(states), 1)[:, 0]
    return {"most_bits": log2(table.words), "entropy_bits": count_entropy(sent)}


def judge_answer(answer: Answer, dataset: Dataset, config: TrainConfig, read: Reader) -> dict[str, Any]:
    """Figures of the card: accuracy on test, what a word tells, and the exact leak of every other attribute.

    The leak: whoever knows the table and has seen the attacker's images guesses, for each word, the value most frequent with
    it. No attack on the word alone can do better but by knowing the population better; intervals are the audit's
    (`sfumato.audit.exact_answer`).
    """
    table = answer.table
    rows = {split: dataset.splits[split] for split in (Split.ATTACKER, Split.TEST)}
    states = {split: table.states(read(np.array(dataset.images[where]))) for split, where in rows.items()}
    labels = {
        split: {name: dataset.labels[name][where] for name in dataset.labels} for split, where in rows.items()
    }
    classes = {name: len(attribute.classes) for name, attribute in dataset.attributes.items()}
    rows_of = answer.cloud.table[: table.words].split([classes[name] for name in config.keep], dim=1)
    accuracy = {
        name: float(
            table.credits(
                states[Split.TEST], truth(dataset, name, rows[Split.TEST]), part.double().numpy()
            ).mean()
        )
        for name, part in zip(config.keep, rows_of, strict=True)
    }
    kept = {
        split: label_cells([of[name] for name in config.keep], [classes[name] for name in config.keep])
        for split, of in labels.items()
    }
    cells = prod(classes[name] for name in config.keep)
    leak = {}
    for name, count in classes.items():
        if name in config.keep:
            continue
        known, seen = (
            table.counts(states[split], labels[split][name], count) for split in (Split.ATTACKER, Split.TEST)
        )
        floor_known, floor_seen = (
            cross_counts(kept[split], labels[split][name], (cells, count))
            for split in (Split.ATTACKER, Split.TEST)
        )
        leak[name] = {
            "declared": name in config.hide,
            "accuracy": guess_accuracy(seen, best_guess(known)),
            "label_only": guess_accuracy(floor_seen, best_guess(floor_known)),
            "information_bits": mutual_information(seen),
            "label_bits": mutual_information(floor_seen),
        }
    return {"desired_accuracy": accuracy, "told": told_bits(table, states[Split.TEST]), "leak": leak}
