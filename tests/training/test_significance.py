"""Significance against loops over pixels, for a network whose gradients are known."""

import math

import pytest
import torch
from torch import Tensor, nn

from sfumato.training.significance import AROUND, answers_and_significance, guide_loss

HEIGHT, WIDTH = 16, 24


class Weighed(nn.Module):
    """Scores that are weighted sums of pixels: each weight is the gradient of its score."""

    def __init__(self) -> None:
        super().__init__()
        chance = torch.Generator().manual_seed(2)
        self.weights = nn.ParameterDict(
            {
                name: torch.randn(classes, 3, HEIGHT, WIDTH, generator=chance)
                for name, classes in (("a", 2), ("b", 3))
            }
        )
        self.dropout = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """(B, 3, H, W) -> (B, classes) of each head."""
        seen = self.dropout(x)
        return {name: torch.einsum("bchw,kchw->bk", seen, w) for name, w in self.weights.items()}


def surroundings(photo: Tensor, colour: int, y: int, x: int) -> float:
    """Mean of a pixel's surroundings, the picture mirrored at its edges."""
    reach, total = AROUND // 2, 0.0
    for v in range(y - reach, y + reach + 1):
        for u in range(x - reach, x + reach + 1):
            row = abs(v) if v < HEIGHT else 2 * (HEIGHT - 1) - v
            column = abs(u) if u < WIDTH else 2 * (WIDTH - 1) - u
            total += photo[colour, row, column].item()
    return total / AROUND**2


def test_shares_equal_a_loop_over_pixels() -> None:
    clean = Weighed().train()
    photos = torch.rand(2, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(1))
    logits, shares = answers_and_significance(clean, photos)
    assert clean.training, "the network's mode is as it was"
    assert all(weight.grad is None for weight in clean.parameters())
    assert shares.shape == (2, 1, HEIGHT // 8, WIDTH // 8)
    assert not shares.requires_grad
    assert not logits["a"].requires_grad
    clean.eval()
    for row, photo in enumerate(photos):
        slope = torch.zeros(3, HEIGHT, WIDTH)
        for name, values in clean(photos).items():
            torch.testing.assert_close(logits[name], values)
            slope += clean.weights[name][int(values[row].argmax())]
        sums = torch.zeros(HEIGHT // 8, WIDTH // 8)
        for colour in range(3):
            for y in range(HEIGHT):
                for x in range(WIDTH):
                    detail = photo[colour, y, x].item() - surroundings(photo, colour, y, x)
                    sums[y // 8, x // 8] += abs(slope[colour, y, x].item() * detail)
        torch.testing.assert_close(shares[row, 0], sums / sums.sum())


def test_a_plain_wall_has_equal_shares() -> None:
    _, shares = answers_and_significance(Weighed(), torch.full((1, 3, HEIGHT, WIDTH), 0.5))
    torch.testing.assert_close(shares, torch.full_like(shares, 1 / shares.numel()))


def test_the_guide_counts_differences_between_blocks_alone() -> None:
    odds = torch.tensor([[[[0.0, 1.0], [2.0, -1.0]]], [[[3.0, 3.0], [3.0, 3.0]]]])
    shares = torch.tensor([[[[0.1, 0.2], [0.3, 0.4]]], [[[0.7, 0.1], [0.1, 0.1]]]])
    wanted = 0.0
    for z, t in zip(odds.flatten(1).tolist(), shares.flatten(1).tolist(), strict=True):
        total = sum(math.exp(one) for one in z)
        wanted -= sum(share * math.log(math.exp(one) / total) for one, share in zip(z, t, strict=True)) / 2
    assert guide_loss(odds, shares).item() == pytest.approx(wanted, abs=1e-6)
    assert guide_loss(odds + 5, shares).item() == pytest.approx(wanted, abs=1e-5)
