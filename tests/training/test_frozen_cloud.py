"""A cloud network that cannot change: trained by the run or given, it stays what it is, and the run stays whole."""

import json
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from tests.fixtures.plans import HASTY
from tests.models import onnx_graphs as graphs
from torch import nn

from sfumato.audit import audit
from sfumato.core.errors import SfumatoError, UsageError
from sfumato.core.files import sha256
from sfumato.data import Split, open_dataset
from sfumato.training.checkpoint import load_module
from sfumato.training.clean import make_cloud
from sfumato.training.config import TrainConfig, make_config
from sfumato.training.evaluate import evaluate
from sfumato.training.loader import Batches
from sfumato.training.run import Run, load_run
from sfumato.training.runner import train
from sfumato.training.trainer import CoTrainer

TINY: dict[str, Any] = {
    "data": "synthetic,size=16,count=600",
    "keep": ("skin",),
    "hide": ("background",),
    "bits": 8,
    "epochs": 2,
    "clean_epochs": 1,
    "pretrain_epochs": 1,
}
OWN = """
import torch
from torch import nn

class Own(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 16, 3, 2), nn.BatchNorm2d(16), nn.ReLU(), nn.Dropout(.5))
        self.heads = nn.ModuleDict({name: nn.Linear(16, count) for name, count in classes.items()})

    def forward(self, x):
        features = self.body(x).mean((2, 3))
        return {name: head(features) for name, head in self.heads.items()}

def make(classes):
    torch.manual_seed(11)
    made = Own(classes)
    head = made.heads["skin"]
    head.weight.data, head.bias.data = torch.tensor(WEIGHT), torch.tensor(BIAS)
    return made

def short(classes):
    return Own({name: count - 1 for name, count in classes.items()})
"""


@pytest.fixture(scope="module")
def classes() -> int:
    dataset = open_dataset(TINY["data"], keep=TINY["keep"], hide=TINY["hide"])
    return len(dataset.attributes["skin"].classes)


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory, classes: int) -> Path:
    path = graphs.classifier(tmp_path_factory.mktemp("given") / "provider.onnx", {"answer": classes})
    dataset = open_dataset(TINY["data"], keep=TINY["keep"], hide=TINY["hide"])
    rows = dataset.splits[Split.DEFENDER]
    return graphs.fit(path, dataset.images[rows], {"answer": dataset.labels["skin"][rows]})


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    dataset = open_dataset(TINY["data"], keep=TINY["keep"], hide=TINY["hide"])
    rows = dataset.splits[Split.DEFENDER]
    images = torch.from_numpy(dataset.images[rows]).permute(0, 3, 1, 2) / 255
    labels = torch.from_numpy(dataset.labels["skin"][rows])
    space: dict[str, Any] = {}
    exec(OWN, space)  # the body as it will be, for a head that knows something
    torch.manual_seed(11)
    with torch.no_grad():
        features = space["Own"]({"skin": 2}).eval().body(images).mean((2, 3))
        ones = torch.cat([features, torch.ones(len(features), 1)], 1).double()
        # Ridge regression: without it the weights are so large that rounding decides.
        square = ones.T @ ones + 1e-3 * torch.eye(ones.shape[1]).double()
        found = torch.linalg.solve(square, ones.T @ nn.functional.one_hot(labels).double()) * 8
    weights = f"WEIGHT = {found[:-1].T.tolist()}\nBIAS = {found[-1].tolist()}\n"
    (tmp_path / "frozen_own.py").write_text(OWN + weights)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "frozen_own", raising=False)
    return "frozen_own:make"


@pytest.fixture(scope="module")
def finished(given: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a given ONNX network, whose original is gone."""
    folder = tmp_path_factory.mktemp("runs")
    original = Path(shutil.copy(given, folder / "gone.onnx"))
    train(TrainConfig(**TINY, frozen_cloud=str(original)), folder / "run")
    original.unlink()
    return folder / "run"


def logged(folder: Path, stage: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return [line for line in lines if line["stage"] == stage]


def unchanged(run: Run, original: Mapping[str, torch.Tensor]) -> None:
    """Weights and batch-norm figures, to the byte."""
    assert sha256(run.folder / "cloud.safetensors") == sha256(run.folder / "clean.safetensors")
    found = run.cloud.state_dict()
    assert list(found) == list(original)
    for name, value in original.items():
        assert value.contiguous().numpy().tobytes() == found[name].contiguous().numpy().tobytes(), name


def test_the_clean_network_is_trained_and_then_stays(tmp_path: Path) -> None:
    run = train(TrainConfig(**TINY, frozen_cloud="clean"), tmp_path / "run")
    assert len(logged(run.folder, "clean")) == 1
    unchanged(run, run.clean.state_dict())
    plain = train(TrainConfig(**TINY), tmp_path / "plain")
    assert sha256(plain.folder / "clean.safetensors") == sha256(run.folder / "clean.safetensors")
    assert sha256(plain.folder / "cloud.safetensors") != sha256(run.folder / "cloud.safetensors")
    rates = [line["val_rate_bits"] for line in logged(run.folder, "cotrain")]
    assert rates[-1] < rates[0]


def test_a_given_onnx_network_stays_and_is_kept(finished: Path, given: Path) -> None:
    run = load_run(finished)
    unchanged(run, make_cloud(run.config, run.dataset, finished).state_dict())
    assert (finished / "cloud.onnx").read_bytes() == given.read_bytes()
    assert run.card["given_cloud"] == {"file": "cloud.onnx", "sha256": sha256(given)}
    layers = (4 * 27, 6 * 36, run_classes(run) * 24)
    assert run.card["cloud"] == {
        "parameters": sum(layers) + 4 + 6 + run_classes(run),  # batch norm leaves one bias a plane
        "macs": layers[0] * 16**2 + layers[1] * 4**2 + layers[2],
    }
    assert logged(finished, "clean") == []
    assert len(logged(finished, "cotrain")) == 2


def run_classes(run: Run) -> int:
    return len(run.dataset.attributes["skin"].classes)


def test_the_clean_reference_is_the_given_network(finished: Path) -> None:
    run = load_run(finished)
    test = Batches(run.dataset, Split.TEST, run.keep, 64)
    assert run.clean_accuracy == evaluate(run.clean, test).accuracy_by_head


def test_the_local_network_learns_through_it(finished: Path) -> None:
    run = load_run(finished)
    fabric = Fabric(accelerator="cpu", devices=1)
    model = CoTrainer(run.config, run.dataset, run.clean, finished, fabric).model
    model.train()
    assert not any(part.training for part in model.cloud.modules())
    assert all(part.training for part in model.local.modules())
    output = model(torch.rand(4, 3, 16, 16))
    output.logits["skin"].square().sum().backward()
    assert all(value.grad is None for value in model.cloud.parameters())
    assert sum(float(v.grad.abs().sum()) for v in model.local.parameters() if v.grad is not None) > 0


def test_a_given_module_stays(own: str, tmp_path: Path) -> None:
    run = train(TrainConfig(**TINY, frozen_cloud=own), tmp_path / "run")
    from frozen_own import make  # type: ignore[import-not-found]

    unchanged(run, make({"skin": run_classes(run)}).state_dict())
    again = load_run(tmp_path / "run", cloud=own)
    assert torch.equal(
        again.cloud(torch.ones(2, 3, 16, 16))["skin"], run.cloud(torch.ones(2, 3, 16, 16))["skin"]
    )


def test_an_interrupted_run_resumes_without_the_original(
    finished: Path, given: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Path(shutil.copy(given, tmp_path / "gone.onnx"))
    config = TrainConfig(**TINY, frozen_cloud=str(original))
    real: Callable[..., Any] = CoTrainer.run_epoch

    def fail(self: CoTrainer, advance: Callable[[], None]) -> dict[str, Any]:
        if self.epoch == 1:
            raise KeyboardInterrupt
        done: dict[str, Any] = real(self, advance)
        return done

    monkeypatch.setattr(CoTrainer, "run_epoch", fail)
    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path / "run")
    monkeypatch.undo()
    original.unlink()
    run = train(config, tmp_path / "run", resume=True)
    assert sha256(run.folder / "local.safetensors") == sha256(finished / "local.safetensors")


def test_a_lost_or_changed_copy_is_noticed(finished: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(finished, tmp_path / "run"))
    content = (copy / "cloud.onnx").read_bytes()
    (copy / "cloud.onnx").write_bytes(content + b"\0")
    with pytest.raises(SfumatoError, match="sha256 differs"):
        load_run(copy)
    (copy / "cloud.onnx").unlink()
    with pytest.raises(SfumatoError, match="is missing"):
        load_run(copy)


def test_the_provider_can_attack_it(finished: Path, tmp_path: Path) -> None:
    result = audit(str(finished), HASTY, attributes=("background",), out=tmp_path)
    provider = {row.architecture for row in result.attacks if row.attack == "provider"}
    assert "finetune" in provider
    assert {f"stage {stage}, {grid}" for stage in range(4) for grid in ("1x1", "4x4")} <= provider


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (
            {"frozen_cloud": "resnet"},
            "unknown frozen_cloud 'resnet': give 'clean', NAME.onnx or module:factory",
        ),
        ({"frozen_cloud": "net.onnx", "cloud": "mine:make"}, "give either cloud or frozen_cloud"),
    ],
)
def test_contradictory_options_are_refused(values: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        make_config({**TINY, **values})
    assert make_config({**TINY, "frozen_cloud": "clean", "cloud": "mine:make"}).given_cloud is None


def refused(frozen_cloud: object, tmp_path: Path, words: str) -> None:
    """Nothing is written before the network is known to fit."""
    with pytest.raises(SfumatoError, match=words) as told:
        train(TrainConfig(**TINY, frozen_cloud=str(frozen_cloud)), tmp_path / "run")
    assert "\n" not in str(told.value)
    assert not (tmp_path / "run").exists()


def test_networks_that_do_not_fit_are_refused(own: str, classes: int, tmp_path: Path) -> None:
    path = tmp_path / "p.onnx"
    refused(tmp_path / "missing.onnx", tmp_path, "no such file")
    refused("no_such_module:make", tmp_path, "cannot load the cloud network")
    refused("frozen_own:short", tmp_path, r"the kept attributes need \{'skin'")
    refused(graphs.classifier(path, {"skin": classes + 1}), tmp_path, "the kept attributes need")
    refused(graphs.classifier(path, {"skin": classes, "hair": 2}), tmp_path, "its outputs are skin, hair")
    refused(
        graphs.classifier(path, {"skin": classes}, size=32),
        tmp_path,
        "not a batch of uploads, B x 3 x 16 x 16",
    )
    refused(graphs.classifier(path, {"skin": classes}, opset=11), tmp_path, "opset is 11")
    weights = {"w": (classes, 768)}
    body = "f = Flatten(x) l = Gemm <transB=1> (f, w) y = "
    shape = {"image": "float[B,3,16,16] x"}
    refused(graphs.write(path, body + "Sigmoid(l)", weights, **shape), tmp_path, "holds probabilities")
    refused(
        graphs.write(path, body + "Hardmax(l)", weights, **shape),
        tmp_path,
        "operator Hardmax is not supported",
    )


def test_a_network_is_not_deleted_by_its_own_run(given: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    out.mkdir()
    (out / "config.json").write_text("{}")
    inside = Path(shutil.copy(given, out / "cloud.onnx"))
    with pytest.raises(UsageError, match="which is to be replaced"):
        train(TrainConfig(**TINY, frozen_cloud=str(inside)), out, overwrite=True)
    assert inside.read_bytes() == given.read_bytes()


def test_a_run_from_before_an_option_can_be_resumed(finished: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(finished, tmp_path / "run"))
    values = json.loads((copy / "config.json").read_text(encoding="utf-8"))
    del values["distill"]  # as if it had come later, with this default
    (copy / "config.json").write_text(json.dumps(values))
    assert train(load_run(finished).config, copy, resume=True).config == load_run(finished).config


def test_the_weights_of_the_run_count_not_those_of_the_file(finished: Path) -> None:
    run = load_run(finished)
    other = make_cloud(run.config, run.dataset, finished)
    with torch.no_grad():
        for value in other.parameters():
            value.zero_()
    load_module(other, finished / "cloud.safetensors")
    x = torch.from_numpy(np.random.default_rng(0).random((2, 3, 16, 16), dtype=np.float32))
    modules: tuple[nn.Module, ...] = (other.eval(), run.cloud)
    assert torch.equal(*(module(x)["skin"] for module in modules))
