"""Compositions: what several uploads tell together. Uploads that pass one by one can fail together.

- same photo, two releases (or two services): noise of version 2 makes them two independent draws, under the parameters of each
  release. Log-likelihoods add, so the exact posterior over the attacker's photos is at hand. Other releases come as further
  artifacts; without any, the same network is released twice.
- same photo, two arithmetics: parameters that differ by rounding are other parameters, so two independent draws again.
- k photos of one value: different photos of one person, say. The best attack's log-likelihood ratios add.
- k frames of a static scene: the camera's pictures differ by a pixel or by brightness, so every frame is drawn anew.
  Log-likelihoods of the frames add.

All of this is stated and no part of the pass rule: no single upload can prevent it. The ledger of uploads limits it.

    rows = compose(artifact, data, predictions, plan, ("race",))
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sfumato.audit import metrics
from sfumato.audit.artifact import Artifact
from sfumato.audit.attack_data import AttackData, AttackSplit
from sfumato.audit.attacks import posterior
from sfumato.audit.plan import Plan
from sfumato.audit.predictions import (
    Floats,
    Ints,
    Prediction,
    cross_entropy,
    fit_temperature,
    log_posterior,
)
from sfumato.audit.rows import Kept, at_once, floats
from sfumato.audit.schema import Composition
from sfumato.channels import Parameters
from sfumato.channels.dither import Dither
from sfumato.data.label_dependence import entropy, label_only_floor
from sfumato.runtime.sampler import CERTAIN

CANDIDATES = 2_000
"""Photos of the attacker's in the prior, at most."""
PHOTOS = 1_000
"""Test and validation photos each, at most; those of one value are taken from all."""
SCENES = 300
"""Static scenes, at most: every one takes the phone's network k times."""
COUNTS = (1, 4, 16, 64)
"""Photos of one value."""
GROUPS = 400
"""Times that photos of one value are dealt into groups, until so many groups are there."""
ONE_SIDED = 1.645
"""Standard errors of a one-sided 95 % limit."""
SHIFT = 1
"""Pixels by which a frame is shifted, at most."""
BRIGHTNESS = 0.03
"""By so much the brightness of a frame changes, at most."""


def compose(
    artifact: Artifact,
    data: AttackData,
    predictions: Sequence[Prediction],
    plan: Plan,
    attributes: tuple[str, ...],
    others: Mapping[str, Artifact] | None = None,
) -> list[Composition]:
    """All compositions on all attributes.

    Args:
        artifact: makes parameters of frames.
        data: of the same artifact.
        predictions: of the single-upload attacks.
        plan: says how many frames.
        attributes: what is attacked.
        others: what else the provider receives of the same photo -> the artifact that makes it, on the same images.
    """
    clean = {name: best_of(predictions, data, name, clean=True) for name in attributes}
    rows: list[Composition] = []
    if posterior.has_likelihood(data.channel):
        rows += same_photo(data, attributes, clean, others or {"two releases or services": artifact})
        rows += frames(artifact, data, plan, attributes, clean)
    for name in attributes:
        rows += photos_of_one_value(data, name, best_of(predictions, data, name, clean=False), clean[name])
    return rows


def best_of(predictions: Sequence[Prediction], data: AttackData, name: str, *, clean: bool) -> Prediction:
    """The prediction of least cross entropy on validation, on single uploads or on clean photos.

    Its scores come back multiplied by their temperature: log-likelihood ratios, as far as validation can tell.
    """
    kind = "clean images" if clean else "uploads"
    mine = [
        one
        for one in predictions
        if one.attribute == name and one.input == kind and one.averaged is None and one.calibrate
    ]
    prior, truth = data.prior(name), data.validation_labels(name, clean=clean)
    fitted = [(one, fit_temperature(one.validation, truth, prior)) for one in mine]
    best, t = min(
        fitted, key=lambda pair: cross_entropy(log_posterior(pair[0].validation, prior, pair[1]), truth)
    )
    return replace(best, validation=t * best.validation, test=t * best.test)


def population_floor(data: AttackData, name: str) -> float:
    """The best guess from the desired labels, among the attacker's photos; never below their majority."""
    count = data.train.images
    return label_only_floor(
        data.train.labels[name][:count], [data.train.labels[kept][:count] for kept in data.keep]
    )


def describe(
    what: str,
    name: str,
    uploads: int,
    found: tuple[Floats, Ints],
    tuned_on: tuple[Floats, Ints],
    *,
    prior: Floats,
    clean: float,
    floor: float,
    independent: int,
) -> Composition:
    """One row.

    Args:
        what: how the uploads belong together.
        name: the attribute.
        uploads: how many.
        found: scores (n, classes) of the test cases, and their labels.
        tuned_on: the same of validation: the temperature is fitted there.
        prior: log class frequencies.
        clean: accuracy of the same from clean photos.
        floor: accuracy without any upload.
        independent: test cases that share no photo, for the limits.
    """
    scores, labels = found
    t = fit_temperature(*tuned_on, prior)
    logs = log_posterior(scores, prior, t)
    guesses = logs.argmax(1)
    accuracy = metrics.accuracy(labels, guesses)
    error = ONE_SIDED * np.sqrt(max(accuracy * (1 - accuracy), 1 / independent) / independent)
    scale = max(clean - floor, metrics.LEAST_GAIN)
    lost = -logs[np.arange(len(labels)), labels] / np.log(2)
    bits = entropy(labels) - float(lost.mean()) - ONE_SIDED * float(lost.std()) / np.sqrt(independent)
    return Composition(
        what=what,
        attribute=name,
        uploads=uploads,
        accuracy=accuracy,
        balanced_accuracy=metrics.balanced_accuracy(labels, scores.argmax(1)),
        auc=metrics.auc(labels, np.exp(log_posterior(scores, prior, t or 1.0))),
        floor=floor,
        nag=(accuracy - floor) / scale,
        nag_upper=(accuracy + float(error) - floor) / scale,
        bits=max(0.0, float(bits)),
    )


def evenly(count: int, most: int) -> Ints:
    """At most so many rows of `count`, evenly spread."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).astype(np.int64))


def known_photos(data: AttackData, parameters: Kept) -> Kept:
    """The attacker's photos that the prior is made of."""
    return {name: value[: min(CANDIDATES, data.train.images)] for name, value in parameters.items()}


def rows_from_tables(
    what: str,
    uploads: int,
    data: AttackData,
    tables: tuple[NDArray[np.float32], NDArray[np.float32]],
    rows: tuple[Ints, Ints],
    attributes: Sequence[str],
    clean: Mapping[str, Prediction],
) -> Iterator[Composition]:
    """Compositions from log-likelihoods of validation and test photos under the attacker's, (n, candidates)."""
    powers = np.concatenate([posterior.POWERS, np.geomspace(1, max(uploads, 2), 5)[1:]]) / uploads
    # Validation rows are single draws here: the first ones of `validation_uploads` have the same labels.
    chosen = posterior.choose(tables[0], data, attributes, rows[0], powers)
    known, found = (posterior.chosen_scores(data, table, chosen) for table in tables)
    for name in attributes:
        labels = data.test.labels[name][rows[1]]
        yield describe(
            what,
            name,
            uploads,
            (found[name], labels),
            (known[name], data.validation.labels[name][rows[0]]),
            prior=data.prior(name),
            clean=single_accuracy(data, name, clean[name]),
            floor=population_floor(data, name),
            independent=len(labels),
        )


def single_accuracy(data: AttackData, name: str, best: Prediction) -> float:
    """Accuracy of a calibrated prediction on test."""
    return metrics.accuracy(data.test.labels[name], log_posterior(best.test, data.prior(name), 1.0).argmax(1))


def drawn_table(
    data: AttackData, parameters: Kept, known: Kept, generator: torch.Generator
) -> NDArray[np.float32]:
    """Log-likelihood of one fresh upload of each photo under every known one."""
    numbers = next(iter(parameters.values()))

    def drawn(rows: Tensor) -> NDArray[np.float32]:
        given = floats(parameters, rows, generator.device)
        uploads = data.channel.sample(given, data.channel.noise(given, generator))
        return posterior.likelihoods(data.channel, uploads.half(), known, generator.device)

    return np.concatenate(
        [drawn(part) for part in torch.arange(len(numbers)).split(at_once(numbers, PHOTOS))]
    )


def rounded(parameters: Kept, *, gray: bool = False) -> Parameters:
    """What another arithmetic makes of the parameters: bytes, one in six of them the neighbour of the right one.

    In Gray code the largest byte stands for 1.
    """
    generator = torch.Generator().manual_seed(1)
    out = {}
    for name, value in parameters.items():
        error = 1.2 * (torch.rand(value.shape, generator=generator) - 0.5)
        scaled = value.float() * 256
        shifted = ((scaled.clamp(max=CERTAIN) if gray else scaled) + error).round().clamp(1, CERTAIN)
        out[name] = (torch.where(shifted == CERTAIN, 256.0, shifted) if gray else shifted).div(256).half()
    return out


def same_photo(
    data: AttackData,
    attributes: tuple[str, ...],
    clean: Mapping[str, Prediction],
    others: Mapping[str, Artifact],
) -> Iterator[Composition]:
    """One photo, sent twice by different files: two independent draws."""
    rows = evenly(data.validation.images, PHOTOS), evenly(data.test.images, PHOTOS)
    splits = (data.validation, data.test)
    known = known_photos(data, data.train.parameters)
    gray = isinstance(data.channel, Dither) and data.channel.gray
    generator = data.generator("compositions")
    mine = [take(split, part) for split, part in zip(splits, rows, strict=True)]
    first = [drawn_table(data, part, known, generator) for part in mine]

    def second() -> Iterator[tuple[str, list[Kept]]]:
        for what, other in others.items():
            photos = [split.pixels[part] for split, part in zip(splits, rows, strict=True)]
            photos.append(data.train.pixels[: len(next(iter(known.values())))])
            yield f"same photo, {what}", [other.parameters(part) for part in photos]
        yield "same photo, two arithmetics", [rounded(part, gray=gray) for part in (*mine, known)]

    for what, (validation, test, candidates) in second():
        both = [
            a + drawn_table(data, part, candidates, generator)
            for a, part in zip(first, (validation, test), strict=True)
        ]
        yield from rows_from_tables(what, 2, data, (both[0], both[1]), rows, attributes, clean)


def take(split: AttackSplit, rows: Ints) -> Kept:
    """Parameters of some photos."""
    return {name: value[torch.from_numpy(rows)] for name, value in split.parameters.items()}


def frame(images: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """The next frame of static scenes (n, H, W, 3): each shifted by at most a pixel and a little brighter or darker."""
    down, right = rng.integers(-SHIFT, SHIFT + 1, size=(2, len(images)))
    brightness = 1 + rng.uniform(-BRIGHTNESS, BRIGHTNESS, len(images))
    padded = np.pad(images, ((0, 0), (SHIFT, SHIFT), (SHIFT, SHIFT), (0, 0)), mode="edge")
    height, width = images.shape[1:3]
    moved = np.stack(
        [
            one[SHIFT + y : SHIFT + y + height, SHIFT + x : SHIFT + x + width]
            for one, y, x in zip(padded, down, right, strict=True)
        ]
    )
    lit: NDArray[np.uint8] = (moved * brightness[:, None, None, None]).round().clip(0, 255).astype(np.uint8)
    return lit


def frames(
    artifact: Artifact,
    data: AttackData,
    plan: Plan,
    attributes: tuple[str, ...],
    clean: Mapping[str, Prediction],
) -> Iterator[Composition]:
    """k frames of a static scene, each a fresh draw; their statistics add up, so no table is larger than for one upload."""
    likelihood = posterior.likelihood_of(data.channel)
    known = known_photos(data, data.train.parameters)
    splits = (data.validation, data.test)
    rows = evenly(data.validation.images, SCENES), evenly(data.test.images, SCENES)
    rng, generator = np.random.default_rng(data.seed_for("frames")), data.generator("frames")
    totals: list[Tensor] = [torch.zeros((), device=data.device)] * 2
    for number in range(1, max(plan.frames, default=0) + 1):
        for index, (split, part) in enumerate(zip(splits, rows, strict=True)):
            parameters = floats(artifact.parameters(frame(split.pixels[part], rng)), device=data.device)
            uploads = data.channel.sample(parameters, data.channel.noise(parameters, generator))
            totals[index] = totals[index] + likelihood.statistics(uploads)
        if number in plan.frames:
            tables = [
                posterior.likelihoods_from_statistics(data.channel, total, known, number) for total in totals
            ]
            yield from rows_from_tables(
                "frames of a static scene", number, data, (tables[0], tables[1]), rows, attributes, clean
            )


def deal(labels: Ints, count: int, rng: np.random.Generator) -> tuple[Ints, Ints]:
    """Groups of `count` different photos of one value: rows (groups, count) and the value of each group.

    Photos of each value are shuffled and dealt out, again and again, so groups of a value are as frequent as its photos.
    """
    groups: list[Ints] = []
    values: list[int] = []
    whole = sum(int((labels == value).sum()) // count for value in np.unique(labels))
    for _ in range(max(1, -(-GROUPS // max(1, whole)))):
        for value in np.unique(labels):
            mine = rng.permutation(np.flatnonzero(labels == value))
            dealt = mine[: len(mine) // count * count].reshape(-1, count)
            groups += list(dealt)
            values += [int(value)] * len(dealt)
    return np.array(groups).reshape(-1, count), np.array(values, dtype=np.int64)


def photos_of_one_value(
    data: AttackData, name: str, best: Prediction, clean: Prediction
) -> Iterator[Composition]:
    """Different photos that share the attribute's value; rows end where a value has too few photos."""
    labels, tuning = data.test.labels[name], data.validation.labels[name]
    images = len(tuning)
    for count in COUNTS:
        if min(np.bincount(part, minlength=data.classes[name]).min() for part in (labels, tuning)) < count:
            return
        rng = np.random.default_rng(data.seed_for(f"photos of one value/{name}/{count}"))
        test, values = deal(labels, count, rng)
        known, known_values = deal(tuning, count, rng)
        prior = np.log(np.bincount(values, minlength=data.classes[name]) / len(values))
        sums = [one.test[test].sum(1) for one in (best, clean)]
        tuned = [one.validation[:images][known].sum(1) for one in (best, clean)]
        t = fit_temperature(tuned[1], known_values, prior)
        reference = metrics.accuracy(values, log_posterior(sums[1], prior, t).argmax(1))
        yield describe(
            "photos of one value",
            name,
            count,
            (sums[0], values),
            (tuned[0], known_values),
            prior=prior,
            clean=reference,
            floor=float(np.exp(prior).max()),
            independent=len(labels) // count,
        )
