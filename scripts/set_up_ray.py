"""Build the two environments of `make test-ray`: Ray's own for the service, and .venv with Ray beside the trainer.

The service's Ray wants another protobuf than the exporter, and comes whole from requirements/ray.txt. `sfumato compare --ray`
and `sfumato audit --ray` run in the environment of the trainer, where the core of Ray is enough: the second one sees all
packages of .venv and has Ray and what that lacks there. A second call does nothing.

Usage: `python scripts/set_up_ray.py .cache/ray .cache/ray-train`
"""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

LOCK = Path(__file__).resolve().parent.parent / "requirements" / "ray.txt"
CORE = ("ray", "msgpack", "jsonschema", "jsonschema-specifications", "referencing", "rpds-py", "attrs")
"""Ray's core, and what it needs that .venv may not have."""


def main(service: Path, trainer: Path) -> None:
    """Build what is not there."""
    if not (service / "bin" / "ray").exists():
        install(service, "--require-hashes", "-r", str(LOCK))
    if not (trainer / "bin" / "ray").exists():
        lines = LOCK.read_text(encoding="utf-8").splitlines()
        pinned = dict(line.split(" ")[0].split("==") for line in lines if "==" in line and line[0].isalpha())
        install(trainer, "--no-deps", *(f"{name}=={pinned[name]}" for name in CORE))
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        here = trainer / "lib" / version / "site-packages" / "venv.pth"
        here.write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")


def install(folder: Path, *what: str) -> None:
    """Make an environment and install into it.

    Raises:
        SystemExit: uv could not.
    """
    print(f"set-up: {folder} ...", flush=True)
    for command in (
        ["venv", "--quiet", "--clear", "--python", sys.executable, str(folder)],
        ["pip", "install", "--quiet", *what],
    ):
        done = subprocess.run(
            ["uv", *command], env={**os.environ, "VIRTUAL_ENV": str(folder.absolute())}, check=False
        )
        if done.returncode:
            sys.exit(f"set-up: uv {command[0]} failed for {folder}")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:3]))
