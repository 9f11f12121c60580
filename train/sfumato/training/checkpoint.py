"""Checkpoints: safetensors and JSON, never a pickle, and always a whole one.

A checkpoint is a folder `checkpoint/NNNNNN/`; the file `checkpoint/latest` names the last one that is complete and is
replaced atomically, so a run killed at any moment resumes from the checkpoint before.

    save(folder, 12, modules={"pair": pair}, optimizers={"pair": optimizer}, state={"weight": 0.1})
    state = load(folder, modules={"pair": pair}, optimizers={"pair": optimizer})
"""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from sfumato.core.errors import SfumatoError
from sfumato.core.files import atomic_folder, atomic_write, read_json, write_json


def save_module(module: nn.Module, path: Path) -> None:
    """Write the weights of a module as safetensors, atomically."""
    weights = {name: value.detach().cpu().contiguous().clone() for name, value in module.state_dict().items()}
    with atomic_write(path) as scratch:
        save_file(weights, scratch)


def load_module(module: nn.Module, path: Path) -> None:
    """Read weights written by `save_module`.

    Raises:
        SfumatoError: the file is missing, damaged, or belongs to another architecture.
    """
    try:
        weights = load_file(path)
    except FileNotFoundError:
        raise SfumatoError(f"{path} is missing: is {path.parent} a finished run?") from None
    except Exception as error:  # of safetensors' own type
        raise SfumatoError(f"{path} cannot be read ({str(error).splitlines()[0]})") from None
    try:
        module.load_state_dict(weights)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip().rstrip(".")
        raise SfumatoError(
            f"{path} does not fit this network ({reason}): another version of sfumato or other settings made it"
        ) from None


def _flatten(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    state = optimizer.state_dict()["state"]
    return {
        f"{index}.{name}": torch.as_tensor(value).detach().cpu().contiguous().clone()
        for index, slots in state.items()
        for name, value in slots.items()
    }


def _restore(optimizer: torch.optim.Optimizer, flat: Mapping[str, Tensor]) -> None:
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    slots: dict[int, dict[str, Tensor]] = {}
    for key, value in flat.items():
        index, name = key.split(".", 1)
        weight = weights[int(index)]
        # Fused steps go through memory, not through indices: a moment has to lie there as its weight does, channels last.
        laid_out = torch.empty_like(weight).copy_(value) if value.shape == weight.shape else value
        slots.setdefault(int(index), {})[name] = laid_out.detach()
    optimizer.load_state_dict({"state": slots, "param_groups": optimizer.state_dict()["param_groups"]})


def save(
    folder: Path,
    number: int,
    *,
    modules: Mapping[str, nn.Module],
    optimizers: Mapping[str, torch.optim.Optimizer],
    state: Mapping[str, Any],
) -> None:
    """Write checkpoint `number` and make it the latest; older ones are removed."""
    with atomic_folder(folder / f"{number:06d}") as scratch:
        for name, module in modules.items():
            save_module(module, scratch / f"{name}.safetensors")
        for name, optimizer in optimizers.items():
            save_file(_flatten(optimizer), scratch / f"{name}.optimizer.safetensors")
        write_json(scratch / "state.json", dict(state))
    with atomic_write(folder / "latest") as scratch:
        scratch.write_text(f"{number:06d}\n", encoding="utf-8")
    for old in folder.iterdir():
        if old.is_dir() and old.name != f"{number:06d}":
            shutil.rmtree(old, ignore_errors=True)


def exists(folder: Path) -> bool:
    """Whether a complete checkpoint is there."""
    return (folder / "latest").exists()


def load(
    folder: Path, *, modules: Mapping[str, nn.Module], optimizers: Mapping[str, torch.optim.Optimizer]
) -> dict[str, Any]:
    """Load the latest checkpoint into modules and optimizers and return its state."""
    latest = folder / (folder / "latest").read_text(encoding="utf-8").strip()
    for name, module in modules.items():
        load_module(module, latest / f"{name}.safetensors")
    for name, optimizer in optimizers.items():
        _restore(optimizer, load_file(latest / f"{name}.optimizer.safetensors"))
    state: dict[str, Any] = read_json(latest / "state.json")
    return state
