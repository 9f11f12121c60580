"""Android's published API list (@nativescript/types-android) as data: what a stub or a compiled call is held against.

Types compare loosely: every Java number is `number` there, every character text, and generics are left out.

    api = read_api(Path("android-platform-37.d.ts"))
    api.find("android.view.View", "invalidate", ())          # -> Member, or None
"""

import re
from dataclasses import dataclass, field
from pathlib import Path

SINCE = re.compile(r"@since (\d+)")
BLOCK = re.compile(
    r"(?:export |declare )*(?:abstract )?(module|class|interface) ([\w.$]+)(?:<[^{]*?>)?\s*"
    r"(?:extends ([\w.$]+)(?:<.*?>)?)?\s*(?:implements (.*?))?\s*\{$"
)
METHOD = re.compile(r"(?:public |protected )?(static )?(constructor|[\w$]+)\((.*)\)(?:: (.*))?;$")
FIELD = re.compile(r"(?:public |protected )?(?:static )?([\w$]+): (.*);$")
NUMBERS = {"int", "long", "float", "double", "short", "byte", "char"}
NAMES = {
    "string": "java.lang.String",
    "any": "java.lang.Object",
    "java.lang.CharSequence": "java.lang.String",
}


@dataclass(frozen=True)
class Member:
    """A method (or `<init>`) or, with `parameters` None, a field."""

    name: str
    parameters: tuple[str, ...] | None
    since: int
    nullable: bool


@dataclass
class Listed:
    """A class of the list."""

    since: int
    parents: list[str]
    members: list[Member] = field(default_factory=list)


@dataclass(frozen=True)
class Api:
    """All classes by name, nested ones with dots."""

    classes: dict[str, Listed]

    def find(self, owner: str, name: str, parameters: tuple[str, ...] | None) -> Member | None:
        """The member itself or an inherited one."""
        waiting, seen = [owner], set()
        while waiting:
            current = waiting.pop(0)
            if current in seen or (listed := self.classes.get(current)) is None:
                continue
            seen.add(current)
            for member in listed.members:
                if member.name == name and member.parameters == parameters:
                    return member
            waiting += listed.parents
        return None


def read_api(path: Path) -> Api:
    """Parse one file of the package."""
    classes: dict[str, Listed] = {}
    stack: list[tuple[str, Listed | None]] = []
    since = 0
    for raw in path.read_text(encoding="utf-8").splitlines():
        line = raw.strip()
        if line.startswith(("/**", "*")):
            found = SINCE.search(line)
            since = int(found[1]) if found else since
            continue
        if block := BLOCK.match(line):
            name = ".".join([part for part, _ in stack if part] + [block[2]])
            listed = None
            if block[1] != "module":
                parents = [block[3]] if block[3] else []
                parents += [normal(part) for part in split(block[4] or "")]
                listed = classes.setdefault(name, Listed(since, []))
                listed.parents += [parent.replace("globalAndroid.", "android.") for parent in parents]
            stack.append((block[2], listed))
        elif line.startswith("}"):
            if stack:
                stack.pop()
        elif line.endswith("{"):
            stack.append(("", None))
        elif stack and (listed := stack[-1][1]) and (member := read_member(line, since)):
            listed.members.append(member)
        since = 0
    return Api(classes)


def read_member(line: str, since: int) -> Member | None:
    """A line of a class."""
    if method := METHOD.match(line):
        name = "<init>" if method[2] == "constructor" else method[2]
        parameters = tuple(normal(part.partition(":")[2]) for part in split(method[3]))
        return Member(name, parameters, since, (method[4] or "").endswith("| null"))
    if found := FIELD.match(line):
        return Member(found[1], None, since, found[2].endswith("| null"))
    return None


def split(text: str) -> list[str]:
    """At commas outside brackets."""
    parts, depth, current = [], 0, ""
    for char in text:
        depth += (char in "<({") - (char in ">)}")
        if char == "," and not depth:
            parts.append(current)
            current = ""
        else:
            current += char
    return [part for part in [*parts, current] if part.strip()]


def normal(kind: str) -> str:
    """A type of the list or of javap in one form."""
    kind = kind.strip().removesuffix("| null").strip().replace("globalAndroid.", "android.")
    if kind.startswith("androidNative.Array<"):
        return normal(kind[len("androidNative.Array<") : -1]) + "[]"
    kind = re.sub(r"<.*>", "", kind).replace("$", ".").replace("...", "[]")
    if kind.endswith("[]"):
        return normal(kind[:-2]) + "[]"
    if len(kind) == 1:  # a type variable
        return "java.lang.Object"
    return "number" if kind in NUMBERS else NAMES.get(kind, kind)
