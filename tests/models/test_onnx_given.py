"""ONNX files as users have them: weights beside them, probabilities, other ranges and orders, batches of one length."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from sfumato.core.errors import SfumatoError
from sfumato.core.onnx_session import open_session
from sfumato.models.onnx.given import RANGES, read_given
from sfumato.models.onnx.reader import check_parity, load_onnx

from . import onnx_graphs as graphs

SIZE = (16, 16)
CLASSES = {"tone": 3}


def run(content: bytes, images: NDArray[np.float32]) -> NDArray[np.float32]:
    """The first output of onnxruntime."""
    session = open_session(content)
    return np.asarray(session.run(None, {session.get_inputs()[0].name: images})[0])


@pytest.fixture
def images() -> NDArray[np.float32]:
    return np.random.default_rng(3).random((5, 3, *SIZE), dtype=np.float32)


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    return graphs.classifier(tmp_path / "c.onnx", CLASSES)


def test_a_file_that_needs_nothing_stays_as_it_is(plain: Path) -> None:
    assert read_given(plain, CLASSES, SIZE) == plain.read_bytes()
    order = {"tone": (0, 1, 2)}
    assert read_given(plain, CLASSES, SIZE, orders=order, input_range="0..1") == plain.read_bytes()


@pytest.mark.parametrize("name", RANGES)
def test_an_input_range_is_part_of_the_graph(name: str, plain: Path, images: NDArray[np.float32]) -> None:
    brought = {
        "0..1": images,
        "0..255": images * 255,
        "-1..1": images * 2 - 1,
        "imagenet": (images - np.array([0.485, 0.456, 0.406], np.float32).reshape(3, 1, 1))
        / np.array([0.229, 0.224, 0.225], np.float32).reshape(3, 1, 1),
    }[name]
    content = read_given(plain, CLASSES, SIZE, input_range=name)
    wanted = run(plain.read_bytes(), brought)
    assert np.allclose(run(content, images), wanted, atol=1e-5 * np.abs(wanted).max())
    cloud = load_onnx(plain, CLASSES, SIZE, content).eval()
    check_parity(cloud, plain, SIZE, content)


def test_classes_are_put_in_the_order_of_the_data(plain: Path, images: NDArray[np.float32]) -> None:
    content = read_given(plain, CLASSES, SIZE, orders={"tone": (2, 0, 1)})
    assert np.array_equal(run(content, images), run(plain.read_bytes(), images)[:, [2, 0, 1]])
    check_parity(load_onnx(plain, CLASSES, SIZE, content).eval(), plain, SIZE, content)


def test_a_last_softmax_is_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights, x = {"w": (3, 768)}, np.random.default_rng(0).random((4, 3, *SIZE), dtype=np.float32)
    image = "float[B,3,16,16] x"
    body = "f = Flatten(x) l = Gemm <transB=1> (f, w) p = Softmax(l) "
    path = graphs.write(tmp_path / "p.onnx", body + "y = Identity(p)", weights, image=image)
    content = read_given(path, CLASSES, SIZE)
    said = " ".join(capsys.readouterr().err.split())  # where a line wraps depends on the length of the path
    assert "softmax of its output y is left out" in said
    found, told = run(content, x), run(path.read_bytes(), x)
    exact = np.exp(found - found.max(1, keepdims=True))
    assert np.allclose(exact / exact.sum(1, keepdims=True), told, atol=1e-6)
    assert np.abs(found).max() > 1
    load_onnx(path, CLASSES, SIZE, content)
    # One that is used elsewhere too is no last one.
    path = graphs.write(tmp_path / "q.onnx", body + "q = Mul(p, l) y = Add(p, q)", weights, image=image)
    assert read_given(path, CLASSES, SIZE) == path.read_bytes()


def beside(tmp_path: Path) -> Path:
    """A network whose weights lie in `w.bin` beside it."""
    model = onnx.load(graphs.classifier(tmp_path / "c.onnx", CLASSES))
    onnx.save(model, tmp_path / "split.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    return tmp_path / "split.onnx"


def test_weights_in_a_second_file_beside_it_are_taken_in(tmp_path: Path, images: NDArray[np.float32]) -> None:
    path = beside(tmp_path)
    content = read_given(path, CLASSES, SIZE)
    assert np.array_equal(run(content, images), run((tmp_path / "c.onnx").read_bytes(), images))
    (tmp_path / "w.bin").unlink()
    load_onnx(path, CLASSES, SIZE, content)  # it stands alone
    with pytest.raises(SfumatoError, match="not in the folder of the network"):
        read_given(path, CLASSES, SIZE)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"location": "../secret"}, "not in the folder"),
        ({"location": "/etc/hostname"}, "not in the folder"),
        ({"location": "link"}, "not in the folder"),
        ({"location": ""}, "not in the folder"),
        ({"offset": "-4"}, "at no place"),
        ({"offset": "1e9"}, "at no place"),
        ({"length": "99999999"}, "not whole"),
        ({"length": "99999999999"}, "larger than 256 MiB"),
    ],
)
def test_weights_elsewhere_are_not_read(tmp_path: Path, changes: dict[str, str], words: str) -> None:
    folder = tmp_path / "network"
    folder.mkdir()
    (tmp_path / "secret").write_bytes(bytes(4096))
    (folder / "link").symlink_to(tmp_path / "secret")
    path = beside(folder)
    model = onnx.load(path, load_external_data=False)
    entry = next(entry for entry in model.graph.initializer if entry.external_data)
    told = {pair.key: pair.value for pair in entry.external_data} | changes
    del entry.external_data[:]
    for key, value in told.items():
        entry.external_data.add(key=key, value=value)
    path.write_bytes(model.SerializeToString())
    with pytest.raises(SfumatoError, match=words) as error:
        read_given(path, CLASSES, SIZE)
    assert "\n" not in str(error.value)


class Tiny(nn.Module):
    """A patch transformer with a class token and a convolutional part."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 16, 4, 4)
        self.token = nn.Parameter(torch.randn(1, 1, 16))
        self.norm, self.mix, self.out = nn.LayerNorm(16), nn.Linear(16, 48), nn.Linear(16, 16)
        self.more = nn.Sequential(nn.LayerNorm(16), nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 16))
        self.head = nn.Linear(16, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(len(x), -1, -1), tokens], 1)
        batch, count, width = tokens.shape
        parts = self.mix(self.norm(tokens)).reshape(batch, count, 3, 2, width // 2).permute(2, 0, 3, 1, 4)
        mixed = nn.functional.scaled_dot_product_attention(*parts.unbind(0))
        tokens = tokens + self.out(mixed.transpose(1, 2).reshape(batch, count, width))
        answer: torch.Tensor = self.head((tokens + self.more(tokens))[:, 0]).softmax(-1)
        return answer


@pytest.mark.parametrize(("dynamo", "length"), [(True, 2), (False, 1), (False, 2)])
def test_what_a_user_types_is_read(
    tmp_path: Path, dynamo: bool, length: int, images: NDArray[np.float32]
) -> None:
    """PyTorch's exporters as they are called without options: a batch of one length, a softmax, attention, layer norm."""
    torch.manual_seed(1)
    module = Tiny().eval()
    path = tmp_path / "user.onnx"
    more: dict[str, Any] = {"dynamo": dynamo} if not dynamo else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(module, (torch.rand(length, 3, *SIZE),), path, **more)
    assert (tmp_path / "user.onnx.data").exists() == dynamo
    content = read_given(path, CLASSES, SIZE)
    assert str(tmp_path).encode() not in content
    assert b"test_onnx_given" not in content  # no stack traces
    cloud = load_onnx(path, CLASSES, SIZE, content).eval()
    check_parity(cloud, path, SIZE, content)
    x = torch.from_numpy(images).requires_grad_()
    logits = cloud(x)["tone"]
    assert torch.allclose(logits.softmax(-1), module(x), atol=1e-5)
    logits.sum().backward()
    assert x.grad is not None
    assert x.grad.abs().sum() > 0


def test_a_batch_that_cannot_be_opened_says_how(tmp_path: Path) -> None:
    path = graphs.write(
        tmp_path / "m.onnx",
        "m = ReduceMean <axes=[0]> (x) z = Sub(x, m) y = GlobalMaxPool(z)",
        image="float[2,3,16,16] x",
    )
    with pytest.raises(
        SfumatoError, match=r"fixed batch of 2; export it with an open first axis: torch\.onnx"
    ):
        read_given(path, {"a": 3}, SIZE)
