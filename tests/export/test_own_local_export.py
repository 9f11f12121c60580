"""A phone network of the user's own from training to an audited export, and one that our lowering does not know."""

import re
import sys
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from tests.fixtures.plans import HASTY
from torch import nn

from sfumato.audit import audit
from sfumato.channels import create
from sfumato.core.errors import SfumatoError
from sfumato.export.artifact import load_export
from sfumato.export.freeze import freeze_network
from sfumato.export.onnx_files import write_local
from sfumato.export.parity import compare
from sfumato.export.pipeline import convert_local, export
from sfumato.export.tflite import name_tensors
from sfumato.models.local import LocalNetwork
from sfumato.models.own_local import OwnLocal, make_own
from sfumato.runtime.interpreter import open_model
from sfumato.runtime.phone_model import PhoneModel
from sfumato.runtime.verification import verify
from sfumato.training.config import TrainConfig
from sfumato.training.run import load_run
from sfumato.training.runner import train

DOCUMENTED = Path(__file__).resolve().parents[2] / "docs" / "local-network.md"


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The documented example, and the same with another activation."""
    (example,) = re.findall(r"```python\n(.*?)```", DOCUMENTED.read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "plain_phone.py").write_text(example)
    (tmp_path / "mish_phone.py").write_text(example.replace("nn.ReLU()", "nn.Mish()"))
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("plain_phone", "mish_phone"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return "plain_phone:make"


@pytest.mark.slow
def test_it_is_trained_exported_and_audited_like_ours(own: str, tmp_path: Path) -> None:
    config = TrainConfig(
        data="synthetic,count=600,size=32",
        keep=("glasses",),
        hide=("skin",),
        cloud="resnet,width=8",
        objective="suppress",
        bits=100,
        epochs=1,
        clean_epochs=1,
        local=own,
    )
    run = train(config, tmp_path / "run")
    assert type(run.local).__name__ == "OwnLocal"
    before = create("dither", levels=2)
    torch.manual_seed(0)
    start = OwnLocal(before, make_own(own, before, (32, 32))).eval()
    images = torch.rand(4, 3, 32, 32)
    assert (
        before.rate(run.local(images)).mean() < before.rate(start(images)).mean()
    )  # it learned to add noise
    for given in (None, "other_phone:make"):
        with pytest.raises(SfumatoError, match="say so with --cloud plain_phone:make"):
            load_run(tmp_path / "run", cloud=given)
    again = load_run(tmp_path / "run", cloud=own)
    assert torch.equal(again.local(images)["p"], run.local(images)["p"])

    contract = export(run, tmp_path / "export", variants=("int8",), tune="never", allow_missed_goal=True)
    assert contract.failed_gates == ()
    assert contract.conversion["backend"] == "direct"
    assert verify(tmp_path / "export").passed
    upload = PhoneModel.load(tmp_path / "export").perturb(run.dataset.images[0], key=bytes(range(32)))
    assert upload.levels.shape == (32, 32, 3)

    sys.modules.pop("plain_phone")
    (tmp_path / "plain_phone.py").unlink()  # an export needs none of the user's code
    artifact = load_export(tmp_path / "export")
    result = audit(artifact, attacks=HASTY, attributes=("skin",), out=tmp_path / "audit")
    assert {row.attribute for row in result.attacks} >= {"skin"}


@pytest.mark.slow
def test_what_our_lowering_does_not_know_goes_through_onnx2tf(
    own: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    channel = create("dither", levels=2)
    local = OwnLocal(channel, make_own(own.replace("plain", "mish"), channel, (32, 32)))
    for part in local.modules():
        if isinstance(part, nn.Conv2d) and part.bias is not None:
            nn.init.normal_(part.weight, std=0.3)
    network = freeze_network(cast(LocalNetwork, local.eval()), (32, 32))
    write_local(network, (32, 32), tmp_path / "local.onnx")
    images = np.random.default_rng(0).integers(0, 256, (20, 32, 32, 3), dtype=np.uint8)
    images[0, 0, 0], images[0, 0, 1] = 0, 255
    models, backend = convert_local(tmp_path / "local.onnx", images, ("float32",), backend="direct", own=True)
    assert backend == "onnx2tf"
    told = capsys.readouterr().err
    assert "does not know: Softplus" in " ".join(told.split())
    assert "onnx2tf converts it instead" in " ".join(told.split())
    session = open_model(name_tensors(models["float32"], network.names))
    assert compare(session, network, images, int8=False)["p"].max_error < 1e-4
