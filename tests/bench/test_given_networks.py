"""The table of networks that can be given; timm is no dependency, so most of it runs where timm is there."""

import importlib.util
import sys
from pathlib import Path

import pytest

from sfumato.bench.given_networks import MODELS, find_timm, main, try_network
from sfumato.core.errors import SfumatoError


def test_each_network_stands_once() -> None:
    assert len(MODELS) == len(set(MODELS)) == 40


@pytest.mark.skipif(importlib.util.find_spec("timm") is not None, reason="timm is installed")
def test_without_timm_it_says_what_to_install() -> None:
    with pytest.raises(SfumatoError, match="pip install timm"):
        main(models="resnet18", out=None, page_file=None, as_json=False)


def test_a_timm_that_does_not_load_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "timm.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "timm", raising=False)
    with pytest.raises(SfumatoError, match="torchvision must be of the same build as torch"):
        find_timm()


@pytest.mark.slow
def test_a_network_of_timm_is_read(tmp_path: Path) -> None:
    pytest.importorskip("timm")
    row = try_network("resnet18", tmp_path)
    assert (row.read, row.words, row.parameters > 10**7) == (True, "", True)
    assert row.difference is not None
    assert row.difference < 1e-4
    assert list(tmp_path.iterdir()) == []
