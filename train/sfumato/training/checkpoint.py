"""Checkpoints: safetensors and JSON, never a pickle, and always a whole one.

A checkpoint is a folder `checkpoint/NNNNNN/` of one file of tensors and one of everything else. The file `checkpoint/latest`
names the last complete one and is replaced atomically, so a run killed at any moment resumes from the checkpoint before.

    save(folder, 12, {"model": model.state_dict(), "optimizer": optimizer_state(optimizer), "epoch": 12})
    state = load(folder)
"""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from sfumato.core.errors import SfumatoError, first_line
from sfumato.core.files import atomic_folder, atomic_write, read_json, write_json

SCHEMA = "sfumato-checkpoint/2"
TENSORS = "tensors.safetensors"
RESTART = "begin the run anew with --overwrite"
TENSOR = "tensor"
"""In `state.json` the only key of what stands for a tensor; its value is the tensor's name in `TENSORS`."""


def save_module(module: nn.Module, path: Path) -> None:
    """Write the weights of a module as safetensors, atomically."""
    weights = {name: value.detach().cpu().contiguous().clone() for name, value in module.state_dict().items()}
    with atomic_write(path) as scratch:
        scratch.write_bytes(
            safetensors.torch.save(weights)
        )  # safetensors' own writing has errors of another type


def _read(path: Path) -> dict[str, Tensor]:
    try:
        return safetensors.torch.load_file(path)
    except FileNotFoundError:
        raise SfumatoError(f"{path} is missing: is {path.parent} a finished run?") from None
    except Exception as error:  # of safetensors' own type
        raise SfumatoError(f"{path} cannot be read ({str(error).splitlines()[0]})") from None


def load_module(module: nn.Module, path: Path) -> None:
    """Read weights written by `save_module`.

    Raises:
        SfumatoError: the file is missing, damaged, or belongs to another architecture.
    """
    try:
        module.load_state_dict(_read(path))
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip().rstrip(".")
        raise SfumatoError(
            f"{path} does not fit this network ({reason}): another version of sfumato or other settings made it"
        ) from None


def optimizer_state(optimizer: torch.optim.Optimizer) -> dict[str, dict[str, Tensor]]:
    """The moments of every weight, by the weight's number; nothing else of an optimiser changes but its learning rate."""
    slots = optimizer.state_dict()["state"]
    return {
        str(index): {name: torch.as_tensor(value) for name, value in of_weight.items()}
        for index, of_weight in slots.items()
    }


def load_optimizer_state(optimizer: torch.optim.Optimizer, state: Mapping[str, Mapping[str, Tensor]]) -> None:
    """Give an optimiser the moments that `optimizer_state` returned."""
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    slots: dict[int, dict[str, Tensor]] = {}
    for index, of_weight in state.items():
        weight = weights[int(index)]
        for name, value in of_weight.items():
            # Fused steps go through memory, not through indices: a moment has to lie there as its weight does, channels last.
            laid_out = torch.empty_like(weight).copy_(value) if value.shape == weight.shape else value
            slots.setdefault(int(index), {})[name] = laid_out.detach()
    optimizer.load_state_dict({"state": slots, "param_groups": optimizer.state_dict()["param_groups"]})


def _split(value: Any, path: tuple[str, ...], tensors: dict[str, Tensor]) -> Any:
    """`value` as JSON, its tensors moved into `tensors` and named by where they were."""
    if isinstance(value, Tensor):
        key = "/".join(path)
        tensors[key] = value.detach().cpu().contiguous().clone()
        return {TENSOR: key}
    if isinstance(value, Mapping):
        return {str(key): _split(part, (*path, str(key)), tensors) for key, part in value.items()}
    return value


def _join(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    """The reverse of `_split`."""
    if isinstance(value, dict):
        if set(value) == {TENSOR}:
            return tensors[value[TENSOR]]
        return {key: _join(part, tensors) for key, part in value.items()}
    return value


def save(folder: Path, number: int, state: Mapping[str, Any]) -> None:
    """Write checkpoint `number` and make it the latest; older ones are removed.

    Args:
        folder: of the checkpoints.
        number: of this one.
        state: dictionaries of tensors, of what JSON holds, and of further such dictionaries.
    """
    tensors: dict[str, Tensor] = {}
    rest = _split(state, (), tensors)
    with atomic_folder(folder / f"{number:06d}") as scratch:
        (scratch / TENSORS).write_bytes(safetensors.torch.save(tensors))
        write_json(scratch / "state.json", {"schema": SCHEMA, "state": rest})
    with atomic_write(folder / "latest") as scratch:
        scratch.write_text(f"{number:06d}\n", encoding="utf-8")
    for old in folder.iterdir():
        if old.is_dir() and old.name != f"{number:06d}":
            shutil.rmtree(old, ignore_errors=True)


def exists(folder: Path) -> bool:
    """Whether a complete checkpoint is there."""
    return (folder / "latest").exists()


def load(folder: Path) -> dict[str, Any]:
    """The state of the latest checkpoint, as `save` was given it.

    Raises:
        SfumatoError: a file is missing or damaged, or another version of sfumato wrote it.
    """
    name = (folder / "latest").read_text(encoding="utf-8", errors="replace").strip()
    if not name.isascii() or not name.isdigit():
        raise SfumatoError(f"{folder / 'latest'} is damaged: {RESTART}")
    latest = folder / name
    content = read_json(latest / "state.json")
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        raise SfumatoError(
            f"{latest} was written by another version of sfumato: finish the run with that one, or start it again"
        )
    with restoring(latest):
        state: dict[str, Any] = _join(content["state"], _read(latest / TENSORS))
        return state


@contextmanager
def restoring(folder: Path) -> Iterator[None]:
    """What is taken out of a checkpoint may be missing or not fit, where a file of it was changed or cut.

    Raises:
        SfumatoError: instead of whatever that leads to.
    """
    try:
        yield
    except SfumatoError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise SfumatoError(f"{folder} is damaged ({first_line(error)}): {RESTART}") from error
