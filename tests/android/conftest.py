"""The app compiled once, for all tests; without `make test-android` they are skipped."""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.android import api_list
from tests.android import kit as tools
from tests.bench import test_phone
from tests.fixtures.runs import build_run

HERE = Path(__file__).parent


adb, server, plug_in = test_phone.adb, test_phone.server, test_phone.plug_in
"""Fixtures of the phone that is made of this computer."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    mark = pytest.mark.skip(reason="run by make test-android")
    if os.environ.get("SFUMATO_ANDROID"):
        mark = pytest.mark.xdist_group("android")  # one process: compiling the app takes longest
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(mark)


@pytest.fixture(scope="session")
def kit() -> Any:
    """The module kit.py."""
    return tools


@pytest.fixture(scope="session")
def lists() -> Any:
    """The module api_list.py."""
    return api_list


@pytest.fixture(scope="session")
def phones() -> Any:
    """The module tests/bench/test_phone.py."""
    return test_phone


@dataclass(frozen=True)
class App:
    """What was compiled."""

    core: Path
    app: Path
    stubs: Path
    tests: Path
    resources: str
    """What aapt2 printed."""


@pytest.fixture(scope="session")
def app(tmp_path_factory: pytest.TempPathFactory) -> App:
    """Core, resources, stubs, app and tests, in this order."""
    made = tools.Kit(tmp_path_factory.mktemp("android"))
    main, stubs = tools.PROJECT / "app" / "src" / "main", HERE / "stubs"
    printed = link(made.folder, main)
    core = made.kotlin("core.jar", [tools.PROJECT / "core" / "src" / "main" / "kotlin"], classpath=[])
    compiled = made.java("stubs", [stubs / "java", made.folder / "r"])
    classpath = [core, compiled, *tools.RUNTIME]
    the_app = made.kotlin("app.jar", [main / "kotlin", stubs / "kotlin"], classpath=classpath)
    sources = [tools.PROJECT / "core" / "src" / "test", tools.PROJECT / "core" / "src" / "testFixtures"]
    sources.append(tools.PROJECT / "app" / "src" / "test")
    tests = made.kotlin("tests", sources, classpath=[the_app, *classpath, *tools.JUNIT], friend=core)
    return App(core, the_app, compiled, tests, printed)


def link(folder: Path, main: Path) -> str:
    """Resources and manifest through aapt2, which also writes R.java.

    The framework at hand is Android 10's: what it does not know is left out of the manifest (test_resources.py holds it).
    """
    text = (main / "AndroidManifest.xml").read_text(encoding="utf-8")
    text = re.sub(r' android:dataExtractionRules="[^"]*"', "", text)
    (folder / "AndroidManifest.xml").write_text(
        text.replace("<manifest ", '<manifest package="dev.sfumato.demo" ', 1)
    )
    (folder / "r").mkdir()
    done = tools.run("aapt2", "compile", "--dir", main / "res", "-o", folder / "main.zip")
    assert done.returncode == 0, done.stderr
    debug = tools.run("aapt2", "compile", "--dir", main.parent / "debug" / "res", "-o", folder / "debug.zip")
    assert debug.returncode == 0, debug.stderr
    levels = [str(tools.build_number(name)) for name in ("minSdk", "targetSdk")]
    options = [
        "--min-sdk-version",
        levels[0],
        "--target-sdk-version",
        levels[1],
        "--warn-manifest-validation",
    ]
    command: list[str | Path] = [
        "aapt2",
        "link",
        "-I",
        tools.FRAMEWORK,
        "--manifest",
        folder / "AndroidManifest.xml",
        *options,
    ]
    command += ["--java", folder / "r", "-o", folder / "app.apk", folder / "main.zip"]
    overlays: list[list[str | Path]] = [[], ["-R", folder / "debug.zip"]]
    for overlay in overlays:
        done = tools.run(*command, *overlay, "--auto-add-overlay")
        assert done.returncode == 0, done.stderr
    return re.sub(r"^\S*AndroidManifest.xml:\d+: ", "", done.stderr, flags=re.MULTILINE).strip()


@pytest.fixture(scope="session")
def build_export() -> Callable[[str, Path], Path]:
    """`build_export("gaussian", folder)`: an export of the run of that name in tests.fixtures.runs."""
    from sfumato.export.pipeline import export

    def build(name: str, out: Path) -> Path:
        export(build_run(name), out, variants=("int8",))
        return out

    return build


@pytest.fixture(scope="session")
def export_folder(
    build_export: Callable[[str, Path], Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A small export, with the normal table that only gaussian ones hold."""
    from sfumato.runtime.sampler import normal_table

    out = build_export("dither", tmp_path_factory.mktemp("bundle") / "export")
    (out / "normal_table.bin").write_bytes(normal_table().tobytes())
    return out
