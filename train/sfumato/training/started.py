"""What a run was started on, beside its options: the data set itself, the way the mode was chosen, a given file.

Options alone do not tell whether a run can be resumed: a folder keeps its name when its pictures or labels change, and
then the splits move, and the attacker's test images are images that the defender has learned from.

    record(out, config, dataset, auto=False)                # when a run starts
    found = changed(out, config, dataset, auto=False)       # when it is resumed: ["images 640 (now 576)", ...]
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sfumato.core.console import note
from sfumato.core.errors import SfumatoError
from sfumato.core.files import read_object, sha256, write_json
from sfumato.data import Dataset
from sfumato.training.config import TrainConfig

STARTED, SCHEMA = "started.json", "sfumato-started/1"


def data_facts(dataset: Dataset, names: tuple[str, ...]) -> dict[str, Any]:
    """What a data set is known by: its id, and the counts that say what differs where ids do."""
    return {
        "id": dataset.id,
        "spec": dataset.spec,
        "images": len(dataset.images),
        "size": list(dataset.size),
        "splits": {str(name): len(rows) for name, rows in dataset.splits.items()},
        "labels": label_counts(dataset, names),
    }


def label_counts(dataset: Dataset, attributes: tuple[str, ...]) -> dict[str, dict[str, int]]:
    """How many images carry each label; of a mask how many cells."""
    return {
        name: dict(zip(dataset.attributes[name].classes, dataset.counts(name).tolist(), strict=True))
        for name in attributes
    }


def _facts(config: TrainConfig, dataset: Dataset, auto: bool) -> dict[str, Any]:
    given = config.given_onnx
    return {
        "schema": SCHEMA,
        "mode": "auto" if auto else config.mode,
        "given_cloud": sha256(given) if given is not None and given.is_file() else None,
        "data": data_facts(dataset, (*config.keep, *config.hide)),
    }


def record(out: Path, config: TrainConfig, dataset: Dataset, *, auto: bool) -> None:
    """Write `started.json` into the run's folder."""
    write_json(out / STARTED, _facts(config, dataset, auto))


def changed(out: Path, config: TrainConfig, dataset: Dataset, *, auto: bool) -> list[str]:
    """What is not as it was when the run in `out` began, each with both values; empty if all is.

    A run of an earlier version says nothing about its data: that is said, and nothing differs.

    Raises:
        SfumatoError: `started.json` is none.
    """
    if not (out / STARTED).exists():
        note(f"{out} does not say what data it began with: make sure that nothing changed since")
        return []
    before, now = read_object(out / STARTED), _facts(config, dataset, auto)
    data = before.get("data")
    if before.get("schema") != SCHEMA or not isinstance(data, dict) or not {"id", "spec"} <= set(data):
        raise SfumatoError(
            f"{out / STARTED} does not say what the run began with ({SCHEMA}): put it back, or start the run again"
        )
    if now["given_cloud"] is None:  # the run holds a copy of its own
        before["given_cloud"] = None
    if config.mode == "picture" and not auto and before.get("mode") == "auto":
        before["mode"] = "picture"  # the choice was made, as config.json says; else its comparison finds it
    same_data = before["data"]["id"] == now["data"]["id"]
    for one in (before, now):
        if same_data:
            del one["data"]
        else:
            del one["data"]["spec"]
    found = list(_differences(before, now))
    if not same_data and len(found) == 1:
        found.append("the same number of images and labels, but other pixels, names, labels or splits")
    return found


def _differences(before: Mapping[str, Any], now: Mapping[str, Any], where: str = "") -> Iterator[str]:
    for key in dict.fromkeys((*before, *now)):
        old, new, name = before.get(key), now.get(key), f"{where}{key}"
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            yield from _differences(old, new, f"{name}.")
        elif old != new:
            yield f"{name} {old!r} (now {new!r})"
