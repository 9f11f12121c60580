"""Accuracy and rate of the trained and of the int8 model, through sampler and cloud network.

Both are drawn from the same noise, so their difference comes from quantisation and not from the draw. Several draws an image
keep chance small.

    figures = measure_run(run, network, open_model(content))
    figures.accuracy["smiling"].int8
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sfumato.channels import Channel, prior_rate
from sfumato.data import Split
from sfumato.data.truth import MaskTruth, Truth, guess_errors, guess_ious, truths
from sfumato.export.freeze import PhoneNetwork
from sfumato.export.parity import Floats, reference, run_int8
from sfumato.models.tensors import evaluating
from sfumato.runtime import sampler
from sfumato.runtime.contract import PointPart, RatePart, SizePart
from sfumato.runtime.exact_rate import block_rate, dither_rate, gaussian_rate
from sfumato.runtime.interpreter import Session
from sfumato.runtime.sampler import NORMAL_SCALE, dither, gaussian, normal_table, weaken
from sfumato.runtime.upload_codec import encode_png, pack
from sfumato.training.evaluate import kept_scores
from sfumato.training.run import Run

IMAGES = 2000
"""Test images that are measured, at most."""
DRAWS = 4
SEED = 20
Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class Int8VsFloat:
    """A figure of the trained and of the int8 model."""

    trained: float
    int8: float


@dataclass(frozen=True)
class Figures:
    """Everything measured on a split."""

    images: int
    draws: int
    accuracy: Mapping[str, Int8VsFloat]
    """Mean credit (`sfumato.data.truth`), per kept attribute: the fraction right, of a number the share of a guess's error
    that is gone, of a mask the mean intersection over union."""
    rate_bits: Mapping[str, Int8VsFloat]
    """mean, p95 and max over the images. The int8 one is exact, from the sampler's own distributions."""
    upload_bytes: Mapping[str, float]
    """Mean of the PNG and size of the packed form."""
    guess_error: Mapping[str, float] = field(default_factory=dict)
    """Of kept numbers: mean absolute error of a guess, in their units."""
    guess_iou: Mapping[str, float] = field(default_factory=dict)
    """Of kept masks: mean intersection over union of a guess."""
    cells_right: Mapping[str, Int8VsFloat] = field(default_factory=dict)
    """Of kept masks: share of the cells whose class is named rightly."""

    def to_json(self) -> dict[str, Any]:
        """Plain values for the contract."""
        pairs = {
            kind: {
                name: {"float": round(p.trained, 6), "int8": round(p.int8, 6)} for name, p in table.items()
            }
            for kind, table in (
                ("accuracy", self.accuracy),
                ("rate_bits", self.rate_bits),
                ("cells_right", self.cells_right),
            )
            if table
        }
        sizes = {"upload_bytes": dict(self.upload_bytes)}
        guesses = {"guess_error": dict(self.guess_error)}
        if self.guess_iou:  # contracts without masks stay as they were
            guesses["guess_iou"] = dict(self.guess_iou)
        return {"images": self.images, "draws": self.draws, **pairs, **guesses, **sizes}


def measure_run(run: Run, network: PhoneNetwork, session: Session) -> Figures:
    """`measure` on test images of a run."""
    return measure(run.channel, run.cloud, network, session, *measured_images(run))


def measured_images(run: Run, most: int = IMAGES) -> tuple[Bytes, dict[str, Truth]]:
    """The test images that are measured, (N, H, W, 3), `most` of them, and what is true of them, per kept attribute."""
    rows = run.dataset.splits[Split.TEST][:most]
    return np.array(run.dataset.images[rows]), truths(run.dataset, run.keep, rows)


def measure_points(run: Run, session: Session, strengths: Sequence[int]) -> tuple[PointPart, ...]:
    """What the int8 model of a dither channel reaches at each strength, on the images and noise of `measure_run`."""
    images, truths = measured_images(run)
    shipped, gates = run_int8(session, images), bool(run.channel.settings.get("gates"))
    points = []
    for strength in strengths:
        q = {"p": weaken(shipped["p"], strength, gates=gates)}
        drawn = draw(run.channel, images, q)
        right = hits(run.cloud, drawn, truths, run.channel)
        rates = spread(all_bits(run.channel, images, q))
        points.append(
            PointPart(
                strength=strength,
                accuracy={name: round(share, 6) for name, share in right.items()},
                rate_bits=RatePart(**{name: round(bits, 6) for name, bits in rates.items()}),
                upload_bytes=SizePart(**sizes(run.channel, drawn[: len(images)])),
            )
        )
    return tuple(points)


def measure(
    channel: Channel,
    cloud: nn.Module,
    network: PhoneNetwork,
    session: Session,
    images: Bytes,
    truths: Mapping[str, Truth],
) -> Figures:
    """Run images (N, H, W, 3) through both models, the sampler and the cloud network.

    Args:
        channel: the trained channel.
        cloud: the cloud network.
        network: the network as it was trained.
        session: the int8 model that ships.
        images: pixels.
        truths: of the N images, per kept attribute.
    """
    exact, shipped = reference(network, images), run_int8(session, images)
    uploads = {"float": draw(channel, images, exact), "int8": draw(channel, images, shipped)}
    answers = {kind: ask(cloud, drawn, truths, channel) for kind, drawn in uploads.items()}
    right = {kind: credits_of(found, truths) for kind, found in answers.items()}
    cells = {kind: cells_right(found, truths) for kind, found in answers.items()}
    return Figures(
        images=len(images),
        draws=DRAWS,
        accuracy={name: Int8VsFloat(right["float"][name], right["int8"][name]) for name in truths},
        guess_error=guess_errors(truths),
        guess_iou=guess_ious(truths),
        cells_right={name: Int8VsFloat(cells["float"][name], cells["int8"][name]) for name in cells["int8"]},
        rate_bits=_rates(trained_bits(channel, images, exact), all_bits(channel, images, shipped)),
        upload_bytes=sizes(channel, uploads["int8"][: len(images)]),
    )


def sizes(channel: Channel, drawn: Sequence[Bytes]) -> dict[str, float]:
    """Bytes of uploads: the mean PNG of the first 200, and the packed form, which has one size."""
    bits, gates = bits_of(channel), bool(channel.settings.get("gates"))
    pngs = [len(encode_png(levels, bits=bits, gates=gates)) for levels in drawn[:200]]
    return {"png": float(np.mean(pngs)), "packed": float(len(pack(drawn[0], bits=bits)))}


def bits_of(channel: Channel) -> int:
    """Bits a colour sample of the upload."""
    return int(channel.settings["levels"]).bit_length() - 1 if channel.name == "dither" else 8


def pictures(drawn: Sequence[Bytes], channel: Channel) -> Tensor:
    """Levels of uploads, (H, W, 3) each, as the cloud network sees them: (N, 3, H, W) of the photos' size, in 0..1."""
    return torch.from_numpy(sampler.pictures(drawn, bits=bits_of(channel), side=channel.subsample))


def noise_bytes(channel: Channel, shape: tuple[int, ...]) -> int:
    """Noise bytes an image (H, W, 3) needs."""
    samples = math.prod(shape) // channel.subsample**2
    return samples * (bits_of(channel) if channel.name == "dither" else 2)


def draw(channel: Channel, images: Bytes, parameters: Mapping[str, NDArray[Any]]) -> list[Bytes]:
    """`DRAWS` uploads of every image, the images in order, from the bytes of an int8 model or the values of a float one.

    The noise is the same for every model of the channel, so that two models differ by their arithmetic alone.
    """
    rng, drawn = np.random.default_rng(SEED), []
    for index in list(range(len(images))) * DRAWS:
        image = images[index]
        own = {name: value[index] for name, value in parameters.items()}
        noise = rng.integers(0, 256, noise_bytes(channel, image.shape), dtype=np.uint8)
        # Where in its 1/256 a noise byte lies: only probabilities between two bytes ask for it.
        fine = rng.random(next(iter(own.values())).shape) if channel.name == "dither" else None
        if all(value.dtype == np.uint8 for value in own.values()):
            drawn.append(sample_bytes(channel, image, own, noise))
        else:
            drawn.append(sample_floats(channel, image, own, noise, fine))
    return drawn


def sample_bytes(channel: Channel, image: Bytes, q: Mapping[str, Bytes], noise: Bytes) -> Bytes:
    """One draw of the shipped sampler."""
    if channel.name == "dither":
        return dither(q["p"], noise, bits=bits_of(channel), gray=bool(channel.settings.get("gray")))
    additive = bool(channel.settings["additive"])
    largest = float(channel.settings["largest_scale"])
    mean = image if additive else q["mean"]
    return gaussian(mean, q["scale"], noise, largest_scale=largest, additive=additive)


def sample_floats(
    channel: Channel,
    image: Bytes,
    p: Mapping[str, Floats],
    noise: Bytes,
    fine: NDArray[np.float64] | None = None,
) -> Bytes:
    """The same draw from unrounded parameters; dither needs `fine`, where in 0..1 each noise byte lies."""
    if fine is not None:
        # A probability of exactly k/256 gives the very bit that the byte k would.
        reached = noise.reshape(fine.shape) + fine < 256 * p["p"].astype(np.float64)
        certain = np.where(reached, 255, 0).astype(np.uint8)
        return sample_bytes(channel, image, {"p": certain}, np.zeros_like(noise))
    steps = normal_table()[noise.view("<u2")].reshape(image.shape) / NORMAL_SCALE
    mean = image / 255 if channel.settings["additive"] else p["mean"]
    value = mean + float(channel.settings["largest_scale"]) * p["scale"] * steps
    drawn: Bytes = np.clip(np.floor(255 * value + 0.5), 0, 255).astype(np.uint8)
    return drawn


def hits(
    cloud: nn.Module, drawn: list[Bytes], truths: Mapping[str, Truth], channel: Channel
) -> dict[str, float]:
    """Mean credit of what the cloud network finds in uploads, per kept attribute; uploads repeat the images in order."""
    return credits_of(ask(cloud, drawn, truths, channel), truths)


def ask(cloud: nn.Module, drawn: list[Bytes], names: Iterable[str], channel: Channel) -> dict[str, Tensor]:
    """What is kept (`kept_scores`) of the cloud network's logits for uploads, of each of these attributes."""
    answers: dict[str, list[Tensor]] = {name: [] for name in names}
    with evaluating(cloud):
        for start in range(0, len(drawn), 128):
            logits = cloud(pictures(drawn[start : start + 128], channel))
            for name, found in answers.items():
                found.append(kept_scores(logits[name]))
    return {name: torch.cat(found) for name, found in answers.items()}


def credits_of(answers: Mapping[str, Tensor], truths: Mapping[str, Truth]) -> dict[str, float]:
    """Mean credit of answers, per attribute; answers repeat the images in order."""
    credits = {}
    for name, facts in truths.items():
        credit = facts.credit_of if isinstance(facts, MaskTruth) else facts.credit
        parts = answers[name].split(len(facts.labels))
        credits[name] = float(np.mean([credit(part.numpy()) for part in parts]))
    return credits


def cells_right(answers: Mapping[str, Tensor], truths: Mapping[str, Truth]) -> dict[str, float]:
    """Of masks: the share of cells that answers name rightly; they repeat the images in order."""
    masks = {name: facts for name, facts in truths.items() if isinstance(facts, MaskTruth)}
    return {
        name: float(np.mean([facts.cells_right(p.numpy()) for p in answers[name].split(len(facts.labels))]))
        for name, facts in masks.items()
    }


def _rates(floats: NDArray[np.float64], ints: NDArray[np.float64]) -> dict[str, Int8VsFloat]:
    trained, int8 = spread(floats), spread(ints)
    return {name: Int8VsFloat(trained[name], int8[name]) for name in trained}


def spread(rates: NDArray[np.float64]) -> dict[str, float]:
    """Mean, 95th percentile and largest of rates (N,)."""
    return {
        "mean": float(rates.mean()),
        "p95": float(np.percentile(rates, 95)),
        "max": float(rates.max()),
    }


def exact_bits(channel: Channel, image: Bytes, q: Mapping[str, Bytes]) -> float:
    """Exact rate of one image of the shipped model, in bits."""
    if channel.name == "dither":
        rate = block_rate if channel.settings.get("gates") else dither_rate
        return rate(q["p"], gray=bool(channel.settings.get("gray"))) / math.log(2)
    additive = bool(channel.settings["additive"])
    nats = gaussian_rate(
        image if additive else q["mean"],
        q["scale"],
        largest_scale=float(channel.settings["largest_scale"]),
        reference_scale=float(channel.settings["reference_scale"]),
        additive=additive,
    )
    return nats / math.log(2)


def all_bits(channel: Channel, images: Bytes, q: Mapping[str, Bytes]) -> NDArray[np.float64]:
    """Exact rates of images (N, H, W, 3), in bits, (N,)."""
    rates = [exact_bits(channel, image, {n: v[i] for n, v in q.items()}) for i, image in enumerate(images)]
    return np.array(rates)


def trained_bits(channel: Channel, images: Bytes, exact: Mapping[str, Floats]) -> NDArray[np.float64]:
    """Rates of the trained model in bits, (N,), by the measure that the int8 one has.

    Dither: the exact sum over unrounded probabilities. Gaussian: that of the rounded parameters, since the formula of
    training counts what clipping takes away again.
    """
    if channel.name == "gaussian":
        rounded = {name: np.clip(np.round(256 * p), 0, 255).astype(np.uint8) for name, p in exact.items()}
        return all_bits(channel, images, rounded)
    p = torch.from_numpy(exact["p"]).permute(0, 3, 1, 2).double()
    nats: NDArray[np.float64] = prior_rate(channel, {"p": p}).numpy()
    return nats / math.log(2)
