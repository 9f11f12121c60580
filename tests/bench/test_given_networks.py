"""The table of networks that can be given; timm is no dependency, so most of it runs where timm is there."""

import importlib.util
from pathlib import Path

import pytest

from sfumato.bench.given_networks import MODELS, main, try_network
from sfumato.core.errors import SfumatoError


def test_each_network_stands_once() -> None:
    assert len(MODELS) == len(set(MODELS)) == 40


@pytest.mark.skipif(importlib.util.find_spec("timm") is not None, reason="timm is installed")
def test_without_timm_it_says_what_to_install() -> None:
    with pytest.raises(SfumatoError, match="pip install timm"):
        main(models="resnet18")


@pytest.mark.slow
def test_a_network_of_timm_is_read(tmp_path: Path) -> None:
    pytest.importorskip("timm")
    row = try_network("resnet18", tmp_path)
    assert (row.read, row.words, row.parameters > 10**7) == (True, "", True)
    assert list(tmp_path.iterdir()) == []
