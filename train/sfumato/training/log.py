"""`metrics.jsonl` and TensorBoard: one record an epoch.

Records of epochs that a killed run had begun but not checkpointed are dropped when it resumes, so the file reads as if the
run had never stopped.
"""

import json
import sys
import types
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sfumato.core.failures import writing
from sfumato.core.files import atomic_write


@dataclass
class RunningMeans:
    """Figures of an epoch: each the mean over the steps that added it."""

    total: dict[str, float] = field(default_factory=dict)
    count: dict[str, int] = field(default_factory=dict)

    def add(self, **figures: float) -> None:
        """Take in one value each."""
        for name, value in figures.items():
            self.total[name] = self.total.get(name, 0.0) + value
            self.count[name] = self.count.get(name, 0) + 1

    def set(self, **figures: float) -> None:
        """Figures that are no mean but the same in every step of an epoch."""
        self.total.update(figures)
        self.count.update(dict.fromkeys(figures, 1))

    def result(self) -> dict[str, float]:
        """The means so far."""
        return {name: self.total[name] / self.count[name] for name in self.total}


class TrainingLog:
    """Appends records to `folder/metrics.jsonl` and `folder/tensorboard/`."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "metrics.jsonl"
        self.folder = folder
        self._writer: Any = None

    def drop_after(self, stage: str, epoch: int) -> None:
        """Forget the records of `stage` from `epoch` on."""
        if not self.path.exists():
            return
        records = [
            json.loads(line)
            for line in self.path.read_text(encoding="utf-8").splitlines()
            if line.endswith("}")
        ]
        kept = [record for record in records if record["stage"] != stage or record["epoch"] < epoch]
        with atomic_write(self.path) as scratch:
            scratch.write_text("".join(json.dumps(record) + "\n" for record in kept), encoding="utf-8")

    def write(self, record: dict[str, Any]) -> None:
        """Append one record; numbers also go to TensorBoard under `stage/name`."""
        with writing(self.path), self.path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(record) + "\n")
        if self._writer is None:
            # TensorBoard's own switch: with this module present it uses its small stub and does not import TensorFlow,
            # which costs ten seconds and gigabytes where the export packages are installed.
            sys.modules.setdefault("tensorboard.compat.notf", types.ModuleType("tensorboard.compat.notf"))
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(self.folder / "tensorboard"))
        for name, value in record.items():
            if isinstance(value, (int, float)) and name != "epoch":
                self._writer.add_scalar(f"{record['stage']}/{name}", value, record["epoch"])

    def close(self) -> None:
        """Flush TensorBoard."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
