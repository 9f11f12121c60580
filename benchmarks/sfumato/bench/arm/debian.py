"""Programs and libraries of Debian 12, private: unpacked into a folder, with their own loader, without root.

apt checks Debian's signatures; its lists, cache and status live in a scratch folder, and the host's dpkg knows nothing of it.

    versions = install("amd64", ("qemu-user",), Path("tools"), scratch)
    run([*loader(Path("tools"), "usr/bin/qemu-aarch64"), "--version"])
"""

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from sfumato.core.errors import SfumatoError

SUITE = "bookworm"
ARCHIVE = "SFUMATO_DEBIAN"
"""Environment variable: the address of a Debian archive, where this machine's own apt knows none of Debian 12."""
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
LIMIT_S = 600


def install(architecture: str, packages: Sequence[str], target: Path, scratch: Path) -> dict[str, str]:
    """Unpack Debian packages and all they need into `target`; returns their versions."""
    for name in ("lists/partial", "cache/archives/partial", "etc/preferences.d", "etc/apt.conf.d"):
        (scratch / name).mkdir(parents=True)
    (scratch / "status").touch()
    source = f"deb [signed-by={KEYRING}] {mirror()} {SUITE} main\n"
    (scratch / "etc/sources.list").write_text(source)
    settings = {
        "APT::Architecture": architecture,
        "APT::Architectures": architecture,
        "APT::Install-Recommends": "0",
        "APT::Sandbox::User": "",
        "Acquire::Languages": "none",
        "APT::Update::Error-Mode": "any",  # otherwise a missing network shows only as a missing package
        "Dir::Etc": f"{scratch}/etc",
        "Dir::State": str(scratch),
        "Dir::State::lists": f"{scratch}/lists",
        "Dir::State::status": f"{scratch}/status",
        "Dir::Cache": f"{scratch}/cache",
    }
    config = scratch / "apt.conf"
    config.write_text("".join(f'{key} "{value}";\n' for key, value in settings.items()) + proxies())
    environment = {**os.environ, "APT_CONFIG": str(config)}
    run(["apt-get", "-q", "update"], environment)
    run(["apt-get", "-q", "-y", "--download-only", "install", *packages], environment)
    versions = {}
    for package in sorted((scratch / "cache/archives").glob("*.deb")):
        run(["dpkg-deb", "-x", str(package), str(target)])
        name, version, _ = package.stem.split("_")
        versions[f"{name} ({architecture})"] = version.replace("%3a", ":")
    return versions


def mirror() -> str:
    """The archive of Debian 12: the variable `ARCHIVE`, or the one that this machine's own apt uses.

    Raises:
        SfumatoError: there is neither.
    """
    if given := os.environ.get(ARCHIVE):
        return given
    command = ["apt-get", "indextargets", "--format", "$(CODENAME) $(REPO_URI)", "Created-By: Packages"]
    done = subprocess.run(command, capture_output=True, errors="replace", check=False)
    lines = [line.split() for line in done.stdout.splitlines()]
    found = next((line[1] for line in lines if line[:1] == [SUITE]), None)
    if found is None:
        raise SfumatoError(
            f"this machine's apt knows no archive of Debian 12 ({SUITE}): set {ARCHIVE} to the address of one"
        )
    return found


def proxies() -> str:
    """How this machine's apt reaches the network, in the form of apt.conf."""
    command = ["apt-config", "dump", "--no-empty", "Acquire"]
    done = subprocess.run(command, capture_output=True, errors="replace", check=False)
    return "".join(f"{line}\n" for line in done.stdout.splitlines() if line.startswith("Acquire::http"))


def loader(tools: Path, program: str) -> list[str]:
    """A command that runs one of the private programs with the private libraries."""
    folders = ("lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu")
    path = ":".join(str(tools / folder) for folder in folders)
    return [str(tools / "lib64/ld-linux-x86-64.so.2"), "--library-path", path, str(tools / program)]


def run(
    command: Sequence[str],
    environment: Mapping[str, str] | None = None,
    *,
    what: str = "setting up the emulator",
) -> None:
    """Run a step of the set-up; `what` is what the user waits for.

    Raises:
        SfumatoError: it failed; its last line is quoted.
    """
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, errors="replace", timeout=LIMIT_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise SfumatoError(f"{what} failed: {command[0]} took longer than {LIMIT_S} s") from None
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines() or [f"exit {done.returncode}"]
        reason = next((line for line in lines if "error" in line.lower()), lines[-1])
        raise SfumatoError(f"{what} failed: {reason}")
