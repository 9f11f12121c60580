"""A given ONNX network behind a restorer: one graph in the bundle, the given file beside the audit's."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tests.export.test_frozen_export import KEY, assert_answers, provider_network, seal
from tests.fixtures.plans import HASTY

from sfumato.audit import audit
from sfumato.channels.dither import Dither, interpolated
from sfumato.core.onnx_session import open_session
from sfumato.data import Split
from sfumato.export.artifact import load_export
from sfumato.export.onnx_files import write_restored
from sfumato.models.restorer import Restorer, RestoringReader
from sfumato.runtime.phone_model import PhoneModel
from sfumato.runtime.upload_codec import decode_png
from sfumato.runtime.verification import verify
from sfumato.server.model import CloudModel
from sfumato.training.config import TrainConfig
from sfumato.training.run import Run
from sfumato.training.runner import train


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("restored")
    provider_network(folder / "provider.onnx")
    config = TrainConfig(
        data="synthetic,count=800,size=32",
        keep=("glasses", "smiling"),
        bits=500,
        levels=4,
        gray=True,
        subsample=2,
        decision="none",
        restore=True,
        epochs=1,
        pretrain_epochs=0,
        frozen_cloud=str(folder / "provider.onnx"),
        class_order="glasses=no,yes;smiling=no,yes",  # said, and so believed of a network that was drawn at random
        input_range="0..1",
    )
    return train(config, folder / "run")


@pytest.fixture(scope="module")
def shipped(run: Run) -> Path:
    """It must not be changed."""
    return seal(run)


def test_the_bundle_answers_as_the_run_does(run: Run, shipped: Path) -> None:
    assert isinstance(run.cloud, RestoringReader)
    phone, cloud = PhoneModel.load(shipped), CloudModel.load(shipped)
    images = np.array(run.dataset.images[run.dataset.splits[Split.TEST]][:4])
    drawn = [phone.perturb(image, key=KEY) for image in images]
    levels = [decode_png(one.content, height=16, width=16, bits=2) for one in drawn]
    pictures = torch.from_numpy(np.stack(levels)).permute(0, 3, 1, 2).float() / 3
    with torch.no_grad():
        assert_answers(cloud, levels, run.cloud.network(run.cloud.restorer(interpolated(pictures, 2))))
    assert verify(shipped).passed


def test_what_was_given_is_kept_and_audited(run: Run, shipped: Path, tmp_path: Path) -> None:
    assert (shipped / "audit" / "cloud.onnx").read_bytes() == (run.folder / "cloud.onnx").read_bytes()
    again = load_export(shipped)
    x = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        wanted, found = run.cloud(x), again.cloud(x)
    assert all(torch.equal(wanted[name], found[name]) for name in wanted)
    session = open_session(shipped / "cloud.onnx")
    names = [one.name for one in session.get_outputs()]
    answers = dict(zip(names, session.run(names, {"upload": x.numpy()}), strict=True))
    assert all(np.abs(answers[name] - wanted[name].numpy()).max() < 1e-3 for name in names)
    result = audit(str(shipped), HASTY, attributes=("background",), out=tmp_path)
    assert {row.attack for row in result.attacks} >= {"provider"}


@pytest.mark.parametrize("opset", [13, 18, 20, 21, 22])
def test_files_of_every_opset_stand_behind_a_restorer(opset: int, tmp_path: Path) -> None:
    """21 and 22 are past what the exporter writes: the restorer's graph is lifted to them."""
    given, whole = tmp_path / "provider.onnx", tmp_path / "cloud.onnx"
    provider_network(given, opset=opset)
    torch.manual_seed(6)
    restorer = Restorer(Dither(4, gray=True, subsample=2)).eval()
    torch.nn.init.normal_(restorer.last.weight)
    x = torch.rand(3, 3, 32, 32)
    write_restored(restorer, given, x, whole)
    with torch.no_grad():
        picture = restorer(x).numpy()
    names = ["smiling", "glasses"]
    found = open_session(whole).run(names, {"upload": x.numpy()})
    wanted = open_session(given).run(names, {"photo": picture})
    assert all(np.abs(a - b).max() < 1e-3 for a, b in zip(found, wanted, strict=True))
