"""The shape of the repository: whole packages in four source roots, imports one way, a light front door."""

import ast
import importlib
import resource
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOTS = ("train", "export", "cloud", "benchmarks")

ORDER = (
    "core",
    "channels",
    "data",
    "models",
    "runtime",
    "training",
    "audit",
    "export",
    "zoo",
    "server",
    "bench",
    "compare",
    "cli",
)
"""A package imports only packages that stand before it."""

HEAVY = {"torch", "tensorflow", "onnx", "onnx2tf", "onnxruntime", "lightning_fabric", "sklearn", "matplotlib"}


def sources(root: str) -> list[Path]:
    return sorted((ROOT / root / "sfumato").rglob("*.py"))


def module_of(root: str, path: Path) -> str:
    parts = path.relative_to(ROOT / root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(root, path): path for root in ROOTS for path in sources(root)}


def imported(path: Path, module: str) -> Iterator[str]:
    """Every sfumato module that a file imports, at any depth of the file: a lazy import counts too."""
    package = module if path.stem == "__init__" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            whole = (f"{base}.{alias.name}" for alias in node.names)
            names = [name if name in MODULES or base == "sfumato" else base for name in whole]
        yield from (name for name in names if name.split(".")[0] == "sfumato")


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd="/")


def packages(root: str) -> list[Path]:
    """What lies directly under the name space; folders that an older checkout left behind hold no source."""
    return sorted(
        path for path in (ROOT / root / "sfumato").iterdir() if path.is_file() or any(path.rglob("*.py"))
    )


def test_every_name_is_a_package_of_one_root() -> None:
    """No module lies loose under the name space, and no package is spread over two roots."""
    found = [path for root in ROOTS for path in packages(root)]
    assert [str(path) for path in found if not (path / "__init__.py").is_file()] == []
    names = [path.name for path in found]
    assert sorted(names) == sorted(set(names))


def test_every_folder_below_is_a_package() -> None:
    folders = {path.parent for root in ROOTS for path in sources(root)}
    assert [str(folder) for folder in folders if not (folder / "__init__.py").exists()] == []


def test_every_package_is_typed_and_says_what_it_holds() -> None:
    """PEP 561: in a name space each package carries its own marker."""
    for root in ROOTS:
        for package in packages(root):
            assert (package / "py.typed").is_file(), package
            doc = ast.get_docstring(ast.parse((package / "__init__.py").read_text(encoding="utf-8")))
            assert doc is not None, package
            assert len(doc) > 80, package


def test_imports_run_one_way_and_lead_somewhere() -> None:
    arrows, wrong = set(), []
    for module, path in MODULES.items():
        for name in imported(path, module):
            own, other = module.split(".")[1], name.split(".")[1]
            arrows.add((own, other))
            if name not in MODULES or ORDER.index(other) > ORDER.index(own):
                wrong.append(f"{path.relative_to(ROOT)} imports {name}")
    for package in ORDER:
        print(
            f"{package:<10} imports", ", ".join(b for b in ORDER if (package, b) in arrows and b != package)
        )
    assert wrong == []
    assert {package for package, _ in arrows} <= set(ORDER)


@pytest.mark.parametrize("package", ["runtime", "training", "audit", "export", "zoo", "server"])
def test_every_public_name_is_there(package: str) -> None:
    """They are imported when they are asked for, so a wrong one would go unnoticed until then."""
    face = importlib.import_module(f"sfumato.{package}")
    assert set(face.__all__) == set(dir(face))
    for name in face.__all__:
        assert getattr(face, name).__name__ == name
    with pytest.raises(AttributeError, match="has no attribute 'imagined'"):
        face.imagined  # noqa: B018


def test_the_import_reader_sees_every_form(tmp_path: Path) -> None:
    file = tmp_path / "file.py"
    file.write_text(
        "import sfumato.core.files as f\nfrom sfumato.core import errors\nfrom .console import note\nimport sys\n"
        "def inner():\n    from sfumato.core.provenance import provenance\n"
    )
    names = {"files", "errors", "console", "provenance"}
    assert set(imported(file, "sfumato.core.file")) == {f"sfumato.core.{name}" for name in names}


@pytest.mark.parametrize("module", sorted(name for name in MODULES if name.startswith("sfumato.runtime")))
def test_the_runtime_needs_neither_torch_nor_tensorflow(module: str) -> None:
    done = run_python(
        f"import sys, {module}; print(sorted({{'torch', 'tensorflow'}} & set(sys.modules)), file=sys.stderr)"
    )
    assert (done.returncode, done.stderr.strip()) == (0, "[]")


def test_training_audit_and_comparison_need_no_runtime() -> None:
    beyond = {"cryptography", "ai_edge_litert", "tflite_runtime", "onnx2tf", "tensorflow"}
    modules = "sfumato.training.runner, sfumato.audit.runner, sfumato.compare.runner"
    done = run_python(f"import sys, {modules}; print({beyond!r} & set(sys.modules), file=sys.stderr)")
    assert (done.returncode, done.stderr.strip()) == (0, "set()")


def test_the_command_line_imports_nothing_heavy() -> None:
    done = run_python(
        "import sys, sfumato.cli.main as cli\n"
        "assert [name for name in cli.COMMANDS if f'sfumato.cli.{name}' in sys.modules] == []\n"
        "assert [cli.load(name).name for name in cli.COMMANDS] == list(cli.COMMANDS)\n"
        f"print(sorted({HEAVY!r} & set(sys.modules)), file=sys.stderr)"
    )
    assert (done.returncode, done.stderr.strip()) == (0, "[]")


def processor_seconds(*command: str | Path) -> float:
    """What a command that prints help costs, its start included."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert (done.returncode, "Commands" in done.stdout) == (0, True), done.stderr
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_help_costs_hardly_more_than_that_of_an_empty_program(tmp_path: Path) -> None:
    """In turns with a program of Typer that has as many commands and imports nothing: a bound for every processor."""
    from sfumato.cli.main import COMMANDS

    empty = tmp_path / "empty.py"
    empty.write_text(
        "import typer\n"
        "app = typer.Typer(add_completion=False)\n"
        "app.callback()(lambda: None)\n"
        f"for name in {list(COMMANDS)!r}:\n"
        "    app.command(name)(lambda: None)\n"
        "app()\n"
    )
    script = Path(sys.executable).with_name("sfumato")
    turns = [
        (processor_seconds(script, "--help"), processor_seconds(sys.executable, empty, "--help"))
        for _ in range(7)
    ]
    ours, others = (min(column) for column in zip(*turns, strict=True))
    assert ours < 1.4 * others, turns


def test_every_command_has_a_module() -> None:
    from sfumato.cli.main import COMMANDS

    assert {f"sfumato.cli.{name}" for name in COMMANDS} - set(MODULES) == set()


def test_the_wheel_holds_all_roots(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    done = subprocess.run(
        [*command, "-w", str(tmp_path), str(ROOT)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        held = sorted(name for name in archive.namelist() if name.startswith("sfumato/"))
    kept = (path for root in ROOTS for path in (ROOT / root / "sfumato").rglob("*") if path.is_file())
    expected = sorted(
        str(path.relative_to(ROOT / path.relative_to(ROOT).parts[0]))
        for path in kept
        if "__pycache__" not in path.parts
    )
    assert held == expected
