"""The exact rate against enumeration of every noise value, and against the formulas of training."""

import math
from collections import Counter
from statistics import NormalDist

import numpy as np
import pytest
import torch

from sfumato.channels import create
from sfumato.channels.dither import Dither
from sfumato.export.parity import channel_parameters
from sfumato.runtime.exact_rate import (
    block_rate,
    dither_rate,
    dither_table,
    gaussian_rate,
    gaussian_table,
    reference,
)
from sfumato.runtime.sampler import dither, gaussian


@pytest.mark.parametrize("q", [0, 1, 100, 128, 254, 255])
def test_dither_table_against_enumeration(q: int) -> None:
    drawn = dither(np.full((16, 16, 3), q, np.uint8), np.arange(768).astype(np.uint8), bits=1)
    counts = Counter(drawn[..., 0].reshape(-1).tolist())
    total = sum(counts.values())
    expected = sum(n / total * math.log(n / total / 0.5) for n in counts.values())
    assert dither_table()[q] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("levels", [2, 4, 16])
def test_dither_equals_the_channel(levels: int) -> None:
    channel = create("dither", levels=levels)
    q = np.random.default_rng(0).integers(0, 256, (8, 8, channel.outputs["p"]), dtype=np.uint8)
    p = torch.from_numpy(q / 256).permute(2, 0, 1)[None]
    assert dither_rate(q) == pytest.approx(channel.rate({"p": p}).item(), rel=1e-9)


@pytest.mark.parametrize(("mean", "scale"), [(0, 0), (0, 255), (128, 3), (255, 90), (200, 1), (17, 128)])
@pytest.mark.parametrize("additive", [False, True])
def test_gaussian_table_against_enumeration(mean: int, scale: int, additive: bool) -> None:
    """All 65,536 noise values through the sampler itself, three samples a pixel."""
    noise = np.arange(65536, dtype="<u2").repeat(3).view(np.uint8)
    shape = (256, 256, 3)
    drawn = gaussian(
        np.full(shape, mean, np.uint8),
        np.full(shape, scale, np.uint8),
        noise,
        largest_scale=0.5,
        additive=additive,
    )
    normal = NormalDist(127.5, 255 * 0.3)
    expected = 0.0
    for level, count in Counter(drawn[..., 0].reshape(-1).tolist()).items():
        low = 0.0 if level == 0 else normal.cdf(level - 0.5)
        high = 1.0 if level == 255 else normal.cdf(level + 0.5)
        expected += count / 65536 * math.log(count / 65536 / (high - low))
    assert gaussian_table(0.5, 0.3, additive)[mean, scale] == pytest.approx(expected, rel=1e-9)


def test_reference_is_a_distribution() -> None:
    for scale in (0.05, 0.3, 5.0):
        assert reference(scale).sum() == pytest.approx(1)
        assert (reference(scale) > 0).all()


def test_gaussian_is_close_to_the_formula_of_training_where_nothing_clips() -> None:
    """Rounding and clipping lose information: the integer rate may be a little lower, hardly higher."""
    channel = create("gaussian", reference_scale=0.15, largest_scale=0.5)
    rng = np.random.default_rng(0)
    mean = rng.integers(110, 146, (8, 8, 3), dtype=np.uint8)
    scale = rng.integers(40, 70, (8, 8, 3), dtype=np.uint8)
    parameters = {
        "mean": torch.from_numpy(mean / 256).permute(2, 0, 1)[None],
        "scale": torch.from_numpy(0.5 * scale / 256).permute(2, 0, 1)[None],
    }
    formula = channel.rate(parameters).item()
    exact = gaussian_rate(mean, scale, largest_scale=0.5, reference_scale=0.15, additive=False)
    assert exact == pytest.approx(formula, rel=0.03)


@pytest.mark.parametrize("levels", [2, 4])
@pytest.mark.parametrize("gray", [False, True])
def test_blocks_equal_the_channel(levels: int, gray: bool) -> None:
    channel = Dither(levels, gates=True, gray=gray)
    q = np.random.default_rng(levels).integers(0, 256, (16, 24, channel.outputs["p"]), dtype=np.uint8)
    q[:8, 8:16] = 0
    q[8:, :8] = 255
    p = channel_parameters(channel, {"p": q[None]}, np.zeros((1, 16, 24, 3), np.uint8))["p"].double()
    assert bool((p == 1).any()) is gray
    assert block_rate(q, gray=gray) == pytest.approx(channel.block_rate({"p": p}).item(), rel=1e-9)
