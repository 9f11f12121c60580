"""Build `.venv`: everything that `make demo` and `make test` need, pinned, with the CPU build of PyTorch.

Standard library only, for it runs before anything is installed. A finished set-up leaves a stamp in `.venv`
that names what it was made from; the same stamp again means nothing to do. The stamp goes before anything is
changed, so an interrupted set-up is never taken for a whole one: it is built anew.

Usage: `python3.11 scripts/set_up.py` (or `make setup`). SFUMATO_TORCH=pip in the environment accepts whatever
build of PyTorch pip would take, for machines with a CUDA GPU.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
STAMP = VENV / "set-up.json"
CONSTRAINTS = ROOT / "requirements" / "constraints.txt"
PYTHON = VENV / "bin" / "python"

#: The interpreter to build from: never the one inside .venv, which may be removed on the way.
BASE = sys.executable if sys.prefix == sys.base_prefix else str(Path(sys.executable).resolve())

#: What installs the rest. uv is fetched only where pip would take a CUDA build of PyTorch.
BOOTSTRAP = ("pip", "hatchling", "editables")
UV = "uv==0.13.9"


def main() -> None:
    """Bring `.venv` up to date, or say in one line why not."""
    if sys.version_info[:2] != (3, 11):
        this = f"{sys.executable} is {platform.python_version()}"
        sys.exit(f"set-up: Python 3.11 is needed, {this}: run make PYTHON=/path/to/python3.11")
    with one_at_a_time():
        wanted, found = stamp(), read_stamp()
        if found == wanted:
            return
        where = ("root", "python")
        if VENV.exists() and any(found.get(key) != wanted[key] for key in where):
            print("set-up: .venv was left unfinished or belongs elsewhere: building it anew", flush=True)
            shutil.rmtree(VENV)
        STAMP.unlink(missing_ok=True)
        install()
        scratch = STAMP.with_suffix(".tmp")
        scratch.write_text(json.dumps(wanted, indent=2) + "\n", encoding="utf-8")
        scratch.replace(STAMP)


@contextmanager
def one_at_a_time() -> Iterator[None]:
    """Hold a lock, so that two `make` at once do not build the same folder."""
    with Path(__file__).open("rb") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def stamp() -> dict[str, str]:
    """What a finished set-up is made from: the place, the Python, and a hash of all that decides its content.

    Of pyproject.toml only the tables that speak of installing count: a new lint rule installs nothing.
    """
    project = read_project()
    parts = {
        "build": project["build-system"],
        "project": project["project"],
        "hatch": project["tool"]["hatch"],
        "constraints": CONSTRAINTS.read_text(encoding="utf-8"),
        "script": Path(__file__).read_text(encoding="utf-8"),
        "torch": os.environ.get("SFUMATO_TORCH", "cpu"),
    }
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    return {"root": str(ROOT), "python": platform.python_version(), "inputs": digest}


def read_stamp() -> dict[str, str]:
    """The stamp of the last finished set-up; empty when there is none or its interpreter is gone."""
    try:
        value: dict[str, str] = json.loads(STAMP.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if PYTHON.exists() else {}


def read_project() -> dict[str, Any]:
    """pyproject.toml."""
    import tomllib  # not at the top: an older Python must get as far as the message in main()

    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def install() -> None:
    """The visible list of steps."""
    pins = ["--constraint", str(CONSTRAINTS)]
    pip = [str(PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    with step(1, f"virtual environment in .venv, Python {platform.python_version()}"):
        make_venv()
        run([*pip, "--upgrade", *pins, *BOOTSTRAP])
    with step(2, f"{torch_pin()}, CPU build (200 MB)"):
        install_torch([*pip, *pins])
    with step(3, "everything else, pinned by requirements/constraints.txt (1 GB)"):
        run([*pip, *pins, "--no-build-isolation", "--editable", f"{ROOT}[dev]"])


def make_venv() -> None:
    """A virtual environment with pip, also on Debian and Ubuntu, which split `ensurepip` off."""
    if (VENV / "bin" / "pip").exists():
        return
    venv = [BASE, "-m", "venv", "--clear"]
    if succeeds([BASE, "-c", "import venv, ensurepip; ensurepip.version()"]):
        run([*venv, str(VENV)])
    elif succeeds([BASE, "-m", "pip", "--version"]):
        # python3-pip without python3-venv: it can fill an empty environment.
        run([*venv, "--without-pip", str(VENV)])
        run([BASE, "-m", "pip", "--quiet", "--python", str(PYTHON), "install", "pip"])
    else:
        get_ensurepip("python3.11-venv")
        run([*venv, str(VENV)])


def get_ensurepip(package: str) -> None:
    """Install Debian's package of `ensurepip` where that is allowed; otherwise say the line that does it."""
    if shutil.which("apt-get") is None:
        sys.exit("set-up: this Python has no venv with ensurepip: install a complete Python 3.11")
    if os.geteuid() != 0:
        line = f"sudo apt-get install -y {package}"
        sys.exit(f"set-up: this Python has no ensurepip: run `{line}`, then make again")
    run(["apt-get", "update", "-qq"])
    run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", package])


def install_torch(pip: Sequence[str]) -> None:
    """PyTorch without CUDA.

    Which build pip takes depends on the platform and on pip's configuration. So pip is asked first; where it
    would bring gigabytes of CUDA libraries, uv, which knows PyTorch's own index, takes its place.
    """
    pin = torch_pin()
    if os.environ.get("SFUMATO_TORCH") != "pip" and takes_cuda(pip, pin):
        run([*pip, UV])
        uv = [str(VENV / "bin" / "uv"), "pip", "install", "--quiet", "--python", str(PYTHON)]
        run([*uv, "--constraint", str(CONSTRAINTS), "--torch-backend=cpu", pin])
    else:
        run([*pip, pin])


def takes_cuda(pip: Sequence[str], pin: str) -> bool:
    """Whether the wheel pip would install asks for CUDA libraries; only its metadata is fetched."""
    if platform.system() != "Linux":
        return False
    report = json.loads(output([*pip, "--dry-run", "--no-deps", "--report", "-", pin]) or "{}")
    needs = [need for item in report.get("install", ()) for need in item["metadata"].get("requires_dist", ())]
    return any(re.match(r"(nvidia|cuda|triton)\b", need) for need in needs)


def torch_pin() -> str:
    """The requirement `torch==...` of pyproject.toml."""
    needs: list[str] = read_project()["project"]["dependencies"]
    return next(need for need in needs if need.startswith("torch=="))


@contextmanager
def step(number: int, what: str) -> Iterator[None]:
    """One line: what is being done, and how long it took."""
    print(f"set-up {number}/3: {what} ...", end="", flush=True)
    start = time.monotonic()
    try:
        yield
    except BaseException:
        print(flush=True)
        raise
    print(f" {time.monotonic() - start:.0f} s", flush=True)


def run(command: Sequence[str]) -> None:
    """Run a command silently; when it fails, show the end of what it said and stop."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        fail(command, done.returncode, done.stdout)


def fail(command: Sequence[str], code: int, said: str) -> NoReturn:
    """Stop, with the end of what the command said and a line of our own."""
    tail = "\n".join(said.splitlines()[-15:])
    sys.exit(f"\n{tail}\nset-up: `{' '.join(command)}` failed (exit {code}); make again starts anew")


def output(command: Sequence[str]) -> str:
    """Standard output of a command that must succeed."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        fail(command, done.returncode, done.stderr)
    return done.stdout


def succeeds(command: Sequence[str]) -> bool:
    """Whether a command exits with 0."""
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("\nset-up: interrupted; make again starts anew")
