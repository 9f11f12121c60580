"""Labels as people write them: the right classes, or one line that says what to do; and pictures without a table."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sfumato.core.errors import DataError
from sfumato.core.options import names
from sfumato.data import Split, open_dataset
from sfumato.data.classes import meaning, to_bins, to_classes
from sfumato.data.dataset import Dataset
from sfumato.data.loaders.folder import load_folder
from sfumato.data.registry import load_source, parse_spec
from sfumato.data.source import TEST, TRAIN, UNLABELLED, Source
from sfumato.data.text_table import read_table
from sfumato.training import TrainConfig

COUNT = 540


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SFUMATO_CACHE", str(tmp_path_factory.getbasetemp() / "folder-cache"))


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    pixels = np.random.default_rng(0).integers(0, 256, (COUNT, 8, 8, 3), dtype=np.uint8)
    for number, one in enumerate(pixels):
        Image.fromarray(one).save(folder / f"i{number}.bmp")
    return folder


def table(
    folder: Path, row: Callable[[int], str], header: str = "file,smile", encoding: str = "utf-8"
) -> Source:
    """The source of a folder whose table has these rows after each file's name."""
    text = "".join(f"i{number}.bmp{row(number)}\n" for number in range(COUNT))
    (folder / "labels.csv").write_bytes(f"{header}\n{text}".encode(encoding))
    return load_folder(parse_spec(f"folder:{folder}"))


def opened(folder: Path, *, keep: str = "", hide: str = "", options: str = "") -> Dataset:
    return open_dataset(f"folder:{folder},size=8{options}", keep=names(keep), hide=names(hide))


def classes(source: Source) -> dict[str, tuple[str, ...]]:
    return {one.name: one.classes for one in source.attributes}


# --- the table ---


@pytest.mark.parametrize(
    ("header", "separator", "encoding"),
    [
        ("file;smile", ";", "utf-8"),
        ("file\tsmile", "\t", "utf-16"),
        ("file|smile", "|", "utf-8-sig"),
        ("File,smile", ",", "utf-16-le"),
        ("sep=;\nFILE;smile;;", ";", "utf-16-be"),
        (" file ,\u200bsmile", ",", "utf-32"),
        ("filename,smile", ",", "cp1252"),
        ('"file","smile"', ",", "utf-8"),
    ],
)
def test_separators_encodings_and_headers(photos: Path, header: str, separator: str, encoding: str) -> None:
    source = table(
        photos, lambda n: separator + ("fröhlich", "ernst")[n % 2], header.replace("\u200b", ""), encoding
    )
    assert classes(source) == {"smile": ("ernst", "fröhlich")}
    assert source.labels["smile"].tolist() == [1, 0] * (COUNT // 2)
    assert source.pictures.names[3] == "i3.bmp"


def test_windows_1252_and_merged_spellings_are_said(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def said() -> str:
        return " ".join(capsys.readouterr().err.split())

    table(photos, lambda n: f",{('fröhlich', 'ernst')[n % 2]}", encoding="cp1252")
    assert "read as Windows-1252" in said()
    for spellings, expected, merged in [
        (
            ("yes", "Yes", "yes", "no"),
            ("no", "yes"),
            "smile: 'Yes' as 'yes'. List the classes in classes.json",
        ),
        (("1", "1.0", "01", "0"), ("0", "1"), "smile: '01', '1.0' as '1'. List"),
        (("\u00fcber", "u\u0308ber", "ernst", " ernst\u00a0"), ("ernst", "\u00fcber"), ""),
        (("no", "n\u200bo", "yes", "yes"), ("no", "yes"), ""),
    ]:
        text = [f",{spellings[n % 4]}" for n in range(COUNT)]
        assert classes(table(photos, text.__getitem__))["smile"] == expected
        assert merged in (found := said())
        assert bool(found) == bool(merged)


def test_rows_that_do_not_fit_are_named_by_their_line(photos: Path) -> None:
    for text, expected in [
        ("file,smile\n\n\ni0.bmp,a,b\n", "line 4: 3 values for 2 columns"),
        ("file,smile\ni0.bmp\n", "line 2: 1 values for 2 columns"),
        ('file,smile\ni0.bmp,"a\n', "not a CSV file"),
        ("file,File,smile\n", "must name a column 'file'"),
        ("name,smile\n", "must name a column 'file'"),
        ("file,smile\ni0.bmp,a\n./i0.bmp,b\n", "names 1 files more than once, e.g. i0.bmp"),
        ("file,smile\ni0.bmp,\ni1.bmp,\n", "no attribute column"),
    ]:
        (photos / "labels.csv").write_text(text)
        with pytest.raises(DataError, match=expected) as caught:
            load_folder(parse_spec(f"folder:{photos}"))
        assert "\n" not in str(caught.value)
    (photos / "labels.csv").write_text("file,smile,,\ni0.bmp,a,,\n\ni1.bmp,b,,,\n")
    assert read_table(photos / "labels.csv", key="file").lines == [2, 4]


@pytest.mark.skipif(sys.getfilesystemencoding() != "utf-8", reason="this locale has no such file names")
def test_names_are_found_in_the_spelling_of_the_disk(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for name in ("sub/a.bmp", "Cafe\u0301.bmp", "B.BMP"):
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    (tmp_path / "labels.csv").write_text(
        "file,x\nsub\\a.bmp,1\nCaf\u00e9.bmp,2\nb.bmp,3\ngone.bmp,4\n", encoding="utf-8"
    )
    source = load_folder(parse_spec(f"folder:{tmp_path}"))
    assert source.pictures.names == ["sub/a.bmp", "Cafe\u0301.bmp", "B.BMP", "gone.bmp"]


def test_letters_whose_case_counts_are_listed_in_classes_json(photos: Path) -> None:
    (photos / "classes.json").write_text(json.dumps({"smile": ["a", "A", "b"]}))
    try:
        source = table(photos, lambda n: f",{'aAb'[n % 3]}")
        assert classes(source) == {"smile": ("a", "A", "b")}
        assert source.labels["smile"][:3].tolist() == [0, 1, 2]
        with pytest.raises(
            DataError, match=r"labels.csv line 2: smile is 'B', outside classes.json: a, A, b"
        ):
            table(photos, lambda _: ",B")
    finally:
        (photos / "classes.json").unlink()


# --- rows without a value ---


def test_pictures_without_a_needed_label_are_left_out_and_others_stay(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table(
        photos,
        lambda n: f",{n % 2},{('', 'NA', 'old', 'young')[n % 4] if n < 40 else n // 2 % 2}",
        "file,smile,age",
    )
    data = opened(photos, keep="smile")
    assert len(data) == COUNT
    assert "age" not in data.attributes
    assert data.skipped == ("attribute 'age': not every picture has it, and it was not asked for",)
    data = opened(photos, keep="smile", hide="age")
    assert len(data) == COUNT - 20
    assert data.skipped[0] == "i0.bmp: no value for 'age'"
    assert len(data.skipped) == 20
    assert (data.labels["age"] >= 0).all()
    said = " ".join(capsys.readouterr().err.split())
    assert "20 of 540 pictures have no 'age' and are left out" in said
    assert "'NA' counts as no value" in said


# --- numbers ---


def test_a_quantity_is_asked_for_in_bins(photos: Path) -> None:
    table(photos, lambda n: f",{n % 2},{n % 90}", "file,smile,age")
    with pytest.raises(
        DataError, match=r"'age' has 90 different numbers, from 0 to 89: ask for bins, e\.g\. age:q4"
    ):
        opened(photos, keep="smile", hide="age")
    assert len(opened(photos, keep="smile").attributes["age"].classes) == 90
    data = opened(photos, keep="age", options=",bins=age:0-12/13-19/20-")
    assert data.attributes["age"].classes == ("0-12", "13-19", "20-")
    ages = np.arange(COUNT) % 90
    np.testing.assert_array_equal(data.labels["age"], np.where(ages < 13, 0, np.where(ages < 20, 1, 2)))
    assert open_dataset(data.spec, keep=["age"]).id == data.id
    quarters = opened(photos, keep="age", options=",bins=age:q4")
    assert quarters.attributes["age"].classes == ("0-21", "22-44", "45-66", "67-89")
    assert np.ptp(quarters.counts("age")) <= 6
    gaps = opened(photos, keep="age", options=",bins=age:0-44/50-")
    assert len(gaps) == COUNT - 30
    for options, expected in [
        (",bins=age:5-1/2-", "must rise"),
        (",bins=age:0-5/3-", "must rise and not overlap"),
        (",bins=age:old/new", "'old' is no range"),
        (",bins=age:0-", "at least two"),
        (",bins=age:q95", "too few different values"),
        (",bins=mood:q2", "unknown attribute 'mood'"),
    ]:
        with pytest.raises(DataError, match=expected):
            opened(photos, keep="age", options=options)


def test_bins_of_decimals_and_negative_numbers() -> None:
    values = ("-7.5", "-5", "0", "0.5", "12", "12.5", "13")
    rows = np.arange(len(values))
    for bins, expected in [
        ("-5-0/1-12/13-", [-1, 0, 0, 0, 1, 1, 2]),  # 0.5 is 0 years old, 12.5 is 12
        ("-0.4/0.5-12.5", [0, 0, 0, 1, 1, 1, -1]),
        ("-0/1-", [0, 0, 0, 0, 1, 1, 1]),
    ]:
        assert to_bins("x", values, rows, bins)[1].tolist() == expected, bins
    with pytest.raises(DataError, match="'old' is not a number"):
        to_bins("x", ("1", "old"), np.array([0, 1]), "q2")
    assert to_bins("x", ("1", "2"), np.array([0, UNLABELLED, 1]), "q2")[1].tolist() == [0, UNLABELLED, 1]


def test_bins_given_with_the_attribute_go_into_the_spec() -> None:
    config = TrainConfig(data="folder:own", keep="smile,age:0-12,13-,mood", hide=["height:q4"], bits=8)  # type: ignore[arg-type]
    assert (config.keep, config.hide) == (("smile", "age", "mood"), ("height",))
    assert config.data == "folder:own,bins=age:0-12/13-,bins=height:q4"
    assert TrainConfig(**config.model_dump()) == config
    assert parse_spec(config.data).extra == (("bins", "age:0-12/13-"), ("bins", "height:q4"))


def test_long_numbers_of_persons_stay_apart() -> None:
    assert meaning("20170109142408075") != meaning("20170109142408076")
    found, labels = to_classes(["20170109142408075", "20170109142408076", "7", "7.0", "-0", "0"], "x: y")
    assert len(found) == 4
    assert labels.tolist() == [2, 3, 1, 1, 0, 0]


# --- rare classes ---


def test_every_split_gets_some_of_a_rare_class_or_it_is_said(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table(
        photos, lambda n: f",{'abc'[n % 3]},{'yes' if n % 67 == 5 else 'no'}", "file,smile,ill"
    )  # eight are ill
    data = opened(photos, keep="smile", hide="ill")
    ill = data.attributes["ill"].classes.index("yes")
    counts = [int(data.counts("ill", split)[ill]) for split in Split]
    assert sum(counts) == 8
    assert min(counts) >= 1
    assert [len(rows) for rows in data.splits.values()] == [243, 135, 54, 108]
    assert f"'ill': class 'yes' has 8 pictures, {counts[3]} in test: figures" in " ".join(
        capsys.readouterr().err.split()
    )
    table(photos, lambda n: f",{'neut' if n == 539 else ('neutral', 'smiling')[n % 2]}")
    opened(photos, keep="smile")
    said = " ".join(capsys.readouterr().err.split())
    assert "class 'neut' has 1 pictures (a typing mistake?), none in" in said


# --- no table ---


def test_class_folders_with_and_without_splits(tmp_path: Path) -> None:
    for place in ("cat/1.bmp", "cat/deep/2.bmp", "dog/1.bmp", ".git/x.bmp"):
        (tmp_path / "flat" / place).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(tmp_path / "flat" / place)
    source = load_source(f"imagefolder:{tmp_path / 'flat'}")
    assert source.pictures.names == ["cat/1.bmp", "cat/deep/2.bmp", "dog/1.bmp"]
    assert classes(source) == {"label": ("cat", "dog")}
    assert source.labels["label"].tolist() == [0, 0, 1]
    assert source.official is None
    for place in (
        "train/n01/a.JPEG",
        "train/n02/b.JPEG",
        "val/n01/c.JPEG",
        "val/n02/d.JPEG",
        "test/n02/e.JPEG",
    ):
        (tmp_path / "tree" / place).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(tmp_path / "tree" / place)
    source = load_source(f"imagenet:{tmp_path / 'tree'}")
    assert source.labels["label"].tolist() == [1, 0, 1, 0, 1]
    assert source.official is not None
    assert source.official.tolist() == [TEST, TRAIN, TRAIN, 1, 1]
    Image.new("RGB", (8, 8)).save(tmp_path / "tree" / "val" / "loose.jpg")
    with pytest.raises(DataError, match=r"1 pictures lie in no class folder, e\.g\. val/loose\.jpg"):
        load_source(f"folder:{tmp_path / 'tree'}")
