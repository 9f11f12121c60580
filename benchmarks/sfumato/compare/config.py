"""What is the same for every row of a comparison.

config = make_compare_config({"data": "synthetic", "keep": ("smiling",), "hide": ("skin",)})
config.training(objective="rate", bits=8.0)         # the configuration of one training
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sfumato.audit.plan import create_plan
from sfumato.core.errors import UsageError, complaint
from sfumato.training.config import TrainConfig, make_config


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
    """Share of each training, at its end, whose images are only mirrored, as in `TrainConfig`."""
    seed: int = 0

    def training(self, **options: Any) -> TrainConfig:
        """The training configuration of one row. Gates share the warm-up, so that no row has more epochs than another."""
        epochs: dict[str, Any] = {"epochs": self.epochs, "clean_epochs": self.epochs}
        gating = -(-self.epochs // 2) if options.get("gates") else 0
        epochs["pretrain_epochs"] = self.epochs - gating
        if gating:
            epochs["gating"] = {"epochs": gating}
        common = self.model_dump(include={"data", "keep", "hide", "cloud", "batch_size", "precision", "seed"})
        augmentation = {"mirror_only": self.mirror_only}
        return make_config({**common, "augmentation": augmentation, **epochs, **options})


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
