"""The configuration of a training run: one frozen object, written into the run and read back from it.

config = TrainConfig(data="synthetic", keep=("smiling",), hide=("skin",), bits=8)
"""

import tomllib
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from sfumato.core.errors import UsageError, complaint
from sfumato.core.rates import PICTURE_BITS


class TrainConfig(BaseModel):
    """Everything that decides the result of `sfumato train`. Unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: str
    """Data SPEC, for example `utkface:PATH,size=64`."""
    keep: tuple[str, ...] = Field(min_length=1)
    """Attributes the cloud is meant to recognise; one head each."""
    hide: tuple[str, ...] = ()
    """Attributes declared undesired. Only the objective `suppress` reads their labels in training."""
    seed: int = 0

    channel: Literal["dither", "gaussian"] = "dither"
    levels: Literal[2, 4, 16] = 2
    """Levels a sample of the dither channel can take."""
    block: Literal[2, 4] = 4
    """Height and width of the block of pixels under each place of the local network's heads. 2 sees edges, which helps uploads
    that show parts of a picture, and costs the phone 20 to 40 % more (docs/decisions/0016)."""
    objective: Literal["seed", "rate", "suppress"] = "rate"

    bits: float | None = Field(default=None, gt=0)
    """Target of the mean rate, in bits an image. The weight of the rate is found by the run itself."""
    reference: Literal["coins", "context"] = "coins"
    """What the rate in training is measured against: fair coins, or a reference that foresees each bit from those before it
    (`sfumato.models.autoregressive`). With parts of a picture in an upload the same number of bits then takes twice as much of
    it along."""
    max_drop: float | None = Field(default=None, gt=0, lt=100)
    """Instead of `bits`: the lowest rate whose desired accuracy stays within this many points of the clean network's."""
    beyond: float | None = Field(default=None, gt=0)
    """Target of the residual rate in bits an image: what an upload may tell beyond the phone's own decision."""
    noise_weight: float = Field(default=0.1, ge=0)
    """Lambda of the objective `seed`: weight of the mean log noise scale."""
    suppress_weight: float = Field(default=1.0, ge=0)
    """Gamma of the objective `suppress`, and the share of its equal odds."""
    distill: float = Field(default=0.5, ge=0, le=1)
    """Share of the loss that follows the clean network's soft answers instead of the labels."""

    feature_weight: float | None = Field(default=None, ge=0)
    """How strongly the cloud network's features of an upload follow the clean network's of the photo. None: 1 where the target
    allows for `PICTURE_BITS` and nothing is to be held beyond the answer, else 0. Only the built-in cloud network tells its
    features, and a frozen one cannot follow: nothing happens for others."""

    hint_weight: float = Field(default=1.0, ge=0)
    """Weight of the local network's own guess at the desired labels: what its decision goes on learning from."""

    cloud: str = "resnet"
    """`resnet`, or `module:factory`."""
    frozen_cloud: str | None = None
    """A cloud network that cannot change, so that the local one alone learns: `clean` (the one that this run trains on clean
    images), a file `NAME.onnx`, or `module:factory` of one that has its weights. None: both networks learn."""
    warm_epochs: int = Field(default=36, ge=0)
    """Epochs in which the local network's encoder learns the desired labels on clean images, before co-training."""
    epochs: int = Field(default=24, ge=1)
    clean_epochs: int = Field(default=24, ge=1)
    """Epochs of the clean cloud network, the reference for accuracy and the teacher for distillation."""
    batch_size: int = Field(default=64, ge=2)
    learning_rate: float = Field(default=2e-3, gt=0)
    """Peak of the one-cycle schedule (AdamW)."""
    weight_decay: float = Field(default=1e-2, ge=0)
    plain: float = Field(default=0.0, ge=0, le=1)
    """Share of co-training and of the clean network's training, at their end, whose images are mirrored and else left as they
    are. Turned and scaled images are blurred, by a pixel or so: at 32x32 that is much."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of the built-in cloud network's convolutions in training. bfloat16 takes 60 % of the time where the processor has it
    (avx512_bf16, AMX, a GPU); the local network, evaluation and audit always compute in float32."""
    adversary_steps: int = Field(default=2, ge=1)
    """Adversary steps a defender step, objective `suppress`."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.bits is not None and self.max_drop is not None:
            raise ValueError("give either bits or max_drop, not both")
        if self.objective == "suppress" and not self.hide:
            raise ValueError("the objective 'suppress' needs attributes to hide (--hide)")
        if self.reference == "context" and (self.channel != "dither" or self.objective == "seed"):
            raise ValueError("the reference 'context' needs the channel dither and an objective with a rate")
        targets = (self.bits, self.max_drop, self.beyond)
        if self.objective == "seed" and any(target is not None for target in targets):
            raise ValueError("the objective 'seed' has no rate target: it is steered by noise_weight")
        if self.given_cloud is not None:
            if not (self.given_cloud.endswith(".onnx") or ":" in self.given_cloud):
                raise ValueError(
                    f"unknown frozen_cloud {self.given_cloud!r}: give 'clean', NAME.onnx or module:factory"
                )
            if self.cloud != "resnet":
                raise ValueError("give either cloud or frozen_cloud: a network that is given needs no other")
        if both := set(self.keep) & set(self.hide):
            raise ValueError(f"{', '.join(sorted(both))} cannot be kept and hidden at once")
        return self

    @property
    def follows_features(self) -> float:
        """The weight of the features in the loss."""
        if self.feature_weight is not None:
            return self.feature_weight
        picture = self.bits is not None and self.bits >= PICTURE_BITS and self.beyond is None
        return 1.0 if picture and self.objective == "rate" else 0.0

    def is_plain(self, epoch: int, epochs: int) -> bool:
        """Whether an epoch of a stage lies in the share at its end that leaves images as they are."""
        return epoch >= (1 - self.plain) * epochs

    @property
    def given_cloud(self) -> str | None:
        """The frozen cloud network if it comes from outside; the clean one is trained like any other."""
        return None if self.frozen_cloud == "clean" else self.frozen_cloud

    @property
    def given_onnx(self) -> Path | None:
        """The file that the cloud network is given in."""
        given = self.given_cloud
        return Path(given) if given is not None and given.endswith(".onnx") else None

    @property
    def channel_settings(self) -> dict[str, float | int | bool]:
        """Arguments for `channels.create`. The objective `seed` is the paper's literal scheme: additive noise."""
        if self.channel == "dither":
            return {"levels": self.levels}
        return {"additive": True, "largest_scale": 2.0} if self.objective == "seed" else {}


def make_config(values: dict[str, Any], file: Path | None = None) -> TrainConfig:
    """Build a config from command-line values over an optional TOML file.

    Raises:
        UsageError: unknown keys, wrong types or ranges, or options that contradict each other.
    """
    base: dict[str, Any] = {}
    if file is not None:
        try:
            base = tomllib.loads(file.read_text(encoding="utf-8"))
        except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise UsageError(f"cannot read the configuration {file}: {error}") from None
    try:
        return TrainConfig(**{**base, **values})
    except ValidationError as error:
        raise UsageError(complaint(error, "options").replace(": Value error, ", ": ", 1)) from None
