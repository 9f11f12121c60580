"""The documents name commands, options, modules and files that exist, and their site builds without a dead link."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from sfumato.cli.main import app, load

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "android_demo" / "README.md"]
EVERY = [*PAGES, ROOT / "CHANGELOG.md", *sorted(DOCS.rglob("*.md"))]
# History, decisions and the changelog say what held at their time, in the words of that time.
CURRENT = [
    *PAGES,
    *(path for path in sorted(DOCS.rglob("*.md")) if path.parent.name not in ("history", "decisions")),
]
FOLDERS = (
    "train",
    "export",
    "cloud",
    "benchmarks",
    "tests",
    "studies",
    "scripts",
    "requirements",
    "docs",
    "android_demo",
)
SOURCES = [
    path
    for folder in FOLDERS
    for suffix in ("py", "kt", "js")
    for path in sorted((ROOT / folder).rglob(f"*.{suffix}"))
    if not {"vendor", "node_modules", "build"} & set(path.parts)
]


def commands(text: str) -> Iterator[str]:
    """What a reader would type: lines of blocks, and code within a sentence; variables set for one command are left out."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    rest = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    lines += [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", rest)]
    yield from (re.sub(r"^(\w+=\S* )+", "", line.strip()) for line in lines)


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def options(command: Any) -> set[str]:
    """What may stand behind a command."""
    found = {option for one in command.params for option in (*one.opts, *one.secondary_opts)}
    return found | {"--help", "--version"}


def anchors(path: Path) -> set[str]:
    """The anchors of a page's headings."""
    titles = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title).strip().lower().replace(" ", "-") for title in titles}


def source_of(module: str) -> Path | None:
    """The file of a module of ours, or of a package's `__init__`; None if there is none."""
    path = module.replace(".", "/")
    found = [ROOT / root / f"{path}{end}" for root in ("", *FOLDERS) for end in (".py", "/__init__.py")]
    return next((file for file in found if file.exists()), None)


@pytest.mark.parametrize("path", CURRENT, ids=name)
def test_commands_and_options_exist(path: Path) -> None:
    root = typer.main.get_command(app)
    for line in commands(path.read_text(encoding="utf-8")):
        words = shlex.split(line, comments=True) if line.startswith("sfumato ") else []
        command: Any = root
        for word in words[1:]:
            if word.startswith("--"):
                assert word.partition("=")[0] in options(command), f"{line}: unknown {word}"
            elif hasattr(command, "commands"):  # a group
                assert word in command.commands, f"{line}: there is no command {word}"
                command = load(word) if command is root else command.commands[word]


@pytest.mark.parametrize("path", CURRENT, ids=name)
def test_programs_and_targets_exist(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for module in re.findall(r"python -m ((?:sfumato|tests|studies)[\w.]*)", text):
        assert source_of(module) or source_of(f"{module}.__main__"), module
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for line in commands(text):
        if line.startswith("make "):
            assert line.split()[1] in targets, line


@pytest.mark.parametrize("path", CURRENT, ids=name)
def test_modules_and_names_exist(path: Path) -> None:
    """`sfumato.package.module`, `sfumato.package.Name`, and what examples import."""
    text = path.read_text(encoding="utf-8")
    named = set(re.findall(r"(?<![\w/.])(sfumato(?:\.[A-Za-z_]\w*)+)", text))
    for module, imported in re.findall(r"^from (sfumato[\w.]*) import (.+)$", text, re.MULTILINE):
        named |= {f"{module}.{one.strip()}" for one in imported.split(",")}
    for one in named:
        module, _, last = one.rpartition(".")
        source = source_of(one) or source_of(module)
        assert source is not None, one
        assert source_of(one) or re.search(rf"\b{last}\b", source.read_text(encoding="utf-8")), one


@pytest.mark.parametrize("path", CURRENT, ids=name)
def test_files_exist(path: Path) -> None:
    """Paths of the repository; NAME stands for a file that a reader adds, `vendor` is made by the set-up."""
    code = re.findall(
        r"`([^`\s]+)`",
        re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE),
    )
    for one in code:
        if one.split("/")[0] in FOLDERS and "/" in one and not re.search(r"NAME|vendor|[*:]", one):
            assert (ROOT / one).exists(), one


@pytest.mark.parametrize("path", EVERY, ids=name)
def test_links_lead_somewhere(path: Path) -> None:
    for target, anchor in re.findall(r"\]\(([^)#]*)(?:#([^)]*))?\)", path.read_text(encoding="utf-8")):
        if not re.match(r"[a-z]+:", target):
            page = path.parent / target if target else path
            assert page.exists(), target
            assert not anchor or anchor in anchors(page), f"{target}#{anchor}"


def test_comments_name_pages_that_exist() -> None:
    for path in SOURCES:
        for page in re.findall(r"\bdocs/[\w/-]+\.md", path.read_text(encoding="utf-8")):
            assert (ROOT / page).exists(), f"{name(path)}: {page}"
        for number in re.findall(r"\bdocs/decisions/(\d{4})", path.read_text(encoding="utf-8")):
            assert list((DOCS / "decisions").glob(f"{number}-*.md")), f"{name(path)}: decision {number}"


def test_named_tests_exist() -> None:
    named = set(re.findall(r"`(test_\w+)`", (DOCS / "hardening.md").read_text(encoding="utf-8")))
    files = sorted((ROOT / "tests").rglob("test_*.py"))
    found = {
        name for path in files for name in re.findall(r"def (test_\w+)\(", path.read_text(encoding="utf-8"))
    }
    assert named
    assert named - found == set()


def test_every_decision_has_the_status_that_the_index_tells() -> None:
    index = (DOCS / "decisions" / "index.md").read_text(encoding="utf-8")
    for path in sorted((DOCS / "decisions").glob("0*.md")):
        status = path.read_text(encoding="utf-8").splitlines()[2]
        assert status.startswith(("Status: accepted", "Status: superseded")), path.name
        row = re.search(rf"\({re.escape(path.name)}\) \|.*\| (.*) \|", index)
        assert row is not None, f"{path.name} is not in the index"
        assert row[1].startswith(status.removeprefix("Status: ").split()[0].strip(",;")), path.name


def build(docs: Path, out: Path) -> subprocess.CompletedProcess[str]:
    """The site as `make docs` builds it, from a folder of pages."""
    config = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").replace("docs_dir: docs", f"docs_dir: {docs}")
    (docs.parent / "mkdocs.yml").write_text(config, encoding="utf-8")
    return subprocess.run(
        [
            sys.executable,
            "-m",
            "mkdocs",
            "build",
            "--strict",
            "--config-file",
            str(docs.parent / "mkdocs.yml"),
            "--site-dir",
            str(out),
        ],
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_the_site_builds_strictly_and_fetches_nothing(tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    shutil.copytree(DOCS, docs)
    done = build(docs, tmp_path / "site")
    assert done.returncode == 0, done.stderr
    pages = sorted((tmp_path / "site").rglob("*.html"))
    assert len(pages) > len(list(DOCS.rglob("*.md")))  # and the page for what is not found
    for page in pages:
        loaded = re.findall(r'<(?:script|img|iframe)[^>]*\ssrc="([^"]+)"', page.read_text(encoding="utf-8"))
        loaded += re.findall(r'<link[^>]*\shref="([^"]+)"', page.read_text(encoding="utf-8"))
        assert not [one for one in loaded if re.match(r"(https?:)?//", one)], page.name


@pytest.mark.slow
def test_dead_links_fail_the_site(tmp_path: Path) -> None:
    """One to a page that is not there and one to an anchor."""
    docs = tmp_path / "docs"
    shutil.copytree(DOCS, docs)
    with (docs / "report.md").open("a", encoding="utf-8") as page:
        page.write("\n[lost](lost.md) and [gone](data.md#gone)\n")
    done = build(docs, tmp_path / "site")
    assert done.returncode != 0
    assert "lost.md" in done.stderr
    assert "#gone" in done.stderr
