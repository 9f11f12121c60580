"""What is the same for every row of a comparison.

config = make_compare_config({"data": "synthetic", "keep": ("smiling",), "hide": ("skin",)})
config.training(objective="rate", bits=8.0)         # the configuration of one training
"""

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from sfumato.audit.plan import create_plan
from sfumato.core.errors import UsageError, complaint, unknown
from sfumato.core.options import kept_masks, kept_numbers, names, with_bins
from sfumato.training.config import Augmentation, TrainConfig, make_config


class CompareConfig(BaseModel):
    """Data, attributes, audit and budget. Unknown keys are refused.

    The defaults are a small budget on purpose: four settings of every method, on 8,000 images of 64x64, fit into a night on two
    cores. Figures that shall be quoted deserve `epochs` of 24 and the audit `default`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: str
    """Data SPEC."""
    keep: tuple[str, ...] = Field(min_length=1)
    hide: tuple[str, ...] = ()
    """Attributes under attack. Without any, accuracy is compared with the rate alone."""
    cloud: str = "resnet"
    """Cloud network of every row, as in `TrainConfig`."""
    attacks: str = "quick"
    """Plan of the audit: quick or default."""
    epochs: int = Field(default=8, ge=1)
    """Of each part of a training: the clean network, the warm-up, and the training proper."""
    batch_size: int = Field(default=64, ge=2)
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of the cloud network in training, as in `TrainConfig`."""
    mirror_only: float = Field(default=0.0, ge=0, le=1)
    """Share of each training, at its end, whose images are only mirrored; the same as in `augmentation`."""
    augmentation: Augmentation = Augmentation()
    """How the training images of every row are varied, as in `TrainConfig`. A row that is taught by varied photos cannot stand
    beside one that is not."""
    seed: int = 0

    @model_validator(mode="before")
    @classmethod
    def _bins(cls, values: Any) -> Any:
        """As in `TrainConfig`: `age:q4` belongs to the data."""
        return with_bins(values)

    @model_validator(mode="after")
    def _labels_alone(self) -> Self:
        if masks := kept_masks(self.data, self.keep):
            raise ValueError(f"{masks[0]} is a mask, and the other methods know labels alone: keep a label")
        if numbers := kept_numbers(self.data, self.keep):
            raise ValueError(
                f"{numbers[0]} is a number, and the other methods know labels alone: keep it in bins, {numbers[0]}:q4"
            )
        return self

    @model_validator(mode="after")
    def _mirrored_once(self) -> Self:
        both = self.mirror_only, self.augmentation.mirror_only
        if all(both) and both[0] != both[1]:
            raise ValueError(
                f"mirror_only is {both[0]:g} and augmentation.mirror_only {both[1]:g}: give one of them"
            )
        return self

    def training(self, **options: Any) -> TrainConfig:
        """The training configuration of one row. Gates share the warm-up, so that no row has more epochs than another."""
        epochs: dict[str, Any] = {"epochs": self.epochs, "clean_epochs": self.epochs}
        gating = -(-self.epochs // 2) if options.get("gates") else 0
        epochs["pretrain_epochs"] = self.epochs - gating
        if gating:
            epochs["gating"] = {"epochs": gating}
        common = self.model_dump(include={"data", "keep", "hide", "cloud", "batch_size", "precision", "seed"})
        augmentation = self.augmentation.model_dump()
        augmentation["mirror_only"] = self.mirror_only or self.augmentation.mirror_only
        return make_config({**common, "augmentation": augmentation, **epochs, **options})


def parse_augmentation(text: str) -> dict[str, float]:
    """Settings of `Augmentation`, with commas between.

    >>> parse_augmentation("scale=0.3, hue=0.15"), parse_augmentation("")
    ({'scale': 0.3, 'hue': 0.15}, {})

    Raises:
        UsageError: an unknown name, no number, or the same name twice.
    """
    known, found = Augmentation.model_fields, dict[str, float]()
    for part in names(text):
        name, _, value = (one.strip() for one in part.partition("="))
        if name not in known:
            raise UsageError(unknown("augmentation", name, known))
        if name in found:
            raise UsageError(f"augmentation {name} is given twice")
        try:
            found[name] = float(value)
        except ValueError:
            raise UsageError(f"augmentation {name} takes a number: write {name}=0.3") from None
    return found


def make_compare_config(values: dict[str, Any]) -> CompareConfig:
    """Build a configuration.

    Raises:
        UsageError: a value is missing or out of range; an unknown audit.
    """
    try:
        config = CompareConfig(**values)
    except ValidationError as error:
        raise UsageError(complaint(error, "options")) from None
    create_plan(config.attacks)
    return config
