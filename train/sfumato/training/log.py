"""`metrics.jsonl` and TensorBoard: one record an epoch.

Records of epochs that a killed run had begun but not checkpointed are dropped when it resumes, so the file reads as if the
run had never stopped.
"""

import json
import os
import struct
import time
from collections.abc import Iterator
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
    """Appends records to `folder/metrics.jsonl` and `folder/tensorboard/`; each is on disk, whole, when `write` returns."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "metrics.jsonl"
        self.folder = folder
        self._events: Path | None = None

    def drop_after(self, stage: str, epoch: int) -> None:
        """Forget the records of `stage` from `epoch` on, and a line that was cut short."""
        if not self.path.exists():
            return
        kept = [one for one in self._records() if one.get("stage") != stage or one.get("epoch", 0) < epoch]
        with atomic_write(self.path) as scratch:
            scratch.write_text("".join(json.dumps(record) + "\n" for record in kept), encoding="utf-8")

    def _records(self) -> Iterator[dict[str, Any]]:
        for line in self.path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                record = json.loads(line)
            except ValueError:  # the beginning of an object is no JSON, wherever it was cut
                continue
            if isinstance(record, dict):
                yield record

    def write(self, record: dict[str, Any]) -> None:
        """Append one record; numbers also go to TensorBoard under `stage/name`."""
        append_whole(self.path, (json.dumps(record) + "\n").encode())
        figures = {
            f"{record['stage']}/{name}": float(value)
            for name, value in record.items()
            if isinstance(value, (int, float)) and name != "epoch"
        }
        self._write_events(figures, record["epoch"])

    def _write_events(self, figures: dict[str, float], step: int) -> None:
        # Not SummaryWriter: its thread keeps records for minutes, and tells of a full disk by a traceback.
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        now, events = time.time(), []
        if self._events is None:
            folder = self.folder / "tensorboard"
            with writing(folder):
                folder.mkdir(exist_ok=True)
            self._events = folder / f"events.out.tfevents.{int(now):010d}.{os.getpid()}"
            events.append(Event(wall_time=now, file_version="brain.Event:2"))
        values = [Summary.Value(tag=tag, simple_value=value) for tag, value in figures.items()]
        events.append(Event(wall_time=now, step=step, summary=Summary(value=values)))
        append_whole(self._events, b"".join(framed(event.SerializeToString()) for event in events))


def append_whole(path: Path, content: bytes) -> None:
    """Append to a file, or leave it as it was.

    Raises:
        WriteError: the system refused.
    """
    with writing(path), path.open("ab", buffering=0) as stream:
        before = stream.seek(0, os.SEEK_END)
        try:
            while content:
                content = content[stream.write(content) :]
        except OSError:
            stream.truncate(before)
            raise


def framed(data: bytes) -> bytes:
    """A record of an event file: length, its checksum, the data, their checksum."""
    from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c

    length = struct.pack("<Q", len(data))
    sums = [struct.pack("<I", masked_crc32c(part)) for part in (length, data)]
    return length + sums[0] + data + sums[1]
