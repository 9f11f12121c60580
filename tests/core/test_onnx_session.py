"""ONNX Runtime is set up once; what it cannot load is said in one line."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from sfumato.core.errors import SfumatoError
from sfumato.core.onnx_session import open_session


@pytest.fixture
def doubling(tmp_path: Path) -> Path:
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 13]> g (float[N] x) => (float[N] y) {y = Add(x, x)}'
    )
    onnx.save(model, tmp_path / "double.onnx")
    return tmp_path / "double.onnx"


def test_a_file_and_its_bytes_give_the_same(doubling: Path) -> None:
    x = np.arange(3, dtype=np.float32)
    for model in (doubling, doubling.read_bytes()):
        session = open_session(model, threads=2)
        assert session.get_session_options().intra_op_num_threads == 2
        assert session.get_providers() == ["CPUExecutionProvider"]
        assert session.run(None, {"x": x})[0].tolist() == [0, 2, 4]
    assert open_session(doubling).get_session_options().intra_op_num_threads == 1


def test_what_cannot_be_loaded_is_named(doubling: Path, capfd: pytest.CaptureFixture[str]) -> None:
    doubling.write_bytes(b"no model")
    cases: list[tuple[tuple[Path | bytes, str], str]] = [
        ((doubling, ""), "double.onnx"),
        ((b"x", ""), "the model"),
        ((b"x", "cloud.onnx"), "cloud.onnx"),
    ]
    for (model, name), shown in cases:
        with pytest.raises(SfumatoError, match=rf"^{shown} is not an ONNX file, or not a whole one$"):
            open_session(model, name=name)
    assert capfd.readouterr() == ("", "")
