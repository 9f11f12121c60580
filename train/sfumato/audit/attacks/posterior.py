r"""Posterior: the exact one under the attacker's own images as prior.

The provider knows the channel, so it needs no network: for every image x_i of its own it knows the
probability of any upload. With N attacker images,

    P(s | x')  ~  sum_i 1[s_i = s] P(x' | x_i)^t,        P(x' | x_i) = prod_d P(x'_d | parameters_d(x_i))

- dither: log P is linear in the bits, sum_d b_d logit p_id + sum_d log(1 - p_id): one matrix product for all
  pairs.
- gaussian: the normal density between 0 and 1, and at the ends the probability of having been clipped there.
- indices of a book: as dither, without the weight of all entries together (`sfumato.audit.index_channel`).

Either is linear in some statistics of the upload, and so several independent uploads of one image add up: their mean
statistics, times their number, have the likelihood of all of them.

t = 1 is the exact posterior if the attacker's images were all there are. A new image is like several of them and equal to
none, so t is tuned on validation, and so is whether augmented copies join the prior.

    predictions = [prediction for step in steps(data, QUICK, (("race",),)) for prediction in step.run()]
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.special import log_ndtr

from sfumato.audit.attack_data import AttackData
from sfumato.audit.index_channel import IndexChannel
from sfumato.audit.plan import Plan
from sfumato.audit.predictions import (
    Floats,
    Groups,
    Ints,
    Prediction,
    Step,
    all_attributes,
    cross_entropy,
    fit_temperature,
    log_posterior,
)
from sfumato.audit.rows import Kept, Numbers, at_once, floats, in_parts
from sfumato.channels import Channel, Parameters
from sfumato.channels.dither import Dither
from sfumato.core.errors import SfumatoError

CHUNK = 512
CHUNK_NUMBERS = 2**24
"""Numbers of so many candidates, at most: of large pictures fewer are taken at once."""
ROWS = 2048
"""Uploads whose likelihoods are in memory at once, and that power and prior are chosen on."""
CANDIDATES = 12_000
"""Attacker images, augmented copies included, in the prior at most."""
LEAST_PROBABILITY = 1 / 512
"""Probabilities stay this far from 0 and 1: the shipped model's finest step is 1/256."""
LEAST_SCALE = 1 / 255 / math.sqrt(12)
"""Smallest gaussian scale: the noise that rounding to a byte adds."""
POWERS = np.geomspace(1 / 256, 1, 13)
EMPTY = math.log(1e-6)
"""Weight that a class keeps although no image of it explains the upload; it bounds the scores."""


@dataclass(frozen=True)
class Likelihood:
    """log P(upload | candidate) = statistics . weights + constant, in nats."""

    statistics: Callable[[Tensor], Tensor]
    """Uploads (n, 3, H, W) -> (n, F)."""
    weights: Callable[[Parameters], tuple[Tensor, Tensor]]
    """Parameters of c candidates -> (c, F) weights and (c,) constants."""

    def __call__(self, uploads: Tensor, parameters: Parameters) -> Tensor:
        """All pairs, (uploads, candidates)."""
        return combined(self.statistics(uploads), *self.weights(parameters))


def combined(statistics: Tensor, weights: Tensor, constant: Tensor) -> Tensor:
    """(n, F), (c, F) and (c,) -> (n, c)."""
    product: Tensor = statistics @ weights.T
    return product.double() + constant


def dither_statistics(channel: Dither, uploads: Tensor) -> Tensor:
    """The bits, centred: that halves the magnitude of the sums, and with it the rounding error of the product."""
    return channel.planes(uploads).flatten(1) - 0.5


def dither_weights(parameters: Parameters) -> tuple[Tensor, Tensor]:
    """The log odds of every bit, and what is left of its probability."""
    p = parameters["p"].float().flatten(1).clamp(LEAST_PROBABILITY, 1 - LEAST_PROBABILITY)  # (candidates, D)
    return torch.logit(p), (torch.log(p) + torch.log1p(-p)).double().sum(1) / 2


def gaussian_statistics(uploads: Tensor) -> Tensor:
    """Per sample: inside or clipped at an end, and the value and its square if inside; around 1/2 to keep them small."""
    x = uploads.flatten(1)
    low, high = (x <= 0).float(), (x >= 1).float()
    inside = 1 - low - high
    y = (x - 0.5) * inside
    return torch.cat([inside, y, y**2, low, high], dim=1)


def gaussian_weights(parameters: Parameters) -> tuple[Tensor, Tensor]:
    """A density inside, a probability at 0 and 1."""
    mean = parameters["mean"].float().flatten(1)
    scale = parameters["scale"].float().flatten(1).clamp_min(LEAST_SCALE)
    m, precision = mean - 0.5, scale**-2
    constant = -torch.log(scale) - 0.5 * math.log(2 * math.pi) - 0.5 * m**2 * precision
    ends = [log_ndtr(-mean / scale), log_ndtr((mean - 1) / scale)]
    weights = torch.cat([constant, m * precision, -0.5 * precision, *ends], dim=1)
    return weights, torch.zeros(len(mean), device=mean.device)


GAUSSIAN = Likelihood(gaussian_statistics, gaussian_weights)


def has_likelihood(channel: Channel) -> bool:
    """Whether the formula of a channel is known here."""
    return isinstance(channel, Dither) or channel.name == "gaussian"


def likelihood_of(channel: Channel) -> Likelihood:
    """The formula of a channel.

    Raises:
        SfumatoError: none is known.
    """
    if not has_likelihood(channel):
        raise SfumatoError(f"the posterior attack knows no likelihood for the channel {channel.name!r}")
    if isinstance(channel, Dither):
        weights = channel.likelihood_weights if isinstance(channel, IndexChannel) else dither_weights
        return Likelihood(partial(dither_statistics, channel), weights)
    return GAUSSIAN


def likelihoods(
    channel: Channel, uploads: Numbers, parameters: Kept, device: torch.device | None = None
) -> NDArray[np.float32]:
    """Log likelihood of every upload under every candidate, (uploads, candidates), each row's maximum at 0.

    A channel may bring a formula of its own, `likelihood(uploads, parameters) -> (uploads, candidates)`.

    Args:
        channel: that drew the uploads.
        uploads: (n, 3, H, W).
        parameters: of the candidates.
        device: where it is computed; by default on the CPU.

    Raises:
        SfumatoError: no formula is known for this channel.
    """
    own = getattr(channel, "likelihood", None)

    def table(rows: Tensor) -> NDArray[np.float32]:
        if own is not None:
            return in_chunks(lambda part: own(rows.cpu(), part), parameters)
        statistics = likelihood_of(channel).statistics(rows.to(device))
        return likelihoods_from_statistics(channel, statistics, parameters)

    # Of pictures up to 64x64, two bits a sample, all uploads that anybody asks about are one part.
    return np.concatenate([table(part) for part in in_parts(uploads, at_once(uploads, ROWS))])


def likelihoods_from_statistics(
    channel: Channel, statistics: Tensor, parameters: Kept, uploads: int = 1
) -> NDArray[np.float32]:
    """As `likelihoods`, from the statistics (n, F) of single uploads, or the sums of several, where these are."""
    likelihood = likelihood_of(channel)

    def table(part: Parameters) -> Tensor:
        weights, constant = likelihood.weights(part)
        return combined(statistics, weights, uploads * constant)

    return in_chunks(table, parameters, statistics.device)


def in_chunks(
    formula: Callable[[Parameters], Tensor], parameters: Kept, device: torch.device | None = None
) -> NDArray[np.float32]:
    """A table of log likelihoods from `CHUNK` candidates at a time, or fewer large ones; each row's maximum at 0."""
    numbers = next(iter(parameters.values()))
    count, chunk = len(numbers), at_once(numbers, CHUNK, CHUNK_NUMBERS)
    table: NDArray[np.float64] | None = None
    for start in range(0, count, chunk):
        rows = slice(start, start + chunk)
        part = formula(floats(parameters, rows, device)).cpu().numpy()
        if table is None:
            table = np.empty((len(part), count))
        table[:, rows] = part
    assert table is not None  # there is a candidate
    table -= table.max(1, keepdims=True)
    return table.astype(np.float32)


def relative_weights(table: NDArray[np.float32], power: float) -> NDArray[np.float32]:
    """Likelihoods to a power, (uploads, candidates), from a table of log likelihoods; the best of each row at 1."""
    # Relative to the best candidate of this table, which may be a part of a larger one: no row sums to zero.
    weights: NDArray[np.float32] = table - table.max(1, keepdims=True)
    weights *= power
    return np.exp(weights, out=weights)


def weighed(weights: NDArray[np.float32], labels: Ints, classes: int, prior: Floats) -> Floats:
    """`log P(s | x') - log prior(s)`, (uploads, classes), from the weights of candidates with these labels."""
    members = np.zeros((len(labels), classes), dtype=np.float32)
    members[np.arange(len(labels)), labels] = 1
    sums = (weights @ members).astype(np.float64)
    posterior = sums / sums.sum(1, keepdims=True)
    scores = np.log(posterior + math.exp(EMPTY)) - prior
    return np.asarray(scores)


def class_scores(
    table: NDArray[np.float32], labels: Ints, classes: int, power: float, prior: Floats
) -> Floats:
    """`log P(s | x') - log prior(s)`, (uploads, classes), from a table of log likelihoods."""
    return weighed(relative_weights(table, power), labels, classes, prior)


@dataclass(frozen=True)
class Choice:
    """What validation chose for one attribute."""

    loss: float
    power: float
    count: int
    """Candidates: the attacker's images, or those and their augmented copies."""


def choose(
    table: NDArray[np.float32],
    data: AttackData,
    names: Sequence[str],
    rows: Ints,
    powers: Floats = POWERS,
) -> dict[str, Choice]:
    """For each attribute the power and the prior of least calibrated cross entropy on some validation uploads.

    Args:
        table: log likelihoods (rows, candidates).
        data: gives labels and priors.
        names: the attributes; they share the weights of candidates, which take most of the time.
        rows: which validation uploads the table is about.
        powers: what to choose the power from.
    """
    split, chosen = data.train, dict[str, Choice]()
    for count in sorted({min(split.images, table.shape[1]), table.shape[1]}):
        for power in powers:
            weights = relative_weights(table[:, :count], power)
            for name in names:
                prior, truth = data.prior(name), data.validation_labels(name)[rows]
                scores = weighed(weights, split.labels[name][:count], data.classes[name], prior)
                t = fit_temperature(scores, truth, prior)
                one = Choice(cross_entropy(log_posterior(scores, prior, t), truth), float(power), count)
                if name not in chosen or one.loss < chosen[name].loss:
                    chosen[name] = one
    return chosen


def chosen_scores(
    data: AttackData, table: NDArray[np.float32], chosen: Mapping[str, Choice]
) -> dict[str, Floats]:
    """Scores of every attribute from a table of log likelihoods, under the power and prior that were chosen for it."""
    weights = cache(lambda count, power: relative_weights(table[:, :count], power))
    return {
        name: weighed(
            weights(one.count, one.power),
            data.train.labels[name][: one.count],
            data.classes[name],
            data.prior(name),
        )
        for name, one in chosen.items()
    }


def posterior_scores(
    uploads: Numbers, data: AttackData, candidates: Kept, chosen: Mapping[str, Choice]
) -> dict[str, Floats]:
    """Scores of every upload per attribute, (uploads, classes); the table of likelihoods never exists as a whole."""
    parts: dict[str, list[Floats]] = {name: [] for name in chosen}
    for start in range(0, len(uploads), ROWS):
        table = likelihoods(data.channel, uploads[start : start + ROWS], candidates, data.device)
        for name, scores in chosen_scores(data, table, chosen).items():
            parts[name].append(scores)
    return {name: np.concatenate(part) for name, part in parts.items()}


def predict(data: AttackData, attributes: tuple[str, ...]) -> list[Prediction]:
    """The posterior of every attribute; power and prior are chosen by validation cross entropy."""
    candidates: Kept = {name: value[:CANDIDATES] for name, value in data.train.parameters.items()}
    uploads = data.validation_uploads
    # Evenly spread, so that all draws of the validation images take part in the choice.
    rows = np.unique(np.linspace(0, len(uploads) - 1, min(ROWS, len(uploads))).astype(np.int64))
    table = likelihoods(data.channel, uploads[rows], candidates, data.device)
    chosen = choose(table, data, attributes, rows)
    validation = posterior_scores(uploads, data, candidates, chosen)
    test = posterior_scores(data.test_uploads, data, candidates, chosen)
    return [
        Prediction(
            attack="posterior",
            architecture="posterior" if chosen[name].count <= data.train.images else "posterior, augmented",
            attribute=name,
            validation=validation[name],
            test=test[name],
        )
        for name in attributes
    ]


def steps(data: AttackData, plan: Plan, groups: Groups) -> list[Step]:
    """One piece of work for all attributes: the likelihoods are shared."""
    attributes = all_attributes(groups)
    return [Step(title="posterior", run=partial(predict, data, attributes))]
