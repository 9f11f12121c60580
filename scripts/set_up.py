"""Build `.venv` from uv.lock: everything that `make demo` and `make test` need, with the CPU build of PyTorch.

Standard library only, for it runs before anything is installed. A finished set-up leaves a stamp in `.venv` that hashes
what it was made from. The same stamp again means nothing to do; any other, or none, means that `.venv` is built anew.

Usage: `python3.11 scripts/set_up.py` (or `make setup`). `--lock` first rewrites uv.lock, and hands what follows to `uv lock`
(or `make lock`). SFUMATO_TORCH=cuda in the environment takes the build with CUDA.
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
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
LOCK = ROOT / "uv.lock"
STAMP = VENV / "set-up"
PYTHON, UV = str(VENV / "bin" / "python"), str(VENV / "bin" / "uv")
PIP = [PYTHON, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]

#: The interpreter to build from: never the one inside .venv, which is removed on the way.
BASE = sys.executable if sys.prefix == sys.base_prefix else str(Path(sys.executable).resolve())

#: On Linux PyTorch's CPU build is in an index of its own, so that the locked one and its CUDA libraries are left out.
CPU_BUILD = platform.system() == "Linux" and os.environ.get("SFUMATO_TORCH") != "cuda"


def main() -> None:
    """Bring `.venv` up to date, or say in one line why not."""
    if sys.version_info[:2] != (3, 11):
        this = f"{sys.executable} is {platform.python_version()}"
        sys.exit(f"set-up: Python 3.11 is needed, {this}: run make PYTHON=/path/to/python3.11")
    lock = sys.argv[1:2] == ["--lock"]
    with one_at_a_time():
        if not lock and STAMP.is_file() and os.access(PYTHON, os.X_OK) and STAMP.read_text() == stamp():
            return
        shutil.rmtree(VENV, ignore_errors=True)
        with step(1, f"virtual environment in .venv, Python {platform.python_version()}"):
            make_venv()
            install_uv()
        if lock:
            run([UV, "lock", "--project", str(ROOT), *sys.argv[2:]])
        with step(2, "the packages of uv.lock (1 GB)"):
            sync()
        if CPU_BUILD:
            with step(3, "PyTorch, CPU build (200 MB)"):
                install_torch()
        STAMP.write_text(stamp())


@contextmanager
def one_at_a_time() -> Iterator[None]:
    """Hold a lock, so that two `make` at once do not build the same folder."""
    with Path(__file__).open("rb") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def stamp() -> str:
    """A hash of all that decides the content of `.venv`.

    Of pyproject.toml only the tables that speak of installing count: a new lint rule installs nothing.
    """
    project = read_toml(ROOT / "pyproject.toml")
    tables = [project["build-system"], project["project"], project["tool"]["hatch"], project["tool"]["uv"]]
    place = [str(ROOT), platform.python_version(), CPU_BUILD]
    parts = [*place, *tables, LOCK.read_text(encoding="utf-8"), Path(__file__).read_text(encoding="utf-8")]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest() + "\n"


def make_venv() -> None:
    """A virtual environment with pip, also on Debian and Ubuntu, which split `ensurepip` off."""
    run([BASE, "-m", "venv", "--without-pip", str(VENV)])
    if succeeds([PYTHON, "-m", "ensurepip"]):
        return
    if succeeds([BASE, "-m", "pip", "--version"]):
        # python3-pip without python3-venv: it can fill an empty environment.
        run([BASE, "-m", "pip", "--quiet", "--python", PYTHON, "install", "pip"])
    elif shutil.which("apt-get") is None:
        sys.exit("\nset-up: this Python has neither pip nor ensurepip: install a complete Python 3.11")
    elif os.geteuid() != 0:
        line = "sudo apt-get install -y python3.11-venv"
        sys.exit(f"\nset-up: this Python has no ensurepip: run `{line}`, then make again")
    else:
        run(["apt-get", "update", "-qq"])
        run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", "python3.11-venv"])
        run([PYTHON, "-m", "ensurepip"])


def install_uv() -> None:
    """The uv of the lock, by pip, which checks its hash too."""
    uv = locked("uv")
    requirement = VENV / "uv.txt"
    hashes = " ".join(f"--hash={wheel['hash']}" for wheel in uv["wheels"])
    requirement.write_text(f"uv=={uv['version']} {hashes}\n", encoding="utf-8")
    run([*PIP, "--require-hashes", "--no-deps", "--only-binary=:all:", "--requirement", str(requirement)])


def sync() -> None:
    """All that uv.lock pins for this platform, each file checked against its hash, and sfumato itself, editable."""
    names = [package["name"] for package in read_toml(LOCK)["package"]]
    left_out = [name for name in names if CPU_BUILD and re.match(r"(torch|triton)$|(nvidia|cuda)-", name)]
    without = [f"--no-install-package={name}" for name in left_out]
    # The build backend comes from the lock like the rest, so the build is not isolated.
    options = ["--locked", "--extra=dev", "--no-build-isolation-package=sfumato", "--no-python-downloads"]
    run([UV, "sync", "--project", str(ROOT), "--python", PYTHON, "--compile-bytecode", *options, *without])


def install_torch() -> None:
    """The locked version without CUDA: a wheel where pip is told to look, or from PyTorch's own index, which uv knows."""
    torch = f"torch=={locked('torch')['version']}+cpu"
    command = [UV, "pip", "install", "--python", PYTHON, "--no-deps", "--compile-bytecode", torch]
    places = [f"--find-links={place}" for place in os.environ.get("PIP_FIND_LINKS", "").split()]
    if not (places and succeeds([*command, *places])):
        run([*command, "--torch-backend=cpu"])


def locked(name: str) -> dict[str, Any]:
    """A package of uv.lock."""
    packages: list[dict[str, Any]] = read_toml(LOCK)["package"]
    return next(package for package in packages if package["name"] == name)


def read_toml(path: Path) -> dict[str, Any]:
    """A TOML file."""
    import tomllib  # not at the top: an older Python must get as far as the message in main()

    return tomllib.loads(path.read_text(encoding="utf-8"))


@contextmanager
def step(number: int, what: str) -> Iterator[None]:
    """One line: what is being done, and how long it took."""
    print(f"set-up {number}/{3 if CPU_BUILD else 2}: {what} ...", end="", flush=True)
    start = time.monotonic()
    yield
    print(f" {time.monotonic() - start:.0f} s", flush=True)


def run(command: Sequence[str]) -> None:
    """Run a command silently; when it fails, show the end of what it said and stop."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        tail = "\n".join(done.stdout.splitlines()[-15:])
        code = done.returncode
        sys.exit(f"\n{tail}\nset-up: `{' '.join(command)}` failed (exit {code}); make again starts anew")


def succeeds(command: Sequence[str]) -> bool:
    """Whether a command exits with 0."""
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("\nset-up: interrupted; make again starts anew")
