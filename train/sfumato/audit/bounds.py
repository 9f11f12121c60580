r"""A tighter bound on the information in an upload: its divergence from a mixture prior instead of a uniform one.

The rate compares every upload with one uniform prior, so a code word that is repeated over many pixels is counted once per
pixel. But any prior over uploads bounds the mutual information, also a mixture r = sum_c w_c r_c. Its component c may be any
function of the image:

    I(X'; X) <= E KL(p(x'|x) || r) <= E[-log w_c] + E KL(p(x'|x) || r_c),        c = c(x)
                                        the answer        the residual

The residual alone bounds I(X'; X | C): what the upload tells about anything else once the answer C is known. Two images that
get the same answer and the same channel parameters differ in nothing that leaves the phone.

The components are fitted on the attacker's images (hard EM, that is k-means under the divergence, from the desired labels)
and evaluated on the test images, so nothing in the bound depends on the images it is evaluated on.

    bounds = information_bounds(data)
    bounds.tightest, bounds.total, bounds.answer, bounds.residual        # bits an image
"""

from math import log, log2
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from sfumato.audit.autoregressive_bound import STEPS, autoregressive_bound
from sfumato.audit.index_channel import IndexChannel
from sfumato.audit.metrics import Floats, mean_interval
from sfumato.audit.rows import Kept, at_once, floats
from sfumato.audit.schema import InformationBounds, PhotoBits, RateBits, WorstGroup
from sfumato.channels import Channel, Parameters
from sfumato.core.rates import PICTURE_BITS
from sfumato.data import Dataset, Split
from sfumato.data.label_cells import label_cells

if TYPE_CHECKING:
    from sfumato.audit.attack_data import AttackData

ROUNDS = 10
"""Rounds of EM at most; it stops when no image changes its component."""
BATCH = 256
GROUP_IMAGES = 20
"""Test photos of a class whose mean bound is worth stating."""


def fit_components(channel: Channel, parameters: Kept, assigned: Tensor) -> tuple[Parameters, Tensor]:
    """The moment-matched component of every cell that has images, and log w.

    Args:
        channel: gives the moments.
        parameters: each (N, planes, H, W), any float type.
        assigned: (N,) int64, the cell of each image.

    Returns:
        parameters (K, planes, H, W) and the log share of each cell (K,).
    """
    members = [torch.nonzero(assigned == cell).flatten() for cell in assigned.unique()]
    parts = [mean_moments(channel, parameters, rows) for rows in members]
    stacked = {name: torch.stack([part[name] for part in parts]) for name in parts[0]}
    share = torch.tensor([len(rows) for rows in members], dtype=torch.float64) / len(assigned)
    return channel.from_moments(stacked), share.log()


def mean_moments(channel: Channel, parameters: Kept, rows: Tensor) -> Parameters:
    """The mean moments of some rows, from so many of them at once as are no burden."""
    parts = rows.split(min(at_once(value, len(rows)) for value in parameters.values()))
    total: dict[str, Tensor] = {}
    for part in parts:
        for name, value in channel.to_moments(floats(parameters, part)).items():
            share = value.mean(0) * (len(part) / len(rows))
            total[name] = total[name] + share if name in total else share
    return total


def divergences(channel: Channel, parameters: Kept, components: Parameters) -> Tensor:
    """KL of every image's upload from every component, in nats, (N, K) float64."""
    count = len(next(iter(parameters.values())))
    out = []
    for rows in torch.split(torch.arange(count), BATCH):
        part = floats(parameters, rows)
        if isinstance(channel, IndexChannel):  # one law gives both
            out.append(channel.divergences(part, components))
        else:
            out.append((channel.rate(part)[:, None] - channel.gain(part, components)).double())
    return torch.cat(out)


def fit_mixture(channel: Channel, parameters: Kept, assigned: Tensor) -> tuple[Parameters, Tensor]:
    """Hard EM from the partition `assigned` (N,); returns components and their log weights."""
    components, log_weight = fit_components(channel, parameters, assigned)
    for _ in range(ROUNDS):
        moved = (divergences(channel, parameters, components) - log_weight).argmin(1)
        if torch.equal(moved, assigned):
            break
        assigned = moved
        components, log_weight = fit_components(channel, parameters, assigned)
    return components, log_weight


def photo_bounds(data: "AttackData") -> tuple[Floats, Floats]:
    """`total` and `residual` of every test image, in bits, each (n_test,)."""
    base, train = data.train.images, data.train
    classes = [data.classes[name] for name in data.keep]
    answers = torch.from_numpy(label_cells([train.labels[name][:base] for name in data.keep], classes))
    known: Kept = {name: value[:base] for name, value in train.parameters.items()}
    # Whatever is fitted bounds; the divergence of the test photos from it is that of the channel itself.
    fitted = data.channel.without_book if isinstance(data.channel, IndexChannel) else data.channel
    components, log_weight = fit_mixture(fitted, known, answers)
    nats = divergences(data.channel, data.test.parameters, components)
    cost = nats - log_weight
    nearest = cost.argmin(1, keepdim=True)
    total, residual = (part.gather(1, nearest).flatten().numpy() / log(2) for part in (cost, nats))
    return total, residual


def information_bounds(
    data: "AttackData", photos: tuple[Floats, Floats] | None = None, *, steps: int = STEPS
) -> InformationBounds:
    """The bounds in bits an image, evaluated on the test images.

    Args:
        data: of the attackers.
        photos: those of `photo_bounds`, if they are known.
        steps: in which the autoregressive prior is fitted; with fewer its bound is looser.
    """
    per_photo = photo_bounds(data) if photos is None else photos
    # A mixture of a few components cannot predict the next pixel of a picture.
    high = per_photo[0].mean() > PICTURE_BITS
    return mixture_bounds(per_photo, autoregressive_bound(data, steps=steps) if high else None)


def mixture_bounds(photos: tuple[Floats, Floats], autoregressive: float | None = None) -> InformationBounds:
    """The bounds from those of single photos, `photo_bounds`, and from that of the autoregressive prior where it is known."""
    total, residual = (float(values.mean()) for values in photos)
    return InformationBounds(
        total=total,
        answer=total - residual,
        residual=residual,
        autoregressive=autoregressive,
        total_photos=photo_bits(photos[0]),
        residual_photos=photo_bits(photos[1]),
        total_allows=accuracy_allowed(total if autoregressive is None else min(total, autoregressive)),
        residual_allows=accuracy_allowed(residual),
    )


def photo_bits(bits: Floats) -> PhotoBits:
    """Interval of the mean, 99th percentile and maximum of (n,) bits."""
    return PhotoBits(ci95=mean_interval(bits), p99=float(np.percentile(bits, 99)), max=float(bits.max()))


def rate_summary(bits: Floats) -> RateBits:
    """The rate over the test images, from that of each, (n,) bits."""
    return RateBits(
        mean=float(bits.mean()),
        p95=float(np.percentile(bits, 95)),
        max=float(bits.max()),
        p99=float(np.percentile(bits, 99)),
        ci95=mean_interval(bits),
    )


def worst_groups(dataset: Dataset, bits: Floats) -> tuple[WorstGroup, ...]:
    """Of every attribute with labels, the class whose test photos have the largest mean bound.

    Args:
        dataset: labels and splits; the identity counts as no group.
        bits: (n_test,) bound of each test photo.
    """
    rows, out = dataset.splits[Split.TEST], []
    for name, attribute in dataset.attributes.items():
        labels = dataset.labels[name][rows]
        counts = np.bincount(labels, minlength=len(attribute.classes))
        means = np.bincount(labels, bits, minlength=len(counts)) / np.maximum(counts, 1)
        means[counts < GROUP_IMAGES] = -np.inf
        worst = int(means.argmax())
        if name != dataset.identity and (counts >= GROUP_IMAGES).sum() > 1:
            out.append(
                WorstGroup(
                    attribute=name,
                    group=attribute.classes[worst],
                    images=int(counts[worst]),
                    bits=float(means[worst]),
                )
            )
    return tuple(out)


def accuracy_allowed(bits: float, entropy: float = 1.0, classes: int = 2) -> float:
    """The accuracy on an attribute that nobody who has so many bits about it can exceed, by Fano's inequality.

        H(S) - bits <= H(S|X') <= h(e) + e log2(K - 1),        e = 1 - accuracy

    Args:
        bits: bound on the information.
        entropy: H(S) in bits; by default that of an even yes-or-no attribute.
        classes: K.

    >>> round(accuracy_allowed(0.12), 2), accuracy_allowed(1.5), round(accuracy_allowed(0.0, log2(5), 5), 3)
    (0.7, 1.0, 0.2)
    """
    left = entropy - max(0.0, bits)
    if left <= 0:
        return 1.0
    low, high = 0.0, 1 - 1 / classes  # the right side rises from 0 to log2 K between them
    for _ in range(60):
        e = (low + high) / 2
        allowed = -e * log2(e) - (1 - e) * log2(1 - e) + e * log2(classes - 1) if classes > 1 else 0.0
        low, high = (e, high) if allowed < left else (low, e)
    return 1 - (low + high) / 2
