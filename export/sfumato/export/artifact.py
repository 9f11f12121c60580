"""An export as the audit sees it: the int8 model's own outputs, audited like a run.

artifact = load_export("export")
parameters = artifact.parameters(images)        # what the phone computes, to the byte
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from sfumato.audit.index_channel import IndexChannel
from sfumato.channels import Channel, Parameters, create
from sfumato.channels.dither import Dither
from sfumato.core.errors import SfumatoError
from sfumato.core.files import read_object
from sfumato.core.strengths import FULL
from sfumato.data import Dataset
from sfumato.export.answer_bundle import int8_reader
from sfumato.export.parity import channel_parameters, run_int8
from sfumato.runtime.contract import FILE, Contract, read_file
from sfumato.runtime.phone_model import PhoneModel
from sfumato.training.answer import make_decoder
from sfumato.training.answer_table import AnswerTable
from sfumato.training.checkpoint import load_module
from sfumato.training.clean import ONNX_COPY, make_cloud
from sfumato.training.config import TrainConfig, read_config
from sfumato.training.run import check_card, make_reader, open_data


@dataclass(frozen=True)
class ExportArtifact:
    """A bundle with the cloud network it was trained with."""

    folder: Path
    contract: Contract
    phone: PhoneModel
    dataset: Dataset
    cloud: nn.Module
    clean_accuracy: Mapping[str, float]
    config: TrainConfig
    strength: int = FULL
    """At which uploads are drawn."""

    @property
    def kind(self) -> Literal["int8"]:
        """The parameters come from integer arithmetic."""
        return "int8"

    @property
    def digests(self) -> Mapping[str, str]:
        """SHA-256 of the contract, which names every other file by its own."""
        assert self.phone.digest is not None  # it was loaded from a folder
        return {FILE: self.phone.digest.hex()}

    @property
    def mode(self) -> Literal["picture", "answer"]:
        """What is uploaded."""
        return self.contract.mode

    @property
    def keep(self) -> tuple[str, ...]:
        """Desired attributes."""
        return tuple(entry.name for entry in self.contract.keep)

    @property
    def hide(self) -> tuple[str, ...]:
        """Declared undesired attributes."""
        return self.contract.hide

    @cached_property
    def channel(self) -> Channel:
        """The noisy channel: the book's, where uploads are its entries."""
        channel = create(self.contract.channel.name, **self.contract.channel.settings)
        if self.phone.book is None:
            return channel
        assert isinstance(channel, Dither)  # the contract has an index with no other
        return IndexChannel(
            levels=channel.levels, gray=channel.gray, subsample=channel.subsample, code=self.phone.book
        )

    def parameters(self, images: NDArray[np.uint8]) -> Parameters:
        """Channel parameters of images (N, H, W, 3): the shipped bytes q as q / 256, (N, planes, H, W)."""
        q = run_int8(self.phone.session, images)
        if self.strength != FULL:
            q = self.phone.at_strength(q, self.strength)
        return channel_parameters(self.channel, q, images)

    def at_strength(self, strength: int) -> Self:
        """The same bundle at the strength of one of its points.

        Raises:
            UsageError: it has no such point.
        """
        self.contract.check_strength(strength)
        return replace(self, strength=strength)


@dataclass(frozen=True)
class AnswerExport(ExportArtifact):
    """A bundle of answer mode: the int8 model's own scores, and the table that ships.

    To whatever looks at channel parameters, an upload is the code word's image: probabilities of 0 and 1.
    """

    @cached_property
    def channel(self) -> Channel:
        """Two levels: the code word's image."""
        return create("dither", levels=2)

    @cached_property
    def table(self) -> AnswerTable:
        """Which word goes out for which state of the scores."""
        answer, shares = self.contract.answer, None
        assert answer is not None
        if self.phone.table is not None:
            shares = np.diff(self.phone.table.astype(np.int64), axis=1, prepend=0)
        return AnswerTable(self.contract.classes, answer.margins, shares)

    def scores(self, images: NDArray[np.uint8]) -> NDArray[np.int8]:
        """int8 scores (N, S) of images (N, H, W, 3)."""
        return int8_reader(self.phone.session)(images)

    def parameters(self, images: NDArray[np.uint8]) -> Parameters:
        """The code words of images (N, H, W, 3) as images: {"p": (N, 3, H, W)}, every value 0 or 1; drawn once."""
        shown = []
        noise = np.random.default_rng(0).integers(256, size=(len(images), 2), dtype=np.uint8)
        for image, bits in zip(images, noise, strict=True):
            pixels = np.ascontiguousarray(image)
            shown.append(self.phone.sample(pixels, self.phone.parameters(pixels), bits))
        return {"p": torch.from_numpy(np.stack(shown)).permute(0, 3, 1, 2).float()}


def load_export(
    path: str | Path, *, cloud: str | None = None, data: str | None = None, indices: bool = True
) -> ExportArtifact:
    """Read an export for an audit; one of answer mode is an `AnswerExport`.

    Args:
        path: its folder.
        cloud: the `module:factory` of its cloud network, where it is the user's own: an export that names one is not believed.
        data: where its data lie here, if elsewhere than for its maker.
        indices: whether the caller can deal with uploads that are indices.

    Raises:
        SfumatoError: the bundle is damaged, came without its audit files, the data set has changed since, its cloud network is
            made by code that `cloud` does not name, or its uploads are indices and the caller wants none.
    """
    folder = Path(path)
    phone = PhoneModel.load(folder)
    contract = phone.contract
    if contract.index is not None and not indices:
        raise SfumatoError(
            f"uploads of {folder} are indices, which only an audit draws: take a packed export"
        )
    needed = [entry for entry in contract.files if entry.role == "audit"]
    if not all((folder / entry.name).exists() for entry in needed):
        raise SfumatoError(f"{folder} came without its audit files: audit it where it was exported")
    for entry in needed:
        read_file(folder, entry)
    config = read_config(folder / "audit" / "config.json", cloud)
    card = read_object(folder / "audit" / "card.json")
    check_card(card, config, folder / "audit" / "card.json")
    dataset = open_data(config, card, folder, data)
    # Behind a restorer the network that was given is a part of cloud.onnx, so the export holds it once more.
    given = folder / "audit" if config.restore else folder
    if config.given_onnx is not None:
        read_file(folder, contract.file((given / ONNX_COPY).relative_to(folder).as_posix()))
    answering = contract.mode == "answer"
    network: nn.Module = (
        make_decoder(config, dataset)
        if answering
        else make_reader(config, dataset, make_cloud(config, dataset, given))
    )
    load_module(network, folder / "audit" / "cloud.safetensors")
    kind = AnswerExport if answering else ExportArtifact
    return kind(folder, contract, phone, dataset, network.eval(), card["clean_accuracy"], config)
