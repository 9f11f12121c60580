"""The wheel in environments of its own: the base, then each extra alone, gives the commands that it promises.

A picture goes the whole way, and each environment does its part through the command line alone: `train` makes a run, `export`
exports it and times the model (`bench` is the same extra), the base perturbs with the export and verifies it, `server` answers
an upload.
Versions are those of uv.lock. Needs a package index, and is skipped where none can be reached.
"""

import json
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from importlib.util import cache_from_source
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parent.parent
UV = Path(sys.executable).with_name("uv")
TORCH = "torch==2.13.0+cpu"
UNREACHABLE = ("error sending request", "Failed to fetch", "Network connectivity is disabled")
SETTINGS = {"clean_epochs": 2, "pretrain_epochs": 8, "epochs": 3}


def uv(*arguments: str | Path) -> str:
    """Standard output of uv; without a network the test is skipped."""
    done = subprocess.run([UV, *arguments], capture_output=True, text=True, check=False, cwd=ROOT)
    if done.returncode and any(words in done.stderr for words in UNREACHABLE):
        pytest.skip(f"no package index can be reached: {done.stderr.strip().splitlines()[0]}")
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    uv("build", "--quiet", "--wheel", "--no-build-isolation", "--python", sys.executable, "--out-dir", out)
    (found,) = out.glob("*.whl")
    return found


class Environment:
    """A virtual environment with the wheel, one extra of it, and nothing else."""

    def __init__(self, folder: Path, wheel: Path, extra: str) -> None:
        """Build it; versions come from the lock, PyTorch from where its CPU build is."""
        self.folder = folder
        self.python = folder / "venv" / "bin" / "python"
        pins = folder / "pins.txt"
        which = ["--extra=npu"] if extra == "npu" else ["--all-extras", "--no-extra=npu"]
        pins.write_text(uv("export", "--quiet", "--frozen", *which, "--no-emit-project", "--no-hashes"))
        uv("venv", "--quiet", "--python", sys.executable, folder / "venv")
        needs = [f"sfumato[{extra}] @ {wheel.as_uri()}" if extra else str(wheel)]
        where: list[str] = []
        if extra in ("train", "export", "bench") and sys.platform == "linux":
            needs.append(TORCH)
            places = os.environ.get("PIP_FIND_LINKS", "").split()
            where = [f"--find-links={place}" for place in places] or ["--torch-backend=cpu"]
        install: list[str | Path] = [
            "pip",
            "install",
            "--quiet",
            "--python",
            self.python,
            "--constraint",
            pins,
        ]
        uv(*install, *where, *needs)
        self.borrow_bytecode()

    def borrow_bytecode(self) -> None:
        """Link what this checkout's environment has compiled of the same files: PyTorch and TensorFlow take long."""
        here, (there,) = Path(np.__file__).parents[1], self.folder.glob("venv/lib/python*/site-packages")
        for source in there.rglob("*.py"):
            twin = here / source.relative_to(there)
            compiled, wanted = (Path(cache_from_source(str(path))) for path in (twin, source))
            if compiled.exists() and twin.exists() and twin.samefile(source) and not wanted.exists():
                wanted.parent.mkdir(exist_ok=True)
                wanted.hardlink_to(compiled)

    def start(self, *words: str | Path) -> subprocess.Popen[str]:
        """A program of the environment, in its folder, with a home of its own and nothing of this checkout."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
        return subprocess.Popen(
            [self.python.with_name(str(words[0])), *words[1:]],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.folder,
            env={**kept, "HOME": str(self.folder)},
        )

    def run(self, *words: str | Path, code: int = 0) -> tuple[str, str]:
        """Run a program to its end; standard output and standard error."""
        process = self.start(*words)
        out, errors = process.communicate(timeout=900)
        assert process.returncode == code, errors
        return out, errors


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Environment]:
    """`environment("train")`: built once."""
    made: dict[str, Environment] = {}

    def make(extra: str) -> Environment:
        if extra not in made:
            made[extra] = Environment(tmp_path_factory.mktemp(extra or "base"), wheel, extra)
        return made[extra]

    return make


@pytest.fixture(scope="module")
def run(environment: Callable[[str], Environment]) -> Path:
    """A run of a minute, by `sfumato[train]`."""
    train = environment("train")
    config = train.folder / "config.toml"
    config.write_text("".join(f"{name} = {value}\n" for name, value in SETTINGS.items()))
    spec = ("--data", "synthetic,size=32,count=600", "--keep", "skin", "--hide", "smiling", "--bits", "8")
    train.run("sfumato", "train", *spec, "--cloud", "resnet,width=8", "--config", config, "--out", "run")
    return train.folder / "run"


@pytest.fixture(scope="module")
def export(run: Path, environment: Callable[[str], Environment]) -> Path:
    """An export of it, by `sfumato[export]`."""
    exporter = environment("export")
    exporter.run(
        "sfumato", "export", run, "--variants", "float32,int8", "--allow-missed-goal", "--out", "export"
    )
    return exporter.folder / "export"


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("photo") / "photo.png"
    Image.linear_gradient("L").convert("RGB").save(file)
    return file


def test_the_wheel_carries_the_licences(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    for licence in ("LICENSE", "THIRD_PARTY_LICENSES"):
        assert [name for name in names if name.endswith(f".dist-info/licenses/{licence}")], licence


def test_train_looks_at_data_and_trains(run: Path, environment: Callable[[str], Environment]) -> None:
    out, _ = environment("train").run("sfumato", "data", "inspect", "synthetic,count=600", "--json")
    assert json.loads(out)["images"] == 600
    assert (run / "card.json").exists()


def test_export_writes_the_models(export: Path) -> None:
    assert (export / "local_int8.tflite").exists()


def test_the_base_perturbs_and_verifies(
    export: Path, photo: Path, environment: Callable[[str], Environment]
) -> None:
    base = environment("")
    base.run("sfumato", "perturb", export, photo, "--out", "uploads")
    assert len(list((base.folder / "uploads").iterdir())) > 0
    out, _ = base.run("sfumato", "verify", export, "--json")
    report = json.loads(out)
    assert report["passed"]
    assert {check["state"] for check in report["checks"]} == {"ok", "left out"}


def test_the_base_holds_and_loads_neither_torch_nor_tensorflow(
    environment: Callable[[str], Environment],
) -> None:
    heavy = {"torch", "tensorflow", "onnx", "onnxruntime", "scipy", "fastapi"}
    code = f"import sfumato.runtime, importlib.util as u; print([n for n in {heavy!r} if u.find_spec(n)])"
    assert environment("").run("python", "-c", code)[0] == "[]\n"


@pytest.mark.parametrize(
    ("words", "package", "extra"),
    [
        ("train --data synthetic --keep skin --out run", r"\S+", "train"),
        ("data inspect synthetic", r"\S+", "train"),
        ("audit run", r"\S+", "train"),
        ("demo", r"\S+", "export"),
        ("export run", r"\S+", "export"),
        ("compare --data synthetic --keep skin --out c", r"\S+", "bench"),
        ("serve export", r"\S+", "server"),
        ("send export a.png --server http://localhost", r"\S+", "server"),
    ],
)
def test_a_missing_extra_says_what_to_type(
    words: str, package: str, extra: str, environment: Callable[[str], Environment]
) -> None:
    command, *options = words.split()
    _, errors = environment("").run("sfumato", command, *options, code=1)
    line = rf"sfumato: '{command}' needs {package}: pip install \"sfumato\[{extra}\]\"\n"
    assert re.fullmatch(line, errors), errors


def test_the_server_answers_an_upload(
    export: Path, photo: Path, environment: Callable[[str], Environment]
) -> None:
    server = environment("server")
    process = server.start("sfumato", "serve", export, "--port", "0")
    try:
        assert process.stderr is not None
        lines = iter(process.stderr.readline, "")
        url = next(found[0] for line in lines if (found := re.search(r"http://[\d.]+:\d+", line)))
        out, _ = server.run("sfumato", "send", export, photo, "--server", url, "--json", "--anyway")
        assert "skin" in out
    finally:
        process.terminate()
        process.communicate(timeout=60)


def test_bench_times_the_model(
    export: Path, wheel: Path, environment: Callable[[str], Environment], tmp_path: Path
) -> None:
    """In the environment of `export`: the extra `bench` brings the same packages."""
    bench, exporter = (resolved(wheel, extra, "3.11", tmp_path) for extra in ("bench", "export"))
    assert bench == exporter
    few = ("--variant", "int8", "--rounds", "2", "--runs", "10", "--seconds", "0.2", "--json")
    out, _ = environment("export").run("sfumato", "bench", "host", export, *few)
    assert json.loads(out)["rows"]


def resolved(wheel: Path, extra: str, version: str, folder: Path) -> str:
    """The packages of an extra, or of several between commas, all of them wheels, one a line."""
    need = folder / "need.in"
    need.write_text(f"sfumato[{extra}] @ {wheel.as_uri()}\n")
    glibc = "2_35" if extra == "npu" else "2_28"  # Qualcomm's libraries want a newer one than all else
    target = ["--python-version", version, "--python-platform", f"x86_64-manylinux_{glibc}"]
    return uv(
        *("pip", "compile", "--quiet", "--no-header", "--no-annotate", *target, "--only-binary", ":all:"),
        need,
    )


@pytest.mark.parametrize("extras", ["train,server", "export,bench", "tflite-runtime", "npu", "dev"])
@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13"])
def test_every_python_finds_a_wheel_for_everything(
    version: str, extras: str, wheel: Path, tmp_path: Path
) -> None:
    """Wheels that are found for two extras together are found for each, and for neither."""
    found = resolved(wheel, extras, version, tmp_path)
    assert ("tensorflow==" in found) == (extras in ("export,bench", "dev") and version != "3.13")
    assert ("tflite-runtime==" in found) == (extras in ("tflite-runtime", "dev") and version == "3.11")
