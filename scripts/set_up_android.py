"""Bring what `make test-android` needs: a Kotlin compiler and Android's API list from npm, JUnit and aapt2 from Debian.

A JDK 17 or later, node and npm must be there. The npm packages are pinned by tests/android/package-lock.json; Debian
packages are installed where that is allowed. Whatever is missing is said in one line each. A second call does nothing.

Usage: `python scripts/set_up_android.py`
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent.parent / "tests" / "android"
LOCK, INSTALLED = FOLDER / "package-lock.json", FOLDER / "node_modules" / ".package-lock.json"
PROGRAMS = {
    "javac": "a JDK of version 17 or later: apt-get install openjdk-17-jdk-headless",
    "node": "Node.js: apt-get install nodejs",
    "npm": "npm: apt-get install npm",
}
DEBIAN = {
    "junit4": Path("/usr/share/java/junit4.jar"),
    "libhamcrest-java": Path("/usr/share/java/hamcrest-core.jar"),
    "aapt": Path("/usr/bin/aapt2"),
    "android-framework-res": Path("/usr/share/android-framework-res/framework-res.apk"),
}
"""Package -> the file that is used of it."""


def main() -> None:
    """Install what can be installed, then say what is missing."""
    lines = [line for program, line in PROGRAMS.items() if shutil.which(program) is None]
    lines += debian_packages()
    if not lines and not up_to_date():
        done = subprocess.run(
            ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=FOLDER, check=False
        )
        if done.returncode:
            lines.append(f"the packages of {LOCK.name}: npm ci failed in {FOLDER}")
    if lines:
        sys.exit("\n".join(f"set-up: missing is {line}" for line in lines))


def debian_packages() -> list[str]:
    """Install Debian's packages where we may; a line for each that is still missing."""
    missing = [name for name, file in DEBIAN.items() if not file.exists()]
    if missing and shutil.which("apt-get") and os.geteuid() == 0:
        print(f"set-up: {', '.join(missing)} from Debian ...", flush=True)
        quiet = {"stdout": subprocess.DEVNULL, "check": False}
        subprocess.run(["apt-get", "update", "-qq"], **quiet)  # type: ignore[call-overload]
        install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing]
        subprocess.run(install, **quiet)  # type: ignore[call-overload]
    return [f"{name}: sudo apt-get install {name}" for name in missing if not DEBIAN[name].exists()]


def up_to_date() -> bool:
    """Whether node_modules was made from the lock file as it is now."""
    return INSTALLED.exists() and INSTALLED.stat().st_mtime >= LOCK.stat().st_mtime


if __name__ == "__main__":
    main()
