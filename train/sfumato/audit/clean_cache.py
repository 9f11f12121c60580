"""Networks trained on clean photos, kept from audit to audit: they depend on photos, labels and recipe, not on the artifact.

An entry is named by a digest of all of that, and lies in the user's cache folder beside the decoded pictures. All of them take
`LIMIT` bytes at most; those that were used longest ago leave first.

    path = entry(data, ("race",), [recipe])
    kept = load(path, start, [recipe])          # None if there is none; else the network has its weights
    save(path, kept, [recipe])
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from sfumato.audit.attack_data import BATCH, AttackData
from sfumato.audit.attacks.fit import Recipe
from sfumato.audit.predictions import Prediction
from sfumato.audit.stored import from_plain, read_plain, to_plain, write_plain
from sfumato.data.cache import cache_folder, trusted

VERSION = 4
"""Raised whenever attackers on clean photos are trained differently."""


LIMIT = 2 * 10**9
"""Bytes that all entries may take. One of the built-in networks takes about a megabyte, EfficientNet-Lite0 fourteen."""


@dataclass(frozen=True)
class Kept:
    """A network that was trained to the end, and what it and those that competed with it predict."""

    recipe: Recipe
    network: nn.Module
    predictions: list[Prediction]


def entry(data: AttackData, group: tuple[str, ...], recipes: Sequence[Recipe], rounds: int = 1) -> Path:
    """The file of one network, or of the best of several that competed in some rounds."""
    digest = hashlib.sha256()
    classes, how = [(n, data.classes[n]) for n in group], [asdict(recipe) for recipe in recipes]
    settings = [VERSION, torch.__version__, data.seed, how, rounds, classes]
    digest.update(json.dumps(settings, sort_keys=True).encode())
    for split in (data.train, data.validation, data.test):
        digest.update(str((split.pixels.shape, split.images)).encode())
        for start in range(0, len(split.pixels), BATCH):
            digest.update(np.ascontiguousarray(split.pixels[start : start + BATCH]).data)
        for name in group:
            digest.update(np.ascontiguousarray(split.labels[name]).data)
    return cache_folder() / "clean-attackers" / f"{digest.hexdigest()[:32]}.pt"


def load(path: Path, start: Callable[[Recipe], nn.Module], recipes: Sequence[Recipe]) -> Kept | None:
    """An entry, whose weights go into a network that `start` makes; None if there is no entry that can be read."""
    found = read_plain(path) if trusted(path) else None  # what another user wrote decides no audit
    if found is None:
        return None
    with suppress(OSError):  # another audit may just have removed it; what was read is whole
        path.touch()
    recipe = recipes[found["recipe"]]
    network = start(recipe)
    network.load_state_dict(found["weights"])
    return Kept(
        recipe, network, [one for one in from_plain(found["predictions"]) if isinstance(one, Prediction)]
    )


def save(path: Path, kept: Kept, recipes: Sequence[Recipe]) -> None:
    """Keep a network and the predictions, and remove what was used longest ago where there is too much."""
    weights = {name: value.cpu() for name, value in kept.network.state_dict().items()}
    plain = {
        "recipe": list(recipes).index(kept.recipe),
        "weights": weights,
        "predictions": to_plain(kept.predictions),
    }
    write_plain(path, plain)
    _make_room(path.parent, LIMIT)


def _make_room(folder: Path, limit: int) -> None:
    entries = []
    for path in folder.glob("*.pt"):
        with suppress(OSError):  # another audit has just removed it
            found = path.stat()
            entries.append((found.st_mtime_ns, found.st_size, path))
    total = 0
    for _, size, path in sorted(entries, reverse=True):  # the last used first
        total += size
        if total > limit:
            with suppress(OSError):
                path.unlink()
