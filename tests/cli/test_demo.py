"""`sfumato demo --quick`: every part of the main job, once, through the real command."""

import json
from pathlib import Path

import pytest
from PIL import Image
from tests.fixtures.forks import fork, sfumato

from sfumato.cli.demo_run import demo
from sfumato.core.errors import SfumatoError


@pytest.mark.slow
def test_demo_runs_from_nothing_to_an_upload(tmp_path: Path) -> None:
    out = tmp_path / "demo"
    said, errors = tmp_path / "said.json", tmp_path / "errors.txt"
    done = fork(sfumato, ["demo", "--quick", "--out", str(out), "--json"], said=said, errors=errors)
    done.join(900)
    assert done.exitcode == 0, errors.read_text(encoding="utf-8")[-2000:]
    summary = json.loads(said.read_text(encoding="utf-8"))
    assert summary["audit"]["artifact"] == "int8"
    assert len(summary["advice"]["reasons"]) >= 2
    assert {row["attribute"] for row in summary["audit"]["exact"]} == {"skin", "glasses", "smiling"}
    assert {one["attack"] for one in summary["picture"]["audit"]["attacks"]} >= {
        "floor",
        "clean",
        "probe",
        "posterior",
    }
    assert {row["name"] for row in summary["picture"]["audit"]["attributes"]} == {"presence", "skin"}
    with Image.open(out / "upload.png") as upload:
        assert upload.mode == "1"
    assert b"Exif" not in (out / "upload.png").read_bytes()
    assert len((out / "upload.word").read_bytes()) == 1
    with Image.open(out / "picture.png") as picture:
        # three rows of six scenes of 48 pixels, doubled, with gaps of 8
        assert picture.size == (6 * 96 + 5 * 8, 3 * 96 + 2 * 8)
    for name in (
        "export/local_int8.tflite",
        "export/contract.json",
        "export/report.html",
        "picture/report.html",
    ):
        assert (out / name).stat().st_size > 1000, name
    with pytest.raises(SfumatoError, match=r"already holds a result[^\n]*$"):
        demo(out, quick=True)
