"""An export as the audit sees it: the int8 model's own outputs, audited like a run.

artifact = load_export("export")
parameters = artifact.parameters(images)        # what the phone computes, to the byte
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from sfumato.channels import Channel, Parameters, create
from sfumato.core.errors import SfumatoError
from sfumato.core.files import read_json
from sfumato.data import Dataset, open_dataset
from sfumato.models.tensors import to_tensor
from sfumato.runtime.contract import Contract, read_file
from sfumato.runtime.phone_model import PhoneModel
from sfumato.training.checkpoint import load_module
from sfumato.training.clean import ONNX_COPY, make_cloud
from sfumato.training.config import make_config


@dataclass(frozen=True)
class ExportArtifact:
    """A bundle with the cloud network it was trained with."""

    folder: Path
    contract: Contract
    phone: PhoneModel
    dataset: Dataset
    cloud: nn.Module
    clean_accuracy: Mapping[str, float]

    @property
    def kind(self) -> Literal["int8"]:
        """The parameters come from integer arithmetic."""
        return "int8"

    @property
    def keep(self) -> tuple[str, ...]:
        """Desired attributes."""
        return tuple(entry.name for entry in self.contract.keep)

    @property
    def hide(self) -> tuple[str, ...]:
        """Declared undesired attributes."""
        return self.contract.hide

    @property
    def channel(self) -> Channel:
        """The noisy channel."""
        return create(self.contract.channel.name, **self.contract.channel.settings)

    def parameters(self, images: NDArray[np.uint8]) -> Parameters:
        """Channel parameters of images (N, H, W, 3): the shipped bytes q as q / 256, (N, planes, H, W)."""
        found: Parameters = {}
        for tensor in self.contract.outputs:
            shape = (len(images), tensor.shape[3], *tensor.shape[1:3])
            found[tensor.name] = torch.empty(shape)
        for index, image in enumerate(images):
            for name, q in self.phone.parameters(np.ascontiguousarray(image)).items():
                found[name][index] = torch.from_numpy(q.transpose(2, 0, 1).astype(np.float32)) / 256
        for tensor in self.contract.outputs:
            found[tensor.name] *= tensor.unit
        if self.contract.channel.additive:
            found["mean"] = to_tensor(images)
        return found


def load_export(path: str | Path) -> ExportArtifact:
    """Read an export for an audit.

    Raises:
        SfumatoError: the bundle is damaged, came without its audit files, or the data set has changed since.
    """
    folder = Path(path)
    phone = PhoneModel.load(folder)
    contract = phone.contract
    needed = [entry for entry in contract.files if entry.role == "audit"]
    if not all((folder / entry.name).exists() for entry in needed):
        raise SfumatoError(f"{folder} came without its audit files: audit it where it was exported")
    for entry in needed:
        read_file(folder, entry)
    config = make_config(read_json(folder / "audit" / "config.json"))
    card = read_json(folder / "audit" / "card.json")
    dataset = open_dataset(config.data, keep=config.keep, hide=config.hide)
    if dataset.id != card["dataset"]["id"]:
        raise SfumatoError(
            f"the data at {config.data} is not what {folder} was trained on: its files or labels changed"
        )
    if config.given_onnx is not None:
        read_file(folder, contract.file(ONNX_COPY))
    cloud = make_cloud(config, dataset, folder)
    load_module(cloud, folder / "audit" / "cloud.safetensors")
    return ExportArtifact(folder, contract, phone, dataset, cloud.eval(), card["clean_accuracy"])
