"""Windows that open where the clean network knows the answer, on pictures where this is known."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from tests.fixtures.team import train_together
from tests.training.test_gating import ASKED, OTHER, coloured, configuration, squares
from torch import Tensor, nn

from sfumato.channels.dither import BLOCK, over_pixels
from sfumato.core.errors import UsageError
from sfumato.data import Dataset, Split
from sfumato.models.tensors import to_tensor
from sfumato.training import windows
from sfumato.training.clean import train_clean, training_batches
from sfumato.training.config import make_config
from sfumato.training.loader import Batches
from sfumato.training.log import read_records
from sfumato.training.runner import train
from sfumato.training.trainer import first_model
from sfumato.training.windows import (
    learn_windows,
    window_loss,
    window_masks,
    window_values,
    with_other_surroundings,
)

__all__ = ["squares"]


def test_masks_show_one_square_each() -> None:
    masks = window_masks(3, 4, 2)
    assert masks.shape == (6, 1, 3, 4)
    for number, mask in enumerate(masks):
        top, left = number // 3, number % 3
        for y in range(3):
            for x in range(4):
                assert mask[0, y, x] == (top <= y < top + 2 and left <= x < left + 2)


class TwoHeads(nn.Module):
    """Judges `kind` by the mean of red and green, `other` by that of blue; (B, 3, H, W) -> logits."""

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        red, green, blue = x.mean((2, 3)).unbind(1)
        return {"kind": torch.stack([9 * red, 7 * green], 1), "other": torch.stack([5 * blue, red], 1)}


@pytest.mark.parametrize("attributes", [("kind",), ("kind", "other")])
def test_values_equal_a_loop(squares: tuple[Dataset, str], attributes: tuple[str, ...]) -> None:
    dataset, _ = squares
    masks, clean = window_masks(4, 4, 2), TwoHeads()
    asked: list[int] = []
    batches = Batches(dataset, Split.VALIDATION, attributes, size=16)
    chosen, values = window_values(clean, batches, masks, 3, 7, asked.append)
    rows = dataset.splits[Split.VALIDATION]
    assert chosen.shape == values.shape == (len(rows), 3)
    assert sum(asked) == 3 * len(rows)
    assert set(chosen.flatten().tolist()) == set(range(9))
    for place, row in enumerate(rows.tolist()):
        photo = to_tensor(np.array(dataset.images[[row]]))
        for window, value in zip(chosen[place].tolist(), values[place].tolist(), strict=True):
            shown = torch.zeros_like(photo)
            top, left = BLOCK * (window // 3), BLOCK * (window % 3)
            there = (..., slice(top, top + 2 * BLOCK), slice(left, left + 2 * BLOCK))
            shown[there] = photo[there]
            expected = 1.0
            for name in attributes:
                expected *= clean(shown)[name].softmax(1)[0, int(dataset.labels[name][row])].item()
            assert value == pytest.approx(expected, abs=1e-6)


def test_the_loss_is_least_where_scores_say_the_values() -> None:
    chosen = torch.tensor([[0, 3], [5, 5]])
    values = torch.tensor([[0.2, 0.9], [0.5, 0.5]])
    scores = torch.randn(2, 1, 2, 3, generator=torch.Generator().manual_seed(1))
    expected = 0.0
    for image in range(2):
        for window, value in zip(chosen[image].tolist(), values[image].tolist(), strict=True):
            p = scores[image].flatten()[window].sigmoid().item()
            expected -= (value * np.log(p) + (1 - value) * np.log(1 - p)) / 4
    assert window_loss(scores, chosen, values).item() == pytest.approx(expected, rel=1e-5)
    best = torch.zeros(2, 6).scatter(1, chosen, values.logit()).view(2, 1, 2, 3)
    assert window_loss(best, chosen, values) < window_loss(best + 0.1, chosen, values)
    assert window_loss(best, chosen, values) < window_loss(best - 0.1, chosen, values)


def test_another_photo_is_around_the_window() -> None:
    images = torch.rand(3, 3, 2 * BLOCK, 3 * BLOCK, generator=torch.Generator().manual_seed(2))
    masks = window_masks(2, 3, 1)[[4, 0, 5]]
    masks[2] = 1  # this photo keeps its own
    mixed = with_other_surroundings(images, over_pixels(masks))
    for image, (top, left) in enumerate([(1, 1), (0, 0)]):
        for y in range(2 * BLOCK):
            for x in range(3 * BLOCK):
                inside = y // BLOCK == top and x // BLOCK == left
                assert torch.equal(mixed[image, :, y, x], images[image if inside else image + 1, :, y, x])
    assert torch.equal(mixed[2], images[2])


def test_the_window_opens_on_what_is_asked_for(squares: tuple[Dataset, str], tmp_path: Path) -> None:
    """Nobody says that blue and yellow are to be left alone; they have no value for the question."""
    dataset, spec = squares
    config = configuration(
        spec,
        cloud="tests.training.test_gating:small_cloud",
        decision="none",
        clean_epochs=20,
        learning_rate=5e-3,
        augmentation={"shift": 0, "turn": 0, "scale": 0},
        gating={"epochs": 30, "window": 1},
    )
    fabric = Fabric(accelerator="cpu", devices=1)
    fabric.launch()
    clean = train_clean(config, dataset, fabric, None)
    model = first_model(config, dataset, clean, tmp_path)
    cloud = {name: value.clone() for name, value in model.cloud.state_dict().items()}
    learn_windows(model, clean, training_batches(config, dataset, fabric), config, fabric, None)
    assert all(torch.equal(value, cloud[name]) for name, value in model.cloud.state_dict().items())
    model.eval()
    rows = dataset.splits[Split.TEST]
    images = np.array(dataset.images[rows])
    with torch.no_grad():
        opened = model.local.gate_odds(to_tensor(images)) > 0
    found = opened.flatten(1).numpy()
    assert found.sum(1).mean() < 1.2, "one block, or two that look alike"
    asked, other = (
        found[np.arange(len(rows)), coloured(images, colours)].mean() for colours in (ASKED, OTHER)
    )
    assert asked > 0.85  # .9 and a little less, by the processor
    assert other < 0.1


def test_swapped_photos_learn_from_the_window_that_was_kept(
    squares: tuple[Dataset, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset, spec = squares
    known: list[tuple[Tensor, Tensor]] = []
    shown: list[Tensor] = []
    taught: list[tuple[Tensor, Tensor]] = []

    def remembered(*arguments: Any) -> tuple[Tensor, Tensor]:
        known.append(window_values(*arguments))
        return known[0]

    def mixed_with(images: Tensor, kept: Tensor) -> Tensor:
        shown.append(kept)
        return with_other_surroundings(images, kept)

    def looked_at(scores: Tensor, chosen: Tensor, values: Tensor) -> Tensor:
        taught.append((chosen, values))
        return window_loss(scores, chosen, values)

    monkeypatch.setattr(windows, "window_values", remembered)
    monkeypatch.setattr(windows, "with_other_surroundings", mixed_with)
    monkeypatch.setattr(windows, "window_loss", looked_at)
    gating = {"epochs": 1, "window": 2, "swap": 0.5}
    config = configuration(spec, decision="none", clean_epochs=1, gating=gating)
    fabric = Fabric(accelerator="cpu", devices=1)
    fabric.launch()
    clean = train_clean(config, dataset, fabric, None)
    model = first_model(config, dataset, clean, tmp_path)
    learn_windows(model, clean, training_batches(config, dataset, fabric), config, fabric, None)
    pairs = {tuple(zip(row.tolist(), one.tolist(), strict=True)) for row, one in zip(*known[0], strict=True)}
    rows = [
        tuple(zip(row.tolist(), one.tolist(), strict=True))
        for chosen, values in taught
        for row, one in zip(chosen, values, strict=True)
    ]
    whole = [row for row in rows if row in pairs]
    mixed = [row for row in rows if row not in pairs]
    assert 0.3 < len(mixed) / len(rows) < 0.7
    assert whole
    of_photos = {pair for photo in pairs for pair in photo}
    assert all(len(set(row)) == 1 and row[0] in of_photos for row in mixed)
    masks = over_pixels(window_masks(4, 4, 2))
    for row, kept in zip(rows, torch.cat(shown), strict=True):
        assert torch.equal(kept, torch.ones_like(kept) if row in pairs else masks[row[0][0]])


def test_co_training_changes_how_blocks_are_drawn_and_not_which(
    squares: tuple[Dataset, str], tmp_path: Path
) -> None:
    runs = []
    for epochs in (1, 2):
        config = configuration(
            squares[1], decision="none", epochs=epochs, clean_epochs=1, gating={"epochs": 2, "window": 2}
        )
        runs.append(train(config, tmp_path / str(epochs)).local.state_dict())
    records = read_records(tmp_path / "2" / "metrics.jsonl")
    assert [one["stage"] for one in records] == ["clean", "gates", "gates", "cotrain", "cotrain"]
    assert all(one["window_loss"] > 0 for one in records if one["stage"] == "gates")
    same = {name.split(".")[0] for name in runs[0] if torch.equal(runs[0][name], runs[1][name])}
    moved = {name.split(".")[0] for name in runs[0] if not torch.equal(runs[0][name], runs[1][name])}
    assert {"encoder", "spread", "gates"} <= same
    assert moved == {"up", "heads"}


def test_two_processes_learn_windows(squares: tuple[Dataset, str], tmp_path: Path) -> None:
    config = configuration(
        squares[1], decision="none", clean_epochs=1, bits=40_000, gating={"epochs": 2, "window": 2}
    )
    run = train_together(config, tmp_path / "two")
    with torch.no_grad():
        opened = run.local.gate_odds(to_tensor(np.array(squares[0].images[:50]))) > 0
    assert opened.flatten(1).sum(1).min() >= 4


def test_bad_windows_are_refused(squares: tuple[Dataset, str], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="region and window"):
        make_config(
            {"data": squares[1], "keep": ["kind"], "gates": True, "gating": {"region": 3, "window": 3}}
        )
    for name in ("region", "window"):
        with pytest.raises(UsageError, match=f"gating.{name} belongs to gates"):
            make_config({"data": squares[1], "keep": ["kind"], "gating": {name: 3}})
    config = configuration(squares[1], gating={"window": 5})
    with pytest.raises(UsageError, match="room for 4"):
        train(config, tmp_path / "large")
