"""The command line, in this process: whatever a person can cause ends in one line and the right exit code."""

import io
import os
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer

from sfumato.cli import main as root
from sfumato.cli.train import make_plan
from sfumato.core.errors import UsageError
from sfumato.training.config import TrainConfig, make_config

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """`run("train", "--keep", "x")`: exit code and standard error."""

    def call(*words: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["sfumato", *words])
        with pytest.raises(SystemExit) as ended:
            root.main()
        return int(ended.value.code or 0), capsys.readouterr().err

    return call


def failing(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """`sfumato doctor` and `sfumato train` raise this."""

    def command() -> None:
        raise error

    for name in ("doctor", "train"):
        monkeypatch.setitem(sys.modules, f"sfumato.cli.{name}", SimpleNamespace(command=command))


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (OSError(28, "No space left on device", "out/a"), 1, "cannot write out/a (No space left on device)"),
        (MemoryError(), 1, "out of memory"),
        (RecursionError(), 1, "nests too deeply"),
        (UnicodeEncodeError("utf-8", "\udcff", 0, 1, "surrogates not allowed"), 1, "rename it"),
        (
            ModuleNotFoundError("No module named 'resource'", name="resource"),
            1,
            "'doctor' needs resource, a part of",
        ),
        (KeyboardInterrupt(), 130, "interrupted\n"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_errors_of_the_machine(
    monkeypatch: pytest.MonkeyPatch, run: Run, error: BaseException, code: int, line: str
) -> None:
    failing(monkeypatch, error)
    found, told = run("doctor")
    assert found == code
    assert told.startswith("sfumato: ")
    assert line in told
    assert told.count("\n") == 1


def test_an_interrupted_training_names_resume(monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    failing(monkeypatch, KeyboardInterrupt())
    assert run("train") == (130, "sfumato: interrupted: go on with `sfumato train --resume`\n")


@pytest.mark.parametrize("way", ["option", "variable"])
def test_the_traceback_can_be_had(monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    failing(monkeypatch, MemoryError())
    monkeypatch.setattr(sys, "argv", ["sfumato", *(["--debug"] if way == "option" else []), "doctor"])
    if way == "variable":
        monkeypatch.setenv("SFUMATO_DEBUG", "1")
    with pytest.raises(MemoryError):
        root.main()


def test_output_that_takes_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    full = io.TextIOWrapper(open("/dev/full", "wb"))  # noqa: SIM115
    monkeypatch.setattr(sys, "stdout", full)
    monkeypatch.setattr(sys, "argv", ["sfumato", "--version"])
    with pytest.raises(SystemExit) as ended:
        root.main()
    assert ended.value.code == 1
    assert capsys.readouterr().err == "sfumato: cannot write (No space left on device)\n"
    full.close()  # the interpreter does it at its end: no second complaint


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--objective", "y"], "objective"),
        (["--keep", "y"], "known are smiling"),
        (["--hide", "y"], "known are smiling"),
        (["--mode", "y"], "known are auto"),
        (["--accelerator", "y"], "known are auto, cpu, cuda"),
        (["--processes", "0"], "at least 1"),
        (["--data", "synthetic,sice=3"], "unknown option"),
        (["--out", "FILE/x"], "(Not a directory)"),
        (["--out", "TAKEN"], "holds no config.json"),
        (["--out", "BEGUN"], "go on with --resume"),
        (["--config", "FILE/x"], "cannot read the configuration"),
    ],
)
def test_a_wrong_option_is_told_before_torch_is_imported(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, words: list[str], line: str
) -> None:
    (tmp_path / "FILE").write_text("")
    for name, part in (("TAKEN", "letter.txt"), ("BEGUN", "config.json")):
        (tmp_path / name).mkdir()
        (tmp_path / name / part).write_text("{}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "sfumato.training.runner", None)  # its import would fail
    given = {"--data": "synthetic", "--keep": "smiling", "--out": "new", words[0]: words[1]}
    code, told = run("train", *(word for pair in given.items() for word in pair))
    assert code in (1, 2)
    assert line in told
    assert told.count("\n") == 1
    assert not (tmp_path / "new").exists()


def test_a_gpu_that_is_not_there_is_told_before_data_are_drawn(run: Run, tmp_path: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is one")
    code, told = run(
        "train",
        "--data",
        "folder:nowhere",
        "--keep",
        "x",
        "--accelerator",
        "cuda",
        "--out",
        str(tmp_path / "a"),
    )
    assert (code, "no CUDA GPU" in told) == (2, True)


def test_the_printed_configuration_reads_back(
    run: Run, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    plan = make_plan({}, None, template=True)
    file = tmp_path / "experiment.toml"
    file.write_text(plan.to_toml(), encoding="utf-8")
    again = make_plan({}, file)
    assert again == plan
    assert plan.config == TrainConfig(data="synthetic", keep=("smiling",))
    options = [line.lstrip("# ").split(" =")[0] for line in plan.to_toml().splitlines() if " =" in line]
    assert set(TrainConfig.model_fields) - set(options) == set(tomllib.loads(plan.to_toml())) - set(options)


def test_an_absent_flag_never_overrides_the_file(tmp_path: Path) -> None:
    file = tmp_path / "experiment.toml"
    whole = {
        "data": "synthetic",
        "keep": ("smiling",),
        "hide": ("skin", "hair"),
        "mode": "answer",
        "equal_odds": 0.1,
        "epochs": 7,
        "seed": 3,
    }
    text = "\n".join(f"{name} = {list(v) if isinstance(v, tuple) else v!r}" for name, v in whole.items())
    run_keys = 'out = "runs/a"\nprocesses = 2\naccelerator = "cpu"\n'
    file.write_bytes(b"\xef\xbb\xbf" + f"{text}\n{run_keys}[answer]\nbins = 3\n".encode())
    plan = make_plan({}, file)
    assert plan.config == make_config({**whole, "answer": {"bins": 3}})
    assert (plan.mode, plan.out, plan.processes, plan.accelerator) == ("answer", Path("runs/a"), 2, "cpu")
    over = make_plan({"hide": ("skin",), "seed": 4, "out": Path("b")}, file)
    assert (over.config.hide, over.config.seed, over.out, over.config.epochs) == (("skin",), 4, Path("b"), 7)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("out = 3", "out is 3"),
        ('processes = "two"', "processes is 'two'"),
        ('mode = "both"', "known are auto"),
        ("[[[", "cannot read"),
    ],
)
def test_a_file_that_cannot_be_meant(tmp_path: Path, text: str, line: str) -> None:
    (tmp_path / "a.toml").write_text(text)
    given: dict[str, Any] = {"data": "synthetic", "keep": ("skin",)}
    if not text.startswith("out"):
        given["out"] = "a"
    with pytest.raises(UsageError, match=line):
        make_plan(given, tmp_path / "a.toml")


def test_standard_output_in_another_encoding(monkeypatch: pytest.MonkeyPatch) -> None:
    """A table with a file name that Latin-1 has no letters for."""
    from sfumato.core.console import show, table

    def command() -> None:
        show(table("uploads", ("photo",), [("日本.png",), ("\udcff.png",)]))

    app = typer.Typer()
    app.command()(command)
    monkeypatch.setattr(root, "app", app)
    content = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(content, encoding="latin-1"))
    monkeypatch.setattr(sys, "argv", ["sfumato"])
    with pytest.raises(SystemExit) as ended:
        root.main()
    assert not ended.value.code
    assert rb"\u65e5\u672c.png" in content.getvalue()
    assert os.linesep.encode() in content.getvalue()
