"""The module core as a library for others: what it says of itself, what of it is public, and the example of its page."""

import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.server.conftest import start_server

from sfumato.core.image_io import fit
from sfumato.runtime.phone_model import PhoneModel
from sfumato.runtime.upload_codec import decode_png

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
BUILD = (ROOT / "android_demo" / "core" / "build.gradle.kts").read_text(encoding="utf-8")
PAGE = (ROOT / "docs" / "kotlin.md").read_text(encoding="utf-8")
SOURCES = sorted((ROOT / "android_demo" / "core" / "src" / "main").rglob("*.kt"))
PUBLIC = re.compile(r"\s*(?:@\w+ )*public (?!companion object)(.+)")
TYPE = re.compile(r"(?:(?:data|sealed|enum|open|fun) )*(?:class|interface|object) (\w+)")


def block(text: str, opening: str) -> str:
    """What stands between the brackets behind an opening that is there once."""
    (start,) = [found.end() for found in re.finditer(re.escape(opening), text)]
    end, depth = start, 1
    while depth:
        depth += (text[end] in "({") - (text[end] in ")}")
        end += 1
    return text[start : end - 1]


def test_the_coordinates_and_the_pom_are_those_of_pyproject() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert re.findall(r'^(group|version) = "(.+)"$', BUILD, re.MULTILINE) == [
        ("group", "dev.sfumato"),
        ("version", project["version"]),
    ]
    assert f'implementation("dev.sfumato:core:{project["version"]}")' in PAGE
    pom = block(BUILD, "pom {")
    assert re.findall(r'^ {16}(\w+) = "(.+)"$', pom, re.MULTILINE) == [
        ("name", "sfumato core"),
        ("description", project["description"]),
    ]
    licence = dict(re.findall(r'(\w+) = "(.+)"', block(pom, "license {")))
    assert licence["name"] == project["license"] == "Apache-2.0"
    assert licence["url"] == "https://www.apache.org/licenses/LICENSE-2.0.txt"
    # Where the project says where it lives, the POM says so too.
    assert ("scm {" in pom) == ("urls" in project)
    assert ("developers {" in pom) == ("authors" in project)


def test_sources_and_documents_are_published_and_fixtures_are_not() -> None:
    assert "`maven-publish`" in block(BUILD, "plugins {")
    assert {"withSourcesJar()", "withJavadocJar()"} <= set(block(BUILD, "java {\n").split())
    pages = re.findall(r'"([\w.]+)"', block(BUILD, "include("))
    assert pages
    assert [name for name in pages if not (ROOT / "docs" / name).is_file()] == []
    skipped = re.findall(r'"(testFixtures\w+)"', block(BUILD, "listOf("))
    assert skipped == ["testFixturesApiElements", "testFixturesRuntimeElements"]
    assert "from(library)" in block(BUILD, 'create<MavenPublication>("core") {')
    # A library that forces others upon its users would say so here.
    assert not re.search(r"^    (api|implementation|runtimeOnly)\(", BUILD, re.MULTILINE)


def test_the_build_wants_to_be_told_what_is_public(kit: Any, tmp_path: Path) -> None:
    """As Gradle does; the core itself was compiled so for every test here."""
    assert "explicitApi()" in block(BUILD, "kotlin {")
    (tmp_path / "File.kt").write_text("fun unsaid(): Int = 1\n")
    with pytest.raises(AssertionError, match="visibility must be specified in explicit API mode"):
        kit.Kit(tmp_path).kotlin("out.jar", [tmp_path / "File.kt"], classpath=[], library=True)


def undocumented(text: str) -> Iterator[str]:
    """What is public in a file and has no comment: declarations, and what the constructors and lists of public classes name.

    A comment on the class may name them, as [name].
    """
    lines, inside = text.splitlines(), 0
    for i, line in enumerate(lines):
        found = PUBLIC.match(line)
        if found is None or i < inside:
            continue
        above = i - 1
        while above >= 0 and lines[above].strip().startswith("@"):
            above -= 1
        if not lines[above].rstrip().endswith("*/"):
            yield found[1]
            continue
        kind = TYPE.match(found[1])
        if kind is None:
            continue
        begin = above
        while "/**" not in lines[begin]:
            begin -= 1
        comment, rest = "\n".join(lines[begin : above + 1]), "\n".join(lines[i:])
        header = re.match(r"[^\n({]*\(", rest)
        if header is not None:
            given = parameters(rest[header.end() :])
            inside = i + 1 + given.count("\n")
            yield from unnamed(comment, given, r"(?<!private )(?<!internal )\bval (\w+)")
        if "enum class" in line:
            entries = re.split("[;}]", rest.partition("{")[2], maxsplit=1)[0]
            yield from unnamed(comment, entries, r"^ +([A-Z]\w*)\b")


def parameters(text: str) -> str:
    """Up to the bracket that closes what is open."""
    depth = 1
    for end, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if not depth:
            return text[:end]
    raise AssertionError(text)


def unnamed(comment: str, text: str, name: str) -> Iterator[str]:
    """Names in a text that neither a comment of their own nor that of their class explains."""
    for found in re.finditer(name, text, re.MULTILINE):
        before = text[: found.start()].rsplit("\n", 1)[0].rstrip()
        if f"[{found[1]}]" not in comment and not before.endswith("*/"):
            yield found[1]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_everything_public_is_documented(path: Path) -> None:
    assert list(undocumented(path.read_text(encoding="utf-8"))) == []


def test_a_missing_comment_is_found() -> None:
    text = """
/** All of [a] and [b]. */
public data class Whole(val a: Int, private val hidden: Int) {
    public val b: Int get() = a

    /** Said. */
    public fun said() = b
}

/** Of [c]. */
@Annotated
public class Part(
    public val c: Int,
    /** Said. */
    public val d: Int,
    public val e: Int,
) {
    public companion object
}

/** One. */
public enum class Kind(val code: Int) {
    /** Said. */
    FIRST(1),
    SECOND(2),
    ;
}
"""
    assert list(undocumented(text)) == ["val b: Int get() = a", "e", "code", "SECOND"]


def test_the_page_names_everything_that_is_public() -> None:
    """Types and functions that stand by themselves; members are found by them."""
    names = set()
    for path in SOURCES:
        for found in re.findall(r"^(?:@\w+\n)?public (.+)", path.read_text(encoding="utf-8"), re.MULTILINE):
            kind = TYPE.match(found) or re.match(r"(?:const )?(?:val|fun) (?:<.*?> )?(?:\w+\.)?(\w+)", found)
            assert kind is not None, found
            names.add(kind[1])
    assert len(names) > 40
    named = set(re.findall(r"`(?:\w+\.)*?(\w+)`", PAGE.partition("## What is public")[2]))
    assert names - named - {"main"} == set()
    assert "`java -cp ... dev.sfumato.core.CheckExport FOLDER`" in PAGE


FRAME = """
import dev.sfumato.core.*
import java.io.File

fun main(arguments: Array<String>) {
    val (folder, server, python, interpreter) = arguments
    val networks = NetworkFactory { model, _, threads -> PipedNetwork(listOf(python, interpreter), model, threads) }
    val keys = object : DeviceKeys {
        override fun get() = DeviceKey(ByteArray(32) { it.toByte() })
        override fun reset() = Unit
    }
    val photo = Picture(48, 64, ByteArray(48 * 64 * 3) { (it * it % 251).toByte() })
EXAMPLE
    println(perturbed.upload.content.toHexString())
    println(reply.answers.getValue("glasses").label)
    network.close()
}
"""


def test_the_example_of_the_page_runs(kit: Any, app: Any, export_folder: Path, tmp_path: Path) -> None:
    """Against a service of its own, compiled as others compile it: with what is public, and the network of this computer."""
    found = re.search(r"^```kotlin\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    assert found is not None
    assert found[1].count("\n") == 5
    (tmp_path / "Example.kt").write_text(FRAME.replace("EXAMPLE", found[1]))
    example = kit.Kit(tmp_path).kotlin(
        "example.jar", [tmp_path / "Example.kt"], classpath=[app.core, app.tests, *kit.RUNTIME]
    )
    model = PhoneModel.load(export_folder)
    assert model.digest is not None
    server = start_server(export_folder, model.digest.hex(), tmp_path / "log")
    try:
        classpath = kit.path([example, app.core, app.tests, *kit.RUNTIME])
        command = [*kit.JAVA, "-cp", classpath, "ExampleKt"]
        done = kit.run(*command, export_folder, server.url, sys.executable, HERE / "interpreter.py")
    finally:
        server.process.kill()
        server.process.wait()
    assert done.returncode == 0, done.stderr
    told, content, label = done.stdout.splitlines()
    photo = np.array([i * i % 251 for i in range(48 * 64 * 3)], np.uint8).reshape(48, 64, 3)
    (height, width), bits = model.contract.size, model.contract.channel.bits
    upload = model.perturb(fit(photo, height, width), key=bytes(range(32)))
    # Compressed bytes are zlib's choice.
    levels = decode_png(bytes.fromhex(content), height=height, width=width, bits=bits)
    assert np.array_equal(levels, upload.levels)
    assert label in ("no", "yes")
    figures = re.fullmatch(r"at most ([\d.]+) bits of the photo in (\d+) bytes", told)
    assert figures is not None
    assert float(figures[1]) == pytest.approx(upload.rate_bits, rel=1e-9)
    assert int(figures[2]) == len(bytes.fromhex(content))
