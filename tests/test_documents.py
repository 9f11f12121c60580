"""The documents name commands, options, modules and files that exist."""

import importlib.util
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from sfumato.cli.main import app

ROOT = Path(__file__).resolve().parent.parent
EVERY = [ROOT / "README.md", ROOT / "android_demo" / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
# The log and the decisions say what was tried at their time, with the options of that time.
CURRENT = [path for path in EVERY if path.name != "log.md" and path.parent.name != "decisions"]


def commands(text: str) -> Iterator[str]:
    """What a reader would type: lines of blocks, and code within a sentence."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    for block in blocks:
        yield from block.replace("\\\n", " ").splitlines()
    rest = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    yield from (" ".join(code.split()) for code in re.findall(r"`([^`]+)`", rest))


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def options(command: Any) -> set[str]:
    """What may stand behind a command."""
    found = {option for one in command.params for option in (*one.opts, *one.secondary_opts)}
    return found | {"--help", "--version"}


@pytest.mark.parametrize("path", CURRENT, ids=name)
def test_commands_and_options_exist(path: Path) -> None:
    for line in commands(path.read_text(encoding="utf-8")):
        words = shlex.split(line, comments=True) if line.startswith("sfumato ") else []
        command: Any = typer.main.get_command(app)
        for word in words[1:]:
            if word.startswith("--"):
                assert word.partition("=")[0] in options(command), f"{line}: unknown {word}"
            elif hasattr(command, "commands"):  # a group
                assert word in command.commands, f"{line}: there is no command {word}"
                command = command.commands[word]


@pytest.mark.parametrize("path", CURRENT, ids=name)
def test_modules_and_targets_exist(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for module in re.findall(r"python -m (sfumato[\w.]*)", text):
        assert importlib.util.find_spec(module) is not None, module
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for line in commands(text):
        if line.startswith("make "):
            assert line.split()[1] in targets, line


@pytest.mark.parametrize("path", EVERY, ids=name)
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8")):
        if not re.match(r"[a-z]+:", target):
            assert (path.parent / target).exists(), target
