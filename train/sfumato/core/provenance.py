"""Where a result comes from: versions of everything that shaped it, and the state of the code.

Goes into every card, contract, audit and benchmark file. Reads installed metadata and asks git; imports
neither torch nor TensorFlow, so the phone-side code may use it.

Usage: `write_json(out / "card.json", {**card, "provenance": provenance()})`
"""

import hashlib
import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

#: Packages that can change a result. Those not installed are left out.
PACKAGES = (
    "torch",
    "lightning-fabric",
    "torchmetrics",
    "scikit-learn",
    "scipy",
    "numpy",
    "pillow",
    "safetensors",
    "onnx",
    "onnxruntime",
    "onnxscript",
    "onnx2tf",
    "tensorflow",
    "ai-edge-litert",
    "tflite-runtime",
    "cryptography",
)

#: What the package is built from: a change elsewhere (a result, a note) does not make the code dirty.
SOURCES = ("train", "export", "cloud", "benchmarks", "pyproject.toml", "uv.lock")


def provenance() -> dict[str, Any]:
    """Versions and the state of the code, ready for JSON.

    Returns:
        `sfumato`, `python`: versions; `platform`: system and processor; `packages`: version by name, of those
        installed; `git_commit`: 40 hex digits, `git_dirty`: whether the sources differ from that commit. Both
        are None when the code does not run from a git checkout.
    """
    commit, dirty = git_state(Path(__file__))
    return {
        "sfumato": own_version(),
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "packages": {name: found for name in PACKAGES if (found := installed(name))},
        "git_commit": commit,
        "git_dirty": dirty,
    }


def processor() -> dict[str, str]:
    """The processor's name, and a digest of what it says it can do: kernels are chosen by that.

    Returns:
        `name`, and `abilities`: 16 hex digits, empty where the system does not tell.
    """
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8", errors="replace").splitlines() if info.exists() else []
    named = {
        key.strip(): value.strip() for key, _, value in (line.partition(":") for line in reversed(lines))
    }
    abilities = " ".join(sorted(named.get("flags", named.get("Features", "")).split()))
    return {
        "name": named.get("model name") or platform.processor() or platform.machine(),
        "abilities": hashlib.sha256(abilities.encode()).hexdigest()[:16] if abilities else "",
    }


def own_version() -> str | None:
    """Version of sfumato, None when the code runs without being installed.

    The name space `sfumato` has no `__init__`, and so no `__version__`: this is the one place that knows.
    """
    return installed("sfumato")


def installed(package: str) -> str | None:
    """Version of an installed package, None when it is not there."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def git_state(file: Path) -> tuple[str | None, bool | None]:
    """Commit and dirty flag of the checkout that tracks `file`; (None, None) when none does.

    A copy installed inside somebody else's checkout is not tracked there: its commit is not taken for ours.
    """
    if _git(file.parent, "ls-files", "--error-unmatch", file.name) is None:
        return None, None
    commit = _git(file.parent, "rev-parse", "HEAD")
    top = _git(file.parent, "rev-parse", "--show-toplevel")
    if commit is None or top is None:
        return None, None
    changed = _git(Path(top), "status", "--porcelain", "--", *SOURCES)
    return commit, None if changed is None else bool(changed)


def _git(folder: Path, *arguments: str) -> str | None:
    """Output of a read-only git command, None when it fails or git is missing."""
    # Hooks set GIT_DIR and the like, which would point git elsewhere. Taking no lock lets a commit go on.
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            errors="surrogateescape",
            timeout=20,
            check=False,
            env={**clean, "GIT_OPTIONAL_LOCKS": "0"},
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
