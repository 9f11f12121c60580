"""The app's Kotlin: compiled by the compiler that Gradle would take, its JUnit tests run, its resources linked."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from sfumato.android import place

HERE = Path(__file__).parent
PROJECT = HERE.parent.parent / "android_demo"
SUITES = sorted(path.stem for path in PROJECT.glob("*/src/test/kotlin/**/*Test.kt"))


def test_the_compiler_is_the_one_of_the_gradle_build(kit: Any) -> None:
    pinned = json.loads((HERE / "package.json").read_text())["devDependencies"]["kotlin-compiler"]
    assert kit.catalogue("kotlin") == pinned


@pytest.mark.parametrize("suite", SUITES)
def test_junit(kit: Any, app: Any, export_folder: Path, suite: str) -> None:
    package = "dev.sfumato.demo" if suite.startswith("Demo") else "dev.sfumato.core"
    classpath = kit.path([app.tests, app.app, app.core, app.stubs, *kit.RUNTIME, *kit.JUNIT])
    options = ("-ea", f"-Dsfumato.export={export_folder}", "-cp", classpath)
    done = kit.run(*kit.JAVA, *options, "org.junit.runner.JUnitCore", f"{package}.{suite}")
    assert done.returncode == 0, done.stdout
    assert "\nOK (" in done.stdout


def test_the_core_knows_nothing_of_android() -> None:
    sources = list((PROJECT / "core" / "src" / "main").rglob("*.kt"))
    assert sources
    assert [path.name for path in sources if "import android" in path.read_text()] == []


def test_resources_and_manifest_link(app: Any) -> None:
    """The framework at hand is Android 10's; what it does not know yet is named here."""
    assert app.resources == "warn: unexpected element <uses-native-library> found in <manifest><application>."


def test_the_build_refuses_an_app_without_its_export(
    kit: Any, app: Any, export_folder: Path, tmp_path: Path
) -> None:
    def check(folder: Path) -> Any:
        classpath = kit.path([app.core, *kit.RUNTIME])
        return kit.run(*kit.JAVA, "-cp", classpath, "dev.sfumato.core.CheckExport", folder)

    missing = check(tmp_path)
    assert missing.returncode == 1
    assert "contract.json is missing" in missing.stderr
    assert "sfumato export EXPORT --android android_demo" in missing.stderr
    project = tmp_path / "project"
    (project / "app").mkdir(parents=True)
    (project / "settings.gradle.kts").touch()
    assets = place(export_folder, project)
    assert check(assets).returncode == 0
    shutil.copyfile(assets / "vectors.json", assets / "local_int8.tflite")
    other = check(assets)
    assert other.returncode == 1
    assert "local_int8.tflite is not the file the contract names" in other.stderr
