"""The command's root: what a person sees when things are right, wrong or broken."""

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from sfumato.cli.main import COMMANDS


def sfumato(*arguments: str) -> subprocess.CompletedProcess[str]:
    script = Path(sys.executable).with_name("sfumato")
    return subprocess.run([script, *arguments], capture_output=True, text=True, check=False)


def test_help_lists_every_command() -> None:
    done = sfumato("--help")
    assert done.returncode == 0
    assert [name for name in COMMANDS if name not in done.stdout] == []


def test_version() -> None:
    assert sfumato("--version").stdout == f"sfumato {version('sfumato')}\n"


def test_an_unknown_command_is_wrong_use() -> None:
    done = sfumato("retrain")
    assert done.returncode == 2
    assert "retrain" in done.stderr
    assert done.stdout == ""


def test_a_known_error_is_one_line(tmp_path: Path) -> None:
    done = sfumato("data", "inspect", f"folder:{tmp_path / 'nowhere'}")
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("sfumato: ")
    assert done.stderr.count("\n") == 1


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    done = sfumato("--debug", "data", "inspect", f"folder:{tmp_path / 'nowhere'}")
    assert done.returncode != 0
    assert "Traceback" in done.stderr


def test_a_missing_package_points_to_doctor(tmp_path: Path) -> None:
    """Shadow `packaging`, which only doctor needs, with a module that is not there."""
    (tmp_path / "packaging").mkdir()
    (tmp_path / "packaging" / "__init__.py").write_text("import no_such_package\n")
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "from sfumato.cli.main import main; sys.argv = ['sfumato', 'doctor']; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "'no_such_package'" in done.stderr
    assert "sfumato doctor" in done.stderr
