"""The set-up script in a folder of its own: a stamp is trusted, an interrupted set-up is not."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """What the set-up reads, and nothing else."""
    for name in ("pyproject.toml", "scripts/set_up.py", "requirements/constraints.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def run(project: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run without any index, so that installing must fail."""
    environment = {**os.environ, "PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": os.devnull, "PIP_FIND_LINKS": ""}
    return subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, check=False, cwd=project, env=environment
    )


def make_stamp(project: Path) -> Path:
    """A finished set-up, as far as the stamp goes."""
    (project / ".venv" / "bin").mkdir(parents=True)
    (project / ".venv" / "bin" / "python").symlink_to(sys.executable)
    code = "import sys, json; sys.path.insert(0, 'scripts'); import set_up; print(json.dumps(set_up.stamp()))"
    stamp = project / ".venv" / "set-up.json"
    stamp.write_text(run(project, "-c", code).stdout)
    return stamp


def test_a_finished_set_up_is_left_alone(project: Path) -> None:
    stamp = make_stamp(project)
    before = stamp.stat().st_ino, stamp.stat().st_mtime_ns
    done = run(project, "scripts/set_up.py")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (stamp.stat().st_ino, stamp.stat().st_mtime_ns) == before


@pytest.mark.parametrize("name", ["requirements/constraints.txt", "pyproject.toml"])
def test_new_pins_or_dependencies_change_the_stamp(project: Path, name: str) -> None:
    stamp = make_stamp(project)
    old = json.loads(stamp.read_text())
    file = project / name
    file.write_text(file.read_text().replace("torch==2.13.0", "torch==2.14.0"))
    shutil.rmtree(project / ".venv")
    assert json.loads(make_stamp(project).read_text())["inputs"] != old["inputs"]


def test_a_new_lint_rule_does_not(project: Path) -> None:
    make_stamp(project)
    file = project / "pyproject.toml"
    file.write_text(file.read_text().replace("line-length = 110", "line-length = 100"))
    assert run(project, "scripts/set_up.py").returncode == 0


def test_an_interrupted_set_up_is_built_anew_and_never_stamped(project: Path) -> None:
    half = project / ".venv" / "half-installed"
    half.parent.mkdir()
    half.write_text("")
    done = run(project, "scripts/set_up.py")
    assert done.returncode == 1
    assert not half.exists()
    assert not (project / ".venv" / "set-up.json").exists()
    assert "failed (exit 1); make again starts anew" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
