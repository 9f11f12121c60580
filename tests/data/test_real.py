"""The public data sets as published, where they are at hand."""

from pathlib import Path

import numpy as np
import pytest

from sfumato.data import Split, open_dataset


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SFUMATO_CACHE", str(tmp_path / "cache"))


def test_utkface(shared_data: Path) -> None:
    folder = shared_data / "utkface8k"
    if not folder.is_dir():
        pytest.skip("no utkface8k")
    data = open_dataset(f"utkface:{folder / 'UTKFace'},limit=1500", keep=["gender"], hide=["race"])
    assert [len(data.splits[split]) for split in Split] == pytest.approx([675, 375, 150, 300], abs=2)
    assert data.images.shape[1:] == (64, 64, 3)
    for split in Split:
        assert data.counts("race", split) / len(data.splits[split]) == pytest.approx([0.2] * 5, abs=0.03)
    # The data set's own table tells the same from the same names.
    table = open_dataset(f"folder:{folder},size=16", keep=["gender"], hide=["race", "age_band", "adult30"])
    named = open_dataset(f"utkface:{folder / 'UTKFace'},size=16", keep=["gender"])
    assert len(table) == len(named) == 7904
    for name in ("gender", "race", "age_band", "adult30"):
        assert table.counts(name).tolist() == named.counts(name).tolist()
    assert len(table.splits[Split.TEST]) == 1581


def test_cifar10(shared_data: Path) -> None:
    folder = shared_data / "cifar10_24k"
    if not folder.is_dir():
        pytest.skip("no cifar10_24k")
    data = open_dataset(f"cifar10:{folder},limit=3000", keep=["animal"])
    with np.load(folder / "cifar10_24k.npz", allow_pickle=False) as archive:
        pixels = np.concatenate([archive["x_train"], archive["x_test"]])
    assert data.counts("label").tolist() == [300] * 10
    assert data.counts("animal").tolist() == [1200, 1800]
    assert len(data.splits[Split.TEST]) == 500
    known = {image.tobytes() for image in pixels}
    assert all(image.tobytes() in known for image in data.images[::50])


def test_fashion_mnist(shared_data: Path) -> None:
    folder = shared_data / "fashion_mnist"
    if not folder.is_dir():
        pytest.skip("no fashion_mnist")
    data = open_dataset(f"fashion-mnist:{folder},limit=2100", keep=["label"], hide=["coarse"])
    assert data.counts("label").tolist() == [210] * 10
    assert data.counts("coarse").tolist() == [1050, 210, 630, 210]
    # The published mean of the training pixels, 0.2860 over 28x28.
    assert float(data.images[:, 2:30, 2:30, 0].mean()) / 255 == pytest.approx(0.286, abs=0.01)
