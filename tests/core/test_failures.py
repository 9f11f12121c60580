"""Errors of the machine: told in one line, with the file that a person knows."""

import errno
import json
import resource
import sys
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from sfumato.core.errors import SfumatoError
from sfumato.core.failures import WriteError, explain, writing
from sfumato.core.files import (
    atomic_folder,
    atomic_write,
    check_claim,
    check_place,
    claim_folder,
    make_folder,
    save_array,
    write_json,
)
from sfumato.training import checkpoint
from sfumato.training.log import TrainingLog


@contextmanager
def full_disk(largest: int) -> Iterator[None]:
    """The system takes no file of more than `largest` bytes from this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_explain_knows_what_machines_do() -> None:
    told = {
        "cannot use a.png (No such file or directory)": FileNotFoundError(
            2, "No such file or directory", "a.png"
        ),
        "cannot write b (No space left on device)": OSError(errno.ENOSPC, "No space left on device", "b"),
        "cannot write (No space left on device)": OSError(errno.ENOSPC, "No space left on device"),
        "Connection refused": ConnectionRefusedError(111, "Connection refused"),
    }
    assert {str(explain(error)): error for error in told.values()} == told
    for error, word in [
        (MemoryError(), "out of memory"),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
            "out of memory",
        ),
        (torch.OutOfMemoryError("CUDA out of memory"), "out of memory"),
        (RecursionError("maximum recursion depth exceeded"), "nests too deeply"),
        (UnicodeEncodeError("utf-8", "\udcff", 0, 1, "surrogates not allowed"), "does not fit utf-8"),
    ]:
        line = str(explain(error))
        assert word in line
        assert "\n" not in line
    known = SfumatoError("a line")
    assert explain(known) is known
    for bug in (ValueError("x"), KeyError("x"), RuntimeError("x"), AssertionError()):
        assert explain(bug) is None


def save_module(path: Path) -> None:
    checkpoint.save_module(nn.Linear(100, 100), path)


def save_checkpoint(path: Path) -> None:
    checkpoint.save(path, 1, {"a": torch.zeros(5000)})


def save_json(path: Path) -> None:
    write_json(path, ["x" * 100] * 100)


def save_folder(path: Path) -> None:
    with atomic_folder(path) as scratch:
        (scratch / "model").write_bytes(bytes(9000))


@pytest.mark.parametrize("write", [save_module, save_checkpoint, save_json, save_folder])
def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, write: Callable[[Path], None]) -> None:
    target = tmp_path / "out"
    with full_disk(2000), pytest.raises(WriteError, match=r"cannot write .*out.* \(File too large\)"):
        write(target)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    write(target)  # the same again, once there is room
    assert target.exists()


def test_an_array_on_a_full_disk_is_told_with_its_reason(tmp_path: Path) -> None:
    array = np.arange(6000, dtype=np.int64)
    with full_disk(20_000), pytest.raises(OSError, match="File too large") as caught:
        save_array(tmp_path / "a.npy", array)
    assert caught.value.strerror == "File too large"  # numpy.save gives none
    save_array(tmp_path / "a.npy", array)
    assert np.array_equal(np.load(tmp_path / "a.npy"), array)


def test_a_full_disk_in_the_log_is_told_and_what_was_whole_stays(tmp_path: Path) -> None:
    log = TrainingLog(tmp_path)
    first = '{"stage": "clean", "epoch": 0}\n'
    log.path.write_text(first)
    record = {"stage": "clean", "epoch": 1, "figure": "x" * 100}
    with full_disk(60), pytest.raises(WriteError, match=r"metrics\.jsonl"):
        log.write(record)
    assert log.path.read_text(encoding="utf-8") == first
    log.write(record)  # the same again, once there is room
    assert log.path.read_text(encoding="utf-8") == first + json.dumps(record) + "\n"


def test_a_record_is_forgotten_wherever_it_was_cut(tmp_path: Path) -> None:
    """Also where it seems to end: after the bracket of a part of it, or within a letter."""
    log = TrainingLog(tmp_path)
    first, last = (
        '{"stage": "answer", "epoch": 0}\n',
        '{"a": {"é": 0.5}, "stage": "answer", "epoch": 1}'.encode(),
    )
    for cut in range(len(last)):
        log.path.write_bytes(first.encode() + last[:cut])
        log.drop_after("answer", 9)
        assert log.path.read_text(encoding="utf-8") == first


def test_event_files_are_what_tensorboard_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Its own switch: without TensorFlow, which takes seconds to import.
    monkeypatch.setitem(sys.modules, "tensorboard.compat.notf", types.ModuleType("notf"))
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    log = TrainingLog(tmp_path)
    for epoch in range(2):
        log.write({"stage": "clean", "epoch": epoch, "loss": 0.5 + epoch, "name": "x"})
    (path,) = (tmp_path / "tensorboard").iterdir()
    events = list(EventFileLoader(str(path)).Load())
    assert events[0].file_version == "brain.Event:2"
    found = [(event.step, event.summary.value[0].tag) for event in events[1:]]
    assert found == [(0, "clean/loss"), (1, "clean/loss")]
    size = path.stat().st_size
    log.path.unlink()
    with full_disk(size + 10), pytest.raises(WriteError, match="tensorboard"):
        log.write({"stage": "clean", "epoch": 2, "loss": 0.5})
    assert path.stat().st_size == size


def test_below_a_file_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("")
    below = tmp_path / "f" / "x"

    def write() -> None:
        with atomic_write(below / "a.png"):
            pass

    for act in (
        write,
        lambda: make_folder(below),
        lambda: check_place(below),
        lambda: claim_folder(below, holds="config.json", overwrite=False),
        lambda: check_claim(below, holds="config.json", overwrite=True),
    ):
        with pytest.raises(SfumatoError, match=r"cannot write .*f/x \(Not a directory\)"):
            act()


def test_another_file_that_cannot_be_read_is_named_itself(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="elsewhere"), writing(tmp_path / "new" / "a"):
        (tmp_path.parent / "elsewhere").read_bytes()


@pytest.mark.parametrize("damage", ["latest", "tensors", "state", "list", "cut"])
def test_a_damaged_checkpoint_is_one_line(tmp_path: Path, damage: str) -> None:
    checkpoint.save(tmp_path, 3, {"a": torch.zeros(5), "epoch": 3})
    part = tmp_path / "000003"
    if damage == "latest":
        (tmp_path / "latest").write_bytes(b"..\xff")
    elif damage == "tensors":
        save = {"b": torch.zeros(5)}
        (part / checkpoint.TENSORS).write_bytes(safetensors.torch.save(save))
    elif damage == "state":
        (part / "state.json").write_text('{"schema": "sfumato-checkpoint/2"}')
    elif damage == "list":
        (part / "state.json").write_text("[]")
    else:
        whole = (part / checkpoint.TENSORS).read_bytes()
        (part / checkpoint.TENSORS).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(SfumatoError) as caught:
        checkpoint.load(tmp_path)
    assert str(caught.value).count("\n") == 0
