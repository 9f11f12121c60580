"""The clean cloud network: trained on images as they are.

It is the reference that desired accuracy is compared with, the teacher for distillation and the starting point of the cloud
network in co-training.

    clean = train_clean(config, dataset, fabric, log)
"""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from sfumato.core.cloud_spec import is_resnet, parse_cloud
from sfumato.core.console import note, progress
from sfumato.core.seeding import seed_everything
from sfumato.data import Dataset, Split
from sfumato.models import channels_last
from sfumato.models.cloud import BUILT_IN, check_answers, create_cloud
from sfumato.models.onnx.given import read_given
from sfumato.models.onnx.reader import check_parity, load_onnx
from sfumato.models.pretrained import Pretrained, load_backbone
from sfumato.models.schedule import one_cycle, set_learning_rate
from sfumato.training.evaluate import evaluate, figure_name
from sfumato.training.fit import check_fit, read_orders
from sfumato.training.loader import Batches
from sfumato.training.losses import task_loss

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from sfumato.training.config import TrainConfig
    from sfumato.training.log import TrainingLog


ONNX_COPY = "cloud.onnx"
"""A run and an export hold the ONNX file that they were given, under this name."""


def make_cloud(config: "TrainConfig", dataset: Dataset, folder: Path | None = None) -> nn.Module:
    """The cloud network of this configuration, channels-last: untrained, or as it was given.

    Args:
        config: names the network.
        dataset: says which classes the kept attributes have, and how large the images are.
        folder: of the run or export that holds the copy of a given ONNX file; None reads the original.
    """
    classes = class_counts(config, dataset)
    if (file := config.given_onnx) is not None:
        if folder is not None:
            return channels_last(load_onnx(folder / ONNX_COPY, classes, dataset.size, planes=dataset.planes))
        content = read_onnx(config, dataset)
        return channels_last(load_onnx(file, classes, dataset.size, content, planes=dataset.planes))
    cloud = create_cloud(
        config.given_cloud or config.cloud,
        classes,
        size=dataset.size,
        planes=dataset.planes,
        grids=mask_grids(config, dataset),
    )
    if isinstance(cloud, BUILT_IN):
        cloud.lean = config.precision == "bfloat16"
    return channels_last(cloud)


def first_cloud(config: "TrainConfig", dataset: Dataset) -> nn.Module:
    """The cloud network as training finds it: new heads on a library's network have the weights that it was asked for with.

    Raises:
        UsageError, SfumatoError: as `load_backbone`.
    """
    cloud = make_cloud(config, dataset)
    spec = parse_cloud(config.cloud)
    if spec is not None and isinstance(cloud, Pretrained):
        load_backbone(cloud, spec)
    return cloud


def weight_groups(network: nn.Module) -> list[dict[str, Any]]:
    """Parameter groups for an optimiser: parts of a library's network learn at shares of the rate, the rest at all of it."""
    clouds = [part for part in network.modules() if isinstance(part, Pretrained)]
    groups = [
        {"params": weights, "share": share} for one in clouds for weights, share in one.learning_rates()
    ]
    slow = {id(weight) for one in clouds for weight in one.backbone.parameters()}
    return [{"params": [weight for weight in network.parameters() if id(weight) not in slow]}, *groups]


def class_counts(config: "TrainConfig", dataset: Dataset) -> dict[str, int]:
    """Kept attribute -> number of classes, in order."""
    return {name: len(dataset.attributes[name].classes) for name in config.keep}


def mask_grids(config: "TrainConfig", dataset: Dataset) -> dict[str, tuple[int, int]]:
    """Kept mask -> rows and columns of its cells."""
    grids = {name: dataset.attributes[name].grid for name in config.keep}
    return {name: grid for name, grid in grids.items() if grid is not None}


def read_onnx(config: "TrainConfig", dataset: Dataset) -> bytes:
    """The ONNX file that a user gives, as a run keeps it.

    Raises:
        SfumatoError: as `read_given`.
        UsageError: as `read_orders`.
    """
    assert config.given_onnx is not None, "the caller asks for one"
    orders = read_orders(config.class_order, {name: dataset.attributes[name].classes for name in config.keep})
    return read_given(
        config.given_onnx,
        class_counts(config, dataset),
        dataset.size,
        input_range=config.input_range or "0..1",
        orders=orders,
        planes=dataset.planes,
    )


def check_cloud(config: "TrainConfig", dataset: Dataset) -> None:
    """Refuse a cloud network of the user's that does not answer as it should, before anything is written.

    Raises:
        UsageError: its factory cannot be found, or fails.
        SfumatoError: as `load_onnx`, `check_parity`, `check_answers` and `check_fit`.
    """
    name = config.given_cloud or config.cloud
    if is_resnet(name):
        return
    classes, file = class_counts(config, dataset), config.given_onnx
    if file is None:
        cloud = first_cloud(config, dataset)
        spec = parse_cloud(config.cloud)
        if spec is not None and spec.from_scratch and not spec.weights:
            note(
                f"{spec} starts from scratch: nothing is downloaded, weights=FILE names a file that you have"
            )
        check_answers(cloud, classes, dataset.size, name, dataset.planes, mask_grids(config, dataset))
    else:
        content = read_onnx(config, dataset)
        cloud = channels_last(load_onnx(file, classes, dataset.size, content, planes=dataset.planes))
        check_answers(cloud, classes, dataset.size, name, dataset.planes)
        check_parity(cloud, file, dataset.size, content, planes=dataset.planes)
    if config.given_cloud is not None:
        check_fit(cloud, config, dataset)


def training_batches(
    config: "TrainConfig", dataset: Dataset, fabric: "Fabric", *, hidden: bool = False
) -> Batches:
    """The defender's batches, shared out among the processes of `fabric`; `hidden` adds the labels of `config.hide`."""
    return Batches(
        dataset,
        Split.DEFENDER,
        (*config.keep, *config.hide) if hidden else config.keep,
        config.batch_size,
        fabric.device,
        rank=fabric.global_rank,
        world=fabric.world_size,
        augmentation=config.augmentation,
    )


def train_clean(
    config: "TrainConfig",
    dataset: Dataset,
    fabric: "Fabric",
    log: "TrainingLog | None",
    *,
    what: str = "clean cloud",
) -> nn.Module:
    """Train the clean cloud network; the weights of the best validation epoch are returned, on the CPU.

    `what` stands beside the progress bar.
    """
    seed_everything(config.seed, "clean", "initial")
    cloud = first_cloud(config, dataset)
    optimizer = torch.optim.AdamW(
        weight_groups(cloud), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
    )
    shared, optimizer = fabric.setup(cloud, optimizer)
    train = training_batches(config, dataset, fabric)
    validation = Batches(dataset, Split.VALIDATION, config.keep, config.batch_size, device=fabric.device)
    steps = config.clean_epochs * train.steps
    best, weights = -1.0, cloud.state_dict()
    figure = figure_name(dataset, config.keep)
    with progress() as bar:
        task = bar.add_task(what, total=steps, figures="", visible=fabric.is_global_zero)
        for epoch in range(config.clean_epochs):
            seed_everything(config.seed, "clean", epoch)
            started, total = time.perf_counter(), 0.0
            shared.train()
            for index, batch in enumerate(
                train.epoch(only_mirror=config.only_mirrors(epoch, config.clean_epochs))
            ):
                step = epoch * train.steps + index
                set_learning_rate(
                    optimizer, one_cycle(step, steps, config.learning_rate, **config.schedule.model_dump())
                )
                loss = task_loss(shared(batch.images), batch.labels)
                optimizer.zero_grad()
                fabric.backward(loss)
                optimizer.step()
                total += loss.item()
                bar.advance(task)
            result = evaluate(cloud, validation)
            if result.accuracy >= best:
                best = result.accuracy
                weights = {name: value.detach().cpu().clone() for name, value in cloud.state_dict().items()}
            bar.update(task, figures=f"{figure} {100 * result.accuracy:.1f} %, best {100 * best:.1f} %")
            if log is not None:
                log.write(
                    {
                        "stage": "clean",
                        "epoch": epoch,
                        "loss": total / train.steps,
                        "val_accuracy": result.accuracy,
                        "seconds": time.perf_counter() - started,
                    }
                )
    finished = make_cloud(config, dataset)
    finished.load_state_dict(weights)
    return finished.eval()
