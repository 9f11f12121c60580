"""The shape of the repository: four source roots of one package, imports one way, a light front door."""

import ast
import resource
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# What each source root may import from.
ALLOWED = {
    "train": {"train"},
    "export": {"export", "train"},
    "cloud": {"cloud", "export", "train"},
    "benchmarks": {"benchmarks", "cloud", "export", "train"},
}

# What runs beside a phone-side model. These may import neither torch nor TensorFlow.
DEVICE_SIDE = {
    "sfumato.android",
    "sfumato.cloud_heads",
    "sfumato.contract",
    "sfumato.console",
    "sfumato.device",
    "sfumato.errors",
    "sfumato.exact_rate",
    "sfumato.files",
    "sfumato.fuzz",
    "sfumato.guard",
    "sfumato.imaging",
    "sfumato.lint",
    "sfumato.mutation",
    "sfumato.noise",
    "sfumato.perturbing",
    "sfumato.provenance",
    "sfumato.runtime",
    "sfumato.sampler",
    "sfumato.signing",
    "sfumato.tflite_file",
    "sfumato.upload",
    "sfumato.vectors",
    "sfumato.verify",
}
HEAVY = {"torch", "tensorflow", "onnx", "onnx2tf", "onnxruntime", "lightning_fabric", "sklearn", "matplotlib"}


def sources(root: str) -> list[Path]:
    return sorted((ROOT / root / "sfumato").rglob("*.py"))


def module_of(root: str, path: Path) -> str:
    parts = path.relative_to(ROOT / root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(root, path): root for root in ALLOWED for path in sources(root)}


def imported(path: Path, module: str) -> set[str]:
    """Every sfumato module a file imports, at any depth of the file."""
    found: set[str] = set()
    package = module if path.stem == "__init__" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                name = f"{base}.{alias.name}"
                found.add(name if name in MODULES or base == "sfumato" else base)
    return {name for name in found if name.split(".")[0] == "sfumato"}


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd="/")


@pytest.mark.parametrize("root", ALLOWED)
def test_no_init_hides_the_other_roots(root: str) -> None:
    package = ROOT / root / "sfumato"
    assert not (package / "__init__.py").exists()
    assert not (package / "commands" / "__init__.py").exists()


def test_a_name_belongs_to_one_root() -> None:
    owners: dict[str, set[str]] = {}
    for root in ALLOWED:
        package = ROOT / root / "sfumato"
        for path in [*package.glob("*"), *package.glob("commands/*")]:
            if path.suffix == ".py" or (path.is_dir() and any(path.rglob("*.py"))):
                owners.setdefault(str(path.relative_to(package).with_suffix("")), set()).add(root)
    owners.pop("commands", None)  # the one folder that spans the roots
    assert {name: roots for name, roots in owners.items() if len(roots) > 1} == {}


def test_py_typed_once() -> None:
    assert [str(path.relative_to(ROOT)) for root in ALLOWED for path in (ROOT / root).rglob("py.typed")] == [
        "train/sfumato/py.typed"
    ]


def test_subfolders_are_packages() -> None:
    folders = {path.parent for root in ALLOWED for path in sources(root)}
    plain = {ROOT / root / "sfumato" / below for root in ALLOWED for below in ("", "commands")}
    assert [str(folder) for folder in folders - plain if not (folder / "__init__.py").exists()] == []


def test_imports_run_one_way_and_lead_somewhere() -> None:
    wrong = []
    for root, allowed in ALLOWED.items():
        for path in sources(root):
            for name in imported(path, module_of(root, path)):
                if MODULES.get(name, "nowhere") not in allowed:
                    wrong.append(f"{path.relative_to(ROOT)} imports {name} of {MODULES.get(name, 'nowhere')}")
    assert wrong == []


def test_the_import_reader_sees_every_form(tmp_path: Path) -> None:
    file = tmp_path / "file.py"
    file.write_text(
        "import sfumato.files as f\nfrom sfumato import errors\nfrom .console import note\nimport sys\n"
        "def inner():\n    from sfumato.provenance import provenance\n"
    )
    names = {"files", "errors", "console", "provenance"}
    assert imported(file, "sfumato.file") == {f"sfumato.{name}" for name in names}


def test_device_side_modules_exist_and_lean_on_nothing_else() -> None:
    """A module that left the list, or was renamed, would take its guard along unnoticed."""
    assert DEVICE_SIDE - set(MODULES) == set()
    leaning = {
        f"{module} imports {name}"
        for module in DEVICE_SIDE
        for name in imported(ROOT / MODULES[module] / f"{module.replace('.', '/')}.py", module)
        if name not in DEVICE_SIDE
    }
    assert leaning == set()


def test_the_device_requirements_are_the_extra() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = (ROOT / "requirements" / "device.txt").read_text(encoding="utf-8").splitlines()
    listed = [line for line in lines if not line.startswith("#")]
    assert listed == project["optional-dependencies"]["device"]


@pytest.mark.parametrize("module", sorted(DEVICE_SIDE))
def test_device_side_needs_no_torch(module: str) -> None:
    done = run_python(
        f"import sys, {module}; print(sorted({{'torch', 'tensorflow'}} & set(sys.modules)), file=sys.stderr)"
    )
    assert (done.returncode, done.stderr.strip()) == (0, "[]")


@pytest.mark.parametrize("module", ["cotrain", "audit", "comparing"])
def test_training_audit_and_comparison_need_the_core_alone(module: str) -> None:
    beyond = {"cryptography", "ai_edge_litert", "tflite_runtime", "onnx2tf", "tensorflow"}
    done = run_python(f"import sys, sfumato.{module}; print({beyond!r} & set(sys.modules), file=sys.stderr)")
    assert (done.returncode, done.stderr.strip()) == (0, "set()")


def test_the_command_line_imports_nothing_heavy() -> None:
    done = run_python(
        "import sys, sfumato.cli as cli\n"
        "assert all(f'sfumato.commands.{name}' in sys.modules for name in cli.COMMANDS)\n"
        f"print(sorted({HEAVY!r} & set(sys.modules)), file=sys.stderr)"
    )
    assert (done.returncode, done.stderr.strip()) == (0, "[]")


def test_help_answers_in_half_a_second() -> None:
    """Processor time, the best of five: the machine is busy with other tests, and nothing here waits."""
    script = Path(sys.executable).with_name("sfumato")
    times = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run([script, "--help"], capture_output=True, text=True, check=False)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert done.returncode == 0, done.stderr
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(times) < 0.5, times


def test_every_command_module_is_registered() -> None:
    from sfumato.cli import COMMANDS

    found = {name.rpartition(".")[2] for name in MODULES if name.startswith("sfumato.commands.")}
    assert found == set(COMMANDS)


def test_the_wheel_holds_all_roots(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    done = subprocess.run(
        [*command, "-w", str(tmp_path), str(ROOT)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        held = sorted(name for name in archive.namelist() if name.startswith("sfumato/"))
    kept = (path for root in ALLOWED for path in (ROOT / root / "sfumato").rglob("*") if path.is_file())
    expected = sorted(
        str(path.relative_to(ROOT / path.relative_to(ROOT).parts[0]))
        for path in kept
        if "__pycache__" not in path.parts
    )
    assert held == expected


def test_everything_installed_is_pinned() -> None:
    """Each direct dependency stands in the constraints, in a version that pyproject.toml allows."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    lines = (ROOT / "requirements" / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    pins = {canonicalize_name(name): version for name, version in pairs}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [need for group in project["optional-dependencies"].values() for need in group]
    for need in map(Requirement, [*project["dependencies"], *extras]):
        if need.name != "sfumato":
            assert need.specifier.contains(pins.get(canonicalize_name(need.name), "0")), (
                f"{need}: run make lock"
            )
