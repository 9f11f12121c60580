"""Denoise: remove the noise as one would from a photo, then attack what is left.

Two classical filters: the median, and non-local means (Buades, Coll and Morel, CVPR 2005), which averages pixels whose
surroundings look alike. Behind each stands a network trained on clean photos, as it is, and one trained anew.

    for step in steps(data, FULL, (("race",),)): step.run()
"""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sfumato.audit.attack_data import AttackData
from sfumato.audit.attacks import clean
from sfumato.audit.attacks.fit import make_recipe
from sfumato.audit.attacks.frozen_front import apply, retrain
from sfumato.audit.plan import Plan
from sfumato.audit.predictions import Groups, Prediction, Step, all_attributes


class Median(nn.Module):
    """The median of `size` x `size` pixels, colour by colour; on binary uploads, the majority."""

    def __init__(self, size: int = 5) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        around = F.pad(x, (self.size // 2,) * 4, mode="reflect")
        if ((x == 0) | (x == 1)).all():  # the majority, a hundred times faster
            return (F.avg_pool2d(around, self.size, 1) > 0.5).float()
        windows = around.unfold(2, self.size, 1).unfold(3, self.size, 1)  # (B, C, H, W, size, size)
        return windows.flatten(4).median(dim=4).values


class NonLocalMeans(nn.Module):
    """Mean of the pixels within `reach`, each weighted by `exp(-d / strength^2)`.

    `d` is the mean squared difference of the surrounding patches, less what two equally noisy copies of one patch differ by.

    Args:
        reach: pixels are sought so far away in each direction.
        patch: side of the patches that are compared.
        strength: in units of the noise, whose variance is taken to be half the mean squared step between neighbours.
    """

    def __init__(self, reach: int = 3, patch: int = 5, strength: float = 0.5) -> None:
        super().__init__()
        self.reach, self.patch, self.strength = reach, patch, strength

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        height, width = x.shape[2:]
        variance = ((x[..., 1:] - x[..., :-1]) ** 2).mean(dim=(1, 2, 3), keepdim=True).clamp_min(1e-6) / 2
        around = F.pad(x, (self.reach,) * 4, mode="reflect")
        total, weights = torch.zeros_like(x), torch.zeros_like(x[:, :1])
        for down in range(2 * self.reach + 1):
            for right in range(2 * self.reach + 1):
                other = around[:, :, down : down + height, right : right + width]
                apart = ((x - other) ** 2).mean(dim=1, keepdim=True)
                apart = F.avg_pool2d(apart, self.patch, 1, self.patch // 2, count_include_pad=False)
                weight = torch.exp(-(apart - 2 * variance).clamp_min(0) / (self.strength**2 * variance))
                total, weights = total + weight * other, weights + weight
        return total / weights


FILTERS: dict[str, Callable[[], nn.Module]] = {"median": Median, "non-local means": NonLocalMeans}


def attack(data: AttackData, plan: Plan, name: str, attributes: tuple[str, ...]) -> list[Prediction]:
    """One filter, with a clean attacker and a new one behind it."""
    architecture, network = clean.clean_network(data, plan, attributes)
    predictions = apply(
        FILTERS[name](), network, data, "denoise", f"{name}, clean {architecture}", attributes
    )
    recipe = make_recipe(plan, data, "denoise", f"{name}, cnn", max(plan.rates), plan.epochs)
    return predictions + retrain(FILTERS[name](), data, attributes, recipe)


def steps(data: AttackData, plan: Plan, groups: Groups) -> list[Step]:
    """Every filter."""
    attributes = all_attributes(groups)
    return [
        Step(title=f"denoise, {name}", run=partial(attack, data, plan, name, attributes)) for name in FILTERS
    ]
