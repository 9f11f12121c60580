"""The stubs against Android's published API, and every call of the app against the oldest Android it runs on."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.android.kit import FLAVOURS, build_number

HERE = Path(__file__).parent
LEAST = build_number("minSdk")
GUARDED = {
    "android.os.PowerManager.getCurrentThermalStatus": "behind SDK_INT >= Q",
}
"""Calls newer than minSdk, and why they are safe."""
BEYOND = {
    ("android.R.string", "cancel", None),  # the list leaves this class out
}
"""Members of the stubs that the list cannot know."""
HEADING = re.compile(r"(?:\w+ )*(?:class|interface) ([\w.$]+)")
EXTENDS = re.compile(r"(?:\w+ )*class ([\w.$]+)(?:<.*?>)? extends ([\w.$]+)")
CALL = re.compile(r'// (?:Interface)?(?:Method|Field) (?:([\w/$]+)\.)?"?([\w<>$]+)"?:(\S+)')
"""javap leaves the class out where it is the one at hand."""


@pytest.fixture(scope="module")
def api(kit: Any, lists: Any) -> Any:
    return lists.read_api(kit.API / "android-platform-37.d.ts")


def stub_members(kit: Any, lists: Any, stubs: Path) -> Iterator[tuple[str, str, tuple[str, ...] | None]]:
    """(class, name, parameters) of every stub of the platform."""
    names = sorted(
        path.relative_to(stubs).with_suffix("").as_posix().replace("/", ".")
        for path in (stubs / "android").rglob("*.class")
    )
    done = kit.run("javap", "-protected", "-cp", kit.path([stubs, *kit.RUNTIME]), *names)
    assert done.returncode == 0, done.stderr
    owner = ""
    for line in done.stdout.splitlines():
        if opening := re.match(r"\S.*?\b(?:class|interface) ([\w.$]+)", line):
            owner = opening[1].replace("$", ".")
        elif method := re.match(r"\s+.*?([\w.$]+)\((.*?)\)", line):
            if method[1] in ("values", "valueOf"):
                continue
            name = "<init>" if method[1].replace("$", ".") == owner else method[1]
            yield owner, name, tuple(lists.normal(part) for part in lists.split(method[2]))
        elif found := re.match(r"\s+.* ([\w$]+);$", line):
            yield owner, found[1], None


def test_every_stub_is_in_androids_api(kit: Any, lists: Any, app: Any, api: Any) -> None:
    members = set(stub_members(kit, lists, app.stubs)) - BEYOND
    assert len(members) > 150  # the reader of javap found something
    assert [
        member
        for member in members
        if api.find(*member) is None and member[1:] not in (("<init>", ()), ("R", None))
    ] == []


def test_what_may_be_null_is_marked(lists: Any, kit: Any, app: Any, api: Any) -> None:
    """Kotlin sees a stub's null only where it says so; the real SDK may refuse what an unmarked stub lets pass."""
    missing = []
    for owner, name, parameters in stub_members(kit, lists, app.stubs):
        member = api.find(owner, name, parameters)
        outer = re.sub(r"^((?:[a-z]\w*\.)+[A-Z]\w*).*", r"\1", owner)
        source = (HERE / "stubs" / "java" / f"{outer.replace('.', '/')}.java").read_text(encoding="utf-8")
        if member is not None and member.nullable and not re.search(rf"@Nullable [\w.<>]+ {name}\b", source):
            missing.append(f"{owner}.{name}")
    assert missing == []


@dataclass(frozen=True)
class Call:
    """A method called or a field read in Java's and Android's own packages."""

    owner: str
    name: str
    shape: str
    """Descriptor."""
    inherited: bool
    """Called on one of our own classes: found in `owner` only if it is not our own member."""


def references(kit: Any, jar: Path, stubs: Path, others: list[Path]) -> set[Call]:
    """What a jar calls; a call on a class of our own counts for the platform's class that it extends."""
    names = kit.run("jar", "tf", jar).stdout.splitlines()
    libraries = [path.relative_to(stubs).as_posix() for path in stubs.glob("androidx/**/*.class")]
    classes = [
        name.removesuffix(".class").replace("/", ".")
        for name in [*libraries, *names]
        if name.startswith(("dev/", "androidx/")) and ".class" in name
    ]
    done = kit.run("javap", "-c", "-p", "-cp", kit.path([jar, *others]), *classes)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    extended = {found[1]: found[2] for line in lines if (found := EXTENDS.match(line))}
    calls, current = set(), ""
    for line in lines:
        if opening := HEADING.match(line):
            current = opening[1]
        elif (call := CALL.search(line)) and current.startswith("dev."):
            first = owner = call[1].replace("/", ".") if call[1] else current
            while owner in extended:
                owner = extended[owner]
            if owner.startswith(("java.", "javax.", "android.")):
                calls.add(Call(owner.replace("$", "."), call[2], call[3], inherited=owner != first))
    return calls


def descriptor(kinds: str, lists: Any) -> list[str]:
    """Types of a JVM descriptor, in the list's form."""
    found = []
    for dimensions, plain, named in re.findall(r"(\[*)(?:([BCDFIJSZV])|L([\w/$]+);)", kinds):
        primitive = {"Z": "boolean", "C": "java.lang.String", "V": "void"}.get(plain, "number")
        found.append((lists.normal(named.replace("/", ".")) if named else primitive) + "[]" * len(dimensions))
    return found


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_every_call_exists_on_the_oldest_android(
    kit: Any, lists: Any, apps: dict[str, Any], api: Any, flavour: str
) -> None:
    app = apps[flavour]
    others = [app.core, app.stubs, *kit.RUNTIME]
    jars = (app.core, app.app, app.benchmark)
    calls = set().union(*(references(kit, jar, app.stubs, [*others, app.app]) for jar in jars))
    checked, wrong, needed = set(), [], 0
    for call in sorted(calls, key=str):
        if call.owner.startswith("java.lang.invoke"):  # what D8 replaces
            continue
        inner, _, _ = call.shape.partition(")")
        parameters = tuple(descriptor(inner[1:], lists)) if call.shape.startswith("(") else None
        member = api.find(call.owner, call.name, parameters)
        if member is None and call.inherited:
            continue
        listed = api.classes.get(call.owner)
        newest = max(member.since if member else 0, listed.since if listed else 0)
        checked.add(f"{call.owner}.{call.name}")
        if f"{call.owner}.{call.name}" in GUARDED:
            assert newest > LEAST, f"{call.owner}.{call.name} needs no guard"
        elif member is None or newest > LEAST:
            wrong.append(f"{call}: {'not in the list' if member is None else f'API {newest}'}")
        else:
            needed = max(needed, newest)
    assert wrong == []
    # No newer than needed: a higher level would leave phones out, and the libraries run on older ones (test_manifests.py).
    assert needed == LEAST
    # Called on the app's own activity, on a view of its own, on a class of Java.
    assert {
        "android.app.Activity.getString",
        "android.view.View.invalidate",
        "java.net.URL.openConnection",
    } <= checked
    assert len(checked) > 200
