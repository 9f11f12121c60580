"""The app compiled once, for the tests that need a compiler; without `make test-android` those are skipped.

What reads sources and resources alone runs with all other tests.
"""

import os
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.android import api_list
from tests.android import kit as tools
from tests.bench import test_phone
from tests.fixtures.runs import build_run

HERE = Path(__file__).parent
COMPILED = {"kit", "apps", "app"}
"""Fixtures that need what scripts/set_up_android.py installs."""


adb, server, plug_in = test_phone.adb, test_phone.server, test_phone.plug_in
"""Fixtures of the phone that is made of this computer."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.environ.get("SFUMATO_ANDROID"):
        return
    for item in items:
        if HERE in item.path.parents and COMPILED & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.skip(reason="run by make test-android"))


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
    """What builds of every type have."""
    benchmark: Path
    """What builds of the type `benchmark` have beside it."""
    stubs: Path
    tests: Path
    """Tests and fixtures of the core, which use its internals."""
    app_tests: Path
    """Tests of the app, which see of the core what others see."""
    resources: dict[str, str]
    """Build type -> what aapt2 printed."""


@pytest.fixture(scope="session")
def apps(tmp_path_factory: pytest.TempPathFactory) -> dict[str, App]:
    """Each flavour of the app: core, resources, stubs and app, in this order. The tests are compiled once and fit both.

    The flavours and the core's tests need nothing of each other: two compilers work at a time.
    """
    made = tools.Kit(tmp_path_factory.mktemp("android"))
    sources = tools.PROJECT / "app" / "src"
    of_core, stubs = tools.PROJECT / "core" / "src", HERE / "stubs"
    core = made.kotlin("core.jar", [of_core / "main" / "kotlin"], classpath=[], library=True)
    beside_core = [core, *tools.RUNTIME, *tools.JUNIT]

    def compile_tests() -> Path:
        folders = [of_core / "test", of_core / "testFixtures"]
        return made.kotlin("tests", folders, classpath=beside_core, friend=core)

    def compile_app(flavour: str) -> App:
        folder = made.folder / flavour
        printed = {kind: link(folder / kind, kind, flavour) for kind in tools.BUILD_TYPES}
        # The main sources see the names of resources that a release has, and no other.
        compiled = made.java(
            f"stubs-{flavour}", [stubs / "java", stubs / flavour / "java", folder / "release" / "r"]
        )
        classpath = [core, compiled, *tools.RUNTIME]
        kotlin = [sources / "main" / "kotlin", sources / flavour / "kotlin", stubs / "kotlin"]
        the_app = made.kotlin(f"app-{flavour}.jar", kotlin, classpath=classpath)
        names = made.java(f"names-{flavour}", [folder / "benchmark" / "r"])
        benchmark = made.kotlin(
            f"benchmark-{flavour}.jar",
            [sources / "benchmark" / "kotlin"],
            classpath=[names, the_app, *classpath],
            friend=the_app,
        )
        tests, app_tests = made.folder / "tests", made.folder / "app_tests"
        return App(core, the_app, benchmark, compiled, tests, app_tests, printed)

    with ThreadPoolExecutor(max_workers=2) as pool:
        apps = {flavour: pool.submit(compile_app, flavour) for flavour in tools.FLAVOURS}
        tests = pool.submit(compile_tests).result()
        found = {flavour: app.result() for flavour, app in apps.items()}
    one = found["litert2"]
    beside = [tests, one.app, one.stubs, *beside_core]
    made.kotlin("app_tests", [sources / "test", HERE / "runtime"], classpath=beside, friend=one.app)
    return found


@pytest.fixture(scope="session")
def app(apps: dict[str, App]) -> App:
    """The default flavour."""
    return apps["litert2"]


def link(folder: Path, kind: str, flavour: str) -> str:
    """Resources and manifest of a build type and flavour through aapt2, which also writes R.java.

    The framework at hand is Android 10's: what it does not know is left out of the manifest (test_resources.py holds it).
    """
    sources = tools.PROJECT / "app" / "src"
    (folder / "r").mkdir(parents=True)
    text = re.sub(r' android:dataExtractionRules="[^"]*"', "", tools.merged_manifest(kind, flavour))
    manifest = folder / "AndroidManifest.xml"
    manifest.write_text(text.replace("<manifest ", '<manifest package="dev.sfumato.demo" ', 1))
    values = folder / "libraries" / "values"
    values.mkdir(parents=True)
    (values / "libraries.xml").write_text(tools.library_resources())
    done = tools.run("aapt2", "compile", "--dir", values.parent, "-o", folder / "libraries.zip")
    assert done.returncode == 0, done.stderr
    overlays: list[str | Path] = [folder / "libraries.zip"]
    for name in ("main", kind):
        if (sources / name / "res").exists():
            done = tools.run(
                "aapt2", "compile", "--dir", sources / name / "res", "-o", folder / f"{name}.zip"
            )
            assert done.returncode == 0, done.stderr
            overlays += ["-R", folder / f"{name}.zip"]
    levels = [str(tools.build_number(name)) for name in ("minSdk", "targetSdk")]
    options = ["--min-sdk-version", levels[0], "--target-sdk-version", levels[1]]
    options += ["--warn-manifest-validation", "--auto-add-overlay"]
    command: list[str | Path] = ["aapt2", "link", "-I", tools.FRAMEWORK, "--manifest", manifest, *options]
    done = tools.run(*command, "--java", folder / "r", "-o", folder / "app.apk", *overlays)
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
