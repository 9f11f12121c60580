"""The stubs of androidx, CameraX and LiteRT against what these libraries publish (libraries.txt)."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
LIST = HERE / "libraries.txt"
SECTION = re.compile(r"\[(\w+) ([\d.]+)(?:-([\d.]+))?\] ")
FLAVOURS = {"litert2": "litert", "nnapi": "nnapi"}
"""Flavour of the app -> the key of its runtime's sections; those of other libraries are for both."""
HEADER = re.compile(
    r"((?:abstract |final )*(?:class|interface)) ([\w.]+)(<.+?>)?(?: extends (.+?))?(?: implements (.+))?$"
)
UNSTATED = re.compile(
    r"\b(?:public|native|synchronized|strictfp) | throws .*|;$| \{$|\bjava\.lang\.(?=[A-Z])"
)
"""What javap prints and the list leaves out."""


@dataclass
class Class:
    """A class of the list or of the stubs: its first line, its parents without generics, its members."""

    header: str
    parents: list[str]
    members: set[str] = field(default_factory=set)


def read(lines: list[str]) -> dict[str, Class]:
    """Classes by name; a class may be continued further down."""
    found: dict[str, Class] = {}
    current: Class | None = None
    for line in (re.sub(r",\s*", ", ", line) for line in lines):
        if not line.strip() or line.startswith(("#", "[")):
            continue
        if line.startswith(" "):
            assert current is not None, line
            current.members.add(line.strip())
            continue
        header = HEADER.match(line)
        assert header is not None, line
        parents = [re.sub("<.*", "", part.strip()) for part in split(header[4]) + split(header[5])]
        current = found.setdefault(header[2], Class(line.strip(), parents))
    return found


def split(text: str | None) -> list[str]:
    """At commas outside angle brackets."""
    return re.findall(r"(?:[^,<]|<(?:[^<>]|<[^<>]*>)*>)+", text or "")


def published(text: str, flavour: str) -> dict[str, Class]:
    """A flavour's part of the list, without the marks of null, which bytecode does not know."""
    kept, taken = [], True
    for line in text.replace("?,", ",").replace("?>", ">").splitlines():
        if line.startswith("["):
            keys = {found[0] for found in SECTION.findall(line)}
            taken = FLAVOURS[flavour] in keys or not keys & set(FLAVOURS.values())
        kept += [line] if taken else []
    return read(kept)


@pytest.fixture(scope="module")
def stubs(kit: Any, apps: dict[str, Any]) -> dict[str, dict[str, Class]]:
    """Flavour -> its stubs outside of `android`, Java's and Kotlin's, as the list writes them."""
    return {flavour: stubs_of(kit, app) for flavour, app in apps.items()}


def stubs_of(kit: Any, app: Any) -> dict[str, Class]:
    """What is public in the stubs; the rest is how they work."""
    names = [path.relative_to(app.stubs).as_posix() for path in sorted(app.stubs.rglob("*.class"))]
    names += kit.run("jar", "tf", app.app).stdout.splitlines()
    wanted = [
        name[: -len(".class")].replace("/", ".")
        for name in names
        if re.match(r"(androidx|com|org)/.*\.class$", name)
    ]
    done = kit.run(
        "javap", "-protected", "-constants", "-cp", kit.path([app.stubs, app.app, *kit.RUNTIME]), *wanted
    )
    assert done.returncode == 0, done.stderr
    lines, public = [], True
    for line in done.stdout.splitlines():
        if line.startswith("Compiled") or line == "}" or re.search(r" (values|valueOf)\(", line):
            continue
        if not line.startswith(" "):
            public = line.startswith("public ")
        if not public:
            continue
        text = UNSTATED.sub("", line.replace("$", "."))
        lines.append("    " + text.strip().replace("final ", "") if line.startswith(" ") else text)
    return read(lines)


def differences(expected: dict[str, Class], found: dict[str, Class]) -> list[str]:
    """What a stub has and the list has not, and the other way round."""
    wrong = [f"{name}: no such class in the list" for name in found.keys() - expected.keys()]
    wrong += [f"{name}: no stub" for name in expected.keys() - found.keys()]
    for name in expected.keys() & found.keys():
        if expected[name].header != found[name].header:
            wrong.append(f"{name}: '{found[name].header}', the list says '{expected[name].header}'")
        known = inherited(expected, name)
        wrong += [f"{name}: {member} is not in the list" for member in found[name].members - known]
        wrong += [
            f"{name}: {member} is in the list alone"
            for member in expected[name].members - found[name].members
        ]
    return sorted(wrong)


def inherited(classes: dict[str, Class], name: str) -> set[str]:
    """Members of a class and of its parents; what is abstract there may be written down here."""
    if name not in classes:
        return set()
    members = set(classes[name].members)
    for parent in classes[name].parents:
        members |= {member.removeprefix("abstract ") for member in inherited(classes, parent)}
    return members


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_every_stub_of_a_library_is_what_the_library_publishes(
    stubs: dict[str, dict[str, Class]], flavour: str
) -> None:
    assert len(stubs[flavour]) > 30  # the reader of javap found something
    assert differences(published(LIST.read_text(encoding="utf-8"), flavour), stubs[flavour]) == []
    runtimes = {name for name in stubs[flavour] if re.search(r"\.(nnapi|gpu|edge\.litert)\.", name)}
    assert {"edge.litert" in name for name in runtimes} == {flavour == "litert2"}, "the two share no APK"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("    void unbindAll()\n", "", "void unbindAll() is not in the list"),
        ("void unbindAll()", "void unbindAll(int)", "void unbindAll() is not in the list"),
        (
            "boolean hasCamera(",
            "int hasCamera(",
            "boolean hasCamera(androidx.camera.core.CameraSelector) is not in the list",
        ),
        (
            "FORMAT_YUV_420_888 = 1",
            "FORMAT_YUV_420_888 = 3",
            "static int OUTPUT_IMAGE_FORMAT_YUV_420_888 = 1 is not in the list",
        ),
        (
            "static String runtimeVersion",
            "String runtimeVersion",
            "static String runtimeVersion() is not in the list",
        ),
        (
            "GpuDelegate implements org.tensorflow.lite.Delegate",
            "GpuDelegate",
            "the list says 'class org.tensorflow.lite.gpu.GpuDelegate'",
        ),
        ("    byte[] readInt8()\n", "", "byte[] readInt8() is not in the list"),
        (
            "abstract class androidx.camera.core.UseCase\n",
            "",
            "androidx.camera.core.UseCase: no such class in the list",
        ),
        (
            "    float getScale()\n",
            "    float getScale()\n    int getAxis()\n",
            "int getAxis() is in the list alone",
        ),
        ("[core 1.17]", "interface androidx.Other\n[core 1.17]", "androidx.Other: no stub"),
    ],
)
def test_a_stub_beside_the_list_is_found(
    stubs: dict[str, dict[str, Class]], old: str, new: str, message: str
) -> None:
    text = LIST.read_text(encoding="utf-8")
    assert text.count(old) == 1
    changed = text.replace(old, new)
    found = [
        line for flavour in FLAVOURS for line in differences(published(changed, flavour), stubs[flavour])
    ]
    assert any(message in line for line in found)


def test_what_may_be_null_is_marked_in_the_stubs() -> None:
    """Only Kotlin's stubs can say it of a type parameter."""
    marked = re.findall(r"(\w+)\?[,>)]", LIST.read_text(encoding="utf-8"))
    assert marked
    sources = "".join(path.read_text(encoding="utf-8") for path in (HERE / "stubs" / "kotlin").glob("*.kt"))
    assert [name for name in marked if f"{name}?" not in sources] == []


def test_the_list_is_of_the_versions_that_gradle_takes(kit: Any) -> None:
    sections = [line for line in LIST.read_text(encoding="utf-8").splitlines() if line.startswith("[")]
    assert len(sections) > 8
    for line in sections:
        found = SECTION.findall(line)
        assert found, line
        for key, first, last in found:
            taken = version(kit.catalogue(key))[:2]
            assert version(first) <= taken <= version(last or first), line


def version(text: str) -> list[int]:
    """1.5.1 as numbers."""
    return [int(part) for part in text.split(".")]
