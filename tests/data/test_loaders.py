"""Every published layout, written in tiny form by the test, and every way in which it may be wrong."""

import csv
import gzip
import json
import pickle
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from typer.testing import CliRunner

from sfumato.cli.data import app
from sfumato.core.errors import DataError
from sfumato.data import Dataset, Split, open_dataset
from sfumato.data.loaders.fashion_mnist import read_idx
from sfumato.data.registry import load_source, parse_spec


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SFUMATO_CACHE", str(tmp_path / "cache"))


def noise(count: int, side: int = 16, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def save(folder: Path, images: NDArray[np.uint8], names: Sequence[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, image in zip(names, images, strict=True):
        Image.fromarray(image).save(folder / name)


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([header, *rows])


def refusal(spec: str, *options: str) -> str:
    """The one line with which the command refuses a spec; exit code 1, nothing on standard output."""
    result = CliRunner().invoke(app, ["inspect", spec, *options])
    assert isinstance(result.exception, DataError), result.exception
    assert result.exit_code == 1
    assert result.exception.exit_code == 1
    assert "\n" not in str(result.exception)
    return str(result.exception)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """600 pictures, two attributes, no split."""
    folder = tmp_path / "photos"
    names = [f"{i:03d}.png" for i in range(600)]
    save(folder, noise(600), names)
    write_csv(
        folder / "labels.csv",
        ["file", "mood", "age"],
        [(n, ["sad", "happy"][i % 2], 9 + i % 3) for i, n in enumerate(names)],
    )
    return folder


# --- folder ---


def test_folder(photos: Path) -> None:
    data = open_dataset(f"folder:{photos},size=16", keep=["mood"], hide=["age"])
    assert data.attributes["mood"].classes == ("happy", "sad")
    assert data.attributes["age"].classes == ("9", "10", "11")  # by size, not by spelling
    assert [len(data.splits[split]) for split in Split] == [270, 150, 60, 120]
    np.testing.assert_array_equal(data.images, noise(600))
    assert data.labels["mood"].tolist() == [1, 0] * 300
    images, labels = data.subset(Split.TEST, ["age"])
    assert images.shape == (120, 16, 16, 3)
    assert (labels["age"] == data.labels["age"][data.splits[Split.TEST]]).all()
    with pytest.raises(DataError, match="unknown attribute 'x': known are mood, age"):
        data.require(["x"])
    with pytest.raises(ValueError, match="read-only"):
        data.labels["mood"][0] = 1


def test_the_id_follows_the_content_and_not_the_place(photos: Path, tmp_path: Path) -> None:
    first = open_dataset(f"folder:{photos}")
    moved = Path(shutil.copytree(photos, tmp_path / "elsewhere"))
    assert open_dataset(f"folder:{moved}").id == first.id
    assert open_dataset(first.spec).id == first.id
    assert open_dataset(f"folder:{photos},seed=1").id != first.id
    Image.fromarray(noise(1, seed=9)[0]).save(moved / "000.png")
    assert open_dataset(f"folder:{moved}").id != first.id


def test_folder_with_splits_persons_and_copies(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    names = [f"{i:03d}.png" for i in range(800)]
    images = noise(800)
    images[5] = images[790]  # a training picture that is also in test
    save(folder, images, names)
    parts = ["train"] * 600 + ["val"] * 80 + ["test"] * 120
    rows = [(n, part, i // 8, i % 2) for i, (n, part) in enumerate(zip(names, parts, strict=True))]
    write_csv(folder / "labels.csv", ["file", "split", "identity", "mood"], rows)
    data = open_dataset(f"folder:{folder}")
    assert data.splits[Split.VALIDATION].tolist() == list(range(600, 680))
    assert data.splits[Split.TEST].tolist() == list(range(680, 800))
    both = [set((data.splits[s] // 8).tolist()) for s in (Split.DEFENDER, Split.ATTACKER)]
    assert not both[0] & both[1]
    assert sum(len(rows) for rows in data.splits.values()) == 799
    assert data.skipped == ("005.png: the makers' test or validation part has the same picture",)
    by_person = open_dataset(f"folder:{folder},split=identity")
    groups = [{0 if i in (0, 98) else i for i in (rows // 8).tolist()} for rows in by_person.splits.values()]
    assert sum(map(len, groups)) == len(set.union(*groups))  # 5 and 790 join persons 0 and 98
    assert sum(len(rows) for rows in by_person.splits.values()) == 800


def test_duplicates_go_to_one_split(photos: Path) -> None:
    images = noise(600)
    for i in range(0, 600, 2):
        Image.fromarray(images[i]).save(photos / f"{i + 1:03d}.png")  # every picture twice
    data = open_dataset(f"folder:{photos}")
    pairs = [set((rows // 2).tolist()) for rows in data.splits.values()]
    assert sum(map(len, pairs)) == 300
    assert len(set.union(*pairs)) == 300


def test_folder_refusals(photos: Path, tmp_path: Path) -> None:
    spec = f"folder:{photos}"
    table = (photos / "labels.csv").read_text(encoding="utf-8")
    assert refusal(spec, "--keep", "moood") == "unknown attribute 'moood': known are mood, age"
    assert "kept and hidden" in refusal(spec, "--keep", "mood", "--hide", "mood")
    assert "is not a folder" in refusal(f"folder:{tmp_path / 'nowhere'}")
    assert "needs a folder" in refusal("folder")
    (tmp_path / "nothing").mkdir()
    assert "no labels.csv" in refusal(f"folder:{tmp_path / 'nothing'}")
    assert "one folder of pictures alone (photos)" in refusal(f"folder:{tmp_path}")
    assert "known are size, limit, seed, split" in refusal(f"{spec},colour=red")
    assert "pixels" in refusal(f"{spec},size=big")
    assert "twice" in refusal(f"{spec},size=16,size=32")
    assert "no partition of its own" in refusal(f"{spec},split=official")
    assert "no identity" in refusal(f"{spec},split=identity")
    assert "the validation split has 40 images, at least 50" in refusal(f"{spec},limit=400")
    (photos / "classes.json").write_text(json.dumps({"mood": ["happy", "angry"]}))
    assert refusal(spec).endswith("labels.csv line 2: mood is 'sad', outside classes.json: happy, angry")
    (photos / "classes.json").write_text(json.dumps({"colour": ["red"]}))
    assert "no attribute of labels.csv" in refusal(spec)
    (photos / "classes.json").unlink()
    for broken, said in [
        (table.replace("file,", "name,", 1), "must name a column 'file'"),
        (table.replace("000.png,sad,9", ",sad,9"), "line 2: no value for 'file'"),
        (table.replace("000.png,sad,9", "000.png,sad"), "line 2: 2 values for 3 columns"),
        (table + "000.png,sad,9\n", "names 1 files more than once, e.g. 000.png"),
        (table.replace("happy", "sad"), "attribute 'mood' has one class only ('sad')"),
        ("file\na.png\n", "no attribute column"),
        ("", "must name a column 'file'"),
        ("file,split,mood\n\na.png,early,1\n", "line 3: split is 'early'"),
        ("file,mood\na.png,\x00\n", "not text in UTF-8"),
    ]:
        (photos / "labels.csv").write_text(broken)
        assert said in refusal(spec)
    (photos / "labels.csv").write_bytes(b"\xff\xfe\x00file")
    assert "not text in UTF-8" in refusal(spec)
    assert f"did you mean folder:{photos}?" in refusal(str(photos))
    assert "did you mean synthetic?" in refusal("sinthetic,count=600")


def test_missing_and_broken_pictures(photos: Path, tmp_path: Path) -> None:
    (photos / "003.png").unlink()
    (photos / "005.png").write_bytes(b"broken")
    data = open_dataset(f"folder:{photos},size=16")
    assert len(data) == 598
    assert len(data.skipped) == 2
    assert "no such file" in data.skipped[0]
    np.testing.assert_array_equal(data.images[3:], noise(600)[[4, *range(6, 600)]])
    assert data.labels["mood"].tolist() == [
        1,
        0,
        1,
        *([1, 0] * 300)[4:5],
        *([1, 0] * 300)[6:],
    ]  # moved up too
    result = CliRunner().invoke(app, ["inspect", f"folder:{photos}", "--json"])
    assert len(json.loads(result.stdout)["skipped"]) == 2
    for i in range(100, 107):
        (photos / f"{i}.png").unlink()
    said = refusal(f"folder:{photos}")
    assert "003.png" in said
    assert "more than 1%" in said
    assert [path for path in (tmp_path / "cache").iterdir() if path.name.startswith(".")] == []


# --- grammar ---


def test_specs() -> None:
    spec = parse_spec("utkface:a,b/c=d,size=48x64,limit=2000,seed=3,split=stratified,attacker=.1")
    assert (str(spec.path), spec.size, spec.limit, spec.seed) == ("a,b/c=d", (48, 64), 2000, 3)
    assert spec.attacker == 0.1
    assert parse_spec(str(spec)) == spec
    twice = parse_spec("synthetic,count=9,couple=hair:skin:0.5,couple=smiling:glasses:-1")
    assert parse_spec(str(twice)) == twice
    assert "known are synthetic, scenes, folder, " in refusal("coco:here")
    assert "write KIND:PATH" in refusal("synthetic,64")
    for wrong in (
        "size=0",
        "size=4",
        "size=64x",
        "limit=0",
        "limit=1.5",
        "seed=-1",
        "split=random",
        "size=",
        "attacker=1",
    ):
        assert wrong.partition("=")[2] in refusal(f"synthetic,{wrong}")


# --- UTKFace ---


def test_utkface(tmp_path: Path) -> None:
    folder = tmp_path / "UTKFace"
    ages = [1, 12, 13, 19, 20, 29, 30, 39, 40, 59, 60, 116]
    names = [f"{ages[i % 12]}_{i % 2}_{i % 5}_2017{i:013d}.jpg{'.chip.jpg' * (i % 2)}" for i in range(600)]
    save(folder, noise(600), names)
    save(folder, noise(2), ["39_1_20170116174525125.jpg", "61_3_1_20170109.jpg"])  # no race; no such gender
    (folder / "notes.txt").write_text("not a picture")
    data = open_dataset(f"utkface:{folder},size=16")
    assert [name.split(":")[0] for name in data.skipped] == [
        "39_1_20170116174525125.jpg",
        "61_3_1_20170109.jpg",
    ]
    for row, name in enumerate(sorted(names)):
        age, gender, race = (int(part) for part in name.split("_")[:3])
        band = sum(age > last for last in (12, 19, 29, 39, 59))
        assert [int(data.labels[a][row]) for a in data.attributes] == [gender, race, band, int(age >= 30)]
    for name in names[:3]:  # the original archive unpacks to part1 ... part3
        (tmp_path / "parts" / "part1").mkdir(parents=True, exist_ok=True)
        shutil.copy(folder / name, tmp_path / "parts" / "part1" / name)
    assert len(load_source(f"utkface:{tmp_path / 'parts'}").pictures.names) == 3
    assert "no UTKFace pictures" in refusal(f"utkface:{tmp_path / 'cache'}")


# --- CelebA ---


@pytest.fixture
def celeba(tmp_path: Path) -> Path:
    """900 pictures of 90 persons in the makers' layout."""
    folder = tmp_path / "celeba"
    names = [f"{i + 1:06d}.jpg" for i in range(900)]
    tall = np.random.default_rng(0).integers(0, 256, (900, 22, 18, 3), dtype=np.uint8)
    save(folder / "img_align_celeba", tall, names)
    lines = [f"{n} {'1' if i % 2 else '-1'}  {'1' if i // 10 % 2 else '-1'}" for i, n in enumerate(names)]
    (folder / "list_attr_celeba.txt").write_text("900\nSmiling Male\n" + "\n".join(lines) + "\n")
    (folder / "identity_CelebA.txt").write_text(
        "".join(f"{n} {1000 + i // 10}\n" for i, n in enumerate(names))
    )
    part = [0] * 700 + [1] * 80 + [2] * 120
    (folder / "list_eval_partition.txt").write_text(
        "".join(f"{n} {p}\n" for n, p in zip(names, part, strict=True))
    )
    return folder


def check_celeba(data: Dataset) -> None:
    assert list(data.attributes) == ["Smiling", "Male", "identity"]
    assert data.labels["Smiling"].tolist() == [0, 1] * 450
    assert data.labels["Male"][10:20].tolist() == [1] * 10
    assert data.images.shape == (900, 64, 64, 3)


def test_celeba(celeba: Path) -> None:
    data = open_dataset(f"celeba:{celeba}", keep=["Smiling"], hide=["Male"])
    check_celeba(data)
    assert data.splits[Split.TEST].tolist() == list(range(780, 900))
    persons = [set((data.splits[split] // 10).tolist()) for split in Split]
    assert sum(map(len, persons)) == len(set.union(*persons)) == 90
    known = open_dataset(f"celeba:{celeba}", hide=["identity"])
    assert len(set(known.labels["identity"][known.splits[Split.TEST]].tolist())) == 90
    (celeba / "list_eval_partition.txt").unlink()
    assert open_dataset(f"celeba:{celeba}").spec.endswith("split=identity")


def test_celeba_as_csv_and_with_subfolders(celeba: Path) -> None:
    rows = [
        line.split()
        for line in (celeba / "list_attr_celeba.txt").read_text(encoding="utf-8").splitlines()[2:]
    ]
    write_csv(celeba / "list_attr_celeba.csv", ["image_id", "Smiling", "Male"], rows)
    (celeba / "list_attr_celeba.txt").unlink()
    (celeba / "Eval").mkdir()
    (celeba / "list_eval_partition.txt").rename(celeba / "Eval" / "list_eval_partition.txt")
    data = open_dataset(f"celeba:{celeba}")
    check_celeba(data)
    assert len(data.splits[Split.TEST]) == 120


def test_celeba_refusals(celeba: Path, tmp_path: Path) -> None:
    attributes = celeba / "list_attr_celeba.txt"
    text = attributes.read_text(encoding="utf-8")
    attributes.write_text(text.replace("000003.jpg -1", "000003.jpg 7"))
    assert "'000003.jpg'" in refusal(f"celeba:{celeba}")
    attributes.write_text(text)
    attributes.write_text(text.replace("900\n", "202599\n", 1))
    assert "announces 202599 pictures and lists 900" in refusal(f"celeba:{celeba}")
    attributes.write_text(text)
    (celeba / "identity_CelebA.txt").write_text("000001.jpg 5\n")
    assert "no number for 899 of 900" in refusal(f"celeba:{celeba}")
    attributes.unlink()
    assert "no list_attr_celeba.txt" in refusal(f"celeba:{celeba}")
    assert "img_align_celeba is not a folder" in refusal(f"celeba:{tmp_path}")


# --- CIFAR ---


def write_records(path: Path, images: NDArray[np.uint8], labels: NDArray[np.int64]) -> None:
    planes = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
    path.write_bytes(np.concatenate([labels.astype(np.uint8), planes], axis=1).tobytes())


def test_cifar10_binary(tmp_path: Path) -> None:
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    images, labels = noise(900, 32), np.arange(900) % 10
    for batch in range(5):
        part = slice(batch * 150, (batch + 1) * 150)
        write_records(folder / f"data_batch_{batch + 1}.bin", images[part], labels[part, None])
    write_records(folder / "test_batch.bin", images[750:], labels[750:, None])
    classes = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    (folder / "batches.meta.txt").write_text("\n".join(classes) + "\n\n")
    data = open_dataset(f"cifar10:{tmp_path}")
    np.testing.assert_array_equal(data.images, images)
    assert data.labels["label"].tolist() == labels.tolist()
    assert data.labels["animal"][:10].tolist() == [0, 0, 1, 1, 1, 1, 1, 1, 0, 0]
    assert data.splits[Split.TEST].tolist() == list(range(750, 900))
    (folder / "test_batch.bin").write_bytes(b"short")
    assert "not whole records of 3073" in refusal(f"cifar10:{folder}")
    (folder / "test_batch.bin").unlink()
    assert "lacks test_batch.bin: unpack cifar-10-binary.tar.gz" in refusal(f"cifar10:{folder}")


def test_cifar100_binary(tmp_path: Path) -> None:
    images = noise(800, 32)
    labels = np.stack([np.arange(800) % 20, np.arange(800) % 100], axis=1)  # coarse, fine
    write_records(tmp_path / "train.bin", images[:600], labels[:600])
    write_records(tmp_path / "test.bin", images[600:], labels[600:])
    (tmp_path / "fine_label_names.txt").write_text("".join(f"fine{i}\n" for i in range(100)))
    (tmp_path / "coarse_label_names.txt").write_text("".join(f"coarse{i}\n" for i in range(20)))
    data = open_dataset(f"cifar100:{tmp_path}", keep=["coarse"], hide=["fine"])
    np.testing.assert_array_equal(data.images, images)
    assert data.labels["coarse"].tolist() == labels[:, 0].tolist()
    assert data.labels["fine"].tolist() == labels[:, 1].tolist()
    (tmp_path / "coarse_label_names.txt").write_text("one\n")
    assert "has 1 names, expected 20" in refusal(f"cifar100:{tmp_path}")


class Trap:
    """Unpickling this creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (str(self.path), "w")


def test_pickles_are_never_opened(tmp_path: Path) -> None:
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    (folder / "data_batch_1").write_bytes(pickle.dumps(Trap(tmp_path / "sprung")))
    for place in (folder, tmp_path):
        said = refusal(f"cifar10:{place}")
        assert "pickle" in said
        assert "fetch cifar-10-binary.tar.gz" in said
    hidden = np.empty(1, dtype=object)
    hidden[0] = Trap(tmp_path / "sprung")
    names = ("x_train", "y_train", "x_test", "y_test", "classes", "animal_of_class")
    np.savez(tmp_path / "c.npz", **dict.fromkeys(names, hidden))
    assert "cannot be read" in refusal(f"cifar10:{tmp_path}")
    assert not (tmp_path / "sprung").exists()


# --- Fashion-MNIST ---


def test_fashion_mnist(tmp_path: Path) -> None:
    grey = np.random.default_rng(0).integers(0, 256, (800, 28, 28), dtype=np.uint8)
    labels = (np.arange(800) % 10).astype(np.uint8)
    for part, rows in (("train", slice(0, 650)), ("t10k", slice(650, 800))):
        n = len(labels[rows])
        images = b"\0\0\x08\x03" + np.array([n, 28, 28], dtype=">u4").tobytes() + grey[rows].tobytes()
        values = b"\0\0\x08\x01" + np.array([n], dtype=">u4").tobytes() + labels[rows].tobytes()
        (tmp_path / f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(images))
        (tmp_path / f"{part}-labels-idx1-ubyte").write_bytes(values)  # unpacked is read too
    data = open_dataset(f"fashion-mnist:{tmp_path}")
    assert data.size == (32, 32)
    np.testing.assert_array_equal(data.images[:, 2:30, 2:30, 1], grey)
    assert data.images[:, :2].max() == 0
    assert data.labels["coarse"][:10].tolist() == [0, 1, 0, 0, 0, 2, 0, 2, 3, 2]
    assert len(data.splits[Split.TEST]) == 150
    whole = (tmp_path / "t10k-images-idx3-ubyte.gz").read_bytes()
    (tmp_path / "t10k-images-idx3-ubyte.gz").write_bytes(whole[:-200])
    assert "cannot be read" in refusal(f"fashion-mnist:{tmp_path}")
    (tmp_path / "short").write_bytes(b"\0\0\x08\x01\0\0\0\x09abc")
    with pytest.raises(DataError, match="do not hold the shape"):
        read_idx(tmp_path / "short")
    (tmp_path / "t10k-images-idx3-ubyte.gz").unlink()
    assert "lacks t10k-images-idx3-ubyte.gz" in refusal(f"fashion-mnist:{tmp_path}")


# --- MedMNIST ---


def medmnist(path: Path, **changed: NDArray[Any]) -> Path:
    rng = np.random.default_rng(0)
    arrays = {}
    for part, count in (("train", 400), ("val", 60), ("test", 80)):
        arrays[f"{part}_images"] = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        arrays[f"{part}_labels"] = (np.arange(count) % 2).astype(np.uint8)[:, None]
    arrays |= changed
    np.savez(path, **arrays)
    return path


def test_medmnist(tmp_path: Path) -> None:
    path = medmnist(tmp_path / "pneumoniamnist.npz")
    data = open_dataset(f"medmnist:{path}", keep=["label"])
    given = np.load(path)
    assert data.images.shape == (540, 32, 32, 1)
    np.testing.assert_array_equal(data.images[:400, 2:30, 2:30, 0], given["train_images"])
    assert data.images[:, :2].max() == 0
    assert data.attributes["label"].classes == ("normal", "pneumonia")
    assert [len(data.splits[split]) for split in (Split.VALIDATION, Split.TEST)] == [60, 80]
    assert open_dataset(f"medmnist:{path},planes=3").images.shape == (540, 32, 32, 3)
    colour = np.random.default_rng(1).integers(0, 256, (400, 64, 64, 3), dtype=np.uint8)
    other = medmnist(
        tmp_path / "dermamnist_64.npz",
        train_images=colour,
        val_images=colour[:60],
        test_images=colour[60:140],
    )
    assert load_source(f"medmnist:{other}").planes == 3
    assert load_source(f"medmnist:{other}").size == (64, 64)
    assert load_source(f"medmnist:{other}").attributes[0].classes == ("0", "1")


def test_medmnist_refusals(tmp_path: Path) -> None:
    assert "write medmnist:FILE.npz" in refusal("medmnist")
    assert "is none" in refusal(f"medmnist:{tmp_path / 'nowhere.npz'}")
    (tmp_path / "text.npz").write_text("no archive")
    assert "is no .npz of MedMNIST" in refusal(f"medmnist:{tmp_path / 'text.npz'}")
    np.savez(tmp_path / "half.npz", train_images=np.zeros((9, 28, 28), np.uint8))
    assert "lacks train_labels" in refusal(f"medmnist:{tmp_path / 'half.npz'}")
    volumes = np.zeros((60, 28, 28, 28), np.uint8)
    parts = {f"{part}_images": volumes[:n] for part, n in (("train", 60), ("val", 20), ("test", 30))}
    labels = {
        f"{part}_labels": np.zeros((n, 1), np.uint8) for part, n in (("train", 60), ("val", 20), ("test", 30))
    }
    assert "of one size" in refusal(f"medmnist:{medmnist(tmp_path / 'organ.npz', **parts, **labels)}")
    many = np.zeros((400, 14), np.uint8)
    assert "one whole number a picture" in refusal(
        f"medmnist:{medmnist(tmp_path / 'chest.npz', train_labels=many)}"
    )
    hidden = np.empty(400, dtype=object)
    hidden[0] = Trap(tmp_path / "sprung")
    assert "is no .npz" in refusal(f"medmnist:{medmnist(tmp_path / 'trap.npz', train_labels=hidden)}")
    assert not (tmp_path / "sprung").exists()


# --- the command ---


def test_inspect_prints_for_people_and_for_programs(photos: Path) -> None:
    arguments = ["inspect", f"folder:{photos}", "--keep", "mood", "--hide", "age"]
    facts = json.loads(CliRunner().invoke(app, [*arguments, "--json"]).stdout)
    assert facts["splits"] == {"defender": 270, "attacker": 150, "validation": 60, "test": 120}
    assert sum(map(sum, facts["attributes"]["age"].values())) == 600
    (row,) = facts["label_dependence"]
    assert (row["hidden"], row["given"]) == ("age", ["mood"])
    assert row["entropy_bits"] == pytest.approx(np.log2(3))
    assert row["conditional_bits"] == pytest.approx(np.log2(3))  # period 2 and period 3 are independent
    told = CliRunner().invoke(app, arguments).stdout
    assert f"id {facts['id']}, 600 images, 64 x 64 pixels" in told
    assert "happy" in told
