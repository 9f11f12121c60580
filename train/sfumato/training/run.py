"""A finished training run on disk, and how to read it back.

    run = load_run(Path("runs/faces"))
    run.local, run.cloud, run.dataset, run.parameters(images)

A run is an artifact in the sense of `sfumato.audit.artifact`: the audit can judge it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import nn

from sfumato.channels import Channel, Parameters, create
from sfumato.channels.dither import Dither
from sfumato.core.errors import SfumatoError, complaint
from sfumato.core.files import atomic_write, read_bytes, read_object, sha256, write_json
from sfumato.core.rates import PICTURE_BITS
from sfumato.data import Dataset, open_dataset
from sfumato.models import channels_last
from sfumato.models.answer_network import AnswerNetwork
from sfumato.models.argmax_head import Form, form_of
from sfumato.models.local import LocalNetwork, check_window
from sfumato.models.own_local import OwnLocal, check_maps, make_own
from sfumato.models.restorer import RestoringReader
from sfumato.models.shortlist import ShortlistReader
from sfumato.models.tensors import network_parameters
from sfumato.runtime import answer
from sfumato.training.answer import float_reader, make_answer_network, make_decoder
from sfumato.training.answer_table import AnswerTable, Scores
from sfumato.training.checkpoint import load_module
from sfumato.training.clean import ONNX_COPY, class_counts, make_cloud
from sfumato.training.config import TrainConfig, read_config, require_named
from sfumato.training.start import CARD

SCHEMA = "sfumato-run/2"
AUDITED = (
    CARD,
    "config.json",
    "local.safetensors",
    "cloud.safetensors",
    "answer.json",
    answer.TABLE,
    ONNX_COPY,
)
"""Files of a run that an audit reads, where they are there."""
ANSWER, ANSWER_SCHEMA = "answer.json", "sfumato-answer/1"

CARD_KEYS_OF_1 = {
    "context_bits": "autoregressive_bits",
    "val_coin_bits": "val_uniform_bits",
    "hint_loss": "aux_loss",
}
"""Keys of sfumato-run/1 that have another name now."""


class _Stored(BaseModel):
    """What is read back from a run or an export; more may be there."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False, strict=True)


class _StoredData(_Stored):
    id: str


class _StoredCloud(_Stored):
    sha256: str


class _StoredCard(_Stored):
    dataset: _StoredData
    clean_accuracy: dict[str, Annotated[float, Field(le=1)]]
    given_cloud: _StoredCloud | None = None


class _StoredAnswer(_Stored):
    margins: list[Annotated[int, Field(ge=1, le=255)]]
    score_scale: float = Field(gt=0)
    score_zero_point: int = Field(ge=-128, le=127)


def _check(kind: type[_Stored], values: Any, path: Path) -> None:
    try:
        kind.model_validate(values)
    except ValidationError as error:
        raise SfumatoError(f"{path}: {complaint(error)}") from None


def check_card(card: dict[str, Any], config: TrainConfig, path: Path) -> None:
    """Refuse a card of a run or an export whose figures are missing or of another type.

    Raises:
        SfumatoError: one line that says where.
    """
    _check(_StoredCard, card, path)
    if missing := [name for name in config.keep if name not in card["clean_accuracy"]]:
        raise SfumatoError(f"{path}: clean_accuracy has no figure for {missing[0]}")
    if config.given_onnx is not None and "given_cloud" not in card and "schema" in card:
        raise SfumatoError(f"{path}: given_cloud is missing")


def make_channel(config: TrainConfig, dataset: Dataset) -> Channel:
    """The channel of this configuration for pictures of the data set: of grey ones an upload has one plane.

    Raises:
        UsageError: the channel takes colour alone.
    """
    grey = {"colours": dataset.planes} if dataset.planes != 3 else {}
    return create(config.channel, **config.channel_settings, **grey)


def make_local(config: TrainConfig, dataset: Dataset) -> LocalNetwork:
    """The local network of this configuration, untrained, channels-last; the literal scheme has no decision path."""
    channel = make_channel(config, dataset)
    if config.local is not None:
        return cast(
            LocalNetwork, channels_last(OwnLocal(channel, make_own(config.local, channel, dataset.size)))
        )
    form = decision_form(config, dataset)
    classes = [] if form is None else list(class_counts(config, dataset).values())
    how = config.gating
    check_window(how.window, *dataset.size)
    network = LocalNetwork(
        channel,
        classes,
        dataset.size,
        config.block,
        form=form,
        region=how.region,
        window=how.window,
        shortlist=list(class_counts(config, dataset).values()) if config.shortlist else [],
        padding=config.padding,
        centred=config.phone_input == "centred",
    )
    return channels_last(network)


def make_reader(config: TrainConfig, dataset: Dataset, cloud: nn.Module) -> nn.Module:
    """What reads uploads of this configuration: the cloud network, with a restorer before it, and a shortlist beside it."""
    if not (config.restore or config.shortlist):
        return cloud
    channel = cast(Dither, make_channel(config, dataset))
    if config.restore:
        cloud = channels_last(RestoringReader(cloud, channel))
    if not config.shortlist:
        return cloud
    return ShortlistReader(cloud, channel, class_counts(config, dataset), dataset.size)


MOST_WEIGHTS = 80_000
"""Of a local network: as int8 and with its tables that is just under the 100 kB that an export allows."""


def decision_form(config: TrainConfig, dataset: Dataset) -> Form | None:
    """How the decision of this configuration is made; None: the local network has none. About a mask it decides nothing.

    A decision is left out where it would make the network too large for the phone, and where it would take more weights than
    everything else although uploads of `PICTURE_BITS` and more let the cloud network decide again (docs/decisions/0027).
    """
    if (
        config.objective == "literal"
        or config.decision == "none"
        or config.local is not None
        or config.shortlist
        or config.masks
    ):
        return None
    if config.decision != "auto":
        return config.decision
    counts = list(class_counts(config, dataset).values())
    form = form_of(counts)
    shows_pictures = config.bits is not None and config.bits >= PICTURE_BITS
    if form == "pairwise" or config.objective == "suppress" or config.beyond is not None:
        return form
    channel = make_channel(config, dataset)
    rest, whole = (
        sum(
            weight.numel()
            for weight in LocalNetwork(channel, classes, dataset.size, config.block).parameters()
        )
        for classes in ((), counts)
    )
    return None if whole > (2 * rest if shows_pictures else MOST_WEIGHTS) else form


def check_own(config: TrainConfig, dataset: Dataset) -> None:
    """Refuse a local network of the user's own that does not serve the channel, before anything is written.

    Raises:
        SfumatoError: as `make_own` and `check_maps`.
    """
    if config.local is not None:
        channel = make_channel(config, dataset)
        check_maps(make_own(config.local, channel, dataset.size), channel, dataset.size, config.local)


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
    def mode(self) -> Literal["picture", "answer"]:
        """What is uploaded."""
        return self.config.mode

    @property
    def keep(self) -> tuple[str, ...]:
        """Desired attributes."""
        return self.config.keep

    @property
    def hide(self) -> tuple[str, ...]:
        """Declared undesired attributes."""
        return self.config.hide

    @property
    def digests(self) -> Mapping[str, str]:
        """SHA-256 of the files that an audit reads, by name."""
        return {name: sha256(self.folder / name) for name in AUDITED if (self.folder / name).exists()}

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


@dataclass(frozen=True)
class AnswerRun(Run):
    """A finished run of answer mode: the upload is a code word, and as an image it is black and white without any noise.

    So whatever looks at runs through channel parameters sees probabilities of 0 and 1. The word of an image is drawn once.
    """

    local: AnswerNetwork  # type: ignore[assignment]  # ends at the scores: there is no channel behind it
    table: AnswerTable
    scale: tuple[float, int]
    """Scale and zero point by which scores are rounded to int8."""

    @property
    def channel(self) -> Channel:
        """Two levels: the code word's image."""
        return create("dither", levels=2)

    def scores(self, images: NDArray[np.uint8]) -> Scores:
        """int8 scores (N, S) of images (N, H, W, 3)."""
        return float_reader(self.local, *self.scale)(images)

    def words(self, images: NDArray[np.uint8], *, seed: int = 0) -> NDArray[np.int64]:
        """The word of every image (N, H, W, 3), (N,); a randomised answer is drawn."""
        states = self.table.states(self.scores(images))
        if self.table.cumulative is None:
            return states
        noise = np.random.default_rng(seed).integers(256, size=(len(states), 2), dtype=np.uint8)
        return answer.draw(self.table.cumulative, states, noise)

    def parameters(self, images: NDArray[np.uint8]) -> Parameters:
        """The code words of images (N, H, W, 3) as images: {"p": (N, 3, H, W)}, every value 0 or 1."""
        height, width = self.dataset.size
        shown = [answer.word_image(int(w), self.table.words, height, width) for w in self.words(images)]
        return {"p": torch.from_numpy(np.stack(shown)).permute(0, 3, 1, 2).float()}


def read_card(path: Path) -> dict[str, Any]:
    """A run's card in the words of this version.

    Raises:
        SfumatoError: the file is missing or damaged, or a later version wrote it.
    """
    card = read_object(path)
    schema = card.get("schema")
    if schema == "sfumato-run/1":
        if not isinstance(card.get("best_epoch"), dict):
            raise SfumatoError(f"{path}: best_epoch is missing or no object")
        best = {CARD_KEYS_OF_1.get(key, key): value for key, value in card["best_epoch"].items()}
        card = {CARD_KEYS_OF_1.get(key, key): value for key, value in card.items()}
        return {**card, "schema": SCHEMA, "best_epoch": best}
    if schema != SCHEMA:
        raise SfumatoError(f"{path} has the schema {schema!r}: this version reads {SCHEMA} and sfumato-run/1")
    return card


def open_data(config: TrainConfig, card: Mapping[str, Any], folder: Path, data: str | None = None) -> Dataset:
    """The data that an artifact was trained on.

    Args:
        config: of the run.
        card: of the run.
        folder: of the artifact, for the error.
        data: the spec under which these data are found here; None: that of the run.

    Raises:
        SfumatoError: they are other data, or have changed since.
    """
    spec = config.data if data is None else data
    dataset = open_dataset(spec, keep=config.keep, hide=config.hide)
    if dataset.id != card["dataset"]["id"]:
        raise SfumatoError(
            f"the data at {spec} is not what {folder} was trained on: its files or labels changed"
        )
    return dataset


def load_run(folder: str | Path, *, cloud: str | None = None, data: str | None = None) -> Run:
    """Read a finished run.

    Args:
        folder: of the run.
        cloud: the `module:factory` of its cloud or local network, where that is the user's own, both with a comma: a run that
            names one is not believed.
        data: where the run's data lie here, if elsewhere than for whoever trained it.

    Raises:
        SfumatoError: the folder holds no finished run, a file is damaged, the data set has changed since, or a network of it
            is made by code that `cloud` does not name.
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
    config = read_config(folder / "config.json", cloud)
    require_named("local network", config.local, cloud, folder)
    check_card(card, config, folder / CARD)
    dataset = open_data(config, card, folder, data)
    if config.given_onnx is not None:
        _check_copy(folder / ONNX_COPY, card["given_cloud"]["sha256"])
    if config.mode == "answer":
        return _load_answer(folder, config, dataset, card)
    local = make_local(config, dataset)
    network = make_reader(config, dataset, make_cloud(config, dataset, folder))
    load_module(local, folder / "local.safetensors")
    load_module(network, folder / "cloud.safetensors")
    return Run(folder, config, dataset, local.eval(), network.eval(), card)


def write_answer(folder: Path, table: AnswerTable, scale: tuple[float, int]) -> None:
    """What a run of answer mode holds beside its networks: `answer.json`, and the table of a randomised answer."""
    if table.cumulative is not None:
        with atomic_write(folder / answer.TABLE) as scratch:
            scratch.write_bytes(answer.table_bytes(table.cumulative))
    values = {"margins": table.margins, "score_scale": scale[0], "score_zero_point": scale[1]}
    write_json(folder / ANSWER, {"schema": ANSWER_SCHEMA, **values})


def _load_answer(folder: Path, config: TrainConfig, dataset: Dataset, card: dict[str, Any]) -> AnswerRun:
    local, cloud = make_answer_network(config, dataset), make_decoder(config, dataset)
    load_module(local, folder / "local.safetensors")
    load_module(cloud, folder / "cloud.safetensors")
    values = read_object(folder / ANSWER)
    if values.get("schema") != ANSWER_SCHEMA:
        raise SfumatoError(f"{folder / ANSWER} has the schema {values.get('schema')!r}, not {ANSWER_SCHEMA}")
    _check(_StoredAnswer, values, folder / ANSWER)
    classes, margins = tuple(local.classes.values()), tuple(values["margins"])
    shares = None
    if config.equal_odds is not None:
        content = read_bytes(folder / answer.TABLE)
        shares = np.diff(answer.read_table(content, classes, margins).astype(np.int64), axis=1, prepend=0)
    scale = values["score_scale"], values["score_zero_point"]
    return AnswerRun(
        folder,
        config,
        dataset,
        local.eval(),
        cloud.eval(),
        card,
        AnswerTable(classes, margins, shares),
        scale,
    )


def _check_copy(path: Path, digest: str) -> None:
    if not path.exists():
        raise SfumatoError(f"{path} is missing: it is the cloud network that this run was given")
    if sha256(path) != digest:
        raise SfumatoError(f"{path} is not the cloud network that this run was given (its sha256 differs)")
