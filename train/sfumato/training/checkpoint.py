"""Checkpoints: safetensors and JSON, never a pickle, and always a whole one.

A checkpoint is a folder `checkpoint/NNNNNN/` of one file of tensors and one of everything else. The file `checkpoint/latest`
names the last complete one and is replaced atomically, so a run killed at any moment resumes from the checkpoint before.
Every file of tensors holds their SHA-256, and `latest` that of the other file: a bit that a disk has turned is noticed.

    save(folder, 12, {"model": model.state_dict(), "optimizer": optimizer_state(optimizer), "epoch": 12})
    state = load(folder)
"""

import hashlib
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from sfumato.core.console import note
from sfumato.core.errors import SfumatoError, first_line
from sfumato.core.files import (
    atomic_folder,
    atomic_write,
    read_bytes,
    read_object,
    require_file,
    sha256,
    write_json,
)

SCHEMA = "sfumato-checkpoint/2"
TENSORS, STATE = "tensors.safetensors", "state.json"
TENSOR = "tensor"
"""In `state.json` the only key of what stands for a tensor; its value is the tensor's name in `TENSORS`."""


DIGEST = "sha256"
"""Key in the file of tensors under which it names itself."""


def digest_of(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, types, shapes and values, in the order of the names; in hexadecimal."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name].contiguous()
        digest.update(f"{name}\0{value.dtype} {tuple(value.shape)}\0".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _write(tensors: dict[str, Tensor], path: Path) -> None:
    # Not save_file: its errors are of another type than the system's.
    path.write_bytes(to_bytes(tensors, metadata={DIGEST: digest_of(tensors)}))


def save_module(module: nn.Module, path: Path) -> None:
    """Write the weights of a module as safetensors, atomically."""
    weights = {name: value.detach().cpu().contiguous().clone() for name, value in module.state_dict().items()}
    with atomic_write(path) as scratch:
        _write(weights, scratch)


def _read(path: Path) -> dict[str, Tensor]:
    require_file(path, f"is {path.parent} a finished run?")
    try:
        with safe_open(path, framework="pt") as stream:
            tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
            named = (stream.metadata() or {}).get(DIGEST)
    except Exception as error:  # of safetensors' own type
        raise SfumatoError(f"{path} cannot be read ({first_line(error)})") from None
    if named is None:
        note(f"{path} was written before tensors had a sha256: damage to it cannot be noticed")
    elif named != digest_of(tensors):
        raise SfumatoError(
            f"{path} is damaged (its sha256 differs): put a whole copy there, or make it again"
        )
    return tensors


def load_module(module: nn.Module, path: Path) -> None:
    """Read weights written by `save_module`.

    Raises:
        SfumatoError: the file is missing, damaged, belongs to another architecture, or holds NaN or infinite weights.
    """
    weights = _read(path)
    for name, value in weights.items():
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise SfumatoError(f"{path}: {name} holds NaN or infinite weights: train again, or export again")
    try:
        module.load_state_dict(weights)
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
            if value.shape != weight.shape and value.numel() != 1:
                raise ValueError(f"moment {name} of weight {index} has the shape {tuple(value.shape)}")
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
        _write(tensors, scratch / TENSORS)
        write_json(scratch / STATE, {"schema": SCHEMA, "state": rest})
    with atomic_write(folder / "latest") as scratch:
        scratch.write_text(f"{number:06d} {sha256(folder / f'{number:06d}' / STATE)}\n", encoding="utf-8")
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
    words = read_bytes(folder / "latest", largest=2**10).decode("utf-8", "replace").split()
    if len(words) not in (1, 2) or not words[0].isdecimal():
        raise SfumatoError(f"{folder / 'latest'} is damaged: remove {folder}, and its stage begins again")
    latest = folder / words[0]
    if len(words) == 1:
        note(f"{latest} was written before checkpoints had a sha256: damage to {STATE} cannot be noticed")
    elif sha256(latest / STATE) != words[1]:
        raise SfumatoError(
            f"{latest / STATE} is damaged (its sha256 differs): remove {folder}, and its stage begins again"
        )
    content = read_object(latest / STATE)
    if content.get("schema") != SCHEMA:
        raise SfumatoError(
            f"{latest} was written by another version of sfumato: finish the run with that one, or start it again"
        )
    with _restoring(folder):
        state: dict[str, Any] = _join(content["state"], _read(latest / TENSORS))
    return state


@contextmanager
def restored(folder: Path) -> Iterator[dict[str, Any]]:
    """`load`, for a block that takes the state over: what it cannot take is one line.

    Raises:
        SfumatoError: as `load`, or the state is not one of this run.
    """
    state = load(folder)
    with _restoring(folder):
        if type(state["epoch"]) is not int or not 0 <= state["epoch"] < 10**9:
            raise ValueError(f"epoch {state['epoch']!r}")
        yield state


@contextmanager
def _restoring(folder: Path) -> Iterator[None]:
    try:
        yield
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise SfumatoError(
            f"{folder} holds no checkpoint of this run ({type(error).__name__}: {first_line(error)}): "
            "remove it, and its stage begins again"
        ) from None
