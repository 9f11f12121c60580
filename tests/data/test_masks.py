"""Masks: how they are asked for and read, what is refused, and what an answer is worth."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from tests.fixtures.masks import COUNT, write_masks

from sfumato.cli.advise_run import advise, configuration
from sfumato.compare.config import make_compare_config
from sfumato.core.errors import DataError, UsageError
from sfumato.core.mask_file import read_mask, to_cells
from sfumato.core.options import take_bins
from sfumato.data import Dataset, Split, open_dataset
from sfumato.data.truth import MaskTruth, guess_ious, truth, truths
from sfumato.training.config import Augmentation, make_config, stored_config
from sfumato.training.loader import Batches, augment_batch, mirror
from sfumato.training.presets import settings


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SFUMATO_CACHE", str(tmp_path_factory.getbasetemp() / "mask-cache"))
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("masks")
    np.save(out / "masks.npy", write_masks(out))
    return out


def copy(folder: Path, out: Path) -> Path:
    """The same files, linked: what is not changed has been decoded already."""
    return Path(shutil.copytree(folder, out / "masks", copy_function=os.link))


def replace(path: Path, pixels: NDArray[np.uint8]) -> None:
    """Another picture in the place of a linked one."""
    path.unlink()
    Image.fromarray(pixels).save(path)


def opened(folder: Path, keep: str = "lesion:mask", hide: tuple[str, ...] = (), size: str = "16") -> Dataset:
    spec, kept, hidden = take_bins(f"folder:{folder},size={size}", (keep,), hide)
    return open_dataset(spec, keep=kept, hide=hidden)


def test_a_cell_has_the_class_of_most_of_its_pixels(folder: Path) -> None:
    data, masks = opened(folder), np.load(folder / "masks.npy")
    attribute = data.attributes["lesion"]
    assert (attribute.classes, attribute.grid) == (("no", "yes"), (4, 4))
    expected = masks.reshape(COUNT, 4, 4, 4, 4).sum((2, 4)) > 8
    np.testing.assert_array_equal(data.masks["lesion"], expected)
    assert not data.labels["lesion"].any()
    rows = data.splits[Split.TEST]
    np.testing.assert_array_equal(data.targets("lesion", rows), expected[rows])
    np.testing.assert_array_equal(data.targets("side", rows), data.labels["side"][rows])
    assert data.counts("lesion").tolist() == [(~expected).sum(), expected.sum()]
    assert opened(folder, "lesion:mask8").attributes["lesion"].grid == (2, 2)
    assert opened(folder, "lesion:mask8").id != data.id


def test_a_mask_is_cropped_as_its_picture(folder: Path) -> None:
    """16x16 pictures at 16 x 32: the middle half of the rows is left of both."""
    masks = np.load(folder / "masks.npy")[:, 4:12]
    found = opened(folder, size="16x32").masks["lesion"]
    assert found.shape == (COUNT, 4, 8)
    expected = masks.reshape(COUNT, 4, 2, 8, 2).sum((2, 4)) > 2
    np.testing.assert_array_equal(found, expected)


def test_cells_of_any_mask_are_those_of_a_plain_loop() -> None:
    rng = np.random.default_rng(1)
    mask = rng.integers(0, 3, (7, 10), dtype=np.uint8)
    found = to_cells(mask, (2, 4), 3)
    fine = mask.repeat(2 * 4, 0).repeat(4 * 2, 1)  # whole pixels in every cell
    tall, wide = fine.shape[0] // 2, fine.shape[1] // 4
    for row in range(2):
        for column in range(4):
            inside = fine[row * tall : (row + 1) * tall, column * wide : (column + 1) * wide]
            assert found[row, column] == np.bincount(inside.ravel(), minlength=3).argmax()


def test_classes_are_named_in_classes_json(folder: Path, tmp_path: Path) -> None:
    own, masks = copy(folder, tmp_path), np.load(folder / "masks.npy")
    masks[:, :8, :8] *= 2
    for i, one in enumerate(masks):
        (own / f"mask{i}.png").unlink()
        image = Image.fromarray(one, "P")
        image.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
        image.save(own / f"mask{i}.png", compress_level=1)
    with pytest.raises(DataError, match="value 2 is none of the 2 classes of the mask"):
        opened(own)
    (own / "classes.json").write_text(json.dumps({"lesion": ["nothing", "old", "new"]}))
    data = opened(own)
    assert data.attributes["lesion"].classes == ("nothing", "old", "new")
    assert set(np.unique(data.masks["lesion"])) == {0, 1, 2}


@pytest.mark.parametrize(
    ("keep", "hide", "message"),
    [
        ("side", ("lesion:mask",), "'lesion' cannot be hidden as a mask: hide a label of the picture"),
        ("nobody:mask", (), "folder here has no mask 'nobody'"),
        ("lesion:mask5", (), "lesion:mask5: a cell is 2, 4, 8 or 16 pixels wide"),
        ("lesion:mask16", (), "'lesion' has one class only"),
        ("side:mask", (), "no such mask"),
    ],
)
def test_what_is_no_mask_is_refused(folder: Path, keep: str, hide: tuple[str, ...], message: str) -> None:
    with pytest.raises(DataError, match=message):
        opened(folder, keep, hide)


def test_drawn_scenes_have_no_masks() -> None:
    with pytest.raises(DataError, match="scenes here has no mask 'place'"):
        open_dataset("scenes,count=600,mask=place:4", keep=("place",))


def test_files_that_are_no_masks_are_refused(tmp_path: Path) -> None:
    grey = np.zeros((8, 8), np.uint8)
    Image.fromarray(grey).save(tmp_path / "mask.jpg")
    Image.fromarray(np.dstack([grey, grey, grey + 1])).save(tmp_path / "colour.png")
    Image.fromarray(grey.astype(np.uint16) + 300).save(tmp_path / "deep.png")
    (tmp_path / "text.png").write_text("no picture")
    for name, message in [
        ("mask.jpg", "no mask that can be read; masks are PNG"),
        ("colour.png", "one number a pixel"),
        ("deep.png", "values of 0 to 255, not 300 to 300"),
        ("text.png", "no mask that can be read"),
        ("none.png", "no such mask"),
    ]:
        with pytest.raises(DataError, match=message):
            read_mask(tmp_path / name)
    Image.fromarray(np.dstack([grey + 2] * 3)).save(tmp_path / "grey.png")
    assert (read_mask(tmp_path / "grey.png") == 2).all()


def test_a_mask_of_another_shape_and_one_that_is_missing_stop(folder: Path, tmp_path: Path) -> None:
    own = copy(folder, tmp_path)
    replace(own / "mask7.png", np.zeros((8, 16), np.uint8))
    with pytest.raises(
        DataError, match=r"7\.png: its mask has 16 x 8 pixels, which is no smaller form of 16 x 16"
    ):
        opened(own)
    replace(own / "mask7.png", np.zeros((8, 8), np.uint8))
    assert not opened(own).masks["lesion"][7].any()
    (own / "mask9.png").unlink()
    with pytest.raises(DataError, match=r"mask9\.png: no such mask"):
        opened(own)


def test_pictures_without_a_mask_are_left_out(folder: Path, tmp_path: Path) -> None:
    own = copy(folder, tmp_path)
    table = (own / "labels.csv").read_text().replace(",mask3.png,", ",,")
    (own / "labels.csv").unlink()
    (own / "labels.csv").write_text(table)
    data = opened(own)
    assert len(data) == COUNT - 1
    assert len(data.masks["lesion"]) == COUNT - 1
    assert any("3.png: no value for 'lesion'" in line for line in data.skipped)


def plain_iou(found: NDArray[np.int64], true: NDArray[np.int64], classes: int) -> float:
    shares: list[float] = []
    for one in range(classes):
        both = sum(f == t == one for f, t in zip(found.flat, true.flat, strict=True))
        either = sum(one in (f, t) for f, t in zip(found.flat, true.flat, strict=True))
        shares += [both / either] if either else []
    return sum(shares) / len(shares)


def test_credits_are_those_of_a_plain_loop(folder: Path) -> None:
    data = opened(folder)
    rows, masks = data.splits[Split.TEST], data.masks["lesion"].astype(np.int64)
    facts = truth(data, "lesion", rows)
    assert isinstance(facts, MaskTruth)
    scores = np.random.default_rng(2).normal(size=(len(rows), 2, 4, 4))
    expected = [plain_iou(one.argmax(0), masks[row], 2) for row, one in zip(rows, scores, strict=True)]
    np.testing.assert_allclose(facts.credit(scores), expected)
    right = np.mean([one.argmax(0) == masks[row] for row, one in zip(rows, scores, strict=True)])
    assert facts.cells_right(scores.argmax(1)) == pytest.approx(right)
    usual = masks[data.splits[Split.DEFENDER]].mean(0) > 0.5
    guess = np.mean([plain_iou(usual.astype(np.int64), masks[row], 2) for row in rows])
    assert guess_ious(truths(data, ["lesion", "side"], rows)) == {"lesion": pytest.approx(guess)}
    assert facts.guess_error is None


def test_masks_move_with_their_pictures(folder: Path) -> None:
    """A picture that is its own mask, enlarged, stays it wherever it is moved to, but for cells that a border crosses."""
    data = opened(folder)
    (batch,) = list(Batches(data, Split.TEST, ("lesion", "side"), 1000).ordered())
    masks = batch.labels["lesion"]
    assert torch.equal(masks, torch.from_numpy(data.targets("lesion", data.splits[Split.TEST])))
    shown = masks[:, None].float().repeat_interleave(4, 2).repeat_interleave(4, 3).repeat(1, 3, 1, 1)
    torch.manual_seed(0)
    still = Augmentation(contrast=0, brightness=0)
    moved, labels = augment_batch(shown, {"lesion": masks, "side": batch.labels["side"]}, still)
    seen = moved[:, 0].unfold(1, 4, 4).unfold(2, 4, 4).mean((3, 4))
    certain = (seen < 0.1) | (seen > 0.9)
    assert certain.float().mean() > 0.5
    assert (seen.round().long() == labels["lesion"])[certain].float().mean() > 0.99
    assert not torch.equal(labels["lesion"], masks)
    assert torch.equal(labels["side"], batch.labels["side"])
    mirrored, labels = mirror(shown, {"lesion": masks})
    assert torch.equal(mirrored[:, 0, ::4, ::4].long(), labels["lesion"])
    assert not torch.equal(labels["lesion"], masks)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "answer"}, "no code word holds one: give --mode picture"),
        ({"mode": "answer", "equal_odds": 0.1, "hide": "side"}, "no code word holds one"),
        ({"shortlist": True}, "shortlist cannot be had with it"),
        ({"cloud": "lite0"}, "cloud lite0 cannot be had with it"),
        ({"frozen_cloud": "own:net"}, "frozen_cloud own:net cannot be had with it"),
        ({"frozen_cloud": "net.onnx"}, "frozen_cloud net.onnx cannot be had with it"),
        ({"decision": "largest"}, "decision largest cannot be had with it"),
        ({"beyond": 0.1}, "beyond cannot be had with it"),
        ({"gates": True}, "gates cannot be had with it"),
        ({"objective": "literal"}, "objective literal cannot be had with it"),
    ],
)
def test_what_does_not_go_together_with_a_mask(options: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message) as found:
        make_config({"data": "folder:own", "keep": "lesion:mask", **options})
    assert "\n" not in str(found.value)
    assert "lesion" in str(found.value)


def test_who_knows_labels_alone_refuses_masks(folder: Path) -> None:
    with pytest.raises(UsageError, match="lesion is a mask, and the other methods know labels alone"):
        make_compare_config({"data": f"folder:{folder}", "keep": ("lesion:mask",)})
    config = configuration(f"folder:{folder}", ("lesion:mask",))
    with pytest.raises(UsageError, match="lesion is a mask, which no phone answers alone"):
        advise(config)


def test_presets_know_masks() -> None:
    given = {"keep": "lesion:mask", "hide": "side"}
    config = make_config({**settings("medical", given), "data": "folder:own", **given})
    assert (config.masks, config.objective) == (("lesion",), "suppress")
    stored_config(
        config.model_copy(update={"decision": "none"}).model_dump(mode="json")
    )  # as a run is written down
