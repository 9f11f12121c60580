"""What the cache of networks on clean photos keeps, and what leaves it."""

import os
from pathlib import Path

import pytest
import torch
from torch import nn

from sfumato.audit import clean_cache
from sfumato.audit.attacks.fit import Recipe
from sfumato.audit.clean_cache import Kept, load, save

RECIPE = Recipe(attack="probe", architecture="linear", lr=1e-3, epochs=1, patience=1, batch_size=8)


def start(recipe: Recipe) -> nn.Module:
    return nn.Linear(30, 30)


def keep(folder: Path, name: str, age: int) -> Path:
    """An entry that was used so many hours ago."""
    path = folder / f"{name}.pt"
    save(path, Kept(RECIPE, start(RECIPE), []), [RECIPE])
    hours(path, age)
    return path


def hours(path: Path, age: int) -> None:
    when = 1_700_000_000 - 3600 * age
    os.utime(path, (when, when))


def test_what_was_used_longest_ago_leaves_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is room for three: the one that was just read stays, though it was written first."""
    paths = [keep(tmp_path, name, age) for name, age in (("a", 9), ("b", 5), ("c", 7))]
    written = torch.load(paths[0], weights_only=True)["weights"]["weight"]
    kept = load(paths[0], start, [RECIPE])
    assert kept is not None
    assert torch.equal(kept.network.state_dict()["weight"], written)
    monkeypatch.setattr(clean_cache, "LIMIT", 3 * paths[0].stat().st_size + 1)
    assert all(path.exists() for path in paths)
    keep(tmp_path, "d", 1)
    assert sorted(path.name for path in tmp_path.glob("*.pt")) == ["a.pt", "b.pt", "d.pt"]
    assert load(paths[2], start, [RECIPE]) is None


def test_other_files_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "notes.txt").write_bytes(bytes(10_000))
    monkeypatch.setattr(clean_cache, "LIMIT", 0)
    save(tmp_path / "a.pt", Kept(RECIPE, start(RECIPE), []), [RECIPE])
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
