"""The embedded data set: drawn faces whose factors have an exactly known, adjustable joint distribution.

Options: `count=6000`; `couple=smiling:glasses:0.3` (repeatable) makes two factors depend on each other
without touching their marginals; `marginal=hair:0.4/0.3/0.2/0.1` (repeatable) sets one factor's
probabilities. Image i depends on the seed and i alone, so a smaller count is a prefix of a larger one.

Usage: `sfumato data inspect synthetic,count=2000,couple=smiling:glasses:0.3`
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from sfumato.core.errors import DataError, unknown
from sfumato.data.dataset import Attribute, Ints
from sfumato.data.loaders.drawn_faces import CHANCES, IDENTITIES, draw
from sfumato.data.loaders.joint import JointDistribution
from sfumato.data.source import Pixels, Source
from sfumato.data.spec import Spec, whole

OPTIONS = ("count", "couple", "marginal")
REPEATABLE = ("couple", "marginal")
FACTORS = (
    Attribute(name="smiling", classes=("no", "yes")),
    Attribute(name="glasses", classes=("no", "yes")),
    Attribute(name="skin", classes=("light", "tan", "brown", "dark")),
    Attribute(name="hair", classes=("black_short", "brown_bob", "blond_long", "red_curly")),
    Attribute(name="background", classes=("blue", "coral", "green", "lilac")),
    Attribute(name="identity", classes=tuple(f"person_{i:02d}" for i in range(IDENTITIES))),
)
_BY_NAME = {factor.name: factor for factor in FACTORS}
_DRAWN_AT_ONCE = 32  # so many 64x64 planes stay in the processor's cache
_NOISE_LEVELS = 4.0  # standard deviation of the pixel noise, in grey levels


def joint_distribution(
    *,
    couplings: Sequence[tuple[str, str, float]] = (),
    marginals: Mapping[str, tuple[float, ...]] | None = None,
) -> JointDistribution:
    """The factors' distribution: even and independent except where told otherwise."""
    even = {factor.name: (1 / len(factor.classes),) * len(factor.classes) for factor in FACTORS}
    return JointDistribution(marginals={**even, **(marginals or {})}, couplings=tuple(couplings))


def spec_distribution(spec: Spec) -> JointDistribution:
    """The distribution that a spec's `couple` and `marginal` options describe."""
    couplings: list[tuple[str, str, float]] = []
    marginals: dict[str, tuple[float, ...]] = {}
    for option, text in spec.extra:
        if option == "couple":
            couplings.append(_coupling(text))
        elif option == "marginal":
            name, values = _marginal(text)
            marginals[name] = values
    return joint_distribution(couplings=couplings, marginals=marginals)


Draw: TypeAlias = Callable[
    [Mapping[str, Ints], NDArray[np.float64], NDArray[np.float32], int, int], NDArray[np.uint8]
]
"""Factors (B,), chances (B, n), noise (B, H, W, 3), height and width -> pictures (B, H, W, 3)."""


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """Pictures that are drawn when they are read."""

    factors: Mapping[str, Ints]
    chances: NDArray[np.float64]  # (N, n)
    rows: Ints  # (N,) the image's number within the whole series
    seed: int
    draw: Draw = draw
    what: str = "face"

    @property
    def names(self) -> Sequence[str]:
        """(N,) numbers of the images."""
        return [f"{self.what}_{row:06d}" for row in self.rows.tolist()]

    def fingerprint(self) -> Iterator[str]:
        """The seed, every factor and every chance decide every pixel."""
        yield f"drawn {self.what} {self.seed}"
        yield hashlib.sha256(np.ascontiguousarray(self.chances).data).hexdigest()
        yield self.rows.tobytes().hex()
        for name, values in self.factors.items():
            yield f"{name} {values.tobytes().hex()}"

    def take(self, rows: Ints) -> "Drawn":
        """Only these pictures."""
        factors = {name: values[rows] for name, values in self.factors.items()}
        return replace(self, factors=factors, chances=self.chances[rows], rows=self.rows[rows])

    def read(self, rows: range, height: int, width: int) -> Sequence[Pixels | DataError]:
        """Draw some at any size."""
        out: list[Pixels | DataError] = []
        for first in range(rows.start, rows.stop, _DRAWN_AT_ONCE):
            part = slice(first, min(first + _DRAWN_AT_ONCE, rows.stop))
            noise = np.stack([_noise(self.seed, row, height, width) for row in self.rows[part].tolist()])
            factors = {name: values[part] for name, values in self.factors.items()}
            out.extend(self.draw(factors, self.chances[part], noise, height, width))
        return out


def load_synthetic(spec: Spec) -> Source:
    """Draw the factor values; pixels follow when they are read."""
    if spec.path is not None:
        raise DataError("synthetic takes no path: write synthetic,option=value")
    count = image_count(spec)
    factors, chances = sample(spec_distribution(spec), count, CHANCES, spec.seed)
    return Source(
        pictures=Drawn(
            factors=factors, chances=chances, rows=np.arange(count, dtype=np.int64), seed=spec.seed
        ),
        attributes=FACTORS,
        labels=factors,
        identity="identity",
    )


def image_count(spec: Spec, usual: int = 6000) -> int:
    """How many pictures to draw: option `count`.

    Raises:
        DataError: not a whole number from 1 to a million.
    """
    count = whole("count", dict(spec.extra).get("count", str(usual)), least=1)
    if count > 1_000_000:
        raise DataError(f"option count={count} must be at most 1000000")
    return count


def sample(
    joint: JointDistribution, count: int, chances: int, seed: int
) -> tuple[dict[str, Ints], NDArray[np.float64]]:
    """Factor values (count,) and numbers in [0, 1) (count, chances) for the rest; a smaller count is a prefix of a larger."""
    of_factors, of_pixels = np.random.SeedSequence(seed).spawn(2)
    factors = joint.sample(np.random.Generator(np.random.PCG64(of_factors)).random(count))
    return factors, np.random.Generator(np.random.PCG64(of_pixels)).random((count, chances))


def _noise(seed: int, row: int, height: int, width: int) -> NDArray[np.float32]:
    """(H, W, 3) noise in grey levels: the sum of four even bytes, close to normal."""
    generator = np.random.Generator(np.random.PCG64([seed, row]))
    bytes_ = generator.integers(0, 256, size=(4, height, width, 3), dtype=np.uint8)
    spread = (4 * (256**2 - 1) / 12) ** 0.5
    return np.asarray(
        (bytes_.sum(axis=0, dtype=np.int32) - 510) * np.float32(_NOISE_LEVELS / spread), dtype=np.float32
    )


def _coupling(text: str) -> tuple[str, str, float]:
    parts = text.split(":")
    if len(parts) != 3:
        raise DataError(f"option couple={text!r} must be FACTOR:FACTOR:STRENGTH, e.g. smiling:glasses:0.3")
    for name in parts[:2]:
        if name not in _BY_NAME:
            raise DataError(unknown("factor", name, _BY_NAME))
    return parts[0], parts[1], _number("couple", parts[2])


def _marginal(text: str) -> tuple[str, tuple[float, ...]]:
    name, colon, values = text.partition(":")
    if not colon:
        raise DataError(f"option marginal={text!r} must be FACTOR:P/P/..., e.g. smiling:0.3/0.7")
    if name not in _BY_NAME:
        raise DataError(unknown("factor", name, _BY_NAME))
    numbers = tuple(_number("marginal", value) for value in values.split("/"))
    if len(numbers) != len(_BY_NAME[name].classes):
        raise DataError(
            f"option marginal={text!r}: {name} has {len(_BY_NAME[name].classes)} classes, not {len(numbers)}"
        )
    return name, numbers


def _number(option: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise DataError(f"option {option}: {text!r} is not a number") from None
