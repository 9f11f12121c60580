"""An export with a cloud network that was given as ONNX: copied to the byte, judged, verified and used under its own names."""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from tests.fixtures.plans import HASTY

from sfumato.audit import audit
from sfumato.core.errors import SfumatoError
from sfumato.core.files import sha256
from sfumato.data import Split
from sfumato.export.artifact import load_export
from sfumato.export.pipeline import export
from sfumato.runtime.contract import read_contract
from sfumato.runtime.phone_model import PhoneModel
from sfumato.runtime.verification import verify
from sfumato.server.model import CloudModel
from sfumato.training.config import TrainConfig
from sfumato.training.run import Run
from sfumato.training.runner import train

KEY = bytes(range(32))


def provider_network(path: Path, *, opset: int = 13) -> None:
    """Two heads in another order than the attributes, an input of another name."""
    text = f"""
        <ir_version: {10 if opset > 20 else 8}, opset_import: ["": {opset}]>
        g (float[N,3,32,32] photo) => (float[N,2] smiling, float[N,2] glasses) {{
            a = Conv <pads=[1,1,1,1], strides=[2,2]> (photo, w, b)
            r = Relu(a)
            p = AveragePool <kernel_shape=[4,4], strides=[4,4]> (r)
            f = Flatten(p)
            smiling = Gemm(f, s)
            glasses = Gemm(f, g)
        }}
    """
    model = onnx.parser.parse_model(text)
    draw = np.random.default_rng(0)
    for name, shape in {"w": (8, 3, 3, 3), "b": (8,), "s": (128, 2), "g": (128, 2)}.items():
        array = draw.normal(0, 0.2, shape).astype(np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    onnx.save(model, path)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("frozen")
    provider_network(folder / "provider.onnx")
    config = TrainConfig(
        data="synthetic,count=800,size=32",
        keep=("glasses", "smiling"),
        bits=8,
        epochs=1,
        pretrain_epochs=1,
        frozen_cloud=str(folder / "provider.onnx"),
        class_order="glasses=no,yes;smiling=no,yes",  # said, and so believed of a network that was drawn at random
        input_range="0..1",
    )
    made = train(config, folder / "run")
    assert made.local.decision is not None
    assert made.local.decision.answer.bias is not None
    with torch.no_grad():  # so short a training decides nothing clearly enough for a parity
        made.local.decision.answer.bias.copy_(torch.tensor([0.0, 4.0, 0.0, 4.0]))
    return made


def seal(run: Run) -> Path:
    """An export of a run whose given file is gone afterwards."""
    out = run.folder.parent / "export"
    export(run, out, variants=("float32", "int8"), tune="never", allow_missed_goal=True)
    (run.folder.parent / "provider.onnx").unlink()
    return out


def assert_answers(
    cloud: CloudModel, levels: Sequence[NDArray[np.uint8]], wanted: Mapping[str, torch.Tensor]
) -> None:
    """The service says what these logits of the run's cloud network say, under the same names."""
    for index, answer in enumerate(cloud.predict(levels)):
        assert list(answer) == ["glasses", "smiling"]
        for (name, one), temperature in zip(answer.items(), cloud.temperatures, strict=True):
            probabilities = (wanted[name][index] / temperature).softmax(0).numpy()
            assert list(one.probabilities.values()) == pytest.approx(probabilities, abs=1e-4)


@pytest.fixture(scope="module")
def sealed(run: Run) -> Path:
    return seal(run)


def test_the_given_network_is_copied_to_the_byte(run: Run, sealed: Path) -> None:
    assert (sealed / "cloud.onnx").read_bytes() == (run.folder / "cloud.onnx").read_bytes()
    contract = read_contract(sealed)
    assert contract.file("cloud.onnx").sha256 == run.card["given_cloud"]["sha256"]
    assert contract.file("cloud.onnx").role == "cloud"


def test_it_verifies(sealed: Path) -> None:
    result = verify(sealed)
    assert result.passed, result.failed
    (check,) = [check for check in result.checks if check.name == "cloud.onnx answers"]
    assert (check.state, check.detail) == ("ok", "glasses: 2 classes, smiling: 2 classes")


def test_uploads_of_the_phone_are_answered_under_the_right_names(run: Run, sealed: Path) -> None:
    phone, cloud = PhoneModel.load(sealed), CloudModel.load(sealed)
    images = np.array(run.dataset.images[run.dataset.splits[Split.TEST]][:4])
    levels = [phone.perturb(image, key=KEY).levels for image in images]
    uploads = torch.from_numpy(np.stack(levels)).permute(0, 3, 1, 2).float()
    with torch.no_grad():
        assert_answers(cloud, levels, run.cloud(uploads))


def test_the_commands_work_on_it(sealed: Path, tmp_path: Path) -> None:
    Image.fromarray(np.full((40, 50, 3), 90, np.uint8)).save(tmp_path / "photo.png")
    command = [sys.executable, "-m", "sfumato.cli.main"]
    out = tmp_path / "uploads"
    made = subprocess.run(
        [*command, "perturb", str(sealed), str(tmp_path / "photo.png"), "--out", str(out), "--fresh-noise"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stderr
    assert list(out.glob("*.png"))
    checked = subprocess.run(
        [*command, "verify", str(sealed), "--json"], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stderr
    assert json.loads(checked.stdout)["passed"]


def test_it_is_served(sealed: Path, tmp_path: Path) -> None:
    Image.fromarray(np.full((40, 50, 3), 90, np.uint8)).save(tmp_path / "photo.png")
    command, log = [sys.executable, "-m", "sfumato.cli.main"], tmp_path / "log"
    with log.open("w") as stream:
        server = subprocess.Popen([*command, "serve", str(sealed), "--port", "0"], stderr=stream, text=True)
    try:
        deadline = time.monotonic() + 300
        while not (
            ready := [line for line in log.read_text(encoding="utf-8").splitlines() if '"listening"' in line]
        ):
            assert server.poll() is None, log.read_text(encoding="utf-8")
            assert time.monotonic() < deadline
            time.sleep(0.05)
        photo, url = str(tmp_path / "photo.png"), json.loads(ready[0])["url"]
        options = ["--server", url, "--fresh-noise", "--json", "--anyway"]  # a wall
        sent = subprocess.run(
            [*command, "send", str(sealed), photo, *options], capture_output=True, text=True, check=False
        )
        assert sent.returncode == 0, sent.stderr
        assert '"glasses"' in sent.stdout
        assert '"smiling"' in sent.stdout
    finally:
        server.kill()
        server.wait()


def test_the_export_is_audited_with_the_given_network(run: Run, sealed: Path, tmp_path: Path) -> None:
    artifact = load_export(sealed)
    uploads = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        for name, logits in artifact.cloud(uploads).items():
            assert torch.equal(logits, run.cloud(uploads)[name])
    result = audit(artifact, attacks=HASTY, attributes=("skin",), out=tmp_path)
    rows = {row.architecture for row in result.attacks if row.attack == "provider"}
    assert {"finetune", "stage 0, 1x1", "stage 1, 4x4"} <= rows


def test_another_network_in_its_place_is_refused(sealed: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(sealed, tmp_path / "export"))
    model = onnx.load(copy / "cloud.onnx")
    model.producer_name = "forger"
    onnx.save(model, copy / "cloud.onnx")
    for load in (load_export, CloudModel.load):
        with pytest.raises(SfumatoError, match="the contract"):
            load(copy)
    assert sha256(copy / "cloud.onnx") != sha256(sealed / "cloud.onnx")
    assert not verify(copy).passed
