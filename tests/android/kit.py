"""Compile and run the app's Kotlin without an Android SDK: kotlinc from npm, JUnit and aapt2 from Debian.

kit = Kit(Path("work"))
kit.kotlin("core.jar", [ROOT / "core/src/main/kotlin"], classpath=[])
"""

import os
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
PROJECT = HERE.parent.parent / "android_demo"
MODULES = HERE / "node_modules"
KOTLIN = MODULES / "kotlin-compiler" / "lib"
API = MODULES / "@nativescript" / "types-android" / "lib" / "android"
FRAMEWORK = Path("/usr/share/android-framework-res/framework-res.apk")
RESOURCES = HERE / "resources.txt"
"""What the app's resources name of those of its libraries."""
JUNIT = [Path("/usr/share/java/junit4.jar"), Path("/usr/share/java/hamcrest-core.jar")]
RUNTIME = [
    KOTLIN / name for name in ("kotlin-stdlib.jar", "kotlinx-coroutines-core-jvm.jar", "annotations-13.0.jar")
]
BUILD_TYPES = ("debug", "release", "benchmark")
"""The first two are of every Android project."""
COMPILER = (
    "kotlin-compiler",
    "kotlin-stdlib",
    "kotlin-script-runtime",
    "kotlin-reflect",
    "annotations-13.0",
    "kotlinx-coroutines-core-jvm",
    "kotlin-daemon-client",
)
FLAVOURS = ("litert2", "nnapi")
"""Of the app's dimension `runtime`, the default first."""
JAVA = ("java", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")


def run(
    *command: str | Path, text: str | None = None, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run to the end; standard output and standard error stay apart."""
    return subprocess.run(
        [str(part) for part in command], input=text, capture_output=True, text=True, check=False, cwd=cwd
    )


def path(parts: Sequence[Path]) -> str:
    """A class path."""
    return os.pathsep.join(map(str, parts))


def merged_manifest(kind: str, flavour: str) -> str:
    """The manifest of a build as the Android plugin merges it: behind the main one what flavour and build type have."""
    sources = PROJECT / "app" / "src"
    text = (sources / "main" / "AndroidManifest.xml").read_text(encoding="utf-8")
    tools = ' xmlns:tools="http://schemas.android.com/tools"'
    text = text.replace("<manifest ", f"<manifest{tools} ", 1) if tools.strip() not in text else text
    for name in (flavour, kind):
        overlay = sources / name / "AndroidManifest.xml"
        if not overlay.exists():
            continue
        found = re.search(
            r"<manifest [^>]*>(.*?)(?:<application>(.*?)</application>\s*)?</manifest>",
            overlay.read_text(encoding="utf-8"),
            re.DOTALL,
        )
        assert found is not None, overlay
        text = text.replace("    <application\n", f"{found[1].strip()}\n    <application\n", 1)
        text = text.replace("    </application>", f"{found[2] or ''}    </application>")
    return text


def library_resources() -> str:
    """The list of resources as a file of values; no item of a style stands in it."""
    made = ["<resources>"]
    for line in RESOURCES.read_text(encoding="utf-8").splitlines():
        kind, _, rest = line.partition(" ")
        if kind == "style":
            made.append(f'<style name="{rest}" parent="" />')
        elif kind == "attr":
            name, form, *names = rest.split(" ")
            enums = "".join(f'<enum name="{one}" value="{i}" />' for i, one in enumerate(names))
            made.append(
                f'<attr name="{name}">{enums}</attr>' if names else f'<attr name="{name}" format="{form}" />'
            )
    return "\n".join([*made, "</resources>"])


def catalogue(name: str) -> str:
    """A version of gradle/libs.versions.toml."""
    return _found(rf'^{name} = "(.+)"$', "gradle/libs.versions.toml")


def build_number(name: str) -> int:
    """A number of app/build.gradle.kts, such as minSdk."""
    return int(_found(rf"^ +{name} = (\d+)\b", "app/build.gradle.kts"))


def _found(pattern: str, file: str) -> str:
    """What the group of a pattern matches in a file of the project."""
    found = re.search(pattern, (PROJECT / file).read_text(encoding="utf-8"), re.MULTILINE)
    assert found is not None
    return found[1]


@dataclass(frozen=True)
class Kit:
    """The compilers, and a folder for what they make."""

    folder: Path

    def kotlin(
        self,
        out: str,
        sources: Sequence[Path],
        *,
        classpath: Sequence[Path],
        friend: Path | None = None,
        library: bool = False,
    ) -> Path:
        """Compile; a warning counts as an error, as in the Gradle build.

        `friend` is the jar whose internals the sources may use. A `library` says of everything whether it is public.
        """
        compiler = [*JAVA, "-Xmx1g", "-cp", path([KOTLIN / f"{name}.jar" for name in COMPILER])]
        options = ["-no-reflect", "-Werror", "-jvm-target", "11", "-kotlin-home", str(KOTLIN.parent)]
        options += [f"-Xfriend-paths={friend}"] if friend else []
        options += ["-Xexplicit-api=strict"] if library else []
        target = self.folder / out
        main = "org.jetbrains.kotlin.cli.jvm.K2JVMCompiler"
        done = run(*compiler, main, *options, "-cp", path(classpath), "-d", target, *sources)
        assert done.returncode == 0, done.stderr
        return target

    def java(self, out: str, sources: Sequence[Path]) -> Path:
        """Compile with javac."""
        target = self.folder / out
        files = [file for source in sources for file in sorted(source.rglob("*.java"))]
        done = run("javac", "-nowarn", "-d", target, "-cp", path(RUNTIME), *files)
        assert done.returncode == 0, done.stderr
        return target
