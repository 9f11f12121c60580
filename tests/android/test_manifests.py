"""What the app's libraries bring into its manifest, and the oldest Android they run on (manifests.txt)."""

import re
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import pytest
from tests.android import kit

LIST = Path(__file__).parent / "manifests.txt"
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
        elif line and not line.startswith("#"):
            module, least, sdk, *permissions = line.split(" ")
            assert sdk in ("sdk", "none"), line
            found.append(Library(key, version, module, int(least), sdk == "sdk", tuple(permissions)))
    return found


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


@pytest.mark.parametrize("kind", kit.BUILD_TYPES)
def test_the_built_app_has_the_declared_permissions_and_no_other(kind: str) -> None:
    manifest = ElementTree.fromstring(kit.merged_manifest(kind))
    assert merged(manifest, libraries()) == DECLARED
    for element in manifest.findall("uses-permission"):  # each removal is needed
        if element.get(NODE) == "remove":
            manifest.remove(element)
            assert merged(manifest, libraries()) == DECLARED | {element.get(f"{ANDROID}name")}
            manifest.append(element)


def test_every_library_of_the_app_is_in_the_list_with_its_version() -> None:
    build = (kit.PROJECT / "app" / "build.gradle.kts").read_text(encoding="utf-8")
    catalogue = (kit.PROJECT / "gradle" / "libs.versions.toml").read_text(encoding="utf-8")
    modules = dict(re.findall(r'^([\w-]+) = \{ module = "([\w.:-]+)"', catalogue, re.MULTILINE))
    used = {
        modules[name.replace(".", "-")]
        for name in re.findall(r"^ +implementation\(libs\.(.+)\)", build, re.MULTILINE)
    }
    assert len(used) > 8
    plain = {"org.jetbrains.kotlinx:kotlinx-coroutines-android"}  # a jar, which has no manifest
    assert used - plain <= {library.module for library in libraries()}
    for library in libraries():
        assert kit.catalogue(library.key) == library.version, library.module


def test_the_app_is_not_offered_to_a_phone_that_a_library_does_not_run_on() -> None:
    least = kit.build_number("minSdk")
    assert [library.module for library in libraries() if library.least > least] == []
    # No older than needed: a lower level would be a promise, a higher one would leave phones out.
    assert max(library.least for library in libraries()) == least
