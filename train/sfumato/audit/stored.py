"""What attacks predicted, on disk: an interrupted audit goes on where it stopped.

The predictions of every finished piece of work are one file, in a folder beside `audit.json` that is named by a digest of
artifact, plan, seed and fold; it goes when the audit is done. Files hold tensors and plain values, no code.

    steps = StoredSteps(folder, digest)
    found = steps.load(3)                # None: not run yet
    steps.save(3, found)
    remove_stored(folder)
"""

import hashlib
import shutil
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, fields
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sfumato.audit.attack_data import AttackData
from sfumato.audit.index_channel import IndexChannel
from sfumato.audit.plan import Plan
from sfumato.audit.predictions import AttackOutput, Groups, Prediction, ReconstructedImages
from sfumato.audit.rows import in_parts
from sfumato.audit.schema import Reconstruction
from sfumato.core.files import atomic_write

FOLDER = ".audit-steps"


def to_plain(outputs: Sequence[AttackOutput]) -> list[dict[str, Any]]:
    """Outputs as tensors and plain values."""
    plain = []
    for one in outputs:
        if isinstance(one, Prediction):
            values = {part.name: getattr(one, part.name) for part in fields(one)}
            arrays = {
                name: torch.from_numpy(np.ascontiguousarray(values[name])) for name in ("validation", "test")
            }
            plain.append({**values, **arrays})
        else:
            plain.append({"figures": one.figures.model_dump_json(), "images": torch.from_numpy(one.images)})
    return plain


def from_plain(plain: Sequence[dict[str, Any]]) -> list[AttackOutput]:
    """What `to_plain` was given."""
    outputs: list[AttackOutput] = []
    for one in plain:
        if "figures" in one:
            figures = Reconstruction.model_validate_json(one["figures"])
            outputs.append(ReconstructedImages(figures=figures, images=one["images"].numpy()))
        else:
            arrays = {name: one[name].numpy() for name in ("validation", "test")}
            outputs.append(Prediction(**{**one, **arrays}))
    return outputs


def read_plain(path: Path) -> Any:
    """Tensors and plain values from a file; None if there is none, or a damaged one."""
    # torch writes zip files, whose table of contents is at the end.
    if not path.is_file() or not zipfile.is_zipfile(path):
        return None
    try:
        with path.open("rb") as stream:  # one file, also if another process replaces it meanwhile
            with zipfile.ZipFile(stream) as parts:
                if parts.testzip() is not None:  # torch reads over a changed number
                    return None
            stream.seek(0)
            return torch.load(stream, weights_only=True)
    except Exception:  # torch has many types for a damaged file, and weights_only refuses whatever holds code
        return None


def write_plain(path: Path, plain: Any) -> None:
    """Tensors and plain values into a file, which is there whole or not at all."""
    content = BytesIO()
    torch.save(plain, content)
    with atomic_write(path) as scratch:
        scratch.write_bytes(content.getvalue())  # torch has another error for a full disk


def fingerprint(data: AttackData, plan: Plan, groups: Groups) -> str:
    """A digest of everything that the predictions depend on: what the artifact makes of the photos, labels, plan and seed."""
    digest = hashlib.sha256(f"{data.seed} {groups} {plan.model_dump_json()}".encode())
    if isinstance(data.channel, IndexChannel):  # a packed export of the run has the same parameters
        digest.update(repr(data.channel.code).encode())
    for split in (data.train, data.validation, data.test):
        for value in split.parameters.values():
            for part in in_parts(value[: split.images]):
                digest.update(part.half().contiguous().numpy().data)
        for name in sorted(split.labels):
            digest.update(np.ascontiguousarray(split.labels[name]).data)
    for name, value in sorted(data.cloud.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:32]


@dataclass(frozen=True)
class StoredSteps:
    """The finished pieces of work of one audit, seed and fold."""

    out: Path
    """The folder of the audit."""
    digest: str

    @property
    def folder(self) -> Path:
        """Where the files are."""
        return self.out / FOLDER / self.digest

    def load(self, number: int) -> list[AttackOutput] | None:
        """What piece `number` found, or None if it is to be run; a broken file counts as none."""
        plain = read_plain(self.folder / f"{number}.pt")
        try:
            return None if plain is None else from_plain(plain)
        except (AttributeError, KeyError, TypeError, ValueError):  # a file of something else
            return None

    def save(self, number: int, outputs: Sequence[AttackOutput]) -> None:
        """Keep what piece `number` found."""
        write_plain(self.folder / f"{number}.pt", to_plain(outputs))


def remove_stored(out: Path) -> bool:
    """Forget every stored step of an audit folder; whether there were any."""
    found = (out / FOLDER).exists()
    shutil.rmtree(out / FOLDER, ignore_errors=True)
    return found
