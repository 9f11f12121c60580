r"""Discriminant: the best linear reader of an upload, from the channel's own parameters and without a single draw.

The provider knows the channel, so it knows the mean m_i and the variance v_i of every upload of its own photos. A linear reader
trained on uploads has to average the noise out of them first; this one has none to average out:

    scores(x') = (C + t diag(v))^-1 (m_s - m)  applied to  x' - m,      C: covariance of the m_i,  v: mean of the v_i

That is Fisher's discriminant (1936) under known noise, as ridge regression on the classes. The ridge t is chosen on validation.
It finds a faint pattern spread over all of the upload, which networks miss; what is not linear it does not find.

    predictions = [prediction for step in steps(data, QUICK, (("race",),)) for prediction in step.run()]
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import prod

import numpy as np
import torch
from torch import Tensor

from sfumato.audit.attack_data import AttackData
from sfumato.audit.plan import Plan
from sfumato.audit.predictions import (
    Floats,
    Groups,
    Prediction,
    Step,
    all_attributes,
    cross_entropy,
    fit_temperature,
    log_posterior,
)
from sfumato.audit.rows import Kept, Numbers, floats
from sfumato.channels import Channel, Parameters
from sfumato.channels.dither import Dither

PHOTOS = 4_000
"""Photos of the attacker's, augmented copies included, that it learns from at most: time grows with their square."""
NUMBERS = 2**27
"""Parameters of all these photos together, at most: 512 MB."""
RIDGES = (1.0, 10.0, 100.0)
"""Multiples of the known noise; 1 is the exact one, more forgets directions in which photos differ little."""
ROWS = 1024
COLUMNS = 4096
LEAST_VARIANCE = 1e-4
"""A sample that hardly varies tells what it tells; dividing by less would amplify rounding."""


@dataclass(frozen=True)
class Moments:
    """What is known of an upload before it is drawn."""

    values: Callable[[Tensor], Tensor]
    """Uploads (n, 3, H, W) -> the samples (n, D)."""
    mean: Callable[[Parameters], Tensor]
    """Their means (n, D)."""
    variance: Callable[[Parameters], Tensor]
    """Their variances (n, D)."""


GAUSSIAN = Moments(
    lambda uploads: uploads.flatten(1),
    lambda known: known["mean"].float().flatten(1),
    lambda known: known["scale"].float().flatten(1) ** 2,
)
"""Before clipping."""


def moments_of(channel: Channel) -> Moments | None:
    """What a channel says of its uploads itself, `upload_moments`, or what is known of it here; None if neither."""
    if isinstance(channel, Dither):

        def means(known: Parameters) -> Tensor:
            return channel.to_moments({"p": known["p"].float()})["p"]

        return Moments(
            lambda uploads: channel.planes(uploads).flatten(1),
            lambda known: means(known).flatten(1),
            lambda known: (means(known) * (1 - means(known))).flatten(1),
        )
    own: Moments | None = getattr(channel, "upload_moments", None)
    return own or (GAUSSIAN if channel.name == "gaussian" else None)


@dataclass(frozen=True)
class Readers:
    """Linear readers of one attribute, one for every ridge: `(samples - centre) @ weights`."""

    centre: Tensor
    """(D,)"""
    weights: tuple[Tensor, ...]
    """(D, classes) each."""


def fit_readers(
    moments: Moments, parameters: Kept, classes: dict[str, Tensor], device: torch.device | None = None
) -> dict[str, Readers]:
    """Readers of several attributes; the costly part, N x N products of photos, is done once for all of them.

    Args:
        moments: of an upload of each.
        parameters: of N photos.
        classes: per attribute (N, classes), 1 at the class of the photo and 0 elsewhere.
        device: where it is computed; by default on the CPU.
    """
    count = len(next(iter(parameters.values())))
    batches = torch.split(torch.arange(count), ROWS)
    mean = torch.empty(0)
    for rows in batches:  # filled in place: twice as much at once is too much
        part = moments.mean(floats(parameters, rows, device))
        if not len(mean):
            mean = part.new_empty(count, part.shape[1])
        mean[rows[0] : rows[0] + len(rows)] = part
    centre = mean.mean(0)
    total = torch.zeros_like(centre)
    for rows in batches:
        total += moments.variance(floats(parameters, rows, device)).sum(0)
    scale = (total / count).clamp_min(LEAST_VARIANCE).rsqrt()
    white = mean.sub_(centre).mul_(scale)  # (N, D): the noise of every sample has variance 1 now
    target = torch.cat([members - members.mean(0) for members in classes.values()], dim=1) / count
    ridges: list[Tensor] = []
    for root in factors(white):
        ridges.append(white.T @ torch.cholesky_solve(target.double(), root).float() * scale[:, None])
    widths = [members.shape[1] for members in classes.values()]
    parts = [weights.split(widths, dim=1) for weights in ridges]
    return {name: Readers(centre, tuple(part[index] for part in parts)) for index, name in enumerate(classes)}


def factors(white: Tensor) -> list[Tensor]:
    """Cholesky factors (N, N) of the photos' products plus every ridge, for photos (N, D), in float64.

    Samples that hardly vary make products so large that the rounding of float32 is more than the ridge. They are computed anew
    in float64 then, which takes twice as long.
    """
    count = len(white)
    eye = torch.eye(count, dtype=torch.float64, device=white.device)
    products = (white @ white.T / count).double()
    if torch.linalg.cholesky_ex(products + min(RIDGES) * eye).info:
        products.zero_()
        for part in white.split(COLUMNS, dim=1):
            exact = part.double()
            products.addmm_(exact, exact.T, alpha=1 / count)
    return [torch.linalg.cholesky(products + ridge * eye) for ridge in RIDGES]


def read(moments: Moments, readers: Readers, uploads: Numbers) -> list[Floats]:
    """Scores (n, classes) of uploads, one table for every ridge."""
    parts: list[list[Tensor]] = [[] for _ in readers.weights]
    for start in range(0, len(uploads), ROWS):
        rows = uploads[start : start + ROWS].float().to(readers.centre.device)
        samples = moments.values(rows) - readers.centre
        for part, weights in zip(parts, readers.weights, strict=True):
            part.append((samples @ weights).double().cpu())
    return [torch.cat(part).numpy() for part in parts]


def predict(data: AttackData, attributes: tuple[str, ...]) -> list[Prediction]:
    """The linear reader of every attribute; the ridge is chosen by validation cross entropy. None for an unknown channel."""
    if (moments := moments_of(data.channel)) is None:
        return []
    size = sum(prod(value.shape[1:]) for value in data.train.parameters.values())
    count = min(PHOTOS, len(data.train.pixels), max(2, NUMBERS // size))
    known: Kept = {name: value[:count] for name, value in data.train.parameters.items()}
    members = {
        name: torch.nn.functional.one_hot(
            torch.from_numpy(data.train.labels[name][:count]), data.classes[name]
        )
        .float()
        .to(data.device)
        for name in attributes
    }
    predictions = []
    for name, readers in fit_readers(moments, known, members, data.device).items():
        prior, truth = data.prior(name), data.validation_labels(name)
        # Regression gives P(s | x') - P(s) to first order; over P(s) it is the log-likelihood ratio.
        over = np.exp(prior)
        validation, test = (
            [table / over for table in read(moments, readers, uploads)]
            for uploads in (data.validation_uploads, data.test_uploads)
        )
        scaled = [float(np.sqrt((table**2).mean())) or 1.0 for table in validation]
        tried = []
        for index, (table, scale) in enumerate(zip(validation, scaled, strict=True)):
            t = fit_temperature(table / scale, truth, prior)
            tried.append((cross_entropy(log_posterior(table / scale, prior, t), truth), index))
        _, index = min(tried)
        predictions.append(
            Prediction(
                attack="discriminant",
                architecture=f"ridge {RIDGES[index]:g}",
                attribute=name,
                validation=validation[index] / scaled[index],
                test=test[index] / scaled[index],
            )
        )
    return predictions


def steps(data: AttackData, plan: Plan, groups: Groups) -> list[Step]:
    """One piece of work for all attributes; none for a channel whose moments are not known."""
    if moments_of(data.channel) is None:
        return []
    return [Step(title="discriminant", run=partial(predict, data, all_attributes(groups)))]
