"""The count of bytes that differ between languages, on recordings made here."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from studies.sound_alike import compare, main
from tests.fixtures.sounds import recordings


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{i}.wav" for i in range(4)]
    for path, content in zip(paths, recordings(4), strict=True):
        path.write_bytes(content)
    return paths


@pytest.mark.skipif(shutil.which("node") is None, reason="there is no node")
def test_the_page_computes_the_same_bytes(files: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    main([str(files[0].parent)])
    told = json.loads(capsys.readouterr().out)
    assert told == {"recordings": 4, "bytes": 4 * 48 * 64, "differ": 0, "largest": 0}


def test_other_bytes_are_counted(files: list[Path], tmp_path: Path) -> None:
    """A program that is three steps off in every byte."""
    other = tmp_path / "other.py"
    other.write_text(
        "import base64, json, sys\n"
        "from sfumato.core.sound import load_sound\n"
        "for line in sys.stdin:\n"
        "    case = json.loads(line)\n"
        "    plane = load_sound(base64.b64decode(case['wav']), case['height'], case['width'])[:, :, 0]\n"
        "    print(json.dumps({'picture': (plane ^ 3).tobytes().hex()}))\n"
    )
    found = compare(files, f"{sys.executable} {other}")
    assert (found["differ"], found["largest"]) == (found["bytes"], 3)


def test_a_command_that_fails_is_said(files: list[Path]) -> None:
    with pytest.raises(subprocess.CalledProcessError):
        compare(files, f"{sys.executable} -c 'raise SystemExit(3)'")
