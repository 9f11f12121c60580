"""Objectives, rate controller, schedule and selection against hand-made computations."""

import math
from typing import Any

import pytest
import torch

from sfumato.models.schedule import one_cycle
from sfumato.training.config import Selection, TrainConfig
from sfumato.training.epoch_selection import Targets, corrected_goal, score
from sfumato.training.losses import feature_loss, noise_loss, suppression, task_loss
from sfumato.training.rate_controller import RateController


def cross_entropy(logits: list[list[float]], labels: list[int]) -> float:
    """The definition, one row at a time."""
    total = 0.0
    for row, label in zip(logits, labels, strict=True):
        total -= math.log(math.exp(row[label]) / sum(math.exp(value) for value in row))
    return total / len(labels)


ANSWERS = [[0.3, -1.0, 2.0], [0.0, 0.5, -0.5]]
LABELS = [2, 0]


def test_task_loss_is_the_mean_over_heads_and_mixes_in_the_teacher() -> None:
    logits = {"a": torch.tensor(ANSWERS), "b": torch.zeros(2, 2)}
    labels = {"a": torch.tensor(LABELS), "b": torch.tensor([0, 1])}
    expected = (cross_entropy(ANSWERS, LABELS) + math.log(2)) / 2
    assert task_loss(logits, labels).item() == pytest.approx(expected, rel=1e-5)
    certain = {
        "a": torch.tensor([[0.0, 0.0, 99.0], [99.0, 0.0, 0.0]]),
        "b": torch.tensor([[99.0, 0.0], [0.0, 99.0]]),
    }
    # A teacher that is sure of the labels adds nothing to them.
    assert task_loss(logits, labels, certain, 0.7).item() == pytest.approx(expected, rel=1e-5)


def test_the_literal_scheme_pays_for_noise() -> None:
    scale = torch.tensor([0.1, 0.4], requires_grad=True)
    term = noise_loss(scale, 0.2)
    assert term.item() == pytest.approx(-0.2 * (math.log(0.1) + math.log(0.4)) / 2, rel=1e-5)
    (slope,) = torch.autograd.grad(term, scale)
    assert (slope < 0).all(), "a step against the gradient must make the noise larger"


def test_feature_loss_is_the_error_over_the_spread_of_the_teacher() -> None:
    student, teacher = torch.randn(6, 5), torch.randn(6, 5)
    mean = [sum(row[f].item() for row in teacher) / 6 for f in range(5)]
    error = sum((student[i, f] - teacher[i, f]).item() ** 2 for i in range(6) for f in range(5)) / 30
    spread = sum((teacher[i, f].item() - mean[f]) ** 2 for i in range(6) for f in range(5)) / 30
    assert feature_loss(student, teacher).item() == pytest.approx(error / spread, rel=1e-5)
    assert torch.isfinite(feature_loss(student, torch.ones(6, 5)))


@pytest.mark.parametrize(
    ("values", "weight"),
    [
        ({"bits": 600}, 1.0),
        ({"bits": 8}, 0.0),
        ({"bits": 600, "beyond": 1}, 0.0),
        ({"bits": 8, "feature_weight": 0.5}, 0.5),
        ({"bits": 600, "feature_weight": 0}, 0.0),
        ({"max_drop": 2}, 0.0),
    ],
)
def test_features_are_followed_where_the_picture_passes(values: dict[str, Any], weight: float) -> None:
    assert TrainConfig(data="synthetic", keep=("smiling",), **values).feature_loss_weight == weight


def test_suppression_takes_the_strongest_adversary_and_stops_at_the_floor() -> None:
    labels = {"s": torch.tensor(LABELS)}
    weak, strong = torch.zeros(2, 3), torch.tensor(ANSWERS)
    bound = 1.05
    expected = max(0.0, bound - cross_entropy(ANSWERS, LABELS), bound - math.log(3)) ** 2
    value = suppression([{"s": weak}, {"s": strong}], labels, {"s": bound})["s"].item()
    assert value == pytest.approx(expected, rel=1e-4)
    assert suppression([{"s": strong}], labels, {"s": 0.0})["s"].item() == 0.0


def test_suppression_has_the_slope_of_its_formula_and_asks_no_weaker_adversary() -> None:
    """Backwards through an adversary costs as much as a step of its own, so it is done for one of them."""
    labels = {"s": torch.tensor([0, 1, 1, 0]), "t": torch.tensor([2, 0, 1, 2])}
    entropy = {"s": math.log(2), "t": math.log(3)}
    generator = torch.Generator().manual_seed(0)
    asked: list[int] = []

    def answers(number: int, upload: torch.Tensor) -> dict[str, torch.Tensor]:
        """Attribute s is known best by the last adversary, t by none beyond its floor."""
        upload.register_hook(lambda slope: asked.append(number))
        right = torch.nn.functional.one_hot(labels["s"], 2) * number
        return {
            "s": right + 0.1 * upload[:, :2],
            "t": -5.0 * torch.nn.functional.one_hot(labels["t"], 3) + upload,
        }

    upload = torch.rand(4, 3, generator=generator, requires_grad=True)
    copies = [upload * 1 for _ in range(3)]
    found = suppression([answers(n, one) for n, one in enumerate(copies)], labels, entropy)
    (slope,) = torch.autograd.grad(sum(found.values(), torch.zeros(())), upload)
    assert asked == [2]
    losses = [torch.nn.functional.cross_entropy(answers(n, upload)["s"], labels["s"]) for n in range(3)]
    expected = torch.stack([(entropy["s"] - loss).clamp(min=0) for loss in losses]).max() ** 2
    assert found["s"].item() == pytest.approx(expected.item())
    assert torch.allclose(slope, torch.autograd.grad(expected, upload)[0])
    assert found["t"].item() == 0
    assert not found["t"].requires_grad


@pytest.mark.parametrize("response", [0.02, 0.1])
@pytest.mark.parametrize("power", [0.5, 1.0])
def test_controller_reaches_its_goal_on_a_simple_plant(response: float, power: float) -> None:
    """Toy models whose rate settles at (c / beta)^power: a task loss of c / R, and the harder one of -c log R."""
    steps, rate = 2000, 3000.0
    controller = RateController(steps=steps, goal=5.0)
    for step in range(steps):
        beta = controller.update(rate, step)
        rate += response * ((0.03 / beta) ** power - rate)
    assert rate == pytest.approx(5.0, rel=0.1)


def test_controller_state_continues_exactly() -> None:
    rates = [1000 * 0.98**step for step in range(100)]
    whole = RateController(steps=100, goal=4.0)
    expected = [whole.update(rate, step) for step, rate in enumerate(rates)]
    part = RateController(steps=100, goal=4.0)
    for step in range(40):
        part.update(rates[step], step)
    resumed = RateController(steps=100, goal=1.0)
    resumed.load_state_dict(part.state_dict())
    assert [resumed.update(rates[step], step) for step in range(40, 100)] == expected[40:]


def test_goal_above_the_start_presses_on_nothing() -> None:
    controller = RateController(steps=100, goal=1e6)
    for step in range(100):
        controller.update(500.0, step)
    assert controller.slow < 0.01


def test_the_weight_has_a_limit_and_nothing_piles_up_behind_it() -> None:
    """A rate that does not move at all, and then falls to its goal."""
    controller = RateController(steps=1000, goal=5.0)
    weights = [1000.0 * controller.update(1000.0, step) for step in range(600)]
    assert max(weights[:401]) == pytest.approx(0.05)
    assert weights[-1] == pytest.approx(controller.limit(599))
    assert controller.slow < controller.limit(599) / 10
    for step in range(600, 610):
        weight = 5.0 * controller.update(5.0, step)
    assert weight == pytest.approx(controller.slow, rel=0.05)


def test_a_late_goal_is_reached_on_a_line_of_its_own() -> None:
    steps, start, goal, late = 1000, 500.0, 0.1, 0.01
    controller = RateController(steps=steps, goal=goal, late_goal=late, start=start)
    alone = RateController(steps=steps, goal=goal, start=start)
    assert [controller.allowed(step) for step in range(501)] == [alone.allowed(step) for step in range(501)]
    assert controller.allowed(650) == pytest.approx(math.sqrt(goal * late))
    assert [controller.allowed(step) for step in (800, 999)] == pytest.approx([late, late])
    rate = start
    for step in range(steps):
        beta = controller.update(rate, step)
        rate += 0.1 * (0.03 / beta - rate)
    assert rate == pytest.approx(late, rel=0.1)


def test_one_cycle_climbs_then_descends() -> None:
    rates = [one_cycle(step, 200, 3e-3) for step in range(201)]
    top = rates.index(max(rates))
    assert rates[:top] == sorted(rates[:top])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert rates[-1] == pytest.approx(0, abs=1e-12)


def test_best_epoch_within_a_rate_target() -> None:
    """An accurate epoch above the target loses to every epoch within it; among those accuracy decides."""
    epochs = [(0.99, 40.0), (0.90, 8.2), (0.92, 7.9), (0.91, 3.0)]
    scores = [score(a, b, Targets(bits=8)) for a, b in epochs]
    assert max(scores) == scores[2]
    assert not scores[0].met
    missed = [score(a, b, Targets(bits=1)) for a, b in epochs]
    assert max(missed) == missed[3], "if none meets the target, the nearest is kept"


def test_the_last_epoch_within_a_rate_target() -> None:
    """Of epochs within the target the later one is as good; outside it nothing changes. `keep_best` takes equal scores."""
    last = Selection(keep="last")
    epochs = [(0.99, 40.0), (0.92, 7.9), (0.90, 8.2), (0.95, 9.0)]
    scores = [score(a, b, Targets(bits=8), settings=last) for a, b in epochs]
    assert max(range(4), key=lambda epoch: (scores[epoch], epoch)) == 2
    missed = [score(a, b, Targets(bits=1), settings=last) for a, b in epochs]
    assert max(missed) == missed[1]
    assert missed == [score(a, b, Targets(bits=1)) for a, b in epochs]


def test_best_epoch_within_a_residual_target() -> None:
    """Accuracy decides among epochs within both targets; if there are none, the one that exceeds them least is kept."""
    epochs = [(0.99, 7.0, 9.0), (0.95, 8.0, 1.2), (0.96, 8.1, 1.0), (0.97, 12.0, 0.9)]
    scores = [score(a, b, Targets(bits=8, beyond=1), residual_bits=r) for a, b, r in epochs]
    assert max(scores) == scores[2]
    missed = [score(a, b, Targets(bits=8, beyond=1), residual_bits=4 * r) for a, b, r in epochs]
    assert max(missed) == missed[3]
    assert not any(one.met for one in missed)


def test_best_epoch_within_an_accuracy_drop() -> None:
    epochs = [(0.99, 40.0), (0.96, 9.0), (0.95, 6.0), (0.90, 2.0)]
    scores = [score(a, b, Targets(least_accuracy=0.95)) for a, b in epochs]
    assert max(scores) == scores[2]


def test_without_a_goal_the_last_epoch_is_kept() -> None:
    """The objective `literal` starts without noise: the most accurate epoch would be the one that protects nothing."""
    first, last = (score(a, b, Targets()) for a, b in [(0.99, 30_000.0), (0.86, 900.0)])
    assert last >= first


@pytest.mark.parametrize("lag", [2, 6, 12], ids="{} epochs".format)
def test_a_rate_that_follows_slowly_does_not_end_below_its_target(lag: int) -> None:
    """Validation's rate lies 12 % above training's, which comes 1 / lag nearer to its goal in an epoch."""
    rate, goal = 1500.0, 1000.0
    validated = []
    for _ in range(8 * lag):
        validated.append(1.12 * rate)
        goal = corrected_goal(1000.0, validated=validated[-1], trained=rate)
        rate *= (goal / rate) ** (1 / lag)
    assert min(validated) > 990
    assert validated[-1] < 1010
