"""A checkpoint that a disk has damaged is noticed, and what an earlier version wrote is still read."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from sfumato.core.errors import SfumatoError
from sfumato.training import checkpoint

STATE = {"epoch": 3, "model": {"w": torch.arange(12.0).reshape(3, 4), "n": torch.tensor(7)}, "note": "x" * 50}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    checkpoint.save(tmp_path / "checkpoint", 3, STATE)
    return tmp_path / "checkpoint"


def equal(found: dict) -> bool:  # type: ignore[type-arg]
    return (
        found["epoch"] == 3
        and found["note"] == STATE["note"]
        and torch.equal(found["model"]["w"], STATE["model"]["w"])  # type: ignore[index]
    )


def test_what_is_saved_is_loaded(folder: Path) -> None:
    assert equal(checkpoint.load(folder))
    checkpoint.save(folder, 4, {**STATE, "epoch": 4})
    assert checkpoint.load(folder)["epoch"] == 4
    assert sorted(path.name for path in folder.iterdir()) == ["000004", "latest"]


@pytest.mark.parametrize("name", ["latest", "000003/state.json", "000003/tensors.safetensors"])
def test_every_flipped_bit_and_every_cut_is_noticed(name: str, folder: Path) -> None:
    """Never another state, and never more than a line."""
    path = folder / name
    whole = path.read_bytes()
    damaged = [whole[:length] for length in (0, 1, len(whole) // 2, len(whole) - 2)]
    for at in range(0, len(whole), max(1, len(whole) // 80)):
        for bit in (0, 5):
            changed = bytearray(whole)
            changed[at] ^= 1 << bit
            damaged.append(bytes(changed))
    said: list[str] = []
    for content in damaged:
        path.write_bytes(content)
        try:
            found = checkpoint.load(folder)
        except SfumatoError as error:
            said.append(str(error))
        else:
            assert equal(found), content  # white space, or the name of the digest itself
    assert len(said) > 0.9 * len(damaged)
    assert not [line for line in said if "\n" in line]


def test_a_bit_of_a_weight_is_named_as_damage(folder: Path) -> None:
    path = folder / "000003" / "tensors.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(SfumatoError, match="sha256 differs"):
        checkpoint.load(folder)


def edit(change: Callable[[dict], object]) -> Callable[[Path], None]:  # type: ignore[type-arg]
    def work(folder: Path) -> None:
        path = folder / "000003" / "state.json"
        values = json.loads(path.read_text(encoding="utf-8"))
        change(values)
        path.write_text(json.dumps(values))
        (folder / "latest").write_text("000003\n")

    return work


HOSTILE: dict[str, tuple[Callable[[Path], object], str]] = {
    "a tensor that is not there": (edit(lambda v: v["state"].update(model={"tensor": "no"})), "KeyError"),
    "no state": (edit(lambda v: v.pop("state")), "KeyError"),
    "another version": (edit(lambda v: v.update(schema="sfumato-checkpoint/9")), "another version"),
    "a list": (lambda f: (f / "000003" / "state.json").write_text("[]"), "sha256 differs"),
    "out of the folder": (lambda f: (f / "latest").write_text("../../secret\n"), "latest is damaged"),
    "absolute": (lambda f: (f / "latest").write_text("/etc\n"), "latest is damaged"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_checkpoint_is_one_line(name: str, folder: Path) -> None:
    damage, words = HOSTILE[name]
    damage(folder)
    with pytest.raises(SfumatoError, match=words) as caught:
        checkpoint.load(folder)
    assert "\n" not in str(caught.value)


def test_a_block_that_cannot_take_the_state_over_says_so(folder: Path) -> None:
    refused = pytest.raises(SfumatoError, match=r"holds no checkpoint of this run \(KeyError")
    with refused, checkpoint.restored(folder) as state:
        state.pop("absent")


def test_files_of_an_earlier_version_are_read_with_a_note(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (folder / "latest").write_text("000003\n")
    path = folder / "000003" / "tensors.safetensors"
    tensors = load_file(path)
    path.unlink()
    save_file(tensors, path)
    assert equal(checkpoint.load(folder))
    told = " ".join(capfd.readouterr().err.split())  # where a line wraps depends on the length of the path
    assert told.count("damage to") == 2


def test_weights_say_what_they_are(tmp_path: Path) -> None:
    network = nn.Linear(3, 2)
    checkpoint.save_module(network, tmp_path / "a")
    checkpoint.save_module(network, tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    other = nn.Linear(3, 2)
    checkpoint.load_module(other, tmp_path / "a")
    assert torch.equal(other.weight, network.weight)
    with torch.no_grad():
        network.weight[0, 0] = float("nan")
    checkpoint.save_module(network, tmp_path / "c")
    with pytest.raises(SfumatoError, match="NaN or infinite weights"):
        checkpoint.load_module(other, tmp_path / "c")


def test_the_digest_tells_names_types_shapes_and_values_apart() -> None:
    one = {"a": torch.zeros(4), "b": torch.ones(2)}
    others = [
        {"a": torch.zeros(4), "c": torch.ones(2)},
        {"a": torch.zeros(2, 2), "b": torch.ones(2)},
        {"a": torch.zeros(4, dtype=torch.int32), "b": torch.ones(2)},
        {"a": torch.zeros(4), "b": torch.tensor([1.0, 1.0000001])},
        {"a": torch.ones(2), "b": torch.zeros(4)},
        {"a": torch.zeros(4)},
    ]
    digests = {checkpoint.digest_of(each) for each in (one, *others)}
    assert len(digests) == 1 + len(others)
    assert checkpoint.digest_of({"b": one["b"], "a": one["a"]}) == checkpoint.digest_of(one)
