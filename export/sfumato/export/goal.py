"""Whether the int8 model that ships reaches what training was asked for, on test images.

Training's own verdict (`goal_met` of the card) comes from the float network, on validation and augmented images.

    goal = shipped_goal(run, session, accuracy)
    require_goal(goal)
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from torch import nn

from sfumato.audit.attack_data import build_attack_data
from sfumato.audit.bounds import information_bounds, mixture_bounds, photo_bounds, rate_summary
from sfumato.audit.goal import measure_goal
from sfumato.audit.pass_rule import goal_line
from sfumato.audit.schema import DesiredResult
from sfumato.channels import Channel, Parameters
from sfumato.core.errors import SfumatoError
from sfumato.data import Dataset
from sfumato.export.parity import channel_parameters, run_int8
from sfumato.runtime.contract import GoalPart
from sfumato.runtime.interpreter import Session
from sfumato.training.run import Run

IMAGES = 2000
"""Images of each split, at most."""


@dataclass(frozen=True)
class ShippedModel:
    """The int8 model of a run as the audit sees it (`sfumato.audit.artifact.Artifact`), before it is a bundle."""

    run: Run
    session: Session
    dataset: Dataset
    kind: Literal["int8"] = "int8"

    @property
    def folder(self) -> Path:
        """Of the run."""
        return self.run.folder

    @property
    def keep(self) -> tuple[str, ...]:
        """Desired attributes."""
        return self.run.keep

    @property
    def hide(self) -> tuple[str, ...]:
        """Declared undesired attributes."""
        return self.run.hide

    @property
    def channel(self) -> Channel:
        """The noisy channel."""
        return self.run.channel

    @property
    def cloud(self) -> nn.Module:
        """The cloud network."""
        return self.run.cloud

    @property
    def clean_accuracy(self) -> Mapping[str, float]:
        """Of the clean cloud network."""
        clean: Mapping[str, float] = self.run.card["clean_accuracy"]
        return clean

    def parameters(self, images: NDArray[np.uint8]) -> Parameters:
        """Channel parameters of images (N, H, W, 3): the bytes q of the model as q / 256, (N, planes, H, W)."""
        return channel_parameters(self.channel, run_int8(self.session, images), images)


def shipped_goal(run: Run, session: Session, accuracy: Mapping[str, float]) -> GoalPart | None:
    """Compare the targets of a run with the model that ships; None if there was none.

    Args:
        run: in picture mode.
        session: of the int8 model.
        accuracy: of its uploads on test, per desired attribute.
    """
    config, dataset = run.config, run.dataset
    if config.bits is None and config.beyond is None and config.max_drop is None:
        return None
    fewer = replace(dataset, splits={name: rows[:IMAGES] for name, rows in dataset.splits.items()})
    data = build_attack_data(ShippedModel(run, session, fewer), (), copies=1)
    photos = photo_bounds(data)
    bounds = information_bounds(data, photos) if config.prior == "autoregressive" else mixture_bounds(photos)
    desired = [
        DesiredResult(
            name=name,
            classes=len(dataset.attributes[name].classes),
            accuracy=found,
            clean_accuracy=run.card["clean_accuracy"][name],
            ci95=(found, found),
        )
        for name, found in accuracy.items()
    ]
    rate = rate_summary(data.rate.double().numpy() / np.log(2))
    goal = measure_goal(config, rate, bounds, desired, data.test.images)
    return None if goal is None else GoalPart(**goal.model_dump(exclude={"reached_drop"}))


def require_goal(goal: GoalPart | None) -> None:
    """Refuse a model that misses its goal.

    Raises:
        SfumatoError: says what was asked for and what is reached.
    """
    if goal is not None and not goal.met:
        raise SfumatoError(
            "the export was refused, nothing was written: the int8 model misses the goal of its training on test "
            f"({goal_line(goal)}): train longer, relax the goal, or pass --allow-missed-goal"
        )
