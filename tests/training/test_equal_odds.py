"""Equal odds: multipliers that move against the gap, and a decision that stops telling who it errs on."""

import pytest
import torch
from torch import Tensor, nn

from sfumato.training.regularisers.equal_odds import DEFAULTS, EqualOdds


def batch(count: int, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "y": torch.randint(2, (count,), generator=generator),
        "s": torch.randint(3, (count,), generator=generator),
    }


def test_the_update_is_the_obvious_loop() -> None:
    odds = EqualOdds({"y": 2}, {"s": 3})
    labels, logits = batch(40), torch.randn(40, 2, generator=torch.Generator().manual_seed(1))
    largest = odds.update({"y": logits}, labels, pace=0.5)
    q = logits.softmax(1)
    mean = torch.full((2, 3, 2), 0.5)
    for y in range(2):
        for s in range(3):
            rows = (labels["y"] == y) & (labels["s"] == s)
            if rows.any():
                mean[y, s] = DEFAULTS.momentum * mean[y, s] + (1 - DEFAULTS.momentum) * q[rows].mean(0)
    gap = mean - mean.mean(1, keepdim=True)
    assert torch.allclose(odds.get_buffer("mean_0"), mean, atol=1e-6)
    assert torch.allclose(odds.get_buffer("multiplier_0"), 0.5 * DEFAULTS.pace * gap, atol=1e-7)
    assert largest == pytest.approx(gap.abs().max().item(), abs=1e-6)


@pytest.mark.parametrize("tolerance", [0.0, 0.02, 0.1])
def test_a_tolerance_pulls_every_multiplier_towards_zero(tolerance: float) -> None:
    odds = EqualOdds({"y": 2}, {"s": 3}, tolerance=tolerance)
    expected = torch.zeros(2, 3, 2)
    for seed in range(30):
        labels, logits = batch(40, seed), torch.randn(40, 2, generator=torch.Generator().manual_seed(seed))
        odds.update({"y": logits}, labels)
        mean = odds.get_buffer("mean_0")
        expected += DEFAULTS.pace * (mean - mean.mean(1, keepdim=True))
        shrunk = expected.abs() - DEFAULTS.pace * tolerance
        expected = torch.where(shrunk > 0, expected.sign() * shrunk, torch.zeros_like(expected))
        assert torch.allclose(odds.get_buffer("multiplier_0"), expected, atol=1e-6)
    # A wide tolerance leaves less to do, and what is inside stays at exactly 0.
    assert bool((expected == 0).any()) == (tolerance >= 0.02)


def test_what_never_occurs_together_has_no_part_in_the_mean() -> None:
    """Of a hidden attribute that decides the kept one, each value occurs with one of its classes alone."""
    odds = EqualOdds({"y": 2}, {"s": 4})
    s = torch.arange(400) % 4
    labels = {"y": s // 2, "s": s}
    # Nearly always right, for every s alike.
    logits = torch.zeros(400, 2).scatter(1, labels["y"][:, None], 6.0)
    for _ in range(100):
        gap = odds.update({"y": logits}, labels)
    assert gap < 1e-6
    assert not odds.get_buffer("multiplier_0").any()


def test_the_term_is_zero_at_first_and_then_pulls_against_the_gap() -> None:
    odds = EqualOdds({"y": 2}, {"s": 3})
    labels = batch(60)
    # Class 1 is said more often where s is 2.
    logits = torch.zeros(60, 2)
    logits[labels["s"] == 2, 1] = 2.0
    logits.requires_grad_()
    assert odds({"y": logits}, labels).item() == 0
    odds.update({"y": logits}, labels)
    odds({"y": logits}, labels).backward()
    assert logits.grad is not None
    slope = logits.grad[:, 1]
    assert (slope[labels["s"] == 2] > 0).all()
    assert (slope[labels["s"] != 2] < 0).all()


def test_a_decision_that_leans_on_the_hidden_attribute_is_made_even() -> None:
    def draw(count: int) -> tuple[Tensor, dict[str, Tensor]]:
        # y mostly goes with s, so it pays to say what s suggests: left alone, the decision leans on s.
        s = torch.randint(2, (count,))
        y = (torch.rand(count) < 0.25 + 0.5 * s).long()
        return torch.stack([y + torch.randn(count), s.float()], 1), {"y": y, "s": s}

    gaps = []
    for weight in (0.0, 1.0):
        torch.manual_seed(1)
        model, odds = nn.Linear(2, 2), EqualOdds({"y": 2}, {"s": 2})
        optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
        for step in range(1500):
            seen, labels = draw(128)
            aux_logits = {"y": model(seen)}
            loss = nn.functional.cross_entropy(aux_logits["y"], labels["y"]) + weight * odds(
                aux_logits, labels
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            odds.update(aux_logits, labels, pace=1 - step / 1500)
        seen, labels = draw(20_000)
        chosen = model(seen).softmax(1)[:, 1].detach()
        groups = [
            [chosen[(labels["y"] == y) & (labels["s"] == s)].mean() for s in range(2)] for y in range(2)
        ]
        gaps.append(max(abs(float(a - b)) for a, b in groups))
    assert gaps[0] > 0.05
    assert gaps[1] < gaps[0] / 2
