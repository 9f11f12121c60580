"""What the app's libraries bring into its manifest, and the oldest Android they run on (manifests.txt)."""

import re
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import pytest
from tests.android import kit

LIST = Path(__file__).parent / "manifests.txt"
SOURCES = kit.PROJECT / "app" / "src"
RUNTIMES = {"litert2": "litert", "nnapi": "nnapi"}
"""Flavour of the app -> the key of the LiteRT it has."""
ANDROID = "{http://schemas.android.com/apk/res/android}"
NODE = "{http://schemas.android.com/tools}node"
APP = "dev.sfumato.demo"
IMPLIED = ("WRITE_EXTERNAL_STORAGE", "READ_PHONE_STATE", "READ_EXTERNAL_STORAGE")
"""What the merger adds for a manifest that names no SDK, which then counts as made for Android 1 (LiteRT issue 562)."""
DECLARED = {
    "android.permission.INTERNET",
    "android.permission.CAMERA",
    # Of androidx.core: the app's own permission, which no other app can hold. It guards receivers that an app registers itself.
    f"{APP}.DYNAMIC_RECEIVER_NOT_EXPORTED_PERMISSION",
}
"""Every permission of the built app."""


@dataclass(frozen=True)
class Library:
    """A line of the list."""

    key: str
    version: str
    module: str
    least: int
    names_sdk: bool
    permissions: tuple[str, ...]


def libraries() -> list[Library]:
    """The list."""
    found, key, version = [], "", ""
    for line in LIST.read_text(encoding="utf-8").splitlines():
        if section := re.match(r"\[(\w+) ([\d.]+)\] \S", line):
            key, version = section[1], section[2]
        elif line and not line.startswith(("#", "native ")):
            module, least, sdk, *permissions = line.split(" ")
            assert sdk in ("sdk", "none"), line
            found.append(Library(key, version, module, int(least), sdk == "sdk", tuple(permissions)))
    return found


def brought_by(flavour: str) -> list[Library]:
    """The libraries of a flavour."""
    others = set(RUNTIMES.values()) - {RUNTIMES[flavour]}
    return [library for library in libraries() if library.key not in others]


def manifest_of(flavour: str, kind: str = "release") -> ElementTree.Element:
    """The manifest of a build."""
    return ElementTree.fromstring(kit.merged_manifest(kind, flavour))


def merged(manifest: ElementTree.Element, brought: list[Library]) -> set[str]:
    """Permissions of app and libraries together, as the manifest merger of the Android plugin joins them."""
    asked: set[str] = set()
    removed: set[str] = set()
    for element in manifest.findall("uses-permission"):
        (removed if element.get(NODE) == "remove" else asked).add(str(element.get(f"{ANDROID}name")))
    for library in brought:
        asked |= {name.replace("${applicationId}", APP) for name in library.permissions}
        if not library.names_sdk:
            asked |= {f"android.permission.{name}" for name in IMPLIED}
    return asked - removed


BUILDS = [(kind, flavour) for kind in kit.BUILD_TYPES for flavour in kit.FLAVOURS]


@pytest.mark.parametrize(("kind", "flavour"), BUILDS)
def test_the_built_app_has_the_declared_permissions_and_no_other(kind: str, flavour: str) -> None:
    manifest, brought = manifest_of(flavour, kind), brought_by(flavour)
    assert merged(manifest, brought) == DECLARED
    removals = [one for one in manifest.findall("uses-permission") if one.get(NODE) == "remove"]
    assert removals
    for element in removals:  # each removal is needed
        manifest.remove(element)
        assert merged(manifest, brought) == DECLARED | {element.get(f"{ANDROID}name")}
        manifest.append(element)


def test_the_vendors_libraries_that_an_npu_is_reached_by_are_asked_for() -> None:
    (line,) = re.findall(r"^native (.+)$", LIST.read_text(encoding="utf-8"), re.MULTILINE)
    asked = {
        flavour: [
            element.get(f"{ANDROID}name") for element in manifest_of(flavour).iter("uses-native-library")
        ]
        for flavour in kit.FLAVOURS
    }
    assert asked == {"litert2": ["libOpenCL.so", *line.split()], "nnapi": ["libOpenCL.so"]}
    for flavour in kit.FLAVOURS:  # a phone without them is none the worse
        for element in manifest_of(flavour).iter("uses-native-library"):
            assert element.get(f"{ANDROID}required") == "false"


def test_every_library_of_the_app_is_in_the_list_with_its_version() -> None:
    build = (kit.PROJECT / "app" / "build.gradle.kts").read_text(encoding="utf-8")
    catalogue = (kit.PROJECT / "gradle" / "libs.versions.toml").read_text(encoding="utf-8")
    modules = dict(re.findall(r'^([\w-]+) = \{ module = "([\w.:-]+)"', catalogue, re.MULTILINE))
    used = {
        modules[name.replace(".", "-")]
        for name in re.findall(
            r'^ +(?:implementation|"\w+Implementation")\(libs\.(.+)\)', build, re.MULTILINE
        )
    }
    assert len(used) > 8
    plain = {"org.jetbrains.kotlinx:kotlinx-coroutines-android"}  # a jar, which has no manifest
    assert used - plain <= {library.module for library in libraries()}
    for library in libraries():
        assert kit.catalogue(library.key) == library.version, library.module


def test_the_app_is_not_offered_to_a_phone_that_a_library_does_not_run_on() -> None:
    least = kit.build_number("minSdk")
    assert [library.module for library in libraries() if library.least > least] == []


def test_gradle_builds_both_flavours_each_with_its_own_litert() -> None:
    build = (kit.PROJECT / "app" / "build.gradle.kts").read_text(encoding="utf-8")
    assert re.findall(r'flavorDimensions \+= "(\w+)"', build) == ["runtime"]
    flavours = re.findall(r'create\("(\w+)"\) \{\s+dimension = "runtime"(\s+isDefault = true)?', build)
    assert [(name, bool(default)) for name, default in flavours] == [("litert2", True), ("nnapi", False)]
    own = re.findall(r'"(\w+)Implementation"\(libs\.([\w.]+)\)', build)
    assert own == [
        ("litert2", "litert"),
        *(("nnapi", f"nnapi.{name}") for name in ("litert", "gpu", "gpu.api")),
    ]
    assert re.findall(r"abiFilters \+= listOf\((.+)\) \}", build) == ['"arm64-v8a", "x86_64"']  # of litert2
    for flavour in kit.FLAVOURS:  # a name that Gradle does not know would be a folder that it does not read
        names = {path.name for path in (SOURCES / flavour).iterdir()} - {
            "jniLibs"
        }  # a vendor's, of whoever builds
        assert names == {"AndroidManifest.xml", "kotlin"}
