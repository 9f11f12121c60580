"""The page's build in a folder of its own: left out in one line where it cannot be made, never half made."""

import gzip
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """What the build reads, and a vendor folder from another lock file."""
    for name in ("scripts/build_page.py", "cloud/package.json", "cloud/package-lock.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    old = tmp_path / "cloud" / "sfumato" / "server" / "web" / "vendor" / "build.json"
    old.parent.mkdir(parents=True)
    old.write_text('{"lock": "0"}')
    return tmp_path


def build(project: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "scripts/build_page.py"]
    environment = {**os.environ, **variables}
    return subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=project, env=environment, timeout=300
    )


def left_out(project: Path, done: subprocess.CompletedProcess[str]) -> str:
    """The one line; nothing old is left to be served."""
    assert done.returncode == 0
    assert not (project / "cloud" / "sfumato" / "server" / "web" / "vendor").exists()
    (line,) = done.stderr.splitlines()
    assert line.startswith("set-up: the browser page is left out: ")
    return line


def test_without_npm(project: Path) -> None:
    assert "make setup" in left_out(project, build(project, PATH=""))


@pytest.mark.skipif(shutil.which("npm") is None, reason="there is no npm")
def test_without_a_network(project: Path, tmp_path: Path) -> None:
    empty = {"npm_config_offline": "true", "npm_config_cache": str(tmp_path / "cache")}
    assert "npm ci failed" in left_out(project, build(project, **empty))


@pytest.mark.skipif(
    not (ROOT / "cloud/sfumato/server/web/vendor/build.json").exists(), reason="the page was not built here"
)
def test_a_finished_build_is_left_alone() -> None:
    done = build(ROOT, PATH="")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_every_package_that_the_wheel_carries_has_its_licence_named() -> None:
    """The packages that the build copies from, and the libraries whose names stand in the WebAssembly."""
    told = (ROOT / "THIRD_PARTY_LICENSES").read_text(encoding="utf-8")
    source = (ROOT / "scripts" / "build_page.py").read_text(encoding="utf-8")
    packages = set(re.findall(r'"(@[\w-]+/[\w-]+)/', source))
    assert packages
    assert [name for name in packages if name not in told] == []
    built = ROOT / "cloud/sfumato/server/web/vendor/wasm/litert_wasm_internal.wasm.gz"
    if built.exists():
        libraries = set(re.findall(rb"third_party/(\w+)/", gzip.decompress(built.read_bytes())))
        assert libraries
        # odml and gloop are folders of LiteRT's authors; they are published as LiteRT.
        names = {"absl": "Abseil", "ml_drift": "ML Drift", "protobuf": "Protocol Buffers"}
        names |= {"odml": "LiteRT", "gloop": "LiteRT"}
        for library in {name.decode() for name in libraries}:
            assert names.get(library, library).lower() in told.lower(), library
