"""Frames of one scene: whether a fixed camera shows what it showed before, but for noise and light.

    scenes = Scenes[str](SceneConfig())
    scene = scenes.find(pixels) or scenes.begin(pixels, answer)
    scene.held                                  # what was said of its first frame

Frames of a still scene differ in pixels, so each would be a draw of its own, and whoever averages the draws undoes the noise.
Here the first frame of a scene stands for all of it. A frame belongs to a scene while the means of its blocks are near those
of the *first* frame, so a slow drift ends a scene. Each plane's brightness is fitted first: lamps flicker and cameras adjust.
Block means as a perceptual hash: Yang, Gu, Niu, "Block Mean Value Based Image Perceptual Hashing", IIH-MSP 2006. The means are
kept as they are, not as bits: a bit that lies near its threshold turns over by noise alone. docs/video.md has the errors.

Scenes live in memory and are never written down: block means are a small picture.
"""

from collections import OrderedDict
from dataclasses import dataclass
from itertools import count
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Means = NDArray[np.float64]
"""(grid, grid, planes): means of blocks, 0 .. 255."""
Held = TypeVar("Held")


@dataclass(frozen=True, kw_only=True)
class SceneConfig:
    """When two frames show one scene."""

    grid: int = 8
    """Blocks a side."""
    tolerance: float = 20.0
    """Largest difference of a block's mean within a scene, in levels of 255."""
    light: float = 1.25
    """Largest factor by which a plane may be brighter or darker than in the first frame."""
    remembered: int = 16
    """Scenes that are kept, the last ones seen: a camera that comes back to one of them tells nothing new."""

    def __post_init__(self) -> None:
        if self.grid < 1 or self.tolerance < 0 or self.light < 1 or self.remembered < 1:
            raise ValueError(
                f"grid, light and remembered are 1 or more and tolerance is not negative: {self}"
            )


@dataclass
class Scene(Generic[Held]):
    """One scene."""

    number: int
    """From 1, in the order in which they began."""
    means: Means
    """Of its first frame."""
    held: Held
    """What the caller keeps with it."""


class Scenes(Generic[Held]):
    """The last scenes of one camera. Not for several threads at once."""

    def __init__(self, config: SceneConfig | None = None) -> None:
        self.config = config or SceneConfig()
        self._numbers = count(1)
        self._known: OrderedDict[int, Scene[Held]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def find(self, pixels: Pixels) -> Scene[Held] | None:
        """The scene that a frame belongs to: the last one seen if it fits, else the nearest; None: no scene fits.

        Args:
            pixels: (H, W, planes) uint8, as the model sees them; all frames of one size.
        """
        if not self._known:
            return None
        now, scenes = block_means(pixels, self.config.grid), list(self._known.values())
        apart = differences(np.stack([scene.means for scene in scenes]), now, self.config.light)
        best = -1 if apart[-1] <= self.config.tolerance else int(apart.argmin())
        if apart[best] > self.config.tolerance:
            return None
        self._known.move_to_end(scenes[best].number)
        return scenes[best]

    def begin(self, pixels: Pixels, held: Held) -> Scene[Held]:
        """A scene that begins with this frame; the one that was not seen for longest is forgotten if there are too many."""
        scene = Scene(next(self._numbers), block_means(pixels, self.config.grid), held)
        self._known[scene.number] = scene
        if len(self._known) > self.config.remembered:
            self._known.popitem(last=False)
        return scene


def block_means(pixels: Pixels, grid: int) -> Means:
    """Means over grid x grid blocks of nearly equal size; a side shorter than the grid has a block for every pixel.

    Args:
        pixels: (H, W, planes) uint8.
        grid: blocks a side.
    """
    found = pixels.astype(np.float64)
    for axis in (0, 1):
        length = pixels.shape[axis]
        starts = np.arange(min(grid, length)) * length // min(grid, length)
        shape = [1, 1, 1]
        shape[axis] = -1
        found = np.add.reduceat(found, starts, axis) / np.diff([*starts, length]).reshape(shape)
    return found


def differences(firsts: Means, now: Means, light: float) -> NDArray[np.float64]:
    """How far a frame is from the first frames of n scenes: the largest difference of a block, in levels.

    Args:
        firsts: (n, grid, grid, planes).
        now: (grid, grid, planes).
        light: a plane's brightness is fitted by least squares with a factor from 1 / light to light.
    """
    power = (firsts * firsts).sum((1, 2), keepdims=True)
    factor = np.clip((firsts * now).sum((1, 2), keepdims=True) / np.maximum(power, 1), 1 / light, light)
    largest: NDArray[np.float64] = np.abs(now - np.minimum(factor * firsts, 255)).max((1, 2, 3))
    return largest
