"""The study of open blocks, on networks that open known blocks."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from studies import open_blocks
from studies.open_blocks import command, scenes, study
from tests.fixtures.runs import build_run

from sfumato.channels.dither import Dither
from sfumato.core.errors import UsageError
from sfumato.data import Dataset, Split, open_dataset

Blocks = NDArray[np.bool_]


@dataclass
class Opened:
    """A network that opens the blocks which a rule names, for every image (n, H, W, 3)."""

    dataset: Dataset
    rule: Callable[[NDArray[np.uint8]], Blocks]
    channel: Any = field(default_factory=lambda: Dither(2, gates=True))
    folder: Path = Path("run")
    kind: str = "float"

    def parameters(self, images: NDArray[np.uint8]) -> dict[str, torch.Tensor]:
        """Log odds of half a bit in open blocks."""
        pixels = np.kron(self.rule(images), np.ones((8, 8), np.float32))
        return {"p": torch.from_numpy(pixels)[:, None].expand(-1, 3, -1, -1) / 2}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Drawn scenes, 120 of them in test."""
    return open_dataset("scenes,count=600,size=48", keep=["object"], hide=["presence"])


def everywhere(images: NDArray[np.uint8]) -> Blocks:
    return np.ones((len(images), 6, 6), bool)


def test_blocks_that_are_always_the_same_tell_nothing(data: Dataset) -> None:
    found = study(Opened(data, everywhere), 100)  # type: ignore[arg-type]
    assert found.scenes == 100
    assert found.open_with == found.open_without == found.on_the_person == 1
    assert found.others_open == 0
    assert found.auc_of_number == found.auc_of_places == 0.5


def test_a_block_on_the_person_is_found_where_pixels_differ(data: Dataset) -> None:
    """One block is open: it shows the person in as many scenes as their pixels reach into it."""

    def corner(images: NDArray[np.uint8]) -> Blocks:
        opened = np.zeros((len(images), 6, 6), bool)
        opened[:, 2, 1] = True
        return opened

    artifact: Any = Opened(data, corner)
    rows = data.splits[Split.TEST][:100]
    shown, hidden = (scenes(artifact, rows, person=person) for person in (True, False))
    reached = [
        bool((one[16:24, 8:16] != other[16:24, 8:16]).any()) for one, other in zip(shown, hidden, strict=True)
    ]
    found = study(artifact, 100)
    assert 0 < found.on_the_person == sum(reached) / 100 < 1
    assert found.on_the_person_interval[0] < found.on_the_person < found.on_the_person_interval[1]
    assert found.open_with == pytest.approx(1 / 36)


def test_a_block_that_moves_with_the_person_tells_of_them(data: Dataset) -> None:
    """As many blocks are open in both, so the number tells nothing and the place everything."""
    artifact: Any = Opened(data, everywhere)
    bare = {image.tobytes() for image in scenes(artifact, data.splits[Split.TEST], person=False)}

    def moved(images: NDArray[np.uint8]) -> Blocks:
        opened = np.zeros((len(images), 6, 6), bool)
        for row, image in enumerate(images):
            opened[row, 0, int(image.tobytes() in bare)] = True
        return opened

    found = study(Opened(data, moved), 100)  # type: ignore[arg-type]
    assert found.others_open == found.auc_of_places == 1
    assert found.auc_of_number == 0.5


def test_the_command_writes_what_it_shows(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(open_blocks, "load", lambda folder: Opened(data, everywhere))
    command(Path("run"), 100, tmp_path / "found.json")
    assert "100.0 % (96.3 - 100.0)" in capsys.readouterr().out
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["auc_of_places"] == 0.5
    assert found["provenance"]["sfumato"]


def test_what_is_no_gated_network_of_scenes_is_refused(data: Dataset) -> None:
    with pytest.raises(UsageError, match="only scenes can be made without the person"):
        study(build_run("gates"), 100)
    with pytest.raises(UsageError, match="every block of its uploads is open"):
        study(Opened(data, everywhere, Dither(2)), 100)  # type: ignore[arg-type]
    part = SimpleNamespace(
        folder="run",
        dataset=open_dataset("scenes,count=600,size=48,limit=500", keep=["object"]),
        channel=Dither(2, gates=True),
    )
    with pytest.raises(UsageError, match="100 scenes were left out"):
        study(part, 100)
