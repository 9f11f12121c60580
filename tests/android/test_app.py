"""The app's Kotlin: compiled by the compiler that Gradle would take, its JUnit tests run, its resources linked."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.android.kit import FLAVOURS
from tests.fixtures.answer import build_answer_bundle

from sfumato.export.android import ASSETS, place
from sfumato.runtime.sampler import normal_table
from sfumato.runtime.signing import sign

HERE = Path(__file__).parent
PROJECT = HERE.parent.parent / "android_demo"
SUITES = sorted(path.stem for path in PROJECT.glob("*/src/test/kotlin/**/*Test.kt"))


def test_the_compiler_is_the_one_of_the_gradle_build(kit: Any) -> None:
    pinned = json.loads((HERE / "package.json").read_text(encoding="utf-8"))["devDependencies"][
        "kotlin-compiler"
    ]
    assert kit.catalogue("kotlin") == pinned


@pytest.mark.parametrize(
    ("flavour", "suite"),
    [
        (flavour, name)
        for flavour in FLAVOURS
        for name in SUITES
        if flavour == FLAVOURS[0] or name.startswith("Demo")
    ],
)
def test_junit(kit: Any, apps: dict[str, Any], export_folder: Path, flavour: str, suite: str) -> None:
    """The core is the same in every flavour."""
    app = apps[flavour]
    package = "dev.sfumato.demo" if suite.startswith("Demo") else "dev.sfumato.core"
    classpath = kit.path([app.app_tests, app.tests, app.app, app.core, app.stubs, *kit.RUNTIME, *kit.JUNIT])
    options = ("-ea", f"-Dsfumato.export={export_folder}", "-cp", classpath)
    done = kit.run(*kit.JAVA, *options, "org.junit.runner.JUnitCore", f"{package}.{suite}")
    assert done.returncode == 0, done.stdout
    assert "\nOK (" in done.stdout


@pytest.mark.parametrize("suite", ["litert2.CompiledNetworkTest", "nnapi.DelegateNetworkTest"])
def test_no_flavour_runs_a_model_on_the_cpu_in_an_accelerator_s_name(
    kit: Any, apps: dict[str, Any], tmp_path: Path, suite: str
) -> None:
    """The app's own loading of models, under stubs of LiteRT that decide by its rules (tests/android/stubs)."""
    flavour, name = suite.split(".")
    app = apps[flavour]
    classpath = kit.path([app.app_tests, app.tests, app.app, app.core, app.stubs, *kit.RUNTIME, *kit.JUNIT])
    options = ("-ea", "-Dphone.level=30", f"-Djava.io.tmpdir={tmp_path}", "-cp", classpath)
    done = kit.run(*kit.JAVA, *options, "org.junit.runner.JUnitCore", f"dev.sfumato.demo.{name}")
    assert "\nOK (" in done.stdout, done.stdout


@pytest.mark.parametrize("randomised", [False, True])
def test_junit_on_an_answer_bundle(kit: Any, app: Any, tmp_path: Path, randomised: bool) -> None:
    build_answer_bundle(tmp_path / "export", randomised=randomised, variants=("int8",))
    (tmp_path / "export" / "normal_table.bin").write_bytes(normal_table().tobytes())
    classpath = kit.path([app.tests, app.app, app.core, app.stubs, *kit.RUNTIME, *kit.JUNIT])
    options = ("-ea", f"-Dsfumato.export={tmp_path / 'export'}", "-cp", classpath)
    done = kit.run(*kit.JAVA, *options, "org.junit.runner.JUnitCore", "dev.sfumato.core.VectorsTest")
    assert "\nOK (" in done.stdout, done.stdout


def test_junit_on_a_bundle_with_points(
    kit: Any, app: Any, build_export: Callable[[str, Path], Path], tmp_path: Path
) -> None:
    export = build_export("dial", tmp_path / "export")
    (export / "normal_table.bin").write_bytes(normal_table().tobytes())
    classpath = kit.path([app.tests, app.app, app.core, app.stubs, *kit.RUNTIME, *kit.JUNIT])
    options = ("-ea", f"-Dsfumato.export={export}", "-cp", classpath)
    done = kit.run(*kit.JAVA, *options, "org.junit.runner.JUnitCore", "dev.sfumato.core.VectorsTest")
    assert "\nOK (" in done.stdout, done.stdout
    core = kit.path([app.core, *kit.RUNTIME])
    said = kit.run(*kit.JAVA, "-cp", core, "dev.sfumato.core.CheckExport", export)
    assert said.stdout.endswith("32 x 32, glasses, strengths 128, 64, 31\n"), said.stderr


def test_junit_on_a_bundle_with_a_book(kit: Any, app: Any, index_export: Path, tmp_path: Path) -> None:
    export = Path(shutil.copytree(index_export, tmp_path / "export"))
    (export / "normal_table.bin").write_bytes(normal_table().tobytes())
    classpath = kit.path([app.tests, app.app, app.core, app.stubs, *kit.RUNTIME, *kit.JUNIT])
    options = ("-ea", f"-Dsfumato.export={export}", "-cp", classpath)
    done = kit.run(*kit.JAVA, *options, "org.junit.runner.JUnitCore", "dev.sfumato.core.VectorsTest")
    assert "\nOK (" in done.stdout, done.stdout


def test_the_core_knows_nothing_of_android() -> None:
    sources = list((PROJECT / "core" / "src" / "main").rglob("*.kt"))
    assert sources
    assert [path.name for path in sources if "import android" in path.read_text(encoding="utf-8")] == []


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_resources_and_manifest_link(kit: Any, apps: dict[str, Any], flavour: str) -> None:
    """The framework at hand is Android 10's; what it does not know yet is named here."""
    unknown = "warn: unexpected element <uses-native-library> found in <manifest><application>."
    for kind in kit.BUILD_TYPES:
        asked = kit.merged_manifest(kind, flavour).count("<uses-native-library")
        assert apps[flavour].resources[kind].splitlines() == [unknown] * asked, kind


def build_file(name: str, pattern: str) -> str:
    """What stands in a Gradle file at the only place of its kind."""
    (found,) = re.findall(pattern, (PROJECT / name).read_text(encoding="utf-8"))
    return str(found)


@pytest.fixture
def check(kit: Any, app: Any) -> Callable[[Path], Any]:
    """What Gradle runs before it builds the app, under the name and with the argument of its build files."""
    main = build_file("core/build.gradle.kts", r'mainClass = "(.+)"')

    def run(project: Path) -> Any:
        folder = project / build_file(
            "core/build.gradle.kts", r'rootProject\.layout\.projectDirectory\.dir\("(.+)"\)'
        )
        return kit.run(*kit.JAVA, "-cp", kit.path([app.core, *kit.RUNTIME]), main, folder)

    return run


@pytest.fixture
def project(export_folder: Path, tmp_path: Path) -> Path:
    """As much of the project as an export is placed into."""
    (tmp_path / "app").mkdir()
    (tmp_path / "settings.gradle.kts").touch()
    place(export_folder, tmp_path)
    return tmp_path


def test_no_task_of_the_app_goes_before_the_check() -> None:
    """preBuild is what everything of the Android plugin waits for."""
    assert (
        build_file("app/build.gradle.kts", r'tasks\.named\("preBuild"\) \{\s+dependsOn\("(.+)"\)')
        == ":core:checkExport"
    )
    assert build_file("core/build.gradle.kts", r'tasks\.register<JavaExec>\("(.+)"\)') == "checkExport"


def test_a_whole_export_is_built_in(check: Callable[[Path], Any], project: Path) -> None:
    done = check(project)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith(": 32 x 32, glasses\n")


def test_an_app_that_knows_its_maker_demands_the_signature(
    check: Callable[[Path], Any], export_folder: Path, tmp_path: Path
) -> None:
    """The signature is made by Python and checked by Kotlin."""
    export, project = Path(shutil.copytree(export_folder, tmp_path / "export")), tmp_path / "project"
    (project / "app").mkdir(parents=True)
    (project / "settings.gradle.kts").touch()
    key = Ed25519PrivateKey.generate()
    sign(export, key)
    place(export, project, key.public_key())
    assert check(project).returncode == 0
    contract, signature = project / ASSETS / "contract.json", project / ASSETS / "contract.sig"
    content, signed = contract.read_bytes(), signature.read_bytes()
    refused = "sfumato: contract.sig is not the maker's signature of this contract: do not use the export\n"
    contract.write_bytes(content + b"\n")
    assert check(project).stderr == refused
    contract.write_bytes(content)
    sign(export, Ed25519PrivateKey.generate())
    for other in ((export / "contract.sig").read_bytes(), b"no base64", signed[:-9]):
        signature.write_bytes(other)
        assert check(project).stderr == refused
    signature.unlink()
    assert "contract.sig is missing from the app" in check(project).stderr


@pytest.mark.parametrize("name", ["contract.json", "local_int8.tflite", "vectors.json"])
def test_the_build_stops_without_a_file(check: Callable[[Path], Any], project: Path, name: str) -> None:
    (project / ASSETS / name).unlink()
    done = check(project)
    line = f"sfumato: {name} is missing from the app: run `sfumato export EXPORT --android android_demo`\n"
    assert (done.returncode, done.stderr) == (1, line)


@pytest.mark.parametrize("name", ["local_int8.tflite", "vectors.json"])
def test_the_build_stops_at_a_file_of_another_export(
    check: Callable[[Path], Any], project: Path, name: str
) -> None:
    path = project / ASSETS / name
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    done = check(project)
    line = f"sfumato: {name} is not the file the contract names (its sha256 differs): export again\n"
    assert (done.returncode, done.stderr) == (1, line)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"sampler": 1', '"sampler": 2', "sampler is version 2, this app draws version 1: update the app"),
        ('"noise": 2', '"noise": 3', "noise is version 3, this app draws version 2: update the app"),
        (
            "sfumato-contract/2",
            "sfumato-contract/3",
            "schema sfumato-contract/3, this app reads sfumato-contract/2",
        ),
        ("sfumato-contract/2", "sfumato-contract/1", "its noise (version 1) repeats between releases"),
        ('"passed": true', '"passed": false', "does not hold: export again"),
        ("{", "", "contract.json is not valid JSON"),
    ],
)
def test_the_build_stops_at_a_contract_it_cannot_keep(
    check: Callable[[Path], Any], project: Path, old: str, new: str, message: str
) -> None:
    path = project / ASSETS / "contract.json"
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1))
    done = check(project)
    assert done.returncode == 1
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
