"""Positive control: a leak of known size, planted on a copy of the artifact. Attackers that miss it make the audit void.

An audit that finds nothing says nothing until it is known that it finds something. So every photo is given a fair coin that
has nothing to do with it, and one patch of its upload tells the coin: faintly, by one step of the shipped byte.

- dither: each of M bits is 1 with probability 1/2 + step or 1/2 - step. No photo matters in there, so the best test of
  all counts the ones, and is right with probability P(Binomial(M, 1/2 + step) > M / 2): M is the least odd number that
  reaches the wanted accuracy.
- gaussian: each of M samples has mean 1/2 + step or 1/2 - step under one noise scale; the best test adds them up
  and is right with probability Phi(step sqrt(M) / scale), which sets the scale.

So the size of the leak is known exactly, whatever the channel does with the rest of the photo. Where uploads are entries of a
book it is counted: the share of test uploads in which most bits of the patch agree with the coin. The attackers know nothing
of patch and size: they get labels and uploads, as for any attribute. Coins cost nothing, so the same test photos are
uploaded under several of them, until luck in the draw hardly counts.

What it shows: with so many photos, through this channel, the audit finds a leak of this size in one place. A leak of
that size that is spread over hundreds of independent patterns needs more photos (`python -m studies.planted_leaks`).

    control = positive_control(data, plan)       # None for channels of other methods, whose draws are not known
"""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from scipy.stats import binom, norm
from torch import Tensor

from sfumato.audit.attack_data import MAX_PARAMETER_BYTES, AttackData, AttackSplit, Photos, random_rows
from sfumato.audit.attacks import discriminant, posterior, provider
from sfumato.audit.attacks.ensemble import combine
from sfumato.audit.index_channel import IndexChannel
from sfumato.audit.plan import Plan
from sfumato.audit.predictions import Ints, Prediction
from sfumato.audit.rows import Kept, Numbers, in_parts
from sfumato.audit.schema import PositiveControl
from sfumato.audit.scoring import ScoredAttack, best_attack, score
from sfumato.channels import Channel
from sfumato.data.intervals import clopper_pearson

COIN = "planted coin"
WANTED_NAG = 0.08
"""What the pass rule must not miss."""
LEAST_FOUND = 0.5
"""Share of the planted NAG that the attackers have to find."""
CELLS = 4
"""The patch lies in one cell of a grid of so many by so many."""
STEP = 1 / 256
"""The finest step of a shipped probability."""
STRONGER = (1, 2, 4, 8)
"""Times the wanted NAG, tried one after the other where the channel lets less through."""
GAUSSIAN_STEP = 2**-10
"""Of a mean; exact in float16, as attack data are kept."""
PHOTOS = 4_000
"""Attacker's photos with their augmented copies, at most; every image once in any case."""
TEST_UPLOADS = 4_000
"""Uploads that the attackers are tested on, at least: the error of the accuracy is less than a point."""


@dataclass(frozen=True)
class Leak:
    """A planted leak and its exact size."""

    count: int
    """Bits or samples of the patch."""
    step: float
    """By so much each is moved from the middle, up or down."""
    accuracy: float
    """Of the best possible guess of the coin."""
    scale: float | None = None
    """Noise scale inside the patch, for a gaussian channel."""

    @property
    def nag(self) -> float:
        """Over the floor of a fair coin, 1/2; whoever sees the coin itself is always right."""
        return 2 * self.accuracy - 1


def coin_accuracy(count: int, step: float) -> float:
    """How often most of `count` bits agree with the coin, if each does with probability 1/2 + step; `count` is odd.

    >>> round(coin_accuracy(1, 0.04), 6), round(coin_accuracy(3, 0.1), 6)
    (0.54, 0.648)
    """
    return float(binom.sf(count // 2, count, 0.5 + step))


def drawn_step(channel: Channel, step: float) -> float:
    """How far from 1/2 a bit of probability 1/2 + step is drawn: as it is, but for indices that follow a power of it."""
    if not isinstance(channel, IndexChannel):
        return step
    return float(channel.to_moments({"p": torch.tensor(0.5 + step, dtype=torch.float64)})["p"]) - 0.5


def design(channel: Channel, room: int, nag: float = WANTED_NAG) -> Leak:
    """The faintest leak of at least this NAG that fits into `room` bits or samples.

    Args:
        channel: dither or gaussian.
        room: bits or samples of a patch.
        nag: wanted, in (0, 1).

    Raises:
        ValueError: a NAG outside (0, 1), no room at all, or no room for so large a leak.
    """
    if not 0 < nag < 1 or room < 1:
        raise ValueError(f"no patch of {room} samples leaks a NAG of {nag}")
    wanted = (1 + nag) / 2
    for steps in range(1, 128):
        step = steps * STEP
        drawn = drawn_step(channel, step)
        most = room - 1 + room % 2  # the largest odd number
        if coin_accuracy(most, drawn) < wanted:
            continue
        low, high = 0, most // 2  # counts 2 * n + 1; the accuracy grows with n
        while low < high:
            middle = (low + high) // 2
            low, high = (
                (low, middle) if coin_accuracy(2 * middle + 1, drawn) >= wanted else (middle + 1, high)
            )
        count = 2 * low + 1
        if channel.name == "dither":
            return Leak(count, step, coin_accuracy(count, drawn))
        scale = float(np.float16(GAUSSIAN_STEP * math.sqrt(count) / norm.ppf(wanted)))
        return Leak(count, GAUSSIAN_STEP, float(norm.cdf(GAUSSIAN_STEP * math.sqrt(count) / scale)), scale)
    raise ValueError(f"a patch of {room} samples cannot leak a NAG of {nag}")


def patch(planes: int, height: int, width: int, count: int, cell: int) -> Tensor:
    """Which `count` samples of (planes, H, W) tell the coin: pixel by pixel from the corner of a cell, all planes of each."""
    tall, wide = max(1, height // CELLS), max(1, width // CELLS)
    top, left = cell // CELLS * tall, cell % CELLS * wide
    order = torch.arange(tall * wide * planes).view(tall, wide, planes).permute(2, 0, 1)
    mask = torch.zeros(planes, height, width, dtype=torch.bool)
    mask[:, top : top + tall, left : left + wide] = order < count
    return mask


@dataclass(frozen=True)
class Planted:
    """Numbers of photos whose patch says something of its own; it is laid over them when they are asked for."""

    photos: Numbers
    rows: Tensor
    """(n,) of `photos`."""
    mask: Tensor
    """(planes, H, W), true inside the patch."""
    said: Tensor
    """(n, 1) float16: all numbers of a patch."""

    @property
    def shape(self) -> torch.Size:
        """(n, planes, H, W)."""
        return torch.Size((len(self.rows), *self.photos.shape[1:]))

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, rows: Any) -> "Planted":
        """Those of a slice, or of row numbers."""
        return replace(self, rows=self.rows[rows], said=self.said[rows])

    def float(self) -> Tensor:
        """As a tensor."""
        out = self.photos[self.rows].float()
        out[:, self.mask] = self.said.float()
        return out


def planted_parameters(parameters: Kept, rows: Tensor, coins: Tensor, mask: Tensor, leak: Leak) -> Kept:
    """Parameters of the photos `rows` (n,), whose patch tells the coins (n,), 0 or 1."""
    middle = 0.5 + (leak.step * (2 * coins.float() - 1)).half()[:, None]
    said = {"p" if "p" in parameters else "mean": middle}
    if leak.scale is not None:
        said["scale"] = torch.full_like(middle, leak.scale)
    return {
        name: Planted(value, rows, mask, said[name]) if name in said else value[rows]
        for name, value in parameters.items()
    }


def plant(data: AttackData, nag: float = WANTED_NAG) -> tuple[AttackData, Leak]:
    """A copy of the attack data in which every upload tells a coin, the attribute `COIN`.

    Raises:
        ValueError: the uploads are too small for such a leak.
    """
    if not isinstance(data.channel, IndexChannel):
        return plant_once(data, nag)[:2]
    # The book has few entries where all else is right as well, so less is told than was planted. That is counted.
    for stronger in STRONGER:
        planted, leak, mask = plant_once(data, stronger * nag)
        bits = torch.cat(
            [data.channel.planes(part)[:, mask].mean(1) for part in in_parts(planted.test_uploads)]
        )
        told = float(((bits > 0.5).numpy() == planted.test.labels[COIN]).mean())
        if 2 * told - 1 >= nag:
            return planted, replace(leak, accuracy=told)
    raise ValueError(f"no index tells a coin with a NAG of {nag}")


def plant_once(data: AttackData, nag: float) -> tuple[AttackData, Leak, Tensor]:
    """As `plant`, and the bits (planes, H, W) that tell the coin."""
    main = "p" if data.channel.name == "dither" else "mean"
    planes, height, width = data.test.parameters[main].shape[1:]
    room = planes * max(1, height // CELLS) * max(1, width // CELLS)
    leak = design(data.channel, room, nag)
    generator = data.generator("positive control")
    mask = patch(planes, height, width, leak.count, int(random_rows(CELLS**2, 1, generator)))

    def split(one: AttackSplit, rows: Ints, images: int) -> AttackSplit:
        coins = random_rows(2, images, generator).repeat(len(rows) // images)
        labels = {name: values[rows] for name, values in one.labels.items()}
        return replace(
            one,
            pixels=one.pixels.take(rows) if isinstance(one.pixels, Photos) else one.pixels[rows],
            parameters=planted_parameters(one.parameters, torch.from_numpy(rows), coins, mask, leak),
            labels={**labels, COIN: coins.numpy()},
            images=images,
        )

    train, test = data.train, data.test
    copies = max(1, min(train.copies, PHOTOS // train.images))
    size = sum(math.prod(value.shape[1:]) for value in test.parameters.values()) * 2
    often = max(1, min(TEST_UPLOADS, MAX_PARAMETER_BYTES // 2 // size) // test.images)
    return (
        replace(
            data,
            classes={**data.classes, COIN: 2},
            train=split(train, np.arange(copies * train.images), train.images),
            validation=split(data.validation, np.arange(data.validation.images), data.validation.images),
            test=split(test, np.tile(np.arange(test.images), often), often * test.images),
            rate=data.rate.repeat(often),
            persons=None,
            networks={},
        ),
        leak,
        mask,
    )


def know_the_channel(planted: AttackData, plan: Plan) -> list[Prediction]:
    """Attackers that compute from the channel's parameters, without any upload of their own."""
    return [*posterior.predict(planted, (COIN,)), *discriminant.predict(planted, (COIN,))]


def read_the_stages(planted: AttackData, plan: Plan) -> list[Prediction]:
    """Linear readers of the upload and of the cloud network's stages, which has to look at thousands of uploads."""
    return provider.linear_probes(planted, plan, (COIN,))


ATTACKERS = (know_the_channel, read_the_stages)
"""None trains a network of its own. The cheap ones come first: once enough is found, the others are not asked."""


def attack(planted: AttackData, plan: Plan, leak: Leak) -> tuple[ScoredAttack, float]:
    """The best attacker, or the mean of the best few, and the NAG that it found."""
    predictions: list[Prediction] = []
    for attackers in ATTACKERS:
        predictions += attackers(planted, plan)
        best = best_attack([score(one, planted) for one in (*predictions, combine(predictions, planted))])
        found = 2 * best.result.accuracy - 1
        if found >= LEAST_FOUND * leak.nag:
            break
    return best, found


def positive_control(data: AttackData, plan: Plan, nag: float = WANTED_NAG) -> PositiveControl | None:
    """Plant the leak, attack it, and say whether it was found.

    Returns:
        None where nothing can be planted: the channel of another method, or uploads of a few samples.
    """
    if not posterior.has_likelihood(data.channel):
        return None
    try:
        planted, leak = plant(data, nag)
    except ValueError:
        return None
    best, found = attack(planted, plan, leak)
    count = planted.test.images
    hits = round(best.result.accuracy * count)
    # Exact for a binomial: coins and noise are new in every upload.
    upper = 2 * clopper_pearson(hits, count, 0.95)[1] - 1
    return PositiveControl(
        attribute=COIN,
        planted_nag=leak.nag,
        found_nag=found,
        found_upper=upper,
        passed=found >= LEAST_FOUND * leak.nag,
        attack=f"{best.result.attack}, {best.result.architecture}",
        images=count,
    )
