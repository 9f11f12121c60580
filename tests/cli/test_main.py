"""The command's root: what a person sees when things are right, wrong or broken."""

import inspect
import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from PIL import Image

from sfumato.cli.extras import EXTRA_OF, EXTRAS, missing
from sfumato.cli.main import COMMANDS, load


def sfumato(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("sfumato")), *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, **environment}
    )


def test_help_lists_every_command() -> None:
    done = sfumato("--help")
    assert done.returncode == 0
    assert [name for name in COMMANDS if name not in done.stdout] == []


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_says_what_a_command_says_of_itself(name: str) -> None:
    first = inspect.cleandoc(load(name).help).split("\n\n")[0]
    assert " ".join(first.split()) == COMMANDS[name]


def test_a_command_imports_no_other(tmp_path: Path) -> None:
    code = (
        "import sys, sfumato.cli.main as cli\n"
        "sys.argv = ['sfumato', 'ledger', 'show', '--help']\n"
        "try:\n    cli.main()\n"
        "finally: print([name for name in cli.COMMANDS if f'sfumato.cli.{name}' in sys.modules], file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.strip()) == (0, "['ledger']")
    assert "sfumato ledger show" in done.stdout


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


def test_a_missing_package_says_what_to_type(tmp_path: Path) -> None:
    """Shadow `packaging`, which only doctor needs, with a module that is not there."""
    (tmp_path / "packaging").mkdir()
    (tmp_path / "packaging" / "__init__.py").write_text("import no_such_package\n")
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "from sfumato.cli.main import main; sys.argv = ['sfumato', 'doctor']; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "sfumato: 'doctor' needs no-such-package: pip install sfumato\n"


@pytest.mark.parametrize(
    ("command", "module", "line"),
    [
        ("train", "torch", "'train' needs PyTorch: pip install \"sfumato[train]\""),
        ("audit", "sklearn.metrics", "'audit' needs scikit-learn: pip install \"sfumato[train]\""),
        ("serve", "prometheus_client", "'serve' needs prometheus-client: pip install \"sfumato[server]\""),
        ("watch", "av", "'watch' needs av: pip install \"sfumato[video]\""),
        ("compare", "scipy", "'compare' needs scipy: pip install \"sfumato[bench]\""),
        ("perturb", "numpy", "'perturb' needs numpy: pip install sfumato"),
    ],
)
def test_missing_names_the_extra_of_the_command(command: str, module: str, line: str) -> None:
    assert missing(command, module) == line


def test_missing_says_that_no_extra_helps_here(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = ["numpy", "tensorflow==2.19.0; python_version < '3' and extra == 'export'"]
    monkeypatch.setattr("sfumato.cli.extras.requires", lambda _: lines)
    monkeypatch.setattr("sfumato.cli.installation.requires", lambda _: lines)
    assert missing("export", "tensorflow").startswith("'export' needs TensorFlow, which is not for Python 3.")


def test_extras_belong_to_commands() -> None:
    assert set(EXTRA_OF) < set(COMMANDS)
    assert set(EXTRA_OF.values()) < set(EXTRAS)


@pytest.mark.parametrize("form", [(), ("--json",)], ids=["table", "json"])
def test_a_locale_without_the_letter_stops_no_command(tmp_path: Path, form: tuple[str, ...]) -> None:
    """Python would take UTF-8 even in this locale; with PYTHONUTF8=0 it is like one of eight bits."""
    rows = [f"{i}.png,{('bear', 'Löwe')[i % 2]}" for i in range(600)]
    (tmp_path / "labels.csv").write_text("\n".join(["file,animal", *rows]), encoding="utf-8")
    for i in range(600):
        Image.new("RGB", (16, 16), (i % 256, i // 256, 0)).save(tmp_path / f"{i}.png")
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = sfumato("data", "inspect", f"folder:{tmp_path},size=16", *form, **ascii_only)
    assert done.returncode == 0, done.stderr
    assert done.stdout.isascii()
    if form:
        assert "Löwe" in str(json.loads(done.stdout))
    else:
        assert r"L\xf6we" in done.stdout
