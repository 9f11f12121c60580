"""Data from Python, from Hugging Face's files, and FairFace as published."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import TensorDataset

from sfumato.core.errors import DataError
from sfumato.data import open_dataset, save_folder
from sfumato.data.registry import load_source
from sfumato.data.source import TEST, TRAIN, VALIDATION

PIXELS = np.random.default_rng(2).integers(0, 256, (520, 8, 10, 3), dtype=np.uint8)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SFUMATO_CACHE", str(tmp_path / "cache"))


class Listed:
    """A data set as torchvision has them: items, and names of the classes."""

    def __init__(self, items: Sequence[Any], classes: Sequence[str] | None = None) -> None:
        """Keep both."""
        self.items = items
        if classes is not None:
            self.classes = classes

    def __len__(self) -> int:
        """Count."""
        return len(self.items)

    def __getitem__(self, index: int) -> Any:
        """One."""
        return self.items[index]


def test_a_torch_data_set_becomes_a_folder(tmp_path: Path) -> None:
    floats = torch.from_numpy(PIXELS).permute(0, 3, 1, 2).float() / 255
    items = TensorDataset(floats, torch.arange(len(PIXELS)) % 2, torch.arange(len(PIXELS)) // 2 % 3)
    pairs = Listed([(one, labels) for one, *labels in (items[n] for n in range(len(items)))])
    folder = save_folder(pairs, tmp_path / "own", names=["smiling", "mood"])
    data = open_dataset(f"folder:{folder},size=8x10", keep=["smiling"], hide=["mood"])
    np.testing.assert_array_equal(data.images, PIXELS)
    np.testing.assert_array_equal(data.labels["mood"], np.arange(len(PIXELS)) // 2 % 3)
    with pytest.raises(DataError, match="is there already"):
        save_folder(pairs, folder)


def test_every_form_of_a_picture_and_of_labels(tmp_path: Path) -> None:
    colour, grey = PIXELS[0], PIXELS[0, :, :, 0]
    pictures = (
        colour,
        colour.transpose(2, 0, 1),
        grey,
        grey[None],
        grey[..., None],
        Image.fromarray(colour),
        colour / 255,
    )
    folder = save_folder(
        Listed([(one, n % 3) for n, one in enumerate(pictures)], ["c", "b", "a"]), tmp_path / "own"
    )
    source = load_source(f"folder:{folder}")
    assert source.attributes[0].classes == ("c", "b", "a")
    assert source.labels["label"].tolist() == [n % 3 for n in range(len(pictures))]
    read = source.pictures.read(range(len(pictures)), 8, 10)
    for number, one in enumerate(read):
        expected = np.repeat(grey[..., None], 3, axis=2) if number in (2, 3, 4) else colour
        np.testing.assert_array_equal(np.asarray(one), expected, err_msg=str(number))
    named = save_folder(
        Listed([(colour, {"a": 1, "b": None}), (grey, {"a": np.int64(2)})]), tmp_path / "named"
    )
    assert (named / "labels.csv").read_text(encoding="utf-8").split() == [
        "file,a,b",
        "images/0000000.png,1,",
        "images/0000001.png,2,",
    ]
    refused: list[tuple[list[Any], str]] = [
        ([(colour * 2.0, 1)], "item 0 is not a picture with labels .floats outside"),
        ([(colour, 1), (colour.astype(int), 1)], "item 1 .* not uint8"),
        ([(PIXELS, 1)], "a picture of shape"),
        ([(colour, (1, 2))], "item 0 has 2 labels for 1 names"),
        ([colour[:1]], "item 0 is not a picture with labels"),
        ([], "empty"),
    ]
    for bad, expected in refused:
        with pytest.raises(DataError, match=expected):
            save_folder(Listed(bad), tmp_path / "bad")
        assert not (tmp_path / "bad").exists()
    with pytest.raises(DataError, match="label 3, beyond its 2 classes"):
        save_folder(Listed([(colour, 3)], ["a", "b"]), tmp_path / "bad")


def test_fairface_as_published(tmp_path: Path) -> None:
    ages = ["0-2", "03-Sep", "Oct-19", "20-29", "more than 70"]
    for part, count in (("train", 10), ("val", 5)):
        (tmp_path / part).mkdir()
        rows = [
            f"{part}/{n}.jpg,{ages[n % 5]},{'Male' if n % 2 else 'Female'},Black,True" for n in range(count)
        ]
        header = "file,age,gender,race,service_test"
        (tmp_path / f"fairface_label_{part}.csv").write_text("\n".join([header, *rows]) + "\n")
    source = load_source(f"fairface:{tmp_path}")
    assert [one.name for one in source.attributes] == ["age", "gender", "race"]
    assert source.labels["age"].tolist() == [0, 1, 2, 3, 8] * 3
    assert source.attributes[0].classes[8] == "70+"
    assert source.official is not None
    assert source.official.tolist() == [TRAIN] * 10 + [TEST] * 5
    with pytest.raises(DataError, match="no label file"):
        load_source(f"fairface:{tmp_path / 'train'}")


def test_hugging_face_files_name_the_package_they_need(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DataError, match=r"holds no \.arrow or \.parquet file"):
        load_source(f"huggingface:{tmp_path}")
    (tmp_path / "train.parquet").write_bytes(b"PAR1 and no more")
    with monkeypatch.context() as patch:
        patch.setitem(__import__("sys").modules, "pyarrow", None)
        with pytest.raises(DataError, match="needs the package pyarrow: pip install pyarrow"):
            load_source(f"huggingface:{tmp_path}")
    pytest.importorskip("pyarrow", exc_type=ImportError)
    with pytest.raises(DataError, match="cannot be read"):
        load_source(f"huggingface:{tmp_path}")


def test_hugging_face_files(tmp_path: Path) -> None:
    arrow, parquet = (
        pytest.importorskip("pyarrow", exc_type=ImportError),
        pytest.importorskip("pyarrow.parquet", exc_type=ImportError),
    )
    features = b'{"info": {"features": {"label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}}}'

    def rows(numbers: range) -> Any:
        files = []
        for one in PIXELS[numbers.start : numbers.stop]:
            stream = io.BytesIO()
            Image.fromarray(one).save(stream, "PNG")
            files.append({"bytes": stream.getvalue(), "path": None})
        columns = {"image": files, "label": [n % 2 for n in numbers], "age": [n % 50 for n in numbers]}
        table = arrow.table({**columns, "mood": [("sad", "glad", None)[n % 3] for n in numbers]})
        return table.replace_schema_metadata({b"huggingface": features})

    parts = {"train": range(300), "validation": range(300, 400), "test": range(400, 520)}
    (tmp_path / "hub").mkdir()
    for part, numbers in parts.items():
        parquet.write_table(rows(numbers), tmp_path / "hub" / f"{part}-00000-of-00001.parquet")
        (tmp_path / "disk" / part).mkdir(parents=True)
        sink = arrow.OSFile(str(tmp_path / "disk" / part / "data-00000-of-00001.arrow"), "wb")
        with sink, arrow.ipc.new_stream(sink, rows(numbers).schema) as writer:
            writer.write_table(rows(numbers))
    for place in ("hub", "disk"):
        source = load_source(f"huggingface:{tmp_path / place}")
        assert [one.name for one in source.attributes] == ["label", "age", "mood"]
        assert source.attributes[0].classes == ("cat", "dog")
        assert source.quantities == {"age"}
        assert source.official is not None
        order = np.concatenate([parts[part] for part in ("test", "train", "validation")])
        codes = np.repeat([TEST, TRAIN, VALIDATION], [120, 300, 100])
        np.testing.assert_array_equal(source.official, codes)
        np.testing.assert_array_equal(source.labels["label"], order % 2)
        data = open_dataset(f"huggingface:{tmp_path / place},size=8x10", keep=["label"])
        np.testing.assert_array_equal(data.images, PIXELS[order])
