"""A finished training run on disk, and how to read it back.

    run = load_run(Path("runs/faces"))
    run.local, run.cloud, run.dataset, run.parameters(images)

A run is an artifact in the sense of `sfumato.audit.artifact`: the audit can judge it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from torch import nn

from sfumato.channels import Channel, Parameters, create
from sfumato.core.errors import SfumatoError
from sfumato.core.files import read_json, sha256
from sfumato.data import Dataset, open_dataset
from sfumato.models import channels_last
from sfumato.models.local import LocalNetwork
from sfumato.models.tensors import network_parameters
from sfumato.training.checkpoint import load_module
from sfumato.training.clean import ONNX_COPY, make_cloud
from sfumato.training.config import TrainConfig, make_config

CARD = "card.json"
"""Written last: a folder that holds it holds a finished run."""
SCHEMA = "sfumato-run/2"


CARD_KEYS_OF_1 = {
    "context_bits": "autoregressive_bits",
    "val_coin_bits": "val_uniform_bits",
    "hint_loss": "aux_loss",
}
"""Keys of sfumato-run/1 that have another name now."""


def make_local(config: TrainConfig, dataset: Dataset) -> LocalNetwork:
    """The local network of this configuration, untrained, channels-last; the literal scheme has no decision path."""
    channel = create(config.channel, **config.channel_settings)
    kept = () if config.objective == "literal" else config.keep
    classes = [len(dataset.attributes[name].classes) for name in kept]
    return channels_last(LocalNetwork(channel, classes, dataset.size, config.block))


@dataclass(frozen=True)
class Run:
    """A finished run; the networks are in evaluation mode on the CPU."""

    folder: Path
    config: TrainConfig
    dataset: Dataset
    local: LocalNetwork
    cloud: nn.Module
    card: dict[str, Any]

    @property
    def kind(self) -> Literal["float"]:
        """The parameters come from floating-point arithmetic."""
        return "float"

    @property
    def keep(self) -> tuple[str, ...]:
        """Desired attributes."""
        return self.config.keep

    @property
    def hide(self) -> tuple[str, ...]:
        """Declared undesired attributes."""
        return self.config.hide

    @property
    def channel(self) -> Channel:
        """The noisy channel."""
        return self.local.channel

    @property
    def clean_accuracy(self) -> Mapping[str, float]:
        """Test accuracy (fraction) of the clean cloud network."""
        accuracy: dict[str, float] = self.card["clean_accuracy"]
        return accuracy

    @cached_property
    def clean(self) -> nn.Module:
        """The clean cloud network."""
        clean = make_cloud(self.config, self.dataset, self.folder)
        load_module(clean, self.folder / "clean.safetensors")
        return clean.eval()

    def parameters(self, images: NDArray[np.uint8]) -> Parameters:
        """Channel parameters of images (N, H, W, 3)."""
        return network_parameters(self.local, images)


def read_card(path: Path) -> dict[str, Any]:
    """A run's card in the words of this version.

    Raises:
        SfumatoError: the file is missing or damaged, or a later version wrote it.
    """
    card: dict[str, Any] = read_json(path)
    schema = card.get("schema")
    if schema == "sfumato-run/1":
        best = {CARD_KEYS_OF_1.get(key, key): value for key, value in card["best_epoch"].items()}
        card = {CARD_KEYS_OF_1.get(key, key): value for key, value in card.items()}
        return {**card, "schema": SCHEMA, "best_epoch": best}
    if schema != SCHEMA:
        raise SfumatoError(f"{path} has the schema {schema!r}: this version reads {SCHEMA} and sfumato-run/1")
    return card


def load_run(folder: str | Path) -> Run:
    """Read a finished run.

    Raises:
        SfumatoError: the folder holds no finished run, a file is damaged, or the data set has changed since.
    """
    folder = Path(folder)
    if not (folder / CARD).exists():
        hint = (
            "resume it with `sfumato train --resume`"
            if (folder / "config.json").exists()
            else "give a RUN folder"
        )
        raise SfumatoError(f"{folder} holds no finished run ({CARD} is missing): {hint}")
    card = read_card(folder / CARD)
    config = make_config(read_json(folder / "config.json"))
    dataset = open_dataset(config.data, keep=config.keep, hide=config.hide)
    if dataset.id != card["dataset"]["id"]:
        raise SfumatoError(
            f"the data at {config.data} is not what {folder} was trained on: its files or labels changed"
        )
    if config.given_onnx is not None:
        _check_copy(folder / ONNX_COPY, card["given_cloud"]["sha256"])
    local, cloud = make_local(config, dataset), make_cloud(config, dataset, folder)
    load_module(local, folder / "local.safetensors")
    load_module(cloud, folder / "cloud.safetensors")
    return Run(folder, config, dataset, local.eval(), cloud.eval(), card)


def _check_copy(path: Path, digest: str) -> None:
    if not path.exists():
        raise SfumatoError(f"{path} is missing: it is the cloud network that this run was given")
    if sha256(path) != digest:
        raise SfumatoError(f"{path} is not the cloud network that this run was given (its sha256 differs)")
