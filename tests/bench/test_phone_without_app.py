"""Models on a phone without an app: Debian's adb, a small adb daemon, and the ARM64 program itself in qemu.

The toy phone's shell starts ARM64 programs in the emulator (arm64_exec.c): loader, libraries and program are those that a real
phone would get. Its times say nothing; that they are taken, read and cleared away is what is tested.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.bench import test_phone
from tests.bench.test_phone import INT8, PROPERTIES, Toy, make_export
from typer.testing import CliRunner

from sfumato.bench.arm.emulator import make_root
from sfumato.bench.arm.toolbox import APP_RUNTIME, RUNTIMES, Toolbox, open_toolbox
from sfumato.bench.changes import find_changes
from sfumato.bench.peak import product_model
from sfumato.bench.phone import config as phone_config
from sfumato.bench.phone.adb import choose, devices
from sfumato.bench.phone.benchmark_model import arguments, parse_output
from sfumato.bench.phone.config import NoAppConfig, make_config
from sfumato.bench.phone.device import parse_cores, parse_status, parse_temperatures, parse_zones
from sfumato.bench.phone.without_app import bench_without_app, outputs_digest, parse_times, windows
from sfumato.bench.results import Measurement, Results
from sfumato.bench.standard import standard_input
from sfumato.bench.subjects import Subject
from sfumato.bench.tables import tables
from sfumato.cli.main import app
from sfumato.core.errors import SfumatoError, UsageError
from sfumato.runtime.interpreter import open_model

HERE = Path(__file__).parent
adb, server, plug_in = test_phone.adb, test_phone.server, test_phone.plug_in
FLOAT = Subject("sfumato", "float32", product_model(8, 16, "float32"))
WHAT = f"CPU of LiteRT {APP_RUNTIME} with a glibc loader, without the app; not NNAPI, GPU or NPU"
THERMAL = """IsStatusOverride: false
ThermalStatusListeners:
	callbacks: 1
Thermal Status: STATUS
Cached temperatures:
	Temperature{mValue=99.0, mType=0, mName=CPU0, mStatus=0}
HAL Ready: true
Current temperatures from HAL:
	Temperature{mValue=41.5, mType=0, mName=CPU0, mStatus=0}
	Temperature{mValue=43.25, mType=0, mName=CPU7, mStatus=0}
	Temperature{mValue=60.0, mType=1, mName=GPU, mStatus=0}
	Temperature{mValue=-99.9, mType=0, mName=CPU5, mStatus=0}
	Temperature{mValue=31.0, mType=3, mName=skin, mStatus=0}
Current cooling devices from HAL:
	CoolingDevice{mValue=0, mType=2, mName=TYPE_CPU}
"""


@pytest.fixture(scope="module")
def toolbox() -> Toolbox:
    try:
        return open_toolbox()
    except SfumatoError as error:
        pytest.skip(f"no emulator: {error}")


@pytest.fixture
def arm_phone(toolbox: Toolbox, plug_in: Callable[..., Toy], tmp_path: Path) -> Callable[[], Toy]:
    """Connects a toy phone that runs ARM64 programs."""
    folder = tmp_path / "arm64"
    (folder / "root").mkdir(parents=True)
    make_root(toolbox, "cortex-a76", folder / "root")
    for name in os.listdir(toolbox.root):  # a phone has no such libraries
        (folder / "root" / name).unlink()
    source = HERE / "arm64_exec.c"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", folder / "exec.so", source, "-ldl"], check=True)
    emulator = " ".join(
        f"'{word}'" for word in [*toolbox.qemu, "-cpu", "cortex-a76", "-L", str(folder / "root")]
    )
    before(folder, "", f'exec {emulator} "$@"')

    def start() -> Toy:
        toy = plug_in("--arm64", str(folder))
        (toy.root / "thermal.txt").write_text(THERMAL)
        return toy

    return start


def before(folder: Path, line: str, last: str | None = None) -> None:
    """Have the phone run a line of shell before every ARM64 program."""
    script = folder / "run"
    last = last or script.read_text(encoding="utf-8").splitlines()[-1]
    script.write_text(f"#!/bin/sh\n{line}\n{last}\n")
    script.chmod(0o755)


def config(toy: Toy, **values: Any) -> NoAppConfig:
    quick = {"threads": (1, 2), "warmup": 1, "runs": 25, "patience": 60.0}
    return NoAppConfig(**{**quick, "folder": str(toy.root / "tmp"), **values})


def bench(toy: Toy, *subjects: Subject, tool: Path | None = None, **values: Any) -> Results:
    return bench_without_app(choose(devices(), None), subjects or (INT8,), config(toy, **values), tool=tool)


def test_a_phone_is_measured_without_an_app_and_left_clean(arm_phone: Callable[[], Toy]) -> None:
    toy = arm_phone()
    results = bench(toy, INT8, FLOAT)
    assert results.failures == ()
    values = results.to_json()
    rows = values["rows"]
    assert [(row["variant"], row["threads"]) for row in rows] == [
        ("int8", 1),
        ("int8", 2),
        ("float32", 1),
        ("float32", 2),
    ]
    for row in rows:
        assert (row["app"], row["delegate"], row["valid"], row["notes"]) == (False, "xnnpack", True, [WHAT])
        assert row["runtime"] == f"ai-edge-litert {APP_RUNTIME} (aarch64)"
        assert 0 < row["p50_ms"] <= row["p90_ms"] <= row["p99_ms"]
        assert (row["runs"], len(row["round_p50_ms"])) == (25, 10)
        assert row["init_ms"] > 0
        assert row["first_ms"] > 0
        assert row["peak_kb"] > 1000
        assert row["thermal"][1] == row["thermal"][0] + 1  # asked before and after
        assert row["celsius"] == [43.25, 43.25]
    # The guest ran this model on the documented input: to the byte.
    assert [row["same_as_host"] for row in rows if row["variant"] == "int8"] == [True, True]
    facts = values["environment"]
    assert facts["device"] == "Toys Toy Phone, Android 16"
    assert (facts["properties"]["abi"], facts["properties"]["chip"]) == ("arm64-v8a", "T1000")
    assert len(facts["cores"]) == len(list(Path("/sys/devices/system/cpu").glob("cpu[0-9]*")))
    assert (facts["measured"], facts["heat"]) == (WHAT, "dumpsys thermalservice")
    assert not (toy.root / "tmp").exists()
    grids = {grid.title: grid for grid in tables(results)}
    assert list(grids)[1:3] == ["what these times are", "who ran it"]
    assert grids["what these times are"].rows[0] == ("measured", WHAT)
    assert grids["who ran it"].rows[0][0] == "sfumato int8, without the app"


def test_the_command_measures_an_export(
    arm_phone: Callable[[], Toy], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toy, out = arm_phone(), tmp_path / "phone.json"
    # A real phone has its own folder for this.
    monkeypatch.setattr(phone_config, "make_config", lambda kind, values: config(toy, **values))
    options = ["--variant", "int8", "--threads", "1", "--runs", "10", "--warmup", "0", "--seconds", "1"]
    options += ["--runtime", "1.4.0", "--sustained", "1", "--serial", toy.serial, "--out", str(out)]
    done = CliRunner().invoke(
        app, ["bench", "phone", str(make_export(tmp_path / "export")), "--no-app", *options, "--json"]
    )
    assert done.exit_code == 0, done.output
    values = json.loads(out.read_text(encoding="utf-8"))
    assert json.loads(done.stdout) == values
    (row,) = values["rows"]
    assert (row["app"], row["same_as_host"], row["runtime"]) == (
        False,
        True,
        "ai-edge-litert 1.4.0 (aarch64)",
    )
    (window,) = row["sustained"]
    assert window["runs"] > 0
    assert window["thermal"] is None
    assert "CPU of LiteRT 1.4.0 with a glibc loader, without the app; not NNAPI, GPU or NPU" in done.stderr


def test_a_phone_of_another_processor_is_refused_in_one_line(plug_in: Callable[..., Toy]) -> None:
    toy = plug_in()
    for abi, said in (("armeabi-v7a", "armeabi-v7a"), ("x86_64", "x86_64"), ("", "unknown")):
        (toy.root / "props.json").write_text(json.dumps({**PROPERTIES, "ro.product.cpu.abi": abi}))
        with pytest.raises(SfumatoError) as refused:
            bench(toy)
        assert (
            str(refused.value)
            == f"the phone {toy.serial} has the ABI {said}: --no-app runs on arm64-v8a alone"
        )


def test_what_belongs_to_the_other_way_of_measuring_is_refused(tmp_path: Path) -> None:
    tool = tmp_path / "benchmark_model"
    tool.touch()
    for options, reason in (
        (["--no-app", "--delegates", "cpu,nnapi"], "--no-app measures the CPU alone, not cpu,nnapi"),
        (["--seconds", "3"], "--seconds, --runtime and --benchmark-model go with --no-app"),
        (["--runtime", "1.4.0"], "go with --no-app"),
        (["--benchmark-model", str(tool)], "go with --no-app"),
    ):
        done = CliRunner().invoke(app, ["bench", "phone", str(tmp_path), *options])
        assert isinstance(done.exception, UsageError)
        assert reason in str(done.exception)
    with pytest.raises(UsageError, match=r"unknown runtime '9.9': known are 2.1.0, 1.4.0"):
        make_config(NoAppConfig, {"runtime": "9.9"})
    assert list(RUNTIMES) == ["2.1.0", "1.4.0"]


def test_a_phone_that_does_not_say_how_warm_it_is(
    arm_phone: Callable[[], Toy], monkeypatch: pytest.MonkeyPatch
) -> None:
    toy = arm_phone()
    (toy.root / "thermal.txt").unlink()
    monkeypatch.setattr("sfumato.bench.phone.device.ZONES", "true")  # this computer may have sensors
    said: list[str] = []
    settings = config(toy, threads=(1,))
    results = bench_without_app(choose(devices(), None), [INT8], settings, watch=said.append)
    assert said[:2] == [WHAT, "the phone does not say how warm it is"]
    (row,) = results.rows
    assert (row.thermal, row.celsius) == ((None, None), (None, None))
    assert results.environment["heat"] is None
    assert ("heat by", "the phone does not say how warm it is") in tables(results)[1].rows


def test_a_model_that_fails_is_written_down_and_the_next_one_runs(
    arm_phone: Callable[[], Toy], tmp_path: Path
) -> None:
    toy = arm_phone()
    marker = tmp_path / "second"
    before(tmp_path / "arm64", f'[ -e "{marker}" ] || {{ touch "{marker}"; echo "guest: no" >&2; exit 9; }}')
    results = bench(toy)
    assert [row.threads for row in results.rows] == [2]
    assert [(failure.what, failure.reason) for failure in results.failures] == [
        ("sfumato int8, cpu, 1 threads", "the program on the phone failed (exit 9): guest: no")
    ]
    assert not (toy.root / "tmp").exists()


def processes(folder: Path) -> list[int]:
    """What still runs in a folder of the toy phone."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdecimal() and str(folder).encode() in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def test_a_phone_that_hangs_is_one_line_and_nothing_stays(
    arm_phone: Callable[[], Toy], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toy = arm_phone()
    monkeypatch.setattr("sfumato.bench.phone.without_app.GRACE_S", 3)
    before(
        tmp_path / "arm64", "", 'exec sh -c "while :; do sleep 1; done" "$@"'
    )  # the guest, which ends itself, never starts
    with pytest.raises(
        SfumatoError, match=rf"^adb -s {toy.serial} shell has not answered for 5 s: replug the phone$"
    ):
        bench(toy, patience=1.0, seconds=1.0)
    assert not (toy.root / "tmp").exists()
    assert processes(toy.root / "tmp") == []


def test_a_phone_that_is_unplugged_leaves_what_was_measured_or_one_line(
    arm_phone: Callable[[], Toy], tmp_path: Path
) -> None:
    toy = arm_phone()
    marker = tmp_path / "second"
    before(tmp_path / "arm64", f'[ -e "{marker}" ] && kill -9 "$DAEMON"; touch "{marker}"')
    results = bench(toy)
    assert [row.threads for row in results.rows] == [1]
    assert [failure.what for failure in results.failures] == ["everything after that"]
    assert f"the phone {toy.serial} is gone" in results.failures[0].reason
    assert (toy.root / "tmp").exists()  # out of reach
    again = arm_phone()
    with pytest.raises(SfumatoError, match=rf"^the phone {again.serial} is gone: "):
        bench_without_app(choose(devices(), again.serial), [INT8], config(again))


def test_what_a_lost_phone_kept_goes_with_the_next_run(arm_phone: Callable[[], Toy]) -> None:
    toy = arm_phone()
    folder = toy.root / "tmp"
    folder.mkdir()
    (folder / "old").touch()
    left = subprocess.Popen(["sh", "-c", "while :; do sleep 1; done", str(folder)])
    other = subprocess.Popen(["sleep", "300"])  # has the number of a process that ended long ago
    try:
        (folder / "pid").write_text(str(left.pid))
        assert bench(toy, threads=(1,)).failures == ()
        assert left.wait(timeout=10) == -signal.SIGKILL
        assert not folder.exists()
        folder.mkdir()
        (folder / "pid").write_text(str(other.pid))
        assert bench(toy, threads=(1,)).failures == ()
        assert other.poll() is None
    finally:
        left.kill()
        other.kill()


def test_an_interrupted_run_takes_the_folder_away(arm_phone: Callable[[], Toy], tmp_path: Path) -> None:
    toy = arm_phone()
    script = (
        "import sys; from pathlib import Path; from tests.bench.test_phone_without_app import *\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a shell's background jobs have none
        "settings = NoAppConfig(folder=sys.argv[1], sustained=300)\n"
        "bench_without_app(choose(devices(), None), [INT8], settings)\n"
    )
    folder, root = toy.root / "tmp", HERE.parent.parent
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(root), *sys.path]))}
    process = subprocess.Popen([sys.executable, "-c", script, str(folder)], env=environment, cwd=tmp_path)
    until = time.monotonic() + 120
    while not (folder / "pid").exists() and process.poll() is None and time.monotonic() < until:
        time.sleep(0.1)
    assert len(processes(folder)) > 1
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == -signal.SIGINT  # Python's way of ending after Ctrl-C
    assert not folder.exists()
    assert processes(folder) == []


def test_a_guest_out_of_sight_ends_itself(toolbox: Toolbox, tmp_path: Path) -> None:
    (entry,) = open_model(INT8.content).inputs.values()
    (tmp_path / "model").write_bytes(INT8.content)
    (tmp_path / "input").write_bytes(standard_input(entry).tobytes())
    (tmp_path / "root").mkdir()
    make_root(toolbox, "cortex-a76", tmp_path / "root")
    numbers = ["1", "0", "10", "1", "600", "6"]  # ten minutes, and six seconds at most
    files: list[str | Path] = [toolbox.litert(), tmp_path / "model", tmp_path / "input", tmp_path / "out"]
    qemu: list[str | Path] = [*toolbox.qemu, "-cpu", "cortex-a76", "-L", tmp_path / "root", toolbox.guest]
    begun = time.monotonic()
    done = subprocess.run([*qemu, "time", *files, *numbers], capture_output=True, check=False, timeout=120)
    assert done.returncode == -signal.SIGALRM
    assert 5 < time.monotonic() - begun < 60
    with pytest.raises(SfumatoError, match="was cut short"):
        parse_times(done.stdout.decode())


def test_times_are_read_whole_or_not_at_all() -> None:
    text = "init_ns 900\nfirst_ns 80\nrun_ns 7\nrun_ns 6\npeak_kb 5000\nsustained_ns 8\ndone\n"
    for sent in (
        text,
        text.replace("\n", "\r\n"),
        "INFO: Created TensorFlow Lite XNNPACK delegate for CPU.\n" + text,
    ):
        found = parse_times(sent)
        assert (found.init_ns, found.first_ns, found.runs_ns, found.sustained_ns, found.peak_kb) == (
            900,
            80,
            (7, 6),
            (8,),
            5000,
        )
    for end in range(len(text)):
        with pytest.raises(SfumatoError, match="was cut short"):
            parse_times(text[:end])
    with pytest.raises(SfumatoError, match="cannot be read back from the phone: cat: outputs: No such file"):
        outputs_digest(b"cat: outputs: No such file or directory\n")


def test_runs_without_a_pause_are_parted_by_the_second() -> None:
    runs = [400_000_000, 400_000_000, 400_000_000, 100_000_000, 900_000_000]
    found = windows(runs, 2)
    assert [(window.runs, window.p50_ms) for window in found] == [(3, 400.0), (2, 500.0)]
    assert windows([], 0) == ()


def test_what_phones_say_of_heat_and_cores() -> None:
    assert parse_status(THERMAL.replace("STATUS", "3")) == 3
    assert parse_temperatures(THERMAL) == 43.25
    assert parse_status("Can't find service: thermalservice\n") is None
    assert parse_temperatures("Thermal Status: 0\nHAL Ready: false\n") is None
    # Samsung counts kinds from 1, and names them.
    samsung = (
        "Current temperatures from HAL:\n\tTemperature{mValue=24.0, mType=1, mName=TYPE_CPU, mStatus=0}\n"
    )
    assert parse_temperatures(samsung) == 24.0
    assert (
        parse_zones("zone:cpu-1-0:36100\r\nzone:cpu_thermal:371\nzone:gpuss-0:50000\nzone:mtktscpu:-127000\n")
        == 37.1
    )
    assert parse_zones("zone::\nzone:battery:300\n") is None
    text = "core:10:3187000:walt\r\ncore:0:1804800:\ncore:4::\n"
    text += "processor\t: 10\nCPU part\t: 0xd4e\n\nprocessor\t: 0\nCPU part\t: 0xd46\n"
    assert parse_cores(text) == [
        {"core": 0, "part": "0xd46", "max_mhz": 1804, "governor": None},
        {"core": 4, "part": None, "max_mhz": None, "governor": None},
        {"core": 10, "part": "0xd4e", "max_mhz": 3187, "governor": "walt"},
    ]


# What the tool prints. The old form is that of stats_calculator.h before it knew percentiles, with numbers made up; the new one
# stands in Texas Instruments' documentation of its Processor SDK (TensorFlow Lite, benchmark tool, AM62X), with its numbers.
OLD_OUTPUT = """STARTING!
Log parameter values verbosely: [0]
Num threads: [4]
Graph: [sfumato-int8.tflite]
#threads used for CPU inference: [4]
Loaded model sfumato-int8.tflite
The input model file size (MB): 0.0204
Initialized session in 7.125ms.
Running benchmark for at least 1 iterations and at least 0.5 seconds but terminate if exceeding 150 seconds.
count=1 curr=2512391

Running benchmark for at least 50 iterations and at least 1 seconds but terminate if exceeding 150 seconds.
count=40 first=1990275 curr=1913402 min=1727568 max=2189954 avg=1.95034e+06 std=109798

Inference timings in us: Init: 7125, First inference: 2512391, Warmup (avg): 2.51239e+06, Inference (avg): 1.95034e+06
Memory footprint delta from the start of the tool (MB): init=4.25 overall=46.5
"""
NEW_OUTPUT = """INFO: STARTING!
INFO: Log parameter values verbosely: [0]
INFO: Graph: [ssd_mobilenet_v2_coco.tflite]
INFO: Signature to run: []
INFO: Use xnnpack: [0]
INFO: Loaded model ssd_mobilenet_v2_coco.tflite
INFO: The input model file size (MB): 67.3128
INFO: Initialized session in 5.579ms.
INFO: Running benchmark for at least 1 iterations and at least 0.5 seconds but terminate if exceeding 150 seconds.
INFO: count=1 curr=1357602 p5=1357602 median=1357602 p95=1357602

INFO: Running benchmark for at least 50 iterations and at least 1 seconds but terminate if exceeding 150 seconds.
INFO: count=50 first=1249964 curr=1240143 min=1238588 max=1252566 avg=1.24027e+06 std=2565 p5=1238753 median=1239807 p95=1247415

INFO: Inference timings in us: Init: 5579, First inference: 1357602, Warmup (avg): 1.3576e+06, Inference (avg): 1.24027e+06
INFO: Memory footprint delta from the start of the tool (MB): init=6.36328 overall=109.832
"""


def test_the_output_of_litert_s_tool_is_read() -> None:
    old, new = (parse_output(text, sha256="0" * 64).model_dump() for text in (OLD_OUTPUT, NEW_OUTPUT))
    facts = {"runs": 40, "init_ms": 7.125, "first_ms": 2512.391, "warmup_ms": 2512.39, "avg_ms": 1950.34}
    facts |= {"std_ms": 109.798, "min_ms": 1727.568, "max_ms": 2189.954}
    assert old == pytest.approx({"sha256": "0" * 64, **facts, "p5_ms": None, "p50_ms": None, "p95_ms": None})
    assert (new["runs"], new["avg_ms"], new["p5_ms"], new["p50_ms"], new["p95_ms"]) == (
        50,
        1240.27,
        1238.753,
        1239.807,
        1247.415,
    )
    # All runs took equally long: stats_calculator.h leaves the spread out.
    same = NEW_OUTPUT.replace(
        NEW_OUTPUT.splitlines()[11], "INFO: count=3 curr=12(all same) p5=12 median=12 p95=12"
    )
    found = parse_output(same, sha256="0" * 64)
    assert (found.runs, found.min_ms, found.max_ms, found.std_ms, found.p50_ms) == (
        3,
        0.012,
        0.012,
        0.0,
        0.012,
    )
    for text in ("", "ERROR: Could not load the model\n", NEW_OUTPUT.partition("INFO: Inference")[0]):
        with pytest.raises(SfumatoError, match="benchmark_model printed no times: "):
            parse_output(text, sha256="0" * 64)


def test_litert_s_tool_runs_beside_ours(arm_phone: Callable[[], Toy], tmp_path: Path) -> None:
    """A stand-in of shell: it prints what the tool prints, for the model and options it was given."""
    toy, tool = arm_phone(), tmp_path / "benchmark_model"
    words = " ".join(arguments("sfumato-int8.tflite", threads=1, warmup=1, runs=25, seconds=10.0))
    tool.write_text(
        f'#!/bin/sh\n[ "$*" = "{words}" ] && [ -s sfumato-int8.tflite ] || {{ echo "ERROR: unknown $*" >&2; exit 1; }}\n'
        f"cat <<'END'\n{NEW_OUTPUT}END\n"
    )
    results = bench(toy, tool=tool)
    one, two = results.rows
    assert one.benchmark_model is not None
    assert (one.benchmark_model.p50_ms, one.benchmark_model.runs) == (1239.807, 50)
    assert two.benchmark_model is None  # it was told of one thread alone
    assert [failure.what for failure in results.failures] == ["sfumato int8, cpu, 2 threads, benchmark_model"]
    assert results.failures[0].reason.startswith("benchmark_model failed (exit 1): ERROR: unknown --graph=")
    (grid,) = [grid for grid in tables(results) if grid.title == "beside LiteRT's benchmark_model, ms"]
    assert [row[0] for row in grid.rows] == ["sfumato int8, without the app"]
    assert not (toy.root / "tmp").exists()


def test_times_with_and_without_the_app_are_not_set_against_each_other() -> None:
    def results(app: bool, rounds: tuple[float, ...]) -> Results:
        row = Measurement(
            **INT8.facts(), app=app, runtime="a", delegate="xnnpack", threads=1, round_p50_ms=rounds
        )
        return Results(target="phone", environment={}, rows=(row,))

    slow, quick = (2.0, 2.1, 2.2), (1.0, 1.1, 1.2)
    assert [change.figure for change in find_changes(results(False, slow), results(False, quick))] == [
        "p50 ms"
    ]
    changes = find_changes(results(True, slow), results(False, quick))
    assert "p50 ms" not in [change.figure for change in changes]
    assert {change.what for change in changes} == {"sfumato int8, 8x8", "sfumato int8, without the app, 8x8"}
