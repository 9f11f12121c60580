"""doctor and provenance: what is installed, what is missing, which code ran."""

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from sfumato.cli.extras import EXTRAS
from sfumato.cli.installation import (
    CHECKOUT,
    examine,
    import_problem,
    install_line,
    problem_with,
    requirements,
)
from sfumato.core.provenance import git_state, installed, provenance

PROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def names(needs: list[str]) -> set[str]:
    return {Requirement(need).name for need in needs}


def test_parts_are_those_of_the_project() -> None:
    old_names = {"device", "cloud"}
    assert {name for name in EXTRAS if name} == set(PROJECT["optional-dependencies"]) - old_names
    assert {need.name for need in requirements("")} == names(PROJECT["dependencies"])


def test_an_extra_brings_the_one_it_names() -> None:
    extras = PROJECT["optional-dependencies"]
    expected = names(extras["export"]) | names(extras["train"])
    if sys.platform != "linux":
        expected -= {"onnx2tf"}
    assert {need.name for need in requirements("export")} == expected - {"sfumato"}
    assert {need.name for need in requirements("cloud")} == {need.name for need in requirements("server")}
    assert not {"torch", "tensorflow"} & {need.name for need in requirements("server") + requirements("")}


def test_this_environment_is_whole() -> None:
    report = examine()
    assert report["core_ok"]
    assert [part["problems"] for part in report["parts"] if part["required"]] == [()]
    json.dumps(report)


@pytest.mark.parametrize(
    ("need", "problem"),
    [
        ("numpy>=1", None),
        ("numpy>=99", "numpy is .*, needed is >=99"),
        ("no-such-package", "no-such-package is not installed"),
    ],
)
def test_problem_with(need: str, problem: str | None) -> None:
    found = problem_with(Requirement(need))
    assert found is None if problem is None else found and re.fullmatch(problem, found)


def test_import_problem() -> None:
    assert import_problem("json") is None
    assert "no_such_module" in (import_problem("no_such_module") or "")


def test_install_line(tmp_path: Path) -> None:
    needs = [Requirement("onnx2tf==1.29.24"), Requirement("onnxscript>=0.5")]
    assert install_line(needs) == f"make -C {CHECKOUT} setup"
    line = install_line(needs, root=tmp_path)
    assert line.startswith(sys.executable)
    assert line.endswith("-m pip install onnx2tf==1.29.24 'onnxscript>=0.5'")


@pytest.mark.parametrize(("module", "part", "code"), [("PIL", "core", 1), ("torch", "train", 0)])
def test_a_broken_core_is_said_and_fails_a_broken_extra_is_said(
    module: str, part: str, code: int, tmp_path: Path
) -> None:
    """A package that cannot load a system library, as on a bare machine."""
    (tmp_path / module).mkdir()
    (tmp_path / module / "__init__.py").write_text("raise ImportError('libgomp.so.1: cannot open')\n")
    command = [str(Path(sys.executable).with_name("sfumato")), "doctor", "--json"]
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == code
    report = json.loads(done.stdout)
    assert report["core_ok"] is (code == 0)
    assert done.stderr.count("\n") == code
    (found,) = (entry for entry in report["parts"] if entry["name"] == part)
    assert "libgomp.so.1" in found["problems"][0]


def test_provenance_names_what_ran() -> None:
    found = provenance()
    assert found["sfumato"] == installed("sfumato") == PROJECT["version"]
    assert found["packages"]["torch"] == installed("torch")
    assert json.loads(json.dumps(found)) == found


def test_provenance_imports_nothing_heavy() -> None:
    code = (
        "import sys; from sfumato.core.provenance import provenance as p; p(); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def git(folder: Path, *arguments: str) -> str:
    who = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    command = ["git", "-C", str(folder), *who, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout with one tracked source file."""
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "code.py").write_text("x = 1\n")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "first")
    return tmp_path


def test_git_state_of_a_clean_checkout(checkout: Path) -> None:
    (checkout / "result.json").write_text("{}")  # not a source
    assert git_state(checkout / "train" / "code.py") == (git(checkout, "rev-parse", "HEAD"), False)


@pytest.mark.parametrize("name", ["code.py", "new.py"])
def test_a_changed_or_new_source_is_dirty(checkout: Path, name: str) -> None:
    (checkout / "train" / name).write_text("x = 2\n")
    assert git_state(checkout / "train" / "code.py")[1] is True


def test_a_copy_in_somebody_elses_checkout_has_no_commit(checkout: Path) -> None:
    copy = checkout / ".venv" / "code.py"
    copy.parent.mkdir()
    copy.write_text("x = 1\n")
    assert git_state(copy) == (None, None)


def test_no_checkout_no_commit(tmp_path: Path) -> None:
    (tmp_path / "code.py").write_text("")
    assert git_state(tmp_path / "code.py") == (None, None)


def test_git_variables_of_a_hook_do_not_mislead(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_DIR", str(checkout / "nowhere"))
    assert git_state(checkout / "train" / "code.py")[1] is False
