"""The store of clean references: networks that learned from clean photos, kept from audit to audit.

They are the scale of NAG and depend on photos, labels, recipe and what they start from, not on uploads. So audits and
`sfumato compare` share them: attackers from scratch, and copies of a cloud network, by the weights that those start from.

An entry is named by a digest of everything that decides its bits (`key`, docs/decisions/0044-clean-references.md). It holds the
scores of clean validation and test images and the network's weights, since the network is also tried on uploads; no photos. It
lies in the user's cache folder beside the decoded pictures. All entries take `$SFUMATO_REFERENCES_GB` at most, by default 2;
those that were used longest ago leave first. 0, or `switched_off`, reads and keeps none.

    kept = clean_reference(data, ("race",), [recipe], 1, start, train)     # from the store, else what `train` makes
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from sfumato.audit.attack_data import AttackData, AttackSplit
from sfumato.audit.predictions import Prediction
from sfumato.audit.stored import from_plain, read_plain, to_plain, write_plain
from sfumato.core.console import note
from sfumato.core.errors import UsageError
from sfumato.core.failures import WriteError
from sfumato.core.files import sweep
from sfumato.data.cache import cache_folder, trusted
from sfumato.models.tensors import evaluating

if TYPE_CHECKING:  # the attacks import this module
    from sfumato.audit.attacks.fit import Recipe

VERSION = 5
"""Raised whenever networks on clean photos are trained, augmented or scored differently: `attacks.clean`, `attacks.fit`,
`attacks.tournament`, `Photos`. What a network is before training needs no number, for the key holds it."""
FOLDER = "clean-attackers"
LIMIT_GB = 2.0
"""Gigabytes (10^9 bytes) that all entries may take, where `$SFUMATO_REFERENCES_GB` says nothing else. One of the built-in
networks takes about a megabyte, EfficientNet-Lite0 fourteen."""
TRIED = 8
"""Photos that say how a network computes."""

Start = Callable[[AttackData, tuple[str, ...], "Recipe"], nn.Module]
"""Makes a network for a group of attributes, before any training on clean photos."""

_off: ContextVar[bool] = ContextVar("clean references are switched off", default=False)


@dataclass(frozen=True)
class Kept:
    """A network that was trained to the end, and what it and those that competed with it predict."""

    recipe: "Recipe"
    network: nn.Module
    predictions: list[Prediction]


@contextmanager
def switched_off(off: bool = True) -> Iterator[None]:
    """Neither read nor keep clean references in the block, unless `off` is False."""
    token = _off.set(off or _off.get())
    try:
        yield
    finally:
        _off.reset(token)


def in_use() -> bool:
    """Whether clean references are read and kept here."""
    return not _off.get() and limit() > 0


def limit() -> int:
    """Bytes that clean references may take; 0: none are read or kept.

    Raises:
        UsageError: `$SFUMATO_REFERENCES_GB` is no number from 0 on.
    """
    given = os.environ.get("SFUMATO_REFERENCES_GB", "").strip()
    try:
        found = float(given) if given else LIMIT_GB
    except ValueError:
        found = -1.0
    if not 0 <= found < float("inf"):
        raise UsageError(
            f"SFUMATO_REFERENCES_GB is {given!r}: give the gigabytes of clean references to keep, 0 for none"
        )
    return int(found * 1e9)


def folder() -> Path:
    """Where the entries are."""
    return cache_folder() / FOLDER


def clean_reference(
    data: AttackData,
    group: tuple[str, ...],
    recipes: "Sequence[Recipe]",
    rounds: int,
    start: Start,
    train: Callable[[], Kept],
) -> Kept:
    """What is in the store, or what is trained now and kept there.

    Args:
        data: of the attackers; `data.from_store` learns what was found.
        group: the attributes that the network is about.
        recipes: of one network, or of several that compete in some rounds.
        rounds: of the tournament, 1 for a single network.
        start: makes the network of a recipe as it is before training.
        train: does the work.

    Raises:
        UsageError: as `limit`.
    """
    bound = limit()
    if _off.get() or not bound:
        return train()
    digest = key(data, group, recipes, rounds, start)
    path = folder() / f"{digest[:32]}.pt"
    what = f"clean {', '.join(recipe.architecture for recipe in recipes)} on {', '.join(group)}"
    if os.path.lexists(path):
        kept = load(path, digest, data, group, recipes, start)
        if kept is not None:
            with suppress(OSError):  # another audit may just have removed it; what was read is whole
                path.touch()
            note(f"{what}: from the store of clean references, not trained again")
            data.from_store.append(what)
            return kept
        note(f"{what}: {path} is damaged or not yours alone, so it is trained again")
    kept = train()
    problem = save(path, digest, kept, data, group, recipes, start, bound)
    if problem:
        note(f"{what}: not kept for the next audit, {problem}")
    return kept


def key(
    data: AttackData, group: tuple[str, ...], recipes: "Sequence[Recipe]", rounds: int, start: Start
) -> str:
    """Hex digest over everything that decides a bit of the result: data, splits, plan, seed, fold, start and arithmetic.

    Splits and folds are told by the photos and labels themselves, in their order, so no name of a data set is trusted.
    """
    settings = {
        "version": VERSION,
        "arithmetic": arithmetic(data),
        "seed": data.seed,
        "size": data.size,
        "classes": [(name, data.classes[name]) for name in group],
        "recipes": [asdict(recipe) for recipe in recipes],
        "rounds": rounds,
    }
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    digest.update(data.photos_digest)
    for split in (data.train, data.validation, data.test):
        for name in group:
            digest.update(hashlib.sha256(np.ascontiguousarray(split.labels[name]).data).digest())
    with torch.random.fork_rng():
        for recipe in recipes:
            digest.update(start_digest(start(data, group, recipe), data.validation))
    return digest.hexdigest()


def arithmetic(data: AttackData) -> list[Any]:
    """What decides the last digits of a sum on this machine; sums in another order are other networks after some steps."""
    cuda = data.device.type == "cuda"
    return [
        torch.__version__,
        torch.backends.cpu.get_cpu_capability(),
        torch.get_num_threads(),
        torch.get_float32_matmul_precision(),
        str(data.device.type),
        torch.cuda.get_device_name(data.device) if cuda else "",
        data.generator("").device.type,
    ]


def start_digest(network: nn.Module, split: AttackSplit) -> bytes:
    """A digest of a network before training, which is used up: its weights, and what it computes.

    A network of the user's own may compute something else from the same weights, in training as well. So its answers and
    gradients for a few photos count, on the CPU, where they are the same each time.
    """
    digest = hashlib.sha256()

    def update(name: str, value: Any) -> None:
        digest.update(f"{name} ".encode())
        if isinstance(value, Tensor):
            value = value.detach().cpu().contiguous()
            digest.update(f"{value.dtype} {tuple(value.shape)} ".encode())
            digest.update(value.flatten().view(torch.uint8).numpy().data)
        else:
            digest.update(repr(value).encode())

    for name, value in network.state_dict().items():
        update(name, value)
    network = network.cpu()
    images = split.clean(torch.arange(min(TRIED, split.images)))
    with evaluating(network):
        for name, value in network(images).items():
            update(name, value)
    torch.manual_seed(0)  # of its dropout
    network.train()
    answers = network(images)
    for name, value in answers.items():
        update(name, value)
    sum(value.float().square().mean() for value in answers.values()).backward()
    for name, weight in network.named_parameters():
        update(name, weight.grad)
    return digest.digest()


def load(
    path: Path,
    digest: str,
    data: AttackData,
    group: tuple[str, ...],
    recipes: "Sequence[Recipe]",
    start: Start,
) -> Kept | None:
    """An entry, whose weights go into a network that `start` makes.

    None if it cannot be read, or another user may have written it.
    """
    found = read_plain(path) if trusted(path) else None  # what another user wrote decides no audit
    try:
        if found is None or found["key"] != digest:
            return None
        recipe = recipes[found["recipe"]]
        with torch.random.fork_rng():
            network = start(data, group, recipe)
        # As a fit leaves it: in another layout of memory other kernels round otherwise.
        network = network.to(data.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        network.load_state_dict(found["weights"])
        network.eval()
        predictions = [one for one in from_plain(found["predictions"]) if isinstance(one, Prediction)]
    except (AttributeError, IndexError, KeyError, TypeError, ValueError, RuntimeError):
        return None  # a file of something else
    return Kept(recipe, network, predictions)


def save(
    path: Path,
    digest: str,
    kept: Kept,
    data: AttackData,
    group: tuple[str, ...],
    recipes: "Sequence[Recipe]",
    start: Start,
    bound: int,
) -> str:
    """Keep a network and the predictions, and remove what was used longest ago where there is too much; why not, or nothing.

    What is kept is read back at once: a network whose state_dict does not hold all of it would answer otherwise.
    """
    plain = {
        "key": digest,
        "recipe": list(recipes).index(kept.recipe),
        "weights": {name: value.cpu() for name, value in kept.network.state_dict().items()},
        "predictions": to_plain(kept.predictions),
    }
    try:
        sweep(path.parent)
        write_plain(path, plain)
        size = path.stat().st_size
    except OSError as error:  # the audit is worth more than its cache
        return str(error) if isinstance(error, WriteError) else f"{path}: {error.strerror}"
    if size > bound:
        path.unlink(missing_ok=True)
        return f"it takes {size / 1e9:.2g} GB, more than SFUMATO_REFERENCES_GB allows"
    back = load(path, digest, data, group, recipes, start)
    images = data.test.clean(torch.arange(min(TRIED, data.test.images))).to(data.device)
    if back is None or not same_answers(back.network, kept.network, images):
        path.unlink(missing_ok=True)
        return "its weights alone do not bring it back"
    make_room(bound)
    return ""


def same_answers(first: nn.Module, second: nn.Module, images: Tensor) -> bool:
    """Whether two networks answer alike, to the bit, for images (n, 3, H, W)."""
    with evaluating(first), evaluating(second):
        one, other = first(images), second(images)
    return one.keys() == other.keys() and all(
        np.array_equal(one[name].cpu().numpy(), other[name].cpu().numpy(), equal_nan=True) for name in one
    )


def entries() -> list[tuple[int, int, Path]]:
    """(time of last use in ns, bytes, file) of every entry."""
    out = []
    for path in folder().glob("*.pt"):
        with suppress(OSError):  # another audit has just removed it
            found = path.lstat()
            out.append((found.st_mtime_ns, found.st_size, path))
    return out


def make_room(left: int) -> int:
    """Remove entries, those first that were used longest ago, until the others take at most `left` bytes.

    Returns:
        How many bytes went.
    """
    total = gone = 0
    for _, size, path in sorted(entries(), reverse=True):  # the last used first
        total += size
        if total > left:
            with suppress(OSError):
                path.unlink()
                gone += size
    return gone
