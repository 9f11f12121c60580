"""Everything `sfumato bench arm` needs, fetched and built once into the user's cache, without root and without questions.

- qemu-aarch64 of Debian 12, whose build counts by plugin (Debian 13's does not), with its own libraries and loader, so that
  nothing is installed and the host's C library does not matter;
- the shared libraries of an arm64 Debian 12 (C, C++, OpenSSL), and ai-edge-litert for aarch64, whose sha256 is pinned;
- `guest.c`, compiled for ARM64 by a cross compiler that is thrown away afterwards, and `count.c`, compiled by the host's.

apt checks Debian's signatures; its lists, cache and status live in a scratch folder. The toolbox takes its name from a hash of
all that it is made from, and appears by one rename.

    toolbox = open_toolbox()
"""

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from sfumato.data.cache import cache_folder
from sfumato.errors import SfumatoError
from sfumato.files import atomic_folder, read_json, sha256, write_json

HERE = Path(__file__).parent
RUNTIME = "2.1.0"
"""ai-edge-litert, as the export pins it; its aarch64 library has the C interface. 2.2 and 2.3 crash under qemu 7.2."""
RUNTIME_SHA256 = "92b24d2507fccf5680c26e712c156266dcf64a892df3921dd42f4a7d26527462"
"""Of the wheel."""
EMULATOR = ("qemu-user",)
COMPILER = (
    "cpp-12-aarch64-linux-gnu",
    "binutils-aarch64-linux-gnu",
    "libc6-dev-arm64-cross",
    "libgcc-12-dev-arm64-cross",
)
LIBRARIES = ("libc6", "libstdc++6", "libssl3")
SUITE, MIRROR = "bookworm", "http://deb.debian.org/debian"
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
PROGRAMS = {"apt-get": "apt", "dpkg-deb": "dpkg", "cc": "gcc libc6-dev"}
"""Program -> the packages that bring it."""
LIMIT_S = 600


@dataclass(frozen=True)
class Toolbox:
    """A finished one."""

    folder: Path

    @property
    def qemu(self) -> list[str]:
        """The command that starts the emulator, under its own loader."""
        return loader(self.folder / "tools", "usr/bin/qemu-aarch64")

    @property
    def root(self) -> Path:
        """The arm64 libraries, as the emulated program sees them."""
        return self.folder / "root"

    @property
    def plugin(self) -> Path:
        """The counting plugin."""
        return self.folder / "libcount.so"

    @property
    def guest(self) -> Path:
        """The program that runs on ARM64."""
        return self.folder / "guest"

    @property
    def litert(self) -> Path:
        """The runtime's library for ARM64."""
        return self.folder / "libLiteRt.so"

    @property
    def crypto(self) -> Path:
        """OpenSSL's library for ARM64."""
        return self.root / "usr/lib/aarch64-linux-gnu/libcrypto.so.3"

    @property
    def packages(self) -> dict[str, str]:
        """What it is made from: name -> version."""
        found: dict[str, str] = read_json(self.folder / "packages.json")
        return found


def open_toolbox(watch: Callable[[str], None] = lambda title: None) -> Toolbox:
    """The toolbox, built if it is not there yet: half a minute with a fast connection, 60 MB fetched.

    Raises:
        SfumatoError: this is not x86-64 Linux, a program is missing, or something cannot be fetched; says what to do.
    """
    folder = cache_folder() / "arm" / fingerprint()
    if not folder.exists():
        check_host()
        watch("setting up the emulator, once")
        with atomic_folder(folder) as made, tempfile.TemporaryDirectory(prefix="sfumato-arm-") as scratch:
            build(made, Path(scratch))
    return Toolbox(folder)


def fingerprint() -> str:
    """A name for what a toolbox is made from."""
    parts = [Path(__file__).read_bytes(), *((HERE / name).read_bytes() for name in ("guest.c", "count.c"))]
    return hashlib.sha256(b"".join(parts)).hexdigest()[:16]


def check_host() -> None:
    """Name what is missing, with the line that installs it.

    Raises:
        SfumatoError: something is.
    """
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        this = f"{platform.system()} {platform.machine()}"
        raise SfumatoError(
            f"bench arm runs on x86-64 Linux, this is {this}: use a container or another computer"
        )
    packages = [packages for program, packages in PROGRAMS.items() if shutil.which(program) is None]
    packages += [] if KEYRING.exists() else ["debian-archive-keyring"]
    if packages:
        line = f"sudo apt-get install -y --no-install-recommends {' '.join(packages)}"
        raise SfumatoError(f"bench arm needs more than this computer has: {line}")


def build(made: Path, scratch: Path) -> None:
    """Fetch and compile into `made`."""
    tools, root = made / "tools", made / "root"
    fetch = {
        lambda: install("amd64", (*EMULATOR, *COMPILER), tools, scratch / "amd64"),
        lambda: install("arm64", LIBRARIES, root, scratch / "arm64"),
    }
    with ThreadPoolExecutor() as pool:
        runtime = pool.submit(fetch_runtime, made / "libLiteRt.so", scratch)
        versions = [job.result() for job in [pool.submit(step) for step in fetch]]
        runtime.result()
    run(["cc", "-O2", "-shared", "-fPIC", "-o", str(made / "libcount.so"), str(HERE / "count.c")])
    cross_compile(HERE / "guest.c", made / "guest", tools, scratch)
    keep_emulator(tools)
    packages = {name: version for part in versions for name, version in part.items()}
    write_json(made / "packages.json", {**packages, "ai-edge-litert (aarch64)": RUNTIME})


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
    """The archive that this machine's own apt uses, if it is a Debian 12; Debian's otherwise."""
    command = ["apt-get", "indextargets", "--format", "$(CODENAME) $(REPO_URI)", "Created-By: Packages"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = [line.split() for line in done.stdout.splitlines()]
    return next((line[1] for line in lines if line[:1] == [SUITE]), MIRROR)


def proxies() -> str:
    """How this machine's apt reaches the network, in the form of apt.conf."""
    command = ["apt-config", "dump", "--no-empty", "Acquire"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return "".join(f"{line}\n" for line in done.stdout.splitlines() if line.startswith("Acquire::http"))


def fetch_runtime(target: Path, scratch: Path) -> None:
    """The runtime's library for aarch64, out of its wheel."""
    folder = scratch / "wheel"
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    where = ["--only-binary=:all:", "--platform", "manylinux_2_27_aarch64", "--python-version", "3.11"]
    run([*pip, *where, "--dest", str(folder), f"ai-edge-litert=={RUNTIME}"])
    (wheel,) = folder.glob("*.whl")
    if sha256(wheel) != RUNTIME_SHA256:
        raise SfumatoError(f"{wheel.name} is not the file that was tested: its sha256 is {sha256(wheel)}")
    with zipfile.ZipFile(wheel) as archive:
        target.write_bytes(archive.read("ai_edge_litert/libLiteRt.so"))


def loader(tools: Path, program: str) -> list[str]:
    """A command that runs one of the private programs with the private libraries."""
    folders = ("lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu")
    path = ":".join(str(tools / folder) for folder in folders)
    return [str(tools / "lib64/ld-linux-x86-64.so.2"), "--library-path", path, str(tools / program)]


def cross_compile(source: Path, target: Path, tools: Path, scratch: Path) -> None:
    """C to an ARM64 program: compiler proper, assembler, linker, one after the other."""
    cross = tools / "usr/aarch64-linux-gnu"
    assembly, code = scratch / "guest.s", scratch / "guest.o"
    own = tools / "usr/lib/gcc-cross/aarch64-linux-gnu/12"
    headers = ["-isystem", str(own / "include"), "-isystem", str(cross / "include")]
    compiler = loader(tools, str((own / "cc1").relative_to(tools)))
    run([*compiler, "-quiet", "-O3", *headers, str(source), "-o", str(assembly)])
    run([*loader(tools, "usr/bin/aarch64-linux-gnu-as"), "-o", str(code), str(assembly)])
    parts = [str(cross / "lib" / name) for name in ("crt1.o", "crti.o")]
    ends = [str(cross / "lib" / name) for name in ("libc.so.6", "libc_nonshared.a", "crtn.o")]
    # The C library needs its loader, which is there when the program starts.
    options = ["--allow-shlib-undefined", "-dynamic-linker", "/lib/ld-linux-aarch64.so.1"]
    linker = loader(tools, "usr/bin/aarch64-linux-gnu-ld")
    run([*linker, *options, "-o", str(target), *parts, str(code), *ends])


def keep_emulator(tools: Path) -> None:
    """Throw away what only the build needed."""
    for name in ("usr/aarch64-linux-gnu", "usr/lib/gcc-cross", "usr/share", "usr/lib/gcc"):
        shutil.rmtree(tools / name, ignore_errors=True)
    for program in (tools / "usr/bin").iterdir():
        if program.name != "qemu-aarch64":
            program.unlink()


def run(command: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
    """Run a step of the set-up.

    Raises:
        SfumatoError: it failed; its last line is quoted.
    """
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=LIMIT_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise SfumatoError(
            f"setting up the emulator failed: {command[0]} took longer than {LIMIT_S} s"
        ) from None
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines() or [f"exit {done.returncode}"]
        reason = next((line for line in lines if "error" in line.lower()), lines[-1])
        raise SfumatoError(f"setting up the emulator failed: {reason}")
