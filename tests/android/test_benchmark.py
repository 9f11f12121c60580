"""`sfumato bench phone` and the app's own benchmark code, each driven and answered by the other over adb."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sfumato.bench.phone.adb import choose, devices
from sfumato.bench.phone.benchmark import bench_phone
from sfumato.bench.phone.protocol import parse_result
from sfumato.bench.results import Results
from sfumato.bench.subjects import OURS, Subject

HERE = Path(__file__).parent
STAGES = ["decode", "resize", "network", "noise", "sampler", "encode"]


@pytest.fixture(scope="module")
def program(kit: Any, app: Any) -> list[str]:
    """The app's benchmark as a command of this computer; the folder it shares and the intent's extras follow."""
    java = [*kit.JAVA, "-Djava.awt.headless=true", "-cp", kit.path([app.tests, app.core, *kit.RUNTIME])]
    return [*java, "dev.sfumato.core.HostBenchmark", sys.executable, str(HERE / "interpreter.py")]


@pytest.fixture(scope="module")
def gaussian_folder(
    build_export: Callable[[str, Path], Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """An export whose sampler needs a table beside the contract."""
    return build_export("gaussian", tmp_path_factory.mktemp("gaussian") / "export")


def measure(
    phones: Any,
    toy: Any,
    export: Path,
    *,
    delegates: tuple[str, ...] = ("cpu",),
    threads: tuple[int, ...] = (1,),
) -> Results:
    """Everything `sfumato bench phone EXPORT` does, on the toy phone."""
    subject = Subject(OURS, "int8", (export / "local_int8.tflite").read_bytes())
    settings = phones.config(toy, delegates=delegates, threads=threads, sustained=1, patience=240.0)
    return bench_phone(choose(devices(), None), [subject], settings, export=export)


def test_the_host_reads_what_the_app_writes(
    phones: Any, plug_in: Callable[..., Any], program: list[str], export_folder: Path
) -> None:
    toy = plug_in()
    toy.install(program)
    results = measure(phones, toy, export_folder, delegates=("cpu", "nnapi"), threads=(1, 17, 2))
    assert [(failure.what, failure.reason) for failure in results.failures] == [
        ("sfumato int8, cpu, 17 threads", "the app: threads is 17, allowed is 1 to 16"),
        ("sfumato int8, nnapi, 1 threads", "the app: NNAPI refuses this model: this computer has none"),
    ]
    values = results.to_json()
    rows, stages = values["rows"], values["stages"]
    assert [(row["delegate"], row["threads"]) for row in rows] == [("xnnpack", 1), ("xnnpack", 2)]
    for row in rows:
        # The app filled the input, ran the model and hashed the outputs as the host does: to the byte.
        assert row["same_as_host"]
        assert (row["runs"], row["runtime"], row["valid"], row["thermal"]) == (
            20,
            "piped",
            True,
            [None, None],
        )
        assert 0 < row["p50_ms"] <= row["p90_ms"] <= row["p99_ms"]
        assert row["init_ms"] > row["p50_ms"]
        (window,) = row["sustained"]
        assert window["runs"] > 0
    assert [(stage["name"], stage["runs"]) for stage in stages] == [(name, 20) for name in STAGES]
    assert all(stage["p50_ms"] > 0 for stage in stages)


def test_a_gaussian_export_brings_its_table_along(
    phones: Any, plug_in: Callable[..., Any], program: list[str], gaussian_folder: Path
) -> None:
    toy = plug_in()
    toy.install(program)
    results = measure(phones, toy, gaussian_folder)
    assert results.failures == ()
    assert [stage.name for stage in results.stages] == STAGES


def test_every_key_of_the_apps_result_is_read(
    kit: Any, program: list[str], export_folder: Path, tmp_path: Path
) -> None:
    """Nothing the app writes is ignored but what the host knows itself, and nothing the host reads is left out by the app."""
    (tmp_path / "bench").mkdir()
    (tmp_path / "bench" / "a.tflite").write_bytes((export_folder / "local_int8.tflite").read_bytes())

    def ask(**extras: object) -> bytes:
        done = kit.run(
            *program, tmp_path, json.dumps({"id": "7", "model": "a.tflite", "warmup": 0, "runs": 3, **extras})
        )
        assert done.returncode == 0, done.stderr
        return (tmp_path / "bench.json").read_bytes()

    content = ask()
    result = parse_result(content)
    assert set(json.loads(content)) - set(result.model_fields_set) == {
        "schema",
        "model",
        "delegate",
        "threads",
        "warmup",
    }
    assert set(type(result).model_fields) == result.model_fields_set
    for wrong, reason in (
        ({"delegate": "tpu"}, "unknown delegate 'tpu': known are cpu, nnapi, gpu, npu"),
        ({"runs": "3"}, "the extra runs must be a whole number (--ei)"),
        ({"model": "../a.tflite"}, "the extra model is '../a.tflite', no name of a file in bench/"),
    ):
        refused = parse_result(ask(**wrong))
        assert (refused.id, refused.status, refused.error) == ("7", "failed", reason)
