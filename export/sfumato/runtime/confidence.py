"""Probabilities that mean what they say: the cloud network's logits, divided by a temperature for every kept attribute.

A network is right less often than its softmax claims. One number an attribute, fitted on validation uploads of the model that
ships, mends most of that and changes no label (Guo et al., On Calibration of Modern Neural Networks, ICML 2017). It depends on
no photo, so it tells nothing more of one.

    temperatures = read_temperatures(contract)          # (1.0, ...) in bundles of earlier versions
    probabilities = softmax(logits / temperatures[0])
"""

import math

import numpy as np
from numpy.typing import NDArray

from sfumato.core.errors import SfumatoError
from sfumato.runtime.contract import Contract

KEY = "temperature"
"""In the contract's figures: attribute -> temperature."""
RANGE = (1 / 32, 32.0)
"""Of a temperature."""
THIRDS = 40
"""Steps of the search, each of which leaves two thirds of the range."""


def fit_temperature(logits: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """The temperature of least cross entropy.

    Args:
        logits: (N, classes).
        labels: (N,) true classes.
    """
    low, high = map(math.log, RANGE)
    for _ in range(THIRDS):  # the cross entropy is convex in 1 / T, so it has one valley
        a, b = low + (high - low) / 3, high - (high - low) / 3
        if cross_entropy(logits / math.exp(a), labels) <= cross_entropy(logits / math.exp(b), labels):
            high = b
        else:
            low = a
    return round(math.exp((low + high) / 2), 4)


def cross_entropy(logits: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """Mean of -log softmax at the labels, in nats."""
    shifted = logits - logits.max(1, keepdims=True)
    return float((np.log(np.exp(shifted).sum(1)) - shifted[np.arange(len(labels)), labels]).mean())


def read_temperatures(contract: Contract) -> tuple[float, ...]:
    """The temperature of every kept attribute, in order; 1 where the bundle says nothing.

    Raises:
        SfumatoError: they are damaged.
    """
    found = contract.figures.get(KEY, {})
    if not isinstance(found, dict):
        raise SfumatoError(
            f"the contract's figures are damaged ({KEY} is {type(found).__name__}): export again"
        )
    values = [found.get(entry.name, 1.0) for entry in contract.keep]
    for value in values:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not _within(value):
            raise SfumatoError(f"the contract's figures are damaged ({KEY} {value!r}): export again")
    return tuple(float(value) for value in values)


def _within(value: float) -> bool:
    low, high = RANGE
    return math.isfinite(value) and 0.99 * low <= value <= 1.01 * high
