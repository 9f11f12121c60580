"""Counting from files, taking turns, the result file, and the command."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from typer.testing import CliRunner

from sfumato.bench import cold, host_runtime, layers, peak, timing
from sfumato.bench.arithmetic import Layer, read_layers, shortest_ms
from sfumato.bench.host import HostConfig, bench_host
from sfumato.bench.host_runtime import use_runtime
from sfumato.bench.layers import cut
from sfumato.bench.peak import product_model
from sfumato.bench.results import Machine, Results, read_results, write_results
from sfumato.bench.stages import KEY, make_photo, stage_calls
from sfumato.bench.standard import pattern, standard_input
from sfumato.bench.subjects import Subject
from sfumato.bench.tables import tables
from sfumato.bench.timing import interleave, ratio
from sfumato.cli.bench import replaceable
from sfumato.cli.main import app
from sfumato.core.errors import SfumatoError, UsageError
from sfumato.core.image_io import fit, read_rgb
from sfumato.runtime.contract import read_contract
from sfumato.runtime.interpreter import find_runtime, open_model
from sfumato.runtime.phone_model import PhoneModel
from sfumato.runtime.tflite_graph import read_graph


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Roof and fresh processes in a fraction of their time: these tests need no exact ones."""
    monkeypatch.setattr(peak, "SECONDS", 0.2)
    monkeypatch.setattr(cold, "REPEATS", 1)
    monkeypatch.setattr(layers, "RUNS", 40)


def test_the_pattern_is_the_documented_formula() -> None:
    assert pattern(1000).tolist() == [(i * 2654435761 % 2**32) >> 24 for i in range(1000)]


@pytest.mark.parametrize("kind", ["int8", "float32"])
def test_the_roof_is_measured_on_real_matrix_products(kind: str) -> None:
    side, planes = 4, 16
    content = product_model(side, planes, kind)
    session = open_model(content)
    (entry,) = session.inputs.values()
    image = standard_input(entry)
    (found,) = session.run(image).values()
    weights = np.random.default_rng(0).integers(-127, 128, planes * planes).reshape(planes, planes)
    exact = image.reshape(-1, planes).astype(np.float64) @ weights.T
    if kind == "int8":  # 1/128 each, the result in units of planes / 128
        wanted = np.clip(np.round(exact / 128 / planes), -128, 127)
        assert np.abs(found.reshape(-1, planes) - wanted).max() <= 1
    else:
        assert np.allclose(found.reshape(-1, planes), exact / 127, rtol=1e-4, atol=1e-4)
    (layer,) = read_layers(content)
    assert (layer.params, layer.macs) == (planes * planes + planes, side * side * planes * planes)
    size = 1 if kind == "int8" else 4
    assert layer.moved == size * (2 * side * side * planes + planes * planes) + 4 * planes


def test_a_layer_is_bound_by_arithmetic_or_by_memory() -> None:
    machine = Machine(
        int8_gmac_per_s=100, float32_gmac_per_s=10, copy_gb_per_s={"128": 50.0, "2048": 20.0, "65536": 5.0}
    )
    heavy, wide = Layer("CONV_2D", 1, 10**9, 1000), Layer("ADD", 0, 0, 10**6)
    # The copy is that of the smallest buffer in which the widest layer fits.
    assert shortest_ms([heavy, wide], machine, int8=True) == pytest.approx(10 + 0.05)
    assert shortest_ms([heavy], machine, int8=False) == pytest.approx(100)
    huge = Layer("ADD", 0, 0, 10**9)
    assert shortest_ms([huge], machine, int8=True) == pytest.approx(200)


class Clock:
    """Time as the timed work says it passes, whatever else this machine does."""

    now = 0

    def perf_counter_ns(self) -> int:
        return self.now

    def work(self, milliseconds: float) -> None:
        self.now += round(1e6 * milliseconds)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    monkeypatch.setattr(timing, "time", ticking := Clock())
    return ticking


def test_candidates_take_turns_and_a_slow_second_hits_all_of_them(clock: Clock) -> None:
    order: list[str] = []

    def work(name: str, milliseconds: float) -> None:
        order.append(name)
        clock.work(milliseconds * (4 if clock.now < 300e6 else 1))  # the machine is busy at first

    calls = {"one": lambda: work("one", 2), "three": lambda: work("three", 6)}
    times = interleave(calls, rounds=6, runs=60, seconds=3)
    assert {name: len(found.rounds) for name, found in times.items()} == {"one": 6, "three": 6}
    assert times["one"].runs == 60
    assert [times["one"].p(percent) for percent in (0, 50, 99)] == [2, 2, 8]
    assert ratio(times["three"], times["one"]) == 3
    turns = [name for index, name in enumerate(order) if index == 0 or order[index - 1] != name]
    assert turns == ["one", "three", "one", "three", "one", "three", "one"]  # each round begins with another


def test_a_slow_model_is_measured_for_its_time_and_not_for_its_runs(clock: Clock) -> None:
    times = interleave({"slow": lambda: clock.work(20)}, rounds=2, runs=1000, seconds=0.2)
    assert times["slow"].runs == 2 * 5  # a tenth of a second in each round
    assert clock.now <= 0.35e9  # and a quarter of that to warm up
    times = interleave({"slower": lambda: clock.work(500)}, rounds=2, runs=1000, seconds=0.2)
    assert times["slower"].runs == 2 * timing.FEWEST


def test_models_are_measured_side_by_side() -> None:
    large, small = (
        Subject(name, "int8", product_model(32, planes, "int8")) for name, planes in (("l", 256), ("s", 32))
    )
    results = bench_host(
        [large, small], HostConfig(threads=(1, 2), without_xnnpack=True, rounds=3, runs=30, seconds=1)
    )
    values = results.to_json()
    rows = {(row["subject"], row["threads"], row["delegate"]): row for row in values["rows"]}
    assert len(rows) == len(results.rows) == 8
    one = rows["l", 1, "xnnpack"]
    assert (one["nodes"], one["delegated_nodes"], one["partitions"]) == (1, 1, 1)
    assert rows["l", 1, "none"]["delegated_nodes"] == 0
    # Sixty-four times the arithmetic; the small one is hardly more than a call.
    assert 3 * rows["s", 1, "xnnpack"]["p50_ms"] < one["p50_ms"]
    assert 0 < one["p50_ms"] <= one["p90_ms"] <= one["p99_ms"]
    assert one["gmac_per_s"] == pytest.approx(one["macs"] / 1e6 / one["p50_ms"])
    # A matrix product is what the roof is made of, and the two were measured at different moments.
    assert 0.05 < one["roofline_fraction"] < 5
    assert rows["l", 2, "xnnpack"]["roofline_fraction"] is None
    assert (
        len({row.output_sha256 for row in results.rows if row.subject == "l" and row.delegate == "xnnpack"})
        == 1
    )
    assert one["init_ms"] > 0
    assert one["first_ms"] > 0
    assert values["machine"]["int8_gmac_per_s"] > values["machine"]["float32_gmac_per_s"] / 4
    assert [grid.title for grid in tables(results)] == [
        "milliseconds of one run at 32 x 32",
        "what this machine can do, one thread",
    ]


def test_result_files_are_read_back_and_others_refused(tmp_path: Path) -> None:
    path = tmp_path / "host.json"
    results = Results(target="host", environment={"cores": 2})
    write_results(results, path)
    assert read_results(path) == results
    values = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**values, "schema": "sfumato-bench/2"}))
    with pytest.raises(SfumatoError, match=r"schema 'sfumato-bench/2'; this version reads sfumato-bench/1"):
        read_results(path)
    path.write_text(json.dumps({**values, "rows": [{"subject": "sfumato"}]}))
    with pytest.raises(SfumatoError, match=r"rows\.0\.variant: Field required"):
        read_results(path)


def test_only_a_result_is_replaced_by_a_result(
    sealed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "host.json"
    assert replaceable(None) is None
    assert replaceable(out) == out
    out.write_text('{"schema": "sfumato-bench/1"}', encoding="utf-8")
    assert replaceable(out) == out
    assert "replaces the result in" in capsys.readouterr().err
    for content in ("my notes", "{}", '{"schema": "sfumato-audit/3"}', "[1]"):
        out.write_text(content, encoding="utf-8")
        with pytest.raises(SfumatoError, match="is no result of this command: move it"):
            replaceable(out)
    done = CliRunner().invoke(app, ["bench", "host", str(sealed), "--out", str(out)])
    assert "is no result of this command" in str(done.exception)
    assert out.read_text(encoding="utf-8") == content


def test_a_model_cut_short_runs_as_the_whole_one_does(sealed: Path) -> None:
    content = (sealed / "local_int8.tflite").read_bytes()
    operators = read_graph(content).operators
    # Without XNNPACK every tensor in between can be read.
    whole = Interpreter(
        model_content=content,
        experimental_preserve_all_tensors=True,
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    whole.allocate_tensors()
    (entry,) = whole.get_input_details()
    whole.set_tensor(entry["index"], standard_input(entry))
    whole.invoke()
    for last in (0, 5, 12, len(operators) - 1):
        part = Interpreter(
            model_content=cut(content, last),
            experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        )
        part.allocate_tensors()
        part.set_tensor(part.get_input_details()[0]["index"], standard_input(entry))
        part.invoke()
        found = {details["name"]: part.get_tensor(details["index"]) for details in part.get_output_details()}
        wanted = operators[last].outputs[0]
        assert np.array_equal(found[wanted.name], whole.get_tensor(wanted.index))


@pytest.mark.slow
def test_the_command_measures_an_export_and_prints_json_alone(sealed: Path, tmp_path: Path) -> None:
    out = tmp_path / "results" / "host.json"
    options = ["--variant", "int8", "--rounds", "2", "--runs", "10", "--seconds", "1", "--layers"]
    done = CliRunner().invoke(app, ["bench", "host", str(sealed), *options, "--out", str(out), "--json"])
    assert done.exit_code == 0, done.output
    values = json.loads(done.stdout)
    assert values == json.loads(out.read_text(encoding="utf-8"))
    (row,) = values["rows"]
    contract = read_contract(sealed)
    assert row["sha256"] == contract.file("local_int8.tflite").sha256
    assert tuple(row["size"]) == contract.size
    # The file holds what the network holds, and a few numbers for the image's own scale.
    # It also holds the convolution that packs and scales the image.
    assert contract.cost["macs"] <= row["macs"] <= 1.02 * contract.cost["macs"], "no zeros lengthen a kernel"
    assert row["params"] == pytest.approx(contract.cost["parameters"], rel=0.05)
    assert row["delegated_nodes"] == row["nodes"]
    layers = row["layers"]
    assert sum(layer["macs"] for layer in layers) == row["macs"]
    kinds = {layer["name"] for layer in layers}
    assert kinds >= {"CONV_2D", "DEPTHWISE_CONV_2D", "RESIZE_BILINEAR"}
    assert not [name for name in kinds if "PAD" in name], "strided convolutions pad themselves"
    roof = sum(layer["shortest_ms"] for layer in layers)
    assert row["roofline_fraction"] == pytest.approx(roof / row["p50_ms"], rel=1e-6)
    assert "sfumato int8, layer by layer" in [grid.title for grid in tables(read_results(out))]
    steps = {stage["name"]: stage["p50_ms"] for stage in values["stages"]}
    assert {"decode", "resize", "network", "noise", "sampler", "encode"} <= set(steps)
    assert all(value > 0 for value in steps.values())


needs_wheel = pytest.mark.skipif(not host_runtime.is_tried(), reason="no wheel is known for this computer")


@needs_wheel
def test_a_release_that_is_not_installed_measures_and_names_itself(sealed: Path) -> None:
    """In a process of its own: a runtime that was loaded stays."""
    options = ["--runtime", "1.4.0", "--variant", "int8", "--rounds", "2", "--runs", "10", "--seconds", "1"]
    command = [sys.executable, "-m", "sfumato.cli.main", "bench", "host", str(sealed), *options, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(done.stdout)["rows"]
    assert row["runtime"] == "ai-edge-litert 1.4.0"
    assert row["init_ms"] > 0
    assert row["delegated_nodes"] == row["nodes"]
    assert open_model((sealed / "local_int8.tflite").read_bytes()).runtime.version != "1.4.0", "is installed"


@needs_wheel
def test_a_runtime_is_chosen_before_a_model_is_opened_and_comes_from_a_known_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(
        "SFUMATO_RUNTIME", "ai-edge-litert"
    )  # which `use_runtime` sets, and is taken back after the test
    find_runtime("ai-edge-litert")
    with pytest.raises(SfumatoError, match="loaded already"):
        use_runtime("1.4.0")
    with pytest.raises(UsageError, match=r"unknown runtime '1.3.0': known are 2.1.0, 1.4.0"):
        use_runtime("1.3.0")
    monkeypatch.setenv("SFUMATO_CACHE", str(tmp_path))
    monkeypatch.setitem(host_runtime.WHEELS, "1.4.0", "0" * 64)
    with pytest.raises(SfumatoError, match="is not the file that was tried"):
        host_runtime.fetched("1.4.0")
    assert not list(tmp_path.rglob("*.so"))


def test_an_answer_bundle_is_timed_to_its_word(answer_export: Callable[[bool], Path]) -> None:
    export = answer_export(True)
    model = PhoneModel.load(export)
    calls = stage_calls(model)
    height, width = model.contract.size
    photo = read_rgb(make_photo())
    upload = model.perturb(fit(photo, height, width), key=KEY)
    assert (calls["sampler"](), calls["encode"]()) == (upload.word, upload.content)
    done = CliRunner().invoke(app, ["bench", "host", str(export), "--size", "64x64"])
    assert "--size is for picture bundles" in str(done.exception)


def test_wrong_use_is_named(sealed: Path) -> None:
    runner = CliRunner()
    for options, reason in (
        (["--threads", "0,2"], "whole numbers from 1 to 64"),
        (["--variant", "int4"], "unknown variant 'int4'"),
    ):
        done = runner.invoke(app, ["bench", "host", str(sealed), *options])
        assert isinstance(done.exception, UsageError)
        assert reason in str(done.exception)


def test_old_names_of_options_are_taken_for_one_release(sealed: Path) -> None:
    int8 = ["--variant", "int8"]
    done = CliRunner().invoke(app, ["bench", "host", str(sealed), *int8, "--peers", "cloak"])
    assert isinstance(done.exception, UsageError)
    assert "unknown phone network 'cloak'" in str(done.exception)
    assert "--peers is called --networks now" in " ".join(done.stderr.split())
    done = CliRunner().invoke(app, ["bench", "host", str(sealed), *int8, "--plain", "--networks", "cloak"])
    assert "--plain is called --without-xnnpack now" in " ".join(done.stderr.split())
