"""Everything `sfumato bench arm` needs, fetched and built once into the user's cache, without root and without questions.

`sfumato bench phone --no-app` takes the ARM64 part of it to a phone (`phone_files`).

- qemu-aarch64 of Debian 12, whose build counts by plugin (Debian 13's does not), with its own libraries and loader, so that
  nothing is installed and the host's C library does not matter;
- the shared libraries of an arm64 Debian 12 (C, C++, OpenSSL, libjpeg-turbo, libwebp), and ai-edge-litert for aarch64 in the
  releases of `RUNTIMES`;
- `guest.c`, compiled for ARM64 by a cross compiler that is thrown away afterwards, and `count.c`, compiled by the host's.

Why packages are unpacked and not installed: `qemu-user-static` counts nothing (a static qemu has no plugins), and the C library
of `libc6-arm64-cross` is an older build than that of `libc6`, whose instructions are part of what is counted. Installing would
need root and a foreign architecture, and the counts would follow the host.

The toolbox takes its name from a hash of all that it is made from, and appears by one rename.

    toolbox = open_toolbox()
"""

import hashlib
import platform
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from sfumato.bench.arm.debian import KEYRING, install, loader, run
from sfumato.core.errors import SfumatoError
from sfumato.core.files import atomic_folder, read_json, sha256, write_json
from sfumato.data.cache import cache_folder

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Runtime:
    """A release of ai-edge-litert whose wheel for aarch64 has a library with the C interface."""

    version: str
    platform: str
    """The wheel's platform tag."""
    sha256: str
    """Of the wheel."""
    library: str
    """The library's file name in the wheel."""

    @property
    def file(self) -> str:
        """Its name in the toolbox."""
        return f"liblitert-{self.version}.so"


RUNTIMES = {
    one.version: one
    for one in (
        Runtime(
            "2.1.0",
            "manylinux_2_27_aarch64",
            "92b24d2507fccf5680c26e712c156266dcf64a892df3921dd42f4a7d26527462",
            "libLiteRt.so",
        ),
        Runtime(
            "1.4.0",
            "manylinux_2_17_aarch64",
            "131d1c12dedc0c45aa683106d71ea895117c2332b0efb52712965f8b5e63781d",
            "libLiteRtRuntimeCApi.so",
        ),
    )
}
"""That of toolchain and Android app first, then the series of the flavour nnapi. 2.2 and 2.3 crash under qemu 7.2."""
APP_RUNTIME = next(iter(RUNTIMES))
EMULATOR = ("qemu-user",)
COMPILER = (
    "cpp-12-aarch64-linux-gnu",
    "binutils-aarch64-linux-gnu",
    "libc6-dev-arm64-cross",
    "libgcc-12-dev-arm64-cross",
)
LIBRARIES = ("libc6", "libstdc++6", "libssl3", "libturbojpeg0", "libwebp7")
LOADER, LITERT = "ld-linux-aarch64.so.1", "liblitert.so"
NEEDED = ("libc.so.6", "libdl.so.2", "libgcc_s.so.1", "libm.so.6", "libpthread.so.0", "librt.so.1")
"""What guest and runtime are linked against, libstdc++ beside them."""
PROGRAMS = {"apt-get": "apt", "dpkg-deb": "dpkg", "cc": "gcc libc6-dev"}
"""Program -> the packages that bring it."""


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

    def litert(self, version: str = APP_RUNTIME) -> Path:
        """The library for ARM64 of a runtime in `RUNTIMES`."""
        return self.folder / RUNTIMES[version].file

    @property
    def crypto(self) -> Path:
        """OpenSSL's library for ARM64."""
        return self.root / "usr/lib/aarch64-linux-gnu/libcrypto.so.3"

    def phone_files(self, version: str = APP_RUNTIME) -> dict[str, Path]:
        """What runs the guest on any ARM64 Linux, Android included: file name -> file; the loader starts the rest."""
        libraries = self.root / "lib/aarch64-linux-gnu"
        found = {name: libraries / name for name in (LOADER, *NEEDED)}
        found["libstdc++.so.6"] = self.root / "usr/lib/aarch64-linux-gnu/libstdc++.so.6"
        return {**found, "guest": self.guest, LITERT: self.litert(version)}

    @property
    def turbojpeg(self) -> Path:
        """libjpeg-turbo's library for ARM64."""
        return self.root / "usr/lib/aarch64-linux-gnu/libturbojpeg.so.0"

    @property
    def webp(self) -> Path:
        """libwebp's library for ARM64."""
        return self.root / "usr/lib/aarch64-linux-gnu/libwebp.so.7"

    @property
    def packages(self) -> dict[str, str]:
        """What it is made from: name -> version."""
        found: dict[str, str] = read_json(self.folder / "packages.json")
        return found


def open_toolbox(watch: Callable[[str], None] = lambda title: None) -> Toolbox:
    """The toolbox, built if it is not there yet: half a minute with a fast connection, 70 MB fetched.

    Raises:
        SfumatoError: this is not x86-64 Linux, a program is missing, or something cannot be fetched; says what to do.
    """
    folder = cache_folder() / "arm" / fingerprint()
    if not folder.exists():
        check_host()
        watch("setting up emulator and ARM64 programs, once")
        with atomic_folder(folder) as made, tempfile.TemporaryDirectory(prefix="sfumato-arm-") as scratch:
            build(made, Path(scratch))
    return Toolbox(folder)


def fingerprint() -> str:
    """A name for what a toolbox is made from."""
    names = ("toolbox.py", "debian.py", "guest.c", "count.c")
    return hashlib.sha256(b"".join((HERE / name).read_bytes() for name in names)).hexdigest()[:16]


def check_host() -> None:
    """Name what is missing, with the line that installs it.

    Raises:
        SfumatoError: something is.
    """
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        this = f"{platform.system()} {platform.machine()}"
        raise SfumatoError(
            f"the ARM64 programs are put together on x86-64 Linux, this is {this}: use a container or another computer"
        )
    packages = [packages for program, packages in PROGRAMS.items() if shutil.which(program) is None]
    packages += [] if KEYRING.exists() else ["debian-archive-keyring"]
    if packages:
        line = f"sudo apt-get install -y --no-install-recommends {' '.join(packages)}"
        raise SfumatoError(
            "bench arm and bench phone --no-app need apt, dpkg and a C compiler of Debian or Ubuntu "
            f"(elsewhere, a container of debian:12): {line}"
        )


def build(made: Path, scratch: Path) -> None:
    """Fetch and compile into `made`."""
    tools, root = made / "tools", made / "root"
    fetch = {
        lambda: install("amd64", (*EMULATOR, *COMPILER), tools, scratch / "amd64"),
        lambda: install("arm64", LIBRARIES, root, scratch / "arm64"),
    }
    with ThreadPoolExecutor() as pool:
        runtimes = [pool.submit(fetch_runtime, one, made, scratch) for one in RUNTIMES.values()]
        versions = [job.result() for job in [pool.submit(step) for step in fetch]]
        for runtime in runtimes:
            runtime.result()
    run(["cc", "-O2", "-shared", "-fPIC", "-o", str(made / "libcount.so"), str(HERE / "count.c")])
    cross_compile(HERE / "guest.c", made / "guest", tools, scratch)
    keep_emulator(tools)
    packages = {name: version for part in versions for name, version in part.items()}
    write_json(made / "packages.json", {**packages, "ai-edge-litert (aarch64)": ", ".join(RUNTIMES)})


def fetch_runtime(runtime: Runtime, made: Path, scratch: Path) -> None:
    """The runtime's library for aarch64, out of its wheel."""
    folder = scratch / f"wheel-{runtime.version}"
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    where = ["--only-binary=:all:", "--platform", runtime.platform, "--python-version", "3.11"]
    run([*pip, *where, "--dest", str(folder), f"ai-edge-litert=={runtime.version}"])
    (wheel,) = folder.glob("*.whl")
    if sha256(wheel) != runtime.sha256:
        raise SfumatoError(f"{wheel.name} is not the file that was tested: its sha256 is {sha256(wheel)}")
    with zipfile.ZipFile(wheel) as archive:
        (made / runtime.file).write_bytes(archive.read(f"ai_edge_litert/{runtime.library}"))


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
