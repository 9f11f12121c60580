"""A given cloud network is asked before training: swapped classes, other input ranges, networks that know nothing."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from sfumato.core.errors import SfumatoError, UsageError
from sfumato.data import open_dataset
from sfumato.training.clean import check_cloud, make_cloud
from sfumato.training.config import TrainConfig, make_config
from sfumato.training.fit import Fit, read_orders
from sfumato.training.runner import train

SIDE = 16


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Pictures whose upper half is brighter or darker than the lower."""
    from PIL import Image

    folder, draw = tmp_path_factory.mktemp("halves"), np.random.default_rng(0)
    lines = ["file,top,corner"]
    for number in range(600):
        top, corner = draw.integers(0, 2, 2)
        image = draw.integers(90, 130, (SIDE, SIDE, 3))
        image[: SIDE // 2] += 60 * top
        image[SIDE // 2 :] += 60 * (1 - top)
        image[:4, :4] = 250 * corner
        Image.fromarray(image.astype(np.uint8)).save(folder / f"{number}.png")
        lines.append(f"{number}.png,{('dark', 'light')[top]},{('no', 'yes')[corner]}")
    (folder / "labels.csv").write_text("\n".join(lines))
    return f"folder:{folder},size={SIDE}"


def provider(path: Path, *, swap: bool = False, unit: float = 1.0, blind: bool = False) -> Path:
    """Compares the halves, perfectly; `unit` is the largest value of its images, beyond which it is as sure as it gets."""
    weights = np.zeros((3, SIDE, SIDE), np.float32)
    weights[:, : SIDE // 2], weights[:, SIDE // 2 :] = 1, -1
    flat = weights.reshape(-1) / (3 * SIDE * SIDE / 2) * (0 if blind else 40 / unit)
    columns = np.stack([-flat, flat][:: -1 if swap else 1], 1)
    # A threshold between the classes at a quarter of the range: what is 255 times too small stays below it.
    bias = np.array([2.0, -2.0][:: -1 if swap else 1], np.float32) * (unit > 1)
    graph = helper.make_graph(
        [helper.make_node("Flatten", ["image"], ["f"]), helper.make_node("Gemm", ["f", "W", "b"], ["top"])],
        "g",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["B", 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("top", TensorProto.FLOAT, ["B", 2])],
        [numpy_helper.from_array(columns.astype(np.float32), "W"), numpy_helper.from_array(bias, "b")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def config(data: str, path: Path, **more: Any) -> TrainConfig:
    return TrainConfig(data=data, keep=("top",), bits=8, frozen_cloud=str(path), **more)


def check(settings: TrainConfig) -> None:
    check_cloud(settings, open_dataset(settings.data, keep=settings.keep, hide=()))


def test_swapped_classes_stop_before_training(data: str, tmp_path: Path) -> None:
    swapped = provider(tmp_path / "swapped.onnx", swap=True)
    with pytest.raises(SfumatoError, match=r"0\.0 % of clean photos, no better than a guess") as told:
        train(config(data, swapped), tmp_path / "run")
    assert "with --class-order light,dark it would be 100.0 %" in str(told.value)
    assert not (tmp_path / "run").exists()
    check(config(data, swapped, class_order="light,dark"))
    check(config(data, swapped, class_order="top=light,dark"))
    check(config(data, provider(tmp_path / "right.onnx")))


def test_another_input_range_stops_before_training(data: str, tmp_path: Path) -> None:
    path = provider(tmp_path / "bytes.onnx", unit=255)
    with pytest.raises(SfumatoError, match=r"with --input-range 0\.\.255 it would be 100"):
        check(config(data, path))
    check(config(data, path, input_range="0..255"))
    both = provider(tmp_path / "both.onnx", unit=255, swap=True)
    with pytest.raises(SfumatoError, match=r"--class-order light,dark and --input-range 0\.\.255"):
        check(config(data, both))
    check(config(data, both, class_order="light,dark", input_range="0..255"))


def test_what_the_user_says_is_believed(data: str, tmp_path: Path) -> None:
    swapped = provider(tmp_path / "swapped.onnx", swap=True)
    check(config(data, swapped, class_order="dark,light", input_range="0..1"))
    with pytest.raises(SfumatoError, match="no better than a guess"):
        check(config(data, swapped, class_order="dark,light"))


def test_a_network_that_knows_nothing_says_what_to_check(data: str, tmp_path: Path) -> None:
    with pytest.raises(SfumatoError, match=r"\(--class-order\) \(the data have dark, light\)") as told:
        check(config(data, provider(tmp_path / "blind.onnx", blind=True)))
    assert "(--input-range)" in str(told.value)
    assert "\n" not in str(told.value)


def test_the_kept_copy_answers_as_it_was_told(data: str, tmp_path: Path) -> None:
    settings = config(data, provider(tmp_path / "p.onnx", unit=255, swap=True))
    settings = settings.model_copy(update={"class_order": "light,dark", "input_range": "0..255"})
    dataset = open_dataset(data, keep=("top",))
    import torch

    images = torch.from_numpy(dataset.images[:200].copy()).permute(0, 3, 1, 2) / 255
    found = make_cloud(settings, dataset).eval()(images)["top"].argmax(1).numpy()
    assert (found == dataset.labels["top"][:200]).all()


def test_a_factory_is_asked_too(data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "swapped_own.py").write_text(
        "import torch\n"
        "class Halves(torch.nn.Module):\n"
        "    def forward(self, x):\n"
        "        gap = x[:, :, :8].mean((1, 2, 3)) - x[:, :, 8:].mean((1, 2, 3))\n"
        "        return {'top': torch.stack([gap, -gap], 1)}\n"
        "def make(classes):\n"
        "    return Halves()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(SfumatoError, match="with its classes in the order light,dark it would be 100"):
        check(TrainConfig(data=data, keep=("top",), bits=8, frozen_cloud="swapped_own:make"))


def test_orders_are_read_and_refused() -> None:
    classes = {"hat": ("no", "yes"), "age": ("young", "old", "older")}
    assert read_orders("hat = yes, no; age=old,older,young", classes) == {"hat": (1, 0), "age": (2, 0, 1)}
    assert read_orders("", classes) == {}
    for text, words in (
        ("yes,no", "ATTRIBUTE=CLASS"),
        ("hut=yes,no", "names 'hut'"),
        ("hat=yes", "the data have no, yes"),
        ("hat=yes,no,no", "the data have no, yes"),
    ):
        with pytest.raises(UsageError, match=words):
            read_orders(text, classes)
    with pytest.raises(UsageError, match="describe a file"):
        make_config({"data": "synthetic", "keep": "smiling", "class_order": "yes,no"})
    with pytest.raises(UsageError, match="input_range"):
        make_config({"data": "synthetic", "keep": "smiling", "frozen_cloud": "a.onnx", "input_range": "0..2"})


def test_rare_classes_are_no_guess() -> None:
    rare = Fit(np.array([[400, 80], [2, 18]]))  # below the commonest class, and still worth something
    assert rare.accuracy < rare.guess
    assert rare.knows_something()
    assert not Fit(np.array([[480, 0], [20, 0]])).knows_something()
    assert not Fit(np.array([[0, 250], [250, 0]])).knows_something()
    assert not Fit(np.array([[120, 130], [128, 122]])).knows_something()
    assert Fit(np.array([[0, 9, 1], [0, 0, 10], [10, 0, 0]])).best_order == (1, 2, 0)
