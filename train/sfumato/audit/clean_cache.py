"""Networks trained on clean photos, kept from audit to audit: they depend on photos, labels and recipe, not on the artifact.

An entry is named by a digest of all of that, and lies in the user's cache folder beside the decoded pictures.

    entry = entry(data, ("race",), recipe)
    predictions = load(entry, network)          # None if there is none; else the network has its weights
    save(entry, network, predictions)
"""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import nn

from sfumato.audit.attack_data import AttackData
from sfumato.audit.attacks.fit import Recipe
from sfumato.audit.predictions import Prediction
from sfumato.audit.stored import from_plain, read_plain, to_plain
from sfumato.core.files import atomic_write
from sfumato.data.cache import cache_folder, trusted

VERSION = 1
"""Raised whenever attackers on clean photos are trained differently."""


def entry(data: AttackData, group: tuple[str, ...], recipe: Recipe) -> Path:
    """The file of one network."""
    digest = hashlib.sha256()
    settings = [VERSION, torch.__version__, data.seed, asdict(recipe), [(n, data.classes[n]) for n in group]]
    digest.update(json.dumps(settings, sort_keys=True).encode())
    for split in (data.train, data.validation, data.test):
        digest.update(str((split.pixels.shape, split.images)).encode())
        digest.update(np.ascontiguousarray(split.pixels).data)
        for name in group:
            digest.update(np.ascontiguousarray(split.labels[name]).data)
    return cache_folder() / "clean-attackers" / f"{digest.hexdigest()[:32]}.pt"


def load(path: Path, network: nn.Module) -> list[Prediction] | None:
    """Predictions of an entry, whose weights go into the network; None if there is no entry that can be read."""
    kept = read_plain(path) if trusted(path) else None  # what another user wrote decides no audit
    if kept is None:
        return None
    network.load_state_dict(kept["weights"])
    return [one for one in from_plain(kept["predictions"]) if isinstance(one, Prediction)]


def save(path: Path, network: nn.Module, predictions: list[Prediction]) -> None:
    """Keep a network and its predictions."""
    weights = {name: value.cpu() for name, value in network.state_dict().items()}
    with atomic_write(path) as scratch:
        torch.save({"weights": weights, "predictions": to_plain(predictions)}, scratch)
