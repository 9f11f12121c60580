"""What this installation can do: the base, the extras, the tools beside them.

The parts are the extras that pyproject.toml declares, read from the installed metadata, so this list cannot
fall behind it. A part counts as there when every package is installed in an allowed version; torch and the
image library are really imported, for they are what breaks on a machine with a missing system library.

Usage: `report = examine()`; `sfumato doctor --json` prints it.
"""

import importlib
import platform
import shlex
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

from sfumato.cli.extras import APART, EXTRAS
from sfumato.core.provenance import installed, provenance


@dataclass(frozen=True, kw_only=True)
class Part:
    """One thing that is there or not."""

    name: str
    purpose: str
    required: bool
    version: str | None
    problems: tuple[str, ...]  # one line each; empty: the part is whole
    install: str  # the exact line that repairs it


@dataclass(frozen=True, kw_only=True)
class Tool:
    """A program outside Python that some command calls."""

    name: str
    programs: tuple[str, ...]  # any one of them will do
    purpose: str
    apt: str
    brew: str | None  # None: there is no such thing on macOS


#: The checkout this file belongs to, when it is not an installed copy.
CHECKOUT = Path(__file__).resolve().parents[3]

IMPORTED = {"": "PIL.Image", "train": "torch"}
"""Extra -> the module that is really imported."""

TOOLS = (
    Tool(
        name="adb",
        programs=("adb",),
        purpose="sfumato bench phone",
        apt="adb",
        brew="--cask android-platform-tools",
    ),
    Tool(name="gcc", programs=("gcc",), purpose="sfumato bench arm", apt="gcc libc6-dev", brew="gcc"),
    Tool(name="npm", programs=("npm",), purpose="building the browser page", apt="nodejs npm", brew="node"),
    Tool(
        name="chromium",
        programs=("chromium", "chromium-browser", "google-chrome"),
        purpose="tests of the browser page",
        apt="chromium",
        brew="--cask chromium",
    ),
    Tool(
        name="java", programs=("java",), purpose="building the Android app", apt="default-jdk", brew="openjdk"
    ),
)


def examine() -> dict[str, Any]:
    """Look at everything.

    Returns:
        `provenance` (see there), `core_ok`, and `parts`: a list with `name`, `purpose`, `required`, `ok`,
        `version`, `problems` and `install` each. Ready for JSON.
    """
    parts = [_extra(extra) for extra in EXTRAS] + [_tool(tool) for tool in TOOLS] + [_recogniser()]
    return {
        "provenance": provenance(),
        "core_ok": all(not part.problems for part in parts if part.required),
        "parts": [{**asdict(part), "ok": not part.problems} for part in parts],
    }


def _extra(extra: str) -> Part:
    """The base (an empty name) or one extra of pyproject.toml."""
    needs = requirements(extra)
    problems = [problem for need in needs if (problem := problem_with(need))]
    version = None
    if extra in IMPORTED and not problems:
        problems += [problem for problem in [import_problem(IMPORTED[extra])] if problem]
    if extra == "train":
        version = installed("torch") and f"torch {installed('torch')}"
    return Part(
        name=extra or "core",
        purpose=EXTRAS[extra],
        required=not extra,
        version=version,
        problems=tuple(problems),
        install=APART.get(extra) or install_line([need for need in needs if problem_with(need)] or needs),
    )


def requirements(extra: str) -> list[Requirement]:
    """What the base (an empty name) or an extra of sfumato itself asks for on this platform.

    An extra that names another (`sfumato[train]`) brings that one's packages with it.
    """
    try:
        lines = requires("sfumato") or []
    except PackageNotFoundError:  # run from the sources, not installed
        return [Requirement("sfumato")]
    found: list[Requirement] = []
    for need in map(Requirement, lines):
        inner = need.marker is None or need.marker.evaluate({"extra": extra})
        outer = bool(extra) and (need.marker is None or need.marker.evaluate({"extra": ""}))
        if not inner or outer:
            continue
        nested = [part for name in need.extras for part in requirements(name)]
        found += nested if need.name == "sfumato" else [need]
    return found


def problem_with(need: Requirement) -> str | None:
    """Why a requirement is not met, None when it is. Nothing is imported."""
    found = installed(need.name)
    if found is None:
        return f"{need.name} is not installed"
    if not need.specifier.contains(found, prereleases=True):
        return f"{need.name} is {found}, needed is {need.specifier}"
    return None


def import_problem(module: str) -> str | None:
    """Why a module cannot be imported, None when it can: a missing system library shows only here."""
    try:
        importlib.import_module(module)
    except (ImportError, OSError) as error:
        return f"import {module} fails: {error}"
    return None


def install_line(needs: list[Requirement], root: Path = CHECKOUT) -> str:
    """The line that installs `needs`: in a checkout the set-up, which knows the pins, elsewhere pip."""
    if (root / "scripts" / "set_up.py").exists():
        return shlex.join(["make", "-C", str(root), "setup"])
    wanted = [f"{need.name}{need.specifier}" for need in needs]
    return shlex.join([sys.executable, "-m", "pip", "install", *wanted])


def _tool(tool: Tool) -> Part:
    path = next((found for name in tool.programs if (found := shutil.which(name))), None)
    if platform.system() == "Darwin":
        line = f"brew install {tool.brew}" if tool.brew else "not on macOS: use Linux"
    else:
        line = f"sudo apt-get install -y {tool.apt}"
    return Part(
        name=tool.name,
        purpose=tool.purpose,
        required=False,
        version=path and first_version(path),
        problems=() if path else (f"{' or '.join(tool.programs)} is not on the path",),
        install=line,
    )


def _recogniser() -> Part:
    """The face recogniser of the audit."""
    try:
        from sfumato.data.face_recogniser import recogniser_path
    except (ImportError, OSError) as error:
        problems: tuple[str, ...] = (f"its place is not known: {error}",)
    else:
        problems = () if recogniser_path().is_file() else (f"{recogniser_path().name} is not there",)
    return Part(
        name="face recogniser",
        purpose="identity rows of sfumato audit",
        required=False,
        version=None,
        problems=problems,
        install=shlex.join([sys.executable, str(CHECKOUT / "scripts" / "fetch_face_recogniser.py")]),
    )


def first_version(program: str) -> str | None:
    """First line of `program --version`, None when it does not answer."""
    try:
        done = subprocess.run(
            [program, "--version"], capture_output=True, errors="replace", timeout=20, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return next(iter(done.stdout.splitlines()), None) if done.returncode == 0 else None
