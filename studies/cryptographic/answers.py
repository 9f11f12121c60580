"""What every method gives back: logits, times and bytes of each image."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class Answers:
    """N test images, answered one at a time."""

    logits: NDArray[np.float64]
    """(N, classes)."""
    total_ms: list[float]
    """From the pixels on the phone to the answer."""
    cpu_ms: list[float]
    """Processor time of all processes together; it hardly depends on the load of the machine."""
    parts_ms: dict[str, list[float]] = field(default_factory=dict)
    sent: list[int]
    """Bytes that the phone sent for each image."""
    received: list[int]
    once_bytes: int = 0
    """Both ways, before the first image."""
    once_ms: float = 0.0

    @property
    def predictions(self) -> NDArray[np.int64]:
        """(N,) classes."""
        classes: NDArray[np.int64] = self.logits.argmax(1)
        return classes
