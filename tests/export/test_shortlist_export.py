"""A shortlist from the trained network to the phone, the service and the audit."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tests.fixtures.shared import made_once

from sfumato.channels.dither import Dither, interpolated
from sfumato.core.errors import UsageError
from sfumato.core.onnx_session import open_session
from sfumato.data import Split
from sfumato.export.artifact import load_export
from sfumato.export.freeze import freeze_network
from sfumato.export.parity import clear_entries, reference, run_float
from sfumato.export.pipeline import export
from sfumato.models.shortlist import ShortlistReader
from sfumato.runtime.interpreter import open_model
from sfumato.runtime.phone_model import PhoneModel
from sfumato.runtime.upload_codec import decode_png
from sfumato.training.run import Run

KEY = bytes(range(32))


@pytest.fixture(scope="module")
def run(make_run: Callable[[str], Run]) -> Run:
    """Kept: glasses, two classes; uploads of 16x16 samples, the last row of which holds the list."""
    return make_run("shortlist")


@pytest.fixture(scope="module")
def shipped(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """It must not be changed."""
    return made_once(
        tmp_path_factory, "shortlist", lambda out: export(run, out, variants=["float32", "int8"])
    )


def photos(run: Run, count: int) -> NDArray[np.uint8]:
    return np.array(run.dataset.images[run.dataset.splits[Split.TEST][:count]])


def test_the_shipped_models_list_what_the_trained_one_lists(run: Run, shipped: Path) -> None:
    network, images = freeze_network(run.local, run.dataset.size), photos(run, 100)
    wanted = reference(network, images)["p"]
    listed = wanted[:, -1].reshape(len(images), -1)[:, :2].round()
    assert len(np.unique(listed, axis=0)) > 1, "lists differ from photo to photo"
    clear = clear_entries(wanted, 1)[:, -1]
    assert clear.mean() > 0.9
    exact = run_float(open_model((shipped / "local_float32.tflite").read_bytes()), images)["p"]
    assert np.abs(exact[:, -1] - wanted[:, -1])[clear].max() < 1e-3
    # The network is not trained, and what tells its photos apart is less than a step of int8. Still a list is a list.
    phone = PhoneModel.load(shipped)
    bits = np.stack([phone.parameters(image)["p"][-1].ravel() for image in images])
    assert (bits[:, :2].max(1) == 255).all(), "the likeliest class is on it for certain"
    assert (bits[:, 2:] == 0).all(), "the rest of the row is empty"


def test_the_service_reads_picture_and_list(run: Run, shipped: Path) -> None:
    """From a photo through the PNG that travels to the answer of cloud.onnx, and by hand."""
    assert isinstance(run.cloud, ShortlistReader)
    phone, session = PhoneModel.load(shipped), open_session(shipped / "cloud.onnx")
    channel = Dither(4, gray=True, subsample=2)
    for image in photos(run, 8):
        upload = phone.perturb(image, key=KEY)
        levels = decode_png(upload.content, height=16, width=16, bits=2)
        assert np.array_equal(levels, upload.levels)
        picture = torch.from_numpy(levels).permute(2, 0, 1)[None].float() / 3
        seen = interpolated(picture, 2)
        (logits,) = session.run(["glasses"], {session.get_inputs()[0].name: seen.numpy()})
        bits = channel.planes(seen)[0, :, -1].T.flatten()[:2]
        plain = run.cloud.network(run.cloud.picture(seen))["glasses"]
        assert torch.from_numpy(logits) == pytest.approx(
            (plain + run.cloud.trust[0] * bits).detach(), abs=1e-3
        )


def test_the_audit_attacks_uploads_with_their_list(run: Run, shipped: Path) -> None:
    artifact = load_export(shipped)
    assert isinstance(artifact.cloud, ShortlistReader)
    images = photos(run, 16)
    p = artifact.parameters(images)["p"][:, :, -1]
    assert ((p == 0) | (p > 0.9)).float().mean() > 0.9
    assert (p > 0.9).any()


def test_weaker_draws_are_refused(run: Run, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="list classes by chance"):
        export(run, tmp_path / "out", variants=["int8"], points=(128, 64))
    assert not (tmp_path / "out").exists()


def test_a_book_is_refused(run: Run, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="shortlist"):
        export(run, tmp_path / "out", variants=["int8"], encoding="index")
    assert not (tmp_path / "out").exists()
