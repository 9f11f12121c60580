"""The other converters behind the same interface."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from sfumato.backends import compare_backends
from sfumato.errors import SfumatoError, UsageError
from sfumato.exporting import export
from sfumato.run import Run


@pytest.mark.slow
def test_onnx2tf_converts_offline_and_the_lint_says_what_is_wrong_with_it(
    dither_run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A proxy that is not there: any attempt to fetch sample images would fail the conversion.
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    (row,) = compare_backends(dither_run, ["onnx2tf"], ["float32"])
    assert row.mean_lsb < 1e-3
    assert row.partitions == 1
    assert row.refused > 0  # grouped convolutions instead of depthwise ones


@pytest.mark.slow
def test_litert_torch_converts_in_its_own_environment(dither_run: Run) -> None:
    if "SFUMATO_LITERT_PYTHON" not in os.environ:
        pytest.skip("SFUMATO_LITERT_PYTHON is not set: litert-torch lives in an environment of its own")
    float32, int8 = compare_backends(dither_run, ["litert-torch"], ["float32", "int8"])
    assert float32.mean_lsb < 1e-3
    assert int8.mean_lsb < 8  # its calibrator cuts the extremes off
    assert (float32.partitions, float32.transposes) == (1, 0)


def test_missing_and_unknown_back_ends_are_named(
    dither_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match="unknown back-end 'nnef': known are direct, onnx2tf, litert-torch"):
        export(dither_run, tmp_path / "out", backend="nnef")
    monkeypatch.delenv("SFUMATO_LITERT_PYTHON", raising=False)
    with pytest.raises(SfumatoError, match="environment of its own"):
        export(dither_run, tmp_path / "out", backend="litert-torch")
    assert not (tmp_path / "out").exists()


def test_a_converter_that_fails_is_quoted(
    make_run: Callable[[str], Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "python"
    script.write_text("#!/bin/sh\necho 'first line' >&2; echo 'ValueError: no such operator' >&2; exit 3\n")
    script.chmod(0o755)
    monkeypatch.setenv("SFUMATO_LITERT_PYTHON", str(script))
    with pytest.raises(SfumatoError, match=r"failed \(litert-torch\): ValueError: no such operator"):
        export(make_run("dither"), tmp_path / "out", backend="litert-torch", variants=["float32"])
    assert not (tmp_path / "out").exists()
