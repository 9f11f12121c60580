"""Does the converted model compute what the trained one computes? Asked on real images, for every variant.

Differences are given in units of 1/256, one step of the shipped byte (LSB), for every variant alike.

    chosen = parity_images(network, run.dataset)
    found = compare(open_model(content), network, chosen.images, int8=True)
    found["p"].mean_lsb
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sfumato.channels import Channel, Parameters
from sfumato.core.errors import SfumatoError
from sfumato.data import Dataset, Split
from sfumato.export.freeze import PhoneNetwork
from sfumato.models.shortlist import LEAST, MOST
from sfumato.models.tensors import to_tensor
from sfumato.runtime.interpreter import Session
from sfumato.runtime.sampler import CERTAIN, to_int8, to_q

Floats = NDArray[np.float32]

BATCH = 64
IMAGES = 64
CANDIDATES = 512
"""Validation images that those of the comparison are chosen from."""
MARGIN = 0.5
"""Below this margin, in logits, rounding may turn the phone's decision over, and with it every parameter."""
CLEAR_ENTRY = 1e-4
"""So near to their ends are the probabilities of classes that are clearly on or off the shortlist."""


@dataclass(frozen=True)
class Parity:
    """Difference of one output over all images, in 1/256."""

    mean_lsb: float
    max_lsb: float
    spread_lsb: float = 0.0
    """Standard deviation of the trained network's outputs: the scale on which a difference is seen."""

    @property
    def max_error(self) -> float:
        """Largest difference as a fraction of the range."""
        return self.max_lsb / 256


@dataclass(frozen=True)
class ParityImages:
    """The images on which models are compared."""

    images: NDArray[np.uint8]
    """(N, H, W, 3)."""
    undecided: float
    """Fraction of the candidates that were left out because the phone's decision is too close to call."""


def parity_images(network: PhoneNetwork, dataset: Dataset) -> ParityImages:
    """Choose validation images on which the phone's decision is clear.

    Raises:
        SfumatoError: there is none.
    """
    candidates = np.array(dataset.images[dataset.splits[Split.VALIDATION][:CANDIDATES]])
    clear = clear_decisions(network, candidates)
    if not clear.any():
        raise SfumatoError(
            "the network's decision is too close to call on every validation image, so no model can be compared with it: "
            "train longer (--epochs)"
        )
    return ParityImages(candidates[clear][:IMAGES], float(1 - clear.mean()))


def batches(images: NDArray[np.uint8]) -> Iterator[Tensor]:
    """Images (N, H, W, 3) -> at most `BATCH` at a time, in 0..1."""
    for start in range(0, len(images), BATCH):
        yield torch.from_numpy(np.ascontiguousarray(images[start : start + BATCH])).float() / 255


def reference(network: PhoneNetwork, images: NDArray[np.uint8]) -> dict[str, Floats]:
    """Outputs of the trained network, each (N, H, W, planes) in 0..1."""
    parts = []
    with torch.no_grad():
        for pixels in batches(images):
            parts.append([output.numpy() for output in network(pixels)])
    stacked = [np.concatenate(one) for one in zip(*parts, strict=True)]
    return dict(zip(network.names, stacked, strict=True))


def clear_decisions(network: PhoneNetwork, images: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Images (N, H, W, 3) on which the phone's decision is clear enough for models to be compared, (N,).

    A decision is a step: on its edge a difference is no fault of the conversion. What such images cost is measured as
    accuracy and rate.
    """
    with torch.no_grad():
        margin = torch.cat([network.decision_margin(pixels) for pixels in batches(images)])
    clear: NDArray[np.bool_] = (margin > MARGIN).numpy()
    return clear


def run_float(session: Session, images: NDArray[np.uint8]) -> dict[str, Floats]:
    """Outputs of a model with float input and output, each (N, H, W, planes)."""
    results = [session.run(image[None].astype(np.float32) / np.float32(255)) for image in images]
    return _stack(results)


def run_int8(session: Session, images: NDArray[np.uint8]) -> dict[str, NDArray[np.uint8]]:
    """Parameter bytes q of an int8 model, each (N, H, W, planes)."""
    results = [session.run(to_int8(image)[None]) for image in images]
    return {name: to_q(value) for name, value in _stack(results).items()}


def channel_parameters(
    channel: Channel, q: Mapping[str, NDArray[np.uint8]], images: NDArray[np.uint8]
) -> Parameters:
    """What a channel takes, from the bytes q of an int8 model: q / 256 of each, (N, planes, H, W); 1 for 255 in Gray code.

    Args:
        channel: that the model was trained with.
        q: of `run_int8`.
        images: (N, H, W, 3), which are the mean where the noise is additive.
    """
    found = {
        name: torch.from_numpy(value).permute(0, 3, 1, 2).float().contiguous() / 256
        for name, value in q.items()
    }
    if channel.settings.get("gray"):
        found["p"][found["p"] == CERTAIN / 256] = 1.0
    if "scale" in found:
        found["scale"] *= float(channel.settings["largest_scale"])
    if channel.settings.get("additive"):
        found["mean"] = to_tensor(images)
    return found


def compare(
    session: Session, network: PhoneNetwork, images: NDArray[np.uint8], *, int8: bool
) -> dict[str, Parity]:
    """Compare a converted model with the trained network on images (N, H, W, 3), in blocks that are clearly open or closed."""
    wanted = reference(network, images)
    clear = clear_blocks(network, images)
    if network.local.shortlist is not None:
        clear = clear_entries(wanted["p"], network.local.shortlist.height)
    found: Mapping[str, NDArray[Any]] = run_int8(session, images) if int8 else run_float(session, images)
    return {name: difference(wanted[name], found[name], int8=int8, where=clear) for name in wanted}


def difference(
    wanted: Floats, found: NDArray[Any], *, int8: bool, where: NDArray[np.bool_] | None = None
) -> Parity:
    """Difference of one output; shapes that differ, and values that are not numbers, are infinitely far apart.

    Args:
        wanted, found: (N, H, W, planes).
        int8: whether `found` are bytes.
        where: which pixels count, (N, H, W), or which values, (N, H, W, planes); None: all.
    """
    if wanted.shape != found.shape or not np.isfinite(found).all():
        return Parity(float("inf"), float("inf"))
    gap = np.abs(256 * wanted.astype(np.float64) - found.astype(np.float64) * (1 if int8 else 256))
    gap = gap if where is None else gap[where]
    return Parity(float(gap.mean()), float(gap.max()), float(256 * wanted.std(dtype=np.float64)))


def clear_blocks(network: PhoneNetwork, images: NDArray[np.uint8]) -> NDArray[np.bool_] | None:
    """Pixels (N, H, W) whose block is clearly open or closed, for images (N, H, W, 3); None where no block can be closed.

    A gate is a step like a decision. What a gate near its edge costs is measured as accuracy and rate.

    Raises:
        SfumatoError: no block is clear.
    """
    if network.local.gates is None:
        return None
    with torch.no_grad():
        margin = torch.cat([network.gate_margin(pixels) for pixels in batches(images)])
    clear: NDArray[np.bool_] = (margin[..., 0] > MARGIN).numpy()
    if not clear.any():
        raise SfumatoError(
            f"no block of {len(images)} photos is clearly open or closed: the gates have not learned which to open"
        )
    return clear


def clear_entries(wanted: Floats, height: int) -> NDArray[np.bool_]:
    """Values (N, H, W, planes) of the trained network that are compared: all but classes on the border of the shortlist.

    Args:
        wanted: probabilities, of the same shape.
        height: rows of the shortlist, the last ones.
    """
    clear = np.ones(wanted.shape, bool)
    listed = wanted[:, -height:]
    off, on = (1 / (1 + np.exp(-odds)) for odds in (LEAST, MOST))
    clear[:, -height:] = (listed < off + CLEAR_ENTRY) | (listed > on - CLEAR_ENTRY)
    return clear


def _stack(results: list[dict[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
    return {name: np.concatenate([result[name] for result in results]) for name in results[0]}
