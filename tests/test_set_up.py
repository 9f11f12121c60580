"""The set-up script in a folder of its own: a stamp is trusted, an interrupted set-up is not. And the lock it installs."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """What the set-up reads, and nothing else."""
    for name in ("pyproject.toml", "scripts/set_up.py", "uv.lock"):
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
    code = "import sys; sys.path.insert(0, 'scripts'); import set_up; print(set_up.stamp(), end='')"
    stamp = project / ".venv" / "set-up"
    stamp.write_text(run(project, "-c", code).stdout)
    assert stamp.read_text(encoding="utf-8")
    return stamp


def test_a_finished_set_up_is_left_alone(project: Path) -> None:
    stamp = make_stamp(project)
    before = stamp.stat().st_ino, stamp.stat().st_mtime_ns
    done = run(project, "scripts/set_up.py")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (stamp.stat().st_ino, stamp.stat().st_mtime_ns) == before


@pytest.mark.parametrize(
    ("name", "old"), [("uv.lock", '"numpy"\nversion = "1'), ("pyproject.toml", "torch==2")]
)
def test_new_pins_or_dependencies_change_the_stamp(project: Path, name: str, old: str) -> None:
    before = make_stamp(project).read_text(encoding="utf-8")
    file = project / name
    text = file.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, f"{old}0", 1))
    shutil.rmtree(project / ".venv")
    assert make_stamp(project).read_text(encoding="utf-8") != before


def test_a_new_lint_rule_does_not(project: Path) -> None:
    make_stamp(project)
    file = project / "pyproject.toml"
    file.write_text(file.read_text(encoding="utf-8").replace("line-length = 110", "line-length = 100"))
    assert run(project, "scripts/set_up.py").returncode == 0


def test_an_interrupted_set_up_is_built_anew_and_never_stamped(project: Path) -> None:
    half = project / ".venv" / "half-installed"
    half.parent.mkdir()
    half.write_text("")
    done = run(project, "scripts/set_up.py")
    assert done.returncode == 1
    assert not half.exists()
    assert not (project / ".venv" / "set-up").exists()
    assert "failed (exit 1); make again starts anew" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_the_lock_is_that_of_pyproject_toml(project: Path) -> None:
    """Nothing is asked of an index where the lock fits; otherwise: make lock."""
    uv = str(Path(sys.executable).with_name("uv"))
    command = [uv, "lock", "--check", "--offline", "--project", str(project), "--python", sys.executable]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_lock_names_public_hosts_alone_and_a_hash_for_every_file() -> None:
    text = (ROOT / "uv.lock").read_text(encoding="utf-8")
    assert set(re.findall(r"\w+://[^/\"]+", text)) == {"https://pypi.org", "https://files.pythonhosted.org"}
    assert text.count("url = ") == len(re.findall(r'url = "[^"]+", hash = "sha256:[0-9a-f]{64}"', text))


def test_every_pinned_requirement_has_a_hash() -> None:
    """uv.lock and the npm locks say so of themselves (above, and `integrity`); here the files for pip."""
    for path in (ROOT / "requirements").glob("*.txt"):
        lines = [
            line
            for line in path.read_text(encoding="utf-8").splitlines()
            if line and not line.startswith("#")
        ]
        whole = " ".join(lines).replace("\\ ", "").split(" --hash=")
        pins = [line for line in lines if "==" in line]
        assert pins
        assert all(line.endswith(" \\") for line in pins), path
        assert all(re.match(r"sha256:[0-9a-f]{64}\b", part) for part in whole[1:])
        assert "://" not in path.read_text(encoding="utf-8")
    for path in (ROOT / "cloud" / "package-lock.json", ROOT / "tests" / "android" / "package-lock.json"):
        packages = [
            one for name, one in json.loads(path.read_text(encoding="utf-8"))["packages"].items() if name
        ]
        assert packages
        assert all(one["integrity"].startswith("sha512-") for one in packages)
    wrapper = (ROOT / "android_demo" / "gradle" / "wrapper" / "gradle-wrapper.properties").read_text(
        encoding="utf-8"
    )
    assert re.search(r"^distributionSha256Sum=[0-9a-f]{64}$", wrapper, re.MULTILINE)


def test_the_sbom_has_all_that_is_locked_and_what_the_wheel_carries(tmp_path: Path) -> None:
    out = tmp_path / "dist" / "sbom.json"
    command = [sys.executable, str(ROOT / "scripts" / "supply_chain.py"), "sbom", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    document = json.loads(out.read_text(encoding="utf-8"))
    assert document["bomFormat"] == "CycloneDX"
    found = {(one["name"], one["version"]): one for one in document["components"]}
    lock = tomllib.loads((ROOT / "uv.lock").read_text(encoding="utf-8"))["package"]
    assert {(one["name"], one["version"]) for one in lock if one["name"] != "sfumato"} <= set(found)
    page = json.loads((ROOT / "cloud" / "package-lock.json").read_text(encoding="utf-8"))["packages"][
        "node_modules/@litertjs/core"
    ]
    (carried,) = [one for (name, _), one in found.items() if name == "@litertjs/core"]
    assert carried["version"] == page["version"]
    (value,) = carried["hashes"]
    assert (value["alg"], len(value["content"])) == ("SHA-512", 128)
