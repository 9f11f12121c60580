"""`suppress` with more bits than an answer needs, where the phone already decides, is named before it is trained."""

import pytest
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from sfumato.data import Dataset, open_dataset
from sfumato.models.tensors import to_tensor
from sfumato.training.config import TrainConfig
from sfumato.training.local_cloud import EncoderClassifier
from sfumato.training.run import make_local
from sfumato.training.runner import _warn_between_modes

SUPPRESS = TrainConfig(
    data="synthetic,size=16,count=600", keep=("glasses",), hide=("skin",), objective="suppress", bits=120
)


class Oracle(nn.Module):
    """A cloud network that knows every picture."""

    def __init__(self, data: Dataset) -> None:
        super().__init__()
        self.known = {
            to_tensor(image[None]).numpy().tobytes(): int(label)
            for image, label in zip(data.images, data.labels["glasses"], strict=True)
        }

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        found = [self.known[image[None].numpy().tobytes()] for image in x]
        return {"glasses": nn.functional.one_hot(torch.tensor(found), 2).float()}


def warn(config: TrainConfig, *, oracle: bool) -> None:
    data = open_dataset(config.data)
    torch.manual_seed(0)
    local = make_local(config, data).eval()
    clean = Oracle(data) if oracle else EncoderClassifier(local, {"glasses": 2})
    _warn_between_modes(config, data, local, clean, Fabric(accelerator="cpu", devices=1))


def test_the_trap_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    warn(SUPPRESS, oracle=False)
    said = " ".join(capsys.readouterr().err.split())
    assert "120 bits buy little and leak" in said
    assert "--mode answer" in said
    assert "picture mode" in said


@pytest.mark.parametrize(
    ("change", "oracle"), [({"bits": 8}, False), ({"objective": "rate"}, False), ({}, True)]
)
def test_elsewhere_nothing_is_said(
    capsys: pytest.CaptureFixture[str], change: dict[str, object], oracle: bool
) -> None:
    warn(SUPPRESS.model_copy(update=change), oracle=oracle)
    assert capsys.readouterr().err == ""
